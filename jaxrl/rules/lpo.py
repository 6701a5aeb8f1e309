"""Learned policy optimisation: a learned drift that satisfies mirror learning's conditions."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.clock import Clock
from jaxrl.memories.layers import kernel
from jaxrl.rules.base import check_field
from jaxrl.rules.objectives import Objective, PolicyGradient
from jaxrl.tree import pytree, static

NO_DRIFT = PolicyGradient()


@pytree
class LPO(Objective):
    """Learned policy optimisation: r A - D with the drift D = relu(D_base + f(x) - 1e-4).

    Lu et al. (2022). f is a layer of tanh units without biases and a linear output. Its input is
    x = [z, A z] with z = [log r, log(r)^2, 1 - r, (1 - r)^2], each entry clipped to [-2, 2]. At
    r = 1 all of x is 0, so f is 0, and the relu is flat around there: D >= 0, and D and its
    gradient are 0 at r = 1, whatever the weights (the drift conditions of mirror learning; Kuba et
    al., 2022).

    weights: "hidden" [8, width], or [16, width] where `knows_time`: then the input is
    [x, (n / N) x] at update n of N, and the drift may change over the training run (TA-LPO; Jackson
    et al., 2024); "output" [width]. base: the objective with the drift D_base, e.g. `Clip()`; that
    of the policy gradient is 0. `LPO.random(key)` gives untrained weights.
    """

    weights: dict[str, jax.Array]
    base: Objective = NO_DRIFT
    knows_time: bool = static(default=False)

    def __post_init__(self) -> None:
        check_field(self, "base", Objective, "rl.Clip(0.2)")

    @classmethod
    def random(
        cls,
        key: jax.Array,
        width: int = 128,
        *,
        base: Objective = NO_DRIFT,
        knows_time: bool = False,
        zero: bool = False,
    ) -> "LPO":
        """Random weights of variance 1 / inputs.

        zero: an output layer of zeros, with which the objective is `base`, up to 1e-4.
        """
        key_hidden, key_output = jax.random.split(key)
        hidden = kernel(key_hidden, 16 if knows_time else 8, width)
        output = kernel(key_output, width, 1)[:, 0]
        return cls(
            {"hidden": hidden, "output": jnp.zeros(width) if zero else output}, base, knows_time
        )

    @property
    def clip(self) -> Any:  # type: ignore[override]
        """That of the base, for the metric `clip_fraction`."""
        return self.base.clip

    def at(self, clock: Clock) -> Callable[[jax.Array, jax.Array], jax.Array]:
        return functools.partial(self, fraction=clock.fraction)

    def __call__(
        self, ratio: jax.Array, advantage: jax.Array, fraction: jax.Array | float = 0.0
    ) -> jax.Array:
        return ratio * advantage - self.drift(ratio, advantage, fraction)

    def drift(
        self, ratio: jax.Array, advantage: jax.Array, fraction: jax.Array | float = 0.0
    ) -> jax.Array:
        """The drift, elementwise, after this fraction of the training run. [...]."""
        log_ratio = jnp.log(jnp.maximum(ratio, jnp.finfo(jnp.float32).tiny))
        z = jnp.stack([log_ratio, log_ratio**2, 1.0 - ratio, (1.0 - ratio) ** 2], axis=-1)
        x = jnp.clip(jnp.concatenate([z, advantage[..., None] * z], axis=-1), -2.0, 2.0)
        x = jnp.concatenate([x, fraction * x], axis=-1) if self.knows_time else x
        base = ratio * advantage - self.base(ratio, advantage)
        return jax.nn.relu(
            base + jnp.tanh(x @ self.weights["hidden"]) @ self.weights["output"] - 1e-4
        )
