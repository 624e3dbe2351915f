"""Series of observations beside closed forms, plain problems and formulas written out."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from zoo.results import same

import ekitools as ek
from ekitools.core.streams import Streams
from ekitools.testing import check_method

P = 3
PRIOR = ek.GaussianPrior(np.zeros(P), 1.0)
NAMES = ("radar", "tower", "buoy")
RNG = np.random.default_rng(0)
SIZES = (4, 2, 6)
MATRICES = tuple(RNG.normal(size=(d, P)) for d in SIZES)
FACTOR = RNG.normal(size=(4, 4))
DENSE = 0.05 * (FACTOR @ FACTOR.T + np.eye(4))
NOISES = (DENSE, np.array([0.2, 0.001]), 0.5)
GAMMAS = (DENSE, np.diag([0.2, 0.001]), 0.5 * np.eye(6))
TRUTH = np.array([0.5, -1.0, 0.8])
DATA = tuple(
    A @ TRUTH + np.linalg.cholesky(cov) @ RNG.normal(size=len(A))
    for A, cov in zip(MATRICES, GAMMAS, strict=True)
)
MODEL = ek.FunctionModel(lambda u, inputs: u @ inputs.T, vectorized=True, takes_inputs=True)
ONE = ek.FunctionModel(lambda u, inputs: inputs @ u, takes_inputs=True)


def observations(noises=NOISES, inputs=True):
    return [
        ek.Observation(y, noise, inputs=A if inputs else None, name=name)
        for y, noise, A, name in zip(DATA, noises, MATRICES, NAMES, strict=True)
    ]


def problem(size=1, *, model=MODEL, noises=NOISES, inputs=True, noise=None, **options):
    series = ek.ObservationSeries(observations(noises, inputs), size, **options)
    return ek.InverseProblem(model, PRIOR, noise, series)


def plain(*index):
    """The ordinary problem of some observations, with a dense covariance."""
    sizes = [SIZES[i] for i in index]
    cov, ends = np.zeros((sum(sizes),) * 2), np.cumsum([0, *sizes])
    for i, start, end in zip(index, ends, ends[1:], strict=False):
        cov[start:end, start:end] = GAMMAS[i]
    A, y = (np.concatenate([each[i] for i in index]) for each in (MATRICES, DATA))
    return ek.InverseProblem(ek.LinearModel(A), PRIOR, cov, y)


def exact():
    """Mean and covariance of the posterior of all data."""
    precision, shift = np.eye(P), np.zeros(P)
    for A, cov, y in zip(MATRICES, GAMMAS, DATA, strict=True):
        precision += A.T @ np.linalg.solve(cov, A)
        shift += A.T @ np.linalg.solve(cov, y)
    cov = np.linalg.inv(precision)
    return cov @ shift, cov


# ------------------------------------------------------------------------------- the right Σh


@pytest.mark.parametrize(
    ("step", "size", "options"),
    [
        (ek.FixedStep(1.0), 1, {"order": "given"}),
        (ek.FixedStep(0.5), 1, {}),
        (ek.FixedStep(0.3), 2, {"remainder": "drop"}),
        (ek.MisfitController(), 1, {}),
        (ek.ESMDA((4.0, 2.0, 4.0)), 2, {"remainder": "drop"}),
    ],
    ids=str,
)
def test_the_ensemble_samples_the_posterior_of_all_data(step, size, options):
    """Within 5 standard errors of independent draws; 8 other seeds gave at most 3.5."""
    n_members, (mean, cov) = 2000, exact()
    error = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / n_members)
    for seed in range(5):
        result = ek.run(
            problem(size, **options), ek.EKI(step), n_members=n_members, rng=seed, store="last"
        )
        u = result.u[-1].values
        assert result.attrs["status_code"] == "posterior_reached"
        assert (np.abs(u.mean(0) - mean) < 5 * np.sqrt(np.diag(cov) / n_members)).all()
        assert np.abs((np.cov(u.T) - cov) / error).max() < 5


@pytest.mark.parametrize("variance", [0.2, 0.001])
def test_one_noise_for_all_observations_is_another_posterior(variance):
    """By more than a standard deviation of the posterior, that is by 50 standard errors."""
    shared = problem(noises=(None,) * 3, noise=variance)
    mean, cov = exact()
    for seed in range(5):
        u = ek.run(shared, ek.EKI(ek.FixedStep(1.0)), n_members=3000, rng=seed).u[-1].values
        assert np.max(np.abs(u.mean(0) - mean) / np.sqrt(np.diag(cov))) > 1


def steps_of_each(case, method, **options):
    """Σh of every observation, added up outside of the method from what steps saw."""
    loop = ek.AskTell(case, method, n_members=40, rng=0, **options)
    total, seen = np.zeros(3), []
    while not loop.done:
        before = np.array(loop._state.used)
        batch = loop.batch
        loop.tell(outputs_of(loop))
        gain = np.array(loop._state.used) - before
        if batch is not None:
            seen.append(batch.index.tolist())
            assert set(np.flatnonzero(gain)) <= set(batch.index.tolist())
        total += gain
    return total, seen, loop


def outputs_of(loop):
    names = NAMES if loop.batch is None else loop.batch.names
    matrices = dict(zip(NAMES, MATRICES, strict=True))
    return {name: loop.ask() @ matrices[name].T for name in names}


@pytest.mark.parametrize("t_end", [1.0, 0.3])
@pytest.mark.parametrize(
    "step", [ek.FixedStep(0.4), ek.MisfitController(), ek.NormStep(), ek.ESMDA(3)], ids=str
)
@pytest.mark.parametrize(
    "options", [{"order": "given"}, {}, {"size": 2}, {"size": 2, "remainder": "drop"}], ids=str
)
def test_every_observation_comes_to_t_end_and_no_further(step, options, t_end):
    total, seen, loop = steps_of_each(problem(**options), ek.EKI(step, t_end=t_end))
    np.testing.assert_allclose(total, t_end, rtol=1e-12)
    assert loop.t == t_end
    assert loop.status.code == ("posterior_reached" if t_end == 1 else "t_end_reached")
    result = loop.result()
    assert (np.diff(result.t) >= 0).all()
    assert (result.t.values[:-1] < t_end).all()
    np.testing.assert_array_equal(
        [np.flatnonzero(row).tolist() for row in result.seen.values[:-1]], seen
    )


def test_t_is_weighted_by_the_number_of_data():
    method = ek.EKI(ek.FixedStep(0.5))
    result = ek.run(problem(order="given"), method, n_members=20, rng=0)
    expected = np.cumsum([0, *np.tile(SIZES, 2)]) * 0.5 / sum(SIZES)
    np.testing.assert_allclose(result.t, expected, rtol=1e-12)
    np.testing.assert_allclose(result.step[:-1], 0.5)


def test_a_step_uses_the_rest_of_each_observation():
    """Observations with different rests: noise Γ_i/h_i, by a dense analysis written out."""
    method = ek.EKI(ek.FixedStep(0.7), perturbed=False)
    whole = problem(3)
    z = PRIOR.sample(30, rng=1)
    state = method.init(z, whole.seen(0, Streams(0)))._replace(used=(0.9, 1.0, 0.1), t=0.4)
    seen = whole.seen(0, Streams(0))
    new, info = method.tell(state, seen.model(z), seen, rng=None)
    A, y = np.concatenate([MATRICES[0], MATRICES[2]]), np.concatenate([DATA[0], DATA[2]])
    cov = np.zeros((10, 10))
    cov[:4, :4], cov[4:, 4:] = GAMMAS[0] / 0.1, GAMMAS[2] / 0.7
    C = np.cov(z.T)
    gain = C @ A.T @ np.linalg.inv(A @ C @ A.T + cov)
    np.testing.assert_allclose(new.ensemble, z + (y - z @ A.T) @ gain.T, rtol=0, atol=1e-9)
    np.testing.assert_allclose(new.used, (1.0, 1.0, 0.8), rtol=1e-12)
    assert info.step == 0.7
    finished = new._replace(used=(1.0, 1.0, 0.8))
    part = problem(order="given").seen(0, Streams(0))  # the first observation has no rest
    still, info = method.tell(finished, part.model(new.ensemble), part, rng=None)
    assert info.step == 0
    np.testing.assert_array_equal(still.ensemble, new.ensemble)


def test_without_perturbed_data_the_mean_is_that_of_analyses_one_after_the_other():
    start = PRIOR.sample(25, rng=4)
    result = ek.run(
        problem(order="given"), ek.EKI(ek.FixedStep(1.0), perturbed=False), ensemble=start, rng=0
    )
    u = start
    for A, cov, y in zip(MATRICES, GAMMAS, DATA, strict=True):
        C = np.cov(u.T)
        u = u + (y - u @ A.T) @ np.linalg.solve(A @ C @ A.T + cov, A @ C)
    np.testing.assert_allclose(result.u[-1], u, rtol=0, atol=1e-9)


def test_passes_end_the_run_without_a_claim_to_the_posterior():
    result = ek.run(problem(passes=2), ek.EKI(ek.FixedStep(0.25)), n_members=20, rng=0)
    assert result.attrs["status_code"] == "stream_ended"
    assert (result.attrs["posterior"], float(result.t[-1])) == (0, 0.5)
    done = ek.run(problem(passes=1), ek.EKI(ek.FixedStep(1.0)), n_members=20, rng=0)
    assert done.attrs["status_code"] == "posterior_reached"
    short = ek.run(problem(), ek.EKI(ek.FixedStep(1.0)), n_members=20, n_steps=2, rng=0)
    assert (short.attrs["status_code"], short.attrs["posterior"]) == ("budget_spent", 0)


def test_tikhonov_counts_the_prior_once_an_epoch():
    """The prior N(0, I) as data with the noise I/(h share), by a dense analysis written out."""
    h, z = 0.5, PRIOR.sample(30, rng=1)
    method = ek.EKI(ek.FixedStep(h), t_end=None, tikhonov=True, perturbed=False)
    for n in range(3):
        seen = problem(order="given").seen(n, Streams(0))
        new, _ = method.tell(method.init(z, seen), seen.model(z), seen, rng=None)
        k, share = SIZES[n], SIZES[n] / sum(SIZES)
        A, y = np.concatenate([MATRICES[n], np.eye(P)]), np.concatenate([DATA[n], np.zeros(P)])
        cov = np.eye(k + P) / (h * share)
        cov[:k, :k] = GAMMAS[n] / h
        gain = np.cov(z.T) @ A.T @ np.linalg.inv(A @ np.cov(z.T) @ A.T + cov)
        np.testing.assert_allclose(new.ensemble, z + (y - z @ A.T) @ gain.T, rtol=0, atol=1e-9)


# --------------------------------------------------------------- mini-batches with an end time


X = np.linspace(-1, 1, 6)[:, None] ** np.arange(P)
SAMPLES = X @ TRUTH + 0.3 * np.random.default_rng(5).normal(size=6)


@pytest.mark.parametrize(
    "data",
    [
        ek.MiniBatches(X, SAMPLES, 2),
        ek.MiniBatches(X, SAMPLES, 4),  # two samples are left over in every epoch
        ek.MiniBatches(X, SAMPLES, 3, shuffle=False),
        ek.OnlineData(X, SAMPLES, 2, repeats=2),
    ],
    ids=repr,
)
def test_samples_in_batches_are_each_used_once_in_full(data):
    """Within 5 standard errors; the posterior of one batch is more than 10 away."""
    case = ek.InverseProblem(MODEL, PRIOR, 0.09, data)
    cov = np.linalg.inv(np.eye(P) + X.T @ X / 0.09)
    mean, n_members = cov @ X.T @ SAMPLES / 0.09, 3000
    for seed in range(5):
        result = ek.run(case, ek.EKI(ek.FixedStep(0.5)), n_members=n_members, rng=seed)
        assert result.attrs["status_code"] == "posterior_reached"
        u = result.u[-1].values
        assert np.abs((u.mean(0) - mean) / np.sqrt(np.diag(cov) / n_members)).max() < 5
        ratio = np.linalg.eigvals(np.linalg.solve(cov, np.cov(u.T)))
        assert np.abs(ratio - 1).max() < 5 * np.sqrt(2 / n_members) * 1.3


def test_correlated_samples_need_no_end_time():
    correlated = 0.09 * (np.eye(2) + 0.5)
    case = ek.InverseProblem(MODEL, PRIOR, correlated, ek.MiniBatches(X, SAMPLES, 2))
    with pytest.raises(TypeError, match=r"noise: must be independent between the samples .*t_end="):
        ek.run(case, ek.EKI(), rng=0)
    ek.run(case, ek.EKI(t_end=None), n_members=10, n_steps=2, rng=0)
    pairs = np.kron(np.eye(2), correlated)  # two targets a sample: a block for each
    batches = ek.MiniBatches(X, np.stack([SAMPLES, SAMPLES], axis=1), 2)
    two = ek.FunctionModel(
        lambda u, inputs: np.repeat(u @ inputs.T, 2, axis=1), vectorized=True, takes_inputs=True
    )
    result = ek.run(ek.InverseProblem(two, PRIOR, pairs, batches), ek.EKI(), n_members=10, rng=0)
    assert result.attrs["status_code"] == "posterior_reached"


# -------------------------------------------------------------------------------- what is seen


def test_all_observations_at_a_time_are_the_dense_problem():
    together, dense = problem(3), plain(0, 1, 2)
    for method in (ek.EKI(), ek.EKI(perturbed=False), ek.LossEKI(), ek.CurvatureEKI()):
        options = {"n_members": 12, "n_steps": 4, "rng": 3}
        results = [ek.run(each, method, **options) for each in (together, dense)]
        u, v = (each.u.values for each in results)
        np.testing.assert_allclose(u, v, rtol=0, atol=1e-8)
        np.testing.assert_allclose(results[0].misfit[0], results[1].misfit[0])


@pytest.mark.parametrize(
    "method",
    [
        ek.EKI(perturbed=False, t_end=None),
        ek.LossEKI(),
        ek.CurvatureEKI(),
        ek.Nesterov(ek.LossEKI(spread=ek.Spread(0.3))),
    ],
    ids=lambda method: type(method).__name__,
)
def test_a_step_is_that_of_a_problem_with_these_observations_alone(method):
    """The first step, of observation 0 and of 0 and 1, with the same draws."""
    for size, index in ((1, (0,)), (2, (0, 1))):
        series = observations()[: size + 1] if size == 1 else [*observations(), observations()[0]]
        if size == 2:
            series[3] = ek.Observation(DATA[0], DENSE, inputs=MATRICES[0], name="again")
        case = ek.InverseProblem(
            MODEL, PRIOR, data=ek.ObservationSeries(series, size, order="given")
        )
        options = {"n_members": 8, "n_steps": 1, "rng": 5}
        part, alone = (ek.run(each, method, **options) for each in (case, plain(*index)))
        np.testing.assert_allclose(part.u[1], alone.u[1], rtol=0, atol=1e-9)


def test_an_epoch_sees_every_observation_once_in_an_order_of_its_own():
    many = [ek.Observation([1.0], 1.0) for _ in range(7)]
    streams = Streams(0)

    def epochs(series):
        n = series.steps_per_epoch
        return [[series.part(k * n + i, streams.epoch) for i in range(n)] for k in range(40)]

    joined = epochs(ek.ObservationSeries(many, 3))
    assert [len(batch.index) for batch in joined[0]] == [3, 4]
    assert all(sorted(i for b in each for i in b.index) == list(range(7)) for each in joined)
    assert len({tuple(each[0].index) for each in joined}) > 15
    dropped = epochs(ek.ObservationSeries(many, 3, remainder="drop"))
    assert all(len({i for b in each for i in b.index}) == 6 for each in dropped)
    given = epochs(ek.ObservationSeries(many, 3, order="given"))
    assert [batch.index.tolist() for batch in given[1]] == [[0, 1, 2], [3, 4, 5, 6]]
    assert given[2][1].repeat == 2
    assert given[0][0].names == ("observation0", "observation1", "observation2")


def test_asking_and_telling_is_the_run():
    for inputs in (True, False):
        case = problem(2, model=MODEL if inputs else ek.LinearModel(np.concatenate(MATRICES)),
                       inputs=inputs)  # fmt: skip
        loop = ek.AskTell(case, ek.EKI(), n_members=10, rng=0)
        while not loop.done:
            batch = loop.batch
            if batch is not None:
                index = batch.index.tolist()
                np.testing.assert_array_equal(loop.data, np.concatenate([DATA[i] for i in index]))
                if inputs:
                    pairs = zip(loop.inputs, index, strict=True)
                    assert all(np.array_equal(x, MATRICES[i]) for x, i in pairs)
                else:
                    assert loop.inputs is None
            told = outputs_of(loop)
            loop.tell(told if loop.n % 2 else np.concatenate([*told.values()], axis=1))
        assert same(loop.result(), ek.run(case, ek.EKI(), n_members=10, rng=0))


def by_name(u):
    return {name: A @ u for name, A in zip(NAMES, MATRICES, strict=True)} | {"unused": "text"}


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (ONE, True),
        (by_name, False),
        (lambda u: np.concatenate(MATRICES) @ u, False),
        (ek.FunctionModel(lambda u: u @ np.concatenate(MATRICES).T, vectorized=True), False),
        (
            ek.FunctionModel(
                lambda u: {n: u @ A.T for n, A in zip(NAMES, MATRICES, strict=True)},
                vectorized=True,
            ),
            False,
        ),
        (ek.LinearModel(np.concatenate(MATRICES)), False),
    ],
    ids=["inputs", "by name", "vector", "rows", "rows by name", "linear"],
)
def test_every_form_of_a_model_is_the_same_problem(model, inputs):
    options = {"n_members": 10, "rng": 0}
    case = problem(2, model=model, inputs=inputs)
    result = ek.run(case, ek.EKI(), **options)
    np.testing.assert_allclose(
        result.u, ek.run(problem(2), ek.EKI(), **options).u, rtol=0, atol=1e-9
    )
    with ThreadPoolExecutor(2) as pool:
        assert same(ek.run(case, ek.EKI(), executor=pool, **options), result)


@pytest.mark.parametrize("data", [None, ek.MiniBatches(X, SAMPLES, 2)], ids=["series", "samples"])
def test_methods_keep_their_contract_on_a_part_of_the_data(data):
    case = problem(2) if data is None else ek.InverseProblem(MODEL, PRIOR, 0.1, data)
    for method in (ek.EKI(), ek.LossEKI(), ek.Nesterov(ek.EKI(ek.FixedStep(0.5)))):
        check_method(method, problem=case)


def test_every_method_for_whole_data_solves_the_whole():
    case = problem()
    for method in (ek.GNKI(), ek.TemperedSMC(), ek.Nesterov(ek.GNKI())):
        with pytest.raises(TypeError, match="problem: must have all its data at once for"):
            ek.run(case, method, n_members=10, rng=0)
    with pytest.raises(TypeError, match="problem: must have all its data at once for GNKI"):
        ek.run(ek.InverseProblem(MODEL, PRIOR, 0.1, ek.OnlineData(X, SAMPLES)), ek.GNKI(), rng=0)
    with pytest.raises(TypeError, match="problem: must have all its data at once for a flow"):
        ek.integrate(case, ek.EKIFlow(), t_span=(0, 1), rng=0)
    whole = case.whole()
    assert whole.whole() is whole
    result = ek.run(whole, ek.GNKI(damping=1.0), n_members=400, rng=0)
    mean, cov = exact()
    z = (result.u[-1].mean("member") - mean) / np.sqrt(np.diag(cov) / 400)
    assert np.abs(z).max() < 5
    with pytest.raises(TypeError, match="problem: must have all its data at once for whole"):
        ek.InverseProblem(MODEL, PRIOR, 0.1, ek.MiniBatches(X, SAMPLES, 2)).whole()


# ------------------------------------------------------------------------- results, files, loop


def test_the_result_has_all_data_and_says_what_each_iteration_saw(tmp_path):
    times = pd.date_range("2001-01-01", periods=3, name="time")
    height = xr.DataArray([1.0, np.nan, 1.5], {"time": times}, dims="time", attrs={"units": "m"})
    series = ek.ObservationSeries(
        [
            ek.Observation({"height": height, "rate": 0.5}, {"height": 0.1, "rate": 0.2}),
            ek.Observation([0.4, 0.6], noise_sd=0.1, name="tower"),
        ],
        order="given",
    )

    def model(u):
        tower = np.array([u[0], u[0]])
        first = {"height": height * 0 + u[0] + u[1], "rate": u[1]}
        first["height"] = first["height"].fillna(0.0)
        return {"observation0": first, "tower": tower}

    case = ek.InverseProblem(model, ek.GaussianPrior([0.0, 0.0], 1.0), data=series)
    result = ek.run(case, ek.EKI(ek.FixedStep(1.0)), n_members=15, rng=0)
    assert result["data"].values.tolist() == [
        "observation0.height(time=2001-01-01)",
        "observation0.height(time=2001-01-03)",
        "observation0.rate",
        "tower[0]",
        "tower[1]",
    ]
    assert result.data_observation.values.tolist() == ["observation0"] * 3 + ["tower"] * 2
    assert result.block.values.tolist() == ["height", "height", "rate", "", ""]
    assert result.position.values.tolist() == [0, 2, 0, 0, 1]
    assert result.data_units.values.tolist() == ["m", "m", "", "", ""]
    np.testing.assert_array_equal(result.y, [1.0, 1.5, 0.5, 0.4, 0.6])
    np.testing.assert_allclose(result.noise_sd**2, [0.1, 0.1, 0.2, 0.01, 0.01])
    assert result.observation.values.tolist() == ["observation0", "tower"]
    assert result.seen.values.tolist() == [[True, False], [False, True], [True, True]]
    unseen = ~result.seen.sel(observation=result.data_observation)
    assert (result.g.isnull() == unseen).all()
    assert result.attrs["gaps"] == 1
    result.to_netcdf(tmp_path / "result.nc")
    with xr.open_dataset(tmp_path / "result.nc") as again:
        assert again.seen.equals(result.seen)
        assert again.g.equals(result.g)
    diagnosis = ek.diagnose(result)
    assert diagnosis.n_data.values.tolist() == [3, 2, 5]
    assert np.isfinite(diagnosis.residual_mean).all()
    assert "Coverage: nan" not in str(ek.summary(result))


def test_diagnosis_whitens_by_the_noise_of_what_was_seen():
    result = ek.run(problem(order="given"), ek.EKI(ek.FixedStep(1.0)), n_members=9, rng=0)
    diagnosis = ek.diagnose(result, problem().whole())
    for i in range(3):
        g = result.u[i].values @ MATRICES[i].T
        r = g.mean(0) - DATA[i]
        expected = np.sqrt(r @ np.linalg.solve(GAMMAS[i], r))
        np.testing.assert_allclose(diagnosis.residual_mean[i], expected, rtol=1e-9)
    whole = [np.sum((u @ A.T - y) * np.linalg.solve(c, (u @ A.T - y).T).T) / 2
             for u in [result.u[3].values]
             for A, c, y in zip(MATRICES, GAMMAS, DATA, strict=True)]  # fmt: skip
    np.testing.assert_allclose(result.misfit[3].sum(), sum(whole), rtol=1e-9)


@pytest.mark.parametrize("evaluate_final", [True, False])
@pytest.mark.parametrize(
    "method", [ek.EKI(), ek.LossEKI(ek.NormStep(0.3)), ek.Nesterov(ek.EKI(ek.FixedStep(0.4)))],
    ids=lambda method: type(method).__name__,
)  # fmt: skip
def test_resuming_is_bitwise_the_run_that_was_never_interrupted(method, evaluate_final, tmp_path):
    case = problem(2, remainder="drop")
    options = {"n_members": 8, "rng": 0, "evaluate_final": evaluate_final}
    whole = ek.run(case, method, n_steps=9, **options)
    for n in (1, 4):
        folder = tmp_path / str(n)
        ek.run(case, method, n_steps=n, checkpoint=folder, **options)
        assert same(ek.resume(folder, case, n_steps=9), whole)
    with pytest.raises(ek.CheckpointError, match="differs .* in its data"):
        ek.resume(tmp_path / "1", problem(2), n_steps=9)


@pytest.mark.parametrize("store", ["last", "final", 2])
def test_what_is_stored_changes_no_number(store):
    options = {"n_members": 8, "rng": 0}
    whole = ek.run(problem(), ek.EKI(), **options)
    part = ek.run(problem(), ek.EKI(), store=store, **options)
    again = whole.sel(iteration=part.iteration)
    for name in ("u", "g", "seen", "misfit", "y"):
        assert part[name].equals(again[name])
    loop = ek.AskTell(problem(), ek.EKI(), store=store, **options)
    loop.tell(outputs_of(loop))
    assert loop.result().g.shape[1:] == (8, 12)


def test_order_content_and_options_are_part_of_the_problem():
    def printed(entries, *args, **options):
        series = ek.ObservationSeries(entries, *args, **options)
        return tuple(ek.InverseProblem(MODEL, PRIOR, data=series).fingerprint().values())

    def one(data=DATA[0], noise=DENSE, inputs=MATRICES[0], name="radar"):
        return ek.Observation(data, noise, inputs=inputs, name=name)

    rest = observations()[1:]
    prints = [
        printed([one(), *rest]),
        printed([*rest, one()]),
        printed([one(), *rest], 2),
        printed([one(), *rest], order="given"),
        printed([one(), *rest], 2, remainder="drop"),
        printed([one(), *rest], passes=3),
        printed([one(data=DATA[0] + 1e-12), *rest]),
        printed([one(noise=2 * DENSE), *rest]),
        printed([one(inputs=MATRICES[0] + 1e-12), *rest]),
        printed([one(name="sonar"), *rest]),
    ]
    assert len(set(prints)) == len(prints)
    assert printed([one(), *rest]) == prints[0]


def test_failures_gaps_and_side_products_of_single_observations():
    def model(u, inputs):
        g = inputs @ u
        if len(g) == 6 and u[0] > 0.8:
            raise RuntimeError("the buoy sank")
        if len(g) == 4 and u[0] < 0:
            g[1] = np.nan
        return g, {"norm": np.linalg.norm(u)}

    case = problem(model=ek.FunctionModel(model, takes_inputs=True), order="given")
    result = ek.run(
        case, ek.EKI(ek.FixedStep(1.0)), n_members=40, rng=0, missing=0.3, on_failure="resample"
    )
    assert result.failed.sum("member").values[2] > 0
    assert "the buoy sank" in result.attrs["failures"]
    counts = result.missing.values
    assert counts[0, 1] == (result.u[0, :, 0] < 0).sum() > 0
    assert counts[:, [0, *range(2, 12)]].sum() == 0
    assert np.isfinite(result.norm_radar[0]).all()
    assert np.isnan(result.norm_radar[1]).all()
    assert np.isfinite(result.norm_tower[1]).all()


def test_a_single_datum_may_be_a_number():
    pair = [ek.Observation([float(i)], 1.0, inputs=[i], name=f"at {i}") for i in (1, 2)]
    results = []
    for model in (
        ek.FunctionModel(lambda u, inputs: float(u[0] * inputs[0]), takes_inputs=True),
        ek.FunctionModel(lambda u, inputs: u[:, 0] * inputs, vectorized=True, takes_inputs=True),
    ):
        case = ek.InverseProblem(
            model, ek.GaussianPrior(0.0, [1.0]), data=ek.ObservationSeries(pair)
        )
        results.append(ek.run(case, ek.EKI(), n_members=12, rng=0).u)
    assert results[0].equals(results[1])


def test_a_loss_may_stand_for_all_observations():
    case = problem(noises=(None,) * 3, noise=ek.Huber(1.0, 0.5))
    result = ek.run(case, ek.LossEKI(), n_members=10, n_steps=6, rng=0)
    assert np.isfinite(result.history_misfit).all()
    assert result.attrs["loss"] == "Huber"
    with pytest.raises(TypeError, match="noise: must be Gaussian for EKI"):
        ek.run(case, ek.EKI(), rng=0)


def test_data_and_inputs_follow_no_later_edits():
    y, x = DATA[0].copy(), MATRICES[0].copy()
    entry = ek.Observation(y, DENSE, inputs=x)
    y[:], x[:] = 0, 0
    np.testing.assert_array_equal(entry.data, DATA[0])
    np.testing.assert_array_equal(entry.inputs, MATRICES[0])
    with pytest.raises(ValueError, match="read-only"):
        entry.data[0] = 1


def fails(u, inputs):
    return np.zeros(3)


PAIR = [ek.Observation([1.0], 1.0), ek.Observation([2.0], 1.0)]
BAD = [
    (lambda: ek.Observation([np.nan, np.nan], 1.0), ValueError, "data: must have at least one num"),
    (lambda: ek.Observation(None, 1.0), TypeError, "data: must be given"),
    (lambda: ek.Observation([[1.0]], 1.0), ValueError, "data: .*Flatten"),
    (lambda: ek.Observation([1.0], 1.0, name=3), TypeError, "name: must be a text"),
    (lambda: ek.Observation([1.0], [1.0, 2.0]), ValueError, "noise: must be for the 1 data"),
    (lambda: ek.Observation([1.0], 1.0, noise_sd=1.0), TypeError, "noise: must be given .*both"),
    (lambda: ek.Observation([1.0], ek.Huber(1.0, 1.0)), TypeError, "noise: must be Gaussian"),
    (lambda: ek.Observation([1.0], 1.0, inputs=[np.nan]), ValueError, "inputs: must be finite"),
    (lambda: ek.ObservationSeries([]), ValueError, "observations: must be a sequence .* got none"),
    (lambda: ek.ObservationSeries(PAIR[0]), TypeError, "observations: must be a sequence"),
    (lambda: ek.ObservationSeries([[1.0]]), TypeError, r"observations\[0\]: must be an ek.Obs"),
    (lambda: ek.ObservationSeries(PAIR, 3), ValueError, "size: must be from 1 to 2, got 3"),
    (lambda: ek.ObservationSeries(PAIR, order="sorted"), ValueError, 'order: must be "random" or'),
    (lambda: ek.ObservationSeries(PAIR, remainder=1), ValueError, 'remainder: must be "join" or'),
    (lambda: ek.ObservationSeries(PAIR, passes=0), ValueError, "passes: must be at least 1"),
    (
        lambda: ek.ObservationSeries([*PAIR, PAIR[0]], 2, order="given", remainder="drop"),
        ValueError,
        "remainder: must be .*the last 1 of 3 observations would never be used",
    ),
    (
        lambda: ek.ObservationSeries([ek.Observation([1.0], name="a")] * 2),
        ValueError,
        "observations: must have different names, got 'a' twice",
    ),
    (
        lambda: ek.ObservationSeries([*PAIR, ek.Observation([1.0], inputs=[1.0])]),
        ValueError,
        "observations: must all have inputs, or none",
    ),
    (
        lambda: ek.InverseProblem(MODEL, PRIOR, data=PAIR),
        TypeError,
        "data: must be an ek.ObservationSeries for observations, got list",
    ),
    (lambda: problem(noise=1.0), TypeError, "noise: must be left out if every observation has"),
    (
        lambda: problem(noises=(DENSE, None, 0.5)),
        TypeError,
        "noise: must be given for every observation, got none for 'tower'",
    ),
    (
        lambda: problem(noises=(DENSE, None, 0.5), noise=np.eye(4)),
        ValueError,
        "observation 'tower': noise: must be for the 2 data",
    ),
    (
        lambda: problem(noises=(DENSE, None, 0.5), noise=ek.Huber(1.0, 1.0)),
        TypeError,
        "noise: must be Gaussian if some observations have their own noise",
    ),
    (lambda: problem(model=by_name), TypeError, "model: must take inputs= for ObservationSeries"),
    (lambda: problem(inputs=False), TypeError, "data: must have inputs for .*ek.Observation"),
    (
        lambda: problem(model=ek.LinearModel(np.ones((5, P))), inputs=False),
        ValueError,
        r"model: must have the shape \(d, p\) = \(12, 3\)",
    ),
    (
        lambda: ek.run(
            problem(model=ek.FunctionModel(fails, takes_inputs=True)), ek.EKI(), rng=0
        ),
        ek.RunError,
        r"model\['\w+'\]: must have the shape",
    ),
    (
        lambda: ek.run(problem(model=lambda u: {"radar": u}, inputs=False), ek.EKI(), rng=0),
        ek.RunError,
        r"model(\['radar'\])?: must have",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "match"), BAD)
def test_mistakes_are_named(make, error, match):
    with pytest.raises(error, match=match):
        make()
