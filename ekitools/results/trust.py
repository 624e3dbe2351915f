"""Checks of a result: findings with a level, and the verdict that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.special import chdtri

from ekitools.core.statuses import CONFIRMED, CORRECTED, NOT_CONFIRMED
from ekitools.results.diagnostics import diagnose
from ekitools.results.linearity import nonlinear_share, nonlinear_share_of_nodes
from ekitools.results.randomness import Randomness, is_stochastic, randomness
from ekitools.results.reading import (
    attribute,
    has_noise,
    last_evaluated,
    losses,
    members_at,
    method_of,
    model_runs,
)
from ekitools.results.shifts import found_by_runs, found_by_weights, verdict_of
from ekitools.results.weights import SPARE

__all__ = ["Check", "doubted", "is_posterior", "judge", "nature", "verdict"]

_TAIL = 1e-3
"""Probability of a misfit so large, or so small, under the model; either end."""

_NONLINEAR = 0.3
"""Share of the outputs' variance that no linear function of the parameters makes, above which a
result is doubted. A rule of thumb, set after seeing these three: the median over the iterations of
EKI was about 0.7 on the lynx and hare, where its means are off by standard deviations, and below
0.1 on Darcy flow and on a cooling cup, where they are not; the last ensemble of GNKI has 0.09 to
0.14 on the first, where it is right."""

_MOSTLY_NONLINEAR = 0.5
"""Share above which a result is doubted even where the importance weights object to nothing."""

_NATURE = "What the ensemble is"
_POSTERIOR, _VERDICT, _RANDOMNESS = "Posterior", "Verdict", "Randomness"
_MOST_DATA = 2000
_FEWEST, _EACH, _MANY = 10, 10, 1000
"""Members that an ensemble has at least, and for each direction that the data can tell of: rules of
thumb that EnsembleKalmanProcesses.jl states too. More than the last number is not advised, since
few models can be run as often."""

_LOCALIZABLE = 30
"""Members from which on localization without coordinates is advised: with fewer hardly any sample
correlation is beyond what chance makes."""

_MANY_FAILED = 0.05
"""Share of the model runs after the first iteration that fail, above which a result is doubted. A
rule of thumb: with shares of 0.05 to 0.1 the mean of EKI was 0.2 to 0.4 sd off on linear problems,
that of GNKI 0.1 to 0.2."""


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
    of χ²_d/2 is told; the verdict of `check_posterior`, or the importance weights of the last
    members, or, where these are not known, whether the model is linear over the ensembles; how
    many members there are for so many parameters; failures.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` or `integrate` returned.

    Returns
    -------
    tuple of Check
    """
    at = last_evaluated(result)
    last = result.sizes["iteration"] - 1
    first = at % (last + 1)
    both = slice(first, last + 1, max(1, last - first))  # no list: members may fill the memory
    diagnosis = diagnose(result.isel(iteration=both))
    checks, random = [_ending(result), nature(result)], randomness(result)
    if random is not None:
        checks.append(Check(random.finding.level, _RANDOMNESS, random.finding.sentence))
    if has_noise(result):
        checks += _fit(result, diagnosis, random)
    else:
        checks += _loss(result)
    checks += _posterior(result, at)
    return (
        *checks,
        _members(result, float(diagnosis.n_effective[-1])),
        _failures(result),
        *_missing(result),
    )


def verdict(checks: tuple[Check, ...]) -> Check:
    """All of them in one sentence."""
    levels = [check.level for check in checks]
    if "bad" in levels:
        return Check("bad", "Trust", "Do not rely on this result: see what is marked below.")
    doubts = levels.count("care")
    if doubts:
        reasons = "one reason" if doubts == 1 else f"{doubts} reasons"
        return Check("care", "Trust", f"Rely on it with care: {reasons} to doubt it below.")
    if any(check.level == "good" and check.topic == _VERDICT for check in checks):
        return Check("good", "Trust", "All checks passed, and the posterior was confirmed by runs "
                     "of the model.")  # fmt: skip
    if any(check.topic == _RANDOMNESS for check in checks):
        return Check("note", "Trust", "All checks that cost no model run passed. They cannot tell "
                     "whether the noise is right for a stochastic model: see below.")  # fmt: skip
    if any(check.topic == _POSTERIOR for check in checks):
        return Check("note", "Trust", "All checks that cost no model run passed. Confirm the "
                     "posterior with ek.check_posterior(result, problem).")  # fmt: skip
    if any(check.level == "note" and check.topic == _NATURE for check in checks):
        return Check("note", "Trust", "All checks passed. What the ensemble is: see below.")
    return Check("good", "Trust", "All checks passed.")


