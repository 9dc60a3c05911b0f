"""What the tests of recurrent layers share: gradients of a stream, chunk by chunk."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from skillrl.recurrent import RecurrentLayer, RecurrentStack

Gradients = dict[str, Tensor]


def gradients(
    network: RecurrentLayer | RecurrentStack,
    inputs: Tensor,
    targets: Tensor,
    *,
    rule: str,
    chunk: int,
    starts: Tensor | None = None,
    below: nn.Module | None = None,
) -> Gradients:
    """Gradients of the squared error over a whole stream, by the rule and a length of chunks.

    ``below`` is what the inputs go through first; a tanh and the targets lie above.
    """
    network.rule = rule  # type: ignore[assignment]
    modules = nn.ModuleList([network, *([below] if below is not None else [])])
    modules.zero_grad(set_to_none=True)
    carry = None
    for begin in range(0, len(inputs), chunk):
        part = slice(begin, begin + chunk)
        seen = inputs[part] if below is None else below(inputs[part])
        outputs, carry = network(seen, carry, None if starts is None else starts[part])
        (outputs.tanh() - targets[part]).square().sum().backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in modules.named_parameters()
    }


def relative_error(found: Tensor, true: Tensor) -> float:
    """Infinite of what is not finite, or should be zero and is not."""
    error = float((found - true).norm() / true.norm())
    return error if math.isfinite(error) else math.inf


def worst(found: Gradients, true: Gradients, names: Sequence[str] | None = None) -> float:
    """The largest relative error of any parameter's gradient."""
    return max(relative_error(found[name], true[name]) for name in names or true)


def doubles() -> Iterator[None]:
    """A fixture's body: float64 and a seed."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)
