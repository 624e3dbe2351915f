"""Marginals, pairs, any diagnostic, the probability integral transform, and ArviZ's pictures."""

from importlib.metadata import version

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import ekitools as ek
from ekitools.plots.style import BLUE, COLOURS, RED, detached, logarithmic, whole_numbers
from ekitools.theory.rows import Report, judged

ARVIZ = int(version("arviz").split(".")[0])


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
    assert (ax.get_title(), ax.get_yscale()) == ("Loss of the members", "linear")
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


SHAPES = [("forest", 2, ()), ("rank", 2, (2,)), ("rank", 1, ()), ("trace", 2, (2, 2)),
          ("pair", 2, ()), ("pair", 3, (2, 2))]  # fmt: skip


@pytest.mark.parametrize(("kind", "k", "shape"), SHAPES)
def test_arviz_draws_where_it_is_told_to_if_it_can(kind, k, shape, result):
    axes = plt.subplots(*(shape or (1,)), squeeze=True)[1]
    before = plt.get_fignums()
    names = [f"u{i}" for i in range(k)]
    if ARVIZ >= 1:
        with pytest.raises(ValueError, match="ax: must be None with ArviZ .* ek.plot_pairs"):
            ek.plot_arviz(result, kind, ax=axes, parameters=names)
        return
    figure = np.ravel(axes)[0].figure
    drawn = ek.plot_arviz(result, kind, ax=axes, parameters=names)
    assert drawn.tolist() == figure.axes
    assert all(ax.has_data() for ax in drawn)
    assert plt.get_fignums() == before
    with pytest.raises(ValueError, match=rf'ax: must be an array of .* Axes for "{kind}" of {k} '):
        ek.plot_arviz(result, kind, ax=figure.subplots(7), parameters=names)
    with pytest.raises(TypeError, match="ax: must be one matplotlib Axes, .* got Figure"):
        ek.plot_arviz(result, kind, ax=figure, parameters=names)


def test_arviz_is_asked_for_nothing_that_it_does_not_have(result):
    with pytest.raises(ValueError, match="kind: must be one of forest, pair, rank, trace, got"):
        ek.plot_arviz(result, "posterior")
    with pytest.raises(ValueError, match="parameters: must be two or more for pairs, got 1"):
        ek.plot_arviz(result, "pair", parameters=["u0"])


@pytest.fixture(scope="module")
def measured(problem, result):
    y = np.random.default_rng(0).normal(size=50)
    sampler = ek.run(problem, ek.TemperedSMC(), n_members=40, rng=0)
    return {
        "comparison": ek.compare({"EKI": result, "SMC": sampler}, sampler),
        "calibration": ek.calibration(np.zeros((1, 50)), y, 0.5),
        "sampler": sampler,
    }


@pytest.mark.parametrize("kind", ["comparison", "calibration", "sampler"])
def test_all_that_is_measured_can_be_drawn(kind, measured):
    dataset = measured[kind]
    names = [name for name in dataset if kind != "sampler" or str(name).startswith("history_")]
    assert len(names) > 6
    for name in names:
        values = dataset[name]
        figure, ax = detached(figsize=(4, 3))
        assert ek.plot_diagnostic(dataset, name, ax) is ax
        rows = kind == "comparison" or not values.dims
        drawn = [each.get_xdata() if rows else each.get_ydata() for each in ax.get_lines()]
        np.testing.assert_array_equal(np.array(drawn), np.atleast_2d(values.values))
        text = (ax.get_xlabel() if rows else ax.get_ylabel()).replace("\n", " ")
        units = values.attrs.get("units", "1")
        assert text == values.attrs["long_name"] + ("" if units == "1" else f" [{units}]")
        figure.canvas.draw()
    assert plt.get_fignums() == []


def test_several_are_told_apart_by_their_labels(result, measured, problem):
    other = ek.run(problem, ek.EKI(ek.FixedStep(0.5)), n_members=20, rng=0)
    ax = ek.plot_diagnostic({"slow": result, "fast": other}, "misfit_min")
    lines = {each.get_label(): each.get_ydata() for each in ax.get_lines()}
    np.testing.assert_allclose(lines["fast"], other.misfit.min("member"))
    np.testing.assert_allclose(lines["slow"], result.misfit.min("member"))
    claims = {"a": measured["calibration"], "b": measured["calibration"]}
    scores = ek.plot_diagnostic(claims, "crps")
    assert [each.get_text() for each in scores.get_yticklabels()] == ["a", "b"]
    with pytest.raises(ValueError, match="measured: must be of one kind, got 'coverage' along"):
        ek.plot_diagnostic({"a": result, "b": measured["calibration"]}, "coverage")
    with pytest.raises(ValueError, match="name: must be one of coverage, .*; got 'wasserstein'"):
        ek.plot_diagnostic(measured["calibration"], "wasserstein")


