"""What an off-policy actor does: a squashed Gaussian, one action and noise, or a softmax.

An actor proposes actions and a critic says what they are worth. Real actions are on the scale of -1
to 1 in here; `scaled` and `unscaled` translate to the environment's own units.
"""

import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrl.distributions import Categorical, Distribution, TanhNormal
from jaxrl.masks import allow
from jaxrl.spaces import Box, Discrete
from jaxrl.tree import pytree

Out = dict[str, jax.Array]


@pytree
class Proposal:
    """K actions at each observation, how likely each is, and its log-probability (density). weight,
    log_prob [..., K].

    A real action [..., d] is one that was drawn, K = 1 and `weight` 1. Of n actions all are
    weighed, so that a mean is exact; which they are goes without saying, and `action` [...] is 0.
    """

    action: Any
    weight: jax.Array
    log_prob: jax.Array

    def mean(self, value: jax.Array) -> jax.Array:
        """The expectation of what is said of each action [..., K]. [...]."""
        return jnp.sum(self.weight * value, axis=-1)


class Actor(Protocol):
    """A pytree. `out` is the network's heads, whose leading axes are free."""

    spaces: tuple[type, ...]
    # whether the critic reads the action with the observation, rather than have a value for each
    reads_action: bool

    def heads(self, space: Any) -> dict[str, int]: ...

    def num_values(self, space: Any) -> int:
        """K: how many values the critic has."""
        ...

    def entropy_unit(self, space: Any) -> float:
        """What a target entropy is counted in."""
        ...

    def draw(self, key: jax.Array, out: Out) -> jax.Array:
        """The noise that it explores by; of real actions, standard normal [..., d]."""
        ...

    def explore(self, noise: jax.Array, space: Any, out: Out) -> jax.Array:
        """What it does to learn, in the environment's units."""
        ...

    def mode(self, space: Any, out: Out) -> jax.Array:
        """What it does when it is judged."""
        ...

    def propose(self, key: jax.Array, out: Out) -> Proposal:
        """What it would do, differentiable."""
        ...

    def propose_next(self, key: jax.Array, out: Out) -> Proposal:
        """What it would do next, for a target."""
        ...

    def policy(self, out: Out) -> Distribution | None:
        """Its distribution; None if it has no density."""
        ...

    def chosen(self, value: jax.Array, action: jax.Array) -> jax.Array:
        """Of critics' values [N, ..., K], that of the action that was done [...]. [N, ...]."""
        ...


# ------------------------------------------------------------------------------------- real actions


@pytree
class Squashed:
    """A Gaussian through tanh: SAC's policy (Haarnoja et al., 2018b, appendix C). Its entropy is
    counted per dimension.

    min_log_std, max_log_std: what the Gaussian's spread is held to.
    """

    min_log_std: float = -10.0
    max_log_std: float = 2.0

    spaces = (Box,)
    reads_action = True

    def heads(self, space: Box) -> dict[str, int]:
        return {"loc": math.prod(space.shape), "spread": math.prod(space.shape)}

    def num_values(self, space: Box) -> int:
        return 1

    def entropy_unit(self, space: Box) -> float:
        return float(math.prod(space.shape))

    def draw(self, key: jax.Array, out: Out) -> jax.Array:
        return jax.random.normal(key, out["loc"].shape)

    def explore(self, noise: jax.Array, space: Box, out: Out) -> jax.Array:
        policy = self.policy(out)
        return scaled(space, jnp.tanh(policy.loc + jnp.exp(policy.log_std) * noise))

    def mode(self, space: Box, out: Out) -> jax.Array:
        return scaled(space, self.policy(out).mode())

    def propose(self, key: jax.Array, out: Out) -> Proposal:
        action, log_prob = self.policy(out).sample_with_log_prob(key)
        return _drawn(action, log_prob)

    def propose_next(self, key: jax.Array, out: Out) -> Proposal:
        return self.propose(key, out)

    def policy(self, out: Out) -> TanhNormal:
        return TanhNormal(out["loc"], held(out["spread"], self.min_log_std, self.max_log_std))

    def chosen(self, value: jax.Array, action: jax.Array) -> jax.Array:
        return value[..., 0]


@jax.custom_vjp
def held(x: jax.Array, low: jax.Array | float, high: jax.Array | float) -> jax.Array:
    """`x` within two numbers.

    Where it is outside, a slope that leads back passes; clipping stops it, and x stays out.
    """
    return jnp.clip(x, low, high)


def _hold(x: jax.Array, low: Any, high: Any) -> tuple[jax.Array, Any]:
    return jnp.clip(x, low, high), (x < low, x > high)


