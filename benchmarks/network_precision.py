"""Networks in numbers of fewer bits: errors, time, and the accuracy of a training.

    python benchmarks/network_precision.py [--device cpu] [--members 100] [--epochs 3]
        [--precisions float32 bfloat16] [--seeds 0 1 2] [--repeats 3]

Every row is a precision of `TorchModel`. *outputs* is the norm of the error of the outputs of all
members on one batch of MNIST, relative to the norm of the outputs, and *D* the same of the matrix
D of `LossEKI`; the reference is computed in float64. *pass* is the median time of a forward pass.
*test* is the test accuracy of the mean of EKI(R) after some epochs, for each seed: members redrawn
at every step with γ = 0.3, h = 10, batches of 600 images. A seed gives all precisions the same
members and the same batches. *seconds* is the time of all trainings of the row. With
``--epochs 0`` nothing is trained.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from network_speed import NETWORKS, network
from timing import timed

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
BATCH, CLASSES = 600, 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["DNN 1", "DNN 2"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="all but tf32 off CUDA")
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def d_of(outputs, one_hot) -> Any:
    """D of `LossEKI` with cross-entropy, in the dtype of the outputs."""
    z = outputs.reshape(len(outputs), -1, CLASSES)
    slopes = (z.softmax(-1) - one_hot).flatten(1)
    return slopes @ (outputs - outputs.mean(0)).T / len(outputs)


def trained(torch, model, split, options, seed) -> tuple[float, float]:
    """The test accuracy of the mean, and the seconds of the training."""
    import numpy as np

    import ekitools as ek
    from ekitools.experiments.images import accuracy

    one_hot = np.eye(CLASSES, dtype=np.float32)[split.y_train]
    data = ek.MiniBatches(split.x_train, one_hot, BATCH)
    prior = ek.GaussianPrior(0.0, model.glorot_variances())
    problem = ek.InverseProblem(model, prior, ek.CrossEntropy(CLASSES), data)
    start = torch.from_numpy(prior.sample(options.members, rng=seed).astype(np.float32))
    loop = ek.AskTell(
        problem,
        ek.LossEKI(ek.NormStep(10.0, 0.5), ek.Spread(0.3)),
        ensemble=start.numpy() if options.device == "cpu" else start.to(options.device),
        n_steps=options.epochs * data.steps_per_epoch,
        rng=seed,
        store="final",
        evaluate_final=False,
    )
    begun = time.perf_counter()
    while not loop.done:
        loop.tell(model(loop.ask(), inputs=loop.inputs))
    seconds = time.perf_counter() - begun
    mean = loop.result().u[-1].mean("member").values

    def logits(x) -> Any:
        return model(mean, inputs=x).reshape(-1, CLASSES)

    return accuracy(logits, split.x_test, split.y_test), seconds


def main() -> None:
    options = arguments()
    import numpy as np
    import torch

    from ekitools.adapters.torch import TorchModel
    from ekitools.experiments.images import Data, split_of

    device, split = torch.device(options.device), split_of(Data())
    x = torch.from_numpy(split.x_train[:BATCH]).to(device)
    labels = np.eye(CLASSES)[split.y_train[:BATCH]]
    there = [each for each in PRECISIONS if each != "tf32" or options.device == "cuda"]
    print(f"J = {options.members}, batch of {BATCH}, {options.epochs} epochs, {options.device}")
    tests = "".join(f"{f'test, {seed}':>9}" for seed in options.seeds)
    print(f"{'':8}{'':10}{'outputs':>10}{'D':>10}{'pass, s':>10}{tests}{'seconds':>9}")
    for name in options.networks:
        net = network(torch, NETWORKS[name])
        variances = TorchModel(net).glorot_variances()
        u = np.random.default_rng(0).standard_normal((options.members, len(variances)))
        u = torch.from_numpy(u * np.sqrt(variances)).float()
        exact = TorchModel(net.double(), x.cpu().double())(u.double())
        exact_d = d_of(exact, torch.from_numpy(labels))
        net.float().to(device)
        for precision in options.precisions or there:
            model = TorchModel(net, x, precision=precision)
            members = u.to(device)

            def forward(model=model, members=members) -> None:
                model(members)[0, :1].cpu()  # waits for the device

            (seconds,) = timed([forward], options.repeats)
            g = model(members).cpu()
            d = d_of(g, torch.from_numpy(labels).float()).double()
            errors = [
                float((found.double() - right).norm() / right.norm())
                for found, right in ((g, exact), (d, exact_d))
            ]
            line = f"{name:8}{precision:10}{errors[0]:10.1e}{errors[1]:10.1e}{seconds:10.4f}"
            if options.epochs:
                model = TorchModel(net, precision=precision)
                runs = [trained(torch, model, split, options, seed) for seed in options.seeds]
                line += "".join(f"{found:9.4f}" for found, _ in runs)
                line += f"{sum(seconds for _, seconds in runs):9.0f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
