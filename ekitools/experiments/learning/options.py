"""Options of the three kinds of members: `rank_one`, `per_datum` and `layerwise`.

The kinds share most options, so the fields stand in base classes. Positional arguments begin with
the fields of the last base and end with those of the class itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

__all__ = ["DenseRun", "Factored", "GaussNewton", "Growing", "Layerwise", "Local", "Options", "Run"]


@dataclass(frozen=True)
class Run:
    """Options of every run.

    Parameters
    ----------
    steps : int
        Number of steps.
    """

    steps: int


@dataclass(frozen=True)
class DenseRun(Run):
    """Options of dense networks: their members and their inputs.

    Parameters
    ----------
    members : int
        Number of members J.
    components : int
        Number of principal components of the images that are inputs.
    weighting : float
        Every component is multiplied by its standard deviation to this power.
    """

    members: int = 100
    components: int = 80
    weighting: float = 0.25


@dataclass(frozen=True)
class Growing:
    """Options that grow from step to step: the batch and the damping.

    Parameters
    ----------
    batch, batch_growth : int, float
        Batch size of the first step, and its factor from one step to the next.
    damping, damping_growth : float
        Damping λ of the first step, and its factor from one step to the next.
    """

    batch: int = 2000
    batch_growth: float = 1.001
    damping: float = 1e-3
    damping_growth: float = 1.0

    def at(self, step: int) -> Self:
        """The options of one step, with its ``batch`` and its ``damping``."""
        return replace(
            self,
            batch=int(self.batch * self.batch_growth**step),
            damping=self.damping * self.damping_growth**step,
        )


@dataclass(frozen=True)
class GaussNewton(Growing):
    """Options of the step of `gauss_newton`.

    Parameters
    ----------
    prior : float
        Precision of weights around zero for one datum, in units of 1/s². Biases have no prior.
    iterations : int
        Number of iterations of conjugate gradients.
    momentum : float
        Conjugate gradients start from this part of the last step.
    gamma : float
        Spread γ of the members.
    averaging : float
        Weight of the past in the exponential average of the mean.
    """

    prior: float = 3e-6
    iterations: int = 3
    momentum: float = 0.9
    gamma: float = 0.02
    averaging: float = 0.98


@dataclass(frozen=True)
class Factored(Growing, DenseRun):
    """Options of `rank_one`: one ensemble, whose members differ by matrices of rank one.

    Parameters
    ----------
    decay : float
        Part of the weights that a step with λ = 1 removes, because the prior has mean zero.
    gamma : float
        Spread γ of the members.
    memory : int
        Number of latest steps that are members too.
    averaging : float
        Weight of the past in the exponential average of the mean.
    antithetic : bool
        Whether the members are pairs of mirror images around ū.
    """

    members: int = 400
    components: int = 150
    weighting: float = 0.5
    batch_growth: float = 1.0015
    damping: float = 2.0
    damping_growth: float = 1.0005
    decay: float = 0.0
    gamma: float = 0.02
    memory: int = 100
    averaging: float = 0.98
    antithetic: bool = False


@dataclass(frozen=True)
class Local(GaussNewton, DenseRun):
    """Options of `per_datum`: every datum and hidden layer has members of its own.

    Parameters
    ----------
    antithetic : bool
        As of `Factored`.
    """

    antithetic: bool = False


@dataclass(frozen=True)
class Layerwise(GaussNewton, Run):
    """Options of `layerwise`: every layer of a convolutional network has members."""

    batch: int = 250
    batch_growth: float = 1.0015
    damping: float = 1e-2


Options = Factored | Local | Layerwise