def test_of_hundreds_of_parameters_a_comparison_has_points_without_names():
    rows = np.random.default_rng(0).normal(size=(5, 200))
    many = ek.InverseProblem(
        ek.LinearModel(rows), ek.GaussianPrior(np.zeros(200), 1.0), 1.0, rows[:, 0]
    )
    result = ek.run(many, ek.EKI(), n_members=30, rng=0)
    comparison = ek.compare([result], result)
    ax = ek.plot_diagnostic(comparison, "sd_ratio")
    assert len(ax.get_lines()[0].get_xdata()) == 200
    assert len(ax.get_yticks()) < 20


REPORT = Report(
    (
        judged("rate", "a", "t^(-1)", "t^(-0.97)", 0.3),
        judged("identity", "a", "error < 1e-8", "1e-15", 1e-7),
        judged("wrong", "b", "error < 1e-8", "1", 1e8),
        judged("unknown", "b", "ratio > 1", "nan", np.nan),
    )
)


def test_theorems_have_a_row_each_and_those_that_fail_are_seen_to():
    ax = ek.plot_theorems(REPORT)
    assert [text.get_text() for text in ax.get_yticklabels()] == [r.statement for r in REPORT.table]
    drawn = {
        (round(float(y)), f"{x:.1e}"): (line.get_marker(), line.get_color())
        for line in ax.get_lines()
        if line.get_marker() != "None"
        for x, y in zip(*line.get_data(), strict=True)
    }
    assert drawn == {
        (0, "3.0e-01"): ("o", BLUE),
        (1, "1.0e-04"): ("<", BLUE),
        (2, "1.0e+03"): (">", RED),
        (3, "1.0e+03"): (">", RED),
    }
    (words,) = ax.child_axes
    assert words.get_yticklabels()[0].get_text() == "t^(-1);  found t^(-0.97)"
    assert ax.get_title() == "Linear theory: 2 of 4 statements hold"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["holds", "fails", "all that is allowed"]
    with pytest.raises(TypeError, match="report: must be what .* with its rows, got Report"):
        ek.plot_theorems(Report(()))


DRAWN = sorted(name for name in ek.__all__ if name.startswith("plot_"))


def call(name, of, ax=None):
    given = {
        "plot_error": lambda: ek.plot_error(of, np.ones(4), ax),
        "plot_diagnostic": lambda: ek.plot_diagnostic(of, "coverage", ax),
    }
    return given[name]() if name in given else getattr(ek, name)(of, ax)


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "plot_arviz"])
def test_all_draw_on_a_figure_without_a_window_and_refuse_what_they_cannot_draw(
    name, result, measured
):
    of = {
        "plot_error": {"EKI": result},
        "plot_comparison": measured["comparison"],
        "plot_calibration": measured["calibration"],
        "plot_pit": measured["calibration"],
        "plot_theorems": REPORT,
    }.get(name, result)
    shape = (4, 4) if name == "plot_pairs" else (1, 1)
    figure, ax = detached(*shape, figsize=(8, 8))
    back = call(name, of, ax)
    assert np.shape(back) == np.shape(ax)
    assert np.ravel(back)[0] is np.ravel(ax)[0]
    figure.canvas.draw()
    for wrong in (3, None, xr.Dataset({"a": 1})):
        with pytest.raises((TypeError, ValueError), match=r"^\w+(\[.*\])?: must "):
            call(name, wrong)
    wrong_ax = np.full((4, 4), figure) if name == "plot_pairs" else figure
    with pytest.raises(TypeError, match="ax: must be one matplotlib Axes, .* got Figure"):
        call(name, of, wrong_ax)
    assert plt.get_fignums() == []


