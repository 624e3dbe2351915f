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
from ekitools.typing import Level

__all__ = ["Check", "doubted", "is_posterior", "judge", "nature", "verdict"]

_TAIL = 1e-3
"""Probability under the model of a misfit above, or below, the accepted range."""

_NONLINEAR = 0.3
"""Share of the outputs' variance that is not linear in the parameters, above which a result is
doubted. A rule of thumb, set after three examples. The median over the iterations of EKI was about
0.7 on the lynx and hare, where the means of EKI are wrong by standard deviations. The median was
below 0.1 on Darcy flow and on a cooling cup, where the means are right. The last ensemble of GNKI
has 0.09 to 0.14 on the lynx and hare, where GNKI is right."""

_MOSTLY_NONLINEAR = 0.5
"""Share above which a result is doubted even if the importance weights give no reason to doubt."""

_NATURE = "Ensemble"
_POSTERIOR, _VERDICT, _RANDOMNESS = "Posterior", "Verdict", "Randomness"
_MOST_DATA = 2000
_FEWEST, _EACH, _MANY = 10, 10, 1000
"""Fewest members of an ensemble, and fewest for each direction that the data constrain. Both are
rules of thumb that EnsembleKalmanProcesses.jl states too. More members than the last number are not
advised, because few models can be run as often."""

_LOCALIZABLE = 30
"""Fewest members for which localization without coordinates is advised. With fewer members, hardly
any sample correlation exceeds the chance level."""

_MANY_FAILED = 0.05
"""Share of failed model runs after the first iteration above which a result is doubted. A rule of
thumb: with shares of 0.05 to 0.1, the mean of EKI was wrong by 0.2 to 0.4 sd on linear problems,
and the mean of GNKI by 0.1 to 0.2 sd."""


class Check(NamedTuple):
    """One finding about a result."""

    level: Level
    """"good", "note" (information), "care" (a reason to doubt) or "bad"."""
    topic: str
    sentence: str


def judge(result: xr.Dataset) -> tuple[Check, ...]:
    r"""Check how far to trust a result, from the result alone.

    The checks cover the status, the kind of ensemble, the misfit, the posterior, the number of
    members for the number of parameters, and failures.

    The misfit must be one that the noise explains. If the model produced the data, a draw u of the
    posterior is exchangeable with the truth, and E[2Φ(u)] = E‖Γ^{-1/2}η‖² = d. A mean misfit
    outside the central 99.8 % of χ²_d/2 is reported.

    The posterior is judged by the verdict of `check_posterior`. Without a verdict, the importance
    weights of the last members are used. If the weights are unknown, the linearity of the model
    over the ensembles is used.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `run` or `integrate`.

    Returns
    -------
    tuple of Check
        The findings, in the order of the summary.
    """
    at = last_evaluated(result)
    last = result.sizes["iteration"] - 1
    first = at % (last + 1)
    both = slice(first, last + 1, max(1, last - first))  # a list would copy the members
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
    """Summarize all checks in one sentence."""
    levels = [check.level for check in checks]
    if "bad" in levels:
        return Check("bad", "Trust", "Do not rely on this result: see the findings marked bad.")
    doubts = levels.count("care")
    if doubts:
        reasons = "one reason for doubt is" if doubts == 1 else f"{doubts} reasons for doubt are"
        return Check("care", "Trust", f"Use this result with care: {reasons} listed below.")
    if any(check.level == "good" and check.topic == _VERDICT for check in checks):
        return Check("good", "Trust", "All checks passed, and the posterior was confirmed by runs "
                     "of the model.")  # fmt: skip
    if any(check.topic == _RANDOMNESS for check in checks):
        return Check("note", "Trust", "All checks that cost no model run passed. They cannot tell "
                     "whether the noise is right for a stochastic model: see Randomness "
                     "below.")  # fmt: skip
    if any(check.topic == _POSTERIOR for check in checks):
        return Check("note", "Trust", "All checks that cost no model run passed. Confirm the "
                     "posterior with ek.check_posterior(result, problem).")  # fmt: skip
    if any(check.level == "note" and check.topic == _NATURE for check in checks):
        return Check("note", "Trust", "All checks passed. See below whether the ensemble is a "
                     "posterior or a fit.")  # fmt: skip
    return Check("good", "Trust", "All checks passed.")


