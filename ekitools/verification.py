"""The linear theorems, measured: a table with one row a statement."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ekitools.continuous import integrate
from ekitools.diagnostics import diagnose, fit_rate
from ekitools.evaluate import evaluate
from ekitools.flows import EKIFlow, NesterovFlow, Output
from ekitools.linalg import kalman_update
from ekitools.loop import run
from ekitools.methods.eki import EKI
from ekitools.models import LinearModel
from ekitools.priors import GaussianPrior
from ekitools.problem import InverseProblem
from ekitools.problems import Example, linear
from ekitools.schedules import FixedStep
from ekitools.theory import covariance_flow, linear_flow, spectrum

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Report", "Row", "check_linear_theory", "verify"]

_SCHILLINGS = "Schillings & Stuart (2017)"
_SLIDES = "Kovachki & Stuart (2019)"


class Row(NamedTuple):
    """One statement and what was measured of it."""

    statement: str
    source: str
    predicted: str
    measured: str
    passed: bool


@dataclass(frozen=True)
class Report:
    """Statements with their verdicts; ``print`` shows the table.

    Parameters
    ----------
    table : tuple of Row
        One row a statement.
    """

    table: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.table)

    def to_json(self) -> str:
        """The table as a JSON list of objects."""
        return json.dumps([row._asdict() for row in self.table], indent=1)

    def __str__(self) -> str:
        cells = [("statement", "source", "predicted", "measured", "verdict")]
        cells += [(*row[:4], "holds" if row.passed else "FAILS") for row in self.table]
        widths = [max(len(row[i]) for row in cells) for i in range(5)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def check_linear_theory(result: xr.Dataset, problem: InverseProblem) -> Report:
    r"""Check a noise-free ensemble flow of a linear model against its theorems.

    With r_j = u_j − u†, and y for A u†: the ensemble collapses at the rate t⁻¹ in the square,
    ‖A r_∥‖ decays as t^{-1/2} (its square as t⁻¹, which is the rate the slides state) and
    A r_⊥ neither changes nor differs between members [1]_; members stay in the affine span of
    the initial ensemble; covariance and members are those of the closed form.

    Parameters
    ----------
    result : xarray.Dataset
        From `ekitools.integrate` with `EKIFlow`, with several times late enough for the rates:
        t λ ≥ 10 for the smallest eigenvalue λ > 0 of the initial output covariance.
    problem : InverseProblem
        What was solved.

    Returns
    -------
    Report
        With ``passed``, ``table`` and a text form. A model that is not a `LinearModel`, added
        noise or another rate make rows fail.

    Raises
    ------
    ValueError
        If the result has fewer than three times that are late enough.

    References
    ----------
    .. [1] Schillings & Stuart (2017), SIAM J. Numer. Anal. 55, 1264-1290.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=3, d=5).problem
    >>> times = [0.0, *np.geomspace(1, 1e5, 11)]
    >>> result = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 1e5), n_members=8, rng=0,
    ...                       t_eval=times, method="LSODA", rtol=1e-10, atol=1e-12)
    >>> ek.theory.check_linear_theory(result, problem).passed
    True
    """
    model = problem.model
    u, t = result.u.values, result.t.values
    start = u[0]
    if isinstance(model, LinearModel):
        linearised = problem
    else:  # what the theorems would say of its regression on the first ensemble
        slope, offset = _regression(problem, start)
        linearised = InverseProblem(
            LinearModel(slope), problem.prior, problem.noise, problem.data - offset
        )
    values = spectrum(start, linearised.model, problem.noise)
    late = 10 / values.min()
    if np.sum(t >= late) < 3:
        raise ValueError(
            f"result: must have at least three times t >= {late:.3g}, where the rates show, got "
            f"{int(np.sum(t >= late))}. Integrate longer, with t_eval."
        )
    d = diagnose(result.assign(y=("data", linearised.data)), linearised)
    exact = linear_flow(start, linearised.model, linearised.data, problem.noise, t)
    covariance = covariance_flow(start, linearised.model, problem.noise, t)
    anomalies = u - u.mean(axis=1, keepdims=True)
    found = anomalies.transpose(0, 2, 1) @ anomalies / u.shape[1]
    scale = float(d.residual_parallel[0] + d.residual_perpendicular[0])
    whole = 2 * problem.noise.misfit(result.g.values - problem.data, 0 * problem.data).mean(axis=1)
    parts = d.residual_parallel.values**2 + d.residual_perpendicular.values**2
    rows = [
        _rate("ensemble collapse |A e|^2", _SCHILLINGS, t, d.output_collapse.values, -1.0, late),
        _rate("|A r_par|", _SCHILLINGS, t, d.residual_parallel.values, -0.5, late),
        _rate("|A r_par|^2", _SLIDES, t, d.residual_parallel.values**2, -1.0, late),
        _small(
            "A r_perp constant, equal for all members",
            _SCHILLINGS,
            float(np.max(d.residual_perpendicular_drift)) / scale,
            1e-6,
        ),
        _small(
            "|A r|^2 = |A r_par|^2 + |A r_perp|^2",
            _SCHILLINGS,
            float(np.max(np.abs(whole - parts)) / whole[0]),
            1e-8,
        ),
        _small("subspace property", "Iglesias, Law & Stuart (2013)", _outside(u), 1e-6),
        _small(
            "dC/dt = -2 C M C, in closed form",
            _SCHILLINGS,
            float(np.max(np.abs(found - covariance)) / np.max(np.abs(covariance[0]))),
            1e-6,
        ),
        _small(
            "members as in the closed form",
            _SCHILLINGS,
            float(np.max(np.abs(u - exact)) / np.max(np.abs(exact))),
            1e-6,
        ),
        _small("velocity = -C grad Phi", _SLIDES, _natural(problem, start), 1e-7),
    ]
    return Report(tuple(rows))


def verify(*, rng: int = 0) -> Report:
    """Measure the theorems on standard problems; what ``ekitools verify`` prints.

    Parameters
    ----------
    rng : int, default 0
        Seed of the problems and ensembles.

    Returns
    -------
    Report
        The rows of `check_linear_theory` for a linear problem, then those that need runs of
        their own.

    Examples
    --------
    >>> from ekitools.verification import verify
    >>> verify().passed
    True
    """
    example = linear(p=4, d=6, rng=rng)
    problem = example.problem
    times = [0.0, *np.geomspace(1e-1, 1e5, 25)]
    result = integrate(
        problem,
        EKIFlow(),
        t_span=(0, 1e5),
        n_members=10,
        rng=rng,
        t_eval=times,
        method="LSODA",
        rtol=1e-10,
        atol=1e-12,
    )
    rows = [
        *check_linear_theory(result, problem).table,
        _discrete_to_flow(problem, rng),
        *_posterior(example, rng),
        _affine(rng),
        _nesterov(rng),
    ]
    return Report(tuple(rows))


def _rate(
    statement: str, source: str, t: np.ndarray, value: np.ndarray, exponent: float, late: float
) -> Row:
    fit = fit_rate(t, value, t_min=late)
    interval = 2 * fit.standard_error
    passed = abs(fit.exponent - exponent) < max(0.03, interval) and interval < 0.1
    measured = f"t^({fit.exponent:.3f} ± {interval:.1g})"
    return Row(statement, source, f"t^({exponent:g})", measured, bool(passed))


def _small(statement: str, source: str, value: float, tolerance: float) -> Row:
    return Row(statement, source, f"error < {tolerance:g}", f"{value:.2g}", value < tolerance)


def _regression(problem: InverseProblem, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope ``(d, p)`` and offset ``(d,)`` of G on u over the ensemble."""
    g = _outputs(problem, u)
    mean = u.mean(axis=0)
    slope = np.linalg.lstsq(u - mean, g - g.mean(axis=0), rcond=None)[0].T
    return slope, g.mean(axis=0) - slope @ mean


