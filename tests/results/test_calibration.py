"""Coverage and scores against closed forms and quadrature; the experiment, small."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

import ekitools as ek
from ekitools import experiments
from ekitools.experiments import SCALES, reproduce, uncertainty

SMALL = uncertainty.Settings(
    2, n_members=100, n_sampler=60, n_particles=150, n_train=20, n_test=40, units=4
)


def normal_quantiles(n):
    """Data whose distribution is N(0, 1) to 1/n."""
    return stats.norm.ppf((np.arange(n) + 0.5) / n)


@pytest.mark.parametrize("sd", [1.0, 0.5, 2.0], ids=["right", "too sure", "not sure enough"])
def test_gaussian_predictions_have_the_known_coverage(sd):
    """Of y ~ N(0, 1) predicted as N(0, s²): P(|y| ≤ s z) = 2Φ(s z) − 1 with z = Φ⁻¹((1 + q)/2)."""
    n = 2000
    y = normal_quantiles(n)
    found = ek.calibration(np.zeros((1, n)), y, sd)
    z = stats.norm.ppf(0.5 + found.level / 2)
    np.testing.assert_allclose(found.coverage, 2 * stats.norm.cdf(sd * z) - 1, atol=2 / n)
    np.testing.assert_allclose(found.width, 2 * sd * z, rtol=1e-9)
    np.testing.assert_allclose(found.pit, stats.norm.cdf(y / sd), atol=1e-12)
    assert found.nlpd == pytest.approx(-stats.norm.logpdf(y, scale=sd).mean())
    z = y / sd  # Gneiting & Raftery (2007), equation 21
    crps = sd * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert found.crps == pytest.approx(crps.mean())
    assert found.rmse == pytest.approx(np.sqrt(np.mean(y**2)))
    np.testing.assert_allclose(
        found.standard_error, np.sqrt(found.level * (1 - found.level) / n), rtol=1e-12
    )


def test_the_coverage_of_draws_is_the_level():
    """Members N(m, τ²) and noise σ²: data from N(m, τ² + σ²), within 4 standard errors."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=400)
    members = centre + 0.8 * rng.normal(size=(200, 400))
    y = centre + 0.8 * rng.normal(size=400) + 0.6 * rng.normal(size=400)
    found = ek.calibration(members, y, 0.6)
    assert np.all(np.abs(found.coverage - found.level) < 4 * found.standard_error)
    alone = ek.calibration(members, y, 0.01)  # without most of the noise it is too sure
    assert np.all((alone.coverage + 2 * alone.standard_error < alone.level)[3:])
    assert found.crps < alone.crps
    assert found.nlpd < alone.nlpd
    np.testing.assert_allclose(found.width, 2 * stats.norm.ppf(0.5 + found.level / 2), rtol=0.03)


def test_scores_of_a_mixture_are_those_of_quadrature():
    rng = np.random.default_rng(1)
    g, w = rng.normal(size=(5, 3)), rng.uniform(size=5)
    y, sd = np.array([0.3, -2.0, 1.0]), np.array([0.2, 0.5, 1.0])
    found = ek.calibration(g, y, sd, weights=w)
    share = w / w.sum()
    crps, density = [], []
    for i in range(3):

        def squares(z, i=i):
            return (share @ stats.norm.cdf(z, g[:, i], sd[i]) - (z >= y[i])) ** 2

        crps.append(integrate.quad(squares, -12, 12, points=[y[i]], limit=200)[0])
        density.append(share @ stats.norm.pdf(y[i], g[:, i], sd[i]))
    assert found.crps == pytest.approx(np.mean(crps), rel=1e-6)
    assert found.nlpd == pytest.approx(-np.mean(np.log(density)))
    assert found.rmse == pytest.approx(np.sqrt(np.mean((share @ g - y) ** 2)))


