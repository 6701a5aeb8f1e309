"""Environments that step on the host, such as those of gymnasium.

They step in Python or C++ outside the compiled program, which calls the host once for each step of
all B environments of a rollout. Their state there can't be copied. Therefore they can't be vmapped
over parameters or seeds (`rl.sweep`), states can't be duplicated, and training can't be resumed; a
training run has one seed, with `rl.train` or `jax.jit(training)`.

A reset opens a pool: as many environments as are reset together. A training run and its evaluations
have separate pools. At most `MAX_OPEN` pools are open; a further one replaces the least recently
used, and `close()` closes all.
"""

import atexit
import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.experimental import io_callback

from jaxrl.env import Env, Step
from jaxrl.errors import not_defined
from jaxrl.spaces import Space
from jaxrl.tree import pytree, static

MAX_OPEN = 3  # for a training run, its evaluations, and one more, such as a later `rl.evaluate`

# ---------------------------------------------------------------------------------- on the device


@pytree
class Ticket:
    """State of an environment on the host.

    pool: number of its pool. step: number of steps that the pool has taken, so that each step
    depends on the previous one and a second step from the same state is detected. fresh: the first
    observation of the next episode if the last step ended one, else the observation.
    """

    pool: jax.Array
    step: jax.Array
    fresh: jax.Array


@dataclasses.dataclass(frozen=True)
class Source:
    """Base class of factories of environments on the host: hashable settings."""

    def open(self, num_envs: int) -> "Vector":
        """Return B = `num_envs` environments that are not reset yet."""
        raise not_defined(self, Source.open)


@pytree
class HostEnv(Env):
    """An environment on the host. Truncation is by `max_steps` alone.

    obs: shape and type of an observation.
    """

    action_space: Space
    source: Source = static()
    obs: jax.ShapeDtypeStruct = static()
    max_steps: int = static()

    on_host = True

    def reset(self, key: jax.Array) -> tuple[Ticket, jax.Array]:
        """Open a pool, or reuse the least recently used one; `key` seeds its initial states."""
        host = functools.partial(_reset, self.source, self.max_steps)
        seed = jax.random.bits(key, (), jnp.uint32)
        pool, step, obs = call_host(host, (COUNT, COUNT, self.obs), seed)
        return Ticket(pool, step, obs), obs

    def restart(self, key: jax.Array, state: Ticket) -> tuple[Ticket, jax.Array]:
        """The next episode, which the host began in the step that ended the previous one."""
        return state, state.fresh

    def step(self, key: jax.Array, state: Ticket, action: jax.Array) -> tuple[Ticket, Step]:
        shapes = (COUNT, self.obs, REWARD, FLAG, self.obs)
        step, obs, reward, terminated, fresh = call_host(
            _step, shapes, state.pool, state.step, action
        )
        return Ticket(state.pool, step, fresh), Step(obs, reward, terminated, {})

    def __str__(self) -> str:
        return str(self.source)


COUNT = jax.ShapeDtypeStruct((), jnp.int32)
REWARD = jax.ShapeDtypeStruct((), jnp.float32)
FLAG = jax.ShapeDtypeStruct((), jnp.bool_)


def call_host(host: Callable[..., Any], shapes: Any, *arguments: jax.Array) -> Any:
    """The results of `host`, called in program order, and once for all elements of a vmap.

    host: a function from NumPy arrays [B, ...] to NumPy arrays [B, ...]; B is 1 outside of vmap.
    shapes: of the results without [B].

    Raises:
      TypeError: the call is inside nested vmaps; raised before anything is compiled.
    """

    def call(num: int, arguments: Any) -> Any:
        of_all = jax.tree.map(lambda x: jax.ShapeDtypeStruct((num, *x.shape), x.dtype), shapes)
        return io_callback(host, of_all, *_not_mapped(arguments), ordered=True)

    @custom_vmap
    def call_one(*arguments: jax.Array) -> Any:
        found = call(1, jax.tree.map(lambda x: jnp.asarray(x)[None], arguments))
        return jax.tree.map(lambda x: x[0], found)

    @call_one.def_vmap
    def call_all(num: int, mapped: Any, *arguments: jax.Array) -> Any:
        spread = lambda x, is_mapped: x if is_mapped else jnp.broadcast_to(x, (num, *x.shape))
        found = call(num, tuple(map(spread, arguments, mapped)))
        return found, jax.tree.map(lambda _: True, found)

    return call_one(*arguments)


@custom_vmap
def _not_mapped(arguments: Any) -> Any:
    return arguments


