"""All plots: on the Axes that are given, with names and units of the result."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import ekitools as ek
from ekitools.plots.style import detached


def plot_error(result, ax=None):
    return ek.plot_error({"EKI": result}, np.ones(4), ax)


PLOTS = (
    plot_error,
    ek.plot_collapse,
    ek.plot_misfit,
    ek.plot_residual,
    ek.plot_ensemble,
    ek.plot_predictive,
)


@pytest.mark.parametrize("plot", PLOTS)
def test_it_draws_where_it_is_told_to_and_opens_nothing_else(plot, result):
    _, ax = plt.subplots()
    before = plt.get_fignums()
    assert plot(result, ax) is ax
    assert plt.get_fignums() == before
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert ax.get_legend() is not None
    ax.figure.canvas.draw()


@pytest.mark.parametrize("plot", PLOTS)
def test_it_makes_its_own_figure_otherwise(plot, result):
    axes = np.ravel(plot(result))
    assert len(plt.get_fignums()) == 1
    assert len(axes) == (4 if plot is ek.plot_ensemble else 1)
    axes[0].figure.canvas.draw()


@pytest.mark.parametrize("plot", PLOTS)
def test_a_single_stored_iteration_and_failed_members_can_be_drawn(plot, problem):
    def flaky(u):
        return problem.model(u) if u[0] < 1 else np.full(12, np.nan)

    failing = ek.InverseProblem(ek.FunctionModel(flaky), problem.prior, 0.1, problem.data)
    last = ek.run(failing, ek.EKI(), n_members=40, rng=0, store="last")
    np.ravel(plot(last))[0].figure.canvas.draw()
    unevaluated = ek.run(failing, ek.EKI(), n_members=40, rng=0, evaluate_final=False)
    np.ravel(plot(unevaluated))[0].figure.canvas.draw()


def coverage(result, ax=None):
    return ek.plot_diagnostic(result, "coverage", ax)


@pytest.mark.parametrize("plot", [ek.plot_marginals, coverage])
def test_summaries_draw_where_they_are_told_to_and_open_nothing_else(plot, result):
    _, ax = plt.subplots()
    before = plt.get_fignums()
    assert plot(result, ax) is ax
    assert plt.get_fignums() == before
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    ax.figure.canvas.draw()
    plot(result).figure.canvas.draw()


DRAWN = sorted(name for name in ek.__all__ if name.startswith("plot_"))


def call(name, of, ax=None):
    given = {
        "plot_error": lambda: ek.plot_error(of, np.ones(4), ax),
        "plot_diagnostic": lambda: ek.plot_diagnostic(of, "coverage", ax),
    }
    return given[name]() if name in given else getattr(ek, name)(of, ax)


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "plot_arviz"])
def test_all_draw_on_a_figure_without_a_window_and_refuse_what_they_cannot_draw(
    name, result, measured, report
):
    of = {
        "plot_error": {"EKI": result},
        "plot_comparison": measured["comparison"],
        "plot_calibration": measured["calibration"],
        "plot_pit": measured["calibration"],
        "plot_theorems": report,
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
    with pytest.raises(ValueError, match="model: must have 2 data_units, if any, got 1"):
        ek.InverseProblem(wrapped, ek.GaussianPrior([0.0, 0.0], 1.0), 1.0, [0.0, 1.0])
