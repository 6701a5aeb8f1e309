"""Go-Explore's exploration phase: return to a saved state, then explore from there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.algorithms.base import Agent, Algorithm
from jaxrl.archives.archive import Archive, check_memory, empty
from jaxrl.archives.cells import Cells, check_descriptor, find_cell
from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.env import Env, check_copies, check_is_env
from jaxrl.errors import check_counts
from jaxrl.masks import mask_of, visible
from jaxrl.rollout import Episode, Policy
from jaxrl.rules.base import check_field
from jaxrl.spaces import is_allowed
from jaxrl.team_checks import check_single_agent
from jaxrl.tree import leaf, pytree, static

Describe = Callable[[Any, Any], jax.Array]  # (state, observation) -> descriptor [D]


def flat_observation(state: Any, obs: Any) -> jax.Array:
    """The observation as a vector. [D]."""
    return tree.flat(visible(obs))


@pytree
class Saved:
    """A state of the environment, which was reached by `actions[:length]`, and the return so far.

    actions: [max_steps, ...], 0 from `length` on.
    """

    state: Any
    obs: Any
    episode_return: jax.Array
    length: jax.Array
    actions: Any


@pytree
class State:
    """The archive of saved states; the number of visits to each cell since its state was last
    replaced, `seen` [C]; and the best episode so far.

    best_actions: the actions of the episode with the highest return, `best_return`, which took
    `best_length` steps.
    """

    archive: Archive
    seen: jax.Array
    best_return: jax.Array
    best_length: jax.Array
    best_actions: Any
    clock: Clock

    @property
    def params(self) -> Any:
        return self.best_actions


@pytree
class GoExplore(Algorithm):
    """The exploration phase of Go-Explore (Ecoffet et al., 2021), without a policy: one state is
    saved per cell; in each update, `walkers` parallel environments restore saved states and explore
    from there with random actions.

    A saved state is replaced by another one of its cell with a higher return, or with the same
    return in fewer steps. It is chosen with a weight of 1 / sqrt(seen + 1), where `seen` is the
    number of visits to its cell since it was saved. `evaluation` replays the actions of the best
    episode from the start; in a stochastic environment they need not reach the same return. The
    robustification phase learns a policy from that episode: `rl.teachers.demonstrate`, `Starts` and
    `Backward`.

    cells: of descriptors. describe: the descriptor of a state and its observation; by default the
    observation as a vector. repeat: the probability of repeating the previous action, if the
    observation's mask allows it. walkers: number of parallel environments. num_steps: of each in
    an update, unless its episode ends.
    """

    cells: Cells
    describe: Describe = static(default=flat_observation)
    repeat: float = leaf(0.95, "[0, 1]")
    walkers: int = static(default=16)
    num_steps: int = static(default=100)

    def __post_init__(self) -> None:
        check_counts(self, "walkers", "num_steps")
        check_field(self, "cells", Cells, "rl.archives.Grid(low, high, shape)")

    @property
    def steps_per_update(self) -> int:
        return self.walkers * self.num_steps

    def init(
        self, key: jax.Array, env: Env, num_updates: jax.Array | float = float("inf")
    ) -> State:
        check_is_env(env, self)
        check_single_agent(
            env,
            "GoExplore explores with one agent",
            "take rl.ppo(), which learns from all of them, or write rl.Versus(env), one seat of it",
        )
        check_copies(env, "GoExplore stores states", "use rl.ppo() with an exploration bonus")
        state, obs = env.reset(key)
        action = jax.eval_shape(env.action_space.sample, jax.random.key(0))
        actions = jax.tree.map(lambda x: jnp.zeros((env.max_steps, *x.shape), x.dtype), action)
        first = Saved(state, obs, jnp.float32(0.0), jnp.int32(0), actions)
        first = jax.tree.map(jnp.asarray, first)
        descriptor = self.describe(state, obs)
        check_descriptor(descriptor, self.cells, f"{type(self).__name__}.describe")
        check_memory(self.cells.num_cells, self.steps_per_update, first, self)
        archive = empty(self.cells.num_cells, first)
        cell = find_cell(self.cells, descriptor)[None]
        archive, _ = archive.put(cell, jax.tree.map(lambda x: x[None], first), jnp.zeros(1))
        return State(
            archive=archive,
            seen=jnp.zeros(self.cells.num_cells),
            best_return=jnp.float32(-jnp.inf),
            best_length=jnp.int32(0),
            best_actions=actions,
            clock=start_clock(num_updates),
        )

    def update(self, key: jax.Array, env: Env, state: State) -> tuple[State, Metrics]:
        """Return the state after the walkers' steps, and metrics: `cells_found`; `best_return`, of
        whole episodes so far; `episodes` that ended, and their mean `return` and `length`.
        """
        key_draw, key_first, key_walk = jax.random.split(key, 3)
        chosen, _ = state.archive.draw(key_draw, self.walkers, jax.lax.rsqrt(state.seen + 1.0))
        sample = jax.vmap(env.action_space.sample)
        # without a mask, as a step replaces a last action that is not allowed
        first = sample(jax.random.split(key_first, self.walkers))
        keys = jax.random.split(key_walk, (self.num_steps, self.walkers))
        start = chosen, first, jnp.ones(self.walkers, bool)
        walk = lambda now, keys: jax.vmap(lambda now, key: self._step(env, now, key))(now, keys)
        _, (saved, alive, ended) = jax.lax.scan(walk, start, keys)
        flat = lambda x: x.reshape(-1, *x.shape[2:])
        saved, alive, ended = jax.tree.map(flat, (saved, alive, ended))
        describe = lambda one: self.describe(one.state, one.obs)
        cell = jax.vmap(lambda one: find_cell(self.cells, describe(one)))(saved)
        cell = jnp.where(alive & ~ended, cell, -1)  # nothing follows a final state
        returns, shorter = saved.episode_return, -saved.length
        archive, entered = state.archive.put(
            cell, saved, returns, tie=shorter, tie_before=-state.archive.items.length
        )
        num = self.cells.num_cells
        visits = jax.ops.segment_sum(jnp.ones(cell.shape), jnp.where(cell < 0, num, cell), num + 1)
        replaced = (
            jnp.zeros(num, bool).at[jnp.where(entered.enters, cell, num)].set(True, mode="drop")
        )
        seen = jnp.where(replaced, 0.0, state.seen + visits[:num])
        over = alive & ended
        best = jnp.lexsort((shorter, jnp.where(over, returns, -jnp.inf)))[-1]
        better = over[best] & (returns[best] > state.best_return)
        now = (returns[best], saved.length[best])
        now += (jax.tree.map(lambda x: x[best], saved.actions),)
        before = state.best_return, state.best_length, state.best_actions
        mean = lambda x: jnp.sum(x * over) / over.sum()
        new_state = State(archive, seen, *tree.where(better, now, before), state.clock.tick())
        return new_state, {
            "cells_found": archive.filled.sum(),
            "best_return": new_state.best_return,
            "episodes": over.sum(),
            "return": mean(returns),
            "length": mean(saved.length),
        }

    def _step(
        self, env: Env, now: tuple[Saved, Any, jax.Array], key: jax.Array
    ) -> tuple[tuple[Saved, Any, jax.Array], tuple[Saved, jax.Array, jax.Array]]:
        """One walker after a step: its saved state, last action, and True while its episode
        continues; then that state, True if it was active before, and True if the episode ended.
        """
        saved, action, alive = now
        key_repeat, key_action, key_step = jax.random.split(key, 3)
        mask = mask_of(saved.obs)
        repeats = jax.random.bernoulli(key_repeat, self.repeat)
        repeats &= is_allowed(env.action_space, action, mask)
        action = tree.where(repeats, action, env.action_space.sample(key_action, mask))
        state, step = env.step(key_step, saved.state, action)
        put = lambda old, new: old.at[saved.length].set(new)
        after = Saved(
            state,
            step.obs,
            saved.episode_return + jnp.asarray(step.reward, jnp.float32),
            saved.length + 1,
            jax.tree.map(put, saved.actions, action),
        )
        ended = step.terminated | (after.length >= env.max_steps)
        after = tree.where(alive, after, saved)
        return (after, action, alive & ~ended), (after, alive, ended)

    def agent(self, state: State) -> Agent:
        """The actions of the best episode. [max_steps, ...]."""
        return state.best_actions

    def policy(self, env: Env, agent: Agent, greedy: bool) -> Policy:
        """The actions of the best episode in order, open loop: observations are ignored."""

        def act(key: jax.Array, episode: Episode) -> tuple[tuple[()], Any, tuple[()]]:
            return (), jax.tree.map(lambda x: x[episode.length], agent), ()

        return Policy(act)
