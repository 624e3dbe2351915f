"""`dataset.eki` is there as soon as both ekitools and xarray are imported, in either order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr
from zoo.results import linear_problem, result_of

import ekitools as ek

ROOT = Path(ek.__file__).parents[1]
SHOWN = "print(hasattr(xr.Dataset, 'eki'))"


def printed(code: str) -> list[str]:
    """What a fresh interpreter prints, which takes warnings for errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    "imports",
    [
        "import ekitools, sys; assert 'xarray' not in sys.modules; import xarray as xr",
        "import xarray as xr; import ekitools",
        "import ekitools; from xarray.backends import api; import xarray as xr",
        # a look for xarray that imports nothing does not use the hook up
        "import ekitools, importlib.util as u; u.find_spec('xarray').name; import xarray as xr",
        "import ekitools.results.accessor; import xarray as xr",
    ],
)
def test_any_order_of_imports(imports):
    assert printed(f"{imports}; {SHOWN}") == ["True"]


def test_the_hook_leaves_nothing_behind_and_wraps_no_loader():
    code = (
        "import sys; before = len(sys.meta_path); import ekitools, xarray as xr\n"
        "hooks = [f for f in sys.meta_path if type(f).__name__ == '_WithXarray']\n"
        "print(len(hooks), type(xr.__spec__.loader).__name__)"
    )
    assert printed(code) == ["0", "SourceFileLoader"]


def test_threads_that_import_at_once():
    code = (
        "import threading\n"
        "def first(): import ekitools; import xarray as xr; assert hasattr(xr.Dataset, 'eki')\n"
        "def second(): import xarray as xr; import ekitools; assert hasattr(xr.Dataset, 'eki')\n"
        "threads = [threading.Thread(target=f) for f in (first, second) * 3]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        f"import xarray as xr; {SHOWN}"
    )
    assert printed(code) == ["True"]


def test_without_xarray_its_import_fails_as_ever():
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
        f"sys.path.insert(0, {str(ROOT)!r})\nimport ekitools\n"
        "try:\n    import xarray\nexcept ModuleNotFoundError as error: print(error.name)"
    )
    assert printed(code) == ["xarray"]


def test_a_file_that_was_read_has_the_readers(tmp_path):
    result = result_of(linear_problem())
    result.to_netcdf(tmp_path / "result.nc")
    code = (
        "import ekitools, xarray as xr\n"
        f"with xr.open_dataset({str(tmp_path / 'result.nc')!r}) as result:\n"
        "    print(*result.eki.posterior().data_vars, *result.eki.intervals().index)"
    )
    assert printed(code) == ["u0", "u1", "u2"] * 2


def test_the_readers_are_the_public_ones():
    result = result_of(linear_problem())
    xr.testing.assert_identical(result.eki.posterior(), ek.posterior(result))
    xr.testing.assert_identical(result.eki.posterior(0), ek.posterior(result, 0))
    xr.testing.assert_identical(result.eki.predict(noise=False), ek.predict(result, noise=False))
    assert result.eki.intervals(0.5).equals(ek.intervals(result, 0.5))
    assert str(result.eki) == str(ek.summary(result))
