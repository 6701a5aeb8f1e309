"""MemoryChain: name a cue many steps after it was observed, which needs a recurrent policy."""

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static


@pytree
class Cue:
    """State: the cue and the number of steps since it was shown, int32 []."""

    cue: jax.Array
    age: jax.Array


@pytree
class MemoryChain(Env):
    """A cue is observed at reset; the action `length` steps later gives `right` if it names the
    cue, else `wrong`.

    After memory_length of bsuite (Osband et al., 2020). Observation [num_cues + 1 +
    num_distractors]: the cue one-hot in the first observation and zeros after it; 1.0 at the step
    of the answer, else 0.0; standard normal noise times `noise`. Earlier actions have no effect.
    A policy without memory can only guess: right / num_cues + wrong (1 - 1 / num_cues).
    """

    right: jax.Array | float = 1.0
    wrong: jax.Array | float = -1.0
    noise: jax.Array | float = 1.0
    length: int = static(default=10)
    num_cues: int = static(default=2)
    num_distractors: int = static(default=0)

    @property
    def max_steps(self) -> int:
        return self.length + 1  # the answer terminates: MemoryChain is never truncated

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.num_cues)

    def reset(self, key: jax.Array) -> tuple[Cue, jax.Array]:
        key_cue, key_noise = jax.random.split(key)
        state = Cue(jax.random.randint(key_cue, (), 0, self.num_cues), jnp.int32(0))
        return state, self.observe(key_noise, state)

    def step(self, key: jax.Array, state: Cue, action: jax.Array) -> tuple[Cue, Step]:
        answered = state.age == self.length
        new = Cue(state.cue, state.age + 1)
        outcome = jnp.where(action == state.cue, self.right, self.wrong)
        return new, Step(self.observe(key, new), jnp.where(answered, outcome, 0.0), answered, {})

    def observe(self, key: jax.Array, state: Cue) -> jax.Array:
        cue = jax.nn.one_hot(state.cue, self.num_cues) * (state.age == 0)
        is_question = (state.age == self.length).astype(jnp.float32)
        noise = self.noise * jax.random.normal(key, (self.num_distractors,))
        return jnp.concatenate([cue, is_question[None], noise])
