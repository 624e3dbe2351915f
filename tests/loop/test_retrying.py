"""Members that fail are placed anew and run again, until all of them have run."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import integrate, stats
from zoo.results import same

import ekitools as ek
from ekitools.loop.lines import _replay
from ekitools.loop.retrying import placed_again
from ekitools.results.reading import losses

A = np.array([[1.0, 0.5], [0.2, 1.0], [1.0, -1.0]])
LIMIT = 0.3
METHODS = [ek.EKI(), ek.ETKI(), ek.GNKI(), ek.TemperedSMC()]


def fails(u):
    """Half of the prior and a part of the posterior."""
    return u[0] > LIMIT


def region(u):
    if fails(u):
        raise RuntimeError("the solver did not converge")
    return A @ u


def problem(model=region, data=(0.2, 0.4, -0.2), noise=0.05):
    return ek.InverseProblem(model, ek.GaussianPrior([0.0, 0.0], 1.0), noise, data)


def failures_of(result):
    return json.loads(result.attrs["failures"])


def told(loop):
    """Drive the loop by hand."""
    while not loop.done:
        u = loop.ask()
        loop.tell(np.array([np.full(3, np.nan) if fails(row) else A @ row for row in u]))
    return loop.result()


@pytest.mark.parametrize("method", METHODS)
def test_every_member_runs_and_none_is_lost(method):
    result = ek.run(problem(), method, n_members=60, rng=0)
    failures = failures_of(result)
    assert losses(result).left == 60
    assert np.isfinite(result.g).all()
    assert not result.failed[0].any()
    assert all(fails(failure["u"]) for failure in failures if "u" in failure)
    iterations, n_failed = len(result.history), sum(f.get("replaced", False) for f in failures)
    assert n_failed > 0
    assert result.attrs["model_runs"] == 60 * iterations + n_failed
    diagnosis = ek.diagnose(result)
    assert int(diagnosis.n_failed.sum()) == len(failures)
    if not isinstance(method, ek.TemperedSMC):
        assert not result.failed.any()
        assert n_failed == len(failures)
        assert (result.u[..., 0] <= LIMIT).all()


def test_first_members_are_draws_of_the_prior_where_the_model_runs():
    result = ek.run(problem(), ek.EKI(), n_members=2000, n_steps=1, rng=3, evaluate_final=False)
    first = result.u[0].values
    below = stats.truncnorm(-np.inf, LIMIT)
    assert stats.kstest(first[:, 0], below.cdf).pvalue > 0.01
    assert stats.kstest(first[:, 1], "norm").pvalue > 0.01
    share, runs = stats.norm.sf(LIMIT), result.history_model_runs.values[0]
    assert abs(result.attrs["failed_at_start"] - share) < 4 * np.sqrt(share * (1 - share) / runs)


def test_first_members_of_a_users_own_are_replaced_by_draws_from_the_others():
    ensemble = np.random.default_rng(0).normal([0.0, 50.0], [1.0, 0.1], size=(400, 2))
    loop = ek.AskTell(problem(), ek.EKI(), ensemble=ensemble, rng=0)
    loop.tell(np.where((ensemble[:, 0] > LIMIT)[:, None], np.nan, ensemble @ A.T))
    assert abs(loop.ask()[:, 1] - 50).max() < 1


def test_draws_keep_the_gaussian_of_the_members_that_ran():
    """Many repeats: mean and covariance of the draws in standard errors."""
    target, method = problem(), ek.EKI()
    u = np.random.default_rng(5).normal(size=(30, 2)) @ [[1.0, 0.6], [0.0, 0.5]]
    state = method.init(u, target)
    lost = np.arange(30) < 2
    n, share = 1500, 0.81  # after two tries
    drawn = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        new = placed_again(method, state, lost, u, None, 2, rng)
        drawn.append(new.ensemble[0])
    np.testing.assert_array_equal(new.ensemble[2:], u[2:])
    m, cov = u[2:].mean(axis=0), np.cov(u[2:].T)
    expected, spread = m + np.sqrt(share) * (u[0] - m), (1 - share) * cov
    error = np.sqrt(np.diag(spread) / n)
    assert np.all(abs(np.mean(drawn, axis=0) - expected) < 4 * error)
    diagonal = np.diag(spread)
    error = np.sqrt((spread**2 + np.outer(diagonal, diagonal)) / n)
    assert np.all(abs(np.cov(np.transpose(drawn)) - spread) < 4 * error)


def test_a_draw_of_gnki_has_the_same_combination_of_anchors_and_draws():
    """For a linear model one full step is the end, and a combination of such ends is one too."""
    target = ek.problems.linear(p=3, d=4, rng=0).problem
    method = ek.GNKI(start="prior", damping=1.0)
    loop = ek.AskTell(target, method, n_members=40, rng=0)
    loop.tell(target.model(loop.ask()))
    lost, state = np.arange(40) < 5, loop._state
    new = placed_again(method, state, lost, state.ensemble, None, 8, np.random.default_rng(0))
    assert abs(new.ensemble[lost] - state.ensemble[lost]).max() > 0.01
    g = target.model(new.ensemble)
    after, info = method.tell(new, g, target, rng=np.random.default_rng(0))
    assert info.status is None
    np.testing.assert_allclose(after.ensemble, new.ensemble, atol=1e-8)


def test_members_go_back_where_most_of_them_fail():
    loop = ek.AskTell(problem(), ek.EKI(ek.FixedStep(0.5)), n_members=8, rng=0)
    before = loop.ask().copy()
    loop.tell(before @ A.T)
    asked = loop.ask().copy()
    nothing = np.full((8, 3), np.nan)
    for share in (1 / 2, 1 / 4, 1 / 8, 1 / 16, 0):
        loop.tell(nothing)
        np.testing.assert_allclose(loop.ask(), before + share * (asked - before), atol=1e-12)
    with pytest.raises(ek.RunError, match="8 of 8 members failed at iteration 1: fewer than 2"):
        loop.tell(nothing)


def test_only_members_that_failed_are_asked_for_again():
    loop = ek.AskTell(problem(), ek.EKI(), n_members=10, rng=0)
    first, g = loop.ask().copy(), loop.ask() @ A.T
    g[[2, 7]] = np.nan
    loop.tell(g, {7: "the node died"})
    assert loop.n == 0
    assert loop.members.tolist() == [2, 7]
    again = loop.ask()
    assert again.shape == (2, 2)
    assert not np.isin(again, first).any()
    np.testing.assert_array_equal(loop.ask(), again)
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 0
    with pytest.raises(ValueError, match="result: there is none yet. Pass outputs of 2 members"):
        loop.result()
    with pytest.raises(ValueError, match=r"g: must have the shape .* = \(2, 3\), got \(10, 3\)"):
        loop.tell(g)
    loop.tell(again @ A.T, {0: "once more"})
    assert loop.members.tolist() == [2]
    loop.tell(loop.ask() @ A.T)
    assert loop.n == 1
    assert loop.members.tolist() == list(range(10))
    result = loop.result()
    assert result.attrs["model_runs"] == 13
    others = np.delete(np.arange(10), [2, 7])
    np.testing.assert_array_equal(result.u[0, others], first[others])
    np.testing.assert_array_equal(result.u[0, 7], again[1])
    np.testing.assert_allclose(result.g[0], result.u[0].values @ A.T)
    assert [(f["member"], f["reason"], f["u"]) for f in failures_of(result)] == [
        (2, "output 0 ('y0') is nan (and 2 more)", first[2].tolist()),
        (7, "the node died", first[7].tolist()),
        (2, "once more", again[0].tolist()),
    ]


@pytest.mark.parametrize("method", METHODS)
def test_the_loop_inside_out_is_the_run_on_any_number_of_workers(method):
    serial = ek.run(problem(), method, n_members=30, rng=1)
    by_hand = told(ek.AskTell(problem(), method, n_members=30, rng=1))
    assert by_hand.drop_attrs().equals(serial.drop_attrs())  # reasons of failures differ
    with ThreadPoolExecutor(3) as pool:
        assert same(ek.run(problem(), method, n_members=30, rng=1, executor=pool), serial)


def test_what_is_saved_while_members_wait_is_the_iteration_before(tmp_path):
    method = ek.EKI(ek.ESMDA(2))
    loop = ek.AskTell(problem(), method, n_members=20, rng=2)
    whole = told(ek.AskTell(problem(), method, n_members=20, rng=2))
    n_saved = 0
    while not loop.done:
        u = loop.ask()
        loop.tell(np.array([np.full(3, np.nan) if fails(row) else A @ row for row in u]))
        if len(loop.members) < 20:
            n_saved += 1
            loop.save(tmp_path / str(n_saved))
            again = ek.AskTell.load(tmp_path / str(n_saved), problem())
            assert len(again.members) == 20
            assert same(told(again), whole)
    assert n_saved > 3


@pytest.mark.parametrize("evaluate_final", [True, False])
def test_a_spent_budget_is_extended_after_failures(tmp_path, evaluate_final):
    options = {"n_members": 20, "rng": 2, "evaluate_final": evaluate_final}
    method = ek.EKI(ek.FixedStep(0.2))
    whole = ek.run(problem(), method, **options)
    for n in (1, 2, 3):
        ek.run(problem(), method, n_steps=n, checkpoint=tmp_path / str(n), **options)
        longer = ek.resume(tmp_path / str(n), problem(), n_steps=50)
        assert same(longer, whole)
        assert failures_of(longer) == failures_of(whole)
        assert longer.attrs["model_runs"] == whole.attrs["model_runs"]


def test_a_model_with_seeds_gets_another_seed_at_every_try():
    seen = []

    class Dice:
        vectorized, stochastic = False, True

        def __call__(self, u, rng):
            seen.append(rng.random())
            return A @ u if seen[-1] > 0.4 else np.full(3, np.nan)

    first = ek.run(problem(Dice()), ek.EKI(), n_members=20, n_steps=2, rng=0)
    assert len(set(seen)) == len(seen) == first.attrs["model_runs"] > 60
    again = ek.run(problem(Dice()), ek.EKI(), n_members=20, n_steps=2, rng=0)
    assert again.drop_attrs().equals(first.drop_attrs())


def test_side_products_and_gaps_belong_to_the_members_that_ran():
    def model(u):
        g = region(u)
        g[2] = np.nan if u[1] > 1.5 else g[2]
        return g, {"norm": u @ u}

    result = ek.run(problem(model), ek.EKI(), n_members=40, rng=0, missing=0.5)
    np.testing.assert_allclose(result["norm"], (result.u**2).sum("parameter"))
    assert result.missing[0, 2] == int((result.u[0, :, 1] > 1.5).sum()) > 0
    assert np.isfinite(result.g).all()


def test_any_array_kind_and_dtype():
    strict = pytest.importorskip("array_api_strict")
    start = problem().prior.sample(20, rng=0)
    expected = told(ek.AskTell(problem(), ek.EKI(), ensemble=start, rng=1))
    loop = ek.AskTell(problem(), ek.EKI(), ensemble=strict.asarray(start), rng=1)
    while not loop.done:
        u = np.asarray(loop.ask())
        loop.tell(np.array([np.full(3, np.nan) if fails(row) else A @ row for row in u]))
    np.testing.assert_allclose(loop.result().u, expected.u, atol=1e-10)
    single = told(ek.AskTell(problem(), ek.EKI(), ensemble=start.astype(np.float32), rng=1))
    assert single.u.dtype == np.float32


@pytest.mark.parametrize(
    "entry",
    [{"replaced": 1}, {"u": [1.0]}, {"replaced": True, "u": "1"}, {"replaced": True, "u": [[1.0]]}],
)
def test_a_line_about_a_replaced_member_is_read_only_as_it_is_written(entry):
    good = {"iteration": 0, "member": 1, "reason": "late", "replaced": True, "u": [1.0, None]}
    lists = {"failure": []}
    _replay(lists, "failure", 0, good)
    assert lists["failure"] == [good]
    with pytest.raises(ValueError, match="late"):
        _replay(lists, "failure", 1, {"iteration": 0, "member": 1, "reason": "late", **entry})


# Where it ends


def test_a_model_that_never_runs_is_found_out_at_once():
    runs = []

    def broken(u):
        runs.append(u)
        raise KeyError("mass")

    with pytest.raises(ek.RunError, match="100 of 100 members failed at iteration 0: none") as info:
        ek.run(problem(broken), ek.EKI(), n_members=100, rng=0)
    assert len(runs) == 100
    assert "check the model at one draw of the prior" in str(info.value)
    assert isinstance(info.value.__cause__, KeyError)
    with pytest.raises(ek.RunError, match="none has run yet, and 50 of 50 runs failed"):
        ek.run(problem(broken), ek.EKI(), n_members=5, rng=0)


def test_a_spent_budget_names_the_share_and_the_remedy():
    def rare(u):
        return A @ u if u[0] > 1.7 else np.full(3, np.nan)

    with pytest.raises(ek.RunError) as info:
        ek.run(problem(rare), ek.EKI(), n_members=50, rng=1)
    result = info.value.result
    runs, failed = result.attrs["model_runs"], len(failures_of(result))
    assert 950 <= runs <= 1000
    left = int(result.failed[-1].sum())
    text = str(info.value)
    assert text.startswith(
        f"{left} of 50 members failed at iteration 0: the budget of 20 model runs"
    )
    assert f"{failed} of {runs} runs failed ({100 * failed / runs:.3g} %)" in text
    assert "restrict the prior to the region where the model runs" in text
    assert 'on_failure="drop"' in text
    assert int(np.isfinite(result.g[-1, :, 0]).sum()) == 50 - left


@pytest.mark.slow
def test_a_run_that_takes_too_long_runs_again_elsewhere():
    def slow(u):
        time.sleep(2.0 * fails(u))
        return A @ u

    result = ek.run(problem(slow), ek.EKI(ek.ESMDA(1)), n_members=4, rng=0, timeout=0.1)
    assert len(failures_of(result)) > 0
    assert (result.u[..., 0] <= LIMIT).all()


# What readers are told


def test_the_summary_says_which_prior_the_posterior_belongs_to():
    result = ek.run(problem(data=(-1.0, 0.0, -1.0)), ek.EKI(), n_members=60, rng=0)
    (check,) = [c for c in ek.summary(result).checks if c.topic == "Failures"]
    n, share = len(failures_of(result)), 100 * result.attrs["failed_at_start"]
    assert check.level == "note"
    assert check.sentence.startswith(f"{n} of {result.attrs['model_runs']} model runs failed. No")
    assert (
        f"{share:.3g} % of the draws of the prior failed: the posterior belongs to"
        in check.sentence
    )
    assert "the prior restricted to the region where the model runs." in check.sentence
    assert result.attrs["status_level"] == "good"


def test_a_posterior_that_reaches_into_the_failing_region_is_doubted():
    for method, level in ((ek.EKI(), "care"), (ek.GNKI(), "note")):
        result = ek.run(problem(data=(0.6, 0.6, 0.0)), method, n_members=60, rng=0)
        (check,) = [c for c in ek.summary(result).checks if c.topic == "Failures"]
        assert check.level == level
        assert "% of the model runs after the first iteration failed" in check.sentence
        assert check.sentence.endswith("TemperedSMC.")


def test_the_evidence_counts_failing_draws_as_likelihood_zero():
    """Against the integral of the likelihood over the part of the prior where the model runs."""
    one = ek.InverseProblem(
        lambda u: u if u[0] < LIMIT else np.full(1, np.nan),
        ek.GaussianPrior([0.0], 1.0), 0.5**2, [0.1],
    )  # fmt: skip
    exact, _ = integrate.quad(
        lambda u: stats.norm.pdf(u) * np.exp(-0.5 * (u - 0.1) ** 2 / 0.25), -8, LIMIT
    )
    found = [
        ek.run(one, ek.TemperedSMC(), n_members=500, rng=seed).attrs["log_evidence"]
        for seed in range(8)
    ]
    error = np.std(found, ddof=1) / np.sqrt(8)
    assert error < 0.05
    assert abs(np.mean(found) - np.log(exact)) < 4 * error


# How good it is: the posterior of the prior restricted to where the model runs


EDGE = -0.305
"""Of (u[0] + u[1])/√2: the model fails in 62 % of the prior."""

BESIDE = tuple(A @ np.full(2, (EDGE - 0.11) / np.sqrt(2)))
"""Data whose posterior has its mean one standard deviation from the edge."""


def restricted_posterior():
    """Means and standard deviations of the posterior by quadrature."""
    x, y = np.meshgrid(*[np.linspace(-1.3, 0.7, 1500)] * 2, indexing="ij")
    r = np.stack([x, y], axis=-1) @ A.T - BESIDE
    w = np.exp(-0.5 * np.sum(r**2, axis=-1) / 0.15**2 - 0.5 * (x**2 + y**2))
    w[x + y > EDGE * np.sqrt(2)] = 0
    w /= w.sum()
    mean = np.array([np.sum(w * x), np.sum(w * y)])
    return mean, np.sqrt([np.sum(w * (x - mean[0]) ** 2), np.sum(w * (y - mean[1]) ** 2)])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_posterior_is_met_beside_a_region_where_the_model_fails(method):
    def oblique(u):
        return A @ u if u.sum() <= EDGE * np.sqrt(2) else np.full(3, np.nan)

    target, (mean, sd) = problem(oblique, BESIDE, 0.15**2), restricted_posterior()
    tables = [
        ek.intervals(ek.run(target, method, n_members=400, rng=seed, store="last"))
        for seed in range(5)
    ]
    off = np.mean([(t["mean"] - mean) / sd for t in tables], axis=0)
    ratio = np.mean([t["sd"] / sd for t in tables], axis=0)
    assert np.all(abs(off) < 0.3)
    assert np.all(abs(ratio - 1) < 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS[:3])
def test_failures_by_chance_change_neither_means_nor_spreads(method):
    """Seven standard errors of 2000 draws, for the members of one run are not independent."""
    example = ek.problems.linear(p=3, d=5, rng=0)
    dice = np.random.default_rng(0)

    def flaky(u):
        if dice.random() < 0.3:
            raise RuntimeError("the node died")
        return example.problem.model(u[None])[0]

    known = example.problem
    target = ek.InverseProblem(flaky, known.prior, known.noise, known.data)
    runs = [ek.run(target, method, n_members=400, rng=s, store="last") for s in range(5)]
    sd = np.sqrt(np.diag(example.extra["cov"]))
    off = np.mean([r.u[-1].values.mean(axis=0) for r in runs], axis=0) - example.extra["mean"]
    ratio = np.mean([r.u[-1].values.std(axis=0, ddof=1) / sd for r in runs], axis=0)
    assert np.all(abs(off / sd) < 7 / np.sqrt(5 * 400))
    assert np.all(abs(ratio - 1) < 0.1)
