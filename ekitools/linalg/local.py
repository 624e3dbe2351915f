r"""Local analyses: every parameter is moved by the data near it, with weights (the LETKF).

A local analysis with the data I and the weights ρ is the analysis of `linalg.transform` or
`linalg.kalman` with the noise variances divided by ρ [1]_. With the whitened anomalies F, the
columns F_I, W = diag(√ρ), a = h/(J − 1) and the eigendecomposition W F_IᵀF_I W = V s Vᵀ it moves
the anomalies e ``(J,)`` of a parameter by F_I M z + 1 (m·z) [+ η_I D z] with z = F_Iᵀ e and

.. math::
    M = W V \varphi(s) V^T W, \qquad m = -W V \tfrac{a}{1 + a s} V^T W \bar r_I, \qquad
    D = V \tfrac{a}{1 + a s} V^T W,

where φ(s) = ((1 + as)^{-1/2} − 1)/s for the square root, and φ(s) = −a/(1 + as) and η for
perturbed data. Nothing is larger than the local data or the members: no d × d, no p × p.

References
----------
.. [1] Hunt, Kostelich & Szunyogh (2007), Physica D 230, 112-126.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ekitools.typing import Localizer, MarginalNoise, Neighbourhoods

__all__ = ["LocalAnalysis", "local_analysis"]

_TILE_BYTES = 1 << 26
"""Bytes of the columns whose neighbourhoods are looked up at a time."""

_BATCH_BYTES = 1 << 24
"""Bytes of the local outputs of analyses that are decomposed together."""

_LOSS = 1e-9
"""Largest relative error of 1 + a s that squares may cause."""


class _Operator(NamedTuple):
    """One local analysis: M, m and D of its data, or K where these are as many as the members."""

    index: np.ndarray
    weights: np.ndarray | None = None
    mean: np.ndarray | None = None
    draws: np.ndarray | None = None
    members: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class LocalAnalysis:
    """What the local analyses of an ensemble share: its outputs, and the rule.

    Made by `local_analysis`.
    """

    localizer: Localizer
    outputs: np.ndarray
    """F, ``(d, J)``: whitened, or as they are where ``noise`` is there."""
    mean: np.ndarray
    """r̄, ``(d,)``."""
    draw: np.ndarray | None
    """η, ``(d, J)``, for perturbed data."""
    a: float
    """h/(J − 1)."""
    noise: MarginalNoise | None = None
    """Noise that correlates data: every analysis whitens its own."""

    def tile(self, itemsize: int) -> int:
        """Columns that are updated at a time: the result depends on their places alone."""
        return max(64, _TILE_BYTES // (self.outputs.shape[1] * itemsize))

    def update(self, u: np.ndarray, out: np.ndarray | None = None, start: int = 0) -> np.ndarray:
        """The columns of an ensemble from ``start`` on, after the analysis.

        Parameters
        ----------
        u : (J, m)
            Columns ``start`` to ``start + m``. ``start`` is a multiple of `tile`, and so is m
            unless these are the last columns.
        out : (J, m), optional
            Where they are written; ``u`` itself is allowed.
        """
        out = np.empty_like(u) if out is None else out
        width = self.tile(u.itemsize)
        for first in range(0, u.shape[1], width):
            c = slice(first, min(first + width, u.shape[1]))
            self._update_tile(u[:, c], out[:, c], slice(start + c.start, start + c.stop))
        return out

    def _update_tile(self, u: np.ndarray, out: np.ndarray, columns: slice) -> None:
        shifted = u - u[-1:]  # rows of the coefficients sum to 0: a parameter without spread stays
        near = self.localizer.neighbourhoods(columns, shifted, self.outputs)
        e = np.ascontiguousarray(shifted.T)
        moved = np.zeros_like(e)
        size = np.diff(near.start)
        own = near.analysis.shape[1] == 1 and len(near.analysis) == len(size)
        if own and self.noise is None and size.max(initial=0) <= 2 * self.outputs.shape[1]:
            _at_once(self._one_by_one(near, e, moved))
        else:
            _at_once(self._together(near, e, moved))
        np.add(u, moved.T, out=out)

    # Parameters that have an analysis each

    def _one_by_one(
        self, near: Neighbourhoods, e: np.ndarray, moved: np.ndarray
    ) -> Iterator[Callable[[], None]]:
        chosen = near.analysis[:, 0]
        for k, which in _by_size(np.diff(near.start)[chosen]):
            for part in self._batches(which, k) if k else ():

                def job(part: np.ndarray = part, k: int = k) -> None:
                    place = near.start[chosen[part], None] + np.arange(k)
                    moved[part] = self._moves(near.index[place], near.weight[place], e[part])

                yield job

    def _moves(self, index: np.ndarray, weight: np.ndarray, e: np.ndarray) -> np.ndarray:
        """The moves ``(n, J)`` of n parameters with anomalies e ``(n, J)`` and k data each."""
        root = np.sqrt(weight)
        f, s, v = self._decomposed(index, root)
        z = _each(f, e.astype(np.float64))
        t = _each(v.swapaxes(1, 2), z)
        damped = self.a / (1 + self.a * s) * t
        offset = _each(v.swapaxes(1, 2), root * self.mean[index])
        inner = -damped if self.draw is not None else self._phi(s) * t
        moved = _each(f.swapaxes(1, 2), _each(v, inner))
        moved -= np.sum(offset * damped, axis=1, keepdims=True)
        if self.draw is not None:
            moved += _each(self.draw[index].swapaxes(1, 2), _each(v, damped))
        return moved

    # Analyses that several parameters share

    def _together(
        self, near: Neighbourhoods, e: np.ndarray, moved: np.ndarray
    ) -> Iterator[Callable[[], None]]:
        operators = self._operators(near)
        mixtures, which = np.unique(near.analysis, axis=0, return_inverse=True)
        order = np.argsort(which.ravel(), kind="stable")
        ends = np.cumsum(np.bincount(which.ravel(), minlength=len(mixtures)))
        f, draw = (
            None if each is None else each.astype(e.dtype) for each in (self.outputs, self.draw)
        )
        for mixture, (low, high) in zip(mixtures, pairwise((0, *ends.tolist())), strict=True):

            def job(mixture: np.ndarray = mixture, low: int = low, high: int = high) -> None:
                cells = order[low:high]
                parts = [
                    (operators[i], near.share[cells, at].astype(e.dtype))
                    for at, i in enumerate(mixture.tolist())
                ]
                parts = [(op, share) for op, share in parts if len(op.index) and share.any()]
                if parts:
                    moved[cells] = self._moved_together(parts, e[cells].T, f, draw).T

            yield job

    def _moved_together(
        self,
        parts: list[tuple[_Operator, np.ndarray]],
        e: np.ndarray,
        f: np.ndarray,
        draw: np.ndarray | None,
    ) -> np.ndarray:
        """The moves ``(J, m)`` of m parameters that mix the same analyses."""
        index = np.unique(np.concatenate([op.index for op, _ in parts]))
        if any(op.members is not None for op, _ in parts) or len(index) > 2 * len(e):
            moved = np.zeros_like(e)
            for op, share in parts:
                moved += self._in_members(op).astype(e.dtype) @ (e * share)
            return moved
        near = f[index]
        z = near @ e
        y, drawn = np.zeros_like(z), np.zeros_like(z)
        mean = np.zeros(e.shape[1], dtype=e.dtype)
        for op, share in parts:
            at = np.searchsorted(index, op.index)
            own = z[at] * share
            y[at] += op.weights.astype(e.dtype) @ own
            mean += op.mean.astype(e.dtype) @ own
            if op.draws is not None:
                drawn[at] += op.draws.astype(e.dtype) @ own
        moved = near.T @ y
        moved += mean
        if draw is not None:
            moved += draw[index].T @ drawn
        return moved

    def _in_members(self, op: _Operator) -> np.ndarray:
        """K ``(J, J)`` of an operator."""
        if op.members is not None:
            return op.members
        f = self.outputs[op.index]
        k = f.T @ (op.weights @ f) + op.mean @ f
        if op.draws is not None:
            k += self.draw[op.index].T @ (op.draws @ f)
        return k

    def _operators(self, near: Neighbourhoods) -> list[_Operator]:
        found: list[_Operator] = [_Operator(near.index[:0])] * (len(near.start) - 1)
        n = self.outputs.shape[1]
        jobs = []
        for k, which in _by_size(np.diff(near.start)):
            many = k > n or self.noise is not None
            for part in [] if k == 0 else np.split(which, len(which)) if many else self._batches(
                which, k
            ):

                def job(part: np.ndarray = part, k: int = k, many: bool = many) -> None:
                    place = near.start[part, None] + np.arange(k)
                    index, weight = near.index[place], near.weight[place]
                    made = (
                        [self._of_members(index[0], weight[0])]
                        if many
                        else self._of_data(index, weight)
                    )
                    for i, op in zip(part.tolist(), made, strict=True):
                        found[i] = op

                jobs.append(job)
        _at_once(jobs)
        return found

    def _of_data(self, index: np.ndarray, weight: np.ndarray) -> Iterator[_Operator]:
        """M, m and D of n analyses with k data each."""
        root = np.sqrt(weight)
        _, s, v = self._decomposed(index, root)
        turned = v * root[:, :, None]
        damped = (turned * (self.a / (1 + self.a * s))[:, None, :]) @ turned.swapaxes(1, 2)
        mean = -_each(damped, self.mean[index])
        if self.draw is None:
            weights = (turned * self._phi(s)[:, None, :]) @ turned.swapaxes(1, 2)
            return map(_Operator, index, weights, mean)
        draws = (v * (self.a / (1 + self.a * s))[:, None, :]) @ turned.swapaxes(1, 2)
        return map(_Operator, index, -damped, mean, draws)

    def _of_members(self, index: np.ndarray, weight: np.ndarray) -> _Operator:
        """K of one analysis, by the (J, J) side: many data, or data that the noise correlates."""
        f, mean = self.outputs[index], self.mean[index]
        draw = None if self.draw is None else self.draw[index]
        if self.noise is not None:
            own = self.noise.marginal(index)
            f, mean = own.whiten(f.T).T, own.whiten(mean)
            draw = None if draw is None else own.whiten(draw.T).T
        root = np.sqrt(weight)
        f, mean = f * root[:, None], root * mean
        _, s, q = np.linalg.svd(f, full_matrices=False)  # F_I W as it is: no digits are lost
        s = s * s
        damped = (q.T * (self.a / (1 + self.a * s))) @ q  # a (I + a F Fᵀ)⁻¹ on the span of F
        k = -(mean @ f) @ damped
        if draw is None:
            k = k + (q.T * (1 / np.sqrt(1 + self.a * s) - 1)) @ q
        else:
            k = k + (draw.T @ f) @ damped - (q.T * (self.a * s / (1 + self.a * s))) @ q
        return _Operator(index, members=k - k.mean(axis=1, keepdims=True))

    def _decomposed(
        self, index: np.ndarray, root: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """W F_Iᵀ ``(n, k, J)``, and s and V of W F_IᵀF_I W."""
        f = self.outputs[index]
        f *= root[:, :, None]
        s, v = np.linalg.eigh(f @ f.swapaxes(1, 2))
        s = np.maximum(s, 0)
        if np.finfo(np.float64).eps * self.a * s.max(initial=0) > _LOSS:
            v, root_s, _ = np.linalg.svd(f, full_matrices=False)
            s = root_s**2
        return f, s, v

    def _phi(self, s: np.ndarray) -> np.ndarray:
        """((1 + as)^{-1/2} − 1)/s, which is finite at 0."""
        root = np.sqrt(1 + self.a * s)
        return np.asarray(-self.a / (root * (1 + root)))

    def _batches(self, which: np.ndarray, k: int) -> list[np.ndarray]:
        size = max(1, _BATCH_BYTES // (8 * k * (self.outputs.shape[1] + k)))
        return [which[i : i + size] for i in range(0, len(which), size)]


def local_analysis(
    r: np.ndarray,
    h: float,
    localizer: Localizer,
    draw: np.ndarray | None = None,
    noise: MarginalNoise | None = None,
) -> LocalAnalysis:
    """The local analyses of the whitened residuals r ``(J, d)`` with the noise Γ/h.

    Parameters
    ----------
    r : (J, d)
        Γ^{-1/2}(G(u) − y); or G(u) − y where ``noise`` is given.
    h : float
        The noise is Γ/h.
    localizer : Localizer
        Which data move which parameters.
    draw : (J, d), optional
        η of perturbed data, with the noise I/h, or that of ``noise`` divided by h. Without it the
        analysis is the square root.
    noise : MarginalNoise, optional
        Noise that correlates data.

    Examples
    --------
    Two parameters that are seen by a datum each, and moved by their own alone:

    >>> import numpy as np
    >>> import ekitools as ek
    >>> from ekitools.linalg.local import local_analysis
    >>> u = np.array([[-1.0, 3.0], [0.0, 4.0], [1.0, 5.0]])
    >>> rule = ek.localization.Groups({0: 0, 1: 1})
    >>> new = local_analysis(u - [2.0, 4.0], 1.0, rule.located(2, 2)).update(u)
    >>> new.mean(axis=0).round(12), new.var(axis=0, ddof=1).round(12)
    (array([1., 4.]), array([0.5, 0.5]))
    """
    exact = np.asarray(r, dtype=np.float64)
    outputs = np.ascontiguousarray((exact - exact[-1:]).T)  # a shared offset costs no digits
    mean = outputs.mean(axis=1)
    outputs -= mean[:, None]
    drawn = None if draw is None else np.ascontiguousarray(np.asarray(draw, dtype=np.float64).T)
    a = h / (len(exact) - 1)
    return LocalAnalysis(localizer, outputs, exact[-1] + mean, drawn, a, noise)


def _each(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Matrix i times vector i."""
    return np.asarray((matrices @ vectors[:, :, None])[:, :, 0])


def _by_size(size: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Every size, and where it is."""
    order = np.argsort(size, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(size[order])) + 1):
        if len(part):
            yield int(size[part[0]]), part


def _at_once(jobs: Iterable[Callable[[], None]]) -> None:
    """Do the jobs, which do not depend on each other, on as many threads as a BLAS would use."""
    threads = _n_threads()
    if threads == 1:
        for job in jobs:
            job()
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(_call, jobs):
            pass


def _call(job: Callable[[], None]) -> None:
    job()


def _n_threads() -> int:
    """The cores this process may use, or what ``OMP_NUM_THREADS`` says."""
    asked: Any = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(int(asked) if asked.isdigit() else 1 << 10, cores or 1))
