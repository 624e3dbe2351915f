"""Programs as models: what they are given, what becomes of failures, what a killed run keeps."""

import concurrent.futures as cf
import contextlib
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from zoo.results import same

import ekitools as ek
from ekitools import typing as contracts
from ekitools.adapters._command_output import _MARK
from ekitools.adapters.command import CommandModel
from ekitools.models.evaluate import evaluate

SCRIPT = """
import json, os, pathlib, sys
a, b = map(float, pathlib.Path("in.txt").read_text().split())
with open(sys.argv[1], "a") as log:
    log.write(f"{os.getppid()}\\n")
if a > 1:
    print("first line", file=sys.stderr)
    sys.exit("a is too large")
json.dump({"g": [a + b, a * b, a - b]}, open("out.json", "w"))
"""


def simulator(a, b):
    return np.array([a + b, a * b, a - b])


def write_parameters(folder, parameters):
    folder.joinpath("in.txt").write_text(f"{parameters['a']!r} {parameters['b']!r}")


def read_text(folder):
    return [float(x) for x in folder.joinpath("out.txt").read_text().split()]


class Program:
    """The script, and a log of its runs."""

    def __init__(self, folder):
        self.folder = folder
        self.script, self.log = folder / "simulate.py", folder / "log.txt"
        self.script.write_text(SCRIPT)
        self.log.touch()

    def model(self, **options):
        options = {"key": "g", "inputs": {"in.txt": "${a} ${b}"}, **options}
        command = [sys.executable, "-S", self.script, str(self.log)]
        return CommandModel(command, ["a", "b"], self.folder / "work", "out.json", **options)

    @property
    def runs(self):
        """How often this process has run it."""
        return self.log.read_text().splitlines().count(str(os.getpid()))

    @property
    def all_runs(self):
        return len(self.log.read_text().splitlines())

    @property
    def kept(self):
        return sorted(self.folder.glob("work/runs/*"))


@pytest.fixture
def program(tmp_path):
    return Program(tmp_path)


def python(code, names, folder, output="out.json", **options):
    """A model that runs ``code`` with the parameters as arguments."""
    command = [sys.executable, "-S", "-c", textwrap.dedent(code), *(f"${{{n}}}" for n in names)]
    return CommandModel(command, names, folder, output, **options)


# --- what a program is given and what is read --------------------------------------------


def test_it_computes_what_the_program_does_to_the_last_bit(program):
    model = program.model()
    assert isinstance(model, contracts.ForwardModel)
    for u in np.random.default_rng(0).normal(0, 0.3, size=(3, 2)):
        np.testing.assert_array_equal(model(u), simulator(*u))
    assert program.runs == 3


def test_a_writer_writes_what_a_template_does(program):
    u = np.array([0.1, 1 / 3])
    np.testing.assert_array_equal(program.model(inputs=write_parameters)(u), simulator(*u))


def test_arguments_are_never_seen_by_a_shell(tmp_path):
    code = "import json, sys; json.dump([len(a) for a in sys.argv[2:]], open('out.json', 'w'))"
    command = [sys.executable, "-c", code, "${a}", "; touch x", "$$HOME", "a b", "*"]
    g = CommandModel(command, ["a"], tmp_path, "out.json")(np.array([1.0]))
    np.testing.assert_array_equal(g, [9, 5, 3, 1])


