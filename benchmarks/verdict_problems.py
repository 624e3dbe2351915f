"""Random small problems with known posteriors, for `verdicts.py`.

Each has a prior N(0, I) of 1 to 10 parameters and outputs A u + s f(C u), with one of six functions f
and a strength s between none and strong. The posterior of one or two parameters is that of a grid. Of
more parameters it is the mean of two samples, drawn by tempering from the prior with random-walk
Metropolis moves in plain NumPy, which must agree.
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


@dataclass(frozen=True)
class Known:
    """A problem and the moments of its posterior."""

    name: str
    problem: Any
    mean: np.ndarray
    sd: np.ndarray

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


def posterior_moments(
    misfit: Callable[[np.ndarray], np.ndarray], p: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations under the prior N(0, I)."""
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


def by_grid(
    misfit: Callable[[np.ndarray], np.ndarray], p: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of one or two parameters: a grid over the prior, then a finer one where the mass is."""
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
    return mean, np.sqrt(weight @ (u - mean) ** 2)


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
    """The temperature step at which the effective number of draws is half of theirs."""

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
