"""The words and options of the command ``ekitools``. Only the standard library is imported."""

from __future__ import annotations

import argparse
from pathlib import Path

from ekitools._version import __version__
from ekitools.experiments.names import DEVICES, EXPERIMENTS, SCALES
from ekitools.loop.policies import POLICIES

__all__ = ["parser"]

DEMOS = ("lynx-hare", "darcy", "deconvolution")

_EXAMPLES = """\
examples:
  ekitools demo                           calibrate a model of lynx and hare
  ekitools run problem.py --budget 5000   fit your own model, with at most 5000 model runs
  ekitools report result.nc               write result.html
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    top = argparse.ArgumentParser(
        prog="ekitools",
        description="Calibrate simulators to noisy data without derivatives.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"ekitools {__version__}")
    commands = top.add_subparsers(required=True, metavar="command", dest="command")
    _demo(commands.add_parser("demo", help="calibrate a model to data that ekitools contains"))
    _run(
        commands.add_parser(
            "run",
            help="fit the model that your Python file defines",
            description="Run a Python file that defines `problem`, an ekitools.InverseProblem. If "
            "the file also defines `method`, this method runs. If not, ekitools.solve finds the "
            "posterior and checks it by model runs. --members and --steps without a `method` run "
            "EKI().",
        )
    )
    _report(commands.add_parser("report", help="write a result as one HTML page"))
    _verify(commands.add_parser("verify", help="check the theorems of linear theory by numbers"))
    _reproduce(commands.add_parser("reproduce", help="repeat a published experiment (research)"))
    return top


def _demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("name", nargs="?", choices=DEMOS, default=DEMOS[0])
    demo.add_argument("--members", type=int, default=200, help="ensemble size (default 200)")
    demo.add_argument("--seed", type=int, default=0, help="seed of all random draws (default 0)")
    demo.add_argument(
        "--out", type=Path, help="folder of results and pictures (default ekitools-demo/NAME)"
    )
    demo.add_argument("--quiet", action="store_true", help="show no progress bar")


def _run(run: argparse.ArgumentParser) -> None:
    run.add_argument("file", type=Path, help="Python file that defines `problem`")
    run.add_argument(
        "--budget", type=int, help="largest number of model runs of ekitools.solve (default 20000)"
    )
    run.add_argument("--members", type=int, help="ensemble size of a method (default 100)")
    run.add_argument("--steps", type=int, help="largest number of steps of a method")
    run.add_argument("--seed", type=int, help="seed of all random draws (default: a new one)")
    run.add_argument("--workers", type=int, default=1, help="processes for model runs (default 1)")
    run.add_argument("--timeout", type=float, help="time limit of a model run, in seconds")
    run.add_argument(
        "--on-failure", choices=POLICIES, help="policy for failed members (default retry)"
    )
    run.add_argument("--checkpoint", help="folder of checkpoints; an existing one is continued")
    run.add_argument(
        "--out", type=Path, default=Path("result.nc"), help="file of the result (default result.nc)"
    )
    run.add_argument("--quiet", action="store_true", help="show no progress bar")


def _report(report: argparse.ArgumentParser) -> None:
    report.add_argument("result", type=Path, help="file of a result, such as result.nc")
    report.add_argument("--out", type=Path, help="file of the page (default: beside the result)")
    report.add_argument("--title", help="heading of the page (default: method and model)")
    report.add_argument(
        "--problem",
        metavar="MODULE:FUNCTION",
        help="importable problem, or function that returns it. The report takes the prior from it "
        "if the result has no first ensemble.",
    )


def _verify(verify: argparse.ArgumentParser) -> None:
    verify.add_argument("--seed", type=int, default=0, help="seed of all random draws (default 0)")
    verify.add_argument("--json", action="store_true", help="print JSON in place of a table")
    verify.add_argument("--figure", help="file of a picture of the table and of momentum")


def _reproduce(again: argparse.ArgumentParser) -> None:
    again.add_argument("name", choices=tuple(EXPERIMENTS))
    again.add_argument("--scale", choices=SCALES, default=SCALES[0])
    again.add_argument("--out", help="folder of numbers and figure (default NAME-SCALE)")
    again.add_argument("--resume", action="store_true", help="continue from the numbers in --out")
    again.add_argument(
        "--only",
        action="append",
        metavar="PART",
        help="a part, or a pattern such as 'DNN ?, EKI(R)*'; can be repeated",
    )
    again.add_argument(
        "--device", choices=DEVICES, default=DEVICES[0], help="device of networks (default cpu)"
    )
    again.add_argument("--quiet", action="store_true", help="show no progress bar")
