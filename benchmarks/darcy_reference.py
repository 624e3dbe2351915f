"""The posterior of `ek.problems.darcy_field` by Hamiltonian Monte Carlo.

    OMP_NUM_THREADS=1 python benchmarks/darcy_reference.py [--rounds 25] [--save FILE]

The sampler is the Hamiltonian Monte Carlo method on function space (Beskos et al. 2011,
Stoch. Proc. Appl. 121, 2201-2230) about a Gaussian N(m, C_L) with C_L^-1 = C^-1 + J^T J. Its steps
are exact for this Gaussian, so the acceptance rate does not depend on the number of cells. Two
pilot chains give m, their mean, and J^T J, the average over their draws, where J is the Jacobian of
the whitened outputs. A gradient needs one adjoint solve with the factors of the forward
solve. C is applied by fast Fourier transforms. Each of the four chains starts at the mode of a
problem with perturbed data and a draw of the prior in place of the prior's mean.

The script prints the acceptance, R-hat and the effective sample size of the mean of every cell (the
worst of 4096), the Monte Carlo error of the means in posterior standard deviations, and the stored
reference beside the new one. ``--save`` writes means and standard deviations in single precision.
`localization_darcy.py` reads ``benchmarks/darcy_field_reference.npz``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any

import arviz
import numpy as np
from scipy.fft import irfft2, rfft2
from scipy.linalg import cho_factor, cho_solve

import ekitools as ek
from ekitools.priors.matern import matern

STORED = Path(__file__).with_name("darcy_field_reference.npz")
LENGTH = 0.1
CHAINS = 4
TIME = 2.0
"""Length of a trajectory; a quarter of the period of the Gaussian is 1.57."""


class Posterior:
    """Misfit, gradient and Jacobian of the problem, and products with the prior's covariance."""

    def __init__(self, example) -> None:
        problem = example.problem
        self.flow, self.weights = problem.model.fn.flow, problem.model.fn.weights
        self.n = self.flow.n
        self.prior, self.data = problem.prior, problem.data
        self.sd = np.sqrt(problem.noise.cov)

    @cached_property
    def _spectrum(self) -> np.ndarray:
        """Spectrum of the covariances with the first cell, periodic on a grid of twice the size."""
        lag = np.minimum(np.arange(2 * self.n), 2 * self.n - np.arange(2 * self.n)) / self.n
        return rfft2(matern(np.hypot(lag[:, None], lag) / LENGTH, 1.5))

    def times_covariance(self, x) -> np.ndarray:
        """C x along the last axis."""
        n = self.n
        grid = rfft2(x.reshape(*x.shape[:-1], n, n), s=(2 * n, 2 * n))
        product = irfft2(grid * self._spectrum, s=(2 * n, 2 * n))
        return product[..., :n, :n].reshape(x.shape)

    def solved(self, u) -> tuple[Any, np.ndarray, np.ndarray]:
        """The factors, the pressure and the whitened residual."""
        factor = self.flow.factor(np.exp(u.reshape(self.n, self.n)))
        pressure = factor.solve(self.flow.source.ravel() / self.n**2)
        return factor, pressure, (self.weights @ pressure - self.data) / self.sd

    def residual(self, u) -> np.ndarray:
        """The whitened residual."""
        return self.solved(u)[2]

    def misfit(self, u) -> tuple[float, np.ndarray]:
        """Half the squared whitened residual, and its gradient by one adjoint solve."""
        factor, pressure, residual = self.solved(u)
        adjoint = factor.solve(self.weights.T @ residual / self.sd)
        return 0.5 * residual @ residual, self._derivative(u, pressure, adjoint[None])[0]

    def jacobian(self, u) -> tuple[np.ndarray, np.ndarray]:
        """The residual, and its Jacobian ``(d, p)`` by d adjoint solves."""
        factor, pressure, residual = self.solved(u)
        adjoint = factor.solve(self.weights.T.toarray() / self.sd)
        return residual, self._derivative(u, pressure, adjoint.T)

    def _derivative(self, u, pressure, adjoint) -> np.ndarray:
        """-L^T (dA/du) P, ``(k, p)``, for adjoint states L ``(k, p)`` and the pressure P."""
        n = self.n
        P, L = pressure.reshape(n, n), adjoint.reshape(-1, n, n)
        half = 0.5 * np.exp(-u.reshape(n, n))  # the resistance of half a cell
        out = np.zeros_like(L)
        for low, high in (
            (np.s_[..., :-1, :], np.s_[..., 1:, :]),
            (np.s_[..., :, :-1], np.s_[..., :, 1:]),
        ):
            conductance = 1 / (half[low] + half[high])
            flux = -(L[low] - L[high]) * (P[low] - P[high]) * conductance**2
            out[low] += flux * half[low]
            out[high] += flux * half[high]
        for wall in (
            np.s_[..., 0, :],
            np.s_[..., -1, :],
            np.s_[..., :, 0],
            np.s_[..., :, -1],
        ):
            out[wall] -= L[wall] * P[wall] / half[wall]
        return out.reshape(len(L), -1)


