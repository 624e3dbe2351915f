"""The page and the summary: well-formed, self-contained, and showing the numbers."""

import base64
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import ekitools as ek
from ekitools.cli import main
from ekitools.core.markup import STYLE
from ekitools.pages.page import CITATION
from ekitools.results.linearity import nonlinear_share
from ekitools.results.trust import judge

ROOT = Path(__file__).parents[2]
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Reads a page, and insists on what a person and a screen reader need."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.images, self.cells, self.links = [], [], [], [], []
        self.ids, self.levels, self.scopes = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "th":
            self.scopes.append(attributes.get("scope"))
        if tag == "img":
            self.images.append(attributes)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        self.links += [attributes[name] for name in ("href", "src") if name in attributes]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data

    def row(self, name, n):
        """The ``n`` cells after the last one called ``name``."""
        at = len(self.cells) - 1 - self.cells[::-1].index(name)
        return self.cells[at + 1 : at + 1 + n]

    def first(self, name, n):
        """The ``n`` cells after the first one called ``name``."""
        at = self.cells.index(name)
        return self.cells[at + 1 : at + 1 + n]


def written(result, tmp_path, problem=None):
    before = plt.get_fignums()
    text = ek.report(result, tmp_path / "deep" / "er" / "page.html", problem).read_text("utf-8")
    assert plt.get_fignums() == before
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text
    page = Page(text)
    for link in page.links:
        assert link.startswith(("data:image/svg+xml;base64,", "#"))
        assert not link.startswith("#") or link[1:] in page.ids
    for image in page.images:
        assert len(image["alt"]) > 10
        svg = base64.b64decode(image["src"].split(",")[1]).decode("utf-8")
        assert "<svg" in svg
        assert not re.search(r'href="(?!#|data:)', svg)
    assert page.tags.count("figure") == page.tags.count("figcaption") == len(page.images)
    assert page.tags.count("table") == page.tags.count("caption")
    assert set(page.scopes) <= {"row", "col"}
    assert page.levels[0] == 1
    assert set(page.levels[1:]) == {2}
    return text, page


@pytest.fixture(scope="module")
def problem():
    return ek.problems.linear(p=4, d=12, rng=1).problem


@pytest.fixture(scope="module")
def result(problem):
    return ek.run(problem, ek.EKI(ek.FixedStep(0.25)), n_members=80, rng=0)


def reread(result, tmp_path):
    result.to_netcdf(tmp_path / "again.nc")
    with xr.open_dataset(tmp_path / "again.nc") as read:
        return read.load()


def shown(value):
    return f"{float(value):.4g}"


def test_the_page_shows_the_numbers_of_the_result(result, tmp_path):
    text, page = written(result, tmp_path)
    assert len(page.images) == 5
    for name in result.parameter.values:
        first, last = (result.u[i].sel(parameter=name) for i in (0, -1))
        expected = []
        for u in (first, last):
            low, high = np.quantile(u, [0.05, 0.95])
            expected += [shown(u.mean()), shown(u.std(ddof=1)), f"{shown(low)} to {shown(high)}"]
        share = 100 * float(last.std(ddof=1) / first.std(ddof=1))
        assert page.first(name, 7) == [*expected, f"{share:.3g} %"]
    assert page.row("Model runs", 1) == [str(result.attrs["model_runs"])]
    assert page.row("Seed", 1) == ["rng=0"]
    assert page.row("Root of the random streams", 1) == [result.attrs["seed"]]
    assert page.row("Status", 2) == ["good", result.attrs["status"]]
    assert page.row("step", 1) == ["FixedStep(h=0.25)"]
    assert page.row("numpy", 1) == [np.__version__]
    misfit = shown(result.misfit[-1].mean())
    assert misfit in page.row("Misfit", 2)[1]
    assert f"from {shown(result.misfit[0].mean())} to {misfit}" in page.images[1]["alt"]
    assert "No model run failed." in text
    assert "Iglesias, Law &amp; Stuart (2013), Inverse Problems 29, 045001." in text


