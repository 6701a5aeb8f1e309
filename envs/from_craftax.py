"""Craftax and Craftax-Classic (Matthews et al., 2024) with symbolic observations.

Both run with craftax 1.6.1 and jax 0.10.
"""

import dataclasses
import importlib
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, replace, static

from .arguments import check_id, check_names, frozen, of_extra
from .states import like, strong

# the package of each, and the number of steps after which it ends an episode
GAMES = {
    "Craftax-Symbolic-v1": ("craftax.craftax", 100_000),
    "Craftax-Classic-Symbolic-v1": ("craftax.craftax_classic", 10_000),
}
NAMES = tuple(f"craftax:{name}" for name in GAMES)
PIXELS = "pixels are not supported: write the Symbolic id, a vector with the same information"
LEFT_OUT = {"craftax:Craftax-Pixels-v1": PIXELS, "craftax:Craftax-Classic-Pixels-v1": PIXELS}
NEVER = 2**30  # a time limit that is never reached


@pytree
class FromCraftax(Env):
    """Craftax: a world with crafting, hunger, sleep and enemies, seen as one vector of floats.

    `info` has 1 for each achievement in the step that unlocks it, under its lower-case name
    ("collect_wood", ...), and the number of new ones as "achievements": so
    `channels=("achievements",)` counts those of each episode.

    params: craftax's EnvParams, leaves except its time limit. settings: fields of its
      StaticEnvParams (sizes), as sorted pairs.
    """

    params: Any
    name: str = static(default="Craftax-Classic-Symbolic-v1")
    settings: tuple[tuple[str, Any], ...] = static(default=())
    max_steps: int = static(default=10_000)
    channels: tuple[str, ...] = static(default=())

    @property
    def action_space(self) -> Discrete:
        return Discrete(self._game().num_actions)

    def reset(self, key: jax.Array) -> tuple[Any, jax.Array]:
        obs, state = self._game().reset_env(key, self._params())
        return strong(state), obs

    def step(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        obs, after, reward, ended, _ = self._game().step_env(key, state, action, self._params())
        new = jnp.asarray(after.achievements & ~state.achievements, jnp.float32)
        info = dict(zip(_achievements(self.name), new, strict=True)) | {"achievements": new.sum()}
        reward = jnp.asarray(reward, jnp.float32)
        return like(after, state), Step(obs, reward, jnp.asarray(ended, bool), info)

    def __str__(self) -> str:
        return f"craftax:{self.name}"

    def _game(self) -> Any:
        return _build(self.name, self.settings)

    def _params(self) -> Any:
        return jax.tree.map(jnp.asarray, replace(self.params, max_timesteps=NEVER))


def make(
    name: str, *, max_steps: int | None = None, channels: tuple[str, ...] = (), **params: Any
) -> FromCraftax:
    """Return the environment of craftax called `name` ("craftax:Craftax-Symbolic-v1").

    params: fields of craftax's EnvParams, which are leaves (`day_length`, `zombie_health`, ...),
      and of its StaticEnvParams (`map_size`, `max_cows`, ...), which are static.

    Raises:
      ValueError: there is no such environment or parameter.
    """
    check_id(name, NAMES, LEFT_OUT)
    short = name.removeprefix("craftax:")
    game = _build(short, ())
    leaves = {field.name for field in dataclasses.fields(game.default_params)} - {"max_timesteps"}
    sizes = {field.name for field in dataclasses.fields(game.static_env_params)}
    check_names(name, params, leaves | sizes | {"max_steps", "channels"})
    settings = frozen(name, {key: params.pop(key) for key in sizes & set(params)})
    changed = replace(game.default_params, max_timesteps=None, **params)
    limit = GAMES[short][1] if max_steps is None else max_steps
    return FromCraftax(changed, short, settings, limit, tuple(channels))


def _module(name: str, module: str) -> Any:
    """A module of craftax. It creates arrays on import, which must not be tracers."""
    with jax.ensure_compile_time_eval():
        of_extra("craftax", "craftax", f"craftax:{name}")
        return importlib.import_module(f"{GAMES[name][0]}.{module}")


def _build(name: str, settings: tuple[tuple[str, Any], ...]) -> Any:
    """craftax's environment, built once for each default float dtype, that of its arrays."""
    return _built(name, settings, jnp.result_type(float))


@lru_cache
def _built(name: str, settings: tuple[tuple[str, Any], ...], float_type: Any) -> Any:
    kind = "CraftaxClassic" if "Classic" in name else "Craftax"
    game = getattr(_module(name, "envs.craftax_symbolic_env"), f"{kind}SymbolicEnvNoAutoReset")
    with jax.ensure_compile_time_eval():
        return game(replace(game.default_static_params(), **dict(settings)))


@lru_cache
def _achievements(name: str) -> tuple[str, ...]:
    """Names of the achievements, in their order."""
    return tuple(x.name.lower() for x in _module(name, "constants").Achievement)
