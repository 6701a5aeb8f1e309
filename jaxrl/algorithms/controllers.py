"""Controllers: hyperparameters as functions of the clock and of what the last update measured."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import tree
from jaxrl.clock import Clock, Metrics
from jaxrl.errors import not_defined
from jaxrl.ranges import is_plain_number
from jaxrl.tree import leaf, pytree, static

ControllerState = Any
# metrics that LogLinear reads: their values before the first update
READ = {"kl": 0.01, "explained_variance": 0.0, "clip_fraction": 0.1}

EXAMPLES = {"epoch_limit": 4.0, "entropy_weight": 0.01, "lam": 0.95, "gamma": 0.99, "lr": 1e-3}


class Controller:
    """Base class of controllers: a pytree that sets hyperparameters before each update.

    `OnPolicy(controller=...)` learns from a rollout with the values of `settings`, and passes the
    metrics of the update to `post_update`. A schedule is a function of time alone; a controller may
    also respond to the training. Acting is not changed: a hyperparameter that only acting reads,
    such as the exploration of PQN, stays as it is.
    """

    def init(self) -> ControllerState:
        """Return the controller's state at the start of a training run; () without one."""
        return ()

    def settings(self, algo: Any, clock: Clock, state: ControllerState) -> dict[str, Any]:
        """The values for the next update, {name: value}; names as in a sweep.

        algo: the algorithm with its own hyperparameters.
        """
        raise not_defined(self, Controller.settings)

    def post_update(self, state: ControllerState, metrics: Metrics) -> ControllerState:
        """Return the state after an update with these metrics."""
        return state


@pytree
class AdaptiveRate(Controller):
    """A learning rate that keeps the policy's change in an update near `target_kl`.

    After an update with a KL above twice the target the rate is divided by `rate_step`, and below
    half of it multiplied, and it stays within a factor of `rate_limit` of `lr`. The schedule
    multiplies it too: use `rl.Constant()` for the KL alone. Rudin et al. (2022) change the rate
    after each minibatch. The KL is the mean over the gradient steps of an update, measured before
    each of them.
    """

    target_kl: float = leaf(0.01, "(0, inf)")
    rate_step: float = leaf(1.5, "[1, inf)")
    rate_limit: float = leaf(100.0, "[1, inf)")

    def init(self) -> jax.Array:
        return jnp.float32(1.0)

    def settings(self, algo: Any, clock: Clock, state: jax.Array) -> dict[str, Any]:
        if algo.epochs * algo.minibatches == 1:
            raise ValueError(
                "AdaptiveRate reads the KL after the first gradient step of an update, and "
                "epochs=1, minibatches=1 has only one: write epochs=4."
            )
        if algo.policy_step is not None:
            raise ValueError(
                "AdaptiveRate would follow the KL of policy_step, which lr does not change: write "
                "policy_step=None."
            )
        return {"lr": algo.lr * state}

    def post_update(self, state: jax.Array, metrics: Metrics) -> jax.Array:
        kl = _read(metrics, "kl")["kl"]
        lower = jnp.where(kl > 2.0 * self.target_kl, 1.0 / self.rate_step, 1.0)
        higher = jnp.where(kl < 0.5 * self.target_kl, self.rate_step, 1.0)
        return jnp.clip(state * lower * higher, 1.0 / self.rate_limit, self.rate_limit)


