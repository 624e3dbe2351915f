"""The base class of priors: three functions of NumPy arrays make a prior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ekitools.core.arrays import as_real, as_rng, check_array, digest, host, like
from ekitools.core.checks import integer, sequence
from ekitools.typing import Array, HasPoints, Prior, Rng

__all__ = ["BasePrior", "check_points", "joined_points", "named", "position"]


class BasePrior(ABC):
    r"""Base class for your own prior: a bijection from standard normal coordinates.

    The prior is the distribution of u = f(z) with z ~ N(0, I). A subclass defines three
    functions of float64 arrays, with one point in a row:

    ``forward(z)``
        The map f from unconstrained points ``(n, p)`` to physical points ``(n, p)``.
    ``inverse(u)``
        The inverse f⁻¹. Points outside the support become NaN or infinite.
    ``log_density(u)``
        The log-density of physical points inside the support, ``(n, p)`` to ``(n,)``. By the
        change of variables the log-density is log N(z; 0, I) minus the logarithm of the
        Jacobian determinant of f at z.

    The base class derives all other members of `ekitools.typing.Prior` from these three.
    `ekitools.testing.check_prior` checks that the three functions are consistent.

    Parameters
    ----------
    parameters : int or sequence of str
        The number of parameters p, or their names.

    Attributes
    ----------
    names : tuple of str or None
        The names, if they were given.

    Raises
    ------
    TypeError, ValueError
        If ``parameters`` is not a positive integer or a sequence of different texts.

    See Also
    --------
    ekitools.Prior : Parameters by name with distributions of scipy.stats.
    ekitools.testing.check_prior : Check of your own prior.

    Notes
    -----
    The functions never receive a point with NaN entries: a failed member stays a row of NaN. They
    receive NumPy arrays for ensembles of every array library and dtype. The results are converted
    back to the library, dtype and device of the ensemble.

    Examples
    --------
    A wind vector with uniform direction and log-normal speed:

    >>> import numpy as np
    >>> from scipy import stats
    >>> from scipy.special import ndtr, ndtri
    >>> import ekitools as ek
    >>> class Wind(ek.BasePrior):
    ...     def __init__(self):
    ...         super().__init__(["east", "north"])
    ...     def forward(self, z):
    ...         speed, angle = np.exp(z[:, 0]), 2 * np.pi * ndtr(z[:, 1])
    ...         return np.stack([speed * np.cos(angle), speed * np.sin(angle)], axis=1)
    ...     def inverse(self, u):
    ...         turns = np.arctan2(u[:, 1], u[:, 0]) / (2 * np.pi) % 1
    ...         return np.stack([np.log(np.hypot(u[:, 0], u[:, 1])), ndtri(turns)], axis=1)
    ...     def log_density(self, u):
    ...         speed = np.hypot(u[:, 0], u[:, 1])
    ...         return stats.lognorm(1.0).logpdf(speed) - np.log(2 * np.pi * speed)
    >>> ek.testing.check_prior(Wind(), exclude="fingerprint")  # which needs a module
    >>> Wind()
    Wind(p=2)
    """

    names: tuple[str, ...] | None

    def __init__(self, parameters: int | Sequence[str]) -> None:
        self.names, self._size = named("parameters", parameters)

    @abstractmethod
    def forward(self, z: np.ndarray) -> np.ndarray:
        """Map unconstrained points z ``(n, p)`` to physical points."""

    @abstractmethod
    def inverse(self, u: np.ndarray) -> np.ndarray:
        """Map physical points u ``(n, p)`` back; NaN or infinite outside the support."""

    @abstractmethod
    def log_density(self, u: np.ndarray) -> np.ndarray:
        """Log-density ``(n,)`` at physical points u ``(n, p)`` inside the support."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.n_parameters})"

    @property
    def n_parameters(self) -> int:
        """Number of parameters p."""
        return self._size if self.names is None else len(self.names)

    def support(self, parameter: int) -> tuple[float, float]:
        """The bounds of the parameter at a position; infinite without bounds."""
        position(parameter, self.n_parameters)
        return -np.inf, np.inf

    def sample(self, n: int, *, rng: Rng = None) -> np.ndarray:
        """``n`` draws in physical coordinates, ``(n, p)``."""
        return np.asarray(self.to_physical(self.sample_unconstrained(n, rng=rng)))

    def sample_unconstrained(self, n: int, *, rng: Rng = None) -> np.ndarray:
        """``n`` standard normal draws in unconstrained coordinates, ``(n, p)``."""
        return as_rng(rng).standard_normal((integer("n", n), self.n_parameters))

    def logpdf(self, u: Any) -> np.ndarray:
        """Log-density at physical ``(p,)`` or ``(n, p)``; −inf outside the support."""
        u = check_points(u, self.n_parameters)
        rows = np.atleast_2d(u).astype(np.float64, copy=False)
        with np.errstate(all="ignore"):  # from points outside the support
            inside = np.isfinite(self.inverse(rows)).all(axis=1)
        found = np.full(len(rows), -np.inf)
        if inside.any():
            points = rows[inside]
            found[inside] = _checked("log_density", self.log_density(points), (len(points),))
        return found.reshape(u.shape[:-1])

    def to_physical(self, z: Array) -> Array:
        """Map an ensemble ``(..., p)`` to physical coordinates; rows with NaN become NaN."""
        return self._mapped("z", "forward", self.forward, z)

    def to_unconstrained(self, u: Array) -> Array:
        """Map physical points back; NaN or infinite outside the support."""
        with np.errstate(all="ignore"):  # from points outside the support
            return self._mapped("u", "inverse", self.inverse, u)

    def whiten(self, z: Array) -> Array:
        """The same array: the prior is N(0, I) in unconstrained coordinates."""
        check_array("z", z, last=self.n_parameters)
        return z

    def unwhiten(self, w: Array) -> Array:
        """The same array: the prior is N(0, I) in unconstrained coordinates."""
        check_array("w", w, last=self.n_parameters)
        return w

    def fingerprint(self) -> str:
        """A short text that changes whenever the class or an attribute of the prior does."""
        from ekitools.priors.identity import describe  # noqa: PLC0415 - it loads scipy.stats

        return digest(describe(self))

    def _mapped(
        self, name: str, called: str, function: Callable[[np.ndarray], np.ndarray], x: Array
    ) -> Array:
        p = self.n_parameters
        check_array(name, x, last=p)
        values = host(x)
        rows = values.reshape(-1, p).astype(np.float64)
        known = ~np.isnan(rows).any(axis=1)
        points = rows if known.all() else rows[known]
        found = _checked(called, function(points), points.shape)
        if not known.all():
            rows[~known] = np.nan
            rows[known] = found
            found = rows
        return like(found.reshape(values.shape), x)


