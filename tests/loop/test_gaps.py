"""Missing outputs: regression and marginal noise, beside closed forms and whole runs."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.linalg.gaps import conditional_residual, filled_by_regression

X = np.linspace(0, 1, 40)
PRIOR = ek.GaussianPrior([0.0, 0.0], 1.0)
FACTOR = np.random.default_rng(5).normal(size=(6, 6))
DENSE = FACTOR @ FACTOR.T + np.eye(6)


def line(u):
    return u[0] + u[1] * X


def gappy(n_gaps, columns=None):
    """A model that lacks ``n_gaps`` of its outputs, others for every member."""

    def model(u):
        y = line(u)
        rng = np.random.default_rng(int(abs(u[0]) * 1e9) % 2**32)
        y[rng.choice(40, n_gaps, replace=False) if columns is None else columns] = np.nan
        return y

    return model


def problem(model, noise=0.1):
    return ek.InverseProblem(model, PRIOR, noise, 1 + X)


@pytest.mark.parametrize("seed", range(5))
def test_a_linear_model_with_gaps_is_the_linear_model(seed):
    """The regression is exact where outputs are linear in the parameters."""
    whole = ek.run(problem(line), ek.EKI(), n_members=30, rng=seed)
    filled = ek.run(problem(gappy(4)), ek.EKI(), n_members=30, rng=seed)
    np.testing.assert_allclose(filled.u, whole.u, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(filled.missing.sum("data"), 4 * 30)
    assert not filled.failed.any()
    assert "missing" not in whole


def test_more_gaps_than_allowed_are_failures():
    with pytest.raises(
        ek.RunError, match=r"5 of 40 outputs are missing, more than missing=0.1 tol"
    ):
        ek.run(problem(gappy(5)), ek.EKI(), n_members=10, rng=0)
    with pytest.raises(ek.RunError, match="must return finite numbers, got nan"):
        ek.run(problem(gappy(1)), ek.EKI(), n_members=10, rng=0, missing=0.0)
    result = ek.run(problem(gappy(5)), ek.EKI(), n_members=10, n_steps=1, rng=0, missing=0.2)
    assert not result.failed.any()


def test_infinity_is_no_gap():
    def model(u):
        y = line(u)
        y[3] = np.inf if u[0] > 0 else y[3]
        return y

    options = {"n_members": 20, "n_steps": 1, "on_failure": "drop"}
    result = ek.run(problem(model), ek.EKI(), rng=0, **options)
    assert result.failed[0].sum() > 0
    assert "missing" not in result


@pytest.mark.parametrize("form", ["diagonal", "dense"])
@pytest.mark.parametrize("method", [ek.EKI(ek.FixedStep(1.0)), ek.GNKI(refinements=2)], ids=repr)
def test_a_datum_that_every_member_lacks_counts_for_nothing(form, method):
    """The run is that of the problem without the datum, with the marginal noise."""
    cov = DENSE if form == "dense" else np.diag(DENSE)
    slope = np.arange(6.0)

    def model(u):
        y = u[0] + u[1] * slope
        y[2] = np.nan
        return y

    lacking = ek.InverseProblem(model, PRIOR, cov, 1 + slope)
    gap = ek.InverseProblem(
        lambda u: u[0] + u[1] * slope, PRIOR, cov, np.where(slope == 2, np.nan, 1 + slope)
    )
    options = {"n_members": 4000, "rng": 0, "evaluate_final": False}
    with pytest.warns(RuntimeWarning, match="1 of 6 outputs are missing in all members .*'y2'"):
        ours = ek.run(lacking, method, **options)
    theirs = ek.run(gap, method, **options)
    assert np.isnan(ours.g.values[:-1, :, 2]).all()  # it is never filled by y
    np.testing.assert_allclose(ours.misfit[0], theirs.misfit[0], rtol=1e-10)
    mean, sd = theirs.u[-1].mean("member"), theirs.u[-1].std("member")
    np.testing.assert_array_less(abs(ours.u[-1].mean("member") - mean) / sd, 4 * np.sqrt(2 / 4000))
    np.testing.assert_allclose(ours.u[-1].std("member") / sd, 1, atol=4 / np.sqrt(4000))


def test_a_residual_given_the_others_has_the_marginal_misfit():
    noise = ek.GaussianNoise(DENSE)
    kept = np.array([True, False, True, True, False, True])
    r = np.random.default_rng(0).normal(size=(5, 6))
    r[:, ~kept] = conditional_residual(r, np.flatnonzero(~kept), noise)
    marginal = ek.GaussianNoise(DENSE[np.ix_(kept, kept)])
    expected = marginal.misfit(r[:, kept], np.zeros(4))
    np.testing.assert_allclose(noise.misfit(r, np.zeros(6)), expected, rtol=1e-12)


def test_the_mean_stands_where_too_few_members_have_an_output():
    g = np.array([[1.0, 5.0], [3.0, np.nan], [np.nan, 7.0], [2.0, np.nan]])
    filled = filled_by_regression(g, np.eye(4))
    np.testing.assert_array_equal(filled[:, 0], [1.0, 3.0, 2.0, 2.0])
    np.testing.assert_array_equal(filled[:, 1], [5.0, 6.0, 7.0, 6.0])


def test_the_ridge_is_that_of_cross_validation():
    """Leave-one-out errors of the chosen ridge are as small as those of any other."""
    rng = np.random.default_rng(2)
    w = rng.normal(size=(30, 8))
    g = (w[:, :1] + rng.normal(size=(30, 1))) * 1.0
    held = []
    for j in range(30):
        part = g.copy()
        part[j] = np.nan
        held.append(filled_by_regression(part, w)[j, 0])
    error = np.mean((np.array(held) - g[:, 0]) ** 2)
    plain = []
    for j in range(30):
        rest = np.delete(np.arange(30), j)
        design = np.c_[np.ones(29), w[rest]]
        plain.append(np.r_[1, w[j]] @ np.linalg.lstsq(design, g[rest, 0], rcond=None)[0])
    assert error < np.mean((np.array(plain) - g[:, 0]) ** 2)


@pytest.mark.parametrize("method", [ek.EKI(), ek.TemperedSMC()], ids=repr)
def test_gaps_are_counted_and_resumed(tmp_path, method):
    whole = ek.run(problem(gappy(3)), method, n_members=20, n_steps=4, rng=0)
    ek.run(problem(gappy(3)), method, n_members=20, n_steps=2, rng=0, checkpoint=tmp_path / "c")
    again = ek.resume(tmp_path / "c", problem(gappy(3)), n_steps=4)
    assert again.u.equals(whole.u)
    assert again.missing.equals(whole.missing)
    assert whole.missing[0].sum() == 3 * 20


def test_an_array_of_another_kind_keeps_its_kind():
    torch = pytest.importorskip("torch")
    x = torch.as_tensor(X)

    def together(u):
        lacking = (u[:, :1] > 0.5) & (x > 0.95)  # two of forty outputs of some members
        return torch.where(lacking, torch.nan, u[:, :1] + u[:, 1:] * x)

    ensemble = torch.as_tensor(PRIOR.sample(30, rng=0))
    model = ek.FunctionModel(together, vectorized=True)
    result = ek.run(problem(model), ek.EKI(), ensemble=ensemble, n_steps=1, rng=0)
    whole = ek.run(problem(line), ek.EKI(), ensemble=ensemble, n_steps=1, rng=0)
    assert result.missing[0].sum() > 0
    np.testing.assert_allclose(result.u, whole.u, rtol=0, atol=1e-8)


@pytest.mark.parametrize("value", [-0.1, 1.0, np.nan, "a", None, True])
def test_the_share_is_checked(value):
    with pytest.raises((TypeError, ValueError), match="missing: must be"):
        ek.run(problem(line), ek.EKI(), missing=value)


def test_the_summary_counts_gaps_of_data_and_of_outputs():
    y = np.where(np.arange(40) < 3, np.nan, 1 + X)
    gaps = ek.InverseProblem(gappy(2), PRIOR, 0.1, y)
    result = ek.run(gaps, ek.EKI(), n_members=30, rng=0)
    text = str(ek.summary(result))
    assert "Data        37 (3 missing)" in text
    assert "[note] Missing outputs" in text
    assert "Missing outputs" not in str(ek.summary(ek.run(problem(line), ek.EKI(), rng=0)))


def test_what_all_members_lack_counts_against_none_of_them():
    """A third of the outputs is missing in all members: the other two are fitted as they are."""

    def model(u):
        return np.array([u[0], u[0] + u[1], np.nan])

    gap = ek.InverseProblem(model, PRIOR, 0.1, [1.0, 2.0, 3.0])
    with pytest.warns(RuntimeWarning, match="1 of 3 outputs are missing in all members"):
        result = ek.run(gap, ek.EKI(), n_members=30, rng=0)
    assert not result.failed.any()
    known = ek.InverseProblem(lambda u: model(u)[:2], PRIOR, 0.1, [1.0, 2.0])
    exact = ek.run(known, ek.EKI(), n_members=4000, rng=1).u[-1]
    assert np.all(np.isfinite(result.u))
    off = abs(result.u[-1].mean("member") - exact.mean("member")) / exact.std("member")
    assert off.max() < 5 / np.sqrt(30)
    assert "[care] Missing outputs" in str(ek.summary(result))


def test_members_that_lack_everything_have_failed():
    problem_ = ek.InverseProblem(lambda u: np.full(3, np.nan), PRIOR, 0.1, [1.0, 2.0, 3.0])
    with pytest.raises(ek.RunError, match="must return finite numbers, got nan at data index 0"):
        ek.run(problem_, ek.EKI(), n_members=5, rng=0)
