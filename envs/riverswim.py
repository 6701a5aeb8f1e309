"""RiverSwim: a little reward downstream, a large one upstream against the current.

The small test of deep exploration.
"""

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static


@pytree
class RiverSwim(Env):
    """The six-state chain of Strehl & Littman (2008), with its rewards of 5 and 10,000 divided by
    10,000.

    Action 0 swims with the current: one state to the left, and `small` for staying in the first.
    Action 1 swims against it: `forward` and `back` are the chances to move right and to be carried
    left (else it stays); from the first state nothing carries it off, in the last it holds its
    place with `forward` and earns `large`, else it is carried left. It starts in the second or
    third state. Observation [num_states]: the state, one-hot. There is no final state.
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
        luck = jax.random.uniform(key)
        back = jnp.where(
            state == first, 0.0, jnp.where(state == last, 1.0 - self.forward, self.back)
        )
        swim = jnp.where(luck < self.forward, 1, jnp.where(luck >= 1.0 - back, -1, 0))
        new = jnp.clip(state + jnp.where(action == 1, swim, -1), first, last)
        rest = (action == 0) & (state == first)
        reach = (action == 1) & (state == last) & (new == last)
        reward = jnp.where(rest, self.small, 0.0) + jnp.where(reach, self.large, 0.0)
        return new, Step(self.observe(new), reward, jnp.array(False), {})

    def observe(self, state: jax.Array) -> jax.Array:
        return jax.nn.one_hot(state, self.num_states)
