"""Returns, advantages and value targets of one trajectory [T], in order of time.

`batched` applies any of them to a rollout [T, B].

Two masks, two meanings: `terminated` ends the value (no bootstrap), `done` (terminated or
truncated) ends the sum. `next_value` is the value of the true successor state, also where the next
row belongs to another episode.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp


def batched(function: Callable[..., Any], num_arrays: int | None = None) -> Callable[..., Any]:
    """`function` of one trajectory [T], applied to each column of a rollout [T, B, ...].

        advantage = batched(gae)(reward, value, next_value, terminated, done, gamma, lam)

    Equal, bit for bit, to `jax.vmap(function, in_axes=(1, ..., 1, None, ...), out_axes=1)`.

    Args:
      function: of positional arguments; it returns arrays (or a pytree of them) [T, ...].
      num_arrays: the number of leading arguments that have a batch axis 1; the others are shared by
        all columns. By default every argument with leaves of rank 2 or more only is batched, and
        scalars, a clock or a [T] vector are shared.

    Returns:
      A function of the same arguments that returns [T, B, ...].
    """

    def is_batched(index: int, argument: Any) -> bool:
        if num_arrays is not None:
            return index < num_arrays
        leaves = jax.tree.leaves(argument)
        return bool(leaves) and all(jnp.ndim(leaf) >= 2 for leaf in leaves)

    def over_columns(*arguments: Any) -> Any:
        in_axes = tuple(1 if is_batched(i, x) else None for i, x in enumerate(arguments))
        return jax.vmap(function, in_axes=in_axes, out_axes=1)(*arguments)

    return over_columns


def accumulate(x: jax.Array, decay: jax.Array, last: jax.Array | float = 0.0) -> jax.Array:
    """Solution of y[t] = x[t] + decay[t] * y[t + 1], where y[T] = `last`. [T]."""
    chex.assert_rank([x, decay], 1)

    def backward(y: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, decay = row
        y = x + decay * y
        return y, y

    return jax.lax.scan(backward, jnp.asarray(last, x.dtype), (x, decay), reverse=True, unroll=8)[1]


def td_target(
    reward: jax.Array, next_value: jax.Array, terminated: jax.Array, gamma: float | jax.Array
) -> jax.Array:
    """One-step targets: reward + gamma * (1 - terminated) * next_value. [T]."""
    return reward + gamma * (1.0 - terminated) * next_value


def gae(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    done: jax.Array,
    gamma: float | jax.Array,
    lam: float | jax.Array,
) -> jax.Array:
    """Generalized advantage estimates (Schulman et al., 2016, equation 16). [T]."""
    error = td_target(reward, next_value, terminated, gamma) - value
    return accumulate(error, gamma * lam * (1.0 - done))


def lambda_returns(
    reward: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    done: jax.Array,
    gamma: float | jax.Array,
    lam: float | jax.Array,
) -> jax.Array:
    """Lambda-returns (Sutton and Barto, 2018, section 12.2). [T].

    Each bootstraps from (1 - lam) * next value + lam * next return. A truncated step, and the last
    one, bootstrap from the next value alone.
    """
    weight = jnp.where(done, 1.0, 1.0 - lam)  # a done step has no next return to mix in
    return accumulate(
        td_target(reward, weight * next_value, terminated, gamma),
        gamma * lam * (1.0 - done),
        next_value[-1],
    )


def vtrace(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    done: jax.Array,
    ratio: jax.Array,
    gamma: float | jax.Array,
    lam: float | jax.Array = 1.0,
    max_rho: float | jax.Array = 1.0,
    max_c: float | jax.Array = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """V-trace value targets and policy-gradient advantages. [T], [T].

    Espeholt et al. (2018), equations 1 and 4. `ratio` is the probability of the action under the
    learner's policy over that under the actor's; rho and c are the ratios clipped at `max_rho` and
    `max_c`.
    """
    rho, c = jnp.minimum(ratio, max_rho), lam * jnp.minimum(ratio, max_c)
    error = rho * (td_target(reward, next_value, terminated, gamma) - value)
    target = value + accumulate(error, gamma * c * (1.0 - done))
    next_target = jnp.where(done, next_value, jnp.append(target[1:], next_value[-1]))
    return target, rho * (td_target(reward, next_target, terminated, gamma) - value)


def n_step(
    reward: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    done: jax.Array,
    gamma: float | jax.Array,
    n: int,
) -> jax.Array:
    """N-step targets: the discounted sum of up to `n` rewards, then the next value. [T].

    The sum has fewer rewards where the episode or the trajectory ends before.
    """
    one_step = td_target(reward, next_value, terminated, gamma)
    target = one_step
    for _ in range(n - 1):
        extended = jnp.where(done, one_step, reward + gamma * jnp.roll(target, -1))
        target = jnp.append(extended[:-1], one_step[-1])
    return target


def n_step_sums(
    reward: jax.Array, discount: jax.Array, done: jax.Array, n: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Reward sums, discounts and bootstrap rows of `n_step`, for values not known yet.

    For each row the sum stops after `n` rewards, at the first `done`, or at the last row. There
    `target = sum + discount * next_value[row]`. `discount` is gamma, 0 where the step terminated.
    [T], [T], [T] (int32).
    """
    chex.assert_equal_shape([reward, discount, done])
    rows = jnp.arange(len(reward))
    stops = done.at[-1].set(True)
    total, product, row = reward, discount, rows
    for _ in range(n - 1):
        next_total, next_product, next_row = (jnp.roll(x, -1) for x in (total, product, row))
        total = jnp.where(stops, reward, reward + discount * next_total)
        product = jnp.where(stops, discount, discount * next_product)
        row = jnp.where(stops, rows, next_row)
    return total, product, row


def standardized(x: jax.Array, eps: float) -> jax.Array:
    """`x` less its mean, over its standard deviation; as it is where it has a single number. [...].

    eps: added to the variance. One number less its mean is 0, which would undo all learning.
    """
    if x.size == 1:
        return x
    return (x - x.mean()) * jax.lax.rsqrt(x.var() + eps)
