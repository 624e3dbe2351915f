"""Every check of ekitools.testing finds the part that breaks its promise, and no other."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
from zoo import broken as b
from zoo.own import Own, OwnMember, OwnModel, OwnNoise, OwnPrior, OwnRule, Walk

import ekitools as ek
from ekitools import testing
from ekitools.testing import (
    check_method,
    check_model,
    check_noise,
    check_prior,
    check_schedule,
    methods,
    models,
    noises,
    priors,
    schedules,
)


class Case(NamedTuple):
    """A broken part, the check that must find it, and its sentence."""

    part: object
    check: str
    match: str
    others: tuple = ()
    """Checks that find it too; None where nothing can be checked without the first."""


METHODS = [
    Case(
        b.WithoutState(),
        "members",
        "^State: a method must have it, the NamedTuple .* without",
        None,
    ),
    Case(b.WithoutSelect(), "members", "^select: a method must have it, .* Add select", None),
    Case(b.WrongAim(), "members", '^aim: must be "posterior" or "fit", got .learning', None),
    Case(b.WrongNormalisation(), "members", '^normalisation: must be "1/J" or "1/\\(J-1\\)"', None),
    Case(b.WrongLinearOver(), "members", '^linear_over: must be "ensembles" or "last" or "none"'),
    Case(b.FlagOfText(), "members", "^updates_in_place: must be True or False, got 'no'", None),
    Case(b.ListOfRules(), "members", "^stop: must be a tuple of stopping rules", None),
    Case(b.WithoutRng(), "members", "^tell: must be a function of \\(state, g, target\\)", None),
    Case(b.StateOfDict(), "members", "^State: must be the NamedTuple class of the state", None),
    Case(b.StateWithoutTime(), "members", "^State: must have the fields ensemble, n and t", None),
    Case(b.Plain(), "options", "^options: .* frozen dataclass .* got the plain class Plain", None),
    Case(b.Mutable(), "options", "^options: .* whose fields can be assigned"),
    Case(b.Incomparable(), "options", "^options: a method must be comparable by ==, got a copy"),
    Case(b.OptionOfArray(), "options", "^options: a method must be hashable", ("resume",)),
    Case(b.OptionOfList(), "options", "^options: a method must be hashable, got TypeError"),
    Case(b.OptionOfLambda(), "options", "^options: a method must survive pickle"),
    Case(b.OptionOfObject(), "options", "recorded whole .* class Setting"),
    Case(
        b.OptionOfComplex(),
        "options",
        "^options: a method must have the same JSON .*TypeError",
        None,
    ),
    Case(
        b.OptionThatForgets(), "options", "^options: .* comparable by ==, got what pickle returns"
    ),
    Case(b.OptionThatRaises(), "options", "^options: .* comparable .*do not compare"),
    Case(b.Doubling(), "options", "same JSON whenever it is written", ("resume",)),
    Case(b.OtherState(), "state", "^init: must return a state of the class OwnState", None),
    Case(b.StartsAtOne(), "state", "^init: must return a state with n = 0 and t = 0", None),
    Case(b.ShiftsTheGiven(), "state", "^init: must not change its argument ensemble in place"),
    Case(b.EndsAtOnce(), "state", "^finished: must return None for the state before", None),
    Case(b.StateWithList(), "state", "^init: .* state.memory of the type list", None),
    Case(b.ListAfterAStep(), "state", "^tell: .* state.memory of the type list", None),
    Case(b.HalfTheMembers(), "state", "^init: must return a state whose ensemble has 9 rows", None),
    Case(b.RefusesToBegin(), "state", r"^init: must accept .* RuntimeError \(not today\)", None),
    Case(b.RefusesToAsk(), "state", r"^ask: must return .* RuntimeError \(not today\)", None),
    Case(b.RefusesToEnd(), "state", r"^finished: must return .* RuntimeError \(not today\)", None),
    Case(b.AsksAnew(), "state", "^ask: must return the same members whenever it is asked", None),
    Case(b.StatusFromTell(), "state", "^tell: StepInfo.status: must be None or an", None),
    Case(b.AsksForOne(), "state", r"^ask: must return the members \(J, p\) = \(9, 3\)", None),
    Case(b.AsksInFloat32(), "state", "^ask: must keep the dtype of the ensemble, float64", None),
    Case(b.AsksAndShifts(), "state", "^ask: must not change its argument state in place", None),
    Case(b.Uncounted(), "state", "^tell: must count its steps in state.n, got n = 2", None),
    Case(b.WithoutTime(), "state", "^tell: must add the step it reports to state.t", ("end",)),
    Case(b.Splits(), "state", "^tell: must return 9 members, one for each .* got 10", None),
    Case(b.TextStatus(), "state", "^finished: must be None or an ekitools.typing.Status", None),
    Case(b.StatusWithoutLevel(), "state", "^finished: .*Status, which has a level", None),
    Case(b.StatusOfWrongLevel(), "state", "^finished: Status.level: must be one of good", None),
    Case(b.StatusWithoutSentence(), "state", "^finished: Status.sentence: .* full stop", None),
    Case(
        b.GlobalNoise(),
        "purity",
        "^tell: must return the same step for the same state",
        ("resume", "permutation"),
    ),
    Case(b.Counts(), "purity", "^tell: must return the same step", ("resume", "permutation")),
    Case(b.ClipsOutputs(), "purity", "^tell: must not change its argument g in place", None),
    Case(b.MovesInPlace(), "purity", "^tell: must not change its argument state in place", None),
    Case(b.TwoBuffers(), "purity", "^tell: must leave the states of earlier steps", None),
    Case(b.TupleForInfo(), "info", "^tell: must return an ekitools.typing.StepInfo", None),
    Case(b.StateAlone(), "info", "^tell: must return the pair", None),
    Case(b.PenalisedMisfit(), "info", "^StepInfo.misfit: must be target.noise.misfit"),
    Case(b.MisfitInFloat32(), "info", "^StepInfo.misfit: .* dtype float64", ("float32",)),
    Case(b.ChangingNames(), "info", "^StepInfo.extra: must have the same names at every step"),
    Case(b.ArrayInExtra(), "info", "^StepInfo.extra: must have numbers", None),
    Case(b.NameOfAVariable(), "info", "^StepInfo.extra: .* no variables of a result"),
    Case(b.ListForExtra(), "info", "^StepInfo.extra: must be a mapping", None),
    Case(b.ListByParameter(), "info", "^StepInfo.by_parameter: must be a mapping", None),
    Case(
        b.ParameterWithoutItsName(),
        "info",
        r"^StepInfo.by_parameter: must have ekitools.typing.PerParameter\(values, long name\)",
        None,
    ),
    Case(b.OneNumberByParameter(), "info", "^StepInfo.by_parameter: .* with 3 numbers", None),
    Case(b.InfiniteStep(), "info", "^StepInfo.step: must be a finite number", ("state",)),
    Case(b.SpreadOfFloat32(), "info", "^StepInfo.spread: must be a number", ("resume", "spread")),
    Case(b.VectorForAverage(), "info", "^StepInfo.average: .* shape \\(1, p\\) = \\(1, 3\\)", None),
    Case(b.ObjectiveOfMembers(), "info", "^StepInfo.objective: must be None or a number", None),
    Case(b.ShowsWithoutKeeping(), "info", "^StepInfo.shown: must be None", None),
    Case(
        b.WalkWithoutShown(),
        "info",
        "^StepInfo.shown: must be an ekitools.typing.Shown",
        ("failures", "resume"),
    ),
    Case(b.WalkThatShowsOne(), "info", "^StepInfo.shown.ensemble: must have the shape", None),
    Case(b.WalkWithWeightsOfOne(), "info", "^StepInfo.shown.weight: .* add up to 1", ("failures",)),
    Case(
        b.ConstantSpread(),
        "spread",
        "^StepInfo.spread: must be the root of the total variance",
        ("select",),
    ),
    Case(b.GoesOn(), "end", "^tell: must end the run where finished does, at n = 5"),
    Case(b.OtherEnd(), "end", "^tell: .* with the status of finished, steps_made, got tired"),
    Case(b.MovesAtTheEnd(), "end", "^tell: must return the state as it was where the run ends"),
    Case(b.StepsAtTheEnd(), "end", "^StepInfo.step: must be 0 where the run ends", ("state",)),
    Case(b.PosteriorOfAFit(), "end", '^aim: must be "posterior" for a method that ends with'),
    Case(
        b.ForgetsVelocity(), "select", "^select: the state .*velocity of the shape", ("failures",)
    ),
    Case(
        b.ForgetsTheOrder(),
        "select",
        "^select: .*velocity with a difference",
        ("permutation", "failures"),
    ),
    Case(b.ForgetsVariance(), "select", "^select: the state must be the state of .* the spread"),
    Case(b.SelectsTheFirst(), "select", "^select: .*, got ensemble", ("permutation", "failures")),
    Case(
        b.SelectResetsTime(),
        "select",
        "^select: .*got state.n = 0 in place of 1",
        ("failures", "permutation", "momentum"),
    ),
    Case(
        b.DroppingResetsTime(), "select", "^select: must leave n and t as they are", ("failures",)
    ),
    Case(b.SelectsATuple(), "select", "^select: must return a state of the class OwnState", None),
    Case(b.SelectInPlace(), "select", "^select: must not change its argument state", None),
    Case(
        b.SelectRefuses(),
        "select",
        r"^select: must return .* got NotImplementedError \(members cannot be dropped\)",
        ("permutation", "failures", "momentum"),
    ),
    Case(b.SelectOnce(), "select", "^select: the state .* the spread"),
    Case(
        b.NeedsNine(),
        "select",
        "^select: a step must be possible .*nine members are needed",
        ("failures",),
    ),
    Case(b.Maps(), "select", "^map_members: must return the same state as select", ("failures",)),
    Case(b.MapRefuses(), "select", "^map_members: .*members cannot be combined", ("failures",)),
    Case(b.NodesThatCanBeDropped(), "select", "^select: must refuse some of the nodes"),
    Case(
        b.NodesOfAnotherGaussian(),
        "nodes",
        "^drawn: must hold the Gaussian of the members, got mean",
    ),
    Case(
        b.NodesWithScoresOfOne(), "nodes", r"^drawn: must have scores of the shape \(n, p\)", None
    ),
    Case(b.FirstIsSpecial(), "permutation", "^tell: must move members alike in any order"),
    Case(b.NeedsNine(), "failures", "^select: must let a run with failed .*nine", ("select",)),
    Case(b.NanAfterAFailure(), "failures", "^select: .* not finite", ("select",)),
    Case(b.Regrows(), "failures", "^select: must let a run .* got 9 members in place of 8"),
    Case(b.WalkThatWeighsFailures(), "failures", "^tell: must give no weight to a member"),
    Case(
        b.Float64(), "float32", "^tell: must keep the dtype of the ensemble, float32, got float64"
    ),
    Case(b.MisfitOfTheOutputs(), "float32", "^StepInfo.misfit: must be float64 for any ensemble"),
    Case(b.InPlaceOtherwise(), "in_place", "^tell: must make the same step with in_place=True"),
    Case(b.InPlaceAtTheEnd(), "in_place", "^tell: must not overwrite the ensemble where the run"),
    Case(b.OnDiskOfAnArray(), "on_disk", "^tell: must run with the ensemble on disk, as"),
    Case(b.OnDiskOtherwise(), "on_disk", "^tell: must make the same run with the ensemble on disk"),
    Case(b.Vague(), "resume", "^State: must come back from a checkpoint, got CheckpointError"),
    Case(b.Caches(), "resume", "^tell: a run resumed after step 1 must be bitwise"),
    Case(b.KeepsAnEnum(), "resume", "^State: must come back .* state.phase = 1 in place of"),
    Case(b.KeepsObjects(), "resume", "^State: must resume after step 1, .*Object arrays"),
    Case(
        b.OnlyItsOwnMembers(),
        "resume",
        "^tell: must run for 5 steps, got ValueError",
        ("select", "failures", "momentum"),
    ),
    Case(
        b.OnlyItsOwnMembers(),
        "momentum",
        "^select: must let Nesterov",
        ("select", "failures", "resume"),
    ),
]
PRIORS = [
    Case(
        object(), "members", "^n_parameters: a prior must have it, the number of parameters", None
    ),
    Case(b.PriorOfHiddenNames(), "members", "^names: a prior must have it, .*not today", None),
    Case(b.PriorWithoutNames(), "members", "^names: must be None or a tuple of 2 different texts"),
    Case(b.PriorWithoutParameters(), "members", "^n_parameters: must be a positive integer", None),
    Case(b.PriorOfGlobalDraws(), "draws", "^sample_unconstrained: .* same draws for the same rng"),
    Case(b.PriorOfOneSeed(), "draws", "^sample: must return other draws", None),
    Case(b.PriorOfVectors(), "draws", r"^sample: must return \(5, 2\) floats", ("normal",)),
    Case(b.PriorOfSeedsOnly(), "draws", "^sample_unconstrained: must take an integer or a Gen"),
    Case(b.PriorOfInfiniteDraws(), "draws", "^sample: must return finite draws", None),
    Case(b.PriorThatRaises("sample_unconstrained"), "draws", "^sample_unc.*not today", None),
    Case(b.PriorOfWrongInverse(), "bijection", "^to_unconstrained: must be the inverse", None),
    Case(b.PriorOfWrongUnwhitening(), "bijection", "^unwhiten: must be the inverse", ("density",)),
    Case(
        b.PriorInPlace(), "bijection", "^to_physical: must not change its argument in place", None
    ),
    Case(
        b.PriorOfFlatMaps(), "bijection", r"^to_unconstrained: must return the shape \(50, 2", None
    ),
    Case(
        b.PriorThatRaises("to_unconstrained"), "bijection", "^to_unconstrained: .*not today", None
    ),
    Case(b.PriorOfWideDraws(), "normal", "^whiten: must carry draws .* standard errors"),
    Case(b.PriorOfShiftedDraws(), "normal", "^sample: draws must be N.* a mean that is"),
    Case(b.PriorOfCorrelatedDraws(), "normal", "^whiten: must carry .* a covariance that is"),
    Case(
        b.PriorOfWideLastDraws(np.zeros(40), 1.0),
        "normal",
        "^whiten: must carry .* a variance that",
    ),
    Case(b.PriorOfWrongDensity(), "density", "^logpdf: must be the log-density of the draws"),
    Case(b.PriorOfRoundedDensity(), "density", "^logpdf: must return one number for each point"),
    Case(b.PriorOfRelativeDensity(), "density", "^logpdf: must not depend on how many points"),
    Case(b.PriorInPlaceOfDensity(), "density", "^logpdf: must not change its argument u in place"),
    Case(b.PriorThatRaises("logpdf"), "density", "^logpdf: must return .*not today"),
    Case(b.PriorWithoutNan(), "nan", "^to_physical: must map a row of NaN"),
    Case(b.PriorOfFloat64(), "float32", "^to_unconstrained: must keep the dtype float32"),
    Case(b.PriorOfChangingFingerprint(), "fingerprint", "^fingerprint: must be the same for"),
    Case(b.PriorThatRaises("fingerprint"), "fingerprint", "^fingerprint: must return .*not today"),
    Case(b.PriorOfBytes(), "fingerprint", "^fingerprint: must return a text, got bytes"),
]
NOISES = [
    Case(object(), "members", "^misfit: a loss must have it", None),
    Case(b.NoiseWithoutSample(), "members", "^sample: a noise model must have it", ("sample",)),
    Case(b.NoiseOfNoSize(), "members", "^n_data: must be a positive integer or None, got 0", None),
    Case(b.NoiseOfOneSd(), "members", r"^sd: must have the shape \(3,\)", ("sample",)),
    Case(b.NoiseOfZeroSd(), "members", "^sd: must be positive and finite", None),
    Case(b.NoiseOfTotalMisfit(), "misfit", "^misfit: must sum along the last axis", None),
    Case(b.NoiseOfRelativeMisfit(), "misfit", "^misfit: must be the same for one row alone", None),
    Case(b.NoiseInPlace(), "misfit", "^misfit: must not change its argument z in place", None),
    Case(b.NoiseOfInfiniteMisfit(), "misfit", "^misfit: must be finite", None),
    Case(b.NoiseThatRaises("misfit"), "misfit", "^misfit: must .*not today", None),
    Case(
        b.NoiseOfWrongMisfit(), "misfit", "^misfit: must be half the squared length", ("curvature",)
    ),
    Case(b.NoiseOfWrongGradient(), "gradient", "^gradient: must be the gradient", ("curvature",)),
    Case(b.LossOfWrongGradient(), "gradient", "^gradient: must be the gradient of misfit in z"),
    Case(b.NoiseInPlaceOfGradient(), "gradient", "^gradient: must not change its argument z"),
    Case(
        b.NoiseOfTotalGradient(), "gradient", "^gradient: must return an array of the shape", None
    ),
    Case(b.NoiseThatRaises("gradient"), "gradient", "^gradient: must return .*not today", None),
    Case(b.NoiseOfVariances(), "sample", "^sd: must be the standard deviation of the draws"),
    Case(b.NoiseWithoutCorrelation(), "sample", "^whiten: must carry draws of sample to N"),
    Case(b.NoiseWithAMean(), "sample", "^sample: must return draws with the mean 0"),
    Case(b.NoiseOfGlobalDraws(), "sample", "^sample: must return the same draws for the same rng"),
    Case(b.NoiseOfOneSeed(), "sample", "^sample: must return other draws for another rng"),
    Case(b.NoiseOfColumns(), "sample", "^sample: must return draws of the shape"),
    Case(b.NoiseThatRaises("sample"), "sample", "^sample: must return .*not today"),
    Case(b.NoiseOfWrongCurvature(), "curvature", "^curvature_product: must be the second"),
    Case(b.NoiseOfHalfSamples(), "curvature", "^outputs_per_sample: must be a positive integer"),
    Case(b.NoiseOfRootRows(), "marginal", "^marginal: must have the misfit of N"),
    Case(b.NoiseThatMixesRows(), "nan", "^misfit: must not let a row with NaN"),
    Case(b.NoiseWithoutNan(), "nan", "^misfit: must not be finite for a row with NaN"),
    Case(b.NoiseOfFloat64(), "float32", "^gradient: must keep the dtype float32, got float64"),
    Case(b.NoiseOfChangingFingerprint(), "fingerprint", "^fingerprint: must be the same for"),
    Case(b.NoiseOfALock(), "fingerprint", "^fingerprint: must be the same after pickle, got Type"),
]
MODELS = [
    Case(3, "members", "^__call__: a model must have it, got int", None),
    Case(b.ModelOfAFlagOfText(), "members", "^vectorized: must be True or False, got 'yes'", None),
    Case(b.ModelOfBothFlags(), "members", "^stochastic: must be False with vectorized", None),
    Case(b.ModelOfFewNames(), "members", "^data_names: must have 3 entries, got 1"),
    Case(b.MemberOfWords(), "members", "^shape: must be a pair", None),
    Case(b.MemberOfManyParameters(), "members", "^n_parameters: must be an integer", None),
    Case(b.ModelOfWrongShape(), "outputs", r"^__call__: must return \(J, d\) = \(6, 4\)"),
    Case(b.ModelOfTransposes(), "outputs", r"^__call__: must return \(J, d\) = \(6, 3\)", None),
    Case(b.ModelOfOneRow(), "outputs", "^__call__: .* got the shape", None),
    Case(b.ModelOfComplexNumbers(), "outputs", "^__call__: must return an array of real", None),
    Case(b.MemberOfRaggedLists(), "outputs", "^__call__: must return an array of real", None),
    Case(b.ModelThatFails(), "outputs", r"^__call__: .* RuntimeError \(no convergence\)", None),
    Case(b.MemberThatFails(), "outputs", r"^__call__: .* RuntimeError \(no convergence\)"),
    Case(b.MemberOfNan(), "outputs", "^__call__: must return finite numbers for at least two"),
    Case(b.MemberInPlace(), "outputs", "^__call__: must not change its argument", None),
    Case(b.MemberOfAMatrix(), "outputs", r"^__call__: must return \(3,\) numbers for one"),
    Case(b.MemberOfChangingLength(), "outputs", r"^__call__: .* the shapes \(2,\), \(3,\)"),
    Case(b.StochasticWithoutRng(), "outputs", r"^__call__: must accept one member .* and rng="),
    Case(b.MemberWithNoise(), "repeatable", "^__call__: must return the same outputs .* Declare"),
    Case(b.StochasticByItself(), "repeatable", "^__call__: .* for the same argument and rng"),
    Case(b.ModelOfOneBuffer(), "memory", r"^__call__: must return a new array.* outputs.copy\(\)"),
    Case(b.MemberOfOneBuffer(), "memory", r"^__call__: must return a new array.* outputs.copy\(\)"),
    Case(b.ModelThatMixesRows(), "rows", "^__call__: must return the same row .* fewer members"),
    Case(b.ModelByOrder(), "rows", "^__call__: must return the same row .* in another order"),
    Case(b.ModelOfFirstRows(), "rows", r"^__call__: must return one row .* \(6, 3\) for 8"),
    Case(b.ModelOfWrongAdjoint(), "adjoint", "^adjoint: .* by the transpose of the model"),
    Case(b.ModelOfNoAdjoint(), "adjoint", "^adjoint: .*not today"),
]
SCHEDULES = [
    Case(b.RuleWithoutStep(), "members", "^step: a step rule must have it, step", None),
    Case(b.RuleOfANumber(), "members", "^step: must be a function of seen, got float", None),
    Case(b.PlainRule(0.1), "options", "^options: a step rule with options must be a frozen"),
    Case(b.RuleOfZero(), "step", "^step: must return a positive finite float at n = 2"),
    Case(b.RuleOfInfinity(), "step", "^step: must return a positive finite float .* got inf"),
    Case(b.RuleOfFloat32(), "step", "^step: must return a positive finite float"),
    Case(b.RuleInPlace(), "step", "^step: must not change its argument misfit in place"),
    Case(b.RuleThatCounts(), "step", "^step: must return the same step whenever"),
    Case(b.RuleThatRaises(), "step", "^step: must return a step size at n = 2.*ZeroDivisionError"),
]
TABLES = [
    (check_method, METHODS),
    (check_prior, PRIORS),
    (check_noise, NOISES),
    (check_model, MODELS),
    (check_schedule, SCHEDULES),
]
CASES = [
    pytest.param(function, case, id=f"{case.check}-{type(case.part).__name__}")
    for function, cases in TABLES
    for case in cases
]


@pytest.mark.parametrize(("function", "case"), CASES)
def test_a_broken_promise_is_found_by_its_check_alone(function, case):
    others = case.others or ()
    with pytest.raises(AssertionError, match=case.match) as found:
        function(case.part, exclude=others)
    assert "\n" not in str(found.value)
    assert str(found.value).endswith(".")
    if case.others is not None:  # without this promise other checks cannot be made
        assert f'The check "{case.check}" found this' in found.value.__notes__[0]
        slow = ("resume",) if function is check_method else ()
        function(case.part, exclude=(*others, *slow, case.check))


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (check_method, Own()),
        (check_method, Own(steps=1)),
        (check_method, Walk()),
        (check_prior, OwnPrior()),
        (check_noise, OwnNoise()),
        (check_model, OwnModel()),
        (check_model, OwnMember()),
        (check_schedule, OwnRule()),
    ],
    ids=lambda each: getattr(each, "__name__", repr(each)[:20]),
)
@pytest.mark.parametrize("rng", [0, 1])
def test_a_part_that_keeps_its_contract_passes(function, part, rng):
    function(part, **({} if function is check_schedule else {"rng": rng}))


@pytest.mark.parametrize("module", [methods, priors, noises, models, schedules])
def test_every_check_finds_something_and_is_described(module):
    (name,) = (each for each in module.__all__ if each.startswith("check_"))
    (cases,) = (cases for function, cases in TABLES if function.__name__ == name)
    assert {case.check for case in cases} == set(module.CHECKS)
    for check in module.CHECKS:
        assert f"    ``{check}``\n" in getattr(testing, name).__doc__


def test_a_method_of_ones_own_is_resumed_with_an_optional_part_in_its_state(tmp_path):
    problem = ek.problems.linear(p=3, d=4).problem
    options = {"n_members": 6, "rng": 0}
    whole = ek.run(problem, Own(), **options)
    ek.run(problem, Own(), n_steps=1, checkpoint=tmp_path / "run", **options)
    assert ek.resume(tmp_path / "run", problem, Own(), n_steps=9).u.identical(whole.u)
    with pytest.raises(ValueError, match="at least 5 members"):
        ek.run(problem, Own(), n_members=4, rng=0)


def test_the_error_says_how_to_leave_the_check_out():
    with pytest.raises(AssertionError) as found:
        check_method(b.ForgetsVariance())
    assert found.value.__notes__ == [
        'The check "select" found this; exclude=("select",) leaves it out.'
    ]
    with pytest.raises(ValueError, match="^exclude: must be \"members\", .*, got 'all'\\."):
        check_method(Own(), exclude="all")


def test_another_problem_may_be_given():
    model = ek.FunctionModel(lambda u: np.array([np.exp(u[0]), u[0] * u[1]]))
    problem = ek.InverseProblem(model, ek.GaussianPrior([0.0, 0.0], 0.1), 0.1, [1.0, 0.5])
    check_method(ek.EKI(), problem=problem, n_members=7)
    check_method(Own(), problem=problem)
    failing = dataclasses.replace(problem, model=ek.FunctionModel(lambda u: np.full(2, np.nan)))
    with pytest.raises(ValueError, match="^problem: its model must not fail"):
        check_method(ek.EKI(), problem=failing)
    with pytest.raises(TypeError, match="^problem: must be an ek.InverseProblem"):
        check_method(ek.EKI(), problem=3)
    with pytest.raises(ValueError, match="^n_members: must be at least 5"):
        check_method(ek.EKI(), n_members=4)


def test_a_learning_problem_may_be_given():
    x = np.linspace(-1, 1, 12)

    def lines(u, inputs):
        return u[0] + u[1] * inputs

    problem = ek.InverseProblem(
        ek.FunctionModel(lines, takes_inputs=True),
        ek.GaussianPrior([0.0, 0.0], 1.0),
        ek.Huber(0.1),
        ek.MiniBatches(x, 1 + 2 * x, 4),
    )
    check_method(ek.LossEKI(spread=ek.Spread(0.1)), problem=problem)
    check_model(problem.model, problem.prior, inputs=x)
    with pytest.raises(ValueError, match="^inputs: must be given"):
        check_model(problem.model, problem.prior)


def test_a_stochastic_problem_may_be_given():
    def noisy(u, rng):
        return u[:1] + 0.01 * rng.standard_normal(1)

    model = ek.FunctionModel(noisy, stochastic=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior([0.0, 0.0], 1.0), 0.1, [1.0])
    check_method(ek.EKI(), problem=problem)
    check_model(model, problem.prior)


@pytest.mark.parametrize("function", [f for f, _ in TABLES])
def test_a_class_is_refused_as_an_argument(function):
    with pytest.raises(TypeError, match="got the class"):
        function(ek.EKI)


def test_members_of_a_model_come_from_somewhere():
    def square(u):
        return u**2

    with pytest.raises(ValueError, match="^prior: must be given, or u"):
        check_model(square)
    check_model(square, ek.GaussianPrior([1.0, 2.0], 1.0))
    check_model(square, u=np.arange(8.0).reshape(4, 2))
    with pytest.raises(ValueError, match="^u: must have at least four members"):
        check_model(square, u=np.ones((3, 2)))
    with pytest.raises(AssertionError, match=r"^shape: must be \(d, p\) with p = 3"):
        check_model(OwnModel(), ek.GaussianPrior(np.zeros(3), 1.0))
    with pytest.raises(AssertionError, match="^n_parameters: must be p = 3 as in the ensemble"):
        check_model(b.MemberOfChangingLength(), ek.GaussianPrior(np.zeros(3), 1.0))


def test_a_model_may_fail_for_some_members():
    def model(u):
        if u[0] < 0:
            raise RuntimeError
        return np.sqrt(u)

    check_model(model, ek.GaussianPrior([0.0, 5.0], 1.0))
    check_model(
        ek.FunctionModel(lambda u: np.where(u > 0, u, np.nan), vectorized=True),
        ek.GaussianPrior([0.0, 5.0], 1.0),
    )


def test_a_loss_gets_data_that_it_accepts():
    check_noise(ek.BinaryCrossEntropy(), n_data=7)
    check_noise(ek.CrossEntropy(3))
    check_noise(ek.Huber(0.3))
    shares = np.random.default_rng(0).dirichlet(np.full(3, 5.0), size=(4, 2)).reshape(4, 6)
    check_noise(ek.CrossEntropy(3, logits=False), outputs=shares)
    check_noise(ek.BinaryCrossEntropy(logits=False), outputs=shares, data=np.ones(6))
    with pytest.raises(ValueError, match="^data: must be given for CrossEntropy"):
        check_noise(ek.CrossEntropy(3), n_data=7)


@pytest.mark.parametrize("n_data", [None, 1, 40])
def test_a_noise_of_any_size(n_data):
    check_noise(ek.GaussianNoise(0.3), n_data=n_data)
    with pytest.raises(ValueError, match="^n_data: must be 2, the number of data"):
        check_noise(ek.GaussianNoise([1.0, 2.0]), n_data=3)


def test_a_prior_of_many_parameters():
    check_prior(ek.GaussianRandomField((16, 16), n_modes=120))
    check_prior(ek.GaussianPrior(np.full(30, 1e6), 1e-4))
