"""A bound that ranks learning-rate schedules (Schaipp et al., 2025, theorem 3.1).

For a convex function with gradients of norm at most G, from a distance D to the optimum, the last
of T points of gradient descent with rates lr * s_t has, in expectation, an excess loss of at most

    D^2 / (2 lr r_1) + lr G^2 / 2 (q_1 / r_1 + sum_{k < T} s_k q_k / (r_k r_{k + 1})),

where r_k and q_k are the sums of s_t and of s_t^2 for t = k ... T. At the best rate, which balances
the two terms, the order of schedules depends on neither D nor G, nor does the ratio of two rates.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrl as rl
from experiments.claims import Arm, Check, Claim
from jaxrl import returns, rollout

INVERSE_ROOT = rl.OptaxSchedule(lambda n: (n + 1.0) ** -0.5)
SCHEDULES = [rl.Constant(), INVERSE_ROOT, rl.Linear(), rl.Cosine()]
SCHEDULES += map(rl.Cooldown, (0.2, 0.4, 0.6, 0.8, 0.9))
DOUBLINGS = np.arange(-4, 7)  # of a problem's learning rate
RATES = {"absolute": 8.0, "squared": 16.0, "logistic": 32.0, "critic": 1.0}  # times sqrt(steps)
DISTANCE, D = 8.0, 16  # D: inputs of the convex problems, hidden units of the critic


def factors(steps: int) -> jax.Array:
    """The factors of all schedules. [schedules, steps]."""
    clocks = jax.vmap(lambda n: rl.Clock(n, float(steps)))(jnp.arange(steps))
    return jnp.stack([jax.vmap(each)(clocks) for each in SCHEDULES])


def terms(steps: int, last: bool = True) -> np.ndarray:
    """Factors of D^2 / rate and rate G^2, rate = lr sqrt(steps), at the last or average point."""
    factor = np.asarray(factors(steps), float)
    rest, squares = (np.cumsum(x[:, ::-1], 1)[:, ::-1] for x in (factor, factor**2))
    of_last = (factor * squares / rest)[:, :-1] / rest[:, 1:]
    noise = squares[:, 0] / rest[:, 0] + last * of_last.sum(1)
    return np.stack([steps**0.5 / rest[:, 0], noise / steps**0.5]) / 2


def linear(key: jax.Array, kind: str) -> tuple:
    """(data, first parameters, model, loss) of a linear model with inputs of norm at most 1."""
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (256, D)) / jnp.sqrt(jnp.arange(1.0, D + 1.0))
    x = x / jnp.linalg.norm(x, axis=1).max()
    best = jax.random.normal(keys[1], (D,))
    y = DISTANCE * (x * best).sum(1) / jnp.linalg.norm(best)
    model = lambda w, x: (x * w).sum(-1)
    if kind == "absolute":
        return (x, y), jnp.zeros(D), model, lambda y, target: jnp.abs(y - target)
    if kind == "squared":
        return (x, y + jax.random.normal(keys[2], (256,))), jnp.zeros(D), model, optax.l2_loss
    sign = jnp.sign(y + jax.random.logistic(keys[2], (256,)))
    return (x, sign), jnp.zeros(D), model, lambda y, sign: jax.nn.softplus(-sign * y)


def critic(key: jax.Array) -> tuple:
    """The same of PPO's value loss, for a small network and a random policy on CartPole."""
    keys, env = jax.random.split(key, 3), rl.envs.make("CartPole-v1")
    policy = rl.Policy(lambda key, episode: ((), env.action_space.sample(key), ()))
    start = jax.vmap(rollout.reset, (0, None))(jax.random.split(keys[0], 8), env)
    batch = rollout.rollout(keys[1], env, policy, start, 64)[1]
    target = jax.vmap(returns.accumulate, 1, 1)(batch.reward / 10.0, 0.99 * ~batch.done)
    obs = batch.obs.reshape(-1, 4)
    weights = jax.random.normal(keys[2], (D, 5)) / 4
    value = lambda w, x: (jnp.tanh((x[:, None] * w[0]).sum(-1) + w[1]) * w[2]).sum(-1) + w[3]
    params = weights[:, :4], jnp.zeros(D), weights[:, 4], jnp.zeros(())
    return ((obs - obs.mean(0)) / obs.std(0), target.reshape(-1)), params, value, optax.l2_loss


