"""External programs as forward models, with a folder for every member."""

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
from typing import Any, ClassVar, Literal, TypeAlias, get_args

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

Keep: TypeAlias = Literal["failed", "always", "never"]
"""Whose folders are kept."""
_KEEP: tuple[Keep, ...] = get_args(Keep)


@dataclass(frozen=True, eq=False)
class CommandModel:
    r"""A forward model G(u) that runs an external program and reads its output.

    Every member has its own folder. The model writes the input files to the folder, runs the
    program in the folder without a shell, and reads the output from the folder. Outputs are stored.
    After an interruption, members that have finished are not run again. Use threads to run several
    programs at once: ``executor=concurrent.futures.ThreadPoolExecutor(n)``.

    Parameters
    ----------
    command : sequence of str or Path
        The program and its arguments. In every argument, ``${name}`` is replaced by the parameter
        of that name, and ``$$`` by a dollar sign. Use a `pathlib.Path` for your own files, such as
        a script. The file must exist; the program receives its absolute path.
    parameter_names : sequence of str
        Names of the p parameters, in the order of u.
    folder : str or Path
        The folder of all member folders and stored outputs; created if it does not exist. For
        workers on other machines, the folder must be on a shared file system.
    output : str or callable
        The name of the output file, ending in ``.json``, ``.csv`` or ``.nc`` (netCDF). Or a
        function ``output(folder)`` that reads the member's folder and returns the numbers ``(d,)``.
    key : str, optional
        Key of a JSON object, column of a CSV file, or netCDF variable. Without a key, the output
        must be a JSON list, a CSV file without a header, or a netCDF file with one variable. Arrays
        are read row by row.
    inputs : mapping of str to str, or callable, optional
        Input files: a mapping of file names to texts, with the placeholders ``${name}`` and ``$$``
        of ``command``. Or a function ``inputs(folder, parameters)`` that writes the files;
        ``parameters`` maps names to numbers. Numbers are written with all digits, so the program
        reads exactly the same floats.
    timeout : float, optional
        Seconds after which a program is killed; its child processes are killed too (POSIX).
    retries : int, default 0
        Number of further attempts after a program has failed.
    keep : {"failed", "always", "never"}, default "failed"
        Which member folders ``folder/runs/run-*`` are kept, with ``stdout.txt`` and
        ``stderr.txt``: the folders of failed members, of all members, or none.
    environment : mapping of str to str, optional
        Additional environment variables of the program, such as ``{"OMP_NUM_THREADS": "1"}``.
    stochastic : bool, default False
        Whether the program is random. If True, the placeholder ``${seed}`` is available: an integer
        below 2³¹ that differs between members and iterations.

    Attributes
    ----------
    n_parameters : int
        p.
    vectorized : bool
        False.

    Raises
    ------
    TypeError, ValueError
        Before any run, if the program or a file is missing, a placeholder is not a parameter, a
        parameter is not used, the folder is not writable, or a function does not accept its
        arguments.

    See Also
    --------
    ekitools.FunctionModel : A Python function as a forward model.
    ekitools.adapters.umbridge.UMBridgeModel : A model on a UM-Bridge server.

    Notes
    -----
    A member fails if the program exits with a code other than 0, exceeds the timeout, writes no
    output, or writes numbers that are not finite. Failures are not stored.

    An output is stored under a digest of its known inputs: the contents of the program and of the
    files in ``command``, the arguments and input files with their numbers, the environment
    variables given here, ``key``, and ``output`` (the file name, or the source of the function).
    Other files that the program reads are not part of the digest. If such a file changes, use
    another folder. Every stored file contains a digest of its own name and bytes. If that digest
    does not match, the output is computed again, with a RuntimeWarning.

    A killed process leaves the folders of its running members behind. The next `CommandModel` with
    the same ``folder`` removes these folders when it is created (POSIX). It does not remove folders
    that are in use elsewhere (they are locked), nor folders that were kept. A program that outlives
    its parent process is not stopped, but its output is not read.

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
    keep: Keep = "failed"
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
            keep=one_of("keep", self.keep, _KEEP),
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
            If the program failed; the message ends with the last lines of its standard error.
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
        """Write the input files, and return the command with its arguments."""
        if callable(self.inputs):
            self.inputs(folder, parameters)
        else:
            for name, text in self.inputs.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(Template(text).substitute(parameters), "utf-8")
        return [Template(str(a)).substitute(parameters) for a in self.command]

    def _digest(self, folder: Path, command: list[str]) -> str:
        """Digest of all known inputs of a run."""
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
                start_new_session=True,  # child processes can then be killed too
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
