"""Fields on graphs against dense algebra and graphs whose spectrum is known; the experiment."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, sparse
from scipy.sparse import csgraph
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

import ekitools as ek
from ekitools.datasets import Images
from ekitools.experiments import SCALES, graph_labels, reproduce


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
        ({"n_neighbours": 0}, "n_neighbours: must be from 1 to 3, got 0. There are n = 4 points"),
        ({"n_neighbours": 4}, "n_neighbours: must be from 1 to 3, got 4. There are n = 4 points"),
        ({"points": [[0.0], [0.0], [0.0], [1.0]]}, "points: must have fewer than 3 copies of each"),
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
        ({"n_modes": 0}, "n_modes: must be from 1 to 9, got 0. The graph has 9 nodes"),
        ({"n_modes": 10}, "n_modes: must be from 1 to 9, got 10. The graph has 9 nodes"),
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


def moons(**changes):
    """The moons of the experiment, fewer."""
    return replace(graph_labels.SETTINGS["small"].graphs["two moons"], n_points=400, **changes)


@pytest.fixture
def labelled():
    graph = moons()
    known = graph_labels.labelled(graph)
    nodes = np.random.default_rng(0).choice(400, 40, replace=False)
    return graph, known, nodes


def test_points_are_two_half_circles_with_noise(labelled):
    _, known, _ = labelled
    assert known.points.shape == (400, 100)
    assert known.labels.sum() == 0
    for value, centre in ((1, (0, 0)), (-1, (1, 0.5))):
        moon = known.points[known.labels == value]
        radius = np.hypot(*(moon[:, :2] - centre).T)
        assert np.mean(radius) == pytest.approx(1, abs=0.05)
        assert np.mean(value * (moon[:, 1] - centre[1]) > -0.4) > 0.99
        assert np.var(moon[:, 2:]) == pytest.approx(0.02, rel=0.02)


def test_more_members_come_to_the_closed_form(labelled):
    """The error of EKI on ±1 labels is sampling error: 16 times the members, a quarter of it."""
    graph, known, nodes = labelled
    prior, y = known.prior, known.labels[nodes]
    model = ek.LinearModel(prior.basis[nodes])
    problem = ek.InverseProblem(model, prior, graph.variance, y)
    exact = graph_labels.believed(graph, known, nodes, 100, 0)[graph_labels.CLOSED]
    distances = []
    for n_members in (500, 8000):
        result = ek.run(problem, ek.EKI(), n_members=n_members, rng=0, store="last")
        found = graph_labels.Belief.of(prior, result.u[-1].values)
        distances.append(graph_labels._distance(found, exact))
    few, many = distances
    assert many["mean"] < few["mean"] / 2
    assert many["mean"] < 0.2
    assert many["sd ratio"] == pytest.approx(1, abs=0.02)


def test_the_closed_form_is_kriging(labelled):
    graph, known, nodes = labelled
    covariance = known.prior.basis @ known.prior.basis.T
    inner = covariance[np.ix_(nodes, nodes)] + graph.variance * np.eye(len(nodes))
    gain = np.linalg.solve(inner, covariance[nodes]).T
    variance = np.diag(covariance - gain @ covariance[nodes])
    closed = graph_labels.believed(graph, known, nodes, 100, 0)[graph_labels.CLOSED]
    np.testing.assert_allclose(closed.mean, gain @ known.labels[nodes], atol=1e-8)
    np.testing.assert_allclose(closed.sd**2, variance, atol=1e-8)


def logistic(graph, known, nodes):
    model = ek.LinearModel(graph.slope * known.prior.basis[nodes])
    data = (known.labels[nodes] + 1) / 2
    return ek.InverseProblem(model, known.prior, ek.BinaryCrossEntropy(), data)


@pytest.mark.parametrize("seed", range(5))
def test_curvature_finds_the_maximum_a_posteriori(labelled, seed):
    """Of logistic regression with a Gaussian prior, against BFGS."""
    graph, known, _ = labelled
    nodes = np.random.default_rng(seed).choice(400, 20, replace=False)
    problem = logistic(graph, known, nodes)
    A, y = problem.model.matrix, known.labels[nodes]

    def energy(u):
        return np.sum(np.logaddexp(0, -y * (A @ u))) + 0.5 * u @ u

    def slope(u):
        return u - A.T @ (y / (1 + np.exp(y * (A @ u))))

    exact = optimize.minimize(energy, np.zeros(50), jac=slope, options={"gtol": 1e-8}).x
    found = graph_labels.most_probable(problem, 150, seed)
    np.testing.assert_allclose(found, exact, atol=1e-6)


def test_a_penalised_loss_has_the_derivatives_of_its_differences():
    loss = graph_labels.Penalised(ek.BinaryCrossEntropy(), 2)
    rng = np.random.default_rng(0)
    z, f, y = rng.normal(size=(1, 5)), rng.normal(size=(1, 5)), np.array([1.0, 0.0, 0.5, 0.0, 2.0])
    ahead, behind = (loss.misfit(z + h * f, y)[0] for h in (1e-5, -1e-5))
    assert np.sum(loss.gradient(z, y) * f) == pytest.approx((ahead - behind) / 2e-5, rel=1e-8)
    ahead, behind = (loss.gradient(z + h * f, y) for h in (1e-5, -1e-5))
    np.testing.assert_allclose(
        loss.curvature_product(z, y, f), (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-9
    )


def test_the_sampler_has_the_spread_of_sequential_monte_carlo(labelled):
    """At the nodes, on the logistic problem; 15 % for 200 members at eight times."""
    graph, known, nodes = labelled
    problem = logistic(graph, known, nodes)
    result = ek.run(problem, ek.TemperedSMC(), n_members=2000, rng=0, store="last")
    u = result.u[-1].values
    u = u[np.random.default_rng(0).choice(len(u), len(u), p=result.weight[-1].values)]
    exact = graph_labels.Belief.of(known.prior, u)
    found = graph_labels.Belief.of(known.prior, graph_labels._sampled(problem, 200, 0))
    assert np.sqrt(np.mean(((found.mean - exact.mean) / exact.sd) ** 2)) < 0.25
    assert np.mean(found.sd / exact.sd) == pytest.approx(1, abs=0.15)


def test_beliefs_are_the_moments_of_the_fields(labelled):
    _, known, _ = labelled
    u = known.prior.sample(30, rng=0)
    belief = graph_labels.Belief.of(known.prior, u)
    fields = known.prior.field(u)
    np.testing.assert_allclose(belief.mean, fields.mean(axis=0), atol=1e-10)
    np.testing.assert_allclose(belief.sd, fields.std(axis=0, ddof=1))


def digits_for_tests():
    """scikit-learn's digits in the place of MNIST's, to be read without a download."""
    x, y = load_digits(return_X_y=True)
    x, y = x.reshape(-1, 8, 8), y.astype(np.uint8)
    return Images(x[:1400], y[:1400], x[1400:], y[1400:], tuple("0123456789"))


def test_the_experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(ek.datasets, "mnist", digits_for_tests)
    graphs = {
        "two moons": moons(shares=(0.05, 0.1)),
        "digits": replace(graph_labels.SETTINGS["small"].graphs["MNIST 4/9"], shares=(0.05,)),
    }
    settings = graph_labels.Settings(graphs, seeds=2, n_members=400)
    monkeypatch.setitem(graph_labels.SETTINGS, "small", settings)
    lines = []
    record = reproduce("graph-labels", out=tmp_path, show=lines.append)
    labels = ["two moons, 5 %", "two moons, 10 %", "digits, 5 %"]
    assert list(record["numbers"]) == graph_labels.parts(settings) == labels
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
    text = "\n".join(lines)
    for label, found in record["numbers"].items():
        accuracy = {method: np.mean(each) for method, each in found["accuracy"].items()}
        assert accuracy.keys() == {*graph_labels._STYLES, graph_labels.CLOSED}
        assert f"{100 * accuracy[graph_labels.EKI]:.2f} ± " in text
        # the graph is worth more than the labels alone
        for method in (graph_labels.EKI, graph_labels.SIGN, graph_labels.SAMPLER):
            assert accuracy[method] > accuracy[graph_labels.NEAREST], label
        assert accuracy[graph_labels.EKI] > 0.85
        bins = np.mean(found["by confidence"][graph_labels.EKI], axis=0)
        assert bins[0] < bins[-1]  # unsure nodes are the ones that are wrong
    assert record["numbers"]["digits, 5 %"]["n_labels"] == round(0.05 * 361)


def test_without_scikit_learn_its_baseline_is_left_out(labelled, monkeypatch):
    monkeypatch.setattr(graph_labels, "find_spec", lambda name: None)
    graph, known, nodes = labelled
    beliefs = graph_labels.believed(graph, known, nodes, 100, 0)
    assert graph_labels.SPREADING not in beliefs
    assert graph_labels.NEAREST in beliefs


def test_digits_are_fewer_where_so_many_are_asked_for(monkeypatch):
    monkeypatch.setattr(ek.datasets, "mnist", digits_for_tests)
    graph = graph_labels.Graph((0.1,), digits=(4, 9), n_points=100)
    points, labels = graph_labels._images(graph, (4, 9))
    assert points.shape == (100, 50)
    assert set(labels) == {-1.0, 1.0}
    np.testing.assert_allclose(points.T @ points, np.diag(np.sum(points**2, axis=0)), atol=1e-8)


def test_scales_grow():
    assert tuple(graph_labels.SETTINGS) == SCALES
    seeds = [graph_labels.SETTINGS[scale].seeds for scale in SCALES]
    assert seeds == sorted(seeds)
    assert seeds[0] >= 5
