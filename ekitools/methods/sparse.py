"""Sparse inversion: variances of the prior learned in an outer loop around any posterior method."""

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
    """What the next step needs."""

    ensemble: Array
    n: int
    t: float
    """Σh over all rounds."""
    initial_variance: float
    rounds: int
    """Rounds that came to their end."""
    since: float
    """t at the start of the present round."""
    change: float
    """Largest change of the logarithm of a kept variance at the end of the last round."""
    variances: Array
    """λ, of the prior that the present round has, relative to the first one, ``(p,)``."""
    sizes: Array
    """|ū|/sd of the first prior at the end of the last round, by group; infinite before, and
    without a variance to learn, ``(p,)``."""
    white: Array | None
    """Whitened first members, from which every round starts; None where it starts warm."""
    names: tuple[str, ...]
    """Of the parameters, where the prior has them."""
    inner: Inner
    """The state of the method within, without its ensemble, which is the one above."""


@dataclass(frozen=True)
class Sparse(Around):
    r"""Sparse inversion: coefficients that the data do not need go to the mean of their prior.

    In coordinates w whitened by the prior, where a coefficient is zero at the mean of its prior,
    every parameter has a variance λ_i of its own. A round is a whole run of the method with the
    prior w ~ N(0, diag λ). At its end, with the mean and the variance of the ensemble,

    .. math::
        \lambda_i \leftarrow \max(\bar w_i^2 + \mathrm{var}\, w_i,\ \text{floor}),

    which is a step of expectation maximisation for the evidence of λ: sparse Bayesian learning
    [1]_. Hierarchical ensemble Kalman methods [2]_ alternate in the same way, for other priors of
    λ. Parameters of a group share one λ, the mean over the group. The rounds start at λ = 1 and end
    where λ has settled for all parameters that are kept: those with \|w̄_i\| > keep, by the root
    mean square of a group.

    The last ensemble approximates the posterior under the learned prior. That is not the posterior
    under the prior of the problem: the data were used for the variances as well, and the
    uncertainty about which parameters are zero is not in it. A parameter that is not kept has a
    spread near zero, so its intervals mean nothing.

    Parameters
    ----------
    method : Method
        What every round is run by: `GNKI`, `ETKI`, `EKI`, or a method of yours whose aim is the
        posterior.
    parameters : sequence of str or int, optional
        Names, or positions from 0, of the parameters whose variances are learned; by default all.
        The others keep their prior.
    groups : sequence of sequences of str or int, default ()
        Groups of these parameters with one variance each.
    outer : int, default 15
        Most rounds.
    rtol : float, default 0.01
        The rounds end where the logarithm of λ changes by at most rtol for all kept parameters.
        The others still fall: a smaller rtol makes more rounds and leaves less of them.
    floor : float, default 1e-10
        Smallest λ.
    keep : float, default 0.1
        Least \|w̄\| of a kept parameter, in standard deviations of its prior. So the standard
        deviations should have the size of the coefficients that are not zero.
    warm : bool, default True
        Whether a round starts from the last ensemble, rescaled to the new variances, where the
        method corrects its start (``linear_over`` is "last", as for `GNKI`, and J > p). Else, and
        for `EKI` and `ETKI`, every round starts from the first members, rescaled.

    Raises
    ------
    TypeError, ValueError
        If the method is a sampler, aims at a fit (`Nesterov`, `Inflated`, ``EKI(t_end=None)``),
        learns a prior itself or has a start of its own. If an option is of the wrong kind or out
        of range. At the start of a run, if a parameter is not one of the problem, if the prior
        correlates parameters whose variances are learned, or if a step sees a part of the data.

    See Also
    --------
    Hierarchical : A prior with one unknown scale for several parameters.

    Notes
    -----
    The result has ``parameter_prior_variance`` (λ of the round) and ``parameter_kept`` (from the
    last round that came to its end) by iteration and parameter. The pseudo-time adds up over all
    rounds, so it rises by 1 in each.

    References
    ----------
    .. [1] Tipping (2001), J. Mach. Learn. Res. 1, 211-244.
    .. [2] Kim, Sanz-Alonso & Strang (2022), arXiv:2205.09322.

    Examples
    --------
    Twelve coefficients of which two are not zero, from eight data:

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
    outer: int = 15
    rtol: float = 0.01
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
        """`SparseState` with the state of the method within."""
        return SparseState[self.method.State]  # type: ignore[name-defined]

    @property
    def linear_over(self) -> LinearOver:
        """That of the method within."""
        method = self.method
        return method.linear_over if isinstance(method, Relinearizes) else "ensembles"

    def init(self, ensemble: Array, target: Target) -> SparseState:
        """The state before the first step.

        Raises
        ------
        TypeError, ValueError
            If a parameter is not one of the problem, the prior correlates parameters whose
            variances are learned, a step sees a part of the data, or the method within refuses.
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
        """The members at which G is wanted, ``(J, p)``."""
        return self.method.ask(_inner(state))

    def finished(self, state: SparseState) -> Status | None:
        """Set once the last round has come to its end."""
        status = self.method.finished(_inner(state))
        if status is None:
            return None
        settled = state.change <= self.rtol
        start = (
            f"The variances of the prior have settled (rounds: {state.rounds})."
            if settled
            else f"The last of {state.rounds} rounds changed the logarithm of a kept variance of "
            f"the prior by {state.change:.3g} (rtol = {self.rtol:g}). Allow more with outer=, or "
            "use more members: with few members the variances change by chance."
        )
        within = "" if status.level == "good" else f" Of the last round: {status.sentence}"
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
        """One step of the method within, or the end: then the state is returned as it was.

        Where the step ends a round that is not the last one, the new members are those from which
        the next one starts.
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
        """The state with ``rows`` of all that it and the method within hold of their members."""
        return _with(state, mapped(self.method, _inner(state), rows, index), rows)

    def _next_round(self, state: SparseState, target: Target) -> SparseState:
        """The state at the end of a round: the last one, or with new variances and members."""
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
        white = state.white
        if white is None:
            white = with_variances(target, state.variances).prior.whiten(state.ensemble)
        problem = with_variances(target, variances)
        ensemble = problem.prior.unwhiten(white)
        inner = self.method.init(ensemble, problem)._replace(ensemble=None)
        return state._replace(ensemble=ensemble, since=state.t, variances=variances, inner=inner)

    def _reported(self, state: SparseState) -> dict[str, PerParameter]:
        variances, kept = host(state.variances).astype(np.float64), host(state.sizes) > self.keep
        return {
            "prior_variance": PerParameter(variances, "variance of the prior, first one = 1"),
            "kept": PerParameter(kept, "kept by the last complete round"),
        }


def _unfit(method: Method) -> str | None:
    """Why no round can be run by a method."""
    if is_sampler(method):
        return "is a sampler"
    if isinstance(method, Quadrature):
        return "places its own members"
    if method.aim != "posterior":
        return "aims at a fit"
    if isinstance(method, LearnsPrior):
        return "learns a prior itself"
    if isinstance(method, Starts) and not isinstance(method.start, str | None):
        return "has a start of its own"
    return None


def _inner(state: SparseState) -> Any:
    return state.inner._replace(ensemble=state.ensemble)


def _with(state: SparseState, inner: Any, rows: Callable[[Array], Array]) -> SparseState:
    return state._replace(
        ensemble=inner.ensemble,
        inner=inner._replace(ensemble=None),
        white=None if state.white is None else rows(state.white),
    )
