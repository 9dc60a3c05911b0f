"""A module as a graph of ATen operations, which can be read and run."""

from __future__ import annotations

import copy
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.export.graph_signature import InputKind
from torch.fx import GraphModule, Interpreter, Node
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from skillrl.errors import InvalidValueError

Forward = Callable[[nn.Module, Any], Any]
"""What is computed: from a module and its inputs to outputs, in any nest of tensors."""


def call(module: nn.Module, inputs: Any) -> Any:
    """Call the module: with the parts of a tuple as its arguments, or with one argument."""
    return module(*inputs) if isinstance(inputs, tuple) else module(inputs)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module, each once: what has two names has the first.

    The tensors are the module's own, detached.
    """
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach() for name, tensor in named}


def check_alike(networks: Sequence[nn.Module]) -> None:
    """Refuse networks of different architectures.

    Raises:
        InvalidValueError: naming the first part that differs.
    """
    first, *others = (
        {name: f"{tuple(t.shape)} of {t.dtype}" for name, t in state_of(each).items()}
        | {name: f"a {type(part).__name__}" for name, part in each.named_modules()}
        for each in networks
    )
    for other in others:
        for name in {**first, **other}:
            if first.get(name) != other.get(name):
                raise InvalidValueError(
                    f"The networks are of different architectures: {name or 'the module'} is "
                    f"{first.get(name, 'absent')} and {other.get(name, 'absent')}."
                )


class _Detaching(TorchFunctionMode):
    """Copies tensors without what they were computed from, such as a policy's last actions."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[0].detach().clone()
        return func(*args, **(kwargs or {}))


def copy_of(module: nn.Module) -> nn.Module:
    """Return a deep copy, also of a module that holds on to what it has computed."""
    with _Detaching():
        return copy.deepcopy(module)


@torch.no_grad()
def with_state(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of the module with other parameters and buffers."""
    module = copy_of(module)
    for name, tensor in state_of(module).items():
        tensor.copy_(state[name])
    return module


class _Double(TorchFunctionMode):
    """Makes float64 of what a module would make float32, as policies do with observations."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        elif func in (torch.Tensor.to, torch.Tensor.type):
            args = [torch.float64 if arg is torch.float32 else arg for arg in args]
            if kwargs.get("dtype") is torch.float32:
                kwargs = {**kwargs, "dtype": torch.float64}
        return func(*args, **kwargs)


@contextmanager
def _unvalidated_distributions() -> Iterator[None]:
    """Distributions that do not look at their arguments: what a value decides has no graph."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def evaluate(module: nn.Module, inputs: Any, forward: Forward) -> Any:
    """Return the outputs; those of a float64 module are computed in float64 throughout."""
    first = next(module.parameters(), None)
    if first is not None and first.dtype == torch.float64:
        with _Double():
            return forward(module, inputs)
    return forward(module, inputs)


@contextmanager
def _silenced() -> Iterator[None]:
    """Without torch's own account of what cannot be traced: whole graphs, where a line will do."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(before)


def _reason(error: Exception) -> str:
    """The first line of an error, and the line of the module's own code that led to it."""
    reason = str(error).strip().partition("\n")[0].removesuffix(".")
    packages = str(Path(str(torch.__file__)).parent), str(Path(__file__).parents[1])
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*packages, "<"))
    ]
    where = f"{own[-1].filename}, line {own[-1].lineno}, `{own[-1].line}`: " if own else ""
    return where + reason


class _Evaluation(nn.Module):
    """A module that is called by ``forward``."""

    def __init__(self, module: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.module = module
        self.call = forward

    def forward(self, inputs: Any) -> Any:
        return evaluate(self.module, inputs, self.call)


class Trace:
    """The operations by which a module, in evaluation mode, computes outputs from inputs.

    Shapes are those of the inputs that it was traced with.

    Args:
        module: to be traced; it is not changed.
        inputs: one batch: a tensor, or any nest of tensors that ``forward`` takes.
        forward: what is computed.

    Attributes:
        nodes: the operations, in order.
        parameters: from a node's name to that of the parameter or buffer, as ``state_of`` names it.
        buffers: those of these names that are buffers'.

    Raises:
        InvalidValueError: if the module does not take the inputs, or the computation cannot be
            written down as a graph.
    """

    def __init__(self, module: nn.Module, inputs: Any, forward: Forward = call) -> None:
        copied = copy_of(module).eval()
        names = {id(tensor): name for name, tensor in copied.named_parameters()}
        names |= {id(tensor): name for name, tensor in copied.named_buffers()}
        self.buffers = frozenset(name for name, _ in copied.named_buffers())
        evaluation = _Evaluation(copied, forward)
        kind = type(module).__name__
        with torch.no_grad(), _unvalidated_distributions():
            try:
                evaluation(inputs)
            except Exception as error:  # of many kinds, torch's own among them
                raise InvalidValueError(
                    f"{kind} does not take these inputs: {_reason(error)}. Give one batch of "
                    "tensors, as it is called with, or a `forward` that calls it."
                ) from error
            try:
                with _silenced():
                    program = torch.export.export(evaluation, (inputs,), strict=False)
            except Exception as error:
                raise InvalidValueError(
                    f"{kind} cannot be traced, so its symmetries are unknown: {_reason(error)}. "
                    "Give a `forward` that computes outputs from inputs by tensor operations alone."
                ) from error
        self.parameters: dict[str, str] = {}
        self._constants: dict[str, Any] = {}
        self._placeholders: list[str] = []
        for spec in program.graph_signature.input_specs:
            name = spec.arg.name
            self._placeholders.append(name)
            if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
                tensor = evaluation
                for part in str(spec.target).split("."):
                    tensor = getattr(tensor, part)
                self.parameters[name] = names[id(tensor)]
            elif spec.kind == InputKind.CONSTANT_TENSOR:
                self._constants[name] = program.constants[str(spec.target)]
        self._program = program.graph_module
        # What a conversion expects of its input is no use of it.
        for node in self._program.graph.find_nodes(
            op="call_function", target=torch.ops.aten._assert_tensor_metadata.default
        ):
            self._program.graph.erase_node(node)
        self._program.graph.eliminate_dead_code()
        self.nodes: list[Node] = list(self._program.graph.nodes)

    @torch.no_grad()
    def run(
        self, state: Mapping[str, Tensor], inputs: Any, wanted: Sequence[str]
    ) -> dict[str, Tensor]:
        """Return the values of some nodes.

        Args:
            state: parameters and buffers.
            inputs: of the same shapes as those traced with.
            wanted: names of nodes.
        """
        leaves = iter(pytree.tree_leaves(inputs))
        arguments = [
            state[self.parameters[name]]
            if name in self.parameters
            else self._constants[name]
            if name in self._constants
            else next(leaves)
            for name in self._placeholders
        ]
        recorder = _Recorder(self._program, wanted)
        recorder.run(*arguments)
        return recorder.found


class _Recorder(Interpreter):
    """Runs a graph and keeps the values of some nodes."""

    def __init__(self, program: GraphModule, wanted: Sequence[str]) -> None:
        super().__init__(program)
        self.wanted = frozenset(wanted)
        self.found: dict[str, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.name in self.wanted:
            self.found[n.name] = value
        return value
