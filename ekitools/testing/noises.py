"""Contract checks for user-defined noise models and losses: `check_noise`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from ekitools.core.arrays import as_real, as_vector, host
from ekitools.core.checks import integer
from ekitools.testing.noise_trial import NoiseTrial
from ekitools.testing.promises import (
    broken,
    calling,
    check_fingerprint,
    check_object,
    difference,
    exactly,
    far,
    missing,
    run_checks,
    seed_of,
    unchanged,
)
from ekitools.typing import CurvedLoss, MarginalNoise, Rng

__all__ = ["CHECKS", "check_noise"]

_DRAWS = 20_000
_MOST_NUMBERS = 2_000_000
"""Largest size of an array of draws; many data get fewer draws."""
_MOST_DIFFERENCES = 40
"""Most outputs along which central differences are taken."""
_MOST_IN_A_MATRIX = 300
"""Most data for which a d × d matrix is formed."""
_LOSS = {
    "misfit": "misfit(z, y), the loss of outputs z and data y along the last axis",
    "gradient": "gradient(z, y), the gradient of misfit in z",
    "fingerprint": "fingerprint(), a text that changes with the loss",
}
_NOISE = {
    "n_data": "the number of data d, or None if one variance serves any d",
    "sd": "the marginal standard deviations",
    "whiten": "whiten(r), which multiplies by the inverse root of the covariance",
    "sample": "sample(n, *, rng), which returns draws of the noise",
}


def _check_members(trial: NoiseTrial) -> None:
    noise = trial.noise
    missing(noise, _LOSS, "a loss")
    if not trial.gaussian:
        return
    missing(noise, _NOISE, "a noise model")
    own = noise.n_data
    counts = isinstance(own, int | np.integer) and not isinstance(own, bool) and own >= 1
    if own is not None and not counts:
        raise broken("n_data", "must be a positive integer or None", repr(own), "Return d.")
    sd, shapes = host(noise.sd), ((), (trial.d,)) if own is None else ((trial.d,),)
    if sd.shape not in shapes:
        rule = f"must have the shape {' or '.join(map(str, shapes))} for n_data = {own}"
        raise broken("sd", rule, str(sd.shape), "Return one standard deviation for each datum.")
    if not np.all((sd > 0) & np.isfinite(sd)):
        got = f"{float(sd.min()):.3g}"
        raise broken("sd", "must be positive and finite", got, "Return standard deviations.")


def _check_misfit(trial: NoiseTrial) -> None:
    z, y = trial.z.copy(), trial.y.copy()
    with unchanged("misfit", "Return a new array.", z=z), calling("misfit", "must take (z, y)"):
        trial.noise.misfit(z, y)
    found = trial.misfit(z)
    if not np.all(np.isfinite(found)):
        remedy = "Pass outputs= and data= for which the loss is defined."
        raise broken("misfit", "must be finite", f"{found}", remedy)
    alone = np.array([float(trial.misfit(row)) for row in z])
    if phrase := difference(alone, found, "misfit", rtol=1e-9):
        rule = "must be the same for one row alone as in an ensemble"
        raise broken("misfit", rule, phrase, "Sum over axis=-1 alone.")
    if not trial.gaussian:
        return
    white = trial.mapped("whiten", z - y)
    if phrase := difference(found, 0.5 * np.sum(white**2, axis=-1), "misfit", rtol=1e-7):
        rule = "must be half the squared length of whiten(z - y)"
        raise broken("misfit", rule, phrase, "Use the same covariance in both.")


def _check_gradient(trial: NoiseTrial) -> None:
    z = trial.z.copy()
    with unchanged("gradient", "Return a new array.", z=z):
        found = trial.mapped("gradient", z, trial.y)
    columns = np.arange(trial.d)
    if trial.d > _MOST_DIFFERENCES:
        columns = np.random.default_rng(trial.seed).choice(trial.d, _MOST_DIFFERENCES, False)
    for i in columns:
        h = trial.step[:, i]
        up, down = z.copy(), z.copy()
        up[:, i] += h
        down[:, i] -= h
        expected = (trial.misfit(up) - trial.misfit(down)) / (up[:, i] - down[:, i])
        scale = np.abs(found).max(axis=1) + np.abs(expected)
        gap = np.abs(found[:, i] - expected)
        if np.any(gap > 1e-4 * scale + 1e-10):
            row = int(np.argmax(gap / (scale + 1e-300)))
            raise broken(
                "gradient",
                f"must be the gradient of misfit in z: {expected[row]:.6g} by central differences "
                f"along output {i}",
                f"{found[row, i]:.6g}",
                "Differentiate the formula of misfit again.",
            )


def _check_sample(trial: NoiseTrial) -> None:
    if not trial.gaussian:
        return
    n = int(np.clip(_MOST_NUMBERS // trial.d, 100, _DRAWS))
    draws = trial.sample(n, trial.seed + 2)
    remedy = "Draw everything from numpy.random.default_rng(rng)."
    rule = "must return the same draws for the same rng"
    first = trial.sample(5, trial.seed)
    exactly(trial.sample(5, trial.seed), first, "sample", rule, remedy, "draws")
    if np.array_equal(trial.sample(5, trial.seed + 1), first):
        raise broken("sample", "must return other draws for another rng", "the same", remedy)
    if score := far(draws.mean(axis=0) / trial.sd * math.sqrt(n)):
        got = f"a mean that is {score:.1f} standard errors from 0"
        raise broken("sample", "must return draws with the mean 0", got, "Subtract the mean.")
    found = draws.std(axis=0, ddof=1)
    if score := far((found / trial.sd - 1) * math.sqrt(2 * n)):
        at = int(np.argmax(np.abs(found / trial.sd - 1)))
        raise broken(
            "sd",
            f"must be the standard deviation of the draws of sample, {found[at]:.4g} for datum "
            f"{at}",
            f"{trial.sd[at]:.4g}, {score:.1f} standard errors away",
            "Return roots of the diagonal of the covariance, not variances.",
        )
    most = min(trial.d, 30)
    white = trial.mapped("whiten", draws)[:, :most].astype(np.float64)
    covariance = np.atleast_2d(np.cov(white.T))
    if score := far((covariance - np.eye(most)) / np.sqrt((1 + np.eye(most)) / n)):
        got = f"a covariance that is {score:.1f} standard errors from I"
        rule = "must carry draws of sample to N(0, I)"
        raise broken("whiten", rule, got, "Multiply by the inverse root of their covariance.")


def _check_curvature(trial: NoiseTrial) -> None:
    if not isinstance(trial.noise, CurvedLoss):
        return
    k: Any = trial.noise.outputs_per_sample
    if isinstance(k, bool) or not isinstance(k, int) or k < 1 or trial.d % k:
        rule = f"must be a positive integer that divides the number of outputs, {trial.d}"
        raise broken("outputs_per_sample", rule, repr(k), "Return the outputs of one sample.")
    f = np.random.default_rng(trial.seed + 3).standard_normal((5, trial.d))
    for row, z in enumerate(trial.z[:3]):
        h = trial.step[row]
        expected = np.stack(
            [
                (
                    trial.mapped("gradient", z + h * each, trial.y)
                    - trial.mapped("gradient", z - h * each, trial.y)
                )
                / 2
                for each in f
            ]
        )
        found = trial.mapped("curvature_product", z, trial.y, h * f)
        if phrase := difference(found, expected, "product", rtol=1e-3):
            rule = "must be the second derivative of misfit in z times each row of f"
            remedy = "Differentiate the formula of gradient again."
            raise broken("curvature_product", rule, phrase, remedy)


def _check_marginal(trial: NoiseTrial) -> None:
    if not isinstance(trial.noise, MarginalNoise) or trial.d > _MOST_IN_A_MATRIX:
        return
    kept = np.arange(trial.d) % 3 != 1
    with calling("marginal", "must return the noise of the data that a mask (d,) keeps"):
        marginal = trial.noise.marginal(kept)
        f = np.random.default_rng(trial.seed + 4).standard_normal((6, int(kept.sum())))
        found = host(marginal.misfit(f * trial.sd[kept], np.zeros(f.shape[1])))
    # the misfit of some data is the minimum of the whole misfit over the other data
    root = trial.mapped("whiten", np.diag(trial.sd)).T
    white, others = root[:, kept] @ f.T, root[:, ~kept]
    white -= others @ np.linalg.lstsq(others, white)[0]
    if phrase := difference(found, 0.5 * np.sum(white**2, axis=0), "misfit", rtol=1e-5):
        rule = "must have the misfit of N(0, Γ[kept, kept])"
        raise broken("marginal", rule, phrase, "Take the rows and columns of Γ, not of a root.")


def _check_nan_rows(trial: NoiseTrial) -> None:
    z = trial.z.copy()
    expected = trial.misfit(z)
    z[1, 0] = np.nan
    found = trial.misfit(z)
    others = np.arange(len(z)) != 1
    if phrase := difference(found[others], expected[others], "misfit", rtol=1e-9):
        rule = "must not let a row with NaN (a failed member) change the misfit of other rows"
        raise broken("misfit", rule, phrase, "Treat each row separately.")
    if np.isfinite(found[1]):
        rule = "must not be finite for a row with NaN (a failed member)"
        raise broken("misfit", rule, f"{found[1]:.4g}", "Do not replace NaN by numbers.")


def _check_float32(trial: NoiseTrial) -> None:
    z, y = (each.astype(np.float32) for each in (trial.z, trial.y))
    results = {"gradient": trial.mapped("gradient", z, y)}
    if trial.gaussian:
        results["whiten"] = trial.mapped("whiten", z)
    if isinstance(trial.noise, CurvedLoss):
        results["curvature_product"] = trial.mapped("curvature_product", z[0], y, z)
    for name, found in results.items():
        if found.dtype != np.float32:
            remedy = "Convert data and scales to the dtype of the outputs."
            raise broken(name, "must keep the dtype float32", str(found.dtype), remedy)


def _check_fingerprint(trial: NoiseTrial) -> None:
    check_fingerprint(trial.noise)


CHECKS: Mapping[str, Callable[[NoiseTrial], None]] = MappingProxyType(
    {
        "members": _check_members,
        "misfit": _check_misfit,
        "gradient": _check_gradient,
        "sample": _check_sample,
        "curvature": _check_curvature,
        "marginal": _check_marginal,
        "nan": _check_nan_rows,
        "float32": _check_float32,
        "fingerprint": _check_fingerprint,
    }
)


def check_noise(
    noise: Any,
    *,
    n_data: int | None = None,
    outputs: Any = None,
    data: Any = None,
    rng: Rng = 0,
    exclude: str | Sequence[str] = (),
) -> None:
    """Check that a noise model or a loss keeps every promise of its contract.

    An object with ``whiten`` must be an `ekitools.typing.NoiseModel`. Any other object must be an
    `ekitools.typing.Loss`. Statistical checks allow four standard errors, and slightly more for
    the largest of many numbers. The default ``rng`` always gives the same answer.

    Parameters
    ----------
    noise : NoiseModel or Loss
        An object of your class.
    n_data : int, optional
        Number of data d, for a noise model or a loss of any size. By default the size of four
        samples.
    outputs : (J, d) array, optional
        Outputs z, for a loss that is defined only for some outputs, such as probabilities.
    data : (d,) array, optional
        Data y, for a loss that is defined only for some data. By default normal numbers. If
        ``check_data`` refuses these, labels 0 and 1 or one-hot vectors are used.
    rng : None, int or numpy.random.Generator, default 0
        Source of all randomness.
    exclude : str or sequence of str, default ()
        Names of checks to omit (see Notes).

    Raises
    ------
    AssertionError
        If a promise is broken or a member of the contract is missing. The message contains the
        name of the member, the rule, the finding and the remedy.
    TypeError, ValueError
        If another argument is invalid.

    See Also
    --------
    ekitools.typing.NoiseModel : The contract of a noise model.
    ekitools.typing.MarginalNoise : The contract of a noise model for missing data.
    ekitools.typing.Loss : The contract of a loss.
    ekitools.typing.CurvedLoss : The contract of a loss with a curvature.

    Notes
    -----
    The checks run in this order:

    ``members``
        All members of the contract exist, and ``n_data`` of a noise model fits ``sd``.
    ``misfit``
        The misfit sums along the last axis, row by row. The misfit of a noise model is
        ``whiten(z - y) @ whiten(z - y) / 2``.
    ``gradient``
        The gradient agrees with central differences of the misfit.
    ``sample``
        Draws of a noise model are reproducible by ``rng``, have the mean 0 and the standard
        deviations ``sd``, and are N(0, I) after ``whiten``.
    ``curvature``
        ``curvature_product``, if declared, agrees with differences of the gradient.
    ``marginal``
        ``marginal(kept)``, if declared, is N(0, Γ[kept, kept]). Checked for up to 300 data.
    ``nan``
        The misfit of a row with NaN is not finite. Other rows are not affected.
    ``float32``
        Gradients of float32 outputs and data are float32.
    ``fingerprint``
        The fingerprint is a text, and the same after pickling.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.testing import check_noise
    >>> check_noise(ek.GaussianNoise([1.0, 4.0]))
    >>> check_noise(ek.CrossEntropy(3), n_data=12)
    >>> class Variances(ek.GaussianNoise):
    ...     @property
    ...     def sd(self):
    ...         return super().sd ** 2
    >>> try:
    ...     check_noise(Variances([1.0, 4.0]))
    ... except AssertionError as error:
    ...     print(error)
    sd: must be the standard deviation of the draws of sample, ...
    """
    check_object("noise", noise)
    if n_data is not None:
        n_data = integer("n_data", n_data)
        own = getattr(noise, "n_data", None)
        if own not in (None, n_data):
            raise ValueError(
                f"n_data: must be {own}, the number of data of noise, got {n_data}. Leave it out."
            )
    if data is not None:
        data = as_vector("data", data)
    if outputs is not None:
        outputs = np.atleast_2d(as_real("outputs", outputs, ndim=(1, 2)))
    size = getattr(noise, "n_data", None) or n_data
    for name, given in {"data": data, "outputs": outputs}.items():
        if given is not None and (not given.size or size not in (None, given.shape[-1])):
            raise ValueError(
                f"{name}: last axis must have {size or 'one or more'} entries, got shape "
                f"{given.shape}."
            )
    seed = seed_of(rng)
    run_checks(CHECKS, exclude, NoiseTrial(noise, n_data, outputs, data, seed))
