"""Recurrent layers that learn online, and sequence tasks to try them on."""

from skillrl.recurrent.carry import Carry
from skillrl.recurrent.layer import RecurrentLayer, Rule
from skillrl.recurrent.lru import LRU
from skillrl.recurrent.rtu import LinearRTU, NonlinearRTU
from skillrl.recurrent.snap import GRU, LinearRNN
from skillrl.recurrent.stack import Block, RecurrentStack, parameter_groups

__all__ = [
    "GRU",
    "LRU",
    "Block",
    "Carry",
    "LinearRNN",
    "LinearRTU",
    "NonlinearRTU",
    "RecurrentLayer",
    "RecurrentStack",
    "Rule",
    "parameter_groups",
]
