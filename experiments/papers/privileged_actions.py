"""Privileged actions (Mao et al., 2025): virtual moves of an object, with an annealed budget.

An object is carried to two places in turn, with a reward at the end. In training the policy has a
second action, which moves the object from afar with a probability, the budget.
"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs.gridworld import MOVES
from experiments.claims import Arm, Check, Claim, share
from jaxrl import teachers

SIDE, STAGES = 9, 2
STAY = len(MOVES)
WAYS = np.array([*MOVES, (0, 0)], np.int32)


@rl.pytree
class Carry(rl.Env):
    """Actions: a move of the agent, which carries the object once it has reached it, and a virtual
    move of the object. State: places of the agent, the object and the goals, [2 + STAGES, 2]; the
    number of goals that the object has reached; True where the agent holds it.
    """

    budget: jax.Array | float = 0.0

    max_steps = 40
    action_space = rl.spaces.MultiDiscrete((len(WAYS), len(WAYS)))
    channels = ("success",)

    def observe(self, state):
        places, stage, holds = state
        apart = (places[1:] - places[:1]).ravel() / SIDE
        flags = jnp.stack([holds, self.budget]).astype(jnp.float32)
        return jnp.concatenate([places[0] / SIDE, apart, jax.nn.one_hot(stage, STAGES), flags])

    def reset(self, key):
        places = jax.random.randint(key, (2 + STAGES, 2), 0, SIDE)
        state = places, jnp.int32(0), jnp.bool_(False)
        return state, self.observe(state)

    def step(self, key, state, action):
        places, stage, holds = state
        moved = lambda place, way: jnp.clip(place + jnp.array(WAYS)[way], 0, SIDE - 1)
        agent = moved(places[0], action[0])
        virtual = jnp.where(jax.random.uniform(key) < self.budget, action[1], STAY)
        thing = moved(jnp.where(holds, agent, places[1]), virtual)
        holds = (agent == thing).all()
        reaches = (thing == places[2 + stage]).all()
        ends = reaches & (stage == STAGES - 1)
        places = places.at[:2].set(jnp.stack([agent, thing]))
        new = places, jnp.minimum(stage + reaches, STAGES - 1), holds
        reward = jnp.float32(ends)
        return new, rl.Step(self.observe(new), reward, ends, {"success": reward})


@rl.pytree
class Budget(rl.Tasks):
    """The task with a budget."""

    channels = Carry.channels

    def sample(self, key):
        return Carry(jnp.float32(0.0))


@rl.pytree
class Annealed(teachers.Teacher):
    """The budget is multiplied by `factor` after each update with a success above `threshold`, and
    is 0 once it is below `least`.
    """

    start: float = 1.0
    factor: float = 0.95
    threshold: float = 0.7
    least: float = 0.02

    def init(self, key, tasks):
        return jnp.float32(self.start)

    def draw(self, key, state, tasks, num):
        return Carry(jnp.full(num, state)), jnp.zeros(num)

    def tell(self, key, state, tasks, levels, notes, report):
        total = (report.success * report.episodes).sum()
        succeeds = total / jnp.maximum(report.episodes.sum(), 1) > self.threshold
        state = jnp.where(succeeds, self.factor * state, state)
        return jnp.where(state < self.least, 0.0, state), notes

    def metrics(self, state):
        return {"budget": state}


def arm(start: float, factor: float, steps: int) -> Arm:
    def run(seed):
        sizes = {"num_envs": 64, "num_steps": 32, "minibatches": 8}
        student = rl.ppo(lr=3e-3, network=rl.MLP((32, 32)), schedule=rl.Constant(), **sizes)
        taught = rl.Taught(student, Annealed(start, factor), held_out=Budget(), num_levels=1)
        training = rl.Training(taught, Budget(), steps, evals=8, episodes=64, eval_share=9.0)
        metrics = training(jax.random.key(seed))[1]
        curve = metrics["evaluation_success"]
        return {"success": curve[-1], "curve": curve, "budget": metrics["budget"]}

    return Arm(run, steps)


def solved(name: str, accept: str, **options) -> Check:
    measure = lambda results: share(results[name]["success"].values >= 0.8)
    statement = f"share of runs with a success of 0.8 without privileged actions, {name}"
    return Check(statement, measure, accept, **options)


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(819_200 * scale), 16_384)
    arms = {"annealed": (1.0, 0.95), "none": (0.0, 1.0), "kept": (1.0, 1.0)}
    return [
        Claim(
            row=104,
            statement="With virtual moves of the object, annealed by success, PPO ends with "
            "policies that carry an object to two places without them, where PPO without virtual "
            "moves, and with virtual moves that are kept in training, hardly ever does.",
            arms={name: arm(*values, steps) for name, values in arms.items()},
            accept=[
                solved("annealed", ">= 0.8"),
                solved("none", "< 0.1"),
                solved("kept", "< 0.1", control=True),
            ],
            worlds=[f"an object and two goals on a grid of {SIDE} by {SIDE}, with a final reward"],
            metric="success",
            unmatched="A grid in place of a manipulator; 64 runs show a share of at least 0.8 if "
            "58 have it.",
        )
    ]
