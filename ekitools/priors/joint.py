"""Independent priors side by side, such as a field and named numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ekitools.core.arrays import array_namespace, as_rng, check_array, digest
from ekitools.core.checks import integer
from ekitools.core.described import first
from ekitools.priors.base import check_points, joined_points, position
from ekitools.typing import Array, HasSupport, Prior, Rng

__all__ = ["JointPrior"]


class JointPrior:
    r"""Independent priors side by side: one prior on all their parameters.

    The parameters of the first part come first. `split` gives a model the parameters by part.
    A part keeps its own names. If a part has no names, or if a name also occurs in another part,
    its names begin with the name of the part: ``field[0]`` or ``rates.slope``.

    Parameters
    ----------
    parts : mapping of str to Prior
        Priors of any kind by name, at least one.

    Attributes
    ----------
    parts : mapping of str to Prior
        The parts as given, read-only.
    slices : mapping of str to slice
        Positions of the parameters of each part.
    names : tuple of str
        Names of all parameters.

    Raises
    ------
    TypeError, ValueError
        If ``parts`` is not a mapping of texts to priors, is empty, or two parameters get the
        same name.

    See Also
    --------
    ekitools.Prior : Named parameters, independent or correlated.

    Examples
    --------
    >>> from scipy import stats
    >>> import ekitools as ek
    >>> prior = ek.JointPrior({
    ...     "field": ek.GaussianRandomField((16, 16), n_modes=20),
    ...     "rates": ek.Prior({"decay": stats.lognorm(1.0), "share": stats.uniform(0, 1)}),
    ... })
    >>> prior
    JointPrior(field: GaussianRandomField, rates: Prior; p=22)
    >>> prior.names[:2], prior.names[-2:]
    (('mode 0 1', 'mode 1 0'), ('decay', 'share'))
    >>> u = prior.split(prior.sample(3, rng=0))
    >>> u["rates"].shape, prior.parts["field"].field(u["field"]).shape
    ((3, 2), (3, 16, 16))
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        if not isinstance(parts, Mapping):
            raise TypeError(
                f"parts: must be a mapping of names to priors, got {type(parts).__name__}. Use "
                'ek.JointPrior({"field": ..., "rates": ...}).'
            )
        if not parts:
            raise ValueError(f"parts: must not be empty, got {parts!r:.60}.")
        for name, part in dict[Any, Any](parts).items():
            if not isinstance(name, str) or not name.strip():
                raise TypeError(f"parts: names must be texts, got {name!r}.")
            if isinstance(part, type) or not isinstance(part, Prior):
                raise TypeError(
                    f"parts[{name!r}]: must be a prior, got {part!r}. Use ek.Prior({{{name!r}: "
                    "...}) for a distribution of scipy.stats."
                )
        self.parts: Mapping[str, Any] = MappingProxyType(dict(parts))
        ends = np.cumsum([part.n_parameters for part in parts.values()]).tolist()
        starts = [0, *ends[:-1]]
        cuts = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
        self.slices: Mapping[str, slice] = MappingProxyType(dict(zip(parts, cuts, strict=True)))
        self.n_parameters: int = ends[-1]
        self.names: tuple[str, ...] = _names(self.parts)

    def __repr__(self) -> str:
        inside = first(f"{name}: {type(part).__name__}" for name, part in self.parts.items())
        return f"JointPrior({inside}; p={self.n_parameters})"

    def __reduce__(self) -> Any:
        return type(self), (dict(self.parts),)

    def split(self, u: Array) -> dict[str, Array]:
        """Parameters by part: ``(..., p)`` to a mapping of names to ``(..., p_k)``.

        Parameters
        ----------
        u : (..., p)
            One member or an ensemble, of any array library.

        Returns
        -------
        dict of str to array
            Views of ``u`` if its library has views.

        Raises
        ------
        TypeError, ValueError
            If ``u`` is not an array of real numbers whose last axis has p entries.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy import stats
        >>> import ekitools as ek
        >>> prior = ek.JointPrior({
        ...     "shift": ek.GaussianPrior(0.0, [1.0, 1.0]),
        ...     "rates": ek.Prior({"decay": stats.lognorm(1.0)}),
        ... })
        >>> def model(u):  # of one member (3,)
        ...     part = prior.split(u)
        ...     return part["shift"] * part["rates"]
        >>> model(np.array([1.0, 2.0, 10.0]))
        array([10., 20.])
        """
        check_array("u", u, last=self.n_parameters)
        return {name: u[..., cut] for name, cut in self.slices.items()}

    def support(self, parameter: int) -> tuple[float, float]:
        """The bounds of the parameter at a position; infinite if the part does not know them."""
        parameter = position(parameter, self.n_parameters)
        for name, cut in self.slices.items():
            part = self.parts[name]
            if cut.start <= parameter < cut.stop and isinstance(part, HasSupport):
                return part.support(parameter - cut.start)
        return -np.inf, np.inf

    @property
    def points(self) -> np.ndarray | None:
        """Coordinates of the parameters, ``(p, dim)``, NaN for parameters without a location.

        All parts must use the same unit and origin. None is returned if no parameter has a
        location, or if the locations of the parts differ in their number of coordinates.
        """
        return joined_points(self.parts.values())

    def sample(self, n: int, *, rng: Rng = None) -> np.ndarray:
        """``n`` draws in physical coordinates, ``(n, p)``."""
        return np.asarray(self.to_physical(self.sample_unconstrained(n, rng=rng)))

    def sample_unconstrained(self, n: int, *, rng: Rng = None) -> np.ndarray:
        """``n`` draws in unconstrained coordinates, ``(n, p)``, one part after the other."""
        n, rng = integer("n", n), as_rng(rng)
        draws = [part.sample_unconstrained(n, rng=rng) for part in self.parts.values()]
        return np.concatenate(draws, axis=-1)

    def logpdf(self, u: Any) -> np.ndarray:
        """Log-density at physical ``(p,)`` or ``(n, p)``: the sum over the parts."""
        u = check_points(u, self.n_parameters)
        return np.asarray(sum(self.parts[name].logpdf(x) for name, x in self.split(u).items()))

    def to_physical(self, z: Array) -> Array:
        """Map an ensemble ``(J, p)`` to physical coordinates, part by part."""
        return self._by_part("z", "to_physical", z)

    def to_unconstrained(self, u: Array) -> Array:
        """Map physical points back; NaN or infinite outside the support."""
        return self._by_part("u", "to_unconstrained", u)

    def whiten(self, z: Array) -> Array:
        """Map unconstrained ``(J, p)`` to coordinates in which the prior is N(0, I)."""
        return self._by_part("z", "whiten", z)

    def unwhiten(self, w: Array) -> Array:
        """Map whitened ``(J, p)`` back: the inverse of `whiten`."""
        return self._by_part("w", "unwhiten", w)

    def fingerprint(self) -> str:
        """A short text that changes whenever a name or the distribution of a part does."""
        return digest(*((name, part.fingerprint()) for name, part in self.parts.items()))

    def _by_part(self, argument: str, function: str, x: Array) -> Array:
        check_array(argument, x, last=self.n_parameters)
        mapped = [getattr(self.parts[name], function)(y) for name, y in self.split(x).items()]
        return array_namespace(x).concat(mapped, axis=-1)


def _names(parts: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of all parameters, with the name of the part if a name alone is ambiguous."""
    count = Counter(n for part in parts.values() for n in part.names or ())
    found: list[str] = []
    for name, part in parts.items():
        p = part.n_parameters
        if part.names is None:
            found += [name] if p == 1 else [f"{name}[{i}]" for i in range(p)]
        elif any(count[n] > 1 for n in part.names):
            found += [f"{name}.{n}" for n in part.names]
        else:
            found += part.names
    repeated = [name for name, times in Counter(found).items() if times > 1]
    if repeated:
        raise ValueError(
            f"parts: parameters must have different names, got {repeated[0]!r} more than once. "
            "Rename a part."
        )
    return tuple(found)
