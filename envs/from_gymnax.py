"""The environments of gymnax (Lange, 2022), with their parameters as leaves and without their step
counter and auto-reset.

gymnax 1.x separates truncation (`is_truncated`) from termination (`is_terminated`); `terminated` is
the latter. Bandits, mazes and robots with episodes that end by the time limit alone are truncated
at `max_steps` and never terminate. Chains of a fixed length (DeepSea, UmbrellaChain, MemoryChain)
terminate, as the step is part of their state; so does DiscountingChain, which gymnax truncates.
MetaMaze terminates when the random reset puts the agent back on the goal, as in gymnax.
"""

import dataclasses
import inspect
import warnings
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.lazy import imported_at_first_use
from jaxrl.spaces import Box, Discrete, Space
from jaxrl.tree import pytree, replace, static

from . import draw
from .arguments import check_names, frozen

# gymnax imports libraries for drawing, which take a second
with imported_at_first_use("seaborn", "matplotlib.pyplot"):
    import gymnax.registration
    from gymnax.environments import bsuite, classic_control, minatar, spaces


@runtime_checkable
class Game(Protocol):
    """What `FromGymnax` uses of a gymnax Environment."""

    @property
    def default_params(self) -> Any: ...
    def reset_env(self, key: Any, params: Any) -> Any: ...
    def step_env(self, key: Any, state: Any, action: Any, params: Any) -> Any: ...
    def action_space(self, params: Any) -> Any: ...
    def observation_space(self, params: Any) -> Any: ...


@pytree
class FromGymnax(Env):
    """A gymnax environment. `make` finds registered ones, `wrap` takes any other.

    Observations of a Discrete space become one-hot vectors; those of MinAtar are bool, as in
    MinAtar itself, which takes a quarter of the memory in a replay buffer; uint8 stays uint8; all
    others are float32.

    params: gymnax's EnvParams (leaves). The time limit, and what is computed from other parameters,
      is None.
    source: (name, constructor arguments), equal for equal environments; or an Environment object.
    """

    params: Any
    source: Hashable = static()
    max_steps: int = static()

    def __post_init__(self) -> None:
        # as a leaf it would change nothing
        if getattr(self.params, "max_steps_in_episode", None) is not None:
            raise TypeError(
                "max_steps_in_episode can't be a leaf, as the time limit is static: write "
                "rl.envs.make(..., max_steps=100)."
            )

    @property
    def action_space(self) -> Space:
        return _space(self._game().action_space(self._params()))

    def reset(self, key: jax.Array) -> tuple[Any, Any]:
        game, params = self._game(), self._params()
        obs, state = _call(game.reset_env, key, params)
        action = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), game.action_space(params))
        # gymnax resets some entries to integers that a step makes floats; a scan needs one type
        _, after, *_ = jax.eval_shape(
            lambda: _step_env(game, jax.random.key(0), state, action, params)
        )
        state = jax.tree.map(
            lambda x, y: jnp.asarray(x, jnp.promote_types(jnp.result_type(x), y.dtype)),
            state,
            after,
        )
        return state, self._observation(obs)

    def step(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        obs, after, reward, terminated, info = _step_env(
            self._game(), key, state, action, self._params()
        )
        after = jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), after, state)
        # discount is 1 - terminated
        info = {name: jnp.asarray(value) for name, value in info.items() if name != "discount"}
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        return after, Step(self._observation(obs), reward, jnp.asarray(terminated, bool), info)

    def __str__(self) -> str:
        return self.source[0] if isinstance(self.source, tuple) else type(self.source).__name__

    def draw(self, ax: Any, state: Any) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.gymnax(str(self), self.params, ax, state)

    def _game(self) -> Any:
        return _build(*self.source) if isinstance(self.source, tuple) else self.source

    def _params(self) -> Any:
        params = jax.tree.map(jnp.asarray, self.params)
        return _with_limit(params, self.max_steps)

    def _observation(self, obs: Any) -> Any:
        game = self._game()
        space = game.observation_space(game.default_params)
        if isinstance(space, spaces.Discrete):
            return jax.nn.one_hot(obs, space.n)
        if type(game).__module__.startswith(minatar.__name__):
            return obs.astype(bool)
        convert = lambda x: x if x.dtype == jnp.uint8 else x.astype(jnp.float32)  # images: uint8
        return jax.tree.map(convert, obs)


def names() -> list[str]:
    """Names of all registered environments."""
    return list(gymnax.registration.registered_envs)


