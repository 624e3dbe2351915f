"""Stopping rules along a flow, asked at stored times. A rule with a distance is an event."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np

from ekitools.flows.outputs import Outputs
from ekitools.linalg import total_variance
from ekitools.typing import LocatedRule, Progress, Status, StoppingRule

__all__ = ["Watch"]


class Watch:
    """The stopping rules of one flow.

    Parameters
    ----------
    rules : sequence of StoppingRule
        The first rule that fires ends the flow.
    outputs : Outputs
        G along the flow.
    variance : float
        Total variance of the initial ensemble.
    """

    def __init__(self, rules: Sequence[StoppingRule], outputs: Outputs, variance: float) -> None:
        self.rules = tuple(rules)
        self.outputs = outputs
        self.variance = variance
        self._trace: list[float] = []
        self._traced = any(not isinstance(rule, LocatedRule) for rule in self.rules)
        self._fired: dict[int, Status] = {}

    def status(self, u: np.ndarray) -> Status | None:
        """The status of the first rule that fires at an accepted ensemble."""
        if not self.rules:
            return None
        self._record(u)
        progress = self._progress(u)
        return next((s for rule in self.rules if (s := rule.check(progress)) is not None), None)

    def reached(self, i: int, u: np.ndarray) -> Status:
        """The status of rule ``i`` at the time that the solver has found for it."""
        rule = self.rules[i]
        if isinstance(rule, LocatedRule):
            return rule.reached(self._progress(u))
        return self._fired[i]

    def events(self, start: float, members: Callable[[np.ndarray], np.ndarray]) -> list[Any]:
        """An event of `scipy.integrate.solve_ivp` for every rule, in their order."""
        return [self._event(i, start, members) for i in range(len(self.rules))]

    def _event(self, i: int, start: float, members: Callable[[np.ndarray], np.ndarray]) -> Any:
        rule, latest, fired = self.rules[i], start, math.inf

        def located(t: float, x: np.ndarray) -> float:
            assert isinstance(rule, LocatedRule)
            return 1.0 if t == start else rule.distance(self._progress(members(x)))

        def asked(t: float, x: np.ndarray) -> float:
            """A number that first falls to zero at the accepted time at which the rule fires."""
            nonlocal latest, fired
            if t > latest:  # after an accepted step; only root finding asks for earlier times
                latest = t
                if i == self._first_asked:
                    self._record(members(x))
                status = rule.check(self._progress(members(x)))
                if status is not None:
                    fired, self._fired[i] = t, status
            return 1.0 if t < fired else 0.0

        stop: Any = located if isinstance(rule, LocatedRule) else asked
        stop.terminal, stop.direction = True, -1  # SciPy reads this attribute
        return stop

    @cached_property
    def _first_asked(self) -> int:
        return next(i for i, rule in enumerate(self.rules) if not isinstance(rule, LocatedRule))

    def _record(self, u: np.ndarray) -> None:
        if self._traced:
            problem = self.outputs.problem
            with np.errstate(over="ignore", invalid="ignore"):
                misfit = problem.noise.misfit(self.outputs(u).g, problem.data)
                self._trace.append(float(np.mean(misfit)))

    def _progress(self, u: np.ndarray) -> Progress:
        return cast("Progress", _Here(u, self.outputs, self.variance, tuple(self._trace)))


class _Here:
    """A `Progress` computed on request, because the residual may cost model runs."""

    def __init__(
        self, u: np.ndarray, outputs: Outputs, variance: float, trace: tuple[float, ...]
    ) -> None:
        self._u, self._outputs, self._variance = u, outputs, variance
        self.n_data = outputs.problem.n_data
        self.trace = trace

    @cached_property
    def spread(self) -> float:
        """Root of the total variance, relative to the initial one."""
        with np.errstate(over="ignore", invalid="ignore"):  # the integrator handles an overflow
            return math.sqrt(total_variance(self._u) / self._variance)

    @cached_property
    def residual(self) -> float:
        """‖Γ^{-1/2}(Ḡ − y)‖; NaN without Gaussian noise."""
        problem = self._outputs.problem
        if not problem.has_noise:
            return math.nan
        with np.errstate(over="ignore", invalid="ignore"):
            white = problem.noise.whiten(self._outputs(self._u).g.mean(axis=0) - problem.data)
            return float(np.linalg.norm(white))
