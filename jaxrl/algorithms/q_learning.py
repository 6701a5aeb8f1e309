"""Learning what actions are worth: DQN and its extensions, each a value of its own."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import masks, networks, noise
from jaxrl.algorithms.backups import Identity, Max, Munchausen, SignedRoot
from jaxrl.algorithms.base import Linear, Optimizer, apply_gradients, extends, follow, num_actions
from jaxrl.algorithms.learner import Batch, Learnt, read, read_next
from jaxrl.algorithms.off_policy import OffPolicy
from jaxrl.algorithms.value_heads import Categorical, Expected, Implicit, Quantile
from jaxrl.distributions import EpsilonGreedyCategorical as Greedy
from jaxrl.env import Env
from jaxrl.memories import GRU
from jaxrl.networks import MLP
from jaxrl.replay import Prioritized, Uniform
from jaxrl.rules.base import Clock, Metrics
from jaxrl.rules.exploration import EpsilonGreedy
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

EXPECTED, IDENTITY, CONSTANT = Expected(), Identity(), Linear(1.0)
NETWORK = MLP(
    activation=jax.nn.relu, layer_norm=True
)  # without it, bootstrapped values of a ReLU network often run away
ADAM = Optimizer(optax.adam, {"eps_root": 1e-16})


@pytree
class QLearning:
    """Q-learning from batches (Mnih et al., 2015): `head` says what a value is, `backup` what the
    target follows.

    transform: the scale that values are learnt on. exploration: the schedule of random actions.
    tau, target_period: how the slow copy follows, in gradient steps. noise_scale: what a
    noisy network begins with. network, memory: builders, as in `OnPolicy`. dueling: a value and
    advantages apart. noisy: parameters are drawn for each step and batch.
    """

    head: Any = Expected()
    backup: Any = Max()
    transform: Any = Identity()
    exploration: Any = EpsilonGreedy()
    lr: float = 1e-3
    schedule: Any = CONSTANT
    gamma: float = 0.99
    tau: float = 1.0
    target_period: float = 500.0
    max_grad_norm: float = 10.0
    noise_scale: float = 0.5
    optimizer: Any = ADAM
    network: networks.Builder = static(default=NETWORK)
    memory: networks.Memory | None = static(default=None)
    dueling: bool = static(default=False)
    noisy: bool = static(default=False)

    action_spaces = (Discrete,)

    def init(self, key: jax.Array, env: Env, obs: Any) -> Learnt:
        key_network, key_head = jax.random.split(key)
        own = self.head.init(key_head, num_actions(env), self.dueling)
        params = {"network": self._network(env).init(key_network, obs), "head": own}
        params = noise.add(params, self.noise_scale) if self.noisy else params
        return Learnt(
            params,
            jax.tree.map(jnp.copy, params),
            self.optimizer(self.lr).init(params),
            jnp.int32(0),
        )

    def start(self, env: Env) -> Any:
        return self._network(env).start()

    def explore(
        self, key: jax.Array, env: Env, params: Any, memory: Any, obs: Any, clock: Clock
    ) -> tuple[Any, Any]:
        key_noise, key_chance = jax.random.split(key)
        memory, values = self.values(env, noise.draw(key_noise, params), memory, obs)
        return memory, Greedy(values, self.exploration.epsilon(clock)).sample(key_chance)

    def act(self, key: jax.Array, env: Env, params: Any, memory: Any, obs: Any) -> tuple[Any, Any]:
        memory, values = self.values(env, noise.mean(params), memory, obs)
        return memory, jnp.argmax(values)

    def values(self, env: Env, params: Any, memory: Any, obs: Any) -> tuple[Any, jax.Array]:
        """What each action is worth at one observation, -inf where it is masked: (memory, [n])."""
        obs = jax.tree.map(lambda x: jnp.asarray(x)[None], obs)
        memory, out = self._network(env).apply(params["network"], memory, obs, jnp.zeros(1, bool))
        return memory, self._predict(None, params, out)[1][0]

    def learn(
        self, key: jax.Array, env: Env, learnt: Learnt, batch: Batch, clock: Clock
    ) -> tuple[Learnt, jax.Array, Metrics]:
        network = self._network(env)
        key_noise, key_head = jax.random.split(key)
        noises, heads = jax.random.split(key_noise, 3), jax.random.split(key_head, 4)
        slow, online = noise.draw(noises[0], learnt.targets), noise.draw(noises[1], learnt.params)
        _, value = self._predict(heads[0], slow, read(network, slow["network"], batch))
        following, next_value = self._predict(
            heads[1], slow, read_next(network, slow["network"], batch)
        )
        _, next_online = self._predict(
            heads[2], online, read_next(network, online["network"], batch)
        )
        backup = jax.vmap(jax.vmap(self.backup))(value, next_value, next_online, batch.action)
        policy, bonus, next_bonus = jax.lax.stop_gradient(backup)
        reward = batch.reward + bonus + batch.discount * next_bonus

        def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            params = noise.draw(noises[2], params)
            now, value = self._predict(heads[3], params, read(network, params["network"], batch))
            rows = now, batch.action, reward, batch.discount, following, policy
            loss, error = jax.vmap(jax.vmap(self._loss))(*rows)
            return jnp.mean(batch.weight * loss), (error, value)

        (loss, (error, value)), grads = jax.value_and_grad(loss_of, has_aux=True)(learnt.params)
        optimizer = self.optimizer(self.lr * self.schedule(clock))
        params, opt_state, norm = apply_gradients(
            optimizer, grads, learnt.opt_state, learnt.params, self.max_grad_norm, clock=clock
        )
        step = learnt.step + 1
        targets = follow(learnt.targets, params, step, self.tau, self.target_period)
        metrics = {
            "loss": loss,
            "grad_norm": norm,
            "value": value.max(-1).mean(),
            "error": error.mean(),
        }
        return (
            Learnt(params, targets, opt_state, step),
            priority_of(error * (batch.weight > 0)),
            metrics,
        )

    def _network(self, env: Env) -> networks.Recurrent:
        return networks.build(
            self.network, self.memory, self.head.heads(num_actions(env), self.dueling)
        )

    def _predict(
        self, key: jax.Array | None, params: Any, out: dict[str, jax.Array]
    ) -> tuple[Any, jax.Array]:
        """What the head says of each action, and what each is worth, -inf where it is masked: [...,
        n].
        """
        prediction = self.head.predict(key, params["head"], out)
        return prediction, masks.allow(self.head.values(prediction), out.get("mask"))

    def _loss(
        self,
        now: Any,
        action: jax.Array,
        reward: jax.Array,
        discount: jax.Array,
        following: Any,
        policy: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """The loss of one row and the size of its error. [], []."""
        target = lambda value: self.transform(reward + discount * self.transform.inverse(value))
        return self.head.loss(now, action, target, following, policy)


def priority_of(error: jax.Array) -> jax.Array:
    """A piece's priority from the sizes of its rows' errors [N, T]: mostly the largest (Kapturowski
    et al., 2019). [N].
    """
    return 0.9 * error.max(-1) + 0.1 * error.mean(-1)


def dqn(
    *,
    lr: float = 1e-3,
    gamma: float = 0.99,
    double: bool = True,
    epsilon_start: float = 1.0,
    epsilon_end: float = 0.05,
    epsilon_fraction: float = 0.5,
    tau: float = 1.0,
    target_period: float = 500.0,
    max_grad_norm: float = 10.0,
    noise_scale: float = 0.5,
    dueling: bool = False,
    noisy: bool = False,
    prioritized: bool = False,
    head: Any = EXPECTED,
    backup: Any = None,
    transform: Any = IDENTITY,
    schedule: Any = CONSTANT,
    optimizer: Any = ADAM,
    network: networks.Builder = NETWORK,
    memory: networks.Memory | None = None,
    **fields: Any,
) -> OffPolicy:
    """Deep Q-learning (Mnih et al., 2015), double, dueling, n-step, noisy or prioritised, each as
    you like.

    A `backup` of your own says itself whether it is double. `fields` are those of `OffPolicy`;
    floats may be traced.
    """
    learner = QLearning(
        head=head,
        backup=Max(double) if backup is None else backup,
        transform=transform,
        exploration=EpsilonGreedy(epsilon_start, epsilon_end, epsilon_fraction),
        lr=lr,
        schedule=schedule,
        gamma=gamma,
        tau=tau,
        target_period=target_period,
        max_grad_norm=max_grad_norm,
        noise_scale=noise_scale,
        optimizer=optimizer,
        network=network,
        memory=memory,
        dueling=dueling,
        noisy=noisy,
    )
    return OffPolicy(
        **{"learner": learner, "priority": Prioritized() if prioritized else Uniform()} | fields
    )


@extends(dqn)
def c51(*, v_min: float = -10.0, v_max: float = 10.0, atoms: int = 51, **fields: Any) -> OffPolicy:
    """Categorical DQN: values as histograms between v_min and v_max (Bellemare et al., 2017).

    `fields` are `dqn`'s.
    """
    return dqn(head=Categorical(v_min, v_max, atoms), **fields)


@extends(dqn)
def qr_dqn(*, kappa: float = 1.0, quantiles: int = 25, **fields: Any) -> OffPolicy:
    """Quantile regression DQN: values as equally likely returns (Dabney et al., 2018a).

    `fields` are `dqn`'s.
    """
    return dqn(head=Quantile(kappa, quantiles), **fields)


@extends(dqn)
def iqn(
    *, kappa: float = 1.0, cosines: int = 64, samples: int = 8, fractions: int = 32, **fields: Any
) -> OffPolicy:
    """Implicit quantile networks: values as quantile functions (Dabney et al., 2018b).

    `fields` are `dqn`'s.
    """
    return dqn(
        head=Implicit(kappa, cosines=cosines, samples=samples, fractions=fractions), **fields
    )


@extends(dqn, without=("double",))
def munchausen_dqn(
    *, alpha: float = 0.9, temperature: float = 0.03, least: float = -1.0, **fields: Any
) -> OffPolicy:
    """Munchausen DQN: a soft policy, rewarded for what it found likely (Vieillard et al., 2020).
    `fields` are `dqn`'s.

    With `head=Implicit()` it is M-IQN.
    """
    return dqn(backup=Munchausen(alpha, temperature, least), **fields)


@extends(
    c51, epsilon_start=0.0, epsilon_end=0.0, dueling=True, noisy=True, prioritized=True, n_step=3
)
def rainbow(**fields: Any) -> OffPolicy:
    """C51 that is double, dueling, noisy, prioritised and 3-step (Hessel et al., 2018).

    `fields` are `c51`'s.
    """
    return c51(**fields)


@extends(dqn, dueling=True, prioritized=True, memory=GRU(), n_step=5, num_envs=8, batch_size=32)
def r2d2(*, eps: float = 1e-3, **fields: Any) -> OffPolicy:
    """Recurrent Q-learning from prioritised sequences (Kapturowski et al., 2019), values on the
    scale of `SignedRoot(eps)`.

    `fields` are `dqn`'s, among them `burn_in` and `sequence` of `OffPolicy`.
    """
    if fields["memory"] is None:
        raise ValueError(
            "R2D2 is recurrent, but memory=None: write memory=rl.GRU(64) (--memory 64), or "
            "take `dqn`, which needs none."
        )
    return dqn(transform=SignedRoot(eps), **fields)
