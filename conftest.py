"""Doctests skip the modules whose framework is not installed."""

import re
from importlib.util import find_spec
from pathlib import Path

EXPERIMENTS = Path(__file__).parent / "ekitools" / "experiments"

collect_ignore_glob = [
    f"ekitools/adapters/*{framework}*.py"
    for framework in ("torch", "jax", "umbridge")
    if find_spec(framework) is None
]
if find_spec("sklearn") is None:
    collect_ignore_glob.append("ekitools/emulation/*.py")
if find_spec("torch") is None:
    needs_torch = re.compile(r"^\s*(import|from) torch\b", re.M)
    collect_ignore_glob += [
        str(path)
        for path in EXPERIMENTS.rglob("*.py")
        if needs_torch.search(path.read_text("utf-8"))
    ]