@_not_mapped.def_vmap
def _refuse(num: int, mapped: Any, arguments: Any) -> Any:
    raise TypeError(
        "An environment on the host steps as one pool of num_envs environments, and a vmap around "
        f"its rollouts (over seeds, hyperparameters or a population of {num}) would need a pool "
        "for each of its members: train them one after the other, train = jax.jit(training) and "
        "train(jax.random.key(0)), ..."
    )


# ------------------------------------------------------------------------------------ on the host


class Vector:
    """Base class of B environments on the host, which step together, with NumPy arrays."""

    def reset(self, seed: np.ndarray) -> np.ndarray:
        """First observations [B, ...] after seeding each environment. seed: uint32 [B]."""
        raise not_defined(self, Vector.reset)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, ...]:
        """Next observations [B, ...], rewards, `terminated` and `truncated` [B], without a reset.

        action: of the kit's action space. [B, ...].
        """
        raise not_defined(self, Vector.step)

    def restart(self, over: np.ndarray, obs: np.ndarray) -> np.ndarray:
        """First observations of new episodes where `over` [B], and `obs` elsewhere. [B, ...]."""
        raise not_defined(self, Vector.restart)

    def close(self) -> None:
        """Release resources of the environments, such as processes."""


@dataclasses.dataclass
class Pool:
    """Open environments and their counters.

    steps: number of steps so far. length: of each episode [B]. first_end: the value of `steps` at
    the first end of an episode [B], -1 before. result: of the last step.
    """

    source: Source
    max_steps: int
    vector: Vector
    steps: int
    length: np.ndarray
    first_end: np.ndarray
    result: tuple[np.ndarray, ...] = ()

    def step(self, step: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, ...]:
        """Step all environments, unless all episodes are over. step: of the tickets [B].

        In an evaluation, the ticket of an episode that is over does not change, and further steps
        are ignored.
        """
        is_current = step == self.steps
        if not (is_current | (step == self.first_end)).all():
            raise RuntimeError(
                f"A state of {self.source} was stepped twice, or restored, and on the host each "
                "state replaces the previous one: continue from the newest state, or reset."
            )
        if is_current.any():
            self._advance(is_current, action)
        return (np.full(len(step), self.steps, np.int32), *self.result)

    def _advance(self, is_current: np.ndarray, action: np.ndarray) -> None:
        obs, reward, terminated, truncated = self.vector.step(action)
        self.steps, self.length = self.steps + 1, self.length + 1
        over = terminated | (self.length >= self.max_steps)
        if (early := truncated & ~over & is_current).any():
            raise RuntimeError(
                f"{self.source} truncated an episode after {self.length[early][0]} steps, before "
                f"max_steps={self.max_steps}: write that number as max_steps, if it is always the "
                "same; else write a wrapper that terminates the episode."
            )
        over |= truncated
        fresh = self.vector.restart(over, obs) if over.any() else obs
        self.length[over] = 0
        self.first_end[over & (self.first_end < 0)] = self.steps
        self.result = obs, np.asarray(reward, np.float32), np.asarray(terminated, bool), fresh


_pools: dict[int, Pool] = {}  # by number, the least recently used first
_numbers = itertools.count()


def _reset(source: Source, max_steps: int, seed: np.ndarray) -> tuple[np.ndarray, ...]:
    num = len(seed)
    vector = None
    if len(_pools) >= MAX_OPEN:
        oldest = _pools.pop(next(iter(_pools)))
        if oldest.source == source and len(oldest.length) == num:
            vector = oldest.vector
        else:
            oldest.vector.close()
    vector = source.open(num) if vector is None else vector
    obs = vector.reset(np.asarray(seed))
    number = next(_numbers)
    _pools[number] = Pool(
        source, max_steps, vector, 0, np.zeros(num, np.int64), np.full(num, -1, np.int64)
    )
    return np.full(num, number, np.int32), np.zeros(num, np.int32), obs


def _step(number: np.ndarray, step: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, ...]:
    number, step, action = map(np.asarray, (number, step, action))
    pool = _pools.pop(int(number[0]), None)
    if pool is None or (number != number[0]).any() or len(number) != len(pool.length):
        raise RuntimeError(
            "The environments of this state are no longer open on the host, as after "
            f"{MAX_OPEN} more resets or in another process, or they are only a part of a pool: "
            "reset, or train again."
        )
    _pools[int(number[0])] = pool
    return pool.step(step, action)


def close() -> None:
    """Close all environments on the host; their states can't be stepped afterwards."""
    while _pools:
        _pools.popitem()[1].vector.close()


atexit.register(close)
