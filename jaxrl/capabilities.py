"""Action spaces and options that each algorithm supports, determined by trying to initialise it."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.memories import GRU
from jaxrl.networks import CNN
from jaxrl.spaces import Box, Discrete, Masked, MultiDiscrete, Space
from jaxrl.tree import pytree, static

Maker = Callable[..., Any]  # an entry of rl.ALGORITHMS: from fields to an algorithm
SPACES: dict[str, Space] = {
    "discrete": Discrete(3),
    "multi-discrete": MultiDiscrete((2, 3)),
    "continuous": Box(-1.0, 1.0, (2,)),
}


@pytree
class Probe:
    """A trivial environment with given action space, observation shape, and optional masks."""

    action_space: Space = Discrete(3)
    shape: tuple[int, ...] = static(default=(4,))
    masked: bool = static(default=False)
    max_steps: int = static(default=4)

    def reset(self, key: jax.Array) -> tuple[tuple[()], Any]:
        return (), self._obs()

    def step(self, key: jax.Array, state: tuple[()], action: jax.Array) -> tuple[tuple[()], Step]:
        return (), Step(self._obs(), jnp.float32(1.0), jnp.bool_(False), {})

    def _obs(self) -> Any:
        obs = jnp.ones(self.shape)
        if not self.masked:
            return obs
        return Masked(obs, jnp.ones(self.action_space.heads["logits"], bool))


def supports(maker: Maker) -> dict[str, bool]:
    """Names of action spaces and options, and True for those that the algorithm supports.

    An option is supported if the algorithm accepts it and its state or parameters show an effect.
    """
    spaces = {name: space for name, space in SPACES.items() if _initialises(maker, Probe(space))}
    finite = [space for space in spaces.values() if not isinstance(space, Box)]
    env = Probe(next(iter(spaces.values()), Discrete(3)))
    image = Probe(env.action_space, shape=(10, 10, 2))

    def rnn_state(algo: Any, state: Any) -> Any:
        return algo.start(env)

    def convolutions(algo: Any, state: Any) -> Any:
        return [x for x in jax.tree.leaves(state.params) if x.ndim == 4]

    def obs_stats(algo: Any, state: Any) -> Any:
        return state.obs_stats

    def reward_stats(algo: Any, state: Any) -> Any:
        return state.reward_stats

    return {name: name in spaces for name in SPACES} | {
        "masks": any(_initialises(maker, Probe(space, masked=True)) for space in finite),
        "memory": _initialises(maker, env, rnn_state, memory=GRU(4)),
        "images": _initialises(maker, image, convolutions, network=CNN()),
        "normalize_obs": _initialises(maker, env, obs_stats, normalize_obs=True),
        "normalize_reward": _initialises(maker, env, reward_stats, normalize_reward=True),
    }


def _initialises(
    maker: Maker, env: Env, effect: Callable[[Any, Any], Any] | None = None, **fields: Any
) -> bool:
    """True if an algorithm with these fields initialises, and `effect(algo, state)` has leaves.

    Shapes only: nothing is computed or compiled.
    """
    try:
        algo = maker(**fields)
        state = jax.eval_shape(lambda key: algo.init(key, env), jax.random.key(0))
    except (TypeError, ValueError):  # a refusal; any other error is a bug
        return False
    return effect is None or bool(jax.tree.leaves(effect(algo, state)))


def title(maker: Maker) -> str:
    """The first sentence of the documentation of an algorithm."""
    first_line = (inspect.getdoc(maker) or "").splitlines()[0]
    return re.split(r"(?<!\bal)\. ", first_line)[0].removesuffix(".")


def table(makers: Mapping[str, Maker]) -> list[list[str]]:
    """Supported action spaces and options: a header, and a row of yes or - for each algorithm."""
    supported = {name: supports(maker) for name, maker in makers.items()}
    rows = [
        [name, *("yes" if answer else "-" for answer in answers.values())]
        for name, answers in supported.items()
    ]
    return [["algorithm", *next(iter(supported.values()))], *rows]
