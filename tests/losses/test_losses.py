"""Losses: gradients by differences, special cases that are known, and where they may stand."""

import array_api_strict
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import ekitools as ek

K, M = 3, 4
ONE_HOT = np.eye(K)[[0, 2, 1, 2]].ravel()


def quartic():
    return ek.FunctionLoss(lambda z, y: ((z - y) ** 4).sum(axis=-1) / 4, lambda z, y: (z - y) ** 3)


CASES = {
    "least squares": (ek.GaussianNoise(np.linspace(0.5, 2, K * M)), "line", ONE_HOT),
    "function": (quartic(), "line", ONE_HOT),
    "huber": (ek.Huber(0.5, delta=0.8), "line", ONE_HOT),
    "logits": (ek.CrossEntropy(K), "line", ONE_HOT),
    "probabilities": (ek.CrossEntropy(K, logits=False), "unit", ONE_HOT),
    "binary logits": (ek.BinaryCrossEntropy(), "line", ONE_HOT),
    "binary": (ek.BinaryCrossEntropy(logits=False), "unit", ONE_HOT),
    "scales": (
        ek.problems.lynx_hare(sigma=None).problem.noise,
        "line",
        np.append(np.linspace(-1, 1, K * M - 2), [0.0, 0.0]),
    ),
}


def outputs(domain, seed=0, n=5):
    rng = np.random.default_rng(seed)
    if domain == "unit":
        return rng.uniform(0.1, 0.9, size=(n, K * M))
    return rng.normal(size=(n, K * M))


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_gradient_is_that_of_the_misfit(name, seed):
    loss, domain, y = CASES[name]
    z = outputs(domain, seed)
    h = 1e-6
    shifts = h * np.eye(K * M)
    difference = np.stack(
        [(loss.misfit(z + s, y) - loss.misfit(z - s, y)) / (2 * h) for s in shifts], axis=1
    )
    # the kink of Huber's gradient makes an error of order h there
    np.testing.assert_allclose(loss.gradient(z, y), difference, rtol=1e-5, atol=2e-5)


CURVED = [name for name, (loss, *_) in CASES.items() if hasattr(loss, "curvature_product")]


@pytest.mark.parametrize("name", CURVED)
@pytest.mark.parametrize("seed", range(3))
def test_products_with_the_curvature_are_differences_of_the_gradient(name, seed):
    loss, domain, y = CASES[name]
    z, f = outputs(domain, seed)[0], outputs("line", seed + 10)
    h = 1e-6
    difference = (loss.gradient(z + h * f, y) - loss.gradient(z - h * f, y)) / (2 * h)
    product = loss.curvature_product(z, y, f)
    np.testing.assert_allclose(product, difference, rtol=1e-5, atol=1e-4)
    strict = (array_api_strict.asarray(a) for a in (z, y, f))
    np.testing.assert_allclose(np.asarray(loss.curvature_product(*strict)), product, rtol=1e-12)


def test_most_losses_know_their_curvature():
    assert {"least squares", "huber", "logits", "probabilities", "binary"} <= set(CURVED)


def test_the_curvature_of_weighted_classes_counts_the_weights():
    loss, y = ek.CrossEntropy(2), np.array([2.0, 1.0])
    f = np.array([[1.0, 0.0]])
    np.testing.assert_allclose(loss.curvature_product(np.zeros(2), y, f), [[0.75, -0.75]])


