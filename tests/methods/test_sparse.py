"""Sparse inversion beside Kalman algebra, and what a run of several rounds reports and keeps."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from zoo.results import same

import ekitools as ek
from ekitools.methods.variances import learned_variances, sharing
from ekitools.testing import check_method

P, D = 6, 4
MATRIX = np.random.default_rng(0).normal(size=(D, P))
TRUTH = np.array([0.0, 2.0, 0.0, 0.0, -1.0, 0.0])
DATA = MATRIX @ TRUTH + 0.1 * np.random.default_rng(1).normal(size=D)
NAMES = tuple("abcdef")


def problem(prior=None, data=DATA, model=None):
    model = ek.LinearModel(MATRIX) if model is None else model
    prior = ek.GaussianPrior(np.zeros(P), 1.0) if prior is None else prior
    return ek.InverseProblem(model, prior, 0.1**2, data)


def exact_members(n=12):
    """Members whose mean is 0 and whose covariance is I, so that ETKI is Kalman algebra."""
    u = np.random.default_rng(2).normal(size=(n, P))
    u -= u.mean(axis=0)
    root = np.linalg.cholesky(np.cov(u.T))
    return np.linalg.solve(root, u.T).T


def algebra(rounds, shared):
    """λ of every round, and the mean and the covariance of the last one, by dense formulas."""
    variances, all_variances = np.ones(P), []
    for _ in range(rounds):
        all_variances.append(variances)
        precision = np.diag(1 / variances) + MATRIX.T @ MATRIX / 0.1**2
        cov = np.linalg.inv(precision)
        mean = cov @ MATRIX.T @ DATA / 0.1**2
        second, variances = mean**2 + np.diag(cov), np.ones(P)
        for each in set(shared) - {-1}:
            variances[shared == each] = second[shared == each].mean()
    return np.array(all_variances), mean, cov


OPTIONS = {
    "all": ({}, range(P)),
    "groups": ({"groups": ((1, 4), (0, 2, 3))}, (0, 1, 0, 0, 1, 5)),
    "parameters": ({"parameters": (0, 2, 3, 5)}, (0, -1, 2, 3, -1, 5)),
    "both": ({"parameters": (0, 1, 3, 5), "groups": ((5, 0),)}, (0, 1, -1, 3, -1, 0)),
}


@pytest.mark.parametrize("options", OPTIONS)
def test_the_rounds_are_those_of_kalman_algebra(options):
    options, shared = OPTIONS[options]
    method = ek.Sparse(ek.ETKI(), outer=5, rtol=1e-12, **options)
    result = ek.run(problem(), method, ensemble=exact_members(), rng=0)
    variances, mean, cov = algebra(5, np.array(shared))
    found = result.parameter_prior_variance.values
    first = np.r_[True, np.any(np.diff(found, axis=0) != 0, axis=1)]
    np.testing.assert_allclose(found[first], variances, rtol=1e-8)
    np.testing.assert_allclose(result.u[-1].mean("member"), mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(np.cov(result.u[-1].values.T), cov, rtol=0, atol=1e-8)
    kept = result.parameter_kept.values
    assert kept.dtype == bool
    assert kept[0].all()
    size = np.array([np.sqrt(np.mean(mean[np.array(shared) == each] ** 2)) for each in shared])
    np.testing.assert_array_equal(kept[-1], (np.array(shared) == -1) | (size > 0.1))
    assert float(result.t[-1]) == pytest.approx(5)


def test_the_rounds_end_once_the_kept_variances_have_settled():
    method = ek.Sparse(ek.ETKI(), outer=40)
    result = ek.run(problem(), method, ensemble=exact_members(), rng=0)
    assert result.attrs["status_code"] == "prior_settled"
    variances, mean, _ = algebra(40, np.arange(P))
    changes = np.abs(np.diff(np.log(variances), axis=0))[:, np.abs(mean) > 0.1].max(axis=1)
    rounds = int(np.argmax(changes <= 0.002)) + 1  # the round that made the last change
    assert 1 < rounds < 40
    assert f"(rounds: {rounds})" in result.attrs["status"]
    assert float(result.t[-1]) == pytest.approx(rounds)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_three_of_twenty_coefficients_are_found_from_fifteen_data(seed):
    """benchmarks/sparsity.py has ten seeds, other methods, and a nonlinear model."""
    from sparsity import by_algebra, case

    target, truth, _ = case(seed)
    method = ek.Sparse(ek.GNKI(), rtol=1e-9)
    result = ek.run(target, method, n_members=100, rng=seed)
    error = np.linalg.norm(result.u[-1].mean("member") - truth)
    np.testing.assert_array_equal(result.parameter_kept[-1], truth != 0)
    assert error <= 0.07
    assert error == pytest.approx(by_algebra(seed, 1e-9)[0], abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("method", [ek.GNKI(), ek.ETKI(), ek.EKI()])
def test_a_nonlinear_model_has_its_coefficients_found_too(method):
    from sparsity import case

    target, truth, _ = case(3, nonlinear=True)
    result = ek.run(target, ek.Sparse(method), n_members=100, rng=0)
    np.testing.assert_array_equal(result.parameter_kept[-1], truth != 0)
    assert np.linalg.norm(result.u[-1].mean("member") - truth) < 0.1


@pytest.mark.slow
def test_a_warm_start_saves_model_runs():
    from sparsity import case

    runs = {
        warm: sum(
            ek.run(
                case(seed, nonlinear=True)[0],
                ek.Sparse(ek.GNKI(), warm=warm),
                n_members=100,
                rng=0,
                store="final",
            ).attrs["model_runs"]
            for seed in range(3)
        )
        for warm in (True, False)
    }
    assert runs[True] < 0.95 * runs[False]


@pytest.mark.parametrize("method", [ek.GNKI(), ek.EKI()])
def test_a_parameter_is_zero_at_the_mean_of_its_prior(method):
    """Whatever the mean and the scale of the prior are, the whitened members are the same."""
    mean, sd = np.linspace(-3, 3, P), np.geomspace(0.1, 10, P)
    shifted = ek.InverseProblem(
        ek.LinearModel(MATRIX / sd), ek.GaussianPrior(mean, sd**2), 0.01, DATA + MATRIX / sd @ mean
    )
    start = exact_members()
    plain, other = (
        ek.run(target, ek.Sparse(method, outer=3), ensemble=members, rng=0)
        for target, members in ((problem(), start), (shifted, mean + sd * start))
    )
    np.testing.assert_allclose((other.u[-1] - mean) / sd, plain.u[-1], rtol=0, atol=1e-7)
    np.testing.assert_array_equal(other.parameter_kept, plain.parameter_kept)


def test_bounded_parameters_are_rescaled_in_unconstrained_coordinates():
    prior = ek.Prior({name: stats.lognorm(1.0) for name in NAMES})  # log u ~ N(0, 1)
    model = ek.FunctionModel(lambda u: np.log(u) @ MATRIX.T, vectorized=True)
    method = ek.Sparse(ek.ETKI(), outer=4)
    bounded = ek.run(problem(prior, model=model), method, ensemble=np.exp(exact_members()), rng=0)
    plain = ek.run(problem(), method, ensemble=exact_members(), rng=0)
    np.testing.assert_allclose(np.log(bounded.u), plain.u, rtol=0, atol=1e-8)
    assert "2 of 6 parameters are kept: 'b', 'e'." in bounded.attrs["status"]
    assert "2 of 6 parameters are kept: 1, 4." in plain.attrs["status"]


def test_names_and_positions_are_the_same():
    named = problem(ek.Prior({name: stats.norm() for name in NAMES}))
    results = [
        ek.run(named, ek.Sparse(ek.ETKI(), parameters, groups), ensemble=exact_members(), rng=0)
        for parameters, groups in ((tuple("abce"), (("a", "c"),)), ((0, 1, 2, 4), ((0, 2),)))
    ]
    np.testing.assert_array_equal(*(r.parameter_prior_variance for r in results))
    assert "of 4 parameters" in results[0].attrs["status"]


def test_the_result_says_what_the_ensemble_is():
    result = ek.run(problem(), ek.Sparse(ek.GNKI(), outer=2), n_members=50, rng=0)
    assert result.attrs["status_code"] == "rounds_spent"
    assert result.attrs["status_level"] == "care"
    assert "Allow more rounds with outer=" in result.attrs["status"]
    assert (result.attrs["posterior"], result.attrs["prior"]) == (1, "learned")
    findings = " ".join(str(check) for check in ek.summary(result).checks)
    assert "variances of the prior were learned from the same data" in findings
    assert "long_name" in result.parameter_kept.attrs


@pytest.mark.slow
def test_reports_by_parameter_are_saved_and_resumed_in_any_round(tmp_path):
    method, options = ek.Sparse(ek.GNKI(), outer=2), {"n_members": 15, "rng": 0}
    whole = ek.run(problem(), method, **options)
    for n in (1, int(whole.sizes["iteration"]) // 2):
        path = tmp_path / str(n)
        part = ek.run(problem(), method, n_steps=n, checkpoint=path, **options)
        np.testing.assert_array_equal(
            part.parameter_prior_variance, whole.parameter_prior_variance[: n + 1]
        )
        assert same(ek.resume(path, problem(), n_steps=100), whole)
    whole.to_netcdf(tmp_path / "result.nc")
    read = xr.load_dataset(tmp_path / "result.nc")
    assert read.parameter_kept.dtype == bool
    xr.testing.assert_equal(read.parameter_prior_variance, whole.parameter_prior_variance)


def test_an_iteration_without_outputs_reports_nothing():
    options = {"n_members": 15, "n_steps": 2, "rng": 0, "evaluate_final": False}
    result = ek.run(problem(), ek.Sparse(ek.GNKI()), **options)
    assert result.parameter_kept[:-1].notnull().all()
    assert result.parameter_kept[-1].isnull().all()


def test_the_last_iteration_alone_has_its_reports():
    options = {"n_members": 15, "rng": 0}
    whole = ek.run(problem(), ek.Sparse(ek.GNKI(), outer=2), **options)
    last = ek.run(problem(), ek.Sparse(ek.GNKI(), outer=2), store="final", **options)
    np.testing.assert_array_equal(last.parameter_kept[-1], whole.parameter_kept[-1])


@pytest.mark.parametrize("on_failure", ["drop", "resample"])
@pytest.mark.parametrize("warm", [True, False])
def test_members_that_fail_are_dropped_or_replaced_in_any_round(on_failure, warm):
    calls = []

    def flaky(u):
        calls.append(u)
        return MATRIX @ u if len(calls) % 401 else np.full(D, np.nan)

    method = ek.Sparse(ek.GNKI(), warm=warm)
    target = problem(model=ek.FunctionModel(flaky))
    result = ek.run(target, method, n_members=60, rng=0, on_failure=on_failure)
    np.testing.assert_array_equal(result.parameter_kept[-1], TRUTH != 0)


def test_a_method_with_a_start_of_its_own_is_refused():
    for start in ("eki", "prior"):
        assert ek.Sparse(ek.GNKI(start=start)).start == start
    start = ek.GaussianStart((0.0,), ((1.0,),), (0.5,))
    with pytest.raises(TypeError, match="got GNKI, which has its own start"):
        ek.Sparse(ek.GNKI(start=start))
    assert ek.Inflated(ek.GNKI(start=start), multiplicative=0.1).start == start
    assert ek.Nesterov(ek.EKI()).start is None


def test_a_float32_ensemble_stays_one():
    members = exact_members()
    result = ek.run(
        problem(), ek.Sparse(ek.ETKI(), outer=4), ensemble=members.astype(np.float32), rng=0
    )
    assert result.u.dtype == np.float32
    exact = ek.run(problem(), ek.Sparse(ek.ETKI(), outer=4), ensemble=members, rng=0)
    np.testing.assert_allclose(result.u[-1], exact.u[-1], rtol=0, atol=2e-3)


@pytest.mark.parametrize(("n", "warm"), [(P, False), (P + 1, True)])
def test_a_round_starts_warm_with_more_members_than_parameters(n, warm):
    target = problem()
    state = ek.Sparse(ek.GNKI()).init(target.prior.sample(n, rng=0), target)
    assert (state.white is None) == warm
    assert ek.Sparse(ek.EKI()).init(target.prior.sample(n, rng=0), target).white is not None


def test_variances_below_the_floor_are_the_floor():
    variances, sizes = learned_variances(np.zeros((5, 2)), np.array([0, -1]), 1e-10)
    np.testing.assert_array_equal(variances, [1e-10, 1.0])
    np.testing.assert_array_equal(sizes, [0.0, np.inf])


@pytest.mark.parametrize(
    "method",
    [
        ek.TemperedSMC(),
        ek.Nesterov(ek.EKI()),
        ek.Inflated(ek.EKI(), multiplicative=0.1),
        ek.EKI(t_end=None),
        ek.Sparse(ek.GNKI()),
        3,
    ],
)
def test_a_method_that_does_not_move_to_the_posterior_is_refused(method):
    with pytest.raises(TypeError, match="^method: must "):
        ek.Sparse(method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"parameters": ("g",)},
            r"parameters: must be parameters of the prior, got 'g'. Use",
        ),
        ({"parameters": (6,)}, "parameters: must be"),
        ({"parameters": ("a", 0)}, "parameters: must have every parameter once, got 0 twice"),
        ({"groups": (("a", "g"),)}, "groups: must be parameters of the prior, got 'g'"),
        ({"parameters": ("a",), "groups": (("a", "b"),)}, "groups: .* Add all of them"),
        ({"groups": (("a", "b"), (1, 2))}, "groups: must not overlap"),
    ],
)
def test_parameters_that_the_problem_does_not_have_are_refused(options, message):
    calls = []
    model = ek.FunctionModel(lambda u: calls.append(u) or MATRIX @ u)
    target = problem(ek.Prior({name: stats.norm() for name in NAMES}), model=model)
    with pytest.raises(ValueError, match=message):
        ek.run(target, ek.Sparse(ek.GNKI(), **options), n_members=9, rng=0)
    assert not calls


def test_names_need_a_prior_with_names():
    with pytest.raises(ValueError, match="Use positions 0 to 5"):
        ek.run(problem(), ek.Sparse(ek.GNKI(), ("a",)), n_members=9, rng=0)


def test_a_prior_that_correlates_learned_parameters_is_refused():
    cov = np.eye(P)
    cov[0, 1] = cov[1, 0] = 0.5
    target = problem(ek.GaussianPrior(np.zeros(P), cov))
    for parameters in (None, (0, 2), (1, 2)):
        with pytest.raises(ValueError, match=r"prior: must be independent .* correlates parameter"):
            ek.run(target, ek.Sparse(ek.GNKI(), parameters), n_members=9, rng=0)
    ek.run(target, ek.Sparse(ek.GNKI(), (2, 3, 4, 5), outer=2), n_members=9, rng=0)


def test_a_step_that_sees_a_part_of_the_data_is_refused():
    data = ek.MiniBatches(MATRIX, DATA, 2)
    model = ek.FunctionModel(lambda u, inputs: inputs @ u, takes_inputs=True)
    target = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(P), 1.0), 0.01, data)
    with pytest.raises(TypeError, match="must have all its data at once for Sparse"):
        ek.run(target, ek.Sparse(ek.EKI()), n_members=9, rng=0)


def test_sharing_numbers_groups_by_their_first_parameter():
    prior = ek.GaussianPrior(np.zeros(5), 1.0)
    np.testing.assert_array_equal(sharing(None, ((4, 1), (0, 3)), prior), [0, 1, 2, 0, 1])


@pytest.mark.parametrize("options", [{}, {"warm": False}, {"groups": ((0, 2),)}])
@pytest.mark.parametrize("method", [ek.GNKI(), ek.ETKI(), ek.EKI()])
def test_it_keeps_the_contract(method, options):
    check_method(ek.Sparse(method, outer=3, **options))


def test_a_warm_round_begins_where_the_last_one_ended():
    """The mean of a new round still fits the data: its misfit does not jump."""
    from sparsity import case

    target, _, _ = case(0, nonlinear=True)
    result = ek.run(target, ek.Sparse(ek.GNKI(), outer=3), n_members=100, rng=0)
    misfit = result.history_misfit.values
    fitted = int(np.argmax(misfit < 2 * target.n_data))
    assert result.t[fitted] <= 1
    assert misfit[fitted:].max() < 100 * misfit[fitted]
