"""What actions are worth: an ensemble of critics as one vmapped network, and what each says of a
return.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxrl import networks
from jaxrl.algorithms.base import permutation
from jaxrl.algorithms.learner import Batch, read, read_next
from jaxrl.batch_norm import AXIS
from jaxrl.masks import visible
from jaxrl.networks import MLP
from jaxrl.tree import pytree, replace

Out = dict[str, jax.Array]
Soft = Callable[
    [jax.Array], jax.Array
]  # what actions are worth [..., K] -> what is to be expected [...]
JOIN = MLP(
    hidden=(64,), activation=jax.nn.relu
)  # what adds an action to the features of an image or of a memory


class Critic(NamedTuple):
    """A network of (observation, action) in two parts: the `trunk` sees observations, and the `top`
    adds the action.
    """

    trunk: networks.Recurrent
    top: networks.Network


def build(
    network: networks.Builder,
    memory: networks.Memory | None,
    heads: Mapping[str, int],
    reads_action: bool,
) -> Critic:
    """A critic: where it reads no action, the network that others have. Else the action is an input
    beside the observation.

    Of an image, and of a memory (Yang and Nguyen, 2021), it is an input beside their features: what
    a memory holds is what was seen, whichever action the critic is asked about.
    """
    if not reads_action:
        return Critic(
            networks.build(network, memory, heads, trains_norm=True),
            networks.Network(lambda key, x: (), lambda params, x: x["out"]),
        )
    if memory is None and isinstance(network, MLP):
        see = lambda params, memory, obs, first: ((), {"features": visible(obs)})
        return Critic(
            networks.Recurrent(lambda key, obs: (), lambda: (), see), _top(network(heads))
        )
    size = JOIN.hidden[0] if memory is None else memory.size
    return Critic(networks.build(network, memory, {"features": size}), _top(JOIN(heads)))


def _top(body: networks.Network) -> networks.Network:
    pair = lambda x: {"action": x["action"], "features": x["out"]["features"]}
    return networks.Network(
        lambda key, x: body.init(key, pair(x)), lambda params, x: body.apply(params, pair(x))
    )


def init(key: jax.Array, critic: Critic, num: int, obs: Any, action: jax.Array) -> Any:
    """Parameters of `num` critics, [num, ...]."""

    def one(key: jax.Array) -> Any:
        key_trunk, key_top = jax.random.split(key)
        trunk = critic.trunk.init(key_trunk, obs)
        seen = critic.trunk.apply(
            trunk, critic.trunk.start(), jax.tree.map(lambda x: x[None], obs), jnp.zeros(1, bool)
        )[1]
        seen = jax.tree.map(lambda x: x[0], seen)
        return {"trunk": trunk, "top": critic.top.init(key_top, {"out": seen, "action": action})}

    return jax.vmap(one)(jax.random.split(key, num))


def look(critic: Critic, params: Any, batch: Batch, action: jax.Array, ahead: bool = False) -> Out:
    """What each critic says of `action` [B, T, ...] at each row's observation, or at what came
    `ahead`. [num, B, T, K].

    Its memory begins with the piece and its past: what was stored is the actor's.
    """
    if jax.tree.leaves(batch.memory):
        start = critic.trunk.start()
        zeros = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (batch.reward.shape[0], *x.shape)), start
        )
        batch = replace(batch, memory=zeros)

    def one(params: Any) -> Out:
        out = (read_next if ahead else read)(critic.trunk, params["trunk"], batch)
        judge = lambda out, a: critic.top.apply(params["top"], {"out": out, "action": a})
        return jax.vmap(jax.vmap(judge), axis_name=AXIS)(out, action)

    return jax.vmap(one)(params)


def pick(key: jax.Array, of: Any, num_target_critics: int) -> Any:
    """`num_target_critics` of the critics that are the leading axis, at random (Chen et al., 2021, algorithm
    1); all as they are.
    """
    num = len(jax.tree.leaves(of)[0])
    if num_target_critics == num:
        return of
    chosen = permutation(key, num)[:num_target_critics]
    return jax.tree.map(lambda x: x[chosen], of)


# ------------------------------------------------------------------------- what is said of a return


class Return(Protocol):
    """A pytree.

    `out` [N, ...] is what N critics say of what was done; `next_out` [M, ..., K] what M say of next
    actions.
    """

    def heads(self, num_values: int) -> dict[str, int]: ...

    def init(self, num: int) -> Any:
        """What it keeps from batch to batch; () if nothing."""
        ...

    def keep(self, kept: Any, out: Out, step: jax.Array) -> Any:
        """The same after another batch; `step` counts from 0."""
        ...

    def loss(
        self,
        key: jax.Array,
        kept: Any,
        out: Out,
        next_out: Out,
        soft: Soft,
        reward: jax.Array,
        discount: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Each critic's loss and its error, target less value. [N, ...], [N, ...].

        soft: the soft value [...] of what follows, of the next actions' values [..., K].
        """
        ...


