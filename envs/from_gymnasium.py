"""Environments of gymnasium (Towers et al., 2024), which step on the host: see `host`.

Any registered id can be made; "gymnasium:module:Id" imports `module` first. Observations that are
not a Box (Discrete, Dict, ...) are flattened by gymnasium, discrete ones to one-hot vectors.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrl.errors import check_count

from .arguments import frozen, of_extra
from .host import HostEnv, Source, Vector

NAMES = tuple(  # those that gymnasium ships, without old versions
    f"gymnasium:{name}"
    for name in (
        "Acrobot-v1",
        "CartPole-v1",
        "MountainCar-v0",
        "MountainCarContinuous-v0",
        "Pendulum-v1",
        "BipedalWalker-v3",
        "CarRacing-v3",
        "LunarLander-v3",
        "LunarLanderContinuous-v3",
        "Blackjack-v1",
        "CliffWalking-v1",
        "FrozenLake-v1",
        "Taxi-v4",
        "Ant-v5",
        "HalfCheetah-v5",
        "Hopper-v5",
        "Humanoid-v5",
        "HumanoidStandup-v5",
        "InvertedDoublePendulum-v5",
        "InvertedPendulum-v5",
        "Pusher-v5",
        "Reacher-v5",
        "Swimmer-v5",
        "Walker2d-v5",
    )
)
LEFT_OUT: dict[str, str] = {}
MODES = ("sync", "async")
GymnasiumWrapper = Callable[[Any], Any]  # of a gymnasium.Env


@dataclasses.dataclass(frozen=True)
class Gymnasium(Source):
    """An environment of gymnasium by its id, with arguments of `gymnasium.make`."""

    id: str
    max_steps: int | None
    settings: tuple[tuple[str, Any], ...]
    wrappers: tuple[GymnasiumWrapper, ...]
    mode: str

    def one(self) -> Any:
        """A single environment, with its wrappers and a Box observation space."""
        import gymnasium

        env = gymnasium.make(
            self.id,
            max_episode_steps=self.max_steps,
            disable_env_checker=True,
            **dict(self.settings),
        )
        for wrapper in self.wrappers:
            env = wrapper(env)
        if isinstance(env.observation_space, gymnasium.spaces.Box):
            return env
        if not env.observation_space.is_np_flattenable:
            raise TypeError(
                f"gymnasium:{self.id} has the observation space {env.observation_space}, which "
                "has no fixed size: write wrappers=(Wrapper,), a gymnasium.ObservationWrapper to "
                "a Box."
            )
        return gymnasium.wrappers.FlattenObservation(env)

    def open(self, num_envs: int) -> "GymnasiumVector":
        return GymnasiumVector(self, num_envs)

    def __str__(self) -> str:
        return f"gymnasium:{self.id}"


class GymnasiumVector(Vector):
    """Environments of gymnasium one after the other, or each in its own process."""

    def __init__(self, source: Gymnasium, num_envs: int) -> None:
        from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

        from . import gymnasium_spaces as spaces

        envs, mode = [source.one] * num_envs, AutoresetMode.DISABLED
        if source.mode == "sync":
            self.envs: Any = SyncVectorEnv(envs, autoreset_mode=mode)
        else:  # JAX is multithreaded, so its process must not be forked
            self.envs = AsyncVectorEnv(envs, autoreset_mode=mode, context="spawn")
        self.as_actions = spaces.as_actions
        self.dtype = spaces.box_of(self.envs.single_observation_space).dtype

    def reset(self, seed: np.ndarray) -> np.ndarray:
        return self._numbers(self.envs.reset(seed=[int(x) for x in seed])[0])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, ...]:
        actions = self.as_actions(self.envs.single_action_space, action)
        obs, reward, terminated, truncated, _ = self.envs.step(actions)
        return self._numbers(obs), reward, terminated, truncated

    def restart(self, over: np.ndarray, obs: np.ndarray) -> np.ndarray:
        return self._numbers(self.envs.reset(options={"reset_mask": over})[0])

    def close(self) -> None:
        self.envs.close()

    def _numbers(self, obs: np.ndarray) -> np.ndarray:
        return np.asarray(obs, self.dtype)


def make(
    name: str,
    max_steps: int | None = None,
    wrappers: tuple[GymnasiumWrapper, ...] = (),
    vectorization_mode: str = "sync",
    **settings: Any,
) -> HostEnv:
    """Return the environment "gymnasium:ID".

    max_steps: the time limit; None: that of the id. wrappers: classes of gymnasium or functions of
    an environment, the innermost first, in place of the kit's. vectorization_mode: "sync" steps one
    environment after the other; "async" has a process for each, for slow ones. settings: arguments
    of the environment, such as g=9.0 of Pendulum-v1.

    Raises:
      ImportError: gymnasium is not installed.
      ValueError: no such id, an id without a time limit, or `num_envs` is given.
      TypeError: unsupported action or observation space.
    """
    gymnasium = of_extra("gymnasium", "gymnasium", name)
    from . import gymnasium_spaces as spaces

    check_host_settings(name, max_steps, settings)
    if vectorization_mode not in MODES:
        raise ValueError(
            f"{name} has no vectorization_mode={vectorization_mode!r}: write one of {MODES}."
        )
    id_ = name.partition(":")[2]
    made = frozen(name, settings)
    source = Gymnasium(id_, max_steps, made, tuple(wrappers), vectorization_mode)
    try:
        one = source.one()
    except (gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"{name} can't be made: {error}") from error
    limit = one.spec.max_episode_steps if max_steps is None else max_steps
    check_limit(name, limit)
    env = HostEnv(
        action_space=spaces.action_space(name, one.action_space),
        source=source,
        obs=spaces.box_of(one.observation_space),
        max_steps=limit,
    )
    one.close()
    return env


def check_host_settings(name: str, max_steps: Any, settings: dict[str, Any]) -> None:
    """Check the arguments of an environment on the host.

    Raises:
      TypeError: the time limit is an array.
      ValueError: the time limit is not a count, or `num_envs` is given.
    """
    if "num_envs" in settings:
        raise ValueError(
            f"{name} has no parameter 'num_envs': a pool has as many environments as the algorithm "
            f"plays, so write rl.ppo(num_envs={settings['num_envs']})."
        )
    if max_steps is not None and not isinstance(max_steps, int):
        raise TypeError(f"max_steps={max_steps!r} of {name} is static: write max_steps=500.")
    if max_steps is not None:
        check_count("max_steps", max_steps, of=f" of {name}")


def check_limit(name: str, max_steps: int | None) -> None:
    """Raise a ValueError if there is no time limit."""
    if max_steps is None:
        raise ValueError(
            f"{name} has no time limit, and evaluations play episodes of at most max_steps steps: "
            "write max_steps=1000."
        )
