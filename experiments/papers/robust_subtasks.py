"""Robust subtask learning (ROSAC, Jothimurugan et al., 2023): policies of subtasks for any sequence
of them, from a game in which an adversary picks each next subtask, that of the lowest value there.

PPO with a table is in place of SAC. The asynchronous variant AROSAC, which trains the subtasks in
parallel, and its speed-up are left out.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

import jaxrl as rl
from envs.gridworld import MOVES
from envs.level_set import LevelSet
from experiments.claims import Arm, Claim, beats
from jaxrl import teachers
from jaxrl.tree import put

SUBTASKS = len(MOVES)  # to leave a room up, right, down or left
SIDE, SLIP, HAZARDS = 7, 0.1, 0.15
CELLS, START = SIDE**2, SIDE**2 // 2
LENGTH, LONGEST = 5, 101  # subtasks of a sequence, and steps of each, in evaluations
STEPS = 204_800
ARMS = {"robust": (0.1, True), "average": (1.0, True), "naive": (1.0, False)}


@rl.pytree
class Room(rl.Env):
    """A room with an exit at each cell of its four sides, to the opposite side of an equal room.

    A subtask is to leave on one side, with a reward of 1. Each subtask has its own hazards, which
    terminate. A move is random with probability SLIP. Observation: subtask * CELLS + cell.

    hazards: bool [SUBTASKS, CELLS]. following: probabilities of the next subtask in each cell,
    [CELLS, SUBTASKS]. chained: False if an episode ends after one subtask.
    """

    hazards: jax.Array
    following: jax.Array
    chained: jax.Array | bool = True

    max_steps = 100
    action_space = rl.Discrete(4)

    def reset(self, key):
        state = self.next_subtask(key, START), jnp.int32(START)
        return state, state[0] * CELLS + state[1]

    def next_subtask(self, key, cell):
        return jax.random.categorical(key, jnp.log(self.following[cell])).astype(jnp.int32)

    def moved(self, subtask, cell, move):
        """The cell after a move; True if it completes the subtask; True if it hits a hazard."""
        row, column = jnp.stack([cell // SIDE, cell % SIDE]) + jnp.array(MOVES, jnp.int32)[move]
        leaves = (row < 0) | (row >= SIDE) | (column < 0) | (column >= SIDE)
        completes = leaves & (move == subtask)
        there = jnp.where(leaves & ~completes, cell, row % SIDE * SIDE + column % SIDE)
        return there, completes, self.hazards[subtask, there] & ~completes

    def step(self, key, state, action):
        key_slip, key_move, key_next = jax.random.split(key, 3)
        slips = jax.random.uniform(key_slip) < SLIP
        move = jnp.where(slips, jax.random.randint(key_move, (), 0, 4), action)
        cell, completes, fails = self.moved(state[0], state[1], move)
        subtask = jnp.where(completes, self.next_subtask(key_next, cell), state[0])
        over = fails | (completes & ~self.chained)
        step = rl.Step(subtask * CELLS + cell, jnp.float32(completes), over, {})
        return (subtask, cell), step

    def chances(self, policy):
        """Probabilities to complete each subtask from each cell, by the cell where the next one
        starts. [SUBTASKS, CELLS, CELLS]. policy: an action for each subtask and cell.
        """
        subtask, cell, move = jnp.indices((SUBTASKS, CELLS, 4)).reshape(3, -1)
        there, completes, fails = jax.vmap(self.moved)(subtask, cell, move)
        weight = (1.0 - SLIP) * jax.nn.one_hot(policy, 4).ravel() + SLIP / 4.0
        zeros = jnp.zeros((SUBTASKS, CELLS, CELLS))
        add = lambda mask: zeros.at[subtask, cell, there].add(weight * mask)
        inside, ends = add(~completes & ~fails), add(completes)
        found, _ = jax.lax.scan(lambda x, _: (ends + inside @ x, None), ends, length=LONGEST - 1)
        return found


@rl.pytree
class Adversary(teachers.Teacher):
    """The next subtask is that of the lowest value, or with probability `uniform` a random one."""

    uniform: float

    def init(self, key, tasks) -> Any:
        return jnp.full((CELLS, SUBTASKS), 1.0 / SUBTASKS)

    def draw(self, key, state: Any, tasks, num):
        levels = jax.vmap(tasks.numbered)(jnp.zeros(num, jnp.int32))
        return put(levels, {"following": jnp.broadcast_to(state, (num, *state.shape))}), ()

    def post_learn(self, state: Any, agent):
        value = agent.params["value"].reshape(SUBTASKS, CELLS)
        lowest = jax.nn.one_hot(value.argmin(0), SUBTASKS)
        return self.uniform / SUBTASKS + (1.0 - self.uniform) * lowest


def run(seed, lr, steps: int, uniform: float, chained: bool) -> dict[str, jax.Array]:
    """The lowest and the mean probability of success over all sequences of subtasks, computed
    exactly for the greedy policy.
    """
    key_room, key_train = jax.random.split(jax.random.key(seed))
    hazards = jax.random.bernoulli(key_room, HAZARDS, (SUBTASKS, CELLS)).at[:, START].set(False)
    room = Room(hazards, jnp.full((CELLS, SUBTASKS), 1.0 / SUBTASKS), jnp.asarray(chained))
    rooms = LevelSet(jax.tree.map(lambda x: x[None], room))
    sizes: Any = {"num_envs": 32, "num_steps": 32, "network": rl.Table(SUBTASKS * CELLS)}
    algo = rl.Taught(rl.ppo(lr=lr, gamma=0.97, **sizes), Adversary(uniform), num_levels=1)
    state, _ = rl.Training(algo, rooms, steps, evals=1, episodes=0)(key_train)
    logits = algo.agent(state).params["logits"].reshape(SUBTASKS, CELLS, 4)
    chances, place = room.chances(logits.argmax(-1)), jax.nn.one_hot(START, CELLS)[None]
    for _ in range(LENGTH):
        place = jnp.einsum("np,kpq->nkq", place, chances).reshape(-1, CELLS)
    return {"worst": place.sum(-1).min(), "mean": place.sum(-1).mean()}


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(STEPS * scale), 1024)

    def arm(uniform: float, chained: bool) -> Arm:
        one = functools.partial(run, steps=steps, uniform=uniform, chained=chained)
        return Arm(one, steps, {"lr": (0.003, 0.01, 0.03, 0.1)})

    return [
        Claim(
            row=322,
            statement="In rooms with hazards that differ between subtasks, policies trained "
            "against an adversary that picks the next subtask have a higher success on the worst "
            f"sequence of {LENGTH} subtasks than policies trained on random sequences, and than "
            "policies trained on each subtask from its own start.",
            arms={name: arm(*fields) for name, fields in ARMS.items()},
            metric="worst",
            accept=[beats("robust", other, "worst") for other in ("average", "naive")],
            worlds=[f"rooms of {SIDE} by {SIDE} cells with random hazards, drawn for each seed"],
            seeds=max(int(256 * scale), 64),
            changed="After trials, and after comparing exact optima in several families of rooms: "
            "hazards that differ between subtasks in place of common ones and of walls, with which "
            "the robust optimum is hardly better in the worst case; a lower learning rate.",
            unmatched="Rooms are grids, PPO with a table replaces SAC, and the worst sequence is "
            "found exactly rather than by search; AROSAC is left out. The naive arm's learning "
            "rate is the lowest of the grid.",
        )
    ]
