"""Every kind of prior in a run: checkpoints, the fingerprint in them, and other methods."""

import numpy as np
import pytest
from scipy import stats
from zoo.own import Wind

import ekitools as ek
from ekitools.core.errors import CheckpointError

MARGINALS = {"a": stats.lognorm(0.5), "b": ek.bounded(0.3, 0.1, 0, 1)}


def samples(seed):
    return np.random.default_rng(seed).normal(size=(50, 2))


PRIORS = {
    "base": (lambda: Wind(1.0), lambda: Wind(1.1)),
    "joint": (
        lambda: ek.JointPrior({"w": Wind(1.0), "m": ek.Prior(MARGINALS)}),
        lambda: ek.JointPrior({"w": Wind(1.1), "m": ek.Prior(MARGINALS)}),
    ),
    "correlated": (
        lambda: ek.Prior(MARGINALS, correlation={("a", "b"): 0.5}),
        lambda: ek.Prior(MARGINALS, correlation={("a", "b"): 0.4}),
    ),
    "bounded": (
        lambda: ek.Prior({"a": ek.bounded(0, 1, upper=2), "b": stats.norm()}),
        lambda: ek.Prior({"a": ek.bounded(0, 1, upper=3), "b": stats.norm()}),
    ),
    "dirichlet": (lambda: ek.Dirichlet([1.0, 2.0, 3.0]), lambda: ek.Dirichlet([1.0, 2.0, 2.0])),
    "ordered": (lambda: ek.Ordered(stats.norm(), 3), lambda: ek.Ordered(stats.norm(0, 2), 3)),
    "hierarchical": (
        lambda: ek.Hierarchical(stats.norm(), stats.halfnorm(), 2, transform="exp"),
        lambda: ek.Hierarchical(stats.norm(), stats.halfnorm(), 2),
    ),
    "samples": (
        lambda: ek.Prior.from_samples(samples(0)),
        lambda: ek.Prior.from_samples(samples(1)),
    ),
    "matern": (
        lambda: ek.MaternField([0.0, 1.0, 2.0], length=1.0),
        lambda: ek.MaternField([0.0, 1.0, 2.0], length=1.5),
    ),
    "values": (
        lambda: ek.GaussianRandomField((5,), transform="exp", parameters="values"),
        lambda: ek.GaussianRandomField((5,), lengths=2.0, transform="exp", parameters="values"),
    ),
    "wells": (
        lambda: ek.MaternField([0.0, 1.0, 2.0], length=1.0, parameters="values"),
        lambda: ek.MaternField([0.0, 1.0, 2.5], length=1.0, parameters="values"),
    ),
    "positive": (
        lambda: ek.GaussianRandomField((5,), transform="exp"),
        lambda: ek.GaussianRandomField((5,)),
    ),
}


def problem(prior):
    return ek.InverseProblem(lambda u: np.array([u.sum(), u[0]]), prior, 0.1, [1.0, 0.5])


@pytest.mark.parametrize("kind", PRIORS)
def test_a_run_is_resumed_and_ends_the_same(kind, tmp_path):
    make, other = PRIORS[kind]
    method = ek.EKI(ek.FixedStep(0.25))
    whole = ek.run(problem(make()), method, n_members=12, rng=0)
    ek.run(problem(make()), method, n_members=12, n_steps=2, rng=0, checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointError, match="prior"):
        ek.resume(tmp_path / "run", problem(other()))
    again = ek.resume(tmp_path / "run", problem(make()), n_steps=9)
    np.testing.assert_array_equal(again.u[-1].values, whole.u[-1].values)


@pytest.mark.parametrize("kind", PRIORS)
def test_methods_that_whiten_take_it(kind):
    for method in (ek.GNKI(), ek.TemperedSMC(max_moves=2)):
        result = ek.run(problem(PRIORS[kind][0]()), method, n_members=60, rng=0)
        assert float(result.misfit[-1].mean()) < float(result.misfit[0].mean())
