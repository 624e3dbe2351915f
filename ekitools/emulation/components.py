r"""Principal components of whitened outputs, and the likelihood of an emulator of them.

Outputs are measured by the noise: r = (s D)^{-1}Γ^{-1/2}(G(u) − y) with the shape Γ and scales s at
a reference. The emulator knows r ≈ c + Vᵀz with k components z ~ N(μ(u), diag σ²(u)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["Components", "EmulatedLoss", "negative_log_likelihood", "principal_components"]

_SHARE, _REST = 0.999, 0.3
"""Of the variance that the components keep, and the largest root mean square of the rest, in
standard deviations of the noise: one of all data together."""


class Components(NamedTuple):
    """k orthonormal directions of the whitened residuals, and the data in them, by block of data.

    The blocks are the data of one scale of the noise; the last block has the known scale 1.
    """

    centre: np.ndarray
    """c, ``(d,)``."""
    basis: np.ndarray
    """V, ``(k, d)``."""
    gram: np.ndarray
    """V_b V_bᵀ, ``(B + 1, k, k)``."""
    toward: np.ndarray
    """−V_b c_b, ``(B + 1, k)``: the data are at r = 0."""
    length: np.ndarray
    """|c_b|², ``(B + 1,)``."""
    rest: float
    """Root mean square of what the components leave, in standard deviations of the noise."""

    def scores(self, r: np.ndarray) -> np.ndarray:
        """Z of residuals, ``(n, d)`` to ``(n, k)``."""
        return np.asarray((r - self.centre) @ self.basis.T)

    def bounded_scores(self, r: np.ndarray, radius: float) -> np.ndarray:
        """Scores of residuals, drawn towards the data where a residual is longer than ``radius``.

        A residual of length l > R gets the length R (1 + log(l/R)) within the components. Outputs
        that are wildly off stay wrong, but do not set the scale of a regression.
        """
        z, origin = self.scores(r), -self.basis @ self.centre
        length = np.linalg.norm(r, axis=1)
        far = length > radius
        along = z[far] - origin
        wanted = radius * (1 + np.log(length[far] / radius))
        factor = wanted / np.maximum(np.linalg.norm(along, axis=1), 1e-300)
        z[far] = origin + along * factor[:, None]
        return z


def principal_components(r: np.ndarray, groups: np.ndarray, n_groups: int) -> Components:
    """Components of residuals that keep 99.9 % of the variance, and leave less than the noise.

    Parameters
    ----------
    r : (n, d)
        Residuals in standard deviations of the noise.
    groups : (d,) of int
        The scale of every datum; ``n_groups`` or −1 for the known one.
    n_groups : int
        Number of unknown scales B.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.emulation.components import principal_components
    >>> r = np.outer(np.random.default_rng(0).standard_normal(50), [3.0, 4.0, 0.0])
    >>> principal_components(r, np.zeros(3, dtype=int), 0).basis.shape
    (1, 3)
    """
    centre = r.mean(axis=0)
    _, s, basis = np.linalg.svd(r - centre, full_matrices=False)
    left = np.append(np.cumsum((s * s)[::-1])[::-1] / len(r), 0.0)  # after 0, 1, ... components
    enough = (left <= (1 - _SHARE) * left[0]) & (left <= _REST**2)
    k = max(int(np.argmax(enough)), 1)
    basis = basis[:k]
    parts = [groups == b for b in range(n_groups)]
    parts.append(~np.any(parts, axis=0) if parts else np.ones(len(groups), dtype=bool))
    return Components(
        centre,
        basis,
        np.stack([basis[:, part] @ basis[:, part].T for part in parts]),
        np.stack([-basis[:, part] @ centre[part] for part in parts]),
        np.array([centre[part] @ centre[part] for part in parts]),
        float(np.sqrt(left[k])),
    )


def negative_log_likelihood(
    components: Components, mean: np.ndarray, sd: np.ndarray, precision: np.ndarray
) -> np.ndarray:
    r"""Negative log-likelihood of the data under an emulator, ``(n,)``, but for Σ log s.

    The data are N(c + Vᵀμ, D + Vᵀ diag(σ²) V) with D = diag(1/ρ_b) in blocks. Where all ρ are 1
    this is a constant and

    .. math:: \sum_k \tfrac12 [(z_k - \mu_k)^2 / (1 + \sigma_k^2) + \log(1 + \sigma_k^2)].

    The inverse is taken by the formula of Woodbury in k dimensions.

    Parameters
    ----------
    components : Components
        Of the emulator.
    mean, sd : (n, k)
        μ and σ.
    precision : (n, B + 1)
        ρ_b, the precision of the noise of a block relative to the reference.
    """
    gram = np.einsum("nb,bij->nij", precision, components.gram)
    toward = precision @ components.toward
    # residual of the mean: its square, and its product with the components
    square = (
        precision @ components.length
        - 2 * np.sum(toward * mean, axis=1)
        + np.einsum("ni,nij,nj->n", mean, gram, mean)
    )
    along = sd * (toward - np.einsum("nij,nj->ni", gram, mean))
    inner = np.eye(mean.shape[1]) + sd[:, :, None] * gram * sd[:, None, :]
    root = np.linalg.cholesky(inner)
    white = np.linalg.solve(root, along[..., None])[..., 0]
    log_det = np.sum(np.log(np.diagonal(root, axis1=1, axis2=2)), axis=1)
    return np.asarray(0.5 * (square - np.sum(white * white, axis=1)) + log_det)


@dataclass(frozen=True, eq=False)
class EmulatedLoss:
    """The negative log-likelihood of an emulator's outputs: a `Loss`.

    Outputs are the means and the standard deviations of k components, then log s of the scales of
    the noise.

    Parameters
    ----------
    components : Components
        Of the emulator, which hold the data.
    reference : (B,)
        Scales that the components are measured by.
    sizes : (B,)
        Number of data of every scale.
    """

    components: Components
    reference: np.ndarray
    sizes: np.ndarray

    def misfit(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:  # noqa: ARG002 - a Loss has it
        """The loss of rows of outputs, ``(n, 2k + B)`` to ``(n,)``; y is not looked at."""
        k, n_scales = len(self.components.basis), len(self.reference)
        log_s = z[:, 2 * k :]
        precision = np.ones((len(z), n_scales + 1))
        precision[:, :-1] = np.exp(2 * (np.log(self.reference) - log_s))
        found = negative_log_likelihood(self.components, z[:, :k], z[:, k : 2 * k], precision)
        return np.asarray(found + log_s @ self.sizes)

    def gradient(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:  # noqa: ARG002 - as above
        """Not offered: a method that needs it cannot use an emulator."""
        raise TypeError(
            "problem: must have a loss with a gradient for this method, got that of an emulator. "
            "Use ek.TemperedSMC()."
        )

    def fingerprint(self) -> str:
        """The same for every emulator: results of an emulator are not resumed."""
        return "emulated"
