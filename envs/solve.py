"""Exact solutions, so that a return can be a score: of a level of LPGGrid, of TwoColors, and of any
finite process.

Pure functions of one level or process, for the caller to jit and vmap.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from envs import tabular
from envs.lpg_grid import MOVES, LPGGrid, check
from envs.tabular import TabularMDP
from envs.two_colors import TwoColors

# ------------------------------------------------------------------------------------------ LPGGrid


def optimal_return(level: LPGGrid, gamma: jax.Array | float = 1.0) -> jax.Array:
    """The expected return of the best policy from the start of a level to its time limit. float [].

    By dynamic programming over what the agent can be in: which objects are there, where it is, how
    many steps are left. The best policy knows the time, so that one which sees the state's number
    alone may fall short of it. `gamma` discounts.

    Raises:
      ValueError: the objects roam, which makes too many states; or the shapes of the level do not
        fit together.
    """
    return _start(level, _value(level, gamma, lambda q: q.max(0)))


def random_return(level: LPGGrid, gamma: jax.Array | float = 1.0) -> jax.Array:
    """The same of the policy that takes each action with equal chances."""
    return _start(level, _value(level, gamma, lambda q: q.mean(0)))


def score(level: LPGGrid, returns: jax.Array) -> jax.Array:
    """Mean undiscounted returns on a level as 0 for a random policy and 1 for the best one. Any
    shape.

    Where there is nothing to gain, as in a walled cell, the score is 1 less what was lost.
    """
    best, worst = optimal_return(level), random_return(level)
    gain = best - worst
    return jnp.where(gain > 1e-6, (returns - worst) / jnp.maximum(gain, 1e-6), 1.0 + returns - best)


def backup(level: LPGGrid, value: jax.Array, gamma: jax.Array | float = 1.0) -> jax.Array:
    """Action values with one step more to go than `value` [2 ** num_objects, num_cells].

    [num_actions, ...].
    """
    arrive = _arrive(level, value, gamma)
    to = jax.vmap(jax.vmap(level.move, (0, None)), (None, 0))(
        jnp.arange(level.num_cells), jnp.arange(len(MOVES))
    )
    return jnp.moveaxis(arrive[:, to], 1, 0)


def _arrive(level: LPGGrid, value: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """What entering a cell is worth, given which objects were there before. [2 ** num_objects,
    num_cells].

    The objects are independent: each is one axis of two, absent and present, and is dealt with by
    itself.
    """
    reward, ends, respawn = (
        level.of_objects(x) for x in (level.reward, level.termination, level.respawn)
    )
    paid, survives, later = jnp.zeros_like(value), jnp.ones_like(value), value
    for k in range(len(level.types)):
        here = (jnp.arange(level.num_cells) == level.objects[k])[None, None]
        split = lambda x, k=k: x.reshape(-1, 2, 2**k, level.num_cells)
        absent, present = split(later)[:, 0], split(later)[:, 1]
        after = (1 - respawn[k]) * absent + respawn[k] * present, jnp.where(here, absent, present)
        later = jnp.stack(after, 1).reshape(value.shape)
        paid = split(paid).at[:, 1].add(jnp.where(here, reward[k], 0.0)).reshape(value.shape)
        survives = (
            split(survives)
            .at[:, 1]
            .multiply(jnp.where(here, 1 - ends[k], 1.0))
            .reshape(value.shape)
        )
    return paid + gamma * survives * later


def _value(
    level: LPGGrid, gamma: jax.Array | float, choose: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    check(level)
    if level.roaming:
        raise ValueError(
            "The objects of this level roam, so that its states are too many to list: there is "
            "an exact return for "
            "roaming=False alone. Compare with the return of a trained agent instead."
        )
    nothing = jnp.zeros((2 ** len(level.types), level.num_cells))
    steps = jnp.minimum(level.time_limit, level.max_steps).astype(jnp.int32)
    return jax.lax.fori_loop(
        0, steps, lambda _, value: choose(backup(level, value, gamma)), nothing
    )


def _start(level: LPGGrid, value: jax.Array) -> jax.Array:
    exists = jnp.where(level.types >= 0, 2 ** jnp.arange(len(level.types)), 0).sum()
    return value[exists, level.start]


# ---------------------------------------------------------------------------------------- TwoColors


def best_rate(env: TwoColors, num_iterations: int = 300) -> jax.Array:
    """The most reward a step that a policy which knows the colours can earn in the long run. float
    [].

    By relative value iteration over the cells of the agent, of the colour that pays and of the
    other one (White, 1963). What an agent earns less, summed over its life, is its regret. The
    largest gain of any state is never below the rate, and soon there; the smallest takes thousands
    of iterations, as it seldom pays to send the bad colour to a better place.
    """
    num = env.side**2
    agent, good, bad = np.indices((num, num, num))
    apart = (agent != good) & (agent != bad) & (good != bad)
    to = jax.vmap(jax.vmap(env.move, (0, None)), (None, 0))(
        jnp.arange(num), jnp.arange(env.action_space.n)
    )

    def sweep(_: int, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        value = now[1]  # 0 where two are on one cell, which can't be
        arrive = jnp.where(
            agent == bad,
            value.sum(2, keepdims=True) / (num - 2) - env.reward,
            value + env.step_reward,
        )
        arrive = jnp.where(
            agent == good, value.sum(1, keepdims=True) / (num - 2) + env.reward, arrive
        )
        gain = arrive[to].max(0) - value
        lazy = (
            value + (gain - gain[0, 1, 2]) / 2
        )  # by half: moves alternate as on a chess board, so values would swing
        return jnp.where(apart, gain, -jnp.inf).max(), jnp.where(apart, lazy, 0.0)

    start = jnp.float32(0.0), jnp.zeros((num, num, num))
    return jax.lax.fori_loop(0, num_iterations, sweep, start)[0]


# --------------------------------------------------------------------------------------- TabularMDP


def optimal_q(mdp: TabularMDP, gamma: jax.Array | float) -> jax.Array:
    """Q*(s, a): the discounted return of the best policy after each action; its largest is V*(s).
    float [S, A].

    By policy iteration (Howard, 1960), exact up to rounding. Final states are worth 0. `gamma` is
    below 1, or every policy of the process ends it.
    """
    tabular.check(mdp)

    def improve(now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        _, q = now
        return q, policy_q(mdp, jax.nn.one_hot(q.argmax(-1), q.shape[-1]), gamma)

    def improved(now: tuple[jax.Array, jax.Array]) -> jax.Array:
        old, q = now
        return (
            q - old > 1e-6 * jnp.abs(q).max()
        ).any()  # by more than rounding: else two equal policies take turns

    worst = jnp.full(mdp.transition.shape[:2], -jnp.inf)
    return jax.lax.while_loop(improved, improve, improve((worst, worst)))[1]


def policy_q(mdp: TabularMDP, policy: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """Q(s, a) of a policy [S, A], the chances of each action in each state. float [S, A]."""
    move, earned = _under(mdp, policy)
    value = _dot(_visits(move, gamma), earned)
    return _expected_reward(mdp) + gamma * _dot(_going_on(mdp), value)


def policy_value(mdp: TabularMDP, policy: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """V(s) of a policy [S, A]. float [S]."""
    return (policy * policy_q(mdp, policy, gamma)).sum(-1)


def occupancy(mdp: TabularMDP, policy: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """(1 - gamma) sum_t gamma^t P(s_t = s, a_t = a): how much of its discounted time a policy
    spends so. float [S, A].

    It sums to 1 where nothing ends, else to less; its sum with the expected rewards is (1 - gamma)
    times the return.
    """
    move, _ = _under(mdp, policy)
    time = (1 - gamma) * _dot(mdp.start * ~mdp.terminal, _visits(move, gamma))
    return time[:, None] * policy


def _under(mdp: TabularMDP, policy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The chances of going from state to state without an end, and the expected reward, under a
    policy. [S, S], [S].
    """
    tabular.check(mdp)
    move = jnp.einsum("sa,sat->st", policy, _going_on(mdp), precision="highest")
    return move, (policy * _expected_reward(mdp)).sum(-1)


def _going_on(mdp: TabularMDP) -> jax.Array:
    """P(s' | s, a) from and to states where one acts. [S, A, S]."""
    on = ~mdp.terminal
    return mdp.transition * (on[:, None, None] & on[None, None])


def _expected_reward(mdp: TabularMDP) -> jax.Array:
    return (mdp.transition * mdp.reward).sum(-1) * ~mdp.terminal[:, None]


def _visits(move: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """sum_t (gamma move)^t, which is the inverse of I - gamma move: discounted visits, from state
    to state. [S, S].

    By doubling, up to 2^24 steps: products of matrices alone, as a batch of LAPACK's solves can
    hang on a CPU.
    """

    def double(_: int, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        total, power = now
        return total + _dot(power, total), _dot(power, power)

    start = jnp.eye(len(move)), gamma * move
    return jax.lax.fori_loop(0, 24, double, start)[0]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")