def run(seed: Any, schedule: Any, doublings: Any, problem: str, steps: int) -> dict[str, jax.Array]:
    """The loss on all data at the last of `steps` points, where a gradient sees 16 samples."""
    key_problem, key_batch = jax.random.split(jax.random.key(seed))
    made = critic(key_problem) if problem == "critic" else linear(key_problem, problem)
    data, params, model, of_sample = made
    loss = lambda params, data: of_sample(model(params, data[0]), data[1]).mean()
    rates = RATES[problem] / steps**0.5 * 2.0**doublings * factors(steps)[schedule]
    optimizer = (optax.adam if problem == "critic" else optax.sgd)(1.0)

    def step(n: Any, now: Any) -> Any:
        rows = jax.random.randint(jax.random.fold_in(key_batch, n), (16,), 0, len(data[1]))
        grads = jax.grad(loss)(now[0], jax.tree.map(lambda x: x[rows], data))
        change, state = optimizer.update(grads, now[1])
        return jax.tree.map(lambda x, dx: x + rates[n] * dx, now[0], change), state

    params, _ = jax.lax.fori_loop(0, steps - 1, step, (params, optimizer.init(params)))
    return {"loss": jnp.nan_to_num(loss(params, data), nan=1e6).clip(max=1e6)}


def tau(loss: jax.Array, bound: np.ndarray) -> jax.Array:
    """Kendall's rank correlation of the bounds and the losses at the best rates."""
    return rl.stats.kendall(bound.prod(0), loss.min(1))


def error_of_rates(loss: jax.Array, bound: np.ndarray) -> jax.Array:
    """The largest error, in doublings, of a best rate that the bound carries over to another."""
    middle = loss.argmin(1).clip(1, loss.shape[1] - 2)
    # the best rate is the lowest point of a parabola
    near = jnp.log(jnp.take_along_axis(loss, middle[:, None] + jnp.arange(-1, 2), 1)).T
    slope, curve = near[0] - near[2], near[0] - 2 * near[1] + near[2]
    error = middle + (slope / (2 * curve)).clip(-1, 1) - 0.5 * np.log2(bound[0] / bound[1])
    return error.max() - error.min()


def loss_over_bound(loss: jax.Array, bound: np.ndarray) -> jax.Array:
    """The largest ratio, where G = 1 and the least loss is 0."""
    return (loss / (bound.T @ np.exp2([-DOUBLINGS, DOUBLINGS]))).max() / DISTANCE


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(500 * scale), 40)

    def measure(results: Any, statistic: Any, arm: str, last: bool) -> Any:
        losses = results[arm]["loss"].transpose("seed", "schedule", "doublings").values
        bound, flat = terms(steps, last), losses.reshape(len(losses), -1)
        of_seeds = lambda x: statistic(x.mean(0).reshape(losses.shape[1:]), bound)
        return rl.stats.interval(flat, of_seeds, axis=0, tasks=1, stratified=False)

    def checks(what: str, statistic: Any, accept: str, names: Any = RATES, last: bool = True):
        of = lambda name: partial(measure, statistic=statistic, arm=name, last=last)
        return [Check(f"{what}, {name}", of(name), accept) for name in names]

    controls = checks("tau of bounds of the average point", tau, "<= 0", last=False)
    controls += checks("largest loss over its bound", loss_over_bound, "<= 1", ["absolute"])
    return [
        Claim(
            row=331,
            statement="The order of nine schedules by the bound is that of the losses after 500 "
            "steps, with a Kendall's tau of at least 0.7, on three convex problems and for a "
            "critic, and the bound carries the best rate to another schedule within a factor of 2.",
            arms={name: Arm(partial(run, problem=name, steps=steps), steps) for name in RATES},
            accept=checks("Kendall's tau of bounds and losses", tau, ">= 0.7")
            + checks("largest error of a rate carried over, doublings", error_of_rates, "<= 1")
            + [dataclasses.replace(each, control=True) for each in controls],
            worlds=("linear regressions with three losses", "CartPole-v1"),
            axes={"schedule": range(len(SCHEDULES)), "doublings": DOUBLINGS},
            seeds=128,
            unmatched="Small problems replace language models. The critic learns the returns of a "
            "random policy with Adam. Training losses are compared at the best of 11 rates.",
            changed="After trials: the inputs and the ranges of rates.",
        )
    ]
