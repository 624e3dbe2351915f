"""Results for tests: one laid out as `ek.run` does it, without the loop; and comparing two."""

import json

import numpy as np
import xarray as xr

import ekitools as ek

DEFAULT_TIMES = (0.0, 0.1, 0.3, 1.0)


def linear_problem(p=3, d=5, seed=0):
    """A u = y + noise with a dense Γ, so that ``noise_sd`` does not say everything."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(d, p))
    root = np.tril(0.3 * rng.normal(size=(d, d)))
    cov = root @ root.T + np.diag(rng.uniform(0.1, 0.4, d))
    data = A @ rng.normal(size=p) + rng.multivariate_normal(np.zeros(d), cov)
    prior = ek.GaussianPrior(np.zeros(p), 1.0)
    return ek.InverseProblem(ek.LinearModel(A), prior, cov, data)


def flow(u0, A, cov, y, t):
    """Ensemble at time t of u̇_j = −(1/J) Σ_k ⟨A u_k − Aū, A u_j − y⟩_Γ u_k, exactly.

    In the members' space with K = W Wᵀ / J = V Λ Vᵀ, W = whitened initial anomalies of A u:
    anomalies V (I + 2tΛ)^{-1/2} Vᵀ E₀ and mean ū₀ + E₀ᵀ V g(t) b.
    """
    white = np.linalg.inv(np.linalg.cholesky(cov))
    mean, n = u0.mean(axis=0), len(u0)
    anomalies = u0 - mean
    W = anomalies @ A.T @ white.T
    lam, V = np.linalg.eigh(W @ W.T / n)
    lam = np.maximum(lam, 0)
    shrink = 1 / np.sqrt(1 + 2 * t * lam)
    tiny = t * lam < 1e-8
    g = np.where(tiny, -t, (shrink - 1) / np.where(tiny, 1, lam))
    b = V.T @ W @ (white @ (A @ mean - y)) / n
    return mean + anomalies.T @ V @ (g * b) + V @ (shrink[:, None] * (V.T @ anomalies))


def result_of(
    problem,
    times=DEFAULT_TIMES,
    *,
    n_members=20,
    seed=1,
    store="all",
    last_evaluated=True,
    failed=(),
    dropped=(),
    weights=None,
):
    """The flow's Dataset.

    ``failed`` lists pairs (iteration, member) without outputs; ``dropped`` lists members that
    failed at iteration 0 and are NaN from then on; ``weights`` is (iteration, member).
    """
    u0 = problem.prior.sample(n_members, rng=seed)
    A, cov, y = problem.model.matrix, problem.noise.cov, problem.data
    times = np.asarray(times, dtype=float)
    u = np.stack([flow(u0, A, cov, y, t) for t in times])
    g = u @ A.T
    lost = np.zeros(u.shape[:2], dtype=bool)
    for i, j in (*failed, *((0, j) for j in dropped)):
        lost[i, j] = True
    g[lost] = np.nan
    for j in dropped:
        u[1:, j] = g[1:, j] = np.nan
    if not last_evaluated:
        g[-1] = np.nan
    r = g - y
    misfit = 0.5 * np.einsum("nji,ik,njk->nj", r, np.linalg.inv(cov), r)
    steps = np.append(np.diff(times), np.nan)
    spread = np.array([np.sqrt(np.nanvar(x, axis=0).sum()) for x in u])
    names = ("iteration", "member")
    result = xr.Dataset(
        {
            "u": ((*names, "parameter"), u),
            "g": ((*names, "data"), g),
            "misfit": (names, misfit),
            "failed": (names, lost),
            "t": ("iteration", times),
            "step": ("iteration", steps),
            "y": ("data", y),
            "noise_sd": ("data", np.sqrt(np.diag(cov))),
            "history_t": ("history", times),
            "history_step": ("history", steps),
            "history_misfit": ("history", _mean(misfit)),
            "history_spread": ("history", spread / spread[0]),
            "history_model_runs": ("history", np.arange(1, len(times) + 1) * n_members),
        },
        coords={
            "iteration": np.arange(len(times)),
            "member": np.arange(n_members),
            "parameter": np.array(problem.parameter_names, dtype=object),
            "data": _labels(problem.data_names),
            "history": np.arange(len(times)),
        },
        attrs={
            "title": "ensemble Kalman inversion",
            "method": json.dumps({"type": "EKIFlow"}),
            "status": "The flow came to its end.",
            "status_code": "posterior_reached",
            "model_runs": len(times) * n_members,
            "failures": json.dumps([]),
            "seed": json.dumps([seed]),
            "versions": json.dumps({"ekitools": ek.__version__, "numpy": np.__version__}),
            "covariance_normalisation": "1/J",
        },
    )
    if weights is not None:
        result["weight"] = (names, np.asarray(weights))
    return result.isel(iteration=[-1]) if store == "last" else result


def same(a, b):
    """Whether two results are identical but for the wall time they took."""
    a, b = (each.assign_attrs(seconds=0.0) for each in (a, b))
    return a.identical(b)


def _mean(misfit):
    """Over members; NaN where there is none."""
    return np.array([np.nan if np.isnan(row).all() else np.nanmean(row) for row in misfit])


def _labels(names):
    array = np.asarray(names)
    return array.astype(object) if array.dtype.kind == "U" else array
