"""Style of the plots: Axes, colours, labels, legends and ticks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any
from unicodedata import category

import numpy as np
from scipy.optimize import isotonic_regression

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "as_svg",
    "axes_array",
    "axes_for",
    "check_axes",
    "detached",
    "drawable",
    "ink",
    "label_ends",
    "legend_above",
    "legend_of_figure",
    "logarithmic",
    "not_known",
    "own_colours",
    "panels",
    "shortened",
    "whole_numbers",
]

# the palette of Okabe & Ito, which is safe for colour-blind readers
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7f7f7f"
PINK, SKY = "#CC79A7", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, RED, PINK, SKY)
LINES = (BLUE, RED, GREEN, ORANGE, PINK, SKY)  # the colours with most contrast first

_LONGEST = 200
"""Characters of a name that are drawn."""

_UNSEEN = ("Cc", "Cf", "Cs")
"""Categories of characters without a glyph."""
MARKERS = "osD^vPX"  # seven, for six colours: 42 lines look different

WIDTH = 6.4
"""Width of a figure in inches, equal to the text width of a page."""

_MOST_ENDS = 5
"""Largest number of lines with labels at their ends; more lines get a legend."""


def axes_for(ax: Any, *, height: float = 3.8) -> Axes:
    """The given Axes, or the Axes of a new figure; ``height`` is in inches."""
    if ax is not None:
        return check_axes(ax)
    import matplotlib.pyplot as plt

    axes: Axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")[1]
    return axes


def check_axes(ax: Any) -> Axes:
    """``ax`` after a check that it is a matplotlib Axes."""
    if not hasattr(ax, "get_xlabel"):
        raise TypeError(
            f"ax: must be one matplotlib Axes, such as plt.subplots()[1], got {type(ax).__name__}."
        )
    axes: Axes = ax
    return axes


def axes_array(ax: Any) -> np.ndarray:
    """One Axes, or an array of Axes of any shape, as an array of objects."""
    if isinstance(ax, Mapping):  # NumPy's error for a Dataset would not name the argument
        raise TypeError(f"ax: must be Axes such as plt.subplots(2)[1], got {type(ax).__name__}.")
    axes = np.asarray(ax, dtype=object)
    for each in axes.flat:
        check_axes(each)
    return axes


def panels(rows: int, columns: int, *, size: tuple[float, float]) -> np.ndarray:
    """Axes ``(rows, columns)`` of a new figure; ``size`` is the size of a panel in inches."""
    import matplotlib.pyplot as plt

    axes: np.ndarray = plt.subplots(
        rows,
        columns,
        figsize=(size[0] * columns, size[1] * rows),
        layout="constrained",
        squeeze=False,
    )[1]
    return axes


def detached(
    rows: int = 1, columns: int = 1, *, figsize: tuple[float, float]
) -> tuple[Figure, Any]:
    """Figure without a window, and its Axes. The figure need not be closed."""
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


def ink(colour: Any) -> tuple[float, float, float]:
    """Darker shade of a colour, for text that is readable on white.

    Examples
    --------
    >>> from ekitools.plots.style import ink
    >>> ink("#ffffff")
    (0.62, 0.62, 0.62)
    """
    from matplotlib.colors import to_rgb

    red, green, blue = (round(0.62 * float(part), 6) for part in to_rgb(colour))
    return red, green, blue


def label_ends(ax: Axes) -> None:
    """Label lines at their right ends, or draw a legend if such labels do not fit.

    The labels are to the right of the Axes, so the layout of the figure must make room for them.
    A legend is drawn instead if the figure has no layout engine, if there are more than five lines,
    or if a line ends before the right edge. Call this function last, when the limits are final.
    """
    lines = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
    ax.get_xlim(), ax.get_ylim()  # makes matplotlib compute the limits
    ends = [_end(ax, line) for line in lines]
    if not _managed(ax) or not 0 < len(lines) <= _MOST_ENDS or not all(x > 0.9 for x, *_ in ends):
        legend_above(ax)
        return
    texts = [str(line.get_label()) for line in lines]
    size = 9.0
    points = _points(ax)
    lines_of = [text.split("\n") for text in texts]  # formulas are taller than text
    heights = np.array([sum(1.4 + 0.35 * ("$" in t) for t in each) for each in lines_of])
    heights *= size / points
    shares = np.array([share for _, share, _ in ends])
    places = _apart(np.clip(shares, 0, 1), heights)
    for line, text, (_, share, y), place in zip(lines, texts, ends, places, strict=True):
        ax.annotate(
            text,
            (1, y),
            xycoords=ax.get_yaxis_transform(),
            xytext=(5, (place - share) * points),
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=ink(line.get_color()),
            annotation_clip=False,
        )


def _managed(ax: Axes) -> bool:
    """Whether the figure has a layout engine, which makes room for texts outside the Axes."""
    from matplotlib.layout_engine import PlaceHolderLayoutEngine

    engine = ax.figure.get_layout_engine()
    return engine is not None and not isinstance(engine, PlaceHolderLayoutEngine)


def _points(ax: Axes) -> float:
    """Height of the Axes in points after the layout has made room for its texts."""
    inches = ax.bbox.height / ax.figure.dpi
    if _managed(ax):  # default height 0.77 of the figure; 0.9 inches for texts
        inches = max(min(inches, inches / 0.77 - 0.9), 0.5)
    return float(72 * inches)


def _end(ax: Axes, line: Any) -> tuple[float, float, float]:
    """Last point of a line: shares of the Axes' width and height, and y; NaN without points."""
    x, y = (np.asarray(each, float) for each in line.get_data(orig=False))
    known = np.flatnonzero(np.isfinite(y))
    if not known.size:
        return np.nan, np.nan, np.nan
    x_last, y_last = float(x[known[-1]]), float(y[known[-1]])
    across, up = ax.transAxes.inverted().transform(ax.transData.transform((x_last, y_last)))
    # the x of other lines, such as axhline, already is a share of the Axes' width
    share = float(across) if line.get_transform() == ax.transData else x_last
    return share, float(up), y_last


