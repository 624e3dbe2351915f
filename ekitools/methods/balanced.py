"""A first ensemble with the moments of the prior, without sampling error."""

from __future__ import annotations

from ekitools.core.arrays import as_rng
from ekitools.core.checks import check_prior, integer
from ekitools.linalg.quadrature import exact_draws
from ekitools.typing import Array, Prior, Rng

__all__ = ["balanced_ensemble"]


def balanced_ensemble(prior: Prior, n_members: int, *, rng: Rng = None) -> Array:
    r"""Draws of a prior whose mean and covariance are exactly those of the prior.

    Independent draws have a sample mean and covariance that are off by sampling error, and an
    ensemble Kalman method takes them for those of the prior. In coordinates in which the prior is
    N(0, I), the draws z_j are centred, and with the thin SVD Z = P s Vᵀ of the rest replaced by
    √(J − 1) P Vᵀ. That is second-order exact sampling [1]_. From such an ensemble `ETKI` is exact
    for a linear model.

    With J ≤ p members the covariance cannot be exact. The draws are then centred, no more.

    Parameters
    ----------
    prior : Prior
        Any prior of ekitools. Where it is not Gaussian, the moments are exact in the coordinates in
        which it is.
    n_members : int
        Ensemble size J, at least 2.
    rng : None, int or numpy.random.Generator
        Source of the draws.

    Returns
    -------
    (J, p)
        Members in physical coordinates, for ``ensemble=`` of `run`.

    Raises
    ------
    TypeError, ValueError
        If ``prior`` is no prior, or ``n_members`` is not an integer of at least 2.

    See Also
    --------
    ETKI : Adds no sampling error of its own.
    UKI : Places its own members.

    Notes
    -----
    The gain is largest where the sampling error of the first ensemble is all that there is: with
    `ETKI`, few members and a model near linear. The members are not independent: do not take them
    for a sample from which the prior is to be estimated.

    References
    ----------
    .. [1] Pham (2001), Monthly Weather Review 129, 1194-1207.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> example = ek.problems.linear(p=3, d=6)
    >>> problem = example.problem
    >>> start = ek.balanced_ensemble(problem.prior, 10, rng=0)
    >>> result = ek.run(problem, ek.ETKI(), ensemble=start)
    >>> bool(np.allclose(result.u[-1].mean("member"), example.extra["mean"]))
    True
    """
    check_prior(prior)
    n_members = integer("n_members", n_members, least=2)
    white = exact_draws(n_members, prior.n_parameters, as_rng(rng))
    return prior.to_physical(prior.unwhiten(white))
