"""Present state of a run: the method's state, the requested members, and the data of the step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools.core.arrays import host, like
from ekitools.core.draws import DeviceGenerator, Place, standard_normal
from ekitools.core.streams import Streams
from ekitools.loop.ensemble import PhysicalMembers, StoredEnsemble, names_of_files
from ekitools.loop.policies import OnFailure
from ekitools.loop.retrying import Waiting
from ekitools.loop.scratch import Scratch
from ekitools.observed.together import Together
from ekitools.problem import InverseProblem
from ekitools.results.history import History, Store
from ekitools.typing import (
    Array,
    InPlace,
    Method,
    Status,
    StoppingRule,
    is_sampler,
    takes_failures,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Present"]


class Present(ABC):
    """Present state of a run; the base of `AskTell`."""

    problem: InverseProblem
    method: Method
    n_steps: int
    on_failure: OnFailure
    store: Store
    evaluate_final: bool
    missing: float
    draws: Place
    """The place at which normal numbers are drawn: "host" or "device"."""
    status: Status | None
    seconds: float
    seen: InverseProblem
    """The problem that the present step sees."""
    _rules: tuple[StoppingRule, ...]
    _spent: bool
    _since: float
    _placed: InverseProblem
    """The problem with its samples on the device of the ensemble."""
    _like: Array | None
    """An empty array with the type and device of the prior's draws; None for the default."""
    _streams: Streams
    _state: Any
    _history: History
    _asked: Array | None
    _scratch: Scratch | None
    """The folder of an ensemble that is kept on disk; None for an ensemble in memory."""
    _alive: np.ndarray
    """The numbers of the members of the state."""
    _start: str
    """Source of the first members: "prior", "ensemble" (given by the user) or "method"."""
    _waiting: Waiting | None = None
    """Results of the present iteration while some of its members run again."""
    _n_lost: int
    """Model runs that failed at the latest step."""
    _has_warned: bool = False
    """Whether the warning about identical outputs was issued; it is issued once."""

    @abstractmethod
    def result(self) -> xr.Dataset:
        """All iterations so far as one labelled Dataset (see `ekitools.run`)."""

    @property
    def members(self) -> np.ndarray:
        """Numbers of the requested members: all that are left, or those that run again."""
        return self._alive if self._waiting is None else self._alive[self._waiting.rows]

    @property
    def n(self) -> int:
        """Number of updates so far."""
        return int(self._state.n)

    @property
    def t(self) -> float:
        """Pseudo-time Σh so far."""
        return float(self._state.t)

    @property
    def model_runs(self) -> int:
        """Number of model runs so far."""
        waited = 0 if self._waiting is None else self._waiting.runs
        return self._history.model_runs + waited

    @property
    def _in_place(self) -> bool:
        """Whether the ensemble is updated in place, because the previous one is not needed."""
        method = self.method
        able = isinstance(method, InPlace) and method.updates_in_place
        return able and self.store == "final" and not self._rules

    @property
    def _runs_again(self) -> bool:
        """Whether members that fail at this iteration are redrawn and run again.

        A sampler refuses a proposal that fails. Only its first members are redrawn.
        """
        if self.on_failure != "retry" or self._scratch is not None:
            return False  # redrawing members would need the ensemble on disk
        first = is_sampler(self.method) and self.n == 0 and self._start != "ensemble"
        return first or not takes_failures(self.method)

    def _first(self, n: int) -> Array:
        """The draws of the prior from which the run started."""
        prior, rng = self.problem.prior, self._streams.prior()
        if self._like is None:
            return prior.sample_unconstrained(n, rng=rng)
        if isinstance(rng, DeviceGenerator):
            return prior.unwhiten(standard_normal(rng, (n, prior.n_parameters), self._like))
        return like(prior.sample_unconstrained(n, rng=rng), self._like)

    def _ran_before(self) -> Array | None:
        """The members of the previous iteration; None if some of them are not known."""
        records = self._history.records
        if not records or records[-1].iteration != self.n - 1:
            return None
        u = records[-1].u
        if len(u) <= self._alive.max() or not np.isfinite(u := u[self._alive]).all():
            return None
        return self.problem.prior.to_unconstrained(like(u, self._physical()))

    def _physical(self) -> Array:
        """The requested members in physical coordinates, without a copy where possible."""
        if self._asked is None:
            asked, prior = self.method.ask(self._state), self.problem.prior
            large = isinstance(asked, StoredEnsemble)
            asked = PhysicalMembers(asked, prior) if large else prior.to_physical(asked)
            if isinstance(asked, np.ndarray):
                asked = asked.view()
                asked.flags.writeable = False
            self._asked = asked
        return self._asked

    def _given(self) -> Array:
        """The requested members without the scales of the noise, which are no model inputs."""
        asked = self._physical()
        return asked[:, : -self.problem.n_scales] if self.problem.n_scales else asked

    def _whitened(self) -> np.ndarray:
        """The requested members in coordinates in which the prior is N(0, I), on the host."""
        asked = self.method.ask(self._state)
        if isinstance(asked, StoredEnsemble):
            asked = asked[:]  # fits in memory: needed only with more members than parameters
        return host(self.problem.prior.whiten(asked))

    def _recorded(self, u: Array, status: Status | None, hidden: np.ndarray) -> Array:
        """Members for the history, in memory or in a file; a file has NaN for ``hidden`` ones."""
        if self._scratch is None or not isinstance(u, PhysicalMembers):
            return u
        if status is None:  # only the last ensemble is kept
            return np.empty((0, u.shape[1]), dtype=u.dtype)
        places = np.where(hidden, -1, self._alive)
        return u.recorded(self._scratch, places, self._history.n_members)

    def _files(self) -> list[str]:
        """Names of the files in the scratch folder that the run still needs."""
        return [self._state.ensemble.name, *names_of_files(self._history.records)]

    def _release(self) -> None:
        """Delete the files of ensembles that are no longer needed."""
        if self._scratch is not None:
            self._scratch.release(self._files())

    def _following(self) -> InverseProblem | None:
        """The problem that the present step sees; None if no data are left.

        The last ensemble of a method is compared with all observations of a series.
        """
        if self.problem.series and self.method.finished(self._state):
            return self.problem.whole()
        return self._placed.seen(self.n, self._streams)

    def _seen_at(self, n: int, of: InverseProblem | None = None) -> InverseProblem:
        """The problem that step ``n`` sees; after the last step, the problem of the last step."""
        seen = (self._placed if of is None else of).seen(n, self._streams)
        return self._seen_at(n - 1, of) if seen is None else seen

    def _observations(self) -> np.ndarray:
        """Numbers of the observations of a series in the present step; empty for other data."""
        batch, layout = self.seen.batch, self.problem.layout
        if not isinstance(layout, Together):
            return np.zeros(0, dtype=np.int64)
        return np.arange(len(layout.sizes)) if batch is None else batch.index

    def _present(self, status: Status) -> tuple[Any, ...]:
        d = 0 if isinstance(self.problem.layout, Together) else self.seen.n_data
        nobody = np.zeros(len(self._alive), dtype=bool)
        u = self._recorded(self._physical(), status, nobody)
        return self.n, self.t, self._alive, u, d, status