def test_every_format_is_read(tmp_path):
    expected = [1.5, 2.5, 3.5, 4.5]
    (tmp_path / "a.json").write_text(json.dumps({"h": 1, "g": [[1.5, 2.5], [3.5, 4.5]]}))
    (tmp_path / "b.json").write_text(json.dumps(expected))
    (tmp_path / "a.csv").write_text("x, g\n0, 1.5\n1, 2.5\n2, 3.5\n3, 4.5\n\n")
    (tmp_path / "b.csv").write_text("1.5,2.5\n3.5,4.5\n")
    grid = xr.DataArray(np.reshape(expected, (2, 2)), dims=("t", "x"))
    xr.Dataset({"g": grid, "h": grid + 1}).to_netcdf(tmp_path / "a.nc")
    xr.Dataset({"g": grid}).to_netcdf(tmp_path / "b.nc")
    for ending in ("json", "csv", "nc"):
        for name, key in (("a", "g"), ("b", None)):
            file = f"{name}.{ending}"
            code = f"import shutil; shutil.copy({str(tmp_path / file)!r}, '.')"
            model = python(code, ["z"], tmp_path / "work", file, key=key)
            np.testing.assert_array_equal(model(np.zeros(1)), expected)
        code = f"import shutil; shutil.copy({str(tmp_path / f'a.{ending}')!r}, '.')"
        model = python(code, ["z"], tmp_path / "work", f"a.{ending}", key="pressure")
        with pytest.raises(RuntimeError, match=r"key: must be one of .*'g'.*got 'pressure'"):
            model(np.zeros(1))


def test_a_reader_is_a_function_of_the_folder(tmp_path):
    code = "import sys; open('out.txt', 'w').write(sys.argv[1] + ' 2')"
    model = python(code, ["a"], tmp_path, read_text)
    np.testing.assert_array_equal(model(np.array([0.5])), [0.5, 2.0])


def test_environment_variables_are_added(tmp_path):
    code = """
    import json, os
    json.dump([float(os.environ["ONE"]), len(os.environ["PATH"]) > 0], open("out.json", "w"))
    """
    for one in ("1", "2"):
        model = python(code, ["z"], tmp_path, environment={"ONE": one})
        np.testing.assert_array_equal(model(np.zeros(1)), [float(one), 1])


def test_a_stochastic_program_is_given_a_seed_of_its_own(tmp_path):
    code = "import json, sys; json.dump([float(x) for x in sys.argv[1:]], open('out.json', 'w'))"
    command = [sys.executable, "-S", "-c", code, "${a}", "${seed}"]
    model = CommandModel(command, ["a"], tmp_path, "out.json", stochastic=True)
    seeds = [model(np.zeros(1), rng=np.random.default_rng(i))[1] for i in (0, 1, 0)]
    assert seeds[0] == seeds[2] != seeds[1]
    with pytest.raises(ValueError, match="must all be used .* got 'seed'"):
        CommandModel(command[:-1], ["a"], tmp_path, "out.json", stochastic=True)


# --- failures -------------------------------------------------------------------------------


def test_a_failed_member_has_the_last_lines_of_stderr_as_its_reason(program):
    problem = ek.InverseProblem(program.model(), ek.GaussianPrior([0.0, 0.0], 1.0), 1.0, np.ones(3))
    start = np.array([[0.0, 1.0], [2.0, 1.0], [0.5, 0.5], [0.2, 0.1]])
    result = ek.run(problem, ek.EKI(), ensemble=start, n_steps=1, rng=0, on_failure="drop")
    assert result.failed.isel(iteration=0).values.tolist() == [False, True, False, False]
    (failure,) = [f for f in json.loads(result.attrs["failures"]) if f["iteration"] == 0]
    assert failure["member"] == 1
    assert "exited with code 1: first line | a is too large" in failure["reason"]
    (folder,) = (path for path in program.kept if path.joinpath("in.txt").read_text()[0] == "2")
    assert str(folder) in failure["reason"]
    assert folder.joinpath("stderr.txt").read_text().endswith("a is too large\n")


@pytest.mark.parametrize(
    ("keep", "fine", "failed"), [("failed", 0, 1), ("always", 1, 1), ("never", 0, 0)]
)
def test_folders_are_kept_as_asked_for(program, keep, fine, failed):
    model = program.model(keep=keep)
    model(np.array([0.5, 0.5]))
    assert len(program.kept) == fine
    model(np.array([0.5, 0.5]))  # stored: nothing more to keep
    assert len(program.kept) == fine
    with pytest.raises(RuntimeError, match="too large"):
        model(np.array([2.0, 0.5]))
    assert len(program.kept) == fine + failed


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path):
    code = f"""
    import pathlib, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(child.pid))
    time.sleep(60)
    """
    model = python(code, ["z"], tmp_path / "work", timeout=3.0)
    start = time.perf_counter()
    with pytest.raises(RuntimeError, match="timed out after 3 s"):
        model(np.zeros(1))
    assert time.perf_counter() - start < 30
    assert ended(int((tmp_path / "pid").read_text()))


