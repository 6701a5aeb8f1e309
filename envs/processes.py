"""Families of finite processes for studies of exploration: random, drifting, grouped, locked.

Rewards are in [0, 1], and depend on the state and the action alone. Each maker takes a key or an
integer seed and is pure, so that `jax.vmap` over keys makes a family.
"""

import jax
import jax.numpy as jnp

from jaxrl.keys import as_key
from jaxrl.tree import pytree

from .tabular import TabularMDP, garnet


def bounded(
    key: jax.Array | int,
    num_states: int = 10,
    num_actions: int = 3,
    branching: int = 3,
    density: float = 1.0,
    max_steps: int = 100,
) -> TabularMDP:
    """Return a random process, as `tabular.garnet`, with uniform rewards and a fixed first state.

    branching: number of states that an action leads to; 1 for a deterministic process.
    density: probability that a pair of state and action has a reward.
    """
    key_moves, key_reward, key_some = jax.random.split(as_key(key), 3)
    pairs = (num_states, num_actions, 1)
    reward = jax.random.uniform(key_reward, pairs)
    some = jax.random.uniform(key_some, pairs) < density
    transition = garnet(key_moves, num_states, num_actions, branching).transition
    return _process(transition, jnp.where(some, reward, 0.0), max_steps)


def latent_groups(
    key: jax.Array | int,
    num_states: int = 5,
    num_actions: int = 64,
    num_groups: int = 8,
    spread: jax.Array | float = 0.1,
    max_steps: int = 100,
) -> TabularMDP:
    """Return a process in which the actions of a latent group have similar effects.

    Action a is in group a % num_groups. A group has random transition probabilities (uniform in the
    simplex) and uniform rewards; those of an action are `1 - spread` times these plus `spread`
    times its own.
    """
    key_probs, key_reward, key_own_probs, key_own_reward = jax.random.split(as_key(key), 4)
    simplex = lambda key, num: jax.random.dirichlet(key, jnp.ones(num_states), (num_states, num))
    uniform = lambda key, num: jax.random.uniform(key, (num_states, num, 1))
    group = jnp.arange(num_actions) % num_groups
    blend = lambda common, own: (1 - spread) * common[:, group] + spread * own
    return _process(
        blend(simplex(key_probs, num_groups), simplex(key_own_probs, num_actions)),
        blend(uniform(key_reward, num_groups), uniform(key_own_reward, num_actions)),
        max_steps,
    )


def lock(
    key: jax.Array | int,
    depth: int = 5,
    num_actions: int = 3,
    num_states: int | None = None,
    slip: jax.Array | float = 0.0,
    distraction: jax.Array | float = 0.0,
    max_steps: int = 100,
) -> TabularMDP:
    """Return a combination lock: in each of `depth` states one random action leads on, the others
    to a dead end; the last step gives the reward 1, once.

    States: 0 to depth - 1, the end `depth`, the dead end `depth + 1`, and others that are not
    reached up to num_states. slip: probability that a right action leads to the dead end too.
    distraction: reward of a wrong action.
    """
    num_states = depth + 2 if num_states is None else num_states
    if num_states < depth + 2:
        raise ValueError(
            f"A lock of depth {depth} has {depth + 2} states: write num_states={depth + 2} or more."
        )
    states = jnp.arange(num_states)
    locked = (states < depth)[:, None]
    code = jax.random.randint(as_key(key), (num_states, 1), 0, num_actions)
    right = (jnp.arange(num_actions)[None] == code) & locked
    place = jnp.eye(num_states)
    ahead, dead = place[jnp.minimum(states + 1, depth)], place[None, depth + 1]
    moves = jnp.where(right[..., None], ((1 - slip) * ahead + slip * dead)[:, None], dead[None])
    transition = jnp.where(locked[..., None], moves, place[:, None])
    last = right & (states == depth - 1)[:, None]
    reward = jnp.where(last, 1.0 - slip, jnp.where(locked & ~right, distraction, 0.0))
    return _process(transition, reward[..., None], max_steps)


@pytree
class Drifting:
    """A process that moves on straight lines between M others: `drift(share)` is the process after
    a share of the time, in [0, 1].

    transition: [M, S, A, S]. reward: [M, S, A, 1].
    """

    transition: jax.Array
    reward: jax.Array

    def __call__(self, share: jax.Array | float) -> TabularMDP:
        at = jnp.asarray(share) * (len(self.transition) - 1)
        before = jnp.clip(at.astype(jnp.int32), 0, len(self.transition) - 2)
        blend = lambda x: x[before] + (at - before) * (x[before + 1] - x[before])
        return _process(blend(self.transition), blend(self.reward))


def drifting(
    key: jax.Array | int,
    num_states: int = 5,
    num_actions: int = 3,
    num_points: int = 3,
    change: jax.Array | float = 1.0,
    branching: int = 3,
) -> Drifting:
    """Return a drifting process: it moves from one random process (`bounded`) to others.

    num_points: M. change: share of the way that it moves to the others; 0 is a fixed process.
    """
    keys = jax.random.split(as_key(key), num_points)
    found = jax.vmap(lambda key: bounded(key, num_states, num_actions, branching))(keys)
    part = lambda x: x[:1] + change * (x - x[:1])
    return Drifting(part(found.transition), part(found.reward))


def _process(transition: jax.Array, reward: jax.Array, max_steps: int = 100) -> TabularMDP:
    num_states = transition.shape[-1]
    return TabularMDP(
        transition=transition,
        reward=reward,
        terminal=jnp.zeros(num_states, bool),
        start=jnp.eye(num_states)[0],
        max_steps=max_steps,
    )
