"""Files of data sets: search, download, check and read."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import os
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.checks import flag

__all__ = ["DataFile", "cache_folder", "house_numbers", "idx", "load"]


class DataFile(NamedTuple):
    """Local path, address and checksum of a file."""

    path: str
    """Path below the folder of the data sets."""
    url: str
    sha256: str | None
    """SHA-256 of the decompressed bytes, which does not depend on the compression."""


def cache_folder() -> Path:
    """The user's cache, at the usual place of the platform."""
    if given := os.environ.get("EKITOOLS_CACHE"):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "ekitools" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ekitools"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ekitools"


def load(file: DataFile, parse: Callable[[bytes], Any], download: bool) -> Any:
    """The arrays in a file, from the first folder that has the file."""
    download = flag("download", download)
    given = os.environ.get("EKITOOLS_DATA")
    cache = cache_folder()
    folders = [Path(given), cache] if given else [cache]
    for folder in folders:
        path = folder / file.path
        if path.is_file():
            remedy = f"Delete the file to search elsewhere, or to download it from {file.url}."
            return _parsed(file, parse, path.read_bytes(), str(path), remedy)
    missing = (
        f"{file.path}: must be in a data folder, but is not in "
        f"{' or '.join(str(folder) for folder in folders)}"
    )
    remedy = f"Download it from {file.url} and set EKITOOLS_DATA to the folder with {file.path}."
    if not download:
        raise FileNotFoundError(f"{missing}, and download is False. {remedy}")
    try:
        with urllib.request.urlopen(file.url, timeout=60) as response:
            data = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise FileNotFoundError(
            f"{missing}, and cannot be downloaded ({error!r}). {remedy}"
        ) from error
    arrays = _parsed(file, parse, data, file.url, "Try again, or find the file elsewhere.")
    _write(cache / file.path, data)
    return arrays


def _parsed(
    file: DataFile, parse: Callable[[bytes], Any], data: bytes, source: str, remedy: str
) -> Any:
    try:
        return parse(_published(file, data))
    except Exception as error:  # parsing another file may fail anywhere
        raise ValueError(
            f"{file.path}: must be the published file, got something else from {source} "
            f"({error}). {remedy}"
        ) from error


def _published(file: DataFile, data: bytes) -> bytes:
    """The decompressed bytes, checked by the checksum."""
    if file.path.endswith(".gz"):
        data = gzip.decompress(data)
    found = hashlib.sha256(data).hexdigest()
    if file.sha256 not in (None, found):
        raise ValueError(f"its SHA-256 must be {file.sha256}, got {found}")
    return data


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically, so that readers never see an incomplete file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def idx(data: bytes) -> np.ndarray:
    """Unsigned bytes in the IDX format: two zeros, 8, the number of axes, their lengths."""
    if data[:3] != b"\0\0\x08" or len(data) < 4 or len(data) < 4 * (1 + data[3]):
        raise ValueError(f"its magic number must be that of IDX bytes, 00 00 08, got {data[:4]!r}")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4).astype(int)
    values = np.frombuffer(data, np.uint8, offset=4 * (1 + data[3]))
    if values.size != shape.prod():
        raise ValueError(f"it must have {shape.prod()} entries, got {values.size}")
    return values.reshape(shape).copy()


def house_numbers(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 32, 32, 3) and labels in the MATLAB format of SVHN."""
    from scipy.io import loadmat  # noqa: PLC0415 - only where it is needed

    content = loadmat(io.BytesIO(data))
    images, labels = content["X"], content["y"].ravel()
    if images.ndim != 4 or images.shape[:3] != (32, 32, 3) or images.dtype != np.uint8:
        raise ValueError(f"X must be bytes (32, 32, 3, n), got {images.dtype} {images.shape}")
    if len(labels) != images.shape[3] or not np.all((labels >= 1) & (labels <= 10)):
        raise ValueError(f"y must be {images.shape[3]} labels of 1 to 10, got {labels.shape}")
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), (labels % 10).astype(np.uint8)
