"""Environments of envpool (Weng et al., 2022): C++ threads on the host, see `host`.

Any id of `envpool.list_all_envs()` with one array as the observation. Discrete observations are
one-hot vectors here, and stacked frames [4, 84, 84] are images [84, 84, 4].
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .arguments import frozen, of_extra
from .from_gymnasium import check_host_settings, check_limit
from .host import HostEnv, Source, Vector

NAMES = tuple(  # some of 1,600
    f"envpool:{name}"
    for name in (
        "Acrobot-v1",
        "CartPole-v1",
        "MountainCar-v0",
        "Pendulum-v1",
        "FrozenLake-v1",
        "Taxi-v3",
        "LunarLander-v3",
        "Ant-v5",
        "HalfCheetah-v5",
        "Hopper-v5",
        "Humanoid-v5",
        "Walker2d-v5",
        "Asterix-v5",
        "Breakout-v5",
        "MontezumaRevenge-v5",
        "MsPacman-v5",
        "Pong-v5",
        "Qbert-v5",
        "Seaquest-v5",
        "SpaceInvaders-v5",
    )
)
LEFT_OUT: dict[str, str] = {}
UNLIMITED = 2**31 - 1  # envpool's limit of environments without one


@dataclasses.dataclass(frozen=True)
class Envpool(Source):
    """An environment of envpool by its id, with arguments of `envpool.make`."""

    id: str
    max_steps: int | None
    settings: tuple[tuple[str, Any], ...]

    def pool(self, seed: list[int]) -> Any:
        """An environment of envpool for each seed."""
        import envpool

        limit = {} if self.max_steps is None else {"max_episode_steps": self.max_steps}
        settings = dict(self.settings) | limit
        return envpool.make(
            self.id, env_type="gymnasium", num_envs=len(seed), seed=seed, **settings
        )

    def open(self, num_envs: int) -> "EnvpoolVector":
        return EnvpoolVector(self)

    def __str__(self) -> str:
        return f"envpool:{self.id}"


class EnvpoolVector(Vector):
    """A pool of envpool, recreated at each reset, because envpool takes seeds only at creation."""

    def __init__(self, source: Envpool) -> None:
        from . import gymnasium_spaces

        self.source, self.pool = source, None
        self.as_actions = gymnasium_spaces.as_actions

    def reset(self, seed: np.ndarray) -> np.ndarray:
        self.close()
        self.pool = pool = self.source.pool([int(x) >> 1 for x in seed])  # int32
        return observed(pool.observation_space, pool.reset()[0])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, ...]:
        pool: Any = self.pool
        actions = self.as_actions(pool.action_space, action)
        obs, reward, terminated, truncated, _ = pool.step(actions)
        return observed(pool.observation_space, obs), reward, terminated, truncated & ~terminated

    def restart(self, over: np.ndarray, obs: np.ndarray) -> np.ndarray:
        pool: Any = self.pool
        numbers, fresh = np.flatnonzero(over).astype(np.int32), obs.copy()
        first, info = pool.reset(numbers)
        fresh[info["env_id"]] = observed(pool.observation_space, first)
        return fresh

    def close(self) -> None:
        if self.pool is not None:
            self.pool.close()
        self.pool = None


def observed(space: Any, obs: np.ndarray) -> np.ndarray:
    """Observations of a space of envpool, converted to the kit's. [B, ...]."""
    import gymnasium

    if isinstance(space, gymnasium.spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[obs - space.start]
    if space.dtype == np.uint8:
        return np.moveaxis(obs, 1, -1) if obs.ndim == 4 else obs
    return np.asarray(obs, np.float32)


def make(name: str, max_steps: int | None = None, **settings: Any) -> HostEnv:
    """Return the environment "envpool:ID".

    max_steps: the time limit; None: that of the id. settings: arguments of `envpool.make`, such as
    num_threads=8.

    Raises:
      ImportError: envpool is not installed.
      ValueError: no such id, an id without a time limit, or `num_envs` is given.
      TypeError: unsupported action or observation space.
    """
    envpool = of_extra("envpool", "envpool", name)
    import gymnasium

    from . import gymnasium_spaces as spaces

    check_host_settings(name, max_steps, settings)
    id_ = name.partition(":")[2]
    if id_ not in envpool.list_all_envs():
        raise ValueError(f"There is no environment {name!r}: envpool.list_all_envs() has the ids.")
    source = Envpool(id_, max_steps, frozen(name, settings))
    one = source.pool([0])
    space = one.observation_space
    if not isinstance(space, gymnasium.spaces.Box | gymnasium.spaces.Discrete):
        raise TypeError(
            f"{name} has the observation space {space}, and only Box and Discrete are supported: "
            "use another id, or gymnasium's, which flattens others."
        )
    limit = one.spec.config.max_episode_steps if max_steps is None else max_steps
    check_limit(name, None if limit == UNLIMITED else limit)
    first = observed(space, one.reset()[0])
    env = HostEnv(
        action_space=spaces.action_space(name, one.action_space),
        source=source,
        obs=jax.ShapeDtypeStruct(first.shape[1:], jnp.dtype(first.dtype)),
        max_steps=limit,
    )
    one.close()
    return env
