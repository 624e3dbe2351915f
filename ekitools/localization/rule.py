"""What rules of localization share: products, and local analyses from a matrix of weights."""

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
    """A rule of localization; rules are multiplied by ``*``."""

    @abstractmethod
    def located(self, n_parameters: int, n_data: int, target: Any = None) -> Localizer:
        """The rule for p parameters and d data."""

    def __mul__(self, other: Any) -> Product:
        if not isinstance(other, Localization):
            return NotImplemented
        return Product((*_factors(self), *_factors(other)))


class Weighing(ABC):
    """A localizer that gives every parameter a local analysis of its own."""

    @abstractmethod
    def weights(self, columns: np.ndarray, u: np.ndarray, outputs: np.ndarray) -> csr_array:
        """The weight of every datum for each of the parameters ``columns``, ``(m, d)``."""

    def neighbourhoods(self, columns: slice, u: np.ndarray, outputs: np.ndarray) -> Neighbourhoods:
        """The local analyses of the parameters ``columns``."""
        return own_analyses(self.weights(np.arange(columns.start, columns.stop), u, outputs))


def own_analyses(weights: csr_array) -> Neighbourhoods:
    """A local analysis for every row of a matrix of weights."""
    weights.eliminate_zeros()
    weights.sort_indices()
    m = weights.shape[0]
    each = np.arange(m)
    return Neighbourhoods(
        weights.indptr, weights.indices, weights.data, each[:, None], each, np.ones((m, 1))
    )


@dataclass(frozen=True, eq=False)
class Product(Rule):
    """Several rules at once: the weight of a datum is the product of those that they give it.

    Parameters
    ----------
    rules : tuple of rules
        What was multiplied.

    Raises
    ------
    TypeError, ValueError
        If one is no rule of localization, there are fewer than two, or more than one has a
        strength that is to be chosen.

    See Also
    --------
    Distance : Data that are near a parameter.
    Unbiased : Less weight for correlations that chance may have made.

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
                    f"rules: must be rules of ek.localization, got {type(rule).__name__}."
                )
        if len(rules) < 2:
            raise ValueError(f"rules: must be two or more, got {len(rules)}. Use the rule itself.")
        unknown = [r for r in rules if isinstance(r, Tunable) and r.strength is None]
        if len(unknown) > 1:
            raise ValueError(
                f"rules: must have one adaptive strength at most, got {len(unknown)}. Give the "
                f"{unknown[1].strength_name} of the others a number."
            )
        put(self, rules=rules)

    def located(self, n_parameters: int, n_data: int, target: Any = None) -> Localizer:
        """The rule for p parameters and d data."""
        return _LocatedProduct(
            tuple(rule.located(n_parameters, n_data, target) for rule in self.rules)
        )

    @property
    def strength(self) -> float | None:
        """That of the rule whose strength is to be chosen, else of the first that has one."""
        return self._tuned[1].strength if self._tuned else 1.0

    @property
    def strength_name(self) -> str:
        """The option that it is."""
        return self._tuned[1].strength_name if self._tuned else "strength"

    def strengths(self, n_parameters: int, n_data: int, target: Any = None) -> np.ndarray:
        """Those to be tried, from few data to many."""
        if not self._tuned:
            return np.ones(1)
        return self._tuned[1].strengths(n_parameters, n_data, target)

    def with_strength(self, value: float) -> Product:
        """The rule with this strength."""
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
