"""TRPO's step: as far along the natural gradient as a trust region allows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock, Metrics, Out
from jaxrl.rules.surrogate import Surrogate, Targets
from jaxrl.tree import pytree, static

Measure = Callable[[jax.Array], jax.Array]  # parameters [n] -> []


def conjugate_gradients(
    product: Callable[[jax.Array], jax.Array], b: jax.Array, iterations: int
) -> tuple[jax.Array, jax.Array]:
    """Solves H x = b for a positive H that is known by its products alone, about: x, and H x as far
    as it came. [n], [n].
    """

    def step(now: tuple[jax.Array, ...], _: None) -> tuple[tuple[jax.Array, ...], None]:
        x, rest, way = now
        bent, size = product(way), rest @ rest
        rate = size / jnp.maximum(way @ bent, 1e-20)
        x, rest = x + rate * way, rest - rate * bent
        return (x, rest, rest + (rest @ rest) / jnp.maximum(size, 1e-20) * way), None

    (x, rest, _), _ = jax.lax.scan(step, (jnp.zeros_like(b), b, b), None, iterations)
    return x, b - rest


def natural_step(
    worth: Measure,
    distance: Measure,
    x: jax.Array,
    max_kl: Any,
    damping: Any,
    iterations: int = 10,
    halvings: int = 10,
) -> tuple[jax.Array, Metrics]:
    """The step that improves `worth` as fast as `distance` from `x` allows (Schulman et al., 2015,
    appendix C). [n].

    Its direction solves (H + damping) s = gradient by conjugate gradients, where H is the
    distance's Hessian at `x`; its length is where the quadratic model reaches `max_kl`, halved
    until `distance` is at most that and `worth` is more than before. Where no halving does, the
    step is zero.
    """
    before, gradient = jax.value_and_grad(worth)(x)
    fisher = lambda v: jax.jvp(jax.grad(distance), (x,), (v,))[1] + damping * v
    direction, bent = conjugate_gradients(fisher, gradient, iterations)
    longest = jnp.sqrt(2.0 * max_kl / jnp.maximum(direction @ bent, 1e-20)) * direction
    scales = 0.5 ** jnp.arange(halvings)
    gain, kl = jax.lax.map(
        lambda scale: (worth(x + scale * longest) - before, distance(x + scale * longest)), scales
    )
    fits = (kl <= max_kl) & (gain > 0.0)
    first = lambda values: jnp.where(fits.any(), values[jnp.argmax(fits)], 0.0)
    return x + first(scales) * longest, {
        "kl": first(kl),
        "improvement": first(gain),
        "step_scale": first(scales),
    }


@pytree
class TrustRegion:
    """How TRPO moves a policy: `natural_step` on the whole rollout, of the rule's policy loss and
    its entropy bonus.

    max_kl: how far, as the mean KL(old || new). damping: added to the Fisher matrix. iterations: of
    conjugate gradients. halvings: lengths that the line search tries, the full one first; all are
    computed.
    """

    max_kl: float = 0.01
    damping: float = 0.1
    iterations: int = static(default=10)
    halvings: int = static(default=10)

    def __call__(
        self,
        rule: Surrogate,
        read: Callable[[Any], Out],
        params: Any,
        batch: Transition,
        targets: Targets,
        clock: Clock,
    ) -> tuple[Any, Any, Metrics]:
        """The parameters after the step, which of them (True, leaf by leaf) the policy does not
        read, and its metrics.
        """
        x, tree_of = ravel_pytree(params)
        old = jax.lax.stop_gradient(read(params)["policy"])

        def worth(x: jax.Array) -> jax.Array:
            loss, entropy, _ = rule.policy_loss(read(tree_of(x)), batch, targets, clock)
            return rule.entropy_weight * entropy - loss

        def likelihood(params: Any) -> jax.Array:
            return read(params)["policy"].log_prob(batch.action).mean()

        distance = lambda x: old.kl(read(tree_of(x))["policy"]).mean()
        moved, metrics = natural_step(
            worth, distance, x, self.max_kl, self.damping, self.iterations, self.halvings
        )
        free = jax.tree.map(lambda slope: jnp.all(slope == 0.0), jax.grad(likelihood)(params))
        return tree_of(moved), free, metrics
