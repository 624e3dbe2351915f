"""A recurrent network trained on a series one datum at a time, by EKI and by gradients.

What the two experiments share: one-step-ahead prediction, y_{j+1} = G(u | x_{j+1}) + η, of a
series scaled to [0, 1], and the mean squared error on its last part after every pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import ekitools as ek
from ekitools.datasets import Series
from ekitools.experiments._elman import Elman, windows
from ekitools.plots.style import BLUE, ORANGE

__all__ = ["METHODS", "OnlineExperiment", "OnlineSettings", "references", "scaled", "stretches"]

METHODS = ("OGD", "EKI")
_BLOCK = 50
"""Data over which the error on the way is averaged for the picture."""


@dataclass(frozen=True)
class OnlineSettings:
    """All that the experiment needs to know; the slides give the two series and the errors alone.

    The rest had to be chosen: ``spread``, ``rate`` and ``start`` by the error on a part of the
    training series, which stands in for the test with ``until=0.8, split=0.75``. Tried were
    spreads of 0.03, 0.1, 0.2, 0.3 and 1, rates from 0.001 to 0.3 and starts of 0.1, 0.3, 0.6 and
    1, though not every one on both series. The scale to [0, 1] is that of the whole series: a
    unit, to have the slides' errors in.

    The spread decides whether EKI learns. Outputs are c·h + d, and around zero the covariance of
    c·h with any parameter vanishes by symmetry: the first gain sees d alone, which explains 92 %
    of the outputs' variance with a spread of 0.2, and 24 % with 1. What is not explained is not
    removed by the data, and with 1 the error of a pass is not better than that of the mean. With
    a small spread the first data fix d, and the mean then leaves the symmetry. Nor does the
    ensemble need artificial noise between data.

    Parameters
    ----------
    seeds : int
        Runs of each method, from different starts.
    passes : int
        How often the training data are gone through.
    units : int, default 12
        Hidden units of the network.
    window : int, default 10
        Values that it sees; its hidden state is zero before the first.
    n_members : int, default 200
        J.
    spread : float, default 0.2
        Standard deviations of the initial ensemble, in those of Glorot's prior.
    variance : float, default 0.01
        Γ, of one datum.
    rate : float, default 0.005
        Learning rate of gradient descent.
    start : float, default 0.3
        As ``spread``, for where gradient descent starts.
    split : float, default 0.8
        Part of the series that is trained on.
    until : float, default 1
        Part of the series that is used at all.
    """

    seeds: int
    passes: int
    units: int = 12
    window: int = 10
    n_members: int = 200
    spread: float = 0.2
    variance: float = 0.01
    rate: float = 0.005
    start: float = 0.3
    split: float = 0.8
    until: float = 1.0


@dataclass(frozen=True)
class OnlineExperiment:
    """The experiment with one series: what `ekitools.experiments` asks of a module.

    Parameters
    ----------
    series : callable
        Gives the `Series`.
    published : mapping
        By method of `METHODS`: its errors after the first and after the last pass.
    """

    series: Callable[[], Series]
    published: Mapping[str, tuple[float, float]]

    def parts(self, settings: OnlineSettings) -> list[str]:
        """Every method from every start, and what their errors are to be compared with."""
        runs = [f"{name}, seed {seed}" for seed in range(settings.seeds) for name in METHODS]
        return [*runs, "references"]

    def compute(
        self,
        settings: OnlineSettings,
        label: str,
        folder: Path,  # noqa: ARG002 - a run takes less than a minute: no checkpoints
        progress: bool,
    ) -> dict[str, Any]:
        """Errors on the test series after every pass, and before every step on the way."""
        (x, y), (x_test, y_test) = self._data(settings)
        if label == "references":
            return {"errors": references(x, y, x_test, y_test)}
        method, seed = label.split(", seed ")
        passes = (_eki if method == "EKI" else _ogd)(settings, int(seed), x, y, progress)
        network, errors, on_the_way = Elman(settings.units), [], []
        for u, before in passes:
            predicted = network(u[None], inputs=x_test)[0]
            errors.append(float(np.mean((predicted - y_test) ** 2)))
            blocks = before[: len(before) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
            on_the_way.append(blocks.mean(axis=1).tolist())
        return {"errors": errors, "on the way": on_the_way, "predicted": predicted.tolist()}

    def table(self, settings: OnlineSettings, numbers: Mapping[str, Any]) -> str:
        """The slides' errors beside ours: the mean over the starts, and the range."""
        n = settings.passes
        head = f"{'error, 1e-3':<26}{'slides':>8}{'first pass':>24}{'slides':>10}{f'pass {n}':>24}"
        lines = [head, "-" * len(head)]
        for name in METHODS:
            errors = _of(numbers, name, "errors")
            first, last = self.published[name]
            lines.append(
                f"{name:<26}{1e3 * first:8.3f}{_range(errors[:, 0]):>24}"
                f"{1e3 * last:10.3f}{_range(errors[:, -1]):>24}"
            )
        for name, error in numbers["references"]["errors"].items():
            lines.append(f"{name:<26}{'':42}{1e3 * error:14.3f}")
        return "\n".join(lines)

    def draw(self, settings: OnlineSettings, numbers: Mapping[str, Any], path: Path) -> None:
        """Errors by pass, errors on the way in the first pass, and the start of the test series."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        fig = Figure(figsize=(11, 7), layout="constrained")
        FigureCanvasAgg(fig)
        grid = fig.add_gridspec(2, 2)
        by_pass, on_the_way = fig.add_subplot(grid[0, 0]), fig.add_subplot(grid[0, 1])
        stretch = fig.add_subplot(grid[1, :])
        _, (_, y) = self._data(settings)
        shown = slice(0, 120)
        stretch.plot(y[shown], "o", color="black", ms=3, label="data")
        for name, colour in zip(METHODS, (ORANGE, BLUE), strict=True):
            errors = _of(numbers, name, "errors")
            by_pass.plot(np.arange(1, errors.shape[1] + 1), errors.T, color=colour, lw=1)
            ends = (1, errors.shape[1])
            by_pass.plot(ends, self.published[name], "*", color=colour, ms=11, label=name)
            first = _of(numbers, name, "on the way")[:, 0]
            data = _BLOCK * (1 + np.arange(first.shape[1]))
            on_the_way.plot(data, first.T, color=colour, lw=1)
            predicted = numbers[f"{name}, seed 0"]["predicted"][shown]
            stretch.plot(predicted, color=colour, label=f"{name}, one step ahead")
        by_pass.set(xlabel="pass", ylabel="test error", yscale="log", title="stars: the slides'")
        on_the_way.set(
            xlabel="datum",
            ylabel=f"squared error, mean of {_BLOCK}",
            yscale="log",
            title="before each step, first pass",
        )
        stretch.set(xlabel="value of the test series", ylabel="scaled to [0, 1]")
        by_pass.legend(frameon=False)
        stretch.legend(frameon=False, ncols=3)
        fig.savefig(path, dpi=120)

    def _data(
        self, settings: OnlineSettings
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Windows and the values after them: to train on, and to test on."""
        values = scaled(self.series().values)
        used = values[: int(settings.until * len(values))]
        train, test = stretches(used, settings.window, [int(settings.split * len(used))])
        return train, test


