"""Batch normalisation: parameters that hold running statistics apart from the trained weights."""

from collections.abc import Callable
from typing import Any, TypeGuard

import jax

from jaxrl.tree import pytree, replace, static

AXIS = "batch"  # name of the vmapped axis over which batch statistics are computed


@pytree
class Normed:
    """Parameters of a network with batch normalisation.

    weights: the trained parameters.
    stats: running means and variances.
    training: whether to normalise by the statistics of the batch, the vmapped axis `AXIS`, and to
      return the updated running statistics under the output "seen". Otherwise the running
      statistics normalise, for one observation or many.
    """

    weights: Any
    stats: Any
    training: bool = static(default=False)


def functions(
    module: Any, preprocess: Callable[[Any], jax.Array]
) -> tuple[Callable[..., Normed], Callable[..., dict[str, Any]]]:
    """The functions `init` and `apply` of a network with batch normalisation.

    module: a flax module with running statistics in the collection "batch_stats".
    preprocess: from an observation to the module's input.
    """

    def init(key: jax.Array, obs: Any) -> Normed:
        variables = module.init(key, preprocess(obs))
        return Normed(variables["params"], variables["batch_stats"])

    def apply(params: Normed, obs: Any) -> dict[str, Any]:
        variables = {"params": params.weights, "batch_stats": params.stats}
        if not params.training:
            return module.apply(variables, preprocess(obs))
        if jax.lax.psum(1, AXIS) == 1:
            raise ValueError(
                "batch_norm=True normalises over a batch, and a batch of a single row would "
                "become all zeros: write batch_size=128."
            )
        out, updated = module.apply(variables, preprocess(obs), mutable=["batch_stats"])
        return out | {"seen": updated["batch_stats"]}

    return init, apply


def is_normed(x: Any) -> TypeGuard[Normed]:
    return isinstance(x, Normed)


def weights(params: Any) -> Any:
    """The trained parameters, which an optimiser updates: `params` without running statistics."""
    return _each(params, lambda normed: normed.weights)


def with_weights(params: Any, weights: Any) -> Any:
    """`params` with new trained weights and the same running statistics."""

    def swap(old: Any, new: Any) -> Any:
        return replace(old, weights=new) if is_normed(old) else new

    return jax.tree.map(swap, params, weights, is_leaf=is_normed)


def train(params: Any) -> Any:
    """`params` in training mode: normalisation by the statistics of the batch."""
    return _each(params, lambda normed: replace(normed, training=True))


def with_stats(params: Any, seen: Any) -> Any:
    """`params` with the running statistics `seen` that `apply` returned for a batch.

    seen: equal at each row of the batch, [..., N, T, size]; None leaves `params` unchanged.
    """
    if seen is None:
        return params
    stats = jax.lax.stop_gradient(jax.tree.map(lambda x: x[..., 0, 0, :], seen))
    return _each(params, lambda normed: replace(normed, stats=stats))


def _each(params: Any, change: Callable[[Normed], Any]) -> Any:
    return jax.tree.map(lambda x: change(x) if is_normed(x) else x, params, is_leaf=is_normed)
