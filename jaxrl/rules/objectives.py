"""What an action is worth to the learner, by ratio and advantage; and what it costs a policy to
leave the one that played.

An objective is maximised. At ratio 1 the gradient of each is the policy gradient; they differ in
how they let go of it. A penalty is a weight, which may follow the clock or remember, times a
distance between the old policy and the new one.
"""

import jax
import jax.numpy as jnp

from jaxrl.distributions import Distribution
from jaxrl.rules.base import Clock
from jaxrl.tree import pytree


@pytree
class PolicyGradient:
    """ratio * advantage: at ratio 1 its gradient is the policy gradient (Williams, 1992)."""

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        return ratio * advantage


@pytree
class Clip:
    """PPO's clipped surrogate (Schulman et al., 2017, equation 7)."""

    clip: float = 0.2

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        held = jnp.clip(ratio, 1.0 - self.clip, 1.0 + self.clip)
        return jnp.minimum(ratio * advantage, held * advantage)


@pytree
class SPO:
    """Simple policy optimisation (Xie et al., 2024): a parabola whose top is at ratio 1 + clip, or
    1 - clip if A < 0.

    Where Clip has no gradient left outside, this one leads back.
    """

    clip: float = 0.2

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        return ratio * advantage - jnp.abs(advantage) / (2.0 * self.clip) * (ratio - 1.0) ** 2


@pytree
class DPO:
    """Discovered policy optimisation: ratio * advantage less a drift found by meta-learning, in
    closed form.

    Lu et al. (2022); not direct preference optimisation, which came later.
    """

    alpha: float = 2.0
    beta: float = 0.6

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        def bend(x: jax.Array, scale: float) -> jax.Array:
            return jax.nn.relu(x - scale * jnp.tanh(x / scale))

        log_ratio = jnp.log(jnp.maximum(ratio, jnp.finfo(jnp.float32).tiny))
        better, worse = (
            bend((ratio - 1.0) * advantage, self.alpha),
            bend(log_ratio * advantage, self.beta),
        )
        return ratio * advantage - jnp.where(advantage >= 0.0, better, worse)


# ---------------------------------------------------------------------------------------- penalties


@pytree
class FixedPenalty:
    """KL(new || old) at a fixed weight."""

    kl_weight: float = 0.0

    def init(self) -> tuple[()]:
        return ()

    def weigh(self, carry: tuple[()], clock: Clock) -> jax.Array:
        return jnp.asarray(self.kl_weight, jnp.float32)

    def distance(self, old: Distribution, new: Distribution) -> jax.Array:
        return new.kl(old)


@pytree
class MirrorDescent:
    """KL(new || old) / t (on-policy MDPO; Tomar et al., 2020): the step size t falls from
    `step_size` to 0 over the life.

    It stays at a hundredth of that in the last hundredth, so that 1 / t is finite.
    """

    step_size: float = 1.0

    def init(self) -> tuple[()]:
        return ()

    def weigh(self, carry: tuple[()], clock: Clock) -> jax.Array:
        return 1.0 / (self.step_size * jnp.maximum(1.0 - clock.fraction, 0.01))

    def distance(self, old: Distribution, new: Distribution) -> jax.Array:
        return new.kl(old)


@pytree
class AdaptivePenalty:
    """beta * KL(old || new), where beta follows the distance that updates come to (Schulman et al.,
    2017, section 4).

    beta halves after an update that went less than target_kl / 1.5, and doubles after more than 1.5
    * target_kl.
    """

    beta: float = 1.0
    target_kl: float = 0.01

    def init(self) -> jax.Array:
        return jnp.asarray(self.beta, jnp.float32)

    def weigh(self, carry: jax.Array, clock: Clock) -> jax.Array:
        return carry

    def distance(self, old: Distribution, new: Distribution) -> jax.Array:
        return old.kl(new)

    def settle(self, carry: jax.Array, distance: jax.Array) -> jax.Array:
        """The next beta, after an update that went as far as `distance`; held within 1e-6 and 1e6.
        [].
        """
        near, far = distance < self.target_kl / 1.5, distance > self.target_kl * 1.5
        return jnp.clip(carry * jnp.where(near, 0.5, 1.0) * jnp.where(far, 2.0, 1.0), 1e-6, 1e6)
