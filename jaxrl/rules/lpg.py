"""A learned policy gradient: targets from a network that reads a rollout backward."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import returns
from jaxrl.clock import Clock, Metrics
from jaxrl.distributions import Categorical
from jaxrl.memories import GRU
from jaxrl.memories.layers import dense, linear
from jaxrl.rollout import Transition
from jaxrl.rules.base import Out, Rule, RuleState
from jaxrl.spaces import Discrete
from jaxrl.tree import leaf, pytree, static


@pytree
class LPGTargets:
    """The network's outputs at each step.

    strength: pi^, the factor on the log-probability of the action [T, B]. prediction: logits of y^,
    the target of the prediction y [T, B, M].
    """

    strength: jax.Array
    prediction: jax.Array


@pytree
class LPG(Rule):
    """Learned policy gradient (Oh et al., 2020).

    The loss is -log pi(a) pi^ + w KL(y || y^) with pi^ and y^ of a recurrent network. The agent
    predicts y, a distribution over `categories` with a meaning that meta-learning finds. The
    network reads, from the last step to the first, the reward, the terminal flag, pi(a), and
    embeddings of y at the observation and at the next one (0 once terminated); its recurrent state
    is reset at each episode's end. These inputs are constants: no gradient flows back through the
    agent's outputs. pi^ and y^ keep theirs, so that an agent after some updates can be
    differentiated with respect to `weights`. Targets are computed once a rollout: with more than
    one epoch or minibatch they are from before the first gradient step.

    prediction_weight: w. `knows_time`: the network also reads n / N, and log N over log
    `reference_lifetime`, at update n of N (TA-LPG; Jackson et al., 2024). gamma: used
    only to normalise rewards, where they are. `LPG.random(key)` gives untrained weights.

    Metrics for meta-objectives, all differentiable: `entropy`, `prediction_entropy`, `strength`
    (the mean of pi^ squared) and `certainty` (the mean over steps of the sum of y^ squared).
    """

    weights: Any
    gamma: float = leaf(0.99, "[0, 1]")
    prediction_weight: float = leaf(0.5, "[0, inf)")
    reference_lifetime: float = leaf(250.0, "(1, inf)")
    categories: int = static(default=8)
    knows_time: bool = static(default=False)

    action_spaces = (Discrete,)

    @classmethod
    def random(
        cls,
        key: jax.Array,
        size: int = 32,
        *,
        categories: int = 8,
        knows_time: bool = False,
        **fields: Any,
    ) -> "LPG":
        """Weights of a GRU of `size`, before any meta-training (the paper's has 256)."""
        keys = jax.random.split(key, 6)
        weights = {
            "embedding": {
                "hidden": dense(keys[0], categories, 16),
                "output": dense(keys[1], 16, 1),
            },
            "memory": GRU(size).init(keys[2])
            | {"input": dense(keys[3], 7 if knows_time else 5, 3 * size)},
            "strength": dense(keys[4], size, 1),
            "prediction": dense(keys[5], size, categories),
        }
        return cls(weights, categories=categories, knows_time=knows_time, **fields)

    @property
    def heads(self) -> dict[str, int]:
        return {"y": self.categories}

    def targets(
        self, rule_state: RuleState, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[RuleState, LPGTargets]:
        """The network's outputs for a rollout. [T, B]."""
        agent_outputs = (
            jnp.exp(out["policy"].log_prob(batch.action)),
            jax.nn.softmax(out["y"]),
            jax.nn.softmax(next_out["y"]),
        )
        probability, y, next_y = jax.lax.stop_gradient(agent_outputs)
        return rule_state, returns.batched(self._trajectory_targets, num_arrays=6)(
            batch.reward, batch.terminated, batch.done, probability, y, next_y, clock
        )

    def _trajectory_targets(
        self,
        reward: jax.Array,
        terminated: jax.Array,
        done: jax.Array,
        probability: jax.Array,
        y: jax.Array,
        next_y: jax.Array,
        clock: Clock,
    ) -> LPGTargets:
        """The network's outputs for one trajectory. [T]."""
        weights = self.weights
        cell = GRU(len(weights["memory"]["hidden"]["kernel"]))

        def embed(y: jax.Array) -> jax.Array:
            hidden = jax.nn.relu(linear(weights["embedding"]["hidden"], y))
            return linear(weights["embedding"]["output"], hidden)[:, 0]

        inputs = [reward, terminated, probability, embed(y), embed(next_y) * (1.0 - terminated)]
        if self.knows_time:
            # the bound is for an unbounded run, with an infinite log N
            lifetime = jnp.minimum(clock.log_total / jnp.log(self.reference_lifetime), 2.0)
            inputs += [jnp.full_like(reward, clock.fraction), jnp.full_like(reward, lifetime)]
        backward = jnp.stack(inputs, axis=-1)[::-1]
        _, hidden = cell.apply(weights["memory"], cell.start(), backward, done[::-1])
        hidden = jax.nn.relu(hidden)[::-1]
        return LPGTargets(
            strength=linear(weights["strength"], hidden)[:, 0],
            prediction=linear(weights["prediction"], hidden),
        )

    def loss(
        self, out: Out, batch: Transition, targets: LPGTargets, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        y, target = Categorical(out["y"]), Categorical(targets.prediction)
        policy_loss = -jnp.mean(out["policy"].log_prob(batch.action) * targets.strength)
        prediction_loss = y.kl(target).mean()
        loss = policy_loss + self.prediction_weight * prediction_loss
        return loss, {
            "loss": loss,
            "policy_loss": policy_loss,
            "prediction_loss": prediction_loss,
            "entropy": out["policy"].entropy().mean(),
            "prediction_entropy": y.entropy().mean(),
            "strength": jnp.mean(targets.strength**2),
            "certainty": jnp.mean(jnp.sum(jax.nn.softmax(targets.prediction) ** 2, axis=-1)),
        }
