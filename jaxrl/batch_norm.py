"""Batch normalisation: running statistics beside the weights, as data that no optimiser sees."""

from collections.abc import Callable
from typing import Any

import jax

from jaxrl.tree import pytree, replace, static

AXIS = "batch"  # the vmapped axis that a batch's statistics are means over


@pytree
class Normed:
    """Parameters of a network that normalises its layers: what is learnt, and running means and
    variances.

    training: it normalises by the batch, the vmapped axis `AXIS`, and says under "seen" what its
    running statistics have become; otherwise it normalises by those that it has, one observation or
    many.
    """

    weights: Any
    stats: Any
    training: bool = static(default=False)


def functions(
    module: Any, read: Callable[[Any], jax.Array]
) -> tuple[Callable[..., Normed], Callable[..., dict[str, Any]]]:
    """What a network is, `init` and `apply`, of a module whose running statistics are its
    collection "batch_stats".
    """

    def init(key: jax.Array, obs: Any) -> Normed:
        made = module.init(key, read(obs))
        return Normed(made["params"], made["batch_stats"])

    def apply(params: Normed, obs: Any) -> dict[str, Any]:
        made = {"params": params.weights, "batch_stats": params.stats}
        if not params.training:
            return module.apply(made, read(obs))
        out, seen = module.apply(made, read(obs), mutable=["batch_stats"])
        return out | {"seen": seen["batch_stats"]}

    return init, apply


def is_normed(x: Any) -> bool:
    return isinstance(x, Normed)


def weights(params: Any) -> Any:
    """What an optimiser may change: the parameters without their statistics."""
    return _each(params, lambda normed: normed.weights)


def reweigh(params: Any, weights: Any) -> Any:
    """The parameters with other weights."""
    swap = lambda old, new: replace(old, weights=new) if is_normed(old) else new
    return jax.tree.map(swap, params, weights, is_leaf=is_normed)


def train(params: Any) -> Any:
    """The parameters, to be applied to a batch as a whole."""
    return _each(params, lambda normed: replace(normed, training=True))


def remember(params: Any, seen: Any) -> Any:
    """The parameters with the running statistics that a batch led to, "seen" at each row of it
    [..., N, T, size].

    Of None they are what they were.
    """
    if seen is None:
        return params
    stats = jax.lax.stop_gradient(jax.tree.map(lambda x: x[..., 0, 0, :], seen))
    return _each(params, lambda normed: replace(normed, stats=stats))


def _each(params: Any, change: Callable[[Normed], Any]) -> Any:
    return jax.tree.map(lambda x: change(x) if is_normed(x) else x, params, is_leaf=is_normed)
