"""Contracts of the further abilities of a method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ekitools.typing.arrays import Array
from ekitools.typing.method import Drawn, LinearOver, Method
from ekitools.typing.problem import Target
from ekitools.typing.rules import StoppingRule

__all__ = [
    "ByCoefficients",
    "EstimatesNoise",
    "InPlace",
    "LearnsPrior",
    "MapsMembers",
    "Quadrature",
    "Redraws",
    "Relinearizes",
    "Sampler",
    "Starts",
    "Stops",
    "is_sampler",
    "takes_failures",
]


@runtime_checkable
class Sampler(Method, Protocol):
    """A method that asks for proposals and keeps other members.

    Failed proposals are passed to ``tell`` as rows of NaN. No member is dropped or replaced, except
    draws of the prior that fail at the first step: ``init`` is then called again. Every `StepInfo`
    has ``shown``.

    See Also
    --------
    is_sampler : Tests whether a method is a sampler.
    Shown : The particles that are recorded.
    ekitools.TemperedSMC : A method of this kind.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.typing.is_sampler(ek.TemperedSMC()), ek.typing.is_sampler(ek.EKI())
    (True, False)
    """

    @property
    def keeps_members(self) -> bool:
        """True."""
        ...


@runtime_checkable
class Quadrature(Method, Protocol):
    """A method whose members are the nodes of a quadrature rule.

    The method chooses the number and the places of its members. The loop gives the nodes to
    ``init`` in place of draws from the prior, and refuses another ``n_members`` or an ``ensemble``.
    Failed nodes are passed to ``tell`` as rows of NaN, and their `StepInfo.misfit` is NaN. No node
    is dropped or replaced, because the rule needs all nodes. The method handles the failed nodes.
    ``select`` returns the state for all members in their order, and refuses any other index.

    A result holds draws of the Gaussian of every stored iteration beside the nodes. Readers, such
    as `ekitools.posterior`, use these draws and not the nodes. The outputs of a draw are computed
    by the linear map through the outputs of the nodes.

    See Also
    --------
    ekitools.UKI : A method of this kind.
    Drawn : The Gaussian and its draws.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.UKI(), ek.typing.Quadrature), isinstance(ek.EKI(), ek.typing.Quadrature)
    (True, False)
    """

    def nodes(self, target: Target) -> np.ndarray:
        """The members of the first step, unconstrained, ``(J, p)``."""
        ...

    def drawn(self, state: Any, *, rng: np.random.Generator) -> Drawn:
        """The Gaussian that the state holds, with draws."""
        ...


@runtime_checkable
class InPlace(Method, Protocol):
    """A method whose ``tell`` also takes ``in_place=``.

    With ``in_place=True`` the ensemble of the state may be overwritten, unless the run ends.

    See Also
    --------
    ekitools.LossEKI : A method of this kind.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.LossEKI(), ek.typing.InPlace), isinstance(ek.EKI(), ek.typing.InPlace)
    (True, False)
    """

    @property
    def updates_in_place(self) -> bool:
        """True."""
        ...


@runtime_checkable
class ByCoefficients(Method, Protocol):
    """A method whose steps are U + K(U − ū), with coefficients K from the outputs alone.

    The ensemble of the state may be an `UpdatableEnsemble`, which is not in memory. Therefore
    ``init``, ``tell`` and ``select`` use the ensemble only by `ekitools.kalman_update`,
    ``linalg.transform.transform_update``, ``linalg.total_variance`` and ``core.arrays.take_rows``.

    See Also
    --------
    UpdatableEnsemble : An ensemble that is not in memory.
    ekitools.ETKI, ekitools.EKI : Methods of this kind.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.ETKI().by_coefficients, ek.ETKI(t_end=None, tikhonov=True).by_coefficients
    (True, False)
    >>> isinstance(ek.GNKI(), ek.typing.ByCoefficients)
    False
    """

    @property
    def by_coefficients(self) -> bool:
        """Whether the steps have this form with the options of this method."""
        ...


@runtime_checkable
class Redraws(Method, Protocol):
    """A method that draws new members, and possibly more members, at the end of some steps.

    See Also
    --------
    ekitools.Spread : An option that redraws members.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.LossEKI(spread=ek.Spread(0.1, every=2)).redraws(1)
    True
    """

    def redraws(self, n: int) -> bool:
        """Whether new members are drawn at the end of step n."""
        ...


@runtime_checkable
class MapsMembers(Method, Protocol):
    """A method that keeps further arrays with one row for each member.

    A failed member is replaced by a combination of other members, and its rows of the further
    arrays are replaced by the same combination of rows.

    See Also
    --------
    ekitools.GNKI, ekitools.Nesterov : Methods of this kind.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.GNKI(), ek.typing.MapsMembers)
    True
    """

    def map_members(self, state: Any, rows: Callable[[Array], Array], index: np.ndarray) -> Any:
        """The state with ``rows(a)`` in place of every array a with one row for each member.

        ``index`` names a member for every new row, for fields that cannot be combined.
        """
        ...


@runtime_checkable
class Stops(Method, Protocol):
    """A method with stopping rules among its options; the loop checks them.

    See Also
    --------
    StoppingRule : The rules.
    ekitools.EKI : A method of this kind.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.EKI(t_end=None, stop=ek.Discrepancy()).stop
    (Discrepancy(tau=1.0),)
    """

    @property
    def stop(self) -> tuple[StoppingRule, ...]:
        """The rules."""
        ...


@runtime_checkable
class EstimatesNoise(Method, Protocol):
    """A method that supports `ScaledNoise` and estimates its scales, the last parameters.

    See Also
    --------
    ScaledNoise : Noise with unknown scales.
    ekitools.GNKI, ekitools.TemperedSMC : Methods of this kind.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.GNKI(), ek.typing.EstimatesNoise)
    True
    >>> isinstance(ek.LossEKI(), ek.typing.EstimatesNoise)
    False
    """

    @property
    def estimates_noise(self) -> bool:
        """True."""
        ...


@runtime_checkable
class Starts(Method, Protocol):
    """A method that may start from another distribution than the prior.

    See Also
    --------
    ekitools.GaussianStart : A starting distribution.
    ekitools.TemperedSMC : A method of this kind.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.TemperedSMC().start is None
    True
    """

    @property
    def start(self) -> Any:
        """The starting distribution; None, or a text that names a first phase, for the prior."""
        ...


@runtime_checkable
class Relinearizes(Protocol):
    """A method or flow that declares the ensembles over which it assumes a linear model.

    Without this declaration a method whose aim is the posterior counts as "ensembles".

    See Also
    --------
    ekitools.summary : Uses the declaration in its checks.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.GNKI().linear_over
    'last'
    """

    @property
    def linear_over(self) -> LinearOver:
        """All ensembles of the run ("ensembles"), the last ensemble ("last"), or "none"."""
        ...


@runtime_checkable
class LearnsPrior(Protocol):
    """A method that estimates variances of the prior from the data.

    Its last ensemble belongs to the learned prior, and not to the prior of the problem.

    See Also
    --------
    ekitools.Sparse : A method of this kind.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.Sparse(ek.GNKI()), ek.typing.LearnsPrior)
    True
    """

    @property
    def learns_prior(self) -> bool:
        """True."""
        ...


def is_sampler(method: Any) -> bool:
    """Whether a method is a `Sampler`.

    Parameters
    ----------
    method : Method
        Any method.

    Returns
    -------
    bool
        False also where ``keeps_members`` is False.

    See Also
    --------
    Sampler : The contract.
    takes_failures : Tests whether a method receives failed members.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.typing.is_sampler(ek.TemperedSMC())
    True
    """
    return isinstance(method, Sampler) and method.keeps_members


def takes_failures(method: Any) -> bool:
    """Whether a method receives failed members as rows of NaN, and no member is dropped.

    Parameters
    ----------
    method : Method
        Any method.

    Returns
    -------
    bool
        True for a `Sampler` and for a `Quadrature`.

    See Also
    --------
    Sampler, Quadrature : Methods for which it is true.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.typing.takes_failures(ek.UKI()), ek.typing.takes_failures(ek.EKI())
    (True, False)
    """
    return is_sampler(method) or isinstance(method, Quadrature)
