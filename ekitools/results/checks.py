"""Checks of a Dataset that is read as a result. Only this module refuses other datasets."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import xarray as xr

from ekitools.core.statuses import CONFIRMED, CORRECTED, NOT_CONFIRMED

__all__ = ["attribute", "check_contents", "check_result"]

_MEMBER = ("iteration", "member")
_DIMS = {
    "u": (*_MEMBER, "parameter"),
    "g": (*_MEMBER, "data"),
    "misfit": _MEMBER,
    "failed": _MEMBER,
    "weight": _MEMBER,
    "t": ("iteration",),
    "step": ("iteration",),
    "y": ("data",),
    "noise_sd": ("data",),
    "history_model_runs": ("history",),
}
_NEEDED = tuple(name for name in _DIMS if name != "weight")
_OF_POSTERIOR = {
    "posterior_shift": ("parameter",),
    "posterior_shift_error": ("parameter",),
    "posterior_sd_ratio": ("parameter",),
    "checked_mean": ("parameter",),
    "checked_mean_error": ("parameter",),
    "checked_sd": ("parameter",),
    "checked_sd_error": ("parameter",),
    "checked_quantile": ("checked_level", "parameter"),
    "checked_quantile_error": ("checked_level", "parameter"),
}
_OF_DRAWS = {
    "draws": ("iteration", "draw", "parameter"),
    "draws_misfit": ("iteration", "draw"),
    "draws_score": ("draw", "score"),
    "node": ("member", "score"),
}

_NUMBERS = ("model_runs", "seconds", "log_evidence", "posterior", "failed_at_start", "stochastic")
_TEXTS = ("status", "status_code", "covariance_normalisation", "loss", "verdict_reason")
_CHOICES = {
    "status_level": ("good", "note", "care", "bad"),
    "aim": ("posterior", "fit"),
    "linear_over": ("ensembles", "last", "none"),
    "members": ("kept", "redrawn", "moved", "nodes"),
    "start": ("prior", "ensemble", "method"),
    "prior": ("learned",),
    "verdict": (CONFIRMED, CORRECTED, NOT_CONFIRMED),
}
_JSON = ("method", "problem", "versions", "failures", "solver", "seed")
_DEEPEST = 40
"""Most levels of options within options."""

_REMEDY = "Write the file again from the result of ek.run."


def check_result(result: Any, name: str = "result") -> None:
    """Check that ``result`` is the Dataset of a run: its variables, dimensions and dtypes.

    Parameters
    ----------
    result : object
        Anything.
    name : str, default "result"
        The argument that it came in.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is something else. The message names the first wrong variable.
    """
    if not isinstance(result, xr.Dataset):
        raise TypeError(
            f"{name}: must be the Dataset that ek.run returns, got {type(result).__name__}."
        )
    missing = [variable for variable in _NEEDED if variable not in result]
    if missing:
        raise ValueError(
            f"{name}: must be the Dataset that ek.run returns, got one without "
            f"{', '.join(missing)}."
        )
    if not {"iteration", "member", "parameter"} <= set(result.u.dims):
        raise ValueError(
            f"{name}: must have the dimensions iteration, member and parameter, got u with "
            f"{', '.join(map(str, result.u.dims))}. Select with lists to keep them, such as "
            "result.isel(iteration=[-1])."
        )
    if any(variable in result for variable in _OF_DRAWS):
        missing = [variable for variable in _OF_DRAWS if variable not in result]
        if missing:
            raise ValueError(
                f"{name}: must have {', '.join(_OF_DRAWS)} together, got one without "
                f"{', '.join(missing)}. {_REMEDY}"
            )
    for variable, dims in (_DIMS | _OF_DRAWS | _OF_POSTERIOR).items():
        if variable in result:
            _check_variable(name, variable, result[variable], dims)
    for each in result.data_vars:
        if str(each).startswith("history_"):
            _check_variable(name, str(each), result[each], ("history",))
    _check_labels(name, result)


def check_contents(result: xr.Dataset, name: str = "result") -> None:
    """Check the numbers and attributes that a summary or a report shows, after `check_result`.

    Parameters
    ----------
    result : xarray.Dataset
        A Dataset that passed `check_result`.
    name : str, default "result"
        The argument that it came in.

    Raises
    ------
    ValueError
        If no member has finite parameters, or an attribute has a value that no run writes.
    """
    if not any(_finite(result.u.isel(iteration=i)) for i in range(result.sizes["iteration"])[::-1]):
        raise ValueError(
            f"{name}: must hold members, got u without a finite member at any iteration. {_REMEDY}"
        )
    noise = result.noise_sd.values
    if np.any(noise <= 0):
        raise ValueError(f"{name}: must have noise_sd > 0, got {float(np.nanmin(noise)):.6g}.")
    attrs = result.attrs
    for key in _NUMBERS:
        if key in attrs and not _is_number(attrs[key], finite=key != "log_evidence"):
            _refuse(name, key, "a number", attrs[key])
    for key in _TEXTS:
        if key in attrs and not isinstance(attrs[key], str):
            _refuse(name, key, "a text", attrs[key])
    for key, choices in _CHOICES.items():
        if key in attrs and str(attrs[key]) not in choices:
            _refuse(name, key, f"one of {', '.join(choices)}", attrs[key])
    for key in _JSON:
        value = attribute(result, key)
        if _depth(value) > _DEEPEST:
            _refuse(name, key, f"JSON of at most {_DEEPEST} levels", attrs[key])
    for failure in attribute(result, "failures", []):
        if not (
            isinstance(failure, dict)
            and isinstance(failure.get("reason"), str)
            and all(type(failure.get(key)) is int for key in ("iteration", "member"))
        ):
            _refuse(name, "failures", "a list of iteration, member and reason", failure)
    _check_types(name, "method", attribute(result, "method", {}))


def _check_variable(name: str, variable: str, values: xr.DataArray, dims: tuple[str, ...]) -> None:
    if set(values.dims) != set(dims) or len(values.dims) != len(dims):
        raise ValueError(
            f"{name}: must have {variable} along {', '.join(dims)}, got it along "
            f"{', '.join(map(str, values.dims)) or 'nothing'}. {_REMEDY}"
        )
    if values.dtype.kind not in "biuf":
        raise TypeError(
            f"{name}: must have real numbers in {variable}, got the dtype {values.dtype}. {_REMEDY}"
        )
    if not values.size:
        raise ValueError(
            f"{name}: must have something along {', '.join(dims)}, got {variable} of the shape "
            f"{values.shape}. Select less of it away."
        )


def _check_labels(name: str, result: xr.Dataset) -> None:
    for dim in ("iteration", "parameter", "history"):
        labels = result[dim].values
        if len(set(labels.tolist())) < labels.size:
            raise ValueError(
                f"{name}: must have labels of {dim} that differ, got some twice. {_REMEDY}"
            )
    for dim in ("iteration", "history"):
        if result[dim].dtype.kind not in "iu":
            raise TypeError(
                f"{name}: must have whole numbers as {dim}, got the dtype {result[dim].dtype}. "
                f"{_REMEDY}"
            )
    unknown = np.setdiff1d(result.iteration.values, result["history"].values)
    if unknown.size:
        raise ValueError(
            f"{name}: must have every iteration in its history, got iteration {unknown[0]} without "
            f"one. {_REMEDY}"
        )
    for dim in ("parameter", "data"):
        units = f"{dim}_units"
        if units in result.coords and result[units].dims != (dim,):
            raise ValueError(f"{name}: must have {units} along {dim} alone. {_REMEDY}")


def _refuse(name: str, key: str, what: str, value: Any) -> None:
    raise ValueError(
        f'{name}: must have {what} in its attribute "{key}", got {repr(value)[:60]}. Delete the '
        f'attribute (del result.attrs["{key}"]) to read the rest of the result.'
    )


def _check_types(name: str, key: str, options: Any) -> None:
    """The names of classes among options are texts."""
    if isinstance(options, dict):
        if not isinstance(options.get("type", ""), str):
            _refuse(name, key, 'a text as every "type"', options["type"])
        options = list(options.values())
    if isinstance(options, list):
        for value in options:
            _check_types(name, key, value)


def _finite(u: xr.DataArray) -> bool:
    rows = u.transpose("member", "parameter").values
    return any(bool(np.isfinite(row).all()) for row in rows)


def _is_number(value: Any, *, finite: bool) -> bool:
    if np.ndim(value) or np.asarray(value).dtype.kind not in "biuf":
        return False
    return math.isfinite(float(value)) or not finite


def _depth(value: Any) -> int:
    """Levels of lists and dictionaries within each other."""
    level, here = 0, [value]
    while here and level <= _DEEPEST:
        inside = [list(v.values()) if isinstance(v, dict) else v for v in here
                  if isinstance(v, dict | list)]  # fmt: skip
        here = [item for items in inside for item in items]
        level += bool(inside)
        if not inside:
            break
    return level


def attribute(result: xr.Dataset, name: str, default: Any = None) -> Any:
    """The value of an attribute that holds JSON, such as ``method`` or ``failures``.

    Parameters
    ----------
    result : xarray.Dataset
        A result of `run` or `integrate`, possibly read from a file.
    name : str
        ``method``, ``solver``, ``problem``, ``versions``, ``failures`` or ``seed``.
    default : optional
        Returned if the attribute is missing, or if its value is not of this type.

    Raises
    ------
    ValueError
        If the attribute is a text that is not JSON.

    Examples
    --------
    >>> import xarray as xr
    >>> from ekitools.results.checks import attribute
    >>> result = xr.Dataset(attrs={"method": '{"type": "EKI"}'})
    >>> attribute(result, "method", {}), attribute(result, "failures", [])
    ({'type': 'EKI'}, [])
    """
    value = result.attrs.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(
                f'result: must have JSON in its attribute "{name}", got {value[:60]!r}. Delete the '
                f'attribute (del result.attrs["{name}"]) to read the rest of the result.'
            ) from None
    if value is None or (default is not None and not isinstance(value, type(default))):
        return default
    return value