def doubted(checks: tuple[Check, ...]) -> bool:
    """Whether the importance weights, or the verdict of `check_posterior`, are against it."""
    topics = (_POSTERIOR, _VERDICT)
    return any(check.level == "care" and check.topic in topics for check in checks)


def is_posterior(result: xr.Dataset) -> bool:
    """Whether the last ensemble is meant as a sample of the posterior, and the run reached it."""
    return bool(result.attrs.get("posterior", 0))


def _is_sample(result: xr.Dataset) -> bool:
    """Whether the method keeps its members, as a sampler does."""
    return bool(result.attrs.get("members") == "kept")


def _has_nodes(result: xr.Dataset) -> bool:
    """Whether the members are nodes of a quadrature rule, and the draws those of a Gaussian."""
    return "draws" in result


def _ending(result: xr.Dataset) -> Check:
    level = result.attrs.get("status_level", "care")
    sentence = result.attrs.get("status", "How the run ended is not recorded.")
    return Check(level, "How it ended", sentence)


def nature(result: xr.Dataset) -> Check:
    """What the last ensemble is: a sample of the posterior, an approximation of one, or a fit."""
    aim = result.attrs.get("aim")
    if is_posterior(result) and result.attrs.get("prior") == "learned":
        return Check("note", _NATURE, "An approximation of the posterior under variances of the "
                     "prior that were learned from the same data. Intervals of kept parameters "
                     "hold given that the right ones are kept.")  # fmt: skip
    said = verdict_of(result)
    if said == CONFIRMED:
        return Check("good", _NATURE, "A sample of the posterior, confirmed by runs of the model "
                     "(ek.check_posterior).")  # fmt: skip
    if said == CORRECTED:
        return Check("note", _NATURE, "An approximation of the posterior. checked_mean, checked_sd "
                     "and checked_quantile are corrected by runs of the model.")  # fmt: skip
    if is_posterior(result):
        sure = result.attrs.get("start") != "method" or result.attrs.get("status_level") == "good"
        if _is_sample(result) and not sure:
            return Check("note", _NATURE, "A weighted sample of the posterior within reach of the "
                         "start. A mode outside the start can be missed: compare with "
                         "TemperedSMC() from the prior.")  # fmt: skip
        if _is_sample(result):
            return Check("good", _NATURE, "A weighted sample of the posterior, exact in the limit "
                         "of many particles.")  # fmt: skip
        what = (
            "Draws of a Gaussian that approximates"
            if _has_nodes(result)
            else ("An approximation of")
        )
        told = (
            "It was checked, and not confirmed."
            if said == NOT_CONFIRMED
            else "Confirm it with ek.check_posterior(result, problem), which runs the model at "
            "draws of it."
        )
        return Check("note", _NATURE, f"{what} the posterior. {told}")
    if aim == "posterior":
        return Check(
            "care",
            _NATURE,
            "Not a sample of the posterior: the method did not come to its end, or lost most of "
            "its members. Its means and spreads lie between the prior and the posterior at best.",
        )
    if aim == "fit":
        return Check(
            "note",
            _NATURE,
            "A fit to the data, not a sample of the posterior: use its mean or its best member; "
            "its spread is no measure of uncertainty.",
        )
    return Check(
        "note",
        _NATURE,
        "The result does not record whether its ensemble samples the posterior. It was written by "
        "version 0.1.0; run the method again with this version.",
    )


def _fit(result: xr.Dataset, diagnosis: xr.Dataset, random: Randomness | None) -> list[Check]:
    evaluated = np.flatnonzero(np.isfinite(diagnosis.misfit_mean.values))
    if not evaluated.size:
        return [Check("care", "Misfit", "No stored ensemble was evaluated: whether it fits the "
                      "data is not known. Run with evaluate_final=True.")]  # fmt: skip
    last = diagnosis.isel(iteration=evaluated[-1])
    phi, d = float(last.misfit_mean), int(last.n_data)
    low, high = (float(chdtri(d, tail)) / 2 for tail in (1 - _TAIL, _TAIL))
    told = f"The mean misfit is {phi:.4g}, where noise alone gives d/2 = {d / 2:g}"
    if random is not None and np.isfinite(random.share):
        # each output differs from its mean over the randomness, as the data do
        scatter = 0.5 * d * random.share
        phi -= scatter
        told += f" and the scatter of the stochastic model {scatter:.4g}"
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
            + (": too few." if missed else ".")
            + (" Use localization: see Members." if missed and _localization(result) else ""),
        )
    )
    return checks


