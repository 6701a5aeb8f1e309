"""Programs as parts of rules: a value loss of `TD`, a drift of `Surrogate`, or any function.

Each is a `SymbolicFunction`; its signature is its effect on learning at sixteen fixed points.
"""

import functools
from collections.abc import Callable

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
from jaxrl.tree import leaf, pytree

NUM_ACTIONS = 3  # of the probes


@pytree
class ValueProgram(ValueLoss, SymbolicFunction):
    """A value loss of `TD`, as a program of the fields of `Prediction`.

    They are values, next_values, action, reward, discount and fraction. Masked actions have values
    of -1e4.
    """

    program: Program

    @classmethod
    def of(cls, text: str, lines: int = 0) -> "ValueProgram":
        """The loss with this formula (see `parse`)."""
        return cls(parse(text, VALUE_LANGUAGE, lines))

    def __call__(self, prediction: Prediction) -> jax.Array:
        return self.program(
            values=prediction.values,
            next_values=prediction.next_values,
            action=prediction.action[..., None],
            reward=prediction.reward[..., None],
            discount=prediction.discount[..., None],
            fraction=prediction.fraction,
        )[..., 0]

    def signature(self) -> jax.Array:
        """The slope along a fixed direction of the values: terms without them don't change what is
        learned. [16].
        """
        values, direction, next_values = (
            jnp.asarray(probes(name, width=NUM_ACTIONS))
            for name in ("values", "way", "next_values")
        )
        action = jnp.arange(PROBES) % NUM_ACTIONS
        reward, discount = _probes("reward", -1.0, 1.0), _probes("discount", 0.0, 1.0)

        def loss(values: jax.Array) -> jax.Array:
            return self(Prediction(values, action, reward, discount, next_values, jnp.float32(0.5)))

        return jax.jvp(loss, (values,), (direction,))[1]


@pytree
class DriftProgram(Objective, SymbolicFunction):
    """ratio * advantage less a drift that a program computes, for `Surrogate`.

    The drift is D = relu(f - f(ratio = 1) - margin), where f is a program of ratio, log_ratio,
    advantage, kl (ratio - 1 - log ratio) and fraction (of the training run that is over). With a
    margin above 0, D and its slope are 0 around ratio 1 for any program: the drift conditions of
    mirror learning (Kuba et al., 2022), as in `LPO`. The ratio is clipped to [e^-9, e^9].
    """

    program: Program
    margin: float = leaf(0.0, "[0, inf)")

    @classmethod
    def of(cls, text: str, margin: float = 0.0, lines: int = 0) -> "DriftProgram":
        """The objective with this formula for f (see `parse`)."""
        return cls(parse(text, DRIFT_LANGUAGE, lines), margin)

    def at(self, clock: Clock) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """The objective at this point of the training run."""
        return functools.partial(self, fraction=clock.fraction)

    def __call__(
        self, ratio: jax.Array, advantage: jax.Array, fraction: jax.Array | float = 0.0
    ) -> jax.Array:
        return ratio * advantage - self.drift(ratio, advantage, fraction)

    def drift(
        self, ratio: jax.Array, advantage: jax.Array, fraction: jax.Array | float = 0.0
    ) -> jax.Array:
        """The drift D, elementwise, after this fraction of the training run. [...]."""
        value = self._value(ratio, advantage, fraction)
        return jax.nn.relu(
            value - self._value(jnp.ones_like(ratio), advantage, fraction) - self.margin
        )

    def _value(
        self, ratio: jax.Array, advantage: jax.Array, fraction: jax.Array | float
    ) -> jax.Array:
        log_ratio = jnp.log(jnp.clip(ratio, jnp.exp(-9.0), jnp.exp(9.0)))
        kl = ratio - 1.0 - log_ratio
        return self.program(
            ratio=ratio, log_ratio=log_ratio, advantage=advantage, kl=kl, fraction=fraction
        )

    def signature(self) -> jax.Array:
        """The slope of f in the ratio, as the value at ratio 1 is taken off. [16]."""
        advantage, fraction = _probes("advantage", -2.0, 2.0), _probes("fraction", 0.0, 1.0)
        ratio = _probes("ratio", 0.25, 4.0)

        def value(ratio: jax.Array) -> jax.Array:
            return self._value(ratio, advantage, fraction)

        return jax.jvp(value, (ratio,), (jnp.ones(PROBES),))[1]


@pytree
class FunctionProgram(SymbolicFunction):
    """A program of any inputs, as a function."""

    program: Program

    def __call__(self, **inputs: jax.Array) -> jax.Array:
        return self.program(**inputs)

    def signature(self) -> jax.Array:
        """The values themselves. [16]."""
        return self.program(**{name: probes(name)[:, 0] for name in self.program.language.names})


def _probes(name: str, low: float, high: float) -> jax.Array:
    return jnp.asarray(probes(name, low, high)[:, 0])


DQN = "(at(values, action) - (reward + discount * best(next_values))) ** 2"
DQN_REG = f"0.1 * at(values, action) + {DQN}"
DQN_CLIPPED = (
    f"max(at(values, action), {DQN} + (reward + discount * best(next_values)))"
    " + max(at(values, action) - (reward + discount * best(next_values)), discount * "
    "best(next_values) ** 2)"
)
CLIP = "max((ratio - max(min(ratio, 1.2), 0.8)) * advantage, 0)"
SPO = "2.5 * abs(advantage) * (ratio - 1) ** 2"
