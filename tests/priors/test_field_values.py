"""Fields whose parameters are their values, against dense matrices, series and scipy.stats."""

import math
import pickle

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

import ekitools as ek
from ekitools.priors import field as module
from ekitools.priors.rescaled import RescaledPrior
from ekitools.testing import check_prior
from ekitools.typing import HasPoints, HasSupport

X = np.random.default_rng(0).uniform(0, 1000, size=(12, 2))
SHAPE, LENGTHS, TAU, ALPHA, SD = (4, 5), (2.0, 3.0), 1.2, 2.5, 1.5


def grid(shape=SHAPE, **options):
    known = {"lengths": LENGTHS, "tau": TAU, "alpha": ALPHA, "sd": SD, "mean": 0.5}
    return ek.GaussianRandomField(shape, **(known | options), parameters="values")


def wells(**options):
    known = {"length": 400.0, "sd": SD, "mean": 0.5}
    return ek.MaternField(X, **(known | options), parameters="values")


def cosine_sum():
    """The covariance on the grid by its definition, mode by mode."""
    points = grid().points
    total, C = 0.0, np.zeros((20, 20))
    for k in np.ndindex(*SHAPE):
        phi = np.ones(20)
        for ki, x, L in zip(k, points.T, LENGTHS, strict=True):
            phi = phi * np.cos(np.pi * ki * x / L) * (math.sqrt(2) if ki else 1.0)
        square = sum((ki / L) ** 2 for ki, L in zip(k, LENGTHS, strict=True))
        value = (np.pi**2 * square + TAU**2) ** -ALPHA
        total += value
        C += value * np.outer(phi, phi)
    return SD**2 * C / total


def matern_three_halves():
    x = math.sqrt(3) * cdist(X, X) / 400.0
    return SD**2 * (1 + x) * np.exp(-x)


KNOWN = {"grid": (grid, cosine_sum), "points": (wells, matern_three_halves)}
TRANSFORMS = [None, "exp", ("bounded", 0.7, 2.3)]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("make", [grid, wells])
def test_it_keeps_the_promises_of_a_prior(make, transform):
    check_prior(make(transform=transform))


@pytest.mark.parametrize("kind", KNOWN)
def test_unwhitening_is_a_root_of_the_covariance_and_whitening_its_inverse(kind):
    make, known = KNOWN[kind]
    prior, C = make(), known()
    p = prior.n_parameters
    root = prior.unwhiten(np.eye(p)) - prior.mean  # rows: C^{T/2}
    np.testing.assert_allclose(root.T @ root, C, rtol=1e-12, atol=1e-13)
    inverse = prior.whiten(np.eye(p) + prior.mean)
    np.testing.assert_allclose(inverse @ inverse.T, np.linalg.inv(C), rtol=1e-8, atol=1e-10)


def test_the_root_on_a_grid_is_the_symmetric_one():
    values, vectors = np.linalg.eigh(cosine_sum())
    root = (vectors * np.sqrt(values)) @ vectors.T
    found = grid().unwhiten(np.eye(20)) - 0.5
    np.testing.assert_allclose(found, root, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KNOWN)
def test_draws_have_the_covariance_and_the_mean(kind):
    """Within 4.5 standard errors, the largest of 400 numbers."""
    make, known = KNOWN[kind]
    n, C = 20_000, known()
    draws = make().sample(n, rng=1)
    assert np.all(np.abs(draws.mean(0) - 0.5) < 4.5 * np.sqrt(np.diag(C) / n))
    error = np.sqrt((C**2 + np.outer(np.diag(C), np.diag(C))) / n)
    assert np.all(np.abs(np.cov(draws.T) - C) < 4.5 * error)


