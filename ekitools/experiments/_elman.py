"""Elman's recurrent network on a window of a series, for one-step-ahead prediction."""

from __future__ import annotations

import numpy as np

__all__ = ["Elman", "windows"]


class Elman:
    r"""J recurrent networks at once, at the windows of a batch: a model that takes inputs.

    .. math::
        h_t = \tanh(a x_t + W h_{t-1} + b), \qquad h_0 = 0, \qquad G(u | x) = c \cdot h_w + d

    for a window x_1 ... x_w. The parameters are in torch's order: a, W by rows, b, c, d.

    Parameters
    ----------
    units : int
        Hidden units H; there are H² + 3H + 1 parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.experiments._elman import Elman
    >>> network = Elman(1)
    >>> network(np.array([[1.0, 0.0, 0.0, 2.0, 3.0]]), inputs=np.array([[9.0, 0.0]]))
    array([[3.]])
    """

    vectorized = takes_inputs = True
    stochastic = False

    def __init__(self, units: int) -> None:
        self.units = units
        self.shapes = ((units, 1), (units, units), (units, 1), (1, units), (1, 1))

    def variances(self) -> np.ndarray:
        """Glorot's 2/(fan in + fan out), ``(p,)``; a bias has those of its layer's input."""
        h = self.units
        fans = (1 + h, 2 * h, 1 + h, h + 1, h + 1)
        sizes = [rows * columns for rows, columns in self.shapes]
        return np.repeat([2 / fan for fan in fans], sizes)

    def __call__(self, u: np.ndarray, /, inputs: np.ndarray) -> np.ndarray:
        """Predictions ``(J, m)`` of members ``(J, p)`` at windows ``(m, w)``."""
        ends = np.cumsum([rows * columns for rows, columns in self.shapes])
        parts = np.split(u, ends[:-1], axis=1)
        a, W, b, c, d = (
            part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)
        )
        h = np.tanh(a * inputs[:, 0] + b)
        for x in inputs.T[1:]:
            h = np.tanh(W @ h + (a * x + b))
        return (c @ h + d)[:, 0]


def windows(series: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Every ``width`` values in a row ``(N, width)``, and the value after them ``(N,)``."""
    return np.lib.stride_tricks.sliding_window_view(series, width)[:-1], series[width:]
