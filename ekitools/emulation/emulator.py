"""Emulators of models: regressions of whitened outputs on parameters, made by `emulate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from ekitools.core.arrays import as_rng
from ekitools.core.checks import integer
from ekitools.emulation.components import Components, EmulatedLoss, principal_components
from ekitools.emulation.regression import Predictor, checked_regressor, learned
from ekitools.emulation.runs import (
    Runs,
    best_scales,
    checked_problem,
    gathered,
    near_posterior,
    nearby_means,
    whitened,
)
from ekitools.methods.gaussian import Gaussian, GaussianStart, fit_gaussian
from ekitools.models.plain import FunctionModel
from ekitools.priors.base import check_points
from ekitools.problem import InverseProblem
from ekitools.typing import JointRegressor, Regressor, Rng, ScaledNoise

__all__ = ["Emulated", "Emulator", "emulate", "fitted"]

_NEGLIGIBLE = 0.05
"""Negligible error of a component, in standard deviations of the noise."""

_UNKNOWN = 0.5
"""Largest usable standard deviation of a prediction, as a share of the standard deviation of the
outputs over the runs."""

_WIDER = 2.0
"""Factor from the standard deviations of runs near the posterior to those of a sampler's start."""

_SEPARATE, _TOGETHER = 600, 5000
"""Largest number of runs to learn from, for regressors of one and of all components."""

_FAR, _MOST = 3.0, 0.05
"""Largest held-out z-score of a right prediction, and the largest share of wrong predictions."""


@dataclass(frozen=True, eq=False)
class Emulated:
    """The outputs of an emulator at an ensemble: a vectorized model.

    Parameters
    ----------
    emulator : Emulator
        Predicts the outputs.
    factor : (k,)
        Factors of the standard deviations.
    """

    emulator: Emulator
    factor: np.ndarray

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """Outputs ``(n, 2k + B)`` at physical parameters ``(n, p + B)``."""
        w = whitened(u, self.emulator.problem)
        with np.errstate(all="ignore"):  # points at a bound of the prior are infinite
            log_s = np.log(u[:, w.shape[1] :])
        inside = np.isfinite(w).all(axis=1)
        mean, sd = self.emulator.components_at(np.where(inside[:, None], w, 0.0))
        mean[~inside | self.emulator.unknown(sd, _UNKNOWN)] = np.nan
        return np.concatenate([mean, sd * self.factor, log_s], axis=1)


