r"""Local analyses (the LETKF), which update every parameter by the data near it, with weights.

A local analysis with the data I and the weights ρ is the analysis of `linalg.transform` or
`linalg.kalman` with the noise variances divided by ρ [1]_. F are the whitened anomalies, F_I their
columns of the data I, W = diag(√ρ) and a = h/(J − 1). With the eigendecomposition
W F_IᵀF_I W = V s Vᵀ, a local analysis adds F_I M z + 1 (m·z) [+ η_I D z] to the anomalies e
``(J,)`` of a parameter, with z = F_Iᵀ e and

.. math::
    M = W V \varphi(s) V^T W, \qquad m = -W V \tfrac{a}{1 + a s} V^T W \bar r_I, \qquad
    D = V \tfrac{a}{1 + a s} V^T W,

where φ(s) = ((1 + as)^{-1/2} − 1)/s for the square root. For perturbed data φ(s) = −a/(1 + as), and
the term with η is added. The matrices have the size of the local data or of the members; none is
d × d or p × p.

References
----------
.. [1] Hunt, Kostelich & Szunyogh (2007), Physica D 230, 112-126.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from ekitools.linalg.threads import at_once
from ekitools.linalg.whitened import check_independent
from ekitools.typing import Localizer, MarginalNoise, Neighbourhoods

__all__ = ["LocalAnalysis"]

_TILE_BYTES = 1 << 26
"""Bytes of the columns that are updated at a time."""

_BATCH_BYTES = 1 << 24
"""Bytes of the local outputs of analyses that are decomposed together."""

_MIXTURES = 64
"""Mixtures whose local analyses are in memory together."""

_SHORT = 20_000
"""Entries of a mixture's columns below which its update is too short for a thread."""

_LOSS = 1e-9
"""Largest relative error of 1 + a s that squaring F may cause."""


class _OfData(NamedTuple):
    """One local analysis in the space of its k data, by (k, k) matrices."""

    data: np.ndarray
    weights: np.ndarray
    """M."""
    mean: np.ndarray
    """m."""
    draws: np.ndarray | None = None
    """D."""


class _OfMembers(NamedTuple):
    """One local analysis in the space of the J members, for many data or correlated noise."""

    data: np.ndarray
    coefficients: np.ndarray
    """K."""


_Operator = _OfData | _OfMembers


