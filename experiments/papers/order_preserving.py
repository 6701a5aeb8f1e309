"""Order-preserving GFlowNets (Chen and Mauch, 2024): a sampler that is trained on comparisons.

With trajectory balance (Malkin et al., 2022) a sampler stops at x in proportion to R(x)^beta. The
order-preserving one learns a reward, Z P_F / P_B of a trajectory, by maximum likelihood of the
order of R in pairs of trajectories, so that no exponent has to be chosen. Policies are tables.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from envs.hypergrid import HyperGrid
from experiments.claims import Arm, Check, Claim, share
from jaxrl.stats import difference

ENV = HyperGrid(dims=3)
BATCH, EXPLORE = 16, 0.1
RARE = 0.005  # a thousand samples miss a mode with this probability in less than 1 % of cases
NUM_MODES = 2**ENV.dims
POINTS = 4  # of the run, at which entropies are measured


def probabilities(logits: jax.Array) -> jax.Array:
    """The policy at each point; 0 for impossible actions. [*shape, dims + 1]."""
    return jax.nn.softmax(jnp.where(ENV.allowed(ENV.points()), logits, -jnp.inf))


def trajectory(key: jax.Array, policy: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Points, actions, and True up to the stop, of a table of probabilities. [T, dims], [T]."""

    def step(now, key):
        point, active = now
        action = jax.random.categorical(key, jnp.log(policy[tuple(point)]))
        moves = active & (jnp.arange(ENV.dims) == action)
        return (point + moves, active & (action < ENV.dims)), (point, action, active)

    first = jnp.zeros(ENV.dims, jnp.int32), jnp.bool_(True)
    return jax.lax.scan(step, first, jax.random.split(key, ENV.max_steps))[1]


def log_ratio(logits: jax.Array, points, actions, active) -> jax.Array:
    """log P_F - log P_B of a trajectory, where P_B is uniform over the parents of a point. []."""
    log_probs = jnp.log(jnp.maximum(probabilities(logits), 1e-30))
    forward = log_probs[(*points.T, actions)]
    after = points + (jnp.arange(ENV.dims) == actions[:, None])
    backward = -jnp.log(jnp.maximum((after > 0).sum(-1), 1))
    moves = active & (actions < ENV.dims)
    return jnp.sum(jnp.where(active, forward, 0.0)) - jnp.sum(jnp.where(moves, backward, 0.0))


def by_order(log_reward: jax.Array, learned: jax.Array) -> jax.Array:
    """Cross-entropy of the order of all pairs; a tie counts half for each side. []."""
    gap = log_reward[:, None] - log_reward
    label = jnp.where(jnp.abs(gap) < 1e-6, 0.5, gap > 0)
    return -jnp.mean(label * jax.nn.log_sigmoid(learned[:, None] - learned)) * 2.0


def by_balance(log_reward: jax.Array, learned: jax.Array) -> jax.Array:
    """The trajectory balance loss. []."""
    return jnp.mean((learned - log_reward) ** 2)


def run(seed, lr, beta, loss, updates: int) -> dict[str, jax.Array]:
    """Where the final sampler stops, and entropies during training."""
    optimizer = optax.adam(lr)

    def objective(params, seen):
        logits, log_z = params
        learned = log_z + jax.vmap(log_ratio, (None, 0, 0, 0))(logits, *seen)
        stop = jnp.take_along_axis(seen[0], seen[2].sum(1)[:, None, None] - 1, 1)[:, 0]
        return loss(beta * jnp.log(ENV.reward(stop)), learned)

    def update(now: Any, key: jax.Array) -> tuple[Any, None]:
        params, opt_state = now
        allowed = ENV.allowed(ENV.points())
        uniform = allowed / allowed.sum(-1, keepdims=True)
        policy = (1.0 - EXPLORE) * probabilities(params[0]) + EXPLORE * uniform
        seen = jax.vmap(trajectory, (0, None))(jax.random.split(key, BATCH), policy)
        grads = jax.grad(objective)(params, seen)
        changes, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, changes), opt_state), None

    def part(now: Any, key: jax.Array) -> tuple[Any, Any]:
        now, _ = jax.lax.scan(update, now, jax.random.split(key, updates // POINTS))
        stops = ENV.stops(probabilities(now[0][0]))
        return now, (stops, -jnp.sum(stops * jnp.log(jnp.maximum(stops, 1e-30))))

    params = jnp.zeros((*ENV.shape, ENV.dims + 1)), jnp.float32(0.0)
    start = params, optimizer.init(params)
    _, (stops, entropy) = jax.lax.scan(part, start, jax.random.split(jax.random.key(seed), POINTS))
    modes = stops[-1][ENV.is_mode(ENV.points()).nonzero(size=NUM_MODES)]
    found = (modes >= RARE).all().astype(jnp.float32)
    return {"mass": modes.sum(), "found": found, "worth": modes.sum() * found, "entropy": entropy}


def claims(scale: float = 1.0) -> list[Claim]:
    updates = max(int(1000 * scale), 2) * POINTS
    arm = lambda loss, **tune: Arm(
        functools.partial(run, loss=loss, updates=updates), budget=updates * BATCH, tune=tune
    )
    rates = (0.01, 0.03, 0.1)

    def more(other: str, accept: str) -> Check:
        values = lambda results, name: results[name]["mass"].values
        measure = lambda results: difference(values(results, "order"), values(results, other))
        return Check(f"mass on modes, order less {other}", measure, accept)

    def sparser(results):
        entropy = results["order"]["entropy"].transpose("seed", ...).values
        return entropy[:, 0] - entropy[:, -1]

    return [
        Claim(
            row=312,
            statement="On the hypergrid with eight modes, a sampler trained on comparisons stops "
            "at all modes, more often than one by trajectory balance without an exponent, and its "
            "learned reward becomes sparser.",
            arms={
                "order": arm(by_order, lr=rates, beta=(1.0,)),
                "balance": arm(by_balance, lr=rates, beta=(1.0,)),
                "balance, best exponent": arm(by_balance, lr=(0.01,), beta=(1.5, 2.0, 4.0)),
            },
            metric="worth",
            accept=[
                Check(
                    "share of runs that stop at all eight modes",
                    lambda results: share(results["order"]["found"].values),
                    ">= 0.9",
                ),
                more("balance", "> 0"),
                more("balance, best exponent", ">= -0.05"),
                Check("entropy of stops after a quarter less that at the end", sparser, "> 0"),
            ],
            worlds=["HyperGrid"],
            unmatched="Policies are tables; several objectives, molecules and architectures are "
            "left out.",
        )
    ]
