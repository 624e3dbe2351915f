"""EKI and ETKI with localization: exact posteriors, resumes, refusals."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.localization import Correlation, Distance, Groups

P, EVERY, NOISE = 600, 10, 0.1


@pytest.fixture(scope="module")
def field():
    """A field on a line, seen by means of nine cells: problem, exact mean and sd, places."""
    x = np.arange(float(P))
    cov = np.exp(-np.abs(x[:, None] - x) / 30)
    root = np.linalg.cholesky(cov)
    at = np.arange(EVERY // 2, P, EVERY)
    seen = np.zeros((at.size, P))
    for row, centre in zip(seen, at, strict=True):
        row[centre - 4 : centre + 5] = 1 / 9
    rng = np.random.default_rng(5)
    truth = root @ rng.normal(size=P)
    y = seen @ truth + NOISE * rng.normal(size=at.size)
    both = cov @ seen.T
    gain = np.linalg.solve(seen @ both + NOISE**2 * np.eye(at.size), both.T).T
    sd = np.sqrt(1 - np.einsum("ij,ij->i", gain, both))
    problem = ek.InverseProblem(
        ek.LinearModel(seen), ek.GaussianPrior(np.zeros(P), cov), NOISE**2, y
    )
    return problem, root, gain @ y, sd, x, at.astype(float)


def scores(field, rule, method=ek.ETKI, seeds=5, n=60):
    """Error of the mean in sd, and ratio of variances: means over seeds, with standard errors."""
    problem, root, mean, sd, *_ = field
    found = []
    for seed in range(seeds):
        u = np.random.default_rng(seed).normal(size=(n, P)) @ root.T
        result = ek.run(problem, method(localization=rule), ensemble=u, rng=seed)
        last = result.u.values[-1]
        error = np.sqrt(np.mean(((last.mean(axis=0) - mean) / sd) ** 2))
        found.append((error, np.mean(last.var(axis=0, ddof=1) / sd**2)))
    return np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(seeds)


def test_fewer_members_than_parameters_reach_the_exact_posterior(field):
    """Measured for 60 members: without 1.8 sd off and 0.1 of the variance; bounds at 4 errors."""
    (error, ratio), (of_error, of_ratio) = scores(field, Distance(*field[4:], 12.0))
    assert error + 4 * of_error < 0.30
    assert ratio - 4 * of_ratio > 0.93
    assert ratio + 4 * of_ratio < 1.08
    (without, narrow), _ = scores(field, None, seeds=2)
    assert without > 4 * error
    assert narrow < 0.3


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "most"), [
    (lambda x, at: Distance(x, at), 0.30),
    (lambda x, at: Correlation(), 0.37),
])  # fmt: skip
def test_a_chosen_strength_and_no_coordinates_do_nearly_as_well(field, rule, most):
    (error, ratio), (of_error, of_ratio) = scores(field, rule(*field[4:]))
    assert error + 4 * of_error < most
    assert ratio - 4 * of_ratio > 0.9
    assert ratio + 4 * of_ratio < 1.15


@pytest.mark.slow
def test_perturbed_data_do(field):
    (error, ratio), (of_error, of_ratio) = scores(field, Distance(*field[4:], 12.0), ek.EKI)
    assert error + 4 * of_error < 0.33
    assert 0.85 < ratio - 4 * of_ratio < ratio + 4 * of_ratio < 1.05


@pytest.mark.slow
def test_many_analyses_stay_bounded_with_more_data_than_members(field):
    """Tapering C^{uw} alone diverges here; local analyses have the full rank of their data."""
    problem, root, mean, sd, x, at = field
    u = np.random.default_rng(0).normal(size=(30, P)) @ root.T
    for method in (ek.ETKI, ek.EKI):
        plan = method(ek.FixedStep(1.0), t_end=None, localization=Distance(x, at, 12.0))
        last = ek.run(problem, plan, ensemble=u, n_steps=30, rng=0).u.values[-1]
        assert np.abs((last.mean(axis=0) - mean) / sd).max() < 20
        assert np.abs(last).max() < 10


def test_groups_are_problems_of_their_own():
    """Eight blocks of five parameters: the members of each move as if it were alone."""
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(6, 5)) for _ in range(8)]
    whole = np.zeros((48, 40))
    for k, block in enumerate(blocks):
        whole[6 * k : 6 * k + 6, 5 * k : 5 * k + 5] = block
    y, u = rng.normal(size=48), rng.normal(size=(20, 40))
    rule = Groups({
        tuple(range(5 * k, 5 * k + 5)): tuple(range(6 * k, 6 * k + 6)) for k in range(8)
    })  # fmt: skip
    steps = ek.ETKI(ek.ESMDA(3), localization=rule), ek.ETKI(ek.ESMDA(3))
    prior = ek.GaussianPrior(np.zeros(40), np.ones(40))
    problem = ek.InverseProblem(ek.LinearModel(whole), prior, 0.25, y)
    found = ek.run(problem, steps[0], ensemble=u).u.values[-1]
    for k, block in enumerate(blocks):
        c, rows = slice(5 * k, 5 * k + 5), slice(6 * k, 6 * k + 6)
        prior = ek.GaussianPrior(np.zeros(5), np.ones(5))
        alone = ek.InverseProblem(ek.LinearModel(block), prior, 0.25, y[rows])
        expected = ek.run(alone, steps[1], ensemble=u[:, c]).u.values[-1]
        np.testing.assert_allclose(found[:, c], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("method", [ek.EKI, ek.ETKI])
@pytest.mark.parametrize("rule", [Correlation(2.0), Groups({0: (0, 1, 2), 1: (0, 1, 2, 3, 4)})])
def test_the_contract_of_a_method_holds(method, rule):
    if isinstance(rule, Correlation):
        ek.testing.check_method(method(localization=rule))
    problem = ek.problems.linear(p=2, d=5, rng=0).problem
    result = ek.run(problem, method(localization=rule), n_members=50, rng=0)
    again = ek.run(problem, method(localization=rule), n_members=50, rng=0)
    np.testing.assert_array_equal(result.u.values, again.u.values)


def test_a_run_is_resumed_to_the_last_bit(field, tmp_path):
    problem, *_, x, at = field
    for i, rule in enumerate((Correlation(), Distance(x, at), Distance(x, at, 12.0))):
        method = ek.EKI(ek.ESMDA(4), localization=rule)
        whole = ek.run(problem, method, n_members=20, rng=3)
        folder = tmp_path / str(i)
        ek.run(problem, method, n_members=20, rng=3, n_steps=2, checkpoint=folder)
        given = {} if i == 0 else {"method": method}  # coordinates are not in the options
        rest = ek.resume(folder, problem, n_steps=10, **given)
        np.testing.assert_array_equal(rest.u.values[-1], whole.u.values[-1])


def test_nesterov_and_inflation_take_a_localized_method(field):
    problem, *_, x, at = field
    inner = ek.ETKI(ek.FixedStep(0.5), t_end=None, localization=Distance(x, at, 12.0))
    for method in (ek.Nesterov(inner), ek.Inflated(inner, multiplicative=0.01)):
        result = ek.run(problem, method, n_members=20, n_steps=3, rng=0)
        assert np.isfinite(result.u.values[-1]).all()


def test_a_rotation_keeps_mean_and_covariance(field):
    problem, root, *_, x, at = field
    u = np.random.default_rng(0).normal(size=(20, P)) @ root.T
    plain, turned = (
        ek.run(
            problem, ek.ETKI(ek.FixedStep(1.0), localization=Distance(x, at, 12.0), rotate=rotate),
            ensemble=u, rng=0,
        ).u.values[-1]
        for rotate in (False, True)
    )  # fmt: skip
    assert np.abs(plain - turned).max() > 0.1
    np.testing.assert_allclose(plain.mean(axis=0), turned.mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.cov(plain[:, :50].T), np.cov(turned[:, :50].T), atol=1e-12)


def test_failed_members_are_left_out(field):
    problem, *_, x, at = field

    def model(u):
        if u[0] > 0.8:
            raise ArithmeticError("no solution")
        return problem.model(u)

    failing = ek.InverseProblem(model, problem.prior, NOISE**2, problem.data)
    result = ek.run(
        failing, ek.ETKI(localization=Distance(x, at, 12.0)), n_members=40, rng=0, on_failure="drop"
    )
    left = np.isfinite(result.u.values[-1]).all(axis=1).sum()
    assert 20 < left < 40


def _series():
    observations = [ek.Observation([1.0], 0.1), ek.Observation([2.0], 0.1)]
    model = ek.LinearModel([[1.0], [2.0]])
    return ek.InverseProblem(
        model, ek.GaussianPrior(0.0, [1.0]), data=ek.ObservationSeries(observations, size=1)
    )


def _unknown():
    from scipy import stats

    return ek.InverseProblem(
        ek.LinearModel(np.eye(2)), ek.GaussianPrior(np.zeros(2), np.ones(2)),
        ek.UnknownNoise(stats.lognorm(1.0)), [1.0, 2.0],
    )  # fmt: skip


def _correlated():
    cov = np.array([[1.0, 0.5], [0.5, 1.0]])
    return ek.InverseProblem(
        ek.LinearModel(np.eye(2)), ek.GaussianPrior(np.zeros(2), np.ones(2)), cov, [1.0, 2.0]
    )


@pytest.mark.parametrize(("problem", "rule", "error", "words"), [
    (_series, Correlation(), TypeError, "a step uses only part of the data"),
    (_unknown, Correlation(), TypeError, "scales of the noise are unknown"),
    (_correlated, Distance([0.0, 1.0], [0.0, 1.0], 2.0), TypeError, "independent between data"),
    (_correlated, Distance([0.0, 1.0], [0.0, 1.0]), TypeError, 'radius="adaptive"'),
    (_correlated, Groups({(0, 1): 2}), ValueError, "indices of data from 0 to 1"),
])  # fmt: skip
def test_problems_that_cannot_be_localized_are_refused_before_a_run(problem, rule, error, words):
    with pytest.raises(error, match=words):
        ek.run(problem(), ek.EKI(localization=rule), n_members=10, rng=0)


def test_wrong_options_are_refused():
    with pytest.raises(TypeError, match=r"localization: must be a rule of ek\.localization"):
        ek.EKI(localization=3.0)
    with pytest.raises(TypeError, match=r"localization: must be a rule of ek\.localization"):
        ek.ETKI(localization=Correlation)
    with pytest.raises(ValueError, match="localization: must be None with tikhonov"):
        ek.EKI(localization=Correlation(), tikhonov=True, t_end=None)
    with pytest.raises(TypeError, match=r"localization: must be a rule of ek\.localization"):
        ek.kalman_coefficients(np.eye(3), np.zeros(3), 1.0, localization="distance")
    problem = ek.problems.linear(p=2, d=2).problem
    with pytest.raises(ValueError, match="4 members or more"):
        ek.run(problem, ek.ETKI(localization=Distance([0.0, 1.0], [0.0, 1.0])), n_members=3)


def test_correlated_noise_by_groups_reaches_the_posterior():
    """Within 4 standard errors of the mean of 2000 members."""
    problem = _correlated()
    rule = Groups({(0, 1): (0, 1)})
    result = ek.run(problem, ek.EKI(ek.FixedStep(1.0), localization=rule), n_members=2000, rng=0)
    cov = np.linalg.inv(np.linalg.inv(problem.noise.cov) + np.eye(2))
    mean = cov @ np.linalg.solve(problem.noise.cov, problem.data)
    last = result.u.values[-1]
    errors = np.sqrt(np.diag(cov) / 2000)
    assert (np.abs(last.mean(axis=0) - mean) < 4 * errors).all()
    np.testing.assert_allclose(np.cov(last.T), cov, atol=4 * np.diag(cov).max() * np.sqrt(2 / 2000))


def test_a_radius_is_chosen_once_for_all_of_the_data(field):
    problem, root, *_, x, at = field
    u = np.random.default_rng(0).normal(size=(40, P)) @ root.T
    result = ek.run(problem, ek.ETKI(localization=Distance(x, at)), ensemble=u)
    radius = result.history_radius.values[:-1]
    _, curve = ek.localization.choose_strength(
        Distance(x, at), u, problem.model(u), problem.data, problem.noise
    )
    np.testing.assert_array_equal(radius, curve.chosen)
    np.testing.assert_array_equal(result.radius_tried, curve.values)
    np.testing.assert_array_equal(result.radius_score, curve.score)
    given = ek.run(problem, ek.ETKI(localization=Distance(x, at, curve.chosen)), ensemble=u)
    np.testing.assert_array_equal(result.u.values, given.u.values)
    assert not {"history_radius", "radius_score"} & set(given)


def test_the_curve_of_a_radius_is_in_checkpoints(field, tmp_path):
    problem, root, *_, x, at = field
    u = np.random.default_rng(0).normal(size=(40, P)) @ root.T
    method = ek.ETKI(localization=Distance(x, at))
    result = ek.run(problem, method, ensemble=u, checkpoint=tmp_path / "run", n_steps=1)
    resumed = ek.resume(tmp_path / "run", problem, method=method)
    np.testing.assert_array_equal(result.radius_score, resumed.radius_score)
    np.testing.assert_array_equal(result.radius_tried, resumed.radius_tried)
