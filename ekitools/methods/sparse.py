"""Sparse inversion: an outer loop around a posterior method learns the variances of the prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np

from ekitools.core.arrays import host, like, take_rows
from ekitools.core.checks import check_method, flag, integer, number, put
from ekitools.linalg import total_variance
from ekitools.methods.around import Around
from ekitools.methods.shared import check_all_data, initial_variance, mapped
from ekitools.methods.variances import (
    Parameter,
    check_groups,
    check_independent,
    check_parameters,
    kept_sentence,
    learned_variances,
    sharing,
    with_variances,
)
from ekitools.typing import (
    Aim,
    Array,
    LearnsPrior,
    LinearOver,
    Method,
    PerParameter,
    Quadrature,
    Relinearizes,
    Starts,
    Status,
    StepInfo,
    Target,
    is_sampler,
)

__all__ = ["Sparse", "SparseState"]

Inner = TypeVar("Inner")


class SparseState(NamedTuple, Generic[Inner]):
    """State of `Sparse` between two steps."""

    ensemble: Array
    n: int
    t: float
    """Σh over all rounds."""
    initial_variance: float
    rounds: int
    """Number of completed rounds."""
    since: float
    """t at the start of the present round."""
    change: float
    """Largest change of the logarithm of a kept variance at the end of the last round."""
    variances: Array
    """Variances λ of the prior of the present round, relative to the first prior, ``(p,)``."""
    sizes: Array
    """|ū|/sd of the first prior at the end of the last round, by group, ``(p,)``. The values are
    infinite in the first round, and for parameters whose variances are not learned."""
    white: Array | None
    """Whitened first members, from which every round starts; None for a warm start."""
    names: tuple[str, ...]
    """Names of the parameters; empty if the prior has no names."""
    inner: Inner
    """The state of the inner method, without the ensemble, which is stored above."""


@dataclass(frozen=True)
class Sparse(Around):
    r"""Sparse inversion: coefficients that the data do not need shrink to their prior means.

    In coordinates w whitened by the prior, a coefficient at its prior mean is zero, and every
    parameter has its own variance λ_i. A round is a complete run of the method with the prior
    w ~ N(0, diag λ). At the end of a round the mean and the variance of the ensemble give new
    variances,

    .. math::
        \lambda_i \leftarrow \max(\bar w_i^2 + \mathrm{var}\, w_i,\ \text{floor}).

    This is a step of expectation maximisation for the evidence of λ, as in sparse Bayesian learning
    [1]_. Hierarchical ensemble Kalman methods [2]_ use the same alternation with other priors of λ.
    The parameters of a group share one λ, the mean over the group. The first round has λ = 1. The
    rounds end when λ has settled for all kept parameters. A parameter is kept if \|w̄_i\| > keep,
    where a group uses the root mean square of w̄.

    The last ensemble approximates the posterior under the learned prior. This differs from the
    posterior under the prior of the problem in two ways. The data were also used to learn the
    variances, and the ensemble does not include the uncertainty about which parameters are zero.
    The spread of a parameter that is not kept is close to zero, so its intervals are meaningless.

    Parameters
    ----------
    method : Method
        The method of every round: `GNKI`, `ETKI`, `EKI`, or your own method with the aim
        "posterior".
    parameters : sequence of str or int, optional
        Names, or positions from 0, of the parameters whose variances are learned; by default all.
        The other parameters keep their prior.
    groups : sequence of sequences of str or int, default ()
        Groups of learned parameters. Each group shares one variance.
    outer : int, default 40
        Largest number of rounds.
    rtol : float, default 0.002
        The rounds end when the logarithm of λ changes by at most rtol for all kept parameters.
        The other variances are still falling then. A smaller rtol needs more rounds and brings
        the other parameters closer to zero.
    floor : float, default 1e-10
        Smallest λ.
    keep : float, default 0.1
        Smallest \|w̄\| of a kept parameter, in standard deviations of the prior. Choose prior
        standard deviations of the size of the nonzero coefficients.
    warm : bool, default True
        Whether a round starts from the last ensemble. This needs a method that corrects its start
        (``linear_over`` is "last", as for `GNKI`) and J > p. Otherwise, and for `EKI` and `ETKI`,
        every round starts from the first members, rescaled to the new variances.

    Raises
    ------
    TypeError, ValueError
        If the method is a sampler, aims at a fit (`Nesterov`, `Inflated`, ``EKI(t_end=None)``),
        learns a prior itself or has its own start. If an option has the wrong type or is out of
        range. At the start of a run, if the problem has no parameter of a given name, if the prior
        correlates parameters whose variances are learned, or if a step sees only a part of the
        data.

    See Also
    --------
    Hierarchical : A prior with one unknown scale for several parameters.

    Notes
    -----
    The result has ``parameter_prior_variance`` (λ of the round) and ``parameter_kept`` (from the
    last complete round) by iteration and parameter. The pseudo-time rises by 1 in every round.

    References
    ----------
    .. [1] Tipping (2001), J. Mach. Learn. Res. 1, 211-244.
    .. [2] Kim, Sanz-Alonso & Strang (2022), arXiv:2205.09322.

    Examples
    --------
    Twelve coefficients, two of which are nonzero, from eight data:

    >>> import numpy as np
    >>> import ekitools as ek
    >>> A = np.random.default_rng(0).normal(size=(8, 12))
    >>> truth = np.zeros(12)
    >>> truth[[2, 7]] = 1.0, -2.0
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel(A), ek.GaussianPrior(np.zeros(12), 1.0), 0.05**2, A @ truth)
    >>> result = ek.run(problem, ek.Sparse(ek.GNKI()), n_members=100, rng=0)
    >>> np.flatnonzero(result.parameter_kept[-1])
    array([2, 7])
    >>> result.u[-1].mean("member").values[[2, 7]].round(1)
    array([ 1., -2.])
    """

    method: Method
    parameters: tuple[Parameter, ...] | None = None
    groups: tuple[tuple[Parameter, ...], ...] = ()
    outer: int = 40
    rtol: float = 0.002
    floor: float = 1e-10
    keep: float = 0.1
    warm: bool = True

    aim: ClassVar[Aim] = "posterior"
    learns_prior: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_method(self.method)
        if why := _unfit(self.method):
            raise TypeError(
                "method: must move its members from its prior to the posterior, got "
                f"{type(self.method).__name__}, which {why}. Use ek.GNKI(), ek.ETKI() or ek.EKI()."
            )
        if self.parameters is not None:
            put(self, parameters=check_parameters("parameters", self.parameters))
        put(
            self,
            groups=check_groups(self.groups),
            outer=integer("outer", self.outer),
            rtol=number("rtol", self.rtol, above=0),
            floor=number("floor", self.floor, above=0, below=1),
            keep=number("keep", self.keep, above=0),
            warm=flag("warm", self.warm),
        )

    @property
    def State(self) -> Any:  # noqa: N802 - it is a class
        """`SparseState` with the state of the inner method."""
        return SparseState[self.method.State]  # type: ignore[name-defined]

    @property
    def linear_over(self) -> LinearOver:
        """The ``linear_over`` of the inner method."""
        method = self.method
        return method.linear_over if isinstance(method, Relinearizes) else "ensembles"

    def init(self, ensemble: Array, target: Target) -> SparseState:
        """The state before the first step.

        Raises
        ------
        TypeError, ValueError
            If the problem has no parameter of a given name, the prior correlates parameters whose
            variances are learned, a step sees only a part of the data, or the inner method refuses
            the problem.
        """
        check_all_data(target, "Sparse, which runs its method several times")
        shared = sharing(self.parameters, self.groups, target.prior)
        check_independent(target.prior, shared >= 0)
        ones = like(np.ones(len(shared)), ensemble)
        inner = self.method.init(ensemble, with_variances(target, ones))
        warm = self.warm and self.linear_over == "last" and ensemble.shape[0] > len(shared)
        return SparseState(
            ensemble,
            inner.n,
            inner.t,
            initial_variance(ensemble),
            0,
            0.0,
            math.inf,
            ones,
            math.inf * ones,
            None if warm else target.prior.whiten(ensemble),
            target.prior.names or (),
            inner._replace(ensemble=None),
        )

    def ask(self, state: SparseState) -> Array:
        """The members at which the loop evaluates G, ``(J, p)``."""
        return self.method.ask(_inner(state))

    def finished(self, state: SparseState) -> Status | None:
        """The status after the last round; None before."""
        status = self.method.finished(_inner(state))
        if status is None:
            return None
        settled = state.change <= self.rtol
        start = (
            f"The variances of the prior have settled (rounds: {state.rounds})."
            if settled
            else f"The last of {state.rounds} rounds changed the logarithm of a kept variance of "
            f"the prior by {state.change:.3g} (rtol = {self.rtol:g}). Allow more rounds with "
            "outer=, or use more members, because with few members the variances change by chance."
        )
        within = "" if status.level == "good" else f" Status of the last round: {status.sentence}"
        return Status(
            "prior_settled" if settled else "rounds_spent",
            f"{start} {kept_sentence(host(state.sizes), self.keep, state.names)} The ensemble "
            "approximates the posterior under the learned prior, without the uncertainty about "
            f"which parameters are zero.{within}",
            level="good" if settled and status.level == "good" else "care",
            posterior=status.posterior,
        )

    def tell(
        self, state: SparseState, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[SparseState, StepInfo]:
        """One step of the inner method; at the end of the run the state is returned unchanged.

        If the step ends a round and another round follows, the new members are the first members
        of the next round.
        """
        problem = with_variances(target, state.variances)
        inner, info = self.method.tell(_inner(state), g, problem, rng=rng)
        info = info._replace(
            spread=math.sqrt(total_variance(state.ensemble) / state.initial_variance),
            by_parameter=self._reported(state),
        )
        if info.status is not None:
            return state, info._replace(status=self.finished(state) or info.status)
        following = state._replace(
            ensemble=inner.ensemble,
            n=state.n + 1,
            t=state.since + inner.t,
            inner=inner._replace(ensemble=None),
        )
        if self.method.finished(inner) is not None:
            following = self._next_round(following, target)
        return following, info

    def select(self, state: SparseState, index: np.ndarray) -> SparseState:
        """The state of the members ``index``."""
        inner = self.method.select(_inner(state), index)
        return _with(state, inner, lambda kept: take_rows(kept, index))

    def map_members(
        self, state: SparseState, rows: Callable[[Array], Array], index: np.ndarray
    ) -> SparseState:
        """Apply ``rows`` to every array of the state that has one row for each member."""
        return _with(state, mapped(self.method, _inner(state), rows, index), rows)

    def _next_round(self, state: SparseState, target: Target) -> SparseState:
        """The state after a round, with new variances and members unless the round is the last."""
        w = host(target.prior.whiten(state.ensemble)).astype(np.float64)
        shared = sharing(self.parameters, self.groups, target.prior)
        new, sizes = learned_variances(w, shared, self.floor)
        change = np.abs(np.log(new / host(state.variances).astype(np.float64)))
        state = state._replace(
            rounds=state.rounds + 1,
            change=float(np.max(change[sizes > self.keep], initial=0.0)),
            sizes=like(sizes, state.variances),
        )
        if state.rounds == self.outer or state.change <= self.rtol:
            return state
        variances = like(new, state.variances)
        problem = with_variances(target, variances)
        white = state.white
        ensemble = state.ensemble if white is None else problem.prior.unwhiten(white)
        inner = self.method.init(ensemble, problem)._replace(ensemble=None)
        return state._replace(ensemble=ensemble, since=state.t, variances=variances, inner=inner)

    def _reported(self, state: SparseState) -> dict[str, PerParameter]:
        variances, kept = host(state.variances).astype(np.float64), host(state.sizes) > self.keep
        return {
            "prior_variance": PerParameter(variances, "variance of the prior, first one = 1"),
            "kept": PerParameter(kept, "kept by the last complete round"),
        }


def _unfit(method: Method) -> str | None:
    """The reason for which `Sparse` cannot use a method; None if it can."""
    if is_sampler(method):
        return "is a sampler"
    if isinstance(method, Quadrature):
        return "places its own members"
    if method.aim != "posterior":
        return "aims at a fit"
    if isinstance(method, LearnsPrior):
        return "learns a prior itself"
    if isinstance(method, Starts) and not isinstance(method.start, str | None):
        return "has its own start"
    return None


def _inner(state: SparseState) -> Any:
    return state.inner._replace(ensemble=state.ensemble)


def _with(state: SparseState, inner: Any, rows: Callable[[Array], Array]) -> SparseState:
    return state._replace(
        ensemble=inner.ensemble,
        inner=inner._replace(ensemble=None),
        white=None if state.white is None else rows(state.white),
    )
