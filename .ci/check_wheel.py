"""Check what an sdist and a wheel hold: what belongs to them and nothing else."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

FOLDERS = ("ekitools", "tests", "docs", "tutorials", "benchmarks")
FILES = {
    *("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md"),
    *("conftest.py", "pyproject.toml", ".gitignore", "PKG-INFO"),
}
MADE = {"__pycache__", "_build", "generated", ".jupyter_cache", "jupyter_execute"}


def files(folder: str) -> set[str]:
    """What is in a folder here, without what running and building have left there."""
    return {
        path.as_posix()
        for path in Path(folder).rglob("*")
        if path.is_file() and not MADE & set(path.parts)
    }


def difference(there: set[str], wanted: set[str]) -> str | None:
    """Return what is missing and what is too much, or None."""
    if there == wanted:
        return None
    return f"missing: {sorted(wanted - there)}, too many: {sorted(there - wanted)}"


def wheel(path: Path) -> str | None:
    """Return what is wrong with a wheel: it holds the package alone, and the licence."""
    with zipfile.ZipFile(path) as archive:
        shipped = {name for name in archive.namelist() if not name.endswith("/")}
    package = {name for name in shipped if ".dist-info/" not in name}
    print(f"{path.name}: {len(package)} files, {path.stat().st_size / 1024:.0f} KiB")
    if not any(name.endswith("/licenses/LICENSE") for name in shipped):
        return "the licence is missing"
    return difference(package, files("ekitools"))


def sdist(path: Path) -> str | None:
    """Return what is wrong with an sdist: it holds all that tests and documentation need."""
    with tarfile.open(path) as archive:
        shipped = {each.name for each in archive.getmembers() if not each.isdir()}
    root = path.name.removesuffix(".tar.gz")
    print(f"{path.name}: {len(shipped)} files, {path.stat().st_size / 1024:.0f} KiB")
    wanted = FILES.union(*map(files, FOLDERS))
    return difference({name.removeprefix(f"{root}/") for name in shipped}, wanted)


def main(*paths: str) -> str | None:
    """Return what is wrong with the first that is wrong, or None."""
    if "ekitools/py.typed" not in files("ekitools"):
        return "ekitools/py.typed is missing"
    for path in map(Path, paths):
        wrong = sdist(path) if path.name.endswith(".tar.gz") else wheel(path)
        if wrong:
            return f"{path.name}: {wrong}"
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
