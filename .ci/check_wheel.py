"""Check what a wheel contains: the whole package and nothing else."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path


def main(wheel: str) -> str | None:
    """Return what is wrong with the wheel, or None."""
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if not name.endswith("/")}
    there = {
        path.as_posix()
        for path in Path("ekitools").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    package = {name for name in shipped if ".dist-info/" not in name}
    print(f"{Path(wheel).name}: {len(package)} files, {Path(wheel).stat().st_size / 1024:.0f} KiB")
    if package != there:
        return f"missing: {sorted(there - package)}, too many: {sorted(package - there)}"
    if not any(name.endswith("/licenses/LICENSE") for name in shipped):
        return "the licence is missing"
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
