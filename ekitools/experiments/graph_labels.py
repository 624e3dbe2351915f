"""Labels of all nodes of a graph from a few labels, by EKI with a prior from the graph Laplacian.

The setting is that of [1]_. A function u of the nodes has the prior N(0, c (L + τ²I)^{−α}). Some
nodes have labels ±1, which depend on the sign of u or on a smooth form of it. The data sets are two
moons in a hundred dimensions, and two digits of MNIST on fifty principal components.

References
----------
.. [1] Bertozzi, Luo, Stuart & Zygalakis (2018), SIAM/ASA J. Uncertainty Quantification 6, 568-595.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

import ekitools as ek
from ekitools.core.arrays import digest
from ekitools.experiments.frame import new_figure, progress_bar
from ekitools.plots.style import BLUE, GREEN, GREY, ORANGE, PINK, RED
from ekitools.results.tables import table_lines

__all__ = ["PUBLISHED", "SETTINGS", "Graph", "Settings", "compute", "draw", "parts", "table"]

PUBLISHED: dict[str, Any] = {}
EKI, SIGN, LOSS = "least squares, EKI", "sign of u, EKI", "logistic, LossEKI"
CURVATURE, SAMPLER = "logistic, CurvatureEKI", "logistic, EKSFlow"
CLOSED, NEAREST = "least squares, closed form", "nearest label"
SPREADING = "LabelSpreading, scikit-learn"
_STYLES = {
    EKI: (BLUE, "o-"),
    SIGN: (ORANGE, "s-"),
    LOSS: (GREEN, "^-"),
    CURVATURE: (RED, "v-"),
    SAMPLER: (PINK, "D-"),
    SPREADING: ("black", "x--"),
    NEAREST: (GREY, "+--"),
}
_BINS = 5


@dataclass(frozen=True)
class Graph:
    """A data set, the prior on its graph, and the noise of its labels.

    All settings were chosen on other data: for the moons on another draw of them, for the digits 4
    and 9 on 3 and 8. ``n_neighbours``, ``alpha``, ``tau``, ``n_modes`` and ``variance`` have the
    best mean accuracy of the closed form over k of 10, 15 and 25, α of 1, 2 and 4, τ of 0.03, 0.1
    and 0.3, p of 50, 100 and 200, and variances of 0.01 and 0.1. ``sign_variance`` is the best of
    0.01, 0.1, 0.3 and 1. All graphs have the same ``slope``, of 3, 10 and 30, and ``n_steps``, of
    20 and 100, chosen by the mean of `LossEKI` and `EKSFlow`. A slope of 30 was better by 0.2 %,
    but needs many more steps.
    """

    shares: tuple[float, ...]
    """Parts of the nodes that have labels."""
    digits: tuple[int, int] | None = None
    """Two digits of MNIST, from training and test set; None for two moons."""
    n_points: int = 2000
    """Number of points of the moons, or largest number of images."""
    seed: int = 0
    """Seed of the points."""
    n_neighbours: int = 10
    alpha: float = 2.0
    tau: float = 0.1
    n_modes: int = 50
    variance: float = 0.1
    """Variance Γ of a label for least squares."""
    sign_variance: float = 0.3
    """Variance Γ of a label for the sign of u."""
    slope: float = 10.0
    """Logits are ``slope`` times u."""
    n_steps: int = 20
    """Number of steps of `LossEKI`, whose only prior is its initial ensemble."""


@dataclass(frozen=True)
class Settings:
    """All choices of the experiment."""

    graphs: dict[str, Graph]
    seeds: int = 5
    """Number of random sets of labels."""
    n_members: int = 1000
    """Number of members J. The logistic methods have a fifth of it."""


_MOONS = Graph(
    (0.01, 0.03, 0.1), n_neighbours=15, alpha=4.0, tau=0.3, variance=0.01, sign_variance=0.1
)
_DIGITS = Graph((0.005, 0.01, 0.04), digits=(4, 9), n_points=13_782)
SETTINGS = {
    "small": Settings({"two moons": _MOONS, "MNIST 4/9": _DIGITS}),
    "medium": Settings({"two moons": _MOONS, "MNIST 4/9": _DIGITS}, seeds=20),
    "paper": Settings({"two moons": _MOONS, "MNIST 4/9": _DIGITS}, seeds=100, n_members=4000),
}


class Labelled(NamedTuple):
    """A graph with the true labels of all nodes."""

    points: np.ndarray
    """Nodes as points ``(n, q)``."""
    labels: np.ndarray
    """True labels ±1, ``(n,)``."""
    prior: ek.GraphField


class Belief(NamedTuple):
    """An estimate of u: the mean at every node, and the standard deviation if known."""

    mean: np.ndarray
    sd: np.ndarray | None = None

    @classmethod
    def of(cls, prior: ek.GraphField, u: np.ndarray) -> Belief:
        """Moments at the nodes of the members ``(J, p)``, without the fields of all members."""
        spread = prior.basis @ np.atleast_2d(np.cov(u.T))
        return cls(prior.field(u.mean(axis=0)), np.sqrt(np.sum(spread * prior.basis, axis=1)))


def parts(settings: Settings) -> list[str]:
    """Labels such as "two moons, 3 %"."""
    return [
        f"{name}, {100 * share:g} %"
        for name, graph in settings.graphs.items()
        for share in graph.shares
    ]


def compute(
    settings: Settings,
    label: str,
    folder: Path,  # noqa: ARG001 - a part takes a minute: no checkpoints
    progress: bool,
) -> dict[str, Any]:
    """Accuracies on the nodes without label, by method and set of labels.

    Methods with a standard deviation also have accuracies ``by confidence``: one for every fifth of
    these nodes by |mean|/sd, starting with the smallest. ``least squares, EKI`` has its distance to
    the closed form.
    """
    name, share = label.rsplit(", ", 1)
    graph = settings.graphs[name]
    known = labelled(graph)
    n = len(known.labels)
    count = round(float(share[:-2]) / 100 * n)
    accuracy: dict[str, list[float]] = {}
    by_confidence: dict[str, list[list[float]]] = {}
    distance: list[dict[str, float]] = []
    bar = progress_bar(settings.seeds, progress)
    for seed in range(settings.seeds):
        nodes = np.random.default_rng(seed).choice(n, count, replace=False)
        rest = np.setdiff1d(np.arange(n), nodes)
        beliefs = believed(graph, known, nodes, settings.n_members, seed)
        for method, belief in beliefs.items():
            right = (np.sign(belief.mean) == known.labels)[rest]
            accuracy.setdefault(method, []).append(float(right.mean()))
            if belief.sd is not None:
                order = np.argsort(np.abs(belief.mean[rest]) / belief.sd[rest])
                bins = [float(right[chosen].mean()) for chosen in np.array_split(order, _BINS)]
                by_confidence.setdefault(method, []).append(bins)
        distance.append(_distance(beliefs[EKI], beliefs[CLOSED]))
        if seed == 0:
            shown = beliefs[EKI]
        bar.update()
    bar.close()
    found = {
        "n_labels": count,
        "accuracy": accuracy,
        "by confidence": by_confidence,
        "to the closed form": distance,
    }
    if graph.digits is None:
        found["field"] = np.round([shown.mean, shown.sd], 4).tolist()
    return found


@lru_cache(maxsize=2)
def labelled(graph: Graph) -> Labelled:
    """Points, labels and prior, cached because several parts have the same."""
    points, labels = _moons(graph) if graph.digits is None else _images(graph, graph.digits)
    laplacian = ek.graph_laplacian(points, n_neighbours=graph.n_neighbours)
    prior = ek.GraphField(laplacian, alpha=graph.alpha, tau=graph.tau, n_modes=graph.n_modes)
    return Labelled(points, labels, prior)


def _moons(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """Two half circles of radius 1 in a plane of R^100, with noise of variance 0.02."""
    rng = np.random.default_rng(graph.seed)
    angle = np.pi * rng.uniform(size=graph.n_points)
    labels = np.where(np.arange(graph.n_points) % 2, -1.0, 1.0)
    points = np.sqrt(0.02) * rng.standard_normal((graph.n_points, 100))
    points[:, 0] += 0.5 + labels * (np.cos(angle) - 0.5)
    points[:, 1] += 0.25 + labels * (np.sin(angle) - 0.25)
    return points, labels


def _images(graph: Graph, digits: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two digits on their first 50 principal components."""
    images = ek.datasets.mnist()
    x = np.concatenate([images.x_train, images.x_test])
    y = np.concatenate([images.y_train, images.y_test])
    chosen = np.flatnonzero(np.isin(y, digits))
    if len(chosen) > graph.n_points:
        rng = np.random.default_rng(graph.seed)
        chosen = np.sort(rng.choice(chosen, graph.n_points, replace=False))
    x = x[chosen].reshape(len(chosen), -1) / 255
    x -= x.mean(axis=0)
    directions = np.linalg.eigh(x.T @ x)[1][:, -50:]
    return x @ directions, np.where(y[chosen] == digits[0], 1.0, -1.0)