def ended(pid, within=5.0):
    """Whether a process is gone, or waits for nothing but to be collected."""
    limit = time.perf_counter() + within
    while time.perf_counter() < limit:
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_the_timeout_of_the_run_kills_the_program_too(tmp_path):
    code = f"""
    import os, pathlib, time
    pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
    time.sleep(60)
    """
    model = python(code, ["z"], tmp_path / "work")
    failures = evaluate(model, np.zeros((1, 1)), 1, timeout=2.0).failures
    assert "timed out" in failures[0].reason
    assert ended(int((tmp_path / "pid").read_text()))


def test_retries_run_a_program_again_in_a_fresh_folder(tmp_path):
    code = f"""
    import json, os, pathlib, sys
    log = pathlib.Path({str(tmp_path)!r}, "log.txt")
    with log.open("a") as file:
        file.write("ran\\n")
    if os.path.exists("touched") or len(log.read_text().splitlines()) < 3:
        open("touched", "w")
        sys.exit("not yet")
    json.dump([1.0], open("out.json", "w"))
    """
    with pytest.raises(RuntimeError, match=r"not yet \(tried 2 times\)"):
        python(code, ["z"], tmp_path / "work", retries=1)(np.zeros(1))
    (tmp_path / "log.txt").unlink()
    assert python(code, ["z"], tmp_path / "work", retries=2)(np.zeros(1)) == [1.0]
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("pass", "wrote no out.json"),
        ("open('out.json', 'w').write('[1, NaN]')", "wrote nan at data index 1"),
        ("open('out.json', 'w').write('[1, ')", "Expecting value"),
        ("open('out.json', 'w').write('[\"x\"]')", "could not convert"),
        ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9: it wrote nothing"),
        ("print('only here'); raise SystemExit(3)", "exited with code 3: only here"),
    ],
)
def test_whatever_goes_wrong_is_a_failure_that_is_not_stored(tmp_path, code, reason):
    model = python(code, ["z"], tmp_path)
    with pytest.raises(RuntimeError, match=reason):
        model(np.zeros(1))
    assert list(tmp_path.glob("results/*")) == []


# --- what is stored ---------------------------------------------------------------------------


def test_what_has_finished_is_not_run_again(program):
    u = np.array([0.25, 0.5])
    first = program.model()(u)
    np.testing.assert_array_equal(program.model()(u), first)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(program.model()))(u), first)
    assert program.runs == 1
    program.model()(np.nextafter(u, 1))  # other numbers, if only in the last bit
    assert program.runs == 2


def test_a_change_of_anything_known_runs_again(program):
    u = np.array([0.25, 0.5])
    program.model()(u)
    np.testing.assert_array_equal(
        program.model(inputs={"in.txt": "${b} ${a}"})(u), [0.75, 0.125, 0.25]
    )
    assert program.runs == 2
    program.script.write_text(SCRIPT.replace("a + b", "a + b + 1"))
    np.testing.assert_array_equal(program.model()(u)[0], 1.75)
    assert program.runs == 3
    program.model(environment={"X": "1"})(u)
    assert program.runs == 4


def test_a_damaged_store_is_run_again(program):
    u = np.array([0.25, 0.5])
    g = program.model()(u)
    (stored,) = program.folder.glob("work/results/*.npy")
    whole = stored.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(_MARK) - 2] ^= 1  # a bit of the last number
    marked = bytearray(whole)
    marked[whole.index(_MARK) + 1] ^= 1  # a bit of the mark before the digest
    for runs, damaged in enumerate((whole[:-3], whole[:-80], b"", flipped, marked), start=2):
        stored.write_bytes(damaged)
        with pytest.warns(RuntimeWarning, match="stored output .* is damaged"):
            np.testing.assert_array_equal(program.model()(u), g)
        assert program.runs == runs
        assert stored.read_bytes() == whole


