"""The residual of a linear model, split at the span of the initial ensemble."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ekitools.core.arrays import host
from ekitools.results.reading import Members

if TYPE_CHECKING:
    from ekitools.problem import InverseProblem

__all__ = ["Span"]


class Span:
    """Residuals A u − y, whitened, within and orthogonal to the initial ensemble's span.

    Parameters
    ----------
    problem : InverseProblem
        A problem with a `LinearModel` and Gaussian noise.
    initial : Members
        The ensemble at iteration 0.
    """

    def __init__(self, problem: InverseProblem, initial: Members) -> None:
        self.problem = problem
        residuals, w = self._whitened(initial)
        mean = w @ residuals
        _, s, rows = np.linalg.svd(residuals - mean, full_matrices=False)
        rank = int(np.sum(s > max(residuals.shape) * np.finfo(s.dtype).eps * s[0]))
        self.basis = rows[:rank].T
        # the first anomalies lie in the span, so all members have this part at iteration 0
        self.perpendicular = self._split(mean)[1]

    def residuals(self, members: Members) -> dict[str, float]:
        """Root mean squares, over members, of the two parts and of the drift of the second."""
        residuals, w = self._whitened(members)
        parallel, perpendicular = self._split(residuals)
        parts = {
            "residual_parallel": parallel,
            "residual_perpendicular": perpendicular,
            "residual_perpendicular_drift": perpendicular - self.perpendicular,
        }
        return {n: float(np.sqrt(w @ np.sum(part**2, axis=1))) for n, part in parts.items()}

    def _whitened(self, members: Members) -> tuple[np.ndarray, np.ndarray]:
        u, w = members.present()
        outputs = self.problem.model(u.astype(np.float64, copy=False))
        return host(self.problem.noise.whiten(outputs - self.problem.data)), w

    def _split(self, residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.basis.shape[1] == self.basis.shape[0]:  # the span is the whole space
            return residuals, np.zeros_like(residuals)
        parallel = residuals @ self.basis @ self.basis.T
        return parallel, residuals - parallel
