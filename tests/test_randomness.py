import torch

from skillrl.randomness import drawn_aside


def test_what_is_drawn_aside_changes_nothing_and_depends_on_its_seed() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    drawn = []
    for seed in (5, 5, 6):
        with drawn_aside(seed):
            drawn.append(torch.rand(3))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
