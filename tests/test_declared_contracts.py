"""What used to be guessed: a part of a user's own is what it declares, never what it is called."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
from zoo.results import same

import ekitools as ek
from ekitools.typing import Status, StepInfo

A = np.array([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0]])
TRUTH = np.array([1.0, -0.5])


def problem(noise=0.1, model=None):
    return ek.InverseProblem(
        model or ek.LinearModel(A), ek.GaussianPrior([0.0, 0.0], 1.0), noise, A @ TRUTH
    )


# ------------------------------------------------------------------- covariance normalisation


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (ek.Nesterov(ek.LossEKI()), "1/J"),
        (ek.Nesterov(ek.CurvatureEKI()), "1/J"),
        (ek.Nesterov(ek.EKI(t_end=None)), "1/(J-1)"),
        (ek.LossEKI(), "1/J"),
        (ek.EKI(), "1/(J-1)"),
    ],
)
def test_the_normalisation_recorded_is_that_of_the_method_within(method, expected):
    result = ek.run(problem(), method, n_members=6, n_steps=2, rng=0)
    assert result.attrs["covariance_normalisation"] == expected


# -------------------------------------------------------------------------- methods of one's own


class Inner(NamedTuple):
    offset: np.ndarray
    label: str


class State(NamedTuple):
    ensemble: np.ndarray
    n: int
    t: float
    inner: Inner | None
    trail: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Fussy:
    """A descent that refuses few members and keeps an optional NamedTuple in its state."""

    h: float = 0.1
    State = State
    aim = "fit"
    normalisation = "1/J"

    def init(self, ensemble, target):
        if len(ensemble) < 5:
            raise ValueError(f"ensemble: must have at least 5 members, got {len(ensemble)}.")
        return State(ensemble, 0, 0.0, None, ())

    def ask(self, state):
        return state.ensemble

    def finished(self, state):
        return None

    def select(self, state, index):
        return state._replace(ensemble=state.ensemble[index])

    def tell(self, state, g, target, *, rng):
        u = state.ensemble - self.h * (g - target.data) @ A
        old = np.zeros(2) if state.inner is None else state.inner.offset
        inner = Inner(old + rng.normal(size=2), f"step {state.n}")
        trail = (*state.trail, float(u[0, 0]))
        info = StepInfo(self.h, 0.5 * np.sum((g - target.data) ** 2, axis=1), None, 1.0)
        return State(u + 1e-3 * inner.offset, state.n + 1, state.t + self.h, inner, trail), info


@pytest.mark.parametrize("n", range(1, 4))
def test_a_method_that_refuses_few_members_and_nests_a_state_resumes_bitwise(n, tmp_path):
    options = {"n_members": 6, "rng": 0}
    whole = ek.run(problem(), Fussy(), n_steps=4, **options)
    ek.run(problem(), Fussy(), n_steps=n, checkpoint=tmp_path / "run", **options)
    assert same(ek.resume(tmp_path / "run", problem(), Fussy(), n_steps=4), whole)


def test_a_state_that_does_not_name_its_parts_is_a_checkpoint_error(tmp_path):
    class Anything(NamedTuple):
        ensemble: np.ndarray
        n: int
        t: float
        inner: object
        trail: object

    class Vague(Fussy):
        State = Anything

    ek.run(problem(), Vague(), n_members=6, n_steps=2, rng=0, checkpoint=tmp_path / "run")
    with pytest.raises(ek.CheckpointError, match="must name the NamedTuple .* offset, label"):
        ek.resume(tmp_path / "run", problem(), Vague(), n_steps=4)


def named_eki():
    """A class of a user's own that bears a public name."""

    @dataclasses.dataclass(frozen=True)
    class EKI(ek.EKI):
        def tell(self, state, g, target, *, rng):
            new, info = super().tell(state, g, target, rng=rng)
            return new._replace(ensemble=new.ensemble + 1.0), info

    return EKI


def test_a_class_that_bears_a_public_name_is_not_resumed_as_that(tmp_path):
    method = named_eki()(ek.FixedStep(0.1))
    options = {"n_members": 6, "rng": 0}
    whole = ek.run(problem(), method, n_steps=4, **options)
    assert '"type": "EKI"' not in whole.attrs["method"]
    ek.run(problem(), method, n_steps=2, checkpoint=tmp_path / "run", **options)
    with pytest.raises(ek.CheckpointError, match="method: must be passed to resume"):
        ek.resume(tmp_path / "run", problem(), n_steps=4)
    assert same(ek.resume(tmp_path / "run", problem(), method, n_steps=4), whole)


