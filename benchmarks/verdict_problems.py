"""Random problems with known posteriors, for `verdicts.py` and `solving.py`.

Each small one has a prior N(0, I) of 1 to 10 parameters and outputs A u + s f(C u), with one of six
functions f and a strength s between none and strong. Posteriors of one or two parameters are
computed on a grid. Posteriors of more parameters are the mean of two samples, drawn by tempering
from the prior with random-walk Metropolis moves in plain NumPy, which must agree.

A wide one has 13 to 40 parameters. Its posterior is a product in coordinates that are rotated for
every second problem, and grids give every factor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import ekitools as ek

KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": np.zeros_like,
    "square": np.square,
    "cube": lambda x: x**3,
    "exp": lambda x: np.exp(np.minimum(x, 30.0)),
    "tanh": lambda x: np.tanh(2 * x),
    "sine": lambda x: np.sin(2 * x),
}


LEVELS = np.arange(1, 20) / 20


@dataclass(frozen=True)
class Known:
    """A problem and the moments of its posterior."""

    name: str
    problem: Any
    mean: np.ndarray
    sd: np.ndarray
    quantiles: np.ndarray | None = None
    """Quantiles at the levels 0.05, 0.1, ..., 0.95, for one parameter."""

    def misplaced(self, u: np.ndarray) -> float:
        """Largest error of the distribution function of draws ``(n, 1)`` at the quantiles."""
        if self.quantiles is None:
            return 0.0
        share = np.mean(u <= self.quantiles, axis=0)
        return float(np.abs(share - LEVELS).max())

    def errors(self, mean: np.ndarray, sd: np.ndarray) -> tuple[float, float]:
        """Largest error of a mean in sd, and largest absolute log ratio of a sd."""
        off = np.abs(mean - self.mean) / self.sd
        return float(off.max()), float(np.abs(np.log(sd / self.sd)).max())


@dataclass(frozen=True)
class Outputs:
    """u ↦ A u + s f(C u)."""

    linear: np.ndarray
    inner: np.ndarray
    strength: float
    kind: str

    def __call__(self, u: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return u @ self.linear.T + self.strength * KINDS[self.kind](u @ self.inner.T)


def random_problem(seed: int) -> Known:
    """The problem of a seed, with its reference."""
    rng = np.random.default_rng([seed, 20])
    p = int(rng.integers(1, 11))
    d = int(rng.integers(max(1, p // 2), 3 * p + 2))
    kind = list(KINDS)[int(rng.integers(len(KINDS)))]
    strength = 0.0 if kind == "linear" else float(10 ** rng.uniform(-1.5, 0.5))
    linear = rng.standard_normal((d, p)) / np.sqrt(p)
    inner = rng.standard_normal((d, p)) / np.sqrt(p)
    noise = float(10 ** rng.uniform(-1.3, 0.0))
    outputs = Outputs(linear, inner, strength, kind)
    data = outputs(rng.standard_normal((1, p)))[0] + noise * rng.standard_normal(d)
    model = ek.FunctionModel(outputs, vectorized=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(p), 1.0), noise**2, data)

    def misfit(u: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            found = 0.5 * np.sum(((outputs(u) - data) / noise) ** 2, axis=1)
        return np.where(np.isfinite(found), found, 1e300)

    name = f"{seed}: {kind}, p = {p}, d = {d}, strength {strength:.2g}, noise {noise:.2g}"
    return Known(name, problem, *posterior_moments(misfit, p, rng))


@dataclass(frozen=True)
class Separable:
    """u ↦ R g(Qᵀu), where g acts on every coordinate: a v + s f(c v)."""

    inner: np.ndarray
    outer: np.ndarray
    factors: tuple[tuple[float, float, float, str], ...]
    """a, c, s and the name of f, for each coordinate."""

    def __call__(self, u: np.ndarray) -> np.ndarray:
        v = u @ self.inner
        return np.stack([self.one(i, v[:, i]) for i in range(v.shape[1])], axis=1) @ self.outer.T

    def one(self, i: int, v: np.ndarray) -> np.ndarray:
        a, c, s, name = self.factors[i]
        return a * v + s * KINDS[name](c * v)


def wide_problem(seed: int) -> Known:
    """The problem of a seed with 13 to 40 parameters, with its exact posterior."""
    rng = np.random.default_rng([seed, 21])
    p = int(rng.integers(13, 41))
    strongest, noise = float(10 ** rng.uniform(-1.5, 0.5)), float(10 ** rng.uniform(-1.0, 0.0))
    inner, outer = (np.linalg.qr(rng.standard_normal((p, p)))[0] for _ in range(2))
    inner = np.eye(p) if seed % 2 else inner
    factors = tuple(
        (
            float(rng.standard_normal()),
            float(rng.standard_normal()),
            strongest * float(rng.uniform()),
            list(KINDS)[int(rng.integers(len(KINDS)))],
        )
        for _ in range(p)
    )
    outputs = Separable(inner, outer, factors)
    data = outputs(rng.standard_normal((1, p)))[0] + noise * rng.standard_normal(p)
    model = ek.FunctionModel(outputs, vectorized=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(p), 1.0), noise**2, data)
    seen, mean, sd = data @ outer, np.empty(p), np.empty(p)
    for i in range(p):

        def misfit(v: np.ndarray, i: int = i) -> np.ndarray:
            return 0.5 * ((outputs.one(i, v[:, 0]) - seen[i]) / noise) ** 2

        mean[i], sd[i] = (float(each[0]) for each in by_grid(misfit, 1)[:2])
    name = f"{seed}: p = {p}, strength {strongest:.2g}, noise {noise:.2g}"
    return Known(name, problem, inner @ mean, np.sqrt(inner**2 @ sd**2))


def posterior_moments(
    misfit: Callable[[np.ndarray], np.ndarray], p: int, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Means and standard deviations under the prior N(0, I); for one parameter also quantiles."""
    if p <= 2:
        return by_grid(misfit, p)
    for n, sweeps in ((2000, 15), (4000, 40), (8000, 120)):
        pair = [tempered(misfit, p, n, sweeps, rng) for _ in range(2)]
        (m0, s0), (m1, s1) = ((u.mean(axis=0), u.std(axis=0)) for u in pair)
        both = np.concatenate(pair)
        mean, sd = both.mean(axis=0), both.std(axis=0)
        if np.all(np.abs(m0 - m1) < 0.12 * sd) and np.all(np.abs(np.log(s0 / s1)) < 0.12):
            return mean, sd
    raise RuntimeError("the two samples do not agree")


