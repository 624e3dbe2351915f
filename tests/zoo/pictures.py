"""Pictures for tests: what was drawn on Axes."""

import numpy as np


def line(ax, label):
    """The y of the one line whose label contains ``label``."""
    (found,) = [each for each in ax.get_lines() if label in str(each.get_label())]
    return found.get_ydata()


def words(ax):
    """All texts of the legend and of the labels at line ends."""
    legend = ax.get_legend()
    drawn = [text.get_text() for text in ax.texts]
    if legend is not None:
        drawn += [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]
    return [" ".join(text.split()) for text in drawn if text]


def points_under_legend(ax):
    """How many points of the lines, bands and scatters lie under the legend."""
    ax.figure.canvas.draw()
    legend = ax.get_legend()
    if legend is None:
        return 0
    box = legend.get_window_extent()
    drawn = [line.get_transform().transform(_dense(line)) for line in ax.get_lines()]
    for each in ax.collections:
        drawn += [ax.transData.transform(path.vertices) for path in each.get_paths()]
        drawn += [ax.transData.transform(np.asarray(each.get_offsets()))]
    inside = [box.contains(*point) for part in drawn for point in part if ax.bbox.contains(*point)]
    return int(np.sum(inside))


def _dense(line):
    """Points along a line, so that a segment that crosses a box is seen."""
    xy = line.get_xydata().astype(float)
    if len(xy) < 2 or line.get_linestyle() == "None":
        return xy
    at = np.linspace(0, len(xy) - 1, 50 * len(xy))
    return np.c_[tuple(np.interp(at, np.arange(len(xy)), column) for column in xy.T)]
