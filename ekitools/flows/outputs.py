"""Outputs of the model along a flow, the times kept, and why a flow ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.errors import RunError
from ekitools.flows.right_hand_sides import Output
from ekitools.models.evaluate import evaluate
from ekitools.problem import InverseProblem
from ekitools.typing import Status

__all__ = ["Entry", "Outputs", "Stops"]


class Entry(NamedTuple):
    """One time of a flow."""

    t: float
    u: np.ndarray
    g: np.ndarray
    runs: int
    """Model runs so far."""


class Outputs:
    """G and ∇Ψ at an ensemble, remembering the last one, and how many runs that took."""

    def __init__(self, problem: InverseProblem) -> None:
        self.problem = problem
        self.runs = 0
        self.failures: dict[int, str] = {}
        self._seen = np.empty((0, 0))
        self._last: Output | None = None

    def __call__(self, u: np.ndarray, seeds: Any = None) -> Output:
        """Of the ensemble ``(J, p)``.

        Raises
        ------
        RunError
            If the model fails for a member.
        """
        if self._last is None or not self._is_last(u):
            problem = self.problem
            physical = np.asarray(problem.prior.to_physical(u)).view()
            physical.flags.writeable = False
            g, failures = evaluate(problem.model, physical, problem.n_data, seeds=seeds)
            self.runs += len(u)
            if failures:
                self.failures = {row: failure.reason for row, failure in failures.items()}
                row, failure = next(iter(failures.items()))
                raise RunError(
                    f"model: failed for member {row} during a flow ({failure.reason}). A flow "
                    "needs every member; use ek.run, which can drop some, or a tamer prior. The "
                    "part computed until then is in this error's result."
                ) from next((f.error for f in failures.values() if f.error), None)
            if self._seen.shape != u.shape:
                self._seen = np.empty(u.shape)
            np.copyto(self._seen, u)  # a solver may use its own array again
            self._last = Output(g, problem.noise.gradient(g, problem.data))
        return self._last

    def entry(self, t: float, u: np.ndarray) -> Entry:
        """What is kept of time ``t``."""
        return Entry(float(t), u, self(u).g, self.runs)

    def _is_last(self, u: np.ndarray) -> bool:
        # one member tells most ensembles apart
        return np.array_equal(u[:1], self._seen[:1]) and np.array_equal(u, self._seen)


Stops = dict[str, Callable[[np.ndarray, Outputs], float]]
"""Status codes, each with a function of the ensemble that falls to zero where the flow stops."""


def _stopped(stops: Stops, u: np.ndarray, outputs: Outputs) -> str | None:
    return next((code for code, distance in stops.items() if distance(u, outputs) <= 0), None)


def _stop_status(code: str, t: float) -> Status:
    return Status(code, f"The integration stopped at t = {t:.4g} by an event ({code}).")


def _gave_up(t: float, message: str) -> Status:
    return Status(
        "solver_failed",
        f"The solver gave up at t = {t:.4g}: {message} What it computed until then is here; use "
        "an implicit method or a longer step, larger tolerances, or a shorter t_span.",
    )
