"""Files that are broken or forged: one clear error, or a page without anything of theirs run."""

import builtins
import json
import warnings
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import ekitools as ek
from ekitools.plots.style import drawable, shortened

PROBLEM = ek.problems.linear(p=3, d=5).problem
GOOD = ek.run(PROBLEM, ek.EKI(), n_members=20, rng=0)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture
def result():
    return GOOD.copy(deep=True)


def reread(result, tmp_path):
    result.to_netcdf(tmp_path / "forged.nc")
    with xr.open_dataset(tmp_path / "forged.nc") as read:
        return read.load()


def written(result, tmp_path):
    return ek.report(result, tmp_path / "page.html").read_text("utf-8")


def text_of(dims, result):
    shape = [result.sizes[dim] for dim in dims]
    return (dims, np.full(shape, "1").astype(object))


def with_attribute(name, value):
    def forge(result):
        return result.assign_attrs({name: value})

    return forge


def nested(n):
    return '{"a": ' * n + "1" + "}" * n


def swapped(result):
    """Variables in which dimensions change places are read by name."""
    return result.transpose("data", "parameter", "member", "iteration", "history")


BROKEN = {
    "u of texts": (
        lambda r: r.assign(u=text_of(r.u.dims, r)),
        TypeError,
        "real numbers in u, got the dtype",
    ),
    "g of texts": (lambda r: r.assign(g=text_of(r.g.dims, r)), TypeError, "real numbers in g"),
    "misfit of texts": (
        lambda r: r.assign(misfit=text_of(r.misfit.dims, r)),
        TypeError,
        "real numbers in misfit",
    ),
    "failed of texts": (
        lambda r: r.assign(failed=text_of(r.failed.dims, r)),
        TypeError,
        "real numbers in failed",
    ),
    "t of times": (
        lambda r: r.assign(t=r.t.astype("datetime64[ns]")),
        TypeError,
        "real numbers in t",
    ),
    "history of texts": (
        lambda r: r.assign(history_misfit=text_of(("history",), r)),
        TypeError,
        "real numbers in history_misfit",
    ),
    "no u": (lambda r: r.drop_vars("u"), ValueError, "got one without u"),
    "no history": (
        lambda r: r.drop_vars("history_model_runs"),
        ValueError,
        "without history_model_runs",
    ),
    "u without members": (lambda r: r.isel(member=0), ValueError, "the dimensions iteration"),
    "misfit along data": (
        lambda r: r.assign(misfit=r.g.isel(member=0, drop=True)),
        ValueError,
        "must have misfit along",
    ),
    "nobody": (lambda r: r.isel(member=[]), ValueError, "must have something along"),
    "no iteration": (lambda r: r.isel(iteration=[]), ValueError, "must have something along"),
    "NaN everywhere": (
        lambda r: r.where(r.isnull(), np.nan).assign(failed=r.failed),
        ValueError,
        "u without a finite",
    ),
    "iterations of floats": (
        lambda r: r.assign_coords(iteration=r.iteration + 0.5),
        TypeError,
        "whole numbers as iteration",
    ),
    "an iteration without history": (
        lambda r: r.assign_coords(iteration=r.iteration + 900),
        ValueError,
        "in its history",
    ),
    "names twice": (
        lambda r: r.assign_coords(parameter=["a", "a", "b"]),
        ValueError,
        "parameter that differ",
    ),
    "negative noise": (lambda r: r.assign(noise_sd=-r.noise_sd), ValueError, "noise_sd > 0"),
    "units of all": (
        lambda r: r.assign_coords(parameter_units="m"),
        ValueError,
        "parameter_units along parameter",
    ),
    "a method that is no JSON": (with_attribute("method", "EKI("), ValueError, '"method", got'),
    "failures that are none": (
        with_attribute("failures", "[1, 2]"),
        ValueError,
        'in its attribute "failures"',
    ),
    "failures without a reason": (
        with_attribute("failures", '[{"iteration": 0, "member": 1}]'),
        ValueError,
        '"failures"',
    ),
    "a reason that is a list": (
        with_attribute("failures", '[{"iteration": 0, "member": 1, "reason": []}]'),
        ValueError,
        '"failures"',
    ),
    "a class that is a list": (
        with_attribute("method", '{"type": ["EKI"]}'),
        ValueError,
        'as every "type"',
    ),
    "an option of a class that is a number": (
        with_attribute("method", '{"type": "EKI", "step": {"type": 3}}'),
        ValueError,
        '"type"',
    ),
    "deep options": (with_attribute("method", nested(200)), ValueError, "at most 40 levels"),
    "options without end": (with_attribute("method", nested(200_000)), ValueError, "JSON in its"),
    "runs that are a text": (
        with_attribute("model_runs", "many"),
        ValueError,
        "must have a number",
    ),
    "runs that are many": (with_attribute("model_runs", [1, 2]), ValueError, "must have a number"),
    "endless seconds": (with_attribute("seconds", np.inf), ValueError, "must have a number"),
    "a level of its own": (
        with_attribute("status_level", '"><script>'),
        ValueError,
        "one of good, note, care, bad",
    ),
    "a status that is a number": (with_attribute("status", 3), ValueError, "must have a text"),
}


