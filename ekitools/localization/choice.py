"""The strength of localization, chosen from an ensemble and its outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ekitools.core.arrays import check_array, host
from ekitools.core.checks import integer
from ekitools.linalg.kalman import checked_analysis
from ekitools.linalg.local_score import PARAMETERS, check_choice, strength_curve
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
        The data y.
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
    if isinstance(localization, type) or not isinstance(localization, Tunable):
        raise TypeError(
            f"localization: must have a strength, got {localization!r:.60}. Use "
            "ek.localization.Distance or ek.localization.Correlation."
        )
    g, data, noise, h = checked_analysis(g, data, noise, step, None, noise_sd)
    check_array("u", u)
    n_parameters = integer("n_parameters", n_parameters)
    if u.ndim != 2 or u.shape[0] != g.shape[0]:
        raise ValueError(
            f"u: must be (J, p) with the J = {g.shape[0]} rows of g, got shape {tuple(u.shape)}."
        )
    check_choice(noise, int(u.shape[0]), "a strength that is chosen by leaving members out")
    r = noise.whiten(host(g).astype(np.float64) - host(data))
    curve = strength_curve(localization, host(u), r, h, target, n_parameters)
    return localization.with_strength(curve.chosen), curve
