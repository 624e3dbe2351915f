"""Predictive bands: quantiles of the mixture, by series and coordinate."""

import numpy as np
import pytest
from zoo.pictures import line, words

import ekitools as ek
from ekitools.results.predictive import predictive_quantiles


def test_predictive_bands_are_the_quantiles_of_the_mixture(result):
    ax = ek.plot_predictive(result)
    expected = predictive_quantiles([0.5], result.g[-1].values, result.noise_sd.values)[0]
    np.testing.assert_allclose(line(ax, "median"), expected)
    np.testing.assert_allclose(line(ax, "data"), result.y)


def test_data_without_an_order_have_bars_and_no_line(result):
    ax = ek.plot_predictive(result)
    assert {each.get_linestyle() for each in ax.get_lines()} == {"None"}
    expected = predictive_quantiles([0.25, 0.75], result.g[-1].values, result.noise_sd.values)
    half = next(each for each in ax.collections if each.get_label() == "50 %")
    np.testing.assert_allclose([part[:, 1] for part in half.get_segments()], expected.T)
    ordered = ek.plot_predictive(result, x=np.arange(12))
    assert {each.get_linestyle() for each in ordered.get_lines()} == {"-", "None"}


def test_predictive_series_are_told_apart_and_sorted_by_their_coordinate(result):
    x, groups = np.arange(12)[::-1] // 2, np.tile(["hare", "lynx"], 6)
    ax = ek.plot_predictive(result, x=x, groups=groups)
    caption, *labels = words(ax)
    assert labels == ["hare", "lynx"]
    assert caption.startswith("Circles: data; line: median. Bands: 50 % and 90 % predictive inter")
    assert caption.endswith("lightest band: 90 % of the first ensemble.")
    (hare,) = [each for each in ax.get_lines() if each.get_label() == "hare: data"]
    assert np.all(np.diff(hare.get_xdata()) > 0)
    np.testing.assert_allclose(hare.get_ydata(), result.y[groups == "hare"][::-1])
    for wrong in ({"x": [1, 2]}, {"groups": ["a"]}):
        with pytest.raises(ValueError, match="must have d = 12 entries"):
            ek.plot_predictive(result, **wrong)


def test_every_series_is_drawn_however_many(problem, result):
    ax = ek.plot_predictive(result, groups=[f"site {i}" for i in range(12)])
    assert words(ax)[1:] == [f"site {i}" for i in range(12)]


def test_predictive_without_outputs_is_said(problem):
    result = ek.run(problem, ek.EKI(), n_members=9, rng=0, evaluate_final=False, store="last")
    with pytest.raises(ValueError, match="iteration: must have been evaluated"):
        ek.plot_predictive(result, iteration=int(result.iteration[-1]))
