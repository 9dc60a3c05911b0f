import shutil
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from skillrl.recurrent import LRU, RecurrentStack
from skillrl.recurrent.recurrence import _loop, _scan
from streams import doubles


@pytest.fixture(autouse=True)
def in_doubles() -> Iterator[None]:
    yield from doubles()


def problem(steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    decay = torch.view_as_real(torch.polar(torch.rand(3), 6 * torch.rand(3)))
    keep = (torch.rand(steps, 2) > 0.3).double()
    return decay, torch.randn(steps, 2, 3, 2), torch.randn(2, 3, 2), keep


@pytest.mark.parametrize("steps", [1, 2, 5, 16, 33])
@pytest.mark.parametrize("resets", [False, True])
def test_both_implementations_follow_the_definition(steps: int, resets: bool) -> None:
    decay, inputs, initial, keep = problem(steps)
    a, u, h = (torch.view_as_complex(t) for t in (decay, inputs, initial))
    expected, last = [], h
    for step in range(steps):
        if resets:
            last = last * keep[step][:, None]
        last = a * last + u[step]
        expected.append(last)
    for run in (_loop, _scan):
        found = run(a, u, h, keep if resets else None)
        torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("resets", [False, True])
def test_its_gradient_is_that_of_finite_differences(resets: bool) -> None:
    decay, inputs, initial, keep = problem(5)
    variables = [t.clone().requires_grad_() for t in (decay, inputs, initial)]

    def states(*variables: Tensor) -> Tensor:
        op = torch.ops.skillrl.diagonal_recurrence
        return op(*variables, keep if resets else None)

    assert torch.autograd.gradcheck(states, variables)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
# torch's own, when it first loads its compiler.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("deep", [False, True], ids=["layer", "stack"])
def test_what_is_compiled_computes_the_same_without_warnings(deep: bool) -> None:
    layer: LRU | RecurrentStack = LRU(3, 4)
    if deep:
        layer = RecurrentStack(3, 3, width=3, depth=2, layer=lambda width: LRU(width, 4))
    inputs, starts = torch.randn(6, 2, 3), torch.rand(6, 2) < 0.2
    compiled = torch.compile(layer, fullgraph=True)

    def results(call: object) -> list[Tensor]:
        layer.zero_grad()
        _, carry = call(inputs, layer.initial_carry(2), starts)  # type: ignore[operator]
        outputs, carry = call(inputs, carry, starts)  # type: ignore[operator]
        outputs.square().sum().backward()
        grads = [p.grad for p in layer.parameters() if p.grad is not None]
        return [outputs.detach(), *carry.values(), *grads]

    torch.testing.assert_close(results(compiled), results(layer))