class Gaussian:
    """N(m, C_L) with m = C b and C_L^-1 = C^-1 + J^T J."""

    def __init__(self, posterior, b, J) -> None:
        self.posterior, self.b, self.J = posterior, b, J
        self.mean = posterior.times_covariance(b)
        self.JC = posterior.times_covariance(J)
        self._system = cho_factor(self.JC @ J.T + np.eye(len(J)))

    def times_covariance(self, x) -> np.ndarray:
        """C_L x."""
        return self.posterior.times_covariance(x) - self.JC.T @ cho_solve(self._system, self.JC @ x)

    def draws(self, n, rng) -> np.ndarray:
        """Draws of N(0, C_L), ``(n, p)``: corrected draws of the prior."""
        x = self.posterior.prior.sample(n, rng=rng)
        e = rng.standard_normal((n, len(self.J)))
        return x - cho_solve(self._system, (x @ self.J.T + e).T).T @ self.JC

    def rest(self, u) -> tuple[float, np.ndarray]:
        """Negative logarithm of the posterior's density to this one, and its gradient."""
        value, gradient = self.posterior.misfit(u)
        J_away = self.J @ (u - self.mean)
        value += self.b @ u - 0.5 * J_away @ J_away
        return value, gradient + self.b - self.J.T @ J_away


def mode(posterior, first, shift, steps=50) -> tuple[np.ndarray, np.ndarray]:
    """Minimum of |r(u) - shift|^2/2 + |u - first|^2_C/2 by Gauss-Newton steps from ``first``.

    Returns u and b = C^-1 (u - first).
    """
    u, b, value = first, np.zeros_like(first), np.inf
    for _ in range(steps):
        residual, J = posterior.jacobian(u)
        JC = posterior.times_covariance(J)
        target = J @ (u - first) - residual + shift
        full = J.T @ cho_solve(cho_factor(JC @ J.T + np.eye(len(J))), target) - b
        share = 1.0
        while True:  # halve the step until the objective falls
            new = b + share * full
            u_new = first + posterior.times_covariance(new)
            misfit = 0.5 * np.sum((posterior.residual(u_new) - shift) ** 2)
            objective = misfit + 0.5 * new @ (u_new - first)
            if objective < value or share < 1e-3:
                break
            share /= 2
        done = value - objective < 1e-4
        u, b, value = u_new, new, objective
        if done:
            break
    return u, b


