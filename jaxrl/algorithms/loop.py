"""The training loop: many updates as one scan that sums their metrics."""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend as jex
import jax.numpy as jnp
import numpy as np

from jaxrl import packing, tree
from jaxrl.algorithms.base import Algorithm, State
from jaxrl.clock import Metrics
from jaxrl.env import Env, Tasks
from jaxrl.rollout import Episode
from jaxrl.tree import pytree


@pytree
class Row:
    """Metrics by name, and for those that may have no value a bool, True where they have one.

    Inside a program a missing value is any number, so that no NaN leaves it: jax_debug_nans stops
    at NaN. `metrics` puts NaN there.
    """

    values: Metrics
    known: Metrics

    def metrics(self) -> Metrics:
        """The metrics, with NaN for a missing value."""

        missing: Any = jnp.nan  # of the type of the metric
        return {
            name: tree.where(jnp.asarray(self.known[name]), x, missing) if name in self.known else x
            for name, x in self.values.items()
        }

    def on_host(self) -> dict[str, np.ndarray]:
        """`metrics` of a row that was computed, as NumPy arrays."""
        values, known = jax.device_get((self.values, self.known))
        for name, mask in known.items():
            x = values[name]
            mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
            values[name] = np.where(mask, x, np.asarray(np.nan, x.dtype))
        return values


COUNTED = "counted"  # of the sums: the number of updates that were not padding
Step = Callable[[Any, jax.Array], Any]  # (carry, i) -> carry
Scan = Callable[[Step, Any, int], Any]  # (step, carry, num_updates) -> the carry after all of them


def run_updates(
    key: jax.Array,
    algo: Algorithm,
    env: Env | Tasks,
    state: State,
    num_updates: int,
    count: jax.Array | int | None = None,
    last_update: jax.Array | None = None,
    scan: Scan | None = None,
) -> tuple[State, Metrics]:
    """Return the state after `num_updates` updates, and the sums of their metrics.

    Update i has the key `fold_in(key, i)`. Memory does not grow with the number of updates.

    count: only the first `count` updates are computed (a branch, the same for all members under
    vmap). last_update: a member is padding once its clock has reached it: it does not change any
    more, and its metrics are not counted. scan: the loop in place of `jax.lax.scan`, such as
    `tree_scan`, which needs less memory in reverse mode, or a `fori_loop` up to a traced number.
    """
    update, (_, shapes) = _traced(lambda key, state: algo.update(key, env, state), key, state)

    def run(carry: tuple[State, Metrics], i: jax.Array) -> tuple[State, Metrics]:
        state, _ = unpack(carry)
        new_state, metrics = update(jax.random.fold_in(key, i), state)
        sums = to_sums(env, metrics)
        if last_update is not None:
            active = state.clock.n < last_update
            new_state = algo.freeze(active, new_state, state)
            sums = jax.tree.map(lambda x: jnp.where(active, x, jnp.zeros_like(x)), sums)
            sums[COUNTED] = jnp.float32(active)
        return pack_state(new_state), packing.plus(carry[1], sums)

    def one(carry: tuple[State, Metrics], i: jax.Array) -> tuple[State, Metrics]:
        if count is None:
            return run(carry, i)
        return jax.lax.cond(i < count, run, lambda carry, _: carry, carry, i)

    shapes = jax.eval_shape(lambda metrics: to_sums(env, metrics), shapes)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    if last_update is not None:
        zeros[COUNTED] = jnp.float32(0.0)
    pack_state, unpack = _packing(state)
    start = pack_state(state), packing.packed(zeros)
    step: Any = lambda carry, i: (one(carry, i), ())
    enter = leave = lambda carry: carry
    if algo.gradient_steps_per_update > 1:  # of a single one XLA merges as many by itself
        step, enter, leave = packing.scalars_first(step, start, jnp.int32(0))
    loop = _scan if scan is None else scan
    return unpack(leave(loop(lambda carry, i: step(carry, i)[0], enter(start), num_updates)))


def _traced(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], Any]:
    """A function that is traced once, for arguments of these shapes, and the shapes of its result.

    Unlike `jax.jit(inline=True)` it leaves each operation its own line of source, which profilers
    and `rl.accelerator` show. Under jax_disable_jit the function itself is called, on arrays.
    """
    config: Any = jax.config
    if config.jax_disable_jit:
        return function, jax.eval_shape(function, *arguments)
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    evaluate, structure = jex.core.jaxpr_as_fun(program), jax.tree.structure(shapes)

    def call(*arguments: Any) -> Any:
        return structure.unflatten(evaluate(*jax.tree.leaves(arguments)))

    return call, shapes


def _packing(state: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """A function that packs the episodes of a state for a GPU, and one that unpacks a state and
    its sums; elsewhere neither changes anything.
    """
    if not packing.packs():
        return lambda state: state, lambda carry: carry
    is_episode = lambda x: isinstance(x, Episode)
    small = jax.tree.map(is_episode, state, is_leaf=is_episode)

    def pack(state: State) -> Any:
        each = lambda x: packing.pack(x) if is_episode(x) else x
        return jax.tree.map(each, state, is_leaf=is_episode)

    def unpack(packed: Any) -> tuple[State, Metrics]:
        state, totals = packed
        state = jax.tree.map(lambda is_packed, x: x.unpack() if is_packed else x, small, state)
        return state, totals.unpack()

    return pack, unpack


def _scan(step: Step, carry: Any, num_updates: int) -> Any:
    return jax.lax.scan(lambda carry, i: (step(carry, i), None), carry, jnp.arange(num_updates))[0]


def to_sums(env: Env | Tasks, metrics: Metrics) -> Metrics:
    """An update's metrics as terms of a sum: means over its episodes times their number."""
    count = metrics.get("episodes")
    weighted = {
        name: jnp.where(count > 0, metrics[name] * count, 0.0)  # type: ignore[operator]
        for name in _means_over_episodes(env, metrics)
    }
    return metrics | weighted


def to_means(env: Env | Tasks, totals: Metrics, num_updates: jax.Array | float) -> Metrics:
    """The sums of `to_sums` over updates as means; `episodes` stays a count.

    Means over episodes are NaN where no episode ended.
    """
    return to_row(env, totals, num_updates).metrics()


def to_row(
    env: Env | Tasks,
    totals: Metrics,
    num_updates: jax.Array | float,
    may_be_padding: bool = False,
) -> Row:
    """`to_means` with a mask of what has no value.

    may_be_padding: `num_updates` may be 0, and then nothing but the number of episodes has a value.
    """
    known, divisor = {}, num_updates
    if may_be_padding:
        counted = jnp.asarray(num_updates) > 0
        known = dict.fromkeys(totals, counted)
        divisor = jnp.where(counted, num_updates, 1.0)
    means = {name: total / divisor for name, total in totals.items()}
    if "episodes" not in totals:
        return Row(means, known)
    count = totals["episodes"]
    for name in _means_over_episodes(env, totals):
        means[name] = totals[name] / jnp.maximum(count, 1)
        known[name] = count > 0
    known.pop("episodes", None)
    return Row(means | {"episodes": count}, known)


def _means_over_episodes(env: Env | Tasks, metrics: Metrics) -> list[str]:
    """The names of those metrics that are means over episodes; none where none are counted."""
    if "episodes" not in metrics:
        return []
    return [name for name in ("return", "length", *env.channels) if name in metrics]
