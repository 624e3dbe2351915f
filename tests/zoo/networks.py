"""For tests of learning: a dense network in NumPy, images to learn, and an interruption."""

from itertools import pairwise

import numpy as np

import ekitools as ek
from ekitools.datasets import Images


def relu(z):
    return np.maximum(z, 0)


def step(z):
    return (z > 0).astype(z.dtype)


def noisy_patterns():
    """Three kinds of patterns of 28 x 28, 400 images to train on and 100 to test."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0, 200, size=(3, 28, 28))

    def made(n):
        labels = rng.integers(3, size=n).astype(np.uint8)
        noisy = patterns[labels] + 25 * rng.normal(size=(n, 28, 28))
        return np.clip(noisy, 0, 255).astype(np.uint8), labels

    return Images(*made(400), *made(100), tuple("abc"))


def interrupted(function, n):
    """The function, but for a KeyboardInterrupt after n calls; ``.whole`` is without."""
    calls = []

    def wrapper(*arguments, **options):
        calls.append(1)
        if len(calls) > n:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    wrapper.whole = function
    return wrapper


class Network:
    """J networks at once, at the inputs of a batch.

    Layers of ``sizes``; parameters are weights and biases, one layer after the other.
    """

    vectorized = takes_inputs = True
    stochastic = False

    def __init__(self, sizes, activation=relu):
        self.layers = list(pairwise(sizes))
        self.activation = activation

    def prior(self, scale=1.0):
        """Glorot's, biases too."""
        variances = [np.full((a + 1) * b, 2 * scale**2 / (a + b)) for a, b in self.layers]
        return ek.GaussianPrior(0.0, np.concatenate(variances))

    def __call__(self, u, /, inputs):
        h, at = inputs.astype(u.dtype)[None], 0
        for i, (a, b) in enumerate(self.layers):
            weights = u[:, at : at + a * b].reshape(-1, a, b)
            bias = u[:, at + a * b : at + a * b + b]
            h = (h if i == 0 else self.activation(h)) @ weights + bias[:, None]
            at += (a + 1) * b
        return h.reshape(len(u), -1)
