"""Colours and axes: what all plots share."""

import matplotlib as mpl
import numpy as np
import pytest

from ekitools.plots.style import COLOURS, detached, label_ends, logarithmic, whole_numbers

MACHADO = {  # Machado, Oliveira & Fernandes (2009), IEEE TVCG 15, 1291-1298, severity 1.0
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def seen(colours, matrix):
    """CIE L*a*b* (white point D65) of sRGB colours seen through a matrix on linear RGB."""
    rgb = np.array([mpl.colors.to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz_of_rgb = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722],
                           [0.0193, 0.1192, 0.9505]])  # fmt: skip
    linear = np.clip(linear @ np.array(matrix).T, 0, 1)
    f = np.cbrt(linear @ xyz_of_rgb.T / xyz_of_rgb.sum(axis=1))
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def closest(colours, vision):
    lab = seen(colours, MACHADO[vision])
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)
    return apart[~np.eye(len(lab), dtype=bool)].min()


@pytest.mark.parametrize("vision", MACHADO)
def test_the_colours_are_told_apart_by_all_kinds_of_vision(vision):
    """A difference of 2.3 is just noticed."""
    assert closest(COLOURS, vision) > 15


@pytest.mark.parametrize("vision", ["protanopia", "deuteranopia"])
def test_a_common_palette_would_not_be(vision):
    assert closest([f"tab:{name}" for name in ("blue", "orange", "green", "red")], vision) < 8


def test_short_log_axes_have_ticks_enough(result):
    for high in (1.3, 4.0, 30.0, 150.0):
        figure, ax = detached(figsize=(4, 3))
        ax.plot([0, 1], [1, high])
        logarithmic(ax, "y")
        figure.canvas.draw()
        low, top = ax.get_ylim()
        shown = [t for t in ax.yaxis.get_majorticklabels() if low <= t.get_position()[1] <= top]
        assert 3 <= len([text for text in shown if text.get_text()]) <= 10


@pytest.mark.parametrize(
    ("first", "last", "step"), [(0, 55, 10), (1900, 1920, 5), (0, 19, 5), (0, 4, 1)]
)
def test_whole_numbers_on_an_axis_are_round(first, last, step):
    figure, ax = detached(figsize=(6.4, 4.8))
    ax.plot([first, last], [0, 1])
    whole_numbers(ax)
    figure.canvas.draw()
    ticks = [t for t in ax.get_xticks() if first <= t <= last]
    assert np.array_equal(np.diff(ticks), np.full(len(ticks) - 1, step))
    assert all(tick % step == 0 for tick in ticks)


def labelled(ends, layout="constrained"):
    figure, ax = detached(figsize=(5, 3))
    figure.set_layout_engine(layout or "none")
    for i, end in enumerate(ends):
        ax.plot([0, 1], [i, end], label=f"line {i}\nof several")
    label_ends(ax)
    figure.canvas.draw()
    return ax


@pytest.mark.parametrize("ends", [(1, 1, 1), (0, 0.1, 3), (2, 1.9, 1.8, 2.1, 2)])
def test_labels_of_lines_that_end_together_do_not_touch(ends):
    ax = labelled(ends)
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == len(ends)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert ax.figure.bbox.y0 <= box.y0 < box.y1 <= ax.figure.bbox.y1
    heights = [box.y0 for box in boxes]
    order = np.argsort(ends, kind="stable")
    assert np.all(np.diff(np.array(heights)[order]) > 0)  # in the order of the ends


def test_a_label_alone_is_at_the_end_of_its_line():
    ax = labelled([0.5])
    (text,) = ax.texts
    box, end = text.get_window_extent(), ax.transData.transform((1, 0.5))
    assert abs((box.y0 + box.y1) / 2 - end[1]) < 2  # pixels


def test_many_lines_or_no_layout_have_a_legend_instead():
    for ax in (labelled(range(6)), labelled([1, 2], layout=None)):
        assert not ax.texts
        assert ax.get_legend() is not None
