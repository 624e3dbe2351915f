"""A recurrent network whose output is a linear map of its last state."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["LastState"]


class LastState(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Recurrent layers, and a linear map of the last state of the uppermost layer.

    Parameters
    ----------
    layers : torch.nn.RNNBase
        The recurrent layers, with ``batch_first=True``.
    n_outputs : int
        Number of outputs k.

    Examples
    --------
    >>> import torch
    >>> from ekitools.experiments.last_state import LastState
    >>> network = LastState(torch.nn.RNN(2, 4, batch_first=True), 3)
    >>> network(torch.ones(5, 6)).shape  # sequences of three pairs
    torch.Size([5, 3])
    """

    def __init__(self, layers: Any, n_outputs: int) -> None:
        super().__init__()
        self.layers = layers
        self.head = nn.Linear(layers.hidden_size, n_outputs)

    def forward(self, x: Any) -> Any:
        """Outputs ``(N, k)`` at rows ``(N, T in)``. A row is a sequence of T vectors."""
        sequences = x.reshape(len(x), -1, self.layers.input_size)
        return self.head(self.layers(sequences)[0][:, -1])
