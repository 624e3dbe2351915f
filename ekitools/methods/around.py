"""The base class of methods that wrap another method."""

from __future__ import annotations

from typing import Any

from ekitools.core.checks import check_method
from ekitools.typing import (
    Method,
    Normalisation,
    Quadrature,
    Starts,
    Status,
    StoppingRule,
    Stops,
    is_sampler,
)

__all__ = ["Around", "check_moves", "without_posterior"]


class Around:
    """The base of frozen dataclasses with the option ``method``."""

    method: Method

    @property
    def normalisation(self) -> Normalisation:
        """The normalisation of the wrapped method."""
        return self.method.normalisation

    @property
    def stop(self) -> tuple[StoppingRule, ...]:
        """The stopping rules of the wrapped method."""
        return self.method.stop if isinstance(self.method, Stops) else ()

    @property
    def start(self) -> Any:
        """The start of the wrapped method; None for the prior."""
        return self.method.start if isinstance(self.method, Starts) else None


def check_moves(method: Method, sampler: str, nodes: str, remedy: str) -> None:
    """Check that a method moves its members one by one.

    ``sampler`` and ``nodes`` are the reasons in the message why a sampler or a method with nodes
    is refused. ``remedy`` is the sentence that ends the message.
    """
    check_method(method)
    name = type(method).__name__
    if is_sampler(method):
        raise TypeError(
            f"method: must move its members, got the sampler {name}, {sampler}. {remedy}"
        )
    if isinstance(method, Quadrature):
        raise TypeError(
            f"method: must move its members one by one, got {name}, whose members are the nodes of "
            f"a quadrature rule{nodes}. {remedy}"
        )


def without_posterior(status: Status | None, why: str) -> Status | None:
    """The status of a wrapped method, without the claim that its ensemble is a posterior sample.

    ``why`` is the sentence in place of the claim.
    """
    if status is None or not status.posterior:
        return status
    return Status("method_finished", f"The method finished, but {why}", level="good")
