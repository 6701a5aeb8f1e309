"""Metagradients through whole training runs for learning-rate schedules (Engstrom et al., 2025)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrl as rl
from experiments.claims import Arm, Check, Claim
from jaxrl.meta import tree_scan

INPUTS, HIDDEN, BATCH, NOISE = 3, 8, 4, 0.5
KNOTS = np.full(6, -3.5)  # logarithms of the first learning rate, at equal distances
METASTEPS, COST = 12, 8  # a metagradient runs training 5 times, and backward, which counts as 3
STREAMS, HELD_OUT = 2, 4  # training runs per setting of a grid, and of the test
PEAKS, STARTS, ENDS = np.geomspace(0.02, 1.2, 8), (0.0, 0.4, 0.8), (0.0, 0.1)
COOLDOWNS = [(peak, start, end) for peak in PEAKS for start in STARTS for end in ENDS]
CONSTANTS = [(peak, 1.0, 0.0) for peak in np.geomspace(0.02, 1.2, len(COOLDOWNS))]

net = lambda params, x: (params[1] * jnp.tanh((x[:, None] * params[0]).sum(-1))).sum(-1)
tree = partial(tree_scan, branch=10)
plain = lambda step, state, num: jax.lax.fori_loop(0, num, lambda n, x: step(x, n), state)
loss = lambda x, seed, *rest: train(by_knots(x), *jax.random.split(jax.random.key(seed)), *rest)


def drawn(key: jax.Array, size: float) -> tuple[jax.Array, jax.Array]:
    w = size * jax.random.normal(key, (HIDDEN, INPUTS + 2))
    return w[:, 1:], w[:, 0] / HIDDEN**0.5


def train(rate: Any, task: Any, key: Any, steps: int, scan: Any, points: int = 256) -> jax.Array:
    """log10 of the mean squared error after learning another network from noisy targets. []."""
    keys, target = jax.random.split(key, 3), drawn(task, 1.0)

    def step(params: Any, n: jax.Array) -> Any:
        z = jax.random.normal(jax.random.fold_in(keys[0], n), (BATCH, INPUTS + 1))
        x, noise = z.at[:, 0].set(1.0), NOISE * z[:, 0]
        error = lambda params: net(params, x) - net(target, x) - noise
        grads = jax.grad(lambda params: 0.5 * jnp.square(error(params)).mean())(params)
        lr = rate(n / steps) / jnp.sqrt(1.0 + sum(jnp.square(g).sum() for g in grads))
        return jax.tree.map(lambda x, g: x - lr * g, params, grads)

    params = scan(step, drawn(keys[1], 0.5), steps)
    x = jax.random.normal(keys[2], (points, INPUTS + 1)).at[:, 0].set(1.0)
    return jnp.log10(jnp.square(net(params, x) - net(target, x)).mean())


def short(step: Callable, state: Any, num: int) -> Any:
    """As `plain`, with gradients through the last hundredth of the steps only."""
    first = num - num // 100
    state = jax.lax.stop_gradient(plain(step, state, first))
    return tree(lambda state, n: step(state, n + first), state, num - first)


def by_knots(knots: Any) -> Callable:
    """The rate that is linear between those of the knots."""
    ages = np.linspace(0.0, 1.0, len(KNOTS))
    near = lambda age: jnp.maximum(0.0, 1.0 - jnp.abs(age - ages) / ages[1])
    return lambda age: (near(age) * jnp.exp(knots)).sum()


def descend(task: Any, key: jax.Array, steps: int, scan: Callable) -> Callable:
    """The rate that signs of metagradients with momentum find."""
    meta = optax.lion(optax.cosine_decay_schedule(0.5, METASTEPS), b1=0.5, b2=0.5, weight_decay=0.0)
    loss = lambda knots, key: train(by_knots(knots), task, key, steps, scan)

    def update(now: Any, key: jax.Array) -> tuple[Any, None]:
        grad = jnp.nan_to_num(jax.grad(loss)(now[0], key)).clip(-1.0, 1.0)
        change, state = meta.update(grad, now[1], now[0])
        return (now[0] + change, state), None

    now = jnp.asarray(KNOTS), meta.init(jnp.asarray(KNOTS))
    return by_knots(jax.lax.scan(update, now, jax.random.split(key, METASTEPS))[0][0])


def search(task: Any, key: jax.Array, steps: int, grid: Any) -> Callable:
    """The best (peak, start, end) of a cooldown, where all settings see the same samples."""
    rate = lambda x: lambda age: x[0] * rl.Cooldown(x[1], x[2])(rl.Clock(age, 1.0))
    one = lambda x, key: train(rate(x), task, key, steps, plain)
    grid, keys = jnp.asarray(grid), jax.random.split(key, STREAMS)
    losses = jax.vmap(jax.vmap(one, (None, 0)), (0, None))(grid, keys).mean(1)
    return rate(grid[jnp.nan_to_num(losses, nan=jnp.inf).argmin()])


def run(seed: Any, find: Callable, steps: int) -> dict[str, jax.Array]:
    """The mean error of runs with other starts and samples than those of the search."""
    task, key, *keys = jax.random.split(jax.random.key(seed), 2 + HELD_OUT)
    one = partial(train, find(task, key, steps), task, steps=steps, scan=plain)
    return {"error": jax.vmap(one)(jnp.stack(keys)).mean()}


def inexact(results: Any, steps: int) -> float:
    """The largest relative error of metagradients over seeds, in 64 bits."""

    def of_seed(seed: jax.Array) -> jax.Array:
        side = lambda x: loss(KNOTS + x, seed, steps, plain) - loss(KNOTS - x, seed, steps, plain)
        central = jax.vmap(side)(1e-4 * jnp.eye(len(KNOTS))) / 2e-4
        found = jax.grad(loss)(jnp.asarray(KNOTS), seed, steps, tree)
        return jnp.linalg.norm(found - central) / jnp.linalg.norm(central)

    with jax.enable_x64(True):
        return float(jax.jit(jax.vmap(of_seed))(results["grid"]["seed"].values).max())


def states(steps: int, scan: Callable = tree) -> float:
    """Scratch memory of the compiled metagradient, in states of training."""
    made = jax.jit(jax.grad(lambda x: loss(x, 0, steps, scan, 1))).lower(KNOTS).compile()
    analysis: Any = made.memory_analysis()
    return analysis.temp_size_in_bytes / (4 * HIDDEN * (INPUTS + 2))


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(10_000 * scale), 1_000)
    arms = {"metagradient": partial(descend, scan=tree), "truncated": partial(descend, scan=short)}
    arms |= {"grid": partial(search, grid=COOLDOWNS), "constants": partial(search, grid=CONSTANTS)}
    budget = steps * (METASTEPS * COST + HELD_OUT)

    growth = lambda _: (states(steps) - states(steps // 100)) / 2
    saved = lambda _: states(steps, plain) / states(steps)

    def less(arm: str, accept: str, control: bool = True) -> Check:
        of = lambda results: (results[arm] - results["metagradient"])["error"].values
        return Check(
            f"log10 error of {arm} less that of metagradients", of, accept, control=control
        )

    return [
        Claim(
            row=341,
            statement="Gradients by a learning-rate schedule through 10,000 updates are exact in "
            "logarithmic memory, and find a schedule at least as good as the best one of a grid.",
            arms={name: Arm(partial(run, find=x, steps=steps), budget) for name, x in arms.items()},
            accept=[
                Check("relative error of a gradient", lambda x: inexact(x, steps), "<= 1e-3"),
                Check("states in memory, per tenfold of updates", growth, "<= 20"),
                Check("memory of plain reverse mode over that", saved, ">= 20", control=True),
                less("grid", ">= 0", control=False),
                less("constants", "> 0"),
                less("truncated", "> 0"),
            ],
            worlds=("a network that learns another one from noisy targets",),
            unmatched="PPO's rates are left out. A metagradient counts as eight training runs; a "
            "truncated one sees the last 1 % of a run. Finite differences are in 64 bits.",
            changed="After trials: gradients are g / sqrt(1 + |g|^2), the task, the metasteps.",
        )
    ]
