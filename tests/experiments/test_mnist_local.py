"""Members of every datum against networks that are drawn as a whole, and against derivatives."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from zoo.images import noisy_patterns
from zoo.networks import interrupted

import ekitools as ek
from ekitools.experiments import mnist_local, reproduce
from ekitools.experiments.images import Data

torch = pytest.importorskip("torch", reason="the networks are torch tensors")
local = pytest.importorskip("ekitools.experiments.learning.per_datum")
dense = pytest.importorskip("ekitools.experiments.learning.network")

SIZES, M = (6, 5, 4, 3), 12
SDS = (0.3, 0.4, 0.5)
OPTIONS = mnist_local.Local(
    1, members=20, gamma=1e-3, damping=0.05, prior=0.01, iterations=200, averaging=0.5
)


def network(sizes=SIZES, sds=SDS):
    mean = dense.start(sizes, sds, 0).mean
    generator = torch.Generator().manual_seed(9)
    return [
        layer._replace(biases=0.3 * torch.randn(len(layer.biases), generator=generator))
        for layer in mean
    ]


def batch(n_inputs=SIZES[0], n_classes=SIZES[-1]):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(M, n_inputs, generator=generator)
    return x, torch.randint(n_classes, (M,), generator=generator)


def flat(net):
    return torch.cat([part.flatten() for layer in net for part in layer])


def of_flat(u, sizes=SIZES):
    net, start = [], 0
    for n_in, n_out in pairwise(sizes):
        weights, start = u[start : start + n_in * n_out].view(n_out, n_in), start + n_in * n_out
        net.append(dense.Layer(weights, u[start : start + n_out]))
        start += n_out
    return net


def derivatives(mean, x, activation):
    """∂z_i/∂u ``(m, k, p)``, by torch's automatic differentiation."""
    return torch.autograd.functional.jacobian(
        lambda u: dense.logits(of_flat(u), x, activation), flat(mean)
    )


def smooth(z):
    return z.sigmoid_() if not z.requires_grad else z.sigmoid()


