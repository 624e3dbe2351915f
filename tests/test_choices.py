"""Arguments that take one of a few texts: their type, their check and their docstring agree."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pytest
from test_docstrings import MEMBERS, NAMES

import ekitools

SOURCE = Path(ekitools.__file__).parent


class Call(NamedTuple):
    """A call of ``one_of`` for an argument of a function, or for a field of a dataclass."""

    module: str
    argument: str
    annotation: str
    choices: str


def literals(hint: Any) -> set[str]:
    """The texts of all ``Literal`` types within a type."""
    if get_origin(hint) is Literal:
        return {each for each in get_args(hint) if isinstance(each, str)}
    return {text for part in get_args(hint) for text in literals(part)}


def calls_in(module: str, tree: ast.AST) -> Iterator[Call]:
    for owner in ast.walk(tree):
        if isinstance(owner, ast.ClassDef):
            fields = {
                f"self.{field.target.id}": field.annotation
                for field in owner.body
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            }
        elif isinstance(owner, ast.FunctionDef):
            arguments = owner.args.posonlyargs + owner.args.args + owner.args.kwonlyargs
            fields = {each.arg: each.annotation for each in arguments if each.annotation}
        else:
            continue
        for call in ast.walk(owner):
            if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "one_of"):
                continue
            _, value, choices = map(ast.unparse, call.args)
            if value in fields:
                yield Call(module, value, ast.unparse(fields[value]), choices)


def all_calls() -> Iterator[Call]:
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        text = path.read_text(encoding="utf-8")
        if "one_of(" in text and module != "ekitools.core.checks":
            yield from calls_in(module, ast.parse(text))


CALLS = list(all_calls())


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.module}:{call.argument}")
def test_the_type_of_an_argument_has_the_choices_of_its_check(call):
    if "torch" in call.module and find_spec("torch") is None:
        pytest.skip("torch is not installed")
    scope = vars(importlib.import_module(call.module))
    assert literals(eval(call.annotation, scope)) == set(eval(call.choices, scope))


def test_there_are_checks_to_look_at():
    assert len(CALLS) > 25


def described(value: Any) -> dict[str, set[str]]:
    """The texts in the types of documented parameters, without their defaults."""
    docstring = inspect.getdoc(value) or ""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n---|\Z)", docstring, re.M | re.S)
    lines = re.findall(r"^(\w+) : (.*)$", section[1] if section else "", re.M)
    return {
        name: set(re.findall(r'"([^"]*)"', re.split(", default", kind)[0])) for name, kind in lines
    }


class Unknown(type):
    """A name that is imported for type checkers alone."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("_"):
            raise AttributeError(name)
        return Elsewhere


class Elsewhere(metaclass=Unknown):
    pass


class Scope(dict):
    def __missing__(self, name: str) -> type:
        return Elsewhere


def declared(value: Any) -> dict[str, set[str]]:
    """The texts in the annotations of arguments, or of the fields of a dataclass."""
    owners = [getattr(value, "__func__", value)]
    if dataclasses.is_dataclass(value):
        owners = [each for each in value.__mro__ if each.__module__.startswith("ekitools")]
    elif inspect.isclass(value):
        owners = [value.__init__] if inspect.isfunction(value.__init__) else []
    found = {}
    for owner in reversed(owners):
        scope = Scope(vars(builtins) | vars(sys.modules[owner.__module__]))
        for name, annotation in inspect.get_annotations(owner).items():
            if name != "return" and not annotation.startswith("ClassVar"):
                found[name] = literals(eval(annotation, {}, scope))
    return found


ASKED = [name for name, value in (NAMES | MEMBERS).items() if not isinstance(value, property)]


@pytest.mark.parametrize("name", ASKED)
def test_the_docstring_names_the_choices_of_the_type(name):
    value = (NAMES | MEMBERS)[name]
    choices = {each: texts for each, texts in described(value).items() if texts}
    assert choices == {each: texts for each, texts in declared(value).items() if texts}
