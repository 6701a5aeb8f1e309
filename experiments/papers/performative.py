"""Performative reinforcement learning (Mandal, Triantafyllou and Radanovic, 2023): the environment
responds to the policy that is deployed, and the policy is retrained in what it finds.

In a grid, a second agent moves to where the first one's policy usually is, given by its own soft
optimal policy for the occupancy of the first as reward. The first agent is stopped, and pays, if
it enters the cell of the second. Repeated retraining deploys the policy that is optimal, with an
entropy regulariser, in the environment which the last one brought about. A policy to which this
returns is performatively stable.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from envs import solve
from envs.tabular import TabularMDP
from experiments.claims.claim import Arm, Check, Claim, Results

GAMMA = 0.9
SIDE = 4
CELLS = SIDE**2
WEIGHTS = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)  # of the regulariser
FOLLOWER = 16.0  # the second agent's temperature
PENALTY = 2.0  # for meeting it
STEP = 0.2  # of the gradient steps


def moves() -> np.ndarray:
    """The transition of an agent alone: left, down, right, up; 10 % of moves are random.
    [S, 4, S]."""
    row, column = np.divmod(np.arange(CELLS), SIDE)
    clip = lambda x: np.clip(x, 0, SIDE - 1)
    ways = [(0, -1), (1, 0), (0, 1), (-1, 0)]
    goes = np.stack([np.eye(CELLS)[clip(row + i) * SIDE + clip(column + j)] for i, j in ways], 1)
    return 0.9 * goes + 0.1 * goes.mean(1, keepdims=True)


def process(transition: jax.Array, reward: jax.Array) -> TabularMDP:
    """A process that starts in a uniform cell. transition: [S, A, S]. reward: [S, A]."""
    start = jnp.full(CELLS, 1 / CELLS)
    return TabularMDP(transition, reward[..., None], jnp.zeros(CELLS, bool), start)


def soft_policy(mdp: TabularMDP, weight: jax.Array | float) -> jax.Array:
    """The policy that is optimal with a weight on its entropy, by soft value iteration. [S, A]."""

    def logits(value: jax.Array) -> jax.Array:
        return (mdp.reward[..., 0] + GAMMA * mdp.transition @ value) / weight

    back = lambda _, value: weight * jax.nn.logsumexp(logits(value), -1)
    return jax.nn.softmax(logits(jax.lax.fori_loop(0, 120, back, jnp.zeros(CELLS))))


def gradient_step(mdp: TabularMDP, policy: jax.Array, weight: jax.Array) -> jax.Array:
    """A natural policy gradient step on the regularised return. [S, A]."""
    cost = weight * jnp.log(policy + 1e-30)
    with_entropy = process(mdp.transition, mdp.reward[..., 0] - cost)
    q = solve.policy_q(with_entropy, policy, GAMMA) + cost
    return jax.nn.softmax((1 - STEP) * jnp.log(policy + 1e-30) + STEP * q / weight)


def respond(paid: jax.Array, visits: jax.Array) -> TabularMDP:
    """The environment of the first agent, given its occupancy of cells, [S].

    paid: reward of entering a cell, [S].
    """
    alone = jnp.asarray(moves(), jnp.float32)
    chase = process(alone, jnp.broadcast_to(CELLS * visits[:, None], (CELLS, 4)))
    there = solve.occupancy(chase, soft_policy(chase, FOLLOWER), GAMMA).sum(-1)
    met = jnp.clip(there * CELLS / 4, 0, 0.9)  # P(the second agent is in the way)
    reward = alone @ ((1 - met) * paid - met * PENALTY)
    stopped = (alone @ met)[..., None] * jnp.eye(CELLS)[:, None]
    return process(alone * (1 - met) + stopped, reward)


def run(seed: jax.Array, weight: jax.Array, method: str, rounds: int) -> dict[str, jax.Array]:
    """Distances between the occupancies of successive deployments, in L1. [T]."""
    paid = jax.random.uniform(jax.random.key(seed), (CELLS,))
    uniform = jnp.full((CELLS, 4), 0.25)
    first = respond(paid, jnp.full(CELLS, 1 / CELLS))

    def deploy(now: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple, jax.Array]:
        policy, visits = now
        mdp = first if method == "no response" else respond(paid, visits.sum(-1))
        if method == "gradient steps":
            policy = gradient_step(mdp, policy, weight)
        else:
            policy = soft_policy(mdp, weight)
        new = solve.occupancy(mdp, policy, GAMMA)
        return (policy, new), jnp.abs(new - visits).sum()

    start = uniform, solve.occupancy(first, uniform, GAMMA)
    return {"distance": jax.lax.scan(deploy, start, None, rounds)[1]}


def last(results: Results, arm: str, weight: int) -> np.ndarray:
    """The mean distance over the last five deployments. [seeds]."""
    return results[arm]["distance"].isel(weight=weight)[:, -5:].mean("distance_0").values


def decay(results: Results) -> tuple[np.ndarray, np.ndarray]:
    """Factor of the distance per deployment at the largest weight, and R^2 of its log-linear fit,
    over the deployments with a distance of at least 1e-5. [seeds], [seeds]."""
    factors, fits = [], []
    for row in results["retraining"]["distance"].isel(weight=-1).values:
        y = np.log(row[: max(3, (row >= 1e-5).sum())] + 1e-12)
        slope = np.polyfit(np.arange(len(y)), y, 1)
        rest = y - np.polyval(slope, np.arange(len(y)))
        factors.append(np.exp(slope[0]))
        fits.append(1 - rest.var() / y.var())
    return np.array(factors), np.array(fits)


def claims(scale: float = 1.0) -> list[Claim]:
    rounds = max(6, int(60 * scale))
    arms = {
        name: Arm(functools.partial(run, method=name, rounds=rounds), budget=rounds)
        for name in ("retraining", "gradient steps", "no response")
    }
    at = lambda arm, weight: lambda results: last(results, arm, weight)
    return [
        Claim(
            row=329,
            statement="Repeated retraining converges geometrically to a stable policy with "
            "strong regularisation, and not with weak.",
            arms=arms,
            worlds=("grid with a second agent",),
            axes={"weight": WEIGHTS},
            changed="After a first measurement: the grid and the second agent.",
            unmatched="The regulariser is the entropy of the policy, solved by soft backups, not "
            "the squared norm of the occupancy; values and occupancies are exact. The temperature "
            "of the second agent was chosen so that the weights include both regimes.",
            accept=[
                Check(
                    "change per deployment at the end, weight 0.05", at("retraining", 0), "> 0.05"
                ),
                Check("change at the end, weight 4", at("retraining", -1), "<= 1e-4"),
                Check("factor per deployment, weight 4", lambda r: decay(r)[0], "<= 0.9"),
                Check("R^2 of the geometric fit, weight 4", lambda r: decay(r)[1], ">= 0.95"),
                Check("change by gradient steps at the end", at("gradient steps", -1), "<= 1e-4"),
                Check("change without response", at("no response", 0), "<= 1e-4", control=True),
            ],
        )
    ]
