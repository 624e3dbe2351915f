"""Right-hand sides of flows in continuous time, for `ekitools.integrate`.

A flow moves the whole ensemble. One evaluation costs O(J²(d + p)) operations and one evaluation of
G for each member, and forms no p × p matrix. Flows are computed by NumPy in float64, in the
unconstrained coordinates of the prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from ekitools.core.checks import check_gaussian, flag, function, one_of, put
from ekitools.core.signatures import check_accepts
from ekitools.linalg import combine_anomalies, covariance_product
from ekitools.methods.langevin import Kick, langevin_step, local_fit
from ekitools.typing import LinearOperatorModel, LinearOver, Prior

__all__ = [
    "EKIFlow",
    "EKSFlow",
    "GradientFlow",
    "NaturalGradientFlow",
    "NesterovFlow",
    "Output",
    "StochasticEKIFlow",
]


Scheme: TypeAlias = Literal["leimkuhler-matthews", "euler-maruyama"]
_SCHEMES: tuple[Scheme, ...] = get_args(Scheme)


class Output(NamedTuple):
    """G at an ensemble, and the gradient of the loss at these outputs."""

    g: np.ndarray
    gradient: np.ndarray
    """∇_z Ψ(G(u_j), y), ``(J, d)``."""


@dataclass(frozen=True)
class EKIFlow:
    r"""The ensemble Kalman flow, for any loss.

    .. math::
        \dot u_j = -C^{uw}(u)\, \nabla_z \Psi(G(u_j), y), \qquad
        C^{uw} = \tfrac1J \sum_k (u_k - \bar u) \otimes (G(u_k) - \bar G),

    For Ψ = ½‖Γ^{-1/2}(z − y)‖² the flow is the limit h → 0 of EKI without perturbed data [1]_,
    [2]_.

    Parameters
    ----------
    tikhonov : bool, default False
        Whether the prior is added as further data. This adds the term −C(u) C₀⁻¹(u_j − m), and the
        ensemble converges to the maximum a posteriori estimate.

    See Also
    --------
    EKI : The same method in discrete steps, for `run`.
    StochasticEKIFlow : The flow with perturbed data.
    NesterovFlow : The flow with momentum.

    References
    ----------
    .. [1] Schillings & Stuart (2017), SIAM J. Numer. Anal. 55, 1264-1290.
    .. [2] Kovachki & Stuart (2019), Inverse Problems 35, 095005.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, 1.0), 1.0, [0.0])
    >>> result = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 4), ensemble=[[-1.0], [1.0]])
    >>> result.u.values[-1].round(4).ravel()
    array([-0.3333,  0.3333])
    """

    tikhonov: bool = False
    order = 1

    def __post_init__(self) -> None:
        put(self, tikhonov=flag("tikhonov", self.tikhonov))

    def acceleration(self, t: float, u: np.ndarray, out: Output, problem: Any) -> np.ndarray:  # noqa: ARG002
        """du/dt, ``(J, p)``."""
        return _descent(u, out, problem.prior if self.tikhonov else None)

    def check_problem(self, problem: Any) -> None:
        """Check that the problem meets the needs of the flow, before any model run."""
        if self.tikhonov:
            _check_whitens(problem.prior)


@dataclass(frozen=True)
class NesterovFlow(EKIFlow):
    r"""The ensemble Kalman flow with momentum.

    .. math:: \ddot u_j + \tfrac3t \dot u_j = -C^{uw}(u)\, \nabla_z \Psi(G(u_j), y)

    with u̇(0) = 0 [1]_. At t = 0, where 3/t is undefined, the limit of the equation is used: with
    u̇ ~ t ü(0) it becomes 4 ü(0) = −C^{uw}∇Ψ.

    Parameters
    ----------
    tikhonov : bool, default False
        Whether the prior is added as further data, as in `EKIFlow`.

    See Also
    --------
    EKIFlow : The flow without momentum.
    Nesterov : Momentum for a method in discrete steps.

    References
    ----------
    .. [1] Su, Boyd & Candès (2016), J. Mach. Learn. Res. 17, 1-43.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=3, d=5).problem
    >>> plain, fast = (ek.integrate(problem, flow, t_span=(0, 5), n_members=10, rng=0)
    ...                for flow in (ek.EKIFlow(), ek.NesterovFlow()))
    >>> plain.attrs["status_code"] == fast.attrs["status_code"] == "t_end_reached"
    True
    """

    order = 2


@dataclass(frozen=True)
class GradientFlow:
    r"""Gradient flow of every member, u̇_j = −∇Φ(u_j), for comparison.

    The flow needs derivatives, from a `LinearModel` or from ``jacobian``.

    Parameters
    ----------
    jacobian : callable, optional
        Jacobian of the model at one member, ``jacobian(u) -> (d, p)``, in unconstrained
        coordinates.

    See Also
    --------
    EKIFlow : The flow without derivatives.
    NaturalGradientFlow : The gradient preconditioned by the Gauss–Newton matrix.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> ek.integrate(problem, ek.GradientFlow(), t_span=(0, 1), n_members=3, rng=0).sizes["member"]
    3
    """

    jacobian: Callable[[np.ndarray], np.ndarray] | None = None
    order = 1

    def __post_init__(self) -> None:
        if self.jacobian is not None:
            check_accepts("jacobian", function("jacobian", self.jacobian), "u")

    def acceleration(self, t: float, u: np.ndarray, out: Output, problem: Any) -> np.ndarray:  # noqa: ARG002
        """du/dt, ``(J, p)``."""
        if self.jacobian is None:
            return np.asarray(-_linear(problem).adjoint(out.gradient))
        rows = zip(u, out.gradient, strict=True)
        return -np.array([self.jacobian(row).T @ gradient for row, gradient in rows])

    def check_problem(self, problem: Any) -> None:
        """Check that the problem meets the needs of the flow, before any model run."""
        if self.jacobian is None:
            _linear(problem)


@dataclass(frozen=True)
class NaturalGradientFlow(GradientFlow):
    r"""Natural gradient flow u̇_j = −F⁻¹∇Φ(u_j), F = DGᵀ Γ⁻¹ DG, for comparison [1]_.

    If F is singular, the least-squares solution is used.

    Parameters
    ----------
    jacobian : callable, optional
        Jacobian of the model at one member, as in `GradientFlow`.

    See Also
    --------
    GradientFlow : The gradient without a preconditioner.
    GNKI : An ensemble method with Gauss–Newton steps, without derivatives.

    References
    ----------
    .. [1] Amari (1998), Neural Computation 10, 251-276.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> flow = ek.NaturalGradientFlow()
    >>> ek.integrate(problem, flow, t_span=(0, 1), n_members=3, rng=0).sizes["member"]
    3
    """

    def acceleration(self, t: float, u: np.ndarray, out: Output, problem: Any) -> np.ndarray:  # noqa: ARG002
        """du/dt, ``(J, p)``."""
        noise, residual = problem.noise, problem.noise.whiten(out.g - problem.data)
        if self.jacobian is None:
            columns = _linear(problem)(np.eye(u.shape[1])).T  # (d, p)
            white = noise.whiten(columns.T).T
            return -np.linalg.lstsq(white, residual.T, rcond=None)[0].T
        slopes = (noise.whiten(self.jacobian(row).T).T for row in u)
        pairs = zip(slopes, residual, strict=True)
        return -np.array([np.linalg.lstsq(s, r, rcond=None)[0] for s, r in pairs])

    def check_problem(self, problem: Any) -> None:
        """Check that the problem meets the needs of the flow, before any model run."""
        super().check_problem(problem)
        check_gaussian(problem.noise, "the natural gradient flow")


@dataclass(frozen=True)
class StochasticEKIFlow:
    r"""The limit h → 0 of EKI with perturbed data, a stochastic differential equation.

    .. math::
        \mathrm d u_j = C^{uw}(u)\, \Gamma^{-1} (y - G(u_j))\, \mathrm d t
        + C^{uw}(u)\, \Gamma^{-1/2}\, \mathrm d W_j,

    with independent d-dimensional Brownian motions W_j and covariances normalised by 1/J [1]_.
    For a linear model, a Gaussian prior and J → ∞ the ensemble at t = 1 is a sample of the
    posterior.

    See Also
    --------
    EKI : The same method in discrete steps, for `run`.
    EKIFlow : The flow without perturbed data.
    EKSFlow : A flow that samples the posterior at large t.

    References
    ----------
    .. [1] Schillings & Stuart (2017), SIAM J. Numer. Anal. 55, 1264-1290.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, 1.0), 1.0, [2.0])
    >>> result = ek.integrate(problem, ek.StochasticEKIFlow(), t_span=(0, 1), n_members=4000,
    ...                       rng=0, step=ek.FixedStep(0.01), t_eval=[1.0])
    >>> u = ek.posterior(result).u0
    >>> round(float(u.mean()), 1), round(float(u.var()), 1)  # exact: 1, 0.5
    (1.0, 0.5)
    """

    order = 1

    def samples_posterior(self, t: float) -> bool:
        """Whether t = 1, the only time at which the ensemble is a sample of the posterior."""
        return math.isclose(t, 1.0, rel_tol=1e-5)

    def acceleration(self, t: float, u: np.ndarray, out: Output, problem: Any) -> np.ndarray:  # noqa: ARG002
        """The drift, ``(J, p)``."""
        return _descent(u, out)

    def increment_shape(self, n_members: int, n_data: int) -> tuple[int, int]:
        """The shape (J, d) of dW."""
        return n_members, n_data

    def diffusion(
        self, u: np.ndarray, out: Output, increment: np.ndarray, problem: Any
    ) -> np.ndarray:
        """The contribution of an increment dW of the Brownian motions, ``(J, p)``."""
        white = problem.noise.whiten(out.g - out.g.mean(axis=0))
        return np.asarray(covariance_product(u, (increment, white)))

    def check_problem(self, problem: Any) -> None:
        """Check that the problem meets the needs of the flow, before any model run."""
        check_gaussian(problem.noise, "EKI with perturbed data")


@dataclass(frozen=True)
class EKSFlow:
    r"""The ensemble Kalman sampler, a flow that samples the posterior at large t.

    .. math::
        \mathrm d u_j = -C^{uw}(u)\, \nabla_z \Psi(G(u_j), y)\, \mathrm d t
        - C(u)\, C_0^{-1} (u_j - m)\, \mathrm d t
        + \tfrac{p + 1}{J} (u_j - \bar u)\, \mathrm d t + \sqrt{2 C(u)}\, \mathrm d W_j,

    with the root √(2/J) Eᵀ of 2C, E = u − ū and J-dimensional Brownian motions W_j [1]_. Ψ is any
    loss, and its likelihood is exp(−Ψ). For a linear model and a Gaussian prior the flow with the
    correction leaves the posterior invariant for every J > p + 1 [2]_. Without the correction the
    time-averaged ensemble covariance is too small by the factor (J − p − 2)/(J − 1). For a
    nonlinear model C^{uw} approximates a derivative, and the ensemble approximates the posterior.

    Parameters
    ----------
    correction : bool, default True
        Whether the term with (p + 1)/J is included. The term is meant for J > p + 1. With fewer
        members it is too large in the subspace that they span.
    scheme : {"leimkuhler-matthews", "euler-maruyama"}, default "leimkuhler-matthews"
        Time-stepping scheme of `integrate`. The default is the linearly implicit scheme of `ALDI`,
        which is stable for every step size if the model is linear: use ``step=NormStep()``, or
        `FixedStep` with h <= 1. The explicit scheme needs small steps, such as ``NormStep(0.1)``.
        Its covariance is too large by a share of about h/2, and it may overflow.

    See Also
    --------
    ALDI : The same sampler for `run`, which drops failed members and resumes.
    TemperedSMC : A sampler that needs no linear approximation.

    References
    ----------
    .. [1] Garbuno-Inigo, Hoffmann, Li & Stuart (2020), SIAM J. Appl. Dyn. Syst. 19, 412-441.
    .. [2] Nüsken & Reich (2019), arXiv:1908.10890.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, 1.0), 1.0, [2.0])
    >>> result = ek.integrate(problem, ek.EKSFlow(), t_span=(0, 6), n_members=500, rng=0,
    ...                       step=ek.FixedStep(0.5), t_eval=[4.0, 5.0, 6.0])
    >>> round(float(result.u.mean()), 1), round(float(result.u.var()), 1)  # exact: 1, 0.5
    (1.0, 0.5)
    """

    correction: bool = True
    scheme: Scheme = "leimkuhler-matthews"
    order = 1
    linear_over: ClassVar[LinearOver] = "last"

    def __post_init__(self) -> None:
        put(
            self,
            correction=flag("correction", self.correction),
            scheme=one_of("scheme", self.scheme, _SCHEMES),
        )

    def samples_posterior(self, t: float) -> bool:  # noqa: ARG002 - the contract's argument
        """True, because the flow leaves the posterior of a linear model invariant."""
        return True

    def acceleration(self, t: float, u: np.ndarray, out: Output, problem: Any) -> np.ndarray:  # noqa: ARG002
        """The drift, ``(J, p)``."""
        drift = _descent(u, out, problem.prior)
        if self.correction:
            drift += (u.shape[1] + 1) / len(u) * (u - u.mean(axis=0))
        return drift

    def increment_shape(self, n_members: int, n_data: int) -> tuple[int, int]:  # noqa: ARG002
        """The shape (J, J) of dW."""
        return n_members, n_members

    def diffusion(
        self,
        u: np.ndarray,
        out: Output,  # noqa: ARG002
        increment: np.ndarray,
        problem: Any,  # noqa: ARG002
    ) -> np.ndarray:
        """The contribution of an increment dW of the Brownian motions, ``(J, p)``."""
        return np.asarray(combine_anomalies(math.sqrt(2 / len(u)) * increment, u))

    def advance(
        self,
        u: np.ndarray,
        out: Output,
        carried: Kick | None,
        h: float,
        length: float,
        problem: Any,
        *,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, Kick]:
        """The ensemble after one step of the scheme of `ALDI`, and the noise of the next step."""
        w = problem.prior.whiten(u)
        fit = local_fit(w, out.gradient, out.g)
        following, kick = langevin_step(
            w, fit, carried, h, rng, correction=self.correction, length=length
        )
        return np.asarray(problem.prior.unwhiten(following)), kick

    def check_problem(self, problem: Any) -> None:
        """Check that the problem meets the needs of the flow, before any model run."""
        _check_whitens(problem.prior)


def _descent(u: np.ndarray, out: Output, prior: Any = None) -> np.ndarray:
    """−C^{uw} ∇_zΨ, and with a prior − C C₀⁻¹(u_j − m), ``(J, p)``."""
    pairs = [(out.gradient, out.g)]
    if prior is not None:  # in whitened coordinates the prior is data w = 0 with unit noise
        white = prior.whiten(u)
        pairs.append((white, white))
    return np.asarray(covariance_product(u, *pairs, factor=-1.0))


def _check_whitens(prior: Any) -> None:
    if not isinstance(prior, Prior):
        raise TypeError(
            "prior: must have a whitening map for a flow that uses the prior as data, got "
            f"{type(prior).__name__}. Use ek.GaussianPrior or ek.Prior, or tikhonov=False."
        )


def _linear(problem: Any) -> LinearOperatorModel:
    if not isinstance(problem.model, LinearOperatorModel):
        raise TypeError(
            f"jacobian: must be given for a model that is not an ek.LinearModel, got "
            f"{problem.model!r}. Pass jacobian=, or use ek.EKIFlow()."
        )
    return problem.model
