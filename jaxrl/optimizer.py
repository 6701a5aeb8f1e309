"""Optimisers as values, one gradient step, target networks and random permutations."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from jaxrl import packing
from jaxrl.dependence import depends
from jaxrl.errors import check_no_text
from jaxrl.ranges import is_plain_number
from jaxrl.tree import cast_like, leaf, pytree, static

OptimizerBuilder = Callable[[Any], optax.GradientTransformation]  # learning rate -> optimiser
LONGEST_PERIOD = 2.0**31 - 128.0  # the largest float32 that is an int32


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
            instead = f"write a number, such as {name}=1e-3."
            if "schedule" in fields:
                instead = "a schedule multiplies it: write schedule=, such as rl.Linear(0.1)."
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
    parts = packing.vectors(grads)
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in parts) + 1e-16)
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
    changes, new_state = optimizer.update(grads, opt_state, params, **extra_args)
    return optax.apply_updates(params, changes), cast_like(new_state, opt_state), norm


def at_rate(
    build: OptimizerBuilder, lr: Any, params: Any, factor: Any = 1.0
) -> optax.GradientTransformationExtraArgs:
    """The optimiser `build(lr)` at a step where the schedule multiplies its learning rate.

    Where the optimiser's state stores the learning rate (`optax.inject_hyperparams`), the present
    one is written there before the step. Where the state stores something that began as the
    learning rate and has changed since (the step sizes of `optax.rprop`), the steps are those at
    `lr`, times `factor`.

    params: those that the state was initialised with. factor: of the schedule.
    """
    optimizer = optax.with_extra_args_support(build(lr * factor))
    rate = jnp.asarray(lr, jnp.float32)
    stored, _ = depends(lambda lr: build(lr).init(params), (rate,), [True])
    if not any(stored):
        return optimizer

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        old, structure = jax.tree.flatten(state)
        unchanged = _passes_through(
            lambda leaves: optimizer.update(
                updates, structure.unflatten(leaves), params, **extra_args
            )[1],
            old,
        )
        if any(is_stored and not same for is_stored, same in zip(stored, unchanged, strict=True)):
            at_start = optax.with_extra_args_support(build(lr))
            changes, state = at_start.update(updates, state, params, **extra_args)
            return jax.tree.map(lambda x: x * factor, changes), state
        new = jax.tree.leaves(optimizer.init(params))
        present = [
            jax.lax.convert_element_type(now, x.dtype) if is_stored else x
            for x, now, is_stored in zip(old, new, stored, strict=True)
        ]
        return optimizer.update(updates, structure.unflatten(present), params, **extra_args)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def _passes_through(function: Callable[[list[Any]], Any], leaves: list[Any]) -> list[bool]:
    """True for each leaf that `function(leaves)` returns as it is, in its place."""
    program = jax.make_jaxpr(function)(leaves).jaxpr
    return [x is y for x, y in zip(program.invars, program.outvars, strict=True)]


def polyak_update(target_params: Any, params: Any, step: jax.Array, tau: Any, period: Any) -> Any:
    """Target-network parameters after gradient step `step` (from 1).

    They move `tau` of the way to `params` every `period` steps: tau 1 with a long period is DQN's
    hard update (Mnih et al., 2015), a small tau with period 1 is DDPG's (Lillicrap et al., 2015).
    period: as in `is_due`.
    """
    return polyak_average(target_params, params, jnp.where(is_due(step, period), tau, 0.0))


def is_due(step: jax.Array, period: Any) -> jax.Array:
    """True at each `period`-th step. [].

    period: a float, so that it can be swept; it is rounded to a whole number, at least 1. The
    remainder is that of integers: float32 has no odd numbers above 2 ** 24.
    """
    if is_plain_number(period) and period <= 1.0:
        return jnp.ones_like(step, bool)
    whole = jnp.round(jnp.clip(jnp.asarray(period, jnp.float32), 1.0, LONGEST_PERIOD))
    return step % whole.astype(jnp.int32) == 0


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

    b1: float = leaf(0.9, "[0, 1)")
    b2: float = leaf(0.999, "[0, 1)")
    eps: float = leaf(1e-8, "[0, inf)")
    eps_root: float = leaf(1e-16, "[0, inf)")
    threshold: float = leaf(5.0, "[4, inf)")

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
