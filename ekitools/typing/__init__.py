"""The contracts: what a model, a prior, a noise model, a rule, a method and a flow must offer.

Everything here is structural (`typing.Protocol`): a class of yours fits by having the
members, without importing ekitools. A further ability is a protocol of its own, which
``isinstance`` finds. Shapes: ``J`` members, ``p`` parameters, ``d`` data; ensembles are
``(J, p)`` and their outputs ``(J, d)``, members first.
"""

from __future__ import annotations

from ekitools.typing.arrays import Array, Rng
from ekitools.typing.flow import (
    Flow,
    OwnSteps,
    SamplingFlow,
    StochasticFlow,
)
from ekitools.typing.method import (
    Aim,
    Drawn,
    EstimatesNoise,
    InPlace,
    LearnsPrior,
    LinearOver,
    MapsMembers,
    Method,
    Normalisation,
    PerParameter,
    Quadrature,
    Redraws,
    Relinearizes,
    Reported,
    Sampler,
    Shown,
    Starts,
    State,
    StepInfo,
    Stops,
    is_sampler,
    takes_failures,
)
from ekitools.typing.noise import (
    ChecksData,
    CurvedLoss,
    Loss,
    MarginalNoise,
    NoiseModel,
    ScaledNoise,
)
from ekitools.typing.problem import (
    Batch,
    Batches,
    ChecksProblem,
    ForwardModel,
    HasSupport,
    LabelledModel,
    LinearOperatorModel,
    MemberFailure,
    ModelInfo,
    Prior,
    Target,
)
from ekitools.typing.regression import Regressor
from ekitools.typing.rules import (
    BoundedSchedule,
    Level,
    LocatedRule,
    Progress,
    Schedule,
    Seen,
    Status,
    StoppingRule,
)
from ekitools.typing.stored import ChunkedArray, StoredArray, WritableArray

__all__ = [
    "Aim",
    "Array",
    "Batch",
    "Batches",
    "BoundedSchedule",
    "ChecksData",
    "ChecksProblem",
    "ChunkedArray",
    "CurvedLoss",
    "Drawn",
    "EstimatesNoise",
    "Flow",
    "ForwardModel",
    "HasSupport",
    "InPlace",
    "LabelledModel",
    "LearnsPrior",
    "Level",
    "LinearOperatorModel",
    "LinearOver",
    "LocatedRule",
    "Loss",
    "MapsMembers",
    "MarginalNoise",
    "MemberFailure",
    "Method",
    "ModelInfo",
    "NoiseModel",
    "Normalisation",
    "OwnSteps",
    "PerParameter",
    "Prior",
    "Progress",
    "Quadrature",
    "Redraws",
    "Regressor",
    "Relinearizes",
    "Reported",
    "Rng",
    "Sampler",
    "SamplingFlow",
    "ScaledNoise",
    "Schedule",
    "Seen",
    "Shown",
    "Starts",
    "State",
    "Status",
    "StepInfo",
    "StochasticFlow",
    "StoppingRule",
    "Stops",
    "StoredArray",
    "Target",
    "WritableArray",
    "is_sampler",
    "takes_failures",
]
