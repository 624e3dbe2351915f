"""Base class of Gaussian fields whose parameters are coefficients, or values at points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from ekitools.core.arrays import as_real, check_array, host, like
from ekitools.core.checks import one_of
from ekitools.priors.base import check_points, position
from ekitools.priors.gaussian import GaussianPrior
from ekitools.priors.transforms import Interval
from ekitools.typing import Array, Rng

__all__ = [
    "FieldPrior",
    "Meaning",
    "by_rows",
    "check_all_modes",
    "checked_parameters",
    "per_direction",
]

Meaning: TypeAlias = Literal["coefficients", "values"]
"""Meaning of the parameters of a field."""
_MEANINGS: tuple[Meaning, ...] = get_args(Meaning)

_BLOCK_BYTES = 1 << 22
"""Bytes of float64 rows in one block of a map: a field may have a million parameters."""


class FieldPrior(GaussianPrior):
    r"""A Gaussian field T(m + g): a prior on the coefficients of g, or on values of the field.

    Coefficients are unconstrained. Values z = m + g are the unconstrained coordinates of
    u = T(z), with the density

    .. math::
        \log p(u) = \log N(z; m, C) - \sum_i \log T'(z_i), \qquad z = T^{-1}(u).

    A subclass sets ``parameters``, and ``_transform`` to T.

    Attributes
    ----------
    parameters : {"coefficients", "values"}
        Meaning of the parameters.
    """

    parameters: Meaning = "coefficients"
    _transform: Interval = Interval()

    @property
    def _bijection(self) -> Interval:
        """The map from unconstrained to physical coordinates."""
        return self._transform if self.parameters == "values" else Interval()

    @property
    def constrained(self) -> bool:
        """Whether physical and unconstrained coordinates differ: True for transformed values."""
        return self._bijection != Interval()

    def support(self, parameter: int) -> tuple[float, float]:
        """The bounds of the parameter at a position; infinite without bounds."""
        position(parameter, self.n_parameters)
        return self._bijection.lower, self._bijection.upper

    def sample(self, n: int, *, rng: Rng = None) -> np.ndarray:
        """``n`` draws in physical coordinates, ``(n, p)``."""
        return np.asarray(self.to_physical(self.sample_unconstrained(n, rng=rng)))

    def logpdf(self, u: Any) -> np.ndarray:
        """Log-density at physical ``(p,)`` or ``(n, p)``; −inf outside the support."""
        if not self.constrained:
            return super().logpdf(u)
        u = check_points(u, self.n_parameters).astype(np.float64, copy=False)
        z = self._bijection.inverse(u)
        inside = np.isfinite(z).all(axis=-1)
        z = np.where(inside[..., None], z, self.mean)
        slopes = self._bijection.log_slope(z).sum(axis=-1)
        return np.where(inside, super().logpdf(z) - slopes, -np.inf)

    def to_physical(self, z: Array) -> Array:
        """Map ``(..., p)`` to physical coordinates: T(z) for values, z for coefficients."""
        if not self.constrained:
            return super().to_physical(z)
        check_array("z", z, last=self.n_parameters)
        return by_rows(z, self._bijection.forward)

    def to_unconstrained(self, u: Array) -> Array:
        """Map physical points back; NaN or infinite outside the support."""
        if not self.constrained:
            return super().to_unconstrained(u)
        check_array("u", u, last=self.n_parameters)
        # in float64: near an upper bound the logit of float32 would be infinite
        return by_rows(u, lambda x: self._bijection.inverse(x.astype(np.float64, copy=False)))


def by_rows(x: Array, function: Callable[[np.ndarray], np.ndarray]) -> Array:
    """Map the last axis of ``x`` by a function of NumPy rows, in blocks of rows.

    Parameters
    ----------
    x : (..., p)
        Points, of any array library.
    function : callable
        Map from ``(n, p)`` to ``(n, p)``.

    Returns
    -------
    (..., p)
        Result in the library, dtype and device of ``x``.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.priors.field import by_rows
    >>> by_rows(np.array([1.0, 4.0], dtype=np.float32), np.sqrt)
    array([1., 2.], dtype=float32)
    """
    values = host(x)
    rows = values.reshape(-1, values.shape[-1])
    found = np.empty_like(rows)
    size = max(1, _BLOCK_BYTES // (8 * rows.shape[1]))
    for i in range(0, len(rows), size):
        found[i : i + size] = function(rows[i : i + size])
    return like(found.reshape(values.shape), x)


def checked_parameters(parameters: Meaning) -> Meaning:
    """Check the option ``parameters`` of a field: ``"coefficients"`` or ``"values"``.

    Examples
    --------
    >>> from ekitools.priors.field import checked_parameters
    >>> checked_parameters("cells")
    Traceback (most recent call last):
    ValueError: parameters: must be "coefficients" or "values", got 'cells'.
    """
    return one_of("parameters", parameters, _MEANINGS)


def check_all_modes(n_modes: int | None) -> None:
    """Check that no number of modes is given for values.

    Examples
    --------
    >>> from ekitools.priors.field import check_all_modes
    >>> check_all_modes(5)
    Traceback (most recent call last):
    ValueError: n_modes: must be left out for parameters="values", which keep all modes, got 5. ...
    """
    if n_modes is not None:
        raise ValueError(
            'n_modes: must be left out for parameters="values", which keep all modes, got '
            f'{n_modes!r}. Use parameters="coefficients" for a truncated expansion.'
        )


def per_direction(name: str, value: Any, dim: int) -> np.ndarray:
    """Check one positive number for all directions, or one for each: ``()`` or ``(dim,)``.

    Examples
    --------
    >>> from ekitools.priors.field import per_direction
    >>> per_direction("length", [300, 20], 2)
    array([300.,  20.])
    >>> per_direction("length", [300, 20], 3)
    Traceback (most recent call last):
    ValueError: length: must be one positive number, or one for each of the 3 direction(s), got ...
    """
    found = as_real(name, value, ndim=(0, 1))
    if np.any(found <= 0) or found.size not in (1, dim):
        raise ValueError(
            f"{name}: must be one positive number, or one for each of the {dim} direction(s), "
            f"got {value!r}. Use the unit of the points."
        )
    return found
