"""The teams of JaxMARL (Rutherford et al., 2024), without its auto-reset and time limits.

Agents are an axis, in the order of JaxMARL's `agents`. If their observations differ in size, they
are flattened, padded with zeros to the largest size, and followed by the agent's role as a one-hot
vector; if the numbers of their actions differ, masks exclude the rest. `NAMES` run with jaxmarl
0.2.0 and jax 0.10.
"""

import contextlib
import inspect
import io
import re
import warnings
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.errors import nearest
from jaxrl.spaces import Box, Discrete, Masked
from jaxrl.tree import pytree, static

from . import teams
from .arguments import check_names, frozen, of_extra
from .jaxmarl_worlds import WORLDS, World
from .states import like, like_stepped

NAMES = tuple(f"jaxmarl:{name}" for name in WORLDS)
LEFT_OUT = {
    "jaxmarl:LearnedPolicyEnemySMAX": "it needs a policy of flax and its parameters",
    **{
        f"jaxmarl:{name}": "JaxMARL 0.2 calls it deprecated, as brax is"
        for name in ("ant_4x2", "halfcheetah_6x1", "hopper_3x1", "humanoid_9|8", "walker2d_2x3")
    },
    **{
        f"jaxmarl:JaxRobotarium_{name}": "it needs the package jaxrobotarium, which is not on PyPI"
        for name in (
            *("navigation", "discovery", "material_transport", "warehouse"),
            *("arctic_transport", "foraging", "rware", "predator_prey"),
        )
    },
}


Source = tuple[str, tuple[tuple[str, Any], ...]]


