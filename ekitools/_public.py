"""The table of public names: where each one is defined, and how it is looked up.

It stands on the ground and imports nothing of ekitools until a name is asked for, so that every
floor can find a public name without importing the package's face.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["MODULES", "PUBLIC", "lookup"]

PUBLIC = {
    "InverseProblem": "problem",
    "MiniBatches": "batches",
    "OnlineData": "batches",
    "FunctionModel": "models.plain",
    "LinearModel": "models.plain",
    "XarrayModel": "models.labelled",
    "GaussianPrior": "priors.gaussian",
    "Prior": "priors.marginals",
    "GaussianRandomField": "priors.random_field",
    "GraphField": "priors.graph_field",
    "graph_laplacian": "priors.graph_field",
    "GaussianNoise": "losses.gaussian",
    "BinaryCrossEntropy": "losses.cross_entropy",
    "CrossEntropy": "losses.cross_entropy",
    "FunctionLoss": "losses.others",
    "Huber": "losses.others",
    "kalman_update": "linalg",
    "EKI": "methods.eki",
    "GNKI": "methods.gnki",
    "LossEKI": "methods.loss_eki",
    "CurvatureEKI": "methods.curvature_eki",
    "Spread": "methods.spread",
    "TemperedSMC": "methods.smc.tempered",
    "Nesterov": "methods.nesterov",
    "GaussianStart": "methods.smc.gaussian",
    "FixedStep": "methods.steps",
    "NormStep": "methods.steps",
    "MisfitController": "methods.steps",
    "ESMDA": "methods.steps",
    "Discrepancy": "methods.stopping",
    "Collapsed": "methods.stopping",
    "NoProgress": "methods.stopping",
    "EKIFlow": "flows.right_hand_sides",
    "NesterovFlow": "flows.right_hand_sides",
    "GradientFlow": "flows.right_hand_sides",
    "NaturalGradientFlow": "flows.right_hand_sides",
    "StochasticEKIFlow": "flows.right_hand_sides",
    "EKSFlow": "flows.right_hand_sides",
    "integrate": "flows.integrate",
    "run": "loop.driver",
    "resume": "loop.driver",
    "AskTell": "loop.asktell",
    "RunError": "core.errors",
    "CheckpointError": "core.errors",
    "diagnose": "results.diagnostics",
    "compare": "results.comparison",
    "compare_table": "results.comparison",
    "best_member": "results.reading",
    "calibration": "results.calibration",
    "to_arviz": "export",
    "plot_arviz": "export",
    "plot_collapse": "plots.convergence",
    "plot_misfit": "plots.convergence",
    "plot_residual": "plots.convergence",
    "plot_ensemble": "plots.posterior",
    "plot_error": "plots.comparison",
    "plot_predictive": "plots.predictive",
    "plot_comparison": "plots.comparison",
    "plot_calibration": "plots.calibration",
    "plot_diagnostic": "plots.diagnostic",
    "plot_pit": "plots.calibration",
    "plot_marginals": "plots.posterior",
    "plot_pairs": "plots.posterior",
    "plot_theorems": "plots.theorems",
    "summary": "pages.summary",
    "report": "pages.page",
}
"""Public names, and the modules below ``ekitools`` that define them."""

MODULES = ("datasets", "problems", "theory", "typing")
"""Public modules."""


def lookup(name: str) -> Any:
    """Import what is public under this name; None where nothing is.

    Examples
    --------
    >>> from ekitools._public import lookup
    >>> lookup("FixedStep")(0.5)
    FixedStep(h=0.5)
    >>> lookup("nonsense") is None
    True
    """
    if name in MODULES:
        return import_module(f"ekitools.{name}")
    if name not in PUBLIC:
        return None
    return getattr(import_module(f"ekitools.{PUBLIC[name]}"), name)
