"""Pictures of results with one of something, very many, long names, or nothing that is known."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import ekitools as ek


def long_names(problem, name):
    p, d = problem.n_parameters, problem.n_data
    names = [name.format(i) for i in range(p)]
    return ek.InverseProblem(
        problem.model, problem.prior, problem.noise, problem.data, parameter_names=names,
        data_names=[f"well {i} / north" for i in range(d)],
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["a pressure that is known to nobody(site={})", "conductivity of the layer $k_{}$ [m/s]",
     r"$\sigma_{{\mathrm{{a \; boundary \; layer}}, {}}}$", "of a price in $ of the year {}"],
)  # fmt: skip
def test_long_names_are_told_apart_and_stay_within_their_place(name, problem):
    result = ek.run(long_names(problem, name), ek.EKI(), n_members=20, rng=0)
    comparison = ek.compare([result], result)
    for texts in (
        [label.get_text() for label in ek.plot_marginals(result).get_yticklabels()],
        [panel.get_xlabel() for panel in ek.plot_ensemble(result)],
        [label.get_text() for label in ek.plot_comparison(comparison).get_xticklabels()],
        [panel.get_xlabel() for panel in ek.plot_pairs(result)[-1]],
    ):
        assert len(set(texts)) == 4
        assert all(len(text) <= 36 or text in result.parameter for text in texts)
        plt.gcf().canvas.draw()  # where a formula that was cut would not be understood


def test_what_is_left_out_is_said():
    rows = np.random.default_rng(0).normal(size=(5, 200))
    many = ek.InverseProblem(
        ek.LinearModel(rows), ek.GaussianPrior(np.zeros(200), 1.0), 1.0, rows[:, 0]
    )
    result = ek.run(many, ek.EKI(), n_members=10, rng=0)
    assert ek.plot_marginals(result).get_ylabel() == "parameter, 20 of 200"
    legend = ek.plot_diagnostic(result, "spread").get_legend()
    assert legend.get_title().get_text() == "the first 6 of 200"
    figure = ek.plot_ensemble(result)[0].figure
    assert figure.get_suptitle() == "The first 12 of 200 parameters"


def shown_ticks(ax):
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    return [float(tick) for tick in ax.get_xticks() if low <= tick <= high]


def test_one_iteration_and_one_datum_can_be_seen(problem):
    row, prior = ek.LinearModel([[1.0, 2.0]]), ek.GaussianPrior([0.0, 0.0], 1.0)
    one = ek.InverseProblem(row, prior, 0.1, [1.0])
    result = ek.run(one, ek.EKI(), n_members=20, rng=0, store="last")
    last = float(result.iteration[-1])
    for ax in (ek.plot_collapse(result), ek.plot_residual(result), ek.plot_diagnostic(result, "t")):
        assert shown_ticks(ax) == [last]
    ax = ek.plot_predictive(result)
    assert shown_ticks(ax) == [0.0]
    wide, narrow = (each.get_segments()[0][:, 1] for each in ax.collections)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert ax.get_lines()[0].get_marker() == "_"


def test_one_parameter_has_its_legend_within_the_figure(problem):
    result = ek.run(ek.problems.linear(p=1, d=3).problem, ek.EKI(), n_members=20, rng=0)
    ax = ek.plot_pairs(result)[0, 0]
    ax.figure.canvas.draw()
    box, whole = ax.get_legend().get_window_extent(), ax.figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1


def test_what_is_not_known_or_does_not_move_is_drawn_as_such(problem):
    learnt = ek.InverseProblem(problem.model, problem.prior, ek.Huber(0.1), problem.data)
    ax = ek.plot_residual(ek.run(learnt, ek.LossEKI(), n_members=20, n_steps=3, rng=0))
    assert [text.get_text() for text in ax.texts[:1]] == ["unknown: all values are NaN"]
    assert len(ax.get_lines()) == 1  # no level of a noise that is not there
    still = ek.FunctionModel(lambda u: np.zeros(12))
    flat = ek.InverseProblem(still, problem.prior, problem.noise, np.zeros(12))
    with pytest.warns(RuntimeWarning, match="all 20 members have identical outputs"):
        result = ek.run(flat, ek.EKI(), n_members=20, rng=0)
    ax = ek.plot_collapse(result)
    outputs = next(each for each in ax.get_lines() if "outputs" in each.get_label())
    assert np.isnan(outputs.get_ydata()).all()
