"""The agent that Disco103 was published for: its network, its optimiser and its settings."""

import dataclasses
import itertools
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl.algorithms.base import Constant
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.memories.layers import linear
from jaxrl.networks import Network, Params
from jaxrl.rules.disco import Disco
from jaxrl.tree import pytree


@dataclasses.dataclass(frozen=True)
class ActionModel:
    """A tower for all heads, and for those of each action one step of an LSTM that is told of the
    action (Oh et al., 2025).

    hidden: the tower's widths, its last layer linear. size: of the LSTM, and of a hidden layer
    above it. of_actions: heads that have a part for each action.
    """

    hidden: tuple[int, ...] = (512, 512)
    size: int = 128
    of_actions: tuple[str, ...] = ("z", "q", "aux_pi")

    def __call__(self, heads: Mapping[str, int]) -> Network:
        num, size = heads["logits"], self.size
        plain = [head for head in heads if head not in self.of_actions]

        def init(key: jax.Array, obs: Any) -> Params:
            keys = (jax.random.fold_in(key, i) for i in range(100))
            sizes = (len(_flat(obs)), *self.hidden)
            tower = [_dense(next(keys), *pair) for pair in itertools.pairwise(sizes)]
            own = {head: _dense(next(keys), sizes[-1], heads[head], 0.01) for head in plain}
            root, move = (
                _dense(next(keys), sizes[-1], size),
                _dense(next(keys), num + size, 4 * size),
            )
            pairs = {
                head: [(size, size), (size, heads[head] // num)]
                for head in heads
                if head not in plain
            }
            tops = {
                head: [_dense(next(keys), *pair) for pair in shapes]
                for head, shapes in pairs.items()
            }
            return {"tower": tower, "heads": own, "root": root, "move": move, "tops": tops}

        def apply(params: Params, obs: Any) -> dict[str, jax.Array]:
            x = _stack(params["tower"], _flat(obs)[None])
            cell = linear(params["root"], x)
            told = jnp.concatenate(
                [jnp.eye(num), jnp.broadcast_to(jnp.tanh(cell), (num, size))], -1
            )
            write, new, forget, show = jnp.split(linear(params["move"], told), 4, -1)
            cell = jax.nn.sigmoid(forget + 1.0) * jnp.broadcast_to(
                cell, write.shape
            ) + jax.nn.sigmoid(write) * jnp.tanh(new)
            after = jax.nn.sigmoid(show) * jnp.tanh(cell)
            own = {head: linear(layer, x)[0] for head, layer in params["heads"].items()}
            return own | {
                head: _stack(layers, after).ravel() for head, layers in params["tops"].items()
            }

        return Network(init, apply)


def _flat(obs: Any) -> jax.Array:
    return jnp.concatenate([jnp.ravel(x).astype(jnp.float32) for x in jax.tree.leaves(obs)])


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
    """Adam whose steps, before the learning rate, are held to `most` in size.

    A meta-gradient takes the second moment for a constant, so that no root is differentiated at
    zero.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    most: float = 1.0

    def __call__(self, lr: Any) -> optax.GradientTransformationExtraArgs:
        adam = optax.scale_by_adam(self.b1, self.b2, self.eps)

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            mean = jax.tree.map(lambda m, g: self.b1 * m + (1.0 - self.b1) * g, state.mu, updates)
            _, state = adam.update(jax.lax.stop_gradient(updates), state)
            first, second = 1.0 - self.b1**state.count, 1.0 - self.b2**state.count
            step = lambda m, v: jnp.clip(
                m / first / (jnp.sqrt(v / second) + self.eps), -self.most, self.most
            )
            return jax.tree.map(step, mean, state.nu), state._replace(mu=mean)

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
    slow_rate: float = 0.1,
    **fields: Any,
) -> OnPolicy:
    """DiscoRL's agent with the published rule Disco103 (Oh et al., 2025), whose weights are the
    file at `path`.

    `fields` are those of `OnPolicy`; floats may be traced. Its authors learn from 64 trajectories
    of 29 steps an update, all but a few of them replayed; here all are new. Their learning rate is
    3e-4, and 1e-2 on Catch.
    """
    weights = {
        "value_weight": value_weight,
        "auxiliary_weight": auxiliary_weight,
        "slow_rate": slow_rate,
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
