"""Names of the experiments, their scales and devices, for commands that run no experiment."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

__all__ = ["DEVICES", "EXPERIMENTS", "SCALES", "WITH_NETWORKS", "Device", "Scale"]

EXPERIMENTS = {
    "mnist-dense": "mnist_dense",
    "mnist-factored": "mnist_factored",
    "mnist-local": "mnist_local",
    "mnist-ablation": "mnist_ablation",
    "mnist-methods": "mnist_methods",
    "ensemble-size": "ensemble_size",
    "cnn": "cnn",
    "cnn-local": "cnn_local",
    "rnn-mnist": "rnn_mnist",
    "step-activation": "step_activation",
    "zero-one-loss": "zero_one_loss",
    "cartpole": "cartpole",
    "online-temperatures": "series:temperatures",
    "online-sunspots": "series:sunspots",
    "graph-labels": "graph_labels",
    "uncertainty": "uncertainty",
    "lstm-online": "lstm_online",
}
WITH_NETWORKS = (
    *("mnist-dense", "mnist-factored", "mnist-local", "mnist-ablation", "mnist-methods"),
    *("ensemble-size", "cnn", "cnn-local", "rnn-mnist", "step-activation", "zero-one-loss"),
    "lstm-online",
)
"""Experiments whose networks are torch modules, which can be on any device."""
Scale: TypeAlias = Literal["small", "medium", "paper"]
Device: TypeAlias = Literal["cpu", "cuda", "mps"]
SCALES: tuple[Scale, ...] = get_args(Scale)
DEVICES: tuple[Device, ...] = get_args(Device)
