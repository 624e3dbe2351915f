"""A dense network in NumPy and an interruption, for tests of learning."""

from itertools import pairwise

import numpy as np

import ekitools as ek


def relu(z):
    return np.maximum(z, 0)


def step(z):
    return (z > 0).astype(z.dtype)


def interrupted(function, n):
    """The function with a KeyboardInterrupt after n calls; ``.whole`` is the function itself."""
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

    The layers have ``sizes`` units. Parameters are weights and biases, layer after layer.
    """

    vectorized = takes_inputs = True
    stochastic = False

    def __init__(self, sizes, activation=relu):
        self.layers = list(pairwise(sizes))
        self.activation = activation

    def prior(self, scale=1.0):
        """Glorot's prior, for biases too."""
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
