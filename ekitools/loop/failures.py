"""Failed members: detection, reasons, and draws that replace the members."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ekitools.core.arrays import array_namespace, finfo, host, like, take_rows
from ekitools.core.checks import integer
from ekitools.linalg import gaussian_draws
from ekitools.loop.policies import OnFailure
from ekitools.methods.shared import mapped
from ekitools.models.outputs import Failure, cut, safe_text
from ekitools.typing import Array, MemberFailure

__all__ = [
    "all_usable",
    "check_failures",
    "fatal_sentence",
    "largest_output",
    "name_reasons",
    "replaced",
    "unusable_outputs",
]

_NUMBER = re.compile(r"0x[0-9a-fA-F]+|[-+]?\d+(\.\d*)?([eE][-+]?\d+)?|\b[-+]?(nan|inf)\b")
_SHOWN = 500


def largest_output(g: Array, noise_sd: np.ndarray) -> np.ndarray:
    """The largest |g| of each output whose whitened squares can be summed in the dtype of ``g``.

    For a loss in place of the noise, ``noise_sd`` is NaN, and the limit is of |g| itself.
    """
    largest = 1e-4 * math.sqrt(float(finfo(g).max))
    return largest * np.where(np.isnan(noise_sd), 1.0, noise_sd)


def all_usable(g: Array, noise_sd: np.ndarray) -> Array:
    """Whether no output is missing or too large, as one bool on the device of ``g``."""
    xp, largest = array_namespace(g), largest_output(g, noise_sd)
    same = bool((largest == largest[0]).all())
    return xp.all(xp.abs(g) < (float(largest[0]) if same else like(largest, g)))


def unusable_outputs(g: Array, noise_sd: np.ndarray, data_names: Sequence[Any]) -> dict[int, str]:
    """Reasons why outputs are unusable, by row of ``g``; each names the first such output."""
    values, largest = host(g), largest_output(g, noise_sd)
    usable = np.abs(values) < largest  # NaN compares false
    sentences = {}
    for row in np.flatnonzero(~np.all(usable, axis=1)).tolist():
        i = int(np.argmin(usable[row]))
        value = float(values[row, i])
        sentence = f"output {i} ({data_names[i]!r}) is {value:.6g}"
        if math.isfinite(value):
            sentence += (
                f", too large to be squared in {values.dtype}: |g| must be < {largest[i]:.3g}"
            )
        more = int(np.sum(~usable[row])) - 1
        sentences[row] = sentence + (f" (and {more} more)" if more else "")
    return sentences


def fatal_sentence(
    failed: np.ndarray,
    iteration: int,
    on_failure: OnFailure,
    reasons: Mapping[int, Failure],
    data_names: Sequence[Any],
    hopeless: str | None = None,
) -> str | None:
    """The error text if the run cannot continue, with the most frequent reason; otherwise None.

    ``hopeless`` is the reason why failed members were not run again.
    """
    n_failed, n_asked = int(failed.sum()), len(failed)
    if hopeless is not None:
        rule = f": {hopeless}"
        remedy = "check the model at one draw of the prior"
        if n_asked - n_failed >= 2:
            remedy = (
                "restrict the prior to the region where the model runs, or continue with the "
                'remaining members by on_failure="drop"'
            )
        remedy = f"and {remedy}"
    elif n_failed and on_failure == "raise":
        rule = ' and on_failure is "raise"'
        remedy = 'or use on_failure="drop"'
    elif n_asked - n_failed >= 2:
        return None
    else:
        rule, remedy = ": fewer than 2 are left", "and check the model at one draw of the prior"
    return (
        f"{n_failed} of {n_asked} members failed at iteration {iteration}{rule}. "
        f"{_most_frequent(list(reasons.values()), data_names)}"
        f'See error.result.attrs["failures"], {remedy}.'
    )


def _most_frequent(reasons: Sequence[Failure], data_names: Sequence[Any]) -> str:
    """The most frequent reason; reasons that differ only in numbers count as the same."""
    if not reasons:
        return ""
    alike = [_NUMBER.sub("#", failure.reason) for failure in reasons]
    ((most, count),) = Counter(alike).most_common(1)
    first = reasons[alike.index(most)]
    text = " ".join(first.reason.split())
    text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]} ..."
    where = f" ({first.where})" if first.where else ""
    if first.datum is not None and first.datum < len(data_names):
        where = f" (output {data_names[first.datum]!r})"
    said = "Reason" if count == len(reasons) else "Most frequent reason"
    return f"{said}, {count} of {len(reasons)}: {text}{where}. "


def check_failures(failures: Any, n: int) -> None:
    """Check a mapping of the rows of ``n`` members to reasons."""
    if not isinstance(failures, Mapping):
        raise TypeError(
            f"failures: must be a mapping of row to reason, got {type(failures).__name__}. Use "
            '{3: "the solver diverged"}.'
        )
    for row in failures:
        integer("failures", row, least=0, most=n - 1)


def name_reasons(
    failed: np.ndarray, failures: Mapping[int, Any], unusable: Mapping[int, str]
) -> dict[int, Failure]:
    """Reason and error of every failed row; the rows of ``failures`` are added to ``failed``.

    A reason in ``failures`` takes precedence over a reason in ``unusable``.
    """
    failed[list(failures)] = True
    rows = {row: failures.get(row) or unusable.get(row) for row in np.flatnonzero(failed).tolist()}
    return {row: _failure(why) for row, why in rows.items()}


def _failure(why: Any) -> Failure:
    if isinstance(why, Failure):
        return why
    if isinstance(why, MemberFailure):
        return Failure(_text(why.reason), why.error)
    if isinstance(why, BaseException):
        return Failure(safe_text(why), why)
    return Failure(_text(why or "no reason was given"))


def _text(why: Any) -> str:
    return cut(why) if isinstance(why, str) else safe_text(why)


def replaced(
    method: Any, state: Any, survivors: np.ndarray, n_all: int, rng: np.random.Generator
) -> Any:
    """The state with failed members replaced by draws from the survivors' Gaussian.

    A draw is a linear combination of the survivors. Other arrays of a method's state are combined
    in the same way if the method supports it (`ekitools.typing.Method`). Otherwise they are taken
    from the first survivor.
    """
    lost = np.setdiff1d(np.arange(n_all), survivors)
    white = rng.standard_normal((len(lost), len(survivors)))
    order = np.argsort(np.concatenate([survivors, lost]))

    def rows(kept: Array) -> Array:
        both = array_namespace(kept).concat([kept, gaussian_draws(kept, white)], axis=0)
        return take_rows(both, order)

    index = np.zeros(n_all, dtype=np.int64)
    index[survivors] = np.arange(len(survivors))
    return mapped(method, state, rows, index)
