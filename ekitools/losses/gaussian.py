"""Gaussian observation noise, applied by its whitening map. No inverse of Γ is formed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from ekitools.core.arrays import as_real, digest
from ekitools.core.indices import kept_indices
from ekitools.losses.correlated import Kernel, correlated_covariance
from ekitools.losses.formed import FormedNoise
from ekitools.losses.forms import Form, checked_sd, form_of_covariance
from ekitools.losses.markov import Markov
from ekitools.losses.repeats import Shrinkage, covariance_of_repeats
from ekitools.typing import Loss, NoiseModel

__all__ = ["GaussianNoise", "as_loss", "as_noise"]

_CONTRACT = ("misfit", "gradient", "fingerprint", "n_data", "sd", "whiten", "sample")
"""The attributes of a `NoiseModel`."""


@dataclass(init=False, frozen=True, eq=False, repr=False)
class GaussianNoise(FormedNoise):
    r"""Observation noise η ~ N(0, Γ).

    Parameters
    ----------
    cov : float, (d,), (d, d) or (diag, factor)
        The covariance Γ in squared data units: one variance for all data, d variances, a dense
        symmetric positive definite matrix, or the pair ``((d,), (d, k))``. The pair means
        ``diag(diag) + factor @ factor.T``, and this matrix is never formed.
    sd : float or (d,), optional
        Standard deviations in data units, in place of ``cov``. The variances are ``sd**2``.

    Raises
    ------
    TypeError, ValueError
        If both or neither of ``cov`` and ``sd`` are given, or Γ is not real, finite, symmetric
        and positive definite.

    See Also
    --------
    GaussianNoise.from_samples : The noise of repeated observations.
    GaussianNoise.correlated : The noise of a densely sampled series.
    BlockNoise : Independent blocks of data, each with its own noise.

    Notes
    -----
    ``whiten`` applies a matrix W with WᵀW = Γ⁻¹. For variances W is diagonal with the entries 1/sd.
    For a dense Γ it is the inverse of the Cholesky factor, applied by substitution. For D + BBᵀ it
    is the symmetric root (I + Q((1 + s²)^{-1/2} − 1)Qᵀ) D^{-1/2} with the thin SVD
    D^{-1/2}B = Q s Vᵀ, at a cost of O(dk) for each vector.

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
    GaussianNoise(2 variances)
    """

    cov: Any
    _form: Form = field(init=False, repr=False)

    def __init__(self, cov: Any = None, *, sd: Any = None) -> None:
        object.__setattr__(self, "cov", _covariance("cov", cov, "sd", sd))
        self.__post_init__()

    def __post_init__(self) -> None:  # dataclasses that inherit from this class call it too
        object.__setattr__(self, "_form", form_of_covariance(self.cov))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_in_words(self.cov)})"

    @classmethod
    def from_samples(
        cls,
        samples: Any,
        rank: int | None = None,
        diagonal: Any = None,
        shrinkage: Shrinkage | None = None,
    ) -> Self:
        """Noise with the covariance of repeated observations.

        Parameters
        ----------
        samples : (N, d)
            N repeats of the d data, one in each row. The mean of the repeats is subtracted.
        rank : int, optional
            Number of principal components that are kept beside ``diagonal``, at most N − 1. By
            default all are kept. The variance of the other components is left out.
        diagonal : float or (d,), optional
            Variances of independent errors, added to the covariance of the samples. They are
            required with too few samples, and with ``rank``.
        shrinkage : {"ledoit-wolf", "oas"}, optional
            An estimator of scikit-learn [1]_ [2]_, which shrinks the sample covariance towards a
            multiple of the identity. It accepts any N.

        Returns
        -------
        GaussianNoise
            Without options, noise with the sample covariance, normalised by 1/(N − 1), for
            N ≥ 2d + 3. With ``diagonal``, noise with the pair ``(diag, factor)``. With
            ``shrinkage``, noise with scikit-learn's matrix, which is normalised by 1/N before it is
            shrunk.

        Raises
        ------
        ImportError
            If ``shrinkage`` is given and scikit-learn is not installed.
        TypeError, ValueError
            If the samples are not ``(N, d)`` with N ≥ 2, have missing values or a constant
            column, or are too few without ``diagonal`` and ``shrinkage``.

        Notes
        -----
        The inverse of a sample covariance is too large on average, by the factor
        (N − 1)/(N − d − 2) for normal noise, and the posterior is then overconfident. The factor is
        2 for N = 2d + 3 and about 1.1 for N = 10d. With fewer samples the covariance is nearly or
        exactly singular. A singular covariance would declare some combinations of the data exact.
        For this reason ``diagonal`` or ``shrinkage`` is required with few samples.

        References
        ----------
        .. [1] Ledoit & Wolf (2004), J. Multivariate Anal. 88, 365-411.
        .. [2] Chen, Wiesel, Eldar & Hero (2010), IEEE Trans. Signal Process. 58, 5016-5029.

        Examples
        --------
        >>> import ekitools as ek
        >>> repeats = [[1.0, 0.0], [3.0, 0.0], [2.0, 3.0], [2, 1], [2, 1], [2, 1], [2, 1]]
        >>> ek.GaussianNoise.from_samples(repeats).cov.round(3)
        array([[0.333, 0.   ],
               [0.   , 1.   ]])
        >>> diag, factor = ek.GaussianNoise.from_samples(repeats[:3], diagonal=0.1).cov
        >>> (factor @ factor.T).round(3)
        array([[1., 0.],
               [0., 3.]])
        """
        return cls(covariance_of_repeats(samples, rank, diagonal, shrinkage))

    @classmethod
    def correlated(
        cls,
        sd: Any,
        coordinates: Any,
        length: Any,
        kernel: Kernel = "exponential",
        nugget: float = 0.0,
    ) -> Self:
        r"""Noise of a densely sampled series, correlated over a physical distance.

        .. math::
            Γ_{ij} = sd_i \, sd_j \, ((1 - ν) \, k(\lVert x_i - x_j \rVert / ℓ) + ν δ_{ij})

        Parameters
        ----------
        sd : float or (d,)
            Standard deviations in data units.
        coordinates : (d,) or (d, dim)
            Place or time of each datum, in any order: numbers, dates, durations, or points.
        length : float or duration
            Correlation length ℓ in the units of ``coordinates``. For dates and durations ℓ must be
            a duration, such as ``np.timedelta64(6, "h")``. A number without a unit is refused.
        kernel : {"exponential", "matern-3/2", "matern-5/2", "squared-exponential"}
            The correlation k(h) at a distance of h lengths: e^{−h}, (1 + √3h)e^{−√3h},
            (1 + √5h + 5h²/3)e^{−√5h}, or e^{−h²/2}. The exponential kernel gives continuous but
            rough noise, and every further kernel gives smoother noise [1]_.
        nugget : float, default 0
            Share ν of every variance that is independent, within [0, 1).

        Returns
        -------
        GaussianNoise
            For the exponential kernel on a series without nugget the noise is a Markov chain. It
            is whitened in O(d), and no matrix is formed. In all other cases Γ is a dense matrix.

        Raises
        ------
        TypeError, ValueError
            If an argument is out of range, two coordinates are equal without a nugget, a dense Γ
            would have more than 5000 data, or Γ is singular to rounding.

        References
        ----------
        .. [1] Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, section 4.2.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> noise = ek.GaussianNoise.correlated(2.0, [0.0, 1.0, 2.0], length=1 / np.log(2))
        >>> noise.whiten(np.array([2.0, 1.0, 0.5]))  # halves are expected: no new information
        array([1., 0., 0.])
        >>> hours = np.arange("2024-01-01", "2024-01-03", dtype="datetime64[h]")
        >>> ek.GaussianNoise.correlated(0.1, hours, np.timedelta64(6, "h")).n_data
        48
        """
        cov = correlated_covariance(sd, coordinates, length, kernel, nugget)
        try:
            return cls(cov)
        except ValueError as error:
            raise ValueError(
                "nugget: must be larger for coordinates this close to each other, whose "
                f"covariance is singular to rounding, got {nugget} ({error}). Pass nugget=1e-6 "
                'or more, or kernel="exponential".'
            ) from None

    def marginal(self, kept: Any) -> Self:
        """The exact noise of some of the data, N(0, Γ[kept, kept]).

        Parameters
        ----------
        kept : (d,) of bool, or indices
            The data to keep: a mask, or different indices in the wanted order.

        Returns
        -------
        GaussianNoise
            Noise of the same form. Noise with one variance for any number of data is returned
            unchanged.

        Raises
        ------
        TypeError, ValueError
            If ``kept`` is neither a mask nor indices, keeps no data, or does not fit the d data.

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
        if isinstance(self.cov, Markov):
            return replace(self, cov=self.cov.marginal(index))
        cov = as_real("cov", self.cov)
        if cov.ndim == 0:
            return self
        return replace(self, cov=cov[index] if cov.ndim == 1 else cov[np.ix_(index, index)])

    def fingerprint(self) -> str:
        """A short text that changes with Γ."""
        if isinstance(self.cov, Markov):
            return self.cov.fingerprint()
        return digest(*self.cov) if isinstance(self.cov, tuple) else digest(np.asarray(self.cov))


