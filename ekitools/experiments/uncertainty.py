"""Coverage of predictions by ensembles of a small network, on test data.

There are three regressions. The first is a noisy sine with a gap in its inputs. In the second the
functions are drawn from the prior of the network, so that the exact posterior is calibrated on
average. The third has the diabetes data of scikit-learn [1]_. Tempered SMC is the reference,
because it converges to the posterior.

References
----------
.. [1] Efron, Hastie, Johnstone & Tibshirani (2004), Ann. Statist. 32, 407-499.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import ekitools as ek
from ekitools.experiments.frame import new_figure, progress_bar
from ekitools.methods.smc.resampling import resample
from ekitools.plots.style import BLUE, GREY, ORANGE, RED
from ekitools.results.predictive import predictive_quantiles
from ekitools.results.tables import table_lines
from ekitools.typing import Method

__all__ = ["PUBLISHED", "SETTINGS", "OneLayer", "Settings", "compute", "draw", "parts", "table"]

PUBLISHED: dict[str, Any] = {}
_METHODS: dict[str, Method] = {
    "EKI": ek.EKI(),
    "GNKI": ek.GNKI(),
    "TemperedSMC": ek.TemperedSMC(max_moves=50),
}
METHODS = ("EKI", "GNKI", "EKSFlow", "TemperedSMC")
SINE, DRAWN, DIABETES = "sine", "drawn", "diabetes"
LEVELS = tuple(round(0.1 * k, 1) for k in range(1, 10))
_GAP = 0.25
_GRID = np.linspace(-1.2, 1.2, 121)
_KEPT = 400
"""Number of members whose predictions are scored."""


@dataclass(frozen=True)
class Settings:
    """All choices of the experiment.

    Settings were chosen on the first replicate, whose coverages were seen. This noise and this
    prior make the reference affordable. The step and the end of `EKSFlow` make Euler-Maruyama
    accurate. With less noise, or a prior further from its features, the problem is less linear and
    the bands of EKI are even wider. The noise of the diabetes data is that of the residuals of
    linear least squares on the training data.
    """

    replicates: int
    """Number of data sets of each kind, or of random splits of the diabetes data."""
    n_members: int = 500
    """Number of members of EKI and GNKI."""
    n_sampler: int = 200
    """Number of members of `EKSFlow`, whose ensembles at five late times are combined."""
    n_particles: int = 1000
    n_train: int = 60
    n_test: int = 200
    """Number of test data in the range of the training inputs. The gap has half as many."""
    noise: float = 0.2
    """Standard deviation of the noise, of the sine and of the drawn functions."""
    units: int = 10
    """Number of hidden units. The diabetes data, with ten inputs, have half as many."""
    step: float = 0.3
    """Step size h of `NormStep` for `EKSFlow`."""


SETTINGS = {
    "small": Settings(4, n_particles=1000),
    "medium": Settings(20, n_particles=4000),
    "paper": Settings(100, n_members=2000, n_sampler=500, n_particles=10_000),
}


class OneLayer:
    r"""J networks at once with one hidden layer: G(u | x) = c · tanh(W x + b) + d.

    Parameters
    ----------
    inputs, units : int
        Sizes of the layers. The (inputs + 2) units + 1 parameters are W by rows, b, c and d.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.experiments.uncertainty import OneLayer
    >>> OneLayer(1, 1)(np.array([[2.0, 0.0, 3.0, 1.0]]), inputs=np.zeros((1, 1)))
    array([[1.]])
    """

    vectorized = takes_inputs = True
    stochastic = False

    def __init__(self, inputs: int, units: int) -> None:
        self.inputs, self.units = inputs, units

    def prior(self, W: np.ndarray, b: np.ndarray, sd: float, out: float) -> ek.GaussianPrior:
        """The prior around W, b with ``sd`` and around c = 0 with ``out``/√units, and d ~ N(0, 1).

        Around W = 0 and b = 0, the outputs have no covariance with W, b or c by symmetry.
        """
        h = self.units
        spread = np.repeat([sd, out / np.sqrt(h), 1.0], [h * self.inputs + h, h, 1])
        mean = np.concatenate([W.ravel(), b, np.zeros(h + 1)])
        return ek.GaussianPrior(mean, spread**2)

    def __call__(self, u: np.ndarray, /, inputs: np.ndarray) -> np.ndarray:
        """Outputs ``(J, m)`` of members ``(J, p)`` at inputs ``(m, q)``."""
        h, q = self.units, self.inputs
        W, b, c, d = np.split(u, np.cumsum([h * q, h, h]), axis=1)
        hidden = np.tanh(W.reshape(-1, h, q) @ inputs.T + b[:, :, None])
        return np.asarray((c[:, None, :] @ hidden)[:, 0] + d)


class Task(NamedTuple):
    """A network with its prior, the data to learn from, and the test data."""

    network: OneLayer
    prior: ek.GaussianPrior
    noise: float
    x: np.ndarray
    y: np.ndarray
    tests: dict[str, tuple[np.ndarray, np.ndarray]]
    """Test inputs and targets by place."""


def parts(settings: Settings) -> list[str]:  # noqa: ARG001 - the same at every scale
    """Labels such as "sine, EKI"."""
    return [f"{task}, {method}" for task in (SINE, DRAWN, DIABETES) for method in METHODS]


def compute(
    settings: Settings,
    label: str,
    folder: Path,  # noqa: ARG001 - a part takes minutes: no checkpoints
    progress: bool,
) -> dict[str, Any]:
    """Means over the replicates of coverage, width and scores, by place of the test data."""
    name, method = label.split(", ")
    scores: dict[str, list[xr.Dataset]] = {}
    statuses: list[str] = []
    runs: list[int] = []
    found: dict[str, Any] = {}
    bar = progress_bar(settings.replicates, progress)
    for seed in range(settings.replicates):
        task = task_of(settings, name, seed)
        u, status, n_runs = solved(settings, task, method, seed)
        statuses.append(status)
        runs.append(n_runs)
        for where, (x, y) in task.tests.items():
            score = ek.calibration(task.network(u, inputs=x), y, task.noise, levels=LEVELS)
            scores.setdefault(where, []).append(score)
        if name == SINE and seed == 0:
            g = task.network(u, inputs=_GRID[:, None])
            sd = np.full(len(_GRID), task.noise)
            found["bands"] = predictive_quantiles((0.05, 0.5, 0.95), g, sd).round(4).tolist()
        bar.update()
    bar.close()
    return {
        "where": {where: _pooled(each) for where, each in scores.items()},
        "statuses": sorted(set(statuses)),
        "model_runs": float(np.mean(runs)),
        **found,
    }


def _pooled(scores: list[xr.Dataset]) -> dict[str, Any]:
    """Means over the replicates, which have equally many data, and their standard errors."""
    coverage = np.array([score.coverage.values for score in scores])
    several = len(scores) > 1
    error = coverage.std(axis=0, ddof=1) / np.sqrt(len(scores)) if several else 0 * coverage[0]
    pooled: dict[str, Any] = {
        "n_data": sum(score.attrs["n_data"] for score in scores),
        "coverage": coverage.mean(axis=0).tolist(),
        "coverage error": error.tolist(),
        "width": np.mean([score.width.values for score in scores], axis=0).tolist(),
    }
    for name in ("nlpd", "crps", "rmse"):
        pooled[name] = float(np.mean([score[name].item() for score in scores]))
    return pooled


def task_of(settings: Settings, name: str, seed: int) -> Task:
    """The data of one replicate, which are the same for every method."""
    rng = np.random.default_rng([seed, (SINE, DRAWN, DIABETES).index(name)])
    if name == DIABETES:
        return _diabetes(settings, rng)
    network = OneLayer(1, settings.units)
    bends = np.linspace(-1, 1, settings.units)
    prior = network.prior(np.full(settings.units, 3.0), -3.0 * bends, 0.5, 2.0)
    if name == SINE:
        phase = rng.uniform(0, 2 * np.pi)
        truth: Callable[[np.ndarray], np.ndarray] = lambda x: np.sin(np.pi * x[:, 0] + phase)  # noqa: E731
    else:
        drawn = prior.sample(1, rng=rng)
        truth = lambda x: network(drawn, inputs=x)[0]  # noqa: E731

    def some(n: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        x = rng.uniform(low, high, size=(n, 1)) * rng.choice([-1, 1], size=(n, 1))
        return x, truth(x) + settings.noise * rng.standard_normal(n)

    x, y = some(settings.n_train, _GAP, 1.0)
    tests = {"near": some(settings.n_test, _GAP, 1.0), "gap": some(settings.n_test // 2, 0, _GAP)}
    return Task(network, prior, settings.noise, x, y, tests)


def _diabetes(settings: Settings, rng: np.random.Generator) -> Task:
    """Standardised data of 300 patients to learn from and 142 patients to test with."""
    if find_spec("sklearn") is None:
        raise ImportError(
            "sklearn: must be installed for the diabetes data, and is not. Use "
            "pip install scikit-learn."
        )
    x, y = import_module("sklearn.datasets").load_diabetes(return_X_y=True)
    order = rng.permutation(len(y))
    train, test = order[:300], order[300:]
    x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    y = (y - y[train].mean()) / y[train].std()
    design = np.column_stack([x[train], np.ones(len(train))])
    squares = np.linalg.lstsq(design, y[train], rcond=None)[1]
    noise = float(np.sqrt(squares[0] / (len(train) - design.shape[1])))
    network = OneLayer(x.shape[1], settings.units // 2)
    fixed = np.random.default_rng(0)  # the prior is the same for all splits
    W, b = 0.3 * fixed.standard_normal((network.units, 10)), fixed.standard_normal(network.units)
    prior = network.prior(W, b, 0.15, 1.0)
    return Task(network, prior, noise, x[train], y[train], {"test": (x[test], y[test])})


def solved(settings: Settings, task: Task, method: str, seed: int) -> tuple[np.ndarray, str, int]:
    """Members ``(J, p)`` of equal weight, the status of the run, and its number of model runs."""
    model = ek.FunctionModel(lambda u: task.network(u, inputs=task.x), vectorized=True)
    problem = ek.InverseProblem(model, task.prior, task.noise**2, task.y)
    rng = np.random.default_rng(seed)
    if method == "EKSFlow":
        result = ek.integrate(
            problem,
            ek.EKSFlow(scheme="euler-maruyama"),
            t_span=(0, 4),
            t_eval=np.linspace(2, 4, 5),
            step=ek.NormStep(settings.step),
            n_members=settings.n_sampler,
            rng=rng,
        )
        u = result.u.values.reshape(-1, result.sizes["parameter"])
    else:
        n_members, chosen = settings.n_members, _METHODS[method]
        if method == "TemperedSMC":
            n_members = settings.n_particles
        result = ek.run(problem, chosen, n_members=n_members, rng=rng, store="last")
        u = result.u[-1].values
        if "weight" in result:
            u = u[resample(result.weight[-1].values, _KEPT, rng=rng)]
    u = u[np.isfinite(u).all(axis=1)]
    if len(u) > _KEPT:
        u = u[rng.choice(len(u), _KEPT, replace=False)]
    return u, str(result.attrs["status_code"]), int(result.attrs["model_runs"])


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Coverage at three levels, width of the 90 % interval, scores and cost, by method."""
    header = (
        "data, method",
        "at",
        "50 %",
        "80 %",
        "90 %",
        "width",
        "NLPD",
        "CRPS",
        "rmse",
        "runs",
        "ended",
    )
    rows = []
    for label in filter(numbers.__contains__, parts(settings)):
        found = numbers[label]
        for where, at in found["where"].items():
            covered = [
                f"{100 * at['coverage'][k]:.1f} ± {100 * at['coverage error'][k]:.1f}"
                for k in map(LEVELS.index, (0.5, 0.8, 0.9))
            ]
            scores = [f"{at[name]:.3f}" for name in ("nlpd", "crps", "rmse")]
            cost = (f"{found['model_runs']:.0f}", ", ".join(found["statuses"]))
            rows.append((label, where, *covered, f"{at['width'][-1]:.3f}", *scores, *cost))
    return "\n".join(table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Draw the sine with bands, and coverage against level by data and place."""
    places = ((SINE, "near"), (SINE, "gap"), (DRAWN, "near"), (DRAWN, "gap"), (DIABETES, "test"))
    axes, save = new_figure(1 + len(places), size=(4 * (1 + len(places)), 4))
    first, *others = axes
    task = task_of(settings, SINE, 0)
    first.plot(task.x[:, 0], task.y, ".", color="black", ms=4, label="data")
    for method, colour in (("TemperedSMC", RED), ("GNKI", ORANGE), ("EKI", BLUE)):  # as the curves
        if "bands" in numbers.get(f"{SINE}, {method}", {}):
            low, middle, high = numbers[f"{SINE}, {method}"]["bands"]
            first.fill_between(_GRID, low, high, color=colour, alpha=0.2, lw=0)
            first.plot(_GRID, middle, color=colour, lw=1.2, label=f"{method}, 90 %")
    first.axvspan(-_GAP, _GAP, color=GREY, alpha=0.08, lw=0)
    first.set(xlabel="$x$", ylabel="$y$", title=SINE, ylim=(-2, 2))
    first.legend(frameon=False, fontsize="small")
    for ax, (name, where) in zip(others, places, strict=True):
        curves = {
            method: _as_calibration(numbers[f"{name}, {method}"]["where"][where])
            for method in METHODS
            if f"{name}, {method}" in numbers
        }
        if curves:
            ek.plot_calibration(curves, ax)
        ax.set_title(f"{name}: {where}")
    save(path)


def _as_calibration(found: dict[str, Any]) -> xr.Dataset:
    """Pooled coverage as a Dataset for `plot_calibration`, with as many independent data."""
    levels = np.array(LEVELS)
    error = np.sqrt(levels * (1 - levels) / found["n_data"])
    values = {"coverage": found["coverage"], "standard_error": error}
    return xr.Dataset({k: ("level", v) for k, v in values.items()}, coords={"level": levels})
