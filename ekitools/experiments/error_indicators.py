"""A classifier as a model of its errors: the loss is the number of errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ekitools.core.arrays import host, like
from ekitools.typing import Array

__all__ = ["ErrorIndicators"]


@dataclass(frozen=True, eq=False)
class ErrorIndicators:
    r"""G(u) = e, where e_i is 1 if sample i is classified wrongly and 0 otherwise.

    With data y = 0 and unit noise, least squares is the 0-1 loss, because e_i² = e_i:

    .. math::
        \tfrac12 \|G(u) - 0\|^2 = \tfrac12 \sum_i e_i = \tfrac12 \, \#\{\text{errors}\}.

    The method sees nothing of the classifier but these errors. Hence there is no gradient in the
    outputs of the classifier either.

    Parameters
    ----------
    classifier : callable
        ``classifier(U, inputs=x)`` returns scores ``(J, m k)`` of k classes for ``m`` inputs. The
        largest score decides.
    x : (N, ...) array
        All inputs.
    labels : (N,) array of int
        Their classes.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.experiments.error_indicators import ErrorIndicators
    >>> def sign(u, inputs):
    ...     z = u * inputs
    ...     return np.stack([-z, z], axis=-1).reshape(len(u), -1)
    >>> model = ErrorIndicators(sign, np.array([-1.0, 2.0, 3.0]), np.array([0, 1, 0]))
    >>> model(np.array([[1.0], [-1.0]]), inputs=np.array([0, 1, 2]))
    array([[0., 0., 1.],
           [1., 1., 0.]])
    """

    classifier: Any
    x: np.ndarray
    labels: np.ndarray
    vectorized = takes_inputs = True
    stochastic = False

    def __call__(self, u: Array, /, *, inputs: Array) -> Array:
        """Errors ``(J, m)`` of the samples with the numbers ``inputs``, ``(m,)``."""
        rows = host(inputs)
        scores = self.classifier(u, inputs=self.x[rows])
        classes = host(scores.reshape(len(u), len(rows), -1).argmax(-1))
        return like(classes != self.labels[rows], u)
