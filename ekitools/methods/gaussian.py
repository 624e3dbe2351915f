r"""Gaussian fitted to an ensemble; it differs from the standard normal in a few directions only.

In coordinates in which the prior is N(0, I) the data usually inform a few directions only.
The fit is N(m, I + V(S² − I)Vᵀ). A direction has the sample variance s_k² if this variance differs
from 1 by more than the noise of J samples explains (the Marchenko–Pastur range). Every other
direction has the variance 1. The fit costs O(J p min(J, p)) and never forms a p × p matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ekitools.core.arrays import (
    array_namespace,
    as_array,
    as_real,
    as_vector,
    check_array,
    host,
    like,
)
from ekitools.core.checks import check_prior, number, put
from ekitools.core.statuses import CONFIRMED, NOT_CONFIRMED
from ekitools.typing import Array

__all__ = ["Gaussian", "GaussianStart", "fit_gaussian"]

_DIGITS = 1000.0
"""Factor of a sum of standard scores. The fractional part of the product is uniform and
practically independent of the draw, and single precision still resolves it."""


@runtime_checkable
class _Result(Protocol):
    """The parts of a result that `GaussianStart.from_result` reads."""

    @property
    def attrs(self) -> Any:
        """The attributes of the result, such as its status."""
        ...

    def __contains__(self, name: object, /) -> bool:
        """Whether the result has a variable of this name."""
        ...

    def __getitem__(self, name: str, /) -> Any:
        """The variable of this name."""
        ...


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(m, I + V(S² − I)Vᵀ).

    Parameters
    ----------
    mean : (p,)
        m.
    basis : (k, p)
        Orthonormal rows Vᵀ.
    sd : (k,)
        Standard deviations along the rows of ``basis``; 1 in every other direction.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.methods.gaussian import Gaussian
    >>> gaussian = Gaussian(np.zeros(2), np.eye(2)[:1], np.array([3.0]))
    >>> gaussian.unwhiten(np.ones((1, 2)))
    array([[3., 1.]])
    >>> float(gaussian.log_density(np.zeros((1, 2)))[0].round(6))  # without (2π)^(-p/2)
    -1.098612
    """

    mean: np.ndarray
    basis: np.ndarray
    sd: np.ndarray

    def spread(self, x: np.ndarray) -> np.ndarray:
        """Multiply the rows of ``x`` by the symmetric root of the covariance."""
        return x + ((x @ self.basis.T) * (self.sd - 1)) @ self.basis

    def unwhiten(self, x: np.ndarray) -> np.ndarray:
        """Turn standard normal rows into draws of this Gaussian."""
        return self.mean + self.spread(x)

    def whiten(self, x: np.ndarray) -> np.ndarray:
        """Turn draws of this Gaussian into standard normal rows (the inverse of `unwhiten`)."""
        centred = x - self.mean
        return np.asarray(centred + ((centred @ self.basis.T) * (1 / self.sd - 1)) @ self.basis)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of every row of ``x``, without the factor (2π)^{-p/2}."""
        white = self.whiten(x)
        return np.asarray(-0.5 * np.sum(white * white, axis=1) - np.sum(np.log(self.sd)))


def fit_gaussian(
    x: np.ndarray, weights: np.ndarray | None = None, *, inflation: float = 1.0
) -> Gaussian:
    """Fit a Gaussian to an ensemble ``(J, p)``; ``inflation`` multiplies the standard deviations.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.methods.gaussian import fit_gaussian
    >>> x = np.random.default_rng(0).normal(size=(10_000, 3)) * [0.1, 1.0, 1.0]
    >>> fit_gaussian(x).sd.round(3)
    array([0.1])
    """
    n = len(x)
    shares = np.full(n, 1 / n) if weights is None else weights / np.sum(weights)
    mean = shares @ x
    effective = 1 / np.sum(shares**2)
    rows = np.sqrt(shares / max(1 - np.sum(shares**2), 1e-12))[:, None] * (x - mean)
    _, s, basis = np.linalg.svd(rows, full_matrices=False)
    ratio = np.sqrt(x.shape[1] / effective)
    known = (s > 1e-8) & ((s < abs(1 - ratio)) | (s > 1 + ratio))
    basis, s = basis[known], s[known]
    inside = (mean @ basis.T) @ basis
    rest = mean - inside
    # positive-part James–Stein estimate: in the other directions x ~ N(·, I), so the error of the
    # sample mean has this expected square
    error = (x.shape[1] - len(s)) / effective
    shrunk = inside + max(1 - error / max(float(rest @ rest), 1e-300), 0.0) * rest
    return Gaussian(shrunk, basis, inflation * s)


@dataclass(frozen=True)
class GaussianStart:
    r"""Gaussian start of `TemperedSMC` or `GNKI`, in coordinates whitened by the prior.

    In these coordinates the prior is the standard normal. The Gaussian differs from the prior in a
    few directions. Make a start from a result with `from_result`, or from an ensemble with
    `from_ensemble`.

    `TemperedSMC` starts from a mixture with a share ε of the prior,

    .. math:: q = (1 - \varepsilon)\, N(m, C) + \varepsilon\, \mu_0.

    This is a defensive mixture [1]_. The density of the posterior relative to q is at most the
    largest likelihood, divided by ε and the evidence. A mode that the Gaussian misses has particles
    from the beginning if draws of the prior reach the mode.

    Parameters
    ----------
    mean : tuple of p floats
        Mean m.
    basis : tuple of k tuples of p floats
        Orthonormal directions.
    sd : tuple of k floats
        Standard deviations along the directions; 1 in every other direction.
    doubt : str, default ""
        A warning about the run that the start comes from. The status of a run with this start
        repeats the warning.
    prior_share : float, default 0.2
        ε, from 0 to below 1; 0 means the Gaussian alone. `GNKI` ignores this option and draws all
        members from the Gaussian.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, sizes disagree, a number is not finite or out of range,
        or the directions are not orthonormal.

    See Also
    --------
    TemperedSMC : Sampler that corrects the start by weights.
    GNKI : Refinement that can start from the Gaussian.

    References
    ----------
    .. [1] Hesterberg (1995), Technometrics 37, 185-194.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.lynx_hare().problem
    >>> quick = ek.run(problem, ek.GNKI(), n_members=100, rng=0)
    >>> start = ek.GaussianStart.from_result(quick, problem.prior)
    >>> len(start.mean), ek.TemperedSMC(start=start).start == start
    (6, True)
    """

    mean: tuple[float, ...]
    basis: tuple[tuple[float, ...], ...]
    sd: tuple[float, ...]
    doubt: str = ""
    prior_share: float = 0.2

    def __post_init__(self) -> None:
        if not isinstance(self.doubt, str):
            raise TypeError(f"doubt: must be a text, got {self.doubt!r:.60}.")
        put(self, prior_share=_checked_share(self.prior_share))
        mean, basis = as_vector("mean", self.mean), as_real("basis", self.basis)
        sd = as_real("sd", self.sd, ndim=(1,))
        rows = basis if basis.size else np.zeros((0, len(mean)))
        if rows.shape != (len(sd), len(mean)):
            raise ValueError(
                f"mean, basis, sd: must have the shapes (p,), (k, p) and (k,), got {mean.shape}, "
                f"{rows.shape} and {sd.shape}."
            )
        put(self, mean=tuple(mean.tolist()), sd=tuple(sd.tolist()))
        put(self, basis=tuple(tuple(row) for row in rows.tolist()))
        if not np.all(sd > 0):
            raise ValueError(f"sd: must be positive and finite, got {self.sd}.")
        if not np.allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-6):
            raise ValueError(f"basis: must have orthonormal rows, got {self.basis!r:.60}.")

    @cached_property
    def gaussian(self) -> Gaussian:
        """The Gaussian with its mean, directions and standard deviations as arrays."""
        mean, sd = np.array(self.mean, dtype=np.float64), np.array(self.sd, dtype=np.float64)
        basis = np.array(self.basis, dtype=np.float64)
        return Gaussian(mean, basis if len(basis) else np.zeros((0, len(mean))), sd)

    def moved(self, ensemble: Array, prior: Any) -> Array:
        """Turn draws of the prior into draws of this Gaussian, both unconstrained, ``(J, p)``.

        Every row of ``ensemble`` is whitened by ``prior``. The whitened row holds the standard
        scores of the new draw.

        Raises
        ------
        ValueError
            If the prior has another number of parameters than the Gaussian.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> start = ek.GaussianStart((1.0, 2.0), ((0.0, 1.0),), (0.5,))
        >>> start.moved(np.array([[0.0, 0.0], [1.0, -1.0]]), ek.GaussianPrior([0.0, 0.0], 1.0))
        array([[1. , 2. ],
               [2. , 1.5]])
        """
        return self._moved(ensemble, self._scores(ensemble, prior), prior)

    def mixed(self, ensemble: Array, prior: Any) -> Array:
        """Turn draws of the prior into draws of the mixture, both unconstrained, ``(J, p)``.

        A share ε of the rows stays unchanged, and `moved` replaces the other rows. Low-order digits
        of a row decide whether the row stays. The result for one row therefore does not depend on
        the other rows, and a row that is drawn again is a new draw of the mixture.

        Parameters
        ----------
        ensemble : (J, p)
            Draws of the prior, unconstrained.
        prior : Prior
            Prior of the problem.

        Raises
        ------
        ValueError
            If the prior has another number of parameters than the Gaussian.

        See Also
        --------
        moved : Draws of the Gaussian alone.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> prior = ek.GaussianPrior([0.0], 1.0)
        >>> start = ek.GaussianStart((9.0,), ((1.0,),), (0.1,), prior_share=0.3)
        >>> drawn = start.mixed(prior.sample_unconstrained(1000, rng=0), prior)
        >>> int(np.sum(drawn < 6))  # 300 expected
        287
        """
        scores = self._scores(ensemble, prior)
        moved = self._moved(ensemble, scores, prior)
        if self.prior_share == 0:
            return moved
        stays = np.mod(_DIGITS * np.sum(scores, axis=1), 1) < self.prior_share
        return array_namespace(ensemble).where(
            like(stays[:, None].astype(np.float64), ensemble) > 0.5, ensemble, moved
        )

    def _scores(self, ensemble: Array, prior: Any) -> np.ndarray:
        """The standard scores ``(J, p)`` of draws of the prior."""
        p = int(ensemble.shape[1])
        if len(self.mean) != p:
            raise ValueError(f"start: must have p = {p} parameters, got {len(self.mean)}.")
        return host(prior.whiten(ensemble)).astype(np.float64)

    def _moved(self, ensemble: Array, scores: np.ndarray, prior: Any) -> Array:
        """Draws of the Gaussian with these scores, as an array of the type of ``ensemble``."""
        return prior.unwhiten(like(self.gaussian.unwhiten(scores), ensemble))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of the mixture q, without the factor (2π)^{-p/2}.

        Parameters
        ----------
        x : (J, p)
            Points in coordinates in which the prior is N(0, I).

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> start = ek.GaussianStart((9.0,), ((1.0,),), (0.1,), prior_share=0.5)
        >>> start.log_density(np.array([[0.0], [9.0]])).round(6)  # log 0.5, log 5
        array([-0.693147,  1.609438])
        """
        log_gaussian = self.gaussian.log_density(x)
        if self.prior_share == 0:
            return log_gaussian
        log_prior = -0.5 * np.sum(x * x, axis=1)
        return np.logaddexp(
            np.log1p(-self.prior_share) + log_gaussian, np.log(self.prior_share) + log_prior
        )

    @classmethod
    def from_ensemble(
        cls,
        ensemble: Any,
        prior: Any,
        *,
        weights: Any = None,
        inflation: float = 1.2,
        prior_share: float = 0.2,
    ) -> GaussianStart:
        """Fit the start to an ensemble that is close to the posterior.

        Parameters
        ----------
        ensemble : (J, p)
            Members in physical coordinates, such as ``result.u[-1]``; NaN rows are left out.
        prior : Prior
            Prior of the problem.
        weights : (J,), optional
            Weights of the members; equal weights by default.
        inflation : float, default 1.2
            Factor of the standard deviations. A start that is too wide costs a few model runs; a
            start that is too narrow loses the tails.
        prior_share : float, default 0.2
            Share of the prior in the start of `TemperedSMC`.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type or is out of range, or fewer than two finite members
            are left.

        See Also
        --------
        from_result : Fit the start to the last ensemble of a result.
        """
        check_prior(prior)
        u = as_array("ensemble", ensemble)
        check_array("ensemble", u, last=prior.n_parameters)
        kept = np.isfinite(u).all(axis=1) if u.ndim == 2 else np.zeros(1, dtype=bool)
        if np.count_nonzero(kept) < 2:
            raise ValueError(
                "ensemble: must be (J, p) with at least two finite members, got "
                f"{np.count_nonzero(kept)} in the shape {u.shape}."
            )
        inflation = number("inflation", inflation, above=0)
        prior_share = _checked_share(prior_share)
        white = np.asarray(prior.whiten(prior.to_unconstrained(u[kept].astype(np.float64))))
        shares = None if weights is None else _checked_weights(weights, kept)
        fit = fit_gaussian(white, shares, inflation=inflation)
        return cls._of(fit, prior_share=prior_share)

    @classmethod
    def from_result(
        cls, result: Any, prior: Any = None, *, inflation: float = 1.2, prior_share: float = 0.2
    ) -> GaussianStart:
        """Fit the start to the last ensemble of a result, and keep the warnings of the run.

        Parameters
        ----------
        result : xarray.Dataset
            A result of `run` or `integrate`.
        prior : Prior, optional
            Prior of the problem. It may be left out if the method holds a Gaussian (`UKI`).
        inflation : float, default 1.2
            Factor of the standard deviations; 1 leaves the fitted Gaussian unchanged. A start that
            is too wide costs a few model runs; a start that is too narrow loses the tails.
        prior_share : float, default 0.2
            Share of the prior in the start of `TemperedSMC`.

        Raises
        ------
        TypeError
            If ``result`` is not a result, or ``prior`` is needed but missing.
        ValueError
            If fewer than two finite members are left, or ``prior`` has other parameters.

        See Also
        --------
        from_ensemble : Fit the start to members that come from elsewhere.

        Examples
        --------
        >>> import ekitools as ek
        >>> problem = ek.InverseProblem(
        ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])
        >>> result = ek.run(problem, ek.UKI(rtol=1e-6), rng=0)
        >>> start = ek.GaussianStart.from_result(result, inflation=1.0)
        >>> round(start.mean[0], 4), round(start.sd[0] ** 2, 4)  # exact: 1, 0.5
        (1.0, 0.5)
        """
        inflation = number("inflation", inflation, above=0)
        prior_share = _checked_share(prior_share)
        if not isinstance(result, _Result) or "u" not in result:
            raise TypeError(
                f"result: must be the Dataset that ek.run returns, got {type(result).__name__}. "
                "Use GaussianStart.from_ensemble for members."
            )
        u = np.asarray(result["u"])[-1]
        if prior is not None:
            check_prior(prior)
            if prior.n_parameters != u.shape[1]:
                raise ValueError(
                    f"prior: must have the {u.shape[1]} parameters of the result, got "
                    f"{prior.n_parameters}. Pass problem.prior."
                )
        doubt = _doubt(result.attrs)
        if "gaussian_mean" in result and "gaussian_root" in result:
            mean, root = (np.asarray(result[f"gaussian_{name}"]) for name in ("mean", "root"))
            basis, sd, _ = np.linalg.svd(root)
            return cls._of(Gaussian(mean, basis.T, inflation * sd), doubt, prior_share)
        if prior is None:
            raise TypeError(
                "prior: must be given for a result that holds members only, got None. Pass "
                "problem.prior."
            )
        weights = np.asarray(result["weight"])[-1] if "weight" in result else None
        found = cls.from_ensemble(
            u, prior, weights=weights, inflation=inflation, prior_share=prior_share
        )
        return replace(found, doubt=doubt)

    @classmethod
    def _of(cls, gaussian: Gaussian, doubt: str = "", prior_share: float = 0.2) -> GaussianStart:
        return cls(
            tuple(gaussian.mean.tolist()),
            tuple(tuple(row) for row in gaussian.basis.tolist()),
            tuple(gaussian.sd.tolist()),
            doubt,
            prior_share,
        )


def _checked_share(prior_share: Any) -> float:
    """Check that the share of the prior is from 0 to below 1."""
    return number("prior_share", prior_share, least=0, below=1)


def _doubt(attrs: Any) -> str:
    """The warning that a result holds; "" if the run finished without a warning."""
    if attrs.get("verdict") == CONFIRMED:
        return ""
    if attrs.get("verdict") == NOT_CONFIRMED:
        return str(attrs.get("verdict_reason", ""))
    fine = attrs.get("posterior") == 1 and attrs.get("status_level") in ("good", "note")
    return "" if fine else str(attrs.get("status", "How the run ended is not recorded."))


def _checked_weights(weights: Any, kept: np.ndarray) -> np.ndarray:
    """Check the weights of all members, and return those of the members that are kept."""
    w = as_vector("weights", weights).astype(np.float64)
    if w.shape != kept.shape or np.any(w < 0) or not np.any(w[kept] > 0):
        raise ValueError(
            f"weights: must be J = {len(kept)} numbers, not negative and not all zero, got "
            f"{weights!r:.60}."
        )
    return w[kept]
