"""Data sets that are too large to ship: digits, clothes, house numbers, and two long series.

A file is looked for in the folder that the environment variable ``EKITOOLS_DATA`` names, then in
the user's cache (``EKITOOLS_CACHE`` names another folder), and else is downloaded into the cache
from where its makers, or a mirror, publish it. What is read is checked: by a checksum of the
decompressed bytes, and by its format.
"""

from __future__ import annotations

from ekitools.datasets.sets import (
    Images,
    Series,
    fashion_mnist,
    melbourne_temperatures,
    mnist,
    svhn,
    zurich_sunspots,
)

__all__ = [
    "Images",
    "Series",
    "fashion_mnist",
    "melbourne_temperatures",
    "mnist",
    "svhn",
    "zurich_sunspots",
]
