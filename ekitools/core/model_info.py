"""The optional declarations of a model, read and checked in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ekitools.core.checks import flag
from ekitools.typing import ModelInfo

__all__ = ["WrappedModel", "info_of"]

_FLAGS = ("vectorized", "stochastic", "takes_inputs")


def info_of(model: Callable[..., Any]) -> ModelInfo:
    """Declarations of the model, with defaults for the missing ones.

    Raises
    ------
    TypeError, ValueError
        If a declaration is of the wrong kind: a flag that is not a bool, a shape that is not a
        pair, or a list of units that does not fit the shape.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.core.model_info import info_of
    >>> info_of(ek.LinearModel([[1.0, 2.0]])).shape
    (1, 2)
    >>> info_of(abs)
    ModelInfo(vectorized=None, stochastic=False, takes_inputs=False, shape=None, ...)
    """
    declared = {
        field: getattr(model, field) for field in ModelInfo._fields if hasattr(model, field)
    }
    info = ModelInfo(**declared)
    for name in _FLAGS:
        if name in declared:
            flag(f"model: its attribute {name}", declared[name])
    if info.shape is not None:
        try:
            d, p = (int(n) for n in info.shape)
        except (TypeError, ValueError):
            raise TypeError(
                f"model: its attribute shape must be a pair (d, p), got {info.shape!r}."
            ) from None
        info = info._replace(shape=(d, p))
    return info


@dataclass(frozen=True, eq=False, repr=False)
class WrappedModel:
    """A wrapper of a model that changes its arguments or its outputs.

    Parameters
    ----------
    model : ForwardModel
        The wrapped model.
    """

    model: Any

    @property
    def vectorized(self) -> bool:
        """Whether the wrapped model is vectorized."""
        return bool(self.model.vectorized)

    @property
    def stochastic(self) -> bool:
        """Whether the wrapped model is stochastic."""
        return info_of(self.model).stochastic

    def __repr__(self) -> str:
        return repr(self.model)