def _outputs(problem: InverseProblem, u: np.ndarray) -> np.ndarray:
    return np.asarray(evaluate(problem.model, u, problem.n_data).g)


def _outside(u: np.ndarray) -> float:
    """How far the ensembles come out of the affine span of the first one, relatively."""
    mean = u[0].mean(axis=0)
    _, s, rows = np.linalg.svd(u[0] - mean, full_matrices=False)
    basis = rows[s > 1e-10 * s[0]]
    move = u - mean
    return float(np.max(np.abs(move - move @ basis.T @ basis)) / np.max(np.abs(move)))


def _natural(problem: InverseProblem, u: np.ndarray) -> float:
    """How far the velocity is from −C ∇Φ(u_j), with ∇Φ by central differences of G."""
    g = _outputs(problem, u)
    out = Output(g, problem.noise.gradient(g, problem.data))
    velocity = EKIFlow().acceleration(0.0, u, out, problem)
    gradient = np.empty_like(u)
    for i, h in enumerate(1e-5 * np.maximum(np.abs(u).max(axis=0), 1)):
        shift = h * np.eye(u.shape[1])[i]
        slope = (_outputs(problem, u + shift) - _outputs(problem, u - shift)) / (2 * h)
        gradient[:, i] = np.sum(slope * out.gradient, axis=1)
    anomalies = u - u.mean(axis=0)
    natural = -gradient @ (anomalies.T @ anomalies / len(u))
    return float(np.max(np.abs(velocity - natural)) / np.max(np.abs(natural)))


