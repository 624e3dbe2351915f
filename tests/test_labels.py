"""Labels of parameters and data: checked with the problem, and whole after every format."""

import datetime as dt
import enum
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ekitools as ek
from ekitools.core.labels import checked_labels, distinct_decimals

PAIRS = [("A12", 1), ("B07", 2)]
DATES = np.array(["2020-01-01", "2020-02-01"], "datetime64[ns]")


class Site(enum.Enum):
    NORTH = 1
    SOUTH = 2


ACCEPTED = {
    "texts": (["a", "ä b"], ["a", "ä b"]),
    "array": (np.array(["a", "b"]), ["a", "b"]),
    "integers": ([1, np.int32(2)], [1, 2]),
    "numbers": ([1, 2.5], [1.0, 2.5]),
    "mixed": (["a", 1], ["a", "1"]),
    "flags": ([True, False], ["True", "False"]),
    "large": ([2**70, 1], [str(2**70), "1"]),
    "bytes": ([b"a", b"b"], ["a", "b"]),
    "tuples": (PAIRS, ["A12, 1", "B07, 2"]),
    "table": (np.array([[1, 2], [3, 4]]), ["1, 2", "3, 4"]),
    "MultiIndex": (
        pd.MultiIndex.from_tuples(PAIRS, names=["station", "day"]),
        ["station=A12, day=1", "station=B07, day=2"],
    ),
    "Index": (pd.Index(["a", "b"], name="site"), ["a", "b"]),
    "Series": (pd.Series([3, 4]), [3, 4]),
    "DataArray": (xr.DataArray(["a", "b"]), ["a", "b"]),
    "dates": ([dt.date(2020, 1, 1), dt.date(2020, 2, 1)], DATES),
    "datetimes": ([dt.datetime(2020, 1, 1), dt.datetime(2020, 2, 1)], DATES),
    "datetime64": (DATES.astype("datetime64[D]"), DATES),
    "Timestamps": (pd.DatetimeIndex(DATES), DATES),
    "zones": (
        pd.date_range("2020-01-01", periods=2, tz="UTC"),
        ["2020-01-01T00:00:00+00:00", "2020-01-02T00:00:00+00:00"],
    ),
    "early dates": ([dt.date(1066, 10, 14), dt.date(2020, 1, 1)], ["1066-10-14", "2020-01-01"]),
    "date and text": ([dt.date(2020, 1, 1), "later"], ["2020-01-01", "later"]),
    "periods": (pd.period_range("2020-01", periods=2, freq="M"), ["2020-01", "2020-02"]),
    "durations": (np.array([1, 2], "timedelta64[h]"), ["1 hours", "2 hours"]),
    "intervals": (pd.interval_range(0, 2), ["(0, 1]", "(1, 2]"]),
    "enum": (list(Site), ["Site.NORTH", "Site.SOUTH"]),
    "paths": ([Path("a"), Path("b")], ["a", "b"]),
}


def make(**names):
    return ek.InverseProblem(
        lambda u: np.array([u[0] + u[1], u[0] - u[1]]),
        ek.GaussianPrior([0.0, 0.0], 1.0),
        0.1,
        [1.0, 2.0],
        **names,
    )


def kind_of(coordinate):
    """Texts are objects in a result, and what the format makes of them in a file."""
    return "text" if coordinate.dtype.kind in "OUT" else coordinate.dtype.kind


@pytest.mark.parametrize("kind", ACCEPTED)
def test_labels_become_texts_numbers_or_dates(kind):
    given, expected = ACCEPTED[kind]
    problem = make(data_names=given, parameter_names=given)
    assert list(problem.data_names) == list(expected)
    assert problem.parameter_names == problem.data_names
    assert len({type(label) for label in problem.data_names}) == 1


