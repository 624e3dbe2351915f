"""Verdicts of `ek.solve` on problems with known posteriors.

    python benchmarks/solving.py                       the random problems 5000 to 5199
    python benchmarks/solving.py random 0 50           others
    python benchmarks/solving.py wide                  100 problems of 13 to 40 parameters
    python benchmarks/solving.py named 20              problems of the literature, with 20 seeds
    python benchmarks/solving.py named 5 --only banana sounding

*Right* and *wrong* are as in `verdicts.py`: a mean is off by at most 0.3 or more than 0.5 standard
deviations, a standard deviation by a factor of at most 1.25 or more than 1.5, and, for one
parameter, the distribution function by at most 0.15 or more than 0.2. All other results are in
between. A result that was corrected is judged by its corrected moments. A false verdict is a
confirmed or corrected result that is wrong. The last line has the errors of the confirmed results.
``--budget`` is the budget of `solve`. Every line of the output is kept in the file ``--out``, if
given, and a run with the same file continues from there. The limits of `solve` were chosen on the
random problems 0 to 99 and 4000 to 4199.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from emulated import lynx_hare_unknown, pk_unknown
from posterior_problems import lynx_hare, pk
from sampler_problems import darcy
from verdict_problems import (
    Known,
    by_grid,
    random_problem,
    sounding,
    squares,
    wide_problem,
)
from verdicts import kind

import ekitools as ek

VERDICTS = ("confirmed", "corrected", "not confirmed")
TIMES = np.linspace(0.5, 10.0, 20)


def planar(
    name: str, outputs: Callable[[np.ndarray], np.ndarray], data: list[float], noise: float, p: int
) -> Known:
    """A problem of one or two parameters with the prior N(0, I)."""
    prior = ek.GaussianPrior(np.zeros(p), 1.0)
    model = ek.FunctionModel(outputs, vectorized=True)
    problem = ek.InverseProblem(model, prior, noise**2, data)

    def misfit(u: np.ndarray) -> np.ndarray:
        return 0.5 * np.sum(((outputs(u) - data) / noise) ** 2, axis=1)

    return Known(name, problem, *by_grid(misfit, p))


def banana() -> Known:
    return planar("banana", lambda u: u[:, 1:] + 2 * (u[:, :1] ** 2 - 1), [0.0], 0.2, 2)


def funnel() -> Known:
    return planar("funnel", lambda u: u[:, 1:] * np.exp(1.5 * u[:, :1]), [0.0], 0.3, 2)


def sine() -> Known:
    """sin(ω t) at twenty times, with ω ~ N(3, 1)."""
    data = np.sin(3.7 * TIMES) + 0.5 * np.random.default_rng(5).standard_normal(TIMES.size)
    return planar("sin(ωt)", lambda u: np.sin((3 + u) * TIMES), data.tolist(), 0.5, 1)


def plateau() -> Known:
    return planar("plateau", lambda u: np.tanh(4 * u), [0.95], 0.1, 1)


def ode(name: str, make: Any) -> Known:
    case = make()
    return Known(name, case.problem, *case.reference.T)


NAMED: dict[str, Callable[[], Known]] = {
    "squares": lambda: squares(0.0, 0.1),
    "squares_wide": lambda: squares(0.0, 0.3),
    "tilted": lambda: squares(0.3, 0.1),
    "tilted_wide": lambda: squares(0.3, 0.3),
    "banana": banana,
    "funnel": funnel,
    "sine": sine,
    "plateau": plateau,
    "pk": lambda: ode("pk", pk),
    "pk_unknown": lambda: ode("pk, noise unknown", pk_unknown),
    "lynx_hare": lambda: ode("lynx_hare", lynx_hare),
    "lynx_hare_unknown": lambda: ode("lynx_hare, noise unknown", lynx_hare_unknown),
    "darcy": lambda: ode("Darcy flow, 32 parameters", darcy),
    "sounding": sounding,
}


def solved(known: Known, seed: int, budget: int | None) -> dict[str, Any]:
    """One call of `solve`, judged."""
    since = time.perf_counter()
    result = ek.solve(known.problem, budget=budget, rng=seed)
    said = result.attrs["verdict"]
    u = ek.posterior(result).to_dataarray().values
    if said == "corrected":
        errors = known.errors(result.checked_mean.values, result.checked_sd.values)
        found = kind(errors)
    else:
        errors = known.errors(u.mean(axis=1), u.std(axis=1, ddof=1))
        found = kind(errors, known.misplaced(u.T))
    return {
        "name": known.name,
        "seed": seed,
        "said": said,
        "found": found,
        "false": said != "not confirmed" and found == "wrong",
        "mean": errors[0],
        "sd": float(np.exp(errors[1])),
        "runs": int(result.attrs["n_runs"]),
        "stages": len(json.loads(result.attrs["path"])) - 1,
        "seconds": time.perf_counter() - since,
    }


class Kept:
    """Rows that an earlier run has stored in a file."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.rows = path, {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                key, row = json.loads(line)
                self.rows[tuple(key)] = row

    def get(self, key: tuple[Any, ...], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if key not in self.rows:
            self.rows[key] = make()
            if self.path is not None:
                with self.path.open("a") as file:
                    file.write(json.dumps([key, self.rows[key]]) + "\n")
        return self.rows[key]


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield f"{'result':>9}{'calls':>7}{'runs, median':>14}{'largest':>9} |" + "".join(
        f"{said:>15}" for said in VERDICTS
    )
    for found in ("right", "between", "wrong"):
        these = [row for row in rows if row["found"] == found]
        runs = [row["runs"] for row in these] or [0]
        said = Counter(row["said"] for row in these)
        yield f"{found:>9}{len(these):>7}{np.median(runs):>14.0f}{max(runs):>9} |" + "".join(
            f"{said[each]:>15}" for each in VERDICTS
        )
    right = [row for row in rows if row["found"] == "right"]
    share = np.mean([row["said"] == "confirmed" for row in right]) if right else float("nan")
    yield (
        f"false verdicts: {sum(row['false'] for row in rows)}; {100 * share:.0f} % of the right "
        f"results are confirmed; {sum(row['seconds'] for row in rows):.0f} s"
    )
    if confirmed := [row for row in rows if row["said"] == "confirmed"]:
        mean, sd = (np.array([row[name] for row in confirmed]) for name in ("mean", "sd"))
        yield (
            f"confirmed: worst mean {np.median(mean):.2f} standard deviations (largest "
            f"{mean.max():.2f}), worst standard deviation {np.median(sd):.2f} (largest "
            f"{sd.max():.2f})"
        )


MAKERS = {"random": random_problem, "wide": wide_problem}


def random_problems(what: str, first: int, last: int, budget: int | None, kept: Kept) -> None:
    rows = []
    for seed in range(first, last):

        def made(seed: int = seed) -> dict[str, Any]:
            try:
                known = MAKERS[what](seed)
            except RuntimeError as error:
                return {"left out": str(error)}
            return solved(known, seed, budget)

        row = kept.get((what, seed, budget), made)
        if "left out" in row:
            print(f"# {seed} left out: {row['left out']}")
            continue
        rows.append(row)
        if row["false"] or row["said"] != "confirmed":
            print(f"# {row}", flush=True)
    print(f"\n{what} problems {first} to {last - 1}, budget {budget or 'by default'}")
    print("\n".join(table(rows)), flush=True)


def named(names: list[str], seeds: int, budget: int | None, kept: Kept) -> None:
    for name in names:
        known: list[Known] = []

        def made(seed: int, name: str = name, known: list[Known] = known) -> dict[str, Any]:
            if not known:
                known.append(NAMED[name]())
            return solved(known[0], seed, budget)

        rows = [kept.get((name, seed, budget), lambda s=seed: made(s)) for seed in range(seeds)]
        print(f"\n{rows[0]['name']}, {seeds} seeds, budget {budget or 'by default'}")
        print("\n".join(table(rows)), flush=True)


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description="Verdicts of ek.solve.")
    parser.add_argument("what", nargs="?", choices=("random", "wide", "named"), default="random")
    parser.add_argument("numbers", nargs="*", type=int)
    parser.add_argument("--only", nargs="+", choices=tuple(NAMED), default=list(NAMED))
    parser.add_argument("--budget", type=int)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(sys.argv[1:])
    kept = Kept(given.out)
    if given.what == "named":
        named(given.only, given.numbers[0] if given.numbers else 20, given.budget, kept)
    else:
        first, last = given.numbers or (5000, 5200 if given.what == "random" else 5100)
        random_problems(given.what, first, last, given.budget, kept)


if __name__ == "__main__":
    main()