@pytest.mark.parametrize("name", CASES)
def test_rows_do_not_mix_and_inputs_stay(name):
    loss, domain, y = CASES[name]
    z = outputs(domain)
    before = z.copy()
    assert loss.misfit(z, y).shape == (5,)
    for i, row in enumerate(z):
        np.testing.assert_allclose(loss.misfit(row, y), loss.misfit(z, y)[i], rtol=1e-12)
        np.testing.assert_allclose(loss.gradient(row, y), loss.gradient(z, y)[i], rtol=1e-12)
    np.testing.assert_array_equal(z, before)


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("function", "scales")])
def test_any_array_kind_and_dtype(name):
    loss, domain, y = CASES[name]
    z = outputs(domain)
    strict = array_api_strict.asarray(z)
    for method in ("misfit", "gradient"):
        expected = getattr(loss, method)(z, y)
        found = getattr(loss, method)(strict, y)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12)
        single = getattr(loss, method)(z.astype(np.float32), y)
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("k", [2, 3, 12])
@pytest.mark.parametrize("together", [True, False])
def test_cross_entropy_of_members_in_blocks_and_of_one_sample(k, together, monkeypatch):
    monkeypatch.setattr("ekitools.losses.base._BLOCK_BYTES", 250)  # two members of 12 numbers
    loss, rng = ek.CrossEntropy(k), np.random.default_rng(0)
    z, f = 30 * rng.normal(size=(2, 5, 12)) if together else 30 * rng.normal(size=(2, 5, k))
    y = np.eye(k)[rng.integers(k, size=z.shape[1] // k)]
    kept = z.copy(), f.copy()
    p = scipy.special.softmax(z.reshape(5, -1, k), -1)
    log_p = scipy.special.log_softmax(z.reshape(5, -1, k), -1)
    np.testing.assert_allclose(loss.misfit(z, y.ravel()), -(y * log_p).sum((1, 2)), rtol=1e-12)
    np.testing.assert_allclose(loss.gradient(z, y.ravel()), (p - y).reshape(5, -1), atol=1e-14)
    many = f.reshape(5, -1, k)
    for at, share in ((z, p), (z[0], p[0])):
        product = share * many - share * (share * many).sum(-1, keepdims=True)
        found = loss.curvature_product(at, y.ravel(), f)
        np.testing.assert_allclose(found, product.reshape(5, -1), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(z, kept[0])
    np.testing.assert_array_equal(f, kept[1])


def test_against_scipy():
    z = outputs("line")
    rows, targets = z.reshape(5, M, K), ONE_HOT.reshape(M, K)
    log_p = scipy.special.log_softmax(rows, axis=-1)
    np.testing.assert_allclose(
        ek.CrossEntropy(K).misfit(z, ONE_HOT), -(targets * log_p).sum(axis=(1, 2)), rtol=1e-12
    )
    np.testing.assert_allclose(
        ek.CrossEntropy(K).gradient(z, ONE_HOT),
        (np.exp(log_p) - targets).reshape(5, -1),
        atol=1e-14,
    )
    np.testing.assert_allclose(
        ek.CrossEntropy(K, logits=False).misfit(np.exp(log_p).reshape(5, -1), ONE_HOT),
        ek.CrossEntropy(K).misfit(z, ONE_HOT),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        ek.Huber(0.5, delta=0.8).misfit(z, ONE_HOT),
        scipy.special.huber(0.8, (z - ONE_HOT) / 0.5).sum(axis=1),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        ek.BinaryCrossEntropy().misfit(z, ONE_HOT),
        -(ONE_HOT * scipy.special.log_expit(z) + (1 - ONE_HOT) * scipy.special.log_expit(-z)).sum(
            axis=1
        ),
        rtol=1e-12,
    )


def test_huber_with_a_large_delta_is_least_squares():
    z = outputs("line")
    huber, plain = ek.Huber(0.5, delta=1e3), ek.GaussianNoise(0.25)
    np.testing.assert_allclose(huber.misfit(z, ONE_HOT), plain.misfit(z, ONE_HOT), rtol=1e-12)
    np.testing.assert_allclose(huber.gradient(z, ONE_HOT), plain.gradient(z, ONE_HOT), rtol=1e-12)


@pytest.mark.parametrize("loss", [ek.CrossEntropy(2), ek.BinaryCrossEntropy()])
def test_logits_of_any_size_are_safe(loss):
    z, y = np.array([[1e4, -1e4], [-1e4, 1e4]]), np.array([1.0, 0.0])
    assert np.isfinite(loss.misfit(z, y)).all()
    assert loss.misfit(z, y)[0] == 0
    assert np.isfinite(loss.gradient(z, y)).all()


@pytest.mark.parametrize(
    "loss", [ek.CrossEntropy(2, logits=False), ek.BinaryCrossEntropy(logits=False)]
)
def test_a_probability_of_zero_costs_a_finite_amount(loss):
    z, y = np.array([[0.0, 1.0]]), np.array([1.0, 0.0])
    assert np.isfinite(loss.misfit(z, y)).all()
    assert loss.misfit(z, y)[0] > 27
    assert np.isfinite(loss.gradient(z, y)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_on_probabilities_is_minus_y_over_z_down_to_the_floor(dtype):
    loss = ek.CrossEntropy(2, logits=False)
    y = np.array([0.25, 0.75, 1.0, 0.0, 0.0, 1.0], dtype)
    z = np.array([[0.5, 0.5, 0.0, 1.0, 1.0, -0.1]], dtype)
    expected = [[-0.5, -1.5, -1e12, 0.0, 0.0, -1e12]]
    np.testing.assert_allclose(loss.gradient(z, y), expected, rtol=1e-6)
    assert float(loss.misfit(z, y)[0]) == pytest.approx(np.log(2) + 2 * np.log(1e12), rel=1e-6)
    assert np.isfinite(loss.curvature_product(z[0], y, z)).all()


def test_members_that_say_zero_do_not_end_a_run():
    """A softmax in single precision is exactly 0 for logits 200 below the largest."""

    def probabilities(u):
        z = 200 * np.stack([u[:, 0], np.zeros(len(u)), u[:, 1], np.zeros(len(u))], axis=1)
        return scipy.special.softmax(z.reshape(-1, 2, 2).astype(np.float32), -1).reshape(-1, 4)

    target = ek.InverseProblem(
        ek.FunctionModel(probabilities, vectorized=True),
        ek.GaussianPrior(np.float32([1.0, -1.0]), 1.0),
        ek.CrossEntropy(2, logits=False),
        [0.0, 1.0, 1.0, 0.0],
    )
    method = ek.LossEKI(ek.NormStep(1.0), ek.Spread(0.3))
    result = ek.run(target, method, n_members=50, n_steps=30, rng=0)
    assert bool((result.g[0] == 0).any())
    assert result.attrs["status_code"] == "budget_spent"
    assert result.misfit[-1].mean() < 0.3 * result.misfit[0].mean()


def problem(loss, data):
    model = ek.LinearModel(np.random.default_rng(0).normal(size=(len(data), 2)))
    return ek.InverseProblem(model, ek.GaussianPrior(np.zeros(2), 1.0), loss, data)


def test_a_flow_under_huber_ignores_an_outlier():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(30, 2))
    truth = np.array([1.0, -1.0])
    data = A @ truth + 0.05 * rng.normal(size=30)
    data[::6] += 20.0
    found = []
    for loss in (ek.Huber(0.05), 0.05**2):
        target = ek.InverseProblem(
            ek.LinearModel(A), ek.GaussianPrior(np.zeros(2), 1.0), loss, data
        )
        result = ek.integrate(
            target, ek.EKIFlow(), t_span=(0, 50), n_members=10, rng=0, method="LSODA"
        )
        found.append(np.linalg.norm(result.u[-1].mean("member") - truth))
    assert found[0] < 0.05
    assert found[1] > 10 * found[0]


def test_a_flow_classifies_by_cross_entropy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2))
    labels = (x @ [1.0, -2.0] > 0.3).astype(int)

    def logits(U):
        weights, bias = U[:, :4].reshape(-1, 2, 2), U[:, 4:]
        return (x @ weights + bias[:, None, :]).reshape(len(U), -1)

    target = ek.InverseProblem(
        ek.FunctionModel(logits, vectorized=True),
        ek.GaussianPrior(np.zeros(6), 1.0),
        ek.CrossEntropy(2),
        np.eye(2)[labels].ravel(),
    )
    result = ek.integrate(target, ek.EKIFlow(), t_span=(0, 30), n_members=20, rng=0, rtol=1e-4)
    mean = result.u[-1].mean("member").values[None]
    assert np.mean(logits(mean).reshape(-1, 2).argmax(1) == labels) >= 0.95


def test_smc_samples_under_a_loss():
    """The same posterior as under Gaussian noise, written as a loss."""
    noise = ek.GaussianNoise(0.5)
    data = [1.0, -0.5, 2.0]
    same = problem(ek.FunctionLoss(noise.misfit, noise.gradient), data)
    results = [
        ek.run(p, ek.TemperedSMC(), n_members=200, rng=0) for p in (problem(0.5, data), same)
    ]
    np.testing.assert_array_equal(results[0].u, results[1].u)
    assert np.isnan(results[1].noise_sd).all()
    assert np.isnan(ek.diagnose(results[1], same).coverage).all()
    assert np.isnan(ek.diagnose(results[1]).attrs["expected_misfit"])


@pytest.mark.parametrize("method", [ek.EKI(), ek.GNKI()])
def test_a_kalman_method_refuses_a_loss_before_any_run(method):
    with pytest.raises(TypeError, match="^noise: must be Gaussian for .*got the loss Huber"):
        ek.run(problem(ek.Huber(1.0), [1.0]), method, n_members=5, rng=0)


def test_a_checkpoint_knows_the_loss(tmp_path):
    target = problem(ek.Huber(1.0), [1.0, 2.0])
    method = ek.TemperedSMC()
    whole = ek.run(target, method, n_members=20, rng=0)
    ek.run(target, method, n_members=20, n_steps=2, rng=0, checkpoint=tmp_path / "run")
    with pytest.raises(ek.CheckpointError, match="noise"):
        ek.resume(tmp_path / "run", problem(ek.Huber(2.0), [1.0, 2.0]))
    resumed = ek.resume(tmp_path / "run", target, n_steps=1000)
    np.testing.assert_array_equal(resumed.u[-1], whole.u[-1])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ek.Huber(0.0), ValueError, "^scale: must be positive and finite, got 0.0"),
        (lambda: ek.Huber(1.0, delta=-1), ValueError, "^delta: must be positive"),
        (lambda: ek.FunctionLoss(1, max), TypeError, "^misfit: must be callable, got int"),
        (
            lambda: ek.FunctionLoss(max, None),
            TypeError,
            "^gradient: must be callable, got NoneType",
        ),
        (lambda: ek.CrossEntropy(1), ValueError, "^n_classes: must be at least 2"),
        (lambda: ek.CrossEntropy(2.0), TypeError, "^n_classes: must be an integer"),
        (
            lambda: problem(ek.CrossEntropy(3), [0.0, 1.0]),
            ValueError,
            "^data: must be rows of n_classes = 3 probabilities, got 2 numbers",
        ),
        (
            lambda: problem(ek.CrossEntropy(2), [0.0, 2.0]),
            ValueError,
            r"^data: must be probabilities within \[0, 1\], got 2. Make labels one-hot",
        ),
        (
            lambda: problem(ek.CrossEntropy(2), [0.0, 1.0, 1.0, 1.0]),
            ValueError,
            "^data: the 2 probabilities of a sample must add up to 1, got 2 for sample 1",
        ),
        (
            lambda: problem(ek.BinaryCrossEntropy(), [-1.0]),
            ValueError,
            r"^data: must be probabilities within \[0, 1\], got -1. Make labels 0 and 1",
        ),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_pictures_of_a_result_under_a_loss():
    import matplotlib.pyplot as plt

    example = ek.problems.lynx_hare(sigma=None)
    result = ek.run(example.problem, ek.TemperedSMC(max_moves=1), n_members=30, rng=0)
    for plot in (ek.plot_misfit, ek.plot_collapse, ek.plot_residual, ek.plot_ensemble):
        plot(result)
    ax = ek.plot_predictive(result, x=example.x, groups=example.groups)
    low, high = (float(f(result.g[-1, :, 0])) for f in (np.min, np.max))
    band = ax.collections[1].get_paths()[0].vertices  # hare, 90 %
    at_start = band[band[:, 0] == 1900, 1]
    assert low - 1e-6 <= at_start.min() <= at_start.max() <= high + 1e-6
    plt.close("all")


