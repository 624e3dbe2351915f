"""Coloured digits in clutter, in the form of SVHN, for where SVHN is not available.

An image of 32 x 32 pixels has a digit in its centre, of one of several typefaces, turned, scaled
and shifted a little, in a colour on a background of another colour. Parts of two other digits are
beside it, as on a plate with a house number. Brightness has a gradient, and pixels have noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ekitools.datasets import Images

__all__ = ["coloured_digits"]

_SIZE, _GLYPH = 32, 48
_FACES: tuple[dict[str, Any], ...] = (
    {"family": "DejaVu Sans"},
    {"family": "DejaVu Sans", "weight": "bold"},
    {"family": "DejaVu Sans", "style": "oblique"},
    {"family": "DejaVu Serif"},
    {"family": "DejaVu Serif", "weight": "bold"},
    {"family": "DejaVu Sans Mono"},
)
"""Typefaces that matplotlib brings along."""
_AT_ONCE = 1000


def coloured_digits(n_train: int = 60_000, n_test: int = 10_000, *, seed: int = 0) -> Images:
    """Images with the shapes and classes of SVHN.

    Examples
    --------
    >>> from ekitools.experiments.rendered import coloured_digits
    >>> images = coloured_digits(20, 10)
    >>> images.x_train.shape, sorted(images.y_test.tolist())
    ((20, 32, 32, 3), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    glyphs = _glyphs()
    rng = np.random.default_rng(seed)

    def some(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.permutation(np.arange(n) % 10).astype(np.uint8)
        pieces = [_drawn(glyphs, labels[i : i + _AT_ONCE], rng) for i in range(0, n, _AT_ONCE)]
        return np.concatenate(pieces), labels

    return Images(*some(n_train), *some(n_test), tuple("0123456789"))


def _glyphs() -> np.ndarray:
    """Masks of all digits in all typefaces, ``(10, faces, 48, 48)``, each 48 pixels high."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    rows, columns = np.mgrid[0:_GLYPH, 0:_GLYPH]
    masks = np.zeros((10, len(_FACES), _GLYPH, _GLYPH), np.float32)
    for digit in range(10):
        for face, style in enumerate(_FACES):
            path = TextPath((0, 0), str(digit), size=100, prop=FontProperties(**style))
            box = path.get_extents()
            pixel = box.height / _GLYPH
            x = (box.x0 + box.x1) / 2 + pixel * (columns - (_GLYPH - 1) / 2)
            y = box.y1 - pixel * (rows + 0.5)
            points = np.column_stack([x.ravel(), y.ravel()])
            outlines = [Path(outline) for outline in path.to_polygons()]
            inside = np.sum([outline.contains_points(points) for outline in outlines], axis=0)
            masks[digit, face] = inside.reshape(rows.shape) % 2  # holes are inside of two
    return masks


def _drawn(glyphs: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images ``(n, 32, 32, 3)`` of the labels."""
    n = len(labels)
    height = rng.uniform(16, 24, n)
    place = rng.uniform(-2, 2, (n, 2))
    mask = _placed(glyphs, labels, height, place, rng)
    for side in (-1, 1):
        beside = place + np.stack([rng.uniform(-2, 2, n), side * rng.uniform(15, 21, n)], axis=1)
        other = _placed(glyphs, rng.integers(10, size=n), height, beside, rng)
        mask = np.maximum(mask, other)
    ground, ink = rng.uniform(0, 255, (2, n, 1, 1, 3))
    near = np.abs(ground - ink).max(axis=-1, keepdims=True) < 60  # too pale to be read
    ink = np.where(near, (ground + 128) % 256, ink)
    x = ground + mask[..., None] * (ink - ground)
    slope = rng.uniform(-1.5, 1.5, (n, 2, 1, 1))
    rows, columns = np.mgrid[0:_SIZE, 0:_SIZE] - _SIZE / 2
    x += (slope[:, 0] * rows + slope[:, 1] * columns)[..., None]
    x += rng.uniform(3, 20, (n, 1, 1, 1)) * rng.standard_normal(x.shape)
    return np.clip(x, 0, 255).astype(np.uint8)


def _placed(
    glyphs: np.ndarray,
    digits: np.ndarray,
    height: np.ndarray,
    place: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Masks ``(n, 32, 32)`` of digits with the given heights and centres, turned a little."""
    n = len(digits)
    faces = rng.integers(glyphs.shape[1], size=n)
    angle = rng.uniform(-0.25, 0.25, n)
    scale = _GLYPH / height
    rows, columns = np.mgrid[0:_SIZE, 0:_SIZE] - (_SIZE - 1) / 2
    rows = rows - place[:, 0, None, None]
    columns = columns - place[:, 1, None, None]
    turn = [(scale * f(angle))[:, None, None] for f in (np.cos, np.sin)]
    middle = (_GLYPH - 1) / 2
    return _interpolated(
        glyphs[digits, faces],
        turn[0] * rows - turn[1] * columns + middle,
        turn[1] * rows + turn[0] * columns + middle,
    )


def _interpolated(masks: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear values of masks ``(n, h, w)`` at points ``(n, ...)``; zero outside."""
    padded = np.pad(masks, ((0, 0), (1, 2), (1, 2)))
    size = masks.shape[1]
    rows, columns = (np.clip(at, -1, size) + 1 for at in (rows, columns))
    i, j = rows.astype(int), columns.astype(int)
    a, b = rows - i, columns - j
    which = np.arange(len(masks))[:, None, None]
    below = (1 - b) * padded[which, i, j] + b * padded[which, i, j + 1]
    above = (1 - b) * padded[which, i + 1, j] + b * padded[which, i + 1, j + 1]
    return (1 - a) * below + a * above
