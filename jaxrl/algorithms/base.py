"""The base class of algorithms."""

from collections.abc import Callable
from typing import Any

import jax

from jaxrl import rollout, tree
from jaxrl.clock import Clock, Metrics
from jaxrl.env import Env, check_is_env
from jaxrl.env_check import check_contract
from jaxrl.errors import not_defined
from jaxrl.normalize import Running
from jaxrl.rollout import Evaluation, Experience, Policy, Transition, Values
from jaxrl.tree import pytree

State = Any
Agent = Any
World = Any  # an Env; of a meta-learner, Tasks
Relabel = Callable[[jax.Array, Transition], jax.Array]  # (key, transitions) -> their rewards


@pytree
class NetworkAgent:
    """What a network's policy needs to act. obs_stats: None without normalisation."""

    params: Any
    obs_stats: Running | None
    clock: Clock


class Algorithm:
    """Base class of algorithms: a pytree of hyperparameters.

    Every float may be traced, every count is static. An update is `collect`, then `learn`; what
    comes between them (an intrinsic reward, a discriminator) is an algorithm around an algorithm,
    such as `Rewarded`. A state has the fields `params` and `clock`. A meta-learner's `env` is a
    distribution of tasks (`jaxrl.env.Tasks`): it overrides `update` and `evaluate`, and has no
    policy.
    """

    num_envs: Any = 1  # environments side by side, static
    name: Any = ""  # of the preset that it was made from, for records and tables
    replays: Any = False  # True where it learns from a replay of what it collected

    @property
    def steps_per_update(self) -> int:
        """Environment steps of one update, over all environments."""
        raise not_defined(self, Algorithm.steps_per_update)

    @property
    def gradient_steps_per_update(self) -> int:
        """Gradient steps of one update, where the state counts them."""
        return 1

    def init(
        self, key: jax.Array, env: World, num_updates: jax.Array | float = float("inf")
    ) -> State:
        """Return the state before the first of `num_updates` updates, which schedules read."""
        raise not_defined(self, Algorithm.init)

    def collect(self, key: jax.Array, env: Env, state: State) -> tuple[State, Experience]:
        """Act in the environments; return the state after it and what was collected."""
        raise TypeError(
            f"{type(self).__name__} does not collect experience apart from learning: write "
            "algo.update(key, env, state)."
        )

    def learn(
        self,
        key: jax.Array,
        env: Env,
        state: State,
        experience: Experience | None,
        relabel: Relabel | None = None,
    ) -> tuple[State, Metrics]:
        """Return the state after learning from what was collected, and losses.

        experience: None where a replay alone is learned from, offline.

        relabel: the rewards to learn from in place of those collected; applied to the experience at
        once, or by a replay to each sample, so that they are never stale.
        """
        raise TypeError(
            f"{type(self).__name__} does not learn apart from collecting experience: write "
            "algo.update(key, env, state)."
        )

    def values(self, env: Env, state: State, experience: Experience) -> Values:
        """The values and advantages of what was collected, for teachers. [T, B]."""
        raise TypeError(
            f"{type(self).__name__} estimates no advantages, and the score of this teacher reads "
            "them: use rl.ppo(), or a score of returns, such as rl.teachers.Learnability()."
        )

    def update(self, key: jax.Array, env: World, state: State) -> tuple[State, Metrics]:
        """Return the state after collecting and learning, and the metrics of both.

        `return`, `length` and `episodes` are of the episodes that ended, where it plays any.
        """
        key_collect, key_learn = jax.random.split(key)
        state, experience = self.collect(key_collect, env, state)
        metrics = rollout.episode_metrics(env, experience.transitions)
        state, losses = self.learn(key_learn, env, state, experience)
        check_channels(env, losses, self)
        return state, metrics | losses

    def freeze(self, active: jax.Array, new_state: State, state: State) -> State:
        """The new state where `active` [], else the state before: padding at the end of a run."""
        return tree.where(active, new_state, state)

    def agent(self, state: State) -> Agent:
        """All that acting needs of a state: what a folder keeps of a trained member.

        It consists of parts of the state, unchanged, so that it is also defined for a state with
        leading axes, such as [members], and for a state of shapes alone.
        """
        raise TypeError(f"{type(self).__name__} has no policy, so no agent.")

    def policy(self, env: Env, agent: Agent, greedy: bool) -> Policy:
        """The policy of an agent: exploring as in training, or `greedy` for evaluation.

        Normalisation statistics are frozen.
        """
        raise TypeError(f"{type(self).__name__} has no policy.")

    def evaluate(self, key: jax.Array, env: World, state: State, num_episodes: int) -> Evaluation:
        """Whole episodes of the greedy policy."""
        policy = self.policy(env, self.agent(state), greedy=True)
        return rollout.play_episodes(key, env, policy, num_episodes)

    def evaluation_steps(self, env: World, num_episodes: int) -> int:
        """Environment steps that an evaluation takes at most, as `eval_share` counts them."""
        return env.max_steps * num_episodes


def check_channels(env: Env, metrics: Metrics, user: Algorithm) -> None:
    """Check that no channel of the environment has the name of one of the other `metrics`.

    Raises:
      ValueError: one has, so that one of the two would be lost.
    """
    if both := set(env.channels) & set(metrics):
        raise ValueError(
            f"{type(env).__name__}.channels names {min(both)!r}, which is a metric of "
            f"{type(user).__name__}: give the channel another name."
        )


def check_space(env: Env, allowed: tuple[type, ...], user: str) -> None:
    """Check that an algorithm or rule, named `user`, has a policy for the environment's actions.

    Raises:
      TypeError: another kind of action space, or no environment at all.
    """
    check_is_env(env)  # a distribution has a contract of its own
    check_contract(env)
    kind = type(env.action_space)
    if kind not in allowed:
        names = ", ".join(space.__name__ for space in allowed)
        raise TypeError(
            f"{user} takes actions of {names}, but {env} has a {kind.__name__} action space. "
            "Choose an environment with such actions, or an algorithm for these (`jaxrl "
            "algorithms` lists them)."
        )
