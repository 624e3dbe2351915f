"""The process ``ekitools``: what help imports, closed pipes, interrupts, widths and encodings."""

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekitools.cli import main
from ekitools.core.terminal import without_symbols
from ekitools.results.tables import table_lines

PROBLEM = """
import ekitools as ek
p = {p}
problem = ek.InverseProblem(
    ek.FunctionModel(lambda u: u), ek.GaussianPrior([0.0] * p, 1.0), 0.01, [1.0] * p,
    parameter_names=[f"{name}{{i}}" for i in range(p)])
"""
COMMAND = [sys.executable, "-m", "ekitools.cli"]
HEAVY = ("numpy", "scipy", "xarray", "matplotlib", "arviz", "pandas")


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    path = tmp_path / "own.py"
    path.write_text(PROBLEM.format(p=2, name="α_"))
    return path


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["reproduce", "--help"]])
def test_help_imports_nothing_heavy(words):
    code = (
        "import sys; from ekitools.cli import main\n"
        f"try: main({words!r})\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stderr.strip() == "[]"
    assert "usage: ekitools" in found.stdout


def test_help_begins_with_what_a_user_needs(capsys):
    with pytest.raises(SystemExit) as info:
        main(["--help"])
    assert info.value.code == 0
    text = capsys.readouterr().out
    places = [text.index(f"\n    {word}") for word in ("demo", "run", "report", "reproduce")]
    assert places == sorted(places)
    assert "mnist" not in text


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("words", [["--help"], ["verify", "--json"]])
def test_a_closed_pipe_leaves_no_traceback(words):
    reader, writer = os.pipe()
    os.close(reader)  # as after `| head -0`
    found = subprocess.run([*COMMAND, *words], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert found.returncode in ({0, 141} if "--help" in words else {141})  # argparse may ignore it
    assert found.stderr == b""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupted_process_ends_with_130_and_its_result(file):
    model = "def model(u):\n    import time\n    time.sleep(0.02)\n    return u\n"
    file.write_text(model + file.read_text().replace("lambda u: u", "model"))
    words = ["run", file.name, "--members", "20", "--checkpoint", "saved"]
    with subprocess.Popen([*COMMAND, *words], stdout=-1, stderr=-1, text=True) as process:
        while not (file.parent / "saved" / "checkpoint.json").exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(1.0)  # for a first iteration
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Wrote result.nc" in out
    assert err == ""  # neither a traceback nor a progress bar, since this is no terminal
    assert (file.parent / "result.nc").exists()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_an_encoding_without_the_symbols_does_not_end_a_run(file, encoding):
    words = ["run", file.name, "--members", "20", "--seed", "0"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    found = subprocess.run([*COMMAND, *words], capture_output=True, check=True, env=environment)
    text = found.stdout.decode(encoding)
    assert "alpha_0" in text
    assert ("+/-" if encoding == "ascii" else "±") in text
    assert found.stderr == b""


@given(st.text())
def test_text_without_symbols_is_ascii(text):
    assert without_symbols(text).isascii()


def test_a_narrow_terminal_gets_narrow_tables(file, capsys, monkeypatch):
    file.write_text(PROBLEM.format(p=50, name="a parameter with a very long name "))
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["run", str(file), "--members", "60", "--seed", "0"]) == 0
    *table, shown, _ = capsys.readouterr().out.splitlines()
    assert max(map(len, table)) <= 40
    assert shown == "40 of 50 parameters shown."
    assert table[1].startswith("a parameter with ...")


@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(
            st.lists(st.text("abc", max_size=12), min_size=n, max_size=n), min_size=1, max_size=4
        )
    ),
    st.integers(30, 80),
)
def test_tables_fit_their_width_and_lose_no_cell(rows, width):
    header = [f"column {i}" for i in range(len(rows[0]))]
    lines = table_lines(header, rows, width=width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert all(cell in text for row in [header, *rows] for cell in row)
    assert table_lines(header, rows, width=1000) == table_lines(header, rows)


@pytest.mark.slow
def test_the_demo_has_a_folder_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "deconvolution", "--members", "50"]) == 0
    out = capsys.readouterr().out
    assert "10 of 100 parameters shown." in out
    assert [path.name for path in tmp_path.iterdir()] == ["ekitools-demo"]
    assert (tmp_path / "ekitools-demo" / "deconvolution" / "result.nc").exists()
