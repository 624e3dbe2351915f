"""Recurrent networks: all members of a chunk together, compared with one after the other.

    python benchmarks/recurrent_speed.py [--members 200] [--units 32] [--repeats 5]

Two layers and a linear head on the last state, float32, one thread: the rows of MNIST images
(28 values, 28 times) in batches of several sizes, and windows of 10 values in batches of 10. The
loop calls torch's own kernels for every member. Times are CPU seconds of the process, which other
processes disturb less. Each is the smallest of a few, and the two candidates alternate.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ["OMP_NUM_THREADS"] = "1"
SEQUENCES = {"rows, 600": (600, 28, 28), "rows, 100": (100, 28, 28), "windows, 10": (10, 10, 1)}


def cpu_seconds(model, u) -> float:
    start = time.process_time()
    model(u)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    import torch

    from ekitools.adapters.torch import TorchModel
    from ekitools.experiments.last_state import LastState

    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"J = {options.members}, {options.units} units, CPU seconds of a forward pass")
    print(f"{'':6}{'batch':>12}{'loop':>9}{'at once':>9}{'ratio':>7}{'difference':>12}")
    for name in ("RNN", "GRU", "LSTM"):
        for batch, shape in SEQUENCES.items():
            layers = getattr(torch.nn, name)(shape[-1], options.units, 2, batch_first=True)
            net, x = LastState(layers, 10), torch.randn(shape)
            models = [TorchModel(net, x, path=path) for path in ("loop", "vmap")]
            u = 0.2 * torch.randn(options.members, models[0].n_parameters)
            one, other = (model(u) for model in models)
            times = [[cpu_seconds(m, u) for m in models] for _ in range(options.repeats)]
            loop, at_once = map(min, zip(*times, strict=True))
            gap = float((one - other).abs().max())
            print(
                f"{name:6}{batch:>12}{loop:9.3f}{at_once:9.3f}{loop / at_once:7.2f}{gap:12.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
