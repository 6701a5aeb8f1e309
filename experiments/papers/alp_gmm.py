"""ALP-GMM (Portelas et al., 2020) on levels of which most can't be learned.

A ball is charged and released so as to pass a hoop; some hoops are too high for any charge.
"""

from typing import Any

import jax
import jax.numpy as jnp

import jaxrl as rl
from envs.level_set import LevelSet
from experiments.claims import Arm, Check, Claim
from jaxrl import teachers
from jaxrl.teachers.boxes import BoxTeacher
from jaxrl.tree import replace

HEIGHTS, LONGEST = 6.0, 18  # a hoop of height h is within reach if h <= strength
WAIT, CHARGE, RELEASE = range(3)


@rl.pytree
class Hoop(rl.Env):
    """State: distance, height, remaining steps of rise, charge. Reward: 1 - miss / 2."""

    height: jax.Array | float = 1.0
    distance: jax.Array | float = 12.0
    strength: jax.Array | float = HEIGHTS

    max_steps = LONGEST + 1
    action_space = rl.Discrete(3)
    channels = ("success",)

    def observe(self, state):
        return jnp.append(state, self.height) / HEIGHTS

    def reset(self, key):
        state = jnp.zeros(4).at[0].set(self.distance)
        return state, self.observe(state)

    def step(self, key, state, action):
        distance, height, rise, charge = state
        rests = (height == 0) & (rise == 0)
        releases = rests & (action == RELEASE)
        charge = jnp.minimum(charge + (rests & (action == CHARGE)), self.strength)
        rise, charge = jnp.where(releases, charge, rise), jnp.where(releases, 0.0, charge)
        height = jnp.where(rise > 0, height + 1, jnp.maximum(height - 1, 0))
        state = jnp.stack([distance - 1, height, jnp.maximum(rise - 1, 0), charge])
        arrives = distance <= 1
        miss = jnp.abs(height - self.height)
        success = {"success": jnp.float32(arrives & (miss <= 0.5))}
        reward = jnp.where(arrives, jnp.maximum(1.0 - miss / 2.0, 0.0), 0.0)
        return state, rl.Step(self.observe(state), reward, arrives, success)


@rl.pytree
class Hoops(rl.Tasks):
    """Hoops by height and distance; a fraction `too_high` of them is out of reach."""

    strength: jax.Array | float = HEIGHTS
    too_high: jax.Array | float = 0.0

    dimensions, channels = 2, Hoop.channels

    def at(self, place):
        height = 0.5 + self.strength * place[0] / (1.0 - self.too_high)
        return Hoop(height, jnp.round(12.0 + (LONGEST - 12.0) * place[1]), self.strength)

    def sample(self, key):
        return self.at(jax.random.uniform(key, (2,)))

    def grid(self) -> LevelSet:
        """Levels within reach, 12 heights by 3 distances."""
        places = (jnp.stack(jnp.indices((12, 3)), -1).reshape(-1, 2) + 0.5) / jnp.array([12, 3])
        return LevelSet(jax.vmap(replace(self, too_high=0.0).at)(places))


@rl.pytree
class Oracle(BoxTeacher):
    """A hand-made curriculum: heights in a window, which moves up once its mean return is high."""

    size: float = 1 / 6
    threshold: float = 0.7
    history: int = rl.static(default=100)

    def init(self, key, tasks) -> Any:
        return super().init(key, tasks), jnp.float32(0.0)

    def draw(self, key, state: Any, tasks, num):
        place = jax.random.uniform(key, (num, 2))
        place = place.at[:, 0].set(state[1] + self.size * place[:, 0])
        return jax.vmap(tasks.at)(place), place

    def tell(self, key, state: Any, tasks, levels, notes, report) -> Any:
        history, low = state
        history, notes = super().tell(key, history, tasks, levels, notes, report)
        moves = (history.count >= self.history) & (history.value.mean() > self.threshold)
        low = jnp.where(moves, jnp.minimum(low + self.size / 5, 1 - self.size), low)
        return (replace(history, count=jnp.where(moves, 0, history.count)), low), notes


def arm(teacher: rl.teachers.Teacher, steps: int) -> Arm:
    def run(seed, too_high):
        key, key_strength = jax.random.split(jax.random.key(seed))
        strength = jax.random.randint(key_strength, (), 5, 7).astype(jnp.float32)
        tasks = Hoops(strength, too_high)
        sizes: Any = {"num_envs": 64, "num_steps": 32, "minibatches": 8}
        student = rl.ppo(lr=1e-2, network=rl.MLP((32,)), schedule=rl.Constant(), **sizes)
        taught = rl.Taught(student, teacher, held_out=tasks.grid(), num_levels=64)
        training = rl.Training(taught, tasks, steps, evals=1, episodes=128, eval_share=1.0)
        return {"mastered": training(key)[1]["evaluation_success"][-1]}

    return Arm(run, steps)


def less(first: tuple[str, float], second: tuple[str, float], accept: str, **options) -> Check:
    """Difference in mastered levels within reach between two pairs (teacher, `too_high`)."""
    of = lambda results, name, share: results[name]["mastered"].sel(too_high=share).values
    return Check(
        "mastered share, {} ({:.0%} out of reach) less {} ({:.0%})".format(*first, *second),
        lambda results: rl.stats.difference(of(results, *first), of(results, *second)),
        accept,
        **options,
    )


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(122_880 * scale), 8192)
    alp_gmm = teachers.ALPGMM(window=128, max_components=4, history=1000)
    kinds = {"ALP-GMM": alp_gmm, "random": teachers.Uniform(), "oracle": Oracle()}
    return [
        Claim(
            row=87,
            statement="With a teacher that samples levels where returns change, PPO masters more "
            "of the levels within reach than with random levels or a window that moves up, if "
            "90 % of the levels are out of reach, and as many as if none is.",
            arms={name: arm(teacher, steps) for name, teacher in kinds.items()},
            accept=[
                less(("ALP-GMM", 0.9), ("random", 0.9), "> 0"),
                less(("ALP-GMM", 0.9), ("oracle", 0.9), "> 0"),
                less(("ALP-GMM", 0.9), ("ALP-GMM", 0.0), ">= -0.1"),
                less(("ALP-GMM", 0.0), ("random", 0.0), ">= -0.1", control=True),
            ],
            worlds=["hoops by height and distance, with a strength drawn for each seed"],
            axes={"too_high": (0.0, 0.9)},
            metric="mastered",
            changed="After trials: dense rewards, and the learning rate best for random levels.",
            unmatched="A ball in place of a walker; windows of 128 levels, 4 components at most.",
        )
    ]