def _posterior(result: xr.Dataset, at: int) -> list[Check]:
    """The verdict of `check_posterior`, else the weights of the members, else the linearity."""
    found = found_by_runs(result)
    if found is not None:
        return [Check(found.level, _VERDICT, found.sentence)]
    if not is_posterior(result):
        return []
    found = found_by_weights(result)
    # of a stochastic model the scatter of the outputs is not linear either: see Randomness
    known = has_noise(result) and not is_stochastic(result)
    linearity = _linearity(result, at) if known else []
    if found is None:
        return [check for check, _ in linearity]
    # moments may be right by symmetry where the slope is that of no mode
    bent = [check for check, share in linearity if share > _MOSTLY_NONLINEAR]
    return [Check(found.level, _POSTERIOR, found.sentence), *bent]


def _linearity(result: xr.Dataset, at: int) -> list[tuple[Check, float]]:
    """What is known of the linearity, and the share of the variance that is not linear.

    EKI takes slopes over all of its ensembles, a method that refines over the last alone.
    """
    over = result.attrs.get("linear_over", "none")
    if at < 0 or over == "none":
        return []
    if over == "ensembles" and at == 0:
        return [(Check("note", "Linearity", "The ensembles on the way are not stored, so that it "
                       "is not known whether the model is linear over them."), 0.0)]  # fmt: skip
    d = result.sizes["data"]
    some = np.unique(np.linspace(0, d - 1, min(d, _MOST_DATA)).astype(int))
    part = result.isel(data=some)
    stored = at + 1 if over == "ensembles" else 1
    shares = []
    for index in np.unique(np.linspace(at + 1 - stored, at, min(stored, 9)).astype(int)):
        if _has_nodes(result):
            shares.append(nonlinear_share_of_nodes(part.isel(iteration=index)))
            continue
        members = members_at(part, index)
        kept = members.kept & np.isfinite(members.misfit)
        if kept.sum() < result.sizes["parameter"] + SPARE:
            return [(Check("note", _POSTERIOR, "Too few members for so many parameters to tell how "
                           "far the ensemble is from the posterior: their importance weights need "
                           f"p + {SPARE} of them."), 0.0)]  # fmt: skip
        white = members.g[kept].astype(np.float64) / result.noise_sd.values[some]
        white = white[:, ~np.isnan(white).all(axis=0)]  # what the step saw
        weight = members.weight[kept] / members.weight[kept].sum()
        shares.append(nonlinear_share(members.u[kept], white, weight))
    known = [share for share in shares if np.isfinite(share)]
    if not known:
        return []
    share = float(np.median(known))
    where = "the ensembles of the run, in the median," if len(known) > 1 else "the last ensemble"
    bent = share > _NONLINEAR
    text = "less than 0.1" if share < 1e-3 else f"{100 * share:.2g}"
    check = Check(
        "care" if bent else "good",
        "Linearity",
        f"Over {where} {text} % of the variance of the outputs is not linear in the parameters"
        + (": means may be off by standard deviations. Compare with GNKI or TemperedSMC."
           if bent else "."),
    )  # fmt: skip
    return [(check, share)]


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
    p = result.sizes["parameter"]
    n_effective = round(n_effective, 6)  # equal weights add up to 1 with rounding
    if not n_effective > 0:
        return Check("bad", "Members", "No member is left at the last stored iteration.")
    if _has_nodes(result):
        n_nodes, n_draws = result.sizes["member"], result.sizes["draw"]
        return Check(
            "good",
            "Members",
            f"{n_nodes} nodes hold a Gaussian of {p} parameters, without sampling error. The "
            f"{n_draws} draws are of this Gaussian.",
        )
    told = f"{n_effective:.4g} effective members for {p} parameters"
    error = f"a mean is known to {1 / np.sqrt(n_effective):.2g} of its standard deviation"
    if result.attrs.get("members") == "redrawn":
        return Check("note", "Members", f"{told}.")
    if _is_sample(result):
        if n_effective < 100:
            return Check("care", "Members", f"{told}: {error}, tails hardly at all. Use more "
                         "members.")  # fmt: skip
        return Check("good", "Members", f"{told}: {error}.")
    directions = min(p, result.sizes["data"])
    remedy = _remedy(max(_EACH * directions, p + 2))
    localized = _is_localized(method_of(result))
    if n_effective <= p + 1 and not localized:
        return Check("care", "Members", f"{told}. The members span fewer directions than there are "
                     f"parameters, and spreads are too small. {remedy}"
                     f"{_localization(result)}")  # fmt: skip
    if n_effective < _FEWEST:
        return Check("care", "Members", f"{told}. Means and spreads of fewer than {_FEWEST} "
                     f"members are mostly chance. {remedy}")  # fmt: skip
    if localized:
        return Check("note", "Members", f"{told}, with localization.")
    if n_effective < _EACH * directions:
        return Check("note", "Members", f"{told}, and {directions} directions that the data can "
                     f"tell of. Spreads are too small with fewer than about {_EACH} members for "
                     f"each direction. {remedy}")  # fmt: skip
    return Check("good", "Members", f"{told}: {error}, if they are independent.")


