"""Lynx and hare: the Lotka–Volterra model and the pelt counts of 1900-1920."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from scipy import stats

from ekitools.core.checks import integer, number, put
from ekitools.models.plain import FunctionModel
from ekitools.priors.marginals import Prior
from ekitools.problem import InverseProblem
from ekitools.problems import Example

__all__ = ["LotkaVolterra", "UnknownScales", "WithLogScales", "lynx_hare"]


SPECIES = ("hare", "lynx")


@dataclass(frozen=True)
class LotkaVolterra:
    """Logarithms of hare and lynx, year by year, for all members at once.

    The equations are hare′ = (α − β lynx) hare and lynx′ = (−γ + δ hare) lynx. The classical
    Runge–Kutta scheme with a fixed step integrates the logarithms, so populations stay positive.

    Parameters
    ----------
    n_years : int
        Number of years after the first year.
    steps_per_year : int, default 80
        Number of steps in a year. The default has an error below 1e-6 for 95 % of the prior of
        `lynx_hare`.
    """

    n_years: int = 20
    steps_per_year: int = 80

    def __post_init__(self) -> None:
        n_years = integer("n_years", self.n_years, least=0)
        put(self, n_years=n_years, steps_per_year=integer("steps_per_year", self.steps_per_year))

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """Logarithms ``(J, 2 (n_years + 1))`` for (α, β, γ, δ, hare₀, lynx₀) ``(J, 6)``."""
        alpha, beta, gamma, delta = u[:, :4].T
        x = np.log(u[:, 4:6]).T
        out = np.empty((self.n_years + 1, 2, u.shape[0]))
        out[0] = x
        h = 1 / self.steps_per_year

        def slope(x: np.ndarray) -> np.ndarray:
            hare, lynx = np.exp(x)
            return np.stack([alpha - beta * lynx, delta * hare - gamma])

        with np.errstate(over="ignore", invalid="ignore"):  # such a member fails
            for year in range(1, self.n_years + 1):
                for _ in range(self.steps_per_year):
                    k1 = slope(x)
                    k2 = slope(x + 0.5 * h * k1)
                    k3 = slope(x + 0.5 * h * k2)
                    k4 = slope(x + h * k3)
                    x = x + h / 6 * (k1 + 2 * (k2 + k3) + k4)
                out[year] = x
        return out.transpose(2, 0, 1).reshape(u.shape[0], -1)


@dataclass(frozen=True)
class WithLogScales:
    """A model of all but the last ``n_scales`` parameters, with their logarithms as outputs.

    Parameters
    ----------
    model : callable
        Map from ``(J, p)`` to ``(J, d)``.
    n_scales : int, default 2
        Number of parameters that are standard deviations of the observation error.
    """

    model: Callable[[np.ndarray], np.ndarray]
    n_scales: int = 2

    def __post_init__(self) -> None:
        put(self, n_scales=integer("n_scales", self.n_scales))

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """Outputs ``(J, d + n_scales)`` for members ``(J, p + n_scales)``."""
        outputs = self.model(u[:, : -self.n_scales])
        return np.concatenate([outputs, np.log(u[:, -self.n_scales :])], axis=1)


@dataclass(frozen=True)
class UnknownScales:
    r"""Loss of Gaussian errors whose standard deviations s_k are further outputs, as logarithms.

    .. math:: \Psi = \sum_i \tfrac12 (z_i - y_i)^2 / s_{k(i)}^2 + \log s_{k(i)}

    Datum i belongs to the scale k(i) = i mod K. The last K outputs are log s, and the data at
    these positions are ignored.

    Parameters
    ----------
    n_scales : int, default 2
        Number of scales K.
    """

    n_scales: int = 2

    def __post_init__(self) -> None:
        put(self, n_scales=integer("n_scales", self.n_scales))

    def misfit(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The loss Ψ along the last axis: ``(..., d + K)`` to ``(...)``."""
        r, log_s = self._parts(z, y)
        return np.asarray(np.sum(0.5 * r * r + log_s, axis=(-2, -1)))

    def gradient(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The gradient ∇_z Ψ, ``(..., d + K)``."""
        r, log_s = self._parts(z, y)
        by_z = (r * np.exp(-log_s)).reshape(*z.shape[:-1], -1)
        return np.concatenate([by_z, np.sum(1 - r * r, axis=-2)], axis=-1)

    def fingerprint(self) -> str:
        """A short text that changes whenever an option does."""
        return repr(self)

    def _parts(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residuals in standard deviations ``(..., d / K, K)``, and log s ``(..., 1, K)``."""
        k = self.n_scales
        log_s = z[..., None, -k:]
        r = (z - y)[..., :-k].reshape(*z.shape[:-1], -1, k)
        return r * np.exp(-log_s), log_s


def lynx_hare(*, sigma: float | None = 0.25) -> Example:
    """Calibrate the Lotka–Volterra model to 21 years of lynx and hare.

    The data are the logarithms of the pelts (in thousands) that the Hudson's Bay Company bought in
    1900-1920, as in the data set ``hudson_lynx_hare`` of posteriordb. The priors are
    α, γ ~ N(1, 0.5) and β, δ ~ N(0.05, 0.05), all positive, and LogNormal(log 10, 1) for the
    initial values.

    Parameters
    ----------
    sigma : float or None, default 0.25
        Standard deviation of the observation error of the log data. With None it is unknown, with
        a LogNormal(−1, 1) prior for each species, as in posteriordb. The problem then has eight
        parameters, two further outputs (the logarithms of the standard deviations, with ignored
        data of 0) and the loss `UnknownScales` in place of Gaussian noise.

    Returns
    -------
    Example
        For every ``sigma``, ``reference`` is the posterior with σ unknown (the model of
        posteriordb). ``extra["fixed_sigma"]`` is the posterior for σ = 0.25, computed by
        ``benchmarks/lynx_hare_reference.py``.

    Raises
    ------
    TypeError, ValueError
        If ``sigma`` is not a number, or not positive.

    See Also
    --------
    ekitools.UnknownNoise : Noise of unknown level for any problem.

    Examples
    --------
    >>> import ekitools as ek
    >>> example = ek.problems.lynx_hare()
    >>> example.problem.parameter_names
    ('alpha', 'beta', 'gamma', 'delta', 'hare0', 'lynx0')
    """
    sigma = None if sigma is None else number("sigma", sigma, above=0)
    folder = files("ekitools.problems") / "data"
    with (folder / "lynx-hare.csv").open() as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1)
    references = json.loads((folder / "lynx-hare-reference.json").read_text())
    years = table[:, 0].astype(int)
    marginals = {
        "alpha": _positive_normal(1.0, 0.5),
        "beta": _positive_normal(0.05, 0.05),
        "gamma": _positive_normal(1.0, 0.5),
        "delta": _positive_normal(0.05, 0.05),
        "hare0": stats.lognorm(1.0, scale=10.0),
        "lynx0": stats.lognorm(1.0, scale=10.0),
    }
    model: Callable[[np.ndarray], np.ndarray] = LotkaVolterra(n_years=len(years) - 1)
    data = np.log(table[:, 1:]).ravel()
    data_names = [f"{kind} {year}" for year in years for kind in SPECIES]
    x, groups = np.repeat(years, 2).astype(float), np.tile(SPECIES, len(years))
    noise: UnknownScales | float
    if sigma is None:
        marginals |= {f"sigma_{kind}": stats.lognorm(1.0, scale=np.exp(-1.0)) for kind in SPECIES}
        model, noise = WithLogScales(model), UnknownScales()
        data, x = np.append(data, [0.0, 0.0]), np.append(x, [np.nan, np.nan])
        data_names += [f"log sigma_{kind}" for kind in SPECIES]
        groups = np.append(groups, ["log sigma"] * 2)
    else:
        noise = sigma**2
    problem = InverseProblem(
        FunctionModel(model, vectorized=True),
        Prior(marginals),
        noise,
        data,
        data_names=data_names,
    )
    known = {
        key: {name: (mean, sd) for name, (mean, sd) in references[key]["posterior"].items()}
        for key in ("unknown_sigma", "fixed_sigma")
    }
    return Example(
        problem,
        reference={name: known["unknown_sigma"][name] for name in problem.prior.names or ()},
        truth=None,
        x=x,
        groups=groups,
        extra={"fixed_sigma": known["fixed_sigma"]},
    )


def _positive_normal(mean: float, sd: float) -> object:
    return stats.truncnorm(-mean / sd, np.inf, loc=mean, scale=sd)