@pytest.mark.parametrize("what", list(BROKEN))
@pytest.mark.parametrize("reader", [lambda result, _: ek.summary(result), ek.report])
def test_what_is_broken_gives_one_clear_error(what, reader, result, tmp_path):
    forge, error, message = BROKEN[what]
    forged = forge(result)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match="^result: must ") as caught:
            reader(forged, tmp_path / "page.html")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not (tmp_path / "page.html").exists()


def test_a_broken_file_is_refused_when_it_was_written_and_read(result, tmp_path):
    forged = reread(result.assign(u=text_of(result.u.dims, result)), tmp_path)
    with pytest.raises(TypeError, match=r"^result: must have real numbers in u"):
        written(forged, tmp_path)


def test_attributes_that_are_missing_are_no_error(result, tmp_path):
    whole = written(result, tmp_path)
    result.attrs.clear()
    page = written(reread(result, tmp_path), tmp_path)
    assert "not recorded" in page
    assert len(page) > 0.5 * len(whole)


def test_dimensions_in_another_order_change_no_number(result):
    turned = swapped(result)
    assert turned.u.dims[0] == "parameter"
    assert str(ek.summary(turned)) == str(ek.summary(result))
    xr.testing.assert_allclose(ek.diagnose(turned), ek.diagnose(result))
    xr.testing.assert_identical(
        ek.best_member(turned).reset_coords(drop=True),
        ek.best_member(result).reset_coords(drop=True),
    )
    posterior = ek.to_arviz(turned).posterior
    np.testing.assert_array_equal(posterior["u0"], ek.to_arviz(result).posterior["u0"])


# Texts


HTML = '<img src=x onerror="alert(1)"></td><script>alert(2)</script>'


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def hostile(result, text):
    """The text wherever a file has texts."""
    names = [f"{text}{i}" for i in range(3)]
    method = {"type": text, text: {"type": text, "option": text}}
    failures = [{"iteration": 0, "member": 1, "reason": text}]
    return (
        result.assign_coords(
            parameter=np.array(names, dtype=object),
            data=np.array([f"{text}{i}" for i in range(5)], dtype=object),
            parameter_units=("parameter", np.array([text] * 3, dtype=object)),
            data_units=("data", np.array([text] * 5, dtype=object)),
        )
        .assign(history_spread=result.history_spread.assign_attrs(long_name=text, units=text))
        .assign_attrs(
            {
                "status": text, "status_code": text, "covariance_normalisation": text,
                "method": json.dumps(method), "failures": json.dumps(failures),
                "problem": json.dumps({"model": text, text: text}), "title": text,
                "versions": json.dumps({"ekitools": text, text: text}), "seed": json.dumps(text),
                "solver": json.dumps({"method": text}),
            }
        )
    )  # fmt: skip


def test_markup_in_texts_is_shown_and_not_run(result, tmp_path):
    forged = reread(hostile(result, HTML), tmp_path)
    for page in (written(forged, tmp_path), ek.summary(forged)._repr_html_()):
        tags = Tags()
        tags.feed(page)
        assert "script" not in {tag for tag, _ in tags.found}
        assert not [attrs for _, attrs in tags.found if any(name[:2] == "on" for name in attrs)]
        images = [attrs["src"] for tag, attrs in tags.found if tag == "img"]
        assert all(src.startswith("data:image/svg+xml;base64,") for src in images)
        assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "text",
    [
        "$x^{$",
        r"$\nothing{$",
        "$" * 7,
        "a$b",
        "\x00\x07\x1b[31m",
        "\u202ereversed",
        "%s {0} {x}",
        "\n\n",
    ],
)
def test_texts_that_no_picture_can_draw_do_no_harm(text, result, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = written(hostile(result, text), tmp_path)
        ek.plot_diagnostic(hostile(result, text), "spread").figure.canvas.draw()
        ek.plot_ensemble(hostile(result, text))[0].figure.canvas.draw()
    assert "\x00" not in page
    assert "\x1b" not in str(ek.summary(hostile(result, text)))


def test_half_of_a_surrogate_pair_can_be_written(result, tmp_path):
    assert "?" in written(result.assign_attrs(status="a\ud800b"), tmp_path)


def test_huge_texts_are_cut(result, tmp_path):
    forged = hostile(result, "a" * 3_000_000)
    assert len(str(ek.summary(forged))) < 200_000
    assert len(written(forged, tmp_path)) < 3_000_000


def test_names_that_differ_deep_inside_are_told_apart():
    names = ["a" * 100_000 + str(i) + "a" * 100_000 for i in range(3)]
    short = shortened(names, 20)
    assert len(set(short)) == 3
    assert max(map(len, short)) < 250
    assert drawable("$x^2$") == "$x^2$"


# Paths


def test_a_path_in_an_attribute_is_not_opened(result, tmp_path, monkeypatch):
    secret = tmp_path / "secret.json"
    secret.write_text('{"type": "the secret"}')
    forged = hostile(result, str(secret))
    forged.attrs["checkpoint"] = forged.attrs["executor"] = str(secret)
    opened, usual, usual_path = [], builtins.open, Path.open

    def spied(path, *args, **kwargs):
        opened.append(str(path))
        return usual(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", spied)
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: (opened.append(str(self)), usual_path(self, *a, **k))[1]
    )
    ek.summary(forged)
    page = ek.report(forged, tmp_path / "page.html")
    assert str(secret) not in opened
    assert "the secret" not in page.read_text("utf-8")
