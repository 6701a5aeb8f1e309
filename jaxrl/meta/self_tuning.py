"""Tuning oneself while living: a learner whose own fields are learnt online, by bootstrapped or
plain meta-gradients.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from jaxrl import returns, tree
from jaxrl.algorithms.base import Optimizer, clip_by_global_norm
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.env import Env
from jaxrl.meta.gradient import heads, meta_gradient, play
from jaxrl.meta.strategies import as_floats
from jaxrl.rules.base import Clock, Metrics
from jaxrl.tree import pytree, static


class Aim(Protocol):
    """What a learner is wanted to be after some updates, as a value to ascend; and the state that
    life goes on from.
    """

    @property
    def num_updates(self) -> int:
        """How many updates more it takes. Static."""
        ...

    def __call__(
        self, key: jax.Array, learner: Any, env: Env, state: Any
    ) -> tuple[jax.Array, Any]: ...


@pytree
class Bootstrap:
    """Bootstrapped meta-gradient (Flennerhag et al., 2022): be now what you will be later, and a
    true step further.

    From the state x_K it takes num_updates - 1 updates more as the learner does, then one as
    `truth`, a learner of the same shape whose objective is the real one. The value is minus
    KL(policy there || policy of x_K) over what x_K sees; no gradient flows through the target, so a
    long view costs the memory of a short one. Life goes on before the true step.
    """

    truth: Any = OnPolicy()
    num_updates: int = static(default=9)

    def __post_init__(self) -> None:
        tree.check_counts(self, "num_updates")

    def __call__(self, key: jax.Array, learner: Any, env: Env, state: Any) -> tuple[jax.Array, Any]:
        key_live, key_true, key_play = jax.random.split(key, 3)
        look = lambda state: jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state.params, state.opt_state)
        )
        if look(jax.eval_shape(self.truth.init, jax.random.key(0), env)) != look(state):
            raise ValueError(
                "Bootstrap(truth=...) takes a step from where the learner is, and their "
                "networks or optimisers differ: make "
                "it of the learner, truth=rl.tree.replace(learner, rule=...)."
            )
        live = lambda state, n: (
            learner.update(jax.random.fold_in(key_live, n), env, state)[0],
            None,
        )
        lived = jax.lax.stop_gradient(
            jax.lax.scan(live, state, jnp.arange(self.num_updates - 1))[0]
        )
        goal = jax.lax.stop_gradient(self.truth.update(key_true, env, lived)[0])
        batch = play(key_play, learner, env, state)
        seen = lambda learner, state: heads(learner, env, state, batch.obs)["policy"]
        return -jnp.mean(seen(self.truth, goal).kl(seen(learner, state))), lived


@pytree
class PolicyGradientObjective:
    """The plain meta-gradient (Xu et al., 2018): the policy gradient of the next rollout, over the
    learner's own value.

    entropy_weight: of the policy's entropy there; without it, what pays at once is to explore no
    more.
    """

    gamma: float = 0.99
    lam: float = 0.95
    entropy_weight: float = 0.0
    num_updates: int = static(default=0)

    def __call__(self, key: jax.Array, learner: Any, env: Env, state: Any) -> tuple[jax.Array, Any]:
        batch = play(key, learner, env, state)
        value, next_value = (
            jax.lax.stop_gradient(heads(learner, env, state, obs)["value"][..., 0])
            for obs in (batch.obs, batch.next_obs)
        )
        estimate = jax.vmap(returns.gae, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)
        advantage = estimate(
            batch.reward, value, next_value, batch.terminated, batch.done, self.gamma, self.lam
        )
        policy = heads(learner, env, state, batch.obs)["policy"]
        return jnp.mean(
            policy.log_prob(batch.action) * advantage + self.entropy_weight * policy.entropy()
        ), state


@pytree
class State:
    """`params` is what is meta-learnt; `learner` the state of the one that lives."""

    params: Any
    opt_state: Any
    clock: Clock
    learner: Any


@pytree
class SelfTuning:
    """An algorithm that tunes itself: after each `num_updates` updates of `learner`, a meta-step of
    the fields `meta_params`.

    It lives once, on one environment, and trains, sweeps and acts as any algorithm. aim:
    `Bootstrap()` or `PolicyGradientObjective()`. lr: of the meta-step, whose gradient is held to `max_grad_norm`. An
    update of it takes `num_updates` of the learner and those of its aim, and a rollout more.
    """

    learner: Any = OnPolicy()
    aim: Aim = Bootstrap()
    lr: float = 1e-4
    max_grad_norm: float = 1.0
    optimizer: Any = Optimizer(optax.adam)
    meta_params: tuple[str, ...] = static(default=())
    num_updates: int = static(default=7)

    def __post_init__(self) -> None:
        tree.check_counts(self, "num_updates")

    @property
    def steps_per_update(self) -> int:
        return (self.num_updates + self.aim.num_updates + 1) * self.learner.steps_per_update

    def init(self, key: jax.Array, env: Env, num_updates: Any = float("inf")) -> State:
        if getattr(self.learner, "memory", None) is not None:
            raise ValueError(
                "A meta-step reads single observations: give SelfTuning a learner without a memory."
            )
        params = as_floats(tree.parts(self.learner, self.meta_params))
        each = self.num_updates + self.aim.num_updates
        state = self.learner.init(key, env, num_updates * each)
        return State(
            params,
            self.optimizer(self.lr).init(params),
            Clock(jnp.int32(0), jnp.float32(num_updates)),
            state,
        )

    def start(self, env: Env) -> Any:
        return self.learner.start(env)

    def act(self, key: jax.Array, env: Env, state: State, memory: Any, obs: Any) -> tuple[Any, Any]:
        return tree.put(self.learner, state.params).act(key, env, state.learner, memory, obs)

    def update(self, key: jax.Array, env: Env, state: State) -> tuple[State, Metrics]:
        key_learn, key_aim = jax.random.split(key)
        aim = lambda learner, lived, told: self.aim(key_aim, learner, env, lived)
        how = self.learner, state.params, env, state.learner, aim, self.num_updates
        (value, (_, told, lived)), grads = meta_gradient(key_learn, *how)
        grads, norm = clip_by_global_norm(jax.tree.map(jnp.negative, grads), self.max_grad_norm)
        changes, opt_state = self.optimizer(self.lr).update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        return State(params, opt_state, state.clock.tick(), lived), told | {
            "aim": value,
            "meta_norm": norm,
        }
