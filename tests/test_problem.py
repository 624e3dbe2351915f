"""An inverse problem is checked once, when it is put together."""

import numpy as np
import pytest

import ekitools as ek


def make(**changes):
    arguments = {
        "model": ek.LinearModel(np.ones((4, 2))),
        "prior": ek.GaussianPrior(np.zeros(2), 1.0),
        "noise": 1.0,
        "data": np.zeros(4),
    }
    return ek.InverseProblem(**(arguments | changes))


def test_a_plain_function_and_a_plain_covariance_are_welcome():
    problem = make(model=lambda u: np.full(4, u.sum()), noise=np.ones(4))
    assert isinstance(problem.model, ek.FunctionModel)
    assert isinstance(problem.noise, ek.GaussianNoise)


def test_the_data_are_a_read_only_copy():
    data = np.zeros(4)
    problem = make(data=data)
    data[0] = 1
    assert problem.data[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        problem.data[0] = 1


def test_fingerprints_name_the_part_that_differs():
    first = make().fingerprint()
    for part, other in {
        "data": make(data=np.ones(4)),
        "noise": make(noise=2.0),
        "prior": make(prior=ek.GaussianPrior(np.ones(2), 1.0)),
        "parameter_names": make(parameter_names=("a", "b")),
    }.items():
        differing = {key for key, value in other.fingerprint().items() if value != first[key]}
        assert differing == {part}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": [np.nan] * 4}, ValueError, "data: must have at least one number, got 4 missing"),
        ({"data": [0.0, np.inf, 0.0, 0.0]}, ValueError, "data: must be finite"),
        (
            {"data": np.zeros((2, 2))},
            ValueError,
            r"data: must have 1 dimensions, got shape \(2, 2\)",
        ),
        ({"data": 1.0}, ValueError, "data: must have 1 dimensions"),
        ({"data": []}, ValueError, "data: must not be empty"),
        ({"data": ["a", "b", "c", "d"]}, TypeError, "data: must be an array of real numbers"),
        ({"data": np.zeros(4, complex)}, TypeError, "data: must be an array of real numbers"),
        ({"data": None}, TypeError, "data: must be given, got None. Pass the observed data y"),
        (
            {"noise": np.ones(3)},
            ValueError,
            "noise: must be for the 4 data, got a covariance for 3",
        ),
        ({"noise": 0.0}, ValueError, "noise: variances must be positive"),
        ({"noise": -np.eye(4)}, ValueError, "noise: must be positive definite"),
        ({"noise": None}, TypeError, "noise: must be given, got None. .* as noise_sd="),
        ({"prior": None}, TypeError, "prior: must be a Prior such as"),
        ({"prior": np.zeros(2)}, TypeError, "prior: must be a Prior such as"),
        (
            {"prior": ek.GaussianPrior(np.zeros(3), 1.0)},
            ValueError,
            r"model: .* \(d, p\) = \(4, 3\)",
        ),
        ({"model": ek.LinearModel(np.ones((3, 2)))}, ValueError, r"model: .* got \(3, 2\)"),
        ({"model": None}, TypeError, "model: must be callable, got NoneType"),
        ({"model": np.ones((4, 2))}, TypeError, r"model: must be callable, .* ek.LinearModel\(A\)"),
        ({"parameter_names": ["a"]}, ValueError, "parameter_names: must have 2 entries, got 1"),
        ({"parameter_names": ["a", "a"]}, ValueError, "parameter_names: must be different .* 'a'"),
        ({"data_names": ["a"] * 5}, ValueError, "data_names: must have 4 entries, got 5"),
    ],
)
def test_bad_parts_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)
