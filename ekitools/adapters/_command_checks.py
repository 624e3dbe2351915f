"""Checks of the arguments of `ekitools.adapters.command.CommandModel`, before any run."""

from __future__ import annotations

import os
import shutil
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from string import Template
from typing import Any

from ekitools.adapters._command_output import FORMATS
from ekitools.core.checks import as_path, sequence
from ekitools.core.signatures import check_accepts

__all__ = [
    "LOGS",
    "SEED",
    "check_placeholders",
    "checked_command",
    "checked_environment",
    "checked_folder",
    "checked_inputs",
    "checked_names",
    "checked_output",
]

LOGS = ("stdout.txt", "stderr.txt")
SEED = "seed"


def checked_names(names: Any, stochastic: bool) -> tuple[str, ...]:
    names = sequence("parameter_names", names, "a list of texts")
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(
            f'parameter_names: must be one or more texts, got {names!r}. Use "p0" for a parameter '
            "without a name."
        )
    if len(set(names)) != len(names):
        raise ValueError(
            f"parameter_names: must be different from each other, got {names}. Rename one of them."
        )
    if stochastic and SEED in names:
        raise ValueError("parameter_names: must not have 'seed' with stochastic=True. Rename it.")
    return names


def checked_command(command: Any) -> tuple[tuple[str, ...], list[Path]]:
    """Program and arguments as templates, paths made absolute; and the files among them."""
    if isinstance(command, str | bytes) or not isinstance(command, Sequence) or not command:
        raise TypeError(
            f"command: must be a list of the program and its arguments, got {command!r}. "
            "Split a text with shlex.split, because no shell splits it."
        )
    program, *arguments = command
    if not isinstance(program, str | os.PathLike):
        raise TypeError(f"command: must begin with a text or a path, got {program!r}. Use str().")
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
            _check_no_nul("command", argument)
            checked.append(argument)
        elif not isinstance(argument, os.PathLike):
            raise TypeError(f"command: must have texts and paths, got {argument!r}. Use str().")
        elif not Path(argument).is_file():
            raise ValueError(
                f"command: must have paths of files that exist, got {argument!r}. Pass a text for "
                "a file that does not exist yet."
            )
        else:
            files.append(Path(argument).absolute())
            checked.append(_literal(files[-1]))
    return tuple(checked), files


def _check_no_nul(argument: str, text: str) -> None:
    if "\0" in text:
        raise ValueError(
            f"{argument}: must not have the character NUL, got {text!r:.60}. Remove it."
        )


def _check_file_name(argument: str, name: str) -> None:
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise ValueError(
            f"{argument}: must name files without control characters such as NUL or a new line, "
            f"got {name!r:.60}. Rename the file."
        )


def _literal(path: Path) -> str:
    return str(path).replace("$", "$$")


def checked_inputs(inputs: Any) -> dict[str, str]:
    if not isinstance(inputs, Mapping):
        raise TypeError(
            "inputs: must be {file name: text} or a function (folder, parameters), got "
            f'{type(inputs).__name__}. Use {{"input.txt": "k = ${{k}}"}}, for example.'
        )
    for name, text in inputs.items():
        if not isinstance(name, str):
            raise TypeError(f"inputs: must have file names as keys, got {name!r}. Use str().")
        _check_file_name("inputs", name)
        if not _inside(name) or Path(name).as_posix() in LOGS:
            raise ValueError(
                f"inputs: must name files in the member's folder other than {' and '.join(LOGS)}, "
                f"got {name!r}. Rename it."
            )
        if not isinstance(text, str):
            raise TypeError(
                f"inputs[{name!r}]: must be a text, got {type(text).__name__}. Use "
                "path.read_text() for the text of a file."
            )
    paths = {Path(name) for name in inputs}
    for path in paths:
        folders = paths.intersection(path.parents)
        if folders:
            raise ValueError(
                f"inputs: must name files, got {folders.pop().as_posix()!r}, the folder of "
                f"{path.as_posix()!r} too. Rename one of them."
            )
    return dict(inputs)


def _inside(name: str) -> bool:
    path = Path(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def checked_output(output: Any, key: Any, inputs: Mapping[str, str] | None) -> Any:
    output = os.fspath(output) if isinstance(output, os.PathLike) else output
    if callable(output):
        check_accepts("output", output, "folder")
        if key is not None:
            raise ValueError(
                f"key: must be None if output is a function, got {key!r}. Leave it out."
            )
        return output
    if not isinstance(output, str):
        raise TypeError(
            f'output: must be a file name or a function, got {output!r}. Use "output.json".'
        )
    _check_file_name("output", output)
    if Path(output).suffix not in FORMATS:
        raise ValueError(
            f"output: must end in {', '.join(FORMATS)}, got {output!r}. Give a function of the "
            "member's folder for other formats."
        )
    if not _inside(output):
        raise ValueError(
            f"output: must name a file in the member's folder, got {output!r}. Let the program "
            "write it where it is run, or give a function."
        )
    if Path(output) in {Path(name) for name in inputs or {}}:
        raise ValueError(
            f"output: must not be one of the inputs, got {output!r}, because it would be read if "
            "the program writes nothing. Rename one of the two files."
        )
    if key is not None and not (isinstance(key, str) and key):
        raise TypeError(f"key: must be a text or None, got {key!r}.")
    return output


def checked_folder(folder: Any) -> Path:
    """A folder that is there and can be written to."""
    path = as_path("folder", folder, "a folder").absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(
            f"folder: must be one that can be written to, got {path} ({error}). Change its "
            "permissions or choose another folder."
        ) from error
    return path


def checked_environment(environment: Any) -> dict[str, str]:
    if not isinstance(environment, Mapping):
        raise TypeError(
            f'environment: must be {{name: text}}, got {environment!r}. Use {{"OMP_NUM_THREADS": '
            '"1"}, for example.'
        )
    for name, value in environment.items():
        if not isinstance(name, str) or not name or "=" in name:
            raise ValueError(
                f"environment: must have names without =, got {name!r}. Pass {{name: text}}."
            )
        if isinstance(value, bool) or not isinstance(value, str | Real | os.PathLike):
            raise TypeError(
                f"environment[{name!r}]: must be a text, a number or a path, got {value!r}. Use "
                "str()."
            )
        _check_no_nul(f"environment[{name!r}]", f"{name}{value}")
    return {name: str(value) for name, value in environment.items()}


def check_placeholders(
    command: Sequence[str], inputs: Mapping[str, str] | None, names: Sequence[str]
) -> None:
    """Check that templates name only parameters, and without a writer all parameters."""
    texts = {f"command[{i}]": argument for i, argument in enumerate(command)}
    texts |= {f"inputs[{name!r}]": text for name, text in (inputs or {}).items()}
    used: set[str] = set()
    for where, text in texts.items():
        template = Template(text)
        if not template.is_valid():
            raise ValueError(
                f"{where}: must have $ before a {{name}} only, got {text!r:.60}. Write $$ for a "
                "dollar sign; names that are not identifiers need a function as inputs."
            )
        for name in template.get_identifiers():
            if name not in names:
                raise ValueError(
                    f"{where}: must name one of the parameters {', '.join(names)}, got "
                    f"${{{name}}}. Write $${{{name}}} if the program needs this text."
                )
            used.add(name)
    unused = [name for name in names if name not in used]
    if unused and inputs is not None:
        raise ValueError(
            f"parameter_names: must all be used in command or inputs, got {unused[0]!r}, which is "
            f"not. Write ${{{unused[0]}}} where it belongs; names that are not identifiers need a "
            "function as inputs."
        )
