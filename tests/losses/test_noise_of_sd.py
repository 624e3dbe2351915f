"""Noise by standard deviations, and the noise of some of the data."""

import pickle

import array_api_strict
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import ekitools as ek
from ekitools.losses.gaussian import as_loss, as_noise
from ekitools.testing import check_noise

D = 6
KEPT = np.array([True, False, True, True, False, True])


def covariances():
    """Every form, with the matrix that it stands for."""
    rng = np.random.default_rng(0)
    diag, factor = rng.uniform(0.5, 2.0, D), rng.normal(size=(D, 2))
    dense = np.diag(diag) + factor @ factor.T
    return {
        "scalar": (0.7, 0.7 * np.eye(D)),
        "diagonal": (diag, np.diag(diag)),
        "dense": (dense, dense),
        "low-rank": ((diag, factor), dense),
    }


KINDS = list(covariances())


@pytest.mark.parametrize("sd", [0.3, np.float32(0.3), [0.1, 0.2], np.array([3.0, 1e-6])])
def test_standard_deviations_are_roots_of_variances(sd):
    noise = ek.GaussianNoise(sd=sd)
    np.testing.assert_allclose(noise.sd, np.asarray(sd, dtype=float), rtol=1e-7)
    np.testing.assert_array_equal(noise.cov, np.asarray(sd, dtype=np.asarray(sd).dtype) ** 2)
    assert noise.fingerprint() == ek.GaussianNoise(noise.cov).fingerprint()
    check_noise(noise)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cov": 1.0, "sd": 1.0}, TypeError, "cov: must be given as cov or as sd, got both. Leave"),
        ({}, TypeError, "cov: must be given, got None. Pass variances .* or .* as sd="),
        ({"sd": 0.0}, ValueError, "sd: must be positive, .* got 0"),
        ({"sd": [1.0, -2.0]}, ValueError, "sd: must be positive, .* got -2"),
        ({"sd": 1e-200}, ValueError, "sd: must be positive, .* got 1e-200. Rescale"),
        ({"sd": 1e200}, ValueError, r"sd: must be positive, .* got 1e\+200. Rescale"),
        ({"sd": np.nan}, ValueError, "sd: must be finite"),
        ({"sd": np.eye(2)}, ValueError, "sd: must have 0 or 1 dimensions"),
        ({"sd": "small"}, TypeError, "sd: must be an array of real numbers"),
        ({"sd": []}, ValueError, "sd: must not be empty"),
    ],
)
def test_bad_standard_deviations_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        ek.GaussianNoise(**arguments)


def test_what_a_caller_was_given_becomes_noise_once():
    noise, loss = ek.GaussianNoise(0.25), ek.Huber(1.0)
    assert as_noise(noise) is noise
    assert as_loss(loss) is loss
    assert as_noise(None, 0.5).cov == as_noise(0.25).cov == as_loss(None, 0.5).cov == 0.25
    for given in (noise, 0.25, loss):
        with pytest.raises(TypeError, match="noise: must be given as noise or as noise_sd, got bo"):
            as_loss(given, 0.5)
    with pytest.raises(TypeError, match="noise: must be given, got None. .* as noise_sd="):
        as_noise(None)
    with pytest.raises(ValueError, match="noise_sd: must be positive"):
        as_noise(None, -0.5)


def takers():
    """Every function that takes a covariance, with what else it needs."""
    rng = np.random.default_rng(0)
    u, A, y = rng.normal(size=(5, 2)), rng.normal(size=(3, 2)), rng.normal(size=3)
    flow = ek.theory.linear_flow
    return {
        "kalman_update": lambda **noise: ek.kalman_update(u, u @ A.T, y, **noise),
        "linear_flow": lambda **noise: flow(u, A, y, t=[0.0, 1.0], **noise),
        "covariance_flow": lambda **noise: ek.theory.covariance_flow(u, A, t=1.0, **noise),
        "posterior": lambda **noise: ek.theory.posterior(
            A, y, ek.GaussianPrior(0, [1, 1]), **noise
        )[1],
        "spectrum": lambda **noise: ek.theory.spectrum(u, A, **noise),
    }


@pytest.mark.parametrize("name", takers())
def test_every_function_that_takes_a_covariance_takes_standard_deviations(name):
    function, sd = takers()[name], np.array([0.5, 1.0, 2.0])
    np.testing.assert_array_equal(function(noise_sd=sd), function(noise=sd**2))
    with pytest.raises(TypeError, match="noise: must be given as noise or as noise_sd, got both"):
        function(noise=1.0, noise_sd=1.0)
    with pytest.raises(TypeError, match="noise: must be given, got None"):
        function()
    with pytest.raises(ValueError, match="noise_sd: must be positive"):
        function(noise_sd=0.0)


