"""Self-repellent random walks (Hu, Doshi and Eun, 2024): a token on a graph that avoids what it has
visited, as a sampler of a distribution and of the gradients of SGD.

From a base chain P with the stationary distribution mu, the walk goes from i to j in proportion to
P(i, j) (x_j / mu_j)^-alpha. x is the weighted frequency of the visits, x += n^-a (onehot - x).
A token that visits node j makes the step theta -= n^-1 grad f_j(theta). For a < 1, theta changes
more slowly than x.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from experiments.papers.claim import Arm, Check, Claim, Results
from jaxrl.stats import Interval

ROOMS = """
..#..
.....
.###.
.....
..#..
"""
ALPHAS = (0.0, 1.0, 2.0, 5.0, 10.0)
DIMENSIONS, BLOCK = 16, 100


def neighbours() -> np.ndarray:
    """The cells to the left, below, to the right and above, or the cell itself at a wall; then
    itself. int [S, 5]."""
    rows = ROOMS.split()
    free = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if rows[i][j] == "."]
    number = {cell: k for k, cell in enumerate(free)}
    ways = [(0, -1), (1, 0), (0, 1), (-1, 0), (0, 0)]
    return np.array([[number.get((i + k, j + m), number[i, j]) for k, m in ways] for i, j in free])


def metropolis(target: jax.Array, near: jax.Array) -> jax.Array:
    """Probabilities of Metropolis's chain to the neighbours. [S, 5]."""
    moves = jnp.where(
        near[:, :4] == near[:, 4:],
        0.0,
        jnp.minimum(1.0, target[near[:, :4]] / target[:, None]) / 4,
    )
    return jnp.concatenate([moves, 1 - moves.sum(1, keepdims=True)], 1)


def run(seed: jax.Array, alpha: jax.Array, method: str, steps: int) -> dict[str, jax.Array]:
    """Squared errors after N steps, divided by the last step size: of the frequencies ("sampling")
    or of the minimiser ("token SGD"). [].

    The target is random on the cells of four rooms; f_j is the squared distance to a random point.
    """
    key_target, key_points, key_walk = jax.random.split(jax.random.key(seed), 3)
    near = jnp.asarray(neighbours())
    num = len(near)
    target = jax.nn.softmax(0.5 * jax.random.normal(key_target, (num,)))
    points = jax.random.normal(key_points, (num, DIMENSIONS))
    chain = metropolis(target, near)
    of_visits = 1.0 if method == "sampling" else 0.7

    def step(now: Any, at: Any) -> tuple[Any, None]:
        (cell, x, theta), (n, uniform) = now, at
        to = near[cell]
        chance = (chain[cell] * jnp.exp(-alpha * jnp.log(x[to] / target[to]))).cumsum()
        cell = to[(chance < uniform * chance[-1]).sum()]
        x = x + n**-of_visits * (jax.nn.one_hot(cell, num) - x)
        return (cell, x, theta - 2 / n * (theta - points[cell])), None

    def block(now: Any, at: Any) -> tuple[Any, None]:
        n = 2.0 + BLOCK * at[0] + jnp.arange(BLOCK)
        return jax.lax.scan(step, now, (n, jax.random.uniform(at[1], (BLOCK,))))

    start = jnp.int32(0), jnp.full(num, 1 / num), jnp.zeros(DIMENSIONS)
    blocks = jnp.arange(steps // BLOCK), jax.random.split(key_walk, steps // BLOCK)
    (_, x, theta), _ = jax.lax.scan(block, start, blocks)
    if method == "sampling":
        return {"squared_error": ((x - target) ** 2).sum() * steps}
    return {"squared_error": ((theta - target @ points) ** 2).sum() * steps}


def slope(errors: jax.Array) -> jax.Array:
    """Log-log slope over alpha from 1 to 10 of the mean of errors [seeds, 4]. []."""
    x = jnp.log(jnp.array(ALPHAS[1:]))
    return ((x - x.mean()) * jnp.log(errors.mean(0))).sum() / ((x - x.mean()) ** 2).sum()


def errors(results: Results, arm: str) -> np.ndarray:
    """[seeds, alphas]."""
    return results[arm]["squared_error"].transpose("seed", "alpha").values


def measured_slope(arm: str) -> Check:
    """The slope and its interval; its nearest whole number is the exponent."""
    measure = lambda results: rl.stats.interval_of(slope, errors(results, arm)[:, 1:])
    accept = ">= -1.5, <= -0.5" if arm == "sampling" else ">= -2.5, <= -1.5"
    return Check(f"log-log slope of the variance of {arm} over alpha, 1 to 10", measure, accept)


def steeper(results: Results) -> Interval:
    """The slope of SGD's variance less that of sampling."""
    both = [errors(results, arm)[:, 1:] for arm in ("token SGD", "sampling")]
    return rl.stats.interval_of(lambda x, y: slope(x) - slope(y), *both)


def gain(results: Results) -> Interval:
    """Variance of the base chain in SGD's, over that of the walk with alpha 10."""
    ratio = lambda x: x[:, 0].mean() / x[:, -1].mean()
    return rl.stats.interval_of(ratio, errors(results, "token SGD"))


def claims(scale: float = 1.0) -> list[Claim]:
    steps = BLOCK * max(1, int(6400 * scale))
    arms = {
        name: Arm(functools.partial(run, method=name, steps=steps), budget=steps)
        for name in ("sampling", "token SGD")
    }
    return [
        Claim(
            row=68,
            statement="The variance of a self-repellent token falls about as 1 / alpha for "
            "sampling and about as 1 / alpha^2 for SGD.",
            arms=arms,
            worlds=("four rooms",),
            axes={"alpha": ALPHAS},
            seeds=64,
            unmatched="Variances are mean squared errors after 640,000 steps in units of the step "
            "size; an exponent is accepted if the slope rounds to it.",
            accept=[
                measured_slope("token SGD"),
                measured_slope("sampling"),
                Check("difference of the slopes, SGD less sampling", steeper, "< 0"),
                Check("variance of SGD by the base chain, over that at alpha 10", gain, "> 1"),
            ],
        )
    ]
