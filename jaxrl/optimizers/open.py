"""OPEN, a learned optimiser for reinforcement learning: recurrent and stochastic, per parameter."""

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
    """Optimiser state of P parameters.

    momenta: moving averages of the gradient, [6, P].
    hidden: the GRU state of each parameter, [P, size].
    """

    momenta: jax.Array
    hidden: jax.Array


@pytree
class OPEN:
    """Learned optimisation for plasticity, exploration and non-stationarity (Goldie et al., 2024).

    A GRU and two layers, applied to each parameter. The 19 inputs are the parameter, the sign and
    logarithm of its gradient and of six momenta, normalised over its tensor; the fraction of the
    training run that is over, the relative depth of its layer, the fraction of the update's epochs
    that are over; and dormancy, which is 1 here (a neuron as active as its layer), as activations
    are not available. With outputs a, b and c, step = lr * (a exp(0.001 b) + c noise), less its
    mean over all parameters. The paper's lr is 0.001.

    `update` takes the extra arguments `clock`, `epoch` and `key`, as `OnPolicy` passes them.
    Without a clock the fraction of training is 0; without a key there is no noise. Noise is added
    only to parameters of the policy: those with one of the names `noisy` in their path.

    weights: "gru", the layers "first", "second" and "output", and the scale and bias of the layer
      norm after the first two. Untrained weights: `OPEN.random(key)`.
    """

    weights: dict[str, Any]
    noisy: tuple[str, ...] = static(default=("logits", "loc", "log_std", "spread"))

    @classmethod
    def random(
        cls, key: jax.Array, size: int = 8, width: int = 16, *, zero: bool = False
    ) -> "OPEN":
        """Random weights of variance 1 / inputs.

        zero: an output layer of zeros, with which parameters do not change.
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

    def __call__(self, lr: jax.Array | float) -> optax.GradientTransformationExtraArgs:
        """The optax transformation with learning rate `lr`."""

        def update(
            updates: Any, state: Any, params: Any = None, **extra_args: Any
        ) -> tuple[Any, Any]:
            return self._update(lr, updates, state, params, **extra_args)

        return optax.GradientTransformationExtraArgs(self._init, update)

    def _init(self, params: Any) -> Any:
        num_params = sum(x.size for x in jax.tree.leaves(params))
        size = len(self.weights["gru"]["new"]["bias"])
        return State(jnp.zeros((len(DECAYS), num_params)), jnp.zeros((num_params, size)))

    def _update(
        self,
        lr: jax.Array | float,
        grads: Any,
        state: State,
        params: Any,
        *,
        clock: Any = None,
        epoch: jax.Array | float = 0.0,
        key: jax.Array | None = None,
        **extra_args: Any,
    ) -> tuple[Any, State]:
        flat, unravel = ravel_pytree(params)
        momenta = average(state.momenta, ravel_pytree(grads)[0], jnp.asarray(DECAYS))
        x = features(params, grads, momenta, 0.0 if clock is None else clock.fraction, epoch).T
        gru, first = GRU(state.hidden.shape[1]), jnp.zeros(1, bool)
        hidden, _ = jax.vmap(
            lambda hidden, x: gru.apply(self.weights["gru"], hidden, x[None], first)
        )(state.hidden, x)
        x = hidden
        for layer in (self.weights["first"], self.weights["second"]):
            x = jax.nn.relu(
                normal(linear(layer, x)) * layer["norm"]["scale"][None]
                + layer["norm"]["bias"][None]
            )
        direction, magnitude, noise_scale = linear(self.weights["output"], x).T
        step = direction * jnp.exp(0.001 * magnitude)
        if key is not None:
            step += noise_scale * self._is_noisy(params) * jax.random.normal(key, step.shape)
        return unravel((-lr * (step - step.mean())).astype(flat.dtype)), State(momenta, hidden)

    def _is_noisy(self, params: Any) -> np.ndarray:
        """1 for a parameter of the policy, else 0. [P]."""
        is_noisy = [any(name in path for name in self.noisy) for path in _paths(params)]
        sizes = [x.size for x in jax.tree.leaves(params)]
        return np.repeat(np.array(is_noisy, np.float32), sizes)


def features(
    params: Any,
    grads: Any,
    momenta: jax.Array,
    fraction: jax.Array | float,
    epoch: jax.Array | float,
) -> jax.Array:
    """Inputs of the network for each of P parameters. [19, P].

    Normalised: the parameter, signs of the momenta (6), logarithms of their magnitudes (6), sign
    and log-magnitude of the gradient. Not normalised: the fraction of the training run that is
    over, the relative depth of the layer, the fraction of epochs that are over, and dormancy.
    """
    sizes = [x.size for x in jax.tree.leaves(params)]
    p, g = ravel_pytree(params)[0][None], ravel_pytree(grads)[0][None]

    def log(x: jax.Array) -> jax.Array:
        return jnp.log(jnp.abs(x) + 1e-13)

    local = normalized(
        jnp.concatenate([p, jnp.sign(momenta), log(momenta), jnp.sign(g), log(g)]), sizes
    )
    depth = np.repeat(np.array(depths(params), np.float32), sizes)
    shared = jnp.stack([jnp.broadcast_to(x, depth.shape) for x in (fraction, depth, epoch, 1.0)])
    return jnp.concatenate([local, shared])


def depths(params: Any) -> list[float]:
    """Relative depth of each tensor's layer in its tower, 0 for the first and 1 for the last.

    A tower is the layers with a common prefix of their names: "value_0", "value_1" and "value_out"
    have depths 0, 1/2 and 1.
    """
    layers = [path.rpartition("/")[0] or path for path in _paths(params)]
    towers: dict[str, list[str]] = {}
    for layer in dict.fromkeys(layers):
        towers.setdefault(layer.rpartition("_")[0] or layer, []).append(layer)
    depth = {
        layer: i / max(len(tower) - 1, 1)
        for tower in towers.values()
        for i, layer in enumerate(tower)
    }
    return [depth[layer] for layer in layers]


def _paths(params: Any) -> list[str]:
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
