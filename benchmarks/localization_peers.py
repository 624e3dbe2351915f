"""Localized analyses of other packages, for `localization.py`.

Each function takes the model matrix and data of a linear problem, an ensemble ``(J, p)``, the
distances of parameters from data and of data from data, and a seed. It returns the new ensemble.
All of them perturb the data. Gaspari-Cohn weights are 0 beyond twice the radius.

    pip install iterative-ensemble-smoother pyesmda
"""

from __future__ import annotations

import numpy as np


def gaspari_cohn(distance, radius) -> np.ndarray:
    """The compactly supported correlation of Gaspari & Cohn (1999), eq. 4.10."""
    z = np.abs(distance) / radius
    inner, outer = np.minimum(z, 1.0), np.clip(z, 1.0, 2.0)
    near = ((((-0.25 * inner + 0.5) * inner + 0.625) * inner) - 5 / 3) * inner**2 + 1
    far = ((((outer / 12 - 0.5) * outer + 0.625) * outer + 5 / 3) * outer - 5) * outer + 4
    return np.where(z <= 1, near, np.where(z < 2, far - 2 / (3 * outer), 0.0))


def smoother_adaptive(case, u, seed, *, steps=1, truncation=0.99) -> np.ndarray:
    """AdaptiveESMDA of iterative_ensemble_smoother: correlations above 3/sqrt(J)."""
    from iterative_ensemble_smoother import AdaptiveESMDA

    smoother = AdaptiveESMDA(
        covariance=case.variances, observations=case.data, alpha=steps, seed=seed
    )
    x = u.T.copy()
    for _ in range(steps):
        smoother.prepare_assimilation(Y=case.matrix @ x, truncation=truncation)
        x = smoother.assimilate_batch(X=x, n_jobs=1)
    return x.T


def smoother_distance(case, u, seed, *, radius, steps=1, truncation=0.99) -> np.ndarray:
    """LocalizedESMDA of iterative_ensemble_smoother: the gain is tapered."""
    from iterative_ensemble_smoother import LocalizedESMDA

    smoother = LocalizedESMDA(
        covariance=case.variances, observations=case.data, alpha=steps, seed=seed
    )
    weights = gaspari_cohn(case.from_data, radius)
    x = u.T.copy()
    for _ in range(steps):
        smoother.prepare_assimilation(Y=case.matrix @ x, truncation=truncation)
        x = smoother.assimilate_batch(X=x, localization_callback=lambda gain: gain * weights)
    return x.T


def pyesmda_distance(case, u, seed, *, radius, steps=1) -> np.ndarray:
    """ESMDA of pyesmda: both covariances are tapered."""
    import covmats
    import pyesmda

    solver = pyesmda.ESMDA(
        obs=case.data,
        m_init=u.T.copy(),
        cov_obs=covmats.CovViaDiagonal(case.variances),
        forward_model=lambda x: case.matrix @ x,
        n_assimilations=steps,
        inversion_type="cholesky",
        C_MD_localization=pyesmda.FixedLocalization(gaspari_cohn(case.from_data, radius)),
        C_DD_localization=pyesmda.FixedLocalization(gaspari_cohn(case.between_data, radius)),
        random_state=seed,
        is_forecast_for_last_assimilation=False,
        is_parallel_analyse_step=False,
    )
    solver.solve()
    return solver.m_posterior.T
