"""Grouping of similar actions: with few samples a coarse grouping estimates better, with many a
fine one approximates better, and held-out samples select the number of groups.
"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs import processes
from experiments.claims import Arm, Check, Claim
from jaxrl import tabular
from jaxrl.tree import replace

S, A, LATENT, H = 5, 64, 8, 10
GROUPS = (1, 2, 4, 8, 16, 32, 64)
SAMPLES = (4, 16, 64, 256, 1024)  # of each state and action
SPREAD = 0.1
NOISE = 1.0  # standard deviation of an observed reward


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


def made(seed):
    """The process, the value of its best policy, and two sampling keys."""
    key, *keys = jax.random.split(jax.random.key(seed), 3)
    process = processes.latent_groups(key, S, A, LATENT, SPREAD)
    return process, tabular.optimal_value(process, H), keys


def policies(members, model):
    """Greedy actions in the pooled models. [len(members), H, S]."""
    return jax.lax.map(lambda x: tabular.backward(*pooled(x, *model), H).argmax(-1), members)


def values(process, transition, reward, policies):
    process = replace(process, transition=transition, reward=reward)
    return jax.vmap(tabular.value, (None, 0))(process, policies)


def run(seed, samples):
    process, best, keys = made(seed)
    halves = [sampled(key, process, samples / 2) for key in keys]
    model = jax.tree.map(lambda x, y: (x + y) / 2, *halves)
    ward = lambda model: policies(groupings(*model)[A - jnp.array(GROUPS)], model)
    held_out = lambda one, other: values(process, other[0], other[1][..., None], ward(one))
    estimate = held_out(*halves) + held_out(*halves[::-1])
    losses = 1 - values(process, process.transition, process.reward, ward(model)) / best
    return {"loss": losses, "selected": losses[estimate.argmax()]}


def random_grouping(seed, samples):
    """The loss with the latent number of groups, of random actions."""
    process, best, keys = made(seed)
    members = jax.nn.one_hot(jax.random.permutation(keys[1], A) % LATENT, A)[None]
    (policy,) = policies(members, sampled(keys[0], process, samples))
    return {"selected": 1 - tabular.value(process, policy) / best}


def worse(groups: int):
    """Loss with a number of groups less that with 8, for the middle number of samples. [seeds]."""

    def measure(results):
        loss = results["Ward"]["loss"].transpose("samples", "seed", ...).values
        middle = loss[len(loss) // 2]
        return middle[:, GROUPS.index(groups)] - middle[:, GROUPS.index(LATENT)]

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
    x, y = (results[name]["selected"].mean("samples") for name in ("random groups", "Ward"))
    return x.values - y.values


def claims(scale: float = 1.0) -> list[Claim]:
    samples = sorted({max(2, round(num * scale)) for num in SAMPLES})
    budget = S * A * sum(samples)
    return [
        Claim(
            row=36,
            statement="The loss over the number of action groups is U-shaped, with its minimum "
            "at more groups for more samples; the selected number loses within 5 % of the best.",
            changed="After trials: the noise, the selection, and where the U is measured.",
            arms={"Ward": Arm(run, budget), "random groups": Arm(random_grouping, budget)},
            accept=[
                Check("selected loss less 1.05 times the best", excess, "<= 0", rl.stats.mean),
                Check("loss of one group less that of 8, middle samples", worse(1), "> 0"),
                Check("loss of 64 groups less that of 8, middle samples", worse(A), "> 0"),
                Check("doublings of the best number of groups", finer, "> 0", rl.stats.mean),
                Check("loss of random groups less Ward's", random_less_ward, "> 0", control=True),
            ],
            worlds=[f"random processes, S={S}, {A} actions in {LATENT} latent groups, H={H}"],
            axes={"samples": samples},
            seeds=256,
            unmatched="Groups are Ward clusters, and their number is selected by the value on "
            "held-out samples, in place of a bound.",
        )
    ]
