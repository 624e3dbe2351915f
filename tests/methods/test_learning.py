"""Learning from end to end: small networks, small data, no derivative of the network."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from zoo.networks import Network, step

import ekitools as ek

EPOCH = 2

SINE = {
    "EKI": ek.LossEKI(ek.NormStep(2.0, 0.5)),
    "EKI(R)": ek.LossEKI(
        ek.NormStep(2.0, 0.5), spread=ek.Spread(1.0, every=15 * EPOCH, decay=0.02)
    ),
    "MEKI(R)": ek.Nesterov(ek.LossEKI(ek.NormStep(1.0, 0.5), spread=ek.Spread(0.3, decay=0.02))),
    "curvature": ek.CurvatureEKI(damping=0.01),
}


def predicted(network, u, x):
    return network(np.asarray(u)[None], x)[0]


@pytest.mark.parametrize("name", SINE)
def test_a_sine(name):
    x = np.linspace(-3, 3, 60)[:, None]
    network = Network((1, 20, 1), np.tanh)
    data = ek.MiniBatches(x, np.sin(x), 30)
    assert data.steps_per_epoch == EPOCH
    problem = ek.InverseProblem(network, network.prior(), 0.01, data)
    result = ek.run(problem, SINE[name], n_members=100, n_steps=300, store="last", rng=0)
    mean = result.u[-1].mean("member")
    between = np.linspace(-2.9, 2.9, 31)[:, None]  # points that were not seen
    error = predicted(network, mean, between) - np.sin(between[:, 0])
    assert np.sqrt(np.mean(error**2)) < 0.05  # the sine's own is 0.7


@pytest.mark.parametrize(
    "method",
    [ek.LossEKI(ek.NormStep(2.0, 0.5)), ek.LossEKI(ek.NormStep(3.0, 0.5), spread=ek.Spread(0.3))],
    ids=["plain", "redrawn"],
)
@pytest.mark.parametrize("seed", range(3))
def test_exclusive_or_with_step_activations(method, seed):
    """No derivative there is would help: it is zero wherever it exists."""
    x, labels = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    network = Network((2, 6, 2), step)
    problem = ek.InverseProblem(
        network, network.prior(2.0), ek.CrossEntropy(2), ek.MiniBatches(x, np.eye(2)[labels], 4)
    )
    result = ek.run(problem, method, n_members=200, n_steps=100, store="last", rng=seed)
    for u in (result.u[-1].mean("member"), ek.best_member(result)):
        found = predicted(network, u, x).reshape(4, 2).argmax(axis=1)
        np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize(
    ("method", "n_epochs"),
    [
        (ek.LossEKI(ek.NormStep(10.0, 0.5), ek.Spread(0.3, decay=0.02)), 14),
        (ek.Nesterov(ek.LossEKI(ek.NormStep(2.0, 0.5), ek.Spread(0.3, decay=0.02))), 14),
        (ek.CurvatureEKI(), 7),
    ],
    ids=["EKI(R)", "MEKI(R)", "curvature"],
)
def test_digits(method, n_epochs):
    """64-32-10 on 1400 of scikit-learn's digits, tested on the other 397."""
    x, labels = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1400], order[1400:]
    network = Network((64, 32, 10))
    data = ek.MiniBatches(x[train], np.eye(10)[labels[train]], 200)
    problem = ek.InverseProblem(network, network.prior(), ek.CrossEntropy(10), data)
    start = network.prior().sample(400, rng=1).astype(np.float32)
    result = ek.run(problem, method, ensemble=start, n_steps=n_epochs * 7, store="final", rng=0)
    assert result.u.dtype == np.float32
    for u in (result.u[-1].mean("member"), ek.best_member(result)):
        classes = predicted(network, u, x[test]).reshape(-1, 10).argmax(axis=1)
        assert np.mean(classes == labels[test]) > 0.93


@pytest.mark.parametrize(
    "method",
    [
        ek.EKI(ek.FixedStep(1.0), t_end=None),
        ek.LossEKI(ek.NormStep(1.0, 0.5)),
    ],
    ids=["EKI", "LossEKI"],
)
def test_an_autoregression_online(method):
    """One datum at a time, once, against least squares on the whole series."""
    rng = np.random.default_rng(0)
    series = [0.0, 0.0]
    for noise in 0.1 * rng.standard_normal(400):
        series.append(1.2 * series[-1] - 0.5 * series[-2] + noise)
    s = np.array(series)
    x, y = np.stack([s[1:-1], s[:-2]], axis=1), s[2:]
    exact = np.linalg.lstsq(x, y, rcond=None)[0]
    errors = 0.1 * np.sqrt(np.diag(np.linalg.inv(x.T @ x)))
    model = ek.FunctionModel(lambda u, inputs: u @ inputs.T, vectorized=True, takes_inputs=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior([0.0, 0.0], 1.0), 0.01, ek.OnlineData(x, y))
    result = ek.run(problem, method, n_members=100, store="last", rng=0)
    assert result.attrs["status_code"] == "stream_ended"
    assert np.all(np.abs(result.u[-1].mean("member") - exact) < 2 * errors)


@pytest.mark.parametrize(
    "method",
    [
        ek.LossEKI(ek.NormStep(0.5)),
        ek.Nesterov(ek.LossEKI(ek.NormStep(0.5), ek.Spread(0.2, every=2), ((3, 12),))),
        ek.CurvatureEKI(memory=2, averaging=0.5),
    ],
    ids=["plain", "momentum", "curvature"],
)
@pytest.mark.parametrize("store", ["all", "final"])
def test_a_torch_ensemble_learns_as_a_numpy_one_does(method, store):
    torch = pytest.importorskip("torch")

    def line(u, inputs):
        x = torch.as_tensor(inputs) if isinstance(u, torch.Tensor) else inputs
        return u[:, :1] + u[:, 1:] * x

    x = np.linspace(-1, 1, 12)
    problem = ek.InverseProblem(
        ek.FunctionModel(line, vectorized=True, takes_inputs=True),
        ek.GaussianPrior([0.0, 0.0], 1.0),
        ek.BinaryCrossEntropy(),
        ek.MiniBatches(x, x > 0.3, 4),
    )
    start = problem.prior.sample(8, rng=0)
    options = {"n_steps": 6, "rng": 0, "store": store}
    ours = ek.run(problem, method, ensemble=start, **options)
    theirs = ek.run(problem, method, ensemble=torch.as_tensor(start), **options)
    np.testing.assert_allclose(theirs.u[-1], ours.u[-1], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(start, problem.prior.sample(8, rng=0))
