"""ALP-GMM (Portelas et al., 2020): levels where returns change, of which most can't be learned.

A ball flies towards a hoop. It is charged, released, and has to be at the hoop's height when it
arrives; hoops above the largest charge are out of reach.
"""

import jax
import jax.numpy as jnp

import jaxrl as rl
from envs.maze_levels import LevelSet
from experiments.claims import Arm, Check, Claim
from jaxrl import teachers
from jaxrl.teachers.boxes import BoxTeacher
from jaxrl.tree import replace

HEIGHTS, LONGEST = 6.0, 18  # a hoop of height h is within reach if h <= strength
SHARES = (0.0, 0.5, 0.9)  # of the levels that are out of reach
WAIT, CHARGE, RELEASE = range(3)


@rl.pytree
class Hoop(rl.Env):
    """State: [distance, height, steps that it still rises, charge]. Reward: 1 through the hoop."""

    height: jax.Array | float = 1.0
    distance: jax.Array | float = 12.0
    strength: jax.Array | float = HEIGHTS

    max_steps = LONGEST + 1
    action_space = rl.Discrete(3)

    def observe(self, state):
        return jnp.append(state, self.height) / HEIGHTS

    def reset(self, key):
        state = jnp.stack([jnp.asarray(self.distance, jnp.float32), *jnp.zeros(3)])
        return state, self.observe(state)

    def step(self, key, state, action):
        distance, height, rise, charge = state
        rests = (height == 0) & (rise == 0)
        charge = jnp.minimum(charge + (rests & (action == CHARGE)), self.strength)
        releases = rests & (action == RELEASE)
        rise, charge = jnp.where(releases, charge, rise), jnp.where(releases, 0.0, charge)
        height = jnp.where(rise > 0, height + 1, jnp.maximum(height - 1, 0))
        state = jnp.stack([distance - 1, height, jnp.maximum(rise - 1, 0), charge])
        arrives = distance <= 1
        passes = arrives & (jnp.abs(height - self.height) <= 0.5)
        return state, rl.Step(self.observe(state), jnp.float32(passes), arrives, {})


@rl.pytree
class Hoops(rl.Tasks):
    """Hoops by height and distance, of which a share is too high."""

    strength: jax.Array | float = HEIGHTS
    too_high: jax.Array | float = 0.0

    dimensions = 2

    def at(self, place):
        height = 0.5 + self.strength * place[0] / (1.0 - self.too_high)
        return Hoop(height, jnp.round(12.0 + (LONGEST - 12.0) * place[1]), self.strength)

    def sample(self, key):
        return self.at(jax.random.uniform(key, (2,)))

    def grid(self) -> LevelSet:
        """Levels within reach, 12 heights by 3 distances."""
        heights, distances = (jnp.arange(12) + 0.5) / 12, (jnp.arange(3) + 0.5) / 3
        places = jnp.stack(jnp.meshgrid(heights, distances), -1).reshape(-1, 2)
        return LevelSet(jax.vmap(replace(self, too_high=0.0).at)(places))


@rl.pytree
class Oracle(BoxTeacher):
    """A hand-made curriculum: heights of a window, which moves up once its mean return is high."""

    random: float = 0.0
    size: float = 1 / 6
    threshold: float = 0.7
    window: int = rl.static(default=0)
    history: int = rl.static(default=100)

    def init(self, key, tasks):
        return super().init(key, tasks), jnp.float32(0.0)

    def draw(self, key, state, tasks, num):
        place = jax.random.uniform(key, (num, 2))
        place = place.at[:, 0].set(state[1] + self.size * place[:, 0])
        return jax.vmap(tasks.at)(place), place

    def tell(self, key, state, tasks, levels, notes, report):
        history, low = state
        history, notes = super().tell(key, history, tasks, levels, notes, report)
        moves = (history.count >= self.history) & (history.value.mean() > self.threshold)
        low = jnp.where(moves, jnp.minimum(low + self.size / 5, 1 - self.size), low)
        return (replace(history, count=jnp.where(moves, 0, history.count)), low), notes


def arm(teacher: rl.teachers.Teacher, steps: int) -> Arm:
    def run(seed, too_high, lr):
        key, key_strength = jax.random.split(jax.random.key(seed))
        strength = jax.random.randint(key_strength, (), 5, 7).astype(jnp.float32)
        tasks = Hoops(strength, too_high)
        student = rl.ppo(lr=lr, num_envs=32, num_steps=16, epochs=4, minibatches=2)
        student = replace(student, network=rl.MLP((32,)), schedule=rl.Constant())
        taught = rl.Taught(student, teacher, held_out=tasks.grid(), num_levels=32)
        training = rl.Training(taught, tasks, steps, evals=4, episodes=64, eval_share=1.0)
        metrics = training(key)[1]
        return {"mastered": metrics["evaluation"][-1], "curve": metrics["evaluation"]}

    return Arm(run, steps, {"lr": [1e-3, 3e-3]})


def mastered(results, name: str, share: float):
    """The share of the levels within reach on which the greedy policy succeeds. [seeds]."""
    return results[name]["mastered"].sel(too_high=share).values


def better(than: str, share: float, accept: str, control: bool = False) -> Check:
    return Check(
        f"mastered share, ALP-GMM less {than}, {share:.0%} out of reach",
        lambda r: rl.stats.difference(mastered(r, "ALP-GMM", share), mastered(r, than, share)),
        accept,
        control=control,
    )


def kept(results):
    x, y = (mastered(results, "ALP-GMM", share) for share in (SHARES[-1], SHARES[0]))
    return rl.stats.difference(x, y)
