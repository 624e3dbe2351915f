"""The base class of Gaussian noise: whitening, misfit and draws for every form of Γ."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ekitools.core.arrays import array_namespace, as_rng, check_array
from ekitools.core.checks import integer
from ekitools.losses.base import checked_data
from ekitools.losses.forms import Diagonal, Form
from ekitools.typing import Array, Rng

__all__ = ["FormedNoise", "form_of"]


class FormedNoise:
    """Noise N(0, Γ) with a `Form` of Γ that whitens vectors."""

    outputs_per_sample: ClassVar[int] = 1
    _form: Form

    @property
    def n_data(self) -> int | None:
        """Number of data d; None if Γ is one variance for any d."""
        return None if self.scale is not None and self.scale.ndim == 0 else int(self.sd.shape[0])

    @property
    def sd(self) -> np.ndarray:
        """Marginal standard deviations √Γ_ii: ``(d,)``, or 0-d for a scalar Γ."""
        return self._form.sd

    @property
    def scale(self) -> np.ndarray | None:
        """The factors 1/sd of a diagonal Γ, which whiten by one multiplication; else None."""
        return self._form.scale if isinstance(self._form, Diagonal) else None

    def whiten(self, r: Array) -> Array:
        """Γ^{-1/2} r along the last axis.

        Parameters
        ----------
        r : (..., d)
            Vectors in data units, of any array-API kind.

        Returns
        -------
        (..., d)
            Dimensionless vectors with ``whiten(r) · whiten(s) = rᵀ Γ⁻¹ s``.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> ek.GaussianNoise([[4.0, 0.0], [0.0, 1.0]]).whiten(np.array([[2.0, 3.0]]))
        array([[1., 3.]])
        """
        check_array("r", r, last=self.n_data)
        return self._form.whiten(r)

    def misfit(self, z: Array, y: Array) -> Array:
        """Φ = ½ ‖Γ^{-1/2}(z − y)‖² along the last axis: ``(..., d)`` to ``(...)``.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> ek.GaussianNoise(2.0).misfit(np.array([[2.0, 0.0]]), np.zeros(2))
        array([1.])
        """
        white = self.whiten(z - checked_data(y, z, last=self.n_data))
        return 0.5 * array_namespace(white).sum(white * white, axis=-1)

    def gradient(self, z: Array, y: Array) -> Array:
        """∇_z Φ = Γ⁻¹(z − y), along the last axis.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> ek.GaussianNoise(2.0).gradient(np.array([2.0, 0.0]), np.zeros(2))
        array([1., 0.])
        """
        r = z - checked_data(y, z, last=self.n_data)
        return self._form.precision(r)

    def curvature_product(self, z: Array, y: Array, f: Array) -> Array:
        """∇²_z Φ f = Γ⁻¹ f, along the last axis, for every z and y.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> ek.GaussianNoise(2.0).curvature_product(np.zeros(2), np.zeros(2), np.array([2.0, 0.0]))
        array([1., 0.])
        """
        checked_data(y, z, f, last=self.n_data)
        return self._form.precision(f)

    def sample(self, n: int, *, rng: Rng = None, n_data: int | None = None) -> np.ndarray:
        """``n`` draws of η, ``(n, d)``.

        Parameters
        ----------
        n : int
            Number of draws, at least 1.
        rng : None, int or numpy.random.Generator
            Source of randomness.
        n_data : int, optional
            Number of data d. It is required only if Γ is one scalar variance.

        Examples
        --------
        >>> import ekitools as ek
        >>> ek.GaussianNoise([1.0, 4.0]).sample(3, rng=0).shape
        (3, 2)
        """
        n = integer("n", n)
        d = self.n_data if n_data is None else integer("n_data", n_data)
        if d is None:
            raise ValueError(
                "n_data: must be given to sample from one scalar variance, got None. Pass the "
                "number of data."
            )
        if self.n_data not in (None, d):
            raise ValueError(
                f"n_data: must be {self.n_data}, the size of cov, got {d}. Leave it out."
            )
        return self._form.sample(n, d, as_rng(rng))


def form_of(noise: Any, *parts: str) -> Form | None:
    """The form of ekitools' own Gaussian noise; None for other noise.

    A subclass that replaces one of ``parts``, such as ``"whiten"``, counts as other noise.
    """
    if not isinstance(noise, FormedNoise):
        return None
    kept = all(getattr(type(noise), part) is getattr(FormedNoise, part) for part in parts)
    return noise._form if kept else None
