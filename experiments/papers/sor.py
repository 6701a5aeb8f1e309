"""Learning to relax (Khodak et al., 2024): bandits that choose the parameter omega of successive
over-relaxation for a sequence of linear systems, by the number of iterations alone.

An instance is (A + c I) x = b, with A the Laplacian of a grid and a random shift c. An iteration
moves every x_i by omega times the way to the solution of its own equation, first on the black
cells of a chessboard, then on the white ones. Tsallis-INF looks for the best fixed omega; the
contextual bandit predicts the iterations of each arm by Chebyshev polynomials of log c, and plays
in inverse proportion to the predicted gaps.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from experiments.claims.claim import Arm, Check, Claim, Results

SIDE, INSTANCES = 8, 128
OMEGAS = jnp.linspace(1.0, 1.9, 10)
TOLERANCE, MAX_ITERATIONS = 1e-4, 400
DEGREE = 6
BLOCKS = 16
TSALLIS = rl.bandits.TsallisINF()


def iterations(coupling: jax.Array, shift: jax.Array, b: jax.Array, omega: jax.Array) -> jax.Array:
    """Iterations to a relative residual of 1e-4. int [].

    coupling: of horizontal neighbours; that of vertical ones is 1. b: [side, side].
    """
    diagonal = 2 + 2 * coupling + shift
    black = jnp.indices(b.shape).sum(0) % 2 == 0

    def around(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, 1)
        return x[:-2, 1:-1] + x[2:, 1:-1] + coupling * (x[1:-1, :-2] + x[1:-1, 2:])

    def sweep(now: Any) -> Any:
        x, _, num = now
        for cells in (black, ~black):
            x = jnp.where(cells, x + omega * ((b + around(x)) / diagonal - x), x)
        return x, b + around(x) - diagonal * x, num + 1

    def goes_on(now: Any) -> jax.Array:
        return ((now[1] ** 2).sum() > TOLERANCE**2 * (b**2).sum()) & (now[2] < MAX_ITERATIONS)

    return jax.lax.while_loop(goes_on, sweep, (jnp.zeros_like(b), b, 0))[2]


def inverse_gaps(predicted: jax.Array, t: jax.Array) -> jax.Array:
    """1 / (K + rate * gap) for each arm but the best, which has the rest. [K]."""
    rest = 1 / (len(predicted) + 20 * jnp.sqrt(t + 1.0) * (predicted - predicted.min()))
    best = predicted.argmin()
    rest = rest.at[best].set(0.0)
    return rest.at[best].set(1 - rest.sum())


def run(seed: jax.Array, method: str, rounds: int) -> dict[str, jax.Array]:
    """Iterations of the chosen omegas above those of the best fixed one and above those of the best
    of each instance, relative to these, in blocks of rounds. [16], [16].
    """
    key_a, key_c, key_b, key = jax.random.split(jax.random.key(seed), 4)
    coupling = jax.random.uniform(key_a, minval=0.3, maxval=1.0)
    place = jax.random.uniform(key_c, (INSTANCES,), minval=-1.0, maxval=1.0)
    b = jax.random.normal(key_b, (INSTANCES, SIDE, SIDE))
    solve = jax.vmap(jax.vmap(iterations, (None, None, None, 0)), (None, 0, 0, None))
    cost = solve(coupling, 10 ** (1.5 * place - 1), b, OMEGAS).astype(jnp.float32)
    scaled = cost / cost.max()
    features = jnp.cos(jnp.arange(DEGREE) * jnp.arccos(place)[:, None])  # [instances, degree]

    def play(now: Any, at: Any) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        (losses, inverse, target), (t, key) = now, at
        key_which, key_arm = jax.random.split(key)
        which = jax.random.randint(key_which, (), 0, INSTANCES)
        x = features[which]
        if method == "Tsallis-INF":
            probs = TSALLIS.probabilities(losses, t + 1.0)
        elif method == "Chebyshev":
            probs = inverse_gaps(jnp.einsum("kij,kj,i->k", inverse, target, x), t)
        else:
            probs = jnp.ones(10) / 10 if method == "uniform" else jax.nn.one_hot(0, 10)
        arm = jax.random.categorical(key_arm, jnp.log(probs))
        loss = scaled[which, arm]
        toward = inverse[arm] @ x
        inverse = inverse.at[arm].add(-jnp.outer(toward, toward) / (1 + x @ toward))
        losses, target = losses.at[arm].add(loss / probs[arm]), target.at[arm].add(loss * x)
        return (losses, inverse, target), (which, arm)

    start = jnp.zeros(10), 10.0 * jnp.tile(jnp.eye(DEGREE), (10, 1, 1)), jnp.zeros((10, DEGREE))
    keys = jax.random.split(key, rounds)
    which, arm = jax.lax.scan(play, start, (jnp.arange(rounds), keys))[1]
    blocks = lambda x: x.reshape(BLOCKS, -1).mean(1)
    spent, fixed, least = (
        blocks(x)
        for x in (cost[which, arm], cost[which, cost.mean(0).argmin()], cost.min(1)[which])
    )
    return {"above_fixed": spent / fixed - 1, "above_optimal": spent / least - 1}


def late(arm: str, name: str, accept: str) -> Check:
    """The mean over the last quarter of the rounds."""
    measure = lambda results: results[arm][name].values[:, -BLOCKS // 4 :].mean(1)
    what = "the best fixed omega" if name == "above_fixed" else "the best of each instance"
    is_control = arm == "Gauss-Seidel"
    statement = f"share of iterations above {what}, {arm}, last quarter"
    return Check(statement, measure, accept, control=is_control)


def slope(results: Results) -> np.ndarray:
    """Log-log slope of the regret per round of Tsallis-INF over the rounds. [seeds]."""
    number = np.arange(1, BLOCKS + 1)
    mean = results["Tsallis-INF"]["above_fixed"].values.cumsum(1) / number
    return rl.stats.slope(number, np.maximum(mean, 1e-6))


def claims(scale: float = 1.0) -> list[Claim]:
    rounds = BLOCKS * max(4, int(1024 * scale))
    arms = {
        name: Arm(functools.partial(run, method=name, rounds=rounds), budget=rounds)
        for name in ("Tsallis-INF", "Chebyshev", "uniform", "Gauss-Seidel")
    }
    return [
        Claim(
            row=58,
            statement="A bandit's mean number of iterations is within 5 % of that of the best "
            "fixed omega, a contextual bandit's within 5 % of that of the best per instance.",
            arms=arms,
            worlds=("SOR on a grid",),
            unmatched="Ten values of omega; instances come from a pool of 128; 2-D Laplacians.",
            accept=[
                late("Chebyshev", "above_optimal", "< 0.05"),
                late("Tsallis-INF", "above_fixed", "< 0.05"),
                Check("log-log slope of Tsallis-INF's regret per round", slope, "<= -0.3"),
                late("Gauss-Seidel", "above_fixed", "> 0.05"),
            ],
        )
    ]
