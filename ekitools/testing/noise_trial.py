"""Trial of a noise model or a loss: outputs, data, and calls with checked shapes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ekitools.core.arrays import as_vector, host
from ekitools.testing.promises import broken, calling
from ekitools.typing import Array, ChecksData, Rng

__all__ = ["NoiseTrial"]


@dataclass(frozen=True)
class NoiseTrial:
    """A noise model or a loss, with the outputs and data of its checks."""

    noise: Any
    n_data: int | None
    given_outputs: Any
    given_data: Any
    seed: int

    @property
    def gaussian(self) -> bool:
        """Whether the object is a noise model, and not another loss."""
        return hasattr(self.noise, "whiten")

    @cached_property
    def d(self) -> int:
        """Number of data."""
        own = getattr(self.noise, "n_data", None)
        for given in (self.given_data, self.given_outputs):
            if given is not None:
                return int(np.shape(given)[-1])
        k = getattr(self.noise, "outputs_per_sample", 1)
        return int(own or self.n_data or 4 * k)

    @cached_property
    def sd(self) -> np.ndarray:
        """Standard deviations; 1 for a loss."""
        sd = host(self.noise.sd).astype(np.float64) if self.gaussian else np.ones(())
        return np.broadcast_to(sd, (self.d,))

    @cached_property
    def y(self) -> np.ndarray:
        """Data for which the loss is defined."""
        if self.given_data is not None:
            return as_vector("data", self.given_data)
        refused: ValueError | None = None
        for data in self._candidates():
            if not isinstance(self.noise, ChecksData):
                return data
            try:
                self.noise.check_data(data)
            except ValueError as error:
                refused = error
            else:
                return data
        raise ValueError(
            f"data: must be given for {type(self.noise).__name__}, which refuses numbers, labels "
            f"and one-hot vectors ({refused}). Pass check_noise(noise, data=...)."
        )

    @cached_property
    def z(self) -> np.ndarray:
        """Six outputs at different distances from the data."""
        if self.given_outputs is not None:
            return np.atleast_2d(np.asarray(self.given_outputs, dtype=np.float64))
        rng = np.random.default_rng(self.seed + 1)
        scale = np.array([1.0, 0.1, 3.0, 1.0, 0.3, 1.0])[:, None]
        return self.y + scale * self.sd * rng.standard_normal((6, self.d))

    @property
    def step(self) -> np.ndarray:
        """Steps of central differences, ``(J, d)``."""
        if self.gaussian:
            return np.broadcast_to(1e-4 * self.sd, self.z.shape)
        size = np.abs(self.z).mean(axis=1, keepdims=True) + 1e-300
        return 1e-5 * np.clip(np.abs(self.z), 1e-3 * size, size)

    def misfit(self, z: Array) -> np.ndarray:
        """The misfit of outputs, one number for each row."""
        with calling("misfit", "must map outputs (J, d) and data (d,) to (J,)"):
            found = self.noise.misfit(z, self.y)
        shape = tuple(np.shape(found))
        if shape != z.shape[:-1]:
            rule = f"must sum along the last axis, from {z.shape} to {z.shape[:-1]}"
            raise broken("misfit", rule, str(shape), "Sum over axis=-1 alone.")
        return np.asarray(host(found))

    def mapped(self, name: str, *arrays: Array) -> np.ndarray:
        """Call a function of the noise, and check the shape of its value."""
        shape = tuple(arrays[-1].shape if name == "curvature_product" else arrays[0].shape)
        with calling(name, f"must return an array of the shape {shape}"):
            found = host(getattr(self.noise, name)(*arrays))
        if found.shape != shape:
            rule = f"must return an array of the shape {shape}"
            raise broken(name, rule, str(found.shape), "Keep the axes of the argument.")
        return found

    def sample(self, n: int, rng: Rng) -> np.ndarray:
        """Draws ``(n, d)`` of the noise."""
        options: dict[str, Any] = {}
        if self.noise.n_data is None and _takes(self.noise.sample, "n_data"):
            options["n_data"] = self.d
        with calling("sample", f"must return ({n}, d) draws from n = {n} and rng="):
            draws = host(self.noise.sample(n, rng=rng, **options))
        if draws.shape != (n, self.d):
            rule = f"must return draws of the shape {(n, self.d)}"
            remedy = "Return one row for each draw, and accept n_data= if n_data is None."
            raise broken("sample", rule, str(draws.shape), remedy)
        return draws.astype(np.float64)

    def _candidates(self) -> Iterator[np.ndarray]:
        rng, k = np.random.default_rng(self.seed), int(getattr(self.noise, "outputs_per_sample", 1))
        yield self.sd * rng.standard_normal(self.d)
        yield (np.arange(self.d) % 2).astype(np.float64)
        if self.d % k == 0:
            yield np.eye(k)[np.arange(self.d // k) % k].ravel()


def _takes(function: Callable[..., Any], keyword: str) -> bool:
    """Whether a function accepts this keyword."""
    try:
        inspect.signature(function).bind(1, rng=0, **{keyword: 1})
    except (TypeError, ValueError):
        return False
    return True