def test_a_noise_is_printed_and_pickled_by_its_covariance():
    assert repr(ek.GaussianNoise(sd=0.5)) == "GaussianNoise(cov=0.25)"
    again = pickle.loads(pickle.dumps(ek.GaussianNoise(sd=[0.5, 1.0])))
    np.testing.assert_array_equal(again.sd, [0.5, 1.0])


# --------------------------------------------------------------------------------- some of the data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [KEPT, [5, 0, 3], np.array([2], dtype=np.uint8), np.ones(D, bool)])
def test_the_marginal_is_the_gaussian_of_the_submatrix(kind, kept):
    cov, gamma = covariances()[kind]
    sub = gamma[np.asarray(kept)][:, np.asarray(kept)]
    d = len(sub)
    marginal = ek.GaussianNoise(cov).marginal(kept)
    assert isinstance(marginal, ek.typing.MarginalNoise)
    z, y = np.random.default_rng(1).normal(size=(4, d)), np.arange(d) / d
    log_normal = 0.5 * np.linalg.slogdet(2 * np.pi * sub)[1]
    expected = -multivariate_normal(y, sub).logpdf(z) - log_normal
    np.testing.assert_allclose(marginal.misfit(z, y), expected, rtol=1e-10)
    np.testing.assert_allclose(
        marginal.gradient(z, y), np.linalg.solve(sub, (z - y).T).T, rtol=1e-10, atol=1e-12
    )
    strict = marginal.misfit(array_api_strict.asarray(z), array_api_strict.asarray(y))
    np.testing.assert_allclose(np.asarray(strict), expected, rtol=1e-10)
    np.testing.assert_allclose(np.broadcast_to(marginal.sd, d), np.sqrt(np.diag(sub)), rtol=1e-12)


def test_the_marginal_is_of_the_same_form_and_class():
    class Own(ek.GaussianNoise):
        pass

    diag, factor = covariances()["low-rank"][0]
    found = Own((diag, factor)).marginal(KEPT)
    assert type(found) is Own
    np.testing.assert_array_equal(found.cov[0], diag[KEPT])
    np.testing.assert_array_equal(found.cov[1], factor[KEPT])
    one = ek.GaussianNoise(0.7)
    assert one.marginal(KEPT) is one.marginal([100]) is one


@pytest.mark.parametrize(
    ("kept", "error", "message"),
    [
        (KEPT[:5], ValueError, "kept: a mask must have d = 6 entries, got 5"),
        ([0, 6], ValueError, "kept: indices must be from 0 to 5, got 6"),
        ([-1, 2], ValueError, "kept: indices must be from 0 to 5, got -1"),
        ([0, 0], ValueError, "kept: must have every index once"),
        ([], ValueError, "kept: must keep at least one datum"),
        (np.zeros(6, bool), ValueError, "kept: must keep at least one datum"),
        ([0.5], TypeError, "kept: must be a boolean mask .* or integer indices, got dtype float64"),
        (KEPT[None], TypeError, r"kept: must be a boolean mask .* shape \(1, 6\)"),
    ],
)
def test_bad_masks_are_named(kept, error, message):
    with pytest.raises(error, match=message):
        ek.GaussianNoise(np.ones(D)).marginal(kept)
    with pytest.raises(ValueError, match="kept: indices must be at least 0, got -1"):
        ek.GaussianNoise(1.0).marginal([-1])


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_of_version_0_1_0_find_the_forms(kind):
    noise = ek.GaussianNoise(covariances()[kind][0])
    text = pickle.dumps(noise, protocol=2)  # which names classes in plain text
    for module, name, theirs in (
        ("gaussian", "GaussianNoise", "GaussianNoise"),
        *(("forms", name, f"_{name}") for name in ("Diagonal", "Dense", "LowRank")),
    ):
        text = text.replace(
            f"ekitools.losses.{module}\n{name}\n".encode(), f"ekitools.noise\n{theirs}\n".encode()
        )
    assert text.count(b"ekitools.noise") == 2
    assert b"ekitools.losses" not in text
    r = np.random.default_rng(1).normal(size=(3, D))
    np.testing.assert_array_equal(pickle.loads(text).whiten(r), noise.whiten(r))