def by_grid(misfit: Callable[[np.ndarray], np.ndarray], p: int) -> tuple[np.ndarray, ...]:
    """Moments of one or two parameters by a grid over the prior, then a finer grid at the mass."""
    low, high = np.full(p, -6.0), np.full(p, 6.0)
    n = 40_001 if p == 1 else 801
    for _ in range(3):
        axes = [np.linspace(a, b, n) for a, b in zip(low, high, strict=True)]
        u = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, p)
        level = -misfit(u) - 0.5 * np.sum(u**2, axis=1)
        weight = np.exp(level - level.max())
        weight /= weight.sum()
        inside = u[weight > 1e-9 * weight.max()]
        step = (high - low) / (n - 1)
        low, high = inside.min(axis=0) - 2 * step, inside.max(axis=0) + 2 * step
    mean = weight @ u
    sd = np.sqrt(weight @ (u - mean) ** 2)
    if p == 1:
        return mean, sd, np.interp(LEVELS, np.cumsum(weight), u[:, 0])
    return mean, sd


def tempered(
    misfit: Callable[[np.ndarray], np.ndarray],
    p: int,
    n: int,
    sweeps: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws ``(n, p)``: likelihood tempered from 0 to 1, random-walk moves at every temperature."""
    u = rng.standard_normal((n, p))
    phi, t, scale = misfit(u), 0.0, 1.0
    while t < 1:
        h = step_of_half_ess(phi, 1 - t)
        t = 1.0 if h == 1 - t else t + h
        w = np.exp(-h * (phi - phi.min()))
        places = (rng.uniform() + np.arange(n)) / n
        rows = np.searchsorted(np.cumsum(w / w.sum()), places).clip(max=n - 1)
        u, phi = u[rows], phi[rows]
        root = np.linalg.cholesky(np.cov(u.T).reshape(p, p) + 1e-14 * np.eye(p))
        for _ in range(sweeps * (1 if t < 1 else 3)):
            factor = scale * 2.38 / np.sqrt(p) * rng.choice([0.2, 1.0, 1.0], size=(n, 1))
            new = u + factor * (rng.standard_normal((n, p)) @ root.T)
            new_phi = misfit(new)
            gain = t * (phi - new_phi) + 0.5 * np.sum(u**2 - new**2, axis=1)
            taken = np.log(rng.uniform(size=n)) < gain
            u[taken], phi[taken] = new[taken], new_phi[taken]
            scale *= np.exp(0.3 * (taken.mean() - 0.25))
            scale = float(np.clip(scale, 1e-3, 2.0))
    return u


def step_of_half_ess(phi: np.ndarray, most: float) -> float:
    """The temperature step at which the effective number of draws is half of their number."""

    def enough(h: float) -> bool:
        w = np.exp(-h * (phi - phi.min()))
        return bool(w.sum() ** 2 > 0.5 * len(phi) * (w @ w))

    if enough(most):
        return most
    low, high = 1e-12, most
    for _ in range(80):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if enough(middle) else (low, middle)
    return float(low)


def squares(tilt: float, noise: float) -> Known:
    """u² + tilt u = 1 with two modes."""
    prior = ek.GaussianPrior([0.0], 1.0)
    model = ek.FunctionModel(lambda u: u**2 + tilt * u, vectorized=True)
    problem = ek.InverseProblem(model, prior, noise**2, [1.0])

    def misfit(u: np.ndarray) -> np.ndarray:
        return 0.5 * ((u[:, 0] ** 2 + tilt * u[:, 0] - 1) / noise) ** 2

    return Known(f"u^2 + {tilt:g} u = 1, noise {noise:g}", problem, *by_grid(misfit, 1))


class Sounding:
    """Schlumberger sounding of 30 layers: log resistivities to 24 log apparent resistivities.

    ρ_a(s) = s² ∫ T(λ) J₁(λ s) λ dλ, with T of the layers by the recursion of Pekeris. The integral
    is a sum over a logarithmic grid of λ. Its weights are fitted to
    ∫ e^{-aλ} J₁(λ s) λ dλ = s/(a² + s²)^{3/2}.
    """

    vectorized, stochastic = True, False

    def __init__(self) -> None:
        self.spacings = np.geomspace(1.5, 300.0, 24)
        self.thickness = np.geomspace(0.5, 30.0, 29)
        self.wave = np.geomspace(1e-4, 20.0, 90)
        a = np.concatenate([[0.0], np.geomspace(0.2, 3000.0, 400)])
        basis = np.exp(-np.outer(a, self.wave))
        wanted = (1 + (a[:, None] / self.spacings) ** 2) ** -1.5
        ridge = 1e-7 * np.eye(self.wave.size)
        rows = np.vstack([basis, ridge])
        padded = np.vstack([wanted, np.zeros((self.wave.size, self.spacings.size))])
        self.weights = np.linalg.lstsq(rows, padded, rcond=None)[0]
        self.error = float(np.abs(basis @ self.weights - wanted).max())
        self.tanh = np.tanh(np.outer(self.thickness, self.wave))

    def __call__(self, u: np.ndarray) -> np.ndarray:
        rho = np.exp(u)
        t = np.repeat(rho[:, -1:], self.wave.size, axis=1)
        for layer in range(28, -1, -1):
            here, tanh = rho[:, layer : layer + 1], self.tanh[layer]
            t = (t + here * tanh) / (1 + t * tanh / here)
        return np.log(np.maximum(t @ self.weights, 1e-6))


def sounding(noise: float = 0.05, seed: int = 0) -> Known:
    """A sounding with the posterior of 200 chains of random-walk Metropolis."""
    model, rng = Sounding(), np.random.default_rng([seed, 30])
    index = np.arange(30)
    cov = np.exp(-np.abs(index[:, None] - index) / 5)
    prior = ek.GaussianPrior(np.full(30, np.log(100.0)), cov)
    truth = prior.sample(1, rng=rng)
    data = model(truth)[0] + noise * rng.standard_normal(24)
    problem = ek.InverseProblem(model, prior, noise**2, data)
    near = ek.run(problem, ek.GNKI(), n_members=400, rng=seed, store="last")
    x = prior.whiten(near.u[-1].values)

    def level(x: np.ndarray) -> np.ndarray:
        r = (model(np.asarray(prior.unwhiten(x))) - data) / noise
        return -0.5 * np.sum(r**2, axis=1) - 0.5 * np.sum(x**2, axis=1)

    root = np.linalg.cholesky(np.cov(x.T))
    x = x[:200]
    now, kept, taken = level(x), [], 0.0
    for step in range(6000):
        new = x + 0.4 * rng.choice([0.3, 1.0], size=(200, 1)) * (
            rng.standard_normal(x.shape) @ root.T
        )
        new_level = level(new)
        yes = np.log(rng.uniform(size=200)) < new_level - now
        x[yes], now[yes] = new[yes], new_level[yes]
        taken += yes.mean() / 6000
        if step >= 1000 and step % 20 == 0:
            kept.append(np.asarray(prior.unwhiten(x)))
    halves = [np.concatenate(part) for part in (kept[: len(kept) // 2], kept[len(kept) // 2 :])]
    u = np.concatenate(kept)
    apart = np.abs(halves[0].mean(axis=0) - halves[1].mean(axis=0)) / u.std(axis=0)
    print(f"# sounding: filter error {model.error:.1e}, acceptance {taken:.2f}, halves of the "
          f"chains differ by at most {apart.max():.3f} sd")  # fmt: skip
    return Known(f"DC sounding, 30 layers, noise {noise:g}", problem, u.mean(axis=0), u.std(axis=0))
