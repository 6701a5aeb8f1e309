"""The environments of gymnax (Lange, 2022): their parameters as leaves, without their clock and
auto-reset.

gymnax 1.x keeps time-outs (`is_truncated`) apart from ends of the game (`is_terminated`);
`terminated` is the latter. Bandits, mazes and robots whose episodes only ever end by the clock are
cut off at `max_steps` and never terminate. Chains that end after a fixed length by their own rule
(DeepSea, UmbrellaChain, MemoryChain) terminate, as their state shows it; so does DiscountingChain,
which gymnax cuts off. MetaMaze terminates when chance puts the agent back on the goal, as in
gymnax.
"""

import dataclasses
import inspect
from collections.abc import Hashable
from functools import lru_cache
from typing import Any

import gymnax.registration
import jax
import jax.numpy as jnp
from gymnax.environments import bsuite, classic_control, minatar, spaces

from envs import draw
from envs.arguments import check_names, frozen
from jaxrl.env import Env, Step
from jaxrl.spaces import Box, Discrete, Space
from jaxrl.tree import pytree, replace, static


@pytree
class FromGymnax(Env):
    """A gymnax environment. `params` are gymnax's EnvParams (leaves); the clock and what follows
    from others is None there.

    An observation from a Discrete space is one-hot, as networks read vectors; those of MinAtar are
    bits, as in MinAtar itself, which takes a quarter of the memory in a replay; others are float32,
    and bytes stay bytes. `make` finds registered environments, `wrap` takes any other.
    """

    params: Any
    source: Hashable = (
        static()
    )  # (id, constructor arguments), equal for equal environments, or an Environment object
    max_steps: int = static()

    def __post_init__(self) -> None:
        if (
            getattr(self.params, "max_steps_in_episode", None) is not None
        ):  # it would be a leaf that changes nothing
            raise TypeError(
                "max_steps_in_episode is not a leaf: the clock is static. Write envs.make(..., "
                "max_steps=100)."
            )

    @property
    def action_space(self) -> Space:
        return _space(self._game().action_space(self._params()))

    def reset(self, key: jax.Array) -> tuple[Any, Any]:
        game, params = self._game(), self._params()
        obs, state = game.reset_env(key, params)
        action = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), game.action_space(params))
        # gymnax starts some numbers as integers that a step makes floats: a scan needs one type,
        # the wider
        _, after, *_ = jax.eval_shape(
            lambda: game.step_env(jax.random.key(0), state, action, params)
        )
        state = jax.tree.map(
            lambda x, y: jnp.asarray(x, jnp.promote_types(jnp.result_type(x), y.dtype)),
            state,
            after,
        )
        return state, self._observation(obs)

    def step(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        obs, after, reward, terminated, info = self._game().step_env(
            key, state, action, self._params()
        )
        after = jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), after, state)
        info = {
            name: jnp.asarray(value) for name, value in info.items() if name != "discount"
        }  # `terminated` says it
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        return after, Step(self._observation(obs), reward, jnp.asarray(terminated, bool), info)

    def draw(self, ax: Any, state: Any) -> None:
        """Draws a state on matplotlib Axes, as `plot.gif` asks."""
        name = self.source[0] if isinstance(self.source, tuple) else type(self.source).__name__
        draw.gymnax(name, self.params, ax, state)

    def _game(self) -> Any:
        return _build(*self.source) if isinstance(self.source, tuple) else self.source

    def _params(self) -> Any:
        return replace(jax.tree.map(jnp.asarray, self.params), max_steps_in_episode=self.max_steps)

    def _observation(self, obs: Any) -> Any:
        game = self._game()
        space = game.observation_space(game.default_params)
        if isinstance(space, spaces.Discrete):
            return jax.nn.one_hot(obs, space.n)
        if type(game).__module__.startswith(minatar.__name__):
            return obs.astype(bool)
        return jax.tree.map(
            lambda x: x if x.dtype == jnp.uint8 else x.astype(jnp.float32), obs
        )  # bytes are images


def names() -> list[str]:
    return list(gymnax.registration.registered_envs)


def make(name: str, *, max_steps: int | None = None, **changes: Any) -> FromGymnax:
    """The gymnax environment registered as `name`; `changes` are fields of its EnvParams or
    arguments of its constructor.
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
    """Any object that is a gymnax Environment, registered or not.

    (jit knows it by identity: wrap once, then use it.)
    """
    with jax.ensure_compile_time_eval():
        params = game.default_params if params is None else params
    max_steps = params.max_steps_in_episode if max_steps is None else max_steps
    left_out = dict.fromkeys([*getattr(game, "derived", ()), "max_steps_in_episode"])
    return FromGymnax(
        replace(params, **left_out),
        game,
        int(max_steps) if isinstance(max_steps, float) else max_steps,
    )


@lru_cache
def _build(name: str, arguments: tuple[tuple[str, Any], ...]) -> Any:
    """The gymnax object, once: it hashes by identity, and its arrays must not be tracers when made
    inside a program.
    """
    factory = REPAIRED.get(name) or gymnax.registration._registry[name]
    try:
        with jax.ensure_compile_time_eval():
            game = factory(**dict(arguments))
        return game.with_transition_gradients() if game.supports_transition_gradients else game
    except OSError as error:
        raise OSError(
            f"{name} downloads its data when it is first made, and that failed ({error}). Make "
            "it once where there is a "
            "network; gymnax keeps the four MNIST files in /tmp/mnist, which can be copied to "
            "a machine without one."
        ) from error


def _space(space: Any) -> Space:
    if isinstance(space, spaces.Discrete):
        return Discrete(space.n)
    if isinstance(space, spaces.Box):
        return Box(space.low, space.high, shape=tuple(space.shape))
    raise TypeError(
        f"The kit has no action space like gymnax's {space!r}: only its Discrete and Box can "
        "be adapted."
    )


# ---------------------------------------------------------- where gymnax differs from its originals


class CartPole(classic_control.CartPole):
    """gymnax stores the sums of its masses, so that a new `masscart` changes nothing; they are
    computed here.
    """

    derived = ("total_mass", "polemass_length")

    def step_env(self, key: Any, state: Any, action: Any, params: Any) -> Any:
        total, moment = params.masscart + params.masspole, params.masspole * params.length
        return super().step_env(
            key, state, action, params.replace(total_mass=total, polemass_length=moment)
        )


class MountainCarContinuous(classic_control.ContinuousMountainCar):
    """gymnasium stops the car at the left wall; gymnax stops it past the goal, and lets it keep its
    speed at the wall.
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
    """bsuite ends the chain with its last reward; gymnax cuts it off there, as if more could
    follow.
    """

    def is_terminated(self, state, params):
        return state.time >= params.reward_timestep.max()


class MNISTBandit(bsuite.MNISTBandit):
    """gymnax reads the pixels as signed bytes, so that the bright ones turn negative."""

    def __init__(self, fraction: float = 1.0):
        super().__init__(fraction)
        self.images = self.images.astype(jnp.uint8)


REPAIRED = {
    "CartPole-v1": CartPole,
    "MountainCarContinuous-v0": MountainCarContinuous,
    "DiscountingChain-bsuite": DiscountingChain,
    "MNISTBandit-bsuite": MNISTBandit,
}