def scaled(values: np.ndarray) -> np.ndarray:
    """To [0, 1], over all of the series: a unit."""
    low, high = float(np.min(values)), float(np.max(values))
    return (values - low) / (high - low)


def stretches(
    series: np.ndarray, width: int, cuts: list[int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows and the values after them, of every part into which a series is cut.

    The first window of a part ends where the part before does: all its targets are new.
    """
    ends = (0, *cuts, len(series))
    return [windows(series[max(a - width, 0) : b], width) for a, b in pairwise(ends)]


def _eki(
    settings: OnlineSettings, seed: int, x: np.ndarray, y: np.ndarray, progress: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pass after pass: the mean, and the members' mean squared errors before each step."""
    network = Elman(settings.units)
    prior = ek.GaussianPrior(0.0, settings.spread**2 * network.variances())
    problem = ek.InverseProblem(network, prior, settings.variance, ek.OnlineData(x, y))
    method = ek.EKI(ek.FixedStep(1.0), t_end=None)
    stream = np.random.default_rng(seed)
    ensemble = prior.sample(settings.n_members, rng=stream)
    for _ in range(settings.passes):
        result = ek.run(
            problem, method, ensemble=ensemble, rng=stream, store="last", progress=progress
        )
        ensemble = result.u[-1].values
        before = result.history_misfit.values[: len(y)]
        yield ensemble.mean(axis=0), 2 * settings.variance * before


def _ogd(
    settings: OnlineSettings,
    seed: int,
    x: np.ndarray,
    y: np.ndarray,
    progress: bool,  # noqa: ARG001 - as `_eki`
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pass after pass: the parameters, and the squared errors before each step."""
    network, errors = Elman(settings.units), np.empty(len(y))
    sd = settings.start * np.sqrt(network.variances())
    u = sd * np.random.default_rng(seed).standard_normal(len(sd))
    for _ in range(settings.passes):
        for i in range(len(y)):
            errors[i], gradient = network.loss_gradient(u, x[i], y[i])
            u = u - settings.rate * gradient
        yield u, errors


def references(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> dict[str, float]:
    """Errors of what is easily had: a mean, the last value, and least squares on the window."""
    design = np.column_stack([x, np.ones(len(x))])
    weights = np.linalg.lstsq(design, y, rcond=None)[0]
    predicted = {
        "the mean": np.mean(y),
        "the last value": x_test[:, -1],
        "linear, least squares": x_test @ weights[:-1] + weights[-1],
    }
    return {name: float(np.mean((p - y_test) ** 2)) for name, p in predicted.items()}


def _of(numbers: Mapping[str, Any], method: str, what: str) -> np.ndarray:
    """By seed."""
    return np.array([found[what] for label, found in numbers.items() if label.startswith(method)])


def _range(errors: np.ndarray) -> str:
    mean, low, high = (1e3 * v for v in (errors.mean(), errors.min(), errors.max()))
    return f"{mean:.3f} ({low:.3f}-{high:.3f})"
