"""Environments that wrap another environment and change one aspect of it.

They can be nested, and the innermost is applied first:
`FrameStack(ActionRepeat(StickyActions(game), 4), 4)` makes actions
sticky at each frame of the game, repeats each action for four frames, and stacks the last four
frames at which an action was selected. Teams (`Env.num_agents`) are wrapped agent by agent.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Obs, State, Step
from jaxrl.spaces import Masked, Space, visible, with_visible
from jaxrl.tree import pytree, replace, static, where


@pytree
class Wrapper(Env):
    """Base class of wrappers: the wrapped environment, unchanged.

    A subclass under `@pytree` overrides what it changes. One that has a state of its own, with the
    state of the environment inside as its field `inner`, has `draw_inner` as its `draw`.
    """

    env: Env

    @property
    def max_steps(self) -> int:
        return self.env.max_steps

    @property
    def action_space(self) -> Space:
        return self.env.action_space

    @property
    def num_agents(self) -> int | None:
        return self.env.num_agents

    @property
    def shared_reward(self) -> bool:
        return self.env.shared_reward

    @property
    def roles(self) -> tuple[int, ...]:
        return self.env.roles

    @property
    def channels(self) -> tuple[str, ...]:
        return self.env.channels

    @property
    def on_host(self) -> bool:
        return self.env.on_host

    @property
    def draw(self) -> Callable[..., None] | None:
        return self.env.draw

    def __str__(self) -> str:
        return f"{self.env} in {type(self).__name__}"

    def reset(self, key: jax.Array) -> tuple[State, Obs]:
        return self.env.reset(key)

    def step(self, key: jax.Array, state: State, action: jax.Array) -> tuple[State, Step]:
        return self.env.step(key, state, action)


def draw_inner(self: Any) -> Callable[..., None] | None:
    """Drawing of the environment inside, for a wrapper with states that have a field `inner`."""
    draw = self.env.draw
    return None if draw is None else lambda ax, state: draw(ax, state.inner)


def _team(env: Any) -> tuple[int, ...]:
    """Leading axes of what each agent has: () for a single agent, else (A,)."""
    return () if env.num_agents is None else (env.num_agents,)


# ------------------------------------------------------------------------------------- observations


@pytree
class Frames:
    """State of the environment inside, and the last observations side by side, the newest last."""

    inner: Any
    frames: Any


@pytree
class FrameStack(Wrapper):
    """The last `num` observations as one (Mnih et al., 2015), so that motion is visible to a
    network without memory.

    Vectors are joined end to end [num * d], images [height, width, channels] along their channels,
    the newest last; scalars and images without channels get a last axis [num]. At the start of an
    episode the first observation is repeated `num` times. The action mask is the newest one.
    """

    num: int = static(default=4)

    @property
    def draw(self) -> Callable[..., None] | None:
        return draw_inner(self)

    def __post_init__(self) -> None:
        _check_num(self)

    def reset(self, key: jax.Array) -> tuple[Frames, Any]:
        inner, obs = self.env.reset(key)
        repeat = lambda x: jnp.concatenate([self._frame(x)] * self.num, -1)
        frames = jax.tree.map(repeat, visible(obs))
        return Frames(inner, frames), with_visible(obs, frames)

    def step(self, key: jax.Array, state: Frames, action: jax.Array) -> tuple[Frames, Step]:
        inner, step = self.env.step(key, state.inner, action)

        def push(frames: jax.Array, x: jax.Array) -> jax.Array:
            newest = self._frame(x)
            return jnp.concatenate([frames[..., newest.shape[-1] :], newest], -1)

        frames = jax.tree.map(push, state.frames, visible(step.obs))
        return Frames(inner, frames), replace(step, obs=with_visible(step.obs, frames))

    def _frame(self, x: jax.Array) -> jax.Array:
        ndim = x.ndim - len(_team(self.env))
        return x[..., None] if ndim in (0, 2) else x


@pytree
class Observe(Wrapper):
    """Some entries of a vector observation: `Observe(rl.envs.make("Pendulum-v1"), keep=(0, 1))`
    hides the velocity.
    """

    keep: tuple[int, ...] = static()

    def reset(self, key: jax.Array) -> tuple[State, Obs]:
        state, obs = self.env.reset(key)
        return state, self._select(obs)

    def step(self, key: jax.Array, state: State, action: jax.Array) -> tuple[State, Step]:
        state, step = self.env.step(key, state, action)
        return state, replace(step, obs=self._select(step.obs))

    def _select(self, obs: Any) -> Any:
        x = visible(obs)
        is_vector = jnp.ndim(x) - len(_team(self.env)) == 1
        if not is_vector or not self.keep or not all(0 <= i < x.shape[-1] for i in self.keep):
            shapes = jax.tree.map(jnp.shape, x)
            raise ValueError(
                f"Observe(keep={self.keep!r}) selects entries of a vector, counted from 0, but the "
                f"observation has shape {shapes}. Write keep=(0,) for the first entry of a vector."
            )
        return with_visible(obs, x[..., np.array(self.keep)])


# ------------------------------------------------------------------------------------------ actions


@pytree
class ActionRepeat(Wrapper):
    """Each action repeated `num` times, or until the episode terminates; rewards and channels are
    summed.

    The observation is that of the last of these steps. The step counter counts actions, so
    `max_steps` is divided by `num` and rounded up: an episode that terminates is never truncated
    before it does, and a truncated one may have up to `num` - 1 more inner steps than the inner
    `max_steps`.
    """

    num: int = static(default=4)

    @property
    def max_steps(self) -> int:
        return -(-self.env.max_steps // self.num)

    def __post_init__(self) -> None:
        _check_num(self)

    def reset(self, key: jax.Array) -> tuple[State, Obs]:
        state, obs = self.env.reset(key)
        _check_unmasked(self, obs)
        return state, obs

    def step(self, key: jax.Array, state: State, action: jax.Array) -> tuple[State, Step]:
        def repeat(now: tuple[Any, Step], i: jax.Array) -> tuple[tuple[Any, Step], None]:
            state, so_far = now
            state, step = self.env.step(jax.random.fold_in(key, i), state, action)
            sums = {name: so_far.info[name] + step.info[name] for name in self.channels}
            step = replace(step, reward=so_far.reward + step.reward, info=step.info | sums)
            ended = so_far.terminated if self.num_agents is None else so_far.terminated.all()
            return where(ended, now, (state, step)), None

        _, shapes = jax.eval_shape(self.env.step, key, state, action)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.scan(repeat, (state, zeros), jnp.arange(self.num))[0]


@pytree
class LastAction:
    """State of the environment inside, the action that was executed last, and True once there is
    one.
    """

    inner: Any
    action: jax.Array
    acted: jax.Array


@pytree
class StickyActions(Wrapper):
    """With `probability`, the last executed action is repeated instead of the selected one (Machado
    et al., 2018, section 5.2).

    The last executed action may itself have been a repetition. The first action of an episode is
    always the selected one. In a team each agent repeats independently.
    """

    probability: jax.Array | float = 0.25

    @property
    def draw(self) -> Callable[..., None] | None:
        return draw_inner(self)

    def reset(self, key: jax.Array) -> tuple[LastAction, Any]:
        inner, obs = self.env.reset(key)
        _check_unmasked(self, obs)
        action = jax.eval_shape(self.env.action_space.sample, key)
        none = jnp.zeros(_team(self.env) + action.shape, action.dtype)
        return LastAction(inner, none, jnp.bool_(False)), obs

    def step(self, key: jax.Array, state: LastAction, action: jax.Array) -> tuple[LastAction, Step]:
        key_stick, key_step = jax.random.split(key)
        uniform = jax.random.uniform(key_stick, _team(self.env))
        sticks = state.acted & (uniform < self.probability)
        executed = where(sticks, state.action, jnp.asarray(action, state.action.dtype))
        inner, step = self.env.step(key_step, state.inner, executed)
        return LastAction(inner, executed, jnp.bool_(True)), step


@pytree
class TaskId(Wrapper):
    """One of `num_tasks` tasks, with its number in the observation, as for multi-task training in
    Meta-World (Yu et al., 2020).

    The one-hot number is appended to a vector [d], [d + num_tasks]. An integer observation below
    `size` becomes task * size + observation, for `rl.Table(num_tasks * size)`.

    task: the number, a leaf: `LevelSet(TaskId(levels, jnp.arange(L), L))` is a set of tasks.
    """

    task: jax.Array | int = 0
    num_tasks: int = static(default=1)
    size: int = static(default=0)

    def reset(self, key: jax.Array) -> tuple[State, Obs]:
        state, obs = self.env.reset(key)
        return state, self._numbered(obs)

    def step(self, key: jax.Array, state: State, action: jax.Array) -> tuple[State, Step]:
        state, step = self.env.step(key, state, action)
        return state, replace(step, obs=self._numbered(step.obs))

    def _numbered(self, obs: Any) -> jax.Array:
        is_index = jnp.issubdtype(jnp.result_type(obs), jnp.integer)
        if jnp.ndim(obs) != (0 if is_index else 1) or is_index != (self.size > 0):
            raise TypeError(
                f"TaskId with size={self.size} can't add a number to observations "
                f"{jax.eval_shape(lambda: obs)}: of integers [], write size=the number of their "
                "values; of vectors [d], leave size out."
            )
        if is_index:
            return (self.task * self.size + obs).astype(jnp.int32)
        return jnp.append(obs, jax.nn.one_hot(self.task, self.num_tasks))


# ----------------------------------------------------------------------------- rewards and channels


@pytree
class RewardScale(Wrapper):
    """Rewards times `scale`: a leaf, so it can be swept."""

    scale: jax.Array | float = 1.0

    def step(self, key: jax.Array, state: State, action: jax.Array) -> tuple[State, Step]:
        state, step = self.env.step(key, state, action)
        return state, replace(step, reward=self.scale * step.reward)


@pytree
class WithChannel(Wrapper):
    """One more channel in `Step.info`: `function(action, step)`, a float [] or [K] (a team: [A] or
    [A, K]).

    For example a cost: `WithChannel(env, "cost", lambda action, step: jnp.abs(action).sum())`.
    """

    name: str = static()
    function: Callable[[Any, Step], jax.Array] = static()

    @property
    def channels(self) -> tuple[str, ...]:
        return (*self.env.channels, self.name)

    def step(self, key: jax.Array, state: State, action: jax.Array) -> tuple[State, Step]:
        state, step = self.env.step(key, state, action)
        if self.name in step.info:
            raise ValueError(
                f"WithChannel adds {self.name!r} to the info of a step, which already has it: "
                "write another name=."
            )
        value = jnp.asarray(self.function(action, step), jnp.float32)
        return state, replace(step, info=step.info | {self.name: value})


# -------------------------------------------------------------------------------------------- teams


@pytree
class Copies:
    """States of the copies [A], and which of them have terminated, bool [A]."""

    inner: Any
    terminated: jax.Array


@pytree
class AsTeam(Wrapper):
    """A single-agent environment as a team of `size` independent copies, with one agent each.

    Observations, rewards, `terminated` and what is in `info` have a leading axis [size]. A copy
    that has terminated stays terminated, with reward and channels 0, until the others have; its
    observations have no meaning. A team of size 1 uses the same keys as the wrapped environment, so
    both play the same episodes.
    """

    size: int = static(default=1)

    @property
    def draw(self) -> None:
        return None

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise ValueError(
                f"AsTeam takes size={self.size!r}, which is not a count: write size=1 or more."
            )

    @property
    def num_agents(self) -> int:
        return self.size

    @property
    def shared_reward(self) -> bool:
        return False

    def reset(self, key: jax.Array) -> tuple[Copies, Any]:
        if self.env.num_agents is not None:
            raise TypeError(
                f"AsTeam makes a team of copies of a single-agent environment, and got "
                f"{type(self.env).__name__}, a team of {self.env.num_agents}. Write the team alone."
            )
        inner, obs = jax.vmap(self.env.reset)(self._keys(key))
        return Copies(inner, jnp.zeros(self.size, bool)), obs

    def step(self, key: jax.Array, state: Copies, action: jax.Array) -> tuple[Copies, Step]:
        inner, step = jax.vmap(self.env.step)(self._keys(key), state.inner, action)
        over = state.terminated
        zero = lambda x: where(over, jnp.zeros_like(x), x)
        channels = {name: zero(step.info[name]) for name in self.channels}
        terminated = over | step.terminated
        step = replace(
            step,
            reward=zero(step.reward),
            terminated=terminated,
            info=step.info | channels,
        )
        return Copies(where(over, state.inner, inner), terminated), step

    def _keys(self, key: jax.Array) -> jax.Array:
        return key[None] if self.size == 1 else jax.random.split(key, self.size)


def _check_num(self: Any) -> None:
    if not isinstance(self.num, int) or self.num < 1:
        raise ValueError(
            f"{type(self).__name__} takes num={self.num!r}, which is not a count: write num=1 or "
            "more."
        )


def _check_unmasked(self: Any, obs: Any) -> None:
    if isinstance(obs, Masked):
        raise TypeError(
            f"{type(self).__name__} repeats an action, which the next observation's mask may "
            "forbid, so it takes no environment with action masks. Repeat actions inside the "
            "environment, where its rules are known."
        )
