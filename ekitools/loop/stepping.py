"""One step of the loop: outputs are taken, judged and recorded, and the state goes on."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools.core import statuses
from ekitools.core.arrays import host, like, take_rows
from ekitools.core.errors import RunError
from ekitools.core.streams import Streams
from ekitools.loop.ending import concluded
from ekitools.loop.failures import (
    check_failures,
    fatal_sentence,
    name_reasons,
    replaced,
    unusable_outputs,
)
from ekitools.loop.gaps import without_gaps
from ekitools.loop.identical import warned_of_identical
from ekitools.loop.progress import stopped
from ekitools.methods.gaussian import GaussianStart
from ekitools.methods.unknown_noise import misfits_of_members
from ekitools.models.extras import Extra, gathered
from ekitools.observed.together import Together
from ekitools.problem import InverseProblem
from ekitools.results.dataset import RESERVED
from ekitools.results.history import History, Record
from ekitools.typing import (
    Array,
    InPlace,
    Method,
    Quadrature,
    Starts,
    Status,
    StepInfo,
    StoppingRule,
    is_sampler,
    takes_failures,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Stepping"]


class Stepping(ABC):
    """What a run is at one moment, and how it goes on when outputs are taken.

    `ekitools.AskTell` is the public face of it.
    """

    problem: InverseProblem
    method: Method
    n_steps: int
    on_failure: str
    store: str | int
    evaluate_final: bool
    missing: float
    members: np.ndarray
    status: Status | None
    seconds: float
    seen: InverseProblem
    """The problem that the present step sees."""
    _rules: tuple[StoppingRule, ...]
    _spent: bool
    _since: float
    _streams: Streams
    _state: Any
    _history: History
    _asked: Array | None
    _n_lost: int
    """Members that failed at the latest step."""
    _has_warned: bool = False
    """Whether identical outputs were reported, which happens once."""

    @abstractmethod
    def result(self) -> xr.Dataset:
        """Everything told so far, as one labelled Dataset (see `ekitools.run`)."""

    @property
    def n(self) -> int:
        """Updates made so far."""
        return int(self._state.n)

    @property
    def t(self) -> float:
        """Pseudo-time Σh reached."""
        return float(self._state.t)

    @property
    def _in_place(self) -> bool:
        """Whether the ensemble is updated in place, for nobody asks for the one before."""
        method = self.method
        able = isinstance(method, InPlace) and method.updates_in_place
        return able and self.store == "final" and not self._rules

    @np.errstate(under="ignore")  # weights and misfits may underflow, whatever the caller has set
    def _take(
        self,
        g: Array,
        failures: Mapping[int, Any] | None = None,
        extras: Mapping[int, Mapping[str, Extra]] | None = None,
        before: Record | None = None,
    ) -> None:
        """Go on with outputs that were checked and that nobody else holds.

        ``extras`` are side products by row. ``before`` is the record of these outputs, where they
        were told before: it has what was missing, and the side products.
        """
        history, failures = self._history, {} if failures is None else failures
        check_failures(failures, len(self.members))
        products, labels, unfit = gathered(
            extras or {}, len(self.members), history.labels, RESERVED
        )
        if unfit:
            rows = np.isin(np.arange(len(self.members)), list(unfit))
            g = like(np.where(rows[:, None], np.nan, host(g)), g)
            failures = {**failures, **unfit}
        gaps = without_gaps(
            g,
            failures,
            self.missing,
            self._whitened,
            self.seen,
            leave_out=not takes_failures(self.method) and not self.problem.n_scales,
            nodes=isinstance(self.method, Quadrature),
        )
        failures = {**gaps.reasons, **failures}
        missing = gaps.counts
        if before is not None:
            missing = before.missing if before.missing.size else missing
            products = {name: rows[self.members] for name, rows in before.extras.items()}
        g = gaps.g
        unusable = unusable_outputs(g, self.seen.noise_sd, self.seen.data_names or ())
        lost = np.isin(np.arange(len(self.members)), list(unusable))
        reasons = name_reasons(lost, failures, unusable)
        survivors, self._n_lost = np.flatnonzero(~lost), int(lost.sum())
        if lost.any():  # a vectorized model, or a row that is too large, may have left numbers
            g = like(np.where(lost[:, None], np.nan, host(g)), g)
        state, told = self._state, g
        n, t = self.n, self.t
        fatal = fatal_sentence(lost, n, self.on_failure, reasons, self.seen.data_names or ())
        shown = (self._physical(), g)
        if fatal is not None:
            with np.errstate(over="ignore", invalid="ignore"):  # rows of failed members
                asked = self.method.ask(self._state)
                misfit = misfits_of_members(asked, g, self.seen)[0]
            info = StepInfo(0.0, misfit[survivors], statuses.failed(fatal), np.nan)
        else:
            # nodes on an axis share their outputs where these do not depend on its parameter, and
            # all members may where a step sees a part of the data
            judged = self.seen.batch is None and not isinstance(self.method, Quadrature)
            if judged and not self._has_warned:
                fit = self.method.aim == "fit"
                self._has_warned = warned_of_identical(self._given(), g, survivors, n, fit=fit)
            if lost.any() and not takes_failures(self.method):
                state, told = self.method.select(state, survivors), take_rows(g, survivors)
            following, info = self._step(state, told)
            if lost.any() and isinstance(self.method, Quadrature):
                info = info._replace(misfit=info.misfit[survivors])
                told = take_rows(g, survivors)
            if self._rules:
                info = stopped(self._rules, info, told, self.seen, self._history.summaries)
            if info.average is not None:
                info = info._replace(average=self.problem.prior.to_physical(info.average))
            if info.shown is not None:
                shown = (self.problem.prior.to_physical(info.shown.ensemble), info.shown.g)
            elif info.status is None and n >= self.n_steps:
                info = info._replace(step=0.0, status=self._budget_spent(t))
            if info.status is not None:
                last = state.ensemble if info.shown is None else info.shown.ensemble
                info = info._replace(status=self._concluded(info.status, last, survivors))
        # from here on nothing is computed that can fail: the step counts as a whole
        self.seconds = time.perf_counter() - self._since
        history.model_runs += len(self.members)
        history.failures += [
            {"iteration": n, "member": int(self.members[row]), "reason": failure.reason}
            for row, failure in reasons.items()
        ]
        u, g = (host(each) for each in shown)
        if gaps.left_out.size:
            g = np.array(g)
            g[:, gaps.left_out] = np.nan
        history.labels = labels
        seen = self._observations()
        history.add(n, t, self.members, survivors, (u, g), info, missing, products, seen)
        self.status = info.status
        if fatal is not None:
            error = RunError(fatal)
            error.result = self.result()
            raise error from next((r.error for r in reasons.values() if r.error is not None), None)
        if info.status is None:
            self._advance(following, survivors)

    def _physical(self) -> Array:
        """The members asked for, in physical coordinates: the state's own where it can be."""
        if self._asked is None:
            asked = self.problem.prior.to_physical(self.method.ask(self._state))
            if isinstance(asked, np.ndarray):
                asked = asked.view()
                asked.flags.writeable = False
            self._asked = asked
        return self._asked

    def _given(self) -> Array:
        """The members asked for without the scales of the noise, which the model is not given."""
        asked = self._physical()
        return asked[:, : -self.problem.n_scales] if self.problem.n_scales else asked

    def _whitened(self) -> np.ndarray:
        """The members asked for, in coordinates in which the prior is N(0, I), on the host."""
        return host(self.problem.prior.whiten(self.method.ask(self._state)))

    def _following(self) -> InverseProblem | None:
        """The problem that the present step sees; None where there is nothing more to see.

        An ensemble that is the method's last one is compared with all observations of a series.
        """
        if self.problem.series and self.method.finished(self._state):
            return self.problem.whole()
        return self.problem.seen(self.n, self._streams)

    def _seen_at(self, n: int) -> InverseProblem:
        """The problem that step ``n`` sees; after the last one, what that saw."""
        return self.problem.seen(n, self._streams) or self._seen_at(n - 1)

    def _observations(self) -> np.ndarray:
        """Which observations of a series the present step sees; empty for other data."""
        batch, layout = self.seen.batch, self.problem.layout
        if not isinstance(layout, Together):
            return np.zeros(0, dtype=np.int64)
        return np.arange(len(layout.sizes)) if batch is None else batch.index

    def _step(self, state: Any, told: Array) -> tuple[Any, StepInfo]:
        method: Any = self.method
        stream = self._streams.step(self.n)
        if not self._in_place or self.n >= self.n_steps:  # a spent budget shows this ensemble
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
                everyone = np.arange(len(self.members))
                spent = self._budget_spent(self.t)
                self.status = self._concluded(spent, state.ensemble, everyone)
            return
        if takes_failures(self.method):
            survivors = np.arange(len(self.members))
        grown = int(state.ensemble.shape[0]) - len(survivors)
        if grown > 0:  # all were drawn anew, and there are more of them: none is to be replaced
            added = self._history.added(grown)
            self.members = np.concatenate([self.members[survivors], added])
        elif len(survivors) < len(self.members):
            if self.on_failure == "resample":
                stream = self._streams.policy(self.n)
                state = replaced(self.method, state, survivors, len(self.members), stream)
            else:
                self.members = self.members[survivors]
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
            status = self._concluded(status, state.ensemble, np.arange(len(self.members)))
            self._history.add_unevaluated(*self._present(status))
            self.status = status

    def _concluded(self, status: Status, ensemble: Array, survivors: np.ndarray) -> Status:
        """The status with what is to be doubted of the members at which the run ends."""
        problem, n_members = self.problem, self._history.n_members
        failed_here = 0 if takes_failures(self.method) else len(self.members) - len(survivors)
        losses = statuses.Losses(n_members, n_members - len(self.members), failed_here)
        start = self.method.start if isinstance(self.method, Starts) else None
        doubt = start.doubt if isinstance(start, GaussianStart) else ""
        return concluded(status, problem.prior, problem.parameter_names, ensemble, losses, doubt)

    def _present(self, status: Status) -> tuple[Any, ...]:
        d = 0 if isinstance(self.problem.layout, Together) else self.seen.n_data
        return self.n, self.t, self.members, host(self._physical()), d, status

    def _budget_spent(self, t: float) -> Status:
        self._spent = True
        return statuses.budget_spent(self.n_steps, t)