def averaged(posterior, draws) -> Gaussian:
    """The Gaussian with the mean of draws and the average of their matrices J^T J."""
    some = draws[:: max(1, len(draws) // 16)]
    J = np.concatenate([posterior.jacobian(u)[1] for u in some]) / np.sqrt(len(some))
    values, vectors = np.linalg.eigh(posterior.times_covariance(J) @ J.T)
    kept = values > 0.05  # directions in which the data add to the prior
    b = cho_solve((posterior.prior.unwhiten(np.eye(J.shape[1])).T, True), draws.mean(axis=0))
    return Gaussian(posterior, b, vectors[:, kept].T @ J)


def chain(gaussian, u, rng, n_warmup=100) -> Iterator[tuple[np.ndarray, float, float]]:
    """Yield draws of one chain, and the acceptance probability and step size of each.

    The step size is adapted in the warm-up to an acceptance probability of 0.8.
    """
    value, gradient = gaussian.rest(u)
    step = 0.05
    for i in count():
        if i % 100 == 0:
            velocities = gaussian.draws(100, rng)
        n_steps = min(round(TIME / step), 30)
        found = trajectory(gaussian, u, value, gradient, velocities[i % 100], step, n_steps, rng)
        probability = 0.0 if found is None else min(1.0, np.exp(-found[-1]))
        if rng.uniform() < probability:
            u, value, gradient, _ = found
        if i < n_warmup:
            step *= np.exp((probability - 0.8) * 0.5 / np.sqrt(1 + i / 10))
        else:
            yield u.astype(np.float32), probability, step


def trajectory(gaussian, u, value, gradient, v, step, n_steps, rng) -> tuple[Any, ...] | None:
    """The end of a trajectory, its value and gradient, and the change of the energy.

    None if the trajectory leaves the numbers that the solver can handle.
    """
    h = step * rng.uniform(0.8, 1.2)
    change, before = 0.0, value
    kick = gaussian.times_covariance(gradient)
    for _ in range(n_steps):
        change += 0.125 * h**2 * (gradient @ kick) - 0.5 * h * (gradient @ v)
        v = v - 0.5 * h * kick
        away = u - gaussian.mean
        u = gaussian.mean + np.cos(h) * away + np.sin(h) * v
        v = np.cos(h) * v - np.sin(h) * away
        if np.abs(u).max() > 50:  # the step is too long: the solver cannot handle such cells
            return None
        value, gradient = gaussian.rest(u)
        kick = gaussian.times_covariance(gradient)
        change += 0.125 * h**2 * (gradient @ kick) - 0.5 * h * (gradient @ v)
        v = v - 0.5 * h * kick
    change += value - before
    return (u, value, gradient, change) if np.isfinite(change) else None


def check_gradient(posterior, u) -> None:
    """The adjoint gradient compared with central differences along random directions."""
    rng = np.random.default_rng(0)
    _, gradient = posterior.misfit(u)
    for along in posterior.prior.sample(3, rng=rng):
        h = 1e-4
        found = (posterior.misfit(u + h * along)[0] - posterior.misfit(u - h * along)[0]) / (2 * h)
        np.testing.assert_allclose(gradient @ along, found, rtol=1e-4, atol=1e-4)


def main() -> None:
    """Sample, print the diagnostics, and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25, help="of 100 draws of each chain")
    parser.add_argument("--pilot", type=int, default=200, help="draws of a pilot chain")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    example = ek.problems.darcy_field(length=LENGTH)
    posterior = Posterior(example)
    p, d = posterior.n**2, len(posterior.data)
    check_gradient(posterior, 0.5 * posterior.prior.sample(1, rng=1)[0])
    top, b = mode(posterior, np.zeros(p), np.zeros(d))
    print(f"mode: misfit {posterior.misfit(top)[0]:.2f}, prior {0.5 * b @ top:.2f}", flush=True)
    gaussian, start = Gaussian(posterior, b, posterior.jacobian(top)[1]), top
    rng = np.random.default_rng(1)
    for _ in range(2):
        pilot, _, _ = drawn(chain(gaussian, start, rng), options.pilot)
        half = pilot[options.pilot // 2 :].astype(float)
        gaussian, start = averaged(posterior, half), half[-1]
    chains = []
    for seed in range(CHAINS):
        rng = np.random.default_rng([2011, seed])
        first = posterior.prior.sample(1, rng=rng)[0]
        start, _ = mode(posterior, first, rng.standard_normal(d))
        chains.append(chain(gaussian, start, rng))
    draws = np.empty((CHAINS, 0, p), np.float32)
    for k in range(options.rounds):
        blocks = [drawn(each, 100) for each in chains]
        draws = np.concatenate([draws, [block for block, *_ in blocks]], axis=1)
        acceptance = ", ".join(f"{mean:.2f}" for _, mean, _ in blocks)
        steps = ", ".join(f"{step:.2f}" for *_, step in blocks)
        print(f"round {k + 1}: acceptance {acceptance}; steps {steps}", flush=True)
        report(example.truth, draws, top)
        if options.save:
            mean, sd = (each.astype(np.float32) for each in moments(draws))
            np.savez_compressed(options.save, mean=mean, sd=sd)


def drawn(chain, n) -> tuple[np.ndarray, float, float]:
    """The next n draws ``(n, p)``, their mean acceptance probability, and the step size."""
    draws, probabilities, steps = zip(*islice(chain, n), strict=True)
    return np.array(draws), np.mean(probabilities), steps[-1]


def moments(draws) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every cell from ``(chains, draws, p)``."""
    return draws.mean(axis=(0, 1), dtype=float), draws.std(axis=(0, 1), dtype=float)


def report(truth, draws, u) -> None:
    """Print the diagnostics, and the differences from the mode u and from the stored moments."""
    data = arviz.convert_to_dataset({"u": draws})
    rhat = arviz.rhat(data).u.values
    sizes = arviz.ess(data, method="mean").u.values
    mean, sd = moments(draws)
    print(f"rank-normalized split R-hat: median {np.median(rhat):.4f}, largest {rhat.max():.4f}")
    print(f"effective sample size: median {np.median(sizes):.0f}, least {sizes.min():.0f}")
    errors = 1 / np.sqrt(sizes)
    print(
        f"Monte Carlo error of a mean: median {np.median(errors):.3f}, at most {errors.max():.3f}"
    )
    inside = np.abs(truth - mean) < 1.645 * sd
    print(f"sd of a cell: {sd.min():.2f} to {sd.max():.2f}; truth inside 90 %: {inside.mean():.3f}")
    off = np.sqrt(np.mean(((u - mean) / sd) ** 2))
    print(f"the mode is {off:.2f} sd off (rms over cells)")
    halves = [moments(draws[:2]), moments(draws[2:])]
    off = np.sqrt(np.mean(((halves[0][0] - halves[1][0]) / sd) ** 2))
    ratio = np.mean((halves[0][1] / halves[1][1]) ** 2)
    print(
        f"two chains beside the other two: {off:.3f} sd, ratio of variances {ratio:.3f}", flush=True
    )
    if STORED.exists():
        with np.load(STORED) as stored:
            off = np.sqrt(np.mean(((stored["mean"] - mean) / sd) ** 2))
            ratio = np.mean((stored["sd"] / sd) ** 2)
        print(f"the stored reference: {off:.3f} sd, ratio of variances {ratio:.3f}")


if __name__ == "__main__":
    main()
