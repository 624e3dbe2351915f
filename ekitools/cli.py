"""The command ``ekitools``: demonstrations, runs of a user's own file, the theorems measured."""

from __future__ import annotations

import argparse
import runpy
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import ekitools as ek
from ekitools.experiments import DEVICES, EXPERIMENTS, SCALES, reproduce
from ekitools.loop.failures import POLICIES
from ekitools.problem import check_problem
from ekitools.problems import Example
from ekitools.results.tables import table_lines

__all__ = ["main"]

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 + SIGINT."""

DEMOS = ("lynx-hare", "darcy", "deconvolution")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after ``ekitools``; those of the process by default.

    Examples
    --------
    >>> from ekitools.cli import main
    >>> main(["run", "nowhere.py"])
    2
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        print("ekitools: interrupted before there was a result.", file=sys.stderr)
        return INTERRUPTED
    except (ek.RunError, ek.CheckpointError, ImportError, OSError, TypeError, ValueError) as error:
        print(f"ekitools: {error}", file=sys.stderr)
        result = error.result if isinstance(error, ek.RunError | ek.CheckpointError) else None
        if result is not None:
            path = Path(options.out) if options.command is _run else Path(options.out) / "result.nc"
            _write(result, path)
            print(f"What was computed until then is in {path}.", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ekitools",
        description="Ensemble Kalman inversion: fit the parameters of a black box to noisy data.",
    )
    parser.add_argument("--version", action="version", version=f"ekitools {ek.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    demo = commands.add_parser(
        "demo", help="a calibration on shipped data: table, result.nc and pictures"
    )
    demo.set_defaults(command=_demo)
    demo.add_argument("name", nargs="?", choices=DEMOS, default=DEMOS[0])
    demo.add_argument("--members", type=int, default=200, help="ensemble size (default 200)")
    demo.add_argument("--seed", type=int, default=0, help="of all randomness (default 0)")
    demo.add_argument("--out", default=".", help="folder for result.nc and pictures (default .)")
    demo.add_argument("--quiet", action="store_true", help="no progress bar")

    run = commands.add_parser(
        "run",
        help="solve the problem that a Python file defines",
        description="Run a Python file that defines `problem`, an ekitools.InverseProblem. If the "
        "file also defines `method`, that method is run. If not, ekitools.solve finds the "
        "posterior and says whether model runs confirm it. --members and --steps without a "
        "`method` run EKI().",
    )
    run.set_defaults(command=_run)
    run.add_argument("file", type=Path)
    run.add_argument("--budget", type=int, help="most model runs of ekitools.solve (default 20000)")
    run.add_argument("--members", type=int, help="ensemble size of a method (default 100)")
    run.add_argument("--steps", type=int, help="step budget of a method")
    run.add_argument("--seed", type=int, help="of all randomness (default: a new one)")
    run.add_argument("--workers", type=int, default=1, help="processes for the members (default 1)")
    run.add_argument("--timeout", type=float, help="seconds that one model run may take")
    run.add_argument("--on-failure", choices=POLICIES, help="of a method (default retry)")
    run.add_argument("--checkpoint", help="folder for checkpoints; resumed from if it holds one")
    run.add_argument("--out", type=Path, default=Path("result.nc"), help="default result.nc")
    run.add_argument("--quiet", action="store_true", help="no progress bar")

    check = commands.add_parser("verify", help="measure the theorems of the linear theory")
    check.set_defaults(command=_verify)
    check.add_argument("--seed", type=int, default=0, help="of problems and ensembles (default 0)")
    check.add_argument("--json", action="store_true", help="print JSON instead of a table")
    check.add_argument("--figure", help="file for a picture of the table, and of momentum")

    page = commands.add_parser("report", help="write a result as one HTML page")
    page.set_defaults(command=_report)
    page.add_argument("result", type=Path, help="result.nc, as run and demo write it")
    page.add_argument("--out", type=Path, help="default: beside the result, as .html")
    page.add_argument("--title", help="heading of the page (default: method and model)")
    page.add_argument(
        "--problem",
        metavar="MODULE:FUNCTION",
        help="where the problem, or a function that returns it, can be imported; for the prior of "
        "a result without its first ensemble",
    )

    again = commands.add_parser("reproduce", help="run a published experiment")
    again.set_defaults(command=_reproduce)
    again.add_argument("name", choices=tuple(EXPERIMENTS))
    again.add_argument("--scale", choices=SCALES, default=SCALES[0])
    again.add_argument("--out", help="folder for numbers and figure (default NAME-SCALE)")
    again.add_argument("--resume", action="store_true", help="go on with what the folder holds")
    again.add_argument(
        "--only",
        action="append",
        metavar="PART",
        help="a part, or a pattern such as 'DNN ?, EKI(R)*'; can be repeated",
    )
    again.add_argument(
        "--device", choices=DEVICES, default=DEVICES[0], help="of the networks (default cpu)"
    )
    again.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _reproduce(options: argparse.Namespace) -> int:
    reproduce(
        options.name,
        scale=options.scale,
        out=options.out,
        resume=options.resume,
        only=options.only or (),
        progress=not options.quiet,
        device=options.device,
    )
    return 0


def _report(options: argparse.Namespace) -> int:
    import xarray as xr

    if not options.result.is_file():
        what = "a folder" if options.result.is_dir() else "which is not there"
        raise ValueError(f"result: must be a file, got {options.result}, {what}.")
    problem = None if options.problem is None else _imported(options.problem)
    out = options.out or options.result.with_suffix(".html")
    if out.resolve() == options.result.resolve():
        raise ValueError(f"--out: must not be the result itself, got {out}.")
    if out.is_dir():
        raise ValueError(f"--out: must be a file, got {out}, a folder.")
    try:
        opened = xr.open_dataset(options.result)
    except (ValueError, OSError):
        raise ValueError(
            "result: must be a netCDF file, as ekitools run and result.to_netcdf write it, got "
            f"{options.result}, which is none, or damaged."
        ) from None
    with opened as result:
        told = ek.summary(result, problem).trust.sentence
        try:
            ek.report(result, out, problem, title=options.title)
        except OSError as error:
            raise ValueError(
                f"--out: must be a file that can be written, got {out} ({error.strerror})."
            ) from None
    print(told)
    print(f"Wrote {out}.")
    return 0


def _imported(where: str) -> ek.InverseProblem:
    """The problem that MODULE:NAME is or returns, itself or within an example."""
    from importlib import import_module

    module, colon, name = where.partition(":")
    if not (module and colon and name):
        raise ValueError(f"--problem: must be MODULE:FUNCTION, got {where!r}.")
    sys.path.insert(0, str(Path.cwd()))
    found = getattr(import_module(module), name, None)
    if found is None:
        raise ValueError(f"--problem: must be in the module {module}, got no {name!r} there.")
    if callable(found):
        found = found()
    problem: ek.InverseProblem = found.problem if isinstance(found, Example) else found
    check_problem(problem)
    return problem


def _verify(options: argparse.Namespace) -> int:
    from ekitools.theory.checks import verify

    report = verify(rng=options.seed)
    print(report.to_json() if options.json else report)
    if options.figure:
        from ekitools.demos import verification_figure

        verification_figure(options.figure, report, rng=options.seed)
    return 0 if report.passed else 1


def _demo(options: argparse.Namespace) -> int:
    from ekitools.demos import demo

    demo(
        options.name,
        n_members=options.members,
        rng=options.seed,
        out=Path(options.out),
        progress=not options.quiet,
    )
    return 0


def _run(options: argparse.Namespace) -> int:
    if not options.file.is_file():
        raise ValueError(f"file: must be a Python file, got {options.file}, which is not there.")
    if options.workers < 1:
        raise ValueError(f"--workers: must be at least 1, got {options.workers}.")
    sys.path.insert(0, str(options.file.resolve().parent))
    with _executor(options) as executor:
        defined = _defined(options.file, module=executor is not None)
        problem = defined.get("problem")
        if problem is None:
            raise ValueError(f"{options.file}: must define `problem`, an ekitools.InverseProblem.")
        check_problem(problem)
        method = defined.get("method")
        solves = _solves(options, method)
        border = {
            "executor": executor,
            "timeout": options.timeout,
            "progress": not options.quiet,
        }
        if solves:
            result = ek.solve(
                problem,
                budget=options.budget,
                rng=options.seed,
                checkpoint=options.checkpoint,
                **border,
            )
        elif options.checkpoint and (Path(options.checkpoint) / "checkpoint.json").exists():
            result = ek.resume(options.checkpoint, problem, method, n_steps=options.steps, **border)
        else:
            result = ek.run(
                problem,
                ek.EKI() if method is None else method,
                n_members=options.members,
                n_steps=options.steps,
                rng=options.seed,
                on_failure=options.on_failure or "retry",
                checkpoint=options.checkpoint,
                **border,
            )
    _write(result, options.out)
    u = result.draws if "draws" in result else result.u  # nodes are no draws
    ends = [u.isel(iteration=i) for i in (0, -1)]
    rows = []
    for name in result.parameter.values:
        columns = [u.sel(parameter=name) for u in ends]
        cells = [f"{float(u.mean()):.4g} ± {float(u.std(ddof=1)):.2g}" for u in columns]
        rows.append((str(name), *cells))
    print(*table_lines(("parameter", "start", "end"), rows, rule=False), sep="\n")
    runs = result.attrs["n_runs" if solves else "model_runs"]
    print(f"{result.attrs['status']} {runs} model runs. Wrote {options.out}.")
    return INTERRUPTED if result.attrs["status_code"] == "interrupted" else 0


def _solves(options: argparse.Namespace, method: Any) -> bool:
    """Whether ekitools.solve chooses the method."""
    given = {
        "--members": options.members,
        "--steps": options.steps,
        "--on-failure": options.on_failure,
    }
    of_a_method = [name for name, value in given.items() if value is not None]
    if options.budget is None:
        begun = options.checkpoint and (Path(options.checkpoint) / "checkpoint.json").exists()
        return method is None and not of_a_method and not begun
    if method is not None or of_a_method:
        raise ValueError(
            "--budget: must be given without a `method`, --members, --steps and --on-failure, "
            f"got it with {of_a_method[0] if of_a_method else 'a `method` in the file'}. Leave "
            "one of them out."
        )
    return True


def _defined(file: Path, *, module: bool) -> dict[str, Any]:
    """What the file defines; as an importable module where worker processes need it."""
    if not module:
        return runpy.run_path(str(file))
    from importlib import import_module

    return vars(import_module(file.stem))


def _executor(options: argparse.Namespace) -> Any:
    if options.workers == 1:
        return nullcontext()
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    return ProcessPoolExecutor(
        options.workers,
        mp_context=get_context("spawn"),
        initializer=signal.signal,  # Ctrl-C ends workers without a traceback of their own
        initargs=(signal.SIGINT, signal.SIG_DFL),
    )


def _write(result: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    result.to_netcdf(path)


if __name__ == "__main__":
    sys.exit(main())