@dataclass(frozen=True, eq=False)
class LocalAnalysis:
    """The local analyses of an ensemble: its outputs, and the localization.

    `linalg.local_coefficients` creates it.
    """

    localizer: Localizer
    outputs: np.ndarray
    """F, ``(d, J)``; whitened if ``noise`` is None."""
    mean: np.ndarray
    """r̄, ``(d,)``."""
    draw: np.ndarray | None
    """η, ``(d, J)``, for perturbed data."""
    a: float
    """h/(J − 1)."""
    noise: MarginalNoise | None = None
    """Correlated noise: every analysis whitens its own data. None for independent noise."""

    def tile(self, itemsize: int) -> int:
        """Number of columns in a tile; blocks of whole tiles give the same result bit for bit."""
        return max(64, _TILE_BYTES // (self.outputs.shape[1] * itemsize))

    def update(self, u: np.ndarray, out: np.ndarray | None = None, start: int = 0) -> np.ndarray:
        """The analysis of the columns of an ensemble from ``start`` on.

        Parameters
        ----------
        u : (J, m)
            Columns ``start`` to ``start + m`` of the ensemble. ``start`` is a multiple of `tile`. m
            is a multiple of `tile` too unless these are the last columns.
        out : (J, m), optional
            Array for the result; ``u`` itself is allowed.
        start : int, default 0
            The number of the first column.

        Returns
        -------
        (J, m)
            The updated columns.
        """
        out = np.empty_like(u) if out is None else out
        width = self.tile(u.itemsize)
        for first in range(0, u.shape[1], width):
            c = slice(first, min(first + width, u.shape[1]))
            self._update_tile(u[:, c], out[:, c], slice(start + c.start, start + c.stop))
        return out

    def _update_tile(self, u: np.ndarray, out: np.ndarray, columns: slice) -> None:
        near = self.localizer.neighbourhoods(columns, u, self.outputs)
        if self.noise is not None and (near.weight != 1).any():
            check_independent(self.noise, "weights other than 0 and 1")
        size = np.diff(near.start)
        own = near.analysis.shape[1] == 1 and len(near.mixture) == len(size)
        if own and self.noise is None and size.max(initial=0) <= 2 * self.outputs.shape[1]:
            at_once(self._one_by_one(near, u, out))
        else:
            self._together(near, u, out)

    # Parameters with their own analysis

    def _one_by_one(
        self, near: Neighbourhoods, u: np.ndarray, out: np.ndarray
    ) -> Iterator[Callable[[], None]]:
        chosen = near.analysis[near.mixture, 0]

        def job(part: np.ndarray, k: int) -> None:
            here, e = _members_at(u, part)
            place = near.start[chosen[part], None] + np.arange(k)
            here += self._moves(near.data[place], near.weight[place], e.T).T
            out[:, part] = here

        for k, which in _by_size(np.diff(near.start)[chosen]):
            if k == 0:
                yield partial(_keep, u, which, out)
            else:
                yield from (partial(job, part, k) for part in self._batches(which, k))

    def _moves(self, index: np.ndarray, weight: np.ndarray, e: np.ndarray) -> np.ndarray:
        """The increments ``(n, J)`` of n parameters with anomalies e ``(n, J)`` and k data each."""
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

    # Analyses shared by several parameters

    def _together(self, near: Neighbourhoods, u: np.ndarray, out: np.ndarray) -> None:
        n = len(near.analysis)
        small = np.uint16 if n <= 1 << 16 else np.int64  # 16-bit integers are sorted in O(m)
        order = np.argsort(near.mixture.astype(small), kind="stable")
        end = np.cumsum(np.bincount(near.mixture, minlength=n))
        f = self.outputs.astype(u.dtype, copy=False)
        draw = None if self.draw is None else self.draw.astype(u.dtype, copy=False)
        last = np.zeros(len(near.start) - 1, dtype=np.int64)  # last mixture that needs an analysis
        np.maximum.at(last, near.analysis, np.arange(n)[:, None])
        operators: dict[int, _Operator] = {}
        short = u.size < _SHORT * n

        def job(i: int) -> None:
            cells = order[end[i - 1] if i else 0 : end[i]]
            parts = [
                (operators[k], near.share[cells, at].astype(u.dtype))
                for at, k in enumerate(near.analysis[i].tolist())
                if k in operators
            ]
            if parts:
                here, e = _members_at(u, cells)
                here += self._moved_together(parts, e, f, draw)
                out[:, cells] = here
            else:
                _keep(u, cells, out)

        for first in range(0, n, _MIXTURES):  # bounds the memory of the operators
            some = range(first, min(first + _MIXTURES, n))
            wanted = np.unique(near.analysis[first : some.stop])
            known = np.fromiter(operators, dtype=np.int64, count=len(operators))
            operators |= self._operators(near, np.setdiff1d(wanted, known), short)
            at_once((partial(job, i) for i in some), short=short)
            for k in [k for k in operators if last[k] < some.stop]:
                del operators[k]

    def _moved_together(
        self,
        parts: list[tuple[_Operator, np.ndarray]],
        e: np.ndarray,
        f: np.ndarray,
        draw: np.ndarray | None,
    ) -> np.ndarray:
        """The increments ``(J, m)`` of m parameters that mix the same analyses."""
        index = np.unique(np.concatenate([op.data for op, _ in parts]))
        if len(index) > 2 * len(e) or any(isinstance(op, _OfMembers) for op, _ in parts):
            moved = np.zeros_like(e)
            for op, share in parts:
                moved += self._in_members(op).astype(e.dtype) @ (e * share)
            return moved
        near = f[index]
        z = near @ e
        y, drawn = np.zeros_like(z), np.zeros_like(z)
        mean = np.zeros(e.shape[1], dtype=e.dtype)
        for op, share in parts:
            if isinstance(op, _OfMembers):
                continue
            at = np.searchsorted(index, op.data)
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
        if isinstance(op, _OfMembers):
            return op.coefficients
        f = self.outputs[op.data]
        k = f.T @ (op.weights @ f) + op.mean @ f
        if op.draws is not None and self.draw is not None:
            k += self.draw[op.data].T @ (op.draws @ f)
        return k

    def _operators(
        self, near: Neighbourhoods, which: np.ndarray, short: bool
    ) -> dict[int, _Operator]:
        """The operators of those analyses of ``which`` that have data, by number."""
        found: dict[int, _Operator] = {}

        def job(part: np.ndarray, k: int) -> None:
            place = near.start[part, None] + np.arange(k)
            made: Iterable[_Operator]
            if self._by_members(k):
                made = [self._of_members(near.data[place[0]], near.weight[place[0]])]
            else:
                made = self._of_data(near.data[place], near.weight[place])
            found.update(zip(part.tolist(), made, strict=True))

        sizes = ((k, which[at]) for k, at in _by_size(np.diff(near.start)[which]) if k)
        jobs = (
            partial(job, part, k)
            for k, some in sizes
            for part in (some[:, None] if self._by_members(k) else self._batches(some, k))
        )
        at_once(jobs, short=short)
        return found

    def _by_members(self, k: int) -> bool:
        """Whether an analysis with k data is computed in the space of the members."""
        return k > self.outputs.shape[1] or self.noise is not None

    def _of_data(self, index: np.ndarray, weight: np.ndarray) -> Iterator[_OfData]:
        """M, m and D of n analyses with k data each."""
        root = np.sqrt(weight)
        _, s, v = self._decomposed(index, root)
        turned = v * root[:, :, None]
        damped = (turned * (self.a / (1 + self.a * s))[:, None, :]) @ turned.swapaxes(1, 2)
        mean = -_each(damped, self.mean[index])
        if self.draw is None:
            weights = (turned * self._phi(s)[:, None, :]) @ turned.swapaxes(1, 2)
            return map(_OfData, index, weights, mean)
        draws = (v * (self.a / (1 + self.a * s))[:, None, :]) @ turned.swapaxes(1, 2)
        return map(_OfData, index, -damped, mean, draws)

    def _of_members(self, index: np.ndarray, weight: np.ndarray) -> _OfMembers:
        """K of one analysis, computed in the space of the members."""
        f, mean = self.outputs[index], self.mean[index]
        draw = None if self.draw is None else self.draw[index]
        if self.noise is not None:
            own = self.noise.marginal(index)
            f, mean = own.whiten(f.T).T, own.whiten(mean)
            draw = None if draw is None else own.whiten(draw.T).T
        root = np.sqrt(weight)
        f, mean = f * root[:, None], root * mean
        _, s, q = np.linalg.svd(f, full_matrices=False)  # of F_I W, unsquared: no loss of accuracy
        s = s * s
        damped = (q.T * (self.a / (1 + self.a * s))) @ q  # a (I + a F Fᵀ)⁻¹ on the span of F
        k = -(mean @ f) @ damped
        if draw is None:
            k = k + (q.T * (1 / np.sqrt(1 + self.a * s) - 1)) @ q
        else:
            k = k + (draw.T @ f) @ damped - (q.T * (self.a * s / (1 + self.a * s))) @ q
        return _OfMembers(index, k - k.mean(axis=1, keepdims=True))

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
        """((1 + as)^{-1/2} − 1)/s in a form that is finite at s = 0."""
        root = np.sqrt(1 + self.a * s)
        return np.asarray(-self.a / (root * (1 + root)))

    def _batches(self, which: np.ndarray, k: int) -> list[np.ndarray]:
        size = max(1, _BATCH_BYTES // (8 * k * (self.outputs.shape[1] + k)))
        return [which[i : i + size] for i in range(0, len(which), size)]


def _members_at(u: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The columns ``cells`` of u, and their U − u_J, which is zero for a constant column."""
    here = u[:, cells]
    return here, here - here[-1:]


def _keep(u: np.ndarray, cells: np.ndarray, out: np.ndarray) -> None:
    """Copy the columns that have no data near them."""
    if out is not u:
        out[:, cells] = u[:, cells]


def _each(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The product of matrix i and vector i, for all i."""
    return np.asarray((matrices @ vectors[:, :, None])[:, :, 0])


def _by_size(size: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Every size, and the indices of its entries."""
    order = np.argsort(size, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(size[order])) + 1):
        if len(part):
            yield int(size[part[0]]), part
