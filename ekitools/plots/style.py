"""Style of the plots: Axes, colours, legends and ticks; matplotlib is imported on first use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from unicodedata import category

import numpy as np

__all__ = [
    "as_svg",
    "axes_array",
    "axes_for",
    "check_axes",
    "detached",
    "drawable",
    "legend_below",
    "logarithmic",
    "not_known",
    "own_colours",
    "panels",
    "shortened",
    "whole_numbers",
]

# Okabe & Ito's palette, which all kinds of colour vision tell apart
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7f7f7f"
PINK, SKY = "#CC79A7", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, RED, PINK, SKY)
LINES = (BLUE, RED, GREEN, ORANGE, PINK, SKY)  # those first that are told apart as thin lines

_LONGEST = 200
"""Characters of a name that are drawn."""

_UNSEEN = ("Cc", "Cf", "Cs")
"""Categories of characters without a glyph."""
MARKERS = "osD^vPX"  # seven, for six colours: 42 lines look different


def axes_for(ax: Any) -> Any:
    """The Axes given, or those of a new figure."""
    if ax is not None:
        return check_axes(ax)
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def check_axes(ax: Any) -> Any:
    """The Axes, after a check that they are some."""
    if not hasattr(ax, "get_xlabel"):
        raise TypeError(
            f"ax: must be one matplotlib Axes, such as plt.subplots()[1], got {type(ax).__name__}."
        )
    return ax


def axes_array(ax: Any) -> Any:
    """One Axes, or several in any order of rows, as an array of objects."""
    if isinstance(ax, Mapping):  # such as a Dataset, which NumPy would refuse in its own words
        raise TypeError(f"ax: must be an array of matplotlib Axes, got {type(ax).__name__}.")
    axes = np.asarray(ax, dtype=object)
    for each in axes.flat:
        check_axes(each)
    return axes


def panels(rows: int, columns: int, *, size: tuple[float, float]) -> Any:
    """The Axes ``(rows, columns)`` of a new figure; ``size`` in inches is that of one of them."""
    import matplotlib.pyplot as plt

    return plt.subplots(
        rows,
        columns,
        figsize=(size[0] * columns, size[1] * rows),
        layout="constrained",
        squeeze=False,
    )[1]


def detached(rows: int = 1, columns: int = 1, *, figsize: tuple[float, float]) -> tuple[Any, Any]:
    """A figure that has no window and need not be closed, and its Axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=figsize, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def as_svg(figure: Any) -> bytes:
    """The figure as SVG; the same drawing gives the same bytes."""
    from io import BytesIO

    from matplotlib import rc_context

    buffer = BytesIO()
    with rc_context({"svg.hashsalt": "ekitools"}):
        figure.savefig(buffer, format="svg", dpi=120, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def legend_below(ax: Any, *, ncols: int) -> None:
    """A legend below the label of x, as far from it whatever the height of the Axes."""
    from matplotlib.transforms import ScaledTranslation

    down = ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)
    ax.legend(frameon=False, fontsize="small", loc="upper center", ncols=ncols,
              bbox_to_anchor=(0.5, 0), bbox_transform=ax.transAxes + down)  # fmt: skip


def not_known(ax: Any) -> None:
    """Say that there is nothing to draw."""
    ax.text(0.5, 0.5, "not known: NaN throughout", ha="center", transform=ax.transAxes)


def whole_numbers(ax: Any) -> None:
    """Ticks of x at whole numbers alone, and at round ones."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(
        MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )


def own_colours() -> Any:
    """A context in which whoever draws takes the colours of this module one after the other."""
    from matplotlib import rc_context
    from matplotlib.rcsetup import cycler

    return rc_context({"axes.prop_cycle": cycler(color=COLOURS)})


def logarithmic(ax: Any, *which: str) -> None:
    """Log scales of what is drawn, ``which`` being "x" and "y"; with ticks where it spans little.

    Powers of ten alone are too few over less than two of them; there ticks are plain numbers.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    for name in which:
        ax.set(**{f"{name}scale": "log"})
        axis = getattr(ax, f"{name}axis")
        low, high = sorted(axis.get_view_interval())
        if low > 0 and high < 200 * low:
            few = high < 10 * low
            axis.set_major_locator(MaxNLocator(6) if few else LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())


def shortened(names: Iterable[Any], most: int) -> list[str]:
    """Names without their middles, of ``most`` characters or as many as tell them apart.

    Names that differ only in the middle of more than 200 characters get a number.
    """
    texts = [str(name) for name in names]
    for length in (*range(most, _LONGEST, 4), _LONGEST):
        short = [_cut(text, length) for text in texts]
        if len(set(short)) == len(set(texts)):
            return [drawable(text) for text in short]
    return [drawable(f"{_cut(text, most)} ({i})") for i, text in enumerate(texts)]


def drawable(text: Any) -> str:
    r"""A text that matplotlib can draw: dollar signs that enclose no formula are escaped.

    Examples
    --------
    >>> from ekitools.plots.style import drawable
    >>> drawable("$x^2$"), drawable("a$x^{$b")
    ('$x^2$', 'a\\$x^{\\$b')
    """
    from matplotlib.mathtext import MathTextParser

    text = str(text)
    if len(text) > 4 * _LONGEST:
        text = f"{text[: 4 * _LONGEST]}…"
    text = "".join(c if c == "\n" or category(c) not in _UNSEEN else "\ufffd" for c in text)
    if len(re.findall(r"(?<!\\)\$", text)) % 2 == 0 and "$" in text:
        try:
            MathTextParser("path").parse(text)
        except (ValueError, RecursionError):
            return re.sub(r"(?<!\\)\$", r"\\$", text)
    return text


def _cut(text: str, most: int) -> str:
    """Formulas between dollar signs are shorter than their source; a cut one shows as it is."""
    if len(text) < 10 * most and len(re.sub(r"\$[^$]+\$", "", text)) <= most:
        return text
    start, end = text[: (most - 1) // 2], text[-(most // 2) :]
    whole = start.count("$") % 2 == end.count("$") % 2 == 0
    return f"{start}…{end}" if whole else f"{start}…{end}".replace("$", r"\$")