def test_a_method_is_judged_by_what_it_declares_and_not_by_its_name():
    @dataclasses.dataclass(frozen=True)
    class EKI(Fussy):
        aim = "fit"

    @dataclasses.dataclass(frozen=True)
    class Exact(Fussy):
        aim = "posterior"

        def finished(self, state):
            if state.n < 2:
                return None
            sentence = "The ensemble has come to the posterior."
            return Status("arrived", sentence, level="good", posterior=True)

        def tell(self, state, g, target, *, rng):
            new, info = super().tell(state, g, target, rng=rng)
            return (state, info._replace(status=s)) if (s := self.finished(state)) else (new, info)

    def nature(method):
        summed = ek.summary(ek.run(problem(), method, n_members=40, n_steps=3, rng=0))
        return summed.end, {check.topic: check for check in summed.checks}

    end, checks = nature(EKI())
    assert end == "last ensemble"
    assert checks["Ensemble"].sentence.startswith("A fit to the data")
    end, checks = nature(Exact())
    assert end == "last ensemble"  # two steps of three: its importance weights are against it
    assert checks["Posterior"].level == "care"
    assert checks["Ensemble"].sentence.startswith("An approximation of the posterior")
    assert checks["Status"].level == "good"


def test_a_method_without_the_contract_is_refused_before_any_run():
    class Old:
        def init(self, ensemble, target): ...
        def ask(self, state): ...
        def tell(self, state, g, target, *, rng): ...
        def finished(self, state): ...
        def select(self, state, index): ...

    with pytest.raises(TypeError, match="method: must have State, aim and normalisation"):
        ek.run(problem(), Old())


# ---------------------------------------------------------------------- noises of one's own


class Scaled:
    """A full noise model with an attribute ``scale``, a natural name for σ."""

    n_data = None

    def __init__(self, scale):
        self.scale = scale
        self.sd = np.array(scale)

    def whiten(self, r):
        return r / self.scale

    def misfit(self, z, y):
        return 0.5 * np.sum(self.whiten(z - y) ** 2, axis=-1)

    def gradient(self, z, y):
        return (z - y) / self.scale**2

    def sample(self, n, *, rng=None):
        raise NotImplementedError

    def fingerprint(self):
        return f"scaled {self.scale}"


def test_a_noise_with_an_attribute_scale_whitens_by_its_own_map():
    rng = np.random.default_rng(0)
    u, g = rng.normal(size=(12, 2)), rng.normal(size=(12, 3))
    data = rng.normal(size=3)
    assert isinstance(Scaled(0.3), ek.typing.NoiseModel)
    ours = ek.kalman_update(u, g, data, Scaled(0.3))
    np.testing.assert_allclose(ours, ek.kalman_update(u, g, data, 0.09), rtol=1e-12)


def test_a_subclass_of_the_noise_whitens_by_its_own_map():
    class Robust(ek.GaussianNoise):
        def whiten(self, r):
            return np.clip(super().whiten(r), -2.0, 2.0)

    rng = np.random.default_rng(0)
    u, g = rng.normal(size=(12, 2)), 5 * rng.normal(size=(12, 3))
    clipped = ek.kalman_update(u, g, np.zeros(3), Robust(1.0))
    assert np.abs(clipped - ek.kalman_update(u, g, np.zeros(3), 1.0)).max() > 1e-3


def test_a_noise_of_ones_own_is_noise_in_the_result_and_in_the_summary():
    ours, theirs = (
        ek.run(problem(noise), ek.EKI(), n_members=60, rng=0) for noise in (0.09, Scaled(0.3))
    )
    np.testing.assert_allclose(theirs.noise_sd, 0.3)
    assert "loss" not in theirs.attrs
    topics = [[check.topic for check in ek.summary(result).checks] for result in (ours, theirs)]
    assert topics[0] == topics[1]
    assert {"Misfit", "Coverage", "Posterior"} <= set(topics[1])


def test_a_noise_without_sd_is_refused_and_not_taken_for_a_loss():
    noise = Scaled(0.3)
    del noise.sd
    with pytest.raises(TypeError, match="noise: must have sd too"):
        problem(noise)
    with pytest.raises(TypeError, match="noise: must have sd too"):
        ek.kalman_update(np.eye(3), np.eye(3), np.ones(3), noise)


def test_a_loss_is_named_in_the_result():
    result = ek.run(problem(ek.Huber(0.3)), ek.LossEKI(), n_members=6, n_steps=2, rng=0)
    assert result.attrs["loss"] == "Huber"


# --------------------------------------------------------------------------- curved losses


class Softmax:
    """Cross-entropy of a user's own, with a curvature."""

    def __init__(self, k):
        self.loss = ek.CrossEntropy(k)
        for name in ("misfit", "gradient", "curvature_product"):
            setattr(self, name, getattr(self.loss, name))

    def fingerprint(self):
        return "softmax"


class Sized(Softmax):
    outputs_per_sample = 3


def classes(loss):
    x = np.linspace(-2, 2, 30)
    design = np.stack([np.ones(30), x], axis=1)
    model = ek.FunctionModel(lambda u: (design @ u.reshape(2, 3)).ravel())
    labels = np.eye(3)[np.digitize(x, [-0.5, 0.7])].ravel()
    return ek.InverseProblem(model, ek.GaussianPrior(np.zeros(6), 1.0), loss, labels)


