"""A short made-up series for tests of prediction."""

import numpy as np

from ekitools.datasets import Series


def as_series(values):
    return Series(values, np.arange(len(values)).astype("datetime64[D]"), "made up")


def autoregression(n=700):
    """An autoregression of second order: the last value and the mean are poor predictions."""
    rng = np.random.default_rng(0)
    values = [0.0, 0.0]
    for noise in rng.standard_normal(n):
        values.append(1.2 * values[-1] - 0.7 * values[-2] + noise)
    return as_series(np.array(values))
