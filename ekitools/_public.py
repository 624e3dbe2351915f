"""The table of public names: the module that defines each name, and the lookup.

This module is on the lowest floor. It imports no other module of ekitools until a name is used, so
every floor can look up a public name without importing the package.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MODULES", "PUBLIC", "accessor_with_xarray", "face", "find_moved_modules", "lookup"]

PUBLIC = {
    "InverseProblem": "problem",
    "MiniBatches": "batches",
    "OnlineData": "batches",
    "Observation": "observed.observation",
    "ObservationSeries": "observed.series",
    "FunctionModel": "models.plain",
    "LinearModel": "models.plain",
    "XarrayModel": "models.labelled",
    "GaussianPrior": "priors.gaussian",
    "Prior": "priors.marginals",
    "GaussianRandomField": "priors.random_field",
    "GraphField": "priors.graph_field",
    "graph_laplacian": "priors.graph_field",
    "BasePrior": "priors.base",
    "JointPrior": "priors.joint",
    "bounded": "priors.bounded",
    "balanced_ensemble": "methods.balanced",
    "Dirichlet": "priors.simplex",
    "Ordered": "priors.ordered",
    "Hierarchical": "priors.hierarchical",
    "MaternField": "priors.matern",
    "GaussianNoise": "losses.gaussian",
    "BlockNoise": "losses.blocks",
    "UnknownNoise": "observed.unknown",
    "BinaryCrossEntropy": "losses.cross_entropy",
    "CrossEntropy": "losses.cross_entropy",
    "FunctionLoss": "losses.others",
    "Huber": "losses.others",
    "kalman_update": "linalg.kalman",
    "kalman_coefficients": "linalg.coefficients",
    "apply_update": "loop.streamed",
    "EKI": "methods.eki",
    "ALDI": "methods.aldi",
    "ETKI": "methods.etki",
    "GNKI": "methods.gnki",
    "UKI": "methods.uki",
    "LossEKI": "methods.loss_eki",
    "CurvatureEKI": "methods.curvature_eki",
    "Spread": "methods.spread",
    "TemperedSMC": "methods.smc.tempered",
    "Nesterov": "methods.nesterov",
    "Inflated": "methods.inflated",
    "Sparse": "methods.sparse",
    "GaussianStart": "methods.gaussian",
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
    "QuadraticRegressor": "emulation.quadratic",
    "emulate": "emulation.emulator",
    "sample_emulated": "emulation.sampling",
    "solve": "solving.solve",
    "run": "loop.driver",
    "resume": "loop.driver",
    "AskTell": "loop.asktell",
    "RunError": "core.errors",
    "CheckpointError": "core.errors",
    "posterior": "results.posterior",
    "prior_samples": "results.posterior",
    "intervals": "results.marginals",
    "predict": "results.predict",
    "diagnose": "results.diagnostics",
    "compare": "results.comparison",
    "compare_table": "results.comparison",
    "best_member": "results.reading",
    "calibration": "results.calibration",
    "check_posterior": "results.verdicts",
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
    "plot_pairs": "plots.pairs",
    "plot_theorems": "plots.theorems",
    "summary": "pages.summary",
    "report": "pages.page",
}
"""Public names, and the modules below ``ekitools`` that define them."""

MODULES = ("datasets", "localization", "problems", "testing", "theory", "typing")
"""Public modules."""


def lookup(name: str) -> Any:
    """Import the object with this public name; None if there is none.

    Examples
    --------
    >>> from ekitools._public import lookup
    >>> lookup("FixedStep")(0.5)
    FixedStep(h=0.5)
    >>> lookup("localization.Correlation")(3.0)
    Correlation(threshold=3.0)
    >>> lookup("nonsense") is None
    True
    """
    if name in MODULES:
        return import_module(f"ekitools.{name}")
    folder, _, inner = name.partition(".")
    if folder in MODULES:
        module = import_module(f"ekitools.{folder}")
        return getattr(module, inner) if inner in module.__all__ else None
    if name not in PUBLIC:
        return None
    return getattr(import_module(f"ekitools.{PUBLIC[name]}"), name)


def face(folder: str) -> Callable[[str], Any]:
    """``__getattr__`` of a folder: the public names of its modules are attributes of it too.

    Examples
    --------
    >>> from ekitools.losses import Huber  # defined in ekitools.losses.others
    >>> Huber(1.0).delta
    1.345
    """
    inside = f"{folder.removeprefix('ekitools.')}."

    def find(name: str) -> Any:
        where = PUBLIC.get(name) or _PICKLED.get(name, "")
        if where.startswith(inside):
            return getattr(import_module(f"ekitools.{where}"), name)
        raise AttributeError(f"module {folder!r} has no attribute {name!r}")

    return find


_MOVED = (
    *("asktell", "checkpoint", "comparison", "comparison_plot", "continuous", "diagnostic_plots"),
    *("diagnostics", "gaussians", "graphs", "labels", "momentum", "noise", "posterior_plots"),
    *("prediction", "predictive", "random_fields", "schedules", "spread", "summaries"),
    *("theorem_plot", "verification", "webpage"),
)
"""Modules of version 0.1.0 that are gone. Pickles of that version name classes by them."""


_PICKLED = {
    "_Family": "priors.marginals",
    "_Diagonal": "losses.forms",
    "_Dense": "losses.forms",
    "_LowRank": "losses.forms",
    "_Layout": "models.labelled",
    "Gaussian": "methods.gaussian",
    "verify": "theory.checks",
}
"""Further names that pickles and pages of version 0.1.0 have."""


class _Moved:
    """A finder of modules that moved: each has the public names under its old path."""

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        parent, _dot, name = fullname.rpartition(".")
        ours = parent == "ekitools" and name in _MOVED
        return ModuleSpec(fullname, self) if ours else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        def find(name: str) -> Any:
            where = PUBLIC.get(name) or _PICKLED.get(name)
            if where is None:
                raise AttributeError(f"module {module.__name__!r} has moved and has no {name!r}")
            return getattr(import_module(f"ekitools.{where}"), name)

        module.__getattr__ = find  # type: ignore[method-assign]


def find_moved_modules() -> None:
    """Let the modules of version 0.1.0 be imported: the last resort of the import system."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())


class _WithXarray:
    """A finder that registers ``dataset.eki`` at the end of the first import of xarray."""

    def find_spec(self, fullname: str, *rest: Any) -> ModuleSpec | None:
        if fullname != "xarray":
            return None
        others = [each for each in sys.meta_path if each is not self]
        specs = (finder.find_spec(fullname, *rest) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        loader: Any = spec and spec.loader
        run = getattr(loader, "exec_module", None)

        def exec_module(module: ModuleType) -> None:
            run(module)  # type: ignore[misc]  # it is there, or this function is not used
            with suppress(ValueError):  # another thread was faster
                sys.meta_path.remove(self)
            import_module("ekitools.results.accessor")

        if run is not None:
            with suppress(AttributeError):  # of a loader that is not written in Python
                loader.exec_module = exec_module
        return spec


def accessor_with_xarray() -> None:
    """Register ``dataset.eki`` now if xarray is loaded, else when xarray is imported.

    ekitools itself does not import xarray until a name is used that needs it.
    """
    if "xarray" in sys.modules:
        import_module("ekitools.results.accessor")
    elif not any(isinstance(finder, _WithXarray) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WithXarray())