def doubted(checks: tuple[Check, ...]) -> bool:
    """Whether the importance weights or the verdict of `check_posterior` are a reason to doubt."""
    topics = (_POSTERIOR, _VERDICT)
    return any(check.level == "care" and check.topic in topics for check in checks)


def is_posterior(result: xr.Dataset) -> bool:
    """Whether the last ensemble is meant as a sample of the posterior, and the run reached it."""
    return bool(result.attrs.get("posterior", 0))


def _is_sample(result: xr.Dataset) -> bool:
    """Whether the method keeps its members, as a sampler does."""
    return bool(result.attrs.get("members") == "kept")


def _has_nodes(result: xr.Dataset) -> bool:
    """Whether the members are nodes of a quadrature rule, and the draws come from a Gaussian."""
    return "draws" in result


def _ending(result: xr.Dataset) -> Check:
    level = result.attrs.get("status_level", "care")
    sentence = result.attrs.get("status", "The result does not record how the run ended.")
    return Check(level, "Status", sentence)


def nature(result: xr.Dataset) -> Check:
    """The kind of the last ensemble: a sample of the posterior, an approximation, or a fit."""
    aim = result.attrs.get("aim")
    if is_posterior(result) and result.attrs.get("prior") == "learned":
        return Check("note", _NATURE, "An approximation of the posterior. The variances of the "
                     "prior were learned from the same data. Intervals of kept parameters are "
                     "valid only if the right parameters were kept.")  # fmt: skip
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
            return Check("note", _NATURE, "A weighted sample of the posterior near the start. A "
                         "mode outside the start can be missed. Compare with TemperedSMC() from "
                         "the prior.")  # fmt: skip
        if _is_sample(result):
            return Check("good", _NATURE, "A weighted sample of the posterior, exact in the limit "
                         "of many particles.")  # fmt: skip
        what = (
            "Draws of a Gaussian that approximates"
            if _has_nodes(result)
            else ("An approximation of")
        )
        advice = (
            "A check by model runs did not confirm it."
            if said == NOT_CONFIRMED
            else "Confirm it with ek.check_posterior(result, problem), which makes further model "
            "runs."
        )
        return Check("note", _NATURE, f"{what} the posterior. {advice}")
    if aim == "posterior":
        return Check(
            "care",
            _NATURE,
            "Not a sample of the posterior: the method did not finish, or lost most of its "
            "members. At best, means and spreads lie between the prior and the posterior. Follow "
            "the advice under Status.",
        )
    if aim == "fit":
        return Check(
            "note",
            _NATURE,
            "A fit to the data, not a sample of the posterior. The spread of the ensemble does not "
            "measure uncertainty. Use the mean or ek.best_member(result).",
        )
    return Check(
        "note",
        _NATURE,
        "The result was written by version 0.1.0 and does not record whether its ensemble samples "
        "the posterior. Run the method again with this version.",
    )


def _fit(result: xr.Dataset, diagnosis: xr.Dataset, random: Randomness | None) -> list[Check]:
    evaluated = np.flatnonzero(np.isfinite(diagnosis.misfit_mean.values))
    if not evaluated.size:
        return [Check("care", "Misfit", "No stored ensemble was evaluated, and the fit to the data "
                      "is unknown. Run with evaluate_final=True.")]  # fmt: skip
    last = diagnosis.isel(iteration=evaluated[-1])
    phi, d = float(last.misfit_mean), int(last.n_data)
    low, high = (float(chdtri(d, tail)) / 2 for tail in (1 - _TAIL, _TAIL))
    known = f"The mean misfit is {phi:.4g}. Noise alone gives d/2 = {d / 2:g}"
    if random is not None and np.isfinite(random.share):
        # the outputs scatter about their mean over the randomness, and add to the misfit
        scatter = 0.5 * d * random.share
        phi -= scatter
        known += f" and the scatter of the stochastic model {scatter:.4g}"
    span = f"({low:.4g} to {high:.4g} in all but 2 of 1000 cases)"
    if phi > high:
        checks = [Check("care", "Misfit", f"{known} {span}. The misfit is larger than the noise "
                        "explains: the model may be wrong, the noise larger than stated, or the "
                        "run unfinished. Check the model, the noise and the status.")]  # fmt: skip
    elif phi < low and is_posterior(result):
        checks = [Check("care", "Misfit", f"{known} {span}. The misfit is smaller than the noise "
                        "allows: the noise may be smaller than stated, or correlated. Check the "
                        "noise.")]  # fmt: skip
    else:
        checks = [Check("good", "Misfit", f"{known} {span}.")]
    share = float(last.coverage)
    missed = share < 0.9 - 3 * np.sqrt(0.09 / d)
    checks.append(
        Check(
            "care" if missed else "good",
            "Coverage",
            f"{100 * share:.3g} % of the data lie within their central 90 % predictive interval"
            + (
                ", which is too few. The spread, the noise or the model may be wrong."
                if missed
                else "."
            )
            + (
                " Use localization as described under Members."
                if missed and _localization(result)
                else ""
            ),
        )
    )
    return checks


