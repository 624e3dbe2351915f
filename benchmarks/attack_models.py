"""Rude models with every executor.

Each model of `rude_models` misbehaves at one member of the second ensemble, or always. ekitools
withstands it if the run is bitwise the run of a polite model without this member, the reason of the
failure names the cause in at most 2,000 characters, and the arrays and the alarm of the caller are
unchanged.
"""

from __future__ import annotations

import concurrent.futures as cf
import json
import logging
import multiprocessing
import os
import random
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from attack_tools import Row, differs, method, polite, problem, tally
from rude_models import ACTS, TIMEOUT, Rude, Together

import ekitools as ek

N_MEMBERS, RUDE = 6, 2
IN_PROCESSES = ("processes", "loky", "dask processes")
"""Executors whose workers may die."""


@contextmanager
def dask(**options) -> Iterator[Any]:
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=2,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            **options,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor(pure=False)


def loky() -> Any:
    from loky import ProcessPoolExecutor

    return ProcessPoolExecutor(2)


EXECUTORS = {
    "serial": nullcontext,
    "vectorized": nullcontext,
    "threads": lambda: cf.ThreadPoolExecutor(2),
    "processes": lambda: cf.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")),
    "loky": loky,
    "dask threads": lambda: dask(processes=False, threads_per_worker=1),
    "dask processes": lambda: dask(processes=True, threads_per_worker=1),
}
NEEDS = {"loky": "loky", "dask threads": "distributed", "dask processes": "distributed"}


class Reference:
    """The runs of polite models, and the member that is rude."""

    def __init__(self) -> None:
        self.u = np.random.default_rng(1).normal(size=(N_MEMBERS, 3))
        self.whole = self.run(polite)
        self.at = self.whole.u.values[1, RUDE]
        self.lost = self.run(
            lambda u: np.full(3, np.nan) if np.array_equal(u, self.at) else polite(u)
        )

    def run(self, fn, **options) -> Any:
        return ek.run(problem(fn), method(0.25), ensemble=self.u.copy(), rng=0, **options)


@contextmanager
def as_they_were() -> Iterator[None]:
    """Restore all that a model changes in its own process."""
    folder, errors, state = Path.cwd(), np.geterr(), random.getstate()
    seeds = np.random.get_state()  # noqa: NPY002
    alarm = signal.getsignal(signal.SIGALRM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        os.chdir(folder)
        np.seterr(**errors)
        random.setstate(state)
        np.random.set_state(seeds)  # noqa: NPY002


def outcome(reference, act, where, executor) -> str | None:
    """None where the model was held, else what happened."""
    what = ACTS[act]
    always = what.cause is None and what.ends is None
    model = (Together if where == "vectorized" else Rude)(act, None if always else reference.at)
    given, data = reference.u.copy(), polite(np.ones(3))
    prior = ek.GaussianPrior(np.zeros(3), 1.0)
    asked = ek.InverseProblem(model, prior, 0.01, data)
    timeout = TIMEOUT if "sleeps" in act else 100.0 if "alarm" in act else None
    mine, error = signal.getsignal(signal.SIGALRM), None
    strictness = np.geterr()
    with as_they_were(), tempfile.TemporaryDirectory() as scratch:
        if timeout:
            mine = lambda *_: None  # noqa: E731
            signal.signal(signal.SIGALRM, mine)
            signal.setitimer(signal.ITIMER_REAL, 1000.0, 50.0)
        os.chdir(scratch)
        try:
            found = ek.run(
                asked, method(0.25), ensemble=given, rng=0, executor=executor,
                timeout=timeout, checkpoint="here",
            )  # fmt: skip
        except ek.RunError as caught:
            error, found = caught, caught.result
        except BaseException as caught:
            return f"{caught!r:.200}"
        if np.geterr() != strictness:
            return "the error state of NumPy is not what it was"
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        kept = signal.getsignal(signal.SIGALRM) is mine
        if timeout and not (kept and 1000 - 60 < left <= 1000 and interval == 50.0):
            return "the alarm of the caller is not what it was"
        if (why := judged(what, where, reference, found, error)) is not None:
            return why
        if not Path(scratch, "here", "checkpoint.json").exists():
            return "the checkpoint is elsewhere"
    if not (np.array_equal(given, reference.u) and np.array_equal(data, polite(np.ones(3)))):
        return "the arrays of the caller were changed"
    return None


def judged(what, where, reference, found, error) -> str | None:
    """None where a run ended as it should have."""
    if what.ends == "interrupted":
        if found.attrs["status_code"] != "interrupted":
            return f"ended with {found.attrs['status_code']}"
        return differs(found, reference.whole, 1)
    if what.ends == "died" and where != "dask processes":
        if error is None or "worker died" not in str(error):
            return f"ended with {error!r:.200}"
        return differs(found, reference.whole, 1)
    if where == "vectorized" and what.together is not None:
        if error is None or what.together not in str(error):
            return f"ended with {error!r:.200}"
        return None
    if error is not None:
        return f"{error!r:.300}"
    failures = json.loads(found.attrs["failures"])
    if what.cause is None:
        return f"{failures!r:.200}" if failures else differs(found, reference.whole)
    if [(each["iteration"], each["member"]) for each in failures] != [(1, RUDE)]:
        return f"{failures!r:.200}"
    reason = failures[0]["reason"]
    if what.cause not in reason or len(reason) > 2000:
        return f"the reason is {reason:.200}"
    return differs(found, reference.lost)


def outcomes(where, reference, acts=tuple(ACTS)) -> Iterator[str | None]:
    """Each rude model with one executor; those that kill workers have one of their own."""
    deadly = [act for act in acts if ACTS[act].ends == "died"]
    for group in ([act for act in acts if act not in deadly], *([act] for act in deadly)):
        if group == deadly and where not in IN_PROCESSES:
            continue
        with EXECUTORS[where]() as executor:
            for act in group:
                found = outcome(reference, act, where, executor)
                yield found and f"{act}: {found}"


def attack(*, quick=False, report=print) -> list[Row]:
    """A row for every executor that is installed; the quick ones share the models."""
    reference = Reference()
    installed = [w for w in EXECUTORS if w not in NEEDS or find_spec(NEEDS[w]) is not None]
    acts = dict.fromkeys(installed, tuple(ACTS))
    if quick:
        few = [where for where in installed if where not in NEEDS]
        acts = {where: tuple(ACTS)[i :: len(few)] for i, where in enumerate(few)}
    return [
        tally(f"rude models: {where}", outcomes(where, reference, those), report)
        for where, those in acts.items()
    ]
