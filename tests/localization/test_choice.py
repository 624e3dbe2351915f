"""The strength of localization that predicts members left out best."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.linalg.local_coefficients import local_coefficients
from ekitools.linalg.local_score import expected_score
from ekitools.localization import Correlation, Distance, Groups, Unbiased, choose_strength


def field(n, p=240, length=12.0, every=8, noise=0.3, seed=0, kernel=lambda h: np.exp(-h)):
    """Members of a field on a line, their outputs, and the exact posterior of one truth."""
    rng = np.random.default_rng(seed)
    x = np.arange(float(p))
    cov = kernel(np.abs(x[:, None] - x) / length) + 1e-10 * np.eye(p)
    root = np.linalg.cholesky(cov)
    at = np.arange(every // 2, p, every)
    u, truth = rng.normal(size=(n, p)) @ root.T, root @ rng.normal(size=p)
    y = truth[at] + noise * rng.normal(size=at.size)
    gain = np.linalg.solve(cov[np.ix_(at, at)] + noise**2 * np.eye(at.size), cov[at]).T
    sd = np.sqrt(np.diag(cov) - np.einsum("ij,ij->i", gain, cov[:, at]))
    return x, at, u, y, noise, gain @ y, sd


@pytest.mark.parametrize(("n", "radius"), [(12, 16.0), (40, 6.0)])
def test_the_score_is_the_mean_over_noise_of_what_is_left_out(n, radius):
    """Beside draws of the noise and the analysis itself, within 4 standard errors."""
    x, at, u, _, noise, _, _ = field(n, p=40, every=4)
    r, h = u[:, at] / noise, 0.8
    rule = Distance(x, at.astype(float), radius, resolution=0)
    localizer, fold = rule.located(40, 10), np.arange(n) % 4
    score = expected_score(localizer, np.arange(40), u, r, h, fold).mean()
    rng, found = np.random.default_rng(1), []
    for _ in range(300):
        total = 0.0
        for k in range(4):
            out = np.flatnonzero(fold == k)
            j = int(rng.choice(out))
            data = r[j] + rng.normal(size=10) / np.sqrt(h)
            kept = fold != k
            analysis = local_coefficients(
                rule, r[kept] - data, ek.GaussianNoise(1.0), h, "transform"
            )
            new = analysis.located(40).update(u[kept])
            v = new.var(axis=0, ddof=1)
            total += (
                np.mean(np.log(v) / 2 + (u[j] - new.mean(axis=0)) ** 2 / (2 * v)) * len(out) / n
            )
        found.append(total)
    assert abs(np.mean(found) - score) < 4 * np.std(found, ddof=1) / np.sqrt(300)


@pytest.mark.parametrize(("length", "kernel"), [
    (6.0, lambda h: np.exp(-h)),
    (24.0, lambda h: np.exp(-h)),
    (12.0, lambda h: np.exp(-(h**2) / 2)),
])  # fmt: skip
def test_the_chosen_radius_is_near_the_best_one(length, kernel):
    """The error with the chosen radius is at most 15 % above that with the best of the curve."""
    excess = []
    for seed in range(4):
        x, at, u, y, noise, mean, sd = field(60, length=length, seed=seed, kernel=kernel)
        rule, curve = choose_strength(Distance(x, at.astype(float)), u, u[:, at], y, noise**2)
        assert curve.chosen == rule.radius >= curve.values[np.argmin(curve.score)]
        error = {}
        for radius in curve.values:
            new = ek.kalman_update(
                u, u[:, at], y, noise**2, localization=rule.with_strength(radius)
            )
            error[radius] = np.sqrt(np.mean(((new.mean(axis=0) - mean) / sd) ** 2))
        excess.append(error[rule.radius] / min(error.values()))
    assert np.mean(excess) < 1.15


def test_a_threshold_is_chosen_too_and_parts_of_a_product():
    x, at, u, y, noise, _, _ = field(60)
    rule, curve = choose_strength(Correlation(), u, u[:, at], y, noise**2)
    assert curve.name == "threshold"
    assert 2.5 < rule.threshold < 7
    product, curve = choose_strength(
        Unbiased() * Distance(x, at.astype(float)), u, u[:, at], y, noise_sd=noise
    )
    assert curve.name == "radius"
    assert product.rules[1].radius == curve.chosen


def test_parameters_without_spread_do_not_count():
    x, at, u, y, noise, _, _ = field(30)
    every = {"n_parameters": 10_000}
    _, curve = choose_strength(Distance(x, at.astype(float)), u, u[:, at], y, noise**2, **every)
    more = np.hstack([u, np.full((30, 5), 3.0)])
    rule = Distance(np.append(x, np.full(5, 50.0)), at.astype(float))
    again = choose_strength(rule, more, u[:, at], y, noise**2, **every)[1]
    common = min(len(curve.score), len(again.score))
    np.testing.assert_allclose(curve.score[:common], again.score[:common], rtol=1e-10)


@pytest.mark.parametrize(("change", "error", "words"), [
    ({"localization": Unbiased()}, TypeError, "must have a strength"),
    ({"localization": Groups({tuple(range(240)): 0})}, TypeError, "must have a strength"),
    ({"u": np.zeros((3, 240)), "g": np.zeros((3, 30))}, ValueError, "4 members or more"),
    ({"u": np.zeros((5, 240))}, ValueError, r"u: must be \(J, p\) with the J = 20"),
    ({"noise": np.eye(30) + 0.1}, TypeError, "independent between data"),
    ({"step": 0.0}, ValueError, "step: must be"),
    ({"n_parameters": 0}, ValueError, "n_parameters: must be"),
])  # fmt: skip
def test_wrong_arguments_are_refused(change, error, words):
    x, at, u, y, noise, _, _ = field(20)
    given = {
        "localization": Distance(x, at.astype(float)), "u": u, "g": u[:, at], "data": y,
        "noise": noise**2,
    }  # fmt: skip
    with pytest.raises(error, match=words):
        choose_strength(**given | change)
