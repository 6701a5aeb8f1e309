"""Spread: agents in the plane that cover landmarks together and avoid collisions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import leaf, pytree, static

from . import draw

# of the actions none, left, right, down, up
DIRECTIONS = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], np.float32)


@pytree
class Particles:
    """State: positions (x, y) and velocities of the agents, positions of the landmarks. Each is
    float [A, 2].
    """

    position: jax.Array
    velocity: jax.Array
    landmarks: jax.Array


@pytree
class Spread(Env):
    """Cooperative navigation (Lowe et al., 2017), `simple_spread_v3` of the multi-agent particle
    environments.

    A agents and A landmarks start at uniform positions in [-1, 1]^2; the agents may leave the
    square. In each step of `dt` an agent moves with its velocity, which is then damped and changed
    by forces (Mordatch & Abbeel, 2018, appendix): x' = x + dt v, v' = (1 - damping) v + dt F for a
    mass of 1. The force of an action has the size `sensitivity`. Two agents at a distance d repel
    each other with the force contact_force * contact_margin * softplus((2 radius - d) /
    contact_margin), practically 0 unless they overlap; landmarks are no obstacles.

    Rewards of the new state: (1 - local_ratio) times a term that all share, minus the sum over
    landmarks of the distance to the nearest agent, plus local_ratio times the agent's own term, -1
    for each agent that it overlaps. Nothing terminates. The channel `collisions` counts overlaps.

    Actions: none, left, right, down, up. Observation, float [A, 4 A + 2]: own velocity and
    position; positions of the landmarks relative to the agent; those of the other agents, in the
    order of their indices. The original appends the messages of the other agents, which are always
    0 here, two numbers each; they are left out.

    radius: of an agent.
    """

    dt: jax.Array | float = leaf(0.1, "(0, inf)")
    damping: jax.Array | float = leaf(0.25, "[0, 1]")
    sensitivity: jax.Array | float = leaf(5.0, "[0, inf)")
    radius: jax.Array | float = leaf(0.15, "[0, inf)")
    contact_force: jax.Array | float = leaf(100.0, "[0, inf)")
    contact_margin: jax.Array | float = leaf(1e-3, "(0, inf)")
    local_ratio: jax.Array | float = leaf(0.5, "[0, 1]")
    num_agents: int = static(default=3)
    max_steps: int = static(default=25)

    action_space = Discrete(5)
    channels = ("collisions",)

    def __post_init__(self) -> None:
        if not isinstance(self.num_agents, int) or self.num_agents < 1:
            raise ValueError(
                f"num_agents={self.num_agents!r} of Spread is not a count: write 1 or more."
            )

    def reset(self, key: jax.Array) -> tuple[Particles, jax.Array]:
        shape = (2, self.num_agents, 2)
        position, landmarks = jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0)
        state = Particles(position, jnp.zeros_like(position), landmarks)
        return state, self.observe(state)

    def step(self, key: jax.Array, state: Particles, action: jax.Array) -> tuple[Particles, Step]:
        force = self.sensitivity * jnp.asarray(DIRECTIONS)[action] + self.contact(state.position)
        new = Particles(
            position=state.position + self.dt * state.velocity,
            velocity=(1.0 - self.damping) * state.velocity + self.dt * force,
            landmarks=state.landmarks,
        )
        to_landmarks = _distance(new.position[:, None] - new.landmarks[None])
        shared = -to_landmarks.min(0).sum()
        collisions = self.overlaps(new.position).sum(-1).astype(jnp.float32)
        reward = (1.0 - self.local_ratio) * shared - self.local_ratio * collisions
        info = {"collisions": collisions}
        return new, Step(self.observe(new), reward.astype(jnp.float32), jnp.bool_(False), info)

    def contact(self, position: jax.Array) -> jax.Array:
        """The sum of the contact forces on each agent. float [A, 2]."""
        # of each pair once: the logarithm is most of the cost of a step
        first, second = np.triu_indices(self.num_agents, 1)
        off = position[first] - position[second]
        distance = _distance(off)
        overlap = jax.nn.softplus((2.0 * self.radius - distance) / self.contact_margin)
        size = self.contact_force * self.contact_margin * overlap
        direction = off / jnp.where(distance > 0.0, distance, 1.0)[:, None]
        force = size[:, None] * direction
        agents = np.arange(self.num_agents)[:, None]
        sign = (first == agents).astype(np.float32) - (second == agents).astype(np.float32)
        return (sign[..., None] * force[None]).sum(1)

    def overlaps(self, position: jax.Array) -> jax.Array:
        """True for pairs of different agents that overlap. bool [A, A]."""
        distance = _distance(position[:, None] - position[None])
        return (distance < 2.0 * self.radius) & ~jnp.eye(self.num_agents, dtype=bool)

    def observe(self, state: Particles) -> jax.Array:
        num = self.num_agents
        others = np.array([[j for j in range(num) if j != i] for i in range(num)], np.int32)
        landmarks = state.landmarks[None] - state.position[:, None]
        agents = state.position[others] - state.position[:, None]
        parts = [state.velocity, state.position, landmarks, agents]
        return jnp.concatenate([x.reshape(num, -1) for x in parts], -1)

    def draw(self, ax: Any, state: Particles) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.spread(self, ax, state)


def _distance(off: jax.Array) -> jax.Array:
    """Lengths of vectors [..., 2], with the gradient 0 at 0. float [...]."""
    square = (off**2).sum(-1)
    return jnp.where(square > 0.0, jnp.sqrt(jnp.where(square > 0.0, square, 1.0)), 0.0)