def test_a_curved_loss_says_how_many_outputs_a_sample_has():
    method, options = ek.CurvatureEKI(), {"n_members": 10, "n_steps": 3, "rng": 0}
    expected = ek.run(classes(ek.CrossEntropy(3)), method, **options)
    np.testing.assert_array_equal(ek.run(classes(Sized(3)), method, **options).u, expected.u)
    with pytest.raises(TypeError, match="noise: must have .* outputs_per_sample"):
        ek.run(classes(Softmax(3)), method, **options)


# ------------------------------------------------------------------------------- numbers


def test_numpy_integers_are_welcome_with_a_checkpoint(tmp_path):
    options = {"n_members": np.int64(5), "rng": 0}
    result = ek.run(
        problem(),
        ek.EKI(ek.FixedStep(np.float32(0.25))),
        n_steps=np.int64(2),
        store=np.int32(2),
        checkpoint=tmp_path / "run",
        checkpoint_every=np.int64(1),
        **options,
    )
    assert (
        result.attrs["method"]
        == ek.run(problem(), ek.EKI(ek.FixedStep(0.25)), n_steps=2, **options).attrs["method"]
    )
    resumed = ek.resume(tmp_path / "run", problem(), n_steps=np.int64(4))
    assert resumed.iteration.values.tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("make", "error", "argument"),
    [
        (lambda: ek.ESMDA(2.5), TypeError, "inflation"),
        (lambda: ek.ESMDA(True), TypeError, "inflation"),
        (lambda: ek.ESMDA("4"), TypeError, "inflation"),
        (lambda: ek.NoProgress(window=2.5), TypeError, "window"),
        (lambda: ek.GNKI(refinements=2.5), TypeError, "refinements"),
        (lambda: ek.GNKI(refinements=True), TypeError, "refinements"),
        (lambda: ek.TemperedSMC(max_moves=2.5), TypeError, "max_moves"),
        (lambda: ek.FixedStep("a"), TypeError, "h"),
        (lambda: ek.FixedStep(np.nan), ValueError, "h"),
        (lambda: ek.FixedStep(True), TypeError, "h"),
        (lambda: ek.NormStep(None), TypeError, "h"),
        (lambda: ek.Discrepancy("1"), TypeError, "tau"),
        (lambda: ek.Collapsed([1]), TypeError, "rtol"),
        (lambda: ek.CurvatureEKI(radius=None), TypeError, "radius"),
        (lambda: ek.CurvatureEKI(memory=1.0), TypeError, "memory"),
        (lambda: ek.LossEKI(averaging="a"), TypeError, "averaging"),
        (lambda: ek.LossEKI(averaging=np.nan), ValueError, "averaging"),
        (lambda: ek.LossEKI(spread=ek.Spread(), expand=((1, 2.5),)), TypeError, "expand"),
        (lambda: ek.LossEKI(spread=ek.Spread(), expand=3), TypeError, "expand"),
        (lambda: ek.Spread("a"), TypeError, "gamma"),
        (lambda: ek.Spread(every=1.5), TypeError, "every"),
        (lambda: ek.EKI(perturbed="no"), TypeError, "perturbed"),
        (lambda: ek.EKI(tikhonov=1), TypeError, "tikhonov"),
        (lambda: ek.EKI(t_end="1"), TypeError, "t_end"),
        (lambda: ek.EKI(stop=3), TypeError, "stop"),
        (lambda: ek.EKI(stop=ek.Discrepancy), TypeError, "stop"),
        (lambda: ek.TemperedSMC(ess=1), ValueError, "ess"),
        (lambda: ek.TemperedSMC(ess="half"), TypeError, "ess"),
        (lambda: ek.TemperedSMC(resampling=3), ValueError, "resampling"),
        (lambda: ek.TemperedSMC(temperatures="warm"), TypeError, "temperatures"),
        (lambda: ek.TemperedSMC(temperatures=0.5), TypeError, "temperatures"),
        (lambda: ek.EKSFlow(correction="yes"), TypeError, "correction"),
        (lambda: ek.EKIFlow(tikhonov=0), TypeError, "tikhonov"),
        (lambda: ek.run(problem(), ek.EKI(), n_steps=2.5), TypeError, "n_steps"),
        (lambda: ek.run(problem(), ek.EKI(), n_steps=True), TypeError, "n_steps"),
        (lambda: ek.run(problem(), ek.EKI(), n_members="5"), TypeError, "n_members"),
        (lambda: ek.run(problem(), ek.EKI(), evaluate_final="no"), TypeError, "evaluate_final"),
        (lambda: ek.run(problem(), ek.EKI(), checkpoint_every=1.5), TypeError, "checkpoint_every"),
        (lambda: ek.run(problem(), ek.EKI(), stop=[1]), TypeError, "stop"),
        (lambda: ek.run(problem(), ek.EKI(), store=2.5), ValueError, "store"),
        (lambda: ek.run(problem(), ek.EKI(), on_failure=0), ValueError, "on_failure"),
    ],
)
def test_a_wrong_number_is_refused_by_name(make, error, argument):
    with pytest.raises(error, match=f"^{argument}: must "):
        make()
