"""Online gradient descent with torch: what EKI is compared with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["descent", "load", "network"]


def network(units: int) -> torch.nn.ModuleDict:
    """The network of `Elman`; torch's second bias stays zero, for it would double the first."""
    rnn = torch.nn.RNN(1, units, batch_first=True, dtype=torch.float64)
    torch.nn.init.zeros_(rnn.bias_hh_l0).requires_grad_(False)
    return torch.nn.ModuleDict({"rnn": rnn, "out": torch.nn.Linear(units, 1, dtype=torch.float64)})


def load(module: torch.nn.ModuleDict, u: np.ndarray) -> None:
    """Give the module the parameters ``(p,)`` of `Elman`."""
    torch.nn.utils.vector_to_parameters(torch.tensor(u), _trained(module))


def predicted(module: torch.nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    """Predictions ``(m,)`` at windows ``(m, w)``."""
    _, h = module["rnn"](x[:, :, None])
    return module["out"](h[0])[:, 0]


def descent(
    u: np.ndarray, units: int, x: np.ndarray, y: np.ndarray, rate: float, passes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pass after pass: the parameters ``(p,)``, and the squared errors before each step ``(N,)``.

    The gradient is that of (G(u | x) − y)² for one datum, back through its whole window.
    """
    module = network(units)
    load(module, u)
    optimizer = torch.optim.SGD(_trained(module), lr=rate)
    data = list(zip(torch.tensor(x)[:, None], torch.tensor(y), strict=True))
    for _ in range(passes):
        errors = []
        for window, target in data:
            optimizer.zero_grad()
            loss = (predicted(module, window)[0] - target) ** 2
            loss.backward()
            optimizer.step()
            errors.append(float(loss.detach()))
        after = torch.nn.utils.parameters_to_vector(_trained(module))
        yield after.detach().numpy().copy(), np.array(errors)


def _trained(module: torch.nn.ModuleDict) -> list[torch.nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