def test_a_stored_output_under_the_name_of_another_is_run_again(program):
    u, v = np.array([0.25, 0.5]), np.array([1.0, 2.0])
    g = program.model()(u)
    (stored,) = program.folder.glob("work/results/*.npy")
    program.model()(v)
    (other,) = set(program.folder.glob("work/results/*.npy")) - {stored}
    stored.write_bytes(other.read_bytes())
    with pytest.warns(RuntimeWarning, match="its digest does not match its name and contents"):
        np.testing.assert_array_equal(program.model()(u), g)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are POSIX")
def test_a_pipe_or_a_link_in_the_place_of_a_stored_output_is_not_waited_for(program):
    u = np.array([0.25, 0.5])
    g = program.model()(u)
    (stored,) = program.folder.glob("work/results/*.npy")
    for put in (os.mkfifo, lambda path: path.symlink_to(path)):
        stored.unlink()
        put(stored)
        with pytest.warns(RuntimeWarning, match="it is not a plain file"):
            np.testing.assert_array_equal(program.model()(u), g)
        assert stored.is_file()


def test_outputs_stored_by_earlier_versions_are_read(program):
    u = np.array([0.25, 0.5])
    g = program.model()(u)
    (stored,) = program.folder.glob("work/results/*.npy")
    np.save(stored, g)
    np.testing.assert_array_equal(program.model()(u), g)
    assert program.runs == 1


DRIVER = """
import sys
import numpy as np
import ekitools as ek
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]  # the second for `zoo`
from test_command import Program
from pathlib import Path

program = Program(Path(sys.argv[2]))
prior = ek.GaussianPrior([0.0, 0.0], 0.01)
problem = ek.InverseProblem(program.model(), prior, 0.01, [0.3, 0.02, 0.1])
ek.run(problem, ek.EKI(ek.FixedStep(0.5)), n_members=12, rng=3, checkpoint=sys.argv[3])
"""


def test_a_run_that_was_killed_runs_nothing_twice(program, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    arguments = [str(Path(__file__).parent), str(tmp_path), str(checkpoint)]
    process = subprocess.Popen([sys.executable, "-c", DRIVER, *arguments])
    limit = time.perf_counter() + 120
    while program.all_runs < 5 and time.perf_counter() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stored = len(list(tmp_path.glob("work/results/*.npy")))
    assert 4 <= stored < 36
    problem = ek.InverseProblem(
        program.model(), ek.GaussianPrior([0.0, 0.0], 0.01), 0.01, [0.3, 0.02, 0.1]
    )
    result = ek.resume(checkpoint, problem)
    assert int(result.attrs["model_runs"]) == 36
    assert program.runs == 36 - stored
    plain = ek.InverseProblem(
        ek.FunctionModel(lambda u: simulator(*u)), problem.prior, problem.noise, problem.data,
        parameter_names=["a", "b"],
    )  # fmt: skip
    whole = ek.run(plain, ek.EKI(ek.FixedStep(0.5)), n_members=12, rng=3)
    assert same(result.assign_attrs(problem=""), whole.assign_attrs(problem=""))


STUCK = """
import sys
from pathlib import Path
import numpy as np
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]  # the second for `zoo`
from test_command import stuck

stuck(Path(sys.argv[2]))(np.zeros(1))
"""


def stuck(folder):
    """A model whose program says its number and then waits."""
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    return python(code, ["z"], folder, timeout=3)


def test_folders_of_a_killed_process_are_removed_by_the_next_and_no_others(tmp_path):
    runs = tmp_path / "runs"
    with pytest.raises(RuntimeError, match="timed out"):
        stuck(tmp_path)(np.zeros(1))
    (kept,) = runs.iterdir()
    arguments = [sys.executable, "-c", STUCK, str(Path(__file__).parent), str(tmp_path)]
    process = subprocess.Popen(arguments)
    limit = time.perf_counter() + 60
    while len(list(runs.glob("*/pid"))) < 2 and time.perf_counter() < limit:
        time.sleep(0.02)
    (used,) = set(runs.glob("*/pid")) - {kept / "pid"}
    stuck(tmp_path)  # made while the other process works: its folder stays
    assert used.is_file()
    process.kill()
    process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(used.read_text()), signal.SIGKILL)  # a program outlives its parent
    assert used.is_file()
    stuck(tmp_path)
    assert list(runs.iterdir()) == [kept]