def _checked(name: str, found: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The array that one of the three functions returned, with its shape checked."""
    found = np.asarray(found)
    if found.shape != shape:
        raise ValueError(
            f"{name}: must return an array of shape {shape}, got {found.shape}. Compute one "
            "row for each point."
        )
    return found


def check_points(u: Any, p: int) -> np.ndarray:
    """Points ``(p,)`` or ``(n, p)`` as finite floats."""
    u = as_real("u", u, ndim=(1, 2))
    if u.shape[-1] != p:
        raise ValueError(f"u: last axis must have p = {p} entries, got shape {u.shape}.")
    return u


def position(parameter: Any, p: int) -> int:
    """The position of one of ``p`` parameters, from 0 to p − 1; −1 means the last one.

    Examples
    --------
    >>> from ekitools.priors.base import position
    >>> position(-1, 3)
    2
    """
    return integer("parameter", parameter, least=-p, most=p - 1) % p


def joined_points(parts: Iterable[Prior]) -> np.ndarray | None:
    """Coordinates of the parameters of priors side by side, ``(p, dim)``, or None.

    Parameters without a location get rows of NaN. None is returned if no parameter has a location,
    or if the locations of the parts differ in their number of coordinates.

    Parameters
    ----------
    parts : iterable of Prior
        The priors in their order.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.priors.base import joined_points
    >>> cells = ek.GaussianRandomField((2,), parameters="values")
    >>> joined_points([cells, ek.GaussianPrior(0.0, 1.0)]).tolist()
    [[0.25], [0.75], [nan]]
    """
    pairs = [(p.n_parameters, p.points if isinstance(p, HasPoints) else None) for p in parts]
    dims = {points.shape[1] for _, points in pairs if points is not None}
    if len(dims) != 1:
        return None
    dim = dims.pop()
    return np.concatenate([np.full((n, dim), np.nan) if x is None else x for n, x in pairs])


def named(argument: str, parameters: Any, stem: str = "") -> tuple[tuple[str, ...] | None, int]:
    """Names of parameters and their number, from names or a number.

    Parameters
    ----------
    argument : str
        Name of the argument, for errors.
    parameters : int or sequence of str
        A number, or names that must differ.
    stem : str, optional
        With a stem, a number n becomes the names ``stem[0]`` to ``stem[n-1]``. Without a stem the
        names are None.

    Examples
    --------
    >>> from ekitools.priors.base import named
    >>> named("members", 2, "theta")
    (('theta[0]', 'theta[1]'), 2)
    >>> named("members", ["a", "a"])
    Traceback (most recent call last):
    ValueError: members: names must differ, got 'a' more than once. Rename one of them.
    """
    if isinstance(parameters, str) or not np.iterable(parameters):
        size = integer(argument, parameters, remedy="Or give a sequence of names.")
        return (tuple(f"{stem}[{i}]" for i in range(size)) if stem else None), size
    names = sequence(argument, parameters, "a number or a sequence of names")
    for name in names:
        if not isinstance(name, str) or not name:
            raise TypeError(f"{argument}: names must be texts, got {name!r}.")
        if names.count(name) > 1:
            raise ValueError(
                f"{argument}: names must differ, got {name!r} more than once. Rename one of them."
            )
    if not names:
        raise ValueError(f"{argument}: must not be empty, got {parameters!r:.60}.")
    return tuple(str(name) for name in names), len(names)
