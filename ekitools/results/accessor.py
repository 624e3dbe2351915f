"""The accessor ``dataset.eki``: the readers of a result as methods, under their public names.

The accessor is registered as soon as both ekitools and xarray are imported (see `_public`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from ekitools._public import lookup

if TYPE_CHECKING:
    import pandas as pd

    from ekitools.problem import InverseProblem

__all__ = ["ResultAccessor"]


@xr.register_dataset_accessor("eki")  # type: ignore[no-untyped-call]
class ResultAccessor:
    """``result.eki``: the readers of a result. Notebooks show its summary.

    Parameters
    ----------
    result : xarray.Dataset
        A result of `run` or `integrate`.

    Examples
    --------
    >>> import ekitools as ek
    >>> result = ek.run(ek.problems.linear(p=3).problem, ek.EKI(), n_members=50, rng=0)
    >>> list(result.eki.posterior().data_vars)
    ['u0', 'u1', 'u2']
    """

    def __init__(self, result: xr.Dataset) -> None:
        self._result = result

    def posterior(self, iteration: int = -1, **options: Any) -> xr.Dataset:
        """See `ekitools.posterior`."""
        named: xr.Dataset = lookup("posterior")(self._result, iteration, **options)
        return named

    def intervals(self, prob: float = 0.9, problem: InverseProblem | None = None) -> pd.DataFrame:
        """See `ekitools.intervals`."""
        return lookup("intervals")(self._result, prob, problem)

    def predict(self, model: Any = None, noise: Any = True, **options: Any) -> Any:
        """See `ekitools.predict`."""
        return lookup("predict")(self._result, model, noise, **options)

    def summary(self, problem: InverseProblem | None = None) -> Any:
        """See `ekitools.summary`."""
        return lookup("summary")(self._result, problem)

    def report(
        self,
        path: str | Path,
        problem: InverseProblem | None = None,
        *,
        title: str | None = None,
    ) -> Path:
        """See `ekitools.report`."""
        return Path(lookup("report")(self._result, path, problem, title=title))

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return str(self.summary()._repr_html_())
