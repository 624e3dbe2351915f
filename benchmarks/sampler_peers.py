"""Model runs to means and standard deviations: ekitools and samplers of other packages.

    pip install emcee pymc blackjax dynesty pocomc dill multiprocess scikit-learn
    python benchmarks/sampler_peers.py FOLDER [--problem ...] [--only WORD ...] [--seeds 5]
        [--longest 120] [--table]

`sampler_problems.py` has the three problems: a pharmacokinetic equation and Lotka-Volterra, both
with unknown scales of the noise, and Darcy flow with 32 parameters. `posterior_peers.py` has the
samplers of other packages and their settings. Every method has a list of settings with rising cost.
The table has the first setting that is right. *Worst mean* is the largest error of a parameter's
mean in posterior standard deviations, and *worst sd* is the largest factor between a standard
deviation and its reference. Both are medians over the seeds; a setting is right if they are at most
0.1 and 1.1. Otherwise the row has the best setting. The model counts its runs.

Every run is a line of JSON in FOLDER and is not repeated, so a stopped command continues when it is
called again. Seconds are processor seconds. A list of settings also ends if a run takes more than
``--longest`` seconds. With ``--table`` the script prints the tables of the stored runs, without new
runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from posterior_peers import PEERS
from posterior_problems import Case
from posterior_runs import by, of_result, smc_from_gnki
from sampler_problems import CASES

import ekitools as ek

MOST_MEAN, MOST_RATIO = 0.1, 1.1
FIRST = 50
"""Number of members in the run of GNKI before an emulator."""

_PACKAGES = ("emcee", "pymc", "blackjax", "dynesty", "pocomc")
_PARTICLES = tuple({"J": n} for n in (125, 250, 500, 1000, 2000, 4000))


def emulated(case: Case, seed: int, *, n_draws: int) -> np.ndarray:
    """`sample_emulated` after `GNKI`."""
    members = max(FIRST, case.p + 20)
    first = ek.run(case.problem, ek.GNKI(), n_members=members, rng=seed)
    emulator = ek.emulate(first, case.problem)
    return of_result(ek.sample_emulated(emulator, n_draws=n_draws, max_runs=6000, rng=seed))


class Row(NamedTuple):
    """A method and its ladder."""

    estimate: Callable[..., np.ndarray]
    rungs: tuple[dict[str, Any], ...]


def rows() -> dict[str, Row]:
    """Every method that is installed, by label."""
    found = {
        f"GNKI with {FIRST} members, emulate, sample_emulated": Row(
            emulated, tuple({"n_draws": n} for n in (200, 400, 800, 1600))
        ),
        "TemperedSMC, from GNKI with 100 members": Row(smc_from_gnki, _PARTICLES),
        "TemperedSMC()": Row(by(ek.TemperedSMC), _PARTICLES),
        "GNKI()": Row(by(ek.GNKI), tuple({"J": n} for n in (100, 200, 400, 800, 1600))),
    }
    for label, (package, estimate, rungs) in PEERS.items():
        if package in _PACKAGES and find_spec(package) is not None:
            found[label.replace(",", f" {version(package)},", 1)] = Row(estimate, rungs)
    return found


class Store:
    """Runs as lines of JSON, one file for each problem."""

    def __init__(self, folder: Path, problem: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{problem}.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.known = {self._key(each): each for each in map(json.loads, lines)}

    @staticmethod
    def _key(each: dict[str, Any]) -> str:
        return json.dumps([each["method"], each["settings"], each["seed"]], sort_keys=True)

    def get(self, method: str, settings: dict[str, Any], seed: int) -> dict[str, Any] | None:
        return self.known.get(self._key({"method": method, "settings": settings, "seed": seed}))

    def add(self, each: dict[str, Any]) -> None:
        self.known[self._key(each)] = each
        with self.path.open("a") as file:
            file.write(json.dumps(each) + "\n")


def measured(
    case: Case, label: str, row: Row, settings: dict[str, Any], seed: int
) -> dict[str, Any]:
    """One run. A run that fails, or is not finite, has moments of None."""
    since, case.counted.runs, failure = time.process_time(), 0, ""
    found = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = row.estimate(case, seed, **settings)
        if not np.isfinite(found).all():
            failure, found = "moments that are not finite", None
    except (ek.RunError, np.linalg.LinAlgError, ValueError, RuntimeError, AssertionError) as error:
        failure = f"{type(error).__name__}: {error}"
    return {
        "method": label,
        "settings": settings,
        "seed": seed,
        "runs": case.counted.runs,
        "seconds": round(time.process_time() - since, 2),
        "failure": failure,
        "moments": None if found is None else found.tolist(),
    }


class Judged(NamedTuple):
    """Results of a setting over the seeds."""

    settings: dict[str, Any]
    runs: float
    mean: float
    ratio: float
    most: float
    """Largest worst mean of a seed."""
    seconds: float
    seeds: int
    failures: int

    @property
    def right(self) -> bool:
        return self.mean <= MOST_MEAN and self.ratio <= MOST_RATIO

    @property
    def distance(self) -> float:
        """Largest error, as a multiple of the allowed one."""
        return max(self.mean / MOST_MEAN, np.log(self.ratio) / np.log(MOST_RATIO))


def judged(each: list[dict[str, Any]], reference: np.ndarray) -> Judged:
    """Medians over the seeds; a failed run has infinite errors."""
    means, ratios = [], []
    for one in each:
        if one["moments"] is None:
            means.append(np.inf)
            ratios.append(np.inf)
            continue
        found = np.array(one["moments"])
        means.append(np.max(np.abs(found[:, 0] - reference[:, 0]) / reference[:, 1]))
        with np.errstate(divide="ignore"):
            ratios.append(np.exp(np.max(np.abs(np.log(found[:, 1] / reference[:, 1])))))
    return Judged(
        each[0]["settings"],
        float(np.median([one["runs"] for one in each])),
        float(np.median(means)),
        float(np.median(ratios)),
        float(np.max(means)),
        float(np.median([one["seconds"] for one in each])),
        len(each),
        sum(one["moments"] is None for one in each),
    )


def climb(
    case: Case, label: str, row: Row, store: Store, seeds: int, longest: float, *, run: bool
) -> Judged | None:
    """The first setting that is right, else the best setting; None without stored runs."""
    best: Judged | None = None
    for settings in row.rungs:
        each, slow = [], False
        for seed in range(seeds):
            one = store.get(label, settings, seed)
            if one is None:
                if not run:
                    continue
                one = measured(case, label, row, settings, seed)
                store.add(one)
                told = {**one, "moments": None}
                print(case.name, told, file=sys.stderr, flush=True)
            each.append(one)
            slow = slow or one["seconds"] > longest
        if not each:
            break
        found = judged(each, case.reference)
        if best is None or found.distance < best.distance:
            best = found
        if found.right:
            return found
        if slow:
            break
    return best


def written(label: str, found: Judged, seeds: int) -> str:
    """A row of the table."""
    settings = ", ".join(
        f"{name} = {value}" for name, value in found.settings.items() if value is not True
    )
    runs = f"{found.runs:,.0f}" if found.right else f"not reached; best {found.runs:,.0f}"
    if found.failures:
        runs += f"; {found.failures} of {found.seeds} failed"
    if found.seeds < seeds:
        runs += f" ({found.seeds} seeds)"
    mean, most = (f"{x:.3f}" if x < 100 else "-" for x in (found.mean, found.most))
    ratio = f"{found.ratio:.2f}" if found.ratio < 100 else "-"
    return f"| {label} | {settings} | {runs} | {mean} | {most} | {ratio} | {found.seconds:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--problem", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--longest", type=float, default=120.0)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    for name in options.problem:
        case, store = CASES[name](), Store(options.folder, name)
        print(
            f"\n{name}\n\n| method | settings | model runs | worst mean | largest | worst sd | s |"
        )
        print("|---|---|---|---|---|---|---|")
        each = rows()
        if options.table:  # also of packages that are not installed here
            labels = dict.fromkeys(one["method"] for one in store.known.values())
            each |= {label: Row(_none, _rungs(store, label)) for label in labels}
        for label, row in each.items():
            if options.only and not any(word in label for word in options.only):
                continue
            go = partial(climb, case, label, row, store, options.seeds, options.longest)
            found = go(run=not options.table)
            if found is not None:
                print(written(label, found, options.seeds), flush=True)


def _rungs(store: Store, label: str) -> tuple[dict[str, Any], ...]:
    """Settings of stored runs, in their order."""
    known = [one["settings"] for one in store.known.values() if one["method"] == label]
    return tuple(json.loads(each) for each in dict.fromkeys(map(json.dumps, known)))


def _none(*_: Any, **__: Any) -> np.ndarray:
    raise AssertionError("no runs with --table")


if __name__ == "__main__":
    main()
