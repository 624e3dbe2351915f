"""Gaussian observation noise, known through its whitening map and never through an inverse."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ekitools.core.arrays import as_real, digest
from ekitools.losses.formed import FormedNoise
from ekitools.losses.forms import Form, form_of_covariance, kept_indices
from ekitools.typing import Loss, NoiseModel

__all__ = ["GaussianNoise", "as_loss", "as_noise"]

_CONTRACT = ("misfit", "gradient", "fingerprint", "n_data", "sd", "whiten", "sample")
"""The parts of a `NoiseModel`."""


@dataclass(init=False, frozen=True, eq=False)
class GaussianNoise(FormedNoise):
    r"""Observation noise η ~ N(0, Γ).

    Parameters
    ----------
    cov : float, (d,), (d, d) or (diag, factor)
        Γ in data units squared: one variance for every datum, d variances, a dense
        symmetric positive definite matrix, or the pair ``((d,), (d, k))`` that stands for
        ``diag(diag) + factor @ factor.T`` and is never formed.
    sd : float or (d,), optional
        Standard deviations in data units, in place of ``cov``: the variances are ``sd**2``.

    Raises
    ------
    TypeError, ValueError
        If both or neither of ``cov`` and ``sd`` are given, or Γ is not real, finite, symmetric
        and positive definite.

    See Also
    --------
    BlockNoise : Independent blocks of data, each with its own noise.

    Notes
    -----
    ``whiten`` applies W with WᵀW = Γ⁻¹: 1/sd for variances, the inverse Cholesky factor by
    substitution for a dense Γ, and for D + BBᵀ the symmetric root
    (I + Q((1 + s²)^{-1/2} − 1)Qᵀ) D^{-1/2} with the thin SVD D^{-1/2}B = Q s Vᵀ, which
    costs O(dk) a vector.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> noise = ek.GaussianNoise([4.0, 9.0])
    >>> noise.whiten(np.array([2.0, 3.0]))
    array([1., 1.])
    >>> float(noise.misfit(np.array([2.0, 3.0]), np.zeros(2)))
    1.0
    >>> ek.GaussianNoise(sd=[2.0, 3.0])
    GaussianNoise(cov=array([4., 9.]))
    """

    cov: Any
    _form: Form = field(init=False, repr=False)

    def __init__(self, cov: Any = None, *, sd: Any = None) -> None:
        object.__setattr__(self, "cov", _covariance("cov", cov, "sd", sd))
        self.__post_init__()

    def __post_init__(self) -> None:  # a dataclass that inherits from this one calls it too
        object.__setattr__(self, "_form", form_of_covariance(self.cov))

    def marginal(self, kept: Any) -> GaussianNoise:
        """The noise of some of the data: N(0, Γ[kept, kept]), exactly.

        Parameters
        ----------
        kept : (d,) of bool, or indices
            The data that are kept: a mask, or different indices in the order wanted.

        Returns
        -------
        GaussianNoise
            Of the same form. One variance that serves any number of data stays as it is.

        Raises
        ------
        TypeError, ValueError
            If ``kept`` is neither, keeps nothing, or does not fit the d data.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> data = np.array([0.3, np.nan, 0.1])
        >>> ek.GaussianNoise([1.0, 4.0, 9.0]).marginal(np.isfinite(data)).cov
        array([1., 9.])
        """
        index = kept_indices(kept, self.n_data)
        if isinstance(self.cov, tuple):
            diag, factor = (as_real("cov", part) for part in self.cov)
            return replace(self, cov=(diag[index], factor[index]))
        cov = as_real("cov", self.cov)
        if cov.ndim == 0:
            return self
        return replace(self, cov=cov[index] if cov.ndim == 1 else cov[np.ix_(index, index)])

    def fingerprint(self) -> str:
        """A short text that changes whenever Γ does."""
        return digest(*self.cov) if isinstance(self.cov, tuple) else digest(np.asarray(self.cov))


def as_noise(noise: Any, sd: Any = None) -> NoiseModel:
    """``noise`` where it is a `NoiseModel`, else the `GaussianNoise` of that covariance.

    Parameters
    ----------
    noise : NoiseModel or a covariance
        The argument ``noise`` of the caller; None where ``sd`` is given.
    sd : float or (d,), optional
        The argument ``noise_sd`` of the caller: standard deviations in place of ``noise``.

    Raises
    ------
    TypeError
        If both or neither are given, or if ``noise`` can whiten but lacks another part of the
        contract: it would be taken for a loss.

    Examples
    --------
    >>> from ekitools.losses.gaussian import as_noise
    >>> as_noise(None, 0.5)
    GaussianNoise(cov=0.25)
    >>> as_noise(0.25, 0.5)
    Traceback (most recent call last):
    TypeError: noise: must be given as noise or as noise_sd, got both. Leave one of them out.
    """
    noise = _covariance("noise", noise, "noise_sd", sd)
    if isinstance(noise, type):
        raise TypeError(f"noise: must be a noise model, got the class {noise.__name__} itself.")
    if isinstance(noise, NoiseModel):
        return noise
    if hasattr(noise, "whiten"):
        missing = [part for part in _CONTRACT if not hasattr(noise, part)]
        raise TypeError(
            f"noise: must have {', '.join(missing)} too (see ekitools.typing.NoiseModel), got "
            f"{type(noise).__name__}, which has whiten. Add what is missing."
        )
    return GaussianNoise(noise)


def as_loss(noise: Any, sd: Any = None) -> Loss:
    """``noise`` where it is a `Loss`, else what `as_noise` makes of it and of ``sd``."""
    other = isinstance(noise, Loss) and not isinstance(noise, type) and not hasattr(noise, "whiten")
    return noise if other and sd is None else as_noise(noise, sd)


def _covariance(name: str, cov: Any, sd_name: str, sd: Any) -> Any:
    """What was given of two arguments: the covariance, or the squares of ``sd``."""
    if cov is not None and sd is not None:
        raise TypeError(
            f"{name}: must be given as {name} or as {sd_name}, got both. Leave one of them out."
        )
    if sd is None:
        if cov is None:
            raise TypeError(
                f"{name}: must be given, got None. Pass variances or a covariance matrix as "
                f"{name}, or standard deviations as {sd_name}=."
            )
        return cov
    found = as_real(sd_name, sd, ndim=(0, 1))
    if found.size == 0:
        raise ValueError(f"{sd_name}: must not be empty.")
    with np.errstate(over="ignore", under="ignore"):
        variances = found**2
    usable = (found > 0) & (variances > 0) & np.isfinite(variances)
    if not usable.all():
        bad = found[~usable].flat[0]
        raise ValueError(
            f"{sd_name}: must be positive, with squares that are positive and finite, got "
            f"{bad:.6g}. Rescale the data where their noise is that small or large."
        )
    return float(variances) if variances.ndim == 0 else variances
