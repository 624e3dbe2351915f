"""Distributions fitted to weighted samples, for `Prior.from_samples`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri

from ekitools.core.arrays import as_real, as_vector
from ekitools.core.checks import number, sequence
from ekitools.priors.base import named
from ekitools.priors.transforms import Interval
from ekitools.typing import HasSupport, Prior

__all__ = ["Samples", "SmoothQuantiles", "fit_marginal", "intervals", "read_samples"]


class Samples(NamedTuple):
    """Weighted samples of named parameters."""

    names: tuple[str, ...]
    x: np.ndarray
    """Values ``(n, p)``."""
    weights: np.ndarray
    """Weights ``(n,)`` with sum 1."""

    @property
    def effective_size(self) -> float:
        """The effective sample size 1/Σw²."""
        return float(1 / (self.weights @ self.weights))

    def correlation(self, z: np.ndarray) -> np.ndarray:
        """Weighted correlation of values ``(n, p)`` at the samples."""
        cov = np.cov(z.T, aweights=self.weights)
        sd = np.sqrt(np.diag(cov))
        return np.asarray(cov / np.outer(sd, sd))


class SmoothQuantiles(stats.rv_continuous):  # type: ignore[misc]
    r"""The distribution of T(g(z)), z ~ N(0, 1), with an increasing spline g and an interval T.

    g is a rational quadratic spline [1]_, whose inverse is the root of a quadratic. Beyond the
    outer knots it is linear, so the tails are those of a Gaussian.

    Parameters
    ----------
    knots : (2, K)
        Increasing values of z and g(z).
    interval : (float, float)
        Bounds of the interval T.
    **options : Any
        Options of `scipy.stats.rv_continuous`.

    References
    ----------
    .. [1] Gregory & Delbourgo (1982), IMA J. Numer. Anal. 2, 123-130.

    Examples
    --------
    >>> from ekitools.priors.samples import SmoothQuantiles
    >>> marginal = SmoothQuantiles([[-1.0, 1.0], [2.0, 6.0]], (-float("inf"), float("inf")))()
    >>> print(marginal.ppf(0.5), marginal.cdf(4.0))  # of N(4, 2²)
    4.0 0.5
    """

    def __init__(self, knots: Any, interval: tuple[float, float], **options: Any) -> None:
        ends = {"a": interval[0], "b": interval[1]}
        super().__init__(**({"name": "smooth_quantiles"} | options | ends))
        self.knots, self.interval = np.asarray(knots, dtype=float), tuple(interval)
        z, y = self.knots
        widths, slopes = np.diff(z), np.diff(y) / np.diff(z)
        inner = (widths[1:] * slopes[:-1] + widths[:-1] * slopes[1:]) / (widths[1:] + widths[:-1])
        self._slopes = slopes
        self._at_knots = np.concatenate([slopes[:1], inner, slopes[-1:]])
        self._transform = Interval(*interval)

    def _updated_ctor_param(self) -> dict[str, Any]:
        # the arguments that SciPy passes to a frozen distribution
        return super()._updated_ctor_param() | {"knots": self.knots, "interval": self.interval}

    def _ppf(self, q: Any) -> Any:
        return self._transform.forward(self._spline(ndtri(q))[0])

    def _isf(self, q: Any) -> Any:
        return self._transform.forward(self._spline(-ndtri(q))[0])

    def _cdf(self, x: Any) -> Any:
        return ndtr(self._normal(x))

    def _sf(self, x: Any) -> Any:
        return ndtr(-self._normal(x))

    def _logpdf(self, x: Any) -> Any:
        z = self._normal(x)
        y, slope = self._spline(z)
        return stats.norm.logpdf(z) - np.log(slope) - self._transform.log_slope(y)

    def _pdf(self, x: Any) -> Any:
        return np.exp(self._logpdf(x))

    def _piece(self, x: np.ndarray, knots: np.ndarray) -> tuple[np.ndarray, ...]:
        """Index of the piece, secant slope of the piece, and slopes at its ends."""
        k = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2)
        return k, self._slopes[k], self._at_knots[k], self._at_knots[k + 1]

    def _spline(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The spline g and its derivative."""
        at, values = self.knots
        z = np.asarray(z, dtype=float)
        inside = np.clip(z, at[0], at[-1])
        k, s, left, right = self._piece(inside, at)
        width = at[k + 1] - at[k]
        t = (inside - at[k]) / width
        bottom = s + (left + right - 2 * s) * t * (1 - t)
        y = values[k] + s * width * (s * t * t + left * t * (1 - t)) / bottom
        slope = s * s * (right * t * t + 2 * s * t * (1 - t) + left * (1 - t) ** 2) / bottom**2
        return y + slope * (z - inside), slope

    def _normal(self, x: np.ndarray) -> np.ndarray:
        """The inverse g⁻¹(T⁻¹(x))."""
        at, values = self.knots
        y = self._transform.inverse(np.asarray(x, dtype=float))
        inside = np.clip(y, values[0], values[-1])
        k, s, left, right = self._piece(inside, values)
        rise, part = values[k + 1] - values[k], inside - values[k]
        bend = left + right - 2 * s
        a, b, c = rise * (s - left) + part * bend, rise * left - part * bend, -s * part
        t = 2 * c / (-b - np.sqrt(b * b - 4 * a * c))
        ends = np.where(y > inside, self._at_knots[-1], self._at_knots[0])
        return at[k] + t * (at[k + 1] - at[k]) + (y - inside) / ends


