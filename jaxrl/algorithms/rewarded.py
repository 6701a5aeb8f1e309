"""Reward models: rewards computed between collecting and learning, around any algorithm."""

from typing import Any

import jax

from jaxrl import rollout, tree
from jaxrl.algorithms.around import Around, AroundState
from jaxrl.algorithms.base import Algorithm, Relabel
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.clock import Metrics
from jaxrl.env import Env
from jaxrl.errors import not_defined
from jaxrl.rollout import Experience, Transition
from jaxrl.rules.base import check_field
from jaxrl.tree import pytree


class RewardModel:
    """Base class of reward models, such as an exploration bonus or a discriminator: a pytree.

    channel: the name in `Transition.info` of its rewards, which a rule such as `RewardSignals`
    learns from in addition to the environment's; "" replaces the environment's rewards by them.
    episodic: True if a reward depends on the earlier steps of its episode. Samples of a replay
    buffer lack these steps, so the buffer stores the rewards as they were at collection.
    """

    channel: Any = ""
    episodic: Any = False

    def init(self, key: jax.Array, env: Env, width: int) -> Any:
        """Return the model's state at the start of a training run; () without one.

        width: number of columns of a rollout, one for each environment or agent of a team.
        """
        return ()

    def __call__(
        self, key: jax.Array, carry: Any, batch: Transition
    ) -> tuple[Any, jax.Array, Metrics]:
        """Return the model's state after a batch, the batch's rewards, and metrics.

        batch: a rollout [T, B], or pieces of a replay [N, L]; its `reward` is the environment's.
        The rewards have the batch's leading shape.
        """
        raise not_defined(self, RewardModel.__call__)

    def relabel(self, key: jax.Array, carry: Any, batch: Transition) -> jax.Array:
        """The rewards of sequences from a replay buffer [N, L]; the model does not change."""
        return self(key, carry, batch)[1]


@pytree
class State(AroundState):
    """The states of the algorithm and of the reward model around it."""

    algo: Any
    carry: Any


@pytree
class Rewarded(Around):
    """An algorithm that learns from the rewards of a model rather than from the environment's.

    The model is updated once with each rollout, as it was collected. An on-policy algorithm learns
    from the rewards that the model returns then. For an off-policy algorithm, the current model
    computes the rewards of each sample of the replay buffer, so that they are never stale; those of
    an episodic model are stored.
    `return` and evaluations are of the environment's rewards; `model_reward` is the mean of the
    model's.
    """

    algo: Algorithm
    model: RewardModel

    prefix = "rewarded"

    def __post_init__(self) -> None:
        check_field(self, "model", RewardModel, "a reward model")
        check_field(self, "algo", Algorithm, "rl.ppo()")
        if type(self.algo).learn is Algorithm.learn:
            raise TypeError(
                f"{type(self.algo).__name__} does not learn apart from collecting, so that no "
                "reward model can stand between: take rl.ppo(), rl.dqn() or another that does."
            )
        if isinstance(self.algo, OnPolicy) and self.algo.rule.plays_groups:
            raise TypeError(
                f"{type(self.algo.rule).__name__} drops the rewards after the first episodes of a "
                "rollout, which a reward model would bring back: take a rule without groups, "
                "such as rl.ppo()."
            )
        if self.model.channel:
            _check_channel(self.algo, self.model)

    @property
    def _relabels(self) -> bool:
        """True if rewards are computed for each sample of a replay buffer."""
        return self.replays and not self.model.episodic

    def init(
        self, key: jax.Array, env: Env, num_updates: jax.Array | float = float("inf")
    ) -> State:
        key_algo, key_model = jax.random.split(key)
        algo = self.algo.init(key_algo, env, num_updates)
        width = rollout.num_columns(env, self.algo.num_envs)
        return State(algo, self.model.init(key_model, env, width))

    def collect(self, key: jax.Array, env: Env, state: State) -> tuple[State, Experience]:
        algo, experience = self.algo.collect(key, env, state.algo)
        return tree.replace(state, algo=algo), experience

    def learn(
        self,
        key: jax.Array,
        env: Env,
        state: State,
        experience: Experience | None,
        relabel: Relabel | None = None,
    ) -> tuple[State, Metrics]:
        key_model, key_learn = jax.random.split(key)

        def relabelled(key: jax.Array, batch: Transition) -> Transition:
            return batch if relabel is None else tree.replace(batch, reward=relabel(key, batch))

        carry, metrics = state.carry, {}
        if experience is not None:
            batch = relabelled(jax.random.fold_in(key_model, 1), experience.transitions)
            carry, reward, metrics = self.model(key_model, state.carry, batch)
            metrics = {"model_reward": reward.mean()} | metrics
            if not self._relabels:
                batch = self._with_reward(env, batch, reward)
                experience = tree.replace(experience, transitions=batch)

        def current(key: jax.Array, batch: Transition) -> jax.Array:
            batch = relabelled(jax.random.fold_in(key, 1), batch)
            return self.model.relabel(key, carry, batch)

        algo, losses = self.algo.learn(
            key_learn, env, state.algo, experience, current if self._relabels else None
        )
        return State(algo, carry), losses | metrics

    def _with_reward(self, env: Env, batch: Transition, reward: jax.Array) -> Transition:
        name = self.model.channel
        if not name:
            return tree.replace(batch, reward=reward)
        if name in env.channels:
            raise ValueError(
                f"{type(self.model).__name__} has channel={name!r}, which {type(env).__name__} "
                "already has: write another name."
            )
        return tree.replace(batch, info=batch.info | {name: reward})

    def freeze(self, active: jax.Array, new_state: State, state: State) -> State:
        algo = self.algo.freeze(active, new_state.algo, state.algo)
        return State(algo, tree.where(active, new_state.carry, state.carry))


def _check_channel(algo: Algorithm, model: RewardModel) -> None:
    rule = algo.rule if isinstance(algo, OnPolicy) else None
    if rule is None or model.channel not in rule.channels:
        user = type(algo if rule is None else rule).__name__
        raise TypeError(
            f"{type(model).__name__} has channel={model.channel!r}, and {user} learns from no such "
            f"signal: write rl.ppo(rule=rl.RewardSignals(signals={{{model.channel!r}: "
            "rl.Signal()})), or leave channel out to add to the reward."
        )
