"""Model outputs along a flow, entries of the kept times, and statuses of the end."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import double, host, like
from ekitools.core.errors import RunError
from ekitools.flows.right_hand_sides import Output
from ekitools.models.evaluate import evaluate
from ekitools.problem import InverseProblem
from ekitools.typing import Flow, SamplingFlow, Status

__all__ = ["Entry", "Outputs", "at_the_end", "gave_up"]


class Entry(NamedTuple):
    """Ensemble and outputs at one time of a flow."""

    t: float
    u: np.ndarray
    g: np.ndarray
    runs: int
    """Model runs so far."""


class Outputs:
    """G and ∇Ψ at an ensemble, with a cache of the last ensemble and a count of model runs.

    Parameters
    ----------
    problem : InverseProblem
        The problem with the model.
    reference : array, optional
        An array of the kind that the model receives; by default NumPy in float64.
    """

    def __init__(self, problem: InverseProblem, reference: Any = None) -> None:
        self.problem, self._reference = problem, reference
        self.runs = 0
        self.failures: dict[int, str] = {}
        self._seen = np.empty((0, 0))
        self._last: Output | None = None

    def __call__(self, u: np.ndarray, seeds: Any = None) -> Output:
        """G and ∇Ψ at the ensemble ``u``, ``(J, p)``.

        Raises
        ------
        RunError
            If the model fails for a member.
        """
        if self._last is None or not self._is_last(u):
            problem = self.problem
            physical = np.asarray(problem.prior.to_physical(u)).view()
            physical.flags.writeable = False
            given = physical if self._reference is None else like(physical, self._reference)
            g, failures, _ = evaluate(problem.model, given, problem.n_data, seeds=seeds)
            g = g if self._reference is None else double(host(g))
            self.runs += len(u)
            if failures:
                self.failures = {row: failure.reason for row, failure in failures.items()}
                row, failure = next(iter(failures.items()))
                raise RunError(
                    f"model: failed for member {row} during a flow ({failure.reason}). A flow "
                    "needs every member. Use ek.run, which can drop members, or a narrower prior. "
                    "The error's result holds the times computed so far."
                ) from next((f.error for f in failures.values() if f.error), None)
            if self._seen.shape != u.shape:
                self._seen = np.empty(u.shape)
            np.copyto(self._seen, u)  # a solver may reuse its array
            self._last = Output(g, problem.noise.gradient(g, problem.data))
        return self._last

    def entry(self, t: float, u: np.ndarray) -> Entry:
        """The entry of time ``t``."""
        return Entry(float(t), u, self(u).g, self.runs)

    def _is_last(self, u: np.ndarray) -> bool:
        # the first member differs in most ensembles
        return np.array_equal(u[:1], self._seen[:1]) and np.array_equal(u, self._seen)


def gave_up(t: float, message: str) -> Status:
    """The status of a flow whose solver failed."""
    return Status(
        "solver_failed",
        f"The solver failed at t = {t:.4g}: {message} The result holds the times computed so far. "
        "Use an implicit method, a longer step, larger tolerances, or a shorter t_span.",
        level="bad",
    )


def at_the_end(flow: Flow, t: float) -> Status:
    """The status of a flow that reached the end of its time span."""
    posterior = isinstance(flow, SamplingFlow) and flow.samples_posterior(t)
    sentence = f"The flow was integrated to t = {t:g}."
    return Status("t_end_reached", sentence, level="good", posterior=posterior)
