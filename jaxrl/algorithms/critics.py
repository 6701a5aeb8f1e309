"""Critics: an ensemble as one vmapped network, and the distribution of returns they predict."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl import networks
from jaxrl.algorithms.learner import Batch, apply_network, apply_network_next
from jaxrl.batch_norm import AXIS
from jaxrl.errors import not_defined
from jaxrl.masks import visible
from jaxrl.networks import MLP
from jaxrl.optimizer import permutation
from jaxrl.tree import leaf, pytree, replace

Out = dict[str, jax.Array]
SoftValue = Callable[[jax.Array], jax.Array]  # values of actions [..., K] -> value of states [...]
# joins an action to the features of an image or of a recurrent network
JOIN = MLP(hidden=(64,), activation=jax.nn.relu)


class Critic(NamedTuple):
    """A network of (observation, action): `trunk` reads observations, `top` also actions."""

    trunk: networks.Recurrent
    top: networks.Network


def build(
    network: networks.Builder,
    memory: networks.Memory | None,
    heads: Mapping[str, int],
    reads_action: bool,
) -> Critic:
    """A critic. Where it reads actions, an MLP has them as inputs beside the observation.

    With an image or a recurrent network (Yang and Nguyen, 2021), the action is an input beside
    their features: the recurrent state is of observations, whichever action is valued.
    """
    if not reads_action:
        return Critic(
            networks.build(network, memory, heads, trains_norm=True),
            networks.Network(lambda key, x: (), lambda params, x: x["out"]),
        )
    if memory is None and isinstance(network, MLP):
        return Critic(
            networks.Recurrent(
                lambda key, obs: (),
                lambda: (),
                lambda params, rnn_state, obs, is_first: ((), {"features": visible(obs)}),
            ),
            _top(network(heads)),
        )
    size = JOIN.hidden[0] if memory is None else memory.size
    return Critic(networks.build(network, memory, {"features": size}), _top(JOIN(heads)))


def _top(body: networks.Network) -> networks.Network:
    def pair(x: Any) -> dict[str, Any]:
        return {"action": x["action"], "features": x["out"]["features"]}

    return networks.Network(
        lambda key, x: body.init(key, pair(x)), lambda params, x: body.apply(params, pair(x))
    )


def init(key: jax.Array, critic: Critic, num: int, obs: Any, action: jax.Array) -> Any:
    """Parameters of `num` critics, [num, ...]."""

    def one(key: jax.Array) -> Any:
        key_trunk, key_top = jax.random.split(key)
        trunk = critic.trunk.init(key_trunk, obs)
        out = critic.trunk.apply(
            trunk, critic.trunk.start(), jax.tree.map(lambda x: x[None], obs), jnp.zeros(1, bool)
        )[1]
        out = jax.tree.map(lambda x: x[0], out)
        return {"trunk": trunk, "top": critic.top.init(key_top, {"out": out, "action": action})}

    return jax.vmap(one)(jax.random.split(key, num))


def q_values(
    critic: Critic, params: Any, batch: Batch, action: jax.Array, at_next: bool = False
) -> Out:
    """Each critic's heads for `action` [B, T, ...]. {head: [num, B, T, K]}.

    They are at each row's observation or, where `at_next`, at the one that it bootstraps from. A
    critic's recurrent state starts from zeros at the burn-in: the stored one is the actor's.
    """
    if jax.tree.leaves(batch.rnn_state):
        num = batch.reward.shape[0]
        start = jax.tree.map(lambda x: jnp.broadcast_to(x, (num, *x.shape)), critic.trunk.start())
        batch = replace(batch, rnn_state=start)

    def one(params: Any) -> Out:
        apply = apply_network_next if at_next else apply_network
        out = apply(critic.trunk, params["trunk"], batch)

        def top(out: Out, action: jax.Array) -> Out:
            return critic.top.apply(params["top"], {"out": out, "action": action})

        return jax.vmap(jax.vmap(top), axis_name=AXIS)(out, action)

    return jax.vmap(one)(params)


def sample_critics(key: jax.Array, ensemble: Any, num_samples: int) -> Any:
    """`num_samples` critics of the leading axis, without replacement.

    Chen et al. (2021), algorithm 1. All of the critics keep their order.
    """
    num = len(jax.tree.leaves(ensemble)[0])
    if num_samples == num:
        return ensemble
    index = permutation(key, num)[:num_samples]
    return jax.tree.map(lambda x: x[index], ensemble)


# ------------------------------------------------------------------------- distributions of returns


class ReturnHead:
    """Base class of what critics predict of a return: a pytree.

    `out` [N, ...] are the heads of N critics at the actions taken, `next_out` [M, ..., K] those of
    M target critics at next actions.
    """

    def heads(self, num_values: int) -> dict[str, int]:
        """The network's heads, one of which is "q", the mean."""
        raise not_defined(self, ReturnHead.heads)

    def init(self, num: int) -> Any:
        """Running statistics of `num` critics over batches; () by default."""
        return ()

    def update(self, statistics: Any, out: Out, step: jax.Array) -> Any:
        """Return the statistics with a batch; `step` counts from 0."""
        return statistics

    def loss(
        self,
        key: jax.Array,
        statistics: Any,
        out: Out,
        next_out: Out,
        soft_value: SoftValue,
        reward: jax.Array,
        discount: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Each critic's loss, and its error: target minus value. [N, ...], [N, ...].

        soft_value: the soft value [...] of the next state, from values of next actions [..., K].
        """
        raise not_defined(self, ReturnHead.loss)


@pytree
class Expected(ReturnHead):
    """The mean return, fitted by half the squared error.

    The target is the smallest of those of the target critics (Fujimoto et al., 2018, equation 10).
    """

    def heads(self, num_values: int) -> dict[str, int]:
        return {"q": num_values}

    def loss(
        self,
        key: jax.Array,
        statistics: Any,
        out: Out,
        next_out: Out,
        soft_value: SoftValue,
        reward: jax.Array,
        discount: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        return squared_error(out["q"], reward + discount * soft_value(next_out["q"].min(0)))


def squared_error(value: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Half the squared error of each critic's value [N, ...], and the error. [N, ...], [N, ...]."""
    error = jax.lax.stop_gradient(target)[None] - value
    return 0.5 * error**2, error


@pytree
class Gaussian(ReturnHead):
    """A Gaussian of returns: DSAC with three refinements (Duan et al., 2023).

    The mean's target is an expectation, not a sample (expected value substituting); it is that of
    the critic with the smaller mean (twin value distributions); losses are weighted by the mean
    variance over each return's variance, and samples clipped to `bound` mean standard deviations
    (variance-based gradient adjustment). Those means are exponential averages over batches with the
    rate `spread_rate`; `epsilon` is added to divisors, and to the weight. The gradients are the
    paper's, of a loss that has them. (The authors' code also clips the weight to 0.1 to 10, and
    fits the variance to half the squared error.)
    """

    bound: float = leaf(3.0, "(0, inf]")
    epsilon: float = leaf(0.1, "(0, inf)")
    spread_rate: float = leaf(0.005, "[0, 1]")

    def heads(self, num_values: int) -> dict[str, int]:
        if num_values != 1:
            raise ValueError(
                "Gaussian returns are of one sampled action, but this actor weights "
                f"{num_values}. Write critic=Expected() for a Softmax actor."
            )
        return {"q": 1, "std": 1}

    def init(self, num: int) -> dict[str, jax.Array]:
        return {"std": jnp.zeros(num), "variance": jnp.zeros(num)}

    def update(
        self, statistics: dict[str, jax.Array], out: Out, step: jax.Array
    ) -> dict[str, jax.Array]:
        std = jax.nn.softplus(out["std"]).reshape(len(statistics["std"]), -1)
        means = {"std": std.mean(1), "variance": (std**2).mean(1)}
        rate = jnp.where(step == 0, 1.0, self.spread_rate)
        return jax.tree.map(lambda old, new: old + rate * (new - old), statistics, means)

    def loss(
        self,
        key: jax.Array,
        statistics: Any,
        out: Out,
        next_out: Out,
        soft_value: SoftValue,
        reward: jax.Array,
        discount: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        mean, std = out["q"], jax.nn.softplus(out["std"])
        smaller = jnp.argmin(next_out["q"], axis=0)[None]
        next_mean, next_std = (
            jnp.take_along_axis(next_out[name], smaller, axis=0)[0] for name in ("q", "std")
        )
        target = reward + discount * soft_value(next_mean)
        noise = jnp.clip(jax.random.normal(key, target.shape), -3.0, 3.0)
        sample = target + discount * jax.nn.softplus(next_std[..., 0]) * noise

        def expanded(x: jax.Array) -> jax.Array:
            return x.reshape(-1, *(1,) * target.ndim)

        limit = self.bound * expanded(statistics["std"])
        weight = expanded(statistics["variance"]) + self.epsilon
        fixed_mean, fixed_std, fixed_target = jax.lax.stop_gradient((mean, std, target))
        error = fixed_target[None] - fixed_mean
        deviation = jax.lax.stop_gradient(jnp.clip(sample[None] - fixed_mean, -limit, limit))
        fit_mean = 0.5 * (fixed_target[None] - mean) ** 2 / (fixed_std**2 + self.epsilon)
        fit_std = std * (fixed_std**2 - deviation**2) / (fixed_std**3 + self.epsilon)
        return weight * (fit_mean + fit_std), error
