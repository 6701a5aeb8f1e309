"""What every algorithm is, and the pieces that several share."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import optax

from jaxrl.env import Env
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock, Metrics
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

State = Any


class Algorithm(Protocol):
    """A pytree of hyperparameters: every float may be traced, every count is static.

    Its state has the fields `params` and `clock`. A meta-learner's environment is a distribution of
    tasks, its step is a meta-update, and in place of `act` it has `judge(key, env, state,
    episodes)`: its score on so many selection tasks.
    """

    @property
    def steps_per_update(self) -> int: ...

    def init(self, key: jax.Array, env: Env, num_updates: float = float("inf")) -> State:
        """A learner at the start of a life of `num_updates`, which its schedules read."""
        ...

    def update(self, key: jax.Array, env: Env, state: State) -> tuple[State, Metrics]:
        """Acts, then learns."""
        ...

    def act(self, key: jax.Array, env: Env, state: State, memory: Any, obs: Any) -> tuple[Any, Any]:
        """What it does when it is judged: the greedy action, with normalisation frozen."""
        ...

    def memory(self, env: Env) -> Any:
        """The policy's memory at the start of an episode; () when it has none."""
        ...


@pytree
class Optimizer:
    """An optax optimiser as a value: `build(learning_rate, **options)`. The options are leaves, so
    they can be traced.

    Adam needs `eps_root` above 0 where a gradient is taken through it: a weight that never moved
    has a square root at 0.
    """

    build: Callable[..., Any] = static(default=optax.adam)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self, lr: Any) -> optax.GradientTransformationExtraArgs:
        return self.build(lr, **self.options)


@pytree
class Linear:
    """A factor that goes from 1 to `end` over the lifetime."""

    end: float = 0.0

    def __call__(self, clock: Clock) -> jax.Array:
        return 1.0 + (self.end - 1.0) * clock.fraction


@pytree
class Constant:
    """A factor of 1."""

    def __call__(self, clock: Clock) -> jax.Array:
        return jnp.ones_like(clock.fraction)


def clip_by_global_norm(grads: Any, limit: Any) -> tuple[Any, jax.Array]:
    """The gradients, scaled down together where their norm is above `limit`; and that norm. Safe at
    zero gradient.
    """
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)) + 1e-16)
    scale = jnp.minimum(1.0, limit / norm)
    return jax.tree.map(lambda g: g * scale, grads), norm


def apply_gradients(
    optimizer: optax.GradientTransformation,
    grads: Any,
    opt_state: Any,
    params: Any,
    max_norm: Any,
    **told: Any,
) -> tuple[Any, Any, jax.Array]:
    """One step of an optimiser, the gradient's global norm held to `max_norm`: parameters, its
    state, and that norm.

    told: what an optimiser may ask for, as the `clock` of a life, the share of an update's epochs
    that are over `epoch`, and a `key`; those that don't, as all of optax's common ones, are told
    nothing.
    """
    grads, norm = clip_by_global_norm(grads, max_norm)
    changes, opt_state = optax.with_extra_args_support(optimizer).update(
        grads, opt_state, params, **told
    )
    return optax.apply_updates(params, changes), opt_state, norm


def follow(targets: Any, params: Any, step: jax.Array, rate: Any, period: Any) -> Any:
    """Slow copies after gradient step `step` (from 1): `rate` of the way to the parameters, once
    every `period` steps.

    rate 1 and a long period is DQN's (Mnih et al., 2015); a small rate and period 1 is DDPG's
    (Lillicrap et al., 2015).
    """
    share = jnp.where(step % period == 0, rate, 0.0)
    return jax.tree.map(lambda slow, fast: slow + share * (fast - slow), targets, params)


def permutation(key: jax.Array, n: int) -> jax.Array:
    """0 to n - 1 in random order. [n].

    Sorts single words of random high bits and the index as low bits: a third of the time of
    `jax.random.permutation` on a CPU. Two indices keep their order where their random bits are
    equal, one pair in 2 ** (32 - log2 n).
    """
    low = jnp.uint32((1 << (n - 1).bit_length()) - 1)
    words = jax.random.bits(key, (n,)) & ~low | jnp.arange(n, dtype=jnp.uint32)
    return (jax.lax.sort(words, is_stable=False) & low).astype(jnp.int32)


def extends(
    base: Callable[..., Any], without: tuple[str, ...] = (), **defaults: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For a maker that passes what it does not know on to `base`, some of it with other defaults
    than base's.

    Its signature then names all that it takes, as the command line reads it; `without` are those
    that have no say in it.
    """

    def wrap(maker: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(maker)
        def made(**fields: Any) -> Any:
            for name in without:
                if name in fields:
                    raise TypeError(
                        f"{maker.__name__} has no {name}, unlike {base.__name__}: leave {name} out."
                    )
            return maker(**defaults | fields)

        taken = {
            name: taken
            for name, taken in inspect.signature(base).parameters.items()
            if name not in without
        }
        taken |= {
            name: taken[name].replace(default=value)
            for name, value in defaults.items()
            if name in taken
        }
        own = dict(inspect.signature(maker).parameters)
        taken = own | taken | own  # its own first, and as it has them
        taken = {k: taken[k] for k in sorted(taken, key=lambda k: taken[k].kind)}  # **fields last
        made.__signature__ = inspect.Signature(list(taken.values()))  # type: ignore[attr-defined]
        return made

    return wrap


def episode_metrics(batch: Transition) -> Metrics:
    """Of the episodes that ended in a batch: how many, their mean return and mean length (NaN when
    none did).
    """
    count = batch.done.sum()
    mean = lambda x: jnp.where(count > 0, jnp.sum(x * batch.done) / jnp.maximum(count, 1), jnp.nan)
    return {"return": mean(batch.ret), "length": mean(batch.length), "episodes": count}


def num_actions(env: Env) -> int:
    """How many actions there are, of an environment that `check_space` has found to be Discrete."""
    return cast(Discrete, env.action_space).n


def check_space(env: Env, allowed: tuple[type, ...], who: str) -> None:
    """Refuses an environment whose actions an algorithm or rule has no policy for."""
    if not hasattr(env, "action_space"):
        more = (
            ", it is a distribution of them: write one of its levels, tasks.sample(key)"
            if hasattr(env, "sample")
            else ""
        )
        raise TypeError(f"{type(env).__name__} is no environment, it has no action_space{more}.")
    kind = type(env.action_space)
    if kind not in allowed:
        names = ", ".join(space.__name__ for space in allowed)
        raise TypeError(
            f"{who} takes actions of {names}, but {env} has a {kind.__name__} action space. "
            "Choose an environment with such actions, or an algorithm for these (`jaxrl "
            "algorithms` lists them)."
        )
