"""Meta-learning by gradient over a sliding window: agents live on from meta-step to meta-step, each
at an age of its own.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, returns, tree
from jaxrl.algorithms.base import Optimizer, apply_gradients, clip_by_global_norm
from jaxrl.env import Tasks, check_tasks
from jaxrl.meta.gradient import heads, meta_gradient, play
from jaxrl.meta.inner_loop import InnerLoop
from jaxrl.meta.strategies import as_floats
from jaxrl.networks import MLP
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock, Metrics
from jaxrl.tree import pytree, static


@pytree
class Agent:
    """A learner in the middle of its life on a level, and what the outer critic thinks of it.

    It ends with update `end`.
    """

    level: Any
    state: Any
    critic: Any
    critic_opt: Any
    end: jax.Array


@pytree
class State:
    """`params` is what is meta-learnt; `agents` [A, ...] live on."""

    params: Any
    opt_state: Any
    clock: Clock
    agents: Agent


@pytree
class OuterCritic:
    """What advantages of the outer objective are over: a value function of its own, for each agent,
    with its own discount.

    One that were shared with the learner would be biased by it (Bonnet et al., 2022). It takes
    `steps` descent steps on the lambda-returns of each outer rollout.
    """

    lr: float = 1e-2
    gamma: float = 0.99
    lam: float = 0.95
    steps: int = static(default=4)
    network: networks.Builder = static(default=MLP((32,)))
    optimizer: Any = Optimizer(optax.adam)

    def init(self, key: jax.Array, obs: Any) -> tuple[Any, Any]:
        params = self.network({"value": 1}).init(key, obs)
        return params, self.optimizer(self.lr).init(params)

    def value(self, params: Any, obs: Any) -> jax.Array:
        """[T, B]."""
        read = lambda obs: self.network({"value": 1}).apply(params, obs)["value"][0]
        return jax.vmap(jax.vmap(read))(obs)

    def advantage(self, params: Any, batch: Transition) -> tuple[jax.Array, jax.Array]:
        """Normalised advantages, and what the value should have been. [T, B]."""
        value, next_value = self.value(params, batch.obs), self.value(params, batch.next_obs)
        estimate = jax.vmap(returns.gae, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)
        raw = estimate(
            batch.reward, value, next_value, batch.terminated, batch.done, self.gamma, self.lam
        )
        return (raw - raw.mean()) * jax.lax.rsqrt(raw.var() + 1e-8), raw + value

    def learn(
        self, params: Any, opt_state: Any, batch: Transition, target: jax.Array
    ) -> tuple[Any, Any]:
        loss = lambda params: jnp.mean((self.value(params, batch.obs) - target) ** 2) / 2.0

        def step(now: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
            return apply_gradients(
                self.optimizer(self.lr), jax.grad(loss)(now[0]), now[1], now[0], 1.0
            )[:2], None

        return jax.lax.scan(step, (params, opt_state), None, self.steps)[0]


@pytree
class MetaGradient:
    """Ascends the policy gradient of what a learner becomes after `num_updates` updates (Oh et al.,
    2020, section 3.3).

    `num_agents` learners live on tasks of their own. Each meta-step they live on for `num_updates`,
    play one rollout more, and mean(log pi * advantage) there is differentiated through those
    updates. A life that is over begins anew on a fresh task; first lives end after a uniform share
    of their length, so that at any time agents of all ages are there.

    lr: of the meta-step, Adam's; each agent's gradient is held to `max_grad_norm`. regularisers:
    what of the learner's own metrics is added to the objective, with which weight: LPG's paper
    rewards entropies and penalises loud advice. They keep a short window from loving whatever pays
    at once.
    """

    lives: InnerLoop = InnerLoop()
    critic: OuterCritic = OuterCritic()
    lr: float = 1e-3
    max_grad_norm: float = 1.0
    regularisers: dict[str, float] = dataclasses.field(default_factory=lambda: {"entropy": 0.05})
    optimizer: Any = Optimizer(optax.adam)
    num_agents: int = static(default=16)
    num_updates: int = static(default=5)

    steps_per_update = 1

    def __post_init__(self) -> None:
        tree.check_counts(self, "num_agents", "num_updates")

    def init(self, key: jax.Array, env: Tasks, num_updates: Any = float("inf")) -> State:
        check_tasks(env, self)
        if getattr(self.lives.learner, "memory", None) is not None:
            raise ValueError(
                "The outer objective reads single observations: give MetaGradient a learner "
                "without a memory."
            )
        key_agents, key_end = jax.random.split(key)
        agents = jax.vmap(lambda key: self._begin(key, env))(
            jax.random.split(key_agents, self.num_agents)
        )
        first = 1.0 + jnp.floor(jax.random.uniform(key_end, agents.end.shape) * agents.end)
        params = as_floats(self.lives.tuned)
        clock = Clock(jnp.int32(0), jnp.float32(num_updates))
        return State(
            params, self.optimizer(self.lr).init(params), clock, tree.replace(agents, end=first)
        )

    def update(self, key: jax.Array, env: Tasks, state: State) -> tuple[State, Metrics]:
        """`return` is the mean score of the agents as they are, `length` their age, `episodes` how
        many ended.
        """

        def one(now: tuple[jax.Array, Agent]) -> tuple[Any, Agent, Metrics]:
            i, agent = now
            return self._live(jax.random.fold_in(key, i), env, state.params, agent)

        indexed = jnp.arange(self.num_agents), state.agents
        grads, agents, told = jax.lax.map(
            one, indexed, batch_size=self.lives.chunk or self.num_agents
        )
        grads = jax.tree.map(lambda g: -g.mean(0), grads)  # ascent
        changes, opt_state = self.optimizer(self.lr).update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        broken, episodes = told.pop("broken").sum(), told.pop("episodes").sum()
        metrics = {name: jnp.nanmean(x) for name, x in told.items()}
        metrics |= {"episodes": episodes, "non_finite": broken, "meta_norm": optax.tree.norm(grads)}
        return State(params, opt_state, state.clock.tick(), agents), metrics

    def judge(self, key: jax.Array, env: Tasks, state: State, episodes: int) -> jax.Array:
        return self.lives.judge(env, state.params, episodes)

    def _begin(self, key: jax.Array, tasks: Tasks) -> Agent:
        key_level, key_length, key_init, key_critic = jax.random.split(key, 4)
        level, end = (
            tasks.sample(key_level),
            jnp.round(self.lives.quantile(jax.random.uniform(key_length))),
        )
        state = self.lives.learner.init(key_init, level, end)
        obs = jax.tree.map(lambda x: x[0], state.episodes.obs)
        return Agent(level, state, *self.critic.init(key_critic, obs), end)

    def _live(
        self, key: jax.Array, tasks: Tasks, params: dict[str, Any], agent: Agent
    ) -> tuple[dict[str, Any], Agent, Metrics]:
        """One agent's gradient, and the agent after its updates, or a new one."""
        key_learn, key_play, key_begin = jax.random.split(key, 3)

        def objective(
            learner: Any, state: Any, told: Metrics
        ) -> tuple[jax.Array, tuple[Transition, jax.Array]]:
            batch = play(key_play, learner, agent.level, state)
            advantage, target = jax.lax.stop_gradient(self.critic.advantage(agent.critic, batch))
            policy = heads(learner, agent.level, state, batch.obs)["policy"]
            gain = jnp.mean(policy.log_prob(batch.action) * advantage)
            if unknown := [name for name in self.regularisers if name not in told]:
                raise ValueError(
                    f"the learner tells no {unknown[0]!r} to regularise; "
                    f"{tree.nearest(unknown[0], told)}."
                )
            return gain + sum(weight * told[name] for name, weight in self.regularisers.items()), (
                batch,
                target,
            )

        how = self.lives.learner, params, agent.level, agent.state, objective, self.num_updates
        (value, (state, told, (batch, target))), grads = meta_gradient(key_learn, *how)
        critic = self.critic.learn(agent.critic, agent.critic_opt, batch, target)
        broken = ~(tree.is_finite(grads) & tree.is_finite((state.params, critic)))
        grads, norm = clip_by_global_norm(
            tree.where(~broken, grads, jax.tree.map(jnp.zeros_like, grads)), self.max_grad_norm
        )
        lived = Agent(agent.level, state, *critic, agent.end)
        over = broken | (state.clock.n >= agent.end)
        ret = jnp.where(told["episodes"] > 0, tasks.score(agent.level, told["return"]), jnp.nan)
        metrics = {
            "return": ret,
            "length": jnp.float32(state.clock.n),
            "episodes": told["episodes"],
            "broken": broken,
        }
        metrics |= {"objective": value, "grad_norm": norm} | {
            name: told[name] for name in self.regularisers
        }
        return grads, tree.where(over, self._begin(key_begin, tasks), lived), metrics
