"""Navigation: robots in the plane that choose the parameters of their safety filters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.errors import check_counts
from jaxrl.spaces import MultiDiscrete
from jaxrl.tree import leaf, pytree, static

from . import draw


@pytree
class Robots:
    """State: positions and goals (x, y), float [A, 2], and True for robots that have been at their
    goals, bool [A].
    """

    position: jax.Array
    goal: jax.Array
    arrived: jax.Array


@pytree
class Navigation(Env):
    """Robots that change sides through a gap in a wall, with control barrier functions of which
    they set the parameters (after Gao et al., 2023).

    A robots of `radius` start on two sides of the wall, at x = -1 or 1, in rows of `spacing` with
    uniform noise of up to `noise`; the goal of each is its start reflected at the origin, so that
    straight paths meet in the gap. The wall, of thickness 2 `half_wall` around x = 0, has a gap of
    -gap < y < gap; a wide gap is open space.

    In each step of `dt` a robot wants to move straight to its goal, at a speed of at most `speed`.
    The barrier h = |p - c|^2 - D^2 of its position p and an obstacle c must not become negative; D
    is the distance at contact plus `margin`. The robot moves with the velocity u nearest to the
    wanted one for which 2 (p - c) u >= -alpha h of the nearest points of both parts of the wall,
    and >= -alpha h / 2 of each other robot, which does the other half. Squared distances to convex
    sets are convex in time, so that with alpha dt <= 1 robots that start apart from each other and
    from the wall never collide in discrete time either.

    Actions: numbers of alpha for robots and for walls, int [A, 2]; 0 to `num_levels` - 1 are values
    of alpha dt from 0.01 to 1, equally spaced in their logarithms. Observation, float [A, 2 A + 2]:
    the goal relative to the robot, its position, and the positions of the other robots relative to
    it, in the order of their indices.

    Reward, shared: the decrease of the distance to the goal, the mean over robots. The episode
    terminates when all have been within `radius` of their goals. Channels: `collisions`, the number
    of other robots and parts of the wall that a robot overlaps; `success`, 1 in the last step if
    all arrived; `delay`, `dt` for each step in which a robot has not arrived, so that its sum is
    the time to arrival in seconds.
    """

    gap: jax.Array | float = leaf(0.15, "(0, inf)")
    half_wall: jax.Array | float = leaf(0.1, "[0, 1)")
    radius: jax.Array | float = leaf(0.1, "(0, inf)")
    margin: jax.Array | float = leaf(0.005, "[0, inf)")
    speed: jax.Array | float = leaf(1.0, "(0, inf)")
    dt: jax.Array | float = leaf(0.1, "(0, inf)")
    spacing: jax.Array | float = leaf(0.8, "(0, inf)")
    noise: jax.Array | float = leaf(0.1, "[0, inf)")
    num_agents: int = static(default=4)
    num_levels: int = static(default=5)
    max_steps: int = static(default=100)

    channels = ("collisions", "success", "delay")
    shared_reward = True

    def __post_init__(self) -> None:
        if not isinstance(self.num_agents, int) or self.num_agents < 2 or self.num_agents % 2:
            raise ValueError(
                f"num_agents={self.num_agents!r} of Navigation are not robots on two sides: write "
                "an even number."
            )
        check_counts(self, "num_levels", min_value=2)

    @property
    def action_space(self) -> MultiDiscrete:
        return MultiDiscrete((self.num_levels, self.num_levels))

    def reset(self, key: jax.Array) -> tuple[Robots, jax.Array]:
        side = self.num_agents // 2
        x = jnp.repeat(jnp.array([-1.0, 1.0], jnp.float32), side)
        y = self.spacing * jnp.tile(jnp.arange(side, dtype=jnp.float32) - (side - 1) / 2.0, 2)
        noise = jax.random.uniform(key, (self.num_agents, 2), jnp.float32, -1.0, 1.0)
        start = jnp.stack([x, y], -1) + self.noise * noise
        state = Robots(start, -start, jnp.zeros(self.num_agents, bool))
        return state, self.observe(state)

    def step(self, key: jax.Array, state: Robots, action: jax.Array) -> tuple[Robots, Step]:
        ahead = state.goal - state.position
        before = jnp.linalg.norm(ahead, axis=-1)
        wanted = ahead / jnp.maximum(before / self.speed, self.dt)[:, None]
        velocity = jax.vmap(nearest)(wanted, *self.constraints(state.position, action))
        position = state.position + self.dt * velocity
        after = jnp.linalg.norm(state.goal - position, axis=-1)
        arrived = state.arrived | (after < self.radius)
        new = Robots(position, state.goal, arrived)
        info = {
            "collisions": self.overlaps(position).sum(-1).astype(jnp.float32),
            "success": jnp.full(self.num_agents, arrived.all(), jnp.float32),
            "delay": self.dt * (~arrived).astype(jnp.float32),
        }
        reward = jnp.full(self.num_agents, (before - after).mean(), jnp.float32)
        return new, Step(self.observe(new), reward, arrived.all(), info)

    def offsets(self, position: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Positions relative to the other robots, float [A, A - 1, 2], and to the nearest points of
        both parts of the wall, float [A, 2, 2].
        """
        num = self.num_agents
        others = np.array([[j for j in range(num) if j != i] for i in range(num)], np.int32)
        x, y = jnp.clip(position[:, 0], -self.half_wall, self.half_wall), position[:, 1]
        ends = jnp.stack([jnp.maximum(y, self.gap), jnp.minimum(y, -self.gap)], -1)
        walls = jnp.stack([jnp.stack([x, x], -1), ends], -1)
        return position[:, None] - position[others], position[:, None] - walls

    def constraints(self, position: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Normals float [A, M, 2] and bounds float [A, M] of each robot's M = A + 1 constraints on
        its velocity, normal @ velocity >= -bound.
        """
        offsets = self.offsets(position)
        alpha = 10.0 ** (2.0 * action / (self.num_levels - 1.0) - 2.0) / self.dt
        bounds = []
        for off, contact, rate in zip(
            offsets,
            (2.0 * self.radius, self.radius),
            (alpha[:, :1] / 2.0, alpha[:, 1:]),
            strict=True,
        ):
            barrier = (off**2).sum(-1) - (contact + self.margin) ** 2
            bounds.append(rate * jnp.maximum(barrier, 0.0))
        return 2.0 * jnp.concatenate(offsets, 1), jnp.concatenate(bounds, 1)

    def overlaps(self, position: jax.Array) -> jax.Array:
        """True where a robot overlaps another one or a part of the wall. bool [A, A + 1]."""
        others, walls = (jnp.linalg.norm(off, axis=-1) for off in self.offsets(position))
        return jnp.concatenate([others < 2.0 * self.radius, walls < self.radius], 1)

    def observe(self, state: Robots) -> jax.Array:
        others = self.offsets(state.position)[0].reshape(self.num_agents, -1)
        return jnp.concatenate([state.goal - state.position, state.position, -others], -1)

    def draw(self, ax: Any, state: Robots) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.navigation(self, ax, state)


def nearest(wanted: jax.Array, normal: jax.Array, bound: jax.Array) -> jax.Array:
    """The velocity nearest to `wanted` [2] with normal [M, 2] @ velocity >= -bound [M]. float [2].

    A quadratic program in two dimensions, solved by enumeration: the solution is the wanted
    velocity, its projection on the line of one constraint, or the intersection of two lines. Bounds
    are at least 0, so that 0 is feasible; it is the solution where rounding excludes all others.
    """
    size = jnp.maximum(jnp.linalg.norm(normal, axis=-1), 1e-6)  # 0 for a robot inside the wall
    normal, bound = normal / size[:, None], bound / size
    dot = lambda velocity: (velocity[:, None] * normal[None]).sum(-1)  # in full precision
    projected = wanted[None] - normal * (dot(wanted[None])[0] + bound)[:, None]
    first, second = np.triu_indices(len(size), 1)
    (a, b), (c, d), e, f = normal[first].T, normal[second].T, bound[first], bound[second]
    det = a * d - b * c
    det = jnp.where(jnp.abs(det) > 1e-6, det, jnp.inf)
    crossing = jnp.stack([(b * f - d * e) / det, (c * e - a * f) / det], -1)
    found = jnp.concatenate([wanted[None], projected, crossing, jnp.zeros((1, 2), jnp.float32)])
    feasible = (dot(found) >= -bound[None] - 1e-6).all(-1)
    distance = ((found - wanted[None]) ** 2).sum(-1)
    return found[jnp.argmin(jnp.where(feasible, distance, jnp.inf))]
