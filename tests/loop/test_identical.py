"""The warning for members with different parameters and identical outputs."""

import warnings

import numpy as np
import pytest
from scipy import stats

import ekitools as ek
from ekitools.loop.identical import repeated_outputs, warned_of_identical

PRIOR = ek.GaussianPrior([0.0, 0.0], 1.0)
X = np.linspace(0, 1, 40)


def line(u):
    return u[0] + u[1] * X


def problem(model):
    return ek.InverseProblem(model, PRIOR, 0.1, 1 + X)


@pytest.mark.parametrize("method", [ek.EKI(), ek.GNKI(), ek.ETKI(), ek.TemperedSMC()])
def test_constant_outputs_are_reported_once(method):
    with pytest.warns(RuntimeWarning, match="model: all 20 members have .* iteration 0") as caught:
        ek.run(problem(lambda u: X), method, n_members=20, rng=0)
    assert len(caught) == 1


def test_clipped_outputs_of_many_members_are_counted():
    """The count is that of the members beyond the limit, less the one that they repeat."""
    u = PRIOR.sample(50, rng=3)
    clipped = int(np.sum(np.exp(u[:, 0]) > 1.5))
    assert 0.2 * 50 < clipped - 1 < 49
    loop = ek.AskTell(problem(line), ek.EKI(), ensemble=u, rng=0)
    g = np.minimum(np.exp(u[:, :1]), 1.5) + np.zeros(40)
    with pytest.warns(RuntimeWarning, match=f"{clipped - 1} of 50 members repeat the outputs"):
        loop.tell(g)


def test_a_cache_that_begins_late_is_reported_at_its_iteration():
    loop = ek.AskTell(problem(line), ek.EKI(ek.ESMDA(4)), n_members=10, rng=0)
    loop.tell(np.array([line(u) for u in loop.ask()]))
    old = np.array([line(u) for u in loop.ask()])
    old[5:] = old[:5]
    with pytest.warns(RuntimeWarning, match="5 of 10 members .* at iteration 1"):
        loop.tell(old)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.tell(old)


def told(u, g, n=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return warned_of_identical(u, g, np.arange(len(u)), n)


def test_a_fifth_of_the_members_is_not_reported_and_more_is():
    u = np.arange(20.0)[:, None]
    g = np.array(u)
    g[1:5] = g[0]  # 4 repeat the first
    assert not told(u, g)
    g[5] = g[0]
    assert told(u, g)


def test_a_fit_may_have_outputs_of_few_values():
    """Counts of errors, say; but not of one value alone."""
    u, method = PRIOR.sample(20, rng=0), ek.EKI(t_end=None)
    loop = ek.AskTell(problem(line), method, ensemble=u, rng=0)
    loop.tell(np.sign(u[:, :1]) + np.zeros(40))
    loop = ek.AskTell(problem(line), method, ensemble=u, rng=0)
    with pytest.warns(RuntimeWarning, match="all 20 members"):
        loop.tell(np.ones((20, 40)))


def test_one_coincidence_is_not_reported():
    u = np.arange(4.0)[:, None]
    assert not told(u, np.array([[0.0], [0.0], [1.0], [2.0]]))
    assert told(u[:2], np.zeros((2, 3)))  # all of them


def test_members_with_the_same_parameters_may_have_the_same_outputs():
    u = np.repeat(np.arange(5.0), 4)[:, None]
    assert not told(u, u**2)
    u[3] = 7.0  # one copy of the first member gets other parameters, and keeps its outputs
    assert (
        repeated_outputs(u, np.repeat(np.arange(5.0), 4)[:, None], np.arange(20), at_least=1) == 1
    )


def test_one_output_that_differs_is_enough():
    u = np.arange(10.0)[:, None]
    g = np.zeros((10, 1000))
    g[:, 777] = u[:, 0]
    assert not told(u, g)


def test_outputs_that_rounding_makes_identical_are_a_converged_ensemble():
    u = np.arange(6.0)[:, None]
    g = np.array([[1.0, 1.0, 1.0, 1.0 + 1e-15, 1.0 + 1e-15, 1.0]]).T
    assert told(u, g, n=0)
    assert not told(u, g, n=3)
    assert told(u, np.round(1 + 0.01 * u), n=0)
    assert told(u, np.round(0.3 * u), n=3)


def test_failed_members_do_not_count():
    u = np.arange(10.0)[:, None]
    g = np.array(u)
    g[4:] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not warned_of_identical(u, g, np.arange(4), 0)


def test_a_member_that_differs_by_a_noise_scale_alone_is_the_same_to_the_model():
    noise = ek.UnknownNoise(stats.lognorm(0.5))
    unknown = ek.InverseProblem(line, PRIOR, noise, 1 + X)
    u = np.repeat(PRIOR.sample(5, rng=0), 4, axis=0)
    ensemble = np.column_stack([u, np.linspace(0.5, 2, 20)])
    loop = ek.AskTell(unknown, ek.GNKI(), ensemble=ensemble, rng=0)
    loop.tell(np.array([line(x) for x in loop.ask()]))


@pytest.mark.parametrize("library", ["torch"])
def test_an_ensemble_of_another_library_is_looked_at_too(library):
    torch = pytest.importorskip(library)
    u = torch.arange(20.0)[:, None]
    assert told(u, torch.floor(u / 4))
    assert not told(u, u**2)
