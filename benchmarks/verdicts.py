"""Verdicts of `ek.summary` and `ek.check_posterior` on right and on wrong posteriors.

    python benchmarks/verdicts.py                       the problems 3000 to 3199, EKI and GNKI
    python benchmarks/verdicts.py random 0 50           others
    python benchmarks/verdicts.py named 20              problems of the literature, with 20 seeds

A result is *right* if every mean is within 0.3 standard deviations of the posterior mean and every
standard deviation within a factor of 1.25. It is *wrong* if a mean is off by more than 0.5 or a
standard deviation by a factor of more than 1.5. Other results are between. For one parameter the
largest error of the distribution function counts too (0.15 and 0.2). A false verdict is a wrong
result that is confirmed, or corrected moments that are wrong. The limits were chosen on the
problems 0 to 199, 1000 to 1119 and 2000 to 2199. The 200 problems take about five minutes on an
idle core.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from posterior_problems import lynx_hare, pk
from verdict_problems import Known, random_problem, sounding, squares

import ekitools as ek
from ekitools.results.trust import judge, verdict

METHODS = {"EKI": ek.EKI(), "GNKI": ek.GNKI()}
VERDICTS = ("confirmed", "corrected", "not confirmed")


def kind(errors: tuple[float, float], misplaced: float = 0.0) -> str:
    shift, log_ratio = errors
    if shift <= 0.3 and log_ratio <= np.log(1.25) and misplaced <= 0.15:
        return "right"
    wrong = shift > 0.5 or log_ratio > np.log(1.5) or misplaced > 0.2
    return "wrong" if wrong else "between"


def judged(known: Known, method: Any, n_members: int, seed: int, n: int) -> dict[str, Any]:
    """One run, what the summary says of it, and the verdict of n runs more."""
    result = ek.run(known.problem, method, n_members=n_members, rng=seed)
    u = ek.posterior(result).to_dataarray().values
    errors = known.errors(u.mean(axis=1), u.std(axis=1, ddof=1))
    found = kind(errors, known.misplaced(u.T))
    checked = ek.check_posterior(result, known.problem, n, rng=seed)
    said = checked.attrs["verdict"]
    corrected = "–"
    if "checked_mean" in checked:
        corrected = kind(known.errors(checked.checked_mean.values, checked.checked_sd.values))
    trust = verdict(judge(result)).level
    return {
        "found": found,
        "doubted": trust in ("care", "bad"),
        "said": said,
        "corrected": corrected,
        "false": (said, found) == ("confirmed", "wrong")
        or (said, corrected) == ("corrected", "wrong"),
    }


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield f"{'result':>9}{'runs':>7}{'no doubt':>10}{'doubted':>9} |" + "".join(
        f"{said:>15}" for said in VERDICTS
    )
    for found in ("right", "between", "wrong"):
        these = [row for row in rows if row["found"] == found]
        doubted = sum(row["doubted"] for row in these)
        said = Counter(row["said"] for row in these)
        yield f"{found:>9}{len(these):>7}{len(these) - doubted:>10}{doubted:>9} |" + "".join(
            f"{said[each]:>15}" for each in VERDICTS
        )
    corrected = [row["corrected"] for row in rows if row["said"] == "corrected"]
    yield f"corrected moments: {dict(Counter(corrected))}; false verdicts: " + str(
        sum(row["false"] for row in rows)
    )


def random_problems(first: int, last: int) -> None:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in METHODS}
    for seed in range(first, last):
        try:
            known = random_problem(seed)
        except RuntimeError as error:
            print(f"# {seed} left out: {error}")
            continue
        for name, method in METHODS.items():
            row = judged(known, method, 200, seed, 200)
            rows[name].append(row)
            if row["false"] or (row["found"] == "wrong" and not row["doubted"]):
                print(f"# {known.name}, {name}: {row}", flush=True)
    for name, these in rows.items():
        print(f"\n{name}, 200 members, check by 200 runs; problems {first} to {last - 1}")
        print("\n".join(table(these)), flush=True)


def named(seeds: int) -> None:
    cases = [squares(tilt, noise) for tilt in (0.0, 0.3) for noise in (0.1, 0.3)]
    for make in (pk, lynx_hare):
        case = make()
        cases.append(Known(case.name, case.problem, *case.reference.T))
    cases.append(sounding())
    methods = METHODS | {"UKI": ek.UKI()}
    for known in cases:
        for name, method in methods.items():
            n = 1000 if len(known.mean) > 20 else 200
            each = [judged(known, method, None if name == "UKI" else 200, s, n)
                    for s in range(seeds)]  # fmt: skip
            print(f"\n{known.name}: {name}, {seeds} seeds, check by {n} runs")
            print("\n".join(table(each)), flush=True)


def main() -> None:
    warnings.simplefilter("ignore")
    what, *numbers = sys.argv[1:] or ["random"]
    if what == "named":
        named(int(numbers[0]) if numbers else 20)
    else:
        random_problems(*(map(int, numbers) if numbers else (3000, 3200)))


if __name__ == "__main__":
    main()
