"""Contracts of localization rules, which give each parameter its data and their weights."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

__all__ = ["Localization", "Localizer", "Neighbourhoods", "StrengthCurve", "Tunable"]


class Neighbourhoods(NamedTuple):
    """The local analyses of some parameters: their data, and their shares in each parameter.

    See Also
    --------
    Localizer : Returns the local analyses.

    Examples
    --------
    Two analyses: one of the data 0 and 1, and one of the datum 1 with half of its weight. The
    second of three parameters takes the mean of both.

    >>> import numpy as np
    >>> from ekitools.typing import Neighbourhoods
    >>> near = Neighbourhoods(
    ...     start=np.array([0, 2, 3]), data=np.array([0, 1, 1]), weight=np.array([1, 1, 0.5]),
    ...     analysis=np.array([[0, 1]]), mixture=np.array([0, 0, 0]),
    ...     share=np.array([[1, 0], [0.5, 0.5], [0, 1]]))
    >>> near.share.sum(axis=1)
    array([1., 1., 1.])
    """

    start: np.ndarray
    """Analysis i uses the data ``data[start[i]:start[i + 1]]``, ``(n + 1,)``."""
    data: np.ndarray
    """Numbers of data, in ascending order within an analysis, ``(N,)``."""
    weight: np.ndarray
    """Weight of each datum in (0, 1], which divides the noise variance of the datum, ``(N,)``."""
    analysis: np.ndarray
    """The c analyses of each of k mixtures, ``(k, c)``."""
    mixture: np.ndarray
    """The mixture of each of m parameters, ``(m,)``."""
    share: np.ndarray
    """The shares of the c analyses in each parameter, ``(m, c)``; rows sum to 1."""


@runtime_checkable
class Localizer(Protocol):
    """A rule of localization, bound to p parameters and d data.

    See Also
    --------
    Localization : The rule before it is bound.
    Neighbourhoods : The local analyses.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> rule = ek.localization.Groups({0: [0, 1], 1: [1]})
    >>> near = rule.located(2, 2).neighbourhoods(slice(0, 2), np.zeros((3, 2)), np.zeros((2, 3)))
    >>> near.start.tolist(), near.data.tolist()
    ([0, 2, 3], [0, 1, 1])
    """

    def neighbourhoods(
        self, columns: slice, u: np.ndarray, outputs: np.ndarray, /
    ) -> Neighbourhoods:
        """The local analyses of the parameters ``columns``.

        ``u`` holds these parameters of the members, ``(J, m)``. ``outputs`` are the whitened
        anomalies of the data, ``(d, J)``.
        """
        ...

    def weights(self, columns: np.ndarray, u: np.ndarray, outputs: np.ndarray, /) -> Any:
        """The weight of every datum for each of the parameters ``columns``, ``(m, d)`` sparse."""
        ...


@runtime_checkable
class Localization(Protocol):
    """A rule of localization: the data that may move each parameter, and their weights.

    See Also
    --------
    Tunable : A rule with a strength.
    ekitools.localization.Distance, ekitools.localization.Groups : Rules of this kind.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.localization.Correlation(), ek.typing.Localization)
    True
    """

    def located(self, n_parameters: int, n_data: int, target: Any = None, /) -> Localizer:
        """The rule for p parameters and d data, with names from the ``target``.

        Raises an error that names the part that does not fit.
        """
        ...


class StrengthCurve(NamedTuple):
    """The prediction error of each strength of a rule, for members that were left out.

    See Also
    --------
    ekitools.localization.choose_strength : Computes the curve.
    Tunable : A rule with a strength.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.typing import StrengthCurve
    >>> StrengthCurve("radius", np.array([1.0, 2.0]), np.array([0.3, 0.2]), 2.0).chosen
    2.0
    """

    name: str
    """The option of the rule."""
    values: np.ndarray
    """The strengths that were tried, ``(k,)``."""
    score: np.ndarray
    """The mean negative log-density of members left out, up to a constant, ``(k,)``."""
    chosen: float
    """The strength with the most data among those that are no worse than the best one.

    A mean difference of one standard error over the members counts as no worse.
    """

    @property
    def pairs(self) -> tuple[tuple[float, float], ...]:
        """Every strength with its score."""
        return tuple(zip(self.values.tolist(), self.score.tolist(), strict=True))


@runtime_checkable
class Tunable(Localization, Protocol):
    """A rule with a strength that can be chosen by leaving members out.

    See Also
    --------
    ekitools.localization.Distance, ekitools.localization.Correlation : Rules of this kind.
    ekitools.localization.choose_strength : Chooses the strength.

    Examples
    --------
    >>> import ekitools as ek
    >>> rule = ek.localization.Distance([0.0, 1.0], [0.0], radius="adaptive")
    >>> isinstance(rule, ek.typing.Tunable), rule.strength, rule.with_strength(4.0)
    (True, None, Distance(p=2, d=1, radius=4.0))
    """

    @property
    def strength(self) -> float | None:
        """The strength, or None if the strength has to be chosen."""
        ...

    @property
    def strength_name(self) -> str:
        """The name of the option that holds the strength."""
        ...

    def strengths(self, n_parameters: int, n_data: int, target: Any = None, /) -> np.ndarray:
        """The strengths to try, from few data to many."""
        ...

    def with_strength(self, value: float) -> Self:
        """The rule with this strength."""
        ...
