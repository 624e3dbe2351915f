"""Errors of several methods by iteration, or by time."""

import numpy as np
import pytest
import xarray as xr
from zoo.pictures import line

import ekitools as ek


def test_error_shows_the_distance_of_every_mean_from_the_truth(result, problem):
    truth = np.arange(4.0)
    plain = ek.EKI(ek.FixedStep(0.1), t_end=None, perturbed=False)
    other = ek.run(problem, ek.Nesterov(plain), n_members=9, n_steps=7, rng=0)
    ax = ek.plot_error({"plain": result, "momentum": other}, truth)
    for label, one in (("plain", result), ("momentum", other)):
        expected = np.sqrt(((one.u.values.mean(axis=1) - truth) ** 2).sum(axis=1))
        np.testing.assert_allclose(line(ax, label), expected)
    assert len({each.get_color() for each in ax.get_lines()}) == 2
    assert (ax.get_xlabel(), ax.get_yscale(), ax.get_xscale()) == ("iteration", "log", "linear")


def test_error_of_flows_is_by_time_even_from_a_file(problem, tmp_path):
    flow = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 200), n_members=9, rng=0)
    flow.to_netcdf(tmp_path / "flow.nc")
    with xr.open_dataset(tmp_path / "flow.nc") as read:
        ax = ek.plot_error({"flow": read}, np.ones(4))
    (drawn,) = ax.get_lines()
    np.testing.assert_allclose(drawn.get_xdata(), flow.t)
    assert (ax.get_xlabel(), ax.get_xscale()) == ("pseudo-time $t$", "log")


def test_error_refuses_what_cannot_be_compared(result, problem):
    flow = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 1), n_members=9, rng=0)
    with pytest.raises(ValueError, match="results: must be results of ek.run alone"):
        ek.plot_error({"run": result, "flow": flow}, np.ones(4))
    with pytest.raises(ValueError, match="results: must .* got none"):
        ek.plot_error({}, np.ones(4))
    for wrong in (result, [result], 3):
        with pytest.raises(
            TypeError, match="results: must be a mapping of labels to results of ek.run"
        ):
            ek.plot_error(wrong, np.ones(4))
    with pytest.raises(ValueError, match="truth: must have p = 4 entries, as 'run' has"):
        ek.plot_error({"run": result}, np.ones(3))