def test_the_same_result_gives_the_same_bytes(result, tmp_path):
    texts = [ek.report(result, tmp_path / name).read_bytes() for name in ("a.html", "b.html")]
    assert texts[0] == texts[1]


def test_citation_is_that_of_the_file(result, tmp_path):
    cff = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f'title: "{CITATION["title"]}"' in cff
    assert f"- name: {CITATION['author']}" in cff
    assert f'date-released: "{CITATION["year"]}-' in cff
    text, _ = written(result, tmp_path)
    assert f"({CITATION['year']}). {CITATION['title']}, version {ek.__version__}." in text


def test_failed_members_are_listed_and_foreign_text_is_escaped(problem, tmp_path):
    def flaky(u):
        if u[0] > 1:
            raise ArithmeticError("<b>too hot</b> & high")
        return problem.model(u)

    failing = ek.InverseProblem(
        ek.FunctionModel(flaky), problem.prior, 0.1, problem.data,
        parameter_names=["<i>a</i>", "b & c", '"q"', "d" * 60])  # fmt: skip
    result = ek.run(failing, ek.EKI(), n_members=60, rng=0, on_failure="drop")
    failures = json.loads(result.attrs["failures"])
    assert len(failures) > 3
    text, page = written(result, tmp_path)
    assert "<b>" not in text
    assert "<i>" not in text
    reason = failures[0]["reason"]
    assert page.cells.count(reason) == len(failures[:30]) + 1  # the list, and the counts
    counts = page.cells.index(reason)
    assert page.cells[counts - 1] == str(len(failures))
    assert f"{len(failures)} of {result.attrs['model_runs']} model runs failed" in text
    assert f"60, {60 - len(failures)} left" in page.cells


def test_reasons_that_differ_in_numbers_alone_are_counted_together(problem, tmp_path):
    def flaky(u):
        if u[0] > 1:
            raise ArithmeticError(f"no root near x2 = {u[0]:.3e} in 50 steps")
        return problem.model(u)

    failing = ek.InverseProblem(ek.FunctionModel(flaky), problem.prior, 0.1, problem.data)
    result = ek.run(failing, ek.EKI(), n_members=60, rng=0, on_failure="drop")
    failures = json.loads(result.attrs["failures"])
    assert len({failure["reason"] for failure in failures}) == len(failures) > 3
    _, page = written(result, tmp_path)
    counted = "ArithmeticError('no root near x2 = … in … steps')"
    assert page.cells[page.cells.index(counted) - 1] == str(len(failures))
    assert failures[0]["reason"] in page.cells


def test_captions_claim_no_start_where_none_is_known(problem, tmp_path):
    rows = np.random.default_rng(0).normal(size=(5, 8))
    many = ek.InverseProblem(
        ek.LinearModel(rows), ek.GaussianPrior(np.zeros(8), 1.0), 0.1, np.ones(5)
    )
    known, unknown = (
        written(ek.run(many, ek.EKI(), n_members=40, rng=0, store=store), tmp_path)[0]
        for store in ("all", "last")
    )
    for claim in ("at the start", "the faint band", "was reduced most"):
        assert claim in known
        assert claim not in unknown
    assert "the first 6 parameters" in unknown


def test_thousands_of_parameters_are_summed_up(tmp_path):
    p, n = 3000, 40
    rows = np.random.default_rng(0).normal(size=(5, p))
    rows[:, 7] = 300.0  # of this one the data tell most
    problem = ek.InverseProblem(
        ek.LinearModel(rows), ek.GaussianPrior(np.zeros(p), 1.0), 0.1, np.ones(5)
    )
    result = ek.run(problem, ek.EKI(), n_members=n, rng=0)
    text, page = written(result, tmp_path)
    assert len(text) < 2_000_000
    ratio = (result.u[-1].std("member") / result.u[0].std("member")).values
    best = result.parameter.values[np.argsort(ratio, kind="stable")[:20]].tolist()
    assert best[0] == "u7"
    assert ek.summary(result).table.parameter.values.tolist() == best
    assert f"{100 * np.median(ratio):.3g} %" in text
    assert "The 20 of 3000 parameters" in text
    assert ek.summary(result).trust.level == "care"  # 40 members for 3000 parameters
    assert page.first("u7", 1) == [shown(result.u[0, :, 7].mean())]


