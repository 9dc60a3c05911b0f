import torch

from skillrl.recurrent import GRU


def test_the_gru_is_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = GRU(4, 5), torch.nn.GRU(4, 5)
    theirs.load_state_dict(
        {
            "weight_ih_l0": ours.input_weight.flatten(0, 1),
            "weight_hh_l0": ours.recurrent_weight.flatten(0, 1),
            "bias_ih_l0": ours.input_bias.flatten(),
            "bias_hh_l0": ours.recurrent_bias.flatten(),
        }
    )
    inputs = torch.randn(20, 3, 4)
    torch.testing.assert_close(ours(inputs)[0], theirs(inputs)[0])
