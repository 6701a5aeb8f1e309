"""What a trajectory is worth. Every function reads one trajectory [T], newest last; the caller
vmaps.

Two masks, two meanings: `terminated` ends the value (no bootstrap), `done` (terminated or
truncated) ends the sum. `next_value` is the value of the true successor, also where the next row
belongs to another episode.
"""

import chex
import jax
import jax.numpy as jnp


def accumulate(x: jax.Array, decay: jax.Array, last: jax.Array | float = 0.0) -> jax.Array:
    """Solves y[t] = x[t] + decay[t] * y[t + 1] from the end, where y[T] = `last`. [T]."""
    chex.assert_rank([x, decay], 1)

    def backward(y: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        y = now[0] + now[1] * y
        return y, y

    return jax.lax.scan(backward, jnp.asarray(last, x.dtype), (x, decay), reverse=True, unroll=8)[1]


def td_target(
    reward: jax.Array, next_value: jax.Array, terminated: jax.Array, gamma: float | jax.Array
) -> jax.Array:
    """One reward and the value of what follows. [T]."""
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
    """Generalised advantage estimates (Schulman et al., 2016, equation 16). [T]."""
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
    """The lambda-return: (1 - lam) parts next value, lam parts next return (Sutton and Barto, 2018,
    12.2). [T].

    A truncated step, and the last one, bootstrap with the next value alone.
    """
    own = jnp.where(done, 1.0, 1.0 - lam)  # a done step has no next return to mix in
    return accumulate(
        td_target(reward, own * next_value, terminated, gamma),
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
    """V-trace value targets and policy-gradient advantages (Espeholt et al., 2018, equations 1 and
    4). [T], [T].

    `ratio` is the chance of the action under the learner over that under the actor.
    """
    rho, c = jnp.minimum(ratio, max_rho), lam * jnp.minimum(ratio, max_c)
    error = rho * (td_target(reward, next_value, terminated, gamma) - value)
    target = value + accumulate(error, gamma * c * (1.0 - done))
    follows = jnp.where(done, next_value, jnp.append(target[1:], next_value[-1]))
    return target, rho * (td_target(reward, follows, terminated, gamma) - value)


def n_step(
    reward: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    done: jax.Array,
    gamma: float | jax.Array,
    n: int,
) -> jax.Array:
    """The sum of up to `n` rewards, then the next value; fewer where an episode or the trajectory
    ends. [T].
    """
    one = td_target(reward, next_value, terminated, gamma)
    target = one
    for _ in range(n - 1):
        target = jnp.append(
            jnp.where(done, one, reward + gamma * jnp.roll(target, -1))[:-1], one[-1]
        )
    return target


def n_step_sums(
    reward: jax.Array, discount: jax.Array, done: jax.Array, n: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What `n_step` needs of a value not known yet: reward sums, their discounts, and the rows that
    the value follows.

    For each row the sum stops after `n` rewards, at the first `done`, or at the last row; there
    `target = sum + discount * next_value[row]`. `discount` is gamma, 0 where the step terminated.
    [T], [T], [T] (int32).
    """
    chex.assert_equal_shape([reward, discount, done])
    own = reward, discount, jnp.arange(len(reward))
    stops = done.at[-1].set(True)
    total, product, row = own
    for _ in range(n - 1):
        following = jax.tree.map(lambda x: jnp.roll(x, -1), (total, product, row))
        longer = reward + discount * following[0], discount * following[1], following[2]
        total, product, row = (
            jnp.where(stops, short, long) for short, long in zip(own, longer, strict=True)
        )
    return total, product, row
