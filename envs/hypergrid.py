"""HyperGrid: a sampling problem, in which an episode builds a point of a grid."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete, Masked
from jaxrl.tree import leaf, pytree, static

from . import draw


@pytree
class HyperGrid(Env):
    """The grid of Bengio et al. (2021, section 4.1) for generative flow networks.

    An episode starts at the origin. Action i < dims adds 1 to coordinate i; at `side` - 1 the
    action mask excludes it. Action `dims` stops, with the reward of the point x: for
    u_i = |x_i / (side - 1) - 1/2|, it is r0 + r1 [all u_i > 0.25] + r2 [all 0.3 < u_i < 0.4]. With
    the paper's side = 8 there are 2 ** dims separate modes; if no coordinate is between the limits,
    as with side = 11, there are none. The channel `success` is 1 for a stop in a mode.

    A sampler should stop at x with a probability proportional to its reward: `target` has these
    exact probabilities, `stops` those of a policy. The highest return is `rewards().max()`.

    r0, r1, r2: the paper has r0 = 0.1, 0.01 or 0.001; smaller values make exploration harder.
    State: the point, int32 [dims]. Observation: each coordinate one-hot, [dims * side], `Masked`.
    """

    r0: jax.Array | float = leaf(0.01, "[0, inf)")
    r1: jax.Array | float = leaf(0.5, "[0, inf)")
    r2: jax.Array | float = leaf(2.0, "[0, inf)")
    dims: int = static(default=2)
    side: int = static(default=8)

    channels = ("success",)

    def __post_init__(self) -> None:
        if self.dims < 1 or self.side < 2:
            raise ValueError(
                f"dims={self.dims} and side={self.side} make no grid: write dims=2, side=8, as in "
                "HyperGrid()."
            )

    @property
    def max_steps(self) -> int:
        return self.dims * (self.side - 1) + 1  # a path to the last point, and the stop

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.dims + 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """(side,) * dims, the shape of a table of all points."""
        return (self.side,) * self.dims

    def reset(self, key: jax.Array) -> tuple[jax.Array, Masked]:
        state = jnp.zeros(self.dims, jnp.int32)
        return state, self.observe(state)

    def step(self, key: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        stops = action == self.dims
        new = jnp.minimum(state + (jnp.arange(self.dims) == action), self.side - 1)
        reward = jnp.where(stops, self.reward(new), 0.0).astype(jnp.float32)
        success = {"success": (stops & self.is_mode(new)).astype(jnp.float32)}
        return new, Step(self.observe(new), reward, stops, success)

    def observe(self, state: jax.Array) -> Masked:
        return Masked(jax.nn.one_hot(state, self.side).ravel(), self.allowed(state))

    def allowed(self, state: jax.Array) -> jax.Array:
        """True for the possible actions at a point. bool [..., dims + 1] of [..., dims]."""
        stop = jnp.ones((*state.shape[:-1], 1), bool)
        return jnp.concatenate([state < self.side - 1, stop], -1)

    def reward(self, state: jax.Array) -> jax.Array:
        """The reward for a stop at a point. float [...] of [..., dims]."""
        outside = (2 * self._off(state) > self.side - 1).all(-1)
        return (
            self.r0
            + jnp.where(outside, self.r1, 0.0)
            + jnp.where(self.is_mode(state), self.r2, 0.0)
        )

    def is_mode(self, state: jax.Array) -> jax.Array:
        """True where the reward includes r2. bool [...] of [..., dims]."""
        off, unit = 5 * self._off(state), self.side - 1
        return ((off > 3 * unit) & (off < 4 * unit)).all(-1)

    def _off(self, state: jax.Array) -> jax.Array:
        """2 (side - 1) u, an integer, so that no point at a limit is rounded across it."""
        return jnp.abs(2 * state - (self.side - 1))

    # -------------------------------------------------------------------------------- exactly

    def points(self) -> jax.Array:
        """All points. int32 [*shape, dims]."""
        return jnp.asarray(np.moveaxis(np.indices(self.shape, np.int32), 0, -1))

    def rewards(self) -> jax.Array:
        """The rewards of all points. float [*shape]."""
        return self.reward(self.points())

    def target(self) -> jax.Array:
        """The target distribution, probabilities proportional to the rewards. float [*shape].

        The partition function is `rewards().sum()`.
        """
        rewards = self.rewards()
        return rewards / rewards.sum()

    def stops(self, policy: jax.Array) -> jax.Array:
        """The probability that a policy stops at each point. float [*shape].

        policy: probabilities of the actions at each point, [*shape, dims + 1]; actions that are not
        possible are removed, and the others renormalised.
        """
        probs = jnp.where(self.allowed(self.points()), policy, 0.0)
        probs = probs / probs.sum(-1, keepdims=True)

        def forward(_: int, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            reached, stopped = now
            moved = [jnp.roll(reached * probs[..., i], 1, i) for i in range(self.dims)]
            return sum(moved, jnp.zeros(self.shape)), stopped + reached * probs[..., -1]

        first = jnp.zeros(math.prod(self.shape)).at[0].set(1.0).reshape(self.shape)
        start = first, jnp.zeros(self.shape)
        return jax.lax.fori_loop(0, self.max_steps, forward, start)[1]

    def draw(self, ax: Any, state: jax.Array) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.hypergrid(self, ax, state)