@pytree
class Expected:
    """Its mean, "q", fitted by half the squared error; the target is by the least of M critics
    (Fujimoto et al., 2018).
    """

    def heads(self, num_values: int) -> dict[str, int]:
        return {"q": num_values}

    def init(self, num: int) -> tuple[()]:
        return ()

    def keep(self, kept: tuple[()], out: Out, step: jax.Array) -> tuple[()]:
        return kept

    def loss(
        self,
        key: jax.Array,
        kept: Any,
        out: Out,
        next_out: Out,
        soft: Soft,
        reward: jax.Array,
        discount: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        target = reward + discount * soft(next_out["q"].min(0))
        error = jax.lax.stop_gradient(target)[None] - out["q"]
        return 0.5 * error**2, error


@pytree
class Gaussian:
    """A Gaussian's mean "q" and its spread: DSAC with three refinements (Duan et al., 2023).

    The mean's target is an expectation, not a sample (expected value substituting); it is that of
    the critic with the lower mean (twin value distributions); losses are weighed by the mean
    variance over each return's own, and samples held within `bound` mean spreads (variance-based
    gradient adjustment). Those means over batches follow at `spread_rate`; `epsilon` is added to
    what is divided by, and to the weight. The gradients are the paper's, of a loss that has them.
    (The authors' code also holds the weight to 0.1 to 10, and fits the variance to half the squared
    error.)
    """

    bound: float = 3.0
    epsilon: float = 0.1
    spread_rate: float = 0.005

    def heads(self, num_values: int) -> dict[str, int]:
        if num_values != 1:
            raise ValueError(
                "Gaussian returns are of one action that was drawn, but this actor weighs "
                f"{num_values}. Write "
                "critic=Expected() for a Softmax actor."
            )
        return {"q": 1, "std": 1}

    def init(self, num: int) -> dict[str, jax.Array]:
        return {"std": jnp.zeros(num), "variance": jnp.zeros(num)}

    def keep(self, kept: dict[str, jax.Array], out: Out, step: jax.Array) -> dict[str, jax.Array]:
        std = jax.nn.softplus(out["std"]).reshape(len(kept["std"]), -1)
        now = {"std": std.mean(1), "variance": (std**2).mean(1)}
        rate = jnp.where(step == 0, 1.0, self.spread_rate)
        return jax.tree.map(lambda old, new: old + rate * (new - old), kept, now)

    def loss(
        self,
        key: jax.Array,
        kept: Any,
        out: Out,
        next_out: Out,
        soft: Soft,
        reward: jax.Array,
        discount: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        mean, std = out["q"], jax.nn.softplus(out["std"])
        lower = jnp.argmin(next_out["q"], axis=0)[None]
        next_mean, next_std = (
            jnp.take_along_axis(next_out[name], lower, axis=0)[0] for name in ("q", "std")
        )
        target = reward + discount * soft(next_mean)
        luck = jnp.clip(jax.random.normal(key, target.shape), -3.0, 3.0)
        drawn = target + discount * jax.nn.softplus(next_std[..., 0]) * luck
        wide = lambda x: x.reshape(-1, *(1,) * target.ndim)
        limit, weight = self.bound * wide(kept["std"]), wide(kept["variance"]) + self.epsilon
        own, spread, goal = jax.lax.stop_gradient((mean, std, target))
        error, reach = (
            goal[None] - own,
            jax.lax.stop_gradient(jnp.clip(drawn[None] - own, -limit, limit)),
        )
        fit = 0.5 * (goal[None] - mean) ** 2 / (spread**2 + self.epsilon)
        widen = std * (spread**2 - reach**2) / (spread**3 + self.epsilon)
        return weight * (fit + widen), error
