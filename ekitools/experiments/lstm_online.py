"""Number of examples that an LSTM needs, by EKI and by gradient descent.

The experiment is "LSTM (batched online regression)" of [1]_. Its claim is an "O(10⁵) reduction in
the number of examples needed". Data, sizes and the compared method are not published. Ours is
one-step-ahead prediction of the monthly sunspot numbers by an LSTM on a window. Batches arrive in
order, pass after pass. Ensemble Kalman inversion takes one step for a batch, and so does gradient
descent, with and without momentum. An example counts each time it is seen. The series has a
training, a validation and a test part.

For every target error, gradient descent gets the rate that needs the fewest examples to reach this
error on the validation part. The settings of EKI were chosen there too. Examples are counted up to
the first error that is low enough, even if a later one is not. This favours the method with the
more variable errors. Target errors are multiples of that of linear least squares on the same
windows.

References
----------
.. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005, and a talk on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import ekitools as ek
from ekitools.core.arrays import host
from ekitools.datasets import zurich_sunspots
from ekitools.experiments.devices import placed, require_torch
from ekitools.experiments.frame import new_figure, progress_bar
from ekitools.experiments.one_step_ahead import references, scaled, stretches
from ekitools.plots.style import BLUE, GREEN, ORANGE
from ekitools.results.tables import table_lines
from ekitools.typing import Array

__all__ = ["PUBLISHED", "SETTINGS", "Settings", "compute", "draw", "needed", "parts", "table"]

PUBLISHED = {"reduction in the number of examples": 1e5}

_LINEAR = "linear, least squares"
_PER_DECADE = 20
"""Number of measurements per factor of ten in the number of examples."""


@dataclass(frozen=True)
class Settings:
    """All choices of the experiment.

    Parameters
    ----------
    seeds : int
        Number of runs of each method, from different starts.
    passes : int
        Number of passes of gradient descent through the training part.
    eki_passes : int
        Number of passes of EKI through the training part.
    rates : mapping of str to tuple of float
        The learning rates of every variant of gradient descent.
    momentum : float
        Momentum of momentum SGD.
    units, window : int
        Number of units of the LSTM, and number of values that it sees.
    size : int
        Number of examples in a batch.
    n_members : int
        Number of members J.
    spread, start : float
        Standard deviations of the initial ensemble and of the start of gradient descent, in units
        of those of Glorot's prior. `series.OnlineSettings` says why the first is small.
    variance : float
        Variance Γ of one datum.
    cuts : pair of float
        The starts of the validation part and of the test part, as parts of the series.
    multiples : tuple of float
        Target errors, in units of that of linear least squares.
    """

    seeds: int
    passes: int
    eki_passes: int
    rates: dict[str, tuple[float, ...]] = field(
        default_factory=lambda: {
            "SGD": (0.03, 0.1, 0.3, 1.0),
            "momentum SGD": (0.01, 0.03, 0.1),
        }
    )
    momentum: float = 0.9
    units: int = 16
    window: int = 10
    size: int = 10
    n_members: int = 200
    spread: float = 0.2
    start: float = 1.0
    variance: float = 0.001
    cuts: tuple[float, float] = (0.65, 0.8)
    multiples: tuple[float, ...] = (4.0, 2.0, 1.5, 1.25, 1.1)


SETTINGS = {
    "small": Settings(seeds=3, passes=20, eki_passes=1),
    "medium": Settings(seeds=5, passes=200, eki_passes=5),
    "paper": Settings(seeds=10, passes=2000, eki_passes=20),
}


def parts(settings: Settings) -> list[str]:
    """Labels such as "EKI, seed 0" and "SGD 0.1, seed 0", after the references."""
    names = ["EKI", *(f"{name} {r:g}" for name, rates in settings.rates.items() for r in rates)]
    return ["references", *(f"{name}, seed {s}" for name in names for s in range(settings.seeds))]


def compute(
    settings: Settings,
    label: str,
    folder: Path,  # noqa: ARG001 - a run takes minutes at most: no checkpoints
    progress: bool,
    device: str = "cpu",
) -> dict[str, Any]:
    """Mean squared errors on the validation and on the test part, by examples seen."""
    train, validation, test = _data(settings)
    if label == "references":
        return {
            "validation": references(*train, *validation),
            "test": references(*train, *test),
            "examples": len(train[1]),
        }
    name, seed = label.split(", seed ")
    model = _model(settings, device)
    method, _, rate = name.rpartition(" ")
    if method:
        runs = _descent(settings, model, method, float(rate), int(seed), train, progress, device)
    else:
        runs = _eki(settings, model, int(seed), train, progress, device)
    examples: list[int] = []
    found: dict[str, list[float]] = {"validation": [], "test": []}
    passes = settings.passes if method else settings.eki_passes
    when = _measured(passes * (len(train[1]) // settings.size))
    for step, u in runs:
        if step not in when:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            errors = [_error(model, u(), *part) for part in (validation, test)]
        if not np.all(np.isfinite(errors)):
            break  # the rate is too high
        examples.append(step * settings.size)
        for part, error in zip(found, errors, strict=True):
            found[part].append(error)
    return {"examples": examples, **found}


def _measured(last: int) -> set[int]:
    """The measured steps: 0, and then steps up to the last with evenly spaced logarithms."""
    n = 1 + int(np.ceil(_PER_DECADE * np.log10(last)))
    return {0, *np.geomspace(1, last, n).round().astype(int).tolist()}


def needed(examples: list[int], errors: list[float], target: float) -> float:
    """Examples seen until the error was first at most ``target``; infinity if it never was.

    Examples
    --------
    >>> from ekitools.experiments.lstm_online import needed
    >>> needed([0, 10, 20, 30], [5.0, 2.0, 1.0, 3.0], 1.5)
    20.0
    """
    return next((float(n) for n, e in zip(examples, errors, strict=True) if e <= target), np.inf)


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Examples that each method needs for the same test errors, and their ratios to EKI."""
    header = ["error / linear", "test error", "EKI"]
    for name in settings.rates:
        header += [name, "rate", "ratio"]
    easy, rows = numbers["references"], []
    for multiple in settings.multiples:
        ours = _needs(settings, numbers, "EKI", "test", multiple)
        most = settings.eki_passes * easy["examples"]
        error = multiple * easy["test"][_LINEAR]
        row = [f"{multiple:g}", f"{error:.2e}", _at_least(ours, most)]
        for name in settings.rates:
            rate = _best_rate(settings, numbers, name, multiple)
            theirs = _needs(settings, numbers, f"{name} {rate:g}", "test", multiple)
            most = settings.passes * easy["examples"]
            ratio = _at_least(theirs / ours, most / ours, ".1f") if np.isfinite(ours) else "-"
            row += [_at_least(theirs, most), f"{rate:g}", ratio]
        rows.append(tuple(row))
    claim = PUBLISHED["reduction in the number of examples"]
    said = f"Kovachki & Stuart (2019): a ratio of the order of {claim:,.0f}"
    lines = [*table_lines(tuple(header), rows), "", said]
    known = ", ".join(f"{name} {error:.2e}" for name, error in easy["test"].items())
    return "\n".join([*lines, f"test errors of {known}"])


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Test errors by examples seen, with the best rate for the last target error."""
    (ax,), save = new_figure(size=(7, 4.5))
    for name, colour in zip(("EKI", *settings.rates), (BLUE, ORANGE, GREEN), strict=True):
        label = name
        if name != "EKI":
            label = f"{name} {_best_rate(settings, numbers, name, settings.multiples[-1]):g}"
        for seed in range(settings.seeds):
            found = numbers[f"{label}, seed {seed}"]
            ax.plot(
                found["examples"][1:],
                found["test"][1:],
                color=colour,
                lw=1,
                label=None if seed else label,
            )
    for name, error in numbers["references"]["test"].items():
        ax.axhline(error, color="grey", lw=1, ls=":")
        side = "top" if name == _LINEAR else "bottom"  # the last value is close above
        ax.text(1, error, name, transform=ax.get_yaxis_transform(), ha="right", va=side)
    ax.set(xscale="log", yscale="log", xlabel="examples seen", ylabel="test error")
    ax.legend(frameon=False)
    save(path)


def _needs(
    settings: Settings, numbers: Mapping[str, Any], label: str, part: str, multiple: float
) -> float:
    """The median over the seeds of the examples `needed` for an error on a part."""
    target = multiple * numbers["references"][part][_LINEAR]
    runs = [numbers[f"{label}, seed {seed}"] for seed in range(settings.seeds)]
    return float(np.median([needed(run["examples"], run[part], target) for run in runs]))


def _best_rate(settings: Settings, numbers: Mapping[str, Any], name: str, multiple: float) -> float:
    """The rate that needs the fewest examples on the validation part, or has the lowest error."""

    def merit(rate: float) -> tuple[float, float]:
        label = f"{name} {rate:g}"
        runs = [numbers[f"{label}, seed {seed}"] for seed in range(settings.seeds)]
        lowest = float(np.median([min(run["validation"]) for run in runs]))
        return _needs(settings, numbers, label, "validation", multiple), lowest

    return min(settings.rates[name], key=merit)


def _at_least(value: float, most: float, style: str = ",.0f") -> str:
    """The text of a number, or its lower bound if it is infinite."""
    return f"{value:{style}}" if np.isfinite(value) else f"> {most:{style}}"


def _data(settings: Settings) -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows and the values after them, of the training, validation and test part."""
    values = scaled(zurich_sunspots().values)
    return stretches(values, settings.window, [int(cut * len(values)) for cut in settings.cuts])


