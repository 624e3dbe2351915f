"""Calibration of predictions with uncertainty on held-out data."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.special import logsumexp, ndtr

from ekitools.core.arrays import as_array, as_real, as_vector
from ekitools.results.predictive import predictive_cdf, predictive_quantiles

__all__ = ["calibration"]

_LEVELS = tuple(round(0.1 * k, 1) for k in range(1, 10))


def calibration(
    predictions: Any,
    y: Any,
    noise_sd: Any,
    *,
    weights: Any = None,
    levels: Any = _LEVELS,
) -> xr.Dataset:
    r"""Coverage, width and scores of an ensemble's predictions on held-out data.

    The prediction of datum i is the mixture Σ_j w_j N(g_j, σ_i²) of members' outputs plus noise.
    All numbers are computed from its distribution function F_i without sampling:

    ==================  ==================================================================
    ``coverage``        by level q: share of data within the central interval of
                        probability q, that is with F_i(y_i) within q/2 of ½
    ``standard_error``  √(q(1 − q)/n), of the coverage of n independent data if all is well
    ``width``           by level: mean width of the interval
    ``pit``             by datum: F_i(y_i), uniform on [0, 1] if all is well [1]_
    ``nlpd``            mean of −log density of y_i
    ``crps``            mean of ∫(F_i(z) − 1[z ≥ y_i])² dz, in the units of y; for mixtures
                        as in [2]_
    ``rmse``            root mean square error of the mean prediction
    ==================  ==================================================================

    A coverage below the level means that predictions are overconfident. A coverage above the level
    means that they are underconfident. ``nlpd`` and ``crps`` are proper scores [1]_: smaller is
    better, and the true distribution has the smallest expected score.

    Parameters
    ----------
    predictions : (J, n)
        Outputs g of the members at the n data. Rows with NaN (failed members) are left out.
    y : (n,)
        The data.
    noise_sd : float or (n,)
        σ > 0, standard deviations of the noise of y.
    weights : (J,), optional
        w ≥ 0 of the members, not necessarily normalised; by default the same for all.
    levels : (q,), optional
        Within (0, 1), increasing; 0.1, 0.2, ... 0.9 by default.

    Returns
    -------
    xarray.Dataset
        The variables above along ``level`` or ``datum``, or without dimension.

    Raises
    ------
    TypeError, ValueError
        If sizes disagree, a number is out of range, or no member is left.

    See Also
    --------
    predict : Draws of the data by the posterior.
    diagnose : The coverage and the CRPS of a run on its own data.

    References
    ----------
    .. [1] Gneiting, Balabdaoui & Raftery (2007), J. R. Stat. Soc. B 69, 243-268.
    .. [2] Grimit, Gneiting, Berrocal & Johnson (2006), Q. J. R. Meteorol. Soc. 132, 2925-2942.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> y = np.random.default_rng(0).normal(size=2000)
    >>> right, narrow = (ek.calibration(np.zeros((1, 2000)), y, sd) for sd in (1.0, 0.5))
    >>> right.coverage.sel(level=0.9).item(), narrow.coverage.sel(level=0.9).item()
    (0.904, 0.593)
    >>> bool(right.crps < narrow.crps)
    True
    """
    y = as_vector("y", y).astype(np.float64)
    g, w = _members(predictions, y, weights)
    sd = as_real("noise_sd", noise_sd, ndim=(0, 1)).astype(np.float64)
    if sd.ndim == 1 and sd.shape != y.shape:
        raise ValueError(f"noise_sd: must have n = {y.size} entries, got shape {sd.shape}.")
    if np.any(sd <= 0):
        raise ValueError(
            f"noise_sd: must be positive, got {float(sd.min()):.6g}. Use a small positive number "
            "for data without noise."
        )
    sd = np.broadcast_to(sd, y.shape)
    levels = as_vector("levels", levels)
    if not (np.all(np.diff(levels) > 0) and levels[0] > 0 and levels[-1] < 1):
        raise ValueError(f"levels: must increase within (0, 1), got {levels.tolist()}.")
    pit = predictive_cdf(y, g, sd, w)
    ends = predictive_quantiles(np.concatenate([0.5 - levels / 2, 0.5 + levels / 2]), g, sd, w)
    widths = ends[len(levels) :] - ends[: len(levels)]
    log_density = logsumexp(-0.5 * ((y - g) / sd) ** 2, axis=0, b=w[:, None])
    nlpd = np.mean(np.log(sd) + 0.5 * np.log(2 * np.pi) - log_density)
    by_level = {
        "coverage": np.mean(np.abs(pit - 0.5) <= levels[:, None] / 2, axis=1),
        "standard_error": np.sqrt(levels * (1 - levels) / y.size),
        "width": widths.mean(axis=1),
    }
    result = xr.Dataset(
        {
            **{name: ("level", values) for name, values in by_level.items()},
            "pit": ("datum", pit),
            "nlpd": nlpd,
            "crps": np.mean(_crps(y, g, sd, w)),
            "rmse": np.sqrt(np.mean((w @ g - y) ** 2)),
        },
        coords={"level": levels},
        attrs={"title": "calibration of predictions", "n_data": y.size, "n_members": len(g)},
    )
    for name, text in _LONG_NAMES.items():
        units = "as the data" if name in ("width", "crps", "rmse") else "1"
        result[name].attrs |= {"long_name": text, "units": units}
    return result


_LONG_NAMES = {
    "level": "probability of the central interval",
    "coverage": "share of the data within the interval",
    "standard_error": "standard error of the coverage of independent data, if all is well",
    "width": "mean width of the interval",
    "pit": "probability integral transform, F(y)",
    "nlpd": "mean negative log predictive density",
    "crps": "mean continuous ranked probability score",
    "rmse": "root mean square error of the mean prediction",
}


def _members(predictions: Any, y: np.ndarray, weights: Any) -> tuple[np.ndarray, np.ndarray]:
    """Outputs of the members that did not fail, and their normalised weights."""
    g = as_array("predictions", predictions)
    if g.dtype.kind not in "fiu":
        raise TypeError(f"predictions: must be real numbers, got dtype {g.dtype}.")
    if g.ndim != 2 or g.shape[1] != y.size or not len(g):
        raise ValueError(
            f"predictions, y: must have the shapes (J, n) and (n,), got {g.shape} and {y.shape}."
        )
    w = np.ones(len(g)) if weights is None else as_vector("weights", weights).astype(np.float64)
    if w.shape != (len(g),) or np.any(w < 0) or not w.any():
        raise ValueError(
            f"weights: must be J = {len(g)} numbers that are not negative and not all zero, got "
            f"shape {w.shape} and {float(w.min()):.6g}."
        )
    kept = np.isfinite(g).all(axis=1) & (w > 0)
    if not kept.any():
        raise ValueError(
            "predictions: must have a finite row with a positive weight, got none. Check the model "
            "for NaN."
        )
    return g[kept].astype(np.float64), w[kept] / w[kept].sum()


def _crps(y: np.ndarray, g: np.ndarray, sd: np.ndarray, w: np.ndarray) -> np.ndarray:
    """E|X − y| − ½E|X − X'| of every mixture, with E|N(m, s²)| = 2sφ(m/s) + m(2Φ(m/s) − 1)."""
    first = w @ _mean_absolute(y - g, sd)
    low, high = g.min(axis=0) - 9 * sd, g.max(axis=0) + 9 * sd
    points = int(np.ceil(np.max(2 * (high - low) / sd)))
    if points < len(g):
        # ½E|X − X'| = ∫F(1 − F). F is smooth over σ, so a sum over points σ/2 apart is exact
        apart = (high - low) / points
        cdfs = (predictive_cdf(low + k * apart, g, sd, w) for k in range(points))
        return np.asarray(first - apart * sum(F * (1 - F) for F in cdfs))
    second = np.zeros_like(first)
    for j in range(len(g)):  # pairs cost less for few members
        second += w[j] * (w @ _mean_absolute(g - g[j], np.sqrt(2) * sd))
    return np.asarray(first - 0.5 * second)


def _mean_absolute(m: np.ndarray, s: np.ndarray) -> np.ndarray:
    z = m / s
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return np.asarray(2 * s * density + m * (2 * ndtr(z) - 1))
