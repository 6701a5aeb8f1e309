"""Self-tuning: a learner's fields are meta-learned within its one training run, by bootstrapped or
plain meta-gradients.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import tree
from jaxrl.algorithms import on_policy
from jaxrl.algorithms.base import Algorithm, NetworkAgent
from jaxrl.algorithms.loop import run_updates
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.env import Env
from jaxrl.errors import check_counts, not_defined
from jaxrl.meta.gradient import check_learner, forward, meta_gradient, play
from jaxrl.meta.strategies import as_floats
from jaxrl.optimizer import (
    Optimizer,
    OptimizerBuilder,
    apply_gradients,
    at_rate,
    check_gradient_fields,
)
from jaxrl.returns import batched, gae
from jaxrl.rollout import Policy
from jaxrl.tree import leaf, pytree, static


class MetaObjective:
    """Base class of meta-objectives: a pytree that scores a learner after some updates.

    num_updates: updates of the learner that an evaluation of the objective takes, static.
    """

    num_updates: int

    def __call__(
        self, key: jax.Array, learner: OnPolicy, env: Env, state: Any
    ) -> tuple[jax.Array, Any]:
        """The value to ascend [], and the learner's state to continue from."""
        raise not_defined(self, MetaObjective.__call__)


@pytree
class Bootstrap(MetaObjective):
    """Bootstrapped meta-gradient (Flennerhag et al., 2022, section 4): the distance to a target
    that the learner itself reaches later.

    From the state x_K the target takes num_updates - 1 more updates of the learner, then one of
    `target_learner`, a learner of the same shapes with the true objective. The value is
    -KL(target's policy || policy of x_K), averaged over the observations of a rollout from x_K. No
    gradient flows through the target, so a long horizon costs the memory of a short one. Training
    continues from the state before the target learner's update.
    """

    target_learner: OnPolicy = OnPolicy()
    num_updates: int = static(default=9)

    def __post_init__(self) -> None:
        check_counts(self, "num_updates")

    def __call__(
        self, key: jax.Array, learner: OnPolicy, env: Env, state: Any
    ) -> tuple[jax.Array, Any]:
        key_updates, key_target, key_play = jax.random.split(key, 3)
        target = jax.eval_shape(self.target_learner.init, jax.random.key(0), env)
        if _shapes(target) != _shapes(state):
            raise ValueError(
                "Bootstrap(target_learner=...) updates the learner's own parameters, and their "
                "networks or optimisers differ: make it of the learner, "
                "target_learner=rl.tree.replace(learner, rule=...)."
            )
        later, _ = run_updates(key_updates, learner, env, state, self.num_updates - 1)
        later = jax.lax.stop_gradient(later)
        goal = jax.lax.stop_gradient(self.target_learner.update(key_target, env, later)[0])
        obs = play(key_play, learner, env, state).obs
        target_policy = forward(self.target_learner, env, goal, obs)["policy"]
        return -jnp.mean(target_policy.kl(forward(learner, env, state, obs)["policy"])), later


def _shapes(state: Any) -> Any:
    """The shapes of a learner's parameters and its optimiser's state."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state.params, state.opt_state)
    )


@pytree
class PolicyGradientObjective(MetaObjective):
    """The plain meta-gradient (Xu et al., 2018): the policy gradient of the next rollout, with the
    learner's own value as its baseline.

    entropy_weight: of the policy's entropy there; at 0, less exploration pays at once.
    """

    gamma: float = leaf(0.99, "[0, 1]")
    lam: float = leaf(0.95, "[0, 1]")
    entropy_weight: float = leaf(0.0, "[0, inf)")
    num_updates: int = static(default=0)

    def __call__(
        self, key: jax.Array, learner: OnPolicy, env: Env, state: Any
    ) -> tuple[jax.Array, Any]:
        batch = play(key, learner, env, state)
        value, next_value = (
            jax.lax.stop_gradient(forward(learner, env, state, obs)["value"][..., 0])
            for obs in (batch.obs, batch.next_obs)
        )
        advantage = batched(gae)(
            batch.reward, value, next_value, batch.terminated, batch.done, self.gamma, self.lam
        )
        policy = forward(learner, env, state, batch.obs)["policy"]
        gain = policy.log_prob(batch.action) * advantage + self.entropy_weight * policy.entropy()
        return jnp.mean(gain), state


@pytree
class State:
    """`params` are the meta-parameters; `learner` is the state of the learner they tune."""

    params: Any
    opt_state: optax.OptState
    clock: Clock
    learner: on_policy.State


@pytree
class Agent:
    """The meta-parameters, and the learner's agent."""

    params: Any
    learner: NetworkAgent