def _model(settings: Settings, device: str) -> Any:
    """The LSTM, in double precision where the device has it."""
    require_torch()
    from torch import nn

    from ekitools.adapters.torch import TorchModel
    from ekitools.experiments.last_state import LastState

    lstm = nn.LSTM(1, settings.units, batch_first=True)
    network = LastState(lstm, 1)
    return TorchModel((network if device == "mps" else network.double()).to(device))


def _error(model: Any, u: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean((model(u, inputs=x) - y) ** 2))


def _mean(ensemble: Array) -> np.ndarray:
    return host(ensemble.mean(0))


def _eki(
    settings: Settings,
    model: Any,
    seed: int,
    train: tuple[np.ndarray, np.ndarray],
    progress: bool,
    device: str,
) -> Iterator[tuple[int, Callable[[], np.ndarray]]]:
    """After every step, the number of steps and the mean."""
    prior = ek.GaussianPrior(0.0, settings.spread**2 * model.glorot_variances())
    data = ek.OnlineData(*train, settings.size, passes=settings.eki_passes)
    problem = ek.InverseProblem(model, prior, settings.variance, data)
    kind = placed(np.ones(1, model.flat().dtype), device)
    loop = ek.AskTell(
        problem,
        ek.EKI(ek.FixedStep(1.0), t_end=None),
        n_members=settings.n_members,
        like=None if isinstance(kind, np.ndarray) else kind,
        rng=seed,
        store="final",
    )
    with progress_bar(data.n_steps, progress) as bar:
        while not loop.done:
            ensemble = loop.ask()
            yield loop.n, partial(_mean, ensemble)
            loop.tell(model(ensemble, inputs=loop.inputs))
            bar.update()
    last = loop.result().u[-1].values
    yield data.n_steps, partial(_mean, last)


def _descent(
    settings: Settings,
    model: Any,
    method: str,
    rate: float,
    seed: int,
    train: tuple[np.ndarray, np.ndarray],
    progress: bool,
    device: str,
) -> Iterator[tuple[int, Callable[[], np.ndarray]]]:
    """As `_eki`, by gradient descent on the mean squared error of a batch."""
    import torch

    variances = settings.start**2 * model.glorot_variances()
    model.load(ek.GaussianPrior(0.0, variances).sample(1, rng=seed)[0])
    net, dtype = model.module, model.flat().dtype
    x, y = (torch.from_numpy(np.array(part, dtype)).to(device) for part in train)
    momentum = settings.momentum if method == "momentum SGD" else 0.0
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=momentum)
    per_pass = len(y) // settings.size
    yield 0, model.flat
    with progress_bar(settings.passes * per_pass, progress) as bar:
        for step in range(settings.passes * per_pass):
            rows = slice(step % per_pass * settings.size, (step % per_pass + 1) * settings.size)
            optimiser.zero_grad()
            torch.mean((net(x[rows])[:, 0] - y[rows]) ** 2).backward()
            optimiser.step()
            bar.update()
            yield step + 1, model.flat