def test_weights_count_members_and_missing_rows_do_not():
    rng = np.random.default_rng(2)
    g, y = rng.normal(size=(4, 30)), rng.normal(size=30)
    counts = np.array([3, 0, 1, 2])
    repeated = ek.calibration(np.repeat(g, counts, axis=0), y, 0.3)
    weighted = ek.calibration(g, y, 0.3, weights=counts)
    for name in repeated:
        np.testing.assert_allclose(weighted[name], repeated[name], atol=1e-9)
    missing = np.vstack([g, np.full((1, 30), np.nan)])
    assert ek.calibration(missing, y, 0.3).identical(ek.calibration(g, y, 0.3))


def test_the_score_of_many_members_is_that_of_their_pairs():
    """Both ways to E|X − X'|: with repeated members there are more of them than points."""
    rng = np.random.default_rng(5)
    g, y = 3 * rng.normal(size=(7, 4)), rng.normal(size=4)
    few, many = (ek.calibration(np.repeat(g, k, axis=0), y, 0.4) for k in (1, 40))
    assert many.crps == pytest.approx(float(few.crps), rel=1e-12)


def test_far_data_have_a_finite_score():
    found = ek.calibration(np.zeros((3, 1)), [1e3], 0.1)
    assert found.nlpd == pytest.approx(0.5e8 + np.log(0.1) + 0.5 * np.log(2 * np.pi))
    assert found.crps == pytest.approx(1e3, rel=1e-3)
    assert np.all(found.coverage == 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"predictions": np.zeros((2, 4))}, ValueError, r"predictions, y: must have the shapes"),
        ({"predictions": np.full((2, 3), np.nan)}, ValueError, "must have a finite row"),
        ({"predictions": np.zeros((2, 3), complex)}, TypeError, "must be real numbers"),
        ({"y": [0.0, np.nan, 0.0]}, ValueError, "y: must be finite"),
        ({"noise_sd": 0.0}, ValueError, "noise_sd: must be positive, got 0"),
        ({"noise_sd": [1.0, 2.0]}, ValueError, "noise_sd: must have n = 3 entries"),
        ({"weights": [1.0]}, ValueError, "weights: must be J = 2 numbers"),
        ({"weights": [1.0, -1.0]}, ValueError, r"that are not negative .* and -1"),
        ({"weights": [0.0, 0.0]}, ValueError, "weights: must be .* not all zero, got"),
        ({"levels": [0.5, 0.5]}, ValueError, r"levels: must increase within \(0, 1\)"),
        ({"levels": [0.5, 1.0]}, ValueError, r"levels: must increase within \(0, 1\)"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    good = {"predictions": np.zeros((2, 3)), "y": np.zeros(3), "noise_sd": 1.0}
    with pytest.raises(error, match=message):
        ek.calibration(**(good | options))


def test_the_curves_drawn_are_the_coverages():
    y = normal_quantiles(100)
    several = {name: ek.calibration(np.zeros((1, 100)), y, sd) for name, sd in (("a", 1), ("b", 2))}
    ax = ek.plot_calibration(several)
    diagonal, *curves = ax.get_lines()
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    for curve, (name, found) in zip(curves, several.items(), strict=True):
        assert curve.get_label() == name
        np.testing.assert_array_equal(curve.get_ydata(), found.coverage)
    alone = ek.plot_calibration(several["b"], ax.figure.add_subplot())
    np.testing.assert_array_equal(alone.get_lines()[1].get_ydata(), several["b"].coverage)
    with pytest.raises(ValueError, match="calibrations: must hold at least one"):
        ek.plot_calibration({})
    with pytest.raises(TypeError, match="must be results of ek.calibration, got int for 'c'"):
        ek.plot_calibration({"c": 1})


def test_the_network_is_the_formula():
    network, rng = uncertainty.OneLayer(2, 3), np.random.default_rng(3)
    u, x = rng.normal(size=(4, 13)), rng.normal(size=(5, 2))
    found = network(u, inputs=x)
    for j in range(4):
        W, b, c, d = u[j, :6].reshape(3, 2), u[j, 6:9], u[j, 9:12], u[j, 12]
        for i in range(5):
            assert found[j, i] == pytest.approx(c @ np.tanh(W @ x[i] + b) + d)


def test_around_zero_features_outputs_tell_nothing_of_the_weights():
    """What the prior is centred at features for: the correlations that EKI moves by."""
    network, x = uncertainty.OneLayer(1, 3), np.array([[0.7]])
    correlations = []
    for W, b in ((np.zeros(3), np.zeros(3)), (np.full(3, 3.0), np.array([2.0, 0.0, -2.0]))):
        u = network.prior(W, b, 0.5, 2.0).sample(20_000, rng=0)
        output = network(u, inputs=x)[:, 0]
        correlations.append([np.corrcoef(u[:, k], output)[0, 1] for k in range(6, 9)])
    around_zero, around_features = np.abs(correlations)
    assert np.all(around_zero < 4 / np.sqrt(20_000))
    assert np.max(around_features) > 0.3


def test_the_diabetes_data_are_in_units_of_the_training_set():
    task = uncertainty.task_of(SMALL, "diabetes", 0)
    assert task.x.shape == (300, 10)
    assert task.tests["test"][0].shape == (142, 10)
    np.testing.assert_allclose(task.x.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(task.x.std(axis=0), 1)
    fit = np.polynomial.Polynomial.fit(task.x[:, 2], task.y, 1)  # with one input of the ten
    assert 0.4 < task.noise < np.std(task.y - fit(task.x[:, 2]))
    same = uncertainty.task_of(SMALL, "diabetes", 0)
    np.testing.assert_array_equal(task.y, same.y)
    assert not np.array_equal(task.y, uncertainty.task_of(SMALL, "diabetes", 1).y)


def test_the_reference_is_calibrated_where_truth_is_drawn_from_the_prior():
    """Over draws of truth and data the posterior's coverage is the level, whatever the network."""
    settings = replace(SMALL, replicates=12, n_particles=600, n_test=20, units=3)
    found = uncertainty.compute(settings, "drawn, TemperedSMC", None, False)
    for at in found["where"].values():
        # data of one replicate share the posterior's error: its size is estimated between them
        allowed = 4 * np.maximum(at["coverage error"], 0.02)
        assert np.all(np.abs(np.array(at["coverage"]) - uncertainty.LEVELS) < allowed)
    assert found["where"]["near"]["rmse"] < 2 * settings.noise


def test_the_experiment(tmp_path, monkeypatch):
    monkeypatch.setitem(uncertainty.SETTINGS, "small", SMALL)
    lines = []
    record = reproduce("uncertainty", out=tmp_path, show=lines.append)
    assert list(record["numbers"]) == uncertainty.parts(SMALL)
    assert record == json.loads((tmp_path / "numbers.json").read_text("utf-8"))
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
    text = "\n".join(lines)
    for label, found in record["numbers"].items():
        for at in found["where"].values():
            assert f"{at['crps']:.3f}" in text
            assert np.all(np.diff(at["width"]) > 0)
            assert at["rmse"] < 1.2, label  # what is predicted has a variance of about 1
    assert record["numbers"]["sine, EKI"]["where"]["near"]["n_data"] == 2 * 40
    assert record["numbers"]["sine, EKI"] != record["numbers"]["sine, GNKI"]


def test_without_scikit_learn_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setattr(uncertainty, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        uncertainty.task_of(SMALL, "diabetes", 0)


def test_scales_grow():
    assert tuple(uncertainty.SETTINGS) == SCALES
    replicates = [uncertainty.SETTINGS[scale].replicates for scale in SCALES]
    assert replicates == sorted(replicates)
    assert experiments.EXPERIMENTS["uncertainty"] == "uncertainty"
