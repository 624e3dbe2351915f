"""A prior of one's own: three functions, and what the base class makes of them."""

import pickle

import numpy as np
import pytest
from scipy import stats
from zoo.own import Wind

import ekitools as ek
from ekitools.testing import check_prior


def test_three_functions_make_a_prior():
    check_prior(Wind(1.0))
    check_prior(Wind(0.3), rng=1)


@pytest.mark.parametrize("part", ["forward", "inverse", "log_density"])
def test_all_three_are_needed(part):
    functions = {name: getattr(Wind, name) for name in ("forward", "inverse", "log_density")}
    del functions[part]
    with pytest.raises(TypeError, match=part):
        type("Half", (ek.BasePrior,), functions)(2)


@pytest.mark.parametrize(
    ("part", "function", "message"),
    [
        ("forward", lambda self, z: 2 * Wind.forward(self, z), "inverse of to_physical"),
        ("inverse", lambda self, u: 1.01 * Wind.inverse(self, u), "inverse of to_physical"),
        ("log_density", lambda self, u: Wind.log_density(self, u) + 0.1, "log-density of the draw"),
        ("log_density", lambda self, u: 0.0, r"log_density: must return .* \(6,\), got \(\)"),
        (
            "forward",
            lambda self, z: Wind.forward(self, z)[:, :1],
            r"forward: must return .* \(5, 2\), got \(5, 1\)",
        ),
    ],
)
def test_a_wrong_function_is_found(part, function, message):
    broken = type("Broken", (Wind,), {part: function})(1.0)
    with pytest.raises((AssertionError, ValueError), match=message):
        check_prior(broken)


@pytest.mark.parametrize("namespace", ["numpy", "float32", "strict", "torch"])
def test_functions_see_float64_of_numpy_and_the_ensemble_keeps_its_kind(namespace):
    make = {
        "numpy": np.asarray,
        "float32": lambda x: x.astype(np.float32),
        "strict": lambda x: pytest.importorskip("array_api_strict").asarray(x),
        "torch": lambda x: pytest.importorskip("torch").as_tensor(x),
    }[namespace]
    prior = Wind(1.0)
    z = make(np.random.default_rng(0).normal(size=(4, 2)))
    u = prior.to_physical(z)
    assert type(u) is type(z)
    assert u.dtype == z.dtype
    expected = prior.forward(np.asarray(z, dtype=np.float64))
    np.testing.assert_allclose(np.asarray(u), expected, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(prior.to_unconstrained(u)), np.asarray(z), atol=1e-5)


def test_functions_never_see_nan():
    class Fussy(Wind):
        def forward(self, z):
            assert np.all(np.isfinite(z))
            return super().forward(z)

    z = np.random.default_rng(0).normal(size=(3, 2))
    z[1, 0] = np.nan
    u = Fussy(1.0).to_physical(z)
    assert np.isnan(u[1]).all()
    np.testing.assert_array_equal(u[[0, 2]], Wind(1.0).forward(z[[0, 2]]))
    assert np.isnan(Fussy(1.0).to_physical(np.full((2, 2), np.nan))).all()


def test_points_outside_the_support_have_no_density_and_start_no_run():
    prior = Wind(1.0)
    assert prior.logpdf([0.0, 0.0]) == -np.inf
    found = prior.logpdf([[0.0, 0.0], [1.0, 1.0]])
    assert found[0] == -np.inf
    assert found[1] == prior.logpdf([1.0, 1.0]) == prior.log_density(np.ones((1, 2)))[0]
    problem = ek.InverseProblem(lambda u: u, prior, 0.1, [1.0, 0.0])
    ensemble = prior.sample(5, rng=0)
    ensemble[3] = 0.0
    with pytest.raises(ValueError, match="got east = 0.0 in member 3. Move such members"):
        ek.run(problem, ek.EKI(), ensemble=ensemble)


def test_the_fingerprint_is_that_of_class_and_attributes():
    prior = Wind(1.0)
    assert prior.fingerprint() == Wind(1.0).fingerprint()
    assert prior.fingerprint() == pickle.loads(pickle.dumps(prior)).fingerprint()
    assert prior.fingerprint() != Wind(1.5).fingerprint()
    other = type("Wind", (Wind,), {"log_density": lambda self, u: stats.norm.logpdf(u[:, 0])})(1.0)
    assert prior.fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        (0, ValueError, "parameters: must be at least 1, got 0. Or give a sequence of names"),
        (1.5, TypeError, "parameters: must be an integer"),
        ("ab", TypeError, "parameters: must be an integer"),
        (["a", "b", "a"], ValueError, "parameters: names must differ, got 'a' more than once"),
        (["a", 1], TypeError, "parameters: names must be texts, got 1"),
        ([], ValueError, "parameters: must not be empty"),
    ],
)
def test_parameters_are_a_number_or_different_names(parameters, error, message):
    class Named(Wind):
        def __init__(self):
            ek.BasePrior.__init__(self, parameters)

    with pytest.raises(error, match=message):
        Named()


def test_a_number_of_parameters_gives_no_names():
    class Plain(Wind):
        def __init__(self):
            ek.BasePrior.__init__(self, 2)
            self.sd = 1.0

    assert Plain().names is None
    assert Plain().n_parameters == 2
    assert Plain().sample(3, rng=0).shape == (3, 2)
    assert Plain().support(1) == (-np.inf, np.inf)