def make(name: str, *, max_steps: int | None = None, **changes: Any) -> FromGymnax:
    """Return the gymnax environment registered as `name`.

    changes: fields of its EnvParams, or arguments of its constructor (static).
    """
    factory = REPAIRED.get(name) or gymnax.registration._registry[name]
    arguments = set(inspect.signature(factory).parameters)
    source = (name, frozen(name, {key: changes.pop(key) for key in arguments & set(changes)}))
    env = wrap(_build(*source), max_steps=changes.pop("max_steps_in_episode", max_steps))
    known = {
        field.name
        for field in dataclasses.fields(env.params)
        if getattr(env.params, field.name) is not None
    }
    check_names(name, changes, known | arguments | {"max_steps"})
    return replace(env, source=source, params=replace(env.params, **changes))


def wrap(game: Any, params: Any = None, *, max_steps: Any = None) -> FromGymnax:
    """Return any gymnax Environment, registered or not, as an `Env`.

    jit compares `game` by identity, so wrap it once and reuse the result. If `done` of its
    `step_env` includes the time limit, as in gymnax 0.x, the limit is removed from it: it truncates
    episodes and does not terminate them.

    params: its EnvParams, by default `game.default_params`. max_steps: the time limit, by default
    their `max_steps_in_episode`.

    Raises:
      TypeError: not an Environment object. ValueError: no time limit.

    Warns:
      UserWarning: `done` contains a time limit that no parameter sets.
    """
    if isinstance(game, type) or not isinstance(game, Game):
        is_named = isinstance(game, str | type)
        what = repr(game) if is_named else f"an object of type {type(game).__name__}"
        raise TypeError(
            f"wrap takes a gymnax Environment object, and got {what}: write wrap(game) or "
            "wrap(game, params), and for a registered name envs.make(name)."
        )
    with jax.ensure_compile_time_eval():
        params = game.default_params if params is None else params
    if max_steps is None:
        if not _has_limit(params):
            raise ValueError(
                f"{type(params).__name__} of {type(game).__name__} has no max_steps_in_episode: "
                "write the time limit, wrap(game, max_steps=500)."
            )
        max_steps = params.max_steps_in_episode
    max_steps = int(max_steps) if isinstance(max_steps, float) else max_steps
    left_out = dict.fromkeys(getattr(game, "derived", ()))
    without_limit = _with_limit(replace(params, **left_out), None)
    if type(game).__module__.partition(".")[0] in ("gymnax", __name__.partition(".")[0]):
        return FromGymnax(without_limit, game, max_steps)
    return FromGymnax(without_limit, _without_limit(game, params, max_steps), max_steps)


def _has_limit(params: Any) -> bool:
    return any(field.name == "max_steps_in_episode" for field in dataclasses.fields(params))


def _with_limit(params: Any, max_steps: Any) -> Any:
    return replace(params, max_steps_in_episode=max_steps) if _has_limit(params) else params


def _call(method: Any, *args: Any) -> Any:
    """The results of a gymnax method; some of gymnax's environments mix types with x64."""
    try:
        return method(*args)
    except TypeError as error:
        if jnp.result_type(float).itemsize == 4:
            raise
        raise TypeError(
            f"{method.__qualname__} of gymnax does not run with jax_enable_x64 "
            f"({str(error).splitlines()[0]}): disable it, or choose another environment."
        ) from error


def _step_env(game: Any, key: Any, state: Any, action: Any, params: Any) -> Any:
    """The five results of gymnax's `step_env`."""
    results = _call(game.step_env, key, state, action, params)
    if len(results) != 5:
        raise TypeError(
            f"{type(game).__name__}.step_env returned {len(results)} values: return (obs, state, "
            "reward, done, info), with `done` True only in a final state."
        )
    return results


# ------------------------------------------------------------------- time limits included in `done`


NEVER = 2**30  # a time limit that is never reached
LATE = 2**20  # a time later than any limit but NEVER


class _Separated:
    """A game with the time limit in its `done`, which is removed."""

    def __init__(self, game: Any) -> None:
        self.game = game
        self.reset_env = game.reset_env
        self.action_space = game.action_space
        self.observation_space = game.observation_space
        self.default_params = game.default_params

    def step_env(self, key: Any, state: Any, action: Any, params: Any) -> Any:
        obs, after, reward, done, info = _step_env(self.game, key, state, action, params)
        # the same step but for the limit, which the compiler merges with it
        endless = _with_limit(params, jnp.asarray(NEVER))
        ended = _step_env(self.game, key, state, action, endless)[3]
        return obs, after, reward, done & ended, info