def _remedy(n_members: int) -> str:
    if n_members > _MANY:
        return "Use more members, or fewer parameters."
    return f"Use n_members={n_members} or more, or fewer parameters."


def _localization(result: xr.Dataset) -> str:
    """The advice to localize, after a blank; nothing where it does not help."""
    n, p = result.sizes["member"], result.sizes["parameter"]
    few = _LOCALIZABLE <= n <= p + 1 and has_noise(result)
    if not few or _has_nodes(result) or _is_sample(result) or _is_localized(method_of(result)):
        return ""
    return (
        " Or use localization: ek.ETKI(localization=ek.localization.Correlation()), or "
        "ek.localization.Distance() for parameters and data with coordinates."
    )


def _is_localized(options: Mapping[str, Any]) -> bool:
    """Whether a method, or the one within it, has a rule of localization."""
    return any(
        value is not None if name == "localization"
        else isinstance(value, Mapping) and _is_localized(value)
        for name, value in options.items()
    )  # fmt: skip


def _missing(result: xr.Dataset) -> list[Check]:
    """Outputs that were missing, over the stored iterations."""
    if "missing" not in result:
        return []
    counts = result.missing.values.sum(axis=0)
    n_members = result.sizes["member"]
    runs = (~result.g.isnull().all("member")).values | (result.missing.values > 0)
    share = 100 * counts.sum() / (runs.sum() * n_members)
    most = int(np.argmax(counts))
    name = result["data"].values[most]
    of_most = 100 * counts[most] / (runs[:, most].sum() * n_members)
    return [
        Check(
            "care" if of_most > 50 else "note",
            "Missing outputs",
            f"{share:.2g} % of the outputs were missing and were estimated from the members that "
            f"had them; most often those of the datum {name!r} ({of_most:.2g} % of the members).",
        )
    ]


def _failures(result: xr.Dataset) -> Check:
    """Failures of the whole run; a sampler refuses the proposals that fail, and loses nothing."""
    failures, runs, lost = attribute(result, "failures", []), model_runs(result), losses(result)
    n, replaced = len(failures), sum(bool(each.get("replaced")) for each in failures)
    if not n and lost.left == lost.members:
        return Check("good", "Failures", f"None of the {runs} model runs failed.")
    if replaced:
        return _replaced(result, n, runs)
    sentences = [
        f"{n} of {runs} model runs failed: the ensemble knows nothing of the region where they do."
    ]
    many = 10 * n > runs and not _is_sample(result)
    if many:
        sentences.append("These are many.")
    if lost.many:
        sentences.append(lost.sentence)
    return Check("care" if many or lost.many else "note", "Failures", " ".join(sentences))


def _replaced(result: xr.Dataset, n: int, runs: int) -> Check:
    """Failures whose members ran again elsewhere."""
    level, sentences = "note", [f"{n} of {runs} model runs failed. No member was lost."]
    at_start = float(result.attrs.get("failed_at_start", 0.0))
    if at_start > 0 and result.attrs.get("start") == "prior":
        what = "posterior is that of" if is_posterior(result) else "result belongs to"
        sentences.append(
            f"{100 * at_start:.3g} % of the draws of the prior failed: the {what} the prior "
            "restricted to where the model runs."
        )
    made = runs - int(result.history_model_runs[0])
    later = sum(failure["iteration"] > 0 for failure in attribute(result, "failures", []))
    if not _is_sample(result) and is_posterior(result) and later > _MANY_FAILED * made:
        over_all = result.attrs.get("linear_over") == "ensembles"
        level = "care" if over_all else "note"
        other = "GNKI or TemperedSMC" if over_all else "TemperedSMC"
        sentences.append(
            f"{100 * later / made:.2g} % of the model runs after the first iteration failed: the "
            "posterior may reach into the region where the model fails, where the ensemble is less "
            f"accurate. Compare with {other}."
        )
    return Check(level, "Failures", " ".join(sentences))
