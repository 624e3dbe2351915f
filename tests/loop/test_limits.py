"""Outputs that cannot be used: the limit of each datum, and the reason that names it."""

import json

import numpy as np
import pytest

import ekitools as ek
from ekitools.loop.failures import largest_output, unusable_outputs

LIMIT = {np.float32: 1e-4 * 3.4028235e38**0.5, np.float64: 1e-4 * 1.7976931348623157e308**0.5}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_limit_is_on_the_output_in_noise_standard_deviations(dtype):
    g, sd = np.zeros((1, 3), dtype=dtype), np.array([1e-9, 1.0, 1e6])
    np.testing.assert_allclose(largest_output(g, sd), LIMIT[dtype] * sd, rtol=1e-6)
    nan = np.full(3, np.nan)  # a loss
    np.testing.assert_allclose(largest_output(g, nan), LIMIT[dtype], rtol=1e-6)


def loop(noise, n_data=3, names=None, **options):
    names = names or [f"y{i}" for i in range(n_data)]
    problem = ek.InverseProblem(
        ek.LinearModel(np.eye(n_data, 2)),
        ek.GaussianPrior(np.zeros(2), 1.0),
        noise,
        np.zeros(n_data),
        data_names=names,
    )
    ensemble = problem.prior.sample(6, rng=0).astype(options.pop("dtype", np.float64))
    options = {"on_failure": "drop", **options}
    return ek.AskTell(problem, ek.EKI(ek.FixedStep(0.1)), ensemble=ensemble, rng=0, **options)


def reasons(asktell):
    return {f["member"]: f["reason"] for f in json.loads(asktell.result().attrs["failures"])}


def test_good_members_of_mixed_units_are_kept_in_float32():
    """A pressure of 1e8 with noise 1e4 stands beside a fraction with noise 1e-8."""
    asktell = loop(np.array([1e-8, 1e4, 1.0]) ** 2, dtype=np.float32)
    g = np.ones((6, 3), dtype=np.float32) * np.array([1e-3, 1e8, 1.0], dtype=np.float32)
    g *= 1 + 0.01 * np.random.default_rng(0).normal(size=g.shape).astype(np.float32)
    asktell.tell(g)
    assert reasons(asktell) == {}


def test_the_reason_names_the_datum_and_the_value():
    asktell = loop(np.array([1e-8, 1e4, 1.0]) ** 2, names=["share", "pressure", "flow"])
    g = np.random.default_rng(0).normal(size=(6, 3))
    g[1, 0] = 1e145  # 1e153 standard deviations; of the pressure it would be 1e141
    g[2, 1] = 1e145
    g[3, 1] = np.nan
    g[4] = [0.5, -np.inf, 1e160]
    asktell.tell(g)
    found = reasons(asktell)
    assert sorted(found) == [1, 3, 4]
    start = (
        "output 0 ('share') is 1e+145, too large to be squared in float64: |g| must be < 1.34e+142"
    )
    assert found[1] == start
    assert found[3].startswith("output 1 ('pressure') is nan, and 1 of 3 outputs are missing")
    assert found[4] == "output 1 ('pressure') is -inf (and 1 more)"


def test_a_reason_that_is_given_comes_first():
    asktell = loop(1.0)
    g = np.zeros((6, 3)) + np.random.default_rng(0).normal(size=(6, 3))
    g[:3] = np.nan
    asktell.tell(g, {0: "the pump broke", 1: None, 5: None})
    assert reasons(asktell) == {
        0: "the pump broke",
        1: "output 0 ('y0') is nan (and 2 more)",
        2: "output 0 ('y0') is nan (and 2 more)",
        5: "no reason was given",
    }


def test_correlated_noise_counts_by_its_marginal_standard_deviations():
    cov = np.array([[4.0, 1.0, 0.0], [1.0, 1e8, 0.0], [0.0, 0.0, 1e-8]])
    sd = ek.GaussianNoise(cov).sd
    g = np.ones((2, 3)) * np.sqrt(np.diag(cov)) * 0.99 * LIMIT[np.float64]
    assert unusable_outputs(g, sd, "abc") == {}
    assert sorted(unusable_outputs(g * [1.0, 1.1, 1.0], sd, "abc")) == [0, 1]


def test_a_loss_has_the_limit_of_the_dtype():
    g = np.array([[1e15, 0.0], [1e16, 0.0], [0.0, np.nan]], dtype=np.float32)
    assert sorted(unusable_outputs(g, np.full(2, np.nan), ["a", "b"])) == [1, 2]


def test_all_members_lost_is_said_without_a_warning():
    asktell = loop(1e-6)
    with pytest.raises(ek.RunError, match="6 of 6 members failed") as caught:
        asktell.tell(np.full((6, 3), 1e306))
    assert "output 0 ('y0') is 1e+306" in caught.value.result.attrs["failures"]


@pytest.fixture
def strict():
    before = np.seterr(all="raise")
    yield
    np.seterr(**before)


@pytest.mark.usefixtures("strict")
def test_underflow_is_no_error_where_the_caller_makes_numpy_strict():
    problem = ek.InverseProblem(
        ek.LinearModel(np.eye(3, 2)), ek.GaussianPrior(np.zeros(2), 1.0), 1e-6, np.ones(3)
    )
    sampled = ek.run(problem, ek.TemperedSMC(), n_members=30, n_steps=5, rng=0)
    assert sampled.sizes["iteration"] > 1
    flow = ek.integrate(problem, ek.EKIFlow(), n_members=10, rng=0, t_span=(0, 1e-3))
    assert flow.attrs["status_code"] != "failed"
