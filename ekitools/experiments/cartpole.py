"""A policy for CartPole, learned from the returns of its episodes.

The return of an episode is the number of steps until the pole falls or the cart leaves the track,
500 at most. It is a whole number, so its derivative by the parameters of the policy is zero
wherever it exists. The simulator has no derivatives either. Policy gradients differentiate the
log-probabilities of a stochastic policy [2]_. EKI needs no stochastic policy: the action is the
argmax of two outputs.

In the inverse problem, u are the parameters of the policy. The data of one step are the wanted
returns of a few episodes, y = 1 (500 steps, in units of 500). G(u | seeds) are the returns of the
policy in the episodes with these seeds. All members play the same episodes, and every step has new
ones (`OnlineData`). Members are redrawn around their mean (`LossEKI` with `Spread`). The test
applies the policy of the mean. The prior is the standard normal distribution.

Every step of an episode is worth 1, so returns also count the steps of the environment. The 100
episodes of the test have the seeds 0 to 99, and episodes of the training have seeds from 1000 on.
Settings were chosen with runs of the seeds 100 to 104 and episodes of the seeds 200 to 229.

References
----------
.. [1] Barto, Sutton & Anderson (1983), IEEE Trans. Syst. Man Cybern. 13, 834-846; the environment
   is Gymnasium's CartPole-v1, which counts as solved at a mean return of 475.
.. [2] Williams (1992), Machine Learning 8, 229-256.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import ekitools as ek
from ekitools.experiments.frame import new_figure
from ekitools.plots.style import BLUE, ORANGE
from ekitools.results.tables import table_lines

__all__ = ["PUBLISHED", "SETTINGS", "Policy", "Settings", "compute", "draw", "parts", "table"]

PUBLISHED: dict[str, Any] = {}

_LONGEST = 500
"""Steps after which an episode ends in success."""
_SOLVED = 475
_FIRST_TRAINING_SEED = 1000


@dataclass(frozen=True)
class Policy:
    """A network with at most one hidden layer of tanh units, whose larger output is the action.

    Parameters
    ----------
    hidden : int
        Number of units of the hidden layer. With 0 the outputs are linear in the observation.
    """

    hidden: int

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases of all layers."""
        return 7 * self.hidden + 2 if self.hidden else 10

    def action(self, u: np.ndarray, observation: np.ndarray) -> int:
        """The action: 0 pushes to the left, 1 to the right.

        Parameters
        ----------
        u : (p,)
            Weights and biases, layer after layer.
        observation : (4,)
            Position, velocity, angle, angular velocity.
        """
        h, at = observation, 0
        for units in (self.hidden, 2) if self.hidden else (2,):
            h = np.tanh(h) if at else h
            end = at + units * len(h)
            h, at = u[at:end].reshape(units, -1) @ h + u[end : end + units], end + units
        return int(h[1] > h[0])


@dataclass(frozen=True)
class Settings:
    """All choices of the experiment, which are the same for both policies.

    Parameters
    ----------
    seeds : int
        Number of runs of each policy.
    policies : mapping of str to Policy
        The policies by name.
    n_members : int, default 40
        Number of members J.
    n_steps : int, default 20
        Number of steps of EKI.
    episodes : int, default 4
        Number of episodes that every member plays in a step.
    h, epsilon : float, default 3 and 0.5
        The constants of the step size h_n = h/(‖D‖ + ε).
    gamma : float, default 0.3
        Spread of the members.
    variance : float, default 0.1
        Variance Γ of one return in units of 500.
    tested : int, default 100
        Number of episodes of the test.
    """

    seeds: int
    policies: Mapping[str, Policy]
    n_members: int = 40
    n_steps: int = 20
    episodes: int = 4
    h: float = 3.0
    epsilon: float = 0.5
    gamma: float = 0.3
    variance: float = 0.1
    tested: int = 100


_POLICIES = {"linear policy": Policy(0), "network 4-8-2": Policy(8)}
SETTINGS = {
    "small": Settings(3, _POLICIES),
    "medium": Settings(10, _POLICIES),
    "paper": Settings(30, _POLICIES),
}


def parts(settings: Settings) -> list[str]:
    """Labels such as "linear policy, seed 0"."""
    return [f"{name}, seed {seed}" for name in settings.policies for seed in range(settings.seeds)]


