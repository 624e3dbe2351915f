"""Noise of independent blocks, against the dense block-diagonal matrix."""

import pickle
import tracemalloc

import array_api_strict
import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.stats import multivariate_normal

import ekitools as ek
from ekitools.losses.blocks import joined
from ekitools.losses.formed import form_of
from ekitools.losses.forms import Diagonal
from ekitools.testing import check_noise


class Own:
    """Noise of a user's own: one variance for any number of data."""

    n_data = None

    def __init__(self, variance):
        self.variance = variance
        self.sd = np.sqrt(np.array(variance))

    def whiten(self, r):
        return r / float(self.sd)

    def misfit(self, z, y):
        return 0.5 * (self.whiten(z - y) ** 2).sum(axis=-1)

    def gradient(self, z, y):
        return (z - y) / self.variance

    def sample(self, n, *, rng=None, n_data=None):
        return np.random.default_rng(rng).normal(0, self.sd, (n, n_data))

    def fingerprint(self):
        return f"own {self.variance}"


def spd(seed, k):
    root = np.random.default_rng(seed).normal(size=(k, k))
    return root @ root.T + np.eye(k)


def mixed():
    """Blocks of every kind, those of one kind apart from each other, and the whole matrix."""
    diag, factor = np.array([1.0, 2.0, 0.5]), np.ones((3, 1))
    blocks = {
        "one": 0.5,
        "dense": spd(0, 3),
        "low": (diag, factor),
        "variances": ek.GaussianNoise([1.0, 4.0]),
        "dense too": ek.GaussianNoise(spd(1, 3)),
        "own": Own(0.3),
        "alone": spd(2, 2),
        "large": spd(3, 40),
        "inner": ek.BlockNoise([spd(4, 2), 0.7], sizes=[2, 1]),
    }
    matrices = [
        *(0.5 * np.eye(2), spd(0, 3), np.diag(diag) + factor @ factor.T, np.diag([1.0, 4.0])),
        *(spd(1, 3), 0.3 * np.eye(2), spd(2, 2), spd(3, 40), spd(4, 2), 0.7 * np.eye(1)),
    ]
    return ek.BlockNoise(blocks, sizes={"one": 2, "own": 2}), block_diag(*matrices)


NOISE, GAMMA = mixed()
D = len(GAMMA)
Z, Y = np.random.default_rng(1).normal(size=(4, D)), np.arange(D) / D


def log_normal(z, y, gamma):
    constant = 0.5 * np.linalg.slogdet(2 * np.pi * gamma)[1]
    return -multivariate_normal(y, gamma).logpdf(z) - constant


def test_it_keeps_the_contract_of_a_noise_model():
    check_noise(NOISE, exclude="marginal")  # a block of a user's own has none
    check_noise(NOISE.marginal(np.arange(2, 13)))
    check_noise(ek.BlockNoise([0.1, 0.2], sizes=[2, 3]))
    assert isinstance(NOISE, ek.typing.MarginalNoise)
    assert isinstance(NOISE, ek.typing.CurvedLoss)


