"""Marginals, pairs, any diagnostic, the probability integral transform, and ArviZ's pictures."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

import ekitools as ek


@pytest.fixture(scope="module")
def problem():
    return ek.problems.linear(p=4, d=12, rng=1).problem


@pytest.fixture(scope="module")
def result(problem):
    return ek.run(problem, ek.EKI(ek.FixedStep(0.25)), n_members=60, rng=0)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def coverage(result, ax=None):
    return ek.plot_diagnostic(result, "coverage", ax)


@pytest.mark.parametrize("plot", [ek.plot_marginals, coverage])
def test_it_draws_where_it_is_told_to_and_opens_nothing_else(plot, result):
    _, ax = plt.subplots()
    before = plt.get_fignums()
    assert plot(result, ax) is ax
    assert plt.get_fignums() == before
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    ax.figure.canvas.draw()
    plot(result).figure.canvas.draw()


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


@pytest.mark.parametrize("name", [*ek.diagnose(ek.run(
    ek.problems.linear(p=2, d=3).problem, ek.EKI(), n_members=9, rng=0)).data_vars,
    "history_spread", "history_model_runs"])  # fmt: skip
def test_every_diagnostic_can_be_drawn_with_its_long_name(result, name):
    ax = ek.plot_diagnostic(result, name)
    values = result[name] if name in result else ek.diagnose(result)[name]
    lines = np.array([line.get_ydata() for line in ax.get_lines()])
    np.testing.assert_allclose(lines, np.atleast_2d(values.values.T))
    label = ax.get_ylabel().replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")
    assert label.startswith(values.attrs["long_name"])
    units = values.attrs.get("units", "1")
    assert units == "1" or f"[{units}]" in label
    ax.figure.canvas.draw()


def test_what_the_theory_measures_is_drawn_with_the_problem(result, problem):
    ax = ek.plot_diagnostic(result, "residual_parallel", problem=problem)
    expected = ek.diagnose(result, problem).residual_parallel
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), expected)
    with pytest.raises(ValueError, match="name: must be one of mean, spread, .*got 'residual_par"):
        ek.plot_diagnostic(result, "residual_parallel")


def test_pit_has_the_shares_of_its_bins():
    y = np.random.default_rng(0).normal(size=500)
    calibration = ek.calibration(np.zeros((1, 500)), y, 0.5)
    ax = ek.plot_pit(calibration, bins=4)
    heights = [bar.get_height() for bar in ax.patches[:4]]
    expected = [np.mean((calibration.pit >= k / 4) & (calibration.pit < (k + 1) / 4)) for k in
                range(4)]  # fmt: skip
    np.testing.assert_allclose(heights, expected)
    assert heights[0] > 0.3  # too sure: a valley
    with pytest.raises(TypeError, match="calibration: must be what ek.calibration returns"):
        ek.plot_pit(3)
    with pytest.raises(ValueError, match="bins: must be an integer of at least 2, got 1"):
        ek.plot_pit(calibration, bins=1)


def test_a_loss_has_no_expected_misfit_and_may_be_negative(problem):
    loss = ek.FunctionLoss(lambda z, y: 0.5 * ((z - y) ** 2).sum(-1) - 1e6, lambda z, y: z - y)
    learnt = ek.InverseProblem(problem.model, problem.prior, loss, problem.data)
    result = ek.run(learnt, ek.LossEKI(), n_members=20, n_steps=5, rng=0)
    ax = ek.plot_misfit(result)
    assert (ax.get_title(), ax.get_yscale()) == ("Loss", "linear")
    assert not any("expected" in str(line.get_label()) for line in ax.get_lines())


@pytest.mark.parametrize("kind", ["forest", "pair", "rank", "trace"])
def test_arviz_draws_it_whatever_its_generation(kind, problem):
    runs = [ek.run(problem, ek.EKI(), n_members=30, rng=seed) for seed in range(2)]
    axes = ek.plot_arviz(runs, kind, parameters=["u3", "u0"])
    assert len(axes) >= 1
    assert len({id(ax.figure) for ax in axes}) == 1
    figure = axes[0].figure
    figure.canvas.draw()
    texts = " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))
    assert "u3" in texts
    assert "u1" not in texts


def test_arviz_is_asked_for_nothing_that_it_does_not_have(result):
    with pytest.raises(ValueError, match="kind: must be one of forest, pair, rank, trace, got"):
        ek.plot_arviz(result, "posterior")
