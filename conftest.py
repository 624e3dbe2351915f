"""Modules whose framework is not installed are not looked at for doctests."""

from importlib.util import find_spec

_NEED_TORCH = ("_factored", "_last_state", "_networks")

collect_ignore_glob = [
    f"ekitools/adapters/*{framework}*.py"
    for framework in ("torch", "jax", "umbridge")
    if find_spec(framework) is None
]
if find_spec("torch") is None:
    collect_ignore_glob += [f"ekitools/experiments/{name}.py" for name in _NEED_TORCH]