def test_with_a_full_set_of_members_products_are_those_with_the_derivative():
    mean, (x, _) = network(), batch()
    model = local.linearised(mean, x, torch.Generator().manual_seed(3), SDS, OPTIONS, smooth)
    jacobian = derivatives(mean, x, torch.sigmoid)
    generator = torch.Generator().manual_seed(4)
    d, v = torch.randn(jacobian.shape[2], generator=generator), torch.randn(M, 3)
    torch.testing.assert_close(model.along(of_flat(d)), jacobian @ d, rtol=2e-3, atol=2e-3)
    expected = torch.einsum("mkp,mk->p", jacobian, v) / M
    torch.testing.assert_close(flat(model.back(v)), expected, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(model.outputs, dense.logits(mean, x, smooth))


@pytest.mark.parametrize("antithetic", [False, True])
def test_fewer_members_than_units_are_right_on_average(antithetic):
    mean, (x, _) = network(), batch()
    generator = torch.Generator().manual_seed(3)
    v = torch.ones(M, 3)
    few = replace(OPTIONS, members=2, antithetic=antithetic)
    drawn = torch.stack(
        [flat(local.linearised(mean, x, generator, SDS, few, smooth).back(v)) for _ in range(400)]
    )
    exact = torch.einsum("mkp,mk->p", derivatives(mean, x, torch.sigmoid), v) / M
    error = (drawn.mean(dim=0) - exact).abs()
    assert torch.all(error < 5 * drawn.std(dim=0) / 400**0.5 + 2e-3 * exact.abs().max())


def test_the_covariance_is_that_of_weights_drawn_as_a_whole():
    """With step activations and a wide spread: nothing is linear, and no derivative helps."""
    sizes, sds, n = (3, 40, 2), (0.7, 0.5), 200_000
    mean, x = network(sizes, sds), batch(3, 2)[0][:3]
    generator = torch.Generator().manual_seed(5)
    xi = sds[0] * torch.randn(n, 40, 4, generator=generator)  # deviations of (W, c)
    ahead = torch.cat([x, torch.ones(3, 1)], dim=1)
    z = torch.einsum("jai,mi->jma", xi, ahead) + x @ mean[0].weights.T + mean[0].biases
    f = dense.heaviside(z) @ mean[1].weights.T + mean[1].biases
    options = replace(OPTIONS, members=40_000, gamma=1.0)
    model = local.linearised(mean, x, generator, sds, options, dense.heaviside, averaged=True)
    for i in range(3):
        spread = f[:, i].std(dim=0)
        error = 5 * spread * (1 / n + 1 / 40_000) ** 0.5
        assert torch.all((f[:, i].mean(dim=0) - model.outputs[i]).abs() < error)
        covariance = torch.einsum("jk,jab->kab", f[:, i] - f[:, i].mean(dim=0), xi) / n
        ours = sds[0] ** 2 * model.slopes[0][i][:, :, None] * ahead[i]
        # the directions of a datum's members are orthogonal, so their error is that of independent
        # ones at most: of ours by (h, 1), of the others by ξ itself
        ours_error = spread[:, None, None] * sds[0] * ahead[i].abs() / ahead[i].norm() / 40_000**0.5
        error = 5 * (ours_error + spread[:, None, None] * sds[0] / n**0.5)
        assert torch.all((covariance - ours).abs() < error)
        assert torch.any(ours.abs() > 4 * error)  # or the comparison would say nothing


def test_a_step_is_the_damped_gauss_newton_step_of_cross_entropy():
    mean, (x, labels) = network(), batch()
    last = dense.start(SIZES, SDS, 7).mean
    state = dense.State(mean, mean, [last])
    moved, loss = local.step(
        *(state, x, labels, torch.Generator().manual_seed(3), SDS, replace(OPTIONS, momentum=0.3)),
        activation=smooth,
    )
    jacobian = derivatives(mean, x, torch.sigmoid).double()
    z = dense.logits(mean, x, smooth).double()
    p, y = z.softmax(dim=1), torch.eye(3, dtype=torch.float64)[labels]
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    precision = torch.cat(
        [
            torch.full((part.numel(),), 1 / sd**2, dtype=torch.float64)
            for layer, sd in zip(mean, SDS, strict=True)
            for part in layer
        ]
    )
    of_weights = torch.cat(
        [torch.full((part.numel(),), float(part.ndim == 2)) for layer in mean for part in layer]
    )
    pull = 0.01 * precision * of_weights
    gradient = torch.einsum("mkp,mk->p", jacobian, p - y) / M + pull * flat(mean)
    system = torch.einsum("mkp,mkl,mlq->pq", jacobian, curvature, jacobian) / M
    system += torch.diag(0.05 * precision + pull)
    expected = flat(mean) - torch.linalg.solve(system, gradient)
    np.testing.assert_allclose(flat(moved.mean), expected, rtol=5e-3, atol=5e-3)
    reference = float(ek.CrossEntropy(3).misfit(z.ravel().numpy()[None], y.ravel().numpy())[0]) / M
    assert loss == pytest.approx(reference, rel=1e-5)
    torch.testing.assert_close(flat(moved.past[0]), flat(moved.mean) - flat(mean))
    torch.testing.assert_close(flat(moved.average), (flat(mean) + flat(moved.mean)) / 2)


def test_conjugate_gradients_begin_with_a_part_of_the_last_step():
    mean, (x, labels) = network(), batch()
    last = dense.sum_of(dense.start(SIZES, SDS, 7).mean, mean, -1.0)
    still = replace(OPTIONS, iterations=0, momentum=0.01)
    arguments = (x, labels, torch.Generator().manual_seed(3), SDS, still)
    moved, _ = local.step(
        dense.State(mean, mean, [last]), *arguments, activation=smooth, averaged=True
    )
    torch.testing.assert_close(flat(moved.mean), flat(mean) + 0.01 * flat(last))


def test_a_step_that_raises_the_loss_is_halved_until_it_does_not():
    mean, (x, labels) = network(), batch()
    uphill = dense.sum_of(mean, mean, 1e4)
    still = replace(OPTIONS, iterations=0, momentum=1.0)
    arguments = (x, labels, torch.Generator().manual_seed(3), SDS, still)
    moved, loss = local.step(dense.State(mean, mean, [uphill]), *arguments, activation=smooth)
    n = np.log2(float(dense.norm(uphill) / dense.norm(moved.past[0])))
    assert n == pytest.approx(round(n), abs=1e-3)
    assert 1 <= n <= 10
    after = float(torch.nn.functional.cross_entropy(dense.logits(moved.mean, x, smooth), labels))
    assert after <= loss or round(n) == 10


def test_pairs_of_members_do_not_see_what_is_even_around_the_mean():
    """|z| has no slope where z is 0; without pairs it seems to have one."""
    mean = [
        dense.Layer(torch.zeros(4, 6), torch.zeros(4)),
        dense.Layer(torch.tensor([[1.0], [-2.0], [0.5]]).repeat(1, 4), torch.zeros(3)),
    ]
    slopes = [
        local.linearised(
            *(mean, batch()[0], torch.Generator().manual_seed(3), SDS[:2]),
            replace(OPTIONS, members=6, antithetic=antithetic),
            torch.abs,
        ).slopes[0]
        for antithetic in (True, False)
    ]
    assert slopes[0].abs().max() < 1e-6 < 0.1 * slopes[1].abs().max()


@pytest.fixture
def images(monkeypatch):
    monkeypatch.setattr(ek.datasets, "mnist", noisy_patterns)


def test_the_experiment_learns_and_resumes_to_the_last_bit(images, monkeypatch, tmp_path):
    options = mnist_local.Local(20, members=10, components=20, batch=100, damping=0.1, momentum=0.5)
    settings = mnist_local.Settings({"DNN 1": options, "DNN 3": options}, data=Data(validation=100))
    monkeypatch.setitem(mnist_local.SETTINGS, "small", settings)
    record = reproduce("mnist-local", out=tmp_path / "whole", show=lambda line: None)
    assert list(record["numbers"]) == ["DNN 1, seed 0", "DNN 3, seed 0"]
    whole = record["numbers"]["DNN 3, seed 0"]
    assert min(found["test"] for found in record["numbers"].values()) > 0.95

    monkeypatch.setattr(local, "step", interrupted(local.step, 14))
    with pytest.raises(KeyboardInterrupt):
        mnist_local.compute(settings, "DNN 3, seed 0", tmp_path / "parts", False)
    monkeypatch.setattr(dense, "start", None)  # not asked for again
    monkeypatch.setattr(local, "step", local.step.whole)
    again = mnist_local.compute(settings, "DNN 3, seed 0", tmp_path / "parts", False)
    assert again["trace"] == whole["trace"]
