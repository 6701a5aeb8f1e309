"""CrossQ: critics without slow copies, held together by batch statistics."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import networks
from jaxrl.algorithms.base import Optimizer, extends
from jaxrl.algorithms.critics import Critic, Out
from jaxrl.algorithms.learner import Batch
from jaxrl.algorithms.off_policy import OffPolicy
from jaxrl.algorithms.sac import sac
from jaxrl.tree import pytree

Statistics = list[dict[str, jax.Array]]  # of each normalisation, its mean and variance [size]
EPSILON = 1e-3


@dataclasses.dataclass(frozen=True)
class Renormed:
    """Fully connected layers with batch renormalisation (Ioffe, 2017) of the input and after each activation.

    What it makes reads one input by the running statistics, which are among its parameters and have no gradient; `learn`
    reads a batch by its own. Only critics that read a real action beside the observation can be made of it.
    """

    hidden: tuple[int, ...] = (2048, 2048)
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu

    def __call__(self, heads: Mapping[str, int]) -> networks.Network:
        sizes = tuple(heads.items())
        return networks.Network(lambda key, x: self.init(key, sizes, x), lambda params, x: self._read(params, sizes, x))

    def init(self, key: jax.Array, heads: tuple[tuple[str, int], ...], x: Any) -> dict[str, Any]:
        keys = iter(jax.random.split(key, len(self.hidden) + len(heads)))
        widths = [len(_flat(x)), *self.hidden]
        root = networks.orthogonal(math.sqrt(2.0))
        dense = lambda scaled, inputs, outputs: {"kernel": scaled(next(keys), (inputs, outputs)), "bias": jnp.zeros(outputs)}
        return {
            "layers": [dense(root, a, b) for a, b in zip(widths, self.hidden, strict=False)],
            "heads": {name: dense(networks.orthogonal(), widths[-1], size) for name, size in heads},
            "norms": [{"scale": jnp.ones(n), "shift": jnp.zeros(n)} for n in widths],
            "running": [{"mean": jnp.zeros(n), "variance": jnp.ones(n)} for n in widths],
            "limits": jnp.array([1.0, 0.0]),  # how far a batch's statistics may be corrected: not at all yet
        }

    def _read(self, params: Any, heads: tuple[tuple[str, int], ...], x: Any) -> Out:
        running = jax.lax.stop_gradient(params["running"])
        normal = lambda i, x: (x - running[i]["mean"]) * jax.lax.rsqrt(running[i]["variance"] + EPSILON)
        return self._forward(params, _flat(x), normal)

    def learn(self, params: Any, x: Any) -> tuple[Out, Statistics]:
        """The heads of a batch, leaves of `x` [B, ...], and its statistics."""
        seen: Statistics = []
        running, limits = jax.lax.stop_gradient((params["running"], params["limits"]))

        def normal(i: int, x: jax.Array) -> jax.Array:
            mean, variance = x.mean(0), x.var(0)
            seen.append(jax.lax.stop_gradient({"mean": mean, "variance": variance}))
            spread = jnp.sqrt(running[i]["variance"] + EPSILON)
            wider = jnp.clip(jnp.sqrt(seen[i]["variance"] + EPSILON) / spread, 1.0 / limits[0], limits[0])
            off = jnp.clip((seen[i]["mean"] - running[i]["mean"]) / spread, -limits[1], limits[1])
            return (x - mean[None]) * (jax.lax.rsqrt(variance + EPSILON) * wider)[None] + off[None]

        return self._forward(params, jax.vmap(_flat)(x), normal), seen

    def _forward(self, params: Any, x: jax.Array, normal: Callable[[int, jax.Array], jax.Array]) -> Out:
        wide = lambda y: y.reshape((1,) * (x.ndim - 1) + y.shape)
        affine = lambda layer, x: x @ layer["kernel"] + wide(layer["bias"])
        for i, norm in enumerate(params["norms"]):
            x = self.activation(affine(params["layers"][i - 1], x)) if i else x
            x = normal(i, x) * wide(norm["scale"]) + wide(norm["shift"])
        return {name: affine(head, x) for name, head in params["heads"].items()}


def _flat(x: Any) -> jax.Array:
    return jnp.concatenate([jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(x)])


@pytree
class CrossBatch:
    """Critics read what was done and what follows as one batch, by the same statistics (Bhatt et al., 2024, section 3.2).

    rate: how fast the running statistics follow. limit_scale, limit_shift: what a batch's may be corrected by, towards the
    running ones, after `settled` gradient steps.
    """

    rate: float = 0.01
    limit_scale: float = 3.0
    limit_shift: float = 5.0
    settled: float = 100_000.0
    network: Renormed = dataclasses.field(metadata={"static": True}, default=Renormed())

    def read(self, critic: Critic, params: Any, slow: Any, batch: Batch, next_action: jax.Array) -> tuple[Out, Out, Any]:
        join = lambda a, b: jnp.concatenate([a, b]).reshape(-1, *a.shape[2:])
        pair = {"action": join(batch.action, next_action), "features": jax.tree.map(join, batch.obs, batch.next_obs)}
        out, seen = jax.vmap(lambda own: self.network.learn(own["top"], pair))(params)
        half = lambda x, i: jnp.split(x, 2, axis=1)[i][:, :, None]
        return {k: half(x, 0) for k, x in out.items()}, jax.lax.stop_gradient({k: half(x, 1) for k, x in out.items()}), seen

    def settle(self, params: Any, seen: Any, step: jax.Array) -> Any:
        """The critics with their running statistics brought up to date."""
        running = jax.tree.map(lambda old, new: old + self.rate * (new - old), params["top"]["running"], seen)
        reach = jnp.stack([jnp.asarray(self.limit_scale, jnp.float32), jnp.asarray(self.limit_shift, jnp.float32)])
        limits = jnp.where(step >= self.settled, reach[None], params["top"]["limits"])
        return params | {"top": params["top"] | {"running": running, "limits": limits}}


@extends(sac, lr=1e-3, target_rate=1.0, policy_period=3.0)
def crossq(
    *,
    rate: float = 0.01,
    limit_scale: float = 3.0,
    limit_shift: float = 5.0,
    settled: float = 100_000.0,
    critic_network: Renormed = Renormed(),
    **fields: Any,
) -> OffPolicy:
    """CrossQ: soft actor-critic by batch statistics, without slow copies (Bhatt et al., 2024). `fields` are `sac`'s.

    The numbers are the authors'. Their policy is normalised too; here it is as `network` makes it.
    """
    own: dict[str, Any] = {
        "copies": CrossBatch(rate, limit_scale, limit_shift, settled, critic_network),
        "critic_network": critic_network,
        "optimizer": Optimizer(optax.adam, {"b1": 0.5, "eps_root": 1e-16}),
    }
    return sac(**own | fields)
