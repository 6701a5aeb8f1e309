"""RiverSwim: a small reward downstream, a large one upstream; a small test of deep exploration."""

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static


@pytree
class RiverSwim(Env):
    """The six-state chain of Strehl & Littman (2008), with rewards of 5 and 10,000 over 10,000.

    Action 0 moves one state to the left, with the reward `small` for staying in the first state.
    Action 1 moves to the right with probability `forward`, to the left with `back`, and else stays.
    In the first state it can't move left; in the last it stays with probability `forward`, with the
    reward `large`, and else moves left. Episodes start in the second or third state and never
    terminate. Observation [num_states]: the state, one-hot.
    """

    small: jax.Array | float = 0.0005
    large: jax.Array | float = 1.0
    forward: jax.Array | float = 0.3
    back: jax.Array | float = 0.1
    num_states: int = static(default=6)
    max_steps: int = static(default=100)

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = jax.random.randint(key, (), 1, 3)
        return state, self.observe(state)

    def step(self, key: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        first, last = 0, self.num_states - 1
        uniform = jax.random.uniform(key)
        back = jnp.where(
            state == first, 0.0, jnp.where(state == last, 1.0 - self.forward, self.back)
        )
        swim = jnp.where(uniform < self.forward, 1, jnp.where(uniform >= 1.0 - back, -1, 0))
        new = jnp.clip(state + jnp.where(action == 1, swim, -1), first, last)
        rest = (action == 0) & (state == first)
        reach = (action == 1) & (state == last) & (new == last)
        reward = jnp.where(rest, self.small, 0.0) + jnp.where(reach, self.large, 0.0)
        return new, Step(self.observe(new), reward, jnp.array(False), {})

    def observe(self, state: jax.Array) -> jax.Array:
        return jax.nn.one_hot(state, self.num_states)
