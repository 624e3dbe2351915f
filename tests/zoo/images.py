"""Small made-up images for tests of learning."""

import numpy as np

from ekitools.datasets import Images


def images(n_train=360, n_test=120, *, noise=120, light=100, rows=8):
    """Random 28 x 28 images of three classes that differ in which rows are light."""
    rng = np.random.default_rng(0)

    def some(n):
        y = rng.integers(3, size=n).astype(np.uint8)
        x = rng.integers(0, noise, size=(n, 28, 28))
        for label in range(3):
            x[y == label, rows * label : rows * (label + 1)] += light
        return x.astype(np.uint8), y

    return Images(*some(n_train), *some(n_test), tuple("abc"))


def noisy_patterns():
    """Three noisy patterns of 28 x 28: 400 images to train with and 100 to test with."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0, 200, size=(3, 28, 28))

    def made(n):
        labels = rng.integers(3, size=n).astype(np.uint8)
        noisy = patterns[labels] + 25 * rng.normal(size=(n, 28, 28))
        return np.clip(noisy, 0, 255).astype(np.uint8), labels

    return Images(*made(400), *made(100), tuple("abc"))


def stripes(n_train, n_test, shape):
    """Images of three classes: bright left, middle or right, or bright red, green or blue."""

    def made(n, seed):
        rng = np.random.default_rng(seed)
        labels = rng.integers(3, size=n).astype(np.uint8)
        x = rng.integers(0, 40, size=(n, *shape))
        for label in range(3):
            if len(shape) == 3:
                x[labels == label, ..., label] += 180
            else:
                x[labels == label, :, 9 * label : 9 * label + 9] += 180
        return x.astype(np.uint8), labels

    return Images(*made(n_train, 0), *made(n_test, 1), tuple("abc"))
