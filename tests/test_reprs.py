"""Reprs of problems and their parts: one screen at most, shapes and no arrays, and escaped HTML."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import ekitools as ek

EXAMPLES = ("darcy", "darcy_field", "deconvolution", "linear", "lorenz96", "lynx_hare")


def blocks():
    days = pd.date_range("2024-01-01", periods=3)
    return ek.InverseProblem(
        lambda u: {"<b>level</b>": np.full(3, u[0]), "flow": np.full(2, u[1])},
        ek.Prior({"a & b": stats.lognorm(0.5, scale=2), "c": stats.norm(0, 1)}),
        data={"<b>level</b>": pd.Series([1.0, np.nan, 2.0], days),
              "flow": xr.DataArray([1.0, 2.0], dims="t", attrs={"units": "m3/s"})},
        noise_sd=0.1,
    )  # fmt: skip


def unknown():
    return ek.InverseProblem(
        ek.LinearModel(np.eye(2)), ek.GaussianPrior([0.0, 1.0], [[4.0, 0.0], [0.0, 9.0]]),
        ek.UnknownNoise(stats.lognorm(1.0)), [1.0, 2.0],
    )  # fmt: skip


def series():
    made = ek.ObservationSeries([ek.Observation([float(i)], 0.1) for i in range(30)], size=5)
    return ek.InverseProblem(ek.LinearModel(np.ones((30, 1))), ek.GaussianPrior(0.0, [1.0]),
                             data=made)  # fmt: skip


def batches():
    model = ek.FunctionModel(lambda u, inputs: inputs @ u, takes_inputs=True)
    return ek.InverseProblem(model, ek.GaussianPrior(np.zeros(2), 1.0), 0.1,
                             ek.MiniBatches(np.ones((40, 2)), np.ones(40), 10))  # fmt: skip


def long_names():
    prior = ek.JointPrior({f"{i}" * 300: ek.GaussianPrior(0.0, [1.0]) for i in range(40)})
    return ek.InverseProblem(ek.LinearModel(np.eye(40)), prior, np.eye(40), np.zeros(40))


MADE = (blocks, unknown, series, batches, long_names)


def check_short(thing):
    text = repr(thing)
    assert len(text.splitlines()) <= 20
    assert all(len(line) <= 240 for line in text.splitlines())
    assert "array(" not in text
    assert "..." not in text
    return text


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_show_shapes(name):
    example = getattr(ek.problems, name)()
    text = check_short(example)
    problem = example.problem
    assert f"parameters {problem.n_parameters}" in text
    assert repr(problem).splitlines()[1] in text
    assert example._repr_html_() == problem._repr_html_()
    for part in (problem, problem.model, problem.prior, problem.noise):
        check_short(part)


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.__name__)
def test_problems_show_sizes(made):
    problem = made()
    text = check_short(problem)
    assert text.startswith("InverseProblem\n  model")
    html = problem._repr_html_()
    assert "array(" not in html
    assert len(html) < 12_000
    assert f"{problem.n_parameters} parameters, {problem.n_data} data" in html
    tags = re.findall(r"</?(\w+)", html.split("</style>")[1])
    assert set(tags) <= {"div", "p", "strong", "table", "caption", "span", "thead", "tbody",
                         "tr", "th", "td"}  # fmt: skip


def test_html_has_priors_units_gaps_and_is_escaped():
    problem = blocks()
    html = problem._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;level&lt;/b&gt;" in html
    assert "a &amp; b" in html
    assert "lognorm(0.5, scale=2)" in html
    assert "m3/s" in html
    cells = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", html)
    at = cells.index("&lt;b&gt;level&lt;/b&gt;")
    assert cells[at + 1 : at + 3] == ["2", "1"]  # observed, missing
    assert "<b>level</b> (2, 1 missing), flow (2)" in repr(problem)


def test_parameters_with_a_scale_of_the_noise_have_rows():
    html = unknown()._repr_html_()
    assert "normal, mean 1, sd 3" in html
    assert "scale of the noise" in html


def test_the_number_of_hidden_rows_is_named():
    html = long_names()._repr_html_()
    assert "8 of 40 parameters shown" in html
    assert "8 of 30 blocks of data shown" in series()._repr_html_()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.text(max_size=40), st.integers(0, 3))
def test_no_repr_grows_with_the_problem(p, d, text, form):
    name = text.strip() or "x"
    noise = (0.1, np.full(d, 0.1), np.eye(d), (np.full(d, 0.1), np.ones((d, 2))))[form]
    problem = ek.InverseProblem(
        ek.LinearModel(np.ones((d, p))),
        ek.Prior({f"{name}{i}": stats.norm() for i in range(p)}) if p < 40 else (
            ek.GaussianPrior(np.zeros(p), np.eye(p))),
        noise,
        np.zeros(d),
    )  # fmt: skip
    for thing in (problem, problem.prior, problem.noise):
        shown = repr(thing)
        assert len(shown) < 1500 + 8 * len(repr(name)) * 3
        assert "array(" not in shown.replace(name, "")
    assert "<script" not in problem._repr_html_()
