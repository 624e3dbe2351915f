"""Predictions by block: dates and numbers as coordinates, gaps, maps, and labels without order."""

import matplotlib.dates
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from zoo.pictures import line

import ekitools as ek
from ekitools.results.views import views_of

MONTHS = pd.date_range("2000-01-01", periods=12, freq="MS")
LON, LAT = np.random.default_rng(0).random((2, 9))
GAPS = [4, 5]


def season(u):
    return u[0] + np.sin(np.arange(12.0))


def data():
    temp = xr.DataArray(season([1.0]), {"time": MONTHS}, dims="time", attrs={"units": "K"})
    temp[GAPS] = np.nan
    wells = {"well": list("abcdefghi"), "lon": ("well", LON), "lat": ("well", LAT)}
    return {
        "temp": temp,
        "wells": xr.DataArray(LON, wells, dims="well"),
        "sites": xr.DataArray(np.arange(3.0), {"site": ["x", "y", "z"]}, dims="site"),
        "two": xr.DataArray(
            np.outer([1.0, 2.0], np.arange(4)),
            {"station": ["N", "S"], "day": np.arange(4)},
            dims=("station", "day"),
        ),
        "plain": [1.0, np.nan, 2.0],
    }


def model(u):
    return {
        "temp": season(u),
        "wells": u[0] * LON,
        "sites": u[0] * np.arange(3.0),
        "two": u[0] * np.outer([1.0, 2.0], np.arange(4)),
        "plain": np.full(3, u[0]),
    }


@pytest.fixture(scope="module")
def by_block():
    problem = ek.InverseProblem(model, ek.GaussianPrior([1.0], 1.0), data=data(), noise_sd=0.3)
    return ek.run(problem, ek.EKI(), n_members=20, rng=0)


def test_each_block_has_axes_of_its_own(by_block):
    axes = ek.plot_predictive(by_block)
    assert [ax.get_title() for ax in axes] == ["temp", "wells", "sites", "two", "plain"]
    assert [view.kind for view in views_of(by_block)] == [
        "series",
        "map",
        "pairs",
        "series",
        "series",
    ]
    assert axes[0].get_ylabel() == "G(u) [K]"
    assert axes[3].get_ylabel() == "G(u)"
    assert axes[0].get_xlabel() == "time"


def test_dates_are_dates_and_gaps_are_gaps(by_block):
    ax = ek.plot_predictive(by_block, block="temp")
    assert isinstance(ax.xaxis.get_major_formatter(), matplotlib.dates.ConciseDateFormatter)
    (drawn,) = [each for each in ax.get_lines() if each.get_label() == "data"]
    kept = np.delete(np.arange(12), GAPS)
    np.testing.assert_array_equal(
        np.asarray(drawn.get_xdata(), "M8[D]"), MONTHS[kept].values.astype("M8[D]")
    )
    median = line(ax, "median")
    assert np.flatnonzero(np.isnan(median)).tolist() == [4]  # the line is broken once
    assert len([p for p in ax.collections if p.get_label() == "90 %"]) == 1
    assert len(ax.collections) == 2 * 3  # three bands, each in two pieces


def test_wells_are_a_map_and_sites_are_predicted_against_observed(by_block):
    well = ek.plot_predictive(by_block, block="wells")
    np.testing.assert_allclose(well.collections[0].get_offsets(), np.c_[LON, LAT])
    assert (well.get_xlabel(), well.get_ylabel()) == ("lon", "lat")
    site = ek.plot_predictive(by_block, block="sites")
    assert (site.get_xlabel(), site.get_ylabel()) == ("observed", "predicted")
    np.testing.assert_array_equal(site.containers[0][0].get_xdata(), np.arange(3.0))


def test_data_without_a_coordinate_are_not_joined(by_block):
    ax = ek.plot_predictive(by_block, block="plain")
    assert {each.get_linestyle() for each in ax.get_lines()} == {"None"}
    half = next(each for each in ax.collections if each.get_label() == "50 %")
    assert [segment[0, 0] for segment in half.get_segments()] == [0, 2]  # a bar for each datum


def test_labels_beside_a_coordinate_are_series(by_block):
    ax = ek.plot_predictive(by_block, block="two")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["N", "S"]


def test_axes_and_blocks_are_checked(by_block):
    import matplotlib.pyplot as plt

    with pytest.raises(ValueError, match="ax: must be 5 Axes, one for each block, got 1"):
        ek.plot_predictive(by_block, plt.subplots()[1])
    with pytest.raises(ValueError, match="block: must be a block of the data .*'temp', .*got 'x'"):
        ek.plot_predictive(by_block, block="x")
    given = plt.subplots(5)[1]
    assert list(ek.plot_predictive(by_block, given)) == list(given)
    assert ek.plot_predictive(by_block, x=np.arange(by_block.sizes["data"])).get_title()


def test_the_report_has_a_picture_for_every_block(by_block, tmp_path):
    text = ek.report(by_block, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert all(f"Data {name}, and predictions" in page for name in ("temp", "wells", "plain")), text
