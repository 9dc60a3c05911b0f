"""Recurrent layers that learn online, and sequence tasks to try them on."""

import lazy_loader

# What __init__.pyi names is imported when first used: recipes are read by the command line, which
# must not load torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
