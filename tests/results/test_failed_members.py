"""Members that failed at the last evaluation are draws of nothing, whoever reads them."""

import warnings

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from zoo.pictures import words
from zoo.results import linear_problem, result_of

import ekitools as ek
from ekitools.results.history import mean_misfit
from ekitools.results.marginals import marginals
from ekitools.results.reading import losses, members_at
from ekitools.typing import Shown, StepInfo

LOST = (3, 11)
LEFT = np.delete(np.arange(20), LOST)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture
def problem():
    return linear_problem()


@pytest.fixture
def result(problem):
    """Members 3 and 11 failed at the end, and their parameters are still there, far off."""
    made = result_of(problem, failed=[(3, j) for j in LOST])
    made.u[-1, list(LOST)] = 1e6
    return made


def test_the_door(result):
    u, weight = members_at(result, -1).present()
    np.testing.assert_array_equal(u, result.u[-1, LEFT])
    np.testing.assert_allclose(weight, 1 / 18)
    assert losses(result).left == 18


def test_every_reader_leaves_them_out(result, problem):
    largest = float(abs(result.u[-1, LEFT]).max())
    posterior = ek.to_arviz(result).posterior
    assert posterior.sizes["draw"] == 18
    assert max(float(abs(posterior[name]).max()) for name in posterior) == largest
    mean = result.u[-1, LEFT].mean("member").values
    table = ek.summary(result).table
    np.testing.assert_allclose(table["mean"], mean)
    np.testing.assert_allclose(marginals(result)["mean"], mean)
    np.testing.assert_allclose(ek.diagnose(result, problem)["mean"][-1], mean)
    cov = np.eye(3)
    np.testing.assert_allclose(ek.compare([result], (np.zeros(3), cov))["mean"][0], mean)
    assert ek.compare([result], (np.zeros(3), cov)).members.item() == 18
    assert ek.compare([result], result).attrs["reference"] == "18 members of EKIFlow"
    assert float(abs(ek.compare([result], result).mean_error).max()) < 1e-12
    assert int(ek.best_member(result).member) in LEFT


def test_every_picture_leaves_them_out(result):
    for axes in (ek.plot_pairs(result), ek.plot_ensemble(result), ek.plot_marginals(result)):
        for ax in np.ravel(np.asarray(axes, dtype=object)):
            if ax.figure is not None:
                assert max(np.abs(ax.get_xlim())) < 1e4
    points = ek.plot_pairs(result)[1, 0].collections[1].get_offsets()
    assert len(points) == 18


def test_draws_of_the_prior_stay_draws_where_the_model_fails(problem):
    made = result_of(problem, dropped=LOST)
    data = ek.to_arviz(made)
    assert data.prior.sizes["draw"] == 20
    assert data.posterior.sizes["draw"] == 18
    np.testing.assert_allclose(marginals(made).start_mean, made.u[0].mean("member"))


def test_particles_whose_proposal_failed_are_draws(problem):
    made = result_of(problem)
    made["failed"][-1, list(LOST)] = True  # as a sampler has it: the particle is evaluated
    assert len(members_at(made, -1).present()[0]) == 20
    made["misfit"][-1, 3] = np.inf  # a particle that failed at the start
    assert len(members_at(made, -1).present()[0]) == 19


def test_no_member_left_is_nan_and_no_error(problem):
    made = result_of(problem, failed=[(3, j) for j in range(20)])
    diagnosis = ek.diagnose(made, problem)
    assert np.isnan(diagnosis["mean"][-1]).all()
    assert float(diagnosis.n_effective[-1]) == 0
    text = str(ek.summary(made))
    assert "No member is left at the last stored iteration." in text
    assert ek.summary(made).trust.level == "bad"
    for draw in (ek.plot_marginals, ek.plot_pairs, ek.plot_ensemble):
        draw(made)
    with pytest.raises(ValueError, match="^iteration: must hold members that did not fail"):
        ek.to_arviz(made)


def test_a_mean_misfit_is_one_of_finite_misfits():
    misfit = np.array([1.0, np.inf, 3.0, np.nan])
    assert mean_misfit(StepInfo(0.1, misfit, None, 1.0)) == 2
    shown = Shown(np.zeros((4, 1)), np.zeros((4, 1)), np.array([0.75, 0.0, 0.25, 0.0]))
    assert mean_misfit(StepInfo(0.1, misfit, None, 1.0, shown)) == 1.5
    equal = shown._replace(weight=np.full(4, 0.25))
    assert mean_misfit(StepInfo(0.1, misfit, None, 1.0, equal)) == 2
    assert np.isnan(mean_misfit(StepInfo(0.1, misfit[[1, 3]], None, 1.0)))


@pytest.mark.parametrize("method", [ek.EKI(), ek.GNKI(), ek.TemperedSMC()])
@pytest.mark.parametrize("policy", ["drop", "resample"])
def test_misfits_with_failures_are_drawn_without_a_warning(method, policy):
    def sim(u):
        if u[0] > 0.5:
            raise RuntimeError
        return np.array([u[0] + u[1], u[0] - u[1]])

    problem = ek.InverseProblem(sim, ek.GaussianPrior([0.0, 0.0], 1.0), 0.1, [0.2, 0.4])
    made = ek.run(problem, method, n_members=80, rng=0, on_failure=policy)
    assert np.isfinite(made.history_misfit).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = ek.plot_misfit(made)
    lost = int(made.failed.sum())
    assert f"mean and 90 % of the members ({lost} failed left out)" in words(ax)
    _, high = ax.get_ylim()
    assert np.isfinite(high)


def test_infinite_misfits_of_a_file_are_left_out(result):
    result["history_misfit"][0] = np.inf
    result["misfit"][0, 0] = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = ek.plot_misfit(result)
        ek.plot_predictive(result)
        assert np.isfinite(ek.diagnose(result).misfit_mean).all()
    assert np.isfinite(ax.get_ylim()).all()
    assert np.isfinite(float(ek.best_member(result.isel(iteration=[0]))[0]))
