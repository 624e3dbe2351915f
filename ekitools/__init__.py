"""Ensemble Kalman inversion: fit the parameters of a black box to noisy data, without derivatives.

Shapes: an ensemble is ``(J, p)`` and its outputs ``(J, d)``, members first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what is imported lazily below, for type checkers and editors
    from ekitools import datasets as datasets
    from ekitools import problems as problems
    from ekitools import theory as theory
    from ekitools import typing as typing
    from ekitools._failures import RunError as RunError
    from ekitools.asktell import AskTell as AskTell
    from ekitools.batches import MiniBatches as MiniBatches
    from ekitools.batches import OnlineData as OnlineData
    from ekitools.checkpoint import CheckpointError as CheckpointError
    from ekitools.comparison import compare as compare
    from ekitools.comparison import compare_table as compare_table
    from ekitools.comparison_plot import plot_comparison as plot_comparison
    from ekitools.comparison_plot import plot_error as plot_error
    from ekitools.continuous import integrate as integrate
    from ekitools.diagnostic_plots import plot_diagnostic as plot_diagnostic
    from ekitools.diagnostic_plots import plot_pit as plot_pit
    from ekitools.diagnostics import diagnose as diagnose
    from ekitools.export import plot_arviz as plot_arviz
    from ekitools.export import to_arviz as to_arviz
    from ekitools.flows import EKIFlow as EKIFlow
    from ekitools.flows import EKSFlow as EKSFlow
    from ekitools.flows import GradientFlow as GradientFlow
    from ekitools.flows import NaturalGradientFlow as NaturalGradientFlow
    from ekitools.flows import NesterovFlow as NesterovFlow
    from ekitools.flows import StochasticEKIFlow as StochasticEKIFlow
    from ekitools.gaussians import GaussianStart as GaussianStart
    from ekitools.graphs import GraphField as GraphField
    from ekitools.graphs import graph_laplacian as graph_laplacian
    from ekitools.labels import XarrayModel as XarrayModel
    from ekitools.linalg import kalman_update as kalman_update
    from ekitools.loop import resume as resume
    from ekitools.loop import run as run
    from ekitools.losses import BinaryCrossEntropy as BinaryCrossEntropy
    from ekitools.losses import CrossEntropy as CrossEntropy
    from ekitools.losses import FunctionLoss as FunctionLoss
    from ekitools.losses import Huber as Huber
    from ekitools.methods.curvature_eki import CurvatureEKI as CurvatureEKI
    from ekitools.methods.eki import EKI as EKI
    from ekitools.methods.gnki import GNKI as GNKI
    from ekitools.methods.loss_eki import LossEKI as LossEKI
    from ekitools.methods.smc import TemperedSMC as TemperedSMC
    from ekitools.models import FunctionModel as FunctionModel
    from ekitools.models import LinearModel as LinearModel
    from ekitools.momentum import Nesterov as Nesterov
    from ekitools.noise import GaussianNoise as GaussianNoise
    from ekitools.plots import plot_collapse as plot_collapse
    from ekitools.plots import plot_misfit as plot_misfit
    from ekitools.plots import plot_predictive as plot_predictive
    from ekitools.plots import plot_residual as plot_residual
    from ekitools.posterior_plots import plot_ensemble as plot_ensemble
    from ekitools.posterior_plots import plot_marginals as plot_marginals
    from ekitools.posterior_plots import plot_pairs as plot_pairs
    from ekitools.prediction import best_member as best_member
    from ekitools.predictive import calibration as calibration
    from ekitools.predictive import plot_calibration as plot_calibration
    from ekitools.priors import GaussianPrior as GaussianPrior
    from ekitools.priors import Prior as Prior
    from ekitools.problem import InverseProblem as InverseProblem
    from ekitools.random_fields import GaussianRandomField as GaussianRandomField
    from ekitools.schedules import ESMDA as ESMDA
    from ekitools.schedules import Collapsed as Collapsed
    from ekitools.schedules import Discrepancy as Discrepancy
    from ekitools.schedules import FixedStep as FixedStep
    from ekitools.schedules import MisfitController as MisfitController
    from ekitools.schedules import NoProgress as NoProgress
    from ekitools.schedules import NormStep as NormStep
    from ekitools.spread import Spread as Spread
    from ekitools.summaries import summary as summary
    from ekitools.theorem_plot import plot_theorems as plot_theorems
    from ekitools.webpage import report as report

__version__ = "0.1.0"

_PUBLIC = {
    "InverseProblem": "problem",
    "MiniBatches": "batches",
    "OnlineData": "batches",
    "FunctionModel": "models",
    "LinearModel": "models",
    "XarrayModel": "labels",
    "GaussianPrior": "priors",
    "Prior": "priors",
    "GaussianRandomField": "random_fields",
    "GraphField": "graphs",
    "graph_laplacian": "graphs",
    "GaussianNoise": "noise",
    "BinaryCrossEntropy": "losses",
    "CrossEntropy": "losses",
    "FunctionLoss": "losses",
    "Huber": "losses",
    "kalman_update": "linalg",
    "EKI": "methods.eki",
    "GNKI": "methods.gnki",
    "LossEKI": "methods.loss_eki",
    "CurvatureEKI": "methods.curvature_eki",
    "Spread": "spread",
    "TemperedSMC": "methods.smc",
    "Nesterov": "momentum",
    "GaussianStart": "gaussians",
    "FixedStep": "schedules",
    "NormStep": "schedules",
    "MisfitController": "schedules",
    "ESMDA": "schedules",
    "Discrepancy": "schedules",
    "Collapsed": "schedules",
    "NoProgress": "schedules",
    "EKIFlow": "flows",
    "NesterovFlow": "flows",
    "GradientFlow": "flows",
    "NaturalGradientFlow": "flows",
    "StochasticEKIFlow": "flows",
    "EKSFlow": "flows",
    "integrate": "continuous",
    "run": "loop",
    "resume": "loop",
    "AskTell": "asktell",
    "RunError": "_failures",
    "CheckpointError": "checkpoint",
    "diagnose": "diagnostics",
    "compare": "comparison",
    "compare_table": "comparison",
    "best_member": "prediction",
    "calibration": "predictive",
    "to_arviz": "export",
    "plot_arviz": "export",
    "plot_collapse": "plots",
    "plot_misfit": "plots",
    "plot_residual": "plots",
    "plot_ensemble": "posterior_plots",
    "plot_error": "comparison_plot",
    "plot_predictive": "plots",
    "plot_comparison": "comparison_plot",
    "plot_calibration": "predictive",
    "plot_diagnostic": "diagnostic_plots",
    "plot_pit": "diagnostic_plots",
    "plot_marginals": "posterior_plots",
    "plot_pairs": "posterior_plots",
    "plot_theorems": "theorem_plot",
    "summary": "summaries",
    "report": "webpage",
}
_MODULES = ("datasets", "problems", "theory", "typing")

__all__ = ["__version__", *_PUBLIC, *_MODULES]  # noqa: PLE0604

if not TYPE_CHECKING:  # type checkers see the imports above, and misspelt names

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first asked for (SPEC 1)."""
        if name in _PUBLIC:
            value = getattr(import_module(f"ekitools.{_PUBLIC[name]}"), name)
        elif name in _MODULES:
            value = import_module(f"ekitools.{name}")
        else:
            raise AttributeError(f"module 'ekitools' has no attribute {name!r}")
        globals()[name] = value
        return value


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext ekitools``: results are shown with their summary."""
    import_module("ekitools.notebook").load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """``%unload_ext ekitools``."""
    import_module("ekitools.notebook").unload(ipython)


def __dir__() -> list[str]:
    return sorted(__all__)
