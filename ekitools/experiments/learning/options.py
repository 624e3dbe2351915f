"""Options of the three kinds of members: `rank_one`, `per_datum` and `layerwise`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Factored", "Layerwise", "Local", "Options"]


@dataclass(frozen=True)
class Factored:
    """How one network learns by one ensemble, whose members differ by matrices of rank one.

    Parameters
    ----------
    steps : int
        Of every run.
    members : int
        J.
    components : int
        Principal components of the inputs that are used.
    weighting : float
        Power of a component's standard deviation that it is multiplied with; 0 for none.
    batch, batch_growth : int, float
        Samples of the first step, and the factor from one step to the next.
    damping, damping_growth : float
        λ of the first step, and its factor.
    decay : float
        Part of the weights that a step of λ = 1 takes away: the prior's pull to zero.
    gamma : float
        Spread of the members.
    memory : int
        Latest steps that are members too.
    averaging : float
        Weight of the past in the exponential average of the mean.
    antithetic : bool
        Whether every second member is the mirror image of another, on the other side of ū.
    """

    steps: int
    members: int = 400
    components: int = 150
    weighting: float = 0.5
    batch: int = 2000
    batch_growth: float = 1.0015
    damping: float = 2.0
    damping_growth: float = 1.0005
    decay: float = 0.0
    gamma: float = 0.02
    memory: int = 100
    averaging: float = 0.98
    antithetic: bool = False


@dataclass(frozen=True)
class Local:
    """How one network learns where every datum has members of its own.

    Parameters
    ----------
    steps : int
        Of every run.
    members : int
        J, of every datum and hidden layer.
    components, weighting, batch, batch_growth, gamma, averaging, antithetic
        As of `Factored`.
    damping, damping_growth : float
        λ of the first step, and its factor.
    prior : float
        Precision of weights around zero for a datum, in units of 1/s² (biases have none).
    iterations : int
        Of conjugate gradients.
    momentum : float
        Part of the step before from which they start.
    """

    steps: int
    members: int = 100
    components: int = 80
    weighting: float = 0.25
    batch: int = 2000
    batch_growth: float = 1.001
    damping: float = 1e-3
    damping_growth: float = 1.0
    prior: float = 3e-6
    iterations: int = 3
    momentum: float = 0.9
    gamma: float = 0.02
    averaging: float = 0.98
    antithetic: bool = False


@dataclass(frozen=True)
class Layerwise:
    """How a convolutional network learns where every layer has members.

    Parameters
    ----------
    steps : int
        Of every run.
    batch, batch_growth, damping, damping_growth, prior, iterations, momentum, gamma, averaging
        As of `Local`.
    """

    steps: int
    batch: int = 250
    batch_growth: float = 1.0015
    damping: float = 1e-2
    damping_growth: float = 1.0
    prior: float = 3e-6
    iterations: int = 3
    momentum: float = 0.9
    gamma: float = 0.02
    averaging: float = 0.98


Options = Factored | Local | Layerwise
