"""Forward models from other frameworks: `ekitools.adapters.torch`, `ekitools.adapters.jax`.

Each module imports its framework when it is imported itself, and ekitools never imports it:
``from ekitools.adapters.torch import TorchModel``.
"""
