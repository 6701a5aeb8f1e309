"""DiscoRL's rule: a meta-trained network gives the targets of an agent's policy and predictions."""

import os
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import losses, returns
from jaxrl.clock import Clock, Metrics
from jaxrl.distributions import Categorical
from jaxrl.errors import as_path
from jaxrl.losses import SignedRoot
from jaxrl.optimizer import polyak_average
from jaxrl.rollout import Transition
from jaxrl.rules.base import Out, Rule, num_actions
from jaxrl.rules.disco_network import Inputs, initial_state, meta_network, weight_shapes
from jaxrl.spaces import Discrete, Space
from jaxrl.tree import leaf, pytree

CATEGORIES = 600  # of y and z
BINS, MAX_BIN = 601, 300.0  # of q: bins lie evenly from -MAX_BIN to MAX_BIN
SCALE = SignedRoot()  # the scale of the bins of q


@pytree
class DiscoState:
    """The rule's state over a training run.

    target_params: of the target network. latest: the learner's parameters at the start of the
    update, which the target network moves to next. meta_state: the recurrent state of the
    meta-network. mean, square, weight: moving sums of advantages, their squares, and of weights.
    [].
    """

    target_params: Any
    latest: Any
    meta_state: tuple[jax.Array, jax.Array]
    mean: jax.Array
    square: jax.Array
    weight: jax.Array


@pytree
class DiscoTargets:
    """The targets of the agent's outputs.

    logits: of the policy [T, B, A]. y, z: logits, of z at the action taken [T, B, 600]. q: the
    return of the action taken [T, B]. next_logits: the policy's at the next observation [T, B, A],
    the target of aux_pi. continues: 1 where there is a next observation, 0 at terminal steps [T,
    B].
    """

    logits: jax.Array
    y: jax.Array
    z: jax.Array
    q: jax.Array
    next_logits: jax.Array
    continues: jax.Array


