"""The grid worlds of XLand-MiniGrid (Nikulin et al., 2023): ports of MiniGrid, and XLand.

All environments that the package registers run with xminigrid 0.9.3 and jax 0.10. A task of XLand
is a `RuleSet` of arrays: `make(name, ruleset=...)` takes one from
`xminigrid.load_benchmark("trivial-1m")`, which is downloaded, or one of your own.
"""

import dataclasses
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

from .arguments import check_id, check_names, frozen, of_extra
from .states import like, strong

XLAND = tuple(
    f"XLand-MiniGrid-R{rooms}-{size}x{size}"
    for rooms, sizes in {
        1: (9, 11, 13, 15, 17),
        2: (9, 11, 13, 15, 17),
        4: (9, 11, 13, 15, 17),
        6: (13, 17, 19),
        9: (16, 19, 25),
    }.items()
    for size in sizes
)
MINIGRID = (
    "MiniGrid-BlockedUnlockPickUp",
    *(f"MiniGrid-DoorKey-{size}x{size}" for size in (5, 6, 8, 16)),
    *(f"MiniGrid-Empty-{size}x{size}" for size in (5, 6, 8, 16)),
    *(f"MiniGrid-EmptyRandom-{size}x{size}" for size in (5, 6, 8, 16)),
    "MiniGrid-FourRooms",
    "MiniGrid-LockedRoom",
    *(f"MiniGrid-MemoryS{size}" for size in (8, 16, 32, 64, 128)),
    "MiniGrid-Playground",
    "MiniGrid-Unlock",
    "MiniGrid-UnlockPickUp",
)
NAMES = tuple(f"xminigrid:{name}" for name in (*XLAND, *MINIGRID))
LEFT_OUT: dict[str, str] = {}


@pytree
class FromXminigrid(Env):
    """A grid world of xminigrid. The observation is egocentric: uint8 [view, view, 2], the object
    in each cell and its colour. State: xminigrid's State.

    The reward is 1 - 0.9 * t / max_steps if the goal is reached after t steps, and 0 otherwise.

    ruleset: the task of an XLand environment, xminigrid's RuleSet: its goal, its production rules
      and its initial objects. These are arrays, so that they can be vmapped over. None is
      `shipped_ruleset`.
    settings: fields of xminigrid's EnvParams (sizes), as sorted pairs.
    """

    ruleset: Any = None
    name: str = static(default="MiniGrid-Empty-5x5")
    settings: tuple[tuple[str, Any], ...] = static(default=())
    max_steps: int = static(default=100)

    @property
    def action_space(self) -> Discrete:
        game, params = _build(self.name, self.settings)
        return Discrete(game.num_actions(params))

    @property
    def shipped_ruleset(self) -> Any:
        """The task of picking up a yellow ball, beside a red square and a blue pyramid, without
        production rules.
        """
        return _example()

    def reset(self, key: jax.Array) -> tuple[Any, jax.Array]:
        game, params = self._game()
        first = game.reset(params, key)
        return strong(first.state), first.observation

    def step(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        game, params = self._game()
        timestep = _package("types").TimeStep(state, None, None, None, None)  # it reads the state
        after = game.step(params, timestep, action)
        reward = jnp.asarray(after.reward, jnp.float32)
        terminated = jnp.asarray(after.discount == 0, bool)
        return like(after.state, state), Step(after.observation, reward, terminated, {})

    def draw(self, ax: Any, state: Any) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        _, params = _build(self.name, self.settings)
        image = _package("rendering.rgb_render").render(
            np.asarray(state.grid), state.agent, params.view_size
        )
        ax.imshow(image)
        ax.axis("off")

    def __str__(self) -> str:
        return f"xminigrid:{self.name}"

    def _game(self) -> tuple[Any, Any]:
        game, params = _build(self.name, self.settings)
        params = params.replace(max_steps=self.max_steps)
        if self.name in XLAND:
            ruleset = _example() if self.ruleset is None else self.ruleset
            params = params.replace(ruleset=jax.tree.map(jnp.asarray, ruleset))
        return game, params


def make(
    name: str, *, max_steps: int | None = None, ruleset: Any = None, **params: Any
) -> FromXminigrid:
    """Return the environment of xminigrid called `name` ("xminigrid:MiniGrid-DoorKey-8x8").

    max_steps: None is xminigrid's, a multiple of the size of the grid.
    ruleset: the task of an XLand environment; None is `FromXminigrid.shipped_ruleset`.
    params: fields of its EnvParams (`height`, `width`, `view_size`, ...), static.

    Raises:
      ValueError: there is no such environment or parameter.
    """
    check_id(name, NAMES, LEFT_OUT)
    short = name.removeprefix("xminigrid:")
    _, default = _build(short, ())
    known = {field.name for field in dataclasses.fields(default)} - {"render_mode", "ruleset"}
    check_names(name, params, {*known, "max_steps"})
    if ruleset is not None and short not in XLAND:
        raise ValueError(
            f"{name} has a fixed task: leave out ruleset=, or write 'xminigrid:{XLAND[0]}'."
        )
    settings = frozen(name, params)
    _, chosen = _build(short, settings)
    limit = chosen.max_steps if max_steps is None else max_steps
    return FromXminigrid(ruleset, short, settings, limit)


def _package(module: str) -> Any:
    """A module of xminigrid. It creates arrays on import, which must not be tracers."""
    with jax.ensure_compile_time_eval():
        return of_extra(f"xminigrid.{module}", "xminigrid", "an environment of xminigrid")


def _build(name: str, settings: tuple[tuple[str, Any], ...]) -> tuple[Any, Any]:
    """xminigrid's environment and its EnvParams, built once for each default float dtype, that of
    their arrays.
    """
    return _built(name, settings, jnp.result_type(float))


@lru_cache
def _built(name: str, settings: tuple[tuple[str, Any], ...], float_type: Any) -> tuple[Any, Any]:
    _package("envs")
    registration = _package("registration")
    spec = registration._REGISTRY[name]
    with jax.ensure_compile_time_eval():
        game = registration.load(spec.entry_point)()
        return game, game.default_params(**(spec.kwargs | dict(settings)))


@lru_cache
def _example() -> Any:
    with jax.ensure_compile_time_eval():
        constants, goals, rules = map(_package, ("core.constants", "core.goals", "core.rules"))
        tile, color, table = constants.Tiles, constants.Colors, constants.TILES_REGISTRY
        ball = table[tile.BALL, color.YELLOW]
        others = table[tile.SQUARE, color.RED], table[tile.PYRAMID, color.BLUE]
        return _package("types").RuleSet(
            goal=goals.AgentHoldGoal(tile=ball).encode(),
            rules=rules.EmptyRule().encode()[None],
            init_tiles=jnp.stack([ball, *others]),
        )
