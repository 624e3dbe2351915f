"""Digests of distributions: equal digests mean equal class, parameters and state.

A distribution is its class, its parameters and the state of its instance, such as the bins of a
histogram or the bounds given to ``scipy.stats.rv_continuous``. `describe` turns a distribution
into plain values whose text is the same in every process.
"""

from __future__ import annotations

import functools
import pickle
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from ekitools.core.arrays import digest

__all__ = ["describe", "is_from_scipy", "is_new", "state_of"]

_GENERATED = frozenset(
    {
        *("_abc_impl", "_cdfvec", "_not_implemented", "_parameterization", "_parameterizations"),
        *("_parse_arg_template", "_parse_args", "_parse_args_rvs", "_parse_args_stats"),
        *("_ppfvec", "_random_state", "_rng", "_stats_has_moments", "_variable", "extradoc"),
        *("_moment_methods", "generic_moment", "longname", "rng", "seed", "vecentropy"),
    }
)
"""Attributes left out: derived from others, for drawing only, or documentation."""

_SKIPPED = _GENERATED | {"__doc__", "_ctor_param"}

_PLAIN = (bool, int, str, bytes, complex, type(None), type(...))


def is_new(marginal: Any) -> bool:
    """Whether the object has the methods of the distributions that SciPy 1.15 introduced."""
    parts = ("icdf", "iccdf", "cdf", "ccdf", "logpdf", "support", "median")
    return not isinstance(marginal, type) and all(hasattr(marginal, part) for part in parts)


def is_from_scipy(kind: type) -> bool:
    """Whether a class is defined in SciPy, and not created by a function of SciPy."""
    return kind.__module__.startswith("scipy.") and "<locals>" not in kind.__qualname__


def _is_known(kind: type) -> bool:
    """Whether a class is part of a library, so that its name identifies it."""
    ours = kind.__module__ == "builtins" or kind.__module__.startswith("ekitools.")
    return ours or is_from_scipy(kind)


def state_of(family: Any) -> str:
    """Digest of a `scipy.stats.rv_continuous` without the parameters of the frozen distribution.

    The text is empty for unmodified SciPy families.
    """
    default = getattr(stats, str(family.name), None)
    if type(default) is type(family) and _texts(default) == _texts(family):
        return ""
    return digest(describe(family))


def _texts(family: Any) -> dict[str, str]:
    """State of an instance as texts, for a fast comparison with an unmodified instance."""
    return {name: repr(part) for name, part in vars(family).items() if name not in _SKIPPED}


def describe(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Plain nested tuples that identify ``value`` in every process.

    Parameters
    ----------
    value : object
        A distribution, or a part of one.
    above : tuple of int
        Objects whose parts are being described, so that a reference to one of them is not followed.

    Examples
    --------
    >>> from scipy import stats
    >>> from ekitools.priors.identity import describe
    >>> describe(stats.norm(0, 1)) == describe(stats.norm(0, 2))
    False
    """
    if isinstance(value, float):  # NumPy's too
        return "float", repr(float(value))
    if isinstance(value, np.dtype):
        return "dtype", value.str
    if isinstance(value, _PLAIN):
        return type(value).__name__, repr(value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind != "O":
        return "array", digest(np.asarray(value))
    if isinstance(value, np.ufunc):
        return "ufunc", value.__name__
    if isinstance(value, type):
        return _class(value, above)
    if id(value) in above:
        return "above", above[::-1].index(id(value))
    above = (*above, id(value))
    if isinstance(value, np.ndarray | list | tuple):
        return type(value).__name__, tuple(describe(each, above) for each in value)
    if isinstance(value, Mapping):
        return "mapping", _sorted(
            (describe(k, above), describe(v, above)) for k, v in value.items()
        )
    if isinstance(value, set | frozenset):
        return "set", _sorted(describe(each, above) for each in value)
    if isinstance(value, types.MethodType):
        return "method", value.__name__, describe(value.__self__, above)
    if isinstance(value, types.FunctionType):
        return _function(value, above)
    if isinstance(value, types.CodeType):
        consts = tuple(describe(each, above) for each in value.co_consts)
        return "code", digest(value.co_code.hex()), value.co_names, consts
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        return "partial", tuple(describe(part, above) for part in parts)
    return _instance(value, above)


def _instance(value: Any, above: tuple[int, ...]) -> Any:
    kind = type(value)
    if kind.__module__ == "builtins":
        return "object", kind.__qualname__, getattr(value, "__qualname__", "")
    if isinstance(value, np.vectorize):
        return "vectorize", describe(value.pyfunc, above)
    slots = {name for each in kind.__mro__ for name in getattr(each, "__slots__", ())}
    state = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    if not hasattr(value, "__dict__") and not state:
        try:
            return "pickled", _class(kind, above), digest(pickle.dumps(value, protocol=4).hex())
        except Exception:  # only its class can be described
            return "object", _class(kind, above)
    state |= getattr(value, "__dict__", {})
    if isinstance(value, stats.rv_continuous | stats.rv_discrete):
        # arguments that a subclass passes to the instance of a frozen distribution
        state |= {f"given {k}": v for k, v in value._updated_ctor_param().items()}
    kept = {
        name: describe(part, above)
        for name, part in state.items()
        if name.removeprefix("given ") not in _SKIPPED and not name.endswith("_cache")
    }
    return "instance", _class(kind, above), _sorted(kept.items())


def _class(kind: type, above: tuple[int, ...]) -> Any:
    """Module and name; for user classes, everything that they and their bases define."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if id(kind) in above or _is_known(kind):
        return "class", name
    above = (*above, id(kind))
    defined = [
        (part, describe(value, above))
        for part, value in vars(kind).items()
        if not (part.startswith("__") and part.endswith("__"))
        and part not in _GENERATED - {"_variable"}
        and not isinstance(value, property)
    ]
    bases = tuple(_class(base, above) for base in kind.__bases__)
    return "class", name, _sorted(defined), bases


def _function(value: types.FunctionType, above: tuple[int, ...]) -> Any:
    """Module, name, defaults, closure and, for a user's function, its code."""
    name = f"{value.__module__}.{value.__qualname__}"
    known = name.startswith(("scipy.", "numpy.", "ekitools."))
    code = () if known else describe(value.__code__, above)
    cells = []
    for cell in value.__closure__ or ():
        try:
            cells.append(describe(cell.cell_contents, above))
        except ValueError:  # the cell is still empty
            cells.append("empty")
    defaults = describe((value.__defaults__, value.__kwdefaults__), above)
    return "function", name, code, defaults, tuple(cells)


def _sorted(parts: Any) -> tuple[Any, ...]:
    return tuple(sorted(parts, key=repr))