def fit_marginal(name: str, x: np.ndarray, samples: Samples, interval: Interval) -> Any:
    """A frozen distribution with the quantiles of one column of weighted samples.

    The real line of z is cut into bins. The knots of g are the means of z ~ N(0, 1) and of
    T⁻¹(x) within each bin. A bin between two edges is about half a standard deviation wide, and
    the outer bins hold the weight of at least 25 samples. Gaussian samples have knots on a line.
    """
    y = interval.inverse(x)
    if not np.all(np.isfinite(y)):
        raise ValueError(
            f"samples: must lie strictly inside the bounds of {name}, ({interval.lower:g}, "
            f"{interval.upper:g}), got {float(x[~np.isfinite(y)][0])!r}. Widen the bounds."
        )
    outer = float(np.clip(25 / samples.effective_size, 0.002, 0.5))
    inner = np.linspace(ndtri(outer), -ndtri(outer), 1 + round(-4 * float(ndtri(outer))))
    edges = np.concatenate([[-np.inf], np.unique(inner), [np.inf]])
    share = np.diff(ndtr(edges))
    z = -np.diff(stats.norm.pdf(edges)) / share
    order = np.argsort(y)
    weight = np.concatenate([[0.0], np.cumsum(samples.weights[order])])
    total = np.concatenate([[0.0], np.cumsum(samples.weights[order] * y[order])])
    means = np.diff(np.interp(ndtr(edges), weight / weight[-1], total)) / share
    if not np.all(np.diff(means) > 1e-12 * np.max(np.abs(means))):
        raise ValueError(
            f"samples: must vary, got {len(np.unique(x))} different value(s) of {name}. A known "
            "parameter belongs in the model as a constant."
        )
    return SmoothQuantiles([z, means], (interval.lower, interval.upper))()


