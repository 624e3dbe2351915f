"""ekitools on a device, compared with the matrix products of the device and with plain torch.

    python benchmarks/device.py --device cuda [--precision highest] [--members 2000] [--repeats 7]
    python benchmarks/device.py --device cpu --small

The script prints two tables. Every ratio is from one run of this script on one machine.

*One analysis*: `kalman_update` with perturbed data on tensors of the device. *floor* is the time of
the matrix products that every exact analysis needs, into allocated memory, as in
``benchmarks/kalman_update.py``. *ekitools* and *torch* are multiples of the floor. *torch* is the
analysis in ten lines of PyTorch.

*One step of learning*: a step of the scheme of Kovachki & Stuart (2019) between two redraws, for
dense networks of images with cross-entropy. *torch* is the step written for this one network, with
its batches on the device. *ekitools* is a step of ``ekitools.run(..., like=, draws="device",
store="final")`` with `TorchModel`. The time of a step of `run` is the time from one ``on_step`` to
the next. ``tests/loop/test_on_a_device.py`` counts waits and bytes; this script does not.

``--precision`` is passed to `torch.set_float32_matmul_precision`. "high" allows TF32 on CUDA, for
ekitools and for plain torch. An analysis in float32 then loses digits, so use "highest" for the
first table. Without a CUDA device, run the script with ``--device cpu``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

KALMAN = [
    (10_000, 100, 200),
    (1_000, 10_000, 200),
    (50_000, 2_000, 500),
    (1_000, 100_000, 100),
    (100_000, 1_000, 1_000),
    (1_000_000, 1_000, 200),
]
NETWORKS = {
    "DNN 1": (784, 10),
    "DNN 2": (784, 100, 10),
    "DNN 3": (784, 300, 100, 10),
    "DNN 4": (784, 500, 300, 100, 10),
}
H, EPS = 2.0, 0.5
N_IMAGES = 6000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda", "mps"], default="cpu")
    parser.add_argument("--precision", choices=["highest", "high", "medium"], default="highest")
    parser.add_argument("--members", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=600)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="only the sizes of seconds on a CPU")
    return parser.parse_args()


class Clock:
    """Times on a device, which works while Python continues."""

    def __init__(self, torch, device) -> None:
        waits = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
        self._wait = waits.get(device, lambda: None)

    def now(self) -> float:
        self._wait()
        return time.perf_counter()

    def medians(self, functions, repeats) -> list[float]:
        """Median seconds of each function, the functions taken in turn."""
        seconds = [[] for _ in functions]
        for turn in range(repeats + 2):
            for samples, function in zip(seconds, functions, strict=True):
                start = self.now()
                function()
                if turn > 1:
                    samples.append(self.now() - start)
                else:
                    self.now()
        return [statistics.median(samples) for samples in seconds]


def floor(torch, u, g, draw) -> Callable[[], Any]:
    """The unavoidable products, as a function to be timed."""
    n, d = g.shape
    out = torch.empty_like(u)
    if n <= d:
        gram, cross = (torch.empty((n, n), dtype=g.dtype, device=g.device) for _ in range(2))

        def products() -> None:
            torch.mm(g, g.T, out=gram)
            torch.mm(draw, g.T, out=cross)
            torch.mm(gram, u, out=out)

        return products
    gram, rows = torch.empty((d, d), dtype=g.dtype, device=g.device), torch.empty_like(g)
    thin = torch.empty((d, u.shape[1]), dtype=u.dtype, device=u.device)
    coefficients = torch.empty((n, n), dtype=u.dtype, device=u.device)

    def products() -> None:
        torch.mm(g.T, g, out=gram)
        torch.mm(draw, gram, out=rows)
        if 2 * d < n:  # the cheaper of the two orders
            torch.mm(rows, torch.mm(g.T, u, out=thin), out=out)
        else:
            torch.mm(torch.mm(rows, g.T, out=coefficients), u, out=out)

    return products


def plain_analysis(torch, u, g, y, variances, draw) -> Any:
    """The analysis as one writes it, in the smaller of J and d."""
    n, d = g.shape
    scale = 1 / variances.sqrt()
    e, f = u - u.mean(0), (g - g.mean(0)) * scale
    innovation = (y + draw - g) * scale
    if n <= d:
        gram = f @ f.T + (n - 1) * torch.eye(n, dtype=u.dtype, device=u.device)
        return u + innovation @ f.T @ torch.linalg.solve(gram, e)
    gram = f.T @ f + (n - 1) * torch.eye(d, dtype=u.dtype, device=u.device)
    return u + torch.linalg.solve(gram, innovation.T).T @ (f.T @ e)


def analyses(torch, options, clock) -> None:
    dtypes = [torch.float32] if options.device == "mps" else [torch.float32, torch.float64]
    print(f"{'(p, d, J)':>24} {'dtype':>8} {'floor ms':>9} {'ekitools':>9} {'torch':>9}")
    for p, d, n in KALMAN:
        if options.small and n * n * (p + 2 * d) > 1e10:
            continue
        for dtype in dtypes:
            kind = {"dtype": dtype, "device": options.device}
            seconds = clock.medians(analysis(torch, p, d, n, kind), options.repeats)
            least, ours, plain = seconds
            name = str(dtype).rpartition(".")[2]
            print(
                f"{(p, d, n)!s:>24} {name:>8} {1e3 * least:9.2f} {ours / least:9.2f} "
                f"{plain / least:9.2f}",
                flush=True,
            )


def analysis(torch, p, d, n, kind) -> list[Callable[[], Any]]:
    """The floor and the two analyses, as functions to be timed."""
    import ekitools as ek

    torch.manual_seed(0)
    u, g, draw = (torch.randn((n, k), **kind) for k in (p, d, d))
    y, variances = torch.randn(d, **kind), torch.linspace(0.5, 1.5, d, **kind)
    noise = ek.GaussianNoise(variances.cpu().double().numpy())
    return [
        floor(torch, u, g, draw),
        lambda: ek.kalman_update(u, g, y, noise, noise_draw=draw),
        lambda: plain_analysis(torch, u, g, y, variances, draw),
    ]


def plain_steps(torch, widths, u, images, labels, batch, clock, repeats) -> float:
    """Seconds of a step as one writes it for this network: u ← u − h D u."""
    n, pairs = len(u), list(pairwise(widths))

    def forward(u, x) -> Any:
        h, start = x.T, 0
        for i, (width, units) in enumerate(pairs):
            weight = u[:, start : start + units * width]
            bias = u[:, start + units * width : start + units * (width + 1)]
            start += units * (width + 1)
            if i == 0:
                h = (weight.reshape(n * units, width) @ h).view(n, units, -1) + bias[:, :, None]
            else:
                h = torch.baddbmm(bias[:, :, None], weight.view(n, units, width), h)
            h = h.relu_() if i + 1 < len(pairs) else h
        return h.transpose(1, 2)

    order = torch.randperm(len(images), device=u.device)

    def step(u, k) -> Any:
        rows = order[k * batch % len(images) :][:batch]
        g, y = forward(u, images[rows]), labels[rows]
        gradient = (torch.softmax(g, -1) - y).reshape(n, -1)
        g = g.reshape(n, -1)
        d = gradient @ (g - g.mean(0)).T / n
        return u - H / (torch.linalg.norm(d) + EPS) * (d @ (u - u.mean(0)))

    times = []
    for k in range(repeats + 2):
        start = clock.now()
        u = step(u, k)
        times.append(clock.now() - start)
    return statistics.median(times[2:])


def our_steps(torch, widths, images, labels, options, clock) -> float:
    """Seconds of a step of `run`."""
    import numpy as np

    import ekitools as ek
    from ekitools.adapters.torch import TorchModel

    layers = [
        layer for i, o in pairwise(widths) for layer in (torch.nn.Linear(i, o), torch.nn.ReLU())
    ]
    model = TorchModel(torch.nn.Sequential(*layers[:-1]).to(options.device))
    prior = ek.GaussianPrior(np.float32(0), model.glorot_variances().astype(np.float32))
    data = ek.MiniBatches(images, labels, options.batch)
    problem = ek.InverseProblem(model, prior, ek.CrossEntropy(widths[-1]), data)
    times = []
    ek.run(
        problem,
        ek.LossEKI(ek.NormStep(H, EPS), spread=ek.Spread(1.0, every=10**9)),
        n_members=options.members,
        n_steps=options.repeats + 2,
        like=torch.empty(1, dtype=torch.float32, device=options.device),
        draws="device",
        store="final",
        evaluate_final=False,
        rng=0,
        on_step=lambda _: times.append(clock.now()),
    )
    return statistics.median(b - a for a, b in list(pairwise(times))[1:])


def learning(torch, options, clock) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.standard_normal((N_IMAGES, 784), dtype=np.float32)
    labels = np.eye(10, dtype=np.float32)[rng.integers(10, size=N_IMAGES)]
    print(f"{'':8} {'p':>8} {'ekitools ms':>12} {'torch ms':>9} {'ratio':>6} {'peak GiB':>9}")
    for name in options.networks:
        widths = NETWORKS[name]
        p = sum((i + 1) * o for i, o in pairwise(widths))
        there = [torch.as_tensor(a, device=options.device) for a in (images, labels)]
        u = torch.randn((options.members, p), device=options.device) * 0.05
        plain = plain_steps(torch, widths, u, *there, options.batch, clock, options.repeats)
        del u
        peak = "-"
        if options.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        ours = our_steps(torch, widths, images, labels, options, clock)
        if options.device == "cuda":
            peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}"
        print(
            f"{name:8} {p:8} {1e3 * ours:12.2f} {1e3 * plain:9.2f} {ours / plain:6.2f} {peak:>9}",
            flush=True,
        )


def main() -> None:
    options = arguments()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    where = f"{options.threads} thread(s)"
    if options.device == "cuda":
        where = torch.cuda.get_device_name()
    clock = Clock(torch, options.device)
    print(f"torch {torch.__version__}, {options.device} ({where}), median of {options.repeats}")
    print("\nOne analysis, highest precision")
    analyses(torch, options, clock)
    torch.set_float32_matmul_precision(options.precision)
    print(
        f"\nOne step of learning, J = {options.members}, batch of {options.batch}, float32, "
        f"{options.precision} precision"
    )
    learning(torch, options, clock)


if __name__ == "__main__":
    main()