def _lead_back(
    outside: tuple[jax.Array, jax.Array], slope: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    below, above = outside
    further = (below & (slope > 0)) | (
        above & (slope < 0)
    )  # whoever descends goes against the slope
    return jnp.where(further, 0.0, slope), jnp.sum(slope * below), jnp.sum(slope * above)


held.defvjp(_hold, _lead_back)


@pytree
class Deterministic:
    """One action, and Gaussian noise to explore (Lillicrap et al., 2015; their noise had `noise_correlation`,
    which TD3's dropped).

    noise: its standard deviation, where the box is 2 wide. target_noise, target_noise_clip: of the noise
    on the target's action (Fujimoto et al., 2018, section 5.3), and what it is held within.
    """

    noise: float = 0.1
    target_noise: float = 0.2
    target_noise_clip: float = 0.5

    spaces = (Box,)
    reads_action = True

    def heads(self, space: Box) -> dict[str, int]:
        return {"loc": math.prod(space.shape)}

    def num_values(self, space: Box) -> int:
        return 1

    def entropy_unit(self, space: Box) -> float:
        return 0.0

    def draw(self, key: jax.Array, out: Out) -> jax.Array:
        return jax.random.normal(key, out["loc"].shape)

    def explore(self, noise: jax.Array, space: Box, out: Out) -> jax.Array:
        return scaled(space, jnp.clip(jnp.tanh(out["loc"]) + self.noise * noise, -1.0, 1.0))

    def mode(self, space: Box, out: Out) -> jax.Array:
        return scaled(space, jnp.tanh(out["loc"]))

    def propose(self, key: jax.Array, out: Out) -> Proposal:
        action = jnp.tanh(out["loc"])
        return _drawn(action, jnp.zeros(action.shape[:-1]))

    def propose_next(self, key: jax.Array, out: Out) -> Proposal:
        action = jnp.tanh(out["loc"])
        noise = jnp.clip(
            self.target_noise * jax.random.normal(key, action.shape),
            -self.target_noise_clip,
            self.target_noise_clip,
        )
        return _drawn(jnp.clip(action + noise, -1.0, 1.0), jnp.zeros(action.shape[:-1]))

    def policy(self, out: Out) -> None:
        return None

    def chosen(self, value: jax.Array, action: jax.Array) -> jax.Array:
        return value[..., 0]


def _drawn(action: jax.Array, log_prob: jax.Array) -> Proposal:
    return Proposal(action, jnp.ones_like(log_prob)[..., None], log_prob[..., None])


def _ends(space: Box, rank: int) -> tuple[jax.Array, jax.Array]:
    """Middle and half width of a box, for actions of this rank."""
    low, high = (
        jnp.broadcast_to(jnp.asarray(x, jnp.float32), space.shape) for x in (space.low, space.high)
    )
    low, high = (x.reshape((1,) * (rank - x.ndim) + x.shape) for x in (low, high))
    return (high + low) / 2, (high - low) / 2


def scaled(space: Box, action: jax.Array) -> jax.Array:
    """From -1 to 1 to the box."""
    middle, half = _ends(space, action.ndim)
    return middle + half * action


def unscaled(space: Any, action: jax.Array) -> jax.Array:
    """From the box, where an action outside counts as its nearest end, to -1 to 1; of other
    actions, as they are.
    """
    if not isinstance(space, Box):
        return action
    middle, half = _ends(space, action.ndim)
    return jnp.clip((action - middle) / half, -1.0, 1.0)


def check_bounded(space: Any, who: str) -> None:
    """Refuses a box without ends, which tanh can't be scaled to.

    Ends that are traced are taken for finite.
    """
    ends = (space.low, space.high) if isinstance(space, Box) else ()
    known = [np.asarray(x) for x in ends if not isinstance(x, Tracer)]
    if not all(np.isfinite(x).all() for x in known):
        raise ValueError(
            f"{who} squashes its actions into a box, but {space} has no end somewhere. Give "
            "the environment the range that "
            "its actions make sense in, say Box(-1.0, 1.0, shape); or take an algorithm for "
            "any, say rl.ppo()."
        )


# --------------------------------------------------------------------------------- one of n actions


@pytree
class Softmax:
    """A categorical policy: SAC for discrete actions (Christodoulou, 2019). Its entropy is counted
    in log n.

    A mask forbids actions, whose values then count for nothing.
    """

    spaces = (Discrete,)
    reads_action = False

    def heads(self, space: Discrete) -> dict[str, int]:
        return {"logits": space.n}

    def num_values(self, space: Discrete) -> int:
        return space.n

    def entropy_unit(self, space: Discrete) -> float:
        return math.log(space.n)

    def draw(self, key: jax.Array, out: Out) -> jax.Array:
        return jax.random.gumbel(key, out["logits"].shape)

    def explore(self, noise: jax.Array, space: Discrete, out: Out) -> jax.Array:
        return jnp.argmax(self.policy(out).logits + noise, axis=-1)

    def mode(self, space: Discrete, out: Out) -> jax.Array:
        return self.policy(out).mode()

    def propose(self, key: jax.Array, out: Out) -> Proposal:
        log_p = jax.nn.log_softmax(self.policy(out).logits)
        p = jnp.exp(log_p)
        return Proposal(jnp.zeros(p.shape[:-1]), p, jnp.where(p > 0, log_p, 0.0))

    def propose_next(self, key: jax.Array, out: Out) -> Proposal:
        return self.propose(key, out)

    def policy(self, out: Out) -> Categorical:
        return Categorical(allow(out["logits"], out.get("mask")))

    def chosen(self, value: jax.Array, action: jax.Array) -> jax.Array:
        return jnp.take_along_axis(value, action[None, ..., None], axis=-1)[..., 0]
