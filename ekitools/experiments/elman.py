"""Elman's recurrent network, which predicts the next value of a series from a window."""

from __future__ import annotations

import numpy as np

__all__ = ["Elman"]


class Elman:
    r"""A model of inputs: J recurrent networks are evaluated together at the windows of a batch.

    .. math::
        h_t = \tanh(a x_t + W h_{t-1} + b), \qquad h_0 = 0, \qquad G(u | x) = c \cdot h_w + d

    for a window x_1 ... x_w. The parameters have the order of torch: a, W by rows, b, c, d.

    Parameters
    ----------
    units : int
        Number of hidden units H. The network has H² + 3H + 1 parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.experiments.elman import Elman
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
        """Glorot's variances 2/(fan in + fan out), ``(p,)``; a bias has those of its input."""
        h = self.units
        fans = (1 + h, 2 * h, 1 + h, h + 1, h + 1)
        sizes = [rows * columns for rows, columns in self.shapes]
        return np.repeat([2 / fan for fan in fans], sizes)

    def __call__(self, u: np.ndarray, /, inputs: np.ndarray) -> np.ndarray:
        """Predictions ``(J, m)`` of members ``(J, p)`` at windows ``(m, w)``."""
        a, W, b, c, d = self._parts(u)
        h = np.tanh(a * inputs[:, 0] + b)
        for x in inputs.T[1:]:
            h = np.tanh(W @ h + (a * x + b))
        return (c @ h + d)[:, 0]

    def loss_gradient(self, u: np.ndarray, x: np.ndarray, y: float) -> tuple[float, np.ndarray]:
        """(G(u | x) − y)² of one window ``(w,)``, and its gradient ``(p,)`` by backpropagation."""
        a, W, b, c, d = (part[0] for part in self._parts(u[None]))
        from_input = x[:, None] * a[:, 0] + b[:, 0]
        h = np.zeros((len(x) + 1, self.units))
        for t, z in enumerate(from_input):
            h[t + 1] = np.tanh(W @ h[t] + z)
        error = float(c[0] @ h[-1] + d[0, 0]) - y
        slopes = 1 - h[1:] ** 2
        to_z = np.empty_like(from_input)  # the derivative by the argument of tanh, at every t
        to_h = 2 * error * c[0]
        for t in reversed(range(len(x))):
            to_z[t] = to_h * slopes[t]
            to_h = to_z[t] @ W
        to_parts = (to_z.T @ x, to_z.T @ h[:-1], to_z.sum(axis=0), 2 * error * h[-1], [2 * error])
        return error**2, np.concatenate([np.ravel(part) for part in to_parts])

    def _parts(self, u: np.ndarray) -> tuple[np.ndarray, ...]:
        """a, W, b, c, d of members ``(J, p)``, each ``(J, rows, columns)``."""
        ends = np.cumsum([rows * columns for rows, columns in self.shapes])
        pairs = zip(np.split(u, ends[:-1], axis=1), self.shapes, strict=True)
        return tuple(part.reshape(-1, *shape) for part, shape in pairs)
