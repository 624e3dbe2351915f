"""The terminal that text is printed to: its width, and the characters that it can show."""

from __future__ import annotations

import codecs
import os
import shutil
import sys
import unicodedata

__all__ = ["PLAIN", "line_width", "without_symbols"]

PLAIN = "ekitools.plain"
"""Name of the error handler that replaces characters that an encoding lacks."""

# fmt: off
_PLAIN = {
    "±": "+/-", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "∝": " prop. to ", "∞": "inf",
    "‖": "||", "·": "*", "×": "x", "√": "sqrt", "∇": "grad ", "Σ": "Sum", "∼": "~", "→": "->",
    "−": "-", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "…": "...",
    "°": "deg", "µ": "u", "█": "#", "←": "<-", "∈": " in ", "⁻": "^-",
}
# fmt: on


def line_width() -> int | None:
    """The characters of a line of standard output, or None if nothing limits them.

    The variable ``COLUMNS`` has priority. Without it, a terminal has its own width, and a file, a
    pipe or a notebook has no limit.
    """
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    except (AttributeError, ValueError):  # no standard output, or a closed one
        return None


def without_symbols(text: str) -> str:
    """The text in ASCII: symbols in words, letters without accents.

    Examples
    --------
    >>> from ekitools.core.terminal import without_symbols
    >>> without_symbols("σ = 2 ± 0.1 m², ‖r‖ ≤ 1")
    'sigma = 2 +/- 0.1 m2, ||r|| <= 1'
    """
    return "".join(map(_ascii, text))


def _ascii(character: str) -> str:
    if character.isascii():
        return character
    if character in _PLAIN:
        return _PLAIN[character]
    name = unicodedata.name(character, "")
    if name.startswith("GREEK ") and " LETTER " in name:
        letter = name.partition(" LETTER ")[2].removeprefix("FINAL ").split()[0]
        return letter.lower() if "SMALL" in name else letter.capitalize()
    parts = unicodedata.normalize("NFKD", character)
    return parts.encode("ascii", "ignore").decode() or "?"


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    first = error.object[error.start]
    if "\udc80" <= first <= "\udcff":  # a byte of a file name that is not text
        return bytes([ord(first) - 0xDC00]), error.start + 1
    return without_symbols(first), error.start + 1


codecs.register_error(PLAIN, _replaced)
