"""Q-learning from what was just played, by many environments side by side: PQN."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl.algorithms.base import Linear, Optimizer
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.networks import MLP
from jaxrl.rules.exploration import EpsilonGreedy
from jaxrl.rules.q_lambda import QLambda


def radam(
    lr: Any, b1: Any = 0.9, b2: Any = 0.999, eps: Any = 1e-8, eps_root: Any = 1e-16, threshold: Any = 5.0
) -> optax.GradientTransformationExtraArgs:
    """Rectified Adam (Liu et al., 2020, algorithm 2): Adam once the variance of its step is tractable, momentum before.

    The numbers are those of `optax.radam`, through which a meta-gradient is NaN: its factor is a root of less than zero in
    the first steps, where it isn't used.
    """
    adam = optax.scale_by_adam(b1, b2, eps, eps_root)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        scaled, state = adam.update(updates, state, params)
        horizon = 2.0 / (1.0 - b2) - 1.0
        power = b2**state.count
        length = horizon - 2.0 * state.count * power / (1.0 - power)
        tractable = length >= threshold
        safe = jnp.where(tractable, length, 5.0)
        factor = jnp.sqrt((safe - 4.0) * (safe - 2.0) * horizon / ((horizon - 4.0) * (horizon - 2.0) * safe))
        choose = lambda adapted, mean: jnp.where(tractable, factor * adapted, mean / (1.0 - b1**state.count))
        return jax.tree.map(choose, scaled, state.mu), state

    return optax.chain(optax.GradientTransformation(adam.init, update), optax.scale_by_learning_rate(lr))


def pqn(
    *,
    lr: float = 5e-4,
    gamma: float = 0.99,
    lam: float = 0.65,
    epsilon_start: float = 1.0,
    epsilon_end: float = 0.05,
    epsilon_fraction: float = 0.1,
    reward_scale: float = 1.0,
    **fields: Any,
) -> OnPolicy:
    """Parallelised Q-learning (Gallici et al., 2024): no buffer, no slow copy. `fields` are those of `OnPolicy`.

    The defaults are the authors' for MinAtar, with a quarter of their environments; floats may be traced.
    """
    own: dict[str, Any] = {
        "rule": QLambda(gamma, lam, EpsilonGreedy(epsilon_start, epsilon_end, epsilon_fraction), reward_scale),
        "lr": lr,
        "schedule": Linear(0.0),
        "max_grad_norm": 10.0,
        "optimizer": Optimizer(radam),
        "num_envs": 32,
        "num_steps": 32,
        "epochs": 2,
        "minibatches": 16,
        "network": MLP((128, 128), jax.nn.relu, shared=True, layer_norm=True),
    }
    return OnPolicy(**own | fields)
