"""The notebook extension ``%load_ext ekitools``: summaries above xarray's own tables."""

from __future__ import annotations

from typing import Any

import xarray as xr

from ekitools.pages.summary import summary

__all__ = ["load", "shown", "unload"]


def load(ipython: Any) -> None:
    """Have the HTML of every result begin with its summary; other Datasets stay as they are."""
    _formatter(ipython).for_type(xr.Dataset, shown)


def unload(ipython: Any) -> None:
    """Have results look as any Dataset again."""
    _formatter(ipython).pop(xr.Dataset, None)


def shown(dataset: xr.Dataset) -> str:
    """The HTML of a Dataset. A result begins with its summary.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.pages.notebook import shown
    >>> result = ek.run(ek.problems.linear(p=3).problem, ek.EKI(), n_members=50, rng=0)
    >>> "All checks" in shown(result), "All checks" in shown(result[["u"]])
    (True, False)
    """
    plain: str = dataset._repr_html_()
    try:
        return summary(dataset)._repr_html_() + plain
    except (TypeError, ValueError):  # no result, or a part of one
        return plain


def _formatter(ipython: Any) -> Any:
    return ipython.display_formatter.formatters["text/html"]
