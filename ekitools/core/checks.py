"""Checks of arguments: each names the argument, the rule, the value and the remedy."""

from __future__ import annotations

import dataclasses
from typing import Any

from ekitools.typing import Method

__all__ = ["check_gaussian", "check_method", "check_schedule"]


def check_method(method: Any) -> None:
    """Check that it is a method."""
    if isinstance(method, type) or not isinstance(method, Method):
        raise TypeError(f"method: must be a method such as ek.EKI(), got {method!r}.")
    if not dataclasses.is_dataclass(method):
        raise TypeError(f"method: must be a frozen dataclass of options, got {method!r}.")


def check_schedule(step: Any) -> None:
    """Check that it is a step rule."""
    if not callable(getattr(step, "step", None)):
        raise TypeError(f"step: must be a step rule such as ek.FixedStep(h), got {step!r}.")


def check_gaussian(noise: Any, who: str) -> None:
    """Check that there is a Γ, and not a loss."""
    if not callable(getattr(noise, "whiten", None)):
        raise TypeError(
            f"noise: must be Gaussian for {who}, which whitens by it, got the loss "
            f"{type(noise).__name__}. Use ek.GaussianNoise(cov), or what takes any loss: "
            "ek.LossEKI, ek.TemperedSMC, or ek.integrate with ek.EKIFlow or ek.EKSFlow."
        )