@pytest.mark.parametrize("kind", KNOWN)
def test_the_density_is_that_of_scipy(kind):
    make, known = KNOWN[kind]
    normal = stats.multivariate_normal(np.full(make().n_parameters, 0.5), known())
    z = normal.rvs(5, random_state=2)
    np.testing.assert_allclose(make().logpdf(z), normal.logpdf(z), rtol=1e-10)
    assert make().logpdf(z[0]) == pytest.approx(normal.logpdf(z[0]))
    positive = normal.logpdf(z) - z.sum(axis=1)  # u = exp(z), du/dz = u
    np.testing.assert_allclose(make(transform="exp").logpdf(np.exp(z)), positive, rtol=1e-10)
    u = np.exp(z)
    u[1, 3] = -1.0
    assert make(transform="exp").logpdf(u).tolist()[1] == -np.inf
    assert np.all(np.isfinite(np.delete(make(transform="exp").logpdf(u), 1)))


def test_the_average_variance_on_the_grid_is_that_asked_for_with_the_constant_mode():
    C = cosine_sum()
    assert np.mean(np.diag(C)) == pytest.approx(SD**2)
    prior = grid()
    assert prior.modes[0].tolist() == [0, 0]
    constant = np.ones(20) / 20  # the variance of the mean over the cells is that of the mode
    assert constant @ C @ constant == pytest.approx(prior.scales[0] ** 2)
    for tau, share in ((3.0, 0.57), (10.0, 0.09)):  # as documented
        square = ek.GaussianRandomField((64, 64), tau=tau, parameters="values")
        assert square.scales[0] ** 2 == pytest.approx(share, abs=0.005)


