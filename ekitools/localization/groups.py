"""Localization by groups: parameters by name, and the blocks of data that move them."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from ekitools.core.checks import put
from ekitools.localization.places import named_data, named_parameters
from ekitools.localization.rule import Rule
from ekitools.typing import Localizer, Neighbourhoods

__all__ = ["Groups"]


@dataclass(frozen=True, eq=False, repr=False)
class Groups(Rule):
    """Groups of parameters, each moved by its own data alone.

    Parameters
    ----------
    groups : mapping of parameters to data
        The keys are names or numbers of parameters, or tuples of these. Every parameter belongs to
        one group. The values are names of blocks of data, names or numbers of data, or tuples or
        lists of these. Several groups may use the same data; a group without data, ``()``, keeps
        its prior.

    Raises
    ------
    TypeError, ValueError
        If the mapping is empty, or if a parameter or a datum is not known, a parameter is in two
        groups or in none.

    See Also
    --------
    Distance : Weights by distance, where parameters and data have places.

    Notes
    -----
    The data of a group may have correlated noise. Its marginal noise is used, and the correlation
    with data outside the group is not.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     lambda u: {"flow": u[:1], "heat": u[1:]},
    ...     ek.GaussianPrior(np.zeros(2), np.ones(2)), {"flow": 0.1, "heat": 0.1},
    ...     {"flow": [1.0], "heat": [2.0]}, parameter_names=("k", "c"))
    >>> rule = ek.localization.Groups({"k": "flow", "c": "heat"})
    >>> result = ek.run(problem, ek.ETKI(localization=rule), n_members=50, rng=0)
    >>> ek.posterior(result).mean().round(1).to_array().values
    array([0.9, 1.8])
    """

    groups: Any
    _pairs: tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.groups, tuple):  # as options are read back
            pairs = self.groups
        elif isinstance(self.groups, Mapping):
            pairs = tuple(self.groups.items())
        else:
            raise TypeError(
                "groups: must be a mapping of parameters to data, got "
                f"{type(self.groups).__name__}. Use {{('k', 'c'): 'flow'}}."
            )
        if any(not isinstance(pair, tuple) or len(pair) != 2 for pair in pairs):
            raise TypeError(
                f"groups: must be a mapping of parameters to data, got {self.groups!r:.60}. Use "
                "{('k', 'c'): 'flow'}."
            )
        if not pairs:
            raise ValueError("groups: must not be empty, got no group. Leave localization out.")
        put(self, groups=pairs, _pairs=tuple((_several(a), _several(b)) for a, b in pairs))

    def __repr__(self) -> str:
        return f"Groups({dict(self.groups)!r})"

    def located(self, n_parameters: int, n_data: int, target: Any = None) -> Localizer:
        """The rule for p parameters and d data; names are those of the ``target``."""
        owner = np.full(n_parameters, -1, dtype=np.int64)
        data = []
        for i, (parameters, its_data) in enumerate(self._pairs):
            for index in named_parameters(parameters, n_parameters, target):
                if owner[index] >= 0:
                    raise ValueError(
                        f"groups: must have every parameter in one group, got {index} in two. "
                        "Merge these two groups and their data."
                    )
                owner[index] = i
            data.append(np.unique(named_data(its_data, n_data, target)))
        if (owner < 0).any():
            missing = np.flatnonzero(owner < 0)
            raise ValueError(
                f"groups: must have every parameter in one group, got none with {missing[0]} "
                f"({missing.size} are missing). Add a group without data, {{(...): ()}}, to keep "
                "the prior of these parameters."
            )
        return _Located(owner, tuple(data), n_data)


@dataclass(frozen=True, eq=False)
class _Located:
    owner: np.ndarray
    data: tuple[np.ndarray, ...]
    n_data: int

    def weights(self, columns: np.ndarray, _u: np.ndarray, _outputs: np.ndarray) -> csr_array:
        """1 for the data of the group of a parameter."""
        start, index = self._stacked()
        of_groups = csr_array(
            (np.ones(len(index)), index, start), shape=(len(self.data), self.n_data)
        )
        return csr_array(of_groups[self.owner[columns]])

    def neighbourhoods(
        self, columns: slice, _u: np.ndarray, _outputs: np.ndarray
    ) -> Neighbourhoods:
        """An analysis for every group."""
        start, index = self._stacked()
        group, own = np.arange(len(self.data)), self.owner[columns]
        share = np.ones((len(own), 1))
        return Neighbourhoods(start, index, np.ones(len(index)), group[:, None], own, share)

    def _stacked(self) -> tuple[np.ndarray, np.ndarray]:
        start = np.cumsum([0, *(len(each) for each in self.data)])
        return start, np.concatenate(self.data).astype(np.int64)


def _several(value: Any) -> tuple[Any, ...]:
    """The entries of a tuple, list or array; a name or number alone."""
    entries = value if isinstance(value, tuple | list | np.ndarray | range) else (value,)
    return tuple(_entry(each) for each in entries)


def _entry(value: Any) -> Any:
    """A name that is not empty, or a whole number."""
    if isinstance(value, str) and value:
        return str(value)
    try:
        if not isinstance(value, bool | np.bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"groups: must contain names or integers, got {value!r:.60}.")
