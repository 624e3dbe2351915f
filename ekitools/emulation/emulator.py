"""An emulator of a model: regressions of its whitened outputs, and `emulate`, which makes it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from ekitools.core.arrays import as_rng
from ekitools.core.checks import integer
from ekitools.emulation.components import Components, EmulatedLoss, principal_components
from ekitools.emulation.regression import checked_regressor, held_out, predicted
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
from ekitools.typing import Regressor, Rng, ScaledNoise

__all__ = ["Emulated", "Emulator", "emulate", "fitted"]

_NEGLIGIBLE = 0.05
"""Error of a component, in standard deviations of the noise, that does not matter."""

_UNKNOWN = 0.5
"""Standard deviation of a prediction, in those of the outputs over the runs, above which the
emulator knows too little."""

_WIDER = 2.0
"""Standard deviations of the start of a sampler, in those of the runs near the posterior."""

_FAR, _MOST = 3.0, 0.05
"""Held-out z-scores beyond which a prediction is wrong, and the share that may be."""


@dataclass(frozen=True, eq=False)
class Emulated:
    """The outputs of an emulator at an ensemble: a vectorized model.

    Parameters
    ----------
    emulator : Emulator
        What predicts.
    factor : (k,)
        Of the standard deviations.
    """

    emulator: Emulator
    factor: np.ndarray

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """``(n, p + B)`` physical parameters to ``(n, 2k + B)`` outputs."""
        w = whitened(u, self.emulator.problem)
        with np.errstate(all="ignore"):  # at a bound of the prior
            log_s = np.log(u[:, w.shape[1] :])
        inside = np.isfinite(w).all(axis=1)
        mean, sd = self.emulator.components_at(np.where(inside[:, None], w, 0.0))
        mean[~inside | self.emulator.unknown(sd, _UNKNOWN)] = np.nan
        return np.concatenate([mean, sd * self.factor, log_s], axis=1)


@dataclass(frozen=True, eq=False)
class Emulator:
    """A cheap stand-in for a model, with the variance of what it predicts; made by `emulate`."""

    problem: InverseProblem
    regressor: Regressor = field(repr=False)
    runs: Runs = field(repr=False)
    points: np.ndarray = field(repr=False)
    """Rows of the runs that the emulator learned from."""
    near: np.ndarray = field(repr=False)
    """Rows of those among them that are near the posterior."""
    region: Gaussian = field(repr=False)
    """Where the posterior is about, in coordinates in which the prior is N(0, I)."""
    components: Components = field(repr=False)
    reference: np.ndarray = field(repr=False)
    """Scales of the noise by which the components are measured, ``(B,)``."""
    regressors: tuple[Regressor, ...] = field(repr=False)
    spread: float = field(repr=False)
    """Root of the total variance of the components over the points."""
    scatter: np.ndarray = field(repr=False)
    """Least variance of a prediction at the points, that of a stochastic model; otherwise zero,
    ``(k,)``."""
    z_scores: np.ndarray = field(repr=False)
    """Errors of held-out predictions in their standard deviations, ``(n_points, k)``."""
    most_points: int = field(repr=False)
    """Most runs that an emulator of more runs is to learn from."""

    def __repr__(self) -> str:
        return (
            f"Emulator(n_runs={self.n_runs}, n_points={self.n_points}, "
            f"n_components={self.n_components}, trusted={self.trusted})"
        )

    @property
    def n_runs(self) -> int:
        """Different runs that are known."""
        return len(self.runs.u)

    @property
    def n_points(self) -> int:
        """Runs that the emulator learned from."""
        return len(self.points)

    @property
    def n_components(self) -> int:
        """Principal components of the whitened outputs."""
        return len(self.components.basis)

    @property
    def rest(self) -> float:
        """Root mean square of what the components leave, in standard deviations of the noise."""
        return self.components.rest

    @property
    def share_wrong(self) -> float:
        """Share of the held-out z-scores that are beyond 3."""
        return float(np.mean(np.abs(self.z_scores) > _FAR))

    @property
    def trusted(self) -> bool:
        """Whether at most 5 % of the z-scores are beyond 3."""
        return self.share_wrong <= _MOST

    def predict(self, u: Any) -> tuple[np.ndarray, np.ndarray]:
        """Outputs that the emulator predicts, and the standard deviations of these predictions.

        Parameters
        ----------
        u : (p,) or (n, p)
            Parameters of the model in physical coordinates, without scales of the noise.

        Returns
        -------
        (n, d), (n, d)
            Means and standard deviations, in the units of the data.
        """
        u = np.atleast_2d(check_points(u, self.runs.u.shape[1])).astype(np.float64)
        scales = np.ones((len(u), self.problem.n_scales))  # any will do
        mean, sd = self.components_at(whitened(np.concatenate([u, scales], axis=1), self.problem))
        centre, slopes = self._outputs
        return centre + mean @ slopes, np.sqrt(sd**2 @ slopes**2)

    def as_problem(self) -> InverseProblem:
        """The problem with the emulator in place of the model, and its variance in the likelihood.

        `TemperedSMC` samples it without a model run. The outputs are the means and standard
        deviations of the components. The sample is that of the emulator, which `sample_emulated`
        corrects by true runs.

        Raises
        ------
        ValueError
            If more than 5 % of the held-out z-scores are beyond 3.
        """
        if not self.trusted:
            raise ValueError(
                f"emulator: must predict held-out runs within 3 of its standard deviations in "
                f"{100 * (1 - _MOST):g} % of the cases to be sampled alone, got "
                f"{100 * (1 - self.share_wrong):.3g} %. Give more runs, or use "
                "ek.sample_emulated(emulator), which checks by true runs."
            )
        return self.problem_with(np.ones(self.n_components))

    @property
    def start(self) -> GaussianStart:
        """A Gaussian about the runs that fit the data best, wider by 2, to sample from."""
        region, n_scales = self.region, self.problem.n_scales
        mean = np.append(region.mean, np.zeros(n_scales))
        basis = np.pad(region.basis, [(0, 0), (0, n_scales)])
        return GaussianStart(
            tuple(mean.tolist()),
            tuple(tuple(row) for row in basis.tolist()),
            tuple((_WIDER * region.sd).tolist()),
            prior_share=0,  # far from its runs an emulator knows nothing of modes
        )

    @cached_property
    def inflation(self) -> np.ndarray:
        """Factors of the standard deviations by which held-out predictions are right, ``(k,)``."""
        return np.maximum(np.quantile(np.abs(self.z_scores), 0.95, axis=0) / 2, 1.0)

    @cached_property
    def _outputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean of the outputs and their slopes on the components, by least squares."""
        known = self.runs.rows(self.near)
        z = self.components.scores(measured(known.r, self.reference, self.problem))
        centre = known.g.mean(axis=0)
        slopes = np.linalg.lstsq(z - z.mean(axis=0), known.g - centre, rcond=None)[0]
        return centre - z.mean(axis=0) @ slopes, slopes

    def unknown(self, sd: np.ndarray, limit: float) -> np.ndarray:
        """Whether predictions have more than this share of the spread of the outputs, ``(n,)``."""
        own = np.sum(self.scatter)
        of_model = np.sum(sd**2, axis=1) - own  # what more runs would lower
        return np.asarray(of_model > limit**2 * (self.spread**2 - own))

    def at_edge(self, u: np.ndarray) -> np.ndarray:
        """Whether physical points ``(n, p + B)`` are at the edge of what the emulator knows."""
        return self.unknown(self.components_at(whitened(u, self.problem))[1], 0.5 * _UNKNOWN)

    def components_at(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations ``(n, k)`` of the components at whitened ``(n, p)``."""
        x = self.region.whiten(w)
        found = [predicted(each, x) for each in self.regressors]
        mean, sd = (np.stack(each, axis=1) for each in zip(*found, strict=True))
        return mean, sd

    def problem_with(self, factor: np.ndarray) -> InverseProblem:
        """The problem of the emulator with its standard deviations times ``factor``."""
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
    regressor: Regressor | None = None,
    *,
    n_points: int = 600,
    rng: Rng = 0,
) -> Emulator:
    r"""Learn a cheap stand-in for the model from the runs that were made already [1]_.

    The outputs are whitened by the noise and reduced to principal components that keep 99.9 % of
    their variance, and all but 0.3 standard deviations of the noise. A regressor predicts each
    component from the parameters, with a variance. The parameters are whitened by the prior, and
    then by the Gaussian of the runs that fit the data best.

    Parameters
    ----------
    results : xarray.Dataset, or a sequence of them
        What `run` returned for this problem, with ``store="all"``: the runs of all iterations are
        used, for a last ensemble that has collapsed says nothing of its surroundings.
    problem : InverseProblem
        With Gaussian noise, whose scales may be unknown (`UnknownNoise`).
    regressor : Regressor, optional
        An object with ``fit(X, y)`` and ``predict(X, return_std=True)``. It is copied for every
        component. By default Gaussian processes of scikit-learn
        (``pip install "ekitools[sklearn]"``), with noise of their own for a stochastic model.
    n_points : int, default 600
        Most runs that the regressors learn from, those near the posterior.
    rng : None, int or numpy.random.Generator, default 0
        Chooses these, and the folds of held-out runs.

    Returns
    -------
    Emulator
        What `sample_emulated` takes. It has

        ``predict(u)``
            Means and standard deviations ``(n, d)`` of the outputs at parameters ``(n, p)``.
        ``z_scores``, ``trusted``
            Errors of held-out predictions in their standard deviations, over five folds, and
            whether at most 5 % of them are beyond 3. An error of 0.05 standard deviations of the
            noise counts as none.
        ``as_problem()``
            The problem with the emulator in place of the model and its variance in the likelihood,
            for ``TemperedSMC(start=emulator.start)``. An emulator that is not trusted refuses.
        ``n_runs``, ``n_points``, ``n_components``, ``rest``
            The different runs, those that it learned from, the components, and the root mean square
            of the rest of the outputs, in standard deviations of the noise.

    Raises
    ------
    ImportError
        If scikit-learn is not installed and no regressor is given.
    TypeError, ValueError
        If a result is of another problem, there are fewer than 2 p + 10 different runs, or the
        noise is a loss.

    See Also
    --------
    sample_emulated : Samples the posterior by way of the emulator, and checks it by true runs.
    TemperedSMC : Samples without an emulator, with more runs.

    Notes
    -----
    Equal runs count once, except for a stochastic model. There the regressors learn the variance of
    the outputs too, and the likelihood of ``as_problem()`` contains it: the noise of ``problem``
    must be that of the observations alone, whatever noise the results were made with. Runs far from
    the posterior are a third of the points at most, and the misfits of wild ones enter as their
    logarithms.

    An emulator knows the surroundings of its runs. Where its standard deviation is more than half
    of the spread of the outputs over the runs, the likelihood counts as zero: a mode that no run
    was near is not found.

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
    n_points = integer("n_points", n_points, least=20)
    generator = as_rng(rng)
    runs = gathered(results, problem)
    p = runs.u.shape[1]
    if len(runs.u) < 2 * p + 10:
        raise ValueError(
            f"results: must have at least 2 p + 10 = {2 * p + 10} different runs, got "
            f'{len(runs.u)}. Run with store="all" and more members.'
        )
    chosen = checked_regressor(regressor, noisy=problem.info.stochastic)
    return fitted(problem, runs, chosen, n_points, 0, generator)


def fitted(
    problem: InverseProblem,
    runs: Runs,
    regressor: Regressor,
    n_points: int,
    n_fresh: int,
    rng: np.random.Generator,
) -> Emulator:
    """An emulator of the runs, the last ``n_fresh`` of which it learns from in any case."""
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
    regressors, scores, scatter = [], [], np.zeros(z.shape[1])
    for k in range(z.shape[1]):
        each = copy.deepcopy(regressor)
        each.fit(x, z[:, k])
        mean, sd = held_out(each, x, z[:, k], rng)
        if problem.info.stochastic:
            scatter[k] = np.min(sd) ** 2
        regressors.append(each)
        scores.append((z[:, k] - mean) / np.sqrt(sd**2 + _NEGLIGIBLE**2))
    return Emulator(
        problem=problem,
        regressor=regressor,
        runs=runs,
        points=points,
        near=points[near],
        region=region,
        components=components,
        reference=reference,
        regressors=tuple(regressors),
        spread=float(np.sqrt(np.sum(z.var(axis=0)))),
        scatter=np.minimum(scatter, z.var(axis=0)),
        z_scores=np.stack(scores, axis=1),
        most_points=n_points,
    )


def groups_of(problem: InverseProblem) -> np.ndarray:
    """The scale of every datum, ``(d,)``; −1 where it is known."""
    noise = problem.noise
    if isinstance(noise, ScaledNoise):
        return np.asarray(noise.groups)
    return np.full(problem.n_data, -1)


def measured(r: np.ndarray, reference: np.ndarray, problem: InverseProblem) -> np.ndarray:
    """Residuals in standard deviations of the noise at the reference scales."""
    return np.asarray(r / np.append(reference, 1.0)[groups_of(problem)])
