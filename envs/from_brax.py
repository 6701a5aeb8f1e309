"""The robots of brax (Freeman et al., 2021), without brax's step counter, auto-reset and wrappers.

Each environment in `NAMES` runs on each backend (generalized, positional, spring, mjx) with brax
0.14.2 and jax 0.10. `LEFT_OUT` gives the reasons why two others do not.
"""

import copy
import inspect
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.errors import nearest
from jaxrl.spaces import Box
from jaxrl.tree import pytree, static

from .arguments import check_names, frozen

BACKENDS = ("generalized", "positional", "spring", "mjx")
NAMES = tuple(
    f"brax:{name}"
    for name in (
        "ant",
        "halfcheetah",
        "hopper",
        "humanoid",
        "humanoidstandup",
        "inverted_double_pendulum",
        "inverted_pendulum",
        "pusher",
        "reacher",
        "walker2d",
    )
)
LEFT_OUT = {
    "brax:swimmer": (
        "brax 0.14 has it for one backend only, and calls jnp.clip(a_min=...), which jax removed"
    ),
    "brax:fast": "it is a stub for brax's tests, without physics",
}


@pytree
class FromBrax(Env):
    """A brax robot. Actions [n] from -1 to 1. State: brax's physics. The terms of the reward are in
    `info`.

    system: brax's System (masses, friction, gravity, ...), a tree of leaves for domain
      randomisation; start from `shipped_system`. None is the one that brax ships, compiled in as
      constants.
    settings: arguments of brax's constructor, as sorted pairs.
    """

    system: Any = None
    name: str = static(default="ant")
    backend: str = static(default="generalized")
    settings: tuple[tuple[str, Any], ...] = static(default=())
    max_steps: int = static(default=1000)

    @property
    def action_space(self) -> Box:
        return Box(-1.0, 1.0, shape=(self._robot().action_size,))

    @property
    def shipped_system(self) -> Any:
        return _build(self.name, self.backend, self.settings).sys

    def reset(self, key: jax.Array) -> tuple[Any, jax.Array]:
        state = self._robot().reset(key)
        return state.pipeline_state, state.obs

    def step(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        from brax.envs import State

        zero = jnp.float32(0.0)
        # new dictionaries, as brax writes into those of its argument
        after = self._robot().step(State(state, None, zero, zero, metrics={}, info={}), action)  # type: ignore[arg-type]
        info = {name: jnp.asarray(value, jnp.float32) for name, value in after.metrics.items()}
        return after.pipeline_state, Step(
            after.obs, jnp.asarray(after.reward, jnp.float32), after.done.astype(bool), info
        )

    def __str__(self) -> str:
        return f"brax:{self.name}"

    def _robot(self) -> Any:
        robot = _build(self.name, self.backend, self.settings)
        if self.system is None:
            return robot
        robot = copy.copy(robot)
        robot.sys = self.system
        return robot


def make(
    name: str,
    *,
    backend: str = "generalized",
    max_steps: int = 1000,
    system: Any = None,
    **settings: Any,
) -> FromBrax:
    """Return the brax environment called `name` ("brax:ant").

    settings: arguments of its constructor, static.

    Raises:
      ValueError: there is no such environment, backend or argument.
    """
    if name in LEFT_OUT:
        raise ValueError(
            f"{name} can't be made: {LEFT_OUT[name]}. Write one of {', '.join(NAMES)}."
        )
    if name not in NAMES:
        raise ValueError(f"There is no environment {name!r}; {nearest(name, NAMES)}.")
    if backend not in BACKENDS:
        raise ValueError(
            f"brax has no backend {backend!r}: write backend= one of {', '.join(BACKENDS)}."
        )
    name = name.removeprefix("brax:")
    known = set(inspect.signature(_class(name)).parameters) - {"kwargs"}
    check_names(f"brax:{name}", settings, known | {"backend", "max_steps", "system", "n_frames"})
    return FromBrax(system, name, backend, frozen(name, settings), max_steps)


def _class(name: str) -> Any:
    from brax import envs as robots  # here, as it takes seconds to import

    return robots._envs[name]


def _build(name: str, backend: str, settings: tuple[tuple[str, Any], ...]) -> Any:
    """The brax object, built once for each default float dtype, that of its arrays."""
    return _built(name, backend, settings, jnp.result_type(float))


@lru_cache
def _built(name: str, backend: str, settings: tuple[tuple[str, Any], ...], float_type: Any) -> Any:
    """Building reads a file, and the arrays must not be tracers where it happens inside a traced
    function.
    """
    with jax.ensure_compile_time_eval():
        return _class(name)(backend=backend, **dict(settings))
