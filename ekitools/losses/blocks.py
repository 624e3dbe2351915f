"""Noise of independent blocks of data, with a separate noise for each block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ekitools.core.arrays import array_namespace, as_real, digest, host, like, take_columns
from ekitools.core.checks import integer, put, sequence
from ekitools.core.indices import kept_indices
from ekitools.losses.formed import FormedNoise, form_of
from ekitools.losses.forms import Dense, Diagonal, Form, stacked
from ekitools.losses.gaussian import GaussianNoise, as_noise
from ekitools.typing import Array, MarginalNoise, NoiseModel

__all__ = ["BlockNoise", "joined"]

_SMALL = 32
"""Most data of a dense block that is whitened in a stack with others of its size."""


@dataclass(frozen=True, eq=False, repr=False)
class BlockNoise(FormedNoise):
    r"""Observation noise η ~ N(0, blockdiag(Γ_1, ..., Γ_B)) of B independent blocks of data.

    Parameters
    ----------
    blocks : mapping of str to noise, or sequence of noises
        The noise of each block, in the order of the data: a `GaussianNoise`, what
        `GaussianNoise` takes as covariance, or another noise model. The blocks of a sequence
        have the names 0, 1, ..., B − 1. An array ``(B, k, k)`` is a sequence of matrices.
    sizes : mapping of str to int, or sequence of int, optional
        The number of data of each block. Only a block with one variance needs one.

    Attributes
    ----------
    names : tuple
        Names of the blocks.

    Raises
    ------
    TypeError, ValueError
        If there is no block, a block is no noise, or a size is missing or does not fit.

    See Also
    --------
    GaussianNoise : The noise of one block.

    Notes
    -----
    No d × d matrix is formed. Blocks with variances are whitened by one multiplication, dense
    blocks of one size k ≤ 32 by one product of stacks ``(B, k, k)``, and every other block by
    its own map.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> noise = ek.BlockNoise({"temp": 0.25, "wind": [[2.0, 1.0], [1.0, 2.0]]}, sizes={"temp": 3})
    >>> noise
    BlockNoise(temp: 3, wind: 2)
    >>> noise["temp"]
    GaussianNoise(cov=0.25)
    >>> noise.sd.round(2)
    array([0.5 , 0.5 , 0.5 , 1.41, 1.41])
    >>> noise.whiten(np.array([0.5, 0.0, 1.0, 0.0, 0.0]))
    array([1., 0., 2., 0., 0.])
    """

    blocks: Any
    sizes: Any = None
    names: tuple[Any, ...] = field(init=False)
    _form: Form = field(init=False)

    def __post_init__(self) -> None:
        blocks, sizes = _checked(self.blocks, self.sizes)
        noises = tuple(blocks.values())
        variances = _variances(noises, sizes)
        form = _blocks(noises, sizes) if variances is None else GaussianNoise(variances)._form
        put(self, blocks=blocks, sizes=sizes, names=tuple(blocks), _form=form)

    def __getitem__(self, name: Any) -> NoiseModel:
        try:
            return self.blocks[name]
        except KeyError:
            known = ", ".join(map(repr, self.names[:20]))
            raise KeyError(f"name: must be one of {known}, got {name!r}.") from None

    def __repr__(self) -> str:
        shown = [f"{n}: {k}" for n, k in zip(self.names[:8], self.sizes, strict=False)]
        rest = len(self.names) - len(shown)
        return f"BlockNoise({', '.join(shown)}{f', and {rest} more' if rest else ''})"

    def marginal(self, kept: Any) -> BlockNoise:
        """The noise of some of the data, exactly and block by block.

        Parameters
        ----------
        kept : (d,) of bool, or indices
            The data that are kept: a mask, or different indices that keep the order of blocks.

        Returns
        -------
        BlockNoise
            The noise without the blocks that keep no datum.

        Raises
        ------
        TypeError, ValueError
            If ``kept`` is neither, or a block that loses data is no
            `ekitools.typing.MarginalNoise`.

        Examples
        --------
        >>> import ekitools as ek
        >>> noise = ek.BlockNoise([0.1, 0.2, 0.3], sizes=[2, 2, 2])
        >>> noise.marginal([True, True, False, True, False, False])
        BlockNoise(0: 2, 1: 1)
        """
        index = kept_indices(kept, self.n_data)
        ends = np.cumsum(self.sizes)
        owner = np.searchsorted(ends, index, side="right")
        if np.any(np.diff(owner) < 0):
            raise ValueError(
                "kept: indices must keep the order of the blocks, got one of an earlier block "
                "after one of a later. Pass np.sort(kept)."
            )
        cuts = np.searchsorted(owner, np.arange(len(ends) + 1))
        blocks: dict[Any, NoiseModel] = {}
        sizes: list[int] = []
        for b, (name, noise) in enumerate(self.blocks.items()):
            own = index[cuts[b] : cuts[b + 1]] - (ends[b] - self.sizes[b])
            if own.size:
                blocks[name] = _part(name, noise, own, self.sizes[b])
                sizes.append(own.size)
        return replace(self, blocks=blocks, sizes=sizes)

    def fingerprint(self) -> str:
        """A short text that changes whenever Γ does."""
        return digest("blocks", self.sizes, *(n.fingerprint() for n in self.blocks.values()))


def joined(blocks: Any, sizes: Any = None) -> NoiseModel:
    """The simplest noise that equals the noise of all blocks together.

    Parameters
    ----------
    blocks, sizes
        As for `BlockNoise`.

    Returns
    -------
    NoiseModel
        For one block its noise. One scalar if all variances are the same scalar, and variances if
        all blocks have variances. Otherwise a `BlockNoise`.

    Examples
    --------
    >>> from ekitools.losses.blocks import joined
    >>> joined([0.5, 0.5], [2, 3])
    GaussianNoise(cov=0.5)
    >>> joined([0.5, [1.0, 2.0]], [2, 2])
    GaussianNoise(4 variances)
    """
    checked, counts = _checked(blocks, sizes)
    noises = tuple(checked.values())
    variances = _variances(noises, counts)
    if len(noises) == 1:
        return noises[0]
    if variances is None:
        return BlockNoise(checked, counts)
    if all(noise.n_data is None for noise in noises) and np.ptp(variances) == 0:
        return noises[0]
    return GaussianNoise(variances)


def _checked(blocks: Any, sizes: Any) -> tuple[dict[Any, NoiseModel], tuple[int, ...]]:
    """The blocks by name, and their sizes."""
    if isinstance(blocks, NoiseModel) or not hasattr(blocks, "__iter__"):
        raise TypeError(
            f"blocks: must be a mapping of names to noises or a sequence of noises, got "
            f"{type(blocks).__name__}. Pass [noise] for one block."
        )
    if not isinstance(blocks, Mapping):  # an array (B, k, k) is a sequence too
        what = "a mapping of names to noises or a sequence of noises"
        several = getattr(blocks, "ndim", 1) > 1
        blocks = dict(enumerate(blocks if several else sequence("blocks", blocks, what)))
    named = dict(blocks)
    if not named:
        raise ValueError(f"blocks: must not be empty, got {blocks!r:.60}.")
    if isinstance(sizes, Mapping):
        if unknown := [name for name in sizes if name not in named]:
            raise ValueError(
                f"sizes: must name blocks, got {unknown[0]!r}. Use the names in blocks."
            )
        given = [sizes.get(name) for name in named]
    else:
        what = "a mapping of names to numbers, or a sequence of numbers"
        given = [None] * len(named) if sizes is None else list(sequence("sizes", sizes, what))
    for name, noise in named.items():
        try:
            named[name] = as_noise(noise)
        except (TypeError, ValueError) as error:
            why = str(error).removeprefix("noise: ")
            raise type(error)(f"blocks[{name!r}]: {why}") from None
    if len(given) != len(named):
        raise ValueError(f"sizes: must have {len(named)} entries, got {len(given)}.")
    pairs = zip(named.items(), given, strict=True)
    return named, tuple(_size(name, noise.n_data, size) for (name, noise), size in pairs)


def _size(name: Any, own: int | None, given: Any) -> int:
    if given is None and own is None:
        raise ValueError(
            f"sizes: must have the number of data of block {name!r}, whose noise is one variance "
            f"for any number, got None. Pass sizes={{{name!r}: ...}}, or a variance for each datum."
        )
    size = own if given is None else integer(f"sizes[{name!r}]", given)
    if own not in (None, size):
        raise ValueError(f"sizes[{name!r}]: must be {own}, the size of its noise, got {size}.")
    return int(size)  # type: ignore[arg-type]


def _form(noise: NoiseModel) -> Form | None:
    """The form of noise that does nothing in another way than by its form."""
    return form_of(noise, "whiten", "gradient", "sample", "sd")


def _variances(noises: Sequence[NoiseModel], sizes: Sequence[int]) -> np.ndarray | None:
    """Variances of all data, to the last bit; None where a block has no variances."""
    found: list[np.ndarray] = []
    for noise, size in zip(noises, sizes, strict=True):
        own: Any = None
        if isinstance(_form(noise), Diagonal):
            if isinstance(noise, BlockNoise):
                own = _variances(tuple(noise.blocks.values()), noise.sizes)
            elif isinstance(noise, GaussianNoise):
                own = as_real("cov", noise.cov)
        if own is None:
            return None
        found.append(np.broadcast_to(own, (size,)))
    return np.concatenate(found)


def _part(name: Any, noise: NoiseModel, index: np.ndarray, size: int) -> NoiseModel:
    if index.size == size and np.array_equal(index, np.arange(size)):
        return noise
    if not isinstance(noise, MarginalNoise):
        raise TypeError(
            f"kept: must keep all {size} data of block {name!r}, whose noise "
            f"{type(noise).__name__} has no marginal, got {index.size}. Add a method "
            "marginal(kept) (see ekitools.typing.MarginalNoise)."
        )
    return noise.marginal(index)


# ------------------------------------------------------------------------------------ the form


@dataclass(frozen=True)
class _Blocks:
    """Parts of the data, each whitened by a form of its own."""

    sd: np.ndarray
    parts: tuple[Form, ...]
    cuts: tuple[slice, ...]  # of the parts, in the order of the parts
    order: np.ndarray  # indices of the data in the order of the parts
    back: np.ndarray | None  # and back again; None where the parts are in the order of the data

    def whiten(self, r: Array) -> Array:
        """W r."""
        return self._each(r, [part.whiten for part in self.parts])

    def precision(self, r: Array) -> Array:
        """Γ⁻¹ r."""
        return self._each(r, [part.precision for part in self.parts])

    def sample(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """Draws, ``(n, d)``."""
        draws = np.empty((n, d))
        for part, cut in zip(self.parts, self.cuts, strict=True):
            draws[:, self.order[cut]] = part.sample(n, cut.stop - cut.start, rng)
        return draws

    def _each(self, r: Array, maps: Sequence[Callable[[Array], Array]]) -> Array:
        r = r if self.back is None else take_columns(r, self.order)
        found = [each(r[..., cut]) for each, cut in zip(maps, self.cuts, strict=True)]
        whole = array_namespace(r).concat(found, axis=-1)
        return whole if self.back is None else take_columns(whole, self.back)


@dataclass(frozen=True)
class _Other:
    """Noise of another kind as a form."""

    noise: NoiseModel
    size: int

    @property
    def sd(self) -> np.ndarray:
        """√Γ_ii, ``(size,)``."""
        return np.broadcast_to(host(self.noise.sd), (self.size,))

    def whiten(self, r: Array) -> Array:
        """W r."""
        return self.noise.whiten(r)

    def precision(self, r: Array) -> Array:
        """Γ⁻¹ r."""
        return self.noise.gradient(r, like(np.zeros(self.size), r))

    def sample(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """Draws, ``(n, d)``."""
        size = {"n_data": d} if self.noise.n_data is None else {}
        return host(self.noise.sample(n, rng=rng, **size))


def _blocks(noises: Sequence[NoiseModel], sizes: Sequence[int]) -> _Blocks:
    """The form of blocks that are not all diagonal."""
    forms = [_form(noise) or _Other(noise, k) for noise, k in zip(noises, sizes, strict=True)]
    diagonal: dict[int, Diagonal] = {}
    small: dict[int, dict[int, Dense]] = {}  # by their size
    parts: list[tuple[Form, list[int]]] = []  # with the numbers of their blocks
    for b, form in enumerate(forms):
        if isinstance(form, Diagonal):
            diagonal[b] = form
        elif isinstance(form, Dense) and sizes[b] <= _SMALL:
            small.setdefault(sizes[b], {})[b] = form
        else:
            parts.append((form, [b]))
    parts += [(stacked([*same.values()]), [*same]) for same in small.values()]
    if diagonal:
        scales = [np.broadcast_to(form.scale, sizes[b]) for b, form in diagonal.items()]
        scale = np.concatenate(scales)
        parts.append((Diagonal(1 / scale, scale), [*diagonal]))
    starts = np.cumsum([0, *sizes])
    data = [np.concatenate([np.arange(starts[b], starts[b + 1]) for b in own]) for _, own in parts]
    ends = np.cumsum([0, *map(len, data)]).tolist()
    order = np.concatenate(data)
    sd = [np.broadcast_to(form.sd, size) for form, size in zip(forms, sizes, strict=True)]
    return _Blocks(
        np.concatenate(sd),
        tuple(form for form, _ in parts),
        tuple(map(slice, ends, ends[1:])),
        order,
        None if np.all(np.diff(order) == 1) else np.argsort(order),
    )
