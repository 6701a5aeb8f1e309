"""TRPO's step: a natural-gradient step of the largest length that a trust region allows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxrl.clock import Clock, Metrics
from jaxrl.rollout import Transition
from jaxrl.rules.base import Out
from jaxrl.rules.surrogate import Surrogate, SurrogateTargets
from jaxrl.tree import leaf, pytree, static

Function = Callable[[jax.Array], jax.Array]  # of parameters [n], to a number []


def conjugate_gradients(
    product: Callable[[jax.Array], jax.Array], b: jax.Array, iterations: int
) -> tuple[jax.Array, jax.Array]:
    """An approximate solution x of H x = b, and H x. [n], [n].

    H is positive definite and given by its products, `product(v)` = H v.
    """

    def step(now: tuple[jax.Array, ...], _: None) -> tuple[tuple[jax.Array, ...], None]:
        x, residual, direction = now
        image, size = product(direction), residual @ residual
        rate = size / jnp.maximum(direction @ image, 1e-20)
        x, residual = x + rate * direction, residual - rate * image
        ratio = (residual @ residual) / jnp.maximum(size, 1e-20)
        return (x, residual, residual + ratio * direction), None

    (x, residual, _), _ = jax.lax.scan(step, (jnp.zeros_like(b), b, b), None, iterations)
    return x, b - residual


def natural_step(
    objective: Function,
    distance: Function,
    x: jax.Array,
    max_kl: jax.Array | float,
    damping: jax.Array | float,
    iterations: int = 10,
    halvings: int = 10,
) -> tuple[jax.Array, Metrics]:
    """Parameters after one natural-gradient step from `x`, and metrics. [n].

    Schulman et al. (2015), appendix C. The direction s solves (H + damping) s = g by conjugate
    gradients: g is the gradient of `objective`, H the Hessian of `distance`, both at `x`. Its
    length is where the quadratic model of the distance reaches `max_kl`, halved until `distance` is
    at most that and `objective` has increased. The step is zero where no length satisfies both.
    """
    before, gradient = jax.value_and_grad(objective)(x)
    fisher = lambda v: jax.jvp(jax.grad(distance), (x,), (v,))[1] + damping * v
    direction, image = conjugate_gradients(fisher, gradient, iterations)
    longest = jnp.sqrt(2.0 * max_kl / jnp.maximum(direction @ image, 1e-20)) * direction
    scales = 0.5 ** jnp.arange(halvings)
    gain, kl = jax.lax.map(
        lambda scale: (
            objective(x + scale * longest) - before,
            distance(x + scale * longest),
        ),
        scales,
    )
    accepted = (kl <= max_kl) & (gain > 0.0)
    first = lambda values: jnp.where(accepted.any(), values[jnp.argmax(accepted)], 0.0)
    return x + first(scales) * longest, {
        "kl": first(kl),
        "improvement": first(gain),
        "step_scale": first(scales),
    }


@pytree
class TrustRegion:
    """TRPO's policy step: `natural_step` on the policy loss and entropy bonus of a whole rollout.

    max_kl: the bound of the mean KL(old || new). damping: added to the Fisher matrix. iterations:
    of conjugate gradients. halvings: the number of lengths that the line search tries, the full one
    first; all are computed.
    """

    max_kl: float = leaf(0.01, "(0, inf)")
    damping: float = leaf(0.1, "[0, inf)")
    iterations: int = static(default=10)
    halvings: int = static(default=10)

    def __call__(
        self,
        rule: Surrogate,
        forward: Callable[[Any], Out],
        params: Any,
        batch: Transition,
        targets: SurrogateTargets,
        clock: Clock,
    ) -> tuple[Any, Any, Metrics]:
        """The parameters after the step, a mask of those free for other losses, and metrics.

        forward: from parameters to the heads of the batch. The mask is bool [] for each leaf: True
        where all of the leaf may be fitted to other losses without changing the policy.
        """
        x, to_tree = ravel_pytree(params)
        old = jax.lax.stop_gradient(forward(params)["policy"])

        def objective(x: jax.Array) -> jax.Array:
            loss, entropy, _ = rule.policy_loss(forward(to_tree(x)), batch, targets, clock)
            return rule.entropy_weight * entropy - loss

        def distance(x: jax.Array) -> jax.Array:
            return old.kl(forward(to_tree(x))["policy"]).mean()

        def log_likelihood(params: Any) -> jax.Array:
            return forward(params)["policy"].log_prob(batch.action).mean()

        new_x, metrics = natural_step(
            objective, distance, x, self.max_kl, self.damping, self.iterations, self.halvings
        )
        slopes = jax.grad(log_likelihood)(params)
        is_free = jax.tree.map(lambda slope: jnp.all(slope == 0.0), slopes)
        return to_tree(new_x), is_free, metrics
