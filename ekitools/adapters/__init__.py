"""Forward models from elsewhere: `torch` and `jax` networks, programs, UM-Bridge servers.

Each module imports its framework when it is imported itself, and ekitools never imports it:
``from ekitools.adapters.torch import TorchModel``, ``from ekitools.adapters.command import
CommandModel``.
"""
