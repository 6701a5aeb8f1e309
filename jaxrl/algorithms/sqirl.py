"""Shallow Q-iteration via reinforcement learning: random exploration, then a few steps of fitted
Q-iteration.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import masks, networks, returns
from jaxrl.algorithms.base import apply_gradients, num_actions
from jaxrl.algorithms.learner import Batch, Learnt, read, read_next
from jaxrl.algorithms.off_policy import OffPolicy
from jaxrl.algorithms.q_learning import ADAM, CONSTANT, NETWORK, priority_of
from jaxrl.env import Env
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock, Metrics
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static


@pytree
class SQIRL:
    """Plays greedily up to a time step and at random from there on; learns from what was random
    (Laidlaw et al., 2024).

    Algorithm 1: the value Q_1 of the random policy is regressed on returns, then Q_j on reward +
    gamma max Q_(j-1), up to `depth`; the greedy policy of the last acts at this time step; then the
    next one. The time step goes from 0 to the environment's last over `fraction` of the life, and
    stays at 0 in a life without end.

    Simplified: one network serves all time steps, where the paper keeps one for each: values of a
    discounted life do not depend on the time. Its `depth` sets of heads learn at once, from a
    buffer, as in the authors' own program. A return that was cut off goes on with Q_1.
    """

    lr: float = 1e-3
    schedule: Any = CONSTANT
    gamma: float = 0.99
    fraction: float = 0.9
    max_grad_norm: float = 10.0
    optimizer: Any = ADAM
    network: networks.Builder = static(default=NETWORK)
    depth: int = static(default=2)

    action_spaces = (Discrete,)

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(
                f"depth={self.depth}: Q_1 is the random policy's value and the first; write "
                "depth=1 or more."
            )

    def init(self, key: jax.Array, env: Env, obs: Any) -> Learnt:
        params = self._network(env).init(key, obs)
        return Learnt(params, (), self.optimizer(self.lr).init(params), jnp.int32(0))

    def start(self, env: Env) -> jax.Array:
        """Its memory is the time."""
        return jnp.int32(0)

    def explore(
        self, key: jax.Array, env: Env, params: Any, memory: Any, obs: Any, clock: Clock
    ) -> tuple[Any, Any]:
        following, greedy = self.act(key, env, params, memory, obs)
        at_random = env.action_space.sample(key, masks.mask_of(obs))
        return following, jnp.where(memory >= self._frontier(env, clock), at_random, greedy)

    def act(self, key: jax.Array, env: Env, params: Any, memory: Any, obs: Any) -> tuple[Any, Any]:
        memory, values = self.values(env, params, memory, obs)
        return memory, jnp.argmax(values)

    def values(self, env: Env, params: Any, memory: Any, obs: Any) -> tuple[Any, jax.Array]:
        """The last value of each action at one observation, -inf where it is masked: (memory,
        [n]).
        """
        obs = jax.tree.map(lambda x: jnp.asarray(x)[None], obs)
        value, allowed = self._values(
            env, self._network(env).apply(params, (), obs, jnp.zeros(1, bool))[1]
        )
        return memory + 1, jnp.where(allowed, value[:, -1], -jnp.inf)[0]

    def note(
        self, env: Env, params: Any, batch: Transition, clock: Clock
    ) -> tuple[jax.Array, jax.Array]:
        """Each step's return, and whether it and what came after was random. [T, B], [T, B]."""
        look = lambda obs: self._network(env).apply(
            params, (), obs, jnp.zeros(len(batch.reward), bool)
        )[1]
        value, allowed = self._values(env, jax.vmap(look, in_axes=1, out_axes=1)(batch.next_obs))
        next_value = jnp.sum(value[..., 0, :] * allowed, -1) / allowed.sum(-1)
        estimate = jax.vmap(returns.lambda_returns, in_axes=(1, 1, 1, 1, None, None), out_axes=1)
        total = estimate(batch.reward, next_value, batch.terminated, batch.done, self.gamma, 1.0)
        return total, batch.length > self._frontier(env, clock)

    def learn(
        self, key: jax.Array, env: Env, learnt: Learnt, batch: Batch, clock: Clock
    ) -> tuple[Learnt, jax.Array, Metrics]:
        network, (total, random) = self._network(env), batch.note
        weight = batch.weight * random
        following, allowed = self._values(env, read_next(network, learnt.params, batch))
        best = jnp.where(allowed[..., None, :], following, -jnp.inf).max(-1)[..., :-1]
        target = jnp.concatenate(
            [total[..., None], batch.reward[..., None] + batch.discount[..., None] * best], -1
        )

        def loss_of(params: Any) -> tuple[jax.Array, jax.Array]:
            value, _ = self._values(env, read(network, params, batch))
            taken = jnp.take_along_axis(value, batch.action[..., None, None], -1)[..., 0]
            error = target - taken
            loss = jnp.sum(weight * 0.5 * jnp.mean(error**2, -1))
            return loss / jnp.maximum(weight.sum(), 1e-8), jnp.abs(error).mean(-1)

        (loss, error), grads = jax.value_and_grad(loss_of, has_aux=True)(learnt.params)
        optimizer = self.optimizer(self.lr * self.schedule(clock))
        params, opt_state, norm = apply_gradients(
            optimizer, grads, learnt.opt_state, learnt.params, self.max_grad_norm, clock=clock
        )
        metrics = {
            "loss": loss,
            "grad_norm": norm,
            "error": error.mean(),
            "value": following[..., -1, :].max(-1).mean(),
        }
        metrics |= {"frontier": self._frontier(env, clock)}
        return (
            Learnt(params, (), opt_state, learnt.step + 1),
            priority_of(error * (weight > 0)),
            metrics,
        )

    def _network(self, env: Env) -> networks.Recurrent:
        return networks.build(self.network, None, {"q": self.depth * num_actions(env)})

    def _values(self, env: Env, out: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Q_1 to Q_depth, and which actions are allowed. [..., depth, n], [..., n]."""
        value = out["q"].reshape(*out["q"].shape[:-1], self.depth, num_actions(env))
        free = jnp.zeros(value[..., 0, :].shape)
        return value, masks.allow(free, out.get("mask")) == 0.0

    def _frontier(self, env: Env, clock: Clock) -> jax.Array:
        """The first time step that is played at random. []."""
        return jnp.minimum(clock.fraction / jnp.maximum(self.fraction, 1e-8), 1.0) * env.max_steps


def sqirl(
    *,
    lr: float = 1e-3,
    gamma: float = 0.99,
    fraction: float = 0.9,
    max_grad_norm: float = 10.0,
    depth: int = 2,
    schedule: Any = CONSTANT,
    optimizer: Any = ADAM,
    network: networks.Builder = NETWORK,
    memory: None = None,
    **fields: Any,
) -> OffPolicy:
    """Random exploration, then `depth` steps of fitted Q-iteration, one time step after the other
    (Laidlaw et al., 2024).

    `fields` are those of `OffPolicy`; floats may be traced.
    """
    if memory is not None:
        raise TypeError(
            f"SQIRL has no memory, and got {memory}: write memory=None, or take `r2d2`, which "
            "has one."
        )
    learner = SQIRL(lr, schedule, gamma, fraction, max_grad_norm, optimizer, network, depth)
    own: dict[str, Any] = {"learner": learner, "num_envs": 8, "num_steps": 64, "updates": 64}
    return OffPolicy(**own | fields)