def test_weights_of_a_sampler_are_used(problem, tmp_path):
    result = ek.run(problem, ek.TemperedSMC(), n_members=300, rng=0)
    assert np.ptp(result.weight[-1].values) > 0
    text, page = written(result, tmp_path)
    mean = float(result.u[-1, :, 0] @ result.weight[-1])
    assert page.first("u0", 7)[3] == shown(mean)
    low = result.u[-1, :, 0].weighted(result.weight[-1]).quantile(0.05)
    assert float(page.first("u0", 7)[5].split(" to ")[0]) == pytest.approx(float(low), rel=0.05)
    assert page.row("Log evidence", 1) == [f"{result.attrs['log_evidence']:.4f}"]
    assert "Effective number of members" in text
    assert ek.summary(result).trust.level == "good"


@pytest.mark.parametrize("store", ["last", "final"])
def test_the_start_that_was_not_stored_comes_from_the_problem(problem, store, tmp_path):
    result = ek.run(problem, ek.EKI(), n_members=80, rng=0, store=store)
    _, page = written(result, tmp_path)
    assert page.first("u0", 3)[0] == shown(result.u[-1, :, 0].mean())
    assert "prior mean" not in page.cells
    _, page = written(result, tmp_path, problem)
    draws = problem.prior.sample(4000, rng=0)
    assert page.first("u0", 2) == [shown(draws[:, 0].mean()), shown(draws[:, 0].std(ddof=1))]


def test_learning_and_what_was_not_evaluated(tmp_path):
    x = np.linspace(-1, 1, 40)[:, None]
    labels = (x[:, 0] > 0.2).astype(float)
    model = ek.FunctionModel(
        lambda u, inputs: u[:, :1] + u[:, 1:] * inputs.T, vectorized=True, takes_inputs=True
    )
    problem = ek.InverseProblem(
        model, ek.GaussianPrior(np.zeros(2), 9.0), ek.BinaryCrossEntropy(),
        ek.MiniBatches(x, labels, 20))  # fmt: skip
    result = ek.run(problem, ek.LossEKI(), n_members=30, n_steps=20, rng=0, store="final")
    text, page = written(result, tmp_path, problem)
    assert page.row("Loss", 1) == ["good"]
    assert "has a loss in place of noise" in text
    assert "not a sample of the posterior" in text
    unknown = ek.run(problem, ek.LossEKI(), n_members=30, n_steps=5, rng=0, store="final",
                     evaluate_final=False)  # fmt: skip
    text, _ = written(unknown, tmp_path)
    assert "there are no predictions to show" in text


def test_flows_say_how_they_were_solved(problem, tmp_path):
    result = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 5), n_members=20, rng=0)
    _, page = written(result, tmp_path)
    assert "RK45" in page.row("Solver", 1)[0]
    assert "last ensemble mean" in page.cells


def test_a_run_that_came_to_grief(problem, tmp_path):
    def broken(u):
        raise ArithmeticError("always")

    failing = ek.InverseProblem(ek.FunctionModel(broken), problem.prior, 0.1, problem.data)
    with pytest.raises(ek.RunError) as caught:
        ek.run(failing, ek.EKI(), n_members=10, rng=0)
    text, page = written(caught.value.result, tmp_path)
    assert "Do not rely on this result" in text
    assert page.row("Status", 1) == ["bad"]


def test_one_parameter_and_one_datum(tmp_path):
    problem = ek.InverseProblem(ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])
    text, _ = written(ek.run(problem, ek.EKI(), n_members=30, rng=0), tmp_path)
    assert "The problem has one parameter." in text


