"""One step of the loop: check the outputs, record them and advance the state."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ekitools.core import statuses
from ekitools.core.arrays import array_namespace, host, is_numpy, like, take_rows
from ekitools.core.errors import RunError
from ekitools.core.fetching import Awaited, awaiting
from ekitools.loop.ending import concluded
from ekitools.loop.failures import (
    all_usable,
    check_failures,
    fatal_sentence,
    name_reasons,
    replaced,
    unusable_outputs,
)
from ekitools.loop.gaps import Gaps, no_gaps, without_gaps
from ekitools.loop.identical import first_outputs, warned_of_identical
from ekitools.loop.present import Present
from ekitools.loop.progress import stopped
from ekitools.loop.retrying import Waiting, placed_again, why_hopeless
from ekitools.methods.gaussian import GaussianStart
from ekitools.methods.unknown_noise import misfits_of_members
from ekitools.models.extras import Extra, gathered
from ekitools.models.outputs import Failure, unfit_rows
from ekitools.results.dataset import RESERVED
from ekitools.results.history import Record, numbers_of
from ekitools.typing import (
    Array,
    Quadrature,
    Starts,
    Status,
    StepInfo,
    is_sampler,
    takes_failures,
)

__all__ = ["Stepping"]


class _Tried(NamedTuple):
    """A step made before the host knows whether all outputs are usable."""

    step: tuple[Any, StepInfo]
    first: np.ndarray | None
    """The first outputs of every member, for the comparison of members."""
    mean: np.ndarray | None
    """The mean of the outputs, for the stopping rules."""


class Stepping(Present):
    """The steps of a run; `ekitools.AskTell` is the public class."""

    @np.errstate(under="ignore")  # weights and misfits may underflow under any setting
    def _take(
        self,
        g: Array,
        failures: Mapping[int, Any] | None = None,
        extras: Mapping[int, Mapping[str, Extra]] | None = None,
        before: Record | None = None,
        *,
        judged: bool = True,
    ) -> None:
        """Make a step with outputs that were checked and that share no memory with the caller.

        If failed members run again, the step waits, and `members` are the failed members.
        ``extras`` are side products by row. ``before`` is the earlier record of the same outputs.
        The record provides the counts of missing values and the side products. Without ``judged``
        the failures may lack non-finite rows of an array on a device.
        """
        history, failures = self._history, {} if failures is None else failures
        check_failures(failures, len(self.members))
        extras, tried = extras or {}, None
        if not failures and not extras and before is None and self._waiting is None:
            tried = self._tried(g)
        if tried is None and not (judged or is_numpy(g)):
            failures = {**unfit_rows(g, gaps=self.missing > 0), **failures}
        if self._waiting is not None:
            g, failures, extras = self._waiting.completed(g, failures, extras)
        everyone = np.arange(len(self._alive))
        products, labels, unfit = gathered(extras, len(everyone), history.labels, RESERVED)
        if unfit:
            rows = np.isin(everyone, list(unfit))
            g = like(np.where(rows[:, None], np.nan, host(g)), g)
            failures = {**failures, **unfit}
        gaps = no_gaps(g) if tried is not None else self._without_gaps(g, failures)
        failures = {**gaps.reasons, **failures}
        missing = gaps.counts
        if before is not None:
            missing = before.missing if before.missing.size else missing
            products = {name: rows[self._alive] for name, rows in before.extras.items()}
        raw, g = g, gaps.g
        names, unusable = self.seen.data_names or (), {}
        if tried is None:
            unusable = unusable_outputs(g, self.seen.noise_sd, names)
        lost = np.isin(everyone, list(unusable))
        reasons = name_reasons(lost, failures, unusable)
        hopeless = None
        if lost.any() and self._runs_again:
            hopeless = self._wait(lost, reasons, raw, extras)
            if hopeless is None:
                return
        waited, survivors = self._waiting, np.flatnonzero(~lost)
        if lost.any():  # rows of failed members may contain numbers
            g = like(np.where(lost[:, None], np.nan, host(g)), g)
        state, told = self._state, g
        n, t = self.n, self.t
        fatal = fatal_sentence(lost, n, self.on_failure, reasons, names, hopeless)
        shown = (self._physical(), g)
        if fatal is not None:
            with np.errstate(over="ignore", invalid="ignore"):  # rows of failed members
                asked = self.method.ask(self._state)
                misfit = misfits_of_members(asked, g, self.seen)[0]
            info = StepInfo(0.0, misfit[survivors], statuses.failed(fatal), np.nan)
        else:
            # two nodes on an axis share their outputs if the outputs do not depend on the
            # parameter of that axis; all members may do so if a step sees a part of the data
            if self._compares:
                fit, first = self.method.aim == "fit", tried and tried.first
                self._has_warned = warned_of_identical(
                    self._given(), g, survivors, n, fit=fit, first=first
                )
            if lost.any() and not takes_failures(self.method):
                state, told = self.method.select(state, survivors), take_rows(g, survivors)
            if not takes_failures(self.method):
                history.forget_replaced()
            following, info = self._step(state, told) if tried is None else tried.step
            if lost.any() and isinstance(self.method, Quadrature):
                info = info._replace(misfit=info.misfit[survivors])
                told = take_rows(g, survivors)
            if self._rules:
                mean = tried and tried.mean
                info = stopped(self._rules, info, told, self.seen, history.summaries, mean)
            if info.average is not None:
                info = info._replace(average=self.problem.prior.to_physical(info.average))
            if info.shown is not None:
                shown = (self.problem.prior.to_physical(info.shown.ensemble), info.shown.g)
            elif info.status is None and n >= self.n_steps:
                info = info._replace(step=0.0, status=self._budget_spent(t))
            if info.status is not None:
                last = state.ensemble if info.shown is None else info.shown.ensemble
                info = info._replace(status=self._concluded(info.status, last, survivors))
        hidden = lost & (info.status is not None and info.status.code != statuses.FAILED)
        u, g = self._recorded(shown[0], info.status, hidden), shown[1]
        # nothing below can fail, and the step is recorded in full
        self.seconds = time.perf_counter() - self._since
        history.model_runs += len(self.members) + (0 if waited is None else waited.runs)
        failed = ([] if waited is None else waited.failures) + self._entries(reasons)
        history.failures += failed
        self._waiting, self._n_lost = None, len(failed)
        if gaps.left_out.size:
            g = np.array(host(g))
            g[:, gaps.left_out] = np.nan
        history.labels = labels
        seen = self._observations()
        history.add(n, t, self._alive, survivors, (u, g), info, missing, products, seen)
        self.status = info.status
        if fatal is not None:
            error = RunError(fatal)
            error.result = self.result()
            raise error from next((r.error for r in reasons.values() if r.error is not None), None)
        if info.status is None:
            self._advance(following, survivors)
        self._release()

    @property
    def _compares(self) -> bool:
        """Whether to check the members for identical outputs."""
        judged = self.seen.batch is None and not isinstance(self.method, Quadrature)
        return judged and not self._has_warned

    def _without_gaps(self, g: Array, failures: Mapping[int, Any]) -> Gaps:
        return without_gaps(
            g,
            failures,
            self.missing,
            self._whitened,
            self.seen,
            leave_out=not takes_failures(self.method) and not self.problem.n_scales,
            nodes=isinstance(self.method, Quadrature),
        )

    def _tried(self, g: Array) -> _Tried | None:
        """The step of an ensemble on a device without failed members; else None.

        The flag for usable outputs is a number on the device too. The step is made before the host
        knows the flag, and the host waits for the device only once. A step is a pure function: its
        result is discarded if an output is unusable.
        """
        if is_numpy(g) or takes_failures(self.method):
            return None
        wanted = [all_usable(g, self.seen.noise_sd)]
        if self._compares:
            wanted.append(first_outputs(g))
        if self._rules:
            wanted.append(array_namespace(g).mean(g, axis=0))
        awaited = Awaited(*wanted)
        stream = self._streams.step(self.n)
        try:
            with awaiting(awaited), np.errstate(over="ignore", invalid="ignore"):
                step = self.method.tell(self._state, g, self.seen, rng=stream)
        except Exception:
            if awaited.values[0]:
                raise
            return None
        usable, *others = awaited.values
        if not usable:
            return None
        first = others.pop(0) if self._compares else None
        return _Tried(step, first, others.pop() if others else None)

    def _wait(
        self,
        lost: np.ndarray,
        reasons: Mapping[int, Failure],
        g: Array,
        extras: Mapping[int, Mapping[str, Extra]],
    ) -> str | None:
        """Give the failed members new places and wait for them, or return a reason not to."""
        n, n_lost, waiting = self.n, int(lost.sum()), self._waiting
        tries, runs, failures = 1, len(self.members), self._entries(reasons, where=True)
        if waiting is not None:
            tries, runs = waiting.tries + 1, waiting.runs + runs
            failures = waiting.failures + failures
        if why := why_hopeless(n, runs, len(lost) - n_lost, n_lost):
            share = 100 * len(failures) / runs
            return f"{why}, and {len(failures)} of {runs} runs failed ({share:.3g} %)"
        before = self._state if waiting is None else waiting.before
        stream, drawn = self._streams.policy(n, tries), None
        if n == 0 and self._start != "ensemble":
            prior = self.problem.prior
            drawn = np.array(host(self._first(len(lost))) if waiting is None else waiting.drawn)
            drawn[lost] = prior.sample_unconstrained(n_lost, rng=stream)
            state = self.method.init(like(drawn, self._state.ensemble), self.seen)
        else:
            asked, ran_before = before.ensemble, self._ran_before()
            state = placed_again(self.method, self._state, lost, asked, ran_before, tries, stream)
        if state is None:
            return "fewer than 2 are left"
        self._state, self._asked = state, None
        self._waiting = Waiting(
            before,
            np.flatnonzero(lost),
            tries,
            like(np.where(lost[:, None], np.nan, host(g)), g),
            {row: each for row, each in extras.items() if not lost[row]},
            failures,
            runs,
            drawn,
        )
        return None

    def _entries(
        self, reasons: Mapping[int, Failure], *, where: bool = False
    ) -> list[dict[str, Any]]:
        """The entries of failed rows in the list of failures; ``where`` adds replaced members."""
        entries = [
            {"iteration": self.n, "member": int(self._alive[row]), "reason": failure.reason}
            for row, failure in reasons.items()
        ]
        if where:
            u = host(self._physical())
            for row, entry in zip(reasons, entries, strict=True):
                entry |= {"replaced": True, **numbers_of(u[row])}
        return entries

    def _step(self, state: Any, told: Array) -> tuple[Any, StepInfo]:
        method: Any = self.method
        stream = self._streams.step(self.n)
        if not self._in_place or self.n >= self.n_steps:  # the last ensemble must not be changed
            return method.tell(state, told, self.seen, rng=stream)
        try:
            return method.tell(state, told, self.seen, rng=stream, in_place=True)
        except BaseException:
            self.status = statuses.half_updated(self.n)
            raise

    def _advance(self, state: Any, survivors: np.ndarray) -> None:
        if is_sampler(self.method):
            self._state, self._asked = state, None
            if self.n > self.n_steps:
                everyone = np.arange(len(self._alive))
                spent = self._budget_spent(self.t)
                self.status = self._concluded(spent, state.ensemble, everyone)
            return
        if takes_failures(self.method):
            survivors = np.arange(len(self._alive))
        grown = int(state.ensemble.shape[0]) - len(survivors)
        if grown > 0:  # all members are new and more numerous: no failed member is replaced
            added = self._history.added(grown)
            self._alive = np.concatenate([self._alive[survivors], added])
        elif len(survivors) < len(self._alive):
            if self.on_failure == "resample":
                stream = self._streams.policy(self.n)
                state = replaced(self.method, state, survivors, len(self._alive), stream)
            else:
                self._alive = self._alive[survivors]
        self._state, self._asked = state, None
        following = self._following()
        status = None if following else statuses.STREAM_ENDED
        self.seen = following or self.seen
        if self.evaluate_final and following:
            return
        status = self.method.finished(state) or status
        if status is None and self.n >= self.n_steps:
            status = self._budget_spent(self.t)
        if status is not None:
            status = self._concluded(status, state.ensemble, np.arange(len(self._alive)))
            self._history.add_unevaluated(*self._present(status))
            self.status = status

    def _concluded(self, status: Status, ensemble: Array, survivors: np.ndarray) -> Status:
        """The status with the warnings about the last ensemble."""
        problem, n_members = self.problem, self._history.n_members
        failed_here = 0 if takes_failures(self.method) else len(self._alive) - len(survivors)
        losses = statuses.Losses(n_members, n_members - len(self._alive), failed_here)
        start = self.method.start if isinstance(self.method, Starts) else None
        doubt = start.doubt if isinstance(start, GaussianStart) else ""
        return concluded(status, problem.prior, problem.parameter_names, ensemble, losses, doubt)

    def _budget_spent(self, t: float) -> Status:
        self._spent = True
        return statuses.budget_spent(self.n_steps, t)