def as_noise(noise: Any, sd: Any = None) -> NoiseModel:
    """A `NoiseModel` itself, or the `GaussianNoise` of a covariance.

    Parameters
    ----------
    noise : NoiseModel or a covariance
        The argument ``noise`` of the caller; None if ``sd`` is given.
    sd : float or (d,), optional
        The argument ``noise_sd`` of the caller: standard deviations in place of ``noise``.

    Raises
    ------
    TypeError
        If both or neither are given. Also if ``noise`` has ``whiten`` but lacks another attribute
        of a noise model, because it would count as a loss.

    Examples
    --------
    >>> from ekitools.losses.gaussian import as_noise
    >>> as_noise(None, 0.5)
    GaussianNoise(cov=0.25)
    >>> as_noise(0.25, 0.5)
    Traceback (most recent call last):
    TypeError: noise: must be given as noise or as noise_sd, got both. Leave one of them out.
    """
    if sd is None and isinstance(noise, GaussianNoise):  # a check of a protocol takes longer
        return noise
    noise = _covariance("noise", noise, "noise_sd", sd)
    if isinstance(noise, type):
        raise TypeError(
            f"noise: must be a noise model, got the class {noise.__name__} itself. Pass an "
            "instance of the class."
        )
    if isinstance(noise, NoiseModel):
        return noise
    if hasattr(noise, "whiten"):
        missing = [part for part in _CONTRACT if not hasattr(noise, part)]
        raise TypeError(
            f"noise: must have {', '.join(missing)} too (see ekitools.typing.NoiseModel), got "
            f"{type(noise).__name__}, which has whiten. Add the missing attributes."
        )
    try:
        return GaussianNoise(noise)
    except (TypeError, ValueError) as error:  # the argument cov is called noise here
        raise type(error)(re.sub(r"\bcov\b", "noise", str(error))) from None


def as_loss(noise: Any, sd: Any = None) -> Loss:
    """A `Loss` itself, or the noise that `as_noise` returns for ``noise`` and ``sd``."""
    other = isinstance(noise, Loss) and not isinstance(noise, type) and not hasattr(noise, "whiten")
    return noise if other and sd is None else as_noise(noise, sd)


def _in_words(cov: Any) -> str:
    """The form and the size of a covariance; a single variance itself."""
    if isinstance(cov, Markov):
        return repr(cov)
    if isinstance(cov, tuple):
        d, rank = np.shape(cov[1])
        return f"diagonal + rank {rank}, d={d}"
    shape = np.shape(cov)
    if not shape:
        return f"cov={np.asarray(cov).item()!r}"
    return f"dense covariance, d={shape[0]}" if len(shape) == 2 else f"{shape[0]} variances"


def _covariance(name: str, cov: Any, sd_name: str, sd: Any) -> Any:
    """The covariance, or the squares of ``sd`` if only ``sd`` is given."""
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
    variances = checked_sd(sd_name, sd) ** 2
    return float(variances) if variances.ndim == 0 else variances
