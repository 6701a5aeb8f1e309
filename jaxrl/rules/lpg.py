"""A learned policy gradient: a network reads a rollout backward and says what to reinforce, and
what to predict.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.distributions import Categorical
from jaxrl.memories import GRU
from jaxrl.memories.layers import dense, linear
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock, Metrics, Out
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static


@pytree
class Advice:
    """What the network says of each step: how much its action is reinforced [T, B], logits of what
    to predict [T, B, M].
    """

    strength: jax.Array
    prediction: jax.Array


@pytree
class LPG:
    """Learned policy gradient (Oh et al., 2020): loss -log pi(a) pi^ + w KL(y || y^), pi^ and y^ of
    a recurrent network.

    The agent predicts y, `categories` chances whose meaning is the network's to find. It reads,
    from the last step to the first, the reward, whether it terminated, pi(a), and embeddings of y
    there and at the next observation (nothing, once terminated); its memory is empty at each
    episode's end. What the agent says is data to it: no gradient flows back that way. Its own words
    keep theirs, so that an agent after some updates can be differentiated with respect to
    `weights`. A rollout is read once: with more than one epoch or minibatch the advice grows old.

    prediction_weight: w. `knows_time`: it also reads n / N and log N over log `long_life` (TA-LPG;
    Jackson et al., 2024). gamma: only of what rewards are normalised by, where they are. Untrained:
    `LPG.random(key)`.

    Metrics that a meta-objective may want, all differentiable: `entropy`, `prediction_entropy`, and
    how loud the network is, `strength`, the mean of pi^ squared, and `certainty`, that of the sum
    of y^ squared.
    """

    weights: Any
    gamma: float = 0.99
    prediction_weight: float = 0.5
    long_life: float = 250.0
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

    def init(self, key: jax.Array, params: Any) -> tuple[()]:
        return ()

    def targets(
        self, carry: tuple[()], out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[tuple[()], Advice]:
        """What the network makes of a rollout. [T, B]."""
        said = (
            jnp.exp(out["policy"].log_prob(batch.action)),
            jax.nn.softmax(out["y"]),
            jax.nn.softmax(next_out["y"]),
        )
        read = jax.vmap(self._read, in_axes=(1, 1, 1, 1, 1, 1, None), out_axes=1)
        return carry, read(
            batch.reward, batch.terminated, batch.done, *jax.lax.stop_gradient(said), clock
        )

    def _read(
        self,
        reward: jax.Array,
        terminated: jax.Array,
        done: jax.Array,
        chance: jax.Array,
        y: jax.Array,
        next_y: jax.Array,
        clock: Clock,
    ) -> Advice:
        """The same of one trajectory. [T]."""
        embedding, memory = (
            self.weights["embedding"],
            GRU(len(self.weights["memory"]["hidden"]["kernel"])),
        )
        embed = lambda y: linear(embedding["output"], jax.nn.relu(linear(embedding["hidden"], y)))[
            :, 0
        ]
        x = [reward, terminated, chance, embed(y), embed(next_y) * (1.0 - terminated)]
        if self.knows_time:
            life = jnp.minimum(
                clock.log_total / jnp.log(self.long_life), 2.0
            )  # a life without an end is a long one
            x += [jnp.full_like(reward, clock.fraction), jnp.full_like(reward, life)]
        backward = jnp.stack(x, axis=-1)[::-1]
        hidden = jax.nn.relu(
            memory.apply(self.weights["memory"], memory.start(), backward, done[::-1])[1]
        )[::-1]
        return Advice(
            linear(self.weights["strength"], hidden)[:, 0],
            linear(self.weights["prediction"], hidden),
        )

    def loss(
        self, out: Out, batch: Transition, targets: Advice, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        """The loss of a minibatch, any leading shape, and what describes the update. []."""
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
