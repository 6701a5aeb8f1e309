"""The product of two bonuses."""

import dataclasses
from typing import Any

import jax

from jaxrl.clock import Metrics
from jaxrl.env import Env
from jaxrl.exploration.bonus import Bonus
from jaxrl.rollout import Transition
from jaxrl.rules.base import check_field
from jaxrl.tree import pytree


@pytree
class Product(Bonus):
    """The product of two bonuses, such as a global and an episodic one (Henaff et al., 2023):
    `Product(first=RND(), second=E3B())`.

    Set `weight`, `reward_weight`, `discount`, `normalize` and `channel` on the product: `first` and
    `second` must have the defaults.
    """

    first: Bonus = dataclasses.field(kw_only=True)
    second: Bonus = dataclasses.field(kw_only=True)

    def __post_init__(self) -> None:
        check_field(self, "first", Bonus, "rl.exploration.RND()")
        check_field(self, "second", Bonus, "rl.exploration.E3B()")
        for name, default in vars(Bonus()).items():
            for bonus in (self.first, self.second):
                value = vars(bonus)[name]
                if isinstance(value, int | float | str) and value != default:
                    raise ValueError(
                        f"{type(bonus).__name__} has {name}={value!r}, which a product does not "
                        f"use: write Product(..., {name}={value!r})."
                    )

    @property
    def episodic(self) -> bool:
        return self.first.episodic or self.second.episodic

    def start(self, key: jax.Array, env: Env, width: int) -> tuple[Any, Any]:
        key_first, key_second = jax.random.split(key)
        return self.first.start(key_first, env, width), self.second.start(key_second, env, width)

    def start_memory(self, env: Env, width: int) -> tuple[Any, Any]:
        return self.first.start_memory(env, width), self.second.start_memory(env, width)

    def bonus(
        self, key: jax.Array, model: Any, memory: Any, batch: Transition
    ) -> tuple[Any, jax.Array]:
        key_first, key_second = jax.random.split(key)
        first, bonus = self.first.bonus(key_first, model[0], memory[0], batch)
        second, factor = self.second.bonus(key_second, model[1], memory[1], batch)
        return (first, second), bonus * factor

    def observe(
        self, key: jax.Array, model: Any, memory: Any, batch: Transition
    ) -> tuple[Any, Any, jax.Array, Metrics]:
        key_first, key_second = jax.random.split(key)
        one, first, bonus, metrics = self.first.observe(key_first, model[0], memory[0], batch)
        other, second, factor, more = self.second.observe(key_second, model[1], memory[1], batch)
        named = {f"first_{name}": x for name, x in metrics.items()}
        named |= {f"second_{name}": x for name, x in more.items()}
        return (one, other), (first, second), bonus * factor, named
