"""Several results go together by label, never by position; what does not fit is refused."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

import ekitools as ek
from ekitools.results.alignment import aligned, as_chains

A = np.array([[1.0, 2.0], [0.5, -1.0], [1.0, 0.0]])
NAMES = ("a", "b")
TRUTH = {"a": 1.0, "b": -2.0}
Y = A @ [1.0, -2.0]


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def problem_of(names=NAMES, y=Y, noise=0.01, sd=1.0, data_names=None, rows=(0, 1, 2)):
    """The same problem whatever the order of its parameters and data."""
    columns, rows = [NAMES.index(name) for name in names], list(rows)
    return ek.InverseProblem(
        ek.LinearModel(A[rows][:, columns]),
        ek.Prior({name: stats.norm(0, sd) for name in names}),
        noise,
        np.asarray(y)[rows],
        data_names=data_names,
    )


def run(problem, seed=0, n_members=40, **options):
    return ek.run(problem, ek.EKI(), n_members=n_members, rng=seed, **options)


FIRST, TURNED = run(problem_of()), run(problem_of(("b", "a")), 1)


def renamed(result, names):
    return result.assign_coords(parameter=np.array(names, dtype=object))


# Another order


def test_chains_are_put_together_by_name():
    posterior = ek.to_arviz([FIRST, TURNED]).posterior
    for name, value in TRUTH.items():
        assert posterior[name].mean("draw").values == pytest.approx([value] * 2, abs=0.2)
    np.testing.assert_array_equal(posterior["a"][1], TURNED.u[-1].sel(parameter="a"))
    prior = ek.to_arviz([FIRST, TURNED]).prior
    np.testing.assert_array_equal(prior["b"][1], TURNED.u[0].sel(parameter="b"))


def test_chains_have_their_data_in_one_order():
    names = ("x", "y", "z")
    one = run(problem_of(data_names=names))
    other = run(problem_of(data_names=("z", "x", "y"), rows=(2, 0, 1)), 1)
    data = ek.to_arviz([one, other])
    g = data.predictions["y"]
    assert g["data"].values.tolist() == list(names)
    np.testing.assert_array_equal(g[1].sel(data="z"), other.g[-1].sel(data="z"))


def test_errors_of_the_mean_go_by_name():
    ax = ek.plot_error({"one": FIRST, "other": TURNED}, list(TRUTH.values()))
    for line in ax.get_lines():
        assert line.get_ydata()[-1] < 0.2


def test_a_comparison_goes_by_name():
    comparison = ek.compare(
        {"one": FIRST, "other": TURNED}, (np.array([1.0, -2.0]), 0.1 * np.eye(2))
    )
    assert comparison.parameter.values.tolist() == ["a", "b"]
    np.testing.assert_allclose(comparison["mean"], [[1, -2], [1, -2]], atol=0.2)
    by_result = ek.compare({"other": TURNED}, FIRST)
    assert float(by_result.mean_error_max[0]) < 2


def test_diagnostics_along_names_go_by_name():
    several = {"one": ek.compare([FIRST], TRUTH_PAIRS), "other": ek.compare([TURNED], TRUTH_PAIRS)}
    assert several["other"].parameter.values.tolist() == ["b", "a"]
    ax = ek.plot_diagnostic(several, "reference_mean")
    one, other = (line.get_xdata().tolist() for line in ax.get_lines())
    assert one == other == [1.0, -2.0]
    with pytest.raises(ValueError, match=r"measured\['x'\]: must have the parameters of 'one'"):
        ek.plot_diagnostic(
            {**several, "x": renamed(several["other"], ["c", "d"])}, "reference_mean"
        )


TRUTH_PAIRS = {name: (value, 0.1) for name, value in TRUTH.items()}


def test_a_problem_is_matched_by_name():
    prior = {"a": stats.norm(0, 1), "b": stats.norm(50, 1)}

    def solved(names):
        return ek.InverseProblem(
            ek.LinearModel(np.eye(2)), ek.Prior({name: prior[name] for name in names}), 1.0, [0, 0]
        )

    result = run(solved(("a", "b")), store="last")
    table = ek.summary(result, solved(("b", "a"))).table
    assert table.start_mean.sel(parameter="b").item() == pytest.approx(50, abs=0.2)
    assert table.start_mean.sel(parameter="a").item() == pytest.approx(0, abs=0.2)
    with pytest.raises(ValueError, match=r"problem: must be the problem of the result.*a, b.*a, c"):
        ek.plot_marginals(result, problem=problem_of_names("a", "c"))
    with pytest.raises(ValueError, match="problem: must have the parameters in the order"):
        ek.diagnose(run(problem_of()), problem_of(("b", "a")))


def problem_of_names(*names):
    prior = ek.Prior({name: stats.norm(0, 1) for name in names})
    return ek.InverseProblem(ek.LinearModel(np.eye(len(names))), prior, 1.0, np.zeros(len(names)))


# What does not fit


OTHERS = {
    "names": (renamed(TURNED, ["b", "c"]), r"without a and with additional c"),
    "fewer": (TURNED.sel(parameter=["b"]), r"got a result without a\."),
    "data": (run(problem_of(y=Y + 1), 1), r"the same data y as .*other values, such as"),
    "number of data": (TURNED.isel(data=[0, 1]), r"got 2 data instead of 3"),
    "names of data": (run(problem_of(data_names=("q", "r", "s"))), r"data with other names"),
}


@pytest.mark.parametrize("what", list(OTHERS))
@pytest.mark.parametrize(
    ("together", "called"),
    [
        (lambda one, other: ek.to_arviz([one, other]), r"result\[1\]"),
        (lambda one, other: ek.plot_arviz([one, other]), r"result\[1\]"),
        (lambda one, other: ek.plot_error({"p": one, "q": other}, [1.0, -2.0]), r"results\['q'\]"),
        (lambda one, other: ek.compare({"p": one, "q": other}, GAUSSIAN), r"results\['q'\]"),
    ],
)
def test_what_differs_is_named(together, called, what):
    other, message = OTHERS[what]
    with pytest.raises(ValueError, match=f"^{called}: must .*{message}"):
        together(FIRST, other)


GAUSSIAN = (np.zeros(2), np.eye(2))


def test_a_reference_of_other_data_is_refused():
    with pytest.raises(ValueError, match="^reference: must have the same data y as results"):
        ek.compare({"p": FIRST}, OTHERS["data"][0])


@pytest.mark.parametrize(
    ("other", "part"),
    [(problem_of(noise=0.02), "noise"), (problem_of(sd=2.0), "prior")],
)
def test_chains_are_of_one_noise_and_one_prior(other, part):
    with pytest.raises(
        ValueError, match=rf"^result\[1\]: must be a run .* whose {part} differs\. Chains"
    ):
        as_chains([FIRST, run(other)])
    both = {"p": FIRST, "q": run(other)}
    assert ek.compare(both, GAUSSIAN).sizes["label"] == 2  # other choices may be compared


def test_a_reference_with_names_chooses_the_parameters():
    other = renamed(TURNED, ["b", "c"])
    comparison = ek.compare({"p": FIRST, "q": other}, {"b": (-2.0, 0.1)})
    assert comparison.parameter.values.tolist() == ["b"]


def test_nothing_and_no_result_are_refused():
    with pytest.raises(ValueError, match="^result: must be at least one result"):
        ek.to_arviz([])
    with pytest.raises(TypeError, match=r"^result\[1\]: must be the Dataset"):
        ek.to_arviz([FIRST, 3])
    assert aligned({}) == {}


# Batches


def batches(seed, size=4, shift=0.0, **options):
    x = np.linspace(0, 1, 16)
    line = ek.FunctionModel(
        lambda u, inputs: u[:, :1] + u[:, 1:2] * inputs, vectorized=True, takes_inputs=True
    )
    data = ek.MiniBatches(x, 1 + 2 * x + shift, size)
    problem = ek.InverseProblem(line, ek.GaussianPrior([0.0, 0.0], 1.0), 0.1, data)
    return ek.run(problem, ek.LossEKI(), n_members=20, n_steps=6, rng=seed, **options)


def test_runs_with_batches_of_the_same_data_are_chains_and_others_are_not():
    one, other = batches(0), batches(1)
    assert not np.array_equal(one.y, other.y)  # the batch of the last step
    assert ek.to_arviz([one, other]).posterior.sizes["chain"] == 2
    with pytest.raises(ValueError, match="whose data differs"):
        ek.to_arviz([one, batches(1, shift=1.0)])
    changed = one.assign(y=one.y + 1)
    with pytest.raises(ValueError, match="the same data y"):
        ek.to_arviz([FIRST, FIRST.assign(y=FIRST.y + 1)])
    assert ek.compare([one, changed], GAUSSIAN).sizes["label"] == 2


# Numbers of members, and groups


def test_chains_of_other_numbers_of_members_are_cut_with_a_word():
    with pytest.warns(UserWarning, match="^result: the runs have 30 to 40 members that did not"):
        data = ek.to_arviz([FIRST, run(problem_of(), 1, 30)])
    assert data.posterior.sizes["draw"] == 30


def test_a_weighted_chain_is_resampled_to_the_common_number():
    sampled = ek.run(problem_of(), ek.TemperedSMC(), n_members=50, rng=0)
    with pytest.warns(UserWarning, match="40 to 50 members"):
        data = ek.to_arviz([FIRST, sampled])
    assert data.posterior.sizes["draw"] == 40


def test_groups_that_only_some_runs_have_are_left_out_with_a_word():
    short = run(problem_of(), 1, store="last", evaluate_final=False)
    with pytest.warns(UserWarning, match="is left out") as caught:
        data = ek.to_arviz([FIRST, short])
    texts = [str(warning.message) for warning in caught]
    assert any(t.startswith("result: prior is left out, because result[1] has") for t in texts)
    assert any("posterior_predictive and sample_stats is left out" in t for t in texts)
    assert not hasattr(data, "prior")
