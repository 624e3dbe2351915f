"""Collapse, misfit and residual: the lines are the numbers of the result."""

import numpy as np
import pytest
from zoo.pictures import line

import ekitools as ek


def test_misfit_shows_the_mean_and_what_is_expected(result):
    ax = ek.plot_misfit(result)
    np.testing.assert_allclose(line(ax, "mean"), result.misfit.mean("member"))
    assert line(ax, "d/2 = 6")[0] == 6


def test_a_loss_has_no_expected_misfit_and_may_be_negative(problem):
    loss = ek.FunctionLoss(lambda z, y: 0.5 * ((z - y) ** 2).sum(-1) - 1e6, lambda z, y: z - y)
    learnt = ek.InverseProblem(problem.model, problem.prior, loss, problem.data)
    result = ek.run(learnt, ek.LossEKI(), n_members=20, n_steps=5, rng=0)
    ax = ek.plot_misfit(result)
    assert (ax.get_title(), ax.get_yscale()) == ("Loss of the members", "linear")
    assert not any("expected" in str(line.get_label()) for line in ax.get_lines())


def test_collapse_shows_both_spreads(result, problem):
    ax = ek.plot_collapse(result, problem=problem)
    u = result.u.values
    spread = ((u - u.mean(1, keepdims=True)) ** 2).sum(2).mean(1)
    np.testing.assert_allclose(line(ax, "parameters"), spread / spread[0])
    assert ax.get_yscale() == "log"


def test_a_long_flow_shows_the_rate_of_the_theory(problem):
    method = ek.EKI(ek.FixedStep(5.0), t_end=None, perturbed=False)
    ax = ek.plot_collapse(ek.run(problem, method, n_members=10, n_steps=15, rng=0))
    assert ax.get_xscale() == "log"
    rate = line(ax, "t^{-1}")
    assert rate[0] / rate[-1] == pytest.approx(15)


def test_residual_shows_the_parts_of_the_theory_for_a_linear_model(result, problem):
    ax = ek.plot_residual(result, problem=problem)
    mean = np.linalg.norm((result.g.mean("member") - result.y) / np.sqrt(0.1), axis=1)
    np.testing.assert_allclose(line(ax, "bar{g}"), mean)
    diagnosis = ek.diagnose(result, problem)
    np.testing.assert_allclose(line(ax, "parallel"), diagnosis.residual_parallel)
    np.testing.assert_allclose(line(ax, "perp"), diagnosis.residual_perpendicular)
    assert len(ek.plot_residual(result).get_lines()) == 2