def _posterior(result: xr.Dataset, at: int) -> list[Check]:
    """Check by the verdict of `check_posterior`, else by weights, else by linearity."""
    found = found_by_runs(result)
    if found is not None:
        return [Check(found.level, _VERDICT, found.sentence)]
    if not is_posterior(result):
        return []
    found = found_by_weights(result)
    # the scatter of a stochastic model is not linear in the parameters: see Randomness
    known = has_noise(result) and not is_stochastic(result)
    linearity = _linearity(result, at) if known else []
    if found is None:
        return [check for check, _ in linearity]
    # by symmetry, moments can look right although the slope fits no mode
    bent = [check for check, share in linearity if share > _MOSTLY_NONLINEAR]
    return [Check(found.level, _POSTERIOR, found.sentence), *bent]


def _linearity(result: xr.Dataset, at: int) -> list[tuple[Check, float]]:
    """Check of the linearity, and the share of the outputs' variance that is not linear.

    EKI uses slopes over all of its ensembles, and a refining method over the last ensemble alone.
    """
    over = result.attrs.get("linear_over", "none")
    if at < 0 or over == "none":
        return []
    if over == "ensembles" and at == 0:
        return [(Check("note", "Linearity", "The earlier ensembles are not stored, and the "
                       "linearity of the model over them is unknown. Run with "
                       'store="all".'), 0.0)]  # fmt: skip
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
            return [(Check("note", _POSTERIOR, "Too few members to check the ensemble by "
                           f"importance weights, which need p + {SPARE} members. Use "
                           "ek.check_posterior(result, problem), or more members."),
                     0.0)]  # fmt: skip
        white = members.g[kept].astype(np.float64) / result.noise_sd.values[some]
        white = white[:, ~np.isnan(white).all(axis=0)]  # the data of the step
        weight = members.weight[kept] / members.weight[kept].sum()
        shares.append(nonlinear_share(members.u[kept], white, weight))
    known = [share for share in shares if np.isfinite(share)]
    if not known:
        return []
    share = float(np.median(known))
    where = "the ensembles of the run (median)" if len(known) > 1 else "the last ensemble"
    bent = share > _NONLINEAR
    text = "less than 0.1" if share < 1e-3 else f"{100 * share:.2g}"
    check = Check(
        "care" if bent else "good",
        "Linearity",
        f"Over {where}, {text} % of the variance of the outputs is not linear in the parameters."
        + (" Means may be wrong by standard deviations. Compare with GNKI or TemperedSMC."
           if bent else ""),
    )  # fmt: skip
    return [(check, share)]


