"""Densities, intervals and pairs of the parameters."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats
from zoo.pictures import line, words

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
    (curve,) = [each for each in ax.get_lines() if each.get_label() == "prior"]
    np.testing.assert_allclose(curve.get_ydata(), stats.lognorm(0.5).pdf(curve.get_xdata()))
    low, high = ax.get_xlim()  # the range of the posterior, near 1 with sd 0.1
    assert 0.4 < low < 0.9
    assert 1.1 < high < 1.6


def test_a_named_prior_without_the_problem_is_the_density_of_the_first_ensemble(result):
    ax = ek.plot_ensemble(result, parameter="u1")
    assert words(ax) == ["last ensemble", "prior"]
    assert ax.get_lines()[0].get_ydata().max() > ax.get_lines()[1].get_ydata().max()


def test_ensemble_shows_the_reference_in_every_form(result):
    mean, cov = np.arange(4.0), np.diag([1.0, 4.0, 9.0, 16.0])
    exact = ek.plot_ensemble(result, parameter="u1", reference=(mean, cov))
    (curve,) = [each for each in exact.get_lines() if each.get_label() == "reference"]
    np.testing.assert_allclose(curve.get_ydata(), stats.norm(1, 2).pdf(curve.get_xdata()))
    draws = np.random.default_rng(0).normal(mean, [1, 2, 3, 4], size=(20_000, 4))
    ax = ek.plot_ensemble(result, parameter="u1", reference=draws)
    (curve,) = [each for each in ax.get_lines() if each.get_label() == "reference"]
    expected = stats.norm(1, 2).pdf(curve.get_xdata())
    np.testing.assert_allclose(curve.get_ydata(), expected, atol=0.05 * expected.max())
    ax = ek.plot_ensemble(result, parameter="u1", reference={"u1": (0.5, 0.1)})
    assert line(ax, "reference, mean ± sd") is not None
    assert "reference" not in " ".join(
        words(ek.plot_ensemble(result, parameter="u0", reference={"u1": (0.5, 0.1)}))
    )


@pytest.mark.parametrize("draw", [ek.plot_ensemble, ek.plot_pairs])
def test_the_truth_is_a_line_within_the_axes(draw, result):
    axes = np.ravel(draw(result, truth=[5.0, -5.0, 0.0, 9.0]))
    shown = [ax for ax in axes if ax.figure is not None]
    for value in (5.0, -5.0, 0.0, 9.0):
        found = [ax for ax in shown for each in ax.get_lines()
                 if each.get_label() == "truth" and each.get_xdata()[0] == value]  # fmt: skip
        assert found
        for ax in found:
            low, high = ax.get_xlim()
            assert low < value < high
    one = np.ravel(draw(result, truth={"u2": 1.0}))
    lines = [each for ax in one if ax.figure is not None for each in ax.get_lines()]
    assert {each.get_xdata()[0] for each in lines if each.get_label() == "truth"} == {1.0}
    with pytest.raises(ValueError, match="truth: must have p = 4 entries, got shape"):
        draw(result, truth=[1.0])
    with pytest.raises(ValueError, match="truth: must have names among u0, .*, got w"):
        draw(result, truth={"w": 1.0})


def test_panels_have_one_legend_and_as_many_axes_as_given(result):
    axes = ek.plot_ensemble(result)
    assert [ax.get_legend() for ax in axes] == [None] * 4
    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["last ensemble", "prior"]
    given = plt.figure(layout="constrained").subplots(2)
    assert ek.plot_ensemble(result, given).tolist() == given.tolist()
    assert [ax.get_xlabel() for ax in given] == ["u0", "u1"]
    with pytest.raises(ValueError, match="ax: must be an array of at most p = 4 Axes"):
        ek.plot_ensemble(result, plt.figure().subplots(5))


def test_a_first_ensemble_that_is_not_the_prior_is_called_the_start(result):
    ax = ek.plot_ensemble(result.assign_attrs(start="method"), parameter="u0")
    assert words(ax) == ["last ensemble", "start"]
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
    prior, last = (each.get_offsets() for each in axes[1, 0].collections[:2])
    np.testing.assert_allclose(prior, result.u[0].sel(parameter=["u2", "u0"]))
    np.testing.assert_allclose(last, result.u[-1].sel(parameter=["u2", "u0"]))
    assert axes[0, 1] not in axes[0, 0].figure.axes
    given = plt.figure().subplots(4, 4)
    assert ek.plot_pairs(result, given) is not None
    with pytest.raises(ValueError, match=r"ax: must be an array of \(4, 4\) Axes"):
        ek.plot_pairs(result, plt.figure().subplots(2, 2))


def test_pairs_mark_the_medians_and_contours_hold_their_share(problem):
    result = ek.run(problem, ek.EKI(), n_members=2000, rng=0)
    panel = ek.plot_pairs(result, parameters=["u0", "u1"])[1, 0]
    last = result.u[-1].sel(parameter=["u0", "u1"]).values
    across, up = panel.get_lines()[1].get_xdata()[0], panel.get_lines()[0].get_ydata()[0]
    np.testing.assert_allclose([across, up], np.median(last, axis=0))
    contours = panel.collections[-1]
    for path, share in zip(contours.get_paths(), (0.9, 0.5), strict=True):
        inside = path.contains_points(last).mean()
        # three binomial standard errors, and the smoothing of the kernels
        assert abs(inside - share) < 3 * np.sqrt(share * (1 - share) / 2000) + 0.02


def test_pairs_of_weighted_members_have_areas_in_proportion(problem):
    result = ek.run(problem, ek.TemperedSMC(), n_members=50, rng=0)
    last = ek.plot_pairs(result, parameters=["u0", "u1"])[1, 0].collections[1]
    weight = result.weight[-1].values[result.weight[-1].values > 0]
    areas, expected = last.get_sizes(), 6 * weight / weight.mean()
    np.testing.assert_allclose(areas, np.clip(expected, 0, 40))


def test_the_most_informed_come_first(result):
    ratio = result.u[-1].std("member") / result.u[0].std("member")
    best = result.parameter.values[np.argsort(ratio.values)][:2].tolist()
    table = ek.summary(result).table
    assert table.sortby("sd_ratio").parameter.values[:2].tolist() == best
    np.testing.assert_allclose(table.sd_ratio, ratio)
