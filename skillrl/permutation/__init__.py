"""Networks of different seeds in the same coordinates, and whether they lie in one mode.

Read ``symmetries``, then ``transformation``, ``matching`` and ``alignment``; ``analysis``
follows the dimensions through a network, by ``rules`` for each operation.
"""

import lazy_loader

# What __init__.pyi names is imported when first used: the command line must not load torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
