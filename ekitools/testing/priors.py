"""Check of a prior of your own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from ekitools.core.arrays import host
from ekitools.testing.promises import (
    broken,
    calling,
    check_fingerprint,
    check_object,
    difference,
    exactly,
    far,
    missing,
    run_checks,
    seed_of,
    unchanged,
)
from ekitools.typing import Array, Rng

__all__ = ["CHECKS", "check_prior"]

_DRAWS = 20_000
_MOST_NUMBERS = 2_000_000
"""Numbers in the draws that are made at a time: fewer draws of many parameters."""
_MOST_JACOBIAN = 60
"""Parameters up to which the density is compared with a Jacobian."""
_MAPS = ("to_physical", "to_unconstrained", "whiten", "unwhiten")
_MEMBERS = {
    "n_parameters": "the number of parameters p",
    "names": "a text for each parameter, or None",
    "sample": "sample(n, *, rng), which returns draws in physical coordinates",
    "sample_unconstrained": "sample_unconstrained(n, *, rng), the same in unconstrained ones",
    "logpdf": "logpdf(u), the log-density at physical points",
    "to_physical": "to_physical(z), which maps unconstrained coordinates to physical ones",
    "to_unconstrained": "to_unconstrained(u), the inverse of to_physical",
    "whiten": "whiten(z), after which the prior is N(0, I)",
    "unwhiten": "unwhiten(w), the inverse of whiten",
    "fingerprint": "fingerprint(), a text that changes whenever the distribution does",
}


@dataclass(frozen=True)
class _Trial:
    prior: Any
    seed: int

    @property
    def p(self) -> int:
        return int(self.prior.n_parameters)

    @property
    def n_draws(self) -> int:
        return int(np.clip(_MOST_NUMBERS // self.p, 100, _DRAWS))

    @cached_property
    def z(self) -> np.ndarray:
        """Some draws, unconstrained."""
        return self.draws("sample_unconstrained", 50, self.seed)

    @cached_property
    def u(self) -> np.ndarray:
        """The same, physical."""
        return self.map("to_physical", self.z)

    def draws(self, name: str, n: int, rng: Rng) -> np.ndarray:
        shape = (n, self.p)
        with calling(name, f"must return {shape} draws from n = {n} and rng="):
            found = host(getattr(self.prior, name)(n, rng=rng))
        if found.shape != shape or found.dtype.kind != "f":
            got = f"{found.shape} of dtype {found.dtype}"
            raise broken(name, f"must return {shape} floats for n = {n}", got, "Return a matrix.")
        if not np.all(np.isfinite(found)):
            raise broken(name, "must return finite draws", "NaN or infinite ones", "Clip them.")
        return found

    def map(self, name: str, points: Array) -> Array:
        given = np.array(points)
        with calling(name, "must map an ensemble (J, p) to another one"):
            found = getattr(self.prior, name)(given)
        rule = "must not change its argument in place"
        exactly(given, points, name, rule, "Return a new array.", "ensemble")
        if tuple(found.shape) != tuple(points.shape):
            got, rule = str(tuple(found.shape)), f"must return the shape {tuple(points.shape)}"
            raise broken(name, rule, got, "Map each row by itself.")
        return found


def _check_members(trial: _Trial) -> None:
    prior = trial.prior
    missing(prior, _MEMBERS, "a prior")
    p = prior.n_parameters
    if isinstance(p, bool) or not isinstance(p, int | np.integer) or p < 1:
        raise broken("n_parameters", "must be a positive integer", repr(p), "Return p.")
    names = prior.names
    if names is not None:
        texts = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
        if not texts or len(set(names)) != p or len(names) != p:
            rule = f"must be None or a tuple of {p} different texts, one for each parameter"
            raise broken("names", rule, f"{names!r:.80}", "Give every parameter one name.")


def _check_draws(trial: _Trial) -> None:
    for name in ("sample_unconstrained", "sample"):
        first = trial.draws(name, 5, trial.seed)
        remedy = "Draw everything from numpy.random.default_rng(rng)."
        rule = "must return the same draws for the same rng"
        exactly(trial.draws(name, 5, trial.seed), first, name, rule, remedy, "draws")
        generator = np.random.default_rng(trial.seed)
        rule = "must take an integer or a Generator with the same draws"
        exactly(trial.draws(name, 5, generator), first, name, rule, remedy, "draws")
        if np.array_equal(trial.draws(name, 5, trial.seed + 1), first):
            raise broken(name, "must return other draws for another rng", "the same", remedy)


def _check_bijection(trial: _Trial) -> None:
    z, u = trial.z, trial.u
    white = trial.map("whiten", z)
    pairs = [
        ("to_unconstrained", u, z, "to_physical"),
        ("to_physical", z, u, "to_unconstrained"),
        ("unwhiten", white, z, "whiten"),
        ("whiten", z, white, "unwhiten"),
    ]
    for name, start, end, inverse in pairs:
        if phrase := difference(trial.map(name, start), end, "point", rtol=1e-7):
            remedy = "Derive one from the formula of the other."
            raise broken(name, f"must be the inverse of {inverse}", phrase, remedy)


def _check_normal(trial: _Trial) -> None:
    n, most = trial.n_draws, min(trial.p, 30)
    draws = {
        "whiten": trial.draws("sample_unconstrained", n, trial.seed + 2),
        "sample": trial.map("to_unconstrained", trial.draws("sample", n, trial.seed + 3)),
    }
    for name, z in draws.items():
        white = host(trial.map("whiten", z)).astype(np.float64)
        rule = "draws must be N(0, I) in whitened coordinates (whiten(to_unconstrained(u)))"
        if name == "whiten":
            rule = "must carry draws of sample_unconstrained to N(0, I)"
        remedy = "Let sampling and whitening have the same mean and covariance."
        if score := far(white.mean(axis=0) * math.sqrt(n)):
            got = f"a mean that is {score:.1f} standard errors from 0"
            raise broken(name, rule, got, remedy)
        covariance = np.atleast_2d(np.cov(white[:, :most].T))
        errors = np.sqrt((1 + np.eye(most)) / n)
        if score := far((covariance - np.eye(most)) / errors):
            got = f"a covariance that is {score:.1f} standard errors from I"
            raise broken(name, rule, got, remedy)
        if score := far((white.var(axis=0, ddof=1) - 1) / math.sqrt(2 / n)):
            got = f"a variance that is {score:.1f} standard errors from 1"
            raise broken(name, rule, got, remedy)


def _check_density(trial: _Trial) -> None:
    u = trial.u[:6]
    with calling("logpdf", "must return the log-density of (n, p) points and of one point (p,)"):
        given = u.copy()
        with unchanged("logpdf", "Return a new array.", u=given):
            several = np.asarray(trial.prior.logpdf(given), dtype=np.float64)
        one = np.asarray(trial.prior.logpdf(u[0]), dtype=np.float64)
    if several.shape != (len(u),) or one.shape != ():
        got = f"the shapes {several.shape} and {one.shape}"
        remedy = "Sum over the last axis."
        raise broken("logpdf", "must return one number for each point", got, remedy)
    if phrase := difference(float(one), float(several[0]), "density", rtol=1e-9):
        remedy = "Sum over the last axis."
        raise broken("logpdf", "must not depend on how many points are given", phrase, remedy)
    if trial.p <= _MOST_JACOBIAN:
        _check_change_of_variables(trial)


def _check_change_of_variables(trial: _Trial) -> None:
    """Compare log p(u) with log N(w; 0, I) − log |det ∂u/∂w| for the whitened coordinates w."""
    p, h = trial.p, 1e-3
    center = np.random.default_rng(trial.seed + 4).uniform(-1.2, 1.2, (4, p))
    for w in center:
        steps = np.concatenate([w + h * np.eye(p), w - h * np.eye(p), w[None]])
        u = host(trial.map("to_physical", trial.map("unwhiten", steps))).astype(np.float64)
        jacobian = (u[:p] - u[p : 2 * p]) / (2 * h)
        log_volume = float(np.linalg.slogdet(jacobian)[1])
        expected = -0.5 * float(w @ w) - 0.5 * p * math.log(2 * math.pi) - log_volume
        found = float(np.asarray(trial.prior.logpdf(u[-1])))
        if not abs(found - expected) < 1e-3 * (1 + p):
            raise broken(
                "logpdf",
                "must be the log-density of the draws, with its constant and the Jacobian of the "
                f"coordinates: {expected:.6g} at {np.array2string(u[-1], precision=4):.80}",
                f"{found:.6g}",
                "Add -log |det du/dz| for physical coordinates, and the constant of the density.",
            )


def _check_nan_rows(trial: _Trial) -> None:
    for name, points in (("to_physical", trial.z), ("to_unconstrained", trial.u)):
        some = np.array(points[:3])
        expected = np.array(trial.map(name, some))
        some[1], expected[1] = np.nan, np.nan
        found = trial.map(name, some)
        if phrase := difference(found, expected, "row", rtol=1e-9):
            rule = "must map a row of NaN, a failed member, to one, and other rows as before"
            raise broken(name, rule, phrase, "Map each row by itself, without a replaced value.")


def _check_float32(trial: _Trial) -> None:
    starts = {"to_unconstrained": trial.u, "unwhiten": trial.map("whiten", trial.z)}
    for name in _MAPS:
        found = trial.map(name, np.asarray(starts.get(name, trial.z), dtype=np.float32))
        if found.dtype != np.float32:
            remedy = "Convert the result to the dtype of the argument."
            raise broken(name, "must keep the dtype float32", str(found.dtype), remedy)


def _check_fingerprint(trial: _Trial) -> None:
    check_fingerprint(trial.prior)


CHECKS: Mapping[str, Callable[[_Trial], None]] = MappingProxyType(
    {
        "members": _check_members,
        "draws": _check_draws,
        "bijection": _check_bijection,
        "normal": _check_normal,
        "density": _check_density,
        "nan": _check_nan_rows,
        "float32": _check_float32,
        "fingerprint": _check_fingerprint,
    }
)


def check_prior(prior: Any, *, rng: Rng = 0, exclude: str | Sequence[str] = ()) -> None:
    """Check that a prior keeps every promise of `ekitools.typing.Prior`.

    Statistical checks allow four standard errors, and a little more for the largest of many
    numbers. With the default ``rng`` the answer is always the same.

    Parameters
    ----------
    prior : Prior
        An object of your class.
    rng : None, int or numpy.random.Generator, default 0
        Source of all randomness.
    exclude : str or sequence of str, default ()
        Names of checks that are left out (see the notes).

    Raises
    ------
    AssertionError
        If a promise is broken or a member of the contract is missing: the message names the
        member, what was expected, what was found, and what to do.
    TypeError, ValueError
        If another argument is out of order.

    See Also
    --------
    ekitools.typing.Prior : The contract.

    Notes
    -----
    The checks, in the order in which they are made:

    ``members``
        All members of the contract exist; there is a name for each parameter, or none.
    ``draws``
        Draws are finite, and reproducible by ``rng``.
    ``bijection``
        ``to_physical`` and ``to_unconstrained`` are inverses of each other, as are ``whiten``
        and ``unwhiten``. None of them changes its argument.
    ``normal``
        Whitened draws are N(0, I).
    ``density``
        ``logpdf`` is the density of the draws. It is compared with the normal density in
        whitened coordinates and the Jacobian of the coordinates, for up to 60 parameters.
    ``nan``
        A row of NaN stays a row of NaN, and leaves other rows as they are.
    ``float32``
        Maps of a float32 ensemble return float32.
    ``fingerprint``
        The fingerprint is a text, and the same after pickle.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.testing import check_prior
    >>> check_prior(ek.GaussianPrior([0.0, 1.0], [1.0, 4.0]))
    >>> class Scaled(ek.GaussianPrior):
    ...     def to_physical(self, z):
    ...         return 2 * z
    >>> try:
    ...     check_prior(Scaled([0.0, 1.0], [1.0, 4.0]))
    ... except AssertionError as error:
    ...     print(error)
    to_unconstrained: must be the inverse of to_physical, got ...
    """
    check_object("prior", prior)
    run_checks(CHECKS, exclude, _Trial(prior, seed_of(rng)))
