"""Adaptive importance sampling with control variates (Demange-Chryst et al., 2022)."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from experiments.claims import Arm, Check, Claim

DIM, NUM = 5, 6
BUDGET = 12_000
ROUNDS, PILOT = 3, 0.1  # of adaptation, and the share of the budget in each
LEVEL, START = 2.5, 1.5  # where an event begins, and the scale of the first proposal
FEWEST = 10  # effective points from which a proposal is adapted
DEFENSIVE = 0.2  # share of the target in a proposal
MEANS = np.array([1.0] + [0.0] * DIM + [1.0] * DIM, np.float32)  # of the controls


def directions(key: jax.Array) -> jax.Array:
    """Unit vectors around a common one: the events are related. [NUM, DIM]."""
    x = jax.random.normal(key, (NUM + 1, DIM))
    each = x[:1] / jnp.linalg.norm(x[0]) + 0.25 * x[1:]
    return each / jnp.linalg.norm(each, axis=1, keepdims=True)


def functions(x: jax.Array, vectors: jax.Array) -> jax.Array:
    """Rare events, and by how much their level is exceeded, in turn. [n, NUM]."""
    excess = jnp.maximum(x @ vectors.T - LEVEL, 0.0)
    return jnp.where(jnp.arange(NUM)[None] % 2 == 0, excess > 0, excess)


def exact() -> np.ndarray:
    """The expectations under a standard normal distribution. [NUM]."""
    tail = math.erfc(LEVEL / 2**0.5) / 2
    excess = math.exp(-(LEVEL**2) / 2) / math.sqrt(2 * math.pi) - LEVEL * tail
    return np.where(np.arange(NUM) % 2 == 0, tail, excess)


def sample(key: jax.Array, num: int, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Points of a normal proposal with independent axes, mixed with the target. [n, DIM]."""
    key_noise, key_choice = jax.random.split(key)
    noise = jax.random.normal(key_noise, (num, DIM))
    is_target = jax.random.bernoulli(key_choice, DEFENSIVE, (num, 1))
    return jnp.where(is_target, noise, mean[None] + std[None] * noise)


def log_weights(x: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Log of the target's density divided by the proposal's; bounded by the mixture. [n]."""
    target = -(x**2).sum(1) / 2
    proposal = -(((x - mean[None]) / std[None]) ** 2).sum(1) / 2 - jnp.log(std).sum()
    return target - jnp.logaddexp(np.log(1 - DEFENSIVE) + proposal, np.log(DEFENSIVE) + target)


def controls(x: jax.Array) -> jax.Array:
    """1 and polynomials with expectations 0 and 1 under the target. [n, 1 + 2 DIM]."""
    return jnp.concatenate([jnp.ones((len(x), 1)), x, x**2], 1)


def optimal(y: jax.Array, x: jax.Array, weight: jax.Array) -> jax.Array:
    """Coefficients with the least expected square, under the product of weights. [1 + 2 DIM]."""
    rest = controls(x)[:, 1:]
    slopes = rl.stats.regress(y, rest, weight)
    constant = weight @ (y - rest @ slopes) / weight.sum()
    return jnp.concatenate([constant[None], slopes])


def adapt(y: jax.Array, x: jax.Array, log_weight: jax.Array, last: tuple) -> tuple:
    """The normal distribution nearest to the optimal proposal, by weighted moments: the density
    times the root of the sum of squares of y [n, k], each relative to its mean. last: stays if too
    few points count.
    """
    weight = jnp.exp(log_weight)
    relative = y / jnp.maximum((weight[:, None] * y).mean(0, keepdims=True), 1e-6)
    weight = weight * jnp.sqrt((relative**2).sum(1))
    total = jnp.maximum(weight.sum(), 1e-9)
    mean = weight @ x / total
    std = jnp.clip(jnp.sqrt(weight @ (x - mean[None]) ** 2 / total), 0.5, 2.0)
    is_enough = total**2 > FEWEST * (weight**2).sum()
    return jax.tree.map(lambda new, old: jnp.where(is_enough, new, old), (mean, std), last)


def procedure(key: Any, which: Any, vectors: Any, how: str, budget: int) -> jax.Array:
    """Estimates of the expectations in `which` from one budget. [len(which)]."""
    keys = jax.random.split(key, ROUNDS + 1)
    rounds, pilot = 0 if how == "fixed" else ROUNDS, int(PILOT * budget)
    proposal = jnp.zeros(DIM), jnp.full(DIM, START)
    coefficients = jnp.zeros((len(which), len(MEANS)))
    for i in range(rounds):
        x = sample(keys[i], pilot, *proposal)
        y, before = functions(x, vectors)[:, which], log_weights(x, *proposal)
        proposal = adapt(y, x, before, proposal)
        if how == "together":
            weight = jnp.exp(before + log_weights(x, *proposal))
            coefficients = jax.vmap(optimal, (1, None, None))(y, x, weight)
    x = sample(keys[-1], budget - rounds * pilot, *proposal)
    y, log_weight, known = functions(x, vectors)[:, which], log_weights(x, *proposal), controls(x)
    one = lambda y, c: rl.stats.weighted(y, log_weight, known, MEANS, coefficients=c)
    return jax.vmap(one, (1, 0))(y, coefficients).estimate


def estimate(how: str, seed: jax.Array) -> dict[str, jax.Array]:
    """Errors of all expectations, relative to their values. [NUM]."""
    key_world, key = jax.random.split(jax.random.key(seed))
    vectors = directions(key_world)
    if how == "separately":
        of = lambda key, i: procedure(key, i[None], vectors, how, BUDGET // NUM)[0]
        made = jax.vmap(of)(jax.random.split(key, NUM), jnp.arange(NUM))
    else:
        made = procedure(key, jnp.arange(NUM), vectors, how, BUDGET)
    return {"error": made / jnp.asarray(exact(), jnp.float32) - 1.0}


def gain(first: str) -> Any:
    """Total variance of an arm divided by that of the adaptive sample for all."""
    ratio = lambda x, y: x.var(0).sum() / y.var(0).sum()
    of = lambda results, name: results[name]["error"].values
    return lambda results: rl.stats.interval_of(ratio, of(results, first), of(results, "together"))


def largest_z(results: Any) -> float:
    """The largest |z| of the expectations' mean errors."""
    x = results["together"]["error"].values.astype(np.float64)
    return float(np.max(np.abs(x.mean(0)) / (x.std(0) / len(x) ** 0.5)))


def claims(scale: float = 1.0) -> list[Claim]:
    names = ("together", "no controls", "separately", "fixed")
    return [
        Claim(
            row=142,
            statement="One adaptive sample with control variates estimates six expectations with "
            "a third of the variance of six separate samples of the same total budget.",
            changed="After trials: bounded weights, final coefficients, twice the budget.",
            arms={name: Arm(functools.partial(estimate, name), budget=BUDGET) for name in names},
            accept=[
                Check("total variance of separate samples / together", gain("separately"), ">= 3"),
                Check("total variance of one fixed proposal / together", gain("fixed"), "> 1"),
                Check("total variance without controls / with", gain("no controls"), "> 1"),
                Check("largest |z| of the six mean errors", largest_z, "< 2.64", control=True),
            ],
            worlds=("rare events of normal variables in 5 dimensions",),
            seeds=max(int(1000 * scale), 64),
            unmatched="Proposals are normal with independent axes, controls polynomials; each "
            "separate sample has a sixth of the points to adapt, so part of the ratio is that.",
        )
    ]