@pytree
class Disco(Rule):
    """The rule of "Discovering state-of-the-art reinforcement learning algorithms".

    Oh et al. (2025); Disco103 is its published weights. The agent predicts y of a state and z of
    its actions, with meanings that the rule was meta-trained to give them; q of its actions
    (categorical, with Retrace targets of a target network, by cross-entropy); and its policy at the
    next observation (`aux_pi`). A network reads the rollout backward and gives targets of the
    policy, y and z; the loss is the KL divergence from them. Its recurrent state is carried from
    update to update.

    One gradient step is taken on each rollout as it was played, where the paper's agents mostly
    learn from a replay. `weights`: those of `Disco.load(path)`, by their authors' names. lam: of
    Retrace. value_weight, auxiliary_weight: factors on the losses of q and of aux_pi. tau: the part
    of the way that the target network moves after each update. moment_decay: of the moving mean and
    variance that advantages are normalised by.
    """

    weights: dict[str, jax.Array]
    gamma: float = leaf(0.997, "[0, 1]")
    lam: float = leaf(0.95, "[0, 1]")
    value_weight: float = leaf(0.2, "[0, inf)")
    auxiliary_weight: float = leaf(1.0, "[0, inf)")
    tau: float = leaf(0.1, "[0, 1]")
    moment_decay: float = leaf(0.99, "[0, 1)")

    action_spaces = (Discrete,)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **fields: Any) -> "Disco":
        """The rule with the weights of a file, as `disco_103.npz` of the authors' repository.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: it is another file: a name or a shape differs.
        """
        path = as_path(path, "path")
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is not a file. The weights are not part of jaxrl: download disco_103.npz "
                "from the authors' repository (google-deepmind/disco_rl), and pass its path."
            )
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                weights = {name: jnp.asarray(file[name]) for name in file.files}
        except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} holds no plain arrays: it is not the .npz file of the authors, or a "
                "damaged copy. Download it again."
            ) from error
        found, known = {name: x.shape for name, x in weights.items()}, weight_shapes()
        if found != known:
            name = min(set(found.items()) ^ set(known.items()))[0]
            raise ValueError(
                f"{path} is not a Disco103: {name} is {found.get(name)} there, and should be "
                f"{known.get(name)}."
            )
        return cls(weights, **fields)

    @classmethod
    def random(cls, key: jax.Array, **fields: Any) -> "Disco":
        """Random weights of the same shapes, of variance 1 / inputs; biases are 0."""
        weights = {}
        for i, (name, shape) in enumerate(weight_shapes().items()):
            weights[name] = jnp.zeros(shape)
            if len(shape) > 1:
                normal = jax.random.normal(jax.random.fold_in(key, i), shape)
                weights[name] = normal * shape[-2] ** -0.5
        return cls(weights, **fields)

    @property
    def heads(self) -> dict[str, int]:
        return {"y": CATEGORIES}

    def policy_heads(self, space: Space) -> dict[str, int]:
        """The policy's head and those with outputs for each action, flat: [A * size]."""
        n = num_actions(space)
        return space.heads | {"z": n * CATEGORIES, "q": n * BINS, "aux_pi": n * n}

    def init(self, key: jax.Array, params: Any) -> DiscoState:
        zero = jnp.float32(0.0)
        return DiscoState(
            target_params=jax.tree.map(jnp.copy, params),
            latest=jax.tree.map(jnp.copy, params),
            meta_state=initial_state(),
            mean=zero,
            square=zero,
            weight=zero,
        )

    def target_params(self, rule_state: DiscoState) -> Any:
        return rule_state.target_params

    def targets(
        self, rule_state: DiscoState, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[DiscoState, DiscoTargets]:
        """The meta-network's targets of a rollout, and Retrace returns. [T, B]."""
        target_out, next_target_out = out["target"], next_out["target"]
        pi, next_pi, target_pi = (jax.nn.softmax(x["logits"]) for x in (out, next_out, target_out))
        target_q, next_target_q = q_values(target_out), q_values(next_target_out)
        target_value = jnp.sum(pi * target_q, -1)
        next_target_value = jnp.sum(next_pi * next_target_q, -1)
        q = returns.batched(self.retrace, num_arrays=5)(
            batch.reward,
            _at(target_q, batch.action),
            next_target_value,
            batch.terminated,
            batch.done,
        )
        advantage, advantages = q - target_value, target_q - target_value[..., None]
        decay = self.moment_decay
        mean = decay * rule_state.mean + (1.0 - decay) * advantage.mean()
        square = decay * rule_state.square + (1.0 - decay) * jnp.mean(advantage**2)
        weight = decay * rule_state.weight + (1.0 - decay)
        centre = mean / weight
        scale = jnp.sqrt(jnp.maximum(square / weight - centre**2, 0.0) + 1e-12) + 1e-6
        data = {
            "pi": pi,
            "next_pi": next_pi,
            "target_pi": target_pi,
            "value": jnp.sum(pi * q_values(out), -1),
            "next_value": jnp.sum(next_pi * q_values(next_out), -1),
            "advantage": advantage,
            "scaled_advantage": (advantage - centre) / scale,
            "target_q": target_q,
            "advantages": advantages,
            "scaled_advantages": (advantages - centre) / scale,
            "reward": batch.reward,
            "terminated": batch.terminated.astype(jnp.float32),
        }
        outputs = {
            "": out,
            "next_": next_out,
            "target_": target_out,
            "next_target_": next_target_out,
        }
        predictions = {
            f"{name}{head}": jax.nn.softmax(_per_category(x[head]))
            for name, x in outputs.items()
            for head in ("y", "z")
        }
        # no gradient through data; through predictions, the network learns what they should mean
        data = jax.lax.stop_gradient(data)
        inputs = Inputs(**data, **predictions, action=batch.action, done=batch.done)
        (logits, y, z), meta_state = meta_network(self.weights, rule_state.meta_state, inputs)
        continues = 1.0 - batch.terminated
        q, next_logits = jax.lax.stop_gradient((q, next_out["logits"]))
        new_state = DiscoState(
            target_params=rule_state.target_params,
            latest=rule_state.latest,
            meta_state=meta_state,
            mean=mean,
            square=square,
            weight=weight,
        )
        return new_state, DiscoTargets(logits, y, z, q, next_logits, continues)

    def retrace(
        self,
        reward: jax.Array,
        q: jax.Array,
        next_value: jax.Array,
        terminated: jax.Array,
        done: jax.Array,
    ) -> jax.Array:
        """Retrace returns of one trajectory (Munos et al., 2016), on policy: all ratios are 1. [T].

        q: of the actions taken, by the target network. next_value: of the next observations.
        """
        trace = self.gamma * self.lam * jnp.where(done.at[-1].set(True), 0.0, 1.0)
        term = reward + self.gamma * (1.0 - terminated) * next_value - trace * jnp.roll(q, -1)
        return returns.accumulate(term, trace)

    def loss(
        self, out: Out, batch: Transition, targets: DiscoTargets, clock: Clock
    ) -> tuple[jax.Array, Metrics]:

        def at_action(head: str) -> jax.Array:
            return _at(out[head].reshape(*out["logits"].shape, -1), batch.action)

        def kl(target: jax.Array, logits: jax.Array) -> jax.Array:
            return Categorical(target).kl(Categorical(logits))

        policy_loss = kl(targets.logits, out["logits"]).mean()
        prediction_loss = kl(targets.y, out["y"]).mean() + kl(targets.z, at_action("z")).mean()
        auxiliary = kl(targets.next_logits, at_action("aux_pi")) * targets.continues
        target_bins, log_bins = _two_bins(SCALE(targets.q)), jax.nn.log_softmax(at_action("q"))
        value_loss = -jnp.mean(jnp.sum(target_bins * log_bins, -1))
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

    def post_update(
        self,
        rule_state: DiscoState,
        params: Any,
        forward: Callable[[], Out],
        targets: DiscoTargets,
    ) -> DiscoState:
        """Return the state with the target network moved.

        It moves towards the parameters at the start of the update, as in the authors' code.
        """
        return DiscoState(
            target_params=polyak_average(rule_state.target_params, rule_state.latest, self.tau),
            latest=params,
            meta_state=rule_state.meta_state,
            mean=rule_state.mean,
            square=rule_state.square,
            weight=rule_state.weight,
        )


def q_values(out: Out) -> jax.Array:
    """The mean of the distribution over bins that the head "q" gives each action. [..., A]."""
    p = jax.nn.softmax(out["q"].reshape(*out["logits"].shape, BINS))
    return SCALE.inverse(jnp.einsum("...k,k->...", p, jnp.linspace(-MAX_BIN, MAX_BIN, BINS)))


def _two_bins(x: jax.Array) -> jax.Array:
    """Each number as a distribution over the two bins around it. [..., BINS]."""
    support = jnp.linspace(-MAX_BIN, MAX_BIN, BINS)
    project = jax.vmap(lambda x: losses.project(jnp.ones(1), x[None], support))
    return project(x.ravel()).reshape(*x.shape, BINS)


def _per_category(x: jax.Array) -> jax.Array:
    """y unchanged [..., 600]; z with an axis of actions [..., A, 600]."""
    return x if x.shape[-1] == CATEGORIES else x.reshape(*x.shape[:-1], -1, CATEGORIES)


def _at(x: jax.Array, action: jax.Array) -> jax.Array:
    """x [..., A, ...] at each action [...]."""
    index = action.reshape(*action.shape, *[1] * (x.ndim - action.ndim))
    return jnp.take_along_axis(x, index, axis=action.ndim).squeeze(action.ndim)
