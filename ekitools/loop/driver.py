"""The only discrete loop: evaluate, tell, record, checkpoint, stop."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ekitools.core.checks import as_path, flag, function, integer
from ekitools.core.errors import CheckpointError, RunError
from ekitools.core.signatures import check_accepts
from ekitools.core.statuses import INTERRUPTED, runs_spent
from ekitools.loop.asktell import AskTell
from ekitools.loop.disk import INDEX
from ekitools.loop.scratch import Scratch
from ekitools.models.evaluate import BrokenPoolError, check_executor, check_timeout, evaluate
from ekitools.models.workers import Workers
from ekitools.problem import InverseProblem
from ekitools.typing import Array, Method, Rng, Status, StoppingRule

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

__all__ = ["IterationInfo", "resume", "run", "run_within"]


class IterationInfo(NamedTuple):
    """What ``on_step`` is given after every iteration."""

    iteration: int
    t: float
    """Pseudo-time Σh of the ensemble that was just evaluated."""
    step: float
    """h of the update that followed; NaN where the run ended."""
    misfit: float
    """Mean misfit of the evaluated ensemble."""
    spread: float
    """Root of its total variance, relative to the initial one."""
    n_failed: int
    """Model runs of this iteration that failed."""
    model_runs: int
    status: Status | None


def run(
    problem: InverseProblem,
    method: Method,
    *,
    n_members: int | None = None,
    n_steps: int | None = None,
    ensemble: Array | None = None,
    rng: Rng = None,
    executor: Executor | None = None,
    timeout: float | None = None,
    on_failure: str = "retry",
    store: str | int = "all",
    evaluate_final: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1,
    progress: bool = False,
    on_step: Callable[[IterationInfo], Any] | None = None,
    stop: StoppingRule | Sequence[StoppingRule] = (),
    missing: float = 0.1,
    scratch: str | os.PathLike[str] | None = None,
    like: Array | None = None,
    draws: str = "host",
) -> xr.Dataset:
    """Run an inversion to its end.

    Parameters
    ----------
    problem : InverseProblem
        What is to be solved.
    method : Method
        `EKI` or another method.
    n_members, n_steps, ensemble, rng, on_failure, store, evaluate_final
        As in `AskTell`.
    executor : concurrent.futures.Executor, optional
        Where the members are evaluated: a process pool, loky, dask's
        ``client.get_executor(pure=False)``, mpi4py's ``MPIPoolExecutor``. The result is
        bitwise the same with any executor and any number of workers, for a model that keeps
        nothing from one member to the next.
    timeout : float, optional
        Seconds that one model run may take; a longer one is a failed member.
    checkpoint : str or Path, optional
        Folder for checkpoints. It must be new or empty. `resume` goes on from there. The folder is
        locked until the run ends: a second process that writes to it is refused.
    checkpoint_every : int, default 1
        Iterations between checkpoints; the last one is always written.
    progress : bool, default False
        Whether to show a tqdm bar on standard error.
    on_step : callable, optional
        Called with an `IterationInfo` after every iteration.
    stop : stopping rule or sequence of them, default ()
        `Discrepancy`, `Collapsed`, `NoProgress` or your own, for every method. They are checked at
        every evaluated ensemble, and the first that fires ends the run there.
    missing : float, default 0.1
        Largest share of the outputs of a member that may be NaN, as in `AskTell`. The result counts
        them by datum as ``missing(iteration, data)``.
    scratch : str or Path, optional
        Folder in which the ensemble is kept, for an ensemble that does not fit into memory, as in
        `AskTell`. The model is run for one member after the other, which is read from the disk; a
        vectorized model gets some members at a time. A checkpoint names the file of the ensemble
        and holds no copy. ``progress`` also shows bars of bytes. Members that fail are dropped,
        with ``on_failure="retry"`` as well.
    like, draws
        As in `AskTell`: the library, the dtype and the device of an ensemble that is drawn from the
        prior, and where normal numbers are drawn.

    Returns
    -------
    xarray.Dataset
        ``u(iteration, member, parameter)`` in physical coordinates,
        ``g(iteration, member, data)``, ``misfit``, ``failed``, ``t``, ``step`` of the stored
        iterations, ``y`` (with mini-batches the last one's) and ``noise_sd``;
        ``seen(iteration, observation)`` of an `ObservationSeries`, where ``g`` is NaN for what an
        iteration did not see; of a method whose members are nodes, such as `UKI`,
        ``draws(iteration, draw, parameter)`` and ``draws_misfit`` of its Gaussian, and this
        Gaussian in ``gaussian_mean`` and ``gaussian_root``; ``u_average`` where the method keeps an
        average; ``parameter_*(iteration, parameter)`` where the method reports numbers by
        parameter, as `Sparse` does; ``history_*`` of all iterations; and the attributes ``status``
        (a sentence),
        ``status_code``, ``status_level``, ``posterior`` (1 where the last ensemble is meant as a
        sample of the posterior), ``model_runs``, ``seconds`` (wall time, the model's included),
        ``failures``, ``failed_at_start`` (the share of the first model runs that failed),
        ``method``, ``seed`` (the root of the random streams), ``rng`` (where you passed an
        integer), ``versions``.

        An interrupt from the keyboard ends the run with the status "interrupted"; what was
        computed is returned.

    Raises
    ------
    KeyboardInterrupt
        If it comes before the first iteration is over, when there is nothing to return.
    RunError
        If the run cannot go on (fewer than two members survived, the model runs that an iteration
        may take are spent, a failure under ``on_failure="raise"``, a broken process pool). The
        message has the most frequent reason; what was computed is its ``result``.
    CheckpointError
        If a checkpoint cannot be written; what was computed is its ``result``. If the folder holds
        other files or another run, or another process writes to it, before any model run.
    TypeError, ValueError
        If an argument is out of order, before any model run.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> def model(u):
    ...     return np.array([u[0] * np.exp(-u[1]), u[0] * np.exp(-2 * u[1])])
    >>> problem = ek.InverseProblem(
    ...     ek.FunctionModel(model), ek.GaussianPrior([1.0, 1.0], 0.25), 0.01**2, [0.9, 0.5])
    >>> result = ek.run(problem, ek.EKI(), n_members=200, rng=0)
    >>> result.attrs["status_code"]
    'posterior_reached'
    >>> ek.intervals(result)["mean"].values.round(1)  # exact: 1.62, 0.588
    array([1.6, 0.6])
    """
    checkpoint_every = _checked_border(executor, timeout, checkpoint_every, progress, on_step)
    on_disk = None if scratch is None else Scratch.of(scratch)
    if on_disk is not None:
        on_disk.progress = progress
    folder = (
        None if checkpoint is None else as_path("checkpoint", checkpoint, "a folder").absolute()
    )
    loop = AskTell(
        problem,
        method,
        n_members=n_members,
        n_steps=n_steps,
        ensemble=ensemble,
        rng=rng,
        on_failure=on_failure,
        store=store,
        evaluate_final=evaluate_final,
        stop=stop,
        missing=missing,
        scratch=on_disk,
        like=like,
        draws=draws,
    )
    try:
        with nullcontext() if folder is None else loop._folder.holding(folder):
            if folder is not None:
                loop.save(folder)  # an unwritable folder is found out before any model run
            return _drive(loop, executor, timeout, folder, checkpoint_every, progress, on_step)
    finally:
        if on_disk is not None:
            on_disk.release(())  # all but the files of the result and of the checkpoint


def resume(
    path: str | Path,
    problem: InverseProblem,
    method: Method | None = None,
    *,
    n_steps: int | None = None,
    ensemble: Array | None = None,
    executor: Executor | None = None,
    timeout: float | None = None,
    checkpoint_every: int = 1,
    progress: bool = False,
    on_step: Callable[[IterationInfo], Any] | None = None,
    stop: StoppingRule | Sequence[StoppingRule] | None = None,
    scratch: str | os.PathLike[str] | None = None,
    like: Array | None = None,
) -> xr.Dataset:
    """Go on from a checkpoint: bitwise the run that was never interrupted.

    Parameters
    ----------
    path : str or Path
        Folder given as ``checkpoint`` to `run`; it goes on being written to.
    problem, method, n_steps, ensemble, stop, scratch, like
        As in `AskTell.load`.
    executor, timeout, checkpoint_every, progress, on_step
        As in `run`.

    Returns
    -------
    xarray.Dataset
        As from `run`; at once where the run was already over.

    Raises
    ------
    CheckpointError
        If the checkpoint is missing or damaged, belongs to another problem or method, or is in use
        by another process.

    Examples
    --------
    >>> import tempfile
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = ek.run(problem, ek.EKI(ek.FixedStep(0.25)), n_steps=2, rng=0,
    ...                    checkpoint=folder)
    ...     second = ek.resume(folder, problem, n_steps=4)
    >>> whole = ek.run(problem, ek.EKI(ek.FixedStep(0.25)), n_steps=4, rng=0)
    >>> bool((second.u == whole.u).all())
    True
    """
    checkpoint_every = _checked_border(executor, timeout, checkpoint_every, progress, on_step)
    folder = as_path("path", path, "a folder")
    loop = AskTell.load(
        folder,
        problem,
        method,
        n_steps=n_steps,
        ensemble=ensemble,
        stop=stop,
        scratch=scratch,
        like=like,
    )
    folder = folder.absolute()  # the model may change the working directory
    if loop.done:
        loop._folder.tidy(folder)
        return loop.result()
    with loop._folder.holding(folder):
        if loop._scratch is not None:
            loop._scratch.progress = progress
            loop._scratch.adopt(loop._files())
            loop._release()
        return _drive(loop, executor, timeout, folder, checkpoint_every, progress, on_step)


def run_within(
    most_runs: int,
    problem: InverseProblem,
    method: Method,
    n_members: int,
    *,
    rng: np.random.Generator,
    executor: Executor | None,
    timeout: float | None,
    checkpoint: Path | None,
    progress: bool,
) -> xr.Dataset:
    """As `run`, with at most ``most_runs`` model runs; as `resume` where there is a checkpoint.

    Where the next iteration would exceed the budget, the run ends at the ensemble that was
    evaluated last, with the status "runs_spent".

    Raises
    ------
    RunError
        Also if the first iteration, with the runs that replace failed ones, exceeds the budget.
    """
    if checkpoint is not None and (checkpoint / INDEX).exists():
        loop = AskTell.load(checkpoint, problem)
    else:
        loop = AskTell(problem, method, n_members=n_members, rng=rng)
    folder = None if checkpoint is None else checkpoint.absolute()
    if loop.done:
        return loop.result()
    with nullcontext() if folder is None else loop._folder.holding(folder):
        if folder is not None and loop.last is None:
            loop.save(folder)
        return _drive(loop, executor, timeout, folder, 1, progress, None, most_runs)


def _drive(
    loop: AskTell,
    executor: Executor | None,
    timeout: float | None,
    checkpoint: Path | None,
    checkpoint_every: int,
    progress: bool,
    on_step: Callable[[IterationInfo], Any] | None,
    most_runs: int | None = None,
) -> xr.Dataset:
    stochastic = loop.problem.info.stochastic
    with _bar(loop) if progress else nullcontext() as bar, Workers(executor) as workers:
        try:
            while not loop.done:
                if most_runs is not None and loop.model_runs + len(loop.members) > most_runs:
                    _stop_within(loop, most_runs)
                    break
                seeds = loop.seeds() if stochastic else None
                outputs = evaluate(
                    loop.seen.model,
                    loop._handed(),
                    loop.seen.n_data,
                    executor=workers,
                    timeout=timeout,
                    seeds=seeds,
                    gaps=loop.missing > 0,
                    later=True,
                )
                # they are copies already
                loop._take(outputs.g, outputs.failures, outputs.extras, judged=False)
                if loop._waiting is not None:
                    continue  # members that failed run again before the step is made
                if checkpoint is not None and _is_due(loop, checkpoint_every):
                    loop.save(checkpoint)
                info = _info(loop)
                if bar is not None:
                    bar.set_postfix(t=f"{loop.t:.3g}", misfit=f"{info.misfit:.4g}", refresh=False)
                    bar.update()
                if on_step is not None:
                    on_step(info)
        except KeyboardInterrupt:
            if loop.last is None:
                raise
            loop.stop(INTERRUPTED)
        except BrokenPoolError as error:
            failure = RunError(str(error))
            if loop.last is not None:
                failure.result = loop.result()
            raise failure from error
        except CheckpointError as error:
            error.result = loop.result()
            raise
        except RunError as error:
            if error.result is None and loop.last is not None:  # no room in the scratch folder
                with suppress(RunError):
                    error.result = loop.result()
            raise
    return loop.result()


def _stop_within(loop: AskTell, most_runs: int) -> None:
    """End the run at the ensemble that was evaluated last."""
    status = runs_spent(most_runs, loop.t if loop.last is None else loop.last.t)
    if loop.last is None:
        raise RunError(
            f"model: must run at {len(loop._alive)} draws of the prior within the budget of "
            f"{most_runs} model runs, but {loop.model_runs} runs were not enough, because many of "
            "them failed. Give a larger budget, or exclude the failing region by the prior."
        )
    loop.stop(status)


def _is_due(loop: AskTell, every: int) -> bool:
    return loop.done or loop.n % every == 0


def _info(loop: AskTell) -> IterationInfo:
    last = loop.last
    assert last is not None
    iteration = loop.n if loop.done else loop.n - 1
    return IterationInfo(
        iteration,
        last.t,
        last.step,
        last.misfit,
        last.spread,
        loop._n_lost,
        last.model_runs,
        loop.status,
    )


def _bar(loop: AskTell) -> Any:
    from tqdm.auto import tqdm

    return tqdm(initial=loop.n, unit=" iterations", desc=type(loop.method).__name__)


def _checked_border(
    executor: Any, timeout: Any, checkpoint_every: Any, progress: Any, on_step: Any
) -> int:
    check_executor(executor)
    check_timeout(timeout)
    flag("progress", progress)
    if on_step is not None:
        check_accepts("on_step", function("on_step", on_step), "info")
    return integer("checkpoint_every", checkpoint_every)