def read_samples(samples: Any, weights: Any, names: Sequence[str] | None) -> Samples:
    """Samples from an array, from a mapping of columns, or from the last ensemble of a run.

    Raises
    ------
    TypeError, ValueError
        If shapes or names disagree, weights are negative, or there are too few samples.
    """
    if hasattr(samples, "keys") and not isinstance(
        samples, type
    ):  # anything that `dict` accepts: a dict, a DataFrame, a Dataset
        if names is not None:
            raise ValueError("names: must not be given for samples that have names. Leave it out.")
        names, samples, own = _columns(samples)
        weights = own if weights is None else weights
    x = as_real("samples", samples, ndim=(2,), remedy="One row is one sample.").astype(np.float64)
    n, p = x.shape
    if p == 0:
        raise ValueError(f"samples: must have one or more columns, got shape {x.shape}.")
    if names is None:
        names = [f"u{i}" for i in range(p)]
    known, size = named("names", names)
    if known is None or size != p:
        raise ValueError(f"names: must be names of {p} parameters, got {names!r}.")
    w = np.ones(n) if weights is None else as_vector("weights", weights).astype(np.float64)
    if len(w) != n or np.any(w < 0) or not w.sum() > 0:
        raise ValueError(
            f"weights: must be {n} numbers of at least 0, one for each sample and not all 0, got "
            f"{len(w)} with the smallest {w.min():.3g}."
        )
    found = Samples(known, x, w / w.sum())
    least = max(20, 2 * p)
    if found.effective_size < least * (1 - 1e-9):
        raise ValueError(
            f"samples: must have an effective size of at least max(20, 2 p) = {least}, got "
            f"{found.effective_size:.3g} ({n} samples of {p} parameters). Draw more samples, or "
            "use ek.GaussianPrior(mean, cov)."
        )
    return found


def _columns(samples: Any) -> tuple[list[str], np.ndarray, Any]:
    """Names, values ``(n, p)`` and weights of a mapping."""
    columns = {str(name): np.asarray(samples[name]) for name in samples.keys()}  # noqa: SIM118
    if "u" in columns and columns["u"].ndim == 3:  # a result of `ekitools.run`
        last = columns["u"][-1]
        present = ~np.isnan(last).any(axis=1)  # a failed member is NaN
        weight = columns["weight"][-1][present] if "weight" in columns else None
        return [str(name) for name in np.asarray(samples["parameter"])], last[present], weight
    weight = columns.pop("weight").ravel() if "weight" in columns else None
    sizes = {name: column.size for name, column in columns.items()}
    if not columns or len(set(sizes.values())) > 1:
        raise ValueError(f"samples: must have columns of the same size, got {sizes}.")
    return list(columns), np.stack([column.ravel() for column in columns.values()], axis=1), weight


def intervals(bounds: Any, names: tuple[str, ...]) -> list[Interval]:
    """An interval for each parameter, from bounds by name or from the bounds of a prior."""
    if bounds is None:
        return [Interval()] * len(names)
    if isinstance(bounds, Prior):
        if bounds.n_parameters != len(names) or bounds.names not in (None, names):
            raise ValueError(
                f"bounds: must be a prior of the parameters {names}, got {bounds!r} of "
                f"{bounds.names}. Or give a mapping of names to (lower, upper)."
            )
        if not isinstance(bounds, HasSupport):
            return [Interval()] * len(names)
        return [Interval(*bounds.support(i)) for i in range(len(names))]
    if not isinstance(bounds, Mapping):
        raise TypeError(
            "bounds: must be a mapping of names to (lower, upper) or a prior with bounds, got "
            f"{type(bounds).__name__}."
        )
    unknown = [name for name in bounds if name not in names]
    if unknown:
        raise ValueError(f"bounds: names must be among {names}, got {unknown[0]!r}.")
    return [_interval(name, bounds.get(name, (-np.inf, np.inf))) for name in names]


def _interval(name: str, pair: Any) -> Interval:
    argument, rule = f"bounds[{name!r}]", "must be (lower, upper), increasing"
    ends = sequence(argument, pair, "(lower, upper)")
    if len(ends) != 2:
        raise ValueError(f"{argument}: {rule}, got {pair!r:.60}.")
    lower, upper = (number(argument, end, infinite=True) for end in ends)
    if not lower < upper:
        raise ValueError(f"{argument}: {rule}, got {pair!r:.60}.")
    return Interval(lower, upper)
