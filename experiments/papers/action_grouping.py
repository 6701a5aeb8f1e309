"""Grouping of similar actions: with few samples a coarse grouping estimates better, with many a
fine one approximates better, and held-out samples select the number of groups.
"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs import processes
from experiments.papers import Arm, Check, Claim
from jaxrl import tabular

S, A, LATENT, H = 5, 64, 8, 10
GROUPS = (1, 2, 4, 8, 16, 32, 64)
SAMPLES = (4, 16, 64, 256, 1024)  # of each state and action
SPREAD = 0.1
NOISE = 0.5  # standard deviation of an observed reward


def sampled(key, process, num):
    """Empirical transition [S, A, S] and reward [S, A] from `num` samples of each pair."""
    key_next, key_noise = jax.random.split(key)
    counts = jax.random.multinomial(key_next, num, process.transition)
    noise = jax.random.normal(key_noise, (S, A)) * NOISE / jnp.sqrt(num)
    return counts / num, process.reward[..., 0] + noise


def groupings(transition, reward):
    """Memberships of the actions, one-hot [A, A], for A, A - 1, ..., 1 groups. [A, A, A].

    Ward's clustering of (transition, reward): the two groups are joined for which the sum of
    squared distances to the centers increases least.
    """
    x = jnp.concatenate([transition, reward[..., None]], -1).swapaxes(0, 1).reshape(A, -1)

    def join(member, _):
        size = member.sum(0)
        center = member.T @ x / jnp.maximum(size, 1)[:, None]
        square = (center**2).sum(-1)
        distance = square[:, None] + square[None] - 2 * center @ center.T
        cost = distance * size[:, None] * size[None] / jnp.maximum(size[:, None] + size[None], 1)
        exists = jnp.outer(size > 0, size > 0) & ~jnp.eye(A, dtype=bool)
        first, second = jnp.divmod(jnp.where(exists, cost, jnp.inf).argmin(), A)
        joined = member.at[:, first].add(member[:, second]).at[:, second].set(0)
        return joined, member

    return jax.lax.scan(join, jnp.eye(A), None, length=A)[1]


def pooled(member, transition, reward):
    """The model with the mean of each group at all of its actions."""
    mean = member @ (member / jnp.maximum(member.sum(0, keepdims=True), 1)).T
    return jnp.einsum("ab,sbt->sat", mean, transition), reward @ mean.T


def run(seed, samples):
    key_process, key_half, key_other = jax.random.split(jax.random.key(seed), 3)
    process = processes.latent_groups(key_process, S, A, LATENT, SPREAD)
    halves = [sampled(key, process, samples / 2) for key in (key_half, key_other)]
    model = jax.tree.map(lambda x, y: (x + y) / 2, *halves)
    index = A - jnp.array(GROUPS)

    def loss(member):
        transition, reward = pooled(member, *model)
        policy = tabular.backward(transition, reward, H).argmax(-1)
        return tabular.optimal_value(process, H) - tabular.value(process, policy)

    def error(member):
        transition, reward = pooled(member, *halves[0])
        return ((transition - halves[1][0]) ** 2).sum() + ((reward - halves[1][1]) ** 2).sum()

    losses = jax.lax.map(loss, groupings(*model)[index])
    errors = jax.lax.map(error, groupings(*halves[0])[index])
    best = tabular.optimal_value(process, H)
    return {"loss": losses / best, "selected": losses[errors.argmin()] / best}


def random_grouping(seed, samples):
    """The loss with the latent number of groups, of random actions."""
    key_process, key_half, key_group = jax.random.split(jax.random.key(seed), 3)
    process = processes.latent_groups(key_process, S, A, LATENT, SPREAD)
    order = jax.random.permutation(key_group, A) % LATENT
    member = jax.nn.one_hot(order, A)
    transition, reward = pooled(member, *sampled(key_half, process, samples))
    policy = tabular.backward(transition, reward, H).argmax(-1)
    best = tabular.optimal_value(process, H)
    return {"selected": 1 - tabular.value(process, policy) / best}


def worse(groups: int):
    """Relative loss with a number of groups less that with 8, for the fewest samples. [seeds]."""

    def measure(results):
        loss = results["Ward"]["loss"].isel(samples=0).transpose("seed", ...).values
        return loss[:, GROUPS.index(groups)] - loss[:, GROUPS.index(LATENT)]

    return measure


def finer(results) -> np.ndarray:
    """By how many doublings the best number of groups is larger with the most samples. [seeds]."""
    found = results["Ward"]["loss"].transpose("seed", "samples", ...).values.argmin(-1)
    return (found[:, -1] - found[:, 0]).astype(float)


def excess(results) -> np.ndarray:
    """Loss of the selected grouping less 1.05 times that of the number of groups that is best on
    average, at the number of samples with the largest mean. [seeds].
    """
    loss = results["Ward"]["loss"].transpose("seed", "samples", ...).values
    selected = results["Ward"]["selected"].transpose("seed", "samples").values
    best = np.take_along_axis(loss, loss.mean(0).argmin(-1)[None, :, None], -1)[..., 0]
    difference = selected - 1.05 * best
    return difference[:, difference.mean(0).argmax()]


def random_less_ward(results) -> np.ndarray:
    pair = (results[name]["selected"].mean("samples") for name in ("random groups", "Ward"))
    return np.subtract(*(x.values for x in pair))


def claims(scale: float = 1.0) -> list[Claim]:
    samples = sorted({max(2, round(num * scale)) for num in SAMPLES})
    budget = S * A * sum(samples)
    return [
        Claim(
            row=36,
            statement="The loss over the number of action groups is U-shaped, its minimum moves to "
            "finer groupings with more samples, and held-out samples select a grouping near it.",
            arms={"Ward": Arm(run, budget), "random groups": Arm(random_grouping, budget)},
            accept=[
                Check(
                    "selected loss less 1.05 times the best one, worst number of samples",
                    excess,
                    "<= 0",
                    rl.stats.mean,
                ),
                Check("loss of one group less that of 8, fewest samples", worse(1), "> 0"),
                Check("loss of 64 groups less that of 8, fewest samples", worse(A), "> 0"),
                Check(
                    "doublings of the best number of groups, most samples less fewest",
                    finer,
                    "> 0",
                    rl.stats.mean,
                ),
                Check("loss of random groups less that of Ward's", random_less_ward, "> 0"),
            ],
            worlds=[f"random processes, S={S}, {A} actions in {LATENT} latent groups, H={H}"],
            axes={"samples": samples},
            seeds=256,
            unmatched="Groups are Ward clusters, selected by the held-out squared error of the "
            "pooled model.",
        )
    ]
