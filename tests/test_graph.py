"""Fields on graphs against dense algebra and graphs whose spectrum is known; the experiment."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial.distance import cdist

import ekitools as ek


def ring(n):
    """L = D − W of n nodes in a ring."""
    ahead = sparse.csr_array((np.ones(n), (np.arange(n), (np.arange(n) + 1) % n)), shape=(n, n))
    return csgraph.laplacian(ahead + ahead.T)


def path(n):
    """L = D − W of n nodes in a row."""
    return sparse.diags_array(
        [-np.ones(n - 1), np.r_[1, np.full(n - 2, 2.0), 1], -np.ones(n - 1)], offsets=[-1, 0, 1]
    )


def weights_by_hand(points, k):
    """Self-tuning weights from all the distances."""
    distance = cdist(points, points)
    scale = np.sort(distance, axis=1)[:, k]
    near = distance <= scale[:, None]
    weights = np.exp(-(distance**2) / np.outer(scale, scale)) * (near | near.T)
    np.fill_diagonal(weights, 0)
    return weights


def test_the_laplacian_is_the_dense_formula():
    points = np.random.default_rng(0).normal(size=(60, 3))
    W = weights_by_hand(points, 5)
    root = 1 / np.sqrt(W.sum(axis=1))
    dense = np.eye(60) - root[:, None] * W * root
    L = ek.graph_laplacian(points, n_neighbours=5)
    assert sparse.issparse(L)
    np.testing.assert_allclose(L.toarray(), dense, atol=1e-12)
    # units of the features do not matter
    scaled = ek.graph_laplacian(1e3 * points, n_neighbours=5)
    np.testing.assert_allclose(scaled.toarray(), dense, atol=1e-12)


def test_copies_of_a_point_are_joined_and_not_to_themselves():
    points = [[0.0], [0.0], [1.0], [2.0], [3.5]]
    L = ek.graph_laplacian(points, n_neighbours=2).toarray()
    W = weights_by_hand(np.array(points), 2)
    root = 1 / np.sqrt(W.sum(axis=1))
    np.testing.assert_allclose(L, np.eye(5) - root[:, None] * W * root, atol=1e-12)


@pytest.mark.parametrize("n", [12, 1000], ids=["dense", "Lanczos"])
def test_eigenvalues_of_path_and_ring(n):
    """2 − 2 cos(πk/n) of a path; those of a ring come in pairs."""
    k = np.arange(7)
    field = ek.GraphField(path(n), n_modes=7)
    np.testing.assert_allclose(field.eigenvalues, 2 - 2 * np.cos(np.pi * k / n), atol=1e-12)
    nodes = np.arange(n) + 0.5
    for i in range(7):  # and the eigenvectors of a path are cosines
        cosine = np.cos(np.pi * i * nodes / n)
        vector = field.basis[:, i] / field.scales[i]
        cosine /= np.linalg.norm(cosine)
        assert abs(cosine @ vector) == pytest.approx(1, abs=1e-9)
    pairs = 2 - 2 * np.cos(2 * np.pi * ((k + 1) // 2) / n)
    np.testing.assert_allclose(ek.GraphField(ring(n), n_modes=7).eigenvalues, pairs, atol=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 2.5])
def test_the_covariance_is_the_dense_inverse_power(alpha):
    n, tau, sd = 40, 0.3, 1.7
    L = ek.graph_laplacian(np.random.default_rng(1).normal(size=(n, 2)), n_neighbours=6)
    values, vectors = np.linalg.eigh(L.toarray() + tau**2 * np.eye(n))
    dense = (vectors * values**-alpha) @ vectors.T
    if alpha == 1:
        np.testing.assert_allclose(dense, np.linalg.inv(L.toarray() + tau**2 * np.eye(n)))
    field = ek.GraphField(L, alpha=alpha, tau=tau, sd=sd, n_modes=n)
    expected = sd**2 * n * dense / np.trace(dense)
    np.testing.assert_allclose(field.basis @ field.basis.T, expected, atol=1e-10)
    draws = field.field(field.sample(50_000, rng=0))
    error = np.sqrt((expected**2 + np.outer(np.diag(expected), np.diag(expected))) / 50_000)
    assert np.all(np.abs(np.cov(draws.T) - expected) < 5 * error)


def test_many_nodes_have_the_field_of_dense_algebra():
    """Lanczos against all eigenvectors: the covariance does not depend on the basis."""
    points = np.random.default_rng(2).normal(size=(900, 2))
    points[450:] += 12  # two components: λ = 0 twice
    L = ek.graph_laplacian(points, n_neighbours=8)
    components = csgraph.connected_components(L)[0]
    assert components >= 2
    values, vectors = np.linalg.eigh(L.toarray())
    field = ek.GraphField(L, n_modes=20)
    assert np.sum(field.eigenvalues < 1e-10) == components
    np.testing.assert_allclose(field.eigenvalues, values[:20], atol=1e-10)
    scaled = vectors[:, :20] * (values[:20] + 0.01) ** -0.5
    dense = scaled @ scaled.T
    np.testing.assert_allclose(
        field.basis @ field.basis.T, 900 * dense / np.trace(dense), atol=1e-6
    )
    assert np.mean(np.sum(field.basis**2, axis=1)) == pytest.approx(1)


def test_the_same_graph_gives_the_same_field():
    L = ek.graph_laplacian(np.random.default_rng(3).normal(size=(700, 3)))
    a, b = (ek.GraphField(graph, n_modes=5, mean=2.0) for graph in (L, L.tocoo()))
    np.testing.assert_array_equal(a.basis, b.basis)
    assert a.fingerprint() == b.fingerprint()
    assert a.fingerprint() != ek.GraphField(L, n_modes=5).fingerprint()
    assert a.fingerprint() != ek.GraphField(2 * L, n_modes=5, mean=2.0).fingerprint()
    np.testing.assert_allclose(a.field(np.zeros((2, 5))), 2.0)
    assert repr(a) == "GraphField(n=700, p=5)"
    with pytest.raises(ValueError, match=r"u: last axis must have p = 5 entries"):
        a.field(np.zeros(4))


def test_the_ensemble_has_the_kriging_posterior():
    """EKI on labels against the formula in the space of the nodes, with the dense covariance."""
    points = np.random.default_rng(4).normal(size=(50, 2))
    L = ek.graph_laplacian(points, n_neighbours=6)
    field = ek.GraphField(L, tau=0.5, n_modes=50)
    dense = np.linalg.inv(L.toarray() + 0.25 * np.eye(50))
    dense *= 50 / np.trace(dense)
    nodes, labels = np.array([0, 7, 21]), np.array([1.0, -1.0, 1.0])
    gain = np.linalg.solve(dense[np.ix_(nodes, nodes)] + 0.1 * np.eye(3), dense[nodes]).T
    mean, sd = gain @ labels, np.sqrt(np.diag(dense - gain @ dense[nodes]))
    problem = ek.InverseProblem(ek.LinearModel(field.basis[nodes]), field, 0.1, labels)
    n = 4000
    result = ek.run(problem, ek.EKI(), n_members=n, rng=0)
    found = field.field(result.u[-1].values)
    # sampling error of a mean is sd/√J; the gains are estimated too, which about doubles it
    assert np.all(np.abs(found.mean(axis=0) - mean) < 5 * 2 / np.sqrt(n))
    np.testing.assert_allclose(found.std(axis=0), sd, rtol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": [1.0, 2.0]}, "points: must have 2 dimensions"),
        ({"points": [[1.0], [np.nan]]}, "points: must be finite"),
        ({"n_neighbours": 0}, "n_neighbours: must be in 1 ... n - 1 = 3, got 0"),
        ({"n_neighbours": 4}, "n_neighbours: must be in 1 ... n - 1 = 3, got 4"),
        ({"points": [[0.0], [0.0], [0.0], [1.0]]}, "points: must have less than 3 copies of each"),
    ],
)
def test_bad_points_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ek.graph_laplacian(**({"points": [[0.0], [1], [2], [3]], "n_neighbours": 2} | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "alpha: must be positive and finite, got 0.0"),
        ({"tau": 0.0}, "tau: must be positive and finite"),
        ({"sd": np.inf}, "sd: must be positive and finite"),
        ({"mean": np.nan}, "mean: must be finite"),
        ({"n_modes": 0}, r"n_modes: must be in 1 ... n = 9, the nodes, got 0"),
        ({"n_modes": 10}, r"n_modes: must be in 1 ... n = 9"),
        ({"laplacian": np.ones((2, 3))}, "laplacian: must be a square matrix"),
        ({"laplacian": [[1.0, np.inf], [np.inf, 1.0]]}, "laplacian: must be finite"),
        (
            {"laplacian": sparse.csr_array([[1.0, np.nan], [np.nan, 1.0]])},
            "laplacian: must be finite",
        ),
        ({"laplacian": [[1.0, -1.0], [0.0, 0.0]]}, "laplacian: must be symmetric"),
        ({"laplacian": [[0.0, 1.0], [1.0, 0.0]]}, "laplacian: must have no negative eigenvalue"),
    ],
)
def test_bad_fields_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ek.GraphField(**({"laplacian": path(9)} | options))


def test_counts_are_integers():
    with pytest.raises(TypeError, match=r"n_modes: must be an integer, got 2\.5"):
        ek.GraphField(path(9), n_modes=2.5)
    with pytest.raises(TypeError, match="n_neighbours: must be an integer, got True"):
        ek.graph_laplacian(np.eye(3), n_neighbours=True)
