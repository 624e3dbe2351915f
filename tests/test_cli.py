"""The command: demonstrations end to end, and runs of a user's own file."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import ekitools as ek
from ekitools.cli import main

PROBLEM = """
import numpy as np
import ekitools as ek

def model(u):
    return np.array([u[0] + u[1], u[0] - u[1], u[0]])

problem = ek.InverseProblem(
    ek.FunctionModel(model), ek.GaussianPrior([0.0, 0.0], 1.0), 0.01, [3.0, 1.0, 2.0],
    parameter_names=("a", "b"))
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    path = tmp_path / "own_problem.py"
    path.write_text(PROBLEM)
    return path


def test_run_writes_a_result_and_says_how_it_ended(file, tmp_path, capsys):
    assert main(["run", str(file), "--members", "200", "--seed", "0", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "add up to 1" in out
    assert "model runs. Wrote result.nc" in out
    assert err == ""
    with xr.open_dataset(tmp_path / "result.nc") as result:
        np.testing.assert_allclose(result.u[-1].mean("member"), [2.0, 1.0], atol=0.05)
        assert list(result.parameter.values) == ["a", "b"]


def test_run_prints_an_aligned_table(file, capsys):
    file.write_text(PROBLEM.replace('"b"', '"a name of more than twenty letters"'))
    assert main(["run", str(file), "--members", "20", "--seed", "0", "--quiet"]) == 0
    header, first, second = capsys.readouterr().out.splitlines()[:3]
    assert header.split() == ["parameter", "start", "end"]
    assert first.startswith("a  ")
    assert second.startswith("a name of more than twenty letters  ")
    assert len(header) == len(first) == len(second)


def test_run_takes_the_files_own_method_and_shows_progress(file, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    file.write_text(PROBLEM + "\nmethod = ek.EKI(ek.FixedStep(0.5))\n")
    assert (
        main(["run", str(file), "--members", "20", "--seed", "0", "--out", "deep/er/own.nc"]) == 0
    )
    assert "EKI" in capsys.readouterr().err
    with xr.open_dataset("deep/er/own.nc") as result:
        assert result.sizes["iteration"] == 3


def test_run_resumes_a_checkpoint_that_is_there(file, capsys):
    words = ["run", str(file), "--members", "20", "--seed", "0", "--quiet", "--checkpoint", "c"]
    assert main([*words, "--steps", "2"]) == 0
    assert "budget of 2 steps is spent" in capsys.readouterr().out
    assert main([*words, "--steps", "50"]) == 0
    assert main([*words[:-2], "--out", "whole.nc"]) == 0
    with xr.open_dataset("result.nc") as resumed, xr.open_dataset("whole.nc") as whole:
        np.testing.assert_array_equal(resumed.u, whole.u)


def test_run_with_workers_gives_the_same_bits(file):
    for workers in ("1", "2"):
        words = ["--members", "8", "--seed", "0", "--quiet", "--workers", workers]
        command = [sys.executable, "-m", "ekitools.cli", "run", str(file), *words]
        subprocess.run([*command, "--out", f"{workers}.nc"], check=True, capture_output=True)
    with xr.open_dataset("1.nc") as one, xr.open_dataset("2.nc") as two:
        np.testing.assert_array_equal(one.u, two.u)


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("x = 1", [], "must define `problem`"),
        ("problem = 1", [], "problem: must be an ek.InverseProblem, got int"),
        (PROBLEM + "\nmethod = 3", [], "method: must be a method such as"),
        (PROBLEM, ["--members", "1"], "n_members: must be at least 2, got 1"),
        (PROBLEM, ["--workers", "0"], "--workers: must be at least 1, got 0"),
        (PROBLEM, ["--timeout", "-1"], "timeout: must be positive"),
        (PROBLEM, ["--steps", "0"], "n_steps: must be at least 1, got 0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(file, capsys, text, words, message):
    file.write_text(text)
    assert main(["run", str(file), "--quiet", *words]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""


def test_what_was_computed_before_a_failure_is_written(file, tmp_path, capsys):
    file.write_text(
        PROBLEM.replace("return np.array", "raise ArithmeticError('too hot')\n    return")
    )
    assert main(["run", str(file), "--quiet"]) == 2
    assert "What was computed until then is in result.nc" in capsys.readouterr().err
    with xr.open_dataset(tmp_path / "result.nc") as result:
        assert "too hot" in result.attrs["failures"]


def test_the_most_frequent_reason_is_printed(file, capsys):
    file.write_text(PROBLEM.replace("return np.array", "return np.ones(2)\n    return np.array"))
    assert main(["run", str(file), "--quiet", "--members", "10"]) == 2
    err = capsys.readouterr().err
    assert "Reason, 10 of 10: model: must return d = 3 numbers for one member" in err


@pytest.mark.parametrize("at", [0, 1])
def test_an_interrupt_ends_with_130_one_line_and_what_there_is(file, tmp_path, capsys, at):
    file.write_text(
        PROBLEM.replace(
            "    return np.array",
            "    calls.append(1)\n"
            f"    if len(calls) > 10 * {at}:\n"
            "        raise KeyboardInterrupt\n"
            "    return np.array",
        ).replace("def model", "calls = []\n\ndef model")
    )
    assert main(["run", str(file), "--quiet", "--members", "10"]) == 130
    out, err = capsys.readouterr()
    assert (tmp_path / "result.nc").exists() == bool(at)
    if at == 0:
        assert err == "ekitools: interrupted before there was a result.\n"
    else:
        assert "model runs. Wrote result.nc" in out


@pytest.mark.parametrize("words", [[], ["demo", "mars"], ["run"], ["walk"]])
def test_wrong_words_show_the_usage(words, capsys):
    with pytest.raises(SystemExit) as info:
        main(words)
    assert info.value.code == 2
    assert "usage: ekitools" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as info:
        main(["--version"])
    assert info.value.code == 0
    assert capsys.readouterr().out.strip() == f"ekitools {ek.__version__}"


def test_the_default_demo_end_to_end(tmp_path, capsys, monkeypatch):
    """Real data, a table beside the reference, and an honest account of plain EKI's bias."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["demo", "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "GNKI" in err  # the progress bar
    for name in ("alpha", "beta", "gamma", "delta", "hare0", "lynx0"):
        assert name in out
    assert "Model runs: " in out
    reference = ek.problems.lynx_hare().reference
    with xr.open_dataset(tmp_path / "result.nc") as result:
        for name, (mean, sd) in reference.items():
            u = result.u[-1].sel(parameter=name)
            # 200 members: a standard error of 0.07 standard deviations
            assert float(u.mean()) == pytest.approx(mean, abs=0.35 * sd)
            assert float(u.std(ddof=1)) == pytest.approx(sd, rel=0.25)
        assert float(ek.diagnose(result).coverage[-1]) > 0.85
    assert (tmp_path / "result-eki.nc").is_file()
    pictures = sorted(p.name for p in tmp_path.glob("*.png"))
    assert pictures == [f"lynx-hare-{n}.png" for n in ("convergence", "ensemble", "predictive")]
    told = out.rsplit("Wrote ", 1)[1]
    assert all(str(path) in told for path in tmp_path.iterdir())


def test_plain_eki_is_biased_as_the_demo_says():
    """The yardstick of the demo: if this fails, its text has to change."""
    example = ek.problems.lynx_hare()
    reference = np.array(list(example.reference.values()))
    worst = []
    for seed in range(4):
        u = ek.run(example.problem, ek.EKI(), n_members=200, rng=seed).u[-1].values
        worst.append(np.max(np.abs(u.mean(0) - reference[:, 0]) / reference[:, 1]))
    assert max(worst) > 2


def test_the_deconvolution_demo_reaches_the_exact_posterior(tmp_path, capsys):
    words = ["demo", "deconvolution", "--members", "2000", "--out", str(tmp_path), "--quiet"]
    assert main(words) == 0
    assert "exact posterior" in capsys.readouterr().out
    example = ek.problems.deconvolution()
    sd = np.sqrt(np.diag(example.extra["cov"]))
    with xr.open_dataset(tmp_path / "result.nc") as result:
        last = result.u[-1]
        score = (last.mean("member") - example.extra["mean"]) / sd
        assert float(np.sqrt((score**2).mean())) < 0.3
        assert float((last.std("member", ddof=1) / sd).mean()) == pytest.approx(1, abs=0.1)


def test_the_darcy_demo_finds_the_field(tmp_path, capsys):
    words = ["demo", "darcy", "--members", "60", "--out", str(tmp_path), "--quiet"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "relative error of the mean log-permeability" in out
    assert {p.name for p in tmp_path.glob("*.png")} >= {"darcy-field.png"}


def test_verify_draws_its_table_and_momentum(tmp_path, capsys, monkeypatch):
    from matplotlib import pyplot as plt

    from ekitools.theory import checks as verification

    row = verification.Row("1 = 1", "none", "1", "1", True, 0.0)
    monkeypatch.setattr(verification, "verify", lambda rng: verification.Report((row,)))
    before = plt.get_fignums()
    assert main(["verify", "--figure", str(tmp_path / "theory.png")]) == 0
    assert (tmp_path / "theory.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == before


def test_run_without_a_method_solves(file, tmp_path, capsys):
    words = ["run", str(file), "--seed", "0", "--quiet", "--budget", "3000", "--checkpoint", "c"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Confirmed by model runs" in out
    with xr.open_dataset(tmp_path / "result.nc") as result:
        assert result.attrs["verdict"] == "confirmed"
        assert f"{result.attrs['n_runs']} model runs. Wrote result.nc" in out
        assert "Stage 3" in str(ek.summary(result))
    assert main(words) == 0  # from the folder
    assert capsys.readouterr().out == out


def test_a_budget_is_for_solve_alone(file, capsys):
    assert main(["run", str(file), "--quiet", "--budget", "3000", "--members", "50"]) == 2
    assert "--budget: must be given without" in capsys.readouterr().err
    file.write_text(PROBLEM + "\nmethod = ek.EKI()\n")
    assert main(["run", str(file), "--quiet", "--budget", "3000"]) == 2
    assert "a `method` in the file" in capsys.readouterr().err
