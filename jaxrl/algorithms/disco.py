"""The agent that Disco103 was published for: its network, its optimiser and its settings."""

import dataclasses
import itertools
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.memories.layers import linear
from jaxrl.networks import Network, Params
from jaxrl.rules.disco import Disco
from jaxrl.schedules import Constant
from jaxrl.tree import flat, leaf, pytree


@dataclasses.dataclass(frozen=True)
class ActionModel:
    """The agent network of Oh et al. (2025).

    An MLP for all heads, and for those of each action one step of an LSTM that reads the action.

    hidden: the widths of the MLP, the last layer linear. size: of the LSTM, and of a hidden layer
    above it. of_actions: the heads that have outputs for each action.
    """

    hidden: tuple[int, ...] = (512, 512)
    size: int = 128
    of_actions: tuple[str, ...] = ("z", "q", "aux_pi")

    def __call__(self, heads: Mapping[str, int]) -> Network:
        num, size = heads["logits"], self.size
        of_state = [head for head in heads if head not in self.of_actions]
        of_actions = [head for head in heads if head in self.of_actions]

        def init(key: jax.Array, obs: Any) -> Params:
            keys = (jax.random.fold_in(key, i) for i in range(100))
            sizes = (len(flat(obs)), *self.hidden)
            params: Params = {}
            params["tower"] = [_dense(next(keys), *pair) for pair in itertools.pairwise(sizes)]
            params["heads"] = {
                head: _dense(next(keys), sizes[-1], heads[head], 0.01) for head in of_state
            }
            params["root"] = _dense(next(keys), sizes[-1], size)
            params["lstm"] = _dense(next(keys), num + size, 4 * size)
            params["top_heads"] = {
                head: [
                    _dense(next(keys), size, size),
                    _dense(next(keys), size, heads[head] // num),
                ]
                for head in of_actions
            }
            return params

        def apply(params: Params, obs: Any) -> dict[str, jax.Array]:
            x = _stack(params["tower"], flat(obs)[None])
            cell = linear(params["root"], x)
            hidden = jnp.broadcast_to(jnp.tanh(cell), (num, size))
            inputs = jnp.concatenate([jnp.eye(num), hidden], -1)
            write, new, forget, output = jnp.split(linear(params["lstm"], inputs), 4, -1)
            kept = jax.nn.sigmoid(forget + 1.0) * jnp.broadcast_to(cell, write.shape)
            cell = kept + jax.nn.sigmoid(write) * jnp.tanh(new)
            hidden = jax.nn.sigmoid(output) * jnp.tanh(cell)
            state_outputs = {head: linear(layer, x)[0] for head, layer in params["heads"].items()}
            action_outputs = {
                head: _stack(layers, hidden).ravel() for head, layers in params["top_heads"].items()
            }
            return state_outputs | action_outputs

        return Network(init, apply)


def _dense(key: jax.Array, inputs: int, outputs: int, scale: float | None = None) -> Params:
    weights = jax.random.truncated_normal(key, -2.0, 2.0, (inputs, outputs))
    return {
        "kernel": weights * (inputs**-0.5 if scale is None else scale),
        "bias": jnp.zeros(outputs),
    }


def _stack(layers: list[Params], x: jax.Array) -> jax.Array:
    """Layers with ReLUs between them. [N, n]."""
    for layer in layers[:-1]:
        x = jax.nn.relu(linear(layer, x))
    return linear(layers[-1], x)


@pytree
class ClippedAdam:
    """Adam with updates clipped elementwise to [-max_update, max_update], before the learning rate.

    A meta-gradient treats the second moment as a constant, so that no square root is differentiated
    at 0.
    """

    b1: float = leaf(0.9, "[0, 1)")
    b2: float = leaf(0.999, "[0, 1)")
    eps: float = leaf(1e-8, "[0, inf)")
    max_update: float = leaf(1.0, "(0, inf]")

    def __call__(self, lr: Any) -> optax.GradientTransformationExtraArgs:
        adam = optax.scale_by_adam(self.b1, self.b2, self.eps)

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            mean = jax.tree.map(lambda m, g: self.b1 * m + (1.0 - self.b1) * g, state.mu, updates)
            _, state = adam.update(jax.lax.stop_gradient(updates), state)
            first, second = 1.0 - self.b1**state.count, 1.0 - self.b2**state.count

            def clipped(m: jax.Array, v: jax.Array) -> jax.Array:
                adam_update = m / first / (jnp.sqrt(v / second) + self.eps)
                return jnp.clip(adam_update, -self.max_update, self.max_update)

            return jax.tree.map(clipped, mean, state.nu), state._replace(mu=mean)

        return optax.chain(
            optax.GradientTransformation(adam.init, update), optax.scale_by_learning_rate(lr)
        )


def disco103(
    path: str | os.PathLike[str],
    *,
    lr: float = 3e-4,
    gamma: float = 0.997,
    lam: float = 0.95,
    value_weight: float = 0.2,
    auxiliary_weight: float = 1.0,
    tau: float = 0.1,
    **fields: Any,
) -> OnPolicy:
    """DiscoRL's agent with the published rule Disco103 (Oh et al., 2025).

    The weights are those of the file at `path`. `fields` are those of `OnPolicy`; floats may be
    traced. Its authors learn from 64 trajectories of 29 steps an update, all but a few of them
    replayed; here all are new. Their learning rate is 3e-4, and 1e-2 on Catch.
    """
    weights = {
        "value_weight": value_weight,
        "auxiliary_weight": auxiliary_weight,
        "tau": tau,
    }
    own: dict[str, Any] = {
        **{
            "rule": Disco.load(path, gamma=gamma, lam=lam, **weights),
            "lr": lr,
            "schedule": Constant(),
        },
        **{"optimizer": ClippedAdam(), "max_grad_norm": float("inf"), "network": ActionModel()},
        **{"num_envs": 64, "num_steps": 29, "epochs": 1, "minibatches": 1},
    }
    return OnPolicy(**own | fields)
