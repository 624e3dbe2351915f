"""A dense network in NumPy, for tests: J networks at once, at the inputs of a batch."""

from itertools import pairwise

import numpy as np

import ekitools as ek


def relu(z):
    return np.maximum(z, 0)


def step(z):
    return (z > 0).astype(z.dtype)


class Network:
    """Layers of ``sizes``; parameters are weights and biases, one layer after the other."""

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
