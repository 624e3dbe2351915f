"""The accessor ``dataset.eki``: a result's summary and page, found by their public names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from ekitools._public import lookup

if TYPE_CHECKING:
    from ekitools.problem import InverseProblem

__all__ = ["ResultAccessor"]


@xr.register_dataset_accessor("eki")  # type: ignore[no-untyped-call]
class ResultAccessor:
    """``result.eki``: what ekitools has to say of a result, shown by notebooks.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` or `integrate` returned.
    """

    def __init__(self, result: xr.Dataset) -> None:
        self._result = result

    def summary(self, problem: InverseProblem | None = None) -> Any:
        """See `ekitools.summary`."""
        return lookup("summary")(self._result, problem)

    def report(self, path: str | Path, problem: InverseProblem | None = None) -> Path:
        """See `ekitools.report`."""
        return Path(lookup("report")(self._result, path, problem))

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return str(self.summary()._repr_html_())
