"""Checks of what `ekitools.adapters.command.CommandModel` is given, before any run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from ekitools.adapters._command_output import FORMATS

__all__ = [
    "LOGS",
    "SEED",
    "check_output",
    "check_placeholders",
    "checked_command",
    "checked_inputs",
    "checked_names",
    "writable",
]

LOGS = ("stdout.txt", "stderr.txt")
SEED = "seed"


def checked_names(names: Any, stochastic: bool) -> tuple[str, ...]:
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"parameter_names: must be one or more texts, got {names!r}.")
    if len(set(names)) != len(names):
        raise ValueError(f"parameter_names: must be different from each other, got {names}.")
    if stochastic and SEED in names:
        raise ValueError("parameter_names: must not have 'seed' with stochastic=True. Rename it.")
    return names


def checked_command(command: Any) -> tuple[tuple[str, ...], list[Path]]:
    """Program and arguments as templates, paths made absolute; and the files among them."""
    if isinstance(command, str | bytes) or not command:
        raise TypeError(
            f"command: must be a list of the program and its arguments, got {command!r}. "
            "There is no shell that would split a text."
        )
    program, *arguments = command
    found = shutil.which(os.fspath(program))
    if found is None:
        raise ValueError(
            f"command: must begin with a program that can be run, got {os.fspath(program)!r}, "
            "which is neither on the PATH nor an executable file. Give its absolute path."
        )
    files = [Path(found).absolute()]
    checked = [_literal(files[0])]
    for argument in arguments:
        if isinstance(argument, str):
            checked.append(argument)
        elif not isinstance(argument, os.PathLike):
            raise TypeError(f"command: must have texts and paths, got {argument!r}. Use str().")
        elif not Path(argument).is_file():
            raise ValueError(f"command: must have paths of files that exist, got {argument!r}.")
        else:
            files.append(Path(argument).absolute())
            checked.append(_literal(files[-1]))
    return tuple(checked), files


def _literal(path: Path) -> str:
    return str(path).replace("$", "$$")


def checked_inputs(inputs: Any) -> dict[str, str]:
    if not isinstance(inputs, Mapping):
        raise TypeError(
            "inputs: must be {file name: text} or a function (folder, parameters), got "
            f"{type(inputs).__name__}."
        )
    for name, text in inputs.items():
        path = Path(name)
        if path.is_absolute() or ".." in path.parts or name in LOGS or not path.parts:
            raise ValueError(
                f"inputs: must name files in the member's folder other than {' and '.join(LOGS)}, "
                f"got {name!r}."
            )
        if not isinstance(text, str):
            raise TypeError(f"inputs[{name!r}]: must be a text, got {type(text).__name__}.")
    return dict(inputs)


def check_output(output: Any, key: Any) -> None:
    if not callable(output) and not isinstance(output, str):
        raise TypeError(f"output: must be a file name or a function, got {output!r}.")
    if isinstance(output, str) and Path(output).suffix not in FORMATS:
        raise ValueError(
            f"output: must end in {', '.join(FORMATS)}, got {output!r}. Give a function of the "
            "member's folder for other formats."
        )
    if key is not None and callable(output):
        raise ValueError(f"key: must be None where output is a function, got {key!r}.")


def writable(folder: Any) -> Path:
    path = Path(folder).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(
            f"folder: must be one that can be written to, got {path} ({error})."
        ) from (error)
    return path


def check_placeholders(
    command: Sequence[str], inputs: Mapping[str, str] | None, names: Sequence[str]
) -> None:
    """Check that templates name parameters only; and all of them, where there is no writer."""
    texts = {f"command[{i}]": argument for i, argument in enumerate(command)}
    texts |= {f"inputs[{name!r}]": text for name, text in (inputs or {}).items()}
    used: set[str] = set()
    for where, text in texts.items():
        template = Template(text)
        if not template.is_valid():
            raise ValueError(
                f"{where}: must have $ before a {{name}} only, got {text!r:.60}. Write $$ for a "
                "dollar sign."
            )
        for name in template.get_identifiers():
            if name not in names:
                raise ValueError(
                    f"{where}: must name one of the parameters {', '.join(names)}, got "
                    f"${{{name}}}. Write $${{{name}}} where the program is to see it so."
                )
            used.add(name)
    unused = [name for name in names if name not in used]
    if unused and inputs is not None:
        raise ValueError(
            f"parameter_names: must all be used in command or inputs, got {unused[0]!r}, which is "
            f"not. Write ${{{unused[0]}}} where it belongs; names that are not identifiers need a "
            "function as inputs."
        )
