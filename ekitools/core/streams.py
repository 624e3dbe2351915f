"""Streams of randomness: one root, and a stream for each purpose."""

from __future__ import annotations

import numpy as np

from ekitools.core.arrays import as_rng
from ekitools.core.draws import DeviceGenerator, Place
from ekitools.typing import Rng

__all__ = ["Streams"]


class Streams:
    """Independent streams of randomness for one run, all from one root.

    Every stream is a function of the root and of what it is for (never of what was drawn
    before), so a resumed run needs only the root and the number of its next step. The root
    is drawn from ``rng``; it is not the seed itself, so an ensemble the user drew with the
    same integer seed is independent of everything drawn here. With ``draws="device"`` the
    generators of the prior and of the steps are a `DeviceGenerator`. ``given`` is an integer
    ``rng`` as text, for the result, and "" for anything else.
    """

    def __init__(
        self,
        rng: Rng = None,
        *,
        root: list[int] | None = None,
        given: str = "",
        draws: Place = "host",
    ) -> None:
        if root is None:
            words = as_rng(rng).integers(0, 2**32, size=4, dtype=np.uint32)
            root = [int(x) for x in words]
            given = str(int(rng)) if isinstance(rng, int | np.integer) else ""
        self.root, self.given, self._where = root, given, draws

    def recorded(self) -> dict[str, object]:
        """Attributes of a result: the root, and ``rng`` if the user gave an integer."""
        return {"seed": self.root} | ({"rng": self.given} if self.given else {})

    def _seed(self, *key: int) -> np.random.SeedSequence:
        return np.random.SeedSequence(self.root, spawn_key=key)

    def _generator(self, seed: np.random.SeedSequence) -> np.random.Generator:
        """By which numbers for a whole ensemble are drawn, on the device where that is asked."""
        kind = np.random.Generator if self._where == "host" else DeviceGenerator
        return kind(np.random.PCG64(seed))

    def prior(self) -> np.random.Generator:
        """For the initial ensemble."""
        return self._generator(self._seed(0))

    def step(self, n: int) -> np.random.Generator:
        """For the method's own draws at step ``n``."""
        return self._generator(self._seed(1, n))

    def policy(self, n: int, tries: int = 0) -> np.random.Generator:
        """For replacing failed members at step ``n``, after so many ``tries`` of this step."""
        return np.random.default_rng(self._seed(2, n, *([tries] if tries else [])))

    def member(self, n: int, j: int, tries: int = 0) -> np.random.SeedSequence:
        """For a stochastic model: member ``j`` at iteration ``n``, after so many ``tries``."""
        return self._seed(3, n, j, *([tries] if tries else []))

    def epoch(self, k: int) -> np.random.Generator:
        """For the order of the data in epoch ``k``."""
        return np.random.default_rng(self._seed(4, k))

    def draws(self) -> np.random.Generator:
        """For draws of a Gaussian that the result holds."""
        return np.random.default_rng(self._seed(5))
