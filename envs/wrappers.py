"""Environments that hold an environment, and change one thing about it.

They nest, the innermost first: `FrameStack(ActionRepeat(StickyActions(game), 4), 4)` sticks at each
frame of the game, repeats what it is told for four of them, and shows the last four frames at which
an action was chosen.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Step
from jaxrl.spaces import Masked, Space, visible, with_visible
from jaxrl.tree import pytree, replace, static, where


def _draw(self: Any) -> Callable[..., None]:
    """The drawing of the environment inside; an AttributeError where that has none, so that
    `plot.gif` can say so.
    """
    return self.env.draw


def _draw_world(self: Any) -> Callable[..., None]:
    draw = self.env.draw
    return lambda ax, state: draw(ax, state.world)


# ------------------------------------------------------------------------------------- what is seen


@pytree
class Frames:
    """The world inside, and the last observations side by side, the newest last."""

    world: Any
    frames: Any


@pytree
class FrameStack:
    """Shows the last `num` observations at once (Mnih et al., 2015): what moves can be seen by a
    network without memory.

    Vectors are joined end to end [num * d], images [height, width, channels] along their channels,
    the newest last; numbers and images without channels get a last axis [num]. An episode starts
    with its first observation `num` times. Of an action mask the newest counts.
    """

    env: Any
    num: int = static(default=4)
    draw = property(_draw_world)

    @property
    def max_steps(self) -> int:
        return self.env.max_steps

    @property
    def action_space(self) -> Space:
        return self.env.action_space

    def __post_init__(self) -> None:
        _check_num(self)

    def reset(self, key: jax.Array) -> tuple[Frames, Any]:
        world, obs = self.env.reset(key)
        frames = jax.tree.map(lambda x: jnp.concatenate([_frame(x)] * self.num, -1), visible(obs))
        return Frames(world, frames), with_visible(obs, frames)

    def step(self, key: jax.Array, state: Frames, action: jax.Array) -> tuple[Frames, Step]:
        world, step = self.env.step(key, state.world, action)
        push = lambda frames, x: jnp.concatenate(
            [frames[..., _frame(x).shape[-1] :], _frame(x)], -1
        )
        frames = jax.tree.map(push, state.frames, visible(step.obs))
        return Frames(world, frames), replace(step, obs=with_visible(step.obs, frames))


def _frame(x: jax.Array) -> jax.Array:
    return x[..., None] if x.ndim in (0, 2) else x


@pytree
class Observe:
    """Shows some entries of a vector: `Observe(envs.make("Pendulum-v1"), keep=(0, 1))` hides the
    velocity.
    """

    env: Any
    keep: tuple[int, ...] = static()
    draw = property(_draw)

    @property
    def max_steps(self) -> int:
        return self.env.max_steps

    @property
    def action_space(self) -> Space:
        return self.env.action_space

    def reset(self, key: jax.Array) -> tuple[Any, Any]:
        state, obs = self.env.reset(key)
        return state, self._see(obs)

    def step(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        state, step = self.env.step(key, state, action)
        return state, replace(step, obs=self._see(step.obs))

    def _see(self, obs: Any) -> Any:
        x = visible(obs)
        if jnp.ndim(x) != 1 or not self.keep or not all(0 <= i < len(x) for i in self.keep):
            shapes = jax.tree.map(jnp.shape, x)
            raise ValueError(
                f"Observe(keep={self.keep!r}) shows entries of a vector, counted from 0, but "
                "the observation has shape "
                f"{shapes}. Write keep=(0,) for the first entry of a vector."
            )
        return with_visible(obs, x[np.array(self.keep)])


# ------------------------------------------------------------------------------------- what is done


@pytree
class ActionRepeat:
    """Does each action `num` times, or until the episode terminates; the rewards are summed.

    Shown is what the last of these steps led to. The clock counts actions, so `max_steps` is
    divided by `num`, rounded up: an episode that ends by itself is never cut off before it does,
    and one that is cut off may have had `num` - 1 more steps of the environment inside than its own
    `max_steps`.
    """

    env: Any
    num: int = static(default=4)
    draw = property(_draw)

    @property
    def action_space(self) -> Space:
        return self.env.action_space

    @property
    def max_steps(self) -> int:
        return -(-self.env.max_steps // self.num)

    def __post_init__(self) -> None:
        _check_num(self)

    def reset(self, key: jax.Array) -> tuple[Any, Any]:
        state, obs = self.env.reset(key)
        _check_unmasked(self, obs)
        return state, obs

    def step(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        def again(now: tuple[Any, Step], i: jax.Array) -> tuple[tuple[Any, Step], None]:
            state, so_far = now
            state, step = self.env.step(jax.random.fold_in(key, i), state, action)
            step = replace(step, reward=so_far.reward + step.reward)
            return where(so_far.terminated, now, (state, step)), None

        _, kinds = jax.eval_shape(self.env.step, key, state, action)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), kinds)
        return jax.lax.scan(again, (state, nothing), jnp.arange(self.num))[0]


@pytree
class Habit:
    """The world inside, the action that was last done in it, and whether any was."""

    world: Any
    action: jax.Array
    acted: jax.Array


@pytree
class StickyActions:
    """With `probability` does again what was last done, and not what it is told (Machado et al.,
    2018, section 5.2).

    What was last done may itself have stuck. The first action of an episode never sticks.
    """

    env: Any
    probability: jax.Array | float = 0.25
    draw = property(_draw_world)

    @property
    def max_steps(self) -> int:
        return self.env.max_steps

    @property
    def action_space(self) -> Space:
        return self.env.action_space

    def reset(self, key: jax.Array) -> tuple[Habit, Any]:
        world, obs = self.env.reset(key)
        _check_unmasked(self, obs)
        action = jax.eval_shape(self.env.action_space.sample, key)
        return Habit(world, jnp.zeros(action.shape, action.dtype), jnp.bool_(False)), obs

    def step(self, key: jax.Array, state: Habit, action: jax.Array) -> tuple[Habit, Step]:
        key_stick, key_step = jax.random.split(key)
        sticks = state.acted & (jax.random.uniform(key_stick) < self.probability)
        done = jnp.where(sticks, state.action, jnp.asarray(action, state.action.dtype))
        world, step = self.env.step(key_step, state.world, done)
        return Habit(world, done, jnp.bool_(True)), step


# ------------------------------------------------------------------------------------- what it pays


@pytree
class RewardScale:
    """Pays `scale` times as much: a leaf, so it can be swept."""

    env: Any
    scale: jax.Array | float = 1.0
    draw = property(_draw)

    @property
    def max_steps(self) -> int:
        return self.env.max_steps

    @property
    def action_space(self) -> Space:
        return self.env.action_space

    def reset(self, key: jax.Array) -> tuple[Any, Any]:
        return self.env.reset(key)

    def step(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        state, step = self.env.step(key, state, action)
        return state, replace(step, reward=self.scale * step.reward)


def _check_num(self: Any) -> None:
    if not isinstance(self.num, int) or self.num < 1:
        raise ValueError(
            f"{type(self).__name__} takes num={self.num!r}, which is no count: write num=1 or more."
        )


def _check_unmasked(self: Any, obs: Any) -> None:
    if isinstance(obs, Masked):
        raise TypeError(
            f"{type(self).__name__} does an action again, which the next observation's mask "
            "may forbid: it takes no "
            "environment with masks. Repeat the action inside the environment, where its rules "
            "are known."
        )
