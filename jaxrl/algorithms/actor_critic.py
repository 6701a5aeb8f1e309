"""Learning a policy from the values of its actions: DDPG, TD3, SAC and their kin, each a value of
its own.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import batch_norm, networks, tree
from jaxrl.algorithms import critics
from jaxrl.algorithms.actors import Proposal, Squashed, check_bounded, unscaled
from jaxrl.algorithms.base import Constant, Optimizer, apply_gradients
from jaxrl.algorithms.critics import Critic, Expected
from jaxrl.algorithms.learner import Batch, Learnt, read, read_next
from jaxrl.algorithms.off_policy import OffPolicy
from jaxrl.algorithms.q_learning import priority_of
from jaxrl.algorithms.target_networks import TargetNetworks
from jaxrl.env import Env
from jaxrl.networks import MLP
from jaxrl.rules.base import Clock, Metrics
from jaxrl.tree import pytree, static

NETWORK = MLP((256, 256), activation=jax.nn.relu, shared=True)


@pytree
class ActorCritic:
    """A policy that follows an ensemble of critics, which follow the policy (Haarnoja et al.,
    2018b, algorithm 1).

    actor: what a policy is, `Squashed()`, `Deterministic()` or `Softmax()`. critic: what is said of
    a return, `Expected()` or `Gaussian()`. copies: where values of next actions are from,
    `TargetNetworks()` or `CrossBatch()`. num_critics, num_target_critics: a target is by the least of `num_target_critics`
    critics, drawn from all (Chen et al., 2021). num_policy_critics, policy_minimum: the policy follows
    the first so many, by their least or their mean.

    lr, actor_lr, temperature_lr: of the critics, the policy and the temperature; None is as `lr`.
    temperature: what it begins with; it stays where temperature_lr is 0. target_entropy: what it is
    learnt for, in the actor's unit: for each dimension of an action on the scale of -1 to 1, or as
    a share of log n. step_size: mirror descent's t, of the policy from its slow copy (Tomar et al.,
    2020); None is 1 / temperature, which is no hold at all.

    noise_correlation: of the noise that real actions are explored by: that share of a step's is left at the
    next, which it is then as large as before (Lillicrap et al., 2015, but at a constant size). None
    or 0 is a noise without any.

    policy_delay: gradient steps for each of the policy's. network, critic_network, memory:
    builders, as in `OnPolicy`; the critics' is None for the same. With a memory, actor and critics
    have each their own (Yang and Nguyen, 2021).
    """

    actor: Any = Squashed()
    critic: Any = Expected()
    copies: Any = TargetNetworks()
    lr: float = 3e-4
    actor_lr: float | None = None
    temperature_lr: float | None = None
    schedule: Any = Constant()
    gamma: float = 0.99
    temperature: float = 1.0
    target_entropy: float = -1.0
    step_size: float | None = None
    noise_correlation: float | None = None
    policy_delay: float = 1.0
    policy_minimum: bool = True
    max_grad_norm: float = float("inf")
    optimizer: Any = Optimizer(optax.adam, {"eps_root": 1e-16})
    num_critics: int = static(default=2)
    num_target_critics: int = static(default=2)
    num_policy_critics: int = static(default=2)
    network: networks.Builder = static(default=NETWORK)
    critic_network: networks.Builder | None = static(default=None)
    memory: networks.Memory | None = static(default=None)

    def __post_init__(self) -> None:
        for name in ("num_critics", "num_target_critics", "num_policy_critics"):
            value = getattr(self, name)
            if value < 1 or value > self.num_critics:
                raise ValueError(
                    f"{name}={value} of num_critics={self.num_critics} critics: write at least "
                    "1 and no more than there "
                    f"are, say {name}={max(1, self.num_critics)}, or more critics."
                )

    @property
    def action_spaces(self) -> tuple[type, ...]:
        return self.actor.spaces

    def init(self, key: jax.Array, env: Env, obs: Any) -> Learnt:
        check_bounded(env.action_space, type(self.actor).__name__)
        self.copies.check(self)
        key_actor, key_critic = jax.random.split(key)
        action = jax.eval_shape(env.action_space.sample, key)
        action = unscaled(env.action_space, jnp.zeros(action.shape, action.dtype))
        params = {
            "actor": self._actor(env).init(key_actor, obs),
            "critic": critics.init(key_critic, self._critic(env), self.num_critics, obs, action),
            "log_temperature": jnp.log(jnp.asarray(self.temperature, jnp.float32)),
        }
        rates = self._rates(1.0)
        opt_state = {
            name: self.optimizer(lr).init(batch_norm.weights(params[name]))
            for name, lr in rates.items()
        }
        return Learnt(
            params,
            self.copies.init(params) | {"kept": self.critic.init(self.num_critics)},
            opt_state,
            jnp.int32(0),
        )

    def start(self, env: Env) -> Any:
        memory = self._actor(env).start()
        if self.noise_correlation is None:
            return memory
        if not self.actor.reads_action:
            raise ValueError(
                "noise_correlation is of the noise on real actions, and a Softmax actor has none: leave "
                "noise_correlation out."
            )
        return {"memory": memory, "noise": jnp.zeros(self.actor.heads(env.action_space)["loc"])}

    def explore(
        self, key: jax.Array, env: Env, params: Any, memory: Any, obs: Any, clock: Clock
    ) -> tuple[Any, Any]:
        after, out = self._look(env, params, memory, obs)
        noise = self.actor.draw(key, out)
        if self.noise_correlation is not None:
            noise = (
                self.noise_correlation * memory["noise"]
                + jnp.sqrt(1.0 - jnp.square(self.noise_correlation)) * noise
            )
            after = after | {"noise": noise}
        return after, self.actor.explore(noise, env.action_space, out)

    def act(self, key: jax.Array, env: Env, params: Any, memory: Any, obs: Any) -> tuple[Any, Any]:
        memory, out = self._look(env, params, memory, obs)
        return memory, self.actor.mode(env.action_space, out)

    def learn(
        self, key: jax.Array, env: Env, learnt: Learnt, batch: Batch, clock: Clock
    ) -> tuple[Learnt, jax.Array, Metrics]:
        key_critic, key_actor = jax.random.split(key)
        batch = tree.replace(batch, action=unscaled(env.action_space, batch.action))
        if self.noise_correlation is not None and self.memory is not None:
            batch = tree.replace(batch, memory=batch.memory["memory"])
        learnt, error, metrics = self._evaluate(key_critic, env, learnt, batch, clock)
        words, kind = (
            jax.random.key_data(key_actor),
            jax.random.key_impl(key),
        )  # jax 0.10's check wants no keys in a cond
        improve = lambda learnt: self._improve(
            jax.random.wrap_key_data(words, impl=kind), env, learnt, batch, clock
        )
        step = learnt.step + 1
        turn = step % jnp.asarray(self.policy_delay, jnp.float32) == 0
        learnt = jax.lax.cond(turn, improve, lambda learnt: learnt, learnt)
        targets = learnt.targets | self.copies.follow(learnt.targets, learnt.params, step)
        return tree.replace(learnt, targets=targets, step=step), priority_of(error), metrics

    # ------------------------------------------------------------------------------- the two halves

    def _evaluate(
        self, key: jax.Array, env: Env, learnt: Learnt, batch: Batch, clock: Clock
    ) -> tuple[Learnt, jax.Array, Metrics]:
        """The critics a step nearer to what the policy is worth; the size of each row's error [B,
        T], and the losses.
        """
        key_next, key_pick, key_loss = jax.random.split(key, 3)
        params, targets, critic = learnt.params, learnt.targets, self._critic(env)
        who = self.copies.actor(params, targets)
        proposal = self.actor.propose_next(key_next, read_next(self._actor(env), who, batch))
        soft = lambda value: self._soft(params, proposal, value)

        def loss_of(own: Any) -> tuple[jax.Array, tuple[jax.Array, Any, Any]]:
            own, action = batch_norm.train(own), proposal.action
            values, next_out = self.copies.look(
                key_pick, critic, own, targets, batch, action, self.num_target_critics
            )
            out = {
                name: self.actor.chosen(values[name], batch.action)
                for name in self.critic.heads(self._num_values(env))
            }
            kept = self.critic.keep(targets["kept"], jax.lax.stop_gradient(out), learnt.step)
            loss, error = self.critic.loss(
                key_loss, kept, out, next_out, soft, batch.reward, batch.discount
            )
            return jnp.mean(batch.weight[None] * loss, axis=(1, 2)).sum(), (error, values, kept)

        (loss, (error, values, kept)), grads = jax.value_and_grad(loss_of, has_aux=True)(
            params["critic"]
        )
        learnt, norm = self._descend(learnt, "critic", grads, clock, values.get("seen"))
        size = jnp.abs(error).mean(0) * (batch.weight > 0)
        metrics = {
            "loss": loss,
            "grad_norm": norm,
            "value": self.actor.chosen(values["q"], batch.action).mean(),
            "error": size.mean(),
            "entropy": -proposal.mean(proposal.log_prob).mean(),
            "learnt_temperature": jnp.exp(params["log_temperature"]),
        }
        return tree.replace(learnt, targets=targets | {"kept": kept}), size, metrics

    def _improve(
        self, key: jax.Array, env: Env, learnt: Learnt, batch: Batch, clock: Clock
    ) -> Learnt:
        """The policy a step nearer to what its critics value, and its temperature to the entropy
        that is asked for.
        """
        params, actor, critic = learnt.params, self._actor(env), self._critic(env)
        old = (
            None
            if self.step_size is None
            else self.actor.policy(read(actor, learnt.targets["actor"], batch))
        )

        def loss_of(own: Any) -> tuple[jax.Array, Any]:
            out = read(actor, batch_norm.train(own), batch)
            proposal = self.actor.propose(key, out)
            asked = jax.tree.map(lambda x: x[: self.num_policy_critics], params["critic"])
            value = critics.look(critic, asked, batch, proposal.action)["q"]
            gain = self._soft(
                params, proposal, jnp.where(self.policy_minimum, value.min(0), value.mean(0))
            )
            if self.step_size is not None:
                hold = 1.0 / self.step_size - jnp.exp(params["log_temperature"])
                gain -= hold * self.actor.policy(out).kl(old)
            return -jnp.mean(batch.weight * gain), (
                -jnp.mean(proposal.mean(proposal.log_prob)),
                out,
            )

        (_, (entropy, out)), grads = jax.value_and_grad(loss_of, has_aux=True)(params["actor"])
        missing = self.target_entropy * self.actor.entropy_unit(env.action_space) - entropy
        cools = (
            -jnp.exp(params["log_temperature"]) * missing
        )  # the slope of the temperature's loss, equation 18
        learnt, _ = self._descend(learnt, "actor", grads, clock, out.get("seen"))
        return self._descend(learnt, "log_temperature", cools, clock)[0]

    def _soft(self, params: Any, proposal: Proposal, value: jax.Array) -> jax.Array:
        """The soft value: actions' values [..., K] less what their certainty costs. [...]."""
        return proposal.mean(value - jnp.exp(params["log_temperature"]) * proposal.log_prob)

    # ---------------------------------------------------------------------------------------- parts

    def _actor(self, env: Env) -> networks.Recurrent:
        return networks.build(
            self.network, self.memory, self.actor.heads(env.action_space), trains_norm=True
        )

    def _critic(self, env: Env) -> Critic:
        heads = self.critic.heads(self._num_values(env))
        return critics.build(
            self.critic_network or self.network, self.memory, heads, self.actor.reads_action
        )

    def _num_values(self, env: Env) -> int:
        return self.actor.num_values(env.action_space)

    def _look(
        self, env: Env, params: Any, memory: Any, obs: Any
    ) -> tuple[Any, dict[str, jax.Array]]:
        """The actor's heads at one observation."""
        obs = jax.tree.map(lambda x: jnp.asarray(x)[None], obs)
        own = memory if self.noise_correlation is None else memory["memory"]
        own, out = self._actor(env).apply(params["actor"], own, obs, jnp.zeros(1, bool))
        return own if self.noise_correlation is None else memory | {"memory": own}, jax.tree.map(
            lambda x: x[0], out
        )

    def _rates(self, factor: Any) -> dict[str, Any]:
        """The learning rates of what is learnt apart."""
        actor_lr = self.lr if self.actor_lr is None else self.actor_lr
        temperature_lr = self.lr if self.temperature_lr is None else self.temperature_lr
        return {
            "actor": actor_lr * factor,
            "critic": self.lr * factor,
            "log_temperature": temperature_lr * factor,
        }

    def _descend(
        self, learnt: Learnt, name: str, grads: Any, clock: Clock, seen: Any = None
    ) -> tuple[Learnt, jax.Array]:
        """One part a gradient step further, with the statistics of what it has `seen`; and its
        gradient's norm.
        """
        optimizer, part = (
            self.optimizer(self._rates(self.schedule(clock))[name]),
            learnt.params[name],
        )
        grads, weights = batch_norm.weights((grads, part))
        state, most = learnt.opt_state[name], self.max_grad_norm
        weights, state, norm = apply_gradients(optimizer, grads, state, weights, most, clock=clock)
        part = batch_norm.remember(batch_norm.reweigh(part, weights), seen)
        params, opt_state = learnt.params | {name: part}, learnt.opt_state | {name: state}
        return tree.replace(learnt, params=params, opt_state=opt_state), norm


def make(**fields: Any) -> OffPolicy:
    """An off-policy actor-critic by the fields of `ActorCritic` and of `OffPolicy`."""
    slow, rest = _split(fields, TargetNetworks)
    own, loop = _split({"copies": TargetNetworks(**slow)} | rest, ActorCritic)
    return OffPolicy(learner=ActorCritic(**own), **loop)


def _split(fields: dict[str, Any], kind: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """What are fields of this kind, and what are not."""
    own = {field.name for field in dataclasses.fields(kind)}
    return {k: v for k, v in fields.items() if k in own}, {
        k: v for k, v in fields.items() if k not in own
    }
