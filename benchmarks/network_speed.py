"""Forward passes of many networks, compared with the matrix products of the machine.

    python benchmarks/network_speed.py [--members 1000] [--batch 600] [--threads 1] [--repeats 7]

All members see one batch. The unit is the rate of a float32 matrix product in torch (the best of a
few sizes), measured in the same process alternately with each candidate: `TorchModel` with its
defaults, and `torch.vmap(functional_call)` over chunks. A row counts only the operations of the
matrix products of the network, so 100 % cannot be reached. Memory is the increase of the peak of
the process by one forward pass, including the outputs (J, d). Each is measured in a separate
process. Run the script on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from timing import peak_mib, timed

NETWORKS = {"DNN 1": (784, 10), "DNN 2": (784, 100, 10), "DNN 3": (784, 300, 100, 10)}
CANDIDATES = ("TorchModel", "vmap")
PRODUCTS = (1024, 2048, 3072)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["DNN 1", "DNN 2"])
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=600)
    parser.add_argument("--chunk", type=int, help="members at once, instead of the default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory-of", choices=CANDIDATES, help=argparse.SUPPRESS)
    return parser.parse_args()


def network(torch, widths) -> Any:
    """A dense network with ReLU between its layers."""
    torch.manual_seed(0)
    layers = [
        layer for i, o in pairwise(widths) for layer in (torch.nn.Linear(i, o), torch.nn.ReLU())
    ]
    return torch.nn.Sequential(*layers[:-1])


def vmapped(torch, model, x, chunk=None) -> Callable[..., Any]:
    """The forward pass of members as one writes it."""

    def one(row) -> Any:
        values = {name: row[where].view(shape) for name, (where, shape) in model.layout.items()}
        return torch.func.functional_call(model.module, values, (x,)).flatten()

    def forward(u) -> Any:
        with torch.no_grad():
            return torch.vmap(one, chunk_size=chunk or 20)(u)

    return forward


def forward_flops(widths, members, batch) -> int:
    return 2 * members * batch * sum(i * o for i, o in pairwise(widths))


def candidate(torch, kind, widths, options) -> tuple[Callable[[], Any], int]:
    """The forward pass as a function to be timed, and its number of operations."""
    from ekitools.adapters.torch import TorchModel

    net, x = network(torch, widths), torch.randn(options.batch, widths[0])
    model = TorchModel(net, x, chunk=options.chunk)
    u = torch.randn(options.members, model.n_parameters).mul_(0.05)  # in place, for its peak
    forward = model if kind == "TorchModel" else vmapped(torch, model, x, options.chunk)
    return lambda: forward(u), forward_flops(widths, options.members, options.batch)


def product(torch, *libraries) -> Any:
    """The fastest square matrix product of a few, as a function, and its number of operations.

    In torch, and in what else of `libraries` there is: NumPy.
    """
    best = None
    for n, library in ((n, library) for n in PRODUCTS for library in (torch, *libraries)):
        a, b, out = (torch.randn(n, n) for _ in range(3))
        if library is not torch:
            a, b, out = (each.numpy() for each in (a, b, out))

        def multiply(a=a, b=b, out=out, product=library.matmul) -> None:
            product(a, b, out=out)

        (seconds,) = timed([multiply], 3)
        best = max(best or (0, None, 0), (n**3 / seconds, multiply, 2 * n**3), key=lambda t: t[0])
    return best[1:]


def memory_of(kind, name, options) -> float:
    """MiB that one forward pass adds to the peak, measured in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", kind, "--networks", name]
    for option in ("members", "batch", "threads", "chunk"):
        value = getattr(options, option)
        command += [] if value is None else [f"--{option}", str(value)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    options = arguments()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    if options.memory_of:
        widths = NETWORKS[options.networks[0]]
        run, _ = candidate(torch, options.memory_of, widths, options)
        small = argparse.Namespace(**{**vars(options), "members": 2, "batch": 2})
        candidate(torch, options.memory_of, widths, small)[0]()  # loads what torch loads lazily
        before = peak_mib()
        run()
        print(peak_mib() - before)
        return
    multiply, multiplications = product(torch)
    print(
        f"J = {options.members}, batch of {options.batch}, float32, {options.threads} thread(s), "
        f"median of {options.repeats}"
    )
    print(f"{'':8}{'':>12} {'s':>8} {'GFLOP/s':>8} {'product':>8} {'share':>6} {'MiB':>6}")
    for name in options.networks:
        for kind in CANDIDATES:
            run, flops = candidate(torch, kind, NETWORKS[name], options)
            unit, seconds = timed([multiply, run], options.repeats)
            rate, most = flops / seconds / 1e9, multiplications / unit / 1e9
            print(
                f"{name:8}{kind:>12} {seconds:8.3f} {rate:8.1f} {most:8.1f} {rate / most:6.0%} "
                f"{memory_of(kind, name, options):6.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
