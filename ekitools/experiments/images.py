"""Images to learn from: which data set, how it is split and scaled, and the accuracy on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

import ekitools as ek
from ekitools.core.arrays import host
from ekitools.datasets import Images
from ekitools.experiments.networks import CONVOLUTIONAL
from ekitools.experiments.rendered import coloured_digits

__all__ = ["MNIST", "RENDERED", "Data", "Split", "accuracy", "data_for", "split_of"]

RENDERED = "rendered digits"
"""The name of the images that take the place of SVHN where it is not available."""

_AT_ONCE = 1000
"""Number of images that are classified together."""


@dataclass(frozen=True)
class Data:
    """A data set, its split and its scale."""

    name: Literal["mnist", "fashion_mnist", "svhn"] = "mnist"
    validation: int = 5000
    """Number of images at the end of the training set that form the validation set."""
    n_train: int | None = None
    """Number of the other training images that are used; all by default."""
    centred: bool = True
    """Whether to subtract the mean image and to divide by twice the standard deviation of all
    pixels. Otherwise grey values are between 0 and 1."""


MNIST = Data()
"""The data set of most experiments."""


class Split(NamedTuple):
    """Images as rows of float32, and their labels."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    n_classes: int
    name: str = ""
    """Of the data set: that of `Data`, or `RENDERED`."""


def data_for(network: str, data: Data) -> Data:
    """The data set of a convolutional network: house numbers if the network takes colours."""
    in_colour = CONVOLUTIONAL[network].image[0] == 3
    return replace(data, name="svhn" if in_colour else "mnist")


def split_of(data: Data) -> Split:
    """Training, validation and test set. The scale is that of the training set."""
    images, name = _images(data.name)
    cut = len(images.y_train) - data.validation
    if not 0 <= data.validation < len(images.y_train):
        raise ValueError(
            f"validation: must be between 0 and {len(images.y_train) - 1}, got {data.validation}."
        )
    x, x_test = (
        _channels_first(each).reshape(len(each), -1).astype(np.float32) / np.float32(255)
        for each in (images.x_train, images.x_test)
    )
    if data.centred:
        mean, scale = x[:cut].mean(axis=0), np.float32(2) * x[:cut].std()
        x, x_test = (x - mean) / scale, (x_test - mean) / scale
    y = images.y_train.astype(np.int64)
    return Split(
        *(x[:cut][: data.n_train], y[:cut][: data.n_train], x[cut:], y[cut:]),
        *(x_test, images.y_test.astype(np.int64), len(images.names), name),
    )


def _images(name: str) -> tuple[Images, str]:
    """The images of a data set, and the name of what they are."""
    try:
        return getattr(ek.datasets, name)(), name
    except FileNotFoundError:
        if name != "svhn":
            raise
        return coloured_digits(), RENDERED


def _channels_first(images: np.ndarray) -> np.ndarray:
    return np.moveaxis(images, 3, 1) if images.ndim == 4 else images


def accuracy(logits: Callable[[np.ndarray], Any], x: np.ndarray, labels: np.ndarray) -> float:
    """The share of inputs that are classified correctly, by logits on any device."""
    right = 0
    for i in range(0, len(labels), _AT_ONCE):
        found = host(logits(x[i : i + _AT_ONCE])).argmax(axis=1)
        right += int(np.sum(found == labels[i : i + _AT_ONCE]))
    return right / len(labels)
