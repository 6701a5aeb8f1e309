"""Action spaces and options that each algorithm supports, determined by trying to initialise it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.memories import GRU
from jaxrl.mixers import Additive
from jaxrl.networks import CNN
from jaxrl.spaces import Box, Discrete, Masked, MultiDiscrete, Space
from jaxrl.tree import pytree, static

SPACES: dict[str, Space] = {
    "discrete": Discrete(3),
    "multi-discrete": MultiDiscrete((2, 3)),
    "continuous": Box(-1.0, 1.0, (2,)),
}


@pytree
class Probe(Env):
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


@pytree
class ProbeTeam(Probe):
    """The same for a team of two."""

    num_agents: int = static(default=2)
    shared_reward = True

    def step(self, key: jax.Array, state: tuple[()], action: jax.Array) -> tuple[tuple[()], Step]:
        return (), Step(self._obs(), jnp.ones(self.num_agents), jnp.bool_(False), {})

    def _obs(self) -> Any:
        return jax.tree.map(lambda x: jnp.stack([x] * self.num_agents), super()._obs())


def supports(build: Callable[..., Any]) -> dict[str, bool]:
    """Names of action spaces and options, and True for those that an algorithm supports.

    build: from fields to an algorithm, such as an entry of `rl.PRESETS`.
    An option is supported if the algorithm accepts it and its state or parameters show an effect;
    of teams and mixers it is enough that it initialises.
    """
    spaces = {name: space for name, space in SPACES.items() if _initialises(build, Probe(space))}
    finite = [space for space in spaces.values() if not isinstance(space, Box)]
    env = Probe(next(iter(spaces.values()), Discrete(3)))
    image = Probe(env.action_space, shape=(10, 10, 2))
    team = ProbeTeam(env.action_space)

    def rnn_state(algo: Any, state: Any) -> Any:
        return algo.policy(env, algo.agent(state), greedy=True).rnn_state

    def convolutions(algo: Any, state: Any) -> Any:
        return [x for x in jax.tree.leaves(state.params) if x.ndim == 4]

    def obs_stats(algo: Any, state: Any) -> Any:
        return state.obs_stats

    def reward_stats(algo: Any, state: Any) -> Any:
        return state.reward_stats

    return {name: name in spaces for name in SPACES} | {
        "masks": any(_initialises(build, Probe(space, masked=True)) for space in finite),
        "memory": _initialises(build, env, rnn_state, memory=GRU(4)),
        "teams": _initialises(build, team),
        "mixer": _initialises(build, team, mixer=Additive()),
        "images": _initialises(build, image, convolutions, network=CNN()),
        "normalize_obs": _initialises(build, env, obs_stats, normalize_obs=True),
        "normalize_reward": _initialises(build, env, reward_stats, normalize_reward=True),
    }


def _initialises(
    build: Callable[..., Any],
    env: Env,
    effect: Callable[[Any, Any], Any] | None = None,
    **fields: Any,
) -> bool:
    """True if an algorithm with these fields initialises, and `effect(algo, state)` has leaves.

    Shapes only: nothing is computed or compiled.
    """
    try:
        algo = build(**fields)
        state = jax.eval_shape(lambda key: algo.init(key, env), jax.random.key(0))
    except (TypeError, ValueError):  # a refusal; any other error is a bug
        return False
    return effect is None or bool(jax.tree.leaves(effect(algo, state)))


def table(builders: Mapping[str, Callable[..., Any]]) -> list[list[str]]:
    """Supported action spaces and options: a header, and a row of yes or - for each algorithm."""
    supported = {name: supports(build) for name, build in builders.items()}
    rows = [
        [name, *("yes" if answer else "-" for answer in answers.values())]
        for name, answers in supported.items()
    ]
    return [["algorithm", *next(iter(supported.values()))], *rows]
