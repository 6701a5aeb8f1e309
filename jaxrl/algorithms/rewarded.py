"""Reward models: rewards computed between collecting and learning, around any algorithm."""

from typing import Any

import jax

from jaxrl import tree
from jaxrl.algorithms.base import Agent, Algorithm, Relabel
from jaxrl.clock import Clock, Metrics
from jaxrl.env import Env
from jaxrl.rollout import Evaluation, Experience, Policy, Transition
from jaxrl.tree import pytree


class RewardModel:
    """Base class of reward models, such as an exploration bonus or a discriminator: a pytree."""

    def init(self, key: jax.Array, env: Env) -> Any:
        """Return the model's state at the start of a training run."""
        return ()

    def __call__(
        self, key: jax.Array, carry: Any, batch: Transition
    ) -> tuple[Any, jax.Array, Metrics]:
        """Return the model's state after a batch, the batch's rewards, and metrics.

        batch: a rollout [T, B], or pieces of a replay [N, L]; its `reward` is the environment's.
        The rewards have the batch's leading shape.
        """
        raise TypeError(f"{type(self).__name__} does not define __call__(key, carry, batch).")


@pytree
class State:
    """The states of the algorithm and of the reward model around it."""

    algo: Any
    carry: Any

    @property
    def params(self) -> Any:
        return self.algo.params

    @property
    def clock(self) -> Clock:
        return self.algo.clock


@pytree
class Rewarded(Algorithm):
    """An algorithm that learns from the rewards of a model rather than from the environment's.

    The model is updated once with each rollout, as it was collected. It then computes the rewards
    that are learned from: on policy of the rollout, off policy of each sample of the replay, so
    that stored rewards are never stale. `return` and evaluations are of the environment's rewards;
    `model_reward` is the mean of the model's.
    """

    algo: Algorithm
    model: RewardModel

    def __post_init__(self) -> None:
        if not isinstance(self.model, RewardModel):
            kind = type(self.model).__name__
            raise TypeError(
                f"model={kind} is no reward model: write class {kind}(rl.RewardModel), with "
                "__call__(key, carry, batch) -> (carry, reward, metrics)."
            )
        if type(self.algo).learn is Algorithm.learn:
            raise TypeError(
                f"{type(self.algo).__name__} learns at each step, so that no reward model can "
                "stand between: take rl.ppo(), rl.dqn() or another that collects before it learns."
            )

    @property
    def name(self) -> str:
        return f"rewarded {self.algo.name}".strip()

    @property
    def steps_per_update(self) -> int:
        return self.algo.steps_per_update

    def init(self, key: jax.Array, env: Env, num_updates: Any = float("inf")) -> State:
        key_algo, key_model = jax.random.split(key)
        algo = self.algo.init(key_algo, env, num_updates)
        return State(algo, self.model.init(key_model, env))

    def collect(self, key: jax.Array, env: Env, state: State) -> tuple[State, Experience]:
        algo, experience = self.algo.collect(key, env, state.algo)
        return tree.replace(state, algo=algo), experience

    def learn(
        self,
        key: jax.Array,
        env: Env,
        state: State,
        experience: Experience,
        relabel: Relabel | None = None,
    ) -> tuple[State, Metrics]:
        key_model, key_learn = jax.random.split(key)
        batch = experience.transitions
        if relabel is not None:
            key_relabel, key_learn = jax.random.split(key_learn)
            batch = tree.replace(batch, reward=relabel(key_relabel, batch))
        carry, reward, metrics = self.model(key_model, state.carry, batch)

        def relabelled(key: jax.Array, batch: Transition) -> jax.Array:
            if relabel is not None:
                key, key_inner = jax.random.split(key)
                batch = tree.replace(batch, reward=relabel(key_inner, batch))
            return self.model(key, carry, batch)[1]

        algo, losses = self.algo.learn(key_learn, env, state.algo, experience, relabelled)
        return State(algo, carry), losses | {"model_reward": reward.mean()} | metrics

    def freeze(self, active: jax.Array, new_state: State, state: State) -> State:
        algo = self.algo.freeze(active, new_state.algo, state.algo)
        return State(algo, tree.where(active, new_state.carry, state.carry))

    def agent(self, state: State) -> Agent:
        return self.algo.agent(state.algo)

    def policy(self, env: Env, agent: Agent, greedy: bool) -> Policy:
        return self.algo.policy(env, agent, greedy)

    def evaluate(self, key: jax.Array, env: Env, state: State, num_episodes: int) -> Evaluation:
        return self.algo.evaluate(key, env, state.algo, num_episodes)

    def evaluation_steps(self, env: Env, num_episodes: int) -> int:
        return self.algo.evaluation_steps(env, num_episodes)
