"""Heads of action values: a mean, a histogram, or quantiles of the return.

Every head combines with every option of `QLearning`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import gathers, losses, networks
from jaxrl.errors import not_defined
from jaxrl.q_values import q_heads
from jaxrl.ranges import check_ranges, is_plain_number
from jaxrl.tree import leaf, pytree, static

Out = dict[str, jax.Array]
Target = Callable[[jax.Array], jax.Array]  # values of what follows -> targets of this row


class Head:
    """Base class of the distributions of returns that a network predicts for each action: a pytree.

    Leading axes of `out` and of predictions are free.
    """

    def heads(self, num_actions: int, dueling: bool) -> dict[str, int]:
        """The network's heads."""
        raise not_defined(self, Head.heads)

    def init(self, key: jax.Array, num_actions: int, dueling: bool) -> Any:
        """Parameters in addition to the network's; () by default."""
        return ()

    def predict(self, key: jax.Array | None, params: Any, out: Out) -> Any:
        """The prediction for each action. Without a key, no fractions are sampled."""
        raise not_defined(self, Head.predict)

    def values(self, prediction: Any) -> jax.Array:
        """The action values: the means of the predictions. [..., n]."""
        raise not_defined(self, Head.values)

    def loss(
        self,
        prediction: Any,
        action: jax.Array,
        target: Target,
        next_prediction: Any,
        policy: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """The loss of one row, and the magnitude of its error. [], [].

        policy: the weights of the next actions [n].
        """
        raise not_defined(self, Head.loss)


def duel(out: Out, width: int) -> jax.Array:
    """Outputs for each action; with a "value" head, the value plus centred advantages.

    Wang et al. (2016), equation 9. From `out["q"]` [..., n * width] and `out["value"]`
    [..., width]. [..., n, width].
    """
    q = out["q"].reshape(*out["q"].shape[:-1], -1, width)
    return q if "value" not in out else out["value"][..., None, :] + q - q.mean(-2, keepdims=True)


def _mix(policy: jax.Array, x: jax.Array) -> jax.Array:
    """The mean over the policy [n] of an array for each action [n, K]. [K]."""
    return jnp.sum(policy[:, None] * x, axis=0)


@pytree
class Expected(Head):
    """The mean return, fitted by the Huber loss (Mnih et al., 2015)."""

    def heads(self, num_actions: int, dueling: bool) -> dict[str, int]:
        return q_heads(num_actions, 1, dueling)

    def predict(self, key: jax.Array | None, params: Any, out: Out) -> jax.Array:
        """Values. [..., n]."""
        return duel(out, 1)[..., 0]

    def values(self, prediction: jax.Array) -> jax.Array:
        return prediction

    def loss(
        self,
        prediction: jax.Array,
        action: jax.Array,
        target: Target,
        next_prediction: jax.Array,
        policy: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        taken = gathers.row(prediction, action)
        error = jax.lax.stop_gradient(target(gathers.total(policy * next_prediction))) - taken
        return losses.huber(error), jnp.abs(error)


@pytree
class Categorical(Head):
    """A histogram of returns, fitted by cross-entropy: C51 (Bellemare et al., 2017).

    It has `atoms` from `v_min` to `v_max`. The error is the Kullback-Leibler divergence of the
    prediction from the target, as in Rainbow (Hessel et al., 2018).
    """

    v_min: float = leaf(-10.0, "(-inf, inf)")
    v_max: float = leaf(10.0, "(-inf, inf)")
    atoms: int = static(default=51)

    def __post_init__(self) -> None:
        if self.atoms < 2:
            raise ValueError(
                f"atoms={self.atoms}: a histogram from v_min to v_max has 2 or more: write "
                "atoms=51."
            )
        check_ranges(self)
        if all(map(is_plain_number, (self.v_min, self.v_max))) and not self.v_min < self.v_max:
            raise ValueError(
                f"v_min={self.v_min} is not below v_max={self.v_max}: write the lowest return "
                "first, for example v_min=-10.0 and v_max=10.0."
            )

    @property
    def support(self) -> jax.Array:
        """The returns of the atoms. [atoms]."""
        return self.v_min + (self.v_max - self.v_min) * jnp.linspace(0.0, 1.0, self.atoms)

    def heads(self, num_actions: int, dueling: bool) -> dict[str, int]:
        return q_heads(num_actions, self.atoms, dueling)

    def predict(self, key: jax.Array | None, params: Any, out: Out) -> jax.Array:
        """Logits. [..., n, atoms]."""
        return duel(out, self.atoms)

    def values(self, prediction: jax.Array) -> jax.Array:
        p = jax.nn.softmax(prediction)
        return jnp.sum(p * jnp.broadcast_to(self.support, p.shape), axis=-1)

    def loss(
        self,
        prediction: jax.Array,
        action: jax.Array,
        target: Target,
        next_prediction: jax.Array,
        policy: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        p = _mix(policy, jax.nn.softmax(next_prediction))
        goal = jax.lax.stop_gradient(losses.project(p, target(self.support), self.support))
        loss = -jnp.sum(goal * jax.nn.log_softmax(gathers.row(prediction, action)))
        return loss, jnp.abs(loss + jnp.sum(goal * jnp.log(jnp.where(goal > 0, goal, 1.0))))


class QuantileRegression(Head):
    """Base class of heads that predict quantiles [..., n, K] and their fractions [..., K].

    kappa: the threshold of the quantile Huber loss (Dabney et al., 2018a, equation 10). The error
    is that of the mean.
    """

    kappa: Any

    def values(self, prediction: tuple[jax.Array, jax.Array]) -> jax.Array:
        return prediction[0].mean(-1)

    def loss(
        self,
        prediction: tuple[jax.Array, jax.Array],
        action: jax.Array,
        target: Target,
        next_prediction: tuple[jax.Array, jax.Array],
        policy: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """The loss over all pairs of quantiles, and the error of the mean. [], []."""
        theta, tau = prediction
        goal = jax.lax.stop_gradient(target(_mix(policy, next_prediction[0])))
        error = goal[None, :] - gathers.row(theta, action)[:, None]
        tau = jnp.broadcast_to(tau[:, None], error.shape)
        loss = losses.quantile(error, tau, self.kappa).mean(1).sum()
        return loss, jnp.abs(error.mean())


@pytree
class Quantile(QuantileRegression):
    """`quantiles` equally likely returns, fitted by quantile regression: QR-DQN.

    Dabney et al. (2018a).
    """

    kappa: float = leaf(1.0, "(0, inf)")
    quantiles: int = static(default=25)

    def heads(self, num_actions: int, dueling: bool) -> dict[str, int]:
        return q_heads(num_actions, self.quantiles, dueling)

    def predict(self, key: jax.Array | None, params: Any, out: Out) -> tuple[jax.Array, jax.Array]:
        """Quantiles and their fractions, the midpoints of equal intervals.

        [..., n, K], [..., K].
        """
        theta = duel(out, self.quantiles)
        return theta, jnp.broadcast_to(
            _midpoints(self.quantiles), (*theta.shape[:-2], self.quantiles)
        )


@pytree
class Implicit(QuantileRegression):
    """The quantile function of the return: IQN (Dabney et al., 2018b).

    The network's `size` features, times an embedding of the fraction in `cosines` (equation 4),
    then one linear layer. samples: the number of fractions sampled for each row and for its target.
    fractions: the number of fractions in acting, the midpoints of equal intervals, where the paper
    samples these too.
    """

    kappa: float = leaf(1.0, "(0, inf)")
    size: int = static(default=64)
    cosines: int = static(default=64)
    samples: int = static(default=8)
    fractions: int = static(default=32)

    def heads(self, num_actions: int, dueling: bool) -> dict[str, int]:
        return {"features": self.size}

    def init(self, key: jax.Array, num_actions: int, dueling: bool) -> dict[str, Any]:
        key_embedding, *keys = jax.random.split(key, 3)
        sizes = q_heads(num_actions, 1, dueling)
        top = {
            name: _linear(k, self.size, size, 1.0)
            for k, (name, size) in zip(keys, sizes.items(), strict=False)
        }
        return {
            "embedding": _linear(key_embedding, self.cosines, self.size, math.sqrt(2.0)),
            "top": top,
        }

    def predict(self, key: jax.Array | None, params: Any, out: Out) -> tuple[jax.Array, jax.Array]:
        """Quantiles and their fractions. [..., n, K], [..., K]."""
        features = out["features"]
        if key is None:
            tau = jnp.broadcast_to(
                _midpoints(self.fractions), (*features.shape[:-1], self.fractions)
            )
        else:
            tau = jax.random.uniform(key, (*features.shape[:-1], self.samples), features.dtype)
        angles = math.pi * jnp.multiply.outer(tau, jnp.arange(self.cosines, dtype=jnp.float32))
        x = features[..., None, :] * jax.nn.relu(_apply(params["embedding"], jnp.cos(angles)))
        theta = duel({name: _apply(layer, x) for name, layer in params["top"].items()}, 1)[..., 0]
        return theta.swapaxes(-1, -2), tau


def _midpoints(num: int) -> jax.Array:
    return (jnp.arange(num) + 0.5) / num


def _linear(key: jax.Array, inputs: int, outputs: int, scale: float) -> dict[str, jax.Array]:
    return {
        "kernel": networks.orthogonal(scale)(key, (inputs, outputs)),
        "bias": jnp.zeros(outputs, jnp.float32),
    }


def _apply(layer: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    y = x @ layer["kernel"]
    return y + jnp.broadcast_to(layer["bias"], y.shape)
