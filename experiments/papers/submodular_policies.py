"""Submodular reinforcement learning (Prajapat et al., 2024): policy gradients for the coverage of a
path, in which a cell that is covered twice counts once.

SubPO's reward of a step is the marginal gain, the increase in the coverage of the path so far. The
modular reward is what the state covers on its own, including cells that are covered already.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.claims import Arm, Check, Claim, beats

SIDE, H, BATCH = 4, 8, 32
CELLS = np.stack(np.divmod(np.arange(SIDE**2), SIDE), 1)  # row and column
AHEAD = np.clip(CELLS[:, None] + np.array([(-1, 0), (0, 1), (1, 0), (0, -1)]), 0, SIDE - 1)
NEXT = AHEAD @ np.array([SIDE, 1])  # [S, 4]
COVERS = np.abs(CELLS[:, None] - CELLS[None]).sum(-1) <= 1  # a cell and its neighbours, [S, S]
PREFIX = 2  # moves of a path that are enumerated one after the other


def world(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The weight of each cell, with a sum of 1, and the first cell. [S], []."""
    key_worth, key_start = jax.random.split(key)
    worth = jax.random.exponential(key_worth, (SIDE**2,))
    return worth / worth.sum(), jax.random.randint(key_start, (), 0, SIDE**2)


def play(key, logits, worth, start) -> dict[str, jax.Array]:
    """An episode with the policy [H, S, 4]: states, actions, and both rewards. [H]."""

    def step(now, x):
        state, covered = now
        key, logits = x
        action = jax.random.categorical(key, logits[state])
        own = jnp.asarray(COVERS)[jnp.asarray(NEXT)[state, action]]
        rewards = {"marginal gains": (own & ~covered) @ worth, "modular": own @ worth}
        after = jnp.asarray(NEXT)[state, action], covered | own
        return after, {"state": state, "action": action} | rewards

    first = start, jnp.zeros(SIDE**2, bool)
    return jax.lax.scan(step, first, (jax.random.split(key, H), logits))[1]


def optimum(worth: jax.Array, start: jax.Array) -> jax.Array:
    """The highest coverage of all 4^H paths. []."""
    rest = jnp.array(list(itertools.product(range(4), repeat=H - PREFIX)))

    def best(prefix: jax.Array) -> jax.Array:
        state, covered = jnp.full(len(rest), start), jnp.zeros((len(rest), SIDE**2), bool)
        for h in range(H):
            state = jnp.asarray(NEXT)[state, prefix[h] if h < PREFIX else rest[:, h - PREFIX]]
            covered |= jnp.asarray(COVERS)[state]
        return jnp.max(covered @ worth)

    return jax.lax.map(best, jnp.array(list(itertools.product(range(4), repeat=PREFIX)))).max()


def run(seed, lr, reward: str, updates: int) -> dict[str, jax.Array]:
    """The mean coverage of the final policy as a fraction of the optimum."""
    key_world, key_learn, key_test = jax.random.split(jax.random.key(seed), 3)
    worth, start = world(key_world)
    several = lambda key, num, logits: jax.vmap(lambda key: play(key, logits, worth, start))(
        jax.random.split(key, num)
    )
    adam = optax.adam(lr)

    def update(now, key):
        logits, opt_state = now
        seen = several(key, BATCH, logits)
        to_go = jnp.cumsum(seen[reward][:, ::-1], 1)[:, ::-1]
        advantage = to_go - (to_go.sum(0) - to_go) / (BATCH - 1)

        def loss(logits):
            log_probs = jax.nn.log_softmax(logits)[jnp.arange(H), seen["state"], seen["action"]]
            return -jnp.mean(jnp.sum(log_probs * advantage, 1))

        changes, opt_state = adam.update(jax.grad(loss)(logits), opt_state)
        return (logits + changes, opt_state), None

    logits = jnp.zeros((H, SIDE**2, 4))
    keys = jax.random.split(key_learn, updates)
    (logits, _), _ = jax.lax.scan(update, (logits, adam.init(logits)), keys)
    coverage = several(key_test, 256, logits)["marginal gains"].sum(1).mean()
    return {"share": coverage / optimum(worth, start)}


def claims(scale: float = 1.0) -> list[Claim]:
    updates = max(int(400 * scale), 2)
    arm = lambda reward: Arm(
        functools.partial(run, reward=reward, updates=updates),
        budget=updates * BATCH,
        tune={"lr": (0.03, 0.1, 0.3)},
    )
    lowest = lambda arm: lambda results: results[arm]["share"].values.min()
    return [
        Claim(
            row=97,
            statement="On 4 x 4 grids with random worth, policy gradients by marginal gains cover "
            "more than by a modular reward, and on each grid at least 1 - 1 / e of the best path's "
            "coverage.",
            arms={name: arm(name) for name in ("marginal gains", "modular")},
            metric="share",
            accept=[
                beats("marginal gains", "modular", "share"),
                Check(
                    "lowest coverage of 64 grids as a share of the best path's",
                    lowest("marginal gains"),
                    ">= 0.632",
                ),
            ],
            worlds=["4 x 4 grids, 8 steps"],
            unmatched="The optimum is that of paths in a deterministic grid, found by enumeration; "
            "the natural policy gradient and planning with a Gaussian process are left out.",
        )
    ]
