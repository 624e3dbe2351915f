"""The one loop, inside out: ask for members, tell their outputs, until it is done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools.core import statuses
from ekitools.core.arrays import host, like, take_rows
from ekitools.core.checks import as_path, flag, integer, one_of, stopping_rules
from ekitools.core.errors import RunError
from ekitools.core.options import to_json
from ekitools.core.streams import Streams
from ekitools.loop.checks import (
    all_rules,
    check_parts,
    checked_ensemble,
    checked_outputs,
    checked_status,
    checked_store,
)
from ekitools.loop.ending import concluded
from ekitools.loop.failures import fatal_sentence, name_reasons, replaced, unusable_outputs
from ekitools.loop.folder import Folder
from ekitools.loop.progress import stopped
from ekitools.loop.saved import Saved
from ekitools.models.outputs import own, shares_memory
from ekitools.problem import InverseProblem
from ekitools.results.dataset import to_dataset, traits
from ekitools.results.history import History, Summary
from ekitools.typing import (
    Array,
    InPlace,
    Method,
    Rng,
    Starts,
    Status,
    StepInfo,
    StoppingRule,
    is_sampler,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["AskTell"]

MAX_STEPS = 1000
"""Step budget where none is given: a guard against rules that never fire."""


class AskTell:
    """Ensemble Kalman inversion for a simulator that owns the control flow.

    Parameters
    ----------
    problem : InverseProblem
        What is to be solved; its model is never called here.
    method : Method
        `EKI` or another method.
    n_members : int, default 100
        Ensemble size J, at least 2; ignored where ``ensemble`` is given.
    n_steps : int, optional
        Step budget; without it the method's own end decides, or that of `OnlineData` (within
        1000 steps where there is no such end).
    ensemble : (J, p), optional
        Initial ensemble in physical coordinates, instead of draws from the prior. Its dtype,
        device and array kind are kept throughout; its numbers are copied.
    rng : None, int or numpy.random.Generator, keyword-only
        Source of all randomness.
    on_failure : {"drop", "resample", "raise"}, default "drop"
        What becomes of members whose model run failed: dropped for good; replaced after the
        update by draws from the Gaussian of those that did not fail; or an error.
    store : {"all", "last", "final"} or int k, default "all"
        Which iterations keep their members in the result: all, the last one, or every k-th
        and the last one. "final" is for ensembles that fill the memory: only the one at which
        the run ends is kept (until then a result shows the present one, not evaluated), so
        that `LossEKI` can update it in place. With ``evaluate_final=False`` there is then
        never a second one; what `ask` returned is used up by `tell`.
    evaluate_final : bool, default True
        Whether G is asked for at the last ensemble too (one more batch of model runs).
    stop : stopping rule or sequence of them, default ()
        `Discrepancy`, `Collapsed`, `NoProgress` or your own, checked at every evaluated ensemble;
        the first that fires ends the run there. With rules the ensemble is not updated in place.

    Attributes
    ----------
    done : bool
        Whether the run is over.
    status : Status or None
        Why it is over.
    members : ndarray of int
        Which members `ask` returns: 0 ... J − 1 less the dropped ones, and those added since.
    n, t : int, float
        Updates made and pseudo-time reached.
    data, inputs : ndarray
        What the present step sees: the datum, and with `MiniBatches` or `OnlineData` the inputs
        at which the simulator is wanted (else None).
    seconds : float
        Wall time from the start to the latest `tell`, the simulator's included.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> A = np.array([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0]])
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel(A), ek.GaussianPrior([0.0, 0.0], 1.0), 0.01, [1.5, 2.0, 2.0])
    >>> loop = ek.AskTell(problem, ek.EKI(), n_members=50, rng=0)
    >>> while not loop.done:
    ...     loop.tell(loop.ask() @ A.T)   # your simulator here
    >>> loop.result().u.isel(iteration=-1).mean("member").values.round(1)
    array([1., 1.])
    """

    def __init__(
        self,
        problem: InverseProblem,
        method: Method,
        *,
        n_members: int = 100,
        n_steps: int | None = None,
        ensemble: Array | None = None,
        rng: Rng = None,
        on_failure: str = "drop",
        store: str | int = "all",
        evaluate_final: bool = True,
        stop: StoppingRule | Sequence[StoppingRule] = (),
    ) -> None:
        self._since, self.seconds = time.perf_counter(), 0.0
        check_parts(problem, method)
        n_members = integer("n_members", n_members, least=2)
        self.problem = problem
        self.method = method
        self.on_failure = one_of("on_failure", on_failure, ("drop", "resample", "raise"))
        self.store = checked_store(store)
        self.evaluate_final = flag("evaluate_final", evaluate_final)
        self._stop = stopping_rules(stop)
        self._rules = all_rules(self._stop, method, problem)
        if n_steps is not None:
            n_steps = integer("n_steps", n_steps)
        else:
            n_steps = (problem.data.n_steps if problem.batched else None) or MAX_STEPS
        self.n_steps = n_steps
        self.status: Status | None = None
        self._spent = False
        self._streams = Streams(rng)
        self._start = "prior" if ensemble is None else "ensemble"
        if isinstance(method, Starts) and method.start is not None:
            self._start = "method"
        if ensemble is None:
            initial = problem.prior.sample_unconstrained(n_members, rng=self._streams.prior())
        else:
            ensemble, initial = checked_ensemble(ensemble, problem)
            if shares_memory(initial, ensemble):
                initial = own(initial)
        self.seen = self._seen_at(0)
        self._state = method.init(initial, self.seen)
        self._history = History(int(initial.shape[0]), self.store)
        self.members = np.arange(self._history.n_members)
        self._asked: Array | None = None
        self._folder = Folder()

    @property
    def done(self) -> bool:
        """Whether the run is over."""
        return self.status is not None

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

    @property
    def data(self) -> np.ndarray:
        """The datum of the present step, ``(d,)``."""
        return np.asarray(self.seen.data)

    @property
    def inputs(self) -> np.ndarray | None:
        """The inputs of the present step's batch, ``(m, ...)``; None where there are none."""
        return self.seen.model.inputs if self.problem.batched else None

    @property
    def last(self) -> Summary | None:
        """The summary of the latest iteration told."""
        return self._history.summaries[-1] if self._history.summaries else None

    def seeds(self) -> list[np.random.SeedSequence]:
        """For a stochastic model: one seed for every member that `ask` returns."""
        return [self._streams.member(self.n, int(j)) for j in self.members]

    def ask(self) -> Array:
        """Members at which G is wanted.

        Returns
        -------
        (len(members), p)
            Physical coordinates; read-only where it is a NumPy array, else a copy (but with
            ``store="final"`` and an ensemble that is updated in place). Asking again gives the
            same members.
        """
        asked = self._physical()
        return asked if isinstance(asked, np.ndarray) or self._in_place else own(asked)

    def tell(self, g: Array, failures: Mapping[int, Any] | None = None) -> None:
        """Give the outputs of the members asked for.

        Parameters
        ----------
        g : (len(members), d)
            G(u), row by row. A row with an entry that is not finite, or too large beside the
            noise of its datum to be squared in its dtype, is a failed member. It is copied.
        failures : mapping of row to reason, optional
            Why members failed: texts, or objects with ``reason`` and ``error``.

        Raises
        ------
        ValueError, TypeError
            If the run is over, or ``g`` has the wrong shape or is not real.
        RunError
            If fewer than two members are left, or any failed under ``on_failure="raise"``;
            with what was computed as its ``result``.
        """
        if self.status is not None:
            raise ValueError(f"tell: the run is over ({self.status.code}). Start a new one.")
        told = checked_outputs(g, self._physical(), self.problem.n_data)
        self._take(own(told) if shares_memory(told, g) else told, failures)

    def _take(self, g: Array, failures: Mapping[int, Any] | None) -> None:
        """Go on with outputs that were checked and that nobody else holds."""
        unusable = unusable_outputs(g, self.problem.noise_sd, self.problem.data_names or ())
        lost = np.isin(np.arange(len(self.members)), list(unusable))
        reasons = name_reasons(lost, {} if failures is None else failures, unusable)
        survivors = np.flatnonzero(~lost)
        state, told = self._state, g
        n, t = self.n, self.t
        fatal = fatal_sentence(lost, n, self.on_failure, reasons, self.problem.data_names or ())
        shown = (self._physical(), g)
        if fatal is not None:
            with np.errstate(over="ignore", invalid="ignore"):  # rows of failed members
                misfit = host(self.problem.noise.misfit(g, self.seen.data))
            info = StepInfo(0.0, misfit[survivors], statuses.failed(fatal), np.nan)
        else:
            if lost.any() and is_sampler(self.method):
                told = like(np.where(lost[:, None], np.nan, host(g)), g)
            elif lost.any():
                state, told = self.method.select(state, survivors), take_rows(g, survivors)
            following, info = self._step(state, told)
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
        history = self._history
        history.model_runs += len(self.members)
        history.failures += [
            {"iteration": n, "member": int(self.members[row]), "reason": failure.reason}
            for row, failure in reasons.items()
        ]
        u, g = shown
        history.add(n, t, self.members, survivors, (host(u), host(g)), info)
        self.status = info.status
        if fatal is not None:
            error = RunError(fatal)
            error.result = self.result()
            raise error from next((r.error for r in reasons.values() if r.error is not None), None)
        if info.status is None:
            self._advance(following, survivors)

    def stop(self, status: Status) -> None:
        """End the run with a status of yours; without effect where it is over already."""
        self.status = self.status or checked_status(status)

    def result(self) -> xr.Dataset:
        """Everything told so far, as one labelled Dataset (see `ekitools.run`)."""
        if self.last is None:
            raise ValueError("result: there is none before the first tell.")
        status = self.status or statuses.RUNNING
        attributes = {
            "problem": self.problem.fingerprint(),
            "method": to_json(self.method),
            "stop": to_json(self._rules),
            "seed": self._streams.root,
            "seconds": self.seconds,
            "covariance_normalisation": self.method.normalisation,
            "start": self._start,
            **traits(self.method),
        }
        # an error's result keeps the members that failed, to look at
        history = self._history if status.code == statuses.FAILED else self._history.shown()
        if not history.records:
            history = history.with_unevaluated(*self._present(status))
        seen = self._seen_at(history.records[-1].iteration)
        return to_dataset(history, seen, status, attributes)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint to the folder ``path``: plain arrays and one JSON file, atomically.

        Saving again to the same folder adds only what is new. A file of the checkpoint that was
        deleted since the last save gives a `RuntimeWarning`, and all files are written again.

        Raises
        ------
        CheckpointError
            If the folder holds other files or another run, is in use by another process, or
            cannot be written to.
        """
        folder = as_path("path", path, "a folder")
        run = Saved(
            method=self.method,
            stop=self._stop,
            options={
                "n_steps": self.n_steps,
                "on_failure": self.on_failure,
                "store": self.store,
                "evaluate_final": self.evaluate_final,
            },
            root=self._streams.root,
            start=self._start,
            state=self._state,
            members=self.members,
            history=self._history,
            status=self.status,
            spent=self._spent,
            seconds=self.seconds,
        )
        self._folder.save(folder, self.problem, run)

    @classmethod
    def load(
        cls,
        path: str | Path,
        problem: InverseProblem,
        method: Method | None = None,
        *,
        n_steps: int | None = None,
        ensemble: Array | None = None,
        stop: StoppingRule | Sequence[StoppingRule] | None = None,
    ) -> AskTell:
        """Read a checkpoint; what follows is bitwise what would have followed.

        Parameters
        ----------
        path : str or Path
            The folder written by `save`, or by `ekitools.run` with ``checkpoint=``.
        problem : InverseProblem
            The same problem; the model may be another object.
        method : Method, optional
            Needed only where it is not one of ekitools' own.
        n_steps : int, optional
            A new step budget, to go on after the old one was spent.
        ensemble : array, optional
            Any array of the kind and on the device of the ensemble, where that was not a
            NumPy array.
        stop : stopping rule or sequence of them, optional
            Needed only where one of them is not one of ekitools' own.

        Raises
        ------
        CheckpointError
            If it is missing, damaged, of another format, or from another data, prior, noise
            or method. The error names the file that is damaged, or what differs.
        """
        loop = cls.__new__(cls)
        loop._folder = Folder()
        reference = np.ones(1) if ensemble is None else ensemble
        folder = as_path("path", path, "a folder")
        saved = loop._folder.load(folder, problem, method, stop, reference)
        loop.problem, loop.method = problem, saved.method
        loop._stop = saved.stop
        loop._rules = all_rules(saved.stop, saved.method, problem)
        for name, value in saved.options.items():
            setattr(loop, name, value)
        loop._streams, loop._start = Streams(root=saved.root), saved.start
        loop._state, loop._asked = saved.state, None
        loop.seen = loop._seen_at(loop.n)
        loop.members, loop._history = saved.members, saved.history
        loop.status, loop._spent = saved.status, saved.spent
        loop.seconds = saved.seconds
        loop._since = time.perf_counter() - loop.seconds
        if n_steps is not None:
            loop._extend(n_steps)
        return loop

    def _extend(self, n_steps: int) -> None:
        """Take the last outputs, which the spent budget left unused, as if just told."""
        n_steps, spent = integer("n_steps", n_steps), self._spent
        if is_sampler(self.method):  # its proposals wait: nothing was left unused
            self.n_steps = max(n_steps, self.n - 1)
            if spent and n_steps >= self.n:
                self.status, self._spent = None, False
            return
        self.n_steps = max(n_steps, self.n)
        if not spent or n_steps <= self.n:
            return
        self.status, self._spent = None, False
        history = self._history
        record, reasons = history.taken_back()
        self._folder.rewind(history)
        if self.evaluate_final:
            history.model_runs -= len(self.members)
            rows = {i: reasons[j] for i, j in enumerate(self.members.tolist()) if j in reasons}
            self.tell(like(record.g[self.members], self._physical()), rows)

    def _physical(self) -> Array:
        """The members asked for, in physical coordinates: the state's own where it can be."""
        if self._asked is None:
            asked = self.problem.prior.to_physical(self.method.ask(self._state))
            if isinstance(asked, np.ndarray):
                asked = asked.view()
                asked.flags.writeable = False
            self._asked = asked
        return self._asked

    def _seen_at(self, n: int) -> InverseProblem:
        """The problem that step ``n`` sees; after the last one, what that saw."""
        return self.problem.seen(n, self._streams) or self._seen_at(n - 1)

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
        following = self.problem.seen(self.n, self._streams)
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
        failed_here = 0 if is_sampler(self.method) else len(self.members) - len(survivors)
        losses = statuses.Losses(n_members, n_members - len(self.members), failed_here)
        return concluded(status, problem.prior, problem.parameter_names, ensemble, losses)

    def _present(self, status: Status) -> tuple[Any, ...]:
        d = self.problem.n_data
        return self.n, self.t, self.members, host(self._physical()), d, status

    def _budget_spent(self, t: float) -> Status:
        self._spent = True
        return statuses.budget_spent(self.n_steps, t)
