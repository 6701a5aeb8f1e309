"""PCGrad (Yu et al., 2020): conflicting task gradients are projected, then summed.

Eight goals on a grid, with rewards of different sizes, are learned by policy gradients.
"""

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

import jaxrl as rl
from envs.gridworld import MOVES
from experiments.claims import Arm, Check, Claim

TASKS, SIDE, STEPS, EPISODES, GAMMA = 8, 9, 20, 8, 0.95
SCALES, ENTROPY = (0.3, 3.0), 0.01
NETWORK = rl.MLP((32, 32))({"logits": len(MOVES)})


def logits(params, x):
    """Logits of the actions for inputs [EPISODES, 2 + TASKS]."""
    return jax.vmap(lambda x: NETWORK.apply(params, x)["logits"])(x)


def play(key, params, task, goal):
    """Episodes of a task from random cells: inputs, actions, mask and arrivals. [STEPS, EPISODES].

    An input is the coordinates, from -1 to 1, and the task one-hot.
    """
    key_start, key_play = jax.random.split(key)
    start = jax.random.randint(key_start, (EPISODES, 2), 0, SIDE)
    number = jnp.broadcast_to(jax.nn.one_hot(task, TASKS), (EPISODES, TASKS))

    def step(now, key):
        position, active = now
        x = jnp.concatenate([2 * position / (SIDE - 1) - 1, number], -1)
        action = jax.random.categorical(key, logits(params, x))
        position = jnp.clip(position + jnp.array(MOVES)[action], 0, SIDE - 1)
        arrives = active & (position == goal[None]).all(-1)
        return (position, active & ~arrives), (x, action, active, arrives)

    first = start, (start != goal[None]).any(-1)
    return jax.lax.scan(step, first, jax.random.split(key_play, STEPS))[1]


def loss(params, scale, x, action, active, arrives):
    """REINFORCE with the mean over episodes as the baseline, and an entropy bonus. []."""
    accumulate = lambda value, reward: (reward + GAMMA * value,) * 2
    value = jax.lax.scan(accumulate, jnp.zeros(EPISODES), scale * arrives, reverse=True)[1]
    mean = (value * active).sum(1) / jnp.maximum(active.sum(1), 1)
    log_prob = jax.nn.log_softmax(jax.vmap(logits, (None, 0))(params, x))
    chosen = jnp.take_along_axis(log_prob, action[..., None], -1)[..., 0]
    entropy = -(jnp.exp(log_prob) * log_prob).sum(-1)
    return -jnp.mean(active * (chosen * (value - mean[:, None]) + ENTROPY * entropy))


def surgery(key, grads):
    """The sum of task gradients [K, P], each projected onto the normal planes of those that it
    conflicts with, in random order (algorithm 1). [P].
    """
    gram, num = grads @ grads.T, len(grads)

    def project(key, own):
        def remove(weights, other):
            product = weights @ gram[other]
            conflicts = (product < 0) & (other != own)
            part = jnp.where(conflicts, product / jnp.maximum(gram[other, other], 1e-20), 0.0)
            return weights.at[other].add(-part), None

        order = jax.random.permutation(key, num)
        return jax.lax.scan(remove, jax.nn.one_hot(own, num), order)[0]

    return jax.vmap(project)(jax.random.split(key, num), jnp.arange(num)).sum(0) @ grads


def arm(name: str, updates: int) -> Arm:
    def run(seed, lr):
        key_net, key_goals, key_scale, key = jax.random.split(jax.random.key(seed), 4)
        cells = jax.random.choice(key_goals, SIDE**2, (TASKS,), replace=False)
        goals = jnp.stack([cells // SIDE, cells % SIDE], -1)
        low, high = jnp.log(jnp.array(SCALES))
        scales = jnp.exp(jax.random.uniform(key_scale, (TASKS,), float, low, high))
        own, optimizer = name == "independent", optax.adam(lr)  # a network for each task
        params = jax.vmap(NETWORK.init, (0, None))(
            jax.random.split(key_net, TASKS), jnp.zeros(2 + TASKS)
        )
        params = params if own else jax.tree.map(lambda x: x[0], params)

        def gradient(key, params, task, goal, scale):
            played = play(key, params, task, goal)
            success = played[3].any(0) | ~played[2][0]
            return jax.grad(loss)(params, scale, *played), success.mean()

        def update(now, key):
            params, opt_state = now
            key_play, key_order = jax.random.split(key)
            keys = jax.random.split(key_play, TASKS)
            of_tasks = jax.vmap(gradient, (0, 0 if own else None, 0, 0, 0))
            grads, success = of_tasks(keys, params, jnp.arange(TASKS), goals, scales)
            flat = jax.vmap(lambda grad: ravel_pytree(grad)[0])(grads)
            if name == "PCGrad":
                grads = ravel_pytree(params)[1](surgery(key_order, flat))
            elif name == "sum":
                grads = jax.tree.map(lambda x: x.sum(0), grads)
            negative = (flat @ flat.T < 0).sum() / (TASKS * (TASKS - 1))
            change, opt_state = optimizer.update(grads, opt_state)
            params = optax.apply_updates(params, change)
            return (params, opt_state), (success.mean(), success.min(), negative)

        keys = jax.random.split(key, updates)
        start = params, optimizer.init(params)
        mean, worst, conflict = jax.lax.scan(update, start, keys)[1]
        mean, worst = (x[-max(updates // 10, 1) :].mean() for x in (mean, worst))
        return {"success": mean, "worst": worst, "conflicts": conflict.mean()}

    return Arm(run, updates * TASKS * EPISODES * STEPS, {"lr": [3e-3, 1e-2, 3e-2, 1e-1]})


def better(than: str, metric: str) -> Check:
    return Check(
        f"{metric}, PCGrad less {than}",
        lambda r: rl.stats.difference(r["PCGrad"][metric].values, r[than][metric].values),
        "> 0",
    )


def claims(scale: float = 1.0) -> list[Claim]:
    updates = max(int(50 * scale), 2)
    negative = "share of pairs of task gradients with a negative cosine, PCGrad"
    return [
        Claim(
            row=390,
            statement="On eight goals of a grid, with rewards of different sizes, projecting "
            "conflicting task gradients before their sum raises the mean success above that of "
            "the plain sum and that of a network for each task.",
            arms={name: arm(name, updates) for name in ("PCGrad", "sum", "independent")},
            accept=[
                better("sum", "success"),
                better("independent", "success"),
                better("sum", "worst"),
                Check(negative, lambda r: r["PCGrad"]["conflicts"].values, ">= 0.1", control=True),
            ],
            worlds=[f"{TASKS} goals on a grid of {SIDE} by {SIDE}, drawn for each seed"],
            metric="success",
            seeds=range(60_000, 60_256),
            changed="After a trial: fewer updates. After a measurement on 64 seeds, with intervals "
            "that included 0: more and other seeds.",
            unmatched="REINFORCE with Adam in place of SAC, and a grid in place of Meta-World.",
        )
    ]