def compute(
    settings: Settings,
    label: str,
    folder: Path,  # noqa: ARG001 - a run takes seconds: no checkpoints
    progress: bool,
) -> dict[str, Any]:
    """Returns of the training and of the test, and their cost.

    Returns
    -------
    dict
        ``test`` has the returns of the policy of the mean in the episodes of the test. ``by_step``
        has the mean return of the members at every step, and ``environment_steps`` the steps of
        the environment up to and including this step. ``episodes`` is the number of all episodes.

    Raises
    ------
    ImportError
        If gymnasium is not installed.
    """
    if find_spec("gymnasium") is None:
        raise ImportError(
            "gymnasium: must be installed for CartPole, and is not. Use pip install 'ekitools[rl]'."
        )
    import gymnasium

    name, number = label.split(", seed ")
    policy, seed = settings.policies[name], int(number)
    n_episodes = settings.n_steps * settings.episodes
    stream = np.random.default_rng(seed)
    episodes = stream.integers(_FIRST_TRAINING_SEED, 2**31, size=n_episodes)
    env = gymnasium.make("CartPole-v1")

    def returns(u: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        return np.array([_return(env, policy, u, int(each)) / _LONGEST for each in inputs])

    problem = ek.InverseProblem(
        ek.FunctionModel(returns, takes_inputs=True),
        ek.GaussianPrior(np.zeros(policy.n_parameters), 1.0),
        settings.variance,
        ek.OnlineData(episodes, np.ones(n_episodes), settings.episodes),
    )
    result = ek.run(
        problem,
        ek.LossEKI(ek.NormStep(settings.h, settings.epsilon), ek.Spread(settings.gamma)),
        n_members=settings.n_members,
        rng=stream,
        progress=progress,
    )
    played = _LONGEST * result.g.values[: settings.n_steps]
    mean = result.u[-1].mean("member").values
    test = [_return(env, policy, mean, each) for each in range(settings.tested)]
    env.close()
    return {
        "test": test,
        "parameters": policy.n_parameters,
        "by_step": played.mean(axis=(1, 2)).tolist(),
        "environment_steps": np.cumsum(np.rint(played.sum(axis=(1, 2)))).astype(int).tolist(),
        "episodes": settings.n_members * n_episodes,
        "status": result.attrs["status_code"],
    }


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Mean and lowest return of the test, and the cost of the training."""
    header = (
        *("policy", "parameters", "before", f"mean return of {settings.tested}", "lowest"),
        *("episodes", "steps played", "time"),
    )
    rows = []
    for label in filter(numbers.__contains__, parts(settings)):
        found = numbers[label]
        rows.append(
            (
                label,
                str(found["parameters"]),
                f"{found['by_step'][0]:.1f}",
                f"{np.mean(found['test']):.1f}",
                f"{min(found['test']):.0f}",
                str(found["episodes"]),
                str(found["environment_steps"][-1]),
                f"{found['seconds']:.0f} s",
            )
        )
    return "\n".join(table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Mean returns of the members by steps of the environment, and those of the test."""
    (ax,), save = new_figure(size=(6.4, 4.2))
    for name, colour in zip(settings.policies, (BLUE, ORANGE), strict=False):
        runs = [found for label, found in numbers.items() if label.startswith(name)]
        for i, found in enumerate(runs):
            played = np.array(found["environment_steps"])
            text = f"{name}: members" if i == 0 else None
            ax.plot(played, found["by_step"], color=colour, lw=1.2, label=text)
            text = f"{name}: mean of the members, test" if i == 0 else None
            ax.plot(played[-1], np.mean(found["test"]), "*", color=colour, ms=12, label=text)
    ax.axhline(_SOLVED, color="grey", lw=1, ls=":")
    ax.text(0.01, _SOLVED, "solved", transform=ax.get_yaxis_transform(), va="top", color="grey")
    ax.set(
        xlabel="steps of the environment",
        ylabel="mean return",
        xscale="log",
        ylim=(0, 1.04 * _LONGEST),
        title="CartPole-v1",
    )
    ax.legend(frameon=False, loc="center left", fontsize="small")
    save(path)


def _return(env: Any, policy: Policy, u: np.ndarray, seed: int) -> float:
    """The return of one episode."""
    observation, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        observation, reward, fell, late, _ = env.step(policy.action(u, observation))
        total, over = total + float(reward), fell or late
    return total
