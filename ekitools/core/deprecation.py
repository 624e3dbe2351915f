"""Former names of arguments, which keep working with a warning."""

from __future__ import annotations

import sys
import warnings
from typing import Any

__all__ = ["renamed"]


def renamed(old: str, value: Any, new: str, given: Any, *, since: str, until: str) -> Any:
    """The value of an argument that has a new name, from either name.

    Parameters
    ----------
    old : str
        The former name.
    value : object or None
        Value under the former name; None if the argument was not passed.
    new : str
        The present name.
    given : object or None
        Value under the present name; None if the argument was not passed.
    since : str
        Version that warns first.
    until : str
        Version that no longer has the former name.

    Returns
    -------
    object or None
        The value that was passed.

    Raises
    ------
    ValueError
        If both names are used.

    Warns
    -----
    DeprecationWarning
        If the former name is used. The warning is located at the caller's own code.

    Examples
    --------
    >>> import warnings
    >>> from ekitools.core.deprecation import renamed
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     renamed("sigma", 2.0, "sd", None, since="0.2", until="0.4")
    2.0
    >>> print(caught[0].message)
    sigma: is deprecated since version 0.2 and will be removed in version 0.4. Use sd= instead.
    """
    if value is None:
        return given
    if given is not None:
        raise ValueError(
            f"{old}: must be left out with {new}=, its present name, got {type(value).__name__}."
        )
    warnings.warn(
        f"{old}: is deprecated since version {since} and will be removed in version {until}. "
        f"Use {new}= instead.",
        DeprecationWarning,
        stacklevel=_levels_to_caller(),
    )
    return value


def _levels_to_caller() -> int:
    """``stacklevel`` of a warning in `renamed` that names the first line outside ekitools."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] == "ekitools":
        level, frame = level + 1, frame.f_back
    return level
