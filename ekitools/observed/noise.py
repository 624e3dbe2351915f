"""Noise in the form of the data: by block, by label or for all entries, without the gaps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ekitools.losses.blocks import joined
from ekitools.losses.gaussian import as_loss, as_noise
from ekitools.observed.blocks import as_labelled
from ekitools.observed.layout import Layout, parts_of
from ekitools.typing import Loss, MarginalNoise, NoiseModel

__all__ = ["noise_of"]


def noise_of(layout: Layout, noise: Any, noise_sd: Any) -> Loss:
    """The noise, or the loss, of the observed data.

    Parameters
    ----------
    layout : Layout
        Layout of the data.
    noise, noise_sd : covariance, NoiseModel, loss, or a mapping of these by block
        Exactly one of both. An array of variances or of standard deviations, plain or labelled,
        has the form of the data.

    Raises
    ------
    TypeError, ValueError
        If a block has no noise or is unknown, or sizes or labels disagree.
    """
    argument, given = ("noise", noise) if noise_sd is None else ("noise_sd", noise_sd)
    if noise is not None and noise_sd is not None:
        as_loss(noise, noise_sd)  # refuses both together
    parts = parts_of(given)
    if parts is None:
        if as_labelled(given) is not None:
            given = layout.flat(argument, given)
        return _observed(argument, _made(argument, given), layout.kept)
    layout.check_names(argument, parts, more=False)
    noises, sizes = {}, []
    for block in layout.blocks:
        kept = layout.kept[layout.slices[block.name]]
        if not kept.any():
            continue
        name, part = f"{argument}[{block.name!r}]", parts[block.name]
        if as_labelled(part) is not None or (block.shape and np.shape(part) == block.shape):
            part = block.flat(name, part)
        made = _observed(name, _made(name, part), kept)
        if not isinstance(made, NoiseModel):
            raise TypeError(
                f"{name}: must be Gaussian noise, got the loss {type(made).__name__}. A loss "
                "is for all blocks: pass the loss in place of the mapping."
            )
        noises[block.name] = made
        sizes.append(int(np.count_nonzero(kept)))
    return joined(noises, sizes)


def _made(argument: str, value: Any) -> Loss:
    """The noise from a covariance or from standard deviations, depending on ``argument``."""
    try:
        return as_noise(None, value) if argument.startswith("noise_sd") else as_loss(value)
    except (TypeError, ValueError) as error:
        if "[" not in argument:
            raise
        raise type(error)(f"{argument}: {str(error).removeprefix('noise: ')}") from None


def _observed(argument: str, noise: Loss, kept: np.ndarray) -> Loss:
    """The noise of the observed entries."""
    n_data = noise.n_data if isinstance(noise, NoiseModel) else None
    gaps = np.count_nonzero(~kept)
    if n_data not in (None, kept.size, kept.size - gaps):
        raise ValueError(
            f"{argument}: must be for the {kept.size} data, got a covariance for {n_data}. Pass "
            "one variance, one for each datum, or a d x d matrix."
        )
    if gaps == 0 or n_data == kept.size - gaps:
        return noise
    if isinstance(noise, MarginalNoise):
        return noise.marginal(kept)
    if n_data is None and isinstance(noise, NoiseModel):
        return noise
    raise TypeError(
        f"{argument}: must have marginal(kept) if data are missing, here {gaps} (see "
        f"ekitools.typing.MarginalNoise), got {type(noise).__name__}. Use ek.GaussianNoise, or "
        "leave the missing data out yourself."
    )
