"""Adaptive sampling for equitable data (Cai et al., 2022): budgets by fitted learning curves.

Policies are planned with empirical models. After each round, power laws fitted to the scores over
the numbers of samples predict for which tasks more samples raise the sum of log-scores most.
"""

import jax
import jax.numpy as jnp

import jaxrl as rl
from envs.gridworld import MOVES
from experiments.claims import Arm, Check, Claim

SIDES, LARGEST = (2, 3, 5, 7), 7
STATES, ACTIONS, TASKS = LARGEST**2, len(MOVES), len(SIDES)
GAMMA, BACKUPS, SLIPS = 0.95, 40, (0.1, 0.5)
EVEN, CHUNKS = 3, 20  # number of initial rounds with equal budgets; parts of the budget of a round
FLOOR, EXPONENTS = 0.02, (0.5, 2.0)  # lower limit of 1 - score, and limits of the exponents


def moved(state, direction, side):
    """The next cell, on a grid of `side` by `side` in a corner of the largest one."""
    cell = jnp.stack([state // LARGEST, state % LARGEST], -1) + jnp.array(MOVES)[direction]
    row, column = jnp.clip(cell, 0, jnp.asarray(side)[..., None] - 1).T
    return row.T * LARGEST + column.T


def sampled(key, task, slip):
    """State, action and next state of a sample of each task in `task` [N]. slip: [TASKS]."""
    keys = jax.random.split(key, 4)
    side = jnp.array(SIDES)[task]
    row, column = (jax.random.randint(key, task.shape, 0, side) for key in keys[:2])
    action, other = jax.random.randint(keys[2], (2, *task.shape), 0, ACTIONS)
    slips = jax.random.uniform(keys[3], task.shape) < slip[task]
    state = row * LARGEST + column
    return state, action, moved(state, jnp.where(slips, other, action), side)


def exact(slip, side):
    """The transition probabilities of a task. [STATES, ACTIONS, STATES]."""
    states, actions = jnp.indices((STATES, ACTIONS))
    moves = jax.nn.one_hot(moved(states, actions, side), STATES)
    return (1 - slip) * moves + slip * moves.mean(1, keepdims=True)


def plan(transition, goal, policy=None):
    """Action values of the policy, or of the optimal one, with a reward of 1 on entering the goal.
    [STATES, ACTIONS].
    """

    def backup(_, value):
        of_action = transition @ jnp.where(is_goal, 1.0, GAMMA * value)
        return of_action.max(-1) if policy is None else (of_action * policy).sum(-1)

    is_goal = jnp.arange(STATES) == goal
    value = jax.lax.fori_loop(0, BACKUPS, backup, jnp.zeros(STATES))
    return transition @ jnp.where(is_goal, 1.0, GAMMA * value)


def scores(counts, transitions):
    """The value of the planned policies in the first cell over the optimal value. [TASKS]."""

    def score(counts, transition, side):
        goal = (side - 1) * (LARGEST + 1)
        num = counts.sum(-1, keepdims=True)
        model = counts / jnp.maximum(num, 1)  # state-action pairs without samples have value 0
        policy = jax.nn.one_hot(plan(model, goal).argmax(-1), ACTIONS)
        of_policy = (plan(transition, goal, policy) * policy).sum(-1)[0]
        return of_policy / plan(transition, goal).max(-1)[0]

    return jax.vmap(score)(counts, transitions, jnp.array(SIDES))


utility = lambda score: jnp.log(jnp.maximum(score, 0.0) + FLOOR)


def adaptive(history, round, size):
    """Shares of the budget of the next round, by power laws for 1 - score from the last values.

    history: numbers of samples, and scores, [rounds, TASKS] each.
    """
    used = (jnp.arange(len(history[0])) < round)[:, None]
    x, y = jnp.log(jnp.maximum(history[0], 1.0)), jnp.log(jnp.maximum(1 - history[1], FLOOR))
    centre = lambda z: jnp.where(used, z - z.mean(0, where=used, keepdims=True), 0.0)
    slope = -(centre(x) * centre(y)).sum(0) / jnp.maximum((centre(x) ** 2).sum(0), 1e-6)
    exponent = jnp.clip(slope, *EXPONENTS)
    samples, score = (x[round - 1] for x in history)
    lacks = lambda num: jnp.maximum(1 - score, FLOOR) * (samples / num) ** exponent

    def give(num, _):
        gain = utility(1 - lacks(num + size)) - utility(1 - lacks(num))
        return num + size * jax.nn.one_hot(gain.argmax(), TASKS), None

    return (jax.lax.scan(give, samples, length=CHUNKS)[0] - samples) / (size * CHUNKS)


def arm(name: str, rounds: int, size: int) -> Arm:
    def run(seed):
        key_share, key_slip, key = jax.random.split(jax.random.key(seed), 3)
        even, population = jnp.ones(TASKS) / TASKS, jax.random.dirichlet(key_share, jnp.ones(TASKS))
        slip = jax.random.uniform(key_slip, (TASKS,), float, *SLIPS)
        transitions = jax.vmap(exact)(slip, jnp.array(SIDES))

        def step(now, inputs):
            counts, history = now
            round, key = inputs
            share = population if name == "proportional" else even
            if name == "adaptive":
                found = adaptive(history, round, size / CHUNKS)
                share = jnp.where(round < EVEN, even, found)
            ends = jnp.round(jnp.cumsum(share) * size)
            task = jnp.searchsorted(ends, jnp.arange(size), side="right")
            counts = counts.at[task, *sampled(key, task, slip)].add(1.0)
            score = scores(counts, transitions)
            put = lambda old, new: old.at[round].set(new)
            history = jax.tree.map(put, history, (counts.sum((1, 2, 3)), score))
            return (counts, history), score

        zeros = jnp.zeros((TASKS, STATES, ACTIONS, STATES))
        start = zeros, (jnp.zeros((rounds, TASKS)),) * 2
        inputs = jnp.arange(rounds), jax.random.split(key, rounds)
        score = jax.lax.scan(step, start, inputs)[1]
        return {"utility": utility(score[-1]).sum(), "worst": score[-1].min()}

    return Arm(run, rounds * size)


def claims(scale: float = 1.0) -> list[Claim]:
    rounds, size = max(int(24 * scale), 4), 100
    better = lambda than, metric, what: Check(
        f"{what}, adaptive less {than}",
        lambda r: rl.stats.difference(r["adaptive"][metric].values, r[than][metric].values),
        "> 0",
    )
    others = "equal", "proportional"
    kinds = {"utility": "sum of log-scores of four tasks", "worst": "worst score"}
    return [
        Claim(
            row=121,
            statement="On four grids of different sizes, giving the samples of each round by "
            "fitted learning curves ends with a higher sum of log-scores, and a higher worst "
            "score, than equal shares and than the shares of a random population.",
            arms={name: arm(name, rounds, size) for name in ("adaptive", *others)},
            accept=[better(than, *kind) for kind in kinds.items() for than in others],
            worlds=["grids of 2, 3, 5 and 7 cells a side, where 10 to 50 % of moves are random"],
            seeds=256,
            changed="After trials: limits of exponents and scores.",
            unmatched="Scores are exact, and samples of random cells.",
        )
    ]
