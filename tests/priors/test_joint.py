"""Priors side by side against their parts."""

import pickle

import numpy as np
import pytest
from scipy import stats
from zoo.own import OwnPrior

import ekitools as ek
from ekitools.testing import check_prior


def rates(correlation=None):
    marginals = {"decay": stats.lognorm(0.5), "share": stats.beta(2, 5)}
    return ek.Prior(marginals, correlation=correlation)


def joint():
    return ek.JointPrior(
        {
            "field": ek.GaussianRandomField((8,), n_modes=3),
            "rates": rates({("decay", "share"): 0.6}),
            "shift": ek.GaussianPrior([1.0, 2.0], [[2.0, 0.5], [0.5, 1.0]]),
        }
    )


def test_it_keeps_the_promises_of_a_prior():
    check_prior(joint())


def test_density_and_maps_are_those_of_the_parts():
    prior = joint()
    u = prior.sample(6, rng=0)
    parts = prior.split(u)
    assert {name: x.shape for name, x in parts.items()} == {
        "field": (6, 3),
        "rates": (6, 2),
        "shift": (6, 2),
    }
    expected = sum(prior.parts[name].logpdf(x) for name, x in parts.items())
    np.testing.assert_allclose(prior.logpdf(u), expected, rtol=1e-14)
    assert prior.logpdf(u[0]) == pytest.approx(expected[0])
    for name, cut in prior.slices.items():
        part, z = prior.parts[name], prior.to_unconstrained(u)
        np.testing.assert_array_equal(z[:, cut], part.to_unconstrained(u[:, cut]))
        np.testing.assert_array_equal(prior.whiten(z)[:, cut], part.whiten(z[:, cut]))


def test_split_takes_a_member_and_gives_views():
    prior = joint()
    member = np.arange(7.0)
    parts = prior.split(member)
    np.testing.assert_array_equal(parts["rates"], [3.0, 4.0])
    assert all(np.shares_memory(x, member) for x in parts.values())
    with pytest.raises(ValueError, match=r"u: last axis must have 7 entries, got \(2, 3\)"):
        prior.split(np.zeros((2, 3)))
    with pytest.raises(TypeError, match="u: must be an array of real numbers, got list"):
        prior.split([1.0] * 7)


@pytest.mark.parametrize("namespace", ["strict", "torch"])
def test_other_arrays_stay_what_they_are(namespace):
    xp = pytest.importorskip({"strict": "array_api_strict", "torch": "torch"}[namespace])
    prior = joint()
    z = prior.sample_unconstrained(4, rng=0)
    for name in ("to_physical", "whiten", "unwhiten"):
        found = getattr(prior, name)(xp.asarray(z))
        assert type(found) is type(xp.asarray(z))
        np.testing.assert_allclose(np.asarray(found), getattr(prior, name)(z), rtol=1e-12)


def test_names_begin_with_the_part_where_they_must():
    plain = ek.GaussianPrior(0.0, [1.0, 1.0])
    assert ek.JointPrior({"a": plain, "rates": rates()}).names == (
        "a[0]",
        "a[1]",
        "decay",
        "share",
    )
    assert ek.JointPrior({"x": ek.GaussianPrior(0.0, 1.0), "rates": rates()}).names[0] == "x"
    twice = ek.JointPrior({"here": rates(), "there": rates(), "x": ek.Prior({"k": stats.norm()})})
    assert twice.names == ("here.decay", "here.share", "there.decay", "there.share", "k")


def test_joints_can_be_parts_and_parts_of_ones_own_too():
    prior = ek.JointPrior({"inner": joint(), "own": OwnPrior()})
    check_prior(prior)
    assert prior.n_parameters == 9
    assert prior.support(3) == (0.0, np.inf)  # decay
    assert prior.support(8) == (-np.inf, np.inf)  # OwnPrior does not say
    assert prior.support(-6) == prior.support(3)


def test_an_error_about_a_member_names_the_bound_of_the_part():
    prior = joint()
    problem = ek.InverseProblem(lambda u: u[:2], prior, 0.1, [1.0, 1.0])
    ensemble = prior.sample(5, rng=0)
    ensemble[2, 4] = 1.5
    with pytest.raises(ValueError, match=r"share = 1.5 in member 2, which lies outside \(0, 1\)"):
        ek.run(problem, ek.EKI(), ensemble=ensemble)


def test_fingerprints_change_with_a_part_and_its_name():
    a, b = rates(), rates({("decay", "share"): 0.1})
    priors = [{"x": a}, {"x": b}, {"y": a}, {"x": a, "y": b}, {"y": b, "x": a}]
    assert len({ek.JointPrior(parts).fingerprint() for parts in priors}) == len(priors)
    again = pickle.loads(pickle.dumps(joint()))
    assert again.fingerprint() == joint().fingerprint()
    np.testing.assert_array_equal(again.sample(3, rng=0), joint().sample(3, rng=0))


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([rates()], TypeError, "parts: must be a mapping of names to priors, got list. Use"),
        ({}, ValueError, "parts: must not be empty"),
        ({1: rates()}, TypeError, "parts: names must be texts, got 1"),
        ({"k": stats.norm()}, TypeError, r"parts\['k'\]: must be a prior, .* Use ek.Prior\({'k'"),
        ({"k": ek.Prior}, TypeError, r"parts\['k'\]: must be a prior"),
        (
            {"x": ek.GaussianPrior(0.0, 1.0), "y": ek.Prior({"x": stats.norm()})},
            ValueError,
            "parameters must have different names, got 'x' more than once. Rename a part",
        ),
    ],
)
def test_bad_parts_are_named(parts, error, message):
    with pytest.raises(error, match=message):
        ek.JointPrior(parts)


def test_other_ways_to_join_priors_say_what_to_do():
    with pytest.raises(TypeError, match="ek.JointPrior"):
        ek.Prior({"field": ek.GaussianRandomField((8,)), "k": stats.norm()})
    with pytest.raises(TypeError, match="ek.JointPrior"):
        ek.InverseProblem(lambda u: u, [rates(), rates()], 0.1, [1.0])
