"""Noise of unknown level: scales by block of data, each with a prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ekitools.core.arrays import digest, host
from ekitools.core.checks import put
from ekitools.core.described import first
from ekitools.losses.gaussian import as_loss
from ekitools.observed.layout import Layout
from ekitools.observed.noise import noise_of
from ekitools.observed.scales import ScalePrior
from ekitools.priors.families import check_marginal, identity
from ekitools.typing import Array, NoiseModel

__all__ = ["ScaledGaussian", "UnknownNoise", "check_no_parts"]


@dataclass(frozen=True, eq=False)
class UnknownNoise:
    r"""Gaussian noise η ~ N(0, blockdiag(s_b² Γ_b)) with unknown scales s_b.

    Pass it in place of the noise. The scales become parameters of the problem, after the
    parameters of the model, with the names ``sigma`` or ``sigma_<block>``. Tables and plots of a
    result therefore show the scales with their uncertainty. The model does not receive the scales.
    A scale multiplies the standard deviations of the shape Γ_b. With the shape 1 the scale is the
    standard deviation.

    Parameters
    ----------
    prior : frozen scipy.stats distribution, or a mapping of these
        Prior of the scale s, a positive number. A mapping has one prior for every scale, by the
        name of the block or by the label. Data outside the mapping have the known noise ``shape``.
    shape : covariance, NoiseModel, or a mapping of these by block, default 1
        Shape Γ_b, in any form that `InverseProblem` takes as noise. Data with different scales are
        independent.
    blocks : sequence of str, or labels (d,), optional
        For data in blocks: the names of the blocks with their own scale, by default all. The
        other blocks have the known noise ``shape``. For one array: a label for every datum. Data
        with the same label share a scale. By default an array has one scale.
    variance : frozen scipy.stats distribution, or a mapping of these, optional
        Prior of s², in place of ``prior``: ``stats.invgamma(a, scale=b)`` for example.

    Raises
    ------
    TypeError, ValueError
        If both or neither of ``prior`` and ``variance`` are given, or a distribution is not
        continuous and positive.

    See Also
    --------
    GaussianNoise : Noise of a known level.
    TemperedSMC, GNKI, EKI : The methods that estimate the scales.

    Notes
    -----
    The density of the data y given u and s is
    :math:`\prod_b s_b^{-d_b} \exp(-\|\Gamma_b^{-1/2}(G(u) - y)_b\|^2 / 2 s_b^2)` up to a
    constant. `TemperedSMC` samples u and s jointly. `GNKI` and `EKI` draw s from its
    posterior under their linear fit of the model, with u integrated out, and give every member
    its own draw of the noise level (see `GNKI`). In a result, ``misfit`` uses the scales of each
    member. ``noise_sd`` uses the root mean square of the scales over the last ensemble, so outputs
    plus noise have the variance of the posterior predictive. The attribute ``unknown_noise`` holds
    these root mean squares by name.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import stats
    >>> import ekitools as ek
    >>> x = np.linspace(0, 1, 40)
    >>> data = 1 + 2 * x + 0.3 * np.random.default_rng(0).standard_normal(40)
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel(np.stack([np.ones(40), x], axis=1)),
    ...     ek.GaussianPrior([0.0, 0.0], 9.0),
    ...     ek.UnknownNoise(stats.lognorm(1.0)),
    ...     data,
    ... )
    >>> problem.parameter_names
    ('u0', 'u1', 'sigma')
    >>> result = ek.run(problem, ek.GNKI(), n_members=500, rng=0)
    >>> ek.posterior(result).sigma.quantile([0.05, 0.95]).values.round(1)  # 0.3 was true
    array([0.2, 0.3])
    """

    prior: Any = None
    shape: Any = 1.0
    blocks: Any = None
    variance: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if (self.prior is None) == (self.variance is None):
            raise TypeError(
                "prior, variance: must be given as prior, the distribution of the scale, or as "
                "variance, the distribution of its square, got "
                f"{'None for both' if self.prior is None else 'both'}."
            )
        argument = "variance" if self.prior is None else "prior"
        given = getattr(self, argument)
        several = isinstance(given, Mapping)
        if several and not given:
            raise ValueError(f"{argument}: must not be empty, got {given!r:.60}.")
        for name, marginal in (given if several else {"": given}).items():
            _check_positive(f"{argument}[{name!r}]" if several else argument, marginal)
        if several:
            put(self, **{argument: dict(given)})

    def bound(self, data: np.ndarray, layout: Layout | None) -> ScaledGaussian:
        """The noise of these data.

        Parameters
        ----------
        data : (d,)
            All observed data.
        layout : Layout or None
            Layout of the data.

        Raises
        ------
        TypeError, ValueError
            If a block or a label is unknown, or the shape does not fit the data.
        """
        shape = self._shape(len(data), layout)
        labels, scaled = self._labels(len(data), layout)
        given = self.variance if self.prior is None else self.prior
        present = dict.fromkeys(label for label in labels if label in scaled)
        marginals = {
            _name(label): given[label] if isinstance(given, Mapping) else given for label in present
        }
        numbers = {label: b for b, label in enumerate(present)}
        groups = np.array([numbers.get(label, -1) for label in labels])
        groups.flags.writeable = False
        _check_independent(shape, groups)
        return ScaledGaussian(
            self, shape, groups, ScalePrior(marginals, squared=self.prior is None)
        )

    def _shape(self, d: int, layout: Layout | None) -> NoiseModel:
        try:
            found = as_loss(self.shape) if layout is None else noise_of(layout, self.shape, None)
        except (TypeError, ValueError) as error:
            raise type(error)(f"shape: {str(error).removeprefix('noise: ')}") from None
        if not isinstance(found, NoiseModel):
            raise TypeError(
                f"shape: must be a covariance or Gaussian noise, got the loss "
                f"{type(found).__name__}. A loss has no scale: pass it in place of UnknownNoise."
            )
        if found.n_data not in (None, d):
            raise ValueError(f"shape: must be for the {d} data, got one for {found.n_data}.")
        return found

    def _labels(self, d: int, layout: Layout | None) -> tuple[list[Any], set[Any]]:
        """The label of every datum, and the labels that have a scale."""
        if layout is not None and layout.named:
            labels = layout.coordinates()["block"].tolist()
            known = set(layout.block_names)
            chosen = known if self.blocks is None else _names(self.blocks, known)
        else:
            labels = self._given_labels(d, layout)
            known = chosen = set(labels)
        given = self.variance if self.prior is None else self.prior
        if isinstance(given, Mapping):
            lacking = [label for label in given if label not in known]
            if self.blocks is not None and layout is not None and layout.named:
                lacking += [label for label in chosen if label not in given]
            if lacking:
                raise ValueError(
                    f"{'variance' if self.prior is None else 'prior'}: must have the blocks or "
                    f"labels of the data as keys, {_listed(known)}, got a mapping that does not "
                    f"fit at {lacking[0]!r}. For one array of data pass labels as blocks=."
                )
            chosen = set(given)
        return labels, chosen

    def _given_labels(self, d: int, layout: Layout | None) -> list[Any]:
        if self.blocks is None:
            return [""] * d
        labels = np.asarray(self.blocks)
        whole = d if layout is None else layout.n_whole
        if labels.shape not in ((d,), (whole,)):
            raise ValueError(
                f"blocks: must have a label for each of the {whole} data, got the shape "
                f"{labels.shape}. Or pass data in blocks, data={{name: array}}, and the names of "
                "blocks."
            )
        if len(labels) != d and layout is not None:
            labels = labels[layout.kept]
        return list(labels.tolist())


@dataclass(frozen=True, eq=False)
class ScaledGaussian:
    """A `ScaledNoise` of unknown scales for the data of one problem."""

    options: UnknownNoise
    shape: NoiseModel
    groups: np.ndarray
    prior: ScalePrior

    def __repr__(self) -> str:
        return f"UnknownNoise({first(self.prior.names)})"

    @property
    def n_scales(self) -> int:
        """Number of scales B."""
        return self.prior.n_parameters

    @property
    def sd(self) -> np.ndarray:
        """Marginal standard deviations if every scale is 1."""
        return np.broadcast_to(self.shape.sd, self.groups.shape)

    def sd_at(self, scales: np.ndarray) -> np.ndarray:
        """Marginal standard deviations at the scales ``(B,)``."""
        return np.asarray(self.shape.sd) * np.append(scales, 1.0)[self.groups]

    def scales(self, ensemble: Array) -> np.ndarray:
        """The scales of unconstrained members ``(J, p + B)``."""
        return self.prior.to_physical(host(ensemble)[:, -self.n_scales :].astype(np.float64))

    def fingerprint(self) -> str:
        """A short text that changes whenever the shape, a scale or a prior does."""
        return digest("unknown", self.shape.fingerprint(), self.groups, self.prior.fingerprint())


def check_no_parts(noise: Any) -> None:
    """Refuse a mapping of noises by block that contains an `UnknownNoise`.

    Raises
    ------
    TypeError
        With the way to give a prior to every block.
    """
    if not isinstance(noise, Mapping):
        return
    parts = [name for name, part in noise.items() if isinstance(part, UnknownNoise)]
    if parts:
        raise TypeError(
            f"noise: must be one UnknownNoise for all blocks, got one for {parts[0]!r} alone. Pass "
            f"ek.UnknownNoise({{{parts[0]!r}: prior, ...}}). Blocks that are not in the mapping of "
            "priors have the known noise shape=."
        )


def _check_positive(where: str, marginal: Any) -> None:
    check_marginal(where, marginal)
    low, _ = marginal.support()
    if low < 0:
        raise ValueError(
            f"{where}: must be positive, got {identity(marginal)[0]} with the lower bound "
            f"{float(low):g}. Use a distribution such as scipy.stats.lognorm(1.0, scale=0.3)."
        )


def _names(blocks: Any, known: set[Any]) -> set[Any]:
    names = [blocks] if isinstance(blocks, str) else list(blocks)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(
            f"blocks: must be names of blocks of the data, {_listed(known)}, got "
            f"{unknown[0]!r}." if unknown else "blocks: must not be empty."
        )  # fmt: skip
    return set(names)


def _name(label: Any) -> str:
    return "sigma" if label == "" else f"sigma_{label}"


def _listed(names: set[Any]) -> str:
    return ", ".join(sorted(map(repr, names))[:8])


def _check_independent(shape: NoiseModel, groups: np.ndarray) -> None:
    """Check that whitening does not mix data with different scales.

    A random vector of one group is whitened, and must stay within this group.
    """
    present = np.unique(groups)
    if present.size == 1:
        return
    rows = np.random.default_rng(0).standard_normal(len(groups)) * (groups == present[:, None])
    white = np.asarray(shape.whiten(rows))
    outside = np.where(groups == present[:, None], 0.0, np.abs(white))
    if np.any(outside.max(axis=1) > 1e-8 * np.abs(white).max(axis=1)):
        raise ValueError(
            "shape: must have no covariance between data with different scales, got some. Give "
            "such data the same scale, or a shape by block."
        )
