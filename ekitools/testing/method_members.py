"""Checks of a method: selected members, the order of members, and failed members."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from ekitools.core.arrays import host, take_rows
from ekitools.loop.asktell import AskTell
from ekitools.loop.policies import OnFailure
from ekitools.models.evaluate import evaluate
from ekitools.testing.method_steps import wrong_spread
from ekitools.testing.promises import broken, calling, difference, leaves, named, unchanged
from ekitools.testing.trial import Quiet, Step, Trial
from ekitools.typing import MapsMembers, Redraws, takes_failures

__all__ = ["check_failures", "check_nodes", "check_permutation", "check_select"]

_RULE = "the state must be the state of an ensemble of the selected members"
_REFRESH = (
    "Select the rows of every array with one row per member, and recompute every quantity that "
    "depends on the ensemble, such as the variance."
)


def check_select(trial: Trial) -> None:
    """Check ``select``, and ``map_members`` if the method declares it."""
    if trial.nodes:
        _check_refusal(trial)
        return
    for step in _few(trial):
        state = step.state
        J = int(state.ensemble.shape[0])
        everyone = np.arange(J)
        same = _selected(trial, state, everyone)
        if phrase := difference(same, state, "state", rtol=1e-9):
            raise broken("select", _RULE, phrase, _REFRESH)
        dropped, repeated = np.delete(everyone, 1), np.append(everyone[1:], 2 % J)
        for index in (dropped, repeated):
            picked = _selected(trial, state, index)
            _check_rows(trial, state, picked, index)
            again = _selected(trial, _selected(trial, state, repeated), index[:-1] % len(repeated))
            at_once = _selected(trial, state, repeated[index[:-1] % len(repeated)])
            if phrase := difference(again, at_once, "state", rtol=1e-9):
                raise broken("select", _RULE, phrase, _REFRESH)
            _check_mapping(trial, state, index)
        if trial.moves:
            _check_refreshed(trial, step, dropped)


def check_nodes(trial: Trial) -> None:
    """Check that the members of a quadrature rule are nodes of the Gaussian of its draws."""
    if not trial.nodes:
        return
    for step in trial.walk:
        rule = "must return a Drawn of the Gaussian that the state holds"
        with calling("drawn", rule), unchanged("drawn", "Make new arrays.", state=step.state):
            drawn = trial.method.drawn(step.state, rng=trial.stream(0))
            white = drawn.mean + drawn.nodes @ drawn.root.T
            scores = np.asarray(drawn.scores)
        asked = host(trial.problem.prior.whiten(trial.ask(step.state)))
        if phrase := difference(white, asked, "mean + nodes root^T", rtol=1e-6):
            remedy = "Place the members at the nodes of this Gaussian."
            raise broken("drawn", "must hold the Gaussian of the members", phrase, remedy)
        if scores.ndim != 2 or scores.shape[1] != drawn.nodes.shape[1]:
            got, remedy = str(scores.shape), "Draw standard normal rows of p numbers."
            raise broken("drawn", "must have scores of the shape (n, p)", got, remedy)


def check_permutation(trial: Trial) -> None:
    """Check that a step without noise does not depend on the order of the members."""
    if not trial.moves or trial.nodes:
        return
    for step in trial.walk[:10]:
        n = int(step.state.n)
        if isinstance(trial.method, Redraws) and trial.method.redraws(n):
            continue
        order = np.random.default_rng(trial.seed).permutation(int(step.state.ensemble.shape[0]))
        first, second = Quiet(), Quiet()
        new, info = trial.tell(step.state, step.g, first)
        permuted = _selected(trial, step.state, order)
        other, other_info = trial.tell(permuted, take_rows(step.g, order), second)
        if first.drew or second.drew:
            continue
        phrase = difference(
            host(other.ensemble), host(new.ensemble)[order], "ensemble", rtol=1e-6
        ) or difference(other_info.misfit, info.misfit[order], "misfit", rtol=1e-6)
        if phrase:
            raise broken(
                "tell",
                f"must move members alike in any order (step {n}, without noise)",
                phrase,
                "Let select permute every array with one row per member. Declare redraws(n) if "
                "the step draws new members.",
            )


def check_failures(trial: Trial) -> None:
    """Check that a run continues when members fail, for every policy of ``on_failure``."""
    if not trial.moves:
        _check_nan_rows(trial)
    policies: tuple[OnFailure, ...] = ("retry", "drop", "resample")
    for policy in policies:
        _run_with_failures(trial, policy)


def _check_refusal(trial: Trial) -> None:
    """Check that ``select`` accepts all nodes together and refuses a part of them."""
    state = trial.walk[0].state
    everyone = np.arange(int(state.ensemble.shape[0]))
    if phrase := difference(_selected(trial, state, everyone), state, "state"):
        raise broken("select", "must return the state for all members", phrase, "Return it.")
    try:
        trial.method.select(state, everyone[1:])
    except ValueError:
        return
    rule = "must refuse some of the nodes with a ValueError"
    raise broken("select", rule, "a state", "Raise the error, because the rule needs all nodes.")


def _few(trial: Trial) -> Iterator[Step]:
    """The first three steps, and the last."""
    walk = trial.walk
    return iter([*walk[:3], *walk[3:][-1:]])


def _selected(trial: Trial, state: Any, index: np.ndarray) -> Any:
    rule = f"must return the state of the members with the indices {index.tolist()}"
    with calling("select", rule), unchanged("select", "Make a new state.", state=state):
        picked = trial.method.select(state, index)
    if not isinstance(picked, trial.state_class):
        got = type(picked).__name__
        remedy = "Use state._replace(ensemble=...)."
        raise broken(
            "select", f"must return a state of the class {trial.state_class.__name__}", got, remedy
        )
    return picked


def _check_rows(trial: Trial, state: Any, picked: Any, index: np.ndarray) -> None:
    problem, J = trial.problem, int(state.ensemble.shape[0])
    rows = {
        "ensemble": (picked.ensemble, state.ensemble),
        "ask(state)": (trial.ask(picked), trial.ask(state)),
    }
    for name, (found, whole) in rows.items():
        if phrase := difference(found, take_rows(whole, index), name):
            raise broken("select", _RULE, phrase, _REFRESH)
    if (picked.n, picked.t) != (state.n, state.t):
        got = f"n = {picked.n} and t = {picked.t} from n = {state.n} and t = {state.t}"
        raise broken("select", "must leave n and t as they are", got, "Use state._replace.")
    if len(index) == J or J in (problem.n_parameters, problem.n_data):
        return
    for (name, value), (_, before) in zip(
        leaves(picked, "state"), leaves(state, "state"), strict=True
    ):
        shape, old = (tuple(getattr(each, "shape", ())) for each in (value, before))
        if old[:1] == (J,) and shape != (len(index), *old[1:]):
            got = f"{name} of the shape {shape} for {len(index)} members"
            raise broken("select", _RULE, got, _REFRESH)


def _check_refreshed(trial: Trial, step: Step, index: np.ndarray) -> None:
    """Check that a step from the selected members reports and returns these members."""
    picked = _selected(trial, step.state, index)
    rule = "a step must be possible from the state of the selected members"
    try:
        following, info = trial.tell(picked, take_rows(step.g, index))
        trial.ask(following)
    except AssertionError as error:
        cause = error.__cause__
        raise broken("select", rule, named(cause) if cause else str(error), _REFRESH) from error
    scaled = step.state._replace(ensemble=0.5 * step.state.ensemble)
    others = _selected(trial, scaled, np.arange(int(scaled.ensemble.shape[0])))
    _, other_info = trial.tell(others, step.g)
    if wrong_spread(trial, step.state, step.info.spread):
        return  # `check_spread` reports this fault
    for found, members in ((info.spread, picked), (other_info.spread, others)):
        if gap := wrong_spread(trial, members, found):
            raise broken("select", _RULE, f"the spread {gap}", _REFRESH)


def _check_mapping(trial: Trial, state: Any, index: np.ndarray) -> None:
    """Check that ``map_members`` treats the members in the same way as ``select``."""
    if not isinstance(trial.method, MapsMembers):
        return
    remedy = "Apply rows to the ensemble and to every array with one row per member."
    with calling("map_members", "must return the state with rows(a) for each array a", remedy):
        mapped = trial.method.map_members(state, lambda a: take_rows(a, index), index)
    expected = _selected(trial, state, index)
    if phrase := difference(mapped, expected, "state", rtol=1e-9):
        rule = "must return the same state as select if rows takes the rows index"
        raise broken("map_members", rule, phrase, remedy)


def _check_nan_rows(trial: Trial) -> None:
    """Check that a sampler gives no weight to failed members."""
    state = trial.init(copy.deepcopy(trial.ensemble))
    for n in range(min(3, len(trial.walk))):
        g = trial.outputs(trial.ask(state), n)
        g[[1, n + 1]] = np.nan
        state, info = trial.tell(state, g)
        if info.shown is not None and n:  # the first weights do not depend on outputs
            kept = host(info.shown.weight) > 0
            finite = np.isfinite(host(info.shown.g)).all(axis=1) & np.isfinite(info.misfit)
            if not finite[kept].all():
                raise broken(
                    "tell",
                    "must give no weight to a member whose outputs are NaN",
                    f"the weight {host(info.shown.weight)[kept & ~finite].max():.3g}",
                    "Treat a failed model run as a likelihood of zero.",
                )
        if info.status is not None:
            return


def _run_with_failures(trial: Trial, policy: OnFailure) -> None:
    n_steps = min(6, len(trial.walk))
    remedy = "Make select and map_members return states from which the next step is possible."
    rule = f'must let a run with failed members continue, with on_failure="{policy}"'
    with calling("select", rule, remedy):
        loop = AskTell(
            trial.problem,
            trial.method,
            n_members=trial.n_members,
            n_steps=n_steps,
            rng=trial.seed,
            on_failure=policy,
        )
        for _ in range(n_steps + 2):
            n, lost = loop.n, loop.n in (1, 3) or (loop.n == 0 and policy == "retry")
            g = _evaluated(trial, loop)
            if lost:
                g[n] = np.nan
            loop.tell(g)
            while loop.n == n and not loop.done:  # the member that failed runs again
                loop.tell(_evaluated(trial, loop))
            if loop.done:
                break
            dropped = policy == "drop" and not takes_failures(trial.method)
            rows = len(g) - (lost and dropped)
            alive = len(loop.ask())
            redrawn = isinstance(trial.method, Redraws) and trial.method.redraws(n)
            if alive != rows and not (redrawn and alive > rows):
                raise broken("select", rule, f"{alive} members in place of {rows}", remedy)
            if not np.all(np.isfinite(host(loop.ask()))):
                raise broken("select", rule, "members that are not finite", remedy)
        loop.result()


def _evaluated(trial: Trial, loop: AskTell) -> Any:
    seeds = loop.seeds() if trial.problem.info.stochastic else None
    return evaluate(loop.seen.model, loop.ask(), loop.seen.n_data, seeds=seeds).g