@pytree
class LogLinear(Controller):
    """Hyperparameters times exp(w . x), with features x of the training run; w = 0 changes nothing.

    The features, each about -1 to 1: 1; the elapsed fraction n / N; log10(N / 100); log10(KL /
    0.01) / 2; the explained variance; (clip fraction - 0.1) / 0.2. The last three are of the last
    update, clipped to [-1, 1], and 0 before the first. With an objective that clips nothing the
    clip fraction is 0, and its feature -0.5.

    weights: a row for each of `controlled`, a column for each feature. [fields, 6]. The exponent of
    a row is limited smoothly to +- `limit`. A hyperparameter of the range [0, 1], as `lam`, is
    changed by its distance from 1.
    """

    weights: jax.Array | np.ndarray
    limit: float = leaf(3.0, "(0, inf)")
    controlled: tuple[str, ...] = static(default=("lr", "clip", "entropy_weight", "lam"))

    FEATURES = ("1", "n / N", "log N", "log KL", "explained variance", "clip fraction")

    def __post_init__(self) -> None:
        if not self.controlled:
            raise ValueError('LogLinear controls nothing: write LogLinear.zero("lr", "clip").')
        shape, needed = jnp.shape(self.weights), (len(self.controlled), len(self.FEATURES))
        if shape[-2:] != needed:  # a sweep may have more axes
            raise ValueError(
                f"weights of shape {list(shape)} do not fit controlled={self.controlled}, which "
                f"needs {list(needed)}: write LogLinear.zero{self.controlled}."
            )

    @classmethod
    def zero(cls, *controlled: str) -> "LogLinear":
        """A controller of these hyperparameters that changes nothing."""
        return cls(jnp.zeros((len(controlled), len(cls.FEATURES))), controlled=controlled)

    def init(self) -> dict[str, jax.Array]:
        return {name: jnp.float32(value) for name, value in READ.items()}

    def settings(self, algo: Any, clock: Clock, state: dict[str, jax.Array]) -> dict[str, Any]:
        exponent = self.weights @ self.features(clock, state)
        factors = jnp.exp(self.limit * jnp.tanh(exponent / self.limit))
        ranges, values = tree.ranges(algo), _numbers(algo, self.controlled)

        def changed(path: str, factor: jax.Array) -> jax.Array:
            if ranges.get(path) == "[0, 1]":
                return jnp.maximum(1.0 - (1.0 - values[path]) * factor, 0.0)
            return values[path] * factor

        return {path: changed(path, factors[i]) for i, path in enumerate(values)}

    def features(self, clock: Clock, state: dict[str, jax.Array]) -> jax.Array:
        """The features x of an update. [6]."""
        start = 0 if clock.start is None else clock.start
        total = jnp.asarray(clock.total - start, jnp.float32)
        known = jnp.isfinite(total)  # an unbounded run has no log N
        log_total = jnp.where(known, jnp.log10(jnp.where(known, total, 100.0) / 100.0), 0.0)
        measured = jnp.stack(
            [
                jnp.log10(jnp.maximum(state["kl"], 1e-8) / 0.01) / 2.0,
                state["explained_variance"],
                (state["clip_fraction"] - 0.1) / 0.2,
            ]
        )
        of_time = jnp.stack([jnp.ones(()), jnp.asarray(clock.fraction, jnp.float32), log_total])
        return jnp.concatenate([of_time, jnp.clip(measured, -1.0, 1.0)])

    def post_update(self, state: dict[str, jax.Array], metrics: Metrics) -> dict[str, jax.Array]:
        return _read(metrics, *READ)


def _read(metrics: Metrics, *names: str) -> dict[str, jax.Array]:
    """The metrics of these names."""
    if missing := [name for name in names if name not in metrics]:
        raise TypeError(
            f"This controller reads {', '.join(names)}, and the rule reports no {missing[0]!r}: "
            "take a rule with a policy ratio, such as rl.Surrogate(), or a controller of your own."
        )
    return {name: jnp.asarray(metrics[name], jnp.float32) for name in names}


def _numbers(algo: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The values of these fields by their paths, which are numbers that a factor changes."""
    fields, found = tree.paths(algo), {}
    for name in names:
        path = tree.find(algo, name)
        value = tree.get(algo, path)
        if tree.is_static(fields[path]):
            raise TypeError(
                f"{name!r} is static: it shapes the compiled program, so no update can change it. "
                "Control a float; for the epochs it is epoch_limit."
            )
        if not isinstance(value, int | float | jax.Array | np.ndarray | np.generic):
            raise TypeError(f"{name!r} is not a number, so that no factor can change it.")
        fixed = 1.0 if tree.ranges(algo).get(path) == "[0, 1]" else 0.0
        if is_plain_number(value) and (math.isinf(value) or value == fixed):
            raise ValueError(
                f"{name}={value} stays so with any factor: set it to another number, as in {name}="
                f"{EXAMPLES.get(name, 0.5)}."
            )
        found[path] = value
    return found
