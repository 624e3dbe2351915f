"""One step of learning: the products with J x J matrices, the whole step, and its memory.

    python benchmarks/learning_step.py [--members 1000] [--memory-members 2000] [--threads 1]

The network is DNN 2, 784-100-10, on batches, in float32. *D* is the J x J matrix of `LossEKI`, and
*update* is U - hDU in place. *step* is a whole step of `ekitools.run` with ``store="final"``,
including the forward pass: a step between two redraws of the members, and a step with a redraw
(at every step, or once an epoch). *plain* is the step between two redraws in plain torch, with the
forward pass `torch.vmap(functional_call)` over chunks.

The unit is the rate of a float32 matrix product, of NumPy or of torch, whichever is faster. It is
measured in the same process, alternately with each row. A row counts only the operations of the
products in its formula: for a step the products of the forward pass, of D and of DU, and for a step
with a redraw the products of the forward pass.

Memory is the peak of a separate process, in multiples of the ensemble, which counts as 1. The
memory of the process before the ensemble was made, including the data, is subtracted. The row
*run* is a run of two steps whose ensemble is drawn from the prior. The measurement needs Linux. 0
members skip it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

from network_speed import NETWORKS, forward_flops, network, product, vmapped
from timing import peak_mib, present_mib, timed

WIDTHS = NETWORKS["DNN 2"]
P = sum((i + 1) * o for i, o in pairwise(WIDTHS))
NEVER = 10**9
EVERY = {"step": NEVER, "step, redraw": 1}
"""Steps from one redraw to the next."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--memory-members", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-of", choices=(*EVERY, "plain", "run"), help=argparse.SUPPRESS)
    return parser.parse_args()


def pieces(n, batch) -> dict[str, tuple[Callable[[], Any], float]]:
    """D and the update in place, as functions, with their numbers of operations."""
    import numpy as np

    from ekitools.linalg import anomaly_products, moved

    rng, d = np.random.default_rng(0), batch * WIDTHS[-1]
    g, gradient = (rng.standard_normal((n, d), dtype=np.float32) for _ in range(2))
    u = rng.standard_normal((n, P), dtype=np.float32)
    weights = np.float32(-1e-6) * rng.standard_normal((n, n), dtype=np.float32)
    return {
        "D": (lambda: anomaly_products(gradient, g), 2 * n**2 * d),
        "update": (lambda: moved(u, weights, in_place=True), 2 * n**2 * P),
    }


def learning(torch, batch) -> Any:
    """Random images and labels, and the Glorot prior, all in float32."""
    import numpy as np

    import ekitools as ek
    from ekitools.adapters.torch import TorchModel

    rng, model = np.random.default_rng(0), TorchModel(network(torch, WIDTHS))
    x = rng.standard_normal((2 * batch, WIDTHS[0]), dtype=np.float32)
    one_hot = np.eye(WIDTHS[-1], dtype=np.float32)[rng.integers(WIDTHS[-1], size=len(x))]
    prior = ek.GaussianPrior(np.float32(0), model.glorot_variances().astype(np.float32))
    data = ek.MiniBatches(x, one_hot, batch)
    return ek.InverseProblem(model, prior, ek.CrossEntropy(WIDTHS[-1]), data)


def method_of(every) -> Any:
    import ekitools as ek

    return ek.LossEKI(ek.NormStep(0.1), ek.Spread(0.1, every=every))


def steps(every, problem, n) -> Callable[[], Any]:
    """A function that makes the next step of a run."""
    import ekitools as ek
    from ekitools.models.evaluate import evaluate

    options = {"store": "final", "evaluate_final": False, "rng": 0}
    loop = ek.AskTell(problem, method_of(every), n_members=n, **options)

    def step() -> None:
        loop.tell(*evaluate(loop.seen.model, loop.ask(), problem.n_data))

    return step


def plain(torch, problem, n) -> Callable[[], Any]:
    """A function that makes the next step, as one writes it."""
    u = torch.from_numpy(problem.prior.sample(n, rng=0))
    model, x = problem.model, torch.from_numpy(problem.data.inputs[: problem.data.size])
    y = torch.from_numpy(problem.data.targets[: problem.data.size])
    forward = vmapped(torch, model, x)

    def step() -> None:
        nonlocal u
        g = forward(u)
        gradient = (torch.softmax(g.view(n, *y.shape), -1) - y).view(n, -1)
        d = gradient @ (g - g.mean(0)).T / n
        u = u - 0.1 / (torch.linalg.norm(d) + 0.5) * d @ u

    return step


def memory(torch, kind, problem, n) -> float:
    """The peak of two steps in MiB, without what was there before the ensemble."""
    import ekitools as ek

    made = partial(plain, torch) if kind == "plain" else partial(steps, EVERY.get(kind, NEVER))
    made(problem, 4)()  # loads what is loaded lazily
    before = present_mib()
    if kind == "run":
        options = {"store": "final", "evaluate_final": False, "rng": 0}
        ek.run(problem, method_of(NEVER), n_members=n, n_steps=2, **options)
    else:
        step = made(problem, n)
        present_mib()  # the peak of making it is the row "run"
        step()
        step()
    return peak_mib() - before


def memory_of(kind, options) -> float:
    """The same from a fresh process, in ensembles."""
    if not options.memory_members:
        return float("nan")
    command = [sys.executable, __file__, "--memory-of", kind]
    for option in ("memory-members", "batch", "threads"):
        command += [f"--{option}", str(getattr(options, option.replace("-", "_")))]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(found) * 2**20 / (4 * P * options.memory_members)


def main() -> None:
    options = arguments()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    import numpy as np
    import torch

    torch.set_num_threads(options.threads)
    problem = learning(torch, options.batch)
    if options.memory_of:
        print(memory(torch, options.memory_of, problem, options.memory_members))
        return
    multiply, multiplications = product(torch, np)
    n, forward = options.members, forward_flops(WIDTHS, options.members, options.batch)
    rows = pieces(n, options.batch)
    whole = forward + sum(flops for _, flops in rows.values())
    print(
        f"J = {n}, p = {P}, batch of {options.batch}, float32, {options.threads} thread(s), median "
        f"of {options.repeats}; memory with J = {options.memory_members}"
    )
    print(f"{'':14} {'s':>8} {'GFLOP/s':>8} {'product':>8} {'share':>6} {'memory':>7}")
    for kind in (*rows, *EVERY, "plain", "run"):
        text = ""
        if kind != "run":
            if kind in rows:
                run, flops = rows.pop(kind)
            elif kind == "plain":
                run, flops = plain(torch, problem, n), whole
            else:
                run, flops = steps(EVERY[kind], problem, n), forward if "redraw" in kind else whole
            unit, seconds = timed([multiply, run], options.repeats)
            rate, most = flops / seconds / 1e9, multiplications / unit / 1e9
            text = f"{seconds:8.3f} {rate:8.1f} {most:8.1f} {rate / most:6.0%}"
        used = f"{memory_of(kind, options):7.2f}" if kind not in ("D", "update") else ""
        print(f"{kind:14} {text:33} {used}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