def _without_limit(game: Any, params: Any, max_steps: int) -> Any:
    """The game, with `done` separated from the time limit where a trial step shows it in there."""

    @jax.jit
    def trial() -> tuple[jax.Array, jax.Array, jax.Array]:
        key = jax.random.key(0)
        _, state = game.reset_env(key, limited)
        action = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), game.action_space(limited))
        late = replace(state, time=jnp.asarray(LATE, jnp.result_type(state.time)))
        done = lambda state, params: _step_env(game, key, state, action, params)[3]
        return done(state, limited), done(late, limited), done(late, endless)

    limited, endless = (_with_limit(params, jnp.asarray(limit)) for limit in (max_steps, NEVER))
    with jax.ensure_compile_time_eval():
        _, state = jax.eval_shape(game.reset_env, jax.random.key(0), limited)
        counts = dataclasses.is_dataclass(state) and any(
            field.name == "time" for field in dataclasses.fields(state)
        )
        if not counts:
            return game
        early, at_limit, without = (bool(done) for done in jax.device_get(trial()))
    if early or not at_limit:
        return game
    if without:
        warnings.warn(
            f"`done` of {type(game).__name__}.step_env is True late in an episode, independently "
            "of the time limit in its parameters. If this is a time limit, return only true "
            "termination as `done` and pass the limit, wrap(game, max_steps=500): returns are then "
            "bootstrapped from the last state.",
            stacklevel=3,
        )
        return game
    return _Separated(game)


def _build(name: str, arguments: tuple[tuple[str, Any], ...]) -> Any:
    """The gymnax object, built once for each default float dtype, that of its arrays."""
    return _built(name, arguments, jnp.result_type(float))


@lru_cache
def _built(name: str, arguments: tuple[tuple[str, Any], ...], float_type: Any) -> Any:
    """It hashes by identity, and its arrays must not be tracers where it is built inside a traced
    function.
    """
    factory = REPAIRED.get(name) or gymnax.registration._registry[name]
    try:
        with jax.ensure_compile_time_eval():
            game = factory(**dict(arguments))
        return game.with_transition_gradients() if game.supports_transition_gradients else game
    except OSError as error:
        raise OSError(
            f"{name} downloads its data when it is first made, and that failed ({error}). Make it "
            "once with internet access; gymnax stores the four MNIST files in /tmp/mnist, which "
            "can be copied to a machine without."
        ) from error


def _space(space: Any) -> Space:
    if isinstance(space, spaces.Discrete):
        return Discrete(space.n)
    if isinstance(space, spaces.Box):
        return Box(space.low, space.high, shape=tuple(space.shape))
    raise TypeError(
        f"There is no action space here for gymnax's {space!r}: only its Discrete and Box can be "
        "adapted."
    )


# ---------------------------------------------------------- where gymnax differs from its originals


class CartPole(classic_control.CartPole):
    """CartPole in which `masscart` and `length` have an effect: gymnax stores the total mass and
    the moment, which are computed here.
    """

    derived = ("total_mass", "polemass_length")

    def step_env(self, key: Any, state: Any, action: Any, params: Any) -> Any:
        total, moment = params.masscart + params.masspole, params.masspole * params.length
        return super().step_env(
            key, state, action, params.replace(total_mass=total, polemass_length=moment)
        )


class MountainCarContinuous(classic_control.ContinuousMountainCar):
    """Mountain car as in gymnasium, where the car stops at the left wall; in gymnax it keeps its
    speed there, and stops beyond the goal.
    """

    def step_env(self, key: Any, state: Any, action: Any, params: Any) -> Any:
        speed = (
            state.velocity
            + jnp.clip(action[0], params.min_action, params.max_action) * params.power
        )
        speed = jnp.clip(
            speed - jnp.cos(3 * state.position) * params.gravity,
            -params.max_speed,
            params.max_speed,
        )
        position = jnp.clip(state.position + speed, params.min_position, params.max_position)
        speed = jnp.where((position == params.min_position) & (speed < 0), 0.0, speed)
        state = state.replace(position=position, velocity=speed, time=state.time + 1)
        arrived = self.is_terminated(state, params)
        return self.get_obs(state), state, 100.0 * arrived - 0.1 * action[0] ** 2, arrived, {}


class DiscountingChain(bsuite.DiscountingChain):
    """The chain as in bsuite, where it terminates with its last reward; gymnax truncates it."""

    def is_terminated(self, state, params):
        return state.time >= params.reward_timestep.max()


class MNISTBandit(bsuite.MNISTBandit):
    """MNIST with unsigned pixels; gymnax reads signed bytes, so bright pixels are negative."""

    def __init__(self, fraction: float = 1.0):
        super().__init__(fraction)
        self.images = self.images.astype(jnp.uint8)


REPAIRED = {
    "CartPole-v1": CartPole,
    "MountainCarContinuous-v0": MountainCarContinuous,
    "DiscountingChain-bsuite": DiscountingChain,
    "MNISTBandit-bsuite": MNISTBandit,
}
