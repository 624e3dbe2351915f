"""The bound on the cost of a run that its step rule cannot bring to the end."""

import numpy as np
import pytest

import ekitools as ek

BOUND = 30


def folded(sd):
    """y = u² = 1 under N(0, 1): both modes average out, and the linear update moves nothing."""
    model = ek.FunctionModel(lambda u: u**2, vectorized=True)
    return ek.InverseProblem(model, ek.GaussianPrior(0.0, [1.0]), sd**2, [1.0])


@pytest.mark.parametrize("sd", [0.1, 0.01])
@pytest.mark.parametrize("method", [ek.EKI(), ek.ETKI(), ek.GNKI()], ids=repr)
def test_a_run_that_crawls_ends_at_the_bound_and_says_why(method, sd):
    """Without the bound: 190 to 300 model runs of every member at sd = 0.1."""
    n = 50
    result = ek.run(folded(sd), method, n_members=n, rng=0)
    assert result.attrs["model_runs"] == BOUND * n
    assert result.attrs["status_code"] == "steps_too_small"
    assert result.attrs["status_level"] == "bad"
    assert not result.attrs["posterior"]
    for word in ("do not fall", "TemperedSMC", "max_runs=None"):
        assert word in result.attrs["status"]


@pytest.mark.parametrize("bound", [12, None])
def test_the_bound_is_an_option(bound):
    result = ek.run(folded(0.15), ek.EKI(ek.MisfitController(bound)), n_members=50, rng=0)
    assert result.attrs["status_code"] == ("steps_too_small" if bound else "posterior_reached")
    runs = result.attrs["model_runs"] / 50
    assert runs == bound if bound else runs > 2 * BOUND
    with pytest.raises(ValueError, match=r"max_runs: must be at least 1, got 0. Use None"):
        ek.MisfitController(0)


@pytest.mark.parametrize("method", [ek.EKI(ek.FixedStep(0.01)), ek.ETKI(ek.ESMDA(50))], ids=repr)
def test_small_steps_that_were_asked_for_are_made(method):
    result = ek.run(folded(0.1), method, n_members=20, rng=0)
    assert result.attrs["status_code"] == "posterior_reached"
    assert result.attrs["model_runs"] >= 51 * 20


@pytest.mark.parametrize("sd", [1e-9, 1e-11])
def test_steps_that_grow_go_on(sd):
    """Noise far below the misfits takes many steps, each a multiple of the one before."""
    matrix = np.array([[1.0, 0.5], [0.3, -1.0], [1.0, 1.0]])
    problem = ek.InverseProblem(
        ek.LinearModel(matrix), ek.GaussianPrior(np.zeros(2), 1.0), sd**2, matrix @ [0.3, -0.4]
    )
    result = ek.run(problem, ek.EKI(), n_members=50, rng=0)
    assert result.attrs["model_runs"] > BOUND * 50
    assert result.attrs["status_code"] == "posterior_reached"


def test_a_series_of_observations_counts_its_epochs():
    """Each of 40 observations takes several steps: more than 30 updates, and no crawl."""
    matrices = np.random.default_rng(0).normal(size=(40, 2, 2))
    series = ek.ObservationSeries(
        [
            ek.Observation(A @ [0.5, -1.0], 0.01, inputs=A, name=str(i))
            for i, A in enumerate(matrices)
        ]
    )
    model = ek.FunctionModel(lambda u, inputs: u @ inputs.T, vectorized=True, takes_inputs=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(2), 1.0), None, series)
    result = ek.run(problem, ek.EKI(), n_members=30, rng=0)
    assert result.sizes["iteration"] > 2 * BOUND
    assert result.attrs["status_code"] == "posterior_reached"
