"""Arm: a planar arm of several joints that reaches for a target, and the arm task of
quality-diversity search.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.spaces import Box
from jaxrl.tree import leaf, pytree, static

from . import draw


@pytree
class Links:
    """State: angle of each joint relative to the link before it, in radians, float [num_joints];
    the target, float [2].
    """

    angles: jax.Array
    target: jax.Array


def joints(angles: jax.Array) -> jax.Array:
    """Positions of the ends of the links of an arm of length 1 that starts at the origin, with
    links of equal length. float [..., num_joints, 2] of relative angles [..., num_joints].
    """
    direction = jnp.cumsum(angles, -1)
    links = jnp.stack([jnp.cos(direction), jnp.sin(direction)], -1) / angles.shape[-1]
    return jnp.cumsum(links, -2)


def evaluate(angles: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Fitness and descriptor of the arm task of Cully et al. (2015), as in QDax.

    angles: of the joints, scaled from [-pi, pi] to [0, 1] and clipped there, float [num_joints].
    Returns the fitness, minus the standard deviation of `angles`, float []; and the position of the
    end of the arm, scaled to [0, 1] with the base at 0.5, float [2]. The highest fitness is 0, for
    equal angles.
    """
    x = jnp.clip(angles, 0.0, 1.0)
    end = joints(2.0 * jnp.pi * x - jnp.pi)[-1]
    return -jnp.std(x), 0.5 + 0.5 * end


@pytree
class Arm(Env):
    """A planar arm of length 1 with links of equal length, which reaches for a target.

    An action turns each joint by `speed` times a number in [-1, 1]. The arm is kinematic: there are
    no masses or forces. The episode terminates, with 1 in the channel `success`, when the end of
    the arm is within `radius` of the target.

    The reward is (1 - dense) at the target, plus `dense` times the progress of each step: the
    decrease of the distance to the target, as a fraction of its maximum, 2. Progress telescopes:
    the undiscounted return of an episode that reaches the target is 1 - dense + dense * (first
    distance - last distance) / 2 on any path.

    target: float [2]; by default a random point in the unit disc for each episode, which the arm
      can always reach. spread: the initial angles are uniform within +- spread * pi.

    Observation [2 * num_joints + 4]: cosine and sine of the direction of each link, the position of
    the end of the arm, and the target relative to it.
    """

    target: jax.Array | None = None
    radius: jax.Array | float = 0.05
    speed: jax.Array | float = 0.1
    spread: jax.Array | float = leaf(1.0, "[0, 1]")
    dense: jax.Array | float = leaf(0.0, "[0, 1]")
    num_joints: int = static(default=4)
    max_steps: int = static(default=100)

    channels = ("success",)

    def __post_init__(self) -> None:
        if self.num_joints < 2:
            raise ValueError(
                f"num_joints={self.num_joints}: an arm needs 2 or more to reach all of the disc."
            )

    @property
    def action_space(self) -> Box:
        return Box(-1.0, 1.0, shape=(self.num_joints,))

    def reset(self, key: jax.Array) -> tuple[Links, jax.Array]:
        key_angles, key_radius, key_direction = jax.random.split(key, 3)
        limit = jnp.pi * self.spread
        angles = limit * jax.random.uniform(key_angles, (self.num_joints,), jnp.float32, -1.0, 1.0)
        if self.target is None:
            length = jnp.sqrt(jax.random.uniform(key_radius, (), jnp.float32))
            direction = 2.0 * jnp.pi * jax.random.uniform(key_direction, (), jnp.float32)
            target = length * jnp.stack([jnp.cos(direction), jnp.sin(direction)])
        else:
            target = jnp.asarray(self.target, jnp.float32)
        state = Links(angles, target)
        return state, self.observe(state)

    def step(self, key: jax.Array, state: Links, action: jax.Array) -> tuple[Links, Step]:
        turn = self.speed * jnp.clip(jnp.asarray(action, jnp.float32), -1.0, 1.0)
        new = Links(state.angles + turn, state.target)
        before, after = self.distance(state), self.distance(new)
        arrived = after <= self.radius
        reward = (1.0 - self.dense) * arrived + self.dense * (before - after) / 2.0
        success = {"success": arrived.astype(jnp.float32)}
        return new, Step(self.observe(new), reward.astype(jnp.float32), arrived, success)

    def distance(self, state: Links) -> jax.Array:
        """Distance of the end of the arm from the target. float []."""
        off = joints(state.angles)[-1] - state.target
        return jnp.sqrt((off**2).sum())

    def observe(self, state: Links) -> jax.Array:
        direction = jnp.cumsum(state.angles)
        end = joints(state.angles)[-1]
        return jnp.concatenate([jnp.cos(direction), jnp.sin(direction), end, state.target - end])

    def draw(self, ax: Any, state: Links) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.arm(self, ax, state)