def _apart(places: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Places nearest to ``places`` at which texts of these heights do not overlap.

    After subtraction of the space that the preceding texts need, the places must not decrease.
    Isotonic regression finds the nearest such places.
    """
    order = np.argsort(places, kind="stable")
    h = heights[order]
    taken = np.concatenate([[0], np.cumsum((h[1:] + h[:-1]) / 2)])
    free = isotonic_regression(places[order] - taken).x
    free = np.maximum(np.minimum(free, 1 - taken[-1]), 0)
    found = np.empty_like(free)
    found[order] = free + taken
    return found


def legend_above(
    ax: Axes,
    handles: Sequence[Any] | None = None,
    labels: Sequence[str] | None = None,
    *,
    title: str = "",
) -> None:
    """Draw a legend inside the Axes, above all lines, and extend the y axis to make room.

    The legend has as many columns as fit. Call this function last, when the limits are final.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    handles, labels : sequences, optional
        The entries; by default all artists with a label.
    title : str, optional
        Caption of the plot. It is broken into lines that fit.
    """
    if handles is None or labels is None:
        handles, labels = ax.get_legend_handles_labels()
    if not handles and not title:
        return
    size = 9.0
    width = ax.bbox.width * 72 / ax.figure.dpi
    caption = fill(title, max(20, int(width / (0.52 * size)))) or None
    style = {"frameon": False, "fontsize": size, "loc": "upper center", "alignment": "left",
             "borderaxespad": 0.2, "columnspacing": 1.2}  # fmt: skip
    columns = min(len(handles), 4)
    while columns > 1:
        if ax.legend(handles, labels, ncols=columns, **style).get_window_extent().width <= (
            ax.bbox.width
        ):
            break
        columns -= 1
    legend = ax.legend(
        handles, labels, ncols=max(columns, 1), title=caption, title_fontsize=size, **style
    )
    box = legend.get_window_extent()
    share = min((box.height * 72 / ax.figure.dpi + 3) / _points(ax), 0.7)
    scale = ax.yaxis.get_transform()
    low, high = scale.transform(np.array(ax.get_ylim()))
    top = scale.inverted().transform(np.array([low + (high - low) / (1 - share)]))[0]
    ax.set_ylim(ax.get_ylim()[0], float(top))


def legend_of_figure(axes: np.ndarray) -> None:
    """Draw one legend below all panels, with an entry for each label in a panel."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    entries: dict[str, Any] = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    first = axes.flat[0]
    constrained = isinstance(first.figure.get_layout_engine(), ConstrainedLayoutEngine)
    if not constrained:  # no layout makes room below the panels
        legend_above(first, list(entries.values()), list(entries))
        return
    first.figure.legend(
        entries.values(),
        entries,
        frameon=False,
        fontsize=9,
        loc="outside lower center",
        ncols=min(len(entries), 4),
    )


def not_known(ax: Axes) -> None:
    """Write on the Axes that all values are NaN."""
    ax.text(0.5, 0.5, "unknown: all values are NaN", ha="center", transform=ax.transAxes)


def whole_numbers(ax: Axes) -> None:
    """Put the ticks of x at round whole numbers."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(
        MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )


def own_colours() -> Any:
    """Context in which lines cycle through the colours of this module."""
    from matplotlib import rc_context
    from matplotlib.rcsetup import cycler

    return rc_context({"axes.prop_cycle": cycler(color=COLOURS)})


def logarithmic(ax: Axes, *which: str) -> None:
    """Set log scales on the axes ``which`` ("x", "y"), with enough ticks.

    Powers of ten give too few ticks if an axis spans less than a factor of 200. Such an axis gets
    more ticks, labelled with plain numbers.
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
    """Names shortened in the middle to ``most`` characters, or to more if they become equal.

    Names that are equal even when shortened to 200 characters get a number.
    """
    texts = [str(name) for name in names]
    for length in (*range(most, _LONGEST, 4), _LONGEST):
        short = [_cut(text, length) for text in texts]
        if len(set(short)) == len(set(texts)):
            return [drawable(text) for text in short]
    return [drawable(f"{_cut(text, most)} ({i})") for i, text in enumerate(texts)]


def drawable(text: Any) -> str:
    r"""Text that matplotlib can draw: dollar signs are escaped unless they enclose a formula.

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
    """Text shortened in the middle to ``most`` characters, not counting formulas.

    Formulas are not counted because they are drawn shorter than their source. If the cut splits a
    formula, its source is drawn.
    """
    if len(text) < 10 * most and len(re.sub(r"\$[^$]+\$", "", text)) <= most:
        return text
    start, end = text[: (most - 1) // 2], text[-(most // 2) :]
    whole = start.count("$") % 2 == end.count("$") % 2 == 0
    return f"{start}…{end}" if whole else f"{start}…{end}".replace("$", r"\$")