@pytest.mark.parametrize("kind", ACCEPTED)
@pytest.mark.parametrize("form", ["netcdf", "zarr", "arviz"])
def test_results_with_any_label_survive_every_format(kind, form, tmp_path):
    given, _ = ACCEPTED[kind]
    problem = make(data_names=given, parameter_names=given)
    result = ek.run(problem, ek.EKI(), n_members=10, n_steps=1, rng=0)
    if form == "netcdf":
        result.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")
        back = xr.load_dataset(tmp_path / "result.nc", engine="h5netcdf")
    elif form == "zarr":
        pytest.importorskip("zarr")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr warns of texts of any length
            result.to_zarr(tmp_path / "result.zarr")
            back = xr.open_zarr(tmp_path / "result.zarr").load()
    else:
        arviz = pytest.importorskip("arviz")
        tree = ek.to_arviz(result)
        names = [str(name) for name in result.parameter.values]
        assert set(tree.posterior.data_vars) == set(names)
        if not hasattr(arviz, "from_netcdf") or hasattr(tree, "to_dataset"):
            pytest.skip("ArviZ 1.x leaves files to xarray")
        tree.to_netcdf(str(tmp_path / "tree.nc"))
        back = arviz.from_netcdf(str(tmp_path / "tree.nc"))
        assert set(back.posterior.data_vars) == set(names)
        np.testing.assert_array_equal(
            back.observed_data["data"].values.astype(str), result["data"].values.astype(str)
        )
        return
    for dim in ("data", "parameter"):
        assert back[dim].values.tolist() == result[dim].values.tolist()
        assert kind_of(back[dim]) == kind_of(result[dim])
    np.testing.assert_array_equal(back.u, result.u)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (["a", ""], ValueError, "must not be empty or missing, got '' at index 1"),
        (["a", "  "], ValueError, "must not be empty or missing"),
        (["a", None], ValueError, "must not be empty or missing, got None"),
        ([1.0, np.nan], ValueError, "must not be empty or missing, got nan"),
        ([pd.NaT, pd.Timestamp(0)], ValueError, "must not be empty or missing, got NaT"),
        ([pd.NA, "a"], ValueError, "must not be empty or missing, got <NA>"),
        ([("a", None), ("a", "b")], ValueError, "must not be empty or missing"),
        (["a", "b\0"], ValueError, "must be texts that a file can hold"),
        (["a", "\udc80"], ValueError, "must be texts that a file can hold"),
        (["1", 1], ValueError, "must be different from each other, got '1' twice"),
        ([("a, b", "c"), ("a", "b, c")], ValueError, "must be different from each other"),
        ([DATES[0], DATES[0]], ValueError, "must be different .* got 2020-01-01"),
        ("ab", TypeError, "must be a sequence of labels, got the text 'ab'"),
        ([object(), object()], TypeError, "must be texts, numbers or dates, got object"),
        (["a"], ValueError, "must have 2 entries, got 1"),
    ],
)
def test_labels_that_no_file_can_hold_are_refused_with_the_problem(labels, error, message):
    for argument in ("data_names", "parameter_names"):
        with pytest.raises(error, match=f"{argument}: {message}"):
            make(**{argument: labels})


@pytest.mark.parametrize(
    "name", ["iteration", "member", "parameter", "data", "history", "chain", "draw"]
)
def test_names_of_dimensions_are_refused_for_parameters(name):
    with pytest.raises(ValueError, match=f"parameter_names: must not be '{name}'.*'{name}_'"):
        make(parameter_names=["a", name])
    assert make(data_names=["a", name]).data_names == ("a", name)


def test_names_of_the_prior_and_the_model_are_checked_too():
    from scipy import stats

    prior = ek.Prior({"a": stats.norm(), "chain": stats.norm()})
    with pytest.raises(ValueError, match="parameter_names: must not be 'chain'"):
        ek.InverseProblem(lambda u: u, prior, 0.1, [1.0, 2.0])
    observed = xr.DataArray([1.0, 2.0], {"t": [0, 1]}, name="y")
    model = ek.XarrayModel(lambda p: observed * p.a, ["a", "member"], observed)
    with pytest.raises(ValueError, match="parameter_names: must not be 'member'"):
        ek.InverseProblem(model, ek.GaussianPrior([0.0, 0.0], 1.0), 0.1, model.data)


def test_default_labels():
    assert make().data_names == ("y0", "y1")
    assert make().parameter_names == ("u0", "u1")


def test_decimals_are_as_many_as_different_numbers_need():
    assert distinct_decimals([0.125, 0.25], least=3) == 3
    assert distinct_decimals(np.arange(1000) / 1000 + 5e-4, least=3) == 4
    assert distinct_decimals([1.0, np.nextafter(1.0, 2.0)], least=3) <= 17


@pytest.mark.parametrize("n", [100, 1000, 2000])
def test_example_problems_of_any_size_have_different_labels(n):
    names = ek.problems.deconvolution(n=n, d=2).problem.parameter_names
    assert len(set(names)) == n
    if n == 100:
        assert names[:2] == ("u(0.005)", "u(0.015)")


def test_many_wells_have_different_labels():
    problem = ek.problems.darcy(n=2, n_modes=1, n_wells=34**2).problem
    assert problem.data_names[0] == "p(0.029, 0.029)"
    along = (np.arange(1000) + 1) / 1001
    assert distinct_decimals(along, least=3) == 4


def test_plain_texts_and_others_are_checked_alike():
    assert checked_labels("x", ["a", "b"], 2, stem="u") == checked_labels(
        "x", [np.str_("a"), np.str_("b")], 2, stem="u"
    )