def test_unknown_scales_are_the_density_of_the_log_normal_data():
    example = ek.problems.lynx_hare(sigma=None)
    problem = example.problem
    assert problem.parameter_names[-2:] == ("sigma_hare", "sigma_lynx")
    u = np.array([[0.55, 0.028, 0.8, 0.024, 33.9, 5.9, 0.25, 0.4]])
    z = problem.model(u)
    log_density = scipy.stats.norm(z[0, :-2], np.tile([0.25, 0.4], 21)).logpdf(problem.data[:-2])
    expected = -log_density.sum() - 21 * np.log(2 * np.pi)
    np.testing.assert_allclose(problem.noise.misfit(z, problem.data), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("flow", "options", "who"),
    [
        (ek.EKIFlow(), {"discrepancy": 1.0}, "the discrepancy principle"),
        (ek.NaturalGradientFlow(), {}, "the natural gradient flow"),
        (ek.StochasticEKIFlow(), {"step": ek.FixedStep(0.1)}, "EKI with perturbed data"),
    ],
)
def test_what_needs_a_covariance_in_continuous_time_says_so(flow, options, who):
    with pytest.raises(TypeError, match=f"^noise: must be Gaussian for {who}"):
        ek.integrate(problem(ek.Huber(1.0), [1.0, 2.0]), flow, t_span=(0, 1), **options)


@pytest.mark.parametrize(
    ("flow", "options"),
    [
        (ek.NesterovFlow(), {}),
        (ek.GradientFlow(), {}),
        (ek.EKSFlow(), {"step": ek.NormStep(0.3)}),
    ],
)
def test_flows_that_take_any_loss(flow, options):
    target = problem(ek.Huber(0.5), [1.0, 2.0, -1.0])
    result = ek.integrate(target, flow, t_span=(0, 2), n_members=20, rng=0, **options)
    assert result.attrs["status_code"] == "t_end_reached"
    assert result.misfit[-1].mean() < result.misfit[0].mean()
