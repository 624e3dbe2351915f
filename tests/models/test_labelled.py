"""Labelled arrays in, labelled arrays out: nothing depends on the order in which they come."""

import concurrent.futures as cf
import pickle

import numpy as np
import pytest
import xarray as xr
from zoo.results import same

import ekitools as ek
from ekitools import typing as contracts

YEARS, SITES = [1890, 1891, 1892], ["a", "b"]
OBSERVED = xr.DataArray(
    [[1.0, 2.0], [np.nan, 4.0], [5.0, 6.0]],
    {"year": YEARS, "site": SITES},
    dims=("year", "site"),
    name="height",
)
KEPT = [0, 1, 3, 4, 5]  # of the six, row by row
GRID = xr.DataArray(
    np.arange(12.0).reshape(4, 3),
    {"year": [1889, 1890, 1891, 1892], "site": ["b", "a", "c"]},
    dims=("year", "site"),
)


def growth(p):
    """More years and sites than were observed, in another order."""
    return (p.start + p.rate * (GRID.year - 1890) + 0.1 * GRID).transpose("site", "year")


def by_hand(u):
    rows = [[(1890 + i, s) for s in "ab"] for i in range(3)]
    grid = [[0.1 * GRID.sel(year=y, site=s).item() for y, s in row] for row in rows]
    return (u[0] + u[1] * np.arange(3)[:, None] + np.array(grid)).ravel()[KEPT]


@pytest.fixture
def model():
    return ek.XarrayModel(growth, ["start", "rate"], OBSERVED)


def problem_of(model):
    prior = ek.GaussianPrior(np.zeros(model.shape[1]), 1.0)
    return ek.InverseProblem(model, prior, 0.1, model.data)


def test_outputs_are_matched_by_their_labels(model):
    u = np.array([0.3, -1.2])
    assert isinstance(model, contracts.ForwardModel)
    np.testing.assert_array_equal(model(u), by_hand(u))
    np.testing.assert_array_equal(model.data, [1, 2, 4, 5, 6])
    assert model.shape == (5, 2)
    assert model.data_names[0] == "height(year=1890, site=a)"
    assert model.data_names[2] == "height(year=1891, site=b)"


def test_results_have_the_labels_and_can_be_given_their_dimensions_back(model):
    result = ek.run(problem_of(model), ek.EKI(), n_members=10, n_steps=1, rng=0)
    assert tuple(result["data"].values) == model.data_names
    assert tuple(result["parameter"].values) == ("start", "rate")
    g = model.unflatten(result.g)
    assert g.dims == ("iteration", "member", "year", "site")
    assert g.name == "height"
    assert g.sel(year=1891, site="a").isnull().all()
    name = "height(year=1892, site=a)"
    np.testing.assert_array_equal(g.sel(year=1892, site="a"), result.g.sel(data=name))
    xr.testing.assert_equal(model.unflatten(result.y), OBSERVED)
    parameters = model.unflatten_parameters(result.u)
    np.testing.assert_array_equal(parameters.rate, result.u.sel(parameter="rate"))
    np.testing.assert_array_equal(parameters.member, result.member)
    one = growth(parameters.isel(iteration=0, member=3)).sel(year=1892, site="b")
    np.testing.assert_array_equal(one, g.isel(iteration=0, member=3).sel(year=1892, site="b"))


def test_the_run_is_that_of_the_plain_function(model):
    labelled, method = problem_of(model), ek.EKI(ek.FixedStep(0.5))
    plain = ek.InverseProblem(
        ek.FunctionModel(by_hand),
        labelled.prior,
        labelled.noise,
        labelled.data,
        parameter_names=model.parameter_names,
        data_names=model.data_names,
    )
    a, b = (ek.run(each, method, n_members=10, rng=0) for each in (labelled, plain))
    np.testing.assert_allclose(a.u, b.u, rtol=1e-12)
    with cf.ThreadPoolExecutor(2) as executor:
        assert same(ek.run(labelled, method, n_members=10, rng=0, executor=executor), a)


def test_fields_are_parameters_and_datasets_are_outputs():
    field = xr.DataArray(np.zeros(3), {"x": [0.0, 0.5, 1.0]}, name="k")
    example = xr.Dataset({"k": field, "c": 0.0})
    times = np.array(["2001-01-01", "2001-01-02T12"], dtype="datetime64[ns]")
    observed = xr.Dataset(
        {
            "mean": ("time", [1.0, 2.0]),
            "edge": ("side", [3.0, 4.0]),
            "total": 5.0,
        },
        {"time": times},
    )

    def function(p):
        mean = xr.DataArray([1.0, 2.0], {"time": times[::-1]}, dims="time") * p.k.mean("x")
        edge = ("side", [p.k.sel(x=0.0).item(), p.k.sel(x=1.0).item()])
        return xr.Dataset({"total": p.k.sum() * p.c, "mean": mean, "edge": edge, "other": 1.0})

    model = ek.XarrayModel(function, example, observed)
    assert model.parameter_names == ("k(x=0.0)", "k(x=0.5)", "k(x=1.0)", "c")
    assert model.data_names == (
        "mean(time=2001-01-01)",
        "mean(time=2001-01-02T12:00)",
        "edge(side=0)",
        "edge(side=1)",
        "total",
    )
    np.testing.assert_allclose(model(np.array([1.0, 2.0, 3.0, 4.0])), [4, 2, 1, 3, 24])
    back = model.flatten_parameters(model.unflatten_parameters(np.arange(4.0)))
    np.testing.assert_array_equal(back, np.arange(4.0))
    xr.testing.assert_equal(model.unflatten(model.data), observed)
    assert isinstance(model.unflatten(model.data), xr.Dataset)


