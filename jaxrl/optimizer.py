"""Optimisers as values, one gradient step, target networks and random permutations."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from jaxrl.errors import check_no_text
from jaxrl.tree import pytree, static

OptimizerBuilder = Callable[[Any], optax.GradientTransformation]  # learning rate -> optimiser


@pytree
class Optimizer:
    """An optax optimiser as a value: `build(learning_rate, **options)`.

    The options are leaves, so they can be swept. Adam needs `eps_root` above 0 where a
    meta-gradient is taken through it: the square root of a second moment of 0 has no gradient.
    """

    build: Callable[..., optax.GradientTransformation] = static(default=optax.adam)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self, lr: Any) -> optax.GradientTransformation:
        return self.build(lr, **self.options)


def check_gradient_fields(record: Any) -> None:
    """Check the fields of a dataclass for its gradient steps: learning rates and `optimizer`.

    An `optimizer` that is a bare function, which can't be a leaf, becomes an `Optimizer`.

    Raises:
      TypeError: a learning rate that is a function, a finished optimiser, or a text.
    """
    check_no_text(record)
    fields = vars(record)
    for name in ("lr", "actor_lr", "temperature_lr"):
        if callable(fields.get(name)):
            instead = f"write a number, say {name}=1e-3."
            if "schedule" in fields:
                instead = "a schedule multiplies it: write schedule=, say rl.Linear(0.1)."
            raise TypeError(f"{name} is a number, and got a function; {instead}")
    optimizer: Any = fields.get("optimizer")
    if isinstance(optimizer, tuple) and not callable(optimizer):
        raise TypeError(
            "optimizer is a function from a learning rate to an optax transformation, and got a "
            "finished one: write optimizer=optax.adam and lr=1e-3 rather than "
            "optimizer=optax.adam(1e-3)."
        )
    if callable(optimizer) and jax.tree_util.all_leaves([optimizer]):
        build = cast(OptimizerBuilder, optimizer)
        object.__setattr__(record, "optimizer", Optimizer(build))


def clip_by_global_norm(grads: Any, max_norm: jax.Array | float) -> tuple[Any, jax.Array]:
    """Gradients scaled to a global norm of at most `max_norm`, and their norm before. (tree, []).

    Differentiable at a gradient of zero.
    """
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)) + 1e-16)
    scale = jnp.minimum(1.0, max_norm / norm)
    return jax.tree.map(lambda g: g * scale, grads), norm


def apply_gradients(
    optimizer: optax.GradientTransformation,
    grads: Any,
    opt_state: optax.OptState,
    params: Any,
    max_norm: jax.Array | float,
    **extra_args: Any,
) -> tuple[Any, optax.OptState, jax.Array]:
    """Return the parameters and the optimiser state after one step, and the gradient's norm.

    max_norm: the gradient's global norm is clipped to it. extra_args: what a learned optimiser may
    read: the `clock` of the training run, the elapsed fraction `epoch` of an update's epochs, and a
    `key`; optax's common optimisers ignore them.
    """
    grads, norm = clip_by_global_norm(grads, max_norm)
    optimizer = optax.with_extra_args_support(optimizer)
    changes, opt_state = optimizer.update(grads, opt_state, params, **extra_args)
    return optax.apply_updates(params, changes), opt_state, norm


def polyak_update(target_params: Any, params: Any, step: jax.Array, tau: Any, period: Any) -> Any:
    """Target-network parameters after gradient step `step` (from 1).

    They move `tau` of the way to `params` every `period` steps: tau 1 with a long period is DQN's
    hard update (Mnih et al., 2015), a small tau with period 1 is DDPG's (Lillicrap et al., 2015).
    """
    return polyak_average(target_params, params, jnp.where(step % period == 0, tau, 0.0))


def polyak_average(target_params: Any, params: Any, tau: Any) -> Any:
    """old + tau * (new - old) for each leaf of the old `target_params` and the new `params`."""
    return jax.tree.map(lambda old, new: old + tau * (new - old), target_params, params)


def permutation(key: jax.Array, n: int) -> jax.Array:
    """The numbers 0 to n - 1 in random order. [n].

    Sorts single words: their high bits are random, their low bits are the index. It takes a third
    of the time of `jax.random.permutation` on a CPU. Two indices keep their order where their
    random bits are equal, one pair in 2 ** (32 - log2 n).
    """
    low = jnp.uint32((1 << (n - 1).bit_length()) - 1)
    words = jax.random.bits(key, (n,)) & ~low | jnp.arange(n, dtype=jnp.uint32)
    return (jax.lax.sort(words, is_stable=False) & low).astype(jnp.int32)


@pytree
class RAdam:
    """Rectified Adam (Liu et al., 2020, algorithm 2).

    It is Adam once the variance of the step is tractable, and momentum before.

    The numbers are those of `optax.radam`, through which a meta-gradient is NaN: its factor is the
    root of a negative number in the first steps, where it isn't used.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    eps_root: float = 1e-16
    threshold: float = 5.0

    def __call__(self, lr: Any) -> optax.GradientTransformationExtraArgs:
        adam = optax.scale_by_adam(self.b1, self.b2, self.eps, self.eps_root)

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            scaled, state = adam.update(updates, state, params)
            adapts, factor = self._factor(state.count)

            def select(adapted: jax.Array, mean: jax.Array) -> jax.Array:
                return jnp.where(adapts, factor * adapted, mean / (1.0 - self.b1**state.count))

            return jax.tree.map(select, scaled, state.mu), state

        rectified = optax.GradientTransformation(adam.init, update)
        return optax.chain(rectified, optax.scale_by_learning_rate(lr))

    def _factor(self, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """True where the variance is tractable, and the factor on Adam's step. [], []."""
        longest, power = 2.0 / (1.0 - self.b2) - 1.0, self.b2**step
        length = longest - 2.0 * step * power / (1.0 - power)
        adapts = length >= self.threshold
        safe = jnp.where(adapts, length, 5.0)
        above = (safe - 4.0) * (safe - 2.0) * longest
        return adapts, jnp.sqrt(above / ((longest - 4.0) * (longest - 2.0) * safe))
