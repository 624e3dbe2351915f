"""The subcommands of ``ekitools``. The module is imported when a subcommand runs, not for help."""

from __future__ import annotations

import argparse
import runpy
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import xarray as xr

import ekitools as ek
from ekitools import demos, experiments
from ekitools.core.terminal import line_width
from ekitools.demos import verification_figure
from ekitools.problem import check_problem
from ekitools.problems import Example
from ekitools.results.tables import table_lines
from ekitools.theory import checks

__all__ = ["demo", "report", "reproduce", "run", "verify", "write"]

_ROWS = 40
"""Largest number of parameters in a printed table."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as in shells: 128 + SIGINT."""


def _progress(options: argparse.Namespace) -> bool:
    """Whether to show progress bars: on a terminal, unless ``--quiet`` is given."""
    return not options.quiet and sys.stderr.isatty()


def reproduce(options: argparse.Namespace) -> int:
    """``ekitools reproduce``."""
    experiments.reproduce(
        options.name,
        scale=options.scale,
        out=options.out,
        resume=options.resume,
        only=options.only or (),
        progress=_progress(options),
        device=options.device,
    )
    return 0


def report(options: argparse.Namespace) -> int:
    """``ekitools report``."""
    if not options.result.is_file():
        what = "a folder" if options.result.is_dir() else "which does not exist"
        raise ValueError(f"result: must be a file, got {options.result}, {what}. Check the path.")
    problem = None if options.problem is None else _imported(options.problem)
    out = options.out or options.result.with_suffix(".html")
    if out.resolve() == options.result.resolve():
        raise ValueError(f"--out: must not be the result itself, got {out}. Use another name.")
    if out.is_dir():
        raise ValueError(f"--out: must be a file, got the folder {out}. Add a file name.")
    try:
        opened = xr.open_dataset(options.result)
    except (ValueError, OSError):
        raise ValueError(
            "result: must be a netCDF file, as ekitools run and result.to_netcdf write it, got "
            f"{options.result}, which has another format or is damaged. Write it again."
        ) from None
    with opened as result:
        trust = ek.summary(result, problem).trust.sentence
        try:
            ek.report(result, out, problem, title=options.title)
        except OSError as error:
            raise ValueError(
                f"--out: must be a file that can be written, got {out} ({error.strerror}). "
                "Use another path."
            ) from None
    print(trust)
    print(f"Wrote {out}.")
    return 0


def _imported(where: str) -> ek.InverseProblem:
    """The problem at MODULE:NAME, which may also be a function that returns it, or an example."""
    module, colon, name = where.partition(":")
    if not (module and colon and name):
        raise ValueError(
            f"--problem: must be MODULE:FUNCTION, got {where!r}. Use my_module:my_problem, for "
            "example."
        )
    sys.path.insert(0, str(Path.cwd()))
    found = getattr(import_module(module), name, None)
    if found is None:
        raise ValueError(
            f"--problem: must be a name in the module {module}, got {name!r}, which it does not "
            "have. Define it there, or use another name."
        )
    if callable(found):
        found = found()
    problem: ek.InverseProblem = found.problem if isinstance(found, Example) else found
    check_problem(problem)
    return problem


def verify(options: argparse.Namespace) -> int:
    """``ekitools verify``."""
    found = checks.verify(rng=options.seed)
    print(found.to_json() if options.json else found)
    if options.figure:
        verification_figure(options.figure, found, rng=options.seed)
    return 0 if found.passed else 1


def demo(options: argparse.Namespace) -> int:
    """``ekitools demo``."""
    demos.demo(
        options.name,
        n_members=options.members,
        rng=options.seed,
        out=options.out or Path("ekitools-demo", options.name),
        progress=_progress(options),
    )
    return 0


def run(options: argparse.Namespace) -> int:
    """``ekitools run``."""
    if not options.file.is_file():
        raise ValueError(
            f"file: must be a Python file, got {options.file}, which does not exist. Check the "
            "path."
        )
    if options.workers < 1:
        raise ValueError(f"--workers: must be at least 1, got {options.workers}.")
    sys.path.insert(0, str(options.file.resolve().parent))
    with _executor(options) as executor:
        defined = _defined(options.file, module=executor is not None)
        problem = defined.get("problem")
        if problem is None:
            raise ValueError(
                f"{options.file}: must define `problem`, an ekitools.InverseProblem, got no such "
                "name. Add problem = ek.InverseProblem(...)."
            )
        check_problem(problem)
        method = defined.get("method")
        solves = _solves(options, method)
        border = {
            "executor": executor,
            "timeout": options.timeout,
            "progress": _progress(options),
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
    write(result, options.out)
    u = result.draws if "draws" in result else result.u  # nodes are no draws
    ends = [u.isel(iteration=i) for i in (0, -1)]
    rows = []
    for name in result.parameter.values[:_ROWS]:
        columns = [u.sel(parameter=name) for u in ends]
        cells = [f"{float(u.mean()):.4g} ± {float(u.std(ddof=1)):.2g}" for u in columns]
        rows.append((str(name), *cells))
    header = ("parameter", "start", "end")
    print(*table_lines(header, rows, rule=False, width=line_width()), sep="\n")
    if len(rows) < u.sizes["parameter"]:
        print(f"{len(rows)} of {u.sizes['parameter']} parameters shown.")
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
    """The names that the file defines, from an importable module if worker processes need it."""
    if not module:
        return runpy.run_path(str(file))
    return vars(import_module(file.stem))


def _executor(options: argparse.Namespace) -> Any:
    if options.workers == 1:
        return nullcontext()
    return ProcessPoolExecutor(
        options.workers,
        mp_context=get_context("spawn"),
        initializer=signal.signal,  # Ctrl-C ends workers without a traceback of their own
        initargs=(signal.SIGINT, signal.SIG_DFL),
    )


def write(result: Any, path: Path) -> None:
    """Write a result to a netCDF file, in a new folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    result.to_netcdf(path)
