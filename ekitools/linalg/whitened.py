"""Whitened output anomalies of an ensemble, in blocks of columns if Γ is diagonal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, is_numpy, placed
from ekitools.linalg.columns import Scratch, columns_of
from ekitools.losses.formed import form_of
from ekitools.losses.forms import Diagonal
from ekitools.typing import Array

__all__ = ["Block", "blocks_of", "check_independent", "is_independent"]


class Block(NamedTuple):
    """Columns of the arrays of an analysis; all columns if whitening mixes columns."""

    anomalies: Array
    """F = (G − Ḡ)Γ^{-1/2}."""
    mean: Array
    """(Ḡ − y)Γ^{-1/2}, ``(1, ·)``."""
    draw: Array | None
    """ηΓ^{-1/2}, or η if the draws are streamed."""
    partner: Array
    """``draw @ partner.T`` is (ηΓ^{-1/2}) Fᵀ: F, or FΓ^{-1/2} if ``draw`` is not scaled."""


def blocks_of(g: Array, data: Array, noise: Any, draw: Array | None) -> Iterator[Block]:
    """F and related arrays, from G − g_J: a common offset of the outputs costs no digits."""
    xp = array_namespace(g)
    # only for noise of ekitools is the attribute `scale` known to be 1/sd
    form = form_of(noise, "whiten")
    if not isinstance(form, Diagonal) or not is_numpy(g):  # one block, with few kernels
        whiten = form.whiten if isinstance(form, Diagonal) else noise.whiten
        shifted = g - g[-1:, :]
        mean = xp.mean(shifted, axis=0, keepdims=True)
        anomalies = whiten(shifted - mean)
        draw = None if draw is None else whiten(draw)
        yield Block(anomalies, whiten(mean + (g[-1:, :] - data)), draw, anomalies)
        return
    scale = np.broadcast_to(placed(form.scale, g), data.shape)
    whole = g.shape[0] > g.shape[1]
    columns = [slice(None)] if whole else columns_of(g)
    scratch = Scratch(g, columns[0])
    weights = np.full((1, g.shape[0]), 1 / g.shape[0], dtype=g.dtype)
    for c in columns:
        anomalies = scratch.subtract(g[:, c], g[-1:, c])
        mean = weights @ anomalies  # of Ḡ − g_J, as a product, which uses all threads
        anomalies -= mean
        anomalies *= scale[c]
        mean += g[-1:, c] - data[c]
        part, partner = None, anomalies
        if draw is not None and whole:
            part = draw * scale
        elif draw is not None:  # scaling in the cache saves a pass over the draws
            part, partner = draw[:, c], scratch.multiply(anomalies, scale[c])
        yield Block(anomalies, mean * scale[c], part, partner)


def is_independent(noise: Any) -> bool:
    """Whether whitening divides every datum by its standard deviation."""
    return isinstance(form_of(noise, "whiten"), Diagonal)


def check_independent(noise: Any, what: str) -> None:
    """Check that data can be weighted one by one."""
    if not is_independent(noise):
        raise TypeError(
            f"noise: must be independent between data for {what}, got {type(noise).__name__} that "
            "correlates them. Use variances, or ek.localization.Groups, which takes the marginal "
            "noise of a group."
        )