@pytree
class FromJaxmarl(Env):
    """A JaxMARL environment. All agents terminate together.

    An agent that is out of the game (a dead unit of SMAX) receives its team's reward until all
    terminate, as in JaxMARL. `info` has JaxMARL's numbers, one for each agent.

    source: (name, arguments of JaxMARL's constructor without its time limit).
    """

    source: Source = static()
    num_agents: int = static()
    max_steps: int = static()

    @property
    def action_space(self) -> Discrete | Box:
        space = self._shapes().space
        if isinstance(space, Discrete):
            return space
        ends: list[Any] = [np.asarray(end, np.float32) for end in space[:2]]
        return Box(ends[0], ends[1], space[2])

    def reset(self, key: jax.Array) -> tuple[Any, Any]:
        game = self._game()
        obs, state = game.reset(key)
        step = lambda: game.step_env(key, state, self._actions(self._no_action()))[1]
        state = like_stepped(state, jax.eval_shape(step))
        return state, self._seen(obs, state)

    def step(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        obs, after, reward, done, info = self._game().step_env(key, state, self._actions(action))
        after = like(after, state)
        terminated = jnp.bool_(False) if _world(self.source).timed else done["__all__"]
        step = Step(
            self._seen(obs, after),
            jnp.stack([jnp.asarray(x, jnp.float32) for x in self._each(reward)]),
            jnp.asarray(terminated, bool),
            self._numbers(info),
        )
        return after, step

    def __str__(self) -> str:
        return self.source[0]

    def _game(self) -> Any:
        return _built(*self._key())

    def _shapes(self) -> "Shapes":
        return _shapes(*self._key())

    def _key(self) -> tuple[Any, ...]:
        return self.source, _limit(self.source, self.max_steps), jnp.result_type(float)

    def _each(self, x: Any) -> list[Any]:
        return _each(self._game().agents, x)

    def _actions(self, action: jax.Array) -> Any:
        """The actions [A] as JaxMARL takes them."""
        agents = self._game().agents
        sizes = self._shapes().sizes
        cut = [x[:n] if x.ndim else x for x, n in zip(action, sizes, strict=True)]
        if isinstance(agents[0], int):
            return cut
        return dict(zip(agents, cut, strict=True))

    def _no_action(self) -> jax.Array:
        sample = jax.eval_shape(self.action_space.sample, jax.random.key(0))
        return jnp.zeros((self.num_agents, *sample.shape), sample.dtype)

    def _seen(self, obs: Any, state: Any) -> Any:
        """The observations of all agents [A, ...], `Masked` if actions can be illegal."""
        shapes = self._shapes()
        each = [jax.tree.map(_as_number, x) for x in self._each(obs)]
        if shapes.width is None:
            seen = jax.tree.map(lambda *x: jnp.stack(x), *each)
        else:
            seen = teams.pad(each, shapes.roles)
        mask = _world(self.source).mask
        if not isinstance(shapes.space, Discrete) or (mask is None and len(set(shapes.sizes)) == 1):
            return seen
        legal = [jnp.ones(n, bool) for n in shapes.sizes]
        if mask is not None:
            legal = self._each(getattr(self._game(), mask)(state))
        return Masked(seen, teams.pad_masks(legal))

    def _numbers(self, info: dict[str, Any]) -> dict[str, jax.Array]:
        """Numbers of `info` as float32 [A]: one for each agent, or one that they share."""
        found = {}
        for name, x in info.items():
            if isinstance(x, dict):
                found[name] = jnp.stack([jnp.asarray(y, jnp.float32) for y in self._each(x)])
            elif jnp.ndim(x) == 0 or jnp.shape(x) == (self.num_agents,):
                shared = jnp.asarray(x, jnp.float32)
                found[name] = jnp.broadcast_to(shared, (self.num_agents,))
        return {name: x for name, x in found.items() if name != "discount"}


def make(name: str, *, max_steps: int | None = None, **settings: Any) -> FromJaxmarl:
    """Return the JaxMARL environment called `name` ("jaxmarl:MPE_simple_spread_v3").

    settings: arguments of its constructor, static. Layouts of Overcooked and scenarios of SMAX are
    names: `layout="coord_ring"`, `scenario="3m"`.

    Raises:
      ValueError: there is no such environment or argument.
    """
    if name in LEFT_OUT:
        raise ValueError(
            f"{name} can't be made: {LEFT_OUT[name]}. Write one of {', '.join(NAMES)}."
        )
    if name not in NAMES:
        raise ValueError(f"There is no environment {name!r}; {nearest(name, NAMES)}.")
    source = name, frozen(name, settings)
    world, package = _world(source), _package(name)
    made_by = [getattr(package, x) for x in (world.type, world.wraps) if x is not None]
    signatures = [inspect.signature(x.__init__) for one in made_by for x in one.__mro__]
    parameters = [x for signature in signatures for x in signature.parameters.values()]
    known = {x.name for x in parameters if x.kind is x.POSITIONAL_OR_KEYWORD}
    check_names(name, settings, (known | {"max_steps"}) - {"self", *dict(world.fixed)})
    limit = world.max_steps if max_steps is None else max_steps
    game = _built(source, _limit(source, limit), jnp.result_type(float))
    num_agents = len(game.agents)
    return FromJaxmarl(source, num_agents, limit(num_agents) if callable(limit) else limit)


# -------------------------------------------------------------------------------- JaxMARL's objects


class Shapes(NamedTuple):
    """What differs between agents.

    space: of actions, the largest (a box as low, high and shape). sizes: the number of actions, or
    the length of the action, of each agent. width: of the longest observation, or None if all are
    alike. roles: of each agent.
    """

    space: Any
    sizes: tuple[int, ...]
    width: int | None
    roles: tuple[int, ...]


def _world(source: Source) -> World:
    return WORLDS[source[0].removeprefix("jaxmarl:")]


def _limit(source: Source, max_steps: Any) -> tuple[tuple[str, Any], ...]:
    """The arguments of JaxMARL's constructor that are about its time limit."""
    world = _world(source)
    return frozen(source[0], {"max_steps": max_steps}) if world.timed else world.fixed


def _package(name: str) -> Any:
    """JaxMARL's module of environments, which prints when it is imported."""
    with contextlib.redirect_stdout(io.StringIO()), jax.ensure_compile_time_eval():
        return of_extra("jaxmarl.environments", "jaxmarl", name)


@lru_cache
def _built(source: Source, limit: tuple[tuple[str, Any], ...], float_type: Any) -> Any:
    """The JaxMARL object; its arrays must not be tracers where it is built in a traced function."""
    name, arguments = source[0], dict(source[1] + limit)
    package, world = _package(name), _world(source)
    scenarios = of_extra("jaxmarl.environments.smax.smax_env", "jaxmarl", name)
    # version 2 of Overcooked finds its layouts itself
    layouts = {"jaxmarl:overcooked": package.overcooked_layouts}.get(name)
    for argument, known in (("layout", layouts), ("scenario", scenarios.MAP_NAME_TO_SCENARIO)):
        if known is not None and argument in arguments:
            if arguments[argument] not in known:
                near = nearest(str(arguments[argument]), known)
                raise ValueError(f"{name} has no {argument} {arguments[argument]!r}; {near}.")
            arguments[argument] = known[arguments[argument]]
    with jax.ensure_compile_time_eval(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the first Overcooked
        game = getattr(package, world.type)(**arguments)
    for attribute, value in world.attributes:
        setattr(game, attribute, value)
    return game


@lru_cache
def _shapes(source: Source, limit: tuple[tuple[str, Any], ...], float_type: Any) -> Shapes:
    game = _built(source, limit, float_type)
    spaces = [game.action_space(agent) for agent in game.agents]
    first = jax.eval_shape(lambda: _each(game.agents, game.reset(jax.random.key(0))[0]))
    shapes = [jax.tree.map(lambda x: x.shape, x) for x in first]
    widths = [sum(x.size for x in jax.tree.leaves(x)) for x in first]
    width = None if all(x == shapes[0] for x in shapes) else max(widths)
    stems = [re.sub(r"_?\d+$", "", str(agent)) for agent in game.agents]
    roles = tuple(sorted(set(stems), key=stems.index).index(stem) for stem in stems)
    if all(space.shape == () for space in spaces):
        sizes = tuple(int(space.n) for space in spaces)
        return Shapes(Discrete(max(sizes)), sizes, width, roles)
    sizes = tuple(space.shape[0] for space in spaces)
    widest = spaces[sizes.index(max(sizes))]
    ends = (_plain(widest.low), _plain(widest.high))
    return Shapes((*ends, (max(sizes),)), sizes, width, roles)


def _plain(end: Any) -> Any:
    """An end of a box that is hashable."""
    return float(end) if np.ndim(end) == 0 else tuple(map(float, np.asarray(end)))


def _each(agents: Iterable[Any], x: Any) -> list[Any]:
    """What JaxMARL returned for all agents, agent by agent."""
    agents = list(agents)
    if isinstance(x, dict) and "inventory" in x:  # of storm: all inventories, the own one first
        parts = x["observations"], x["inventory"]
        return [
            {"observations": parts[0][i], "inventory": jnp.roll(parts[1], -i, axis=1)}
            for i in range(len(agents))
        ]
    return [x[agent] for agent in agents] if isinstance(x, dict) else list(x)


def _as_number(x: jax.Array) -> jax.Array:
    """float32, as networks would scale JaxMARL's bytes, which are counts, like pixels."""
    return jnp.asarray(x, jnp.float32)
