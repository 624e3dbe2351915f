r"""The coefficients of one Kalman analysis: the ``(J, J)`` matrix that moves the ensemble."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ekitools.core.arrays import as_rng, host, like
from ekitools.core.checks import one_of
from ekitools.linalg.columns import centred
from ekitools.linalg.kalman import checked_analysis, checked_localization, gain_factors
from ekitools.linalg.local_coefficients import (
    ANALYSES,
    Analysis,
    LocalCoefficients,
    local_coefficients,
)
from ekitools.linalg.transform import transform_factors
from ekitools.losses.gaussian import GaussianNoise
from ekitools.typing import Array, Localization, Rng

__all__ = ["kalman_coefficients"]

_UNIT = GaussianNoise(1.0)


def kalman_coefficients(
    g: Array,
    data: Array,
    noise: Any = None,
    *,
    step: float = 1.0,
    analysis: Analysis = "transform",
    rng: Rng = None,
    noise_draw: Array | None = None,
    noise_sd: Any = None,
    localization: Localization | None = None,
) -> np.ndarray | LocalCoefficients:
    r"""Coefficients of one ensemble Kalman analysis, from the outputs alone.

    The analysis of any ensemble with these outputs is

    .. math::
        u_i \leftarrow u_i + \sum_j K_{ij} (u_j - \bar u).

    K depends only on the outputs and the data. `apply_update` applies K to an ensemble of any size,
    in memory or in files. With whitened output anomalies
    :math:`F = (G - \bar G)\Gamma^{-1/2}`, whitened innovations
    :math:`\Delta = (y + \eta - G)\Gamma^{-1/2}` and a = h/(J − 1), the analysis of `EKI` [1]_ and
    that of `ETKI` [2]_ have

    .. math::
        K = \Delta F^T (F F^T + I / a)^{-1} \quad \text{and} \quad
        K = \mathbf 1 w^T + (I + a F F^T)^{-1/2} - I, \qquad
        w = a (I + a F F^T)^{-1} F \, \Gamma^{-1/2} (y - \bar G).

    Parameters
    ----------
    g : (J, d)
        Outputs G(u). NumPy, torch, JAX or any other array-API array.
    data : (d,)
        The data y.
    noise : GaussianNoise, another noise model, or a covariance
        Γ; a scalar, ``(d,)``, ``(d, d)`` or ``(diag, factor)`` is taken as
        `GaussianNoise` takes it.
    step : float, default 1
        h > 0: the noise is Γ/h.
    analysis : {"transform", "perturbed", "unperturbed"}, default "transform"
        "transform" is the square root of `ETKI`, without random numbers. "perturbed" is the
        analysis of `EKI`, with perturbed data. "unperturbed" is the analysis of
        ``EKI(perturbed=False)``, with η = 0: the ensemble becomes narrower than the posterior.
    rng : None, int or numpy.random.Generator
        Source of η, for "perturbed" data without ``noise_draw``.
    noise_draw : (J, d), optional
        η, drawn from N(0, Γ/h), for "perturbed" data.
    noise_sd : float or (d,), optional
        Standard deviations of the data, in place of ``noise``.
    localization : rule of `ekitools.localization`, optional
        Rule for the data that move each parameter, and their weights.

    Returns
    -------
    (J, J) ndarray of float64
        K; its rows sum to 0. With ``localization`` the return value is an object that
        `apply_update` accepts in place of K, because every parameter then has its own coefficients.

    Raises
    ------
    TypeError, ValueError
        If shapes disagree, J < 2, h is no positive number, both or neither of ``noise`` and
        ``noise_sd`` are given, ``noise_draw`` is given for another analysis, or the outputs
        overflow their dtype.

    See Also
    --------
    apply_update : U + K(U − ū) in blocks, from and to files.
    kalman_update : One analysis of an ensemble in memory.

    Notes
    -----
    One call costs O(J² d + J³), or O(J d² + J² d) if d < J. It needs the memory of a few copies of
    g, and no array of the size of the ensemble.

    References
    ----------
    .. [1] Iglesias, Law & Stuart (2013), Inverse Problems 29, 045001.
    .. [2] Bishop, Etherton & Majumdar (2001), Monthly Weather Review 129, 420-436.

    Examples
    --------
    One parameter seen directly, with the sample variance 1 and the noise variance 1:

    >>> import numpy as np
    >>> import ekitools as ek
    >>> u = np.array([[-1.0], [0.0], [1.0]])
    >>> K = ek.kalman_coefficients(u, np.array([2.0]), 1.0)
    >>> new = u + K @ (u - u.mean(axis=0))
    >>> float(new.mean().round(12)), float(new.var(ddof=1).round(12))
    (1.0, 0.5)
    """
    analysis = one_of("analysis", analysis, ANALYSES)
    rng = as_rng(rng)
    if noise_draw is not None and analysis != "perturbed":
        raise ValueError(
            f'noise_draw: must be left out with analysis="{analysis}", which perturbs no data. '
            'Use analysis="perturbed".'
        )
    g, data, noise, h = checked_analysis(g, data, noise, step, noise_draw, noise_sd)
    if localization is not None:
        drawn = None if noise_draw is None else host(noise_draw)
        rule = checked_localization(localization)
        return local_coefficients(rule, _exact(g) - _exact(data), noise, h, analysis, rng, drawn)
    if analysis == "unperturbed" or noise_draw is not None:
        left, right = gain_factors(g, data, noise, h, noise_draw)
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow becomes an error below
            white = noise.whiten(g - data)
        if analysis == "transform":
            left, right = transform_factors(white, h)
        else:  # the draws of EKI: of the whitened data, the same for any noise, dtype and device
            draw = like(rng.standard_normal(tuple(g.shape)) / math.sqrt(h), white)
            zero = like(np.zeros(int(g.shape[1])), white)
            left, right = gain_factors(white, zero, _UNIT, h, draw)
    if right is None:
        return _exact(left)
    return np.asarray(centred(_exact(left) @ _exact(right).T))


def _exact(a: Array) -> np.ndarray:
    """The array on the host in float64."""
    return host(a).astype(np.float64)
