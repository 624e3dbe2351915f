"""Contract checks for user-defined forward models: `check_model`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from ekitools.core.arrays import as_real, host
from ekitools.core.checks import check_prior
from ekitools.core.model_info import info_of
from ekitools.testing.promises import (
    broken,
    calling,
    check_object,
    difference,
    run_checks,
    seed_of,
)
from ekitools.typing import LinearOperatorModel, ModelInfo, Rng

__all__ = ["CHECKS", "check_model"]

_MEMBERS = 6
_ALONE = "Compute each row from that row alone."


@dataclass(frozen=True)
class _Trial:
    model: Any
    u: np.ndarray
    """Two ensembles along the first axis, ``(2, J, p)``."""
    inputs: Any
    seed: int

    @cached_property
    def info(self) -> ModelInfo:  # flags and shape are checked first
        return info_of(self.model)

    @property
    def vectorized(self) -> bool:
        return bool(self.info.vectorized)

    @cached_property
    def good(self) -> np.ndarray:
        """Members of the first ensemble for which the model does not fail."""
        if self.vectorized:
            finite = np.isfinite(self.numbers(self.call(self.u[0]))).all(axis=1)
            return np.flatnonzero(finite)
        return np.array([j for j, u in enumerate(self.u[0]) if self._works(u)], dtype=int)

    def raw(self, u: np.ndarray, seed: int = 0) -> Any:
        """Call the model once, with read-only arrays."""
        given = u.copy()
        given.flags.writeable = False
        options: dict[str, Any] = {}
        if self.info.stochastic:
            options["rng"] = np.random.default_rng([self.seed, seed])
        if self.info.takes_inputs:
            options["inputs"] = self.inputs
        try:
            return self.model(given, **options)
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise broken(
                "__call__",
                "must not change its argument (this check passes read-only arrays)",
                f"ValueError ({error})",
                "Begin with u = u.copy() if the model changes u.",
            ) from error

    def call(self, u: np.ndarray, seed: int = 0) -> Any:
        flags = {"rng=": self.info.stochastic, "inputs=": self.info.takes_inputs}
        keywords = [name for name, there in flags.items() if there]
        what = "an ensemble (J, p)" if self.vectorized else "one member (p,)"
        rule = " and ".join([f"must accept {what}", *keywords])
        with calling("__call__", rule, "Check the arguments and the declared flags."):
            return self.raw(u, seed)

    def numbers(self, value: Any) -> np.ndarray:
        rule = "must return an array of real numbers"
        with calling("__call__", rule, "Convert the outputs with numpy.asarray."):
            array = host(value) if hasattr(value, "shape") else np.asarray(value)
        if array.dtype.kind not in "fiub":
            got = f"dtype {array.dtype}"
            raise broken("__call__", rule, got, "Convert the outputs with numpy.asarray.")
        return array

    def _works(self, u: np.ndarray) -> bool:
        try:
            return bool(np.all(np.isfinite(self.numbers(self.raw(u)))))
        except AssertionError:
            raise
        except Exception:
            return False


def _check_members(trial: _Trial) -> None:
    model, p = trial.model, trial.u.shape[-1]
    for name in ("vectorized", "stochastic", "takes_inputs"):
        value = getattr(model, name, False)
        if not isinstance(value, bool):
            raise broken(name, "must be True or False", repr(value), "Declare a bool.")
    info = trial.info
    if trial.vectorized and info.stochastic:
        rule = "must be False with vectorized = True, because each member needs its own Generator"
        raise broken("stochastic", rule, "True", "Declare vectorized = False.")
    if info.shape is not None and info.shape[1] != p:
        rule = f"must be (d, p) with p = {p} as in the ensemble"
        raise broken("shape", rule, str(info.shape), "Declare the shape of the model.")
    if info.n_parameters not in (None, p):
        rule = f"must be p = {p} as in the ensemble"
        raise broken("n_parameters", rule, str(info.n_parameters), "Declare p.")
    sizes = {"parameter_names": p, "parameter_units": p}
    if info.shape is not None:
        sizes |= {"data_names": info.shape[0], "data_units": info.shape[0]}
    for name, size in sizes.items():
        given = getattr(info, name)
        if given is not None and len(given) != size:
            rule = f"must have {size} entries"
            raise broken(name, rule, str(len(given)), "Declare one text for each number.")


def _check_outputs(trial: _Trial) -> None:
    first = trial.u[0]
    if trial.vectorized:
        g = trial.numbers(trial.call(first))
        d = trial.info.shape[0] if trial.info.shape else (g.shape[1] if g.ndim == 2 else None)
        rule = f"must return (J, d) = ({len(first)}, {d or 'd'}) numbers for {len(first)} members"
        if g.ndim != 2 or g.shape != (len(first), d):
            remedy = "Return one row for each member, or declare vectorized = False."
            raise broken("__call__", rule, f"the shape {g.shape}", remedy)
    if len(trial.good) < 2:
        trial.call(first if trial.vectorized else first[0])  # an exception shows the reason
        rule = "must return finite numbers for at least two of the given members"
        got = f"finite outputs for {len(trial.good)} of {len(first)}"
        raise broken("__call__", rule, got, "Check the model at one draw of the prior.")
    if trial.vectorized:
        return
    shapes = {trial.numbers(trial.call(first[j])).shape for j in trial.good}
    d = trial.info.shape[0] if trial.info.shape else None
    fits = len(shapes) == 1 and all(len(s) == 1 and d in (None, s[0]) for s in shapes)
    if not fits and not (shapes == {()} and d in (None, 1)):
        rule = f"must return ({d or 'd'},) numbers for one member, the same d for all"
        got = f"the shapes {', '.join(map(str, sorted(shapes)))}"
        remedy = "Return a vector, or declare vectorized = True for a model of an ensemble."
        raise broken("__call__", rule, got, remedy)


def _check_repeatable(trial: _Trial) -> None:
    for u in _arguments(trial, 0)[:3]:
        first = trial.numbers(trial.call(u)).copy()
        again = trial.numbers(trial.call(u))
        if phrase := difference(again, first, "outputs"):
            rule = "must return the same outputs for the same argument"
            remedy = "Declare stochastic = True and draw from rng=, or fix the seed."
            if trial.info.stochastic:
                rule = "must return the same outputs for the same argument and rng"
                remedy = "Draw everything from rng."
            raise broken("__call__", rule, phrase, remedy)


def _check_memory(trial: _Trial) -> None:
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for k in range(2):
        for u in _arguments(trial, k)[:3]:
            try:
                outputs = trial.numbers(trial.raw(u, seed=k))
            except Exception:  # a member may fail
                continue
            kept.append((outputs, outputs.copy()))
    for outputs, before in kept:
        if phrase := difference(outputs, before, "outputs"):
            rule = "must return a new array, which the next call does not overwrite"
            raise broken("__call__", rule, phrase, "Return outputs.copy().")


def _check_rows(trial: _Trial) -> None:
    if not trial.vectorized:
        return
    u = trial.u[0]
    g = trial.numbers(trial.call(u)).copy()
    rtol = 1e-3 if g.dtype.itemsize < 8 else 1e-6
    J = len(u)
    orders = {
        "in another order": np.random.default_rng(trial.seed).permutation(J),
        "with fewer members": np.arange(J - 2),
        "with repeated members": np.append(np.arange(J), [1, 1]),
    }
    for how, order in orders.items():
        found = trial.numbers(trial.call(u[order]))
        if found.shape != (len(order), g.shape[1]):
            got = f"the shape {found.shape} for {len(order)} members"
            raise broken("__call__", "must return one row for each member", got, _ALONE)
        if phrase := difference(found, g[order], "outputs", rtol=rtol):
            rule = f"must return the same row for the same member, also {how}"
            raise broken("__call__", rule, phrase, _ALONE)


def _check_adjoint(trial: _Trial) -> None:
    if not isinstance(trial.model, LinearOperatorModel):
        return
    u = trial.u[0]
    g = trial.numbers(trial.call(u))
    r = np.random.default_rng(trial.seed).standard_normal(g.shape)
    rule = "must map (J, d) to (J, p) by the transpose of the model"
    with calling("adjoint", rule, "Multiply by the transpose of the matrix."):
        back = host(trial.model.adjoint(r))
        sides = np.sum(g * r, axis=1), np.sum(u * back, axis=1)
    if phrase := difference(sides[1], sides[0], "products", rtol=1e-6):
        raise broken("adjoint", rule, phrase, "Multiply by the transpose of the matrix.")


def _arguments(trial: _Trial, k: int) -> Sequence[np.ndarray]:
    """Arguments of the model for the k-th ensemble: the whole ensemble, or each member."""
    if trial.vectorized:
        return [trial.u[k]]
    return list(trial.u[k][trial.good]) if k == 0 else list(trial.u[k])


CHECKS: Mapping[str, Callable[[_Trial], None]] = MappingProxyType(
    {
        "members": _check_members,
        "outputs": _check_outputs,
        "repeatable": _check_repeatable,
        "memory": _check_memory,
        "rows": _check_rows,
        "adjoint": _check_adjoint,
    }
)


def check_model(
    model: Any,
    prior: Any = None,
    *,
    u: Any = None,
    inputs: Any = None,
    rng: Rng = 0,
    exclude: str | Sequence[str] = (),
) -> None:
    """Check that a model keeps every promise of `ekitools.typing.ForwardModel`.

    Parameters
    ----------
    model : ForwardModel
        An object of your class, or a plain function of one member.
    prior : Prior, optional
        The model runs at draws of this prior. Without ``prior`` and ``u``, the model must declare
        its ``shape`` or ``n_parameters``, and runs at standard normal numbers.
    u : (J, p) array, optional
        At least four members in physical coordinates, in place of draws of the prior.
    inputs : (m, ...) array, optional
        Inputs of m samples, for a model that declares ``takes_inputs``.
    rng : None, int or numpy.random.Generator, default 0
        Source of all randomness.
    exclude : str or sequence of str, default ()
        Names of checks to omit (see Notes).

    Raises
    ------
    AssertionError
        If a promise is broken or a member of the contract is missing. The message contains the
        name of the member, the rule, the finding and the remedy.
    TypeError, ValueError
        If another argument is invalid.

    See Also
    --------
    ekitools.typing.ForwardModel : The contract.
    ekitools.typing.ModelInfo : Optional declarations of a model.

    Notes
    -----
    A model of single members runs about twenty times, and a vectorized model eight times. A model
    may fail for some members. The checks run in this order:

    ``members``
        The declared flags are bools, and the declared sizes and names fit the ensemble.
    ``outputs``
        Outputs are real numbers, ``(d,)`` for one member or ``(J, d)`` for an ensemble. The
        argument is not changed.
    ``repeatable``
        The same argument gives the same outputs. A stochastic model also needs the same ``rng``.
    ``memory``
        The next call does not overwrite the outputs of a call.
    ``rows``
        The rows of a vectorized model depend neither on each other nor on their order.
    ``adjoint``
        ``adjoint``, if declared, is the transpose.

    A process pool also needs a model that can be pickled. This is not checked, because other
    executors and runs without an executor do not pickle the model.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> from ekitools.testing import check_model
    >>> check_model(ek.LinearModel([[1.0, 2.0]]))
    >>> buffer = np.zeros(2)
    >>> def model(u):
    ...     buffer[:] = np.exp(u)
    ...     return buffer
    >>> try:
    ...     check_model(model, ek.GaussianPrior([0.0, 0.0], 1.0))
    ... except AssertionError as error:
    ...     print(error)
    __call__: must return a new array, ... Return outputs.copy().
    """
    check_object("model", model)
    if not callable(model):
        raise broken("__call__", "a model must have it", type(model).__name__, "Define __call__.")
    if prior is not None:
        check_prior(prior)
    p, seed = _declared_size(model), seed_of(rng)
    trial = _Trial(model, _ensembles(p, prior, u, seed), inputs, seed)
    if inputs is None and getattr(model, "takes_inputs", False) is True:
        raise ValueError("inputs: must be given for a model with takes_inputs. Pass inputs=.")
    run_checks(CHECKS, exclude, trial)


def _declared_size(model: Any) -> int | None:
    """The declared number of parameters p of a model."""
    shape, p = getattr(model, "shape", None), getattr(model, "n_parameters", None)
    with calling("shape", "must be a pair (d, p) of integers", "Declare both sizes."):
        pair = None if shape is None else tuple(operator.index(n) for n in shape)
        if pair is not None:
            _, p = pair
    with calling("n_parameters", "must be an integer", "Declare the number of parameters."):
        return None if p is None else operator.index(p)


def _ensembles(p: int | None, prior: Any, u: Any, seed: int) -> np.ndarray:
    """Two ensembles of p parameters."""
    if u is not None:
        given = as_real("u", u, ndim=(2,))
        if len(given) < 4 or not given.size:
            raise ValueError(
                f"u: must have at least four members, got {len(given)} in the shape {given.shape}."
            )
        return np.stack([given, given[::-1]])
    if prior is not None:
        draws = host(prior.sample(2 * _MEMBERS, rng=seed))
        return draws.reshape(2, _MEMBERS, -1)
    if p is None:
        raise ValueError(
            "prior: must be given, or u, for a model that declares neither shape nor n_parameters. "
            "Pass check_model(model, prior)."
        )
    return np.random.default_rng(seed).standard_normal((2, _MEMBERS, p))
