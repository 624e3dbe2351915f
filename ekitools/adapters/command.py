"""Any program as a forward model: run once for every member, in a folder of its own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from string import Template
from typing import Any, ClassVar

import numpy as np

from ekitools.adapters._command_checks import (
    LOGS,
    SEED,
    check_placeholders,
    checked_command,
    checked_environment,
    checked_folder,
    checked_inputs,
    checked_names,
    checked_output,
)
from ekitools.adapters._command_folders import clear_unfinished, run_folder
from ekitools.adapters._command_output import identity, load_stored, read_output, store
from ekitools.adapters._shared import check_vector
from ekitools.core.arrays import as_rng, host, masked_as_nan
from ekitools.core.checks import flag, integer, number, one_of, put
from ekitools.core.signatures import check_accepts
from ekitools.typing import Array

__all__ = ["CommandModel"]


@dataclass(frozen=True, eq=False)
class CommandModel:
    r"""G(u) = what a program writes when it is run with the parameters u.

    Every member has a folder of its own: the input files are written there, the program is run
    there without a shell, and its output is read from there. Outputs are stored, so a run that
    was killed does not run again what had finished. Use threads to run several programs at once:
    ``executor=concurrent.futures.ThreadPoolExecutor(n)``.

    Parameters
    ----------
    command : sequence of str or Path
        The program and its arguments. ``${name}`` in an argument is replaced by the parameter of
        that name, and ``$$`` by a dollar sign. A `pathlib.Path` is a file of yours, such as a
        script: it must exist and is passed with its absolute path.
    parameter_names : sequence of str
        Names of the p parameters, in the order of u.
    folder : str or Path
        Where folders and outputs are kept; made where it does not exist. With workers on other
        machines it has to be on a shared file system.
    output : str or callable
        A file that the program writes, ending in ``.json``, ``.csv`` or ``.nc`` (netCDF); or a
        function ``output(folder)`` of the member's folder that returns the numbers ``(d,)``.
    key : str, optional
        Which key of a JSON object, column of a CSV file or netCDF variable. Without it: a JSON
        list, a CSV file without a header, or the only variable. Arrays are taken row by row.
    inputs : mapping of str to str, or callable, optional
        Input files: file name and text, with ``${name}`` and ``$$`` as in ``command``; or a
        function ``inputs(folder, parameters)`` that writes them, given the parameters by name.
        Numbers are written so that they are read back exactly.
    timeout : float, optional
        Seconds after which a program is killed, with all that it has started (POSIX).
    retries : int, default 0
        How often a program that failed is run again.
    keep : {"failed", "always", "never"}, default "failed"
        Which members' folders are kept: ``folder/runs/run-*``, with ``stdout.txt`` and
        ``stderr.txt``.
    environment : mapping of str to str, optional
        Environment variables added for the program, such as ``{"OMP_NUM_THREADS": "1"}``.
    stochastic : bool, default False
        Whether the program is to be given ``${seed}``, an integer below 2³¹ of its own for every
        member and iteration.

    Attributes
    ----------
    n_parameters : int
        p.
    vectorized : bool
        False.

    Raises
    ------
    TypeError, ValueError
        Where something is wrong before the first run: a program or file that is not there, a
        placeholder that is no parameter, a parameter that is not used, a folder that cannot be
        written to, a function that does not take what it will be given.

    Notes
    -----
    A member fails where the program exits with a code other than 0, takes too long, or writes no
    output or numbers that are not finite. Failures are not stored.

    An output is stored under a digest of all that is known to have made it: the contents of the
    program and of the files in ``command``, the arguments and input files with their numbers,
    the environment variables given here, and ``key`` with the name of ``output`` or its text.
    Other files that the program reads are not known: where they change, take another folder.
    A stored file has a digest of its own name and bytes. One that is damaged, or that has the name
    of another, is computed again, with a RuntimeWarning.

    A process that is killed leaves behind the folders of the members that it was running. They are
    removed when the next `CommandModel` with the same ``folder`` is made (POSIX); folders in use
    elsewhere, which are locked, and those that were kept are left alone. A program that outlives
    its parent is not stopped: what it writes is not read any more.

    Examples
    --------
    >>> import sys
    >>> import tempfile
    >>> import numpy as np
    >>> from ekitools.adapters.command import CommandModel
    >>> code = '''
    ... import json
    ... a, b = map(float, open("input.txt").read().split())
    ... json.dump({"g": [a + b, a * b]}, open("output.json", "w"))
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = CommandModel(
    ...         [sys.executable, "-c", code], ["a", "b"], folder, "output.json", key="g",
    ...         inputs={"input.txt": "${a} ${b}"})
    ...     model(np.array([2.0, 3.0]))
    array([5., 6.])
    """

    command: Sequence[str | os.PathLike[str]]
    parameter_names: Sequence[str]
    folder: str | Path
    output: str | Callable[[Path], Any]
    _: KW_ONLY
    key: str | None = None
    inputs: Mapping[str, str] | Callable[[Path, dict[str, float]], Any] = field(
        default_factory=dict
    )
    timeout: float | None = None
    retries: int = 0
    keep: str = "failed"
    environment: Mapping[str, str] = field(default_factory=dict)
    stochastic: bool = False
    _known: str = field(init=False, repr=False)

    vectorized: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.timeout is not None:
            put(self, timeout=number("timeout", self.timeout, above=0, remedy="Give seconds."))
        put(
            self,
            retries=integer("retries", self.retries, least=0),
            keep=one_of("keep", self.keep, ("failed", "always", "never")),
            stochastic=flag("stochastic", self.stochastic),
        )
        put(self, parameter_names=checked_names(self.parameter_names, self.stochastic))
        command, files = checked_command(self.command)
        inputs = None if callable(self.inputs) else checked_inputs(self.inputs)
        names = [*self.parameter_names, *([SEED] if self.stochastic else [])]
        check_placeholders(command, inputs, names)
        if callable(self.inputs):
            check_accepts("inputs", self.inputs, "folder", "parameters")
        output = checked_output(self.output, self.key, inputs)
        environment = checked_environment(self.environment)
        known = (
            [_file_digest(path) for path in files],
            sorted(environment.items()),
            identity(output) if callable(output) else output,
            self.key,
        )
        folder = checked_folder(self.folder)
        clear_unfinished(folder / "runs")
        put(self, command=command, inputs=self.inputs if inputs is None else inputs, output=output)
        put(self, environment=environment, folder=folder, _known=repr(known))

    @property
    def n_parameters(self) -> int:
        """Number of parameters p."""
        return len(self.parameter_names)

    def __repr__(self) -> str:
        return f"CommandModel({Path(self.command[0]).name}, p={self.n_parameters})"

    def __call__(self, u: Array, /, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Outputs ``(d,)`` of one member ``(p,)``.

        Raises
        ------
        RuntimeError
            If the program failed, with the last lines that it wrote to its standard error.
        """
        check_vector(u, self.n_parameters)
        parameters = dict(zip(self.parameter_names, map(float, host(u)), strict=True))
        if self.stochastic:
            parameters[SEED] = int(as_rng(rng).integers(2**31))
        for attempt in range(self.retries + 1):
            try:
                return self._attempt(parameters)
            except Exception as error:
                if attempt == self.retries:
                    tries = f" (tried {attempt + 1} times)" if attempt else ""
                    raise RuntimeError(f"{error}{tries}") from error
        raise AssertionError  # retries is at least 0

    def _attempt(self, parameters: dict[str, float]) -> np.ndarray:
        runs, results = Path(self.folder, "runs"), Path(self.folder, "results")
        for each in (runs, results):
            each.mkdir(parents=True, exist_ok=True)
        with run_folder(runs) as run:
            folder, run.kept = run.path, self.keep != "never"
            try:
                command = self._write(folder, parameters)
                stored = results / f"{self._digest(folder, command)}.npy"
                g = load_stored(stored)
                if g is not None:
                    run.kept = False
                    return g
                self._execute(command, folder)
                g = self._read(folder)
                store(folder, stored, g)
            except Exception as error:
                where = f" in {folder}" if run.kept else ""
                raise RuntimeError(f"{self.command[0]}{where}: {error}") from error
            run.kept = self.keep == "always"
            return g

    def _write(self, folder: Path, parameters: dict[str, float]) -> list[str]:
        """Write the input files; the arguments to run."""
        if callable(self.inputs):
            self.inputs(folder, parameters)
        else:
            for name, text in self.inputs.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(Template(text).substitute(parameters), "utf-8")
        return [Template(str(a)).substitute(parameters) for a in self.command]

    def _digest(self, folder: Path, command: list[str]) -> str:
        """What tells this run from others: all that goes into it."""
        files = [
            (path.relative_to(folder).as_posix(), _file_digest(path))
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
        return hashlib.sha256(json.dumps([self._known, command, files]).encode()).hexdigest()[:32]

    def _execute(self, command: list[str], folder: Path) -> None:
        out, err = (folder / name for name in LOGS)
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # so that what it starts can be killed with it
            )
            try:
                code = process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"timed out after {self.timeout:g} s") from None
            finally:
                if process.poll() is None:
                    _kill(process)
        if code != 0:
            how = f"exited with code {code}" if code > 0 else f"was ended by signal {-code}"
            raise RuntimeError(f"{how}: {_tail(err) or _tail(out) or 'it wrote nothing'}")

    def _read(self, folder: Path) -> np.ndarray:
        if callable(self.output):
            found = masked_as_nan(self.output(folder))
            g = np.asarray(found, dtype=np.float64).reshape(-1)
        elif not (folder / self.output).is_file():
            raise RuntimeError(f"wrote no {self.output}: {_tail(folder / LOGS[1])}")
        else:
            g = read_output(folder / self.output, self.key)
        if not np.all(np.isfinite(g)):
            first = int(np.flatnonzero(~np.isfinite(g))[0])
            raise RuntimeError(f"wrote {g[first]} at data index {first}")
        return g


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kill(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _tail(path: Path, lines: int = 5, characters: int = 500) -> str:
    text = path.read_bytes()[-4 * characters :].decode("utf-8", "replace")
    return " | ".join(line.strip() for line in text.splitlines()[-lines:])[-characters:]