def test_inside_a_large_domain_it_is_the_matern_covariance():
    """ν = α − dim/2 and ℓ = √(2ν)/τ: the correlation in the middle of 40 lengths."""
    n, L, tau, nu = 2048, 400.0, 0.2, 1.5
    prior = ek.GaussianRandomField((n,), alpha=nu + 0.5, tau=tau, lengths=L, parameters="values")
    impulse = np.zeros((1, n))
    impulse[0, n // 2] = 1.0
    covariance = (prior.unwhiten(prior.unwhiten(impulse)))[0]  # the root is symmetric
    x = tau * np.abs(prior.points[:, 0] - prior.points[n // 2, 0])  # = √(2ν) distance/ℓ
    near = x < 8
    found = (covariance / covariance[n // 2])[near]
    np.testing.assert_allclose(found, ((1 + x) * np.exp(-x))[near], atol=2e-4)


@pytest.mark.parametrize("shape", [(7,), (4, 5), (3, 4, 5)])
def test_cells_have_names_and_places(shape):
    prior = ek.GaussianRandomField(
        shape, lengths=[10.0, 20.0, 30.0][: len(shape)], alpha=3.0, parameters="values"
    )
    points, i = prior.points, 5
    index = np.unravel_index(i, shape)
    assert prior.names[i] == "cell " + " ".join(map(str, index))
    expected = [(k + 0.5) * L / n for k, L, n in zip(index, prior.lengths, shape, strict=True)]
    np.testing.assert_allclose(points[i], expected)
    u = prior.sample(2, rng=0)
    assert prior.field(u)[1][index] == u[1, i]
    assert prior.field(u[0]).shape == shape
    normal = prior.coefficients(prior.field(u)) * prior.scales  # all modes, in their order
    assert normal.shape == u.shape
    assert np.sum(normal**2, axis=1) == pytest.approx(np.mean(u**2, axis=1))  # Parseval


def test_the_unit_of_length_makes_no_difference():
    u = grid().unwhiten(np.eye(20))
    metres = grid(lengths=(2000.0, 3000.0), tau=TAU / 1000)
    np.testing.assert_allclose(metres.unwhiten(np.eye(20)), u, rtol=1e-9, atol=1e-12)
    unit = ek.GaussianRandomField((4, 6), n_modes=7)
    sized = ek.GaussianRandomField((4, 6), n_modes=7, lengths=(50, 50), tau=3 / 50)
    np.testing.assert_allclose(sized.scales, unit.scales, rtol=1e-12)
    long = ek.GaussianRandomField((4, 6), n_modes=2, lengths=(1.0, 9.0))
    assert long.names == ("mode 0 1", "mode 0 2")  # slow modes lie along the long side


@pytest.mark.parametrize("make", [grid, wells])
def test_one_member_at_a_time_is_the_same_draw(make, monkeypatch):
    expected = make().sample_unconstrained(7, rng=3)
    rng = np.random.default_rng(3)
    one = np.concatenate([make().sample_unconstrained(1, rng=rng) for _ in range(7)])
    np.testing.assert_allclose(one, expected, rtol=1e-13, atol=1e-14)
    if make is grid:  # the rounding of a matrix product depends on its number of rows
        np.testing.assert_array_equal(one, expected)
    monkeypatch.setattr(module, "_BLOCK_BYTES", 3 * 8 * make().n_parameters)
    z = make().unwhiten(make().whiten(expected))  # in blocks of three rows
    np.testing.assert_allclose(z, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("transform", [*TRANSFORMS[1:], ("bounded", -5.0, 0.7)])
@pytest.mark.parametrize("make", [grid, wells])
def test_single_precision_stays_strictly_within_the_bounds(make, transform):
    prior = make(transform=transform)
    z = np.linspace(-200, 200, 5 * prior.n_parameters, dtype=np.float32).reshape(5, -1)
    u = prior.to_physical(z)
    low, high = prior.support(0)
    assert u.dtype == np.float32
    assert np.all((u.astype(float) > low) & (u.astype(float) < high))
    assert np.all(np.isfinite(prior.to_unconstrained(u)))
    some = prior.sample_unconstrained(4, rng=0).astype(np.float32)
    back = prior.to_unconstrained(prior.to_physical(some))
    np.testing.assert_allclose(back, some, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [grid, wells])
def test_torch_arrays_stay_torch_arrays(make):
    torch = pytest.importorskip("torch")
    prior = make(transform="exp")
    z = prior.sample_unconstrained(3, rng=0)
    for name in ("to_physical", "to_unconstrained", "whiten", "unwhiten"):
        x = np.exp(z) if name == "to_unconstrained" else z
        for dtype, rtol in ((torch.float64, 1e-12), (torch.float32, 1e-3)):
            found = getattr(prior, name)(torch.as_tensor(x).to(dtype))
            assert isinstance(found, torch.Tensor)
            assert found.dtype == dtype
            expected = getattr(prior, name)(x)
            np.testing.assert_allclose(found.numpy(), expected, rtol=rtol, atol=rtol)


def test_values_of_a_field_are_found_from_some_of_its_cells():
    """A linear model: the posterior mean is that of kriging, by the textbook's formula."""
    prior, C, seen = grid(), cosine_sum(), np.array([0, 7, 13])
    y = np.array([1.0, -1.0, 2.0])
    mean, cov = ek.theory.posterior(np.eye(20)[seen], y, prior, 0.01)
    gain = np.linalg.solve(C[np.ix_(seen, seen)] + 0.01 * np.eye(3), C[seen]).T
    np.testing.assert_allclose(mean, 0.5 + gain @ (y - 0.5), atol=1e-10)
    np.testing.assert_allclose(cov, C - gain @ C[seen], atol=1e-10)
    problem = ek.InverseProblem(ek.LinearModel(np.eye(20)[seen]), prior, 0.01, y)
    result = ek.run(problem, ek.EKI(), n_members=2000, rng=0)
    error = (result.u[-1].mean("member").values - mean) / np.sqrt(np.diag(cov))
    assert np.sqrt(np.mean(error**2)) < 0.15  # about sqrt(p/J) = 0.1 posterior sd
    with pytest.raises(ValueError, match="prior: must be Gaussian in physical coordinates"):
        ek.theory.posterior(np.eye(20)[seen], y, grid(transform="exp"), 0.01)


def test_a_model_sees_the_transformed_field():
    seen = []
    prior = grid(transform=("bounded", 2.0, 3.0))

    def model(u):
        seen.append(u)
        return u[:2]

    problem = ek.InverseProblem(model, prior, 0.01, [2.5, 2.6])
    result = ek.run(problem, ek.EKI(), n_members=30, rng=0)
    assert all(np.all((u > 2) & (u < 3)) for u in seen)
    assert np.all((result.u > 2) & (result.u < 3))
    assert result.parameter.values[7] == "cell 1 2"


# --------------------------------------------------------------------- the contract of places


@pytest.mark.parametrize("kind", ["grid", "points"])
def test_places_are_those_of_values_alone(kind):
    made = {
        "grid": (grid(), ek.GaussianRandomField(SHAPE), grid().points),
        "points": (wells(), ek.MaternField(X, length=400.0), X),
    }
    values, coefficients, places = made[kind]
    assert isinstance(values, HasPoints)
    assert isinstance(values, HasSupport)
    np.testing.assert_array_equal(values.points, places)
    assert coefficients.points is None
    assert not isinstance(ek.GaussianPrior(0.0, 1.0), HasPoints)
    line = ek.MaternField([0.0, 5.0], length=2.0, parameters="values")
    assert line.points.tolist() == [[0.0], [5.0]]


def test_priors_made_of_others_hand_on_the_places():
    numbers = ek.Prior({"a": stats.norm(), "b": stats.lognorm(0.5)})
    joint = ek.JointPrior({"a": numbers, "field": wells(), "cells": grid()})
    assert joint.points.shape == (2 + 12 + 20, 2)
    assert np.isnan(joint.points[:2]).all()
    np.testing.assert_array_equal(joint.points[2:14], X)
    np.testing.assert_array_equal(joint.points[14:], grid().points)
    assert ek.JointPrior({"a": numbers, "b": ek.GaussianRandomField((4,))}).points is None
    line = ek.GaussianRandomField((4,), parameters="values")
    assert ek.JointPrior({"line": line, "plane": grid()}).points is None
    np.testing.assert_array_equal(RescaledPrior(wells(), np.ones(12)).points, X)
    noise = ek.UnknownNoise(stats.halfnorm(scale=0.1))
    problem = ek.InverseProblem(lambda u: u[:2], wells(), noise, [1.0, 2.0])
    assert problem.prior.points.shape == (13, 2)
    assert np.isnan(problem.prior.points[-1]).all()


@pytest.mark.parametrize("make", [grid, wells])
def test_fingerprints_tell_values_apart(make):
    options = [{}, {"sd": 2.0}, {"mean": 1.0}, {"transform": "exp"}]
    prints = [make(**o).fingerprint() for o in options]
    if make is grid:
        prints += [grid(lengths=o).fingerprint() for o in (1.0, 2.0)]
        prints.append(ek.GaussianRandomField(SHAPE, tau=TAU, alpha=ALPHA, sd=SD).fingerprint())
    else:
        prints.append(ek.MaternField(X, length=400.0, sd=SD, mean=0.5).fingerprint())
    assert len(set(prints)) == len(prints)
    again = pickle.loads(pickle.dumps(make()))
    assert again.fingerprint() == prints[0]
    np.testing.assert_array_equal(again.sample(2, rng=0), make().sample(2, rng=0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: grid(tau=0.0), 'tau: must be positive for parameters="values", got 0'),
        (lambda: grid(n_modes=3), 'n_modes: must be left out for parameters="values".* got 3'),
        (lambda: wells(n_modes=3), 'n_modes: must be left out for parameters="values".* got 3'),
        (lambda: grid((64, 64), alpha=8.0), 'alpha: must be lower for parameters="values"'),
        (lambda: grid(lengths=(1.0, 2.0, 3.0)), r"lengths: .* each of the 2 direction\(s\)"),
        (lambda: grid(lengths=1e-200), 'alpha: must be lower for parameters="values"'),
        (lambda: ek.GaussianRandomField((4,), lengths=1e-200), "alpha, tau, lengths: must give"),
        (lambda: grid(lengths=1e-200, tau=1e200), "alpha, tau, lengths: must give modes of"),
        (
            lambda: ek.MaternField(np.r_[X, X], length=1.0, parameters="values"),
            'points: must have a covariance that can be inverted for parameters="values", got 24',
        ),
        (
            lambda: ek.MaternField(np.arange(5001.0), length=1.0, parameters="values"),
            'points: must be at most 5000 for parameters="values".* got 5001. Use ek.Gaussian',
        ),
        (
            lambda: ek.GaussianRandomField((4,), parameters="cells"),
            'parameters: must be "coefficients" or "values", got \'cells\'',
        ),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
