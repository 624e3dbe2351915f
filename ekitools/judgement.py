"""Whether to trust a result: what was measured, what it should be, and what follows."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.special import chdtri

from ekitools.diagnostics import diagnose
from ekitools.plots import last_evaluated

__all__ = ["Check", "is_posterior", "judge", "verdict"]

_TAIL = 1e-3
"""Probability of a misfit so large, or so small, under the model; either end."""

_GOOD = ("posterior_reached", "t_end_reached", "discrepancy_reached", "method_finished",
         "stream_ended")  # fmt: skip
_BAD = ("failed", "diverged", "degenerate", "no_likelihood", "solver_failed")

_SAMPLERS = ("TemperedSMC",)
_REFINED = ("GNKI", "EKSFlow")
_STOCHASTIC = ("EKI", "StochasticEKIFlow")
_FITTING = ("LossEKI", "CurvatureEKI", "Nesterov", "EKIFlow", "NesterovFlow", "GradientFlow",
            "NaturalGradientFlow")  # fmt: skip


class Check(NamedTuple):
    """One thing that was looked at."""

    level: str
    """"good", "note" (to be known), "care" (a reason to doubt) or "bad"."""
    topic: str
    sentence: str


def judge(result: xr.Dataset) -> tuple[Check, ...]:
    r"""What can be told from a result alone about how far to trust it.

    How it ended; what its ensemble is; whether the misfit is one that the noise explains: if u
    is drawn from the posterior of data that the model did produce, it is exchangeable with the
    truth, so that E[2Φ(u)] = E‖Γ^{-1/2}η‖² = d, and a mean misfit outside the central 99.8 %
    of χ²_d/2 is told; how many members there are for so many parameters; failures.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` or `integrate` returned.

    Returns
    -------
    tuple of Check
    """
    at = last_evaluated(result)
    ends = sorted({result.sizes["iteration"] - 1, at % result.sizes["iteration"]})
    diagnosis = diagnose(result.isel(iteration=ends))
    checks = [_ending(result), _nature(result)]
    if np.isfinite(result.noise_sd.values).all():
        checks += _fit(result, diagnosis)
    else:
        checks += _loss(result)
    return (*checks, _members(result, float(diagnosis.n_effective[-1])), _failures(result))


def verdict(checks: tuple[Check, ...]) -> Check:
    """All of them in one sentence."""
    levels = [check.level for check in checks]
    if "bad" in levels:
        return Check("bad", "Trust", "Do not rely on this result: see what is marked below.")
    doubts = levels.count("care")
    if doubts:
        reasons = "one reason" if doubts == 1 else f"{doubts} reasons"
        return Check("care", "Trust", f"Rely on it with care: {reasons} to doubt it below.")
    return Check("good", "Trust", "Nothing that was looked at speaks against it.")


def is_posterior(result: xr.Dataset) -> bool:
    """Whether its last ensemble is meant as a sample of the posterior, and came to its end."""
    options, code = _method(result), result.attrs.get("status_code", "")
    name = options.get("type", "")
    if name == "StochasticEKIFlow":
        return bool(np.isclose(float(result.t[-1]), 1.0))
    if name == "EKSFlow":
        return code == "t_end_reached"
    known = name in (*_SAMPLERS, *_REFINED, *_STOCHASTIC)
    return known and code == "posterior_reached" and options.get("perturbed", True)


def _method(result: xr.Dataset) -> dict[str, Any]:
    return dict(json.loads(result.attrs.get("method", "{}")))


def _ending(result: xr.Dataset) -> Check:
    code = result.attrs.get("status_code", "unknown")
    level = "good" if code in _GOOD else "bad" if code in _BAD else "care"
    sentence = result.attrs.get("status", "How the run ended is not recorded.")
    return Check(level, "How it ended", sentence)


def _nature(result: xr.Dataset) -> Check:
    name = _method(result).get("type", "")
    topic = "What the ensemble is"
    if is_posterior(result):
        if name in _SAMPLERS:
            return Check("good", topic, "A weighted sample of the posterior, exact in the limit "
                         "of many particles.")  # fmt: skip
        return Check(
            "note",
            topic,
            "An approximation of the posterior, good where the model is close to linear over "
            "the ensemble and the prior is Gaussian. A sampler, or ek.compare with one, tells how "
            "good.",
        )
    if name in (*_SAMPLERS, *_REFINED, *_STOCHASTIC):
        return Check(
            "care",
            topic,
            "Not a sample of the posterior, for the method did not come to its end there: its "
            "means and spreads lie between the prior and whatever it was going to.",
        )
    if name in _FITTING:
        return Check(
            "note",
            topic,
            "A fit to the data, not a sample of the posterior: use its mean or its best member; "
            "its spread is no measure of uncertainty.",
        )
    return Check("note", topic, f"What the method {name or 'of this run'} makes of it: no method "
                 "of ekitools, so nothing is known here.")  # fmt: skip


def _fit(result: xr.Dataset, diagnosis: xr.Dataset) -> list[Check]:
    evaluated = np.flatnonzero(np.isfinite(diagnosis.misfit_mean.values))
    if not evaluated.size:
        return [Check("care", "Misfit", "No stored ensemble was evaluated: whether it fits the "
                      "data is not known. Run with evaluate_final=True.")]  # fmt: skip
    last = diagnosis.isel(iteration=evaluated[-1])
    phi, d = float(last.misfit_mean), result.sizes["data"]
    low, high = (float(chdtri(d, tail)) / 2 for tail in (1 - _TAIL, _TAIL))
    told = f"The mean misfit is {phi:.4g}, where noise alone gives d/2 = {d / 2:g}"
    span = f"({low:.4g} to {high:.4g} in all but 2 of 1000 cases)"
    if phi > high:
        checks = [Check("care", "Misfit", f"{told} {span}: more than the noise explains. The model "
                        "may be wrong, the noise larger than stated, or the run not at its "
                        "end.")]  # fmt: skip
    elif phi < low and is_posterior(result):
        checks = [Check("care", "Misfit", f"{told} {span}: closer than noise allows. It may be "
                        "smaller than stated, or correlated.")]  # fmt: skip
    else:
        checks = [Check("good", "Misfit", f"{told} {span}.")]
    share = float(last.coverage)
    missed = share < 0.9 - 3 * np.sqrt(0.09 / d)
    checks.append(
        Check(
            "care" if missed else "good",
            "Coverage",
            f"{100 * share:.3g} % of the data lie within their central 90 % predictive interval"
            + (": too few." if missed else "."),
        )
    )
    return checks


def _loss(result: xr.Dataset) -> list[Check]:
    loss = result.history_misfit.values
    loss = loss[np.isfinite(loss)]
    if loss.size < 2:
        return [Check("care", "Loss", "Fewer than two ensembles were evaluated: whether the loss "
                      "fell is not known.")]  # fmt: skip
    fell = loss[-1] < loss[0]
    return [
        Check(
            "good" if fell else "care",
            "Loss",
            f"The mean loss of the ensemble went from {loss[0]:.4g} to {loss[-1]:.4g} (smallest: "
            f"{loss.min():.4g}), on what each step saw.",
        )
    ]


def _members(result: xr.Dataset, n_effective: float) -> Check:
    name, p = _method(result).get("type", ""), result.sizes["parameter"]
    told = f"{n_effective:.4g} effective members for {p} parameters"
    error = f"a mean is known to {1 / np.sqrt(n_effective):.2g} of its standard deviation"
    if name in ("LossEKI", "CurvatureEKI"):
        return Check("note", "Members", f"{told}.")
    if name in _SAMPLERS:
        if n_effective < 100:
            return Check("care", "Members", f"{told}: {error}, tails hardly at all. Use more "
                         "members.")  # fmt: skip
    elif n_effective <= p + 1:
        return Check(
            "care",
            "Members",
            f"{told}: they span fewer directions than there are parameters, and "
            "spreads come out too small. Use more members, or fewer parameters.",
        )
    return Check("good", "Members", f"{told}: {error}, if they are independent.")


def _failures(result: xr.Dataset) -> Check:
    n = len(json.loads(result.attrs.get("failures", "[]")))
    runs = int(result.attrs.get("model_runs", result.history_model_runs.values[-1]))
    if not n:
        return Check("good", "Failures", f"None of the {runs} model runs failed.")
    many = n > 0.1 * runs
    return Check(
        "care" if many else "note",
        "Failures",
        f"{n} of {runs} model runs failed: the ensemble knows nothing of the region where they "
        "do." + (" These are many." if many else ""),
    )
