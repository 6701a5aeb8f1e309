"""Objectives of the probability ratio and the advantage, and penalties on the policy's change.

An objective is maximised. At ratio 1 the gradient of each is the policy gradient; they differ in
how they limit the change of the policy. A penalty is a weight, which may follow a schedule or
adapt, times a distance between the policy that acted and the new one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.clock import Clock
from jaxrl.distributions import Distribution
from jaxrl.errors import not_defined
from jaxrl.tree import leaf, pytree

PenaltyState = Any


class Objective:
    """Base class of objectives: a pytree that is called with (ratio, advantage).

    clip: the distance from 1 beyond which the metric `clip_fraction` counts a ratio; infinite where
    nothing is clipped.
    """

    clip: float = float("inf")

    def at(self, clock: Clock) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """The objective at a point of the training run; by default the same throughout."""
        return self

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        """The objective of each action, elementwise; its mean is maximised. [...].

        ratio: the probability of the action under the new policy over that under the old one.
        """
        raise not_defined(self, Objective.__call__)


class Penalty:
    """Base class of penalties on the distance between the old policy and the new one.

    The state of one that adapts is an array or a pytree of arrays; `post_update` is called only
    where there is any.
    """

    def init(self) -> PenaltyState:
        """Return the penalty's state at the start of a training run; () without one."""
        return ()

    def weight(self, state: PenaltyState, clock: Clock) -> jax.Array:
        """The factor on the distance during an update. []."""
        raise not_defined(self, Penalty.weight)

    def distance(self, old: Distribution, new: Distribution) -> jax.Array:
        """The distance at each observation; by default KL(new || old). [...]."""
        return new.kl(old)

    def post_update(self, state: PenaltyState, distance: jax.Array) -> PenaltyState:
        """Return the state after an update that moved the policy by a mean `distance` []."""
        return state


@pytree
class PolicyGradient(Objective):
    """ratio * advantage: at ratio 1 its gradient is the policy gradient (Williams, 1992)."""

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        return ratio * advantage


@pytree
class Clip(Objective):
    """PPO's clipped surrogate, min(r A, clip(r, 1 - clip, 1 + clip) A).

    Schulman et al. (2017), equation 7.
    """

    clip: float = leaf(0.2, "[0, inf]")

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        clipped = jnp.clip(ratio, 1.0 - self.clip, 1.0 + self.clip)
        return jnp.minimum(ratio * advantage, clipped * advantage)


@pytree
class SPO(Objective):
    """Simple policy optimisation, r A - |A| (r - 1)^2 / (2 clip) (Xie et al., 2024).

    A parabola in r with its maximum at 1 + clip (1 - clip where A < 0). Beyond it, where the
    gradient of `Clip` is 0, the gradient leads back.
    """

    clip: float = leaf(0.2, "(0, inf]")

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        return ratio * advantage - jnp.abs(advantage) / (2.0 * self.clip) * (ratio - 1.0) ** 2


@pytree
class DPO(Objective):
    """Discovered policy optimisation: r A less a drift found by meta-learning, in closed form.

    Lu et al. (2022). The drift is relu((r - 1) A - alpha tanh((r - 1) A / alpha)) where A >= 0, and
    relu(log(r) A - beta tanh(log(r) A / beta)) elsewhere. Not direct preference optimisation.
    """

    alpha: float = leaf(2.0, "(0, inf)")
    beta: float = leaf(0.6, "(0, inf)")

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        def drift(x: jax.Array, scale: float) -> jax.Array:
            return jax.nn.relu(x - scale * jnp.tanh(x / scale))

        log_ratio = jnp.log(jnp.maximum(ratio, jnp.finfo(jnp.float32).tiny))
        positive = drift((ratio - 1.0) * advantage, self.alpha)
        negative = drift(log_ratio * advantage, self.beta)
        return ratio * advantage - jnp.where(advantage >= 0.0, positive, negative)


# ---------------------------------------------------------------------------------------- penalties


@pytree
class FixedPenalty(Penalty):
    """KL(new || old) with a fixed weight."""

    kl_weight: float = leaf(0.0, "[0, inf)")

    def weight(self, state: PenaltyState, clock: Clock) -> jax.Array:
        return jnp.asarray(self.kl_weight, jnp.float32)


@pytree
class MirrorDescent(Penalty):
    """KL(new || old) / t, where t falls linearly from `step_size` to 0: on-policy MDPO.

    Tomar et al. (2020). In the last hundredth of the training run t stays at a hundredth of
    `step_size`, so that 1 / t is finite.
    """

    step_size: float = leaf(1.0, "(0, inf)")

    def weight(self, state: PenaltyState, clock: Clock) -> jax.Array:
        return 1.0 / (self.step_size * jnp.maximum(1.0 - clock.fraction, 0.01))


@pytree
class AdaptivePenalty(Penalty):
    """beta * KL(old || new) with an adaptive beta (Schulman et al., 2017, section 4).

    beta is halved after an update with a KL below target_kl / 1.5, and doubled after one with a KL
    above 1.5 * target_kl; the field is its first value.
    """

    beta: float = leaf(1.0, "[0, inf)")
    target_kl: float = leaf(0.01, "(0, inf)")

    def init(self) -> jax.Array:
        return jnp.asarray(self.beta, jnp.float32)

    def weight(self, state: jax.Array, clock: Clock) -> jax.Array:
        return state

    def distance(self, old: Distribution, new: Distribution) -> jax.Array:
        return old.kl(new)

    def post_update(self, state: jax.Array, distance: jax.Array) -> jax.Array:
        """Return beta after an update with a mean KL of `distance`, clipped to [1e-6, 1e6]. []."""
        below, above = distance < self.target_kl / 1.5, distance > self.target_kl * 1.5
        return jnp.clip(state * jnp.where(below, 0.5, 1.0) * jnp.where(above, 2.0, 1.0), 1e-6, 1e6)
