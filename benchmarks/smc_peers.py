"""Adaptive tempered SMC of blackjax on lynx and hare, measured as in `smc_study.py`.

    pip install blackjax jax
    python benchmarks/smc_peers.py [--problem fixed|unknown] [--seeds 3] [--members 1000]

The model is implemented in JAX (with the same equations, scheme and steps), with the same prior in
the same coordinates, in which it is N(0, I). Moves are random walks with the particles' own
covariance times 2.38²/p, with ``--moves`` of them at every temperature (blackjax does not adapt the
number); the effective sample size is halved from one temperature to the next. Model runs are
counted as one for every particle at the start and every proposal, although blackjax evaluates the
current particles twice more at each temperature.
"""

from __future__ import annotations

import argparse
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.mcmc import random_walk
from blackjax.smc import extend_params, inner_kernel_tuning, resampling
from jax.scipy.special import ndtr, ndtri

import ekitools as ek

jax.config.update("jax_enable_x64", True)


def to_physical(z) -> Any:
    """Standard normal coordinates to α, β, γ, δ, hare₀, lynx₀ and, where there are, two σ."""
    mean, sd = jnp.array([1.0, 0.05, 1.0, 0.05]), jnp.array([0.5, 0.05, 0.5, 0.05])
    below = ndtr(-mean / sd)  # the mass that truncation at 0 removes
    upper = ndtr(-z[:4]) * (1 - below)
    rates = mean - sd * ndtri(upper)
    starts = jnp.exp(jnp.log(10.0) + z[4:6])
    return jnp.concatenate([rates, starts, jnp.exp(-1.0 + z[6:])])


def log_populations(u, n_years=20, steps=80) -> Any:
    """``(n_years + 1, 2)``, by the classical Runge–Kutta scheme in logarithms."""
    alpha, beta, gamma, delta = u[:4]

    def slope(x) -> Any:
        hare, lynx = jnp.exp(x)
        return jnp.stack([alpha - beta * lynx, delta * hare - gamma])

    def step(x, _) -> Any:
        h = 1 / steps
        k1 = slope(x)
        k2 = slope(x + 0.5 * h * k1)
        k3 = slope(x + 0.5 * h * k2)
        k4 = slope(x + h * k3)
        return x + h / 6 * (k1 + 2 * (k2 + k3) + k4), None

    def year(x, _) -> Any:
        x, _ = jax.lax.scan(step, x, None, length=steps)
        return x, x

    first = jnp.log(u[4:6])
    _, later = jax.lax.scan(year, first, None, length=n_years)
    return jnp.concatenate([first[None], later])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", choices=["fixed", "unknown"], default="fixed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--moves", type=int, nargs="+", default=[5, 10, 20])
    options = parser.parse_args()
    unknown = options.problem == "unknown"
    example = ek.problems.lynx_hare(sigma=None if unknown else 0.25)
    known = example.reference if unknown else example.extra["fixed_sigma"]
    reference = np.array([known[name] for name in example.problem.parameter_names])
    p, n = len(reference), options.members
    data = jnp.asarray(example.problem.data[:42]).reshape(21, 2)

    def log_likelihood(z) -> Any:
        u = to_physical(z)
        sigma = u[6:] if unknown else 0.25
        r = (log_populations(u) - data) / sigma
        total = -jnp.sum(0.5 * r * r + (jnp.log(sigma) if unknown else 0.0))
        return jnp.where(jnp.isfinite(total), total, -1e30)

    z = np.random.default_rng(0).standard_normal((3, p))  # the same model as in ekitools
    ours = -np.asarray(example.problem.noise.misfit(
        example.problem.model(example.problem.prior.to_physical(z)), example.problem.data
    ))  # fmt: skip
    np.testing.assert_allclose([log_likelihood(row) for row in z], ours, rtol=1e-6)

    kernel = random_walk.build_additive_step()

    def move(key, state, log_density, root) -> Any:
        def draw(key, position) -> Any:
            return root @ jax.random.normal(key, position.shape)

        return kernel(key, state, log_density, draw)

    def tuned(key, state, info) -> Any:
        del key, info
        cov = jnp.cov(state.particles.T) + 1e-10 * jnp.eye(p)
        return extend_params({"root": 2.38 / jnp.sqrt(p) * jnp.linalg.cholesky(cov)})

    print("| moves a temperature | model runs | worst mean | worst sd | log-evidence |")
    print("|---|---|---|---|---|")
    for moves in options.moves:
        rows = []
        for seed in range(options.seeds):
            particles = jax.random.normal(jax.random.key(100 + seed), (n, p))
            algorithm = inner_kernel_tuning.as_top_level_api(
                blackjax.adaptive_tempered_smc,
                lambda z: -0.5 * jnp.sum(z * z),
                log_likelihood,
                move,
                random_walk.init,
                resampling.systematic,
                tuned,
                extend_params({"root": 2.38 / np.sqrt(p) * jnp.eye(p)}),
                num_mcmc_steps=moves,
                target_ess=0.5,
            )
            state, step = algorithm.init(particles), jax.jit(algorithm.step)
            evidence, temperatures = 0.0, 0
            key = jax.random.key(seed)
            while state.sampler_state.tempering_param < 1:
                key, now = jax.random.split(key)
                state, info = step(now, state)
                evidence += float(info.log_likelihood_increment)
                temperatures += 1
            u = np.asarray(jax.vmap(to_physical)(state.sampler_state.particles))
            weight = np.asarray(state.sampler_state.weights)
            mean = weight @ u
            sd = np.sqrt(weight @ (u - mean) ** 2)
            rows.append((
                n * (1 + moves * temperatures),
                np.max(np.abs(mean - reference[:, 0]) / reference[:, 1]),
                np.max(np.abs(sd / reference[:, 1] - 1)),
                evidence,
            ))  # fmt: skip
        runs, off, ratio, evidences = np.array(rows).T
        print(
            f"| {moves} | {runs.mean():,.0f} | {off.mean():.3f} | {ratio.mean():.3f} "
            f"| {evidences.min():.2f} to {evidences.max():.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
