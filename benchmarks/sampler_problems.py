"""Three posteriors with references for `sampler_peers.py`, in coordinates of any package.

``pk_unknown`` and ``lynx_hare_unknown`` are the problems of `emulated.py`: an ordinary differential
equation in closed form with four parameters and sigma, and Lotka-Volterra with six parameters and
two sigmas. ``darcy`` is `ek.problems.darcy(n=16, n_modes=32)`: Darcy flow with 49 pressures and a
known noise.

    python benchmarks/sampler_problems.py [--chains 100] [--steps 20000]

computes the reference of ``darcy``, prints its errors and its distance to the stored one, and
writes it with ``--save``. The sampler is preconditioned Crank-Nicolson about the Gaussian of
`GNKI` with 500 members. Half of the chains start with twice its standard deviations, and the other
half with half of them. The script takes three minutes with numba, which compiles the models.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from emulated import Known, lynx_hare_unknown, pk_unknown
from posterior_problems import Case, Counted, moments, njit
from scipy.special import ndtr, ndtri

import ekitools as ek

_LONGEST = 0.5
"""Largest step of the long chains: with 1 they are independence samplers, which get stuck in
tails."""

__all__ = ["CASES", "ScaledCase", "darcy", "lynx_hare", "pk"]

STORED = Path(__file__).with_name("darcy_32_reference.json")


@dataclass(frozen=True)
class ScaledCase(Case):
    """A case whose last parameters are scales of the noise."""

    def outputs(self, z: np.ndarray) -> np.ndarray:
        return self.counted(self.physical(z)[:, : self.p - self.problem.n_scales])

    def log_likelihood(self, z: np.ndarray) -> np.ndarray:
        problem = self.problem
        scale = self.physical(z)[:, self.p - problem.n_scales :][:, problem.noise.groups]
        with np.errstate(over="ignore", invalid="ignore"):
            r = (self.outputs(z) - problem.data) / scale
            value = -np.sum(0.5 * r * r + np.log(scale), axis=1)
        return np.where(np.isfinite(value), value, -1e30)


def pk() -> Case:
    known = pk_unknown()
    centre, width = _lognormals(known)
    return ScaledCase(
        "pk_unknown",
        known.problem,
        known.reference,
        known.counted,
        lambda z: np.exp(centre + width * z),
    )


def lynx_hare() -> Case:
    known = lynx_hare_unknown()
    mean, sd = np.array([1.0, 0.05, 1.0, 0.05]), np.array([0.5, 0.05, 0.5, 0.05])
    above = ndtr(mean / sd)  # the mass that remains after truncation at 0
    centre = np.array([np.log(10.0), np.log(10.0), -1.0, -1.0])

    def physical(z: np.ndarray) -> np.ndarray:
        rates = mean - sd * ndtri(ndtr(-z[:, :4]) * above)
        return np.hstack([rates, np.exp(centre + z[:, 4:])])

    return ScaledCase("lynx_hare_unknown", known.problem, known.reference, known.counted, physical)


def _lognormals(known: Known) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of the logarithms of log-normal parameters."""
    prior, p = known.problem.prior, known.problem.n_parameters
    low, high = np.log(prior.to_physical(prior.unwhiten(np.array([[-1.0], [1.0]]) * np.ones(p))))
    return (low + high) / 2, (high - low) / 2


def darcy() -> Case:
    given = ek.problems.darcy(n=16, n_modes=32).problem
    counted = Counted(_each(given.model) if njit is None else _compiled(given))
    model = ek.FunctionModel(counted, vectorized=True)
    problem = ek.InverseProblem(model, given.prior, given.noise, given.data)
    reference = np.array(json.loads(STORED.read_text()))
    prior = problem.prior
    scale = prior.to_physical(prior.unwhiten(np.ones((1, len(reference)))))  # of centred modes
    return Case("darcy", problem, reference, counted, lambda z: z * scale)


CASES = {"pk_unknown": pk, "lynx_hare_unknown": lynx_hare, "darcy": darcy}


def _each(model: Any) -> Any:
    return lambda u: np.stack([model(row) for row in u])


