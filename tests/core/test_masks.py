"""Masked arrays: what a mask hides is never taken for a number."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.core.arrays import as_real, host, masked_as_nan, unmasked

HIDDEN = np.ma.masked_array([1.0, 2.0, -9999.0], mask=[False, False, True])
OPEN = np.ma.masked_array([1.0, 2.0, 3.0])
PRIOR = ek.GaussianPrior([0.0, 0.0], 1.0)


def line(u):
    return u[0] + u[1] * np.arange(3.0)


def problem(**changes):
    arguments = {"model": line, "prior": PRIOR, "noise": 0.1, "data": [1.0, 2.0, 3.0]}
    return ek.InverseProblem(**(arguments | changes))


def ensemble(mask):
    return np.ma.masked_array(PRIOR.sample(20, rng=1), mask=mask)


def told(g):
    loop = ek.AskTell(problem(), ek.EKI(), n_members=4, rng=0, on_failure="drop")
    loop.ask()
    loop.tell(g)


def batches(inputs, targets):
    return ek.MiniBatches(inputs, targets, 1)


REFUSED = {
    "rows": lambda: as_real("x", [HIDDEN, OPEN]),
    "constant": lambda: as_real("x", [1.0, np.ma.masked]),
    "variances": lambda: ek.GaussianNoise(HIDDEN),
    "low rank": lambda: ek.GaussianNoise((HIDDEN, np.ones((3, 1)))),
    "mean": lambda: ek.GaussianPrior(HIDDEN, 1.0),
    "prior covariance": lambda: ek.GaussianPrior(0.0, HIDDEN),
    "matrix": lambda: ek.LinearModel(np.ma.masked_array(np.eye(2), mask=np.eye(2))),
    "inputs": lambda: batches(HIDDEN, np.ones(3)),
    "whole inputs": lambda: batches(HIDDEN.astype(int), np.ones(3)),
    "targets": lambda: batches(np.ones(3), HIDDEN),
    "ensemble": lambda: ek.run(problem(), ek.EKI(), ensemble=ensemble(np.eye(20, 2))),
    "flow": lambda: ek.integrate(
        problem(), ek.EKIFlow(), t_span=(0, 1), ensemble=ensemble(np.eye(20, 2))
    ),
    "points": lambda: ek.Prior({"a": ek_norm()}).to_physical(HIDDEN[:, None]),
    "host": lambda: host(HIDDEN),
}


def ek_norm():
    from scipy import stats

    return stats.norm()


@pytest.mark.parametrize("where", REFUSED)
def test_a_masked_entry_is_refused_with_its_place_and_the_remedy(where):
    with pytest.raises(ValueError, match=r"no masked entries, .* index \(.*impute .*return NaN"):
        REFUSED[where]()


def test_masked_data_are_gaps():
    with_gap = problem(data=HIDDEN)
    assert with_gap.data.tolist() == [1.0, 2.0]
    assert with_gap.data_names == ("y0", "y1")
    assert with_gap.layout.n_gaps == 1


def test_masked_outputs_are_missing_ones():
    hidden = np.ma.masked_array(np.ones((4, 3)), mask=np.eye(4, 3))
    with pytest.raises(ek.RunError, match="3 of 4 members failed .* 1 of 3 outputs are missing"):
        told(hidden)  # a third of the outputs of three members is missing


def test_a_masked_array_without_masked_entries_is_welcome():
    assert type(problem(data=OPEN).data) is np.ndarray
    assert type(as_real("x", OPEN)) is np.ndarray
    assert type(host(OPEN)) is np.ndarray
    assert type(ek.GaussianNoise(OPEN).sd) is np.ndarray
    told(np.ma.masked_array(np.random.default_rng(0).normal(size=(4, 3))))
    plain = ek.run(problem(), ek.EKI(), ensemble=PRIOR.sample(20, rng=1), rng=0)
    same = ek.run(problem(), ek.EKI(), ensemble=ensemble(False), rng=0)
    np.testing.assert_array_equal(plain.u, same.u)
    assert not isinstance(same.u.values, np.ma.MaskedArray)


def test_a_masked_output_is_a_missing_one():
    np.testing.assert_array_equal(masked_as_nan(HIDDEN), [1.0, 2.0, np.nan])
    np.testing.assert_array_equal(masked_as_nan(HIDDEN.astype(int)), [1.0, 2.0, np.nan])
    assert masked_as_nan(HIDDEN.astype(np.float32)).dtype == np.float32
    assert masked_as_nan(OPEN.astype(int)).dtype.kind == "i"
    assert masked_as_nan("text") == "text"
    assert np.isnan(HIDDEN.data).sum() == 0


def test_what_is_not_masked_is_handed_on():
    x = np.ones(2)
    assert unmasked("x", x) is x
    with pytest.raises(TypeError, match="x: must be an array of real numbers"):
        as_real("x", [HIDDEN, OPEN[:2]])


def test_a_model_with_masked_outputs_has_failed():
    def model(u):
        return np.ma.masked_array(line(u), mask=[False, False, u[0] > 0])

    result = ek.run(problem(model=model), ek.EKI(), n_members=40, n_steps=2, rng=0)
    np.testing.assert_array_equal(result.failed[0], result.u[0, :, 0] > 0)
