"""A bound for learning-rate schedules (Schaipp et al., 2025, theorem 3.1; Defazio et al., 2023).

For a convex function with gradients of norm at most G, from a distance D to the optimum, the last
of T points of gradient descent with rates lr * s_t has, in expectation, an excess loss of at most

    D^2 / (2 lr sum_t s_t) + lr G^2 / 2 (q_1 / r_1 + sum_{k < T} s_k q_k / (r_k r_{k + 1})),

where r_k and q_k are the sums of s_t and of s_t^2 for t = k ... T. The best rate balances the two
terms, so that the bound ranks schedules and carries the best rate of one over to another.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrl as rl
from experiments.papers import Arm, Check, Claim
from jaxrl.tree import pytree


@pytree
class InverseRoot:
    """The factor 1 / sqrt(n + 1) at update n, which takes no number of updates."""

    def __call__(self, clock: rl.Clock) -> jax.Array:
        return 1.0 / jnp.sqrt(clock.n + 1.0)


STARTS = (0.2, 0.4, 0.6, 0.8, 0.9)
SCHEDULES = [rl.Constant(), InverseRoot(), rl.Linear(), rl.Cosine(), *map(rl.Cooldown, STARTS)]
DOUBLINGS = tuple(range(-4, 6))  # of the learning rate, from the rate of a problem
D = 16  # of x
BATCH = 16


def factors(steps: int) -> jax.Array:
    """The factors of all schedules. [schedules, steps]."""
    clocks = jax.vmap(lambda n: rl.Clock(n, float(steps)))(jnp.arange(steps))
    return jnp.stack([jax.vmap(each)(clocks) for each in SCHEDULES])


def terms(steps: int, last: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The bound's factors of D^2 / lr and of lr G^2. [schedules] each.

    last: of the last point, rather than of the average weighted by the schedule.
    """
    factor = np.asarray(factors(steps), float)
    rest, squares = (np.cumsum(x[:, ::-1], 1)[:, ::-1] for x in (factor, factor**2))
    of_last = (factor * squares / rest)[:, :-1] / rest[:, 1:]
    return 0.5 / rest[:, 0], 0.5 * (squares[:, 0] / rest[:, 0] + last * of_last.sum(1))


# ----------------------------------------------- problems: (loss, gradient, first parameters, rate)


def non_smooth(key: jax.Array) -> tuple:
    """The largest of 64 absolute residuals, with gradients of norm at most 1 and D = 1."""
    rows = jax.random.uniform(key, (64, D), minval=-1.0)
    rows = rows / jnp.linalg.norm(rows, axis=1).max()
    loss = lambda x: jnp.abs((rows * (x - 1.0 / D**0.5)).sum(1)).max()
    return loss, lambda x, key: jax.grad(loss)(x), jnp.zeros(D), 1.0


def on_batches(loss: Any, data: Any, params: Any, rate: float) -> tuple:
    """The problem of a loss(params, data) of which a gradient sees 16 random samples."""

    def grad(params: Any, key: jax.Array) -> Any:
        rows = jax.random.randint(key, (BATCH,), 0, len(data[1]))
        return jax.grad(loss)(params, jax.tree.map(lambda x: x[rows], data))

    return lambda params: loss(params, data), grad, params, rate


def quadratic(key: jax.Array) -> tuple:
    """Least squares on 256 samples with noisy targets and variances 1, 1/2, ... 1/16."""
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (256, D)) / jnp.sqrt(jnp.arange(1.0, D + 1.0))
    target = (x * jax.random.normal(keys[1], (D,))).sum(1) + jax.random.normal(keys[2], (256,))
    loss = lambda w, data: 0.5 * jnp.square((data[0] * w).sum(1) - data[1]).mean()
    return on_batches(loss, (x, target), jnp.zeros(D), 4.0)


def logistic(key: jax.Array) -> tuple:
    """Logistic regression on 256 samples."""
    keys = jax.random.split(key, 3)
    x, best = jax.random.normal(keys[0], (256, D)), jax.random.normal(keys[1], (D,)) / 2
    sign = jnp.where(jax.random.uniform(keys[2], (256,)) < jax.nn.sigmoid(x @ best), 1.0, -1.0)
    loss = lambda w, data: jax.nn.softplus(-data[1] * (data[0] * w).sum(1)).mean()
    return on_batches(loss, (x, sign), jnp.zeros(D), 8.0)


