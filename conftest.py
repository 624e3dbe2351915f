"""Modules whose framework is not installed are not looked at for doctests."""

from importlib.util import find_spec

collect_ignore_glob = [
    f"ekitools/adapters/*{framework}*.py"
    for framework in ("torch", "jax", "umbridge")
    if find_spec(framework) is None
]
if find_spec("torch") is None:
    collect_ignore_glob.append("ekitools/experiments/_factored.py")
