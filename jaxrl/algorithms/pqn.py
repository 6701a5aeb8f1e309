"""Q-learning from what was just played, by many environments side by side: PQN."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl.algorithms.base import Linear
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.networks import MLP
from jaxrl.rules.exploration import EpsilonGreedy
from jaxrl.rules.q_lambda import QLambda
from jaxrl.tree import pytree


@pytree
class RAdam:
    """Rectified Adam (Liu et al., 2020, algorithm 2): Adam once the variance of its step is
    tractable, momentum before.

    The numbers are those of `optax.radam`, through which a meta-gradient is NaN: its factor is a
    root of less than zero in the first steps, where it isn't used.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    eps_root: float = 1e-16
    threshold: float = 5.0

    def __call__(self, lr: Any) -> optax.GradientTransformationExtraArgs:
        adam = optax.scale_by_adam(self.b1, self.b2, self.eps, self.eps_root)

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            scaled, state = adam.update(updates, state, params)
            adapts, factor = self._factor(state.count)
            choose = lambda adapted, mean: jnp.where(
                adapts, factor * adapted, mean / (1.0 - self.b1**state.count)
            )
            return jax.tree.map(choose, scaled, state.mu), state

        return optax.chain(
            optax.GradientTransformation(adam.init, update), optax.scale_by_learning_rate(lr)
        )

    def _factor(self, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Whether the variance is tractable after this step, and what Adam's step is then
        multiplied by. [], [].
        """
        most, power = 2.0 / (1.0 - self.b2) - 1.0, self.b2**step
        length = most - 2.0 * step * power / (1.0 - power)
        adapts = length >= self.threshold
        safe = jnp.where(adapts, length, 5.0)
        return adapts, jnp.sqrt(
            (safe - 4.0) * (safe - 2.0) * most / ((most - 4.0) * (most - 2.0) * safe)
        )


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
    """Parallelised Q-learning (Gallici et al., 2024): no buffer, no slow copy. `fields` are those
    of `OnPolicy`.

    The defaults are the authors' for MinAtar, with a quarter of their environments; floats may be
    traced.
    """
    own: dict[str, Any] = {
        "rule": QLambda(
            gamma, lam, EpsilonGreedy(epsilon_start, epsilon_end, epsilon_fraction), reward_scale
        ),
        "lr": lr,
        "schedule": Linear(0.0),
        "max_grad_norm": 10.0,
        "optimizer": RAdam(),
        "num_envs": 32,
        "num_steps": 32,
        "epochs": 2,
        "minibatches": 16,
        "network": MLP((128, 128), jax.nn.relu, shared=True, layer_norm=True),
    }
    return OnPolicy(**own | fields)
