"""Samplers of other packages on the problems of `posterior_problems.py`, for `posterior_runs.py`.

    pip install emcee pymc blackjax dynesty pocomc kalman-inversion-lib

Every package works in the coordinates in which the prior is N(0, I) and calls the same model, which
counts its runs. Settings are the defaults of the package. The other settings are:

* emcee has 32 walkers, or 2 p if that is more. Its moves are the default (stretch), or differential
  evolution, alone or with a fifth of snooker moves, as in its documentation. The first half of
  every chain is burn-in. Walkers start at draws of the prior, or at the ensemble of a `GNKI` run
  with 100 members.
* pymc has one chain of `sample_smc`.
* blackjax has adaptive tempered SMC with ten random-walk moves a temperature (its default number)
  with the weighted covariance of the particles times 2.38^2/p. A temperature halves the effective
  sample size.
* dynesty has the static sampler. Its own stopping rule ends a run.
* pocomc has the number of effective particles that the row names. Otherwise it has its defaults,
  which train a normalizing flow. At the end it draws 4,096 samples.
* kalman-inversion-lib has time steps of 0.5 (its default). Its UKI uses the extended space, because
  it otherwise leaves the prior out. Its EKS and ALDI have the adaptive step and ten units of time.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import Any

import numpy as np
from posterior_problems import Case, moments
from scipy import stats
from scipy.special import ndtri

import ekitools as ek

__all__ = ["PEERS"]

WALKERS, NEAR, DRAWS = 32, 100, 10_000
UNITS_OF_TIME = 10


def emcee_chain(
    case: Case, seed: int, *, steps: int, near: bool = False, move: str = "stretch"
) -> np.ndarray:
    import emcee

    rng, n = np.random.default_rng(seed), max(WALKERS, 2 * case.p)
    z = rng.standard_normal((n, case.p))
    if near:
        result = ek.run(case.problem, ek.GNKI(), n_members=NEAR, rng=seed, evaluate_final=False)
        u = result.u[-1].dropna("member").values
        z = case.whitened(u[rng.choice(len(u), n, replace=False)])

    def log_density(z: np.ndarray) -> np.ndarray:
        return case.log_likelihood(z) - 0.5 * np.sum(z**2, axis=1)

    evolution, snooker = emcee.moves.DEMove(), emcee.moves.DESnookerMove()
    moves = {"DE": evolution, "DE and snooker": [(evolution, 0.8), (snooker, 0.2)]}.get(move)
    sampler = emcee.EnsembleSampler(n, case.p, log_density, vectorize=True, moves=moves)
    start = emcee.State(z, random_state=np.random.RandomState(seed).get_state())
    sampler.run_mcmc(start, steps)
    return moments(case.physical(sampler.get_chain(discard=steps // 2, flat=True)))


def pymc_smc(case: Case, seed: int, *, draws: int) -> np.ndarray:
    import pymc
    import pytensor.tensor as pt
    from pytensor.graph import Apply, Op

    class LogLikelihood(Op):
        def make_node(self, z: Any) -> Apply:
            return Apply(self, [pt.as_tensor_variable(z)], [pt.dscalar()])

        def perform(self, node: Apply, inputs: list[Any], outputs: list[Any]) -> None:
            outputs[0][0] = np.asarray(case.log_likelihood(inputs[0][None])[0])

    logging.getLogger("pymc").setLevel(logging.ERROR)
    with pymc.Model(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one chain has no R-hat
        z = pymc.Normal("z", 0.0, 1.0, shape=case.p)
        pymc.Potential("data", LogLikelihood()(z))
        trace = pymc.sample_smc(
            draws,
            chains=1,
            cores=1,
            random_seed=seed,
            progressbar=False,
            compute_convergence_checks=False,
        )
    return moments(case.physical(trace.posterior["z"].values.reshape(-1, case.p)))


def blackjax_smc(case: Case, seed: int, *, particles: int) -> np.ndarray:
    import blackjax
    import jax
    import jax.numpy as jnp
    from blackjax.mcmc import random_walk
    from blackjax.smc import extend_params, inner_kernel_tuning, resampling

    jax.config.update("jax_enable_x64", True)

    def host(z: Any) -> np.ndarray:
        z = np.asarray(z)
        return case.log_likelihood(z.reshape(-1, case.p)).reshape(z.shape[:-1])

    def log_likelihood(z: Any) -> Any:
        scalar = jax.ShapeDtypeStruct((), jnp.float64)
        return jax.pure_callback(host, scalar, z, vmap_method="broadcast_all")

    kernel = random_walk.build_additive_step()

    def move(key: Any, state: Any, log_density: Any, root: Any) -> Any:
        return kernel(
            key, state, log_density, lambda key, z: root @ jax.random.normal(key, z.shape)
        )

    def tuned(key: Any, state: Any, info: Any) -> Any:
        cov = jnp.cov(state.particles.T, aweights=state.weights) + 1e-10 * jnp.eye(case.p)
        return extend_params({"root": 2.38 / jnp.sqrt(case.p) * jnp.linalg.cholesky(cov)})

    algorithm = inner_kernel_tuning.as_top_level_api(
        blackjax.adaptive_tempered_smc,
        lambda z: -0.5 * jnp.sum(z * z),
        log_likelihood,
        move,
        random_walk.init,
        resampling.systematic,
        tuned,
        extend_params({"root": 2.38 / np.sqrt(case.p) * jnp.eye(case.p)}),
        target_ess=0.5,
    )
    key, first = jax.random.split(jax.random.key(seed))
    state = algorithm.init(jax.random.normal(first, (particles, case.p)))
    step = jax.jit(algorithm.step)
    while state.sampler_state.tempering_param < 1:
        key, now = jax.random.split(key)
        state, _ = step(now, state)
    found = state.sampler_state
    return moments(case.physical(np.asarray(found.particles)), np.asarray(found.weights))


def dynesty_nested(case: Case, seed: int, *, live: int) -> np.ndarray:
    import dynesty

    def log_likelihood(z: np.ndarray) -> float:
        return float(case.log_likelihood(z[None])[0])

    rng = np.random.default_rng(seed)
    sampler = dynesty.NestedSampler(log_likelihood, ndtri, case.p, nlive=live, rstate=rng)
    sampler.run_nested(print_progress=False)
    found = sampler.results
    return moments(case.physical(found.samples), found.importance_weights())


def pocomc_preconditioned(case: Case, seed: int, *, effective: int) -> np.ndarray:
    import pocomc
    import torch

    torch.set_num_threads(1)
    prior = pocomc.Prior(case.p * [stats.norm(0.0, 1.0)])
    sampler = pocomc.Sampler(
        prior, case.log_likelihood, vectorize=True, n_effective=effective, random_state=seed
    )
    sampler.run(progress=False)
    samples, weight, *_ = sampler.posterior()
    return moments(case.physical(samples), weight / weight.sum())


def _container(case: Case) -> Any:
    from kalman_inversion_lib.kalman_base_classes import KalmanInversionDataContainer

    data = np.asarray(case.problem.data)
    variances = np.broadcast_to(case.problem.noise.sd**2, data.shape)
    return KalmanInversionDataContainer(data, np.diag(variances), np.zeros(case.p), np.eye(case.p))


def _inversion(case: Case, method: Any, units: int) -> None:
    def model(z: np.ndarray) -> np.ndarray:
        return case.outputs(z[None])[0]

    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):  # its progress bar
        method.run_inversion(model, num_iterations=units)


def kalman_uki(case: Case, seed: int, *, units: int) -> np.ndarray:
    from kalman_inversion_lib.kalman_inversion_optimizers import UnscentedKalmanInversion
    from kalman_inversion_lib.timestep_schedulers import FixedTimeStepScheduler

    method = UnscentedKalmanInversion(
        _container(case), FixedTimeStepScheduler, if_extend_space=True
    )
    _inversion(case, method, units)
    gaussian = method.get_posterior_mean(), method.get_posterior_covariance()
    return moments(case.physical(np.random.default_rng(seed).multivariate_normal(*gaussian, DRAWS)))


def _kalman_sampler(name: str) -> Any:
    def estimate(case: Case, seed: int, *, members: int) -> np.ndarray:
        from kalman_inversion_lib import kalman_inversion_samplers
        from kalman_inversion_lib.timestep_schedulers import AdaptiveTimeStepScheduler

        z = np.random.default_rng(seed).standard_normal((members, case.p))
        method = getattr(kalman_inversion_samplers, name)(
            kalman_data_container=_container(case),
            seed=seed,
            time_step_scheduler=AdaptiveTimeStepScheduler,
            eps=1e-10,
            max_step=1.0,
            initial_ensemble=z,
            J=members,
        )
        _inversion(case, method, UNITS_OF_TIME)
        centre = method.kalman_data_container.prior_mean if method.if_centered else 0.0
        return moments(case.physical(method.get_final_ensemble() + centre))

    return estimate


_STEPS = (100, 200, 400, 800, 1600, 3200, 6400)
_PARTICLES = (125, 250, 500, 1000, 2000, 4000)
_MEMBERS = (50, 100, 200, 400, 800)

PEERS: dict[str, tuple[str, Any, tuple[dict[str, Any], ...]]] = {
    "emcee, from the prior": (
        "emcee",
        emcee_chain,
        tuple({"steps": n} for n in _STEPS),
    ),
    "emcee, from GNKI with 100 members": (
        "emcee",
        emcee_chain,
        tuple({"steps": n, "near": True} for n in _STEPS),
    ),
    "emcee, differential evolution, from GNKI with 100 members": (
        "emcee",
        emcee_chain,
        tuple({"steps": n, "near": True, "move": "DE"} for n in _STEPS),
    ),
    "emcee, with snooker moves, from GNKI with 100 members": (
        "emcee",
        emcee_chain,
        tuple({"steps": n, "near": True, "move": "DE and snooker"} for n in _STEPS),
    ),
    "dynesty, static nested sampling": (
        "dynesty",
        dynesty_nested,
        tuple({"live": n} for n in (50, 100, 250, 500, 1000)),
    ),
    "pocomc, preconditioned SMC": (
        "pocomc",
        pocomc_preconditioned,
        tuple({"effective": n} for n in (256, 512, 1024)),
    ),
    "pymc, sample_smc": ("pymc", pymc_smc, tuple({"draws": n} for n in _PARTICLES)),
    "blackjax, adaptive tempered SMC": (
        "blackjax",
        blackjax_smc,
        tuple({"particles": n} for n in _PARTICLES),
    ),
    "kalman-inversion-lib, UKI": (
        "kalman_inversion_lib",
        kalman_uki,
        tuple({"units": n} for n in (1, 2, 3, 5, 8, 12, 20, 35, 60)),
    ),
    "kalman-inversion-lib, EKS": (
        "kalman_inversion_lib",
        _kalman_sampler("EnsembleKalmanSampler"),
        tuple({"members": n} for n in _MEMBERS),
    ),
    "kalman-inversion-lib, ALDI": (
        "kalman_inversion_lib",
        _kalman_sampler("GradientFreeALDI"),
        tuple({"members": n} for n in _MEMBERS),
    ),
}
"""Package, function of a case and a seed, and settings with rising cost, by name."""