MACHADO = {  # Machado, Oliveira & Fernandes (2009), IEEE TVCG 15, 1291-1298, severity 1.0
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def seen(colours, matrix):
    """CIE L*a*b* (white point D65) of sRGB colours seen through a matrix on linear RGB."""
    rgb = np.array([mpl.colors.to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz_of_rgb = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722],
                           [0.0193, 0.1192, 0.9505]])  # fmt: skip
    linear = np.clip(linear @ np.array(matrix).T, 0, 1)
    f = np.cbrt(linear @ xyz_of_rgb.T / xyz_of_rgb.sum(axis=1))
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def closest(colours, vision):
    lab = seen(colours, MACHADO[vision])
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)
    return apart[~np.eye(len(lab), dtype=bool)].min()


@pytest.mark.parametrize("vision", MACHADO)
def test_the_colours_are_told_apart_by_all_kinds_of_vision(vision):
    """A difference of 2.3 is just noticed."""
    assert closest(COLOURS, vision) > 15


@pytest.mark.parametrize("vision", ["protanopia", "deuteranopia"])
def test_a_common_palette_would_not_be(vision):
    assert closest([f"tab:{name}" for name in ("blue", "orange", "green", "red")], vision) < 8


def test_units_come_from_the_labels_of_the_model(tmp_path):
    observed = xr.DataArray([1.2, 0.7, 0.4], {"time": [1, 2, 3]}, name="a", attrs={"units": "Bq"})
    parameters = xr.Dataset({"start": ((), 0.0, {"units": "Bq"}), "share": 0.0})
    model = ek.XarrayModel(
        lambda p: p.start * p.share ** xr.DataArray([1, 2, 3], observed.coords),
        parameters,
        observed,
    )
    problem = ek.InverseProblem(model, ek.GaussianPrior([2.0, 0.5], 0.01), 0.01, model.data)
    ek.run(problem, ek.EKI(), n_members=30, rng=0).to_netcdf(tmp_path / "r.nc")
    with xr.open_dataset(tmp_path / "r.nc") as result:
        assert [ax.get_xlabel() for ax in ek.plot_ensemble(result)] == ["start [Bq]", "share"]
        assert ek.plot_predictive(result).get_ylabel() == "G(u) [Bq]"
        assert ek.plot_pairs(result)[1, 0].get_xlabel() == "start [Bq]"
        legend = ek.plot_diagnostic(result, "spread").get_legend()
        assert [text.get_text() for text in legend.get_texts()] == ["start [Bq]", "share"]
        comparison = ek.compare([result], result)
        ax = ek.plot_diagnostic(comparison, "mean")
        assert ax.get_yticklabels()[0].get_text() == "start [Bq]"
        assert [row[0] for row in ek.summary(result).rows()] == ["start [Bq]", "share"]


def test_units_of_another_number_are_refused_before_the_run(problem):
    def model(u):
        return u

    wrapped = ek.FunctionModel(model)
    object.__setattr__(wrapped, "data_units", ["m"])
    with pytest.raises(ValueError, match="model: must have 2 data_units, if it has some, got 1"):
        ek.InverseProblem(wrapped, ek.GaussianPrior([0.0, 0.0], 1.0), 1.0, [0.0, 1.0])


def test_short_log_axes_have_ticks_enough(result):
    for high in (1.3, 4.0, 30.0, 150.0):
        figure, ax = detached(figsize=(4, 3))
        ax.plot([0, 1], [1, high])
        logarithmic(ax, "y")
        figure.canvas.draw()
        low, top = ax.get_ylim()
        shown = [t for t in ax.yaxis.get_majorticklabels() if low <= t.get_position()[1] <= top]
        assert 3 <= len([text for text in shown if text.get_text()]) <= 10


@pytest.mark.parametrize(
    ("first", "last", "step"), [(0, 55, 10), (1900, 1920, 5), (0, 19, 5), (0, 4, 1)]
)
def test_whole_numbers_on_an_axis_are_round(first, last, step):
    figure, ax = detached(figsize=(6.4, 4.8))
    ax.plot([first, last], [0, 1])
    whole_numbers(ax)
    figure.canvas.draw()
    ticks = [t for t in ax.get_xticks() if first <= t <= last]
    assert np.array_equal(np.diff(ticks), np.full(len(ticks) - 1, step))
    assert all(tick % step == 0 for tick in ticks)


def test_every_series_is_drawn_however_many(problem, result):
    ax = ek.plot_predictive(result, groups=[f"site {i}" for i in range(12)])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "site 11: data" in labels
