"""MemoryChain: see a cue once, be asked for it many steps later.

What a policy without memory can't do.
"""

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static


@pytree
class Memory:
    """The cue to remember and the number of steps since it was shown: int32 scalars."""

    cue: jax.Array
    age: jax.Array


@pytree
class MemoryChain(Env):
    """A cue is shown at reset; the action `length` steps later earns `right` if it names the cue,
    else `wrong`.

    After memory_length of bsuite (Osband et al., 2020). Observation [num_cues + 1 +
    num_distractors]: the cue one-hot in the first observation and zeros after it; 1.0 when it is
    asked for; standard normal noise times `noise`. Actions before the question change nothing.
    Without memory the expected return is that of a guess: right / num_cues + ....
    """

    right: jax.Array | float = 1.0
    wrong: jax.Array | float = -1.0
    noise: jax.Array | float = 1.0
    length: int = static(default=10)
    num_cues: int = static(default=2)
    num_distractors: int = static(default=0)

    @property
    def max_steps(self) -> int:
        return self.length + 1  # the answer ends the episode: MemoryChain is never cut off

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.num_cues)

    def reset(self, key: jax.Array) -> tuple[Memory, jax.Array]:
        key_cue, key_noise = jax.random.split(key)
        memory = Memory(jax.random.randint(key_cue, (), 0, self.num_cues), jnp.int32(0))
        return memory, self.observe(key_noise, memory)

    def step(self, key: jax.Array, state: Memory, action: jax.Array) -> tuple[Memory, Step]:
        answered = state.age == self.length
        memory = Memory(state.cue, state.age + 1)
        verdict = jnp.where(action == state.cue, self.right, self.wrong)
        return memory, Step(
            self.observe(key, memory), jnp.where(answered, verdict, 0.0), answered, {}
        )

    def observe(self, key: jax.Array, memory: Memory) -> jax.Array:
        cue = jax.nn.one_hot(memory.cue, self.num_cues) * (memory.age == 0)
        asked = (memory.age == self.length).astype(jnp.float32)
        return jnp.concatenate(
            [cue, asked[None], self.noise * jax.random.normal(key, (self.num_distractors,))]
        )
