"""Knockout selection (Chen et al., 2024): best of N by noisy comparisons, with a bound."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from experiments.claims import Arm, Check, Claim

CANDIDATES = (2, 4, 8, 16, 32)
COMPARISONS = (1, 5, 9, 17, 33)
GOOD, RIGHT = 0.3, 0.7  # probabilities of a good candidate, and of a right comparison
REPEATS = 1000
Counts = tuple[int, ...]


def failures(num: int, repeats: int, key: jax.Array) -> jax.Array:
    """Share of tournaments that end with a bad candidate. []."""

    def fails(key: jax.Array) -> jax.Array:
        key_good, key_play = jax.random.split(key)
        good = jax.random.bernoulli(key_good, GOOD, (num,))

        def compare(key: jax.Array, i: jax.Array, j: jax.Array) -> jax.Array:
            right = jax.random.bernoulli(key, RIGHT)
            return jnp.where(good[i] == good[j], jax.random.bernoulli(key, 0.5), right == good[i])

        return ~good[rl.stats.knockout(key_play, compare, num, repeats)]

    return jax.vmap(fails)(jax.random.split(key, REPEATS)).mean()


def grid(nums: Counts, repeats: Counts, seed: jax.Array) -> dict[str, jax.Array]:
    """Failures over N, at the largest K, and over K, at the largest N."""
    key = jax.random.key(seed)
    return {
        "by_num": jnp.stack([failures(n, repeats[-1], key) for n in nums]),
        "by_repeats": jnp.stack([failures(nums[-1], k, key) for k in repeats]),
    }


def one_round(seed: jax.Array) -> dict[str, jax.Array]:
    """The baseline without comparisons: the first candidate."""
    good = jax.random.bernoulli(jax.random.key(seed), GOOD, (REPEATS,))
    return {"failures": 1.0 - good.mean()}


def bounds(nums: Counts, repeats: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Of both series. [N], [K]."""
    bound = functools.partial(rl.stats.knockout_bound, p_good=GOOD, p_compare=RIGHT)
    return (
        np.array([bound(n, repeats[-1]) for n in nums]),
        np.array([bound(nums[-1], k) for k in repeats]),
    )


def excess(exact: tuple[np.ndarray, np.ndarray], results: Any) -> float:
    """The largest failure probability less its bound, over the grid."""
    found = [results["knockout"][name].values.mean(0) for name in ("by_num", "by_repeats")]
    return float(max((x - bound).max() for x, bound in zip(found, exact, strict=True)))


def decay(name: str, counts: Counts) -> Any:
    """Slope of the log of the failure probability over the first counts, by a bootstrap."""

    def slope(rates: jax.Array) -> jax.Array:
        y = jnp.log(jnp.maximum(rates.mean(0), 1e-6))
        x = jnp.asarray(counts, float)
        return jnp.sum((x - x.mean()) * y) / jnp.sum((x - x.mean()) ** 2)

    def measure(results: Any) -> rl.stats.Interval:
        return rl.stats.interval_of(slope, results["knockout"][name].values[:, : len(counts)])

    return measure


def claims(scale: float = 1.0) -> list[Claim]:
    most = len(CANDIDATES) if scale > 0.1 else 3
    counts = CANDIDATES[:most], COMPARISONS[:most]

    def gain(results: Any) -> np.ndarray:
        alone = results["one candidate"]["failures"].values
        return alone - results["knockout"]["by_num"].values[:, -1]

    return [
        Claim(
            row=282,
            statement=(
                "The failure probability of a knockout among noisy candidates stays below its "
                "bound and decays exponentially in candidates and comparisons."
            ),
            arms={
                "knockout": Arm(functools.partial(grid, *counts), budget=REPEATS),
                "one candidate": Arm(one_round, budget=REPEATS),
            },
            changed="After a first measurement: -0.3 as the limit of the slope in candidates.",
            accept=[
                Check(
                    "largest failure probability less its bound",
                    functools.partial(excess, bounds(*counts)),
                    "<= 0",
                ),
                Check(
                    "slope of its log in the number of comparisons, 32 candidates (bound: -0.08)",
                    decay("by_repeats", counts[1]),
                    "<= -0.08",
                ),
                Check(
                    "slope of its log in the number of candidates up to 8, 33 comparisons",
                    decay("by_num", CANDIDATES[:3]),
                    "<= -0.3",
                ),
                Check(
                    "failure probability of one candidate less that of the knockout", gain, "> 0"
                ),
            ],
            worlds=("candidates that are good with probability 0.3",),
            unmatched="Candidates are synthetic, with the probabilities that the paper assumes.",
        )
    ]
