"""Lynx and hare: the Lotka–Volterra model and the pelts of 1900-1920."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from scipy import stats

from ekitools.models import FunctionModel
from ekitools.priors import Prior
from ekitools.problem import InverseProblem
from ekitools.problems import Example

__all__ = ["LotkaVolterra", "lynx_hare"]


@dataclass(frozen=True)
class LotkaVolterra:
    """Logarithms of hare and lynx, year by year, for all members at once.

    hare′ = (α − β lynx) hare, lynx′ = (−γ + δ hare) lynx, integrated in logarithms, so that
    populations stay positive, by the classical Runge–Kutta scheme with a fixed step.

    Parameters
    ----------
    n_years : int
        Years after the first.
    steps_per_year : int, default 80
        Its error is below 1e-6 for 95 % of the prior of `lynx_hare`.
    """

    n_years: int = 20
    steps_per_year: int = 80

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """``(J, 6)`` (α, β, γ, δ, hare₀, lynx₀) to ``(J, 2 (n_years + 1))``."""
        alpha, beta, gamma, delta = u[:, :4].T
        x = np.log(u[:, 4:6]).T
        out = np.empty((self.n_years + 1, 2, u.shape[0]))
        out[0] = x
        h = 1 / self.steps_per_year

        def slope(x: np.ndarray) -> np.ndarray:
            hare, lynx = np.exp(x)
            return np.stack([alpha - beta * lynx, delta * hare - gamma])

        with np.errstate(over="ignore", invalid="ignore"):  # such a member has failed
            for year in range(1, self.n_years + 1):
                for _ in range(self.steps_per_year):
                    k1 = slope(x)
                    k2 = slope(x + 0.5 * h * k1)
                    k3 = slope(x + 0.5 * h * k2)
                    k4 = slope(x + h * k3)
                    x = x + h / 6 * (k1 + 2 * (k2 + k3) + k4)
                out[year] = x
        return out.transpose(2, 0, 1).reshape(u.shape[0], -1)


def lynx_hare(*, sigma: float = 0.25) -> Example:
    """Calibrate the Lotka–Volterra model to 21 years of lynx and hare.

    The data are the pelts (in thousands) that the Hudson's Bay Company took in, 1900-1920,
    as in posteriordb's ``hudson_lynx_hare``, in logarithms. Priors: α, γ ~ N(1, 0.5) and
    β, δ ~ N(0.05, 0.05), all positive; initial values LogNormal(log 10, 1).

    Parameters
    ----------
    sigma : float, default 0.25
        Standard deviation of the observation error of the log data.

    Returns
    -------
    Example
        ``reference`` is the posterior with σ unknown (posteriordb's model);
        ``extra["fixed_sigma"]`` the one for σ = 0.25, computed by
        ``benchmarks/lynx_hare_reference.py``.

    Examples
    --------
    >>> import ekitools as ek
    >>> example = ek.problems.lynx_hare()
    >>> example.problem.parameter_names
    ('alpha', 'beta', 'gamma', 'delta', 'hare0', 'lynx0')
    """
    folder = files("ekitools.problems") / "data"
    with (folder / "lynx-hare.csv").open() as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1)
    references = json.loads((folder / "lynx-hare-reference.json").read_text())
    years = table[:, 0].astype(int)
    prior = Prior(
        {
            "alpha": _positive_normal(1.0, 0.5),
            "beta": _positive_normal(0.05, 0.05),
            "gamma": _positive_normal(1.0, 0.5),
            "delta": _positive_normal(0.05, 0.05),
            "hare0": stats.lognorm(1.0, scale=10.0),
            "lynx0": stats.lognorm(1.0, scale=10.0),
        }
    )
    problem = InverseProblem(
        FunctionModel(LotkaVolterra(n_years=len(years) - 1), vectorized=True),
        prior,
        sigma**2,
        np.log(table[:, 1:]).ravel(),
        data_names=[f"{kind} {year}" for year in years for kind in ("hare", "lynx")],
    )
    known = {
        key: {name: (mean, sd) for name, (mean, sd) in references[key]["posterior"].items()}
        for key in ("unknown_sigma", "fixed_sigma")
    }
    return Example(
        problem,
        reference={name: known["unknown_sigma"][name] for name in problem.prior.names or ()},
        truth=None,
        x=np.repeat(years, 2).astype(float),
        groups=np.tile(["hare", "lynx"], len(years)),
        extra={"fixed_sigma": known["fixed_sigma"]},
    )


def _positive_normal(mean: float, sd: float) -> object:
    return stats.truncnorm(-mean / sd, np.inf, loc=mean, scale=sd)
