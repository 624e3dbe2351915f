"""Outputs of a model by block, with labels or with gaps, as vectors like the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ekitools.core.model_info import WrappedModel
from ekitools.models.outputs import UnfitError, parted
from ekitools.models.plain import LinearModel
from ekitools.observed.layout import Layout
from ekitools.typing import Array, ModelInfo

__all__ = ["Packed", "packed"]


@dataclass(frozen=True, eq=False, repr=False)
class Packed(WrappedModel):
    """A model whose outputs have the form of the data: a `ForwardModel` with d outputs."""

    layout: Layout

    def __call__(self, u: Array, /, **kwargs: Any) -> Any:
        """Outputs ``(d,)``, or ``(J, d)`` of a vectorized model, and side products if any."""
        outputs, extras = parted(self.model(u, **kwargs))
        try:
            if self.vectorized:
                outputs = self.layout.rows("model", outputs, len(u))
            else:
                outputs = self.layout.flat("model", outputs)[self.layout.kept]
        except (TypeError, ValueError) as error:
            raise UnfitError(str(error)) from None
        return (outputs, extras) if extras else outputs


def packed(model: Any, info: ModelInfo, layout: Layout) -> Any:
    """The model with one output for every datum.

    A model that declares d outputs already leaves out the gaps, and is returned unchanged.
    """
    if info.shape is not None and info.shape[0] == layout.n_data:
        return model
    if isinstance(model, LinearModel):
        return model.rows(layout.kept) if layout.n_gaps else model
    return Packed(model, layout)
