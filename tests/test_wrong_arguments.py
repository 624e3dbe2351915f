"""Every argument of every public callable, with every wrong value of its kind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from zoo.wrong.kinds import POOL, POSITIVE
from zoo.wrong.right import RUNS, problem
from zoo.wrong.sweep import answers, arguments, attack, called, found, outcome, public, why_not
from zoo.wrong.table import TABLE, Row

import ekitools as ek

HEAVY = ("Dataset.eki", "adapters", "plot_", "problems", "report", "testing", "theory", "to_arviz")
"""Rows that the short gate leaves out: they load frameworks, draw or solve."""


def marked(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow) if name.startswith(HEAVY) else name


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder to write in, should anything be written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EKITOOLS_CACHE", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.mark.parametrize("name", [marked(name) for name in TABLE])
def test_every_wrong_value_is_refused_by_the_name_of_its_argument(name):
    wrong = [f"{argument}={label}: {why}" for argument, _, label, why in answers(name) if why]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", [marked(name) for name, row in TABLE.items() if row.runs])
def test_the_call_with_the_right_values_is_right(name):
    row = TABLE[name]
    called(found(name, row), row.right())
    if name.startswith("plot_"):
        import matplotlib.pyplot as plt

        plt.close("all")


def test_no_public_callable_is_left_out():
    rows = {name for name in TABLE if "(" not in name}
    wanted = {name for name in public() if why_not(name) is None}
    assert len(wanted) > 120
    assert rows == wanted


def test_no_argument_is_left_out():
    for name, call in public().items():
        if why_not(name) is None:
            assert set(TABLE[name].kinds) == set(arguments(call)), name


def test_an_argument_that_another_row_has_is_in_one():
    for name, row in TABLE.items():
        for argument, kind in row.kinds.items():
            if kind.elsewhere:
                assert not TABLE[f"{name}({argument}=)"].kinds[argument].free, (name, argument)


def test_every_kind_has_fifteen_wrong_values():
    for name, row in TABLE.items():
        for argument, kind in row.kinds.items():
            assert kind.free or len(list(kind.values())) >= 15, (name, argument)
            assert set(kind.right) <= set(POOL), (name, argument)


# The sweep itself must find what it looks for.


def careless(x: Any) -> None:
    """Take anything."""


def bare(x: Any) -> None:
    raise TypeError("'NoneType' object is not iterable")


def nameless(x: Any) -> None:
    raise ValueError(f"step: must be positive, got {x}.")


def ruleless(x: Any) -> None:
    raise ValueError(f"x: {x}.")


def broken(x: Any) -> None:
    raise AttributeError(f"x: must be positive, got {x}.")


def costly(x: Any) -> None:
    ek.run(problem(), ek.EKI(), n_members=4, n_steps=1, rng=0)
    raise ValueError(f"x: must be positive, got {x}.")


def untidy(x: Any) -> None:
    import matplotlib.pyplot as plt

    plt.figure()
    raise ValueError(f"x: must be positive, got {x}.")


def careful(x: Any) -> None:
    raise ValueError(f"x: must be positive, got {x}.")


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (careless, "is accepted"),
        (bare, "ends in TypeError"),
        (nameless, "ends in ValueError"),
        (ruleless, "ends in ValueError"),
        (broken, "ends in AttributeError"),
        (costly, "costs 8 model runs, and is refused"),
        (untidy, "opens a figure, and is refused"),
        (careful, None),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_the_sweep_finds_a_wrong_answer(call, why, monkeypatch):
    of = lambda: SimpleNamespace(call=call)  # noqa: E731
    monkeypatch.setitem(TABLE, "Own.call", Row({"x": POSITIVE}, dict, of))
    answer = outcome("Own.call", "x", -1)
    assert answer == why if answer is None else answer.startswith(why)


def test_the_totals_count_what_is_tried_and_held(monkeypatch):
    of = lambda: SimpleNamespace(careless=careless, careful=careful)  # noqa: E731
    rows = {f"Own.{name}": Row({"x": POSITIVE}, dict, of) for name in ("careless", "careful")}
    monkeypatch.setattr("zoo.wrong.sweep.TABLE", rows)
    n = len(list(POSITIVE.values()))
    lines: list[str] = []
    assert attack(lines.append) == [("positive number", 2 * n, n)]
    assert len(lines) == n
    assert lines[0].startswith("Own.careless(x=None): is accepted")


def test_a_right_run_is_counted():
    before = len(RUNS)
    ek.run(problem(), ek.EKI(), n_members=4, n_steps=1, rng=0)
    assert len(RUNS) == before + 8
