"""What each ATen operation does to the dimensions of the tensors that it is given.

A rule says which axes an operation ties to one another, which freedoms of their units it bears, and
which axes its result has. An operation without a rule is understood only where all of its inputs
are fixed, as what is computed from a network's outputs.

To add one, write a function for the operation's ATen name and register it with ``rule``. The rules
say more than the dependency graphs of pruning libraries do (torch-pruning's, for one): those take
whatever they do not know for an operation on single entries, and know nothing of signs, scales and
phases.
"""

from skillrl.permutation.rules import constants, entries, layers, moves, reductions

__all__ = ["constants", "entries", "layers", "moves", "reductions"]