@pytree
class SelfTuning(Algorithm):
    """An algorithm that tunes fields of its learner: after each `num_updates` updates of `learner`,
    a meta-step of the fields `meta_params`.

    It trains one learner on one environment, and sweeps and acts as any algorithm. meta_objective:
    `Bootstrap()` or `PolicyGradientObjective()`. lr: of the meta-step; its gradient's norm is
    clipped to `max_grad_norm`. One of its updates takes `num_updates` of the learner, those of
    the meta-objective, and one rollout more.
    """

    learner: OnPolicy = OnPolicy()
    meta_objective: MetaObjective = Bootstrap()
    lr: float = leaf(1e-4, "[0, inf)")
    max_grad_norm: float = leaf(1.0, "(0, inf]")
    optimizer: Optimizer | OptimizerBuilder = Optimizer(optax.adam)
    meta_params: tuple[str, ...] = static(default=())
    num_updates: int = static(default=7)

    def __post_init__(self) -> None:
        check_counts(self, "num_updates")
        check_gradient_fields(self)

    @property
    def name(self) -> str:
        return f"self-tuning {self.learner.name}".strip()

    @property
    def steps_per_update(self) -> int:
        rollouts = self.num_updates + self.meta_objective.num_updates + 1
        return rollouts * self.learner.steps_per_update

    def init(
        self, key: jax.Array, env: Env, num_updates: jax.Array | float = float("inf")
    ) -> State:
        learner = check_learner(self.learner, self)
        params = as_floats(tree.parts(learner, self.meta_params))
        each = self.num_updates + self.meta_objective.num_updates
        return State(
            params=params,
            opt_state=self.optimizer(self.lr).init(params),
            clock=start_clock(num_updates),
            learner=learner.init(key, env, num_updates * each),
        )

    def agent(self, state: State) -> Agent:
        return Agent(state.params, self.learner.agent(state.learner))

    def policy(self, env: Env, agent: Agent, greedy: bool) -> Policy:
        return tree.put(self.learner, agent.params).policy(env, agent.learner, greedy)

    def update(self, key: jax.Array, env: Env, state: State) -> tuple[State, Metrics]:
        """Return the state after one meta-step, and the learner's metrics, with the value of the
        `meta_objective` and `meta_norm`, the global norm of its gradient.
        """
        key_learn, key_objective = jax.random.split(key)

        def objective(learner: OnPolicy, state: Any, metrics: Metrics) -> tuple[jax.Array, Any]:
            return self.meta_objective(key_objective, learner, env, state)

        (value, (_, metrics, learner)), grads = meta_gradient(
            key_learn,
            self.learner,
            state.params,
            env,
            state.learner,
            objective,
            self.num_updates,
        )
        descent = jax.tree.map(jnp.negative, grads)
        params, opt_state, norm = apply_gradients(
            at_rate(self.optimizer, self.lr, state.params),
            descent,
            state.opt_state,
            state.params,
            self.max_grad_norm,
        )
        new_state = State(params, opt_state, state.clock.tick(), learner)
        return new_state, metrics | {"meta_objective": value, "meta_norm": norm}
