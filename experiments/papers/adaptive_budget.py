"""Adaptive sampling for equitable data (Cai et al., 2022): budgets by fitted learning curves.

A policy for each of four grids is planned with a model of its samples. After each round, power laws
of scores over samples say where those of the next round raise the sum of log-scores most.
"""

import jax
import jax.numpy as jnp

import jaxrl as rl
from envs.gridworld import MOVES
from experiments.claims import Arm, Check, Claim
from jaxrl.stats.power_law import nearest_law

SIDES, LARGEST = (2, 3, 5, 7), 7
STATES, ACTIONS, TASKS = LARGEST**2, len(MOVES), len(SIDES)
GAMMA, BACKUPS, SLIP = 0.95, 40, 0.3
EVEN, CHUNKS = 4, 16  # rounds of equal budgets at first; parts of the budget of a round
FLOOR = 0.02  # of a score, and of what it lacks


def moved(state, direction, side):
    """The next cell, on a grid of `side` by `side` in a corner of the largest."""
    cell = jnp.stack([state // LARGEST, state % LARGEST], -1) + jnp.array(MOVES)[direction]
    row, column = jnp.clip(cell, 0, jnp.asarray(side)[..., None] - 1).T
    return row.T * LARGEST + column.T


def sampled(key, task, turn):
    """State, action and next state of a sample of each task in `task` [N].

    turn: of the directions of the actions, [TASKS, ACTIONS].
    """
    keys = jax.random.split(key, 4)
    side = jnp.array(SIDES)[task]
    row, column = (jax.random.randint(key, task.shape, 0, side) for key in keys[:2])
    action, other = jax.random.randint(keys[2], (2, *task.shape), 0, ACTIONS)
    slips = jax.random.uniform(keys[3], task.shape) < SLIP
    state = row * LARGEST + column
    return state, action, moved(state, turn[task, jnp.where(slips, other, action)], side)


def exact(turn, task):
    """The transition probabilities of a task. [STATES, ACTIONS, STATES]."""
    states, actions = jnp.indices((STATES, ACTIONS))
    to = lambda action: moved(states, turn[task, action], jnp.array(SIDES)[task])
    spread = lambda action: jax.nn.one_hot(to(action), STATES)
    others = sum(spread(jnp.full_like(actions, action)) for action in range(ACTIONS))
    return (1 - SLIP) * spread(actions) + SLIP * others / ACTIONS


def plan(transition, goal, policy=None):
    """Values of actions with a reward of 1 on entering the goal, of the policy, or of the best one.
    [STATES, ACTIONS].
    """

    def backup(_, value):
        of_action = transition @ jnp.where(is_goal, 1.0, GAMMA * value)
        return of_action.max(-1) if policy is None else (of_action * policy).sum(-1)

    is_goal = jnp.arange(STATES) == goal
    value = jax.lax.fori_loop(0, BACKUPS, backup, jnp.zeros(STATES))
    return transition @ jnp.where(is_goal, 1.0, GAMMA * value)


def scores(counts, transitions):
    """The value of the planned policies in the first cell, over that of the best. [TASKS]."""

    def score(counts, transition, side):
        goal = (side - 1) * (LARGEST + 1)
        num = counts.sum(-1, keepdims=True)
        model = counts / jnp.maximum(num, 1)  # what has no sample has a value of 0
        policy = jax.nn.one_hot(plan(model, goal).argmax(-1), ACTIONS)
        of_policy = (plan(transition, goal, policy) * policy).sum(-1)[0]
        return of_policy / plan(transition, goal).max(-1)[0]

    return jax.vmap(score)(counts, transitions, jnp.array(SIDES))


def adaptive(samples, history, round, size):
    """Shares of the next round. history: (samples, scores), [rounds, TASKS] each."""
    used = (jnp.arange(len(history[0])) < round).astype(jnp.float32)
    fit = lambda x, y: nearest_law(jnp.maximum(x, 1.0), jnp.maximum(1 - y, FLOOR), used)
    laws = jax.vmap(fit, 1)(*history)
    score = lambda num: 1 - jax.vmap(lambda law, x: law(x))(laws, num)
    utility = lambda num: jnp.log(jnp.maximum(score(num), FLOOR))

    def give(num, _):
        gain = utility(num + size) - utility(num)
        return num + size * jax.nn.one_hot(gain.argmax(), TASKS), None

    return (jax.lax.scan(give, samples, length=CHUNKS)[0] - samples) / (size * CHUNKS)


def arm(name: str, rounds: int, size: int) -> Arm:
    def run(seed):
        key_share, key_turn, key = jax.random.split(jax.random.key(seed), 3)
        even, population = jnp.ones(TASKS) / TASKS, jax.random.dirichlet(key_share, jnp.ones(TASKS))
        ordered = jnp.tile(jnp.arange(ACTIONS), (TASKS, 1))
        turn = jax.random.permutation(key_turn, ordered, axis=1, independent=True)
        transitions = jax.vmap(exact, (None, 0))(turn, jnp.arange(TASKS))

        def step(now, inputs):
            counts, samples, history = now
            round, key = inputs
            share = population if name == "proportional" else even
            if name == "adaptive":
                found = adaptive(samples, history, round, size / CHUNKS)
                share = jnp.where(round < EVEN, even, found)
            ends = jnp.round(jnp.cumsum(share) * size)
            task = jnp.searchsorted(ends, jnp.arange(size), side="right")
            counts = counts.at[task, *sampled(key, task, turn)].add(1.0)
            samples = samples + jnp.diff(ends, prepend=0)
            score = scores(counts, transitions)
            put = lambda old, new: old.at[round].set(new)
            history = jax.tree.map(put, history, (samples, score))
            return (counts, samples, history), score

        zeros = jnp.zeros((TASKS, STATES, ACTIONS, STATES))
        start = zeros, jnp.zeros(TASKS), (jnp.zeros((rounds, TASKS)),) * 2
        inputs = jnp.arange(rounds), jax.random.split(key, rounds)
        (_, samples, _), score = jax.lax.scan(step, start, inputs)
        utility = jnp.log(jnp.maximum(score[-1], FLOOR)).sum()
        return {"utility": utility, "worst": score[-1].min(), "score": score, "samples": samples}

    return Arm(run, rounds * size)


def claims(scale: float = 1.0) -> list[Claim]:
    rounds, size = max(int(24 * scale), 2), 160
    better = lambda than, metric, what: Check(
        f"{what}, adaptive less {than}",
        lambda r: rl.stats.difference(r["adaptive"][metric].values, r[than][metric].values),
        "> 0",
    )
    others = "equal", "proportional"
    utility, worst = ("utility", "sum of log-scores of four tasks"), ("worst", "worst score")
    return [
        Claim(
            row=121,
            statement="On four grids of different sizes, giving the samples of each round by "
            "fitted learning curves ends with a higher sum of log-scores, and a higher worst "
            "score, than equal shares and than the shares of a random population.",
            arms={name: arm(name, rounds, size) for name in ("adaptive", *others)},
            accept=[better(than, *each) for each in (utility, worst) for than in others],
            worlds=["grids of 2, 3, 5 and 7 cells a side, where 30 % of moves are random"],
            seeds=256,
            unmatched="Scores are exact, and samples of random cells; a cost is not modelled.",
        )
    ]
