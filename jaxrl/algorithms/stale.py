"""Stale acting: rollouts by the parameters of some updates ago, as in asynchronous
training.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import rollout, tree
from jaxrl.algorithms.around import Around, AroundState
from jaxrl.algorithms.base import Relabel
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.clock import Clock, Metrics
from jaxrl.env import Env
from jaxrl.errors import check_counts
from jaxrl.rollout import Action, Episode, Experience, Policy, RnnState, Transition
from jaxrl.rules.base import Out, RuleState, check_field
from jaxrl.rules.surrogate import Surrogate, SurrogateTargets
from jaxrl.tree import leaf, pytree, static


@pytree
class BehaviourSurrogate(Surrogate):
    """`Surrogate` on actions of another policy, the log-probabilities of which are `batch.extras`.

    decoupled: as in `Stale`.
    """

    decoupled: bool = True
    max_weight: float = leaf(5.0, "(0, inf]")

    def targets(
        self, rule_state: RuleState, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[RuleState, SurrogateTargets]:
        rule_state, targets = super().targets(rule_state, out, next_out, batch, clock)
        weight = jnp.minimum(jnp.exp(targets.log_prob - batch.extras), self.max_weight)
        return rule_state, tree.replace(
            targets,
            log_prob=jnp.where(self.decoupled, targets.log_prob, batch.extras),
            weight=jnp.where(self.decoupled, weight, 1.0),
        )


@pytree
class State(AroundState):
    """The algorithm's state, and its agents at the last `lag` updates, the one of update n at place
    n % lag; () without a lag.
    """

    algo: Any
    agents: Any


@pytree
class Stale(Around):
    """An on-policy algorithm that acts with the parameters of `lag` updates ago, or the first ones.

    decoupled: True clips the ratio of the new policy to the one before the update, and weights each
    action by the probability under that one over the probability under the policy that acted, up to
    `max_weight` (decoupled PPO: Hilton et al., 2022; Fu et al., 2025, for stale language models).
    False clips the ratio to the policy that acted. Without a lag, the two are the same. A leaf.
    """

    algo: OnPolicy
    decoupled: bool = True
    max_weight: float = leaf(5.0, "(0, inf]")
    lag: int = static(default=4)

    prefix = "stale"

    def __post_init__(self) -> None:
        check_counts(self, "lag", min_value=0)
        check_field(self, "algo", OnPolicy, "rl.ppo()")
        if isinstance(self.algo, OnPolicy) and type(self.algo.rule) is not Surrogate:
            raise TypeError(
                "Stale corrects the ratios of rl.Surrogate, and "
                f"{type(self.algo.rule).__name__} is another rule: take rl.ppo() or rl.a2c()."
            )

    def init(
        self, key: jax.Array, env: Env, num_updates: jax.Array | float = float("inf")
    ) -> State:
        algo = self.algo.init(key, env, num_updates)
        repeat = lambda x: jnp.repeat(jnp.asarray(x)[None], self.lag, 0)
        return State(algo, jax.tree.map(repeat, self.algo.agent(algo)) if self.lag else ())

    def collect(self, key: jax.Array, env: Env, state: State) -> tuple[State, Experience]:
        now = acting = self.algo.agent(state.algo)
        agents = state.agents
        if self.lag:
            place = state.clock.n % self.lag
            acting = jax.tree.map(lambda x: x[place], agents)
            agents = jax.tree.map(lambda x, new: x.at[place].set(new), agents, now)

        def act(key: jax.Array, episode: Episode) -> tuple[RnnState, Action, jax.Array]:
            rnn_state, out = self.algo.forward(env, acting, episode.rnn_state, episode.obs)
            action = out["policy"].sample(key)
            return rnn_state, action, out["policy"].log_prob(action)

        policy = Policy(act, self.algo.policy(env, now, greedy=False).rnn_state)
        start = state.algo.episodes
        played = rollout.rollout(key, env, policy, start, self.algo.num_steps)
        episodes, transitions = jax.lax.stop_gradient(played)
        algo = tree.replace(state.algo, episodes=episodes)
        return State(algo, agents), Experience(start, transitions)

    def learn(
        self,
        key: jax.Array,
        env: Env,
        state: State,
        experience: Experience | None,
        relabel: Relabel | None = None,
    ) -> tuple[State, Metrics]:
        rule = BehaviourSurrogate(
            **vars(self.algo.rule), decoupled=self.decoupled, max_weight=self.max_weight
        )
        algo = tree.replace(self.algo, rule=rule)
        learned, metrics = algo.learn(key, env, state.algo, experience, relabel)
        return State(learned, state.agents), metrics
