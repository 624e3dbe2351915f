"""The strength of localization, chosen from an ensemble and its outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ekitools.core.arrays import as_real, host
from ekitools.core.checks import integer, number
from ekitools.linalg.local_score import PARAMETERS, strength_curve
from ekitools.linalg.whitened import check_independent
from ekitools.losses.gaussian import as_noise
from ekitools.typing import StrengthCurve, Tunable

__all__ = ["choose_strength"]


def choose_strength(
    localization: Any,
    u: Any,
    g: Any,
    data: Any,
    noise: Any = None,
    *,
    step: float = 1.0,
    n_parameters: int = PARAMETERS,
    noise_sd: Any = None,
    target: Any = None,
) -> tuple[Any, StrengthCurve]:
    """The rule with the strength that predicts members left out best, and the curve.

    The members are parted into ten folds. Each fold plays the truth: its outputs with noise are
    data, and the local analysis of the other members predicts its parameters. The score is the mean
    negative log-density of what was left out. The strength with the most data is chosen among those
    within one standard error of the best score. No model is run. ``radius="adaptive"`` does this at
    the first step of a run.

    Parameters
    ----------
    localization : rule
        A `Distance`, a `Correlation`, or a product with one of them.
    u : (J, p)
        Ensemble.
    g : (J, d)
        Outputs G(u).
    data : (d,)
        The datum y.
    noise : noise model or covariance
        Γ, of independent data.
    step : float, default 1
        h: the noise is Γ/h.
    n_parameters : int, default 200
        Parameters at which the members are predicted, chosen by chance with a fixed seed; all
        where there are fewer.
    noise_sd : float or (d,), optional
        Standard deviations of the data, in place of ``noise``.
    target : InverseProblem, optional
        The problem that knows coordinates which the rule does not.

    Returns
    -------
    rule, StrengthCurve
        The rule with the best strength; the strengths that were tried, and their scores.

    Raises
    ------
    TypeError, ValueError
        If the rule has no strength, shapes disagree, there are fewer than 4 members, or the noise
        correlates data.

    See Also
    --------
    Distance, Correlation : Rules with a strength.

    Examples
    --------
    A field with the correlation length 10, seen at every tenth place:

    >>> import numpy as np
    >>> import ekitools as ek
    >>> x = np.arange(300.0)
    >>> root = np.linalg.cholesky(np.exp(-np.abs(x[:, None] - x) / 10))
    >>> u = np.random.default_rng(0).standard_normal((60, 300)) @ root.T
    >>> rule = ek.localization.Distance(x, x[::10])
    >>> rule, curve = ek.localization.choose_strength(rule, u, u[:, ::10], np.zeros(30), 0.1)
    >>> 5 < rule.radius < 30, rule.radius == curve.chosen
    (True, True)
    """
    if not isinstance(localization, Tunable):
        raise TypeError(
            f"localization: must have a strength, got {localization!r}. Use a Distance or a "
            "Correlation."
        )
    u, g = as_real("u", host(u), ndim=(2,)), as_real("g", host(g), ndim=(2,))
    data = as_real("data", data, ndim=(1,))
    h = number("step", step, above=0)
    n_parameters = integer("n_parameters", n_parameters)
    if len(u) != len(g) or g.shape[1] != len(data):
        raise ValueError(
            f"u, g, data: must be (J, p), (J, d) and (d,), got shapes {u.shape}, {g.shape} and "
            f"{data.shape}."
        )
    if len(u) < 4:
        raise ValueError(f"u: must have 4 members or more to leave some out, got {len(u)}.")
    noise = as_noise(noise, noise_sd)
    check_independent(noise, "a strength that is chosen by leaving members out")
    r = noise.whiten(g.astype(np.float64) - data)
    curve = strength_curve(localization, u, r, h, target, n_parameters)
    return localization.with_strength(curve.chosen), curve
