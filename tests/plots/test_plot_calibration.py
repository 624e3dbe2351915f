"""The histogram of the probability integral transform."""

import numpy as np
import pytest

import ekitools as ek


def test_pit_has_the_shares_of_its_bins():
    y = np.random.default_rng(0).normal(size=500)
    calibration = ek.calibration(np.zeros((1, 500)), y, 0.5)
    ax = ek.plot_pit(calibration, bins=4)
    heights = [bar.get_height() for bar in ax.patches[:4]]
    expected = [np.mean((calibration.pit >= k / 4) & (calibration.pit < (k + 1) / 4)) for k in
                range(4)]  # fmt: skip
    np.testing.assert_allclose(heights, expected)
    assert heights[0] > 0.3  # too sure: a valley
    with pytest.raises(TypeError, match="calibration: must be a result of ek.calibration"):
        ek.plot_pit(3)
    with pytest.raises(ValueError, match="bins: must be at least 2, got 1"):
        ek.plot_pit(calibration, bins=1)