def _loss(result: xr.Dataset) -> list[Check]:
    loss = result.history_misfit.values
    loss = loss[np.isfinite(loss)]
    if loss.size < 2:
        return [Check("care", "Loss", "Fewer than two ensembles were evaluated, and the change of "
                      "the loss is unknown. Run more steps.")]  # fmt: skip
    fell = loss[-1] < loss[0]
    return [
        Check(
            "good" if fell else "care",
            "Loss",
            f"The mean loss of the ensemble went from {loss[0]:.4g} to {loss[-1]:.4g} (smallest: "
            f"{loss.min():.4g}), each on the data of its step.",
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
            f"{n_draws} draws come from this Gaussian.",
        )
    size = f"{n_effective:.4g} effective members for {p} parameters"
    error = f"the standard error of a mean is {1 / np.sqrt(n_effective):.2g} standard deviations"
    if result.attrs.get("members") == "redrawn":
        return Check("note", "Members", f"{size}.")
    if _is_sample(result):
        if n_effective < 100:
            return Check("care", "Members", f"{size}: {error}, and tails are not reliable. Use "
                         "more members.")  # fmt: skip
        return Check("good", "Members", f"{size}: {error}.")
    directions = min(p, result.sizes["data"])
    remedy = _remedy(max(_EACH * directions, p + 2))
    localized = _is_localized(method_of(result))
    if n_effective <= p + 1 and not localized:
        return Check("care", "Members", f"{size}. The members span fewer directions than there are "
                     f"parameters, and spreads are too small. {remedy}"
                     f"{_localization(result)}")  # fmt: skip
    if n_effective < _FEWEST:
        return Check("care", "Members", f"{size}. Means and spreads of fewer than {_FEWEST} "
                     f"members are mostly chance. {remedy}")  # fmt: skip
    if localized:
        return Check("note", "Members", f"{size}, with localization.")
    if n_effective < _EACH * directions:
        return Check("note", "Members", f"{size}. The data can constrain {directions} directions, "
                     f"and spreads are too small with fewer than about {_EACH} members for each "
                     f"direction. {remedy}")  # fmt: skip
    return Check("good", "Members", f"{size}: {error}, if the members are independent.")


def _remedy(n_members: int) -> str:
    if n_members > _MANY:
        return "Use more members, or fewer parameters."
    return f"Use n_members={n_members} or more, or fewer parameters."


def _localization(result: xr.Dataset) -> str:
    """The advice to localize, after a blank; "" if localization does not help."""
    n, p = result.sizes["member"], result.sizes["parameter"]
    few = _LOCALIZABLE <= n <= p + 1 and has_noise(result)
    if not few or _has_nodes(result) or _is_sample(result) or _is_localized(method_of(result)):
        return ""
    return (
        " Or use localization: ek.ETKI(localization=ek.localization.Correlation()), or "
        "ek.localization.Distance() for parameters and data with coordinates."
    )


def _is_localized(options: Mapping[str, Any]) -> bool:
    """Whether a method, or the method inside it, has a localization rule."""
    return any(
        value is not None if name == "localization"
        else isinstance(value, Mapping) and _is_localized(value)
        for name, value in options.items()
    )  # fmt: skip


def _missing(result: xr.Dataset) -> list[Check]:
    """Check of missing outputs, over the stored iterations."""
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
            f"had them. The output {name!r} was missing most often ({of_most:.2g} % of the "
            "members).",
        )
    ]


def _failures(result: xr.Dataset) -> Check:
    """Check of failures in the whole run. A sampler refuses failed proposals and loses nothing."""
    failures, runs, lost = attribute(result, "failures", []), model_runs(result), losses(result)
    n, replaced = len(failures), sum(bool(each.get("replaced")) for each in failures)
    if not n and lost.left == lost.members:
        return Check("good", "Failures", f"None of the {runs} model runs failed.")
    if replaced:
        return _replaced(result, n, runs)
    sentences = [
        f"{n} of {runs} model runs failed. The ensemble misses the region where the model fails."
    ]
    many = 10 * n > runs and not _is_sample(result)
    if many:
        sentences.append("Many runs failed. Restrict the prior to the region where the model runs.")
    if lost.many:
        sentences.append(lost.sentence)
    return Check("care" if many or lost.many else "note", "Failures", " ".join(sentences))


def _replaced(result: xr.Dataset, n: int, runs: int) -> Check:
    """Check of failures whose members ran again elsewhere."""
    level: Level = "note"
    sentences = [f"{n} of {runs} model runs failed. No member was lost."]
    at_start = float(result.attrs.get("failed_at_start", 0.0))
    if at_start > 0 and result.attrs.get("start") == "prior":
        what = "posterior belongs to" if is_posterior(result) else "result belongs to"
        sentences.append(
            f"{100 * at_start:.3g} % of the draws of the prior failed: the {what} the prior "
            "restricted to the region where the model runs."
        )
    made = runs - int(result.history_model_runs[0])
    later = sum(failure["iteration"] > 0 for failure in attribute(result, "failures", []))
    if not _is_sample(result) and is_posterior(result) and later > _MANY_FAILED * made:
        over_all = result.attrs.get("linear_over") == "ensembles"
        level = "care" if over_all else "note"
        other = "GNKI or TemperedSMC" if over_all else "TemperedSMC"
        sentences.append(
            f"{100 * later / made:.2g} % of the model runs after the first iteration failed: the "
            "posterior may extend into the region where the model fails, and the ensemble is less "
            f"accurate there. Compare with {other}."
        )
    return Check(level, "Failures", " ".join(sentences))
