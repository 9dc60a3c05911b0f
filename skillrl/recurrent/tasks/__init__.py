"""Sequence tasks that tell how far back a network learns."""

from skillrl.recurrent.tasks.copying import Copy, Recall
from skillrl.recurrent.tasks.data import Reviews, SequentialImages
from skillrl.recurrent.tasks.listops import ListOps
from skillrl.recurrent.tasks.task import Batch, Task

__all__ = ["Batch", "Copy", "ListOps", "Recall", "Reviews", "SequentialImages", "Task"]