def test_the_command_reads_a_file(result, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    result.to_netcdf("r.nc")
    assert main(["report", "r.nc"]) == 0
    assert "Wrote r.html." in capsys.readouterr().out
    ek.report(result, "direct.html")
    assert Path("r.html").read_bytes() == Path("direct.html").read_bytes()
    Path("linear_for_report.py").write_text(
        "import ekitools as ek\ndef made():\n    return ek.problems.linear(p=4, d=12, rng=1)\n"
    )
    result.isel(iteration=[-1]).to_netcdf("last.nc")
    words = ["report", "last.nc", "--out", "o/p.html", "--problem", "linear_for_report:made"]
    assert main([*words, "--title", "Mine"]) == 0
    assert "prior mean" in Page(Path("o/p.html").read_text("utf-8")).cells
    assert "<h1>Mine</h1>" in Path("o/p.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no.nc"], "result: must be a file, got no.nc"),
        (["r.nc", "--problem", "math"], "--problem: must be MODULE:FUNCTION"),
        (["r.nc", "--problem", "math:nothing"], "must be a name in the module math, got 'nothing'"),
        (["r.nc", "--problem", "math:pi"], "problem: must be an ek.InverseProblem"),
        (["r.nc", "--out", "r.nc"], "--out: must not be the result itself"),
        (["r.nc", "--out", "."], "--out: must be a file, got the folder .."),
        (["r.nc", "--out", "text.nc/page.html"], "--out: must be a file that can be written, got"),
        (["."], "result: must be a file, got ., a folder"),
        (["text.nc"], "result: must be a netCDF file, as ekitools run"),
        (["bare.nc"], "result: must be the Dataset that ek.run returns"),
    ],
)
def test_the_command_says_what_is_wrong(words, message, result, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    result.isel(iteration=[-1]).to_netcdf("r.nc")
    xr.Dataset({"a": 1}).to_netcdf("bare.nc")
    Path("text.nc").write_text("no result\n")
    assert main(["report", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_notebook_shows_what_is_printed(result):
    summary = ek.summary(result)
    html, text = summary._repr_html_(), repr(summary)
    Page(html)
    assert result.eki._repr_html_() == html
    assert repr(result.eki) == text
    for check in summary.checks:
        assert check.sentence in text
    for cells in summary.rows():
        assert all(cell in text for cell in cells)
    assert "eki" not in result  # nothing was added to the Dataset
    assert summary.trust.sentence in html


def test_the_accessor_writes_the_page(result, tmp_path):
    ek.report(result, tmp_path / "a.html")
    result.eki.report(tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_what_is_no_result_is_refused(result, tmp_path):
    with pytest.raises(TypeError, match="result: must be the Dataset"):
        ek.summary(3)
    with pytest.raises(ValueError, match="problem: must be the problem of the result"):
        ek.report(result, tmp_path / "x.html", ek.problems.linear(p=3).problem)
    assert not (tmp_path / "x.html").exists()


def level(result, topic):
    (found,) = [check.level for check in judge(result) if check.topic == topic]
    return found


def test_an_ensemble_that_lost_most_of_its_members_is_told(problem):
    runs = []

    def dying(u):
        runs.append(u)
        if len(runs) > 40 and len(runs) % 12 == 0:  # fewer than one run in ten
            raise RuntimeError("licence lost")
        return problem.model(u)

    failing = ek.InverseProblem(ek.FunctionModel(dying), problem.prior, 0.1, problem.data)
    plan = {"n_members": 40, "n_steps": 12, "rng": 0, "on_failure": "drop"}
    result = ek.run(failing, ek.EKI(ek.FixedStep(0.02)), **plan)
    left = int(np.isfinite(result.u[-1]).all("parameter").sum())
    assert left < 20
    assert len(json.loads(result.attrs["failures"])) < 0.1 * result.attrs["model_runs"]
    (found,) = [check for check in judge(result) if check.topic == "Failures"]
    assert found.level == "care"
    assert f"Only {left} of 40 members are left: " in found.sentence


def test_a_model_that_cannot_fit_is_told(problem):
    far = ek.InverseProblem(problem.model, problem.prior, 1e-4, problem.data + 5 * np.arange(12.0))
    result = ek.run(far, ek.EKI(), n_members=80, rng=0)
    assert level(result, "Misfit") == "care"
    assert level(result, "Coverage") == "care"


def test_noise_that_is_overstated_is_told(problem):
    vague = ek.InverseProblem(
        ek.LinearModel(np.ones((200, 1))), ek.GaussianPrior(0.0, [1.0]), 1.0, np.full(200, 0.5)
    )
    assert level(ek.run(vague, ek.EKI(), n_members=80, rng=0), "Misfit") == "care"


@pytest.mark.parametrize(("power", "expected"), [(1, "good"), (4, "care")])
def test_an_ensemble_that_is_off_is_told(power, expected):
    def model(u):
        return np.array([u[0] ** power, u[1]])

    problem = ek.InverseProblem(
        ek.FunctionModel(model), ek.GaussianPrior([0.0, 0.0], 1.0), 0.1, [0.5, 0.0]
    )
    result = ek.run(problem, ek.EKI(), n_members=200, rng=0)
    doubts = [check.level for check in judge(result) if check.topic in ("Posterior", "Linearity")]
    assert ("care" in doubts) == (expected == "care")
    older = result.drop_vars([name for name in result if str(name).startswith("posterior_")])
    assert level(older, "Linearity") == expected  # written without the importance weights


def test_share_that_is_not_linear_is_that_of_the_closed_form():
    """g = (u, u²), u ~ N(0, 1): variances 1 and 2, and only the first is linear in u."""
    u = np.random.default_rng(0).normal(size=(200_000, 1))
    w = np.full(len(u), 1 / len(u))
    assert nonlinear_share(u, np.hstack([u, u**2]), w) == pytest.approx(2 / 3, abs=0.01)
    assert nonlinear_share(u, 3 * u + 1, w) < 1e-20
    pure = np.random.default_rng(1).normal(size=(30, 25))  # p close to J: the fit is adjusted for
    noise = np.random.default_rng(2).normal(size=(30, 500))
    assert nonlinear_share(pure, noise, np.full(30, 1 / 30)) == pytest.approx(1, abs=0.1)
    assert np.isnan(nonlinear_share(pure[:20], noise[:20], np.full(20, 1 / 20)))


@pytest.mark.parametrize(
    ("method", "steps", "topic", "expected"),
    [
        (ek.EKI(ek.FixedStep(0.1)), 3, "Status", "care"),
        (ek.EKI(ek.FixedStep(0.1)), 3, "Ensemble", "care"),
        (ek.EKI(ek.FixedStep(0.1), t_end=None), 20, "Ensemble", "note"),
        (ek.EKI(perturbed=False), None, "Ensemble", "note"),
        (ek.GNKI(), None, "Ensemble", "note"),
        (ek.TemperedSMC(), None, "Ensemble", "good"),
    ],
)
def test_what_the_ensemble_is(problem, method, steps, topic, expected):
    result = ek.run(problem, method, n_members=150, n_steps=steps, rng=0)
    assert level(result, topic) == expected


@pytest.mark.parametrize(
    ("said", "colour"),
    [("confirmed", "confirmed"), ("corrected", "corrected"), ("not confirmed", "not-confirmed")],
)
def test_the_verdict_is_a_word_in_its_colour(result, said, colour, tmp_path):
    checked = result.assign_attrs(verdict=said, verdict_reason="Because.")
    text, _ = written(checked, tmp_path)
    html = ek.summary(checked)._repr_html_()
    for shown in (text, html):
        assert f'<strong class="{colour}">{said.capitalize()}</strong>' in shown
        assert shown.count('class="verdict"') == 1
    assert ek.summary(checked).verdict == said
    assert 'class="verdict"' not in written(result, tmp_path)[0]


def luminance(colour):
    """Relative luminance of WCAG 2, from the six digits of a colour."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("name", ["strong", ".confirmed", ".corrected", ".not-confirmed"])
def test_the_word_of_a_verdict_has_the_contrast_of_wcag_aa(name):
    rules = dict(re.findall(r"\.ekitools \.verdict (\S+) \{([^}]*)\}", STYLE))
    both = rules["strong"] + rules[name]
    text = re.findall(r"(?<![-\w])color: (#\w+)", both)[-1]
    ground = re.findall(r"background: (#\w+)", both)[-1]
    text = "#ffffff" if text == "#fff" else text
    light, dark = sorted(map(luminance, (text, ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_page_has_the_title_of_the_user(result, tmp_path):
    default = ek.report(result, tmp_path / "a.html").read_text("utf-8")
    assert f"<title>{ek.summary(result).title}: report</title>" in default
    own = ek.report(result, tmp_path / "b.html", title="Soil & <water>").read_text("utf-8")
    assert "<title>Soil &amp; &lt;water&gt;</title>" in own
    assert "<h1>Soil &amp; &lt;water&gt;</h1>" in own
    result.eki.report(tmp_path / "c.html", title="Soil & <water>")
    assert (tmp_path / "c.html").read_text("utf-8") == own
    for wrong, kind in ((3, TypeError), (" ", ValueError)):
        with pytest.raises(kind, match="title: must be a text for the heading, got"):
            ek.report(result, tmp_path / "d.html", title=wrong)
    assert not (tmp_path / "d.html").exists()


def test_the_seed_is_the_integer_that_the_user_gave(problem, tmp_path):
    def seed(result):
        return ek.summary(result).facts["Seed"]

    method = ek.EKI(ek.FixedStep(0.5))
    assert seed(ek.run(problem, method, n_members=20, rng=np.int64(3))) == "rng=3"
    drawn = ek.run(problem, method, n_members=20, rng=np.random.default_rng(3))
    assert seed(drawn) == f"no integer was given; the root is {drawn.attrs['seed']}"
    flow = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 1), n_members=20, rng=2**70)
    assert seed(reread(flow, tmp_path)) == f"rng={2**70}"
    ek.run(problem, method, n_members=20, n_steps=1, rng=4, checkpoint=tmp_path / "run")
    assert seed(ek.resume(tmp_path / "run", problem, n_steps=2)) == "rng=4"


def test_internals_are_folded(problem, result, tmp_path):
    text, page = written(result, tmp_path)
    assert page.tags.count("details") == page.tags.count("summary") == 4
    folds = re.findall(r"<details><summary>(.*?)</summary>(.*?)</details>", text, re.S)
    (versions,) = (inner for name, inner in folds if name == "Versions of the packages")
    assert np.__version__ in versions
    outside = re.sub(r"<details>.*?</details>", "", text, flags=re.S)
    assert "Options of EKI" not in outside
    assert "Checks of the result" in outside


def test_correlations_are_those_of_numpy_with_labels(problem, result, tmp_path):
    text, page = written(result, tmp_path)
    names = result.parameter.values.tolist()
    expected = np.corrcoef(result.u[-1].values.T)
    for i, name in enumerate(names):
        assert page.row(name, 4) == [f"{r:.2f}" for r in expected[i]]
    caption = "Correlations of the parameters in the last ensemble."
    assert f"<span>{caption}</span>" in text
    sampled = ek.run(problem, ek.TemperedSMC(), n_members=200, rng=0)
    w = sampled.weight[-1].values
    covariance = np.cov(sampled.u[-1].values.T, aweights=w)
    sd = np.sqrt(np.diag(covariance))
    _, page = written(sampled, tmp_path)
    assert page.row("u3", 4) == [f"{r:.2f}" for r in (covariance / np.outer(sd, sd))[3]]


def test_the_table_of_correlations_is_cut(tmp_path):
    many = ek.InverseProblem(
        ek.LinearModel(np.eye(3, 64)), ek.GaussianPrior(np.zeros(64), 1.0), 0.1, np.ones(3)
    )
    result = ek.run(many, ek.EKI(ek.FixedStep(0.5)), n_members=30, rng=0)
    text, _ = written(result, tmp_path)
    assert "in the last ensemble. 8 of 64 parameters shown." in text


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)  # fmt: skip


def dumped(path, script, tmp_path, size="500,900"):
    """The page's document after ``script`` has run on it, without a network."""
    path.write_text(path.read_text("utf-8").replace("</body>", f"{script}</body>"), "utf-8")
    return subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={size}",
         "--virtual-time-budget=5000", "--host-resolver-rules=MAP * ~NOTFOUND",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, check=True, timeout=120).stdout  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_all_of_it_at_the_widths_of_a_phone_and_a_desk(width, problem, tmp_path):
    """Nothing sticks out of the page to the side, a name of 60 letters neither; nothing is fetched.

    A window is no narrower than 500 pixels, so that the page is within a frame.
    """
    named = ek.InverseProblem(
        problem.model, problem.prior, problem.noise, problem.data,
        parameter_names=["<i>a</i>", "b & c", '"q"', "d" * 60])  # fmt: skip
    result = ek.run(named, ek.EKI(ek.FixedStep(0.25)), n_members=80, rng=0)
    path = ek.report(result, tmp_path / "page.html")
    probe = (
        "<script>addEventListener('load', () => { const root = document.documentElement;"
        "document.title = [[...document.images].every(i => i.complete && i.naturalWidth > 0), "
        "root.scrollWidth <= root.clientWidth, innerWidth, "
        "performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length,"
        "[...document.images].every(i => i.clientWidth >= 0.6 * i.getAttribute('width'))].join();"
        "parent.postMessage(document.title, '*') })</script>"
    )
    path.write_text(path.read_text("utf-8").replace("</body>", f"{probe}</body>"), "utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<body><script>addEventListener('message', e => { document.title = e.data })</script>"
        f'<iframe src="page.html" width="{width}" height="2000" style="border: 0"></iframe></body>'
    )
    assert f"<title>true,true,{width},0,true</title>" in dumped(frame, "", tmp_path, "1400,900")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_notebook_shows_the_whole_table_of_parameters(result, tmp_path):
    path = tmp_path / "cell.html"
    path.write_text(f"<!DOCTYPE html><body>{ek.summary(result)._repr_html_()}</body>")
    probe = (
        "<script>document.title = [...document.querySelectorAll('.wide')].every("
        "t => t.scrollWidth <= t.clientWidth)</script>"
    )
    assert "<title>true</title>" in dumped(path, probe, tmp_path, "1280,900")


def test_a_notebook_shows_results_with_their_summary_and_other_datasets_as_before(result):
    formatters = pytest.importorskip("IPython.core.formatters", reason="notebooks are IPython's")
    shell = SimpleNamespace(display_formatter=formatters.DisplayFormatter())

    def html(dataset):
        text = shell.display_formatter.format(dataset)[0]["text/html"]
        return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "", text)  # xarray's numbers

    parts = [result[["u"]], result.isel(member=0), xr.Dataset({"a": 1})]
    before = [html(each) for each in [result, *parts]]
    ek.load_ipython_extension(shell)
    after = [html(each) for each in [result, *parts]]
    assert after[0] == ek.summary(result)._repr_html_() + before[0]
    assert after[1:] == before[1:]
    ek.unload_ipython_extension(shell)
    ek.unload_ipython_extension(shell)
    assert html(result) == before[0]


def test_a_result_without_one_of_its_dimensions_is_told_how_to_keep_it(result):
    with pytest.raises(ValueError, match=r"result: .* iteration, .* got u with member, parameter"):
        ek.summary(result.isel(iteration=-1))
    assert "parameter" in str(ek.summary(result.isel(iteration=[-1])))
