"""Data in blocks, with labels and gaps, beside the vector and covariance they stand for."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import ekitools as ek

PRIOR = ek.GaussianPrior([0.0, 0.0], 1.0)
TIMES = pd.date_range("2001-01-01", periods=4, name="time")
A = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0], [0.0, 1.0]])
Y = np.array([0.9, 1.6, 2.1, 2.4, 0.6])
FACTOR = np.random.default_rng(1).normal(size=(4, 4))
DENSE = FACTOR @ FACTOR.T + np.eye(4)


def by_block(u):
    height = xr.DataArray(u[0] + u[1] * np.arange(4.0), {"time": TIMES}, dims="time")
    return {"height": height, "rate": u[1], "unused": "text"}


def height(values=Y[:4], times=TIMES):
    return xr.DataArray(
        np.array(values), {"time": times}, dims="time", attrs={"units": "m"}, name="height"
    )


def posterior(problem, n_members=60):
    """The last ensemble of one exact Kalman step per member: the same draws for the same d."""
    return ek.run(problem, ek.EKI(ek.FixedStep(1.0)), n_members=n_members, rng=3).u[-1].values


def test_blocks_are_the_dense_problem():
    """The ensemble of blocks is that of the vector with the block-diagonal covariance."""
    cov = np.zeros((5, 5))
    cov[:4, :4], cov[4, 4] = DENSE, 0.25
    blocks = ek.InverseProblem(
        by_block, PRIOR, {"height": DENSE, "rate": 0.25}, {"height": height(), "rate": Y[4]}
    )
    dense = ek.InverseProblem(ek.LinearModel(A), PRIOR, cov, Y)
    np.testing.assert_allclose(posterior(blocks), posterior(dense), rtol=0, atol=1e-10)
    np.testing.assert_allclose(blocks.noise_sd, np.sqrt(np.diag(cov)))


def test_a_series_has_the_units_of_its_attributes():
    series = pd.Series(Y[:4], TIMES, name="height")
    series.attrs["units"] = "m"
    for data in (series, {"height": series}):
        problem = ek.InverseProblem(by_block, PRIOR, 1.0, data)
        assert problem.info.data_units == ("m",) * 4


@pytest.mark.parametrize("form", ["scalar", "variances", "dense", "low rank"])
@pytest.mark.parametrize("gaps", [[1], [0, 4], [1, 2, 3]])
def test_gaps_are_the_marginal_problem(form, gaps):
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(5, 2))
    noise, dense = {
        "scalar": (0.3, 0.3 * np.eye(5)),
        "variances": (np.arange(1.0, 6.0), np.diag(np.arange(1.0, 6.0))),
        "dense": (np.eye(5) + factor @ factor.T,) * 2,
        "low rank": ((np.ones(5), factor), np.eye(5) + factor @ factor.T),
    }[form]
    kept = np.setdiff1d(np.arange(5), gaps)
    y = Y.copy()
    y[gaps] = np.nan
    whole = ek.InverseProblem(ek.LinearModel(A), PRIOR, noise, y)
    called = ek.InverseProblem(lambda u: A @ u, PRIOR, noise, y)
    part = ek.InverseProblem(ek.LinearModel(A[kept]), PRIOR, dense[np.ix_(kept, kept)], Y[kept])
    misfits = [p.noise.misfit((A @ np.ones(2))[kept], p.data) for p in (whole, called, part)]
    np.testing.assert_allclose(misfits, misfits[-1], rtol=1e-10)
    assert whole.data_names == tuple(f"y{i}" for i in kept)
    if form in ("scalar", "variances"):  # the perturbations of the data are the same draws
        np.testing.assert_allclose(posterior(whole), posterior(part), rtol=0, atol=1e-10)
    np.testing.assert_allclose(posterior(whole), posterior(called), rtol=0, atol=1e-12)


def test_the_result_has_blocks_positions_coordinates_and_units(tmp_path):
    data = {"height": height([0.9, np.nan, 2.1, 2.4]), "rate": Y[4]}
    problem = ek.InverseProblem(by_block, PRIOR, data=data, noise_sd={"height": 0.1, "rate": 0.05})
    result = ek.run(problem, ek.EKI(), n_members=20, n_steps=1, rng=0)
    assert result.block.values.tolist() == ["height"] * 3 + ["rate"]
    assert result.position.values.tolist() == [0, 2, 3, 0]
    assert (
        result.time.values[:3].tolist() == TIMES[[0, 2, 3]].values.astype("datetime64[ns]").tolist()
    )
    assert np.isnat(result.time.values[3])
    assert result.data_units.values.tolist() == ["m", "m", "m", ""]
    assert result["data"].values[1] == "height(time=2001-01-03)"
    assert result.attrs["gaps"] == 1
    np.testing.assert_allclose(result.noise_sd, [0.1, 0.1, 0.1, 0.05])
    result.to_netcdf(tmp_path / "result.nc")
    with xr.open_dataset(tmp_path / "result.nc") as again:
        assert again.time.equals(result.time)
        assert again.block.values.tolist() == result.block.values.tolist()


def test_labels_are_matched_and_never_positions():
    backwards = lambda u: {"height": by_block(u)["height"][::-1], "rate": u[1]}  # noqa: E731
    data = {"height": height(), "rate": Y[4]}
    noise = {"height": height([1.0, 2.0, 3.0, 4.0])[::-1], "rate": 0.25}
    problem = ek.InverseProblem(backwards, PRIOR, noise, data)
    plain = ek.InverseProblem(ek.LinearModel(A), PRIOR, [1.0, 2.0, 3.0, 4.0, 0.25], Y)
    np.testing.assert_allclose(posterior(problem), posterior(plain), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "data",
    [
        pd.Series(Y[:4], TIMES, name="height"),
        height(),
        height().to_dataset(),
        pd.DataFrame({"height": pd.Series(Y[:4], TIMES)}),
        {"height": height()},
    ],
    ids=["Series", "DataArray", "Dataset", "DataFrame", "mapping"],
)
def test_every_form_of_data_is_the_same_problem(data):
    def model(u):
        return {"height": u[0] + u[1] * np.arange(4.0)} if isinstance(data, dict) else A[:4] @ u

    problem = ek.InverseProblem(model, PRIOR, 0.3, data)
    plain = ek.InverseProblem(ek.LinearModel(A[:4]), PRIOR, 0.3, Y[:4])
    np.testing.assert_array_equal(problem.data, Y[:4])
    assert problem.data_names[0] == "height(time=2001-01-01)"
    np.testing.assert_allclose(posterior(problem), posterior(plain), rtol=0, atol=1e-12)


def test_a_vectorized_model_returns_blocks_with_the_members_first():
    def model(u):
        return {"rate": u[:, 1], "height": u[:, :1] + u[:, 1:] * np.arange(4.0)}

    data = {"height": [0.9, np.nan, 2.1, 2.4], "rate": 0.6}
    noise = {"height": 0.01, "rate": 0.25}
    together = ek.InverseProblem(ek.FunctionModel(model, vectorized=True), PRIOR, noise, data)
    one = ek.InverseProblem(
        lambda u: {k: v[0] for k, v in model(u[None]).items()}, PRIOR, noise, data
    )
    np.testing.assert_array_equal(posterior(together), posterior(one))


def test_outputs_told_to_a_loop_have_the_form_of_the_data():
    data = {"height": [0.9, np.nan, 2.1, 2.4], "rate": 0.6}
    problem = ek.InverseProblem(by_block, PRIOR, {"height": 0.01, "rate": 0.25}, data)
    results = []
    for form in ("vector", "blocks", "kept"):
        loop = ek.AskTell(problem, ek.EKI(), n_members=20, n_steps=1, rng=0)
        while not loop.done:
            g = loop.ask() @ A.T
            kept = g[:, [0, 2, 3, 4]]
            loop.tell(
                {"vector": g, "kept": kept, "blocks": {"height": g[:, :4], "rate": g[:, 4]}}[form]
            )
        results.append(loop.result().u)
    assert results[0].equals(results[1])
    assert results[0].equals(results[2])


def test_an_xarray_model_takes_the_observations_themselves():
    observed = height([0.9, np.nan, 2.1, 2.4])
    model = ek.XarrayModel(
        lambda p: by_block([float(p.a), float(p.b)])["height"], ["a", "b"], observed
    )
    labelled = ek.InverseProblem(model, PRIOR, 0.3, observed)
    vector = ek.InverseProblem(model, PRIOR, 0.3, model.data)
    assert labelled.data_names == vector.data_names
    np.testing.assert_array_equal(posterior(labelled), posterior(vector))


def test_coordinates_may_have_the_name_of_the_block():
    places = {"x": ("well", [0.0, 1.0, 2.0]), "y": ("well", [3.0, 4.0, 5.0])}
    data = xr.DataArray([1.0, 2.0, 3.0], dims="well", coords=places)
    prior = ek.GaussianPrior([0.0], 1.0)
    whole = ek.InverseProblem(lambda u: xr.full_like(data, u[0]), prior, 1.0, data)
    named = ek.InverseProblem(lambda u: {"x": xr.full_like(data, u[0])}, prior, 1.0, {"x": data})
    plain = ek.InverseProblem(lambda u: np.full(3, u[0]), prior, 1.0, data.values)
    expected = ek.run(plain, ek.EKI(), n_members=10, rng=0)
    for problem in (whole, named):
        result = ek.run(problem, ek.EKI(), n_members=10, rng=0)
        np.testing.assert_array_equal(result.u, expected.u)
        np.testing.assert_array_equal(result.y_, [3.0, 4.0, 5.0])  # result.y are the data
    assert whole.data_names[0] == "y_(well=0)"


def test_gaps_of_an_operator_and_of_a_sparse_matrix():
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import aslinearoperator

    y = np.array([0.9, np.nan, 2.1, 2.4, np.nan])
    results = [
        posterior(ek.InverseProblem(ek.LinearModel(matrix), PRIOR, 0.3, y))
        for matrix in (A, csr_array(A), aslinearoperator(A))
    ]
    np.testing.assert_allclose(results[1], results[0], atol=1e-12)
    np.testing.assert_allclose(results[2], results[0], atol=1e-12)


def test_another_gap_is_another_problem(tmp_path):
    def problem(gap):
        y = np.where(np.arange(5) == gap, np.nan, 1.0)
        return ek.InverseProblem(lambda u: A @ u, PRIOR, 0.3, y)

    ek.run(
        problem(1), ek.EKI(ek.FixedStep(0.5)), n_members=10, n_steps=1, checkpoint=tmp_path / "c"
    )
    with pytest.raises(ek.CheckpointError, match="data"):
        ek.resume(tmp_path / "c", problem(2))


BAD = [
    (
        {"noise": {"height": 0.1}},
        ValueError,
        r"noise: must have the blocks 'height', 'rate' .* got",
    ),
    ({"noise": {"height": 0.1, "rate": 1, "x": 1}}, ValueError, "noise: must have the blocks"),
    ({"noise": {"height": np.ones(3), "rate": 1.0}}, ValueError, "noise: must be|noise"),
    ({"noise": {"height": -1.0, "rate": 1.0}}, ValueError, r"noise\['height'\]: variances"),
    ({"noise": 0.1, "noise_sd": 0.1}, TypeError, "noise: must be given as noise or as noise_sd"),
    (
        {"noise": {"height": 0.1, "rate": ek.Huber(1.0)}},
        TypeError,
        r"noise\['rate'\]: must be Gauss",
    ),
    (
        {"data": {"height": [np.nan] * 4, "rate": np.nan}},
        ValueError,
        "data: must have at least one",
    ),
    (
        {"data": {"height": [1.0, np.inf, 0, 0], "rate": 1.0}},
        ValueError,
        r"data\['height'\]: must be",
    ),
    (
        {"data": {"height": ["a"] * 4, "rate": 1.0}},
        TypeError,
        r"data\['height'\]: must be an array",
    ),
    ({"data": {"height": [], "rate": 1.0}}, ValueError, r"data\['height'\]: must not be empty"),
    (
        {"data": {"height": {"a": 1.0}, "rate": 1.0}},
        TypeError,
        r"data\['height'\]: must be one arr",
    ),
    ({"data": {3: [1.0]}}, TypeError, "data: names of blocks must be texts, got 3"),
    ({"data": {}}, ValueError, "data: must have at least one block"),
    (
        {"data": {"height": height(times=TIMES[[0, 0, 1, 2]])}},
        ValueError,
        "Make 'time' a coordinate",
    ),
    ({"data": [1.0, np.nan], "noise": ek.CrossEntropy(2)}, TypeError, "noise: must have marginal"),
    ({"data": [1.0, 2.0], "noise": {"a": 1.0}}, TypeError, "noise: must not be by block"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD)
def test_bad_blocks_are_named(changes, error, message):
    arguments = {
        "model": by_block,
        "prior": PRIOR,
        "noise": {"height": 0.1, "rate": 0.1},
        "data": {"height": Y[:4], "rate": Y[4]},
    }
    with pytest.raises(error, match=message):
        ek.InverseProblem(**(arguments | changes))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda u: {"height": u}, "must have the blocks 'height', 'rate'"),
        (lambda u: {"height": u, "rate": 1.0}, r"model\['height'\]: must have the shape \(4,\)"),
        (lambda u: u, r"model: must have the shape \(5,\), got \(2,\)"),
        (lambda u: {"height": height()[:3], "rate": 1.0}, "no such label"),
    ],
)
def test_outputs_that_do_not_fit_are_failures_with_the_reason(model, message):
    problem = ek.InverseProblem(
        model, PRIOR, 0.1, {"height": height() if "label" in message else Y[:4], "rate": Y[4]}
    )
    with pytest.raises(ek.RunError, match=message):
        ek.run(problem, ek.EKI(), n_members=5, rng=0)


def test_unknown_noise_of_one_block_alone_is_refused_with_the_mapping_of_priors():
    noise = {"a": ek.UnknownNoise(stats.lognorm(1.0)), "b": 0.1}
    with pytest.raises(TypeError, match=r"^noise: must be one UnknownNoise .*{'a': prior"):
        ek.InverseProblem(
            lambda u: {"a": u, "b": u}, PRIOR, noise, {"a": [1.0, 2.0], "b": [1.0, 2.0]}
        )
