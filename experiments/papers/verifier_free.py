"""Verifier-free and verifier-based learning (Setlur et al., 2025): cloning the traces of an expert
with several styles, or reinforcing them by a 0/1 reward.

A trace walks along a chain of H / 4 states; once at its end, every step until H is a success. A
style has its own probabilities of the steps forward, of waiting and of stepping back, and each
trace has one style, so that traces differ in length. Cloning learns the mean of the styles in each
state. The verifier-based policy takes, in each state, the action whose traces reached the end
soonest, by the Monte Carlo value gamma^steps of the same number of traces.
"""

import functools

import numpy as np

from experiments.papers.claim import Arm, Check, Claim, Results

HORIZONS = (16, 32, 64)
STYLES = 4
MOVES = np.array([1, 0, -1])


def experts(rng: np.random.Generator, heterogeneous: bool) -> np.ndarray:
    """Probabilities of the moves for each style; a single one always walks forward. [K, 3]."""
    if not heterogeneous:
        return np.array([[1.0, 0.0, 0.0]])
    forward = rng.uniform(0.35, 1.0, STYLES)
    wait = rng.random(STYLES) * (1 - forward)
    return np.stack([forward, wait, 1 - forward - wait], 1)


def traces(
    rng: np.random.Generator, styles: np.ndarray, horizon: int, num: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States and moves, [T, n], and the number of steps until each trace is at the end (the
    horizon, if it isn't), [n]."""
    style = styles[rng.integers(len(styles), size=num)].cumsum(1)
    state, states, moves = np.zeros(num, int), [], []
    for _ in range(horizon):
        move = np.minimum((rng.random((num, 1)) > style).sum(1), 2)
        states.append(state)
        moves.append(move)
        stays = state == horizon // 4
        state = np.where(stays, state, np.clip(state + MOVES[move], 0, horizon // 4))
    reached = (np.array(states) < horizon // 4).sum(0)
    return np.array(states), np.array(moves), reached


def successes(policy: np.ndarray, horizon: int) -> float:
    """Expected number of steps at the end of the chain. policy: [H / 4, 3]."""
    length = horizon // 4
    at, total = np.eye(length + 1)[0], 0.0
    for _ in range(horizon):
        new = np.zeros(length + 1)
        new[-1] = at[-1]
        for move, probs in zip(MOVES, policy.T, strict=True):
            np.add.at(new, np.clip(np.arange(length) + move, 0, length), at[:-1] * probs)
        at = new
        total += at[-1]
    return total


def learn(seed: int, heterogeneous: int, horizon: int, num: int, method: str) -> dict[str, float]:
    """Expected number of successes of the policy learned from `num` traces."""
    rng = np.random.default_rng([seed, horizon, num])
    styles = experts(np.random.default_rng(seed), bool(heterogeneous))
    states, moves, reached = traces(rng, styles, horizon, num)
    times = np.arange(horizon)[:, None]
    before = times < reached  # steps before the end of the chain
    gamma = 1 - 1 / horizon
    worth = np.where(reached < horizon, gamma ** (reached - times), 0.0)
    counts, earned = np.zeros((2, horizon // 4, 3))
    where = states[before], moves[before]
    np.add.at(counts, where, 1.0)
    np.add.at(earned, where, worth[before])
    if method == "cloning":
        policy = (counts + 1e-9) / (counts + 1e-9).sum(1, keepdims=True)
    else:
        value = np.where(counts > 0, earned / np.maximum(counts, 1), -1.0)
        policy = np.eye(3)[value.argmax(1)]
        policy[counts.sum(1) == 0] = 1 / 3
    return {"evaluation": successes(policy, horizon)}


def gap(results: Results, heterogeneous: int, horizon: int, num: int) -> np.ndarray:
    """Successes with the reward less those of cloning; the settings are indices. [seeds]."""
    at = {"heterogeneous": heterogeneous, "horizon": horizon, "num": num}
    first, second = (results[arm]["evaluation"].isel(at) for arm in ("reinforcing", "cloning"))
    return (first - second).values


def claims(scale: float = 1.0) -> list[Claim]:
    num = (2, 8, 32, max(64, int(256 * scale)))
    arms = {
        name: Arm(functools.partial(learn, method=name), budget=num[-1], on_host=True)
        for name in ("reinforcing", "cloning")
    }
    largest = lambda results: gap(results, 1, -1, -1)
    same = lambda results: np.abs(gap(results, 0, -1, -1))
    return [
        Claim(
            row=20,
            statement="Reinforcing the traces of an expert of several styles by a 0/1 reward beats "
            "cloning, by more for longer horizons and more traces, and equals it for one style.",
            arms=arms,
            worlds=("chain",),
            axes={"heterogeneous": (0, 1), "horizon": HORIZONS, "num": num},
            unmatched="The policy is improved once, by Monte Carlo values of the expert's traces.",
            accept=[
                Check("gap in successes, horizon 64, 256 traces", largest, "> 0"),
                Check(
                    "growth of the gap, horizon 16 to 64",
                    lambda results: largest(results) - gap(results, 1, 0, -1),
                    "> 0",
                ),
                Check(
                    "growth of the gap, 2 to 256 traces",
                    lambda results: largest(results) - gap(results, 1, -1, 0),
                    "> 0",
                ),
                Check("absolute gap with one style, in successes", same, "<= 0.01"),
            ],
        )
    ]