@dataclass(frozen=True, eq=False)
class Emulator:
    """A cheap approximation of a model that also predicts its own variance; made by `emulate`."""

    problem: InverseProblem
    regressor: Regressor | JointRegressor = field(repr=False)
    runs: Runs = field(repr=False)
    points: np.ndarray = field(repr=False)
    """Rows of the runs that the emulator learned from."""
    near: np.ndarray = field(repr=False)
    """Rows of the learned runs that are near the posterior."""
    region: Gaussian = field(repr=False)
    """A Gaussian near the posterior, in coordinates in which the prior is N(0, I)."""
    components: Components = field(repr=False)
    reference: np.ndarray = field(repr=False)
    """Scales of the noise that whiten the components, ``(B,)``."""
    predictor: Predictor = field(repr=False)
    spread: float = field(repr=False)
    """Square root of the total variance of the components over the points."""
    scatter: np.ndarray = field(repr=False)
    """Smallest variance of a prediction at the points, which is the variance of a stochastic model.
    Zero for a deterministic model, ``(k,)``."""
    z_scores: np.ndarray = field(repr=False)
    """Errors of held-out predictions, in predicted standard deviations, ``(n_points, k)``."""
    most_points: int = field(repr=False)
    """Largest number of runs that an emulator learns from."""

    def __repr__(self) -> str:
        return (
            f"Emulator(n_runs={self.n_runs}, n_points={self.n_points}, "
            f"n_components={self.n_components}, trusted={self.trusted})"
        )

    @property
    def n_runs(self) -> int:
        """Number of different runs."""
        return len(self.runs.u)

    @property
    def n_points(self) -> int:
        """Number of runs that the emulator learned from."""
        return len(self.points)

    @property
    def n_components(self) -> int:
        """Number of principal components of the whitened outputs."""
        return len(self.components.basis)

    @property
    def rest(self) -> float:
        """Root mean square of the residual outside the components, in noise standard deviations."""
        return self.components.rest

    @property
    def share_wrong(self) -> float:
        """Share of held-out z-scores beyond 3."""
        return float(np.mean(np.abs(self.z_scores) > _FAR))

    @property
    def trusted(self) -> bool:
        """Whether at most 5 % of the held-out z-scores are beyond 3."""
        return self.share_wrong <= _MOST

    def predict(self, u: Any) -> tuple[np.ndarray, np.ndarray]:
        """Predicted outputs and their standard deviations.

        Parameters
        ----------
        u : (p,) or (n, p)
            Physical parameters of the model, without scales of the noise.

        Returns
        -------
        (n, d), (n, d)
            Means and standard deviations, in the units of the data.
        """
        u = np.atleast_2d(check_points(u, self.runs.u.shape[1])).astype(np.float64)
        scales = np.ones((len(u), self.problem.n_scales))  # do not change the outputs
        mean, sd = self.components_at(whitened(np.concatenate([u, scales], axis=1), self.problem))
        centre, slopes = self._outputs
        return centre + mean @ slopes, np.sqrt(sd**2 @ slopes**2)

    def as_problem(self) -> InverseProblem:
        """The problem with the emulator in place of the model and its variance in the likelihood.

        `TemperedSMC` samples this problem without a model run. The outputs of the problem are the
        means and standard deviations of the components. The sample has the emulator's error;
        `sample_emulated` corrects it by model runs.

        Raises
        ------
        ValueError
            If more than 5 % of the held-out z-scores are beyond 3.
        """
        if not self.trusted:
            raise ValueError(
                f"emulator: must have at least {100 * (1 - _MOST):g} % of its held-out z-scores "
                "within 3 to be sampled without model runs, got "
                f"{100 * (1 - self.share_wrong):.3g} %. Pass more runs to ek.emulate, or use "
                "ek.sample_emulated(emulator), which checks by model runs."
            )
        return self.problem_with(np.ones(self.n_components))

    @property
    def start(self) -> GaussianStart:
        """A start for `TemperedSMC`: the Gaussian of the runs that fit best, twice as wide."""
        region, n_scales = self.region, self.problem.n_scales
        mean = np.append(region.mean, np.zeros(n_scales))
        basis = np.pad(region.basis, [(0, 0), (0, n_scales)])
        return GaussianStart(
            tuple(mean.tolist()),
            tuple(tuple(row) for row in basis.tolist()),
            tuple((_WIDER * region.sd).tolist()),
            prior_share=0,  # an emulator is not valid far from its runs
        )

    @cached_property
    def inflation(self) -> np.ndarray:
        """Factors that calibrate the standard deviations of held-out predictions, ``(k,)``."""
        return np.maximum(np.quantile(np.abs(self.z_scores), 0.95, axis=0) / 2, 1.0)

    @cached_property
    def _outputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Intercepts of the outputs, and least-squares slopes on the components."""
        known = self.runs.rows(self.near)
        z = self.components.scores(measured(known.r, self.reference, self.problem))
        centre = known.g.mean(axis=0)
        slopes = np.linalg.lstsq(z - z.mean(axis=0), known.g - centre, rcond=None)[0]
        return centre - z.mean(axis=0) @ slopes, slopes

    def unknown(self, sd: np.ndarray, limit: float) -> np.ndarray:
        """Whether standard deviations exceed a share of the outputs' spread, ``(n,)``."""
        own = np.sum(self.scatter)
        of_model = np.sum(sd**2, axis=1) - own  # the part that more runs would reduce
        return np.asarray(of_model > limit**2 * (self.spread**2 - own))

    def at_edge(self, u: np.ndarray) -> np.ndarray:
        """Whether physical points ``(n, p + B)`` are at the edge of the emulator's valid region."""
        return self.unknown(self.components_at(whitened(u, self.problem))[1], 0.5 * _UNKNOWN)

    def components_at(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations ``(n, k)`` of components at whitened points ``(n, p)``."""
        return self.predictor.predict_components(self.region.whiten(w))

    def problem_with(self, factor: np.ndarray) -> InverseProblem:
        """The emulator's problem with standard deviations multiplied by ``factor``."""
        problem = self.problem
        sizes = np.array([np.sum(groups_of(problem) == b) for b in range(problem.n_scales)])
        loss = EmulatedLoss(self.components, self.reference, sizes)
        return InverseProblem(
            FunctionModel(Emulated(self, factor), vectorized=True),
            problem.prior,
            loss,
            np.zeros(2 * self.n_components + problem.n_scales),
            parameter_names=problem.parameter_names,
        )


def emulate(
    results: xr.Dataset | Sequence[xr.Dataset],
    problem: InverseProblem,
    regressor: Regressor | JointRegressor | None = None,
    *,
    n_points: int | None = None,
    rng: Rng = 0,
) -> Emulator:
    r"""Learn a cheap approximation of the model from existing runs [1]_.

    The outputs are whitened by the noise and reduced to principal components. These keep 99.9 %
    of the variance and leave a residual of at most 0.3 standard deviations of the noise. A
    regressor predicts each component and its variance from the parameters. The parameters are
    whitened by the prior, and then by the Gaussian of the runs that fit the data best.

    Parameters
    ----------
    results : xarray.Dataset, or a sequence of them
        Results of `run` for this problem, with ``store="all"``. The emulator uses the runs of all
        iterations, because a collapsed last ensemble has no information about its surroundings.
    problem : InverseProblem
        A problem with Gaussian noise. The scales of the noise may be unknown (`UnknownNoise`).
    regressor : Regressor or JointRegressor, optional
        An object with ``fit(X, y)`` and ``predict(X, return_std=True)``, which is copied for every
        component, or a regressor of all components such as `QuadraticRegressor`. The default for
        up to 12 parameters is a Gaussian process of scikit-learn
        (``pip install "ekitools[sklearn]"``), which estimates noise if the model is stochastic. The
        default for more parameters is `QuadraticRegressor`.
    n_points : int, optional
        Largest number of runs that the regressors learn from. Runs near the posterior are
        preferred. The default is 600, and 5000 for a regressor of all components.
    rng : None, int or numpy.random.Generator, default 0
        Chooses these runs and the folds of held-out runs.

    Returns
    -------
    Emulator
        An emulator for `sample_emulated`. Its attributes are

        ``predict(u)``
            Means and standard deviations ``(n, d)`` of the outputs at parameters ``(n, p)``.
        ``z_scores``, ``trusted``
            Errors of held-out predictions over five folds, in predicted standard deviations, and
            whether at most 5 % of them are beyond 3. Errors of 0.05 standard deviations of the
            noise are negligible.
        ``as_problem()``
            The problem with the emulator in place of the model and its variance in the likelihood,
            for ``TemperedSMC(start=emulator.start)``. Raises an error if the emulator is not
            trusted.
        ``n_runs``, ``n_points``, ``n_components``, ``rest``
            Numbers of different runs, of runs learned from and of components, and the root mean
            square of the residual outside the components, in standard deviations of the noise.

    Raises
    ------
    ImportError
        If scikit-learn is not installed and the default is a Gaussian process.
    TypeError, ValueError
        If a result belongs to another problem, there are fewer than 2 p + 10 different runs, or
        the problem has a loss in place of Gaussian noise.

    See Also
    --------
    sample_emulated : Samples the posterior with the emulator and checks the sample by model runs.
    QuadraticRegressor : The default regressor for more than 12 parameters.
    TemperedSMC : Samples without an emulator, with more runs.

    Notes
    -----
    Equal runs of a deterministic model count once. For a stochastic model the regressors also learn
    the variance of the outputs, and the likelihood of ``as_problem()`` contains this variance. The
    noise of ``problem`` must then be the noise of the observations alone, even if the results were
    made with other noise. Runs far from the posterior are at most a third of the points, and the
    lengths of very large residuals enter as logarithms.

    An emulator is valid near its runs. The likelihood is zero where the standard deviation of the
    emulator exceeds half of the spread of the outputs over the runs. A mode far from all runs is
    therefore missed.

    References
    ----------
    .. [1] Cleary, Garbuno-Inigo, Lan, Schneider & Stuart (2021), J. Comput. Phys. 424, 109716.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> result = ek.run(problem, ek.EKI(), n_members=50, rng=0)
    >>> emulator = ek.emulate(result, problem)
    >>> emulator
    Emulator(n_runs=150, n_points=150, n_components=2, trusted=True)
    >>> u = result.u[-1].values[:2]
    >>> mean, sd = emulator.predict(u)
    >>> bool(abs(mean - problem.model(u)).max() < 0.01)
    True
    """
    checked_problem(problem)
    n_points = None if n_points is None else integer("n_points", n_points, least=20)
    generator = as_rng(rng)
    runs = gathered(results, problem)
    p = runs.u.shape[1]
    if len(runs.u) < 2 * p + 10:
        raise ValueError(
            f"results: must have at least 2 p + 10 = {2 * p + 10} different runs, got "
            f'{len(runs.u)}. Run with store="all" and more members.'
        )
    chosen = checked_regressor(regressor, p, noisy=problem.info.stochastic)
    if n_points is None:
        n_points = _TOGETHER if isinstance(chosen, JointRegressor) else _SEPARATE
    return fitted(problem, runs, chosen, n_points, 0, generator)


def fitted(
    problem: InverseProblem,
    runs: Runs,
    regressor: Regressor | JointRegressor,
    n_points: int,
    n_fresh: int,
    rng: np.random.Generator,
) -> Emulator:
    """An emulator of the runs; the last ``n_fresh`` runs are always among its points."""
    reference = best_scales(runs.r, problem)
    r = measured(runs.r, reference, problem)
    expected = nearby_means(r, runs.w) if problem.info.stochastic else r
    misfit = 0.5 * np.sum(expected * expected, axis=1)
    chosen = near_posterior(misfit, n_points, runs.u.shape[1], n_fresh, rng)
    points, near = chosen.rows, chosen.near
    components = principal_components(r[points][near], groups_of(problem), problem.n_scales)
    radius = float(np.max(np.linalg.norm(r[points][near], axis=1)))
    region = fit_gaussian(runs.w[points], chosen.weight)
    x, z = region.whiten(runs.w[points]), components.bounded_scores(r[points], radius)
    predictor, mean, sd = learned(regressor, x, z, rng)
    scatter = np.min(sd, axis=0) ** 2 if problem.info.stochastic else np.zeros(z.shape[1])
    return Emulator(
        problem=problem,
        regressor=regressor,
        runs=runs,
        points=points,
        near=points[near],
        region=region,
        components=components,
        reference=reference,
        predictor=predictor,
        spread=float(np.sqrt(np.sum(z.var(axis=0)))),
        scatter=np.minimum(scatter, z.var(axis=0)),
        z_scores=(z - mean) / np.sqrt(sd**2 + _NEGLIGIBLE**2),
        most_points=n_points,
    )


def groups_of(problem: InverseProblem) -> np.ndarray:
    """Index of the unknown scale of every component of the data, ``(d,)``; −1 for a known scale."""
    noise = problem.noise
    if isinstance(noise, ScaledNoise):
        return np.asarray(noise.groups)
    return np.full(problem.n_data, -1)


def measured(r: np.ndarray, reference: np.ndarray, problem: InverseProblem) -> np.ndarray:
    """Residuals, in standard deviations of the noise at the reference scales."""
    return np.asarray(r / np.append(reference, 1.0)[groups_of(problem)])
