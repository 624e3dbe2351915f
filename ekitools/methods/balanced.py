"""A first ensemble with the moments of the prior, without sampling error."""

from __future__ import annotations

from ekitools.core.arrays import as_rng
from ekitools.core.checks import check_prior, integer
from ekitools.linalg.quadrature import exact_draws
from ekitools.typing import Array, Prior, Rng

__all__ = ["balanced_ensemble"]


def balanced_ensemble(prior: Prior, n_members: int, *, rng: Rng = None) -> Array:
    r"""Draws of a prior whose mean and covariance are exactly those of the prior.

    The sample mean and covariance of independent draws have sampling errors, and an ensemble Kalman
    method uses them as the moments of the prior. Here the draws z_j are made in coordinates in
    which the prior is N(0, I), and centred. With the thin SVD Z = P s Vᵀ of the centred draws, they
    are replaced by √(J − 1) P Vᵀ. This is second-order exact sampling [1]_. From such an ensemble
    `ETKI` is exact for a linear model.

    With J ≤ p members the covariance cannot be exact. The draws are then only centred.

    Parameters
    ----------
    prior : Prior
        Any prior of ekitools. If it is not Gaussian, the moments are exact in the coordinates in
        which it is N(0, I).
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
    ETKI : A method that adds no sampling error.
    UKI : Places its own members.

    Notes
    -----
    The gain is largest if the first ensemble is the only source of sampling error: with `ETKI`, few
    members and a nearly linear model. The members are not independent. Do not estimate the prior
    from them.

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
