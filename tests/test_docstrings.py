"""Every public name, method and property is documented, in the format of numpydoc."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

import ekitools as ek
from ekitools import typing as contracts
from ekitools._public import MODULES, PUBLIC

ADAPTERS = {
    "command": ["CommandModel"],
    "umbridge": ["ServedModel", "UMBridgeModel", "serve"],
    "torch": ["TorchModel"],
    "jax": ["JaxModel"],
}
# Not asked for: what house style says otherwise (capitals before formulas, a noun as summary) and
# sections that would only be filled to be there.
NOT_ASKED = {"ES01", "SS02", "SS05", "PR08", "RT03"}


def public_names() -> Iterator[tuple[str, Any]]:
    """Full names of the public functions and classes, with those of modules and adapters."""
    for name, module in PUBLIC.items():
        yield f"ekitools.{module}.{name}", getattr(ek, name)
    for name in MODULES:
        module = getattr(ek, name)
        for each in getattr(module, "__all__", ()):
            value = getattr(module, each)
            aliased = value is Any
            if (inspect.isclass(value) or inspect.isroutine(value)) and not aliased:
                yield f"{module.__name__}.{each}", value
    for name, members in ADAPTERS.items():
        try:
            module = importlib.import_module(f"ekitools.adapters.{name}")
        except ModuleNotFoundError:  # its framework is not installed
            continue
        for each in members:
            yield f"{module.__name__}.{each}", getattr(module, each)


def members_of(name: str, owner: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that a class of ours defines or inherits."""
    for each in dir(owner):
        value = inspect.getattr_static(owner, each)
        kinds = (property, classmethod, staticmethod)
        theirs = not str(getattr(getattr(owner, each), "__module__", name)).startswith("ekitools")
        if each.startswith("_") or not (inspect.isfunction(value) or isinstance(value, kinds)):
            continue
        if not theirs:
            yield f"{name}.{each}", getattr(owner, each)


NAMES = dict(public_names())
MEMBERS = {
    name: member
    for at, owner in NAMES.items()
    if inspect.isclass(owner)
    for name, member in members_of(at, owner)
}


def parameters(function: Any) -> list[str]:
    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return []
    return [name for name in found if not name.startswith("_") and name != "self"]


def contracts_by_name() -> dict[str, set[str]]:
    """Methods that contracts ask for, and those that they name as ``optional(a, b)``."""
    found: dict[str, set[str]] = {}
    for _, contract in inspect.getmembers(contracts, inspect.isclass):
        for name, value in vars(contract).items():
            if inspect.isfunction(value):
                found[name] = {*parameters(value), "in_place"}
        for name, names in re.findall(r"``(\w+)\(([\w, ]+)\)``", contract.__doc__ or ""):
            found.setdefault(name, set()).update(names.split(", "))
    return found


# What a contract asks for is described there, once for all that fit it.
CONTRACTS = contracts_by_name()


def test_there_is_something_to_look_at() -> None:
    assert len(NAMES) > 80
    assert len(MEMBERS) > 150
    assert {"init", "ask", "tell", "select", "finished"} <= set(CONTRACTS)


@pytest.mark.parametrize("name", NAMES | MEMBERS)
def test_it_has_a_docstring(name: str) -> None:
    docstring = inspect.getdoc((NAMES | MEMBERS)[name])
    assert docstring
    assert docstring.split("\n\n")[0].rstrip().endswith((".", "``", ":"))


@pytest.mark.parametrize("name", MEMBERS)
def test_parameters_of_methods_are_named_or_those_of_a_contract(name: str) -> None:
    member = MEMBERS[name]
    if isinstance(member, property):
        return
    docstring = inspect.getdoc(member) or ""
    known = CONTRACTS.get(name.rpartition(".")[2], set())
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n---|\Z)", docstring, re.M | re.S)
    listed = re.findall(r"^([\w*, ]+?)(?: :|$)", section[1] if section else "", re.M)
    named = set(re.findall(r"\w+", " ".join(listed)))
    missing = [
        each
        for each in parameters(member)
        if each not in known | named and not re.search(rf"\b{each}\b", docstring)
    ]
    assert missing == []


def related(docstring: str) -> list[str]:
    """Names of the section See Also."""
    section = re.search(r"^See Also\n-+\n(.*?)(?=^\S[^\n]*\n---|\Z)", docstring, re.M | re.S)
    heads = re.findall(r"^(\S[^:]*?) : \S", section[1] if section else "", re.M)
    return [name.strip() for head in heads for name in head.split(",")]


def found(name: str, module: str) -> bool:
    """Whether a name stands for something in ekitools, or in the public module of its reader."""
    if name.startswith("ekitools.adapters."):  # its framework may be missing
        _, _, adapter, each = name.split(".")
        return each in ADAPTERS[adapter]
    public = ".".join(module.split(".")[:2])
    for scope in ("ekitools.", f"{public}.", f"{module}.", ""):
        with suppress(ModuleNotFoundError, AttributeError, ValueError):
            pkgutil.resolve_name(scope + name)
            return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_it_names_what_is_related(name: str) -> None:
    names = related(inspect.getdoc(NAMES[name]) or "")
    assert names
    assert [each for each in names if not found(each, NAMES[name].__module__)] == []


@pytest.mark.parametrize("name", NAMES | MEMBERS)
def test_it_has_the_format_of_numpydoc(name: str) -> None:
    validation = pytest.importorskip("numpydoc.validate", reason="numpydoc is not installed")
    skipped = set(NOT_ASKED)
    value = (NAMES | MEMBERS)[name]
    docstring = inspect.getdoc(value) or ""
    if re.search(r"^    As (in|for) `", docstring, re.M):
        skipped |= {"PR03", "PR04"}  # parameters that are described elsewhere, several at once
    if name in MEMBERS:
        skipped |= {
            "PR01",
            "EX01",
            "RT01",
            "SA01",
        }  # the test above; the summary says what is returned
    if inspect.isclass(value) and issubclass(value, tuple | Exception):
        skipped |= {"PR01"}  # fields are documented one by one
    if getattr(value, "_is_protocol", False):
        skipped |= {"PR01"}  # nothing is made of it
    errors = validation.validate(name)["errors"]
    assert [each for each in errors if each[0] not in skipped] == []
