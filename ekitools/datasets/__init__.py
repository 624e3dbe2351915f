"""Data sets that are not part of the package: images of digits and clothes, and two time series.

Functions look for a file in the folder ``EKITOOLS_DATA`` (an environment variable) and then in the
user's cache (or in the folder ``EKITOOLS_CACHE``). Otherwise they download the file from its
publisher, or from a mirror, into the cache. They check the format of every file, and a checksum of
the decompressed bytes.
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
