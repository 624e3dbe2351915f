"""Standard normal numbers of a stream: drawn on the host, or on the device of an ensemble."""

from __future__ import annotations

import importlib
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from array_api_compat import (
    is_array_api_obj,
    is_cupy_namespace,
    is_jax_namespace,
    is_torch_namespace,
)

from ekitools.core.arrays import array_namespace, device, is_numpy, like
from ekitools.typing import Array

__all__ = ["PLACES", "DeviceGenerator", "Place", "check_draws", "standard_normal"]

Place: TypeAlias = Literal["host", "device"]
"""Where normal numbers are drawn."""
PLACES: tuple[Place, ...] = get_args(Place)


class DeviceGenerator(np.random.Generator):
    """A generator with which `standard_normal` draws on the device of the ensemble.

    Every call takes a new seed from the generator. So the numbers depend only on the stream and on
    the kind of the device, and a resumed run draws the same numbers.
    """


def standard_normal(
    rng: np.random.Generator, shape: tuple[int, ...], reference: Array, sd: float = 1.0
) -> Array:
    """Normal numbers with the standard deviation ``sd``, of the kind and dtype of ``reference``.

    They are on the device of ``reference``. The numbers come from the stream of the host and are
    the same on every device. With a `DeviceGenerator` they come from the device.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.draws import standard_normal
    >>> rng, other = np.random.default_rng(0), np.random.default_rng(0)
    >>> found = standard_normal(rng, (2, 3), np.ones(1))
    >>> bool((found == other.standard_normal((2, 3))).all())
    True
    """
    if not isinstance(rng, DeviceGenerator) or is_numpy(reference):
        draws = rng.standard_normal(shape)
        return like(draws if sd == 1 else sd * draws, reference)
    xp, there, dtype = array_namespace(reference), device(reference), reference.dtype
    seed = int(rng.integers(2**63))
    if is_torch_namespace(xp):
        own = xp.Generator(device=there).manual_seed(seed)
        return sd * xp.randn(shape, generator=own, device=there, dtype=dtype)
    if is_jax_namespace(xp):
        jax = importlib.import_module("jax")
        key = jax.device_put(jax.random.key(seed % 2**32), there)
        return sd * jax.random.normal(key, shape, dtype)
    with there:
        wide = importlib.import_module("cupy").random.default_rng(seed).standard_normal(shape)
    return sd * xp.astype(wide, dtype)


def check_draws(draws: Place, reference: Any) -> None:
    """Check that an ensemble like ``reference`` can be drawn where ``draws`` says.

    Raises
    ------
    TypeError
        If the device has no random numbers.
    """
    if draws == "host" or isinstance(reference, np.ndarray):
        return
    if is_array_api_obj(reference):
        xp = array_namespace(reference)
        if is_torch_namespace(xp) or is_jax_namespace(xp) or is_cupy_namespace(xp):
            return
    what = "no array" if reference is None else type(reference).__name__
    raise TypeError(
        'draws: must be "host" unless the ensemble is of PyTorch, JAX or CuPy, got "device" with '
        f"{what}. Pass like= or ensemble= as an array on the device."
    )
