"""Histograms, intervals and pairs of the parameters."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

import ekitools as ek


def test_ensemble_panels_carry_the_names(result):
    assert [ax.get_xlabel() for ax in ek.plot_ensemble(result)] == ["u0", "u1", "u2", "u3"]
    assert ek.plot_ensemble(result, parameter="u2").get_xlabel() == "u2"
    with pytest.raises(ValueError, match="parameter: must be one of"):
        ek.plot_ensemble(result, parameter="w")


def test_ensemble_shows_the_density_of_a_named_prior():
    prior = ek.Prior({"rate": stats.lognorm(0.5)})
    problem = ek.InverseProblem(ek.FunctionModel(lambda u: u), prior, 0.01, [1.0])
    result = ek.run(problem, ek.EKI(), n_members=30, rng=0)
    ax = ek.plot_ensemble(result, parameter="rate", problem=problem)
    (curve,) = [each for each in ax.get_lines() if each.get_label() == "prior density"]
    np.testing.assert_allclose(curve.get_ydata(), stats.lognorm(0.5).pdf(curve.get_xdata()))


def test_a_first_ensemble_that_is_not_the_prior_is_called_the_start(result):
    ax = ek.plot_ensemble(result.assign_attrs(start="method"), parameter="u0")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["start", "last ensemble"]
    with pytest.raises(TypeError, match="problem: must be an ek.InverseProblem, got int"):
        ek.plot_ensemble(result, problem=3)


def spans(ax, label):
    (found,) = [each for each in ax.collections if each.get_label() == label]
    return np.array([path[:, 0] for path in found.get_segments()])


def test_marginals_are_intervals_in_standard_deviations_of_the_prior(result):
    ax = ek.plot_marginals(result, parameters=["u3", "u1"])
    first, last = (result.u[i].sel(parameter=["u3", "u1"]).values for i in (0, -1))
    for label, u in (("prior", first), ("last ensemble", last)):
        z = (u - first.mean(0)) / first.std(0, ddof=1)
        for share, tails in (("90 %", (0.05, 0.95)), ("50 %", (0.25, 0.75))):
            expected = np.quantile(z, tails, axis=0).T
            np.testing.assert_allclose(spans(ax, f"{label}, {share}"), expected)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first on top
    with pytest.raises(ValueError, match="parameters: must be names among u0, u1, u2, u3, got w"):
        ek.plot_marginals(result, parameters=["u0", "w"])


def test_marginals_without_a_start_stand_alone_or_take_the_problems_prior(result, problem):
    last = result.isel(iteration=[-1])
    alone = ek.plot_marginals(last)
    assert "last ensemble" in alone.get_xlabel()
    assert len(alone.collections) == 2
    beside = ek.plot_marginals(last, problem=problem)
    # 4000 draws of N(0, 1): a standard error of 0.03 at these quantiles
    np.testing.assert_allclose(spans(beside, "prior, 90 %")[:, 1], 1.645, atol=0.12)


def test_pairs_show_the_members_below_the_diagonal(result):
    axes = ek.plot_pairs(result, parameters=["u2", "u0"])
    prior, last = (each.get_offsets() for each in axes[1, 0].collections)
    np.testing.assert_allclose(prior, result.u[0].sel(parameter=["u2", "u0"]))
    np.testing.assert_allclose(last, result.u[-1].sel(parameter=["u2", "u0"]))
    assert axes[0, 1] not in axes[0, 0].figure.axes
    given = plt.figure().subplots(4, 4)
    assert ek.plot_pairs(result, given) is not None
    with pytest.raises(ValueError, match=r"ax: must be an array of \(4, 4\) Axes"):
        ek.plot_pairs(result, plt.figure().subplots(2, 2))


def test_pairs_of_weighted_members_have_areas_in_proportion(problem):
    result = ek.run(problem, ek.TemperedSMC(), n_members=50, rng=0)
    last = ek.plot_pairs(result, parameters=["u0", "u1"])[1, 0].collections[-1]
    weight = result.weight[-1].values[result.weight[-1].values > 0]
    areas, expected = last.get_sizes(), 6 * weight / weight.mean()
    np.testing.assert_allclose(areas, np.clip(expected, 0, 40))


def test_the_most_informed_come_first(result):
    ratio = result.u[-1].std("member") / result.u[0].std("member")
    best = result.parameter.values[np.argsort(ratio.values)][:2].tolist()
    table = ek.summary(result).table
    assert table.sortby("sd_ratio").parameter.values[:2].tolist() == best
    np.testing.assert_allclose(table.sd_ratio, ratio)
