"""A channel of the environment as a bonus."""

from typing import Any

import jax

from jaxrl.clock import Metrics
from jaxrl.env import Env
from jaxrl.exploration.bonus import Bonus
from jaxrl.rollout import Transition
from jaxrl.tree import pytree, static


@pytree
class ChannelBonus(Bonus):
    """The environment's channel `name` as a bonus, such as that of `rl.envs.WithStatistics`."""

    name: str = static(kw_only=True)

    def start(self, key: jax.Array, env: Env, width: int) -> tuple[()]:
        if self.name not in env.channels:
            known = ", ".join(env.channels) or "none"
            raise ValueError(
                f"ChannelBonus reads the channel {self.name!r}, and {type(env).__name__} has "
                f"{known}: write rl.envs.WithStatistics(env, ..., name={self.name!r}), or the name "
                "of one of its channels."
            )
        return ()

    def bonus(
        self, key: jax.Array, model: Any, memory: Any, batch: Transition
    ) -> tuple[Any, jax.Array]:
        return memory, batch.info[self.name]

    def learn(self, key: jax.Array, model: Any, batch: Transition) -> tuple[Any, Metrics]:
        return model, {}
