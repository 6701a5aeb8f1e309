"""Actors of off-policy actor-critics: a squashed Gaussian, a deterministic action, or a softmax.

An actor proposes actions and critics value them. Real actions are on the scale of -1 to 1 in here;
`from_unit` and `to_unit` convert to and from the units of the environment's box.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrl import gathers
from jaxrl.distributions import Categorical, Distribution, TanhNormal
from jaxrl.errors import not_defined
from jaxrl.masks import allow
from jaxrl.rules.base import num_actions
from jaxrl.spaces import Box, Discrete, Space, is_bound
from jaxrl.tree import leaf, pytree

Out = dict[str, jax.Array]


@pytree
class Proposal:
    """K actions at each observation, with their probabilities. weight, log_prob [..., K].

    A real action [..., d] is sampled: K = 1, with a `weight` of 1 and the logarithm of its density.
    Of n discrete actions, all are weighted by their probabilities, so that means are exact; K = n,
    and `action` [...] is 0.
    """

    action: Any
    weight: jax.Array
    log_prob: jax.Array

    def mean(self, value: jax.Array) -> jax.Array:
        """The expectation of a value for each action [..., K]. [...]."""
        return jnp.sum(self.weight * value, axis=-1)


class Actor:
    """Base class of actors: a pytree. `out` is the network's heads, with free leading axes.

    spaces: the kinds of action space. reads_action: True where critics read the action with the
    observation, False where they have a value for each action.
    """

    spaces: tuple[type, ...] = (Box,)
    reads_action: bool = True

    def heads(self, space: Space) -> dict[str, int]:
        """The network's heads."""
        raise not_defined(self, Actor.heads)

    def num_values(self, space: Space) -> int:
        """The number of values that a critic has at each observation, K."""
        return 1

    def entropy_unit(self, space: Space) -> float:
        """The unit of a target entropy; 0 where the policy has no entropy."""
        return 0.0

    def sample_noise(self, key: jax.Array, out: Out) -> jax.Array:
        """The noise of `explore`; of real actions, standard normal [..., d]."""
        return jax.random.normal(key, out["loc"].shape, out["loc"].dtype)

    def explore(self, noise: jax.Array, space: Space, out: Out) -> jax.Array:
        """The exploring policy's action, in the environment's units."""
        raise not_defined(self, Actor.explore)

    def mode(self, space: Space, out: Out) -> jax.Array:
        """The greedy action, in the environment's units."""
        raise not_defined(self, Actor.mode)

    def propose(self, key: jax.Array, out: Out) -> Proposal:
        """Actions of the policy, differentiable."""
        raise not_defined(self, Actor.propose)

    def propose_next(self, key: jax.Array, out: Out) -> Proposal:
        """Actions at the next observation, for a target; by default the policy's."""
        return self.propose(key, out)

    def policy(self, out: Out) -> Distribution:
        """The policy's distribution over actions."""
        raise TypeError(f"{type(self).__name__} has no distribution over actions.")

    def select(self, value: jax.Array, action: jax.Array) -> jax.Array:
        """The values [N, ..., K] of the actions that were taken [...]. [N, ...]."""
        return value[..., 0]


# ------------------------------------------------------------------------------------- real actions


@pytree
class Squashed(Actor):
    """A Gaussian squashed by tanh: SAC's policy (Haarnoja et al., 2018b, appendix C).

    min_log_std, max_log_std: the range that the logarithm of the Gaussian's standard deviation is
    clipped to. The head "spread" holds it before that; it depends on the observation, unlike the
    head "log_std" of other policies, which is `free` in `MLP`. A target entropy is in nats per
    dimension of an action.
    """

    min_log_std: float = leaf(-10.0, "(-inf, inf)")
    max_log_std: float = leaf(2.0, "(-inf, inf)")

    def heads(self, space: Space) -> dict[str, int]:
        size = _size(space)
        return {"loc": size, "spread": size}

    def entropy_unit(self, space: Space) -> float:
        return float(_size(space))

    def explore(self, noise: jax.Array, space: Space, out: Out) -> jax.Array:
        policy = self.policy(out)
        return from_unit(space, jnp.tanh(policy.loc + jnp.exp(policy.log_std) * noise))

    def mode(self, space: Space, out: Out) -> jax.Array:
        return from_unit(space, self.policy(out).mode())

    def propose(self, key: jax.Array, out: Out) -> Proposal:
        action, log_prob = self.policy(out).sample_with_log_prob(key)
        return _sampled(action, log_prob)

    def policy(self, out: Out) -> TanhNormal:
        log_std = clip_keep_inward_gradient(out["spread"], self.min_log_std, self.max_log_std)
        return TanhNormal(out["loc"], log_std)


@jax.custom_vjp
def clip_keep_inward_gradient(
    x: jax.Array, low: jax.Array | float, high: jax.Array | float
) -> jax.Array:
    """`x` clipped to a range, with the gradient of the identity where descent moves `x` inwards.

    The gradient of `jnp.clip` is 0 outside the range, so that `x` would stay there.
    """
    return jnp.clip(x, low, high)


def _clip_forward(x: jax.Array, low: Any, high: Any) -> tuple[jax.Array, Any]:
    return jnp.clip(x, low, high), (x < low, x > high)


