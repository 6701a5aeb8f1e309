"""Exact solutions of LPGGrid, TwoColors and any finite MDP, which turn returns into scores.

Pure functions of one level or process; jit and vmap them as needed.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from . import tabular
from .lpg_grid import MOVES, LPGGrid, check
from .tabular import TabularMDP
from .two_colors import TwoColors

# ------------------------------------------------------------------------------------------ LPGGrid


def optimal_return(level: LPGGrid, gamma: jax.Array | float = 1.0) -> jax.Array:
    """Expected return of the optimal policy from the start of a level to its time limit. float [].

    By dynamic programming over the existing objects, the cell of the agent and the number of steps
    left. The optimal policy depends on the time, so one that observes the index of the state alone
    may be unable to reach it.

    Raises:
      ValueError: the objects roam, which makes too many states; or the shapes of the level are
        inconsistent.
    """
    return _start(level, _value(level, gamma, lambda q: q.max(0)))


def random_return(level: LPGGrid, gamma: jax.Array | float = 1.0) -> jax.Array:
    """Expected return of the uniformly random policy. float []."""
    return _start(level, _value(level, gamma, lambda q: q.mean(0)))


def score(level: LPGGrid, returns: jax.Array) -> jax.Array:
    """Mean undiscounted returns on a level, scaled to 0 for the random policy and 1 for the optimal
    one. Any shape.

    If the two are equal, as in a walled cell, the score is 1 minus the difference to the optimum.
    """
    best, worst = optimal_return(level), random_return(level)
    gain = best - worst
    return jnp.where(gain > 1e-6, (returns - worst) / jnp.maximum(gain, 1e-6), 1.0 + returns - best)


def backup(level: LPGGrid, value: jax.Array, gamma: jax.Array | float = 1.0) -> jax.Array:
    """Action values with one more step left than the state values `value` [2 ** num_objects,
    num_cells]. [num_actions, 2 ** num_objects, num_cells].
    """
    arrive = _arrive(level, value, gamma)
    to = jax.vmap(jax.vmap(level.move, (0, None)), (None, 0))(
        jnp.arange(level.num_cells), jnp.arange(len(MOVES))
    )
    return jnp.moveaxis(arrive[:, to], 1, 0)


def _arrive(level: LPGGrid, value: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """Value of entering a cell, given the objects before that. [2 ** num_objects, num_cells].

    The objects are independent, so they are processed one at a time, each as an axis of two
    (absent, present).
    """
    reward, ends, respawn = (
        level.of_objects(x) for x in (level.reward, level.termination, level.respawn)
    )
    paid, continues, later = jnp.zeros_like(value), jnp.ones_like(value), value
    for k in range(len(level.types)):
        here = (jnp.arange(level.num_cells) == level.objects[k])[None, None]
        split = lambda x, k=k: x.reshape(-1, 2, 2**k, level.num_cells)
        absent, present = split(later)[:, 0], split(later)[:, 1]
        after = (1 - respawn[k]) * absent + respawn[k] * present, jnp.where(here, absent, present)
        later = jnp.stack(after, 1).reshape(value.shape)
        paid = split(paid).at[:, 1].add(jnp.where(here, reward[k], 0.0)).reshape(value.shape)
        continues = (
            split(continues)
            .at[:, 1]
            .multiply(jnp.where(here, 1 - ends[k], 1.0))
            .reshape(value.shape)
        )
    return paid + gamma * continues * later


def _value(
    level: LPGGrid, gamma: jax.Array | float, choose: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    check(level)
    if level.roaming:
        raise ValueError(
            "The objects of this level roam, which makes too many states to list: there is an "
            "exact return with roaming=False alone. Compare with a trained agent instead."
        )
    final = jnp.zeros((2 ** len(level.types), level.num_cells))
    steps = jnp.minimum(level.time_limit, level.max_steps).astype(jnp.int32)
    step_back = lambda _, value: choose(backup(level, value, gamma))
    return jax.lax.fori_loop(0, steps, step_back, final)


def _start(level: LPGGrid, value: jax.Array) -> jax.Array:
    exists = jnp.where(level.types >= 0, 2 ** jnp.arange(len(level.types)), 0).sum()
    return value[exists, level.start]


# ---------------------------------------------------------------------------------------- TwoColors


def best_rate(env: TwoColors, num_iterations: int = 300) -> jax.Array:
    """Optimal average reward per step of a policy that knows the signs of the colours. float [].

    By relative value iteration (White, 1963) over the cells of the agent, of the positive and of
    the negative colour. The regret of an agent is the sum of its differences to this rate. Returned
    is the largest gain of any state, an upper bound that converges soon; the smallest gain takes
    thousands of iterations, as moving the negative colour to a better cell is seldom worthwhile.
    """
    num = env.side**2
    agent, good, bad = np.indices((num, num, num))
    apart = (agent != good) & (agent != bad) & (good != bad)
    to = jax.vmap(jax.vmap(env.move, (0, None)), (None, 0))(
        jnp.arange(num), jnp.arange(env.action_space.n)
    )

    def sweep(_: int, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        value = now[1]  # 0 where two are in one cell, which is impossible
        arrive = jnp.where(
            agent == bad,
            value.sum(2, keepdims=True) / (num - 2) - env.reward,
            value + env.step_reward,
        )
        arrive = jnp.where(
            agent == good, value.sum(1, keepdims=True) / (num - 2) + env.reward, arrive
        )
        gain = arrive[to].max(0) - value
        # half a step: full ones would oscillate, as moves alternate between two sets of cells
        damped = value + (gain - gain[0, 1, 2]) / 2
        return jnp.where(apart, gain, -jnp.inf).max(), jnp.where(apart, damped, 0.0)

    start = jnp.float32(0.0), jnp.zeros((num, num, num))
    return jax.lax.fori_loop(0, num_iterations, sweep, start)[0]


# --------------------------------------------------------------------------------------- TabularMDP


def optimal_q(mdp: TabularMDP, gamma: jax.Array | float) -> jax.Array:
    """Optimal action values Q*(s, a). float [S, A].

    By policy iteration (Howard, 1960), exact up to rounding; 0 at final states. Requires `gamma`
    below 1, or that all policies terminate.
    """
    tabular.check(mdp)

    def improve(now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        _, q = now
        return q, policy_q(mdp, jax.nn.one_hot(q.argmax(-1), q.shape[-1]), gamma)

    def improved(now: tuple[jax.Array, jax.Array]) -> jax.Array:
        old, q = now
        # by more than rounding, or two equally good policies would alternate
        return (q - old > 1e-6 * jnp.abs(q).max()).any()

    worst = jnp.full(mdp.transition.shape[:2], -jnp.inf)
    return jax.lax.while_loop(improved, improve, improve((worst, worst)))[1]


def policy_q(mdp: TabularMDP, policy: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """Action values Q(s, a) of a policy, given as probabilities [S, A]. float [S, A]."""
    move, earned = _under(mdp, policy)
    value = _dot(_visits(move, gamma), earned)
    return _expected_reward(mdp) + gamma * _dot(_ongoing(mdp), value)


def occupancy(mdp: TabularMDP, policy: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """Discounted occupancy of a policy, (1 - gamma) sum_t gamma^t P(s_t = s, a_t = a). [S, A].

    It sums to 1 without termination, else to less. Its dot product with the expected rewards is
    (1 - gamma) times the expected return.
    """
    move, _ = _under(mdp, policy)
    time = (1 - gamma) * _dot(mdp.start * ~mdp.terminal, _visits(move, gamma))
    return time[:, None] * policy


def _under(mdp: TabularMDP, policy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Transition probabilities between non-final states, [S, S], and expected rewards, [S], under a
    policy.
    """
    tabular.check(mdp)
    move = jnp.einsum("sa,sat->st", policy, _ongoing(mdp), precision="highest")
    return move, (policy * _expected_reward(mdp)).sum(-1)


def _ongoing(mdp: TabularMDP) -> jax.Array:
    """P(s' | s, a) for non-final s and s', else 0. [S, A, S]."""
    on = ~mdp.terminal
    return mdp.transition * (on[:, None, None] & on[None, None])


def _expected_reward(mdp: TabularMDP) -> jax.Array:
    return (mdp.transition * mdp.reward).sum(-1) * ~mdp.terminal[:, None]


def _visits(move: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """Discounted visits from state to state: sum_t (gamma move)^t, the inverse of I - gamma move.
    [S, S].

    By doubling, up to 2^24 steps, with matrix products alone: a batch of LAPACK's solves can hang
    on a CPU.
    """

    def double(_: int, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        total, power = now
        return total + _dot(power, total), _dot(power, power)

    start = jnp.eye(len(move)), gamma * move
    return jax.lax.fori_loop(0, 24, double, start)[0]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")
