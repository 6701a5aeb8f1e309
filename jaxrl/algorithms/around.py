"""The base class of algorithms around another one."""

from typing import Any

import jax

from jaxrl.algorithms.base import Agent, Algorithm, World
from jaxrl.clock import Clock
from jaxrl.env import Env
from jaxrl.rollout import Evaluation, Experience, Policy, Values


class AroundState:
    """Base class of states with a field `algo`, the state of the algorithm inside."""

    algo: Any

    @property
    def params(self) -> Any:
        return self.algo.params

    @property
    def clock(self) -> Clock:
        return self.algo.clock


class Around(Algorithm):
    """Base class of algorithms around another one, `algo`, which does what they do not override.

    prefix: of the name; a class attribute.
    """

    algo: Any  # Algorithm
    prefix = ""

    def inner(self, state: Any) -> Any:
        """The state of `algo`, of that of the whole."""
        return state.algo

    @property
    def name(self) -> str:
        return f"{self.prefix} {self.algo.name}".strip()

    @property
    def replays(self) -> bool:
        return self.algo.replays

    @property
    def num_envs(self) -> int:  # type: ignore[override]
        return self.algo.num_envs

    @property
    def steps_per_update(self) -> int:
        return self.algo.steps_per_update

    @property
    def gradient_steps_per_update(self) -> int:
        return self.algo.gradient_steps_per_update

    def values(self, env: Env, state: Any, experience: Experience) -> Values:
        return self.algo.values(env, self.inner(state), experience)

    def agent(self, state: Any) -> Agent:
        return self.algo.agent(self.inner(state))

    def policy(self, env: Env, agent: Agent, greedy: bool) -> Policy:
        return self.algo.policy(env, agent, greedy)

    def evaluate(self, key: jax.Array, env: World, state: Any, num_episodes: int) -> Evaluation:
        return self.algo.evaluate(key, env, self.inner(state), num_episodes)

    def evaluation_steps(self, env: World, num_episodes: int) -> int:
        return self.algo.evaluation_steps(env, num_episodes)
