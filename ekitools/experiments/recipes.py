"""Recipes: the methods by which networks learn, with all of their options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import ekitools as ek
from ekitools.experiments.published import EKI_METHODS
from ekitools.typing import Method, Seen

__all__ = ["CurvatureLearning", "Descent", "FallingNormStep", "Learning", "Recipe", "scheme"]


@dataclass(frozen=True)
class Descent:
    """Stochastic gradient descent by `torch.optim`, from one draw of the prior."""

    epochs: int
    rate: float
    momentum: float = 0.0
    batch: int = 100


@dataclass(frozen=True)
class FallingNormStep(ek.NormStep):
    """The step h_n = h/((1 + decay n)(‖D‖ + ε))."""

    decay: float = 0.0

    def step(self, seen: Seen) -> float:
        """The step at n."""
        return super().step(seen) / (1 + self.decay * seen.n)


@dataclass(frozen=True)
class Learning:
    """`LossEKI` with h_n = h/(‖D‖ + ε), with or without redraws and momentum."""

    n_members: int
    epochs: int
    h: float = 2.0
    epsilon: float = 0.5
    redraw: Literal["never", "step", "epoch"] = "never"
    gamma: float = 1.0
    """Spread γ of the redrawn members."""
    decay: float = 0.0
    """Decay of γ by step."""
    momentum: bool = False
    batch: int = 600
    decay_h: float = 0.0
    """Decay of h by step."""

    def method(self, steps_per_epoch: int) -> Method:
        """The method of ekitools with these options."""
        spread = None
        if self.redraw != "never":
            every = steps_per_epoch if self.redraw == "epoch" else 1
            spread = ek.Spread(self.gamma, every=every, decay=self.decay)
        rule = (
            FallingNormStep(self.h, self.epsilon, self.decay_h)
            if self.decay_h
            else ek.NormStep(self.h, self.epsilon)
        )
        method = ek.LossEKI(rule, spread)
        return ek.Nesterov(method) if self.momentum else method


@dataclass(frozen=True)
class CurvatureLearning:
    """`CurvatureEKI`, a method of ekitools that is not among the published methods."""

    n_members: int
    epochs: int
    damping: float = 1.0
    memory: int = 0
    batch: int = 2000
    gamma: float = 0.02
    """Spread of the members. A wide spread smooths the jumps of G."""

    def method(self, steps_per_epoch: int) -> Method:  # noqa: ARG002 - the signature of `Learning.method`
        """The method of ekitools with these options."""
        return ek.CurvatureEKI(self.gamma, self.damping, memory=self.memory)


Recipe = Descent | Learning | CurvatureLearning


def scheme(n_members: int, epochs: int = 50) -> dict[str, Learning]:
    """The four methods of Kovachki & Stuart (2019), by name of `EKI_METHODS`.

    All have h = 2, ε = 0.5 and batches of 600 images. EKI(R) and MEKI(R) redraw the members once an
    epoch with γ = 1.
    """
    plain = Learning(n_members, epochs)
    redrawn = replace(plain, redraw="epoch")
    each = (plain, replace(plain, momentum=True), redrawn, replace(redrawn, momentum=True))
    return dict(zip(EKI_METHODS, each, strict=True))
