"""Words and patterns that the documentation, docstrings, comments and messages must not contain."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CHANGELOG.md"]
MODULES = [*sorted((ROOT / "ekitools").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]

INSTEAD = {
    # private vocabulary
    r"\bthe slides?\b": "Kovachki & Stuart (2019)",
    r"\bthe whole of it\b": "all of it",
    r"\bwhat there is\b": "name the things",
    r"\bon yours\b": "on your machine, on your problem",
    r"\bsaid at once\b": "an error before any model run",
    r"\bthe last word\b": "name who decides",
    r"\bhas spoken\b": "verify with",
    r"\bspeaks? against\b": "contradicts",
    r"\bhumps?\b": "mode",
    r"\b(come|came|comes) to grief\b": "fail",
    r"\btold\b": "passed to, receives",
    r"\b(tell|tells) (\w+ )?apart\b": "separate, distinguish",
    r"\bif (it|they|you) likes?\b": "optionally",
    r"\bwhere it likes\b": "name the condition",
    r"\bbehind your back\b": "internally",
    r"\bis to be believed\b": "trust",
    r"\b(can|could|cannot|to) be had\b": "is available",
    r"\bmay be opened\b": "is accessible",
    r"\bout there\b": "on the workers, at the publisher",
    r"\bas (it|they) comes?\b": "unmodified, as given",
    r"\bknow how sure\b": "with uncertainty estimates",
    r"\bdo not believe\b": "treat as approximate",
    r"\b(the|a) datum of the problem\b": "the data",
    r"\ba name for every datum\b": "names of the data",
    r"\bno truth values?\b": "no bool",
    r"\bcolour vision\b": "colour-blind-safe",
    r"\b(go|goes|went|going) on\b": "continue",
    r"\bmostly a mistake\b": "usually a bug",
    r"1e\+\d+ %": "a percentage without an exponent",
    # nouns replaced by clauses, and riddles
    r"\bwhat is measured\b": "the measurement",
    r"\bwhat is known\b(?! for linear models)": "the known facts",
    r"\bwhat an? \w+ is (made|drawn|predicted|compared|measured) (with|by)\b": "a noun",
    r"\bsay more than they do\b": "the posterior is overconfident",
    r"\bis no (proof|uncertainty|signature)\b": "does not prove, does not measure uncertainty",
    r"\bnothing that was\b": "all ...",
    # inverted clauses
    r"(?<=[.:;] )So (are|is|have|has|do|does|did|can|would|will)\b": "subject, verb, object",
    r", for (it|they|there is|there are|nobody)\b": "because",
    r"\bwhatever\b": "for every",
    r"\bnowhere found\b": "missing",
    r"\bstands? (where|below|in for)\b": "is passed in place of, is below",
}
RIDDLES = r"(What|How|Why|Where|Whether|Which|As in|They|Its?|Of)\b"
"""A module or page does not begin with these words, nor a function, except with "Whether"."""


def prose(path: Path) -> str:
    """Comments and texts of a module, or all of a page, on one line."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        found = []
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                found.append(token.string.lstrip("# "))
            elif token.type in (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)):
                found.append(re.sub(r"^[a-z]*[\"']+|[\"']+$", "", token.string, flags=re.I))
        text = " ".join(found)
    return " ".join(text.split())


def first_lines(path: Path) -> Iterator[tuple[str, str]]:
    """What is described, and the first line of its description."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        found = re.search(r"^# (.+)\n+(.*)", text, re.M)
        assert found, "a page begins with a title"
        yield from zip(("title", "first line"), found.groups(), strict=True)
        return
    tree = ast.parse(text)
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (docstring := ast.get_docstring(node)):
            yield getattr(node, "name", "module"), docstring.splitlines()[0]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*PAGES, *MODULES], ids=name)
def test_plain_words(path):
    text = prose(path)
    faults = [
        f"{text[max(0, found.start() - 30) : found.end() + 30]!r}: write {instead!r}"
        for pattern, instead in INSTEAD.items()
        for found in re.finditer(pattern, text, re.IGNORECASE)
    ]
    assert faults == []


@pytest.mark.parametrize("path", [*PAGES, *MODULES], ids=name)
def test_first_lines_name_the_thing(path):
    faults = [
        f"{what}: {line}"
        for what, line in first_lines(path)
        if re.match(RIDDLES, line) and not (line.startswith("Whether") and what != "module")
    ]
    assert faults == []
