"""Base classes of localization rules: products, and local analyses by a matrix of weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from ekitools.core.checks import put, sequence
from ekitools.typing import Localization, Localizer, Neighbourhoods, Tunable

__all__ = ["Product", "Rule", "Weighing", "own_analyses"]


class Rule(ABC):
    """Base class of localization rules, which can be multiplied by ``*``."""

    @abstractmethod
    def located(self, n_parameters: int, n_data: int, target: Any = None) -> Localizer:
        """The rule for p parameters and d data."""

    def __mul__(self, other: Any) -> Product:
        if not isinstance(other, Localization):
            return NotImplemented
        return Product((*_factors(self), *_factors(other)))


class Weighing(ABC):
    """A localizer with one local analysis for every parameter."""

    @abstractmethod
    def weights(self, columns: np.ndarray, u: np.ndarray, outputs: np.ndarray) -> csr_array:
        """The weights of the data for the m parameters ``columns``, ``(m, d)``."""

    def neighbourhoods(self, columns: slice, u: np.ndarray, outputs: np.ndarray) -> Neighbourhoods:
        """The local analyses of the parameters ``columns``."""
        return own_analyses(self.weights(np.arange(columns.start, columns.stop), u, outputs))


def own_analyses(weights: csr_array) -> Neighbourhoods:
    """The local analyses of a matrix of weights, one for every row."""
    weights.eliminate_zeros()
    weights.sort_indices()
    m = weights.shape[0]
    each = np.arange(m)
    return Neighbourhoods(
        weights.indptr, weights.indices, weights.data, each[:, None], each, np.ones((m, 1))
    )


@dataclass(frozen=True, eq=False)
class Product(Rule):
    """Product of localization rules: the weights of the rules are multiplied.

    Parameters
    ----------
    rules : tuple of rules
        The factors.

    Raises
    ------
    TypeError, ValueError
        If a factor is not a rule of localization, there are fewer than two factors, or more than
        one factor has an adaptive strength.

    See Also
    --------
    Distance : Weights by the distance of data from a parameter.
    Unbiased : Less weight for correlations that may be due to chance.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> near = ek.localization.Distance(np.arange(5.0), [0.0, 4.0], radius=1.0)
    >>> near * ek.localization.Unbiased()
    Product(rules=(Distance(p=5, d=2, radius=1.0), Unbiased()))
    """

    rules: tuple[Localization, ...]

    def __post_init__(self) -> None:
        rules = sequence("rules", self.rules, "rules of localization")
        for rule in rules:
            if not isinstance(rule, Localization):
                raise TypeError(
                    f"rules: must be rules of ek.localization, got {type(rule).__name__}. Use "
                    "ek.localization.Distance(parameters, data, radius)."
                )
        if len(rules) < 2:
            raise ValueError(f"rules: must be two or more, got {len(rules)}. Use the rule itself.")
        unknown = [r for r in rules if isinstance(r, Tunable) and r.strength is None]
        if len(unknown) > 1:
            raise ValueError(
                f"rules: must have at most one adaptive strength, got {len(unknown)}. Set the "
                f"{unknown[1].strength_name} of the other rules to a number."
            )
        put(self, rules=rules)

    def located(self, n_parameters: int, n_data: int, target: Any = None) -> Localizer:
        """The rule for p parameters and d data."""
        return _LocatedProduct(
            tuple(rule.located(n_parameters, n_data, target) for rule in self.rules)
        )

    @property
    def strength(self) -> float | None:
        """The strength of the adaptive rule, or else of the first rule with a strength."""
        return self._tuned[1].strength if self._tuned else 1.0

    @property
    def strength_name(self) -> str:
        """The name of the option that holds the strength."""
        return self._tuned[1].strength_name if self._tuned else "strength"

    def strengths(self, n_parameters: int, n_data: int, target: Any = None) -> np.ndarray:
        """The candidate strengths, from few data to many."""
        if not self._tuned:
            return np.ones(1)
        return self._tuned[1].strengths(n_parameters, n_data, target)

    def with_strength(self, value: float) -> Product:
        """The product with this strength."""
        if not self._tuned:
            return self
        at, rule = self._tuned
        return Product((*self.rules[:at], rule.with_strength(value), *self.rules[at + 1 :]))

    @property
    def _tuned(self) -> tuple[int, Tunable] | None:
        tunable = [(i, rule) for i, rule in enumerate(self.rules) if isinstance(rule, Tunable)]
        unknown = [each for each in tunable if each[1].strength is None]
        return next(iter((*unknown, *tunable)), None)


@dataclass(frozen=True, eq=False)
class _LocatedProduct(Weighing):
    parts: tuple[Localizer, ...]

    def weights(self, columns: np.ndarray, u: np.ndarray, outputs: np.ndarray) -> csr_array:
        every = (part.weights(columns, u, outputs) for part in self.parts)
        return csr_array(reduce(lambda a, b: a.multiply(b), every))


def _factors(rule: Localization) -> tuple[Localization, ...]:
    return rule.rules if isinstance(rule, Product) else (rule,)
