"""`run` and `resume`: the loop that evaluates, updates, records, checkpoints and stops."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ekitools.core.checks import as_path, flag, function, integer
from ekitools.core.draws import Place
from ekitools.core.errors import CheckpointError, RunError
from ekitools.core.signatures import check_accepts
from ekitools.core.statuses import INTERRUPTED, runs_spent
from ekitools.loop.asktell import AskTell
from ekitools.loop.disk import INDEX
from ekitools.loop.policies import OnFailure
from ekitools.loop.scratch import Scratch
from ekitools.models.evaluate import BrokenPoolError, check_executor, check_timeout, evaluate
from ekitools.models.workers import Workers
from ekitools.problem import InverseProblem
from ekitools.results.history import Store
from ekitools.typing import Array, Method, Rng, Status, StoppingRule

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

__all__ = ["IterationInfo", "resume", "run", "run_within"]


class IterationInfo(NamedTuple):
    """Numbers of one iteration, passed to ``on_step``.

    See Also
    --------
    run : Calls ``on_step`` after every iteration.
    """

    iteration: int
    t: float
    """Pseudo-time Σh of the ensemble that was just evaluated."""
    step: float
    """Step size h of the update that followed; NaN if the run ended."""
    misfit: float
    """Mean misfit of the evaluated ensemble."""
    spread: float
    """Root of the ensemble's total variance, relative to the initial ensemble."""
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
    on_failure: OnFailure = "retry",
    store: Store = "all",
    evaluate_final: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1,
    progress: bool = False,
    on_step: Callable[[IterationInfo], Any] | None = None,
    stop: StoppingRule | Sequence[StoppingRule] = (),
    missing: float = 0.1,
    scratch: str | os.PathLike[str] | None = None,
    like: Array | None = None,
    draws: Place = "host",
) -> xr.Dataset:
    """Run an inversion to its end.

    Parameters
    ----------
    problem : InverseProblem
        The inverse problem: model, prior, noise and data.
    method : Method
        `EKI` or another method.
    n_members : int, optional
        Ensemble size J, at least 2; 100 by default. It is ignored if ``ensemble`` is given. A
        method that places its own members, such as `UKI`, also chooses their number. Omit
        ``n_members`` and ``ensemble`` for such a method.
    n_steps : int, optional
        Step budget. Without a budget the run ends when the method or `OnlineData` ends, or after
        1000 steps if neither has an end.
    ensemble : array (J, p), optional
        Initial ensemble in physical coordinates; by default it is drawn from the prior. The
        array's values are copied. Its dtype, device and library are kept throughout.
    rng : None, int or numpy.random.Generator, optional
        Source of all randomness. None draws a fresh seed.
    executor : concurrent.futures.Executor, optional
        Executor that evaluates the members: a process pool, loky, dask's
        ``client.get_executor(pure=False)`` or mpi4py's ``MPIPoolExecutor``. The result is bitwise
        the same with any executor and any number of workers if the model keeps nothing from one
        member to the next.
    timeout : float, optional
        Longest time of one model run in seconds. A member whose run takes longer has failed.
    on_failure : {"retry", "drop", "resample", "raise"}, default "retry"
        Treatment of members whose model run failed.

        * "retry" gives failed members new places and runs them again until all have run. The first
          iteration places them by draws from the prior, later iterations by draws from the Gaussian
          of the other members or by shorter steps. One iteration may take 20 J model runs. The
          posterior is that of the prior restricted to the region where the model runs.
        * "drop" removes failed members for good.
        * "resample" replaces failed members after the update by draws from the Gaussian of the
          members that did not fail.
        * "raise" raises a `RunError`.

        `TemperedSMC` refuses proposals that fail and redraws only its first members. `UKI` keeps
        all members.
    store : {"all", "last", "final"} or int k, default "all"
        Iterations whose members are kept in the result: all of them, the last one, or every k-th
        and the last one. "final" is for ensembles that fill the memory: only the ensemble at which
        the run ends is kept, and `LossEKI` can update it in place. Add ``evaluate_final=False`` to
        avoid a second copy altogether.
    evaluate_final : bool, default True
        Whether the model is also run for the last ensemble (one more batch of model runs).
    checkpoint : str or Path, optional
        Folder for checkpoints, new or empty. `resume` continues from this folder. The folder is
        locked until the run ends, and a second process that writes to it is refused.
    checkpoint_every : int, default 1
        Iterations between checkpoints. The last checkpoint is always written.
    progress : bool, default False
        Whether to show a tqdm bar on standard error.
    on_step : callable, optional
        Function that is called with an `IterationInfo` after every iteration.
    stop : stopping rule or sequence of them, default ()
        Stopping rules for any method: `Discrepancy`, `Collapsed`, `NoProgress` or your own. They
        are checked at every evaluated ensemble. The first rule that fires ends the run.
    missing : float, default 0.1
        Largest share of a member's outputs that may be NaN. A missing output is estimated by a
        ridge regression on the parameters over the members that have this output, or by their mean
        if at most p + 2 members have it. A member with a larger share has failed. An output that
        every member lacks is left out of the step with a `RuntimeWarning`, and no member fails
        because of it. The result counts missing outputs as ``missing(iteration, data)``.
    scratch : str or Path, optional
        Folder that holds the ensemble, for an ensemble that does not fit into memory. It needs
        `EKI` or `ETKI` with ``store="final"``, and room for two ensembles (three with
        ``checkpoint``). ``ensemble`` may then be an array of zarr, h5py or dask or a memory map,
        and is only read. The model runs member by member; a vectorized model receives some members
        at a time. A checkpoint names the file of the ensemble and holds no copy. The members of
        the result are a read-only memory map of a file that stays in this folder. ``progress``
        also shows bars of bytes. Failed members are dropped, with ``on_failure="retry"`` as well.
    like : array, optional
        Any array of a floating dtype, such as ``torch.empty(1, device="cuda")``. The prior is drawn
        in this array's library, dtype and device. Omit it if ``ensemble`` is given.
    draws : {"host", "device"}, default "host"
        Place where normal numbers are drawn for an ensemble of PyTorch, JAX or CuPy. Numbers drawn
        on the host are the same on every device. Numbers drawn on the device need no transfer and
        are the same on devices of the same kind.

    Returns
    -------
    xarray.Dataset
        ``u(iteration, member, parameter)`` in physical coordinates,
        ``g(iteration, member, data)``, ``misfit``, ``failed``, ``t`` and ``step`` of the stored
        iterations; ``y`` (of the last mini-batch, with mini-batches) and ``noise_sd``;
        ``history_*`` of all iterations. Some problems and methods add variables:

        * an `ObservationSeries` adds ``seen(iteration, observation)``; ``g`` is NaN for
          observations that an iteration did not use;
        * a method whose members are nodes, such as `UKI`, adds its Gaussian as ``gaussian_mean``
          and ``gaussian_root``, and ``draws(iteration, draw, parameter)`` from this Gaussian with
          ``draws_misfit``;
        * a method that keeps an average adds ``u_average``;
        * a method that reports numbers by parameter, such as `Sparse`, adds
          ``parameter_*(iteration, parameter)``.

        The attributes are ``status`` (a sentence), ``status_code``, ``status_level``,
        ``posterior`` (1 if the last ensemble is meant as a sample of the posterior),
        ``model_runs``, ``seconds`` (wall time, including the model), ``failures``,
        ``failed_at_start`` (the share of the first model runs that failed), ``method``, ``seed``,
        ``rng`` (if it was an integer) and ``versions``.

        An interrupt from the keyboard ends the run with the status "interrupted" and returns the
        iterations computed so far.

    Raises
    ------
    KeyboardInterrupt
        If the run is interrupted before the first iteration is over.
    RunError
        If the run cannot continue: fewer than two members survived, an iteration has spent its
        model runs, a member failed under ``on_failure="raise"``, or the process pool broke. The
        message names the most frequent reason. The error's ``result`` holds the iterations
        computed so far.
    CheckpointError
        If a checkpoint cannot be written; the error's ``result`` holds the iterations computed so
        far. Also, before any model run, if the folder holds other files or another run, or if
        another process writes to it.
    TypeError, ValueError
        If an argument is invalid, before any model run.

    See Also
    --------
    resume : Continue a run from its checkpoint.
    AskTell : The same inversion for a simulator that calls the library.

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
                loop.save(folder)  # an unwritable folder raises before any model run
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
    """Continue a run from its checkpoint, bitwise as if it had not been interrupted.

    Parameters
    ----------
    path : str or Path
        Folder given as ``checkpoint`` to `run`. Later checkpoints are written there too.
    problem : InverseProblem
        The same problem. The model may be another object.
    method : Method, optional
        The method of the run. It is read from the checkpoint unless it is your own class.
    n_steps : int, optional
        New step budget, to continue after the old one was spent.
    ensemble : array, optional
        Former name of ``like``, deprecated since version 0.2.
    executor : concurrent.futures.Executor, optional
        Executor that evaluates the members. It may differ from the executor of the first run.
    timeout : float, optional
        Longest time of one model run in seconds. A member whose run takes longer has failed.
    checkpoint_every : int, default 1
        Iterations between checkpoints. The last checkpoint is always written.
    progress : bool, default False
        Whether to show a tqdm bar on standard error.
    on_step : callable, optional
        Function that is called with an `IterationInfo` after every iteration.
    stop : stopping rule or sequence of them, optional
        The stopping rules of the run. They are read from the checkpoint unless one of them is
        your own class.
    scratch : str or Path, optional
        Folder with the file of the ensemble, if the file was moved since.
    like : array, optional
        Any array of the library, dtype and device to continue with. It is needed if these differ
        from the run's, or if the run's array was not of NumPy, PyTorch, JAX or CuPy.

    Returns
    -------
    xarray.Dataset
        The result of the whole run, with the variables and attributes described in `run`. If the
        run was already over, no model run is made.

    Raises
    ------
    CheckpointError
        If the checkpoint is missing or damaged, belongs to another problem or method, or is in use
        by another process.
    RunError
        If the run cannot continue; the error's ``result`` holds the iterations computed so far.
    TypeError, ValueError
        If an argument is invalid, before any model run.

    See Also
    --------
    run : Start a run, with ``checkpoint`` to save it.
    AskTell.load : Continue from a checkpoint with your own loop.

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
    """Run or resume an inversion within a budget of ``most_runs`` model runs.

    It resumes if ``checkpoint`` holds a checkpoint. If the next iteration would exceed the budget,
    the run ends at the last evaluated ensemble with the status "runs_spent".

    Raises
    ------
    RunError
        If the first iteration, including reruns of failed members, exceeds the budget.
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
                loop._take(outputs.g, outputs.failures, outputs.extras, judged=False)
                if loop._waiting is not None:
                    continue  # failed members run again before the step
                if checkpoint is not None and (loop.n % checkpoint_every == 0 or loop.done):
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
    status = runs_spent(most_runs, loop.t if loop.last is None else loop.last.t)
    if loop.last is None:
        raise RunError(
            f"model: must run at {len(loop._alive)} draws of the prior within the budget of "
            f"{most_runs} model runs, but {loop.model_runs} runs were not enough, because many of "
            "them failed. Give a larger budget, or exclude the failing region by the prior."
        )
    loop.stop(status)


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