def critic(key: jax.Array) -> tuple:
    """PPO's value loss: a small critic and the returns of a random policy on CartPole."""
    key_play, key_net = jax.random.split(key)
    env = rl.envs.make("CartPole-v1")

    def play(now: Any, key: jax.Array) -> tuple[Any, tuple]:
        keys = jax.random.split(key, 3)
        state, step = env.step(keys[0], now[0], env.action_space.sample(keys[1]))
        begin = lambda x, y: jnp.where(step.terminated, x, y)
        return jax.tree.map(begin, env.reset(keys[2]), (state, step.obs)), (now[1], step.terminated)

    start, keys = env.reset(key_net), jax.random.split(key_play, 512)
    obs, ends = jax.lax.scan(play, start, keys)[1]
    back = lambda total, end: (1.0 + 0.99 * total * ~end,) * 2
    returns = jax.lax.scan(back, 0.0, ends, reverse=True)[1] / 10.0

    def loss(params: Any, data: Any) -> jax.Array:
        hidden = jnp.tanh((data[0][:, None] * params[0]).sum(-1) + params[1])
        return 0.5 * jnp.square((hidden * params[2]).sum(-1) + params[3] - data[1]).mean()

    weights = jax.random.normal(key_net, (D, 5)) / 4
    first = weights[:, :4], jnp.zeros(D), weights[:, 4], jnp.zeros(())
    return on_batches(loss, (obs, returns), first, 0.3)


PROBLEMS = {f.__name__.replace("_", "-"): f for f in (non_smooth, quadratic, logistic, critic)}


def run(seed: Any, schedule: Any, doublings: Any, problem: str, steps: int) -> dict[str, jax.Array]:
    """The loss at the last of `steps` points."""
    loss, grad, params, rate = PROBLEMS[problem](jax.random.key(seed))
    rates = rate / steps**0.5 * 2.0**doublings * factors(steps)[schedule]
    optimizer = optax.adam(1.0) if problem == "critic" else optax.sgd(1.0)

    def step(n: Any, now: Any) -> Any:
        params, state = now
        grads = grad(params, jax.random.fold_in(jax.random.key(seed + 1), n))
        change, state = optimizer.update(grads, state)
        return jax.tree.map(lambda x, dx: x + rates[n] * dx, params, change), state

    params, _ = jax.lax.fori_loop(0, steps - 1, step, (params, optimizer.init(params)))
    return {"loss": jnp.nan_to_num(loss(params), nan=1e6).clip(max=1e6)}


# ------------------------------------------------------------------------------------- measurements


def over_seeds(statistic: Any, arm: str) -> Any:
    """A measure: statistic(mean loss [schedules, rates]), with its interval over seeds."""

    def measure(results: Any) -> Any:
        losses = results[arm]["loss"].transpose("seed", "schedule", "doublings").values
        table = lambda x: x.mean(0).reshape(losses.shape[1:])
        flat = losses.reshape(len(losses), -1)
        of_table = lambda x: statistic(table(x))
        return rl.stats.interval(flat, of_table, axis=0, tasks=1, stratified=False)

    return measure


def agreement(steps: int, last: bool = True) -> Any:
    """Kendall's tau of the bounds and the losses, each at the best rate."""
    return lambda loss: rl.stats.kendall(np.prod(terms(steps, last), 0), loss.min(1))


def spread(steps: int) -> Any:
    """The largest error, over all pairs of schedules, of the best rate of one that is carried to
    another by the bound, in steps of the grid. A parabola through three points has the best rate.
    """
    first, second = terms(steps)

    def statistic(loss: jax.Array) -> jax.Array:
        middle = loss.argmin(1).clip(1, loss.shape[1] - 2)
        left, low, right = (
            jnp.log(jnp.take_along_axis(loss, middle[:, None] + i, 1)[:, 0]) for i in (-1, 0, 1)
        )
        best = middle + ((left - right) / (2 * (left - 2 * low + right))).clip(-1, 1)
        error = best - 0.5 * np.log2(first / second)
        return error.max() - error.min()

    return statistic


def within_bound(steps: int) -> Any:
    """The largest ratio of the loss and the bound, over seeds, schedules and rates."""

    def measure(results: Any) -> float:
        rate = 2.0 ** np.array(DOUBLINGS) / steps**0.5
        first, second = (x[:, None] for x in terms(steps))
        losses = results["non-smooth"]["loss"].transpose("seed", "schedule", "doublings").values
        return float((losses / (first / rate + rate * second)).max())

    return measure
