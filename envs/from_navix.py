"""The grid worlds of navix (Pignatelli et al., 2024), ports of MiniGrid, without its auto-reset.

All environments that navix 0.7.4 registers run with jax 0.10. navix 4 has other dynamics and time
limits, so that its scores are not comparable.
"""

import inspect
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

from .arguments import check_id, check_names, frozen, of_extra
from .states import like, strong

SIZES = ("5x5", "6x6", "8x8", "16x16")
NAMES = tuple(
    f"navix:Navix-{name}-v0"
    for name in (
        *(f"DoorKey-{size}" for size in SIZES),
        *(f"DoorKey-Random-{size}" for size in SIZES),
        *("DistShift1", "DistShift2"),
        *(f"Dynamic-Obstacles-{size}" for size in SIZES),
        *(f"Dynamic-Obstacles-{size}-Random" for size in ("5x5", "6x6")),
        *(f"Empty-{size}" for size in SIZES),
        *(f"Empty-Random-{size}" for size in SIZES),
        "FourRooms",
        *(f"GoToDoor-{size}" for size in ("5x5", "6x6", "8x8")),
        *(f"KeyCorridor{size}" for size in ("S3R1", "S3R2", "S3R3", "S4R3", "S5R3", "S6R3")),
        *(f"LavaGapS{size}" for size in (5, 6, 7)),
        *(f"SimpleCrossing{size}" for size in ("S9N1", "S9N2", "S9N3", "S11N5")),
    )
)
LEFT_OUT: dict[str, str] = {}
WITHOUT_IMAGES = ("none", "categorical", "categorical_first_person")
WITHOUT_IMAGES += ("symbolic", "symbolic_first_person")


@pytree
class World:
    """A state of navix with its number of steps, which a penalty in the reward may read.

    navix: its State, without the sprites of its rendering cache if no observation reads them.
    """

    navix: Any
    t: jax.Array


@pytree
class FromNavix(Env):
    """A grid world of navix. The observation is that of its `observation_fn`, by default
    `navix.observations.symbolic`: uint8 [height, width, 3], object, colour and state of each cell.

    The target door of GoToDoor is in the state (`navix.mission`) but in no observation.

    settings: other arguments of navix's constructor (`observation_fn`, `reward_fn`,
      `termination_fn`, ...), as sorted pairs. max_steps: navix's default is 100 everywhere.
    """

    name: str = static(default="Navix-Empty-5x5-v0")
    settings: tuple[tuple[str, Any], ...] = static(default=())
    max_steps: int = static(default=100)

    @property
    def action_space(self) -> Discrete:
        return Discrete(len(self._game().action_set))

    def reset(self, key: jax.Array) -> tuple[World, jax.Array]:
        first = self._game().reset(key)
        return World(strong(self._light(first.state)), jnp.int32(0)), first.observation

    def step(self, key: jax.Array, state: World, action: jax.Array) -> tuple[World, Step]:
        navix = _package()
        # a copy, as navix writes into the dictionary of entities
        timestep = navix.Timestep(state.t, None, None, None, None, strong(state.navix))
        after = self._game()._step(timestep, action)  # its `step` resets after the end
        world = World(like(self._light(after.state), state.navix), state.t + 1)
        reward = jnp.asarray(after.reward, jnp.float32)
        terminated = jnp.asarray(after.step_type == navix.StepType.TERMINATION, bool)
        return world, Step(after.observation, reward, terminated, {})

    def draw(self, ax: Any, state: World) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        navix = _package()
        cache = navix.rendering.cache.RenderingCache.init(state.navix.grid)
        ax.imshow(navix.observations.rgb(state.navix.replace(cache=cache)))
        ax.axis("off")

    def __str__(self) -> str:
        return f"navix:{self.name}"

    def _game(self) -> Any:
        return _build(self.name, self.settings, self.max_steps)

    def _light(self, state: Any) -> Any:
        """The state without sprites, most of its memory, if no observation reads them."""
        observations = _package().observations
        unread = [getattr(observations, name) for name in WITHOUT_IMAGES]
        return state.replace(cache=None) if self._game().observation_fn in unread else state


def make(name: str, *, max_steps: int = 100, **settings: Any) -> FromNavix:
    """Return the environment of navix called `name` ("navix:Navix-DoorKey-8x8-v0").

    settings: arguments of its constructor, static.

    Raises:
      ValueError: there is no such environment or argument.
    """
    check_id(name, NAMES, LEFT_OUT)
    short, chosen = name.removeprefix("navix:"), frozen(name, settings)
    fields = _package().Environment.__dataclass_fields__
    create = inspect.signature(_package().Environment.create).parameters
    fixed = {"height", "width", "kwargs", "reward_space", "observation_space", "action_space"}
    check_names(name, settings, {*fields, *create} - fixed)
    return FromNavix(short, chosen, max_steps)


def _package() -> Any:
    """navix. It creates arrays on import, which must not be tracers."""
    with jax.ensure_compile_time_eval():
        return of_extra("navix", "navix", "an environment of navix")


def _build(name: str, settings: tuple[tuple[str, Any], ...], max_steps: int) -> Any:
    """navix's environment, built once for each default float dtype, that of its arrays."""
    return _built(name, settings, max_steps, jnp.result_type(float))


@lru_cache
def _built(
    name: str, settings: tuple[tuple[str, Any], ...], max_steps: int, float_type: Any
) -> Any:
    with jax.ensure_compile_time_eval():
        return _package().make(name, max_steps=max_steps, **dict(settings))
