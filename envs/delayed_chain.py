"""DelayedChain: the first action determines the reward of the last step.

A test of credit assignment over many steps.
"""

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step, Tasks
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static


@pytree
class Link:
    """Number of steps so far, int32 []; `right`, bool [], is True if the first action was the right
    one.
    """

    age: jax.Array
    right: jax.Array


@pytree
class DelayedChain(Env):
    """The delayed chain of Oh et al. (2020, appendix A.3): `length` steps of two actions.

    The last step gives `reward` if the first action was `right`, else -`reward`; each step before
    it gives `noise` or -`noise` with equal probability. `length` and `right` are leaves, so a
    family has chains of different lengths, of which `max_steps` is the maximum.

    Observation: the index of the state, which is 0 at first, then 2 t - 1, plus 1 if the first
    action was right; one-hot [2 max_steps + 1], or with `one_hot=False` int32 [], for a table. With
    `num_bits` > 0 it is [2 + num_bits]: 1.0 at the first step, 1.0 if the first action was right,
    and random bits as distractors.
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
    """Delayed chains with uniformly random length (inclusive range) and right action, as in the
    paper.

    noise, num_bits, one_hot: of `DelayedChain`.
    """

    noise: jax.Array | float = 0.0
    length: tuple[int, int] = static(default=(5, 30))
    num_bits: int = static(default=0)
    one_hot: bool = static(default=True)

    def __post_init__(self) -> None:
        low, high = self.length
        if not 2 <= low <= high:
            raise ValueError(
                f"length={self.length} is not a range from 2 up: write length=(5, 30)."
            )

    def sample(self, key: jax.Array) -> DelayedChain:
        key_length, key_right = jax.random.split(key)
        length = jax.random.randint(key_length, (), self.length[0], self.length[1] + 1)
        right = jax.random.randint(key_right, (), 0, 2)
        return DelayedChain(
            length=length,
            right=right,
            noise=self.noise,
            num_bits=self.num_bits,
            one_hot=self.one_hot,
            max_steps=self.length[1],
        )

    def score(self, env: DelayedChain, episode_return: jax.Array) -> jax.Array:
        """A mean return, scaled so that a random policy has 0 and the optimal one 1."""
        return episode_return / env.reward


# Oh et al. (2020) train each agent for 250 updates
DISTRIBUTIONS = {
    "DelayedChain-short": ChainLevels(),
    "DelayedChain-short_noisy": ChainLevels(noise=1.0),
    "DelayedChain-long": ChainLevels(length=(5, 50)),
    "DelayedChain-long_noisy": ChainLevels(noise=1.0, length=(5, 50)),
    "DelayedChain-distractor": ChainLevels(num_bits=20),
}