def _clip_backward(
    outside: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    below, above = outside
    outwards = (below & (grad > 0)) | (above & (grad < 0))  # descent follows the negative gradient
    return jnp.where(outwards, 0.0, grad), jnp.sum(grad * below), jnp.sum(grad * above)


clip_keep_inward_gradient.defvjp(_clip_forward, _clip_backward)


@pytree
class Deterministic(Actor):
    """One action for each observation, with Gaussian noise in exploration (Lillicrap et al., 2015).

    noise: the noise's standard deviation, on the scale of -1 to 1.
    target_noise, target_noise_clip: the standard deviation of the noise on the target's action
      (Fujimoto et al., 2018, section 5.3), and the absolute value that it is clipped to.
    """

    noise: float = leaf(0.1, "[0, inf)")
    target_noise: float = leaf(0.2, "[0, inf)")
    target_noise_clip: float = leaf(0.5, "[0, inf]")

    def heads(self, space: Space) -> dict[str, int]:
        return {"loc": _size(space)}

    def explore(self, noise: jax.Array, space: Space, out: Out) -> jax.Array:
        action = jnp.clip(jnp.tanh(out["loc"]) + self.noise * noise, -1.0, 1.0)
        return from_unit(space, action)

    def mode(self, space: Space, out: Out) -> jax.Array:
        return from_unit(space, jnp.tanh(out["loc"]))

    def propose(self, key: jax.Array, out: Out) -> Proposal:
        action = jnp.tanh(out["loc"])
        return _sampled(action, jnp.zeros(action.shape[:-1], action.dtype))

    def propose_next(self, key: jax.Array, out: Out) -> Proposal:
        action = jnp.tanh(out["loc"])
        noise = jnp.clip(
            self.target_noise * jax.random.normal(key, action.shape, action.dtype),
            -self.target_noise_clip,
            self.target_noise_clip,
        )
        return _sampled(
            jnp.clip(action + noise, -1.0, 1.0), jnp.zeros(action.shape[:-1], action.dtype)
        )


def _sampled(action: jax.Array, log_prob: jax.Array) -> Proposal:
    return Proposal(action, jnp.ones_like(log_prob)[..., None], log_prob[..., None])


def _size(space: Space) -> int:
    """The number of dimensions of a box."""
    return math.prod(space.shape)  # type: ignore[union-attr]


def _middle_and_half(space: Box, rank: int) -> tuple[jax.Array, jax.Array]:
    """The middle and half the width of a box, for actions of this rank."""
    low, high = (
        jnp.broadcast_to(jnp.asarray(x, jnp.float32), space.shape) for x in (space.low, space.high)
    )
    low, high = (x.reshape((1,) * (rank - x.ndim) + x.shape) for x in (low, high))
    return (high + low) / 2, (high - low) / 2


def from_unit(space: Any, action: jax.Array) -> jax.Array:
    """Actions on the scale of -1 to 1, scaled to the box."""
    middle, half = _middle_and_half(space, action.ndim)
    return middle + half * action


def to_unit(space: Any, action: jax.Array) -> jax.Array:
    """Actions of the box, clipped to it, on the scale of -1 to 1; other actions unchanged."""
    if not isinstance(space, Box):
        return action
    middle, half = _middle_and_half(space, action.ndim)
    return jnp.clip((action - middle) / half, -1.0, 1.0)


def check_bounded(space: Any, actor: str) -> None:
    """Check that a box has finite ends. Ends that are traced count as finite.

    Raises:
      ValueError: an infinite end, to which tanh can't be scaled.
    """
    ends = (space.low, space.high) if isinstance(space, Box) else ()
    known = [np.asarray(x) for x in ends if not isinstance(x, Tracer)]
    if not all(np.all(is_bound(x)) for x in known):
        raise ValueError(
            f"{actor} squashes its actions into a box, but {space} has no end somewhere. Give the "
            "environment the range that its actions make sense in, such as Box(-1.0, 1.0, shape), "
            "or take an algorithm for unbounded actions, such as rl.ppo()."
        )


# --------------------------------------------------------------------------------- discrete actions


@pytree
class Softmax(Actor):
    """A categorical policy: SAC for discrete actions (Christodoulou, 2019).

    A target entropy is a fraction of log n, the largest entropy.
    """

    spaces = (Discrete,)
    reads_action = False

    def heads(self, space: Space) -> dict[str, int]:
        return {"logits": num_actions(space)}

    def num_values(self, space: Space) -> int:
        return num_actions(space)

    def entropy_unit(self, space: Space) -> float:
        return math.log(num_actions(space))

    def sample_noise(self, key: jax.Array, out: Out) -> jax.Array:
        return jax.random.gumbel(key, out["logits"].shape, out["logits"].dtype)

    def explore(self, noise: jax.Array, space: Space, out: Out) -> jax.Array:
        return jnp.argmax(self.policy(out).logits + noise, axis=-1).astype(jnp.int32)

    def mode(self, space: Space, out: Out) -> jax.Array:
        return self.policy(out).mode()

    def propose(self, key: jax.Array, out: Out) -> Proposal:
        log_p = jax.nn.log_softmax(self.policy(out).logits)
        p = jnp.exp(log_p)
        return Proposal(jnp.zeros(p.shape[:-1], p.dtype), p, jnp.where(p > 0, log_p, 0.0))

    def policy(self, out: Out) -> Categorical:
        return Categorical(allow(out["logits"], out.get("mask")))

    def select(self, value: jax.Array, action: jax.Array) -> jax.Array:
        return gathers.last(value, action[None])
