import pytest
import torch

from skillrl.errors import InvalidValueError
from skillrl.recurrent import GRU, LinearRNN


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


def test_the_linear_rnn_follows_the_equations() -> None:
    torch.manual_seed(0)
    layer, inputs = LinearRNN(3, 4), torch.randn(6, 2, 3)
    state, expected = torch.zeros(2, 4), []
    for seen in inputs:
        state = state @ layer.recurrent_weight.t() + seen @ layer.input_weight.t()
        expected.append(state @ layer.output_weight.t() + layer.feedthrough * seen)
    torch.testing.assert_close(layer(inputs)[0], torch.stack(expected))


@pytest.mark.parametrize("radius", [-1.0, 0.0, 2.0])
def test_a_radius_with_which_nothing_or_everything_would_be_remembered(radius: float) -> None:
    with pytest.raises(InvalidValueError, match=f"Received {radius}"):
        LinearRNN(3, 4, radius=radius)