def believed(
    graph: Graph, known: Labelled, nodes: np.ndarray, n_members: int, seed: int
) -> dict[str, Belief]:
    """The belief of every method, given the labels of ``nodes``."""
    prior, y = known.prior, known.labels[nodes]
    A, few = prior.basis[nodes], max(n_members // 5, 2 * prior.n_parameters)
    linear = ek.LinearModel(A)
    sign = ek.FunctionModel(lambda u: np.sign(u @ A.T), vectorized=True)
    problem = ek.InverseProblem(linear, prior, graph.variance, y)
    level_set = ek.InverseProblem(sign, prior, graph.sign_variance, y)
    logistic = ek.InverseProblem(
        ek.LinearModel(graph.slope * A), prior, ek.BinaryCrossEntropy(), (y + 1) / 2
    )
    options: dict[str, Any] = {"n_members": n_members, "rng": seed}
    found = {
        EKI: ek.run(problem, ek.EKI(), **options).u[-1].values,
        SIGN: ek.run(level_set, ek.EKI(), **options).u[-1].values,
        LOSS: _by_loss(logistic, graph.n_steps, few, seed),
        SAMPLER: _sampled(logistic, few, seed),
    }
    beliefs = {method: Belief.of(prior, u) for method, u in found.items()}
    beliefs[CURVATURE] = Belief(prior.field(most_probable(logistic, few, seed)))
    mean, cov = ek.theory.posterior(linear, y, prior, graph.variance)
    spread = np.sqrt(np.sum((prior.basis @ cov) * prior.basis, axis=1))
    beliefs[CLOSED] = Belief(prior.field(mean), spread)
    nearest = cKDTree(known.points[nodes]).query(known.points)[1]
    beliefs[NEAREST] = Belief(y[nearest])
    if find_spec("sklearn") is not None:
        beliefs[SPREADING] = Belief(_spread(known, nodes, graph.n_neighbours))
    return beliefs


def _by_loss(problem: ek.InverseProblem, n_steps: int, n_members: int, seed: int) -> np.ndarray:
    """Members ``(J, p)`` after ``n_steps`` with h = 1/‖D‖ from draws of the prior."""
    method = ek.LossEKI(ek.NormStep(1.0))
    result = ek.run(problem, method, n_members=n_members, n_steps=n_steps, rng=seed, store="last")
    return np.asarray(result.u[-1].values)


def _sampled(problem: ek.InverseProblem, n_members: int, seed: int) -> np.ndarray:
    """Members of the sampler at eight late times, all in one array."""
    result = ek.integrate(
        problem,
        ek.EKSFlow(scheme="euler-maruyama"),
        t_span=(0, 10),
        t_eval=np.linspace(3, 10, 8),
        step=ek.NormStep(0.3),
        n_members=n_members,
        rng=seed,
    )
    return np.asarray(result.u.values.reshape(-1, result.sizes["parameter"]))


@dataclass(frozen=True)
class Penalised:
    """The loss of the first d outputs plus ½|·|² of the others: a negative log posterior."""

    loss: ek.BinaryCrossEntropy
    d: int
    n_data = None
    outputs_per_sample: ClassVar[int] = 1

    def misfit(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Ψ along the last axis."""
        rest = z[..., self.d :] - y[self.d :]
        return np.asarray(
            self.loss.misfit(z[..., : self.d], y[: self.d]) + 0.5 * np.sum(rest**2, axis=-1)
        )

    def gradient(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The gradient ∇Ψ."""
        first = self.loss.gradient(z[..., : self.d], y[: self.d])
        return np.concatenate([first, z[..., self.d :] - y[self.d :]], axis=-1)

    def curvature_product(self, z: np.ndarray, y: np.ndarray, f: np.ndarray) -> np.ndarray:
        """The product ∇²Ψ f."""
        first = self.loss.curvature_product(z[..., : self.d], y[: self.d], f[..., : self.d])
        return np.concatenate([first, f[..., self.d :]], axis=-1)

    def fingerprint(self) -> str:
        """A digest of the loss and d."""
        return digest(self.loss.fingerprint(), self.d)


def most_probable(problem: ek.InverseProblem, n_members: int, seed: int) -> np.ndarray:
    """The maximum a posteriori of a standard normal u, by `CurvatureEKI` with u among the outputs.

    The run starts at u = 0. Far from it all labels are fitted and the loss has little curvature, so
    that steps from a draw of the prior oscillate.
    """
    p, d = problem.n_parameters, problem.n_data
    A, prior = problem.model.matrix, ek.GaussianPrior(np.zeros(p), 1.0)
    whole = ek.InverseProblem(
        ek.LinearModel(np.vstack([A, np.eye(p)])),
        prior,
        Penalised(problem.noise, d),
        np.concatenate([problem.data, np.zeros(p)]),
    )
    start = prior.sample(n_members, rng=seed)
    start[0] = 0.0
    method = ek.CurvatureEKI(damping=1e-3)
    result = ek.run(whole, method, ensemble=start, n_steps=50, rng=seed, store="last")
    return np.asarray(result.u[-1].mean("member").values)


def _spread(known: Labelled, nodes: np.ndarray, n_neighbours: int) -> np.ndarray:
    """Labels of all nodes by scikit-learn, whose graph has the same number of neighbours."""
    given = np.full(len(known.labels), -1)
    given[nodes] = known.labels[nodes] > 0
    model = import_module("sklearn.semi_supervised").LabelSpreading(
        kernel="knn", n_neighbors=n_neighbours, max_iter=1000
    )
    return 2.0 * model.fit(known.points, given).transduction_ - 1


def _distance(found: Belief, exact: Belief) -> dict[str, float]:
    """Distance of the means in exact standard deviations, and ratio of the deviations."""
    assert found.sd is not None
    assert exact.sd is not None
    error = (found.mean - exact.mean) / exact.sd
    return {
        "mean": float(np.sqrt(np.mean(error**2))),
        "sd ratio": float(np.mean(found.sd / exact.sd)),
    }


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Accuracies by method and by confidence, and the distance of EKI to the closed form."""
    done = [label for label in parts(settings) if label in numbers]
    lines = ["Accuracy on the nodes without label, %: mean ± standard deviation over label sets"]
    header = ("method", *(f"{label} ({numbers[label]['n_labels']})" for label in done))
    rows = []
    for method in (CLOSED, *_STYLES):
        values = [numbers[label]["accuracy"].get(method) for label in done]
        if any(values):
            rows.append((method, *(_pair(found) if found else "-" for found in values)))
    lines += table_lines(header, rows)
    lines += ["", "Accuracy by fifths of |mean|/sd, least sure first, %"]
    header = ("labels, method", *(str(i + 1) for i in range(_BINS)))
    rows = []
    for label in done:
        for method, bins in numbers[label]["by confidence"].items():
            means = 100 * np.mean(bins, axis=0)
            rows.append((f"{label}, {method}", *(f"{value:.1f}" for value in means)))
    lines += table_lines(header, rows)
    lines += ["", f"{EKI}: distance to the closed form, mean over label sets"]
    header = ("labels", "mean, rms in sd", "sd ratio")
    rows = []
    for label in done:
        found = numbers[label]["to the closed form"]
        means = [np.mean([each[key] for each in found]) for key in ("mean", "sd ratio")]
        rows.append((label, *(f"{value:.3f}" for value in means)))
    return "\n".join(lines + table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """The moons with the field, accuracy by number of labels, and accuracy by confidence."""
    axes, save = new_figure(2 + len(settings.graphs), size=(4.4 * (2 + len(settings.graphs)), 4))
    first, *by_labels, last = axes
    done = [label for label in parts(settings) if label in numbers]
    _draw_field(settings, numbers, first)
    for ax, (name, graph) in zip(by_labels, settings.graphs.items(), strict=True):
        for method, (colour, style) in _STYLES.items():
            points = [
                (100 * share, numbers[label]["accuracy"][method])
                for share in graph.shares
                if (label := f"{name}, {100 * share:g} %") in done
                and method in numbers[label]["accuracy"]
            ]
            if points:
                x, found = zip(*points, strict=True)
                heights = 100 * np.mean(found, axis=1)
                ax.plot(x, heights, style, ms=5, lw=1.2, color=colour, label=method)
        ax.set(xlabel="nodes with label, %", ylabel="accuracy on the others, %", title=name)
        ax.set_xscale("log")
        ticks = [100 * share for share in graph.shares]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    by_labels[0].legend(frameon=False, fontsize="x-small")
    markers = iter("os^Dv")
    for name, graph in settings.graphs.items():
        label = f"{name}, {100 * graph.shares[len(graph.shares) // 2]:g} %"
        if label not in done:
            continue
        marker = next(markers)
        for method, bins in numbers[label]["by confidence"].items():
            if method in (EKI, SAMPLER):
                colour = _STYLES[method][0]
                heights = 100 * np.mean(bins, axis=0)
                text = f"{label}: {method}"
                fifths = range(1, _BINS + 1)
                last.plot(fifths, heights, f"{marker}-", ms=5, color=colour, label=text)
    last.set(
        xlabel="fifth by |mean|/sd, least sure first",
        ylabel="accuracy, %",
        title="accuracy by confidence",
    )
    last.legend(frameon=False, fontsize="x-small")
    save(path)


def _draw_field(settings: Settings, numbers: dict[str, Any], ax: Any) -> None:
    """Draw the posterior mean at the nodes of the first moons, in their plane."""
    for name, graph in settings.graphs.items():
        label = f"{name}, {100 * graph.shares[len(graph.shares) // 2]:g} %"
        if graph.digits is not None or label not in numbers:
            continue
        known = labelled(graph)
        mean, sd = np.array(numbers[label]["field"])
        sure = np.clip(mean / sd, -4, 4)
        dots = ax.scatter(*known.points[:, :2].T, c=sure, cmap="PuOr", s=6, vmin=-4, vmax=4)
        count = numbers[label]["n_labels"]
        nodes = np.random.default_rng(0).choice(len(mean), count, replace=False)
        for value, marker in ((1, "^"), (-1, "v")):
            chosen = nodes[known.labels[nodes] == value]
            ax.plot(*known.points[chosen, :2].T, marker, color="black", mec="white", ms=6, ls="")
        ax.figure.colorbar(dots, ax=ax, label="posterior mean / sd", shrink=0.8)
        ax.set(title=f"{label} of labels", xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
        return


def _pair(values: list[float]) -> str:
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{100 * np.mean(values):.2f} ± {100 * spread:.2f}"
