"""Flipping coins to estimate pseudo-counts (Lobel et al., 2023): each of n visits to a state gets a
random label of -1 or 1; their mean, which a regression learns, has the expected square 1 / n.

The visits are those of a random walk in four rooms; an observation is an image with one bright
pixel. Random network distillation learns from the same visits, and its errors are scaled to fit.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs.gridworld import GridWorld
from experiments.claims import Arm, Check, Claim
from jaxrl import rollout
from jaxrl.archives import OneHot
from jaxrl.exploration import RND, Bonus, CoinFlips
from jaxrl.rollout import Policy
from jaxrl.stats import difference

MAP = """
###########
#S   #    #
#         #
#    #    #
#    #    #
## #### ###
#    #    #
#    #    #
#         #
#    #    #
###########
"""
ENV = GridWorld(map=MAP, goal=jnp.zeros(2, jnp.int32), max_steps=50)  # never at the goal
CELLS = OneHot(ENV.walls.size)
WALKERS, STEPS = 8, 32
RANDOM = Policy(lambda key, episode: ((), ENV.action_space.sample(key), ()))
BONUSES = {
    "coin flips": functools.partial(CoinFlips, size=32, capacity=32_768, updates=16),
    "RND": functools.partial(RND, epochs=16, size=32),
}


def run(seed, lr, name: str, rollouts: int) -> dict[str, jax.Array]:
    """Correlation and error of the estimates of 1 / sqrt(n) of the visited cells."""
    key_start, key_walk, key_walks, key_bonus = jax.random.split(jax.random.key(seed), 4)
    bonus: Bonus = BONUSES[name](lr=lr)
    walkers = jax.vmap(lambda key: rollout.reset(key, ENV))(jax.random.split(key_walk, WALKERS))

    def learn(now, key):
        walkers, model, visits = now
        key_play, key_learn = jax.random.split(key)
        walkers, batch = rollout.rollout(key_play, ENV, RANDOM, walkers, STEPS)
        model, _ = bonus.learn(key_learn, model, batch)
        return (walkers, model, visits.at[CELLS(batch.next_obs)].add(1.0)), batch

    start = walkers, bonus.start(key_start, ENV, WALKERS), jnp.zeros(CELLS.num_cells)
    keys = jax.random.split(key_walks, rollouts)
    (_, model, visits), batches = jax.lax.scan(learn, start, keys)
    # one observation of each cell, as the successors of a batch [1, cells]
    obs = jnp.eye(CELLS.num_cells, CELLS.size)
    batch = jax.tree.map(lambda x: jnp.zeros((1, len(obs), *x.shape[3:]), x.dtype), batches)
    batch = rl.tree.replace(batch, next_obs=obs[None], obs=obs[None])
    found = bonus.bonus(key_bonus, model, (), batch)[1][0]
    seen = visits > 0
    true = jax.lax.rsqrt(jnp.maximum(visits, 1.0))
    mean = lambda x: jnp.sum(jnp.where(seen, x, 0.0)) / seen.sum()
    cov = lambda x, y: mean(x * y) - mean(x) * mean(y)
    scale = mean(found * true) / mean(found**2) if name == "RND" else 1.0
    error = mean((scale * found - true) ** 2)
    correlation = cov(found, true) / jnp.sqrt(cov(found, found) * cov(true, true))
    return {"correlation": correlation, "error": error}


def claims(scale: float = 1.0) -> list[Claim]:
    rollouts = max(int(100 * scale), 2)
    values = lambda results, name, metric: results[name][metric].values.astype(np.float64)

    def lower(results):
        return difference(*(values(results, name, "error") for name in ("RND", "coin flips")))

    return [
        Claim(
            row=228,
            statement="On the visits of a random walk in four rooms, a coin flip network estimates "
            "1 / sqrt(n) with a correlation of at least 0.95, and a smaller squared error than "
            "random network distillation with the best scale.",
            arms={
                name: Arm(
                    functools.partial(run, name=name, rollouts=rollouts),
                    budget=rollouts * WALKERS * STEPS,
                    tune={"lr": (3e-4, 1e-3, 3e-3)},
                )
                for name in BONUSES
            },
            metric="correlation",
            accept=[
                Check(
                    "correlation of estimates with 1 / sqrt(n), coin flips",
                    lambda results: values(results, "coin flips", "correlation"),
                    ">= 0.95",
                ),
                Check("squared error of RND less that of coin flips", lower, "> 0"),
            ],
            worlds=["GridWorld of four rooms"],
            unmatched="Visits are replayed uniformly, without priorities. Only estimates are "
            "compared, with no agent that is rewarded by them.",
        )
    ]
