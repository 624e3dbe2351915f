"""What methods that hold another method share."""

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
        """The normalisation of the method within."""
        return self.method.normalisation

    @property
    def stop(self) -> tuple[StoppingRule, ...]:
        """The stopping rules of the method within."""
        return self.method.stop if isinstance(self.method, Stops) else ()

    @property
    def start(self) -> Any:
        """Where the method within starts from; None for the prior."""
        return self.method.start if isinstance(self.method, Starts) else None


def check_moves(method: Method, sampler: str, nodes: str, remedy: str) -> None:
    """Check that a method moves its members one by one.

    ``sampler`` and ``nodes`` say why such members do not do, and ``remedy`` what to do instead.
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
    """The status of a method within another, less a claim that the outer method makes untrue.

    ``why`` is the sentence that takes the place of the claim.
    """
    if status is None or not status.posterior:
        return status
    return Status("method_finished", f"The method came to its end, but {why}", level="good")
