"""Any diagnostic of a run, of a comparison and of a calibration, with its name and units."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import ekitools as ek
from ekitools.plots.style import detached


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
    with pytest.raises(ValueError, match="name: must be one of coverage, .*, got 'wasserstein'"):
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
