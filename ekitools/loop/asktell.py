"""`AskTell`: the loop of a run for simulators that call the library."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools.core import statuses
from ekitools.core.arrays import host, masked_as_nan, own, take_rows
from ekitools.core.arrays import like as alike
from ekitools.core.checks import as_path, flag, integer, number, one_of, stopping_rules
from ekitools.core.draws import PLACES, Place, check_draws
from ekitools.core.kinds import empty_like, kind_of
from ekitools.core.options import to_json
from ekitools.core.streams import Streams
from ekitools.loop.checks import (
    all_rules,
    by_row,
    check_parts,
    check_streamed,
    checked_ensemble,
    checked_kind,
    checked_nodes,
    checked_outputs,
    checked_reference,
    checked_status,
    checked_store,
)
from ekitools.loop.ensemble import copied, drawn, names_of_files
from ekitools.loop.folder import Folder
from ekitools.loop.policies import POLICIES, OnFailure
from ekitools.loop.saved import OPTIONS, Saved
from ekitools.loop.scratch import Scratch
from ekitools.loop.stepping import Stepping
from ekitools.models.outputs import shares_memory
from ekitools.problem import InverseProblem
from ekitools.results.dataset import to_dataset, traits
from ekitools.results.history import History, Store, Summary
from ekitools.typing import (
    Array,
    Batch,
    Method,
    Quadrature,
    Rng,
    Starts,
    Status,
    StoppingRule,
    is_sampler,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["AskTell"]

MAX_STEPS = 1000
"""Default step budget, which ends a run if no rule does."""


class AskTell(Stepping):
    """Ensemble Kalman inversion for a simulator that calls the library.

    Parameters
    ----------
    problem : InverseProblem
        The inverse problem; its model is never called.
    method : Method
        `EKI` or another method.
    n_members : int, optional
        Ensemble size J, at least 2; 100 by default. It is ignored if ``ensemble`` is given. Omit
        both for a method that places its own members, such as `UKI`.
    n_steps : int, optional
        Step budget. Without a budget the run ends when the method or `OnlineData` ends, or after
        1000 steps if neither has an end.
    ensemble : (J, p), optional
        Initial ensemble in physical coordinates; by default it is drawn from the prior. The
        array's values are copied. Its dtype, device and library are kept throughout.
    rng : None, int or numpy.random.Generator, optional
        Source of all randomness. None draws a fresh seed.
    on_failure : {"retry", "drop", "resample", "raise"}, default "retry"
        Treatment of members whose model run failed. "retry" gives them new places and runs them
        again until all have run: by draws from the prior at the first iteration, and by draws from
        the Gaussian of the other members or by shorter steps later. One iteration may take 20 J
        model runs. The posterior is that of the prior restricted to the region where the model
        runs. "drop" removes them for good. "resample" replaces them after the update by draws from
        the Gaussian of the other members. "raise" raises a `RunError`. `TemperedSMC` refuses
        proposals that fail and redraws only its first members. `UKI` keeps all members.
    store : {"all", "last", "final"} or int k, default "all"
        Iterations whose members are kept in the result: all of them, the last one, or every k-th
        and the last one. "final" is for ensembles that fill the memory. It keeps only the ensemble
        at which the run ends; an earlier result holds the present ensemble without outputs.
        `LossEKI` can then update the ensemble in place, and `tell` overwrites the array that `ask`
        returned. Add ``evaluate_final=False`` to avoid a second copy altogether.
    evaluate_final : bool, default True
        Whether outputs of the last ensemble are requested too (one more batch of model runs).
    stop : stopping rule or sequence of them, default ()
        `Discrepancy`, `Collapsed`, `NoProgress` or your own rules, checked at every evaluated
        ensemble. The first rule that fires ends the run. Rules prevent an update in place.
    missing : float, default 0.1
        Largest share of a member's outputs that may be NaN. A missing output is estimated by a
        ridge regression on the parameters over the members that have this output, or by their mean
        if at most p + 2 members have it. A member with a larger share has failed. An output that
        all members lack is left out of the step with a `RuntimeWarning`, and is not in the share.
    scratch : str or Path, optional
        Folder that holds the ensemble, for an ensemble that does not fit into memory. It needs
        `EKI` or `ETKI` with ``store="final"``, and room for two ensembles (three with checkpoints).
        ``ensemble`` may then be an array of zarr, h5py or dask or a memory map, and is only read.
        `ask` returns ``members``, an `ekitools.typing.LargeEnsemble`: ``members[j]`` is read from
        the disk. The members of a result are a read-only memory map of a file that stays in this
        folder. Failed members are dropped, with ``on_failure="retry"`` as well.
    like : array, optional
        Any array of a floating dtype, such as ``torch.empty(1, device="cuda")``. The prior is drawn
        in this array's library, dtype and device. Omit it if ``ensemble`` is given.
    draws : {"host", "device"}, default "host"
        Place where normal numbers are drawn for an ensemble of PyTorch, JAX or CuPy. Numbers drawn
        on the host are the same on every device. Numbers drawn on the device need no transfer and
        are the same on devices of the same kind.

    Attributes
    ----------
    done : bool
        Whether the run is over.
    status : Status or None
        The reason for the end of the run; None before the end.
    members : ndarray of int
        Numbers of the members that `ask` returns: all that are left, including later additions, or
        the failed members of the present iteration that run again.
    n, t : int, float
        Number of updates so far, and pseudo-time.
    data, inputs : ndarray
        Data of the present step, and inputs for the simulator. Inputs are an array on the device of
        the ensemble with `MiniBatches` or `OnlineData`, a tuple with an array for each observation
        with an `ObservationSeries` that has inputs, and None otherwise.
    batch : Batch or None
        Numbers of the present observations or samples as ``batch.index``, and names of observations
        as ``batch.names``; None without batches.
    seconds : float
        Wall time from the start to the latest `tell`, including the simulator.

    See Also
    --------
    run : The same loop, which evaluates the model itself.
    resume : Continues a run from its checkpoint.

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
    >>> ek.intervals(loop.result())["mean"].values.round(1)
    array([1., 1.])
    """

    def __init__(
        self,
        problem: InverseProblem,
        method: Method,
        *,
        n_members: int | None = None,
        n_steps: int | None = None,
        ensemble: Array | None = None,
        rng: Rng = None,
        on_failure: OnFailure = "retry",
        store: Store = "all",
        evaluate_final: bool = True,
        stop: StoppingRule | Sequence[StoppingRule] = (),
        missing: float = 0.1,
        scratch: str | os.PathLike[str] | None = None,
        like: Array | None = None,
        draws: Place = "host",
    ) -> None:
        self._since, self.seconds = time.perf_counter(), 0.0
        check_parts(problem, method)
        if n_members is not None:
            n_members = integer("n_members", n_members, least=2)
        self.problem = problem
        self.method = method
        self.on_failure = one_of("on_failure", on_failure, POLICIES)
        self.store = checked_store(store)
        self.evaluate_final = flag("evaluate_final", evaluate_final)
        self.missing = number("missing", missing, least=0, below=1)
        self._stop = stopping_rules(stop)
        self._rules = all_rules(self._stop, method, problem)
        self._scratch = None if scratch is None else Scratch.of(scratch)
        if self._scratch is not None:
            check_streamed(problem, method, self.store, self.on_failure)
        most = (problem.data.n_steps if problem.batched else None) or MAX_STEPS
        self.n_steps = most if n_steps is None else integer("n_steps", n_steps)
        self.status: Status | None = None
        self._spent = False
        self.draws = one_of("draws", draws, PLACES)
        self._like = checked_kind(like, ensemble, method, self._scratch)
        check_draws(self.draws, ensemble if self._like is None else self._like)
        self._streams = Streams(rng, draws=self.draws)
        self._start = "prior" if ensemble is None else "ensemble"
        if isinstance(method, Starts) and not isinstance(method.start, str | None):
            self._start = "method"
        self._placed = problem
        initial: Any
        if self._scratch is not None:
            initial = self._stored(self._scratch, n_members, ensemble)
        elif isinstance(method, Quadrature):
            initial = checked_nodes(method, self._seen_at(0), n_members, ensemble)
        elif ensemble is None:
            n_members = 100 if n_members is None else n_members
            initial = self._first(n_members)
        else:
            ensemble, initial = checked_ensemble(ensemble, problem)
            if shares_memory(initial, ensemble):
                initial = own(initial)
        self._placed = problem if self._scratch is not None else problem.placed(initial)
        self.seen = self._seen_at(0)
        try:
            self._state = method.init(initial, self.seen)
        except BaseException:
            if self._scratch is not None:
                self._scratch.release(())
            raise
        self._history = History(int(initial.shape[0]), self.store)
        self._alive = np.arange(self._history.n_members)
        self._asked: Array | None = None
        self._folder = Folder()

    def _stored(self, scratch: Scratch, n_members: int | None, ensemble: Any) -> Any:
        """The initial ensemble in a file."""
        if ensemble is not None:
            return copied(scratch, ensemble, self.problem)
        n_members = 100 if n_members is None else n_members
        return drawn(scratch, self.problem.prior, n_members, self._streams.prior())

    @property
    def done(self) -> bool:
        """Whether the run is over."""
        return self.status is not None

    @property
    def data(self) -> np.ndarray:
        """The data of the present step, ``(d,)``."""
        return host(self.seen.data)

    @property
    def inputs(self) -> Any:
        """The inputs of the present step: ``(m, ...)``, or one array for each observation."""
        return self.seen.inputs

    @property
    def batch(self) -> Batch | None:
        """The observations or samples of the present step; None if it uses all data."""
        return self.seen.batch

    @property
    def last(self) -> Summary | None:
        """The summary of the latest completed iteration."""
        return self._history.summaries[-1] if self._history.summaries else None

    def seeds(self) -> list[np.random.SeedSequence]:
        """One seed for every member that `ask` returns, for a stochastic model."""
        tries = 0 if self._waiting is None else self._waiting.tries
        return [self._streams.member(self.n, int(j), tries) for j in self.members]

    def ask(self) -> Array:
        """Members whose outputs are requested.

        Returns
        -------
        (len(members), p)
            Physical coordinates: a read-only NumPy array, or a copy in another library (no copy if
            the ensemble is updated in place with ``store="final"``). A second call returns the
            same members. After failures these are only the replacements of failed members, with
            the numbers `members`. They have the parameters of the model, without the scales of
            `UnknownNoise`.
        """
        asked = self._handed()
        return asked[:, : -self.problem.n_scales] if self.problem.n_scales else asked

    def _handed(self) -> Array:
        """The requested members, with all their parameters."""
        asked = self._physical()
        if self._waiting is not None:
            asked = take_rows(asked, self._waiting.rows)
            if isinstance(asked, np.ndarray):
                asked.flags.writeable = False
            return asked
        theirs = isinstance(asked, np.ndarray) or self._scratch is not None
        return asked if theirs or self._in_place else own(asked)

    def tell(
        self,
        g: Array,
        failures: Mapping[int, Any] | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the outputs of the requested members, and make the step if none runs again.

        Parameters
        ----------
        g : (len(members), d)
            G(u), row by row, in the form of the data (see `InverseProblem`). The array is copied.
            A member has failed if its row has an infinite entry, more missing entries than
            ``missing`` allows, or an entry whose square, relative to its noise, overflows.
        failures : mapping of row to reason, optional
            Reasons of failed members: texts, or objects with ``reason`` and ``error``.
        extras : mapping of str to (len(members), ...), optional
            Side products, which are stored and do not enter the misfit.

        Raises
        ------
        ValueError, TypeError
            If the run is over, or ``g`` has the wrong shape or is not real.
        RunError
            If fewer than two members are left, an iteration has spent its model runs, or a member
            failed under ``on_failure="raise"``. The error's ``result`` holds the iterations
            computed so far.
        """
        if self.status is not None:
            raise ValueError(f"tell: the run is over ({self.status.code}). Start a new run.")
        g = masked_as_nan(g)
        told = checked_outputs(g, self._handed(), self.seen)
        rows = by_row(extras, len(self.members))
        self._take(own(told) if shares_memory(told, g) else told, failures, rows)

    def stop(self, status: Status) -> None:
        """End the run with your own status; no effect if it is already over."""
        self.status = self.status or checked_status(status)

    def result(self) -> xr.Dataset:
        """All iterations so far as one labelled Dataset (see `ekitools.run`)."""
        if self.last is None and self._waiting is not None:
            n = len(self.members)
            raise ValueError(f"result: there is none yet. Pass outputs of {n} members to tell.")
        if self.last is None:
            raise ValueError("result: there is none yet. Call ask and tell first.")
        status = self.status or statuses.RUNNING
        attributes = {
            "problem": self.problem.fingerprint(),
            "method": to_json(self.method),
            "stop": to_json(self._rules),
            **self._streams.recorded(),
            "seconds": self.seconds,
            "covariance_normalisation": self.method.normalisation,
            "start": self._start,
            "failed_at_start": self._history.failed_at_start(),
            **traits(self.method),
        }
        # the result of an error keeps failed members for inspection
        history = self._history if status.code == statuses.FAILED else self._history.shown()
        if not history.records:
            history = history.with_unevaluated(*self._present(status))
        if self._scratch is not None:
            self._scratch.hand_out(names_of_files(history.records))
        if self.problem.series:
            return to_dataset(history, self.problem.whole(), status, attributes)
        drawn = None
        if isinstance(self.method, Quadrature):
            if history.records[-1].iteration < self.n:  # draws belong to the present state
                history = history.with_unevaluated(*self._present(status))
            drawn = self.method.drawn(self._state, rng=self._streams.draws())
        seen = self._seen_at(history.records[-1].iteration, self.problem)
        return to_dataset(history, seen, status, attributes, drawn)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint to the folder ``path``: plain arrays and one JSON file, atomically.

        While failed members run again, the checkpoint holds the run at the start of the iteration.
        A later save to the same folder adds only new parts. If a file of the checkpoint was
        deleted since the last save, a `RuntimeWarning` is issued and all files are written again.

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
            options={name: getattr(self, name) for name in OPTIONS},
            root=self._streams.root,
            start=self._start,
            state=self._state if self._waiting is None else self._waiting.before,
            members=self._alive,
            history=self._history,
            status=self.status,
            spent=self._spent,
            seconds=self.seconds,
            scratch=self._scratch,
            kind=None if self._scratch is not None else kind_of(self._state.ensemble),
            rng=self._streams.given,
        )
        if self._scratch is not None:
            self._scratch.commit(folder.absolute(), self._files(), begun=True)
        self._folder.save(folder, self.problem, run)
        if self._scratch is not None:
            self._scratch.commit(folder.absolute(), self._files())
            self._release()

    @classmethod
    def load(
        cls,
        path: str | Path,
        problem: InverseProblem,
        method: Method | None = None,
        *,
        n_steps: int | None = None,
        like: Array | None = None,
        ensemble: Array | None = None,
        stop: StoppingRule | Sequence[StoppingRule] | None = None,
        scratch: str | os.PathLike[str] | None = None,
    ) -> AskTell:
        """Read a checkpoint, to continue bitwise as if the run had not been interrupted.

        Parameters
        ----------
        path : str or Path
            Folder written by `save`, or by `ekitools.run` with ``checkpoint=``.
        problem : InverseProblem
            The same problem. The model may be another object.
        method : Method, optional
            The method of the run. It is read from the checkpoint unless it is your own class.
        n_steps : int, optional
            New step budget, to continue after the old one was spent.
        like : array, optional
            Any array of the kind to continue with. It is needed if the kind changes, or was not of
            NumPy, PyTorch, JAX or CuPy.
        ensemble : array, optional
            Former name of ``like``, deprecated since version 0.2.
        stop : stopping rule or sequence of them, optional
            The stopping rules of the run. Needed only if one of them is your own class.
        scratch : str or Path, optional
            Folder with the file of the ensemble, if the file was moved since.

        Raises
        ------
        CheckpointError
            If the checkpoint is missing, damaged, of another format, or from other data, another
            prior, noise or method. The error names the damaged file, or the difference.
        """
        loop = cls.__new__(cls)
        loop._folder = Folder()
        reference = checked_reference(like, ensemble)
        folder = as_path("path", path, "a folder")
        given = None if scratch is None else Scratch.of(scratch)
        saved = loop._folder.load(folder, problem, (method, stop, given), reference)
        loop.problem, loop.method, loop._stop = problem, saved.method, saved.stop
        loop._rules = all_rules(saved.stop, saved.method, problem)
        for name, value in saved.options.items():
            setattr(loop, name, value)
        loop._streams = Streams(root=saved.root, given=saved.rng, draws=loop.draws)
        loop._state, loop._asked, loop._start = saved.state, None, saved.start
        loop._scratch, loop._placed, loop._like = saved.scratch, problem, None
        if loop._scratch is None:
            loop._placed = problem.placed(loop._state.ensemble)
            loop._like = empty_like(loop._state.ensemble)
            check_draws(loop.draws, loop._like)
        loop.seen = loop._following() or loop._seen_at(loop.n)
        loop._alive, loop._history = saved.members, saved.history
        loop.status, loop._spent = saved.status, saved.spent
        loop.seconds = saved.seconds
        if loop._scratch is not None:
            loop._scratch.commit(folder.absolute(), loop._files())
        loop._since = time.perf_counter() - loop.seconds
        if n_steps is not None:
            loop._extend(n_steps)
        return loop

    def _extend(self, n_steps: int) -> None:
        """Extend the step budget, and make the step with the outputs left unused at its end."""
        n_steps, spent = integer("n_steps", n_steps), self._spent
        if is_sampler(self.method):  # its proposals are pending, and no outputs were left unused
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
            history.model_runs -= len(self._alive)
            rows = {i: reasons[j] for i, j in enumerate(self._alive.tolist()) if j in reasons}
            told = alike(record.g[self._alive], self._physical())
            self._take(own(told), rows, before=record)
