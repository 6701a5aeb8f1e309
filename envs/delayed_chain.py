"""DelayedChain: the first action decides what the last step pays.

Credit over many steps, in three lines of rules.
"""

import jax
import jax.numpy as jnp

from envs.lpg_grid import log_uniform_int
from jaxrl.env import Env, Step, Tasks
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static


@pytree
class Link:
    """The steps so far, and whether the first of them was the right one."""

    age: jax.Array
    right: jax.Array


@pytree
class DelayedChain(Env):
    """`length` steps of two actions: the last pays `reward` if the first action was `right`, else
    -`reward`.

    After the delayed chain of Oh et al. (2020), appendix A.3. Each step before the last pays
    `noise` or -`noise` by the toss of a coin. `length` and `right` are leaves, so a family has
    chains of many lengths, of which `max_steps` is the longest. Observation: the state's number, 0
    at first, then 2 t - 1 and 1 more if the first action was right; one-hot, or with
    `one_hot=False` itself, int32 [], for a table. With `num_bits` it is [2 + num_bits]: whether
    this is the first step, whether the first action was right, and as many random bits.
    """

    length: jax.Array | int = 10
    right: jax.Array | int = 1
    reward: jax.Array | float = 1.0
    noise: jax.Array | float = 0.0
    num_bits: int = static(default=0)
    one_hot: bool = static(default=True)
    max_steps: int = static(default=30)

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    @property
    def num_states(self) -> int:
        return 2 * self.max_steps + 1

    def reset(self, key: jax.Array) -> tuple[Link, jax.Array]:
        state = Link(jnp.int32(0), jnp.bool_(False))
        return state, self._observe(key, state)

    def step(self, key: jax.Array, state: Link, action: jax.Array) -> tuple[Link, Step]:
        key_noise, key_bits = jax.random.split(key)
        right = jnp.where(state.age == 0, action == self.right, state.right)
        new = Link(state.age + 1, right)
        ended = new.age >= self.length
        noise = self.noise * jax.random.rademacher(key_noise, (), jnp.float32)
        reward = jnp.where(ended, jnp.where(right, self.reward, -jnp.asarray(self.reward)), noise)
        return new, Step(self._observe(key_bits, new), reward, ended, {})

    def _observe(self, key: jax.Array, state: Link) -> jax.Array:
        if self.num_bits:
            bits = jax.random.bernoulli(key, shape=(self.num_bits,))
            return jnp.concatenate([jnp.stack([state.age == 0, state.right]), bits]).astype(
                jnp.float32
            )
        number = jnp.maximum(2 * state.age - 1, 0) + state.right
        return jax.nn.one_hot(number, self.num_states) if self.one_hot else number


@pytree
class ChainLevels(Tasks):
    """Delayed chains of random lengths, uniform between two, and with a random right action: the
    family of the paper.
    """

    noise: jax.Array | float = 0.0
    length: tuple[int, int] = static(default=(5, 30))
    lifetime: tuple[int, int] = static(default=(250, 250))
    num_bits: int = static(default=0)
    one_hot: bool = static(default=True)

    def __post_init__(self) -> None:
        low, high = self.length
        if not 2 <= low <= high:
            raise ValueError(
                f"length={self.length} is no range from 2 up: write, say, length=(5, 30)."
            )

    def sample(self, key: jax.Array) -> DelayedChain:
        key_length, key_right = jax.random.split(key)
        length = jax.random.randint(key_length, (), self.length[0], self.length[1] + 1)
        right = jax.random.randint(key_right, (), 0, 2)
        how = self.noise, self.num_bits, self.one_hot, self.length[1]
        return DelayedChain(length, right, 1.0, *how)

    def sample_lifetime(self, key: jax.Array) -> jax.Array:
        return log_uniform_int(key, self.lifetime)

    def score(self, env: DelayedChain, episode_return: jax.Array) -> jax.Array:
        """A mean return, scaled so that a random policy has 0 and the optimal one 1."""
        return episode_return / env.reward


DISTRIBUTIONS = {
    "DelayedChain-short": ChainLevels(),
    "DelayedChain-short_noisy": ChainLevels(noise=1.0),
    "DelayedChain-long": ChainLevels(length=(5, 50)),
    "DelayedChain-long_noisy": ChainLevels(noise=1.0, length=(5, 50)),
    "DelayedChain-distractor": ChainLevels(num_bits=20),
}
