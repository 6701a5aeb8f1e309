"""Meta-gradients over a sliding window: a population of learners, each at another age, trains on
from meta-step to meta-step.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, tree
from jaxrl.algorithms import on_policy
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.env import Env, Tasks, check_tasks
from jaxrl.errors import check_counts, nearest
from jaxrl.meta.base import MetaLearner
from jaxrl.meta.gradient import check_learner, forward, meta_gradient, play
from jaxrl.meta.inner_loop import InnerLoop
from jaxrl.meta.strategies import as_floats
from jaxrl.networks import MLP
from jaxrl.optimizer import (
    Optimizer,
    OptimizerBuilder,
    apply_gradients,
    at_rate,
    check_gradient_fields,
    clip_by_global_norm,
)
from jaxrl.returns import batched, gae, standardized
from jaxrl.rollout import Transition
from jaxrl.tree import leaf, pytree, static


@pytree
class InnerAgent:
    """A learner in the middle of its training run on a level, and its outer critic.

    The training run ends with update `end`.
    """

    level: Env
    state: on_policy.State
    critic: Any
    critic_opt: optax.OptState
    end: jax.Array


@pytree
class State:
    """`params` are the meta-parameters; `agents` [A, ...] train on from update to update."""

    params: Any
    opt_state: optax.OptState
    clock: Clock
    agents: InnerAgent


@pytree
class OuterCritic:
    """The value function of the outer objective: one for each agent, with another discount.

    The learner's own value function would bias the outer objective (Bonnet et al., 2022). It takes
    `steps` gradient steps on the lambda-returns of each outer rollout.
    """

    lr: float = leaf(1e-2, "[0, inf)")
    gamma: float = leaf(0.99, "[0, 1]")
    lam: float = leaf(0.95, "[0, 1]")
    steps: int = static(default=4)
    network: networks.Builder = static(default=MLP((32,)))
    optimizer: Optimizer | OptimizerBuilder = Optimizer(optax.adam)

    def __post_init__(self) -> None:
        check_gradient_fields(self)

    def init(self, key: jax.Array, obs: Any) -> tuple[Any, Any]:
        """Parameters and the optimiser's state."""
        params = self.network({"value": 1}).init(key, obs)
        return params, self.optimizer(self.lr).init(params)

    def value(self, params: Any, obs: Any) -> jax.Array:
        """The value of each observation. [T, B]."""
        network = self.network({"value": 1})
        return jax.vmap(jax.vmap(lambda obs: network.apply(params, obs)["value"][0]))(obs)

    def advantage(self, params: Any, batch: Transition) -> tuple[jax.Array, jax.Array]:
        """Normalised advantages, and lambda-returns. [T, B]."""
        value, next_value = self.value(params, batch.obs), self.value(params, batch.next_obs)
        raw = batched(gae)(
            batch.reward, value, next_value, batch.terminated, batch.done, self.gamma, self.lam
        )
        return standardized(raw, 1e-8), raw + value

    def learn(
        self, params: Any, opt_state: Any, batch: Transition, target: jax.Array
    ) -> tuple[Any, Any]:
        """Return the parameters and the optimiser's state after all gradient steps."""
        optimizer = at_rate(self.optimizer, self.lr, params)

        def loss(params: Any) -> jax.Array:
            return jnp.mean((self.value(params, batch.obs) - target) ** 2) / 2.0

        def step(now: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
            params, opt_state = now
            grads = jax.grad(loss)(params)
            return apply_gradients(optimizer, grads, opt_state, params, 1.0)[:2], None

        return jax.lax.scan(step, (params, opt_state), None, self.steps)[0]


@pytree
class MetaGradient(MetaLearner):
    """Ascent of the policy gradient that a learner reaches after `num_updates` updates (Oh et al.,
    2020, section 3.3).

    `num_agents` learners train on tasks of their own. Each meta-step they take `num_updates`
    updates and play one rollout more, and mean(log pi * advantage) there is differentiated through
    those updates. A training run that is over is replaced by a new one on a fresh task; the first
    ones end after a uniform share of their lifetime, so that there are agents of all ages at any
    time.

    lr: of the meta-step; the global norm of each agent's gradient is clipped to `max_grad_norm`.
    regularisers: {metric: weight}, metrics of the learner that are added to the objective: LPG's
    paper rewards entropies and penalises large predictions. They keep a short window from
    preferring what pays at once.
    """

    inner: InnerLoop = InnerLoop()
    critic: OuterCritic = OuterCritic()
    lr: float = leaf(1e-3, "[0, inf)")
    max_grad_norm: float = leaf(1.0, "(0, inf]")
    regularisers: dict[str, float] = dataclasses.field(default_factory=lambda: {"entropy": 0.05})
    optimizer: Optimizer | OptimizerBuilder = Optimizer(optax.adam)
    num_agents: int = static(default=16)
    num_updates: int = static(default=5)

    def __post_init__(self) -> None:
        check_counts(self, "num_agents", "num_updates")
        check_gradient_fields(self)

    def init(
        self, key: jax.Array, env: Tasks, num_updates: jax.Array | float = float("inf")
    ) -> State:
        check_tasks(env, self)
        check_learner(self.inner.learner, self)
        key_agents, key_end = jax.random.split(key)
        agents = jax.vmap(lambda key: self._start(key, env))(
            jax.random.split(key_agents, self.num_agents)
        )
        first_end = 1.0 + jnp.floor(jax.random.uniform(key_end, agents.end.shape) * agents.end)
        params = as_floats(self.inner.tuned)
        return State(
            params=params,
            opt_state=self.optimizer(self.lr).init(params),
            clock=start_clock(num_updates),
            agents=tree.replace(agents, end=first_end),
        )

    def update(self, key: jax.Array, env: Tasks, state: State) -> tuple[State, Metrics]:
        """Return the state after one meta-step, and metrics.

        `return` is the mean score of the agents' episodes that ended, `episodes` their number and
        `age` the mean number of updates of an agent.
        """

        def one(now: tuple[jax.Array, InnerAgent]) -> tuple[Any, InnerAgent, Metrics]:
            i, agent = now
            return self._update_agent(jax.random.fold_in(key, i), env, state.params, agent)

        indexed = jnp.arange(self.num_agents), state.agents
        grads, agents, each = jax.lax.map(
            one, indexed, batch_size=self.inner.chunk or self.num_agents
        )
        grads = jax.tree.map(lambda g: -g.mean(0), grads)  # ascent
        optimizer = at_rate(self.optimizer, self.lr, state.params)
        changes, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        non_finite, episodes = each.pop("non_finite").sum(), each.pop("episodes").sum()
        metrics = {name: jnp.nanmean(x) for name, x in each.items()} | {
            "episodes": episodes,
            "non_finite": non_finite,
            "meta_norm": optax.tree.norm(grads),
        }
        return State(params, opt_state, state.clock.tick(), agents), metrics

    def _start(self, key: jax.Array, tasks: Tasks) -> InnerAgent:
        """An agent at the start of its training run."""
        key_level, key_length, key_init, key_critic = jax.random.split(key, 4)
        level = tasks.sample(key_level)
        end = jnp.round(self.inner.quantile(jax.random.uniform(key_length)))
        state = self.inner.learner.init(key_init, level, end)
        obs = jax.tree.map(lambda x: x[0], state.episodes.obs)
        critic, critic_opt = self.critic.init(key_critic, obs)
        return InnerAgent(level, state, critic, critic_opt, end)

    def _update_agent(
        self, key: jax.Array, tasks: Tasks, params: dict[str, Any], agent: InnerAgent
    ) -> tuple[dict[str, Any], InnerAgent, Metrics]:
        """One agent's gradient, the agent after its updates or a new one, and its metrics."""
        key_learn, key_play, key_start = jax.random.split(key, 3)

        def objective(
            learner: OnPolicy, state: Any, metrics: Metrics
        ) -> tuple[jax.Array, tuple[Transition, jax.Array]]:
            batch = play(key_play, learner, agent.level, state)
            advantage, target = jax.lax.stop_gradient(self.critic.advantage(agent.critic, batch))
            policy = forward(learner, agent.level, state, batch.obs)["policy"]
            gain = jnp.mean(policy.log_prob(batch.action) * advantage)
            return gain + self._regularise(metrics), (batch, target)

        (value, (state, metrics, (batch, target))), grads = meta_gradient(
            key_learn,
            self.inner.learner,
            params,
            agent.level,
            agent.state,
            objective,
            self.num_updates,
        )
        critic, critic_opt = self.critic.learn(agent.critic, agent.critic_opt, batch, target)
        finite = tree.is_finite(grads)
        finite = finite & tree.is_finite((state.params, (critic, critic_opt)))
        zeros = jax.tree.map(jnp.zeros_like, grads)
        grads, norm = clip_by_global_norm(tree.where(finite, grads, zeros), self.max_grad_norm)
        after = InnerAgent(agent.level, state, critic, critic_opt, agent.end)
        over = ~finite | (state.clock.n >= agent.end)
        score = tasks.score(agent.level, metrics["return"])
        return (
            grads,
            tree.where(over, self._start(key_start, tasks), after),
            {
                "return": jnp.where(metrics["episodes"] > 0, score, jnp.nan),
                "age": jnp.float32(state.clock.n),
                "episodes": metrics["episodes"],
                "non_finite": ~finite,
                "objective": value,
                "grad_norm": norm,
            }
            | {name: metrics[name] for name in self.regularisers},
        )

    def _regularise(self, metrics: Metrics) -> Any:
        """The weighted sum of the regularisers. []."""
        if unknown := [name for name in self.regularisers if name not in metrics]:
            raise ValueError(
                f"the learner has no metric {unknown[0]!r} to regularise; "
                f"{nearest(unknown[0], metrics)}."
            )
        return sum(weight * metrics[name] for name, weight in self.regularisers.items())