def spawn(workers):
    return cf.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("pool", [cf.ThreadPoolExecutor, spawn])
def test_executors_give_the_bits_of_the_serial_run(program, pool):
    prior = ek.GaussianPrior([0.0, 0.0], 0.01)
    problem = ek.InverseProblem(program.model(), prior, 0.01, [0.3, 0.02, 0.1])
    method = ek.EKI(ek.FixedStep(0.5))
    with pool(2) as executor:
        parallel = ek.run(problem, method, n_members=6, n_steps=1, rng=0, executor=executor)
    assert program.all_runs == 12
    serial = ek.run(problem, method, n_members=6, n_steps=1, rng=0)
    assert program.all_runs == 12
    assert same(parallel, serial)
    assert parallel.parameter.values.tolist() == ["a", "b"]


# --- mistakes, before the first run -------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"command": "python x.py"}, TypeError, "command: must be a list"),
        ({"command": []}, TypeError, "command: must be a list"),
        ({"command": 3}, TypeError, "command: must be a list of the program .* got 3"),
        ({"command": [3, "${a}"]}, TypeError, "command: must begin with a text or a path, got 3"),
        ({"command": [os.curdir, "${a}"]}, ValueError, "command: must begin with a program"),
        ({"command": ["no-such-program", "${a}"]}, ValueError, "neither on the PATH"),
        ({"command": [sys.executable, Path("no.py"), "${a}"]}, ValueError, "files that exist"),
        ({"command": [sys.executable, 3, "${a}"]}, TypeError, "texts and paths, got 3"),
        ({"command": [sys.executable, "${c}", "${a}"]}, ValueError, r"command\[1\]: must name one"),
        ({"command": [sys.executable, "5$", "${a}"]}, ValueError, r"Write \$\$"),
        ({"inputs": {"in.txt": "${a} ${k}"}}, ValueError, r"inputs\['in.txt'\]: must name one"),
        ({"inputs": {"../in.txt": "${a}"}}, ValueError, "in the member's folder"),
        ({"inputs": {"stdout.txt": "${a}"}}, ValueError, "in the member's folder"),
        ({"inputs": {"in\0.txt": "${a}"}}, ValueError, "inputs: .* without control characters"),
        ({"inputs": {"in\n.txt": "${a}"}}, ValueError, "inputs: .* without control characters"),
        ({"output": "out\0.json"}, ValueError, "output: .* without control characters"),
        ({"inputs": {"in.txt": b"1"}}, TypeError, "must be a text, got bytes"),
        ({"inputs": "in.txt"}, TypeError, "inputs: must be"),
        ({"inputs": {3: "${a}"}}, TypeError, "inputs: must have file names as keys, got 3"),
        ({"inputs": {"": "${a}"}}, ValueError, "inputs: must name files .* got ''"),
        ({"inputs": lambda folder: None}, TypeError, r"inputs: must be a function \(folder, param"),
        ({"parameter_names": ["a", "b"]}, ValueError, "must all be used .* got 'b'"),
        ({"parameter_names": ["a", "a"]}, ValueError, "different from each other"),
        ({"parameter_names": []}, ValueError, "one or more texts"),
        ({"parameter_names": ["a", 3]}, ValueError, "one or more texts, got .* 3"),
        ({"parameter_names": 3}, TypeError, "parameter_names: must be a list of texts, got 3"),
        (
            {"parameter_names": ["seed", "a"], "stochastic": True},
            ValueError,
            "must not have 'seed'",
        ),
        ({"folder": None}, TypeError, "folder: must be the path of a folder, got NoneType"),
        ({"output": "out.dat"}, ValueError, r"output: must end in .json, .csv, .nc"),
        ({"output": 3}, TypeError, "a file name or a function"),
        ({"output": "../out.json"}, ValueError, "output: must name a file in the member's folder"),
        ({"output": "/out.json"}, ValueError, "output: must name a file in the member's folder"),
        (
            {"output": lambda: [1.0]},
            TypeError,
            r"output: must be a function \(folder\), got .*\(\)",
        ),
        ({"output": read_text, "key": "g"}, ValueError, "key: must be None"),
        ({"key": 3}, TypeError, "key: must be a text or None, got 3"),
        ({"key": ""}, TypeError, "key: must be a text or None, got ''"),
        ({"command": [sys.executable, "${a}\0"]}, ValueError, "command: must not have .* NUL"),
        ({"environment": {"A": "\0"}}, ValueError, r"environment\['A'\]: must not have .* NUL"),
        ({"inputs": {"./stderr.txt": ""}}, ValueError, "in the member's folder other than"),
        ({"inputs": {"a": "", "a/b": ""}}, ValueError, "inputs: .* 'a', the folder of 'a/b' too"),
        ({"inputs": {"out.json": ""}}, ValueError, "output: must not be one of the inputs"),
        ({"parameter_names": ["a", ""]}, ValueError, "one or more texts, got .*''"),
        ({"command": [sys.executable, "${a}${b-c}"]}, ValueError, "need a function as inputs"),
        ({"timeout": 0}, ValueError, "timeout: must be positive"),
        ({"timeout": -1.0}, ValueError, "timeout: must be positive and finite, got -1.0. Give sec"),
        ({"timeout": np.inf}, ValueError, "timeout: must be positive and finite, got inf"),
        ({"timeout": "60"}, TypeError, "timeout: must be a number, got '60'. Give seconds"),
        ({"retries": -1}, ValueError, "retries: must be at least 0, got -1"),
        ({"retries": 1.5}, TypeError, "retries: must be an integer, got 1.5"),
        ({"keep": "all"}, ValueError, 'keep: must be "failed"'),
        ({"environment": "A=1"}, TypeError, "environment: must be {name: text}, got 'A=1'"),
        ({"environment": {"A=": "1"}}, ValueError, "environment: must have names without ="),
        (
            {"environment": {"A": None}},
            TypeError,
            r"environment\['A'\]: must be a text, .* got None",
        ),
        ({"stochastic": 1}, TypeError, "stochastic: must be True or False, got 1"),
    ],
)
def test_a_mistake_is_an_error_before_the_first_run(tmp_path, change, error, message):
    options = {
        "command": [sys.executable, "-c", "pass", "${a}"],
        "parameter_names": ["a"],
        "folder": tmp_path,
        "output": "out.json",
        **change,
    }
    with pytest.raises(error, match=message):
        CommandModel(**options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_found_out_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="folder: must be one that can be written to"):
        python("pass", ["a"], tmp_path / "file" / "work")


def test_the_problem_checks_the_number_of_parameters(program):
    with pytest.raises(ValueError, match="prior: must be over the 2 parameters of CommandModel"):
        ek.InverseProblem(program.model(), ek.GaussianPrior([0.0], 1.0), 1.0, np.ones(3))
    with pytest.raises(ValueError, match="p = 2 entries"):
        program.model()(np.zeros(3))
    assert program.runs == 0


def test_the_path_of_the_program_does_not_depend_on_the_folder(tmp_path, monkeypatch):
    script = tmp_path / "simulate"
    script.write_text('#!/bin/sh\necho "[$1]" > out.json\n')
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    model = CommandModel(["./simulate", "${a}"], ["a"], "work", "out.json")
    monkeypatch.chdir(os.sep)
    assert model(np.array([2.5])) == [2.5]
