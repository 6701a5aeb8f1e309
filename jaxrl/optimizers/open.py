"""A learned optimiser for reinforcement learning: each parameter has a memory, and may be moved at
random.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jaxrl.memories import GRU
from jaxrl.memories.layers import dense, linear, normal
from jaxrl.optimizers.features import average, normalized
from jaxrl.tree import pytree, static

DECAYS = np.array([0.1, 0.5, 0.9, 0.99, 0.999, 0.9999], np.float32)
NUM_FEATURES = 19


@pytree
class State:
    """Of P parameters: means of their gradients `momenta` [6, P], and what each remembers, `hidden`
    [P, size].
    """

    momenta: jax.Array
    hidden: jax.Array


@pytree
class OPEN:
    """Learned optimisation for plasticity, exploration and non-stationarity (Goldie et al., 2024).

    A GRU for each parameter, then two layers, of 19 features: the parameter, the sign and logarithm
    of its gradient and of six momenta, normalised over its tensor; how much of the life is over,
    where in the network its layer is, how many of an update's epochs are over; and dormancy, which
    is 1 here, that of a neuron as active as its layer: no activations are seen. step = lr * (a
    exp(0.001 b) + c noise), less its mean over all parameters. The paper's lr is 0.001.

    The time is told by who descends, as `clock`, `epoch` and `key` (`OnPolicy` does). Without a
    clock a life is endless; without a key there is no noise, which moves the policy alone:
    parameters below one of the names `noisy`.

    weights: "gru", the layers "first", "second" and "output", and the scale and bias of the norm
    after the first two. Untrained: `OPEN.random(key)`.
    """

    weights: dict[str, Any]
    noisy: tuple[str, ...] = static(default=("logits", "loc", "log_std", "spread"))

    @classmethod
    def random(
        cls, key: jax.Array, size: int = 8, width: int = 16, *, zero: bool = False
    ) -> "OPEN":
        """Random weights of variance 1 / inputs; with `zero` an output of zeros: then it changes
        nothing.
        """
        keys = jax.random.split(key, 5)
        gates = {
            "input": dense(keys[0], NUM_FEATURES, 3 * size),
            "hidden": {"kernel": dense(keys[1], size, 3 * size)["kernel"]},
        }
        norm = {"scale": jnp.ones(width), "bias": jnp.zeros(width)}
        output = dense(keys[4], width, 3)
        return cls(
            {
                "gru": gates | {"new": {"bias": jnp.zeros(size)}},
                "first": dense(keys[2], size, width) | {"norm": norm},
                "second": dense(keys[3], width, width) | {"norm": norm},
                "output": jax.tree.map(jnp.zeros_like, output) if zero else output,
            }
        )

    def __call__(self, lr: Any) -> optax.GradientTransformationExtraArgs:
        update: Any = functools.partial(self._update, lr)
        return optax.GradientTransformationExtraArgs(self._init, update)

    def _init(self, params: Any) -> Any:
        num = sum(x.size for x in jax.tree.leaves(params))
        return State(
            jnp.zeros((len(DECAYS), num)), jnp.zeros((num, len(self.weights["gru"]["new"]["bias"])))
        )

    def _update(
        self,
        lr: Any,
        grads: Any,
        state: State,
        params: Any,
        *,
        clock: Any = None,
        epoch: Any = 0.0,
        key: jax.Array | None = None,
        **told: Any,
    ) -> tuple[Any, State]:
        flat, unravel = ravel_pytree(params)
        momenta = average(state.momenta, ravel_pytree(grads)[0], jnp.asarray(DECAYS))
        x = features(params, grads, momenta, 0.0 if clock is None else clock.fraction, epoch).T
        gru, first = GRU(state.hidden.shape[1]), jnp.zeros(1, bool)
        hidden, _ = jax.vmap(
            lambda memory, x: gru.apply(self.weights["gru"], memory, x[None], first)
        )(state.hidden, x)
        x = hidden
        for layer in (self.weights["first"], self.weights["second"]):
            x = jax.nn.relu(
                normal(linear(layer, x)) * layer["norm"]["scale"][None]
                + layer["norm"]["bias"][None]
            )
        direction, magnitude, spread = linear(self.weights["output"], x).T
        step = direction * jnp.exp(0.001 * magnitude)
        if key is not None:
            step += spread * self._is_noisy(params) * jax.random.normal(key, step.shape)
        return unravel((-lr * (step - step.mean())).astype(flat.dtype)), State(momenta, hidden)

    def _is_noisy(self, params: Any) -> np.ndarray:
        """1 for a parameter of the policy, else 0. [P]."""
        marks = [any(name in path for name in self.noisy) for path in _paths(params)]
        return np.repeat(np.array(marks, np.float32), [x.size for x in jax.tree.leaves(params)])


def features(params: Any, grads: Any, momenta: jax.Array, fraction: Any, epoch: Any) -> jax.Array:
    """What the network reads of each of P parameters. [19, P].

    Parameter, signs of the momenta (6), logarithms of their sizes (6), sign and logarithm of the
    gradient; then, as they are: the share of the life, of the layers and of the epochs that are
    over, and dormancy.
    """
    sizes = [x.size for x in jax.tree.leaves(params)]
    p, g = ravel_pytree(params)[0][None], ravel_pytree(grads)[0][None]
    log = lambda x: jnp.log(jnp.abs(x) + 1e-13)
    own = normalized(
        jnp.concatenate([p, jnp.sign(momenta), log(momenta), jnp.sign(g), log(g)]), sizes
    )
    depth = np.repeat(np.array(depths(params), np.float32), sizes)
    return jnp.concatenate(
        [own, jnp.stack([jnp.broadcast_to(x, depth.shape) for x in (fraction, depth, epoch, 1.0)])]
    )


def depths(params: Any) -> list[float]:
    """Where each tensor's layer is in its tower, the layers named alike but for an end: from the
    first, 0, to the last, 1.

    Of "value_0", "value_1" and "value_out", 0, 1/2 and 1.
    """
    layers = [path.rpartition("/")[0] or path for path in _paths(params)]
    towers: dict[str, list[str]] = {}
    for layer in dict.fromkeys(layers):
        towers.setdefault(layer.rpartition("_")[0] or layer, []).append(layer)
    place = {
        layer: i / max(len(tower) - 1, 1)
        for tower in towers.values()
        for i, layer in enumerate(tower)
    }
    return [place[layer] for layer in layers]


def _paths(params: Any) -> list[str]:
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