def _discrete_to_flow(problem: InverseProblem, seed: int) -> Row:
    start = problem.prior.sample(6, rng=seed)
    flow = linear_flow(start, problem.model, problem.data, problem.noise, 6 / 5)[0]
    errors = []
    for h in (0.02, 0.01, 0.005):
        method = EKI(FixedStep(h), perturbed=False)
        last = run(problem, method, ensemble=start, rng=seed, store="last").u[-1].values
        errors.append(np.linalg.norm(last - flow))
    order = float(np.log2(errors[1] / errors[2]))
    passed = abs(order - 1) < 0.1
    return Row("discrete EKI to flow as h to 0", _SLIDES, "order 1", f"order {order:.3f}", passed)


def _posterior(example: Example, seed: int) -> list[Row]:
    """EKI at Σh = 1 with perturbed data: the errors of mean and covariance against J."""
    sizes, repeats = np.array([100, 400, 1600, 6400]), 20
    errors = np.zeros((2, len(sizes)))
    mean, cov = example.extra["mean"], example.extra["cov"]
    for i, n in enumerate(sizes):
        for k in range(repeats):
            method = EKI(FixedStep(0.5))
            last = run(
                example.problem,
                method,
                n_members=int(n),
                rng=1000 * seed + 100 * i + k,
                store="last",
                evaluate_final=False,
            )
            u = last.u[-1].values
            errors[0, i] += np.sum((u.mean(axis=0) - mean) ** 2) / repeats
            errors[1, i] += np.sum((np.cov(u.T) - cov) ** 2) / repeats
    rows = []
    for what, square in zip(("mean", "covariance"), errors, strict=True):
        fit = fit_rate(sizes, np.sqrt(square))
        passed = abs(fit.exponent + 0.5) < 0.15
        rows.append(
            Row(
                f"EKI with noise, sum h = 1: {what} to the posterior's",
                "Iglesias, Law & Stuart (2013)",
                "J^(-0.5)",
                f"J^({fit.exponent:.2f} ± {2 * fit.standard_error:.1g})",
                bool(passed),
            )
        )
    return rows


def _affine(seed: int) -> Row:
    rng = np.random.default_rng(seed)
    u, g, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 5)), rng.normal(size=5)
    matrix, shift = rng.normal(size=(3, 3)) + 3 * np.eye(3), rng.normal(size=3)
    mapped = kalman_update(u @ matrix + shift, g, y, 0.5)
    error = np.max(np.abs(mapped - (kalman_update(u, g, y, 0.5) @ matrix + shift)))
    return _small("affine invariance of the analysis", "this package", float(error), 1e-10)


def _nesterov(seed: int) -> Row:
    """Time until the error of the mean is 0.3 of the initial one, on an ill-conditioned problem."""
    matrix = np.diag(np.geomspace(1, 0.02, 6))
    truth = np.ones(6)
    problem = InverseProblem(
        LinearModel(matrix), GaussianPrior(np.zeros(6), 1.0), 1.0, matrix @ truth
    )
    reached = []
    for flow, end in ((EKIFlow(), 3e4), (NesterovFlow(), 3e3)):
        times = np.geomspace(0.1, end, 400)
        result = integrate(
            problem, flow, t_span=(0, end), n_members=30, rng=seed, t_eval=[0.0, *times]
        )
        error = np.linalg.norm(result.u.values.mean(axis=1) - truth, axis=1)
        below = np.flatnonzero(error < 0.3 * error[0])
        reached.append(float(result.t[below[0]]) if below.size else end)
    ratio = reached[0] / reached[1]
    return Row(
        "Nesterov's flow is faster than the plain one",
        "Su, Boyd & Candes (2016)",
        "ratio of times > 1",
        f"{ratio:.1f} (t = {reached[0]:.3g} against {reached[1]:.3g})",
        ratio > 1,
    )
