"""DiscoRL's rule: a network that was meta-trained to say what an agent's policy and predictions
should be.
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import losses, returns
from jaxrl.distributions import Categorical
from jaxrl.losses import SignedRoot
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock, Metrics, Out
from jaxrl.rules.disco_network import Seen, advise, rest, shapes
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree

CATEGORIES, BINS, LARGEST = (
    600,
    601,
    300.0,
)  # of y and z; of q, whose bins lie evenly in -LARGEST to LARGEST
SCALE = SignedRoot()  # what the bins of q are of


@pytree
class Memory:
    """A lifetime's: the slow copy, the parameters that it follows next, the meta-network's state,
    moments of advantages.
    """

    slow: Any
    latest: Any
    state: tuple[jax.Array, jax.Array]
    mean: jax.Array
    square: jax.Array
    weight: jax.Array


@pytree
class Targets:
    """What to become: logits of the policy [T, B, A], of y and of z at the action [T, B, 600]; and
    q there [T, B].

    `next_logits` [T, B, A] are the policy's at the next observation, and `goes_on` [T, B] says
    where there is one.
    """

    logits: jax.Array
    y: jax.Array
    z: jax.Array
    q: jax.Array
    next_logits: jax.Array
    goes_on: jax.Array


@pytree
class Disco:
    """The rule of "Discovering state-of-the-art reinforcement learning algorithms" (Oh et al.,
    2025), Disco103 its weights.

    The agent predicts y of a state and z of its actions, whose meaning is the rule's own, values q
    of its actions (Retrace targets of a slow copy, categorical, by cross-entropy) and its policy
    one step on (`aux_pi`). A network reads the rollout backward and says what policy, y and z
    should become; the loss is the KL divergence from there. A recurrent state goes with it from
    update to update.

    One step is taken on each rollout as it was played, where the paper's agents mostly learn from
    replay. `weights` are those of `Disco.load(path)`, a leaf each, by the names that their authors
    gave. lam: of Retrace. slow_rate: how much of the way the slow copy goes after each update. Of
    the loss: `value_weight` of q's, `auxiliary_weight` of aux_pi's.
    """

    weights: dict[str, jax.Array]
    gamma: float = 0.997
    lam: float = 0.95
    value_weight: float = 0.2
    auxiliary_weight: float = 1.0
    slow_rate: float = 0.1
    moment_decay: float = 0.99

    action_spaces = (Discrete,)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **fields: Any) -> "Disco":
        """The rule with the published weights: the file `disco_103.npz`, which its authors offer
        for download.

        Raises:
          FileNotFoundError: it is not there.
          ValueError: it is another file: a name or a shape differs.
        """
        path = pathlib.Path(path).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is no file. The weights are not part of this kit: download "
                "disco_103.npz from its authors' "
                "repository (disco_rl, of google-deepmind), and name it here."
            )
        try:
            with np.load(path, allow_pickle=False) as file:
                weights = {name: jnp.asarray(file[name]) for name in file.files}
        except (ValueError, OSError) as error:
            raise ValueError(f"{path} holds no plain arrays: {error}") from error
        found, known = {name: x.shape for name, x in weights.items()}, shapes()
        if found != known:
            name = min(set(found.items()) ^ set(known.items()))[0]
            raise ValueError(
                f"{path} is no Disco103: {name} is {found.get(name)} there, and should be "
                f"{known.get(name)}."
            )
        return cls(weights, **fields)

    @classmethod
    def random(cls, key: jax.Array, **fields: Any) -> "Disco":
        """Weights of the same shapes before any meta-training: variance 1 / inputs."""
        draw = lambda i, shape: (
            jax.random.normal(jax.random.fold_in(key, i), shape) * shape[-2] ** -0.5
        )
        sizes = enumerate(shapes().items())
        return cls(
            {
                name: draw(i, shape) if len(shape) > 1 else jnp.zeros(shape)
                for i, (name, shape) in sizes
            },
            **fields,
        )

    @property
    def heads(self) -> dict[str, int]:
        return {"y": CATEGORIES}

    def policy_heads(self, space: Discrete) -> dict[str, int]:
        """Those of each action are flat: [A * size]."""
        return space.heads | {
            "z": space.n * CATEGORIES,
            "q": space.n * BINS,
            "aux_pi": space.n * space.n,
        }

    def init(self, key: jax.Array, params: Any) -> Memory:
        zero = jnp.float32(0.0)
        return Memory(
            jax.tree.map(jnp.copy, params), jax.tree.map(jnp.copy, params), rest(), zero, zero, zero
        )

    def slow(self, carry: Memory) -> Any:
        return carry.slow

    def targets(
        self, carry: Memory, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[Memory, Targets]:
        """What the network makes of a rollout [T, B], and what the values should be."""
        chance, next_chance, slow_chance = (
            jax.nn.softmax(x["logits"]) for x in (out, next_out, out["slow"])
        )
        slow_q, next_slow_q = values(out["slow"]), values(next_out["slow"])
        slow_value, next_slow_value = (
            jnp.sum(chance * slow_q, -1),
            jnp.sum(next_chance * next_slow_q, -1),
        )
        retrace = jax.vmap(self.retrace, in_axes=1, out_axes=1)
        q = retrace(batch, _at(slow_q, batch.action), next_slow_value)
        advantage, advantages = q - slow_value, slow_q - slow_value[..., None]
        keep = self.moment_decay
        mean = keep * carry.mean + (1.0 - keep) * advantage.mean()
        square = keep * carry.square + (1.0 - keep) * jnp.mean(advantage**2)
        weight = keep * carry.weight + (1.0 - keep)
        centre = mean / weight
        spread = jnp.sqrt(jnp.maximum(square / weight - centre**2, 0.0) + 1e-12) + 1e-6
        data = {
            "chance": chance,
            "next_chance": next_chance,
            "slow_chance": slow_chance,
            "value": jnp.sum(chance * values(out), -1),
            "next_value": jnp.sum(next_chance * values(next_out), -1),
            "advantage": advantage,
            "scaled_advantage": (advantage - centre) / spread,
            "slow_q": slow_q,
            "advantages": advantages,
            "scaled_advantages": (advantages - centre) / spread,
            "reward": batch.reward,
            "terminated": batch.terminated.astype(jnp.float32),
        }
        said = {
            f"{name}{head}": jax.nn.softmax(_per_category(x[head]))
            for name, x in {
                "": out,
                "next_": next_out,
                "slow_": out["slow"],
                "next_slow_": next_out["slow"],
            }.items()
            for head in ("y", "z")
        }
        data = jax.lax.stop_gradient(
            data
        )  # predictions are not: through them the network learns what they should mean
        advice, state = advise(
            self.weights, carry.state, Seen(**data, **said, action=batch.action, done=batch.done)
        )
        goes_on = 1.0 - batch.terminated
        targets = Targets(*advice, *jax.lax.stop_gradient((q, next_out["logits"])), goes_on)
        return Memory(carry.slow, carry.latest, state, mean, square, weight), targets

    def retrace(self, batch: Transition, q: jax.Array, next_value: jax.Array) -> jax.Array:
        """Retrace returns of one trajectory (Munos et al., 2016), of what was played with the
        policy as it is. [T].

        q: of the actions, by the slow copy; next_value: at the next observation.
        """
        trace = self.gamma * self.lam * jnp.where(batch.done.at[-1].set(True), 0.0, 1.0)
        own = (
            batch.reward
            + self.gamma * (1.0 - batch.terminated) * next_value
            - trace * jnp.roll(q, -1)
        )
        return returns.accumulate(own, trace)

    def loss(
        self, out: Out, batch: Transition, targets: Targets, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        """The loss of a minibatch, any leading shape, and what describes the update. []."""
        pick = lambda head: _at(out[head].reshape(*out["logits"].shape, -1), batch.action)
        distance = lambda target, logits: Categorical(target).kl(Categorical(logits)).mean()
        policy_loss = distance(targets.logits, out["logits"])
        prediction_loss = distance(targets.y, out["y"]) + distance(targets.z, pick("z"))
        auxiliary = (
            Categorical(targets.next_logits).kl(Categorical(pick("aux_pi"))) * targets.goes_on
        )
        value_loss = -jnp.mean(
            jnp.sum(_two_bins(SCALE(targets.q)) * jax.nn.log_softmax(pick("q")), -1)
        )
        loss = (
            policy_loss
            + prediction_loss
            + self.auxiliary_weight * auxiliary.mean()
            + self.value_weight * value_loss
        )
        return loss, {
            "loss": loss,
            "policy_loss": policy_loss,
            "prediction_loss": prediction_loss,
            "auxiliary_loss": auxiliary.mean(),
            "value_loss": value_loss,
            "value": targets.q.mean(),
            "entropy": Categorical(out["logits"]).entropy().mean(),
        }

    def settle(
        self, carry: Memory, params: Any, read: Callable[[], Out], targets: Targets
    ) -> Memory:
        """The slow copy follows what the update began with, as its authors' does."""
        slow = jax.tree.map(
            lambda slow, fast: slow + self.slow_rate * (fast - slow), carry.slow, carry.latest
        )
        return Memory(slow, params, carry.state, carry.mean, carry.square, carry.weight)


def values(out: Out) -> jax.Array:
    """What the bins of q say of each action. [..., A]."""
    chance = jax.nn.softmax(out["q"].reshape(*out["logits"].shape, BINS))
    return SCALE.inverse(jnp.einsum("...k,k->...", chance, jnp.linspace(-LARGEST, LARGEST, BINS)))


def _two_bins(x: jax.Array) -> jax.Array:
    """Each number as chances of the two bins beside it. [..., BINS]."""
    support = jnp.linspace(-LARGEST, LARGEST, BINS)
    return jax.vmap(lambda x: losses.project(jnp.ones(1), x[None], support))(x.ravel()).reshape(
        *x.shape, BINS
    )


def _per_category(x: jax.Array) -> jax.Array:
    """y as it is [..., 600], z by actions [..., A, 600]."""
    return x if x.shape[-1] == CATEGORIES else x.reshape(*x.shape[:-1], -1, CATEGORIES)


def _at(x: jax.Array, action: jax.Array) -> jax.Array:
    """x [..., A, ...] at each action [...]."""
    index = action.reshape(*action.shape, *[1] * (x.ndim - action.ndim))
    return jnp.take_along_axis(x, index, axis=action.ndim).squeeze(action.ndim)