def _compiled(problem: Any) -> Any:
    """The model of the package by a banded Cholesky factorisation, compared with it."""
    at_wells = problem.model.fn
    n, p = at_wells.flow.n, problem.n_parameters
    modes = np.ascontiguousarray([at_wells.field.field(row).ravel() for row in np.eye(p)])
    weights, source = at_wells.weights.toarray(), at_wells.flow.source.ravel() / n**2

    @njit(error_model="numpy")
    def solve(kappa: np.ndarray) -> np.ndarray:
        members, cells = kappa.shape
        out = np.empty((members, cells))
        band = np.empty((cells, n + 1))  # band[i, k] is the entry (i, i - k)
        for m in range(members):
            band[:] = 0.0
            for i in range(cells):
                row, column = i // n, i % n
                half = 0.5 / kappa[m, i]
                walls = (row == 0) + (row == n - 1) + (column == 0) + (column == n - 1)
                band[i, 0] += walls / half
                if row > 0:
                    face = 1 / (half + 0.5 / kappa[m, i - n])
                    band[i, 0] += face
                    band[i - n, 0] += face
                    band[i, n] -= face
                if column > 0:
                    face = 1 / (half + 0.5 / kappa[m, i - 1])
                    band[i, 0] += face
                    band[i - 1, 0] += face
                    band[i, 1] -= face
            for i in range(cells):
                for k in range(min(n, i), -1, -1):
                    j = i - k
                    total = band[i, k]
                    for other in range(max(0, i - n, j - n), j):
                        total -= band[i, i - other] * band[j, j - other]
                    band[i, k] = np.sqrt(total) if k == 0 else total / band[j, 0]
            for i in range(cells):
                total = source[i]
                for k in range(1, min(n, i) + 1):
                    total -= band[i, k] * out[m, i - k]
                out[m, i] = total / band[i, 0]
            for i in range(cells - 1, -1, -1):
                total = out[m, i]
                for k in range(1, min(n, cells - 1 - i) + 1):
                    total -= band[i + k, k] * out[m, i + k]
                out[m, i] = total / band[i, 0]
        return out

    def model(u: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return solve(np.exp(u @ modes)) @ weights.T

    u = problem.prior.sample(5, rng=0)
    np.testing.assert_allclose(model(u), _each(problem.model)(u), rtol=1e-9)
    return model


def long_run(case: Case, n_chains: int, n_steps: int, seed: int = 0) -> tuple[np.ndarray, str]:
    """Moments ``(p, 2)`` by chains about a Gaussian, and their errors in words."""
    rng = np.random.default_rng(seed)
    near = ek.run(case.problem, ek.GNKI(), n_members=500, rng=seed, evaluate_final=False)
    z = case.whitened(near.u[-1].values)
    mean, root = z.mean(axis=0), np.linalg.cholesky(np.cov(z.T))
    wide = np.where(np.arange(n_chains) % 2, 2.0, 0.5)[:, None]
    x = wide * rng.standard_normal((n_chains, case.p))  # Gaussian N(0, I) in x

    def energy(x: np.ndarray) -> np.ndarray:
        z = mean + x @ root.T
        return -case.log_likelihood(z) + 0.5 * np.sum(z * z - x * x, axis=1)

    now, beta, kept, accepted = energy(x), 0.5, [], 0.0
    for step in range(n_steps):
        proposed = np.sqrt(1 - beta**2) * x + beta * rng.standard_normal(x.shape)
        there = energy(proposed)
        chosen = np.log(rng.random(n_chains)) < now - there
        x, now = np.where(chosen[:, None], proposed, x), np.where(chosen, there, now)
        if step < n_steps // 5:
            beta = min(beta * np.exp((chosen.mean() - 0.3) / 10), _LONGEST)
        else:
            accepted += chosen.mean() / (n_steps - n_steps // 5)
            if step % 10 == 0:
                kept.append(case.physical(mean + x @ root.T))
    draws = np.array(kept)  # (steps, chains, p)
    found = moments(draws.reshape(-1, case.p))
    by_chain = draws.mean(axis=0)
    error = by_chain.std(axis=0, ddof=1) / np.sqrt(n_chains) / found[:, 1]
    halves = [moments(draws[:, i::2].reshape(-1, case.p)) for i in (0, 1)]
    apart = np.abs(halves[0][:, 0] - halves[1][:, 0]) / found[:, 1]
    ratio = halves[0][:, 1] / halves[1][:, 1]
    return found, (
        f"beta {beta:.2f}, acceptance {accepted:.2f}; standard error of a mean at most "
        f"{error.max():.4f} sd; chains from wide and narrow starts: means {apart.max():.4f} sd "
        f"apart, ratios of sd {ratio.min():.3f} to {ratio.max():.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    if not STORED.exists():
        STORED.write_text(json.dumps([[0.0, 1.0]] * 32))
    case = darcy()
    found, told = long_run(case, options.chains, options.steps)
    off = np.abs(found[:, 0] - case.reference[:, 0]) / case.reference[:, 1]
    ratio = found[:, 1] / case.reference[:, 1]
    print(told)
    print(f"stored: means {off.max():.4f} sd off, ratios {ratio.min():.3f} to {ratio.max():.3f}")
    if options.save:
        rows = ",\n".join(f"  [{mean:.6g}, {sd:.5g}]" for mean, sd in found)
        STORED.write_text(f"[\n{rows}\n]\n")


if __name__ == "__main__":
    main()