def test_it_is_the_gaussian_of_the_block_diagonal_matrix():
    np.testing.assert_allclose(NOISE.misfit(Z, Y), log_normal(Z, Y, GAMMA), rtol=1e-10)
    expected = np.linalg.solve(GAMMA, (Z - Y).T).T
    np.testing.assert_allclose(NOISE.gradient(Z, Y), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(NOISE.curvature_product(Z[0], Y, Z - Y), expected, atol=1e-10)
    np.testing.assert_allclose(NOISE.sd, np.sqrt(np.diag(GAMMA)), rtol=1e-12)
    whitener = NOISE.whiten(np.eye(D)).T  # W of the whole
    np.testing.assert_allclose(whitener.T @ whitener @ GAMMA, np.eye(D), atol=1e-10)
    assert np.all(whitener[GAMMA == 0] == 0)  # a block never meets another
    assert NOISE.n_data == D


def test_samples_have_the_covariance():
    n = 20_000
    draws = NOISE.sample(n, rng=0)
    error = np.sqrt((GAMMA**2 + np.outer(np.diag(GAMMA), np.diag(GAMMA))) / n)
    assert np.all(np.abs(draws.T @ draws / n - GAMMA) < 5 * error)  # the largest of 3600


@pytest.mark.parametrize("shape", [(D,), (3, D), (2, 3, D)])
def test_other_namespaces_and_dtypes(shape):
    noise = ek.BlockNoise(
        {k: v for k, v in NOISE.blocks.items() if k != "own"}, sizes=[2] + 7 * [None]
    )
    r = np.random.default_rng(1).normal(size=(*shape[:-1], D - 2))
    white, gradient = noise.whiten(r), noise.gradient(r, np.zeros(D - 2))
    strict = array_api_strict.asarray(r)
    np.testing.assert_allclose(np.asarray(noise.whiten(strict)), white, rtol=1e-10, atol=1e-12)
    found = noise.gradient(strict, array_api_strict.zeros(D - 2))
    np.testing.assert_allclose(np.asarray(found), gradient, rtol=1e-10, atol=1e-12)
    single = noise.whiten(r.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, white, rtol=1e-3, atol=1e-4)


def test_torch_arrays_stay_torch_arrays():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    white = NOISE.whiten(torch.asarray(Z))
    assert isinstance(white, torch.Tensor)
    np.testing.assert_allclose(white.numpy(), NOISE.whiten(Z), rtol=1e-10, atol=1e-12)


def test_a_failed_row_stays_a_failed_row():
    r = np.ones((2, D))
    r[0] = np.nan
    white = NOISE.whiten(r)
    assert np.all(np.isnan(white[0]))
    assert np.all(np.isfinite(white[1]))


def test_the_kalman_update_is_that_of_the_dense_matrix():
    rng = np.random.default_rng(0)
    u, g = rng.normal(size=(12, 3)), rng.normal(size=(12, D))
    expected = ek.kalman_update(u, g, Y, GAMMA)
    np.testing.assert_allclose(ek.kalman_update(u, g, Y, NOISE), expected, rtol=1e-9)


def test_blocks_have_names():
    assert NOISE.names[:3] == ("one", "dense", "low")
    assert NOISE.sizes[:3] == (2, 3, 3)
    assert NOISE["one"].cov == 0.5
    assert ek.BlockNoise([0.1, 0.2], sizes=[1, 1])[1].cov == 0.2
    with pytest.raises(KeyError, match=r"name: must be one of 'one', .* got 'two'"):
        NOISE["two"]
    assert repr(ek.BlockNoise({"a": [0.1]})) == "BlockNoise(a: 1)"
    assert repr(ek.BlockNoise(np.ones((30, 2, 2)) + np.eye(2))).endswith("7: 2, and 22 more)")


def test_pickles_and_fingerprints():
    again = pickle.loads(pickle.dumps(NOISE))
    np.testing.assert_array_equal(again.whiten(Z), NOISE.whiten(Z))
    assert again.fingerprint() == NOISE.fingerprint()
    prints = {
        ek.BlockNoise([0.1, 0.2], sizes=sizes).fingerprint() for sizes in ([1, 2], [2, 1], [2, 2])
    }
    prints |= {ek.BlockNoise([0.2, 0.1], sizes=[1, 2]).fingerprint(), NOISE.fingerprint()}
    assert len(prints) == 5


# ---------------------------------------------------------------------------------- simplest form


def test_blocks_with_variances_are_one_diagonal_noise():
    blocks, sizes = [0.5, [1.0, 2.0], ek.BlockNoise([0.1], sizes=[2])], [2, 2, 2]
    simple = ek.GaussianNoise([0.5, 0.5, 1.0, 2.0, 0.1, 0.1])
    for noise in (joined(blocks, sizes), ek.BlockNoise(blocks, sizes=sizes)):
        assert isinstance(form_of(noise, "whiten"), Diagonal)  # the fast path of the analysis
        np.testing.assert_array_equal(noise.scale, simple.scale)
        rng = np.random.default_rng(0)
        u, g = rng.normal(size=(5, 2)), rng.normal(size=(5, 6))
        np.testing.assert_array_equal(
            ek.kalman_update(u, g, g[0], noise), ek.kalman_update(u, g, g[0], simple)
        )
    assert isinstance(joined(blocks, sizes), ek.GaussianNoise)


def test_equal_scalars_are_one_scalar_and_other_blocks_stay_blocks():
    assert joined([0.5, ek.GaussianNoise(0.5)], [2, 1]).cov == 0.5
    assert joined({"a": 0.5, "b": [0.5]}, {"a": 2}).cov.tolist() == [0.5, 0.5, 0.5]
    dense = ek.GaussianNoise(spd(0, 3))
    assert joined([dense]) is dense
    found = joined({"a": dense, "b": 1.0}, {"b": 2})
    assert isinstance(found, ek.BlockNoise)
    assert found.names == ("a", "b")


def test_noise_of_ones_own_is_never_taken_for_variances():
    class Loud(ek.GaussianNoise):
        def whiten(self, r):
            return super().whiten(r) / 2

    for own in (Loud(1.0), Own(4.0)):
        noise = joined([own, 1.0], [2, 2])
        assert isinstance(noise, ek.BlockNoise)
        np.testing.assert_allclose(noise.whiten(np.ones(4)), [0.5, 0.5, 1.0, 1.0])


# ------------------------------------------------------------------------------- many small blocks


def test_many_small_blocks_never_become_a_matrix():
    count, k, n = 3000, 3, 10
    root = np.random.default_rng(0).normal(size=(count, k, k))
    gamma = root @ root.transpose(0, 2, 1) + np.eye(k)
    noise = ek.BlockNoise(gamma)
    r = np.random.default_rng(1).normal(size=(n, count * k))
    tracemalloc.start()
    misfit = noise.misfit(r, np.zeros(count * k))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * r.nbytes  # a d x d matrix would have 900 times as many bytes
    parts = r.reshape(n, count, k, 1)
    expected = 0.5 * (parts * np.linalg.solve(gamma, parts)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(misfit, expected, rtol=1e-11)


@pytest.mark.parametrize("condition", [1e4, 1e8, 1e12])
def test_ill_conditioned_small_blocks_are_as_exact_as_alone(condition):
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.normal(size=(6, 4, 4)))[0]
    gamma = (q * np.geomspace(1, 1 / condition, 4)) @ q.transpose(0, 2, 1)
    gamma = (gamma + gamma.transpose(0, 2, 1)) / 2
    noise = ek.BlockNoise(gamma)
    r = noise.sample(3, rng=0)
    alone = [noise[b].whiten(r[:, 4 * b : 4 * b + 4]) for b in range(6)]
    limit = 100 * np.finfo(float).eps * np.sqrt(condition)
    np.testing.assert_allclose(noise.whiten(r), np.concatenate(alone, axis=1), atol=limit)


# ------------------------------------------------------------------------------------ missing data


def test_the_marginal_is_the_gaussian_of_the_submatrix():
    kept = np.random.default_rng(3).random(D) > 0.4
    own = slice(13, 15)
    kept[own] = True  # has no marginal
    kept[:2] = False  # a block without data
    for each in (kept, np.flatnonzero(kept)):
        marginal = NOISE.marginal(each)
        sub = GAMMA[np.ix_(kept, kept)]
        expected = log_normal(Z[:, kept], Y[kept], sub)
        np.testing.assert_allclose(marginal.misfit(Z[:, kept], Y[kept]), expected, rtol=1e-10)
        assert marginal.names == NOISE.names[1:]
        assert marginal["own"] is NOISE["own"]


def test_bad_masks_are_named():
    with pytest.raises(TypeError, match="kept: must keep all 2 data of block 'own', whose noise O"):
        NOISE.marginal(np.arange(14))
    with pytest.raises(ValueError, match="kept: indices must keep the order of the blocks"):
        NOISE.marginal([4, 0])
    with pytest.raises(ValueError, match=f"kept: a mask must have d = {D} entries"):
        NOISE.marginal([True])
    np.testing.assert_allclose(NOISE.marginal([4, 2]).sd, NOISE.sd[[4, 2]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (({},), ValueError, "blocks: must not be empty"),
        ((0.5,), TypeError, r"blocks: must be a mapping .* got float. Pass \[noise\]"),
        ((ek.GaussianNoise(1.0),), TypeError, "blocks: must be a mapping .* got GaussianNoise"),
        (({"a": 0.5},), ValueError, r"sizes: must have the number .* block 'a', .* sizes=\{'a'"),
        (({"a": -1.0}, [2]), ValueError, r"blocks\['a'\]: variances must be positive"),
        (([None], [2]), TypeError, r"blocks\[0\]: must be given"),
        (([ek.Huber(1.0)], [2]), TypeError, r"blocks\[0\]: must be an array"),
        (({"a": 1.0}, [2, 3]), ValueError, "sizes: must have 1 entries, got 2"),
        (({"a": 1.0}, {"b": 2}), ValueError, "sizes: must name blocks, got 'b'"),
        (({"a": 1.0}, {"a": 0}), ValueError, r"sizes\['a'\]: must be at least 1, got 0"),
        (({"a": [1.0]}, {"a": 2}), ValueError, r"sizes\['a'\]: must be 1, the size of its noise"),
    ],
)
def test_bad_blocks_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        ek.BlockNoise(*arguments)
