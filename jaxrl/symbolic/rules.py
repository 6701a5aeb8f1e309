"""Programs at work: as a value loss of `TD`, as a drift of `Surrogate`, and as any function.

Each is a `SymbolicFunction`, whose signature is its effect on learning at sixteen fixed points.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.clock import Clock
from jaxrl.rules.objectives import Objective
from jaxrl.rules.td import Prediction, ValueLoss
from jaxrl.symbolic.formula import parse
from jaxrl.symbolic.program import (
    DRIFT_LANGUAGE,
    PROBES,
    VALUE_LANGUAGE,
    Program,
    SymbolicFunction,
    probes,
)
from jaxrl.tree import pytree

ACTIONS = 3  # of the probes


@pytree
class ValueProgram(ValueLoss, SymbolicFunction):
    """A value loss of `TD`: a program of values, next_values, action, reward, discount and fraction
    (see `Prediction`).

    Values of forbidden actions are -1e4 to it.
    """

    program: Program

    @classmethod
    def of(cls, text: str, lines: int = 0) -> "ValueProgram":
        return cls(parse(text, VALUE_LANGUAGE, lines))

    def __call__(self, prediction: Prediction) -> jax.Array:
        one = lambda name: getattr(prediction, name)[..., None]
        many = {name: getattr(prediction, name) for name in ("values", "next_values")}
        numbers = {name: one(name) for name in ("action", "reward", "discount")}
        return self.program(**many, **numbers, fraction=prediction.fraction)[..., 0]

    def signature(self) -> jax.Array:
        """The slope along a fixed direction of the values: terms without them don't change what is
        learned. [16].
        """
        number = lambda name, low, high: jnp.asarray(probes(name, low, high)[:, 0])
        values, direction, following = (
            jnp.asarray(probes(name, width=ACTIONS)) for name in ("values", "way", "next_values")
        )
        action = jnp.arange(PROBES) % ACTIONS
        others = (
            number("reward", -1.0, 1.0),
            number("discount", 0.0, 1.0),
            following,
            jnp.float32(0.5),
        )
        loss = lambda values: self(Prediction(values, action, *others))
        return jax.jvp(loss, (values,), (direction,))[1]


@pytree
class DriftProgram(Objective, SymbolicFunction):
    """ratio * advantage less a drift that a program computes, for `Surrogate`: D = relu(f - f at
    ratio 1 - margin).

    f is a program of ratio, log_ratio, advantage, kl (r - 1 - log r) and fraction, of the life that
    is over. With a margin above 0, D and its slope are 0 around ratio 1 whatever the program: the
    drift conditions of mirror learning (Kuba et al., 2022), as in `LPO`. The ratio is held within
    e^-9 and e^9.
    """

    program: Program
    margin: float = 0.0

    @classmethod
    def of(cls, text: str, margin: float = 0.0, lines: int = 0) -> "DriftProgram":
        return cls(parse(text, DRIFT_LANGUAGE, lines), margin)

    def at(self, clock: Clock) -> Callable[[jax.Array, jax.Array], jax.Array]:
        return functools.partial(self, fraction=clock.fraction)

    def __call__(
        self, ratio: jax.Array, advantage: jax.Array, fraction: jax.Array | float = 0.0
    ) -> jax.Array:
        return ratio * advantage - self.drift(ratio, advantage, fraction)

    def drift(
        self, ratio: jax.Array, advantage: jax.Array, fraction: jax.Array | float = 0.0
    ) -> jax.Array:
        """What is taken off, elementwise, after this fraction of the life."""
        raw = lambda ratio: self._raw(ratio, advantage, fraction)
        return jax.nn.relu(raw(ratio) - raw(jnp.ones_like(ratio)) - self.margin)

    def _raw(self, ratio: jax.Array, advantage: jax.Array, fraction: Any) -> jax.Array:
        log_ratio = jnp.log(jnp.clip(ratio, jnp.exp(-9.0), jnp.exp(9.0)))
        kl = ratio - 1.0 - log_ratio
        return self.program(
            ratio=ratio, log_ratio=log_ratio, advantage=advantage, kl=kl, fraction=fraction
        )

    def signature(self) -> jax.Array:
        """The slope of f in the ratio, as the value at ratio 1 is taken off. [16]."""
        one = lambda name, low, high: jnp.asarray(probes(name, low, high)[:, 0])
        others = one("advantage", -2.0, 2.0), one("fraction", 0.0, 1.0)
        ratio = one("ratio", 0.25, 4.0)
        return jax.jvp(lambda ratio: self._raw(ratio, *others), (ratio,), (jnp.ones(PROBES),))[1]


@pytree
class FunctionProgram(SymbolicFunction):
    """A program of any inputs, as a function."""

    program: Program

    def __call__(self, **inputs: Any) -> jax.Array:
        return self.program(**inputs)

    def signature(self) -> jax.Array:
        """The values themselves. [16]."""
        return self.program(**{name: probes(name)[:, 0] for name in self.program.language.names})


DQN = "(at(values, action) - (reward + discount * best(next_values))) ** 2"
DQN_REG = f"0.1 * at(values, action) + {DQN}"
DQN_CLIPPED = (
    f"max(at(values, action), {DQN} + (reward + discount * best(next_values)))"
    " + max(at(values, action) - (reward + discount * best(next_values)), discount * "
    "best(next_values) ** 2)"
)
CLIP = "max((ratio - max(min(ratio, 1.2), 0.8)) * advantage, 0)"
SPO = "2.5 * abs(advantage) * (ratio - 1) ** 2"