def test_a_field_alone_is_given_as_an_array():
    field = xr.DataArray(np.zeros(2, dtype=np.float32), {"x": [0, 1]}, name="k")
    model = ek.XarrayModel(lambda k: k.rename(x="y") ** 2, field, field.rename(x="y").rename("g"))
    np.testing.assert_array_equal(model(np.array([2.0, 3.0])), [4, 9])


def test_noise_can_be_labelled_too(model):
    variances = OBSERVED.fillna(9) * 0 + xr.DataArray([1.0, 2.0, 3.0], {"year": [1892, 1890, 1891]})
    np.testing.assert_array_equal(model.flatten(variances), [2, 2, 3, 1, 1])


def test_it_can_be_stochastic_and_pickled(model):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(np.ones(2)), model(np.ones(2)))
    noisy = ek.XarrayModel(
        lambda p, rng: p.start + 0 * OBSERVED.fillna(0) + rng.standard_normal(),
        ["start"],
        OBSERVED,
        stochastic=True,
    )
    runs = [ek.run(problem_of(noisy), ek.EKI(), n_members=4, n_steps=1, rng=0) for _ in range(2)]
    assert same(*runs)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (GRID.isel(year=[0, 1, 2]), "must have the label year=1892"),
        (GRID.isel(site=0), r"must have the dimensions \('year', 'site'\), got \('year',\)"),
        (GRID.drop_vars("year"), "must have the coordinate 'year', got none"),
        (GRID.isel(year=[0, 1, 1, 2, 3]), "unique labels, got duplicates in 'year'"),
        (GRID.to_dataset(name="depth"), "must have the variable 'height', got depth"),
        (GRID.values, "must be an xarray.DataArray or Dataset, got ndarray"),
    ],
)
def test_an_output_without_the_labels_is_a_failed_member(output, reason):
    model = ek.XarrayModel(lambda p: output, ["start"], OBSERVED)
    with pytest.raises(ValueError if "ndarray" not in reason else TypeError, match=reason):
        model(np.zeros(1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, ["a"], OBSERVED), TypeError, "function: must be callable"),
        ((lambda: OBSERVED, ["a"], OBSERVED), TypeError, r"function: must be a function \(param"),
        (
            (lambda p, q: OBSERVED, ["a"], OBSERVED),
            TypeError,
            r"function: .* got one of \(p, q",
        ),
        ((growth, 3, OBSERVED), TypeError, "parameters: must be names, .* got 3"),
        ((growth, None, OBSERVED), TypeError, "parameters: must be names, .* got None"),
        ((growth, [1, "1"], OBSERVED), TypeError, r"parameters: must be names, .* got \[1, '1'\]"),
        ((growth, ["a"], OBSERVED[:0]), ValueError, "observations: must have .*, got none"),
        ((growth, [], OBSERVED), ValueError, "parameters: must be one or more different names"),
        ((growth, ["a", "a"], OBSERVED), ValueError, "parameters: must be one or more different"),
        ((growth, ["a"], [1.0]), TypeError, "observations: must be an xarray.DataArray"),
        ((growth, ["a"], OBSERVED * np.nan), ValueError, "observations: must have at least one"),
        ((growth, ["a"], OBSERVED.astype(str)), TypeError, "observations: must be real numbers"),
        ((growth, ["a"], OBSERVED.stack(z=("year", "site"))), TypeError, "must not be stacked"),
        ((growth, ["a"], OBSERVED.isel(site=[0, 0])), ValueError, "duplicates in 'site'"),
    ],
)
def test_a_mistake_is_an_error_before_the_first_run(arguments, error, message):
    with pytest.raises(error, match=message):
        ek.XarrayModel(*arguments)


def test_what_cannot_be_stochastic_is_refused():
    with pytest.raises(TypeError, match=r"must be a function \(parameters, rng=\), got one of"):
        ek.XarrayModel(lambda p: OBSERVED, ["a"], OBSERVED, stochastic=True)
    with pytest.raises(TypeError, match="stochastic: must be True or False, got 'yes'"):
        ek.XarrayModel(lambda p, rng: OBSERVED, ["a"], OBSERVED, stochastic="yes")


def test_the_problem_is_checked_against_the_model(model):
    prior = ek.GaussianPrior([0.0, 0.0], 1.0)
    with pytest.raises(ValueError, match=r"shape \(d, p\) = \(6, 2\)"):
        ek.InverseProblem(model, prior, 1.0, np.zeros(6))
    with pytest.raises(ValueError, match=r"names of the model in the same order, \('start', 'r"):
        ek.InverseProblem(model, prior, 1.0, model.data, parameter_names=["rate", "start"])
    from scipy import stats

    marginals = {"rate": stats.norm(), "start": stats.norm()}
    with pytest.raises(ValueError, match="Order the parameters of the prior or of the model"):
        ek.InverseProblem(model, ek.Prior(marginals), 1.0, model.data)
    named = ek.InverseProblem(model, prior, 1.0, model.data, data_names=range(5))
    assert named.data_names == (0, 1, 2, 3, 4)
