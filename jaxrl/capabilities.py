"""Which algorithm takes what, found by trying: each answer is a learner that begins, or an
algorithm that refuses.
"""

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

Maker = Callable[..., Any]
SPACES: dict[str, Space] = {
    "discrete": Discrete(3),
    "multi-discrete": MultiDiscrete((2, 3)),
    "continuous": Box(-1.0, 1.0, (2,)),
}


@pytree
class Probe(Env):
    """An environment of which only its kinds count: of actions, of observations [shape], and
    whether it has masks.
    """

    action_space: Any = Discrete(3)
    shape: tuple[int, ...] = static(default=(4,))
    masked: bool = static(default=False)
    max_steps: int = static(default=4)

    def reset(self, key: jax.Array) -> tuple[tuple[()], Any]:
        return (), self._obs()

    def step(self, key: jax.Array, state: tuple[()], action: jax.Array) -> tuple[tuple[()], Step]:
        return (), Step(self._obs(), jnp.float32(1.0), jnp.bool_(False), {})

    def _obs(self) -> Any:
        seen = jnp.ones(self.shape)
        return (
            Masked(seen, jnp.ones(self.action_space.heads["logits"], bool)) if self.masked else seen
        )


def takes(maker: Maker) -> dict[str, bool]:
    """What the algorithm of this maker takes; and, of what it takes, that its learner has something
    to show for it.
    """
    taken = {name: space for name, space in SPACES.items() if _begins(maker, Probe(space))}
    finite = [space for space in taken.values() if not isinstance(space, Box)]
    env = Probe(next(iter(taken.values()), Discrete(3)))
    image = Probe(env.action_space, shape=(10, 10, 2))
    convolutions = lambda algo, state: [x for x in jax.tree.leaves(state.params) if x.ndim == 4]
    return {name: name in taken for name in SPACES} | {
        "masks": any(_begins(maker, Probe(space, masked=True)) for space in finite),
        "memory": _begins(maker, env, lambda algo, state: algo.start(env), memory=GRU(4)),
        "images": _begins(maker, image, convolutions, network=CNN()),
        "normalize_obs": _begins(
            maker, env, lambda algo, state: state.obs_stats, normalize_obs=True
        ),
        "normalize_reward": _begins(
            maker, env, lambda algo, state: state.reward_stats, normalize_reward=True
        ),
    }


def _begins(
    maker: Maker, env: Any, shown: Callable[[Any, Any], Any] | None = None, **fields: Any
) -> bool:
    """Whether a learner begins here, none of it computed, and what is `shown` of it is not
    nothing.
    """
    try:
        algo = maker(**fields)
        state = jax.eval_shape(lambda key: algo.init(key, env), jax.random.key(0))
    except (TypeError, ValueError):  # so it refuses; any other error is a mistake
        return False
    return shown is None or bool(jax.tree.leaves(shown(algo, state)))


def title(maker: Maker) -> str:
    """The first sentence that a maker says of itself."""
    first = (inspect.getdoc(maker) or "").splitlines()[0]
    return re.split(r"(?<!\bal)\. ", first)[0].removesuffix(".")


def table(makers: Mapping[str, Maker]) -> list[list[str]]:
    """Which algorithm takes what: a row for each, below a row of names."""
    found = {name: takes(maker) for name, maker in makers.items()}
    rows = [
        [name, *("yes" if answer else "-" for answer in answers.values())]
        for name, answers in found.items()
    ]
    return [["algorithm", *next(iter(found.values()))], *rows]
