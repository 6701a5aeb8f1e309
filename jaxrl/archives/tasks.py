"""Tasks of a quality-diversity search, which return the fitness and descriptor of a genotype."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import networks, rollout, tree
from jaxrl.env import Env, Tasks, check_is_env
from jaxrl.errors import check_counts, not_defined
from jaxrl.masks import visible
from jaxrl.rollout import Episode, Policy, Transition
from jaxrl.team_checks import check_single_agent
from jaxrl.tree import leaf, pytree, static

Genotype = Any


@pytree
class Evaluated:
    """The fitness [] and descriptor [D] of a genotype, and anything else of its evaluation."""

    fitness: jax.Array
    descriptor: jax.Array
    extra: Any = ()


@pytree
class Elite:
    """An item of a repertoire: a genotype, its descriptor [D], and what the task observed of it
    [O], from which an encoder computes the descriptor.
    """

    genotype: Genotype
    descriptor: jax.Array
    observed: jax.Array


class Task(Tasks):
    """Base class of tasks of a quality-diversity search: a pytree, used in place of an
    environment.
    """

    def init(self, key: jax.Array) -> Genotype:
        """A random genotype."""
        raise not_defined(self, Task.init)

    def __call__(self, key: jax.Array, genotype: Genotype) -> Evaluated:
        """The evaluation of a genotype."""
        raise not_defined(self, Task.__call__)


@pytree
class Function(Task):
    """A function of a vector: `Function(f, dims)`, with f(x [dims]) -> (fitness, descriptor).

    Initial genotypes are uniform between `low` and `high`.
    """

    function: Callable[[jax.Array], tuple[jax.Array, jax.Array]] = static()
    dims: int = static(default=1)
    low: float = leaf(0.0, "(-inf, inf)")
    high: float = leaf(1.0, "(-inf, inf)")

    def __post_init__(self) -> None:
        check_counts(self, "dims")

    def init(self, key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, (self.dims,), minval=self.low, maxval=self.high)

    def __call__(self, key: jax.Array, genotype: jax.Array) -> Evaluated:
        return Evaluated(*self.function(genotype))


def mean_observation(steps: Transition, active: jax.Array) -> jax.Array:
    """The mean over an episode of the observations, flat. [D]."""
    obs = tree.flat(visible(steps.next_obs), 1)
    return jnp.sum(jnp.where(active[:, None], obs, 0.0), 0) / active.sum()


def last_observation(steps: Transition, active: jax.Array) -> jax.Array:
    """The last observation of an episode, flat. [D]."""
    obs = tree.flat(visible(steps.next_obs), 1)
    return obs[active.sum() - 1]


class EpisodeTask(Task):
    """Base class of tasks that play an episode with a policy of the genotype.

    env: of one agent. descriptor: a function of the transitions of an episode [T] and of a mask,
    True for the steps before its end [T], that returns a descriptor [D].

    An animation of an elite: `plot.gif(task.env, task.policy(state.archive.best.genotype))`.
    """

    env: Env
    descriptor: Callable[[Transition, jax.Array], jax.Array]  # static

    def policy(self, genotype: Genotype) -> Policy:
        """The policy of a genotype."""
        raise not_defined(self, EpisodeTask.policy)

    def extra(self, steps: Transition, active: jax.Array) -> Any:
        """What an evaluation returns besides fitness and descriptor, from the same arguments; () by
        default.
        """
        return ()

    def __call__(self, key: jax.Array, genotype: Genotype) -> Evaluated:
        key_reset, key_play = jax.random.split(key)
        policy = self.policy(genotype)

        def step(
            now: tuple[Episode, jax.Array], key: jax.Array
        ) -> tuple[tuple[Episode, jax.Array], tuple[Transition, jax.Array]]:
            episode, active = now
            key_act, key_step = jax.random.split(key)
            _, action, extras = policy(key_act, episode)
            after, transition = rollout.step(key_step, self.env, episode, action, extras)
            after = tree.where(active, after, episode)
            return (after, active & ~transition.done), (transition, active)

        start = rollout.reset(key_reset, self.env), jnp.bool_(True)
        keys = jax.random.split(key_play, self.env.max_steps)
        _, (steps, active) = jax.lax.scan(step, start, keys)
        fitness = jnp.sum(jnp.where(active, steps.reward, 0.0))
        return Evaluated(fitness, self.descriptor(steps, active), self.extra(steps, active))


@pytree
class PolicyTask(EpisodeTask):
    """The parameters of a policy network as genotypes; its actions are the mode of its
    distribution.

    `PolicyTask(env, descriptor)`: the default descriptor is the mean of the observations.
    """

    env: Env
    descriptor: Callable[[Transition, jax.Array], jax.Array] = static(default=mean_observation)
    network: networks.Builder = static(default=networks.MLP((32,)))

    def _network(self) -> networks.Recurrent:
        return networks.build(self.network, None, self.env.action_space.heads)

    def init(self, key: jax.Array) -> Genotype:
        check_is_env(self.env, self)
        check_single_agent(
            self.env,
            f"{type(self).__name__} plays one agent",
            "write rl.Versus(env), one seat of it",
        )
        key_env, key_net = jax.random.split(key)
        return self._network().init(key_net, self.env.reset(key_env)[1])

    def policy(self, genotype: Genotype) -> Policy:
        def act(key: jax.Array, episode: Episode) -> tuple[Any, Any, tuple[()]]:
            obs = jax.tree.map(lambda x: jnp.asarray(x)[None], episode.obs)
            _, out = self._network().apply(genotype, (), obs, jnp.zeros(1, bool))
            policy = self.env.action_space.policy(jax.tree.map(lambda x: x[0], out))
            return (), policy.mode(), ()

        return Policy(act)
