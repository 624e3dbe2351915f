r"""Closed forms for a linear model G(u) = Au.

All computations are in the space of the members. With the initial anomalies E₀ ``(J, p)``,
W = E₀AᵀΓ^{-1/2} ``(J, d)`` and the eigenvalues K = WWᵀ/J = VΛVᵀ, the flow

    u̇_j = −C(u) Aᵀ Γ⁻¹ (A u_j − y),   C(u) = EᵀE / J,

has anomalies E(t) = V(I + 2tΛ)^{-1/2}VᵀE₀ and mean ū(t) = ū₀ + E₀ᵀV g(t) b with
b = VᵀWΓ^{-1/2}(Aū₀ − y)/J and g_i(t) = ((1 + 2tλ_i)^{-1/2} − 1)/λ_i (Schillings & Stuart 2017,
SIAM J. Numer. Anal. 55, 1264-1290).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ekitools.core.arrays import as_real, as_vector
from ekitools.losses.gaussian import as_noise
from ekitools.models.plain import LinearModel
from ekitools.priors.gaussian import GaussianPrior
from ekitools.typing import NoiseModel

__all__ = ["covariance_flow", "linear_flow", "posterior", "spectrum"]


def linear_flow(
    ensemble: Any, A: Any, data: Any, noise: Any = None, t: Any = None, *, noise_sd: Any = None
) -> np.ndarray:
    """The exact EKI flow of a linear model.

    Parameters
    ----------
    ensemble : (J, p)
        Initial ensemble of any rank.
    A : (d, p) array, scipy.sparse matrix, LinearOperator or LinearModel
        Matrix of any rank.
    data : (d,)
        Data y, inside or outside the range of A.
    noise : GaussianNoise, another noise model, or a covariance
        Noise covariance Γ.
    t : (n,) or float
        Times >= 0.
    noise_sd : float or (d,), optional
        Standard deviations of the data, in place of ``noise``.

    Returns
    -------
    (n, J, p)
        The ensemble at each time. Covariances are normalised by 1/J.

    Raises
    ------
    TypeError, ValueError
        If shapes disagree, if a time is negative, or if both or neither of ``noise`` and
        ``noise_sd`` are given.

    See Also
    --------
    ekitools.theory.covariance_flow : Covariance of the flow.
    ekitools.integrate : Numerical solution of flows.

    Examples
    --------
    For one parameter, members ±1, A = 1, Γ = 1 and y = 0, anomalies decay as (1 + 2t)^{-1/2}:

    >>> import ekitools as ek
    >>> ek.theory.linear_flow([[-1.0], [1.0]], [[1.0]], [0.0], 1.0, [0.0, 4.0])[:, 1, 0].round(4)
    array([1.    , 0.3333])
    """
    ensemble = _members(ensemble)
    times = _times(t)
    mean = ensemble.mean(axis=0)
    anomalies = ensemble - mean
    vectors, values, b = _modes(mean, anomalies, A, data, noise, noise_sd)
    shrink = 1 / np.sqrt(1 + 2 * times[:, None] * values)  # (n, k)
    g = -2 * times[:, None] * shrink**2 / (1 + shrink)  # no cancellation for any tλ
    rotated = vectors.T @ anomalies  # (k, p)
    moved = mean + (g * b) @ rotated
    rest = anomalies - vectors @ rotated  # the part outside the row space of A
    return np.asarray(
        moved[:, None, :] + rest + np.einsum("jk,nk,kp->njp", vectors, shrink, rotated)
    )


def covariance_flow(
    ensemble: Any, A: Any, noise: Any = None, t: Any = None, *, noise_sd: Any = None
) -> np.ndarray:
    """The covariance C(t) of the exact flow, which solves Ċ = −2 C AᵀΓ⁻¹A C.

    Parameters
    ----------
    ensemble, A, noise, t, noise_sd
        As in `linear_flow`.

    Returns
    -------
    (n, p, p)
        C at each time, normalised by 1/J.

    See Also
    --------
    ekitools.theory.linear_flow : The members of the flow.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.theory.covariance_flow([[-1.0], [1.0]], [[1.0]], 1.0, [4.0]).round(4)
    array([[[0.1111]]])
    """
    d = _model(A).shape[0]
    members = linear_flow(ensemble, A, np.zeros(d), noise, t, noise_sd=noise_sd)
    anomalies = members - members.mean(axis=1, keepdims=True)
    return np.asarray(anomalies.transpose(0, 2, 1) @ anomalies / members.shape[1])


def posterior(
    A: Any, data: Any, prior: Any, noise: Any = None, *, noise_sd: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """The exact posterior of u given y = Au + η under a Gaussian prior.

    The QR decomposition of the whitened stack of data and prior does not square the condition
    number.

    Parameters
    ----------
    A, data, noise, noise_sd
        As in `linear_flow`.
    prior : GaussianPrior
        Prior N(m, C₀).

    Returns
    -------
    mean : (p,)
        Mean of the posterior.
    cov : (p, p)
        Covariance of the posterior.

    See Also
    --------
    ekitools.theory.linear_flow : The exact EKI flow.
    ekitools.compare : Comparison of results with a posterior.

    Examples
    --------
    >>> import ekitools as ek
    >>> mean, cov = ek.theory.posterior([[1.0]], [2.0], ek.GaussianPrior(0.0, 1.0), 1.0)
    >>> mean.round(12), cov.round(12)
    (array([1.]), array([[0.5]]))
    """
    model = _model(A)
    data = as_vector("data", data)
    if isinstance(prior, type) or not isinstance(prior, GaussianPrior):
        raise TypeError(f"prior: must be an ek.GaussianPrior, got {type(prior).__name__}.")
    if prior.constrained:
        raise ValueError(
            f"prior: must be Gaussian in physical coordinates, got transformed values ({prior!r}). "
            "Leave out the transform of the field, and apply it in the model."
        )
    if model.shape != (len(data), prior.n_parameters):
        raise ValueError(
            f"A, data, prior: must have the sizes (d, p), d and p, got {model.shape}, "
            f"{len(data)} and {prior.n_parameters}."
        )
    noise = _noise(noise, noise_sd, len(data))
    identity = np.eye(prior.n_parameters)
    root = prior.unwhiten(identity) - prior.unwhiten(np.zeros_like(identity))  # rows of C₀^{T/2}
    matrix = noise.whiten(model(root)).T  # (d, p): Γ^{-1/2} A C₀^{1/2}
    residual = noise.whiten(data - model(prior.mean))
    q, r = np.linalg.qr(np.vstack([matrix, identity]))
    white = np.linalg.solve(r, q[: len(residual)].T @ residual)
    half = np.linalg.solve(r, identity).T @ root  # (p, p), halfᵀ half = covariance
    return prior.mean + white @ root, half.T @ half


def spectrum(ensemble: Any, A: Any, noise: Any = None, *, noise_sd: Any = None) -> np.ndarray:
    """Eigenvalues λ > 0 of the whitened output covariance WWᵀ/J, in decreasing order.

    In the flow the component of A r_∥ along the eigenvector of λ decays as (1 + 2tλ)^{-1/2}.

    Parameters
    ----------
    ensemble, A, noise, noise_sd
        As in `linear_flow`.

    Returns
    -------
    (r,)
        The eigenvalues; r is the rank.

    See Also
    --------
    ekitools.theory.linear_flow : The exact EKI flow.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.theory.spectrum([[-1.0], [1.0]], [[2.0]], 1.0).round(12)
    array([4.])
    """
    ensemble = _members(ensemble)
    mean = ensemble.mean(axis=0)
    data = np.zeros(_model(A).shape[0])
    return _modes(mean, ensemble - mean, A, data, noise, noise_sd)[1]


def _model(A: Any) -> LinearModel:
    return A if isinstance(A, LinearModel) else LinearModel(A)


def _noise(noise: Any, sd: Any, d: int) -> NoiseModel:
    found = as_noise(noise, sd)
    if found.n_data not in (None, d):
        name = "noise" if sd is None else "noise_sd"
        raise ValueError(
            f"{name}: must be for the d = {d} data, got one for {found.n_data}. Pass one number, "
            "or one for each datum."
        )
    return found


def _members(ensemble: Any) -> np.ndarray:
    members = as_real("ensemble", ensemble, ndim=(2,)).astype(np.float64)
    if not members.size:
        raise ValueError(f"ensemble: must have members, got shape {members.shape}.")
    return members


def _times(t: Any) -> np.ndarray:
    times = np.atleast_1d(as_real("t", t, ndim=(0, 1))).astype(np.float64)
    if np.any(times < 0):
        raise ValueError(f"t: must not be negative, got {times.min():g}.")
    return times


def _modes(
    mean: np.ndarray, anomalies: np.ndarray, A: Any, data: Any, noise: Any, noise_sd: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V ``(J, k)``, λ > 0 ``(k,)`` and b ``(k,)`` from the thin SVD of W."""
    model, data = _model(A), as_vector("data", data)
    if model.shape != (len(data), len(mean)):
        raise ValueError(
            f"A, data, ensemble: must have the shapes (d, p), (d,) and (J, p), got {model.shape}, "
            f"{data.shape} and {anomalies.shape}."
        )
    noise = _noise(noise, noise_sd, len(data))
    w = noise.whiten(model(anomalies)) / np.sqrt(len(anomalies))  # (J, d)
    vectors, s, right = np.linalg.svd(w, full_matrices=False)
    kept = s > s[:1] * max(w.shape) * np.finfo(float).eps
    vectors, s, right = vectors[:, kept], s[kept], right[kept]
    residual = noise.whiten(model(mean) - data)
    return vectors, s**2, s * (right @ residual) / np.sqrt(len(anomalies))
