"""Goodhart's law in reinforcement learning (Karwowski et al., 2024): the true return while a proxy
is optimised, in the polytope of occupancies, and when to stop.

A policy's discounted occupancy eta [S * A] makes returns linear, J(r) = eta . r, and rewards that
differ by potential shaping alone equal once projected on the directions in which eta can move.
The angle of two rewards is that between their projections. Steepest ascent on the proxy goes
straight along its projection on the present face until a further occupancy is 0. If the angle is
at most theta, the true return can't fall along a direction with a cosine to the proxy of at least
sin(theta): stop at the first direction below that.
"""

import functools

import numpy as np
from scipy.optimize import nnls

import jaxrl as rl
from experiments.claims.claim import Arm, Check, Claim, Results

GAMMA = 0.9
WORLDS = ("random", "grid", "cliff", "path")
SIDE = 4


def world(rng: np.random.Generator, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Transition [S, A, S] and true reward [S, A] of a random member of a family."""
    if name == "random":  # ten states, each action leads to three of them
        order = rng.random((10, 4, 10)).argsort(-1)
        probs = np.pad(rng.dirichlet(np.ones(3), (10, 4)), [(0, 0), (0, 0), (0, 7)])
        return np.take_along_axis(probs, order, -1), rng.normal(size=(10, 4))
    cells = np.arange(SIDE**2)
    row, column = np.divmod(cells, SIDE)
    moves = [(0, -1), (1, 0), (0, 1), (-1, 0)]
    to = [np.clip(row + i, 0, SIDE - 1) * SIDE + np.clip(column + j, 0, SIDE - 1) for i, j in moves]
    goes = np.stack([np.eye(SIDE**2)[cell] for cell in to], 1)
    transition = 0.9 * goes + 0.1 * goes.mean(1, keepdims=True)
    paid = rng.normal(size=SIDE**2)
    if name == "cliff":  # falling off the last row is expensive
        paid = np.where(row == SIDE - 1, -5.0, paid)
    if name == "path":  # cells cost 1, except on a way down
        paid = np.where(column == rng.integers(SIDE, size=SIDE)[row], 0.1 * paid, -1.0)
    return transition, transition @ paid


def best(transition: np.ndarray, reward: np.ndarray) -> float:
    """The highest return, (1 - gamma) sum_t gamma^t r, from a uniform state: policy iteration."""
    states = np.arange(len(transition))
    q, value = reward, reward[:, 0]
    for _ in range(10):  # more than it needs
        action = q.argmax(1)
        move = np.eye(len(states)) - GAMMA * transition[states, action]
        value = np.linalg.solve(move, reward[states, action])
        q = reward + GAMMA * transition @ value
    return (1 - GAMMA) * value.mean()


@functools.cache
def ascend(seed: int, name: str) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Steepest ascent from the uniform policy on a proxy at a random angle of up to 90 degrees:
    cosines of its directions to the proxy and their gains of true return, in its range, [N]; the
    angle; and the distance of the last proxy return to its optimum, in its range.
    """
    rng = np.random.default_rng([seed, WORLDS.index(name)])
    transition, reward = world(rng, name)
    states, actions = reward.shape
    flow = np.repeat(np.eye(states), actions, 1) - GAMMA * transition.reshape(-1, states).T
    basis = np.linalg.svd(flow)[2][states:].T  # directions that keep the flow, [S * A, S * (A - 1)]
    true = basis.T @ reward.ravel()
    unit = true / np.linalg.norm(true)
    other = rng.normal(size=len(unit))
    other -= (other @ unit) * unit
    angle = 90 * np.random.default_rng(seed).random()
    proxy = np.cos(np.radians(angle)) * unit
    proxy += np.sin(np.radians(angle)) * other / np.linalg.norm(other)
    start = np.full(states, (1 - GAMMA) / states)
    visits = np.linalg.solve(np.eye(states) - GAMMA * transition.mean(1).T, start)
    eta = np.repeat(visits, actions) / actions
    cosine, gain = [], []
    for _ in range(1000):
        active = basis[eta == 0]
        # the proxy on the cone of allowed directions, by its polar cone
        toward = proxy + active.T @ nnls(active.T, -proxy)[0] if len(active) else proxy
        change = basis @ toward
        falling = (change < -1e-9) & (eta > 0)
        if np.linalg.norm(toward) < 1e-8 or not falling.any():
            break
        length = (eta[falling] / -change[falling]).min()
        eta = eta + length * change
        eta[eta < 1e-11] = 0.0
        cosine.append(toward @ proxy / np.linalg.norm(toward) / np.linalg.norm(proxy))
        gain.append(length * toward @ true)
    as_reward = (basis @ proxy).reshape(states, actions)
    span = [best(transition, r) + best(transition, -r) for r in (reward, as_reward)]
    short = (best(transition, as_reward) - eta @ as_reward.ravel()) / span[1]
    return np.array(cosine), np.array(gain) / span[0], angle, short


def optimise(seed: int, world: int, known: float) -> dict[str, float]:
    """Follow the proxy while the rule allows it, for the angle times `known` (0: to the end)."""
    cosine, gain, angle, short = ascend(seed, WORLDS[world])
    stops = cosine < np.sin(np.radians(known * angle)) - 1e-9
    gain = gain[: stops.argmax()] if stops.any() else gain
    way = np.cumsum(np.append(0.0, gain))
    dropped = float(way.max() - way[-1] > 1e-6)
    return {"angle": angle, "dropped": dropped, "worst": min(gain, default=0.0), "short": short}


def share(low: float, high: float) -> Check:
    """Share of worlds in which the true return falls, over seeds with an angle in a range."""

    def measure(results: Results) -> np.ndarray:
        data = results["to the optimum"].mean("world")
        inside = (data["angle"] > low) & (data["angle"] <= high)
        return np.where(inside, data["dropped"], np.nan)

    statement = f"share of proxies at {low} to {high} degrees with a drop"
    return Check(statement, measure, "> 0.5" if low else "< 0.5", rl.stats.mean)


def lowest(arm: str, accept: str) -> Check:
    """The lowest change of the true return in any direction of any path."""
    measure = lambda results: float(results[arm]["worst"].min())
    statement = f"lowest change of the true return, {arm}, in its range"
    return Check(statement, measure, accept, control=accept.startswith("<"))


def claims(scale: float = 1.0) -> list[Claim]:
    known = {"to the optimum": 0.0, "stopped by the rule": 1.0, "with half of the angle": 0.5}
    run = lambda share: Arm(functools.partial(optimise, known=share), budget=1000, on_host=True)
    short = lambda results: float(results["to the optimum"]["short"].max())
    return [
        Claim(
            row=403,
            statement="Optimising a proxy fully lowers the true return at some point for most "
            "proxies at over 60 degrees; early stopping by the angle never lowers it.",
            arms={name: run(share) for name, share in known.items()},
            worlds=WORLDS,
            axes={"world": range(len(WORLDS))},
            seeds=max(64, int(1000 * scale)),
            unmatched="Proxies are at a uniform angle to the true reward, which is known exactly; "
            "the training that maximises the worst case is left out.",
            accept=[
                share(60, 90),
                share(0, 30),
                lowest("stopped by the rule", ">= -1e-9"),
                lowest("with half of the angle", "< -0.001"),
                Check("largest distance to the proxy's optimum", short, "<= 1e-6", control=True),
            ],
        )
    ]
