"""Bootstrap intervals of any statistic over seeds, stratified by task.

Trimmed means are fast: scores are sorted once, and resamples are represented by counts.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.devices import platform
from jaxrl.errors import is_count
from jaxrl.keys import as_key
from jaxrl.stats import corrected
from jaxrl.stats.draws import draw, draw_counts
from jaxrl.stats.replicates import check_pairs, values_of
from jaxrl.stats.scores import (
    TRIM,
    Axes,
    Statistic,
    check_tasks,
    improvement_by_counts,
    iqm,
    mean,
    optimality_gap,
    trimmed_mean,
    wins,
)

Kind = Literal["percentile", "basic", "bca", "studentised"]
SIMPLE = ("percentile", "basic")  # kinds for which the draws are enough
# values per batch of resamples: on a CPU they should fit in its cache
BATCH_VALUES = {"cpu": 2**15}
DEFAULT_BATCH_VALUES = 2**22


class Interval(NamedTuple):
    """A statistic and the ends of its bootstrap interval, in the units of the scores. [...]."""

    estimate: jax.Array
    low: jax.Array
    high: jax.Array


# --------------------------------------------------------------------------------------- one sample


def interval(
    x: Any,
    statistic: Statistic = iqm,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    key: jax.Array | int | None = None,
    axis: int = -1,
    tasks: Axes = None,
    stratified: bool = True,
    kind: Kind = "percentile",
) -> Interval:
    """A statistic over seeds and its bootstrap interval, for all other axes of `x` at once. [...].

    Args:
      x: scores, with seeds along `axis`. The same seeds are drawn at each point of the other axes,
        so that points, as those of a learning curve, can be compared.
      statistic: `iqm`, `mean`, `median` and `optimality_gap` cost O(n) per resample; any other
        function is called with each resample, [seeds] or [seeds, tasks].
      level: the coverage of the interval.
      resamples: their number.
      key: a key or an integer seed of the resamples, by default 0.
      axis: the axis of seeds.
      tasks: axes of tasks, along which scores are pooled.
      stratified: draw seeds independently within each task (rliable's stratified bootstrap), rather
        than the same seeds for all tasks.
      kind: "percentile", the quantiles of the resamples' statistics; "basic", these mirrored at
        the estimate; "bca", other quantiles, corrected for bias and skewness (Efron, 1987); or
        "studentised", the quantiles of the resamples' t, for `iqm`, `mean` and `optimality_gap`.

    Returns:
      The interval, with NaN ends where fewer than two scores are known.

    Raises:
      ValueError: there is a single seed, no such axis, no resample, a level outside (0, 1), an
        unknown kind, or no standard error for "studentised".
    """
    check_options(level, kind, resamples, kinds=get_args(Kind))
    scores = _arrange(jnp.asarray(values_of(x), float), axis, tasks)
    if kind == "studentised":
        return _studentised(_key(key), scores, statistic, resamples, stratified, level)
    estimate, draws = resample(_key(key), scores, statistic, resamples, stratified)
    if kind == "bca":
        skewness = _acceleration(*_as_mean(scores, statistic), stratified)
        made = corrected.bca(estimate, draws, skewness, level)
        return Interval(estimate, *jnp.where(_is_known(scores), made, jnp.nan))
    return Interval(estimate, *_known_ends(estimate, draws, (scores,), level, kind))


@partial(jax.jit, static_argnames=("level", "kind"))
def ends(
    estimate: jax.Array, draws: jax.Array, level: float = 0.95, kind: Kind = "percentile"
) -> jax.Array:
    """Ends of the interval of `estimate` [...] from bootstrap `draws` [resamples, ...]. [2, ...].

    draws: of the statistic. kind: as in `interval`.
    """
    low, high = percentile(draws, level)
    if kind == "basic":
        low, high = 2 * estimate - high, 2 * estimate - low
    return jnp.stack([low, high])


@partial(jax.jit, static_argnames=("level", "kind"))
def _known_ends(
    estimate: jax.Array, draws: jax.Array, samples: Any, level: float, kind: Kind
) -> jax.Array:
    """`ends`, or NaN where one of `samples` has fewer than two known scores. [2, ...].

    samples: each [..., tasks, seeds].
    """
    known = [_is_known(x) for x in samples]
    return jnp.where(jnp.stack(known).all(0), ends(estimate, draws, level, kind), jnp.nan)


def _is_known(scores: jax.Array) -> jax.Array:
    """True where at least two of scores [..., tasks, seeds] are known. bool [...]."""
    return jnp.sum(~jnp.isnan(scores), axis=(-2, -1)) > 1


@partial(jax.jit, static_argnames="level")
def percentile(draws: jax.Array, level: float = 0.95) -> jax.Array:
    """Ends of the percentile interval from `draws` [resamples, ...] of a statistic. [2, ...]."""
    return jnp.nanquantile(draws, jnp.array([(1 - level) / 2, (1 + level) / 2]), axis=0)


def of_normal(estimate: jax.Array, error: jax.Array, level: float = 0.95) -> Interval:
    """The interval of a normal distribution with a standard error. [...]."""
    half = error * jax.scipy.special.ndtri((1 + level) / 2)
    return Interval(estimate, estimate - half, estimate + half)


# --------------------------------------------------------------------------------- several samples


def paired_difference(x: Any, y: Any, statistic: Statistic = mean, **options: Any) -> Interval:
    """`interval` of x - y for equal seeds, so that the variance between seeds cancels. [...].

    x, y: of the same shape. For two results, `compare(a, b)` finds the seeds with common keys.

    Raises:
      ValueError: the shapes or the seeds of labelled arrays differ, or an argument of `interval` is
        invalid.
    """
    if np.shape(x) != np.shape(y):
        raise ValueError(
            f"Pairs need one y for each x, and the shapes are {np.shape(x)} and {np.shape(y)}. "
            "Take the common seeds, compare(a, b, paired=True), or compare unpaired: "
            "probability_of_improvement(x, y)."
        )
    check_pairs(x, y)
    x, y = (jnp.asarray(values_of(z), float) for z in (x, y))
    return interval(x - y, statistic, **options)


def difference(
    x: Any,
    y: Any,
    statistic: Statistic = iqm,
    *,
    paired: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    key: jax.Array | int | None = None,
    axis: int = -1,
    tasks: Axes = None,
    kind: Kind = "percentile",
) -> Interval:
    """statistic(x) - statistic(y) and its bootstrap interval. [...].

    x, y: as in `interval`; the numbers of seeds may differ unless `paired`.
    paired: draw the same seeds of both in each resample.
    Other arguments are those of `interval`.
    """
    check_options(level, kind, resamples)
    key = _key(key)
    keys = (key, jax.random.clone(key)) if paired else jax.random.split(key)
    if paired:
        check_pairs(x, y)
    sides = [_arrange(jnp.asarray(values_of(z), float), axis, tasks) for z in (x, y)]
    if paired and sides[0].shape != sides[1].shape:
        raise ValueError(
            f"Pairs need one y for each x, and the shapes are {np.shape(x)} and {np.shape(y)}."
        )
    (one, draws), (other, others) = (
        resample(k, z, statistic, resamples) for k, z in zip(keys, sides, strict=True)
    )
    return Interval(one - other, *_known_ends(one - other, draws - others, sides, level, kind))


def improvement(
    x: Any,
    y: Any,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    key: jax.Array | int | None = None,
    kind: Kind = "percentile",
) -> Interval:
    """`probability_of_improvement` and its interval, by a bootstrap stratified by task. [].

    x, y: [seeds, ...tasks]; the numbers of seeds may differ. Other arguments are those of
    `interval`.
    """
    check_options(level, kind, resamples)
    check_tasks(np.shape(x)[1:], np.shape(y)[1:])
    x, y = (jnp.asarray(values_of(z), float) for z in (x, y))
    x, y = (_arrange(z, 0, tuple(range(1, z.ndim))) for z in (x, y))
    estimate, draws = _improvements(_key(key), x, y, resamples)
    return Interval(estimate, *ends(estimate, draws, level, kind))


def interval_of(
    statistic: Callable[..., jax.Array],
    *samples: Any,
    level: float = 0.95,
    resamples: int = 2000,
    key: jax.Array | int | None = None,
    kind: Kind = "percentile",
) -> Interval:
    """`statistic(*samples)`, an array of any shape, and its interval by `bootstrap`.

    samples: each [seeds, ...tasks]. Other arguments are those of `interval`.
    """
    check_options(level, kind, resamples)
    for x in samples:
        _arrange(jnp.asarray(values_of(x), float), 0, None)
    estimate = statistic(*(jnp.asarray(x, float) for x in samples))
    draws = bootstrap(_key(key), statistic, *samples, resamples=resamples)
    return Interval(estimate, *ends(estimate, draws, level, kind))


def bootstrap(
    key: jax.Array | int, statistic: Callable, *samples: Any, resamples: int = 2000
) -> jax.Array:
    """`statistic(*samples)` of bootstrap resamples. [resamples, ...].

    key: a key or an integer seed. samples: each [seeds, ...tasks]; they are resampled
    independently, and stratified by task.
    """
    arrays = [jnp.asarray(x, float) for x in samples]

    def resampled(key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, len(arrays))
        return statistic(
            *(
                jnp.take_along_axis(x, draw(key, x.shape, len(x)), axis=0)
                for key, x in zip(keys, arrays, strict=True)
            )
        )

    return _map(resampled, as_key(key), resamples, sum(x.size for x in arrays))


# ---------------------------------------------------------------------------------------- resamples


def resample(
    key: jax.Array,
    scores: jax.Array,
    statistic: Statistic,
    resamples: int,
    stratified: bool = True,
    size: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """A statistic of scores [..., tasks, seeds], and of resamples. [...], [resamples, ...].

    size: the number of seeds, by default all; scores of the others are NaN. It may be traced.
    """
    scores, statistic = _as_mean(scores, statistic)
    if statistic in TRIM:
        return _recount(key, scores, size, TRIM[statistic], resamples, stratified)
    return _redraw(key, scores, size, statistic, resamples, stratified)


def _as_mean(scores: jax.Array, statistic: Statistic) -> tuple[jax.Array, Statistic]:
    """Scores and statistic, with an optimality gap as the mean of gaps."""
    is_partial = isinstance(statistic, partial)
    if (statistic.func if is_partial else statistic) is optimality_gap:
        gamma = statistic.keywords.get("gamma", 1.0) if is_partial else 1.0
        return jnp.maximum(gamma - scores, 0.0), mean
    return scores, statistic


@partial(jax.jit, static_argnames=("trim", "resamples", "stratified"))
def _recount(
    key: jax.Array, scores: jax.Array, size: Any, trim: float, resamples: int, stratified: bool
) -> tuple[jax.Array, jax.Array]:
    """Trimmed means of scores [..., tasks, seeds], and of resamples, by counts. [...], [R, ...]."""
    *points, num_tasks, num_seeds = scores.shape
    scores = scores.reshape(*points, num_tasks * num_seeds)
    order = jnp.argsort(scores, axis=-1)
    scores = jnp.take_along_axis(scores, order, axis=-1)
    known = ~jnp.isnan(scores)

    def resampled(key: jax.Array) -> jax.Array:
        counts = draw_counts(key, num_tasks, num_seeds, stratified, size).ravel()
        return trimmed_mean(scores, jnp.where(known, counts[order], 0), trim)

    estimate = trimmed_mean(scores, known.astype(int), trim)
    return estimate, _map(resampled, key, resamples, scores.size)


def _studentised(
    key: jax.Array,
    scores: jax.Array,
    statistic: Statistic,
    resamples: int,
    stratified: bool,
    level: float,
) -> Interval:
    """The studentised interval of a trimmed mean of scores [..., tasks, seeds]. [...]."""
    scores, statistic = _as_mean(scores, statistic)
    if TRIM.get(statistic, 0.5) >= 0.5:
        raise ValueError(
            'kind="studentised" has a standard error for iqm, mean and optimality_gap alone: write '
            'kind="bca" for other statistics.'
        )
    options = TRIM[statistic], resamples, stratified
    (estimate, error), draws = _recount_errors(key, scores, *options)
    made = corrected.studentised(estimate, error, draws[:, 0], draws[:, 1], level)
    return Interval(estimate, *jnp.where(_is_known(scores), made, jnp.nan))


@partial(jax.jit, static_argnames=("trim", "resamples", "stratified"))
def _recount_errors(
    key: jax.Array, scores: jax.Array, trim: float, resamples: int, stratified: bool
) -> tuple[jax.Array, jax.Array]:
    """As `_recount`, with standard errors. [2, ...], [R, 2, ...]."""
    *points, num_tasks, num_seeds = scores.shape
    flat = scores.reshape(-1, num_tasks, num_seeds)
    orders = jnp.argsort(flat.reshape(len(flat), -1), axis=-1)

    def of(counts: jax.Array) -> jax.Array:
        def at_point(x: jax.Array, order: jax.Array) -> jax.Array:
            known = jnp.where(jnp.isnan(x), 0, counts)
            influence, num_kept = corrected.winsorised(x, known, order, trim)
            square = corrected.squared_error(influence, known, num_kept, stratified)
            value = trimmed_mean(x.ravel()[order], known.ravel()[order], trim)
            return jnp.stack([value, jnp.sqrt(square)])

        return jnp.moveaxis(jax.vmap(at_point)(flat, orders).reshape(*points, 2), -1, 0)

    resampled = lambda key: of(draw_counts(key, num_tasks, num_seeds, stratified))
    estimate = of(jnp.ones((num_tasks, num_seeds), int))
    return estimate, _map(resampled, key, resamples, scores.size)


@partial(jax.jit, static_argnames=("statistic", "stratified"))
def _acceleration(scores: jax.Array, statistic: Statistic, stratified: bool) -> jax.Array:
    """Acceleration of BCa for scores [..., tasks, seeds]. [...]."""
    *points, num_tasks, num_seeds = scores.shape

    def at_point(x: jax.Array) -> jax.Array:
        trim = TRIM.get(statistic, 0.5)
        if trim >= 0.5:  # a median's influence is not that of a winsorised score
            rows = x[0] if num_tasks == 1 else x.T
            return corrected.acceleration(corrected.jackknife(statistic, rows))
        known = ~jnp.isnan(x)
        influence, _ = corrected.winsorised(x, known.astype(int), jnp.argsort(x, axis=None), trim)
        centred = jnp.where(known, influence - jnp.nanmean(influence, 1, keepdims=True), 0.0)
        return corrected.acceleration(centred.ravel() if stratified else centred.sum(0))

    return jax.lax.map(at_point, scores.reshape(-1, num_tasks, num_seeds)).reshape(points)


@partial(jax.jit, static_argnames=("statistic", "resamples", "stratified"))
def _redraw(
    key: jax.Array,
    scores: jax.Array,
    size: Any,
    statistic: Statistic,
    resamples: int,
    stratified: bool,
) -> tuple[jax.Array, jax.Array]:
    """Any statistic of scores [..., tasks, seeds], and of resamples. [...], [R, ...]."""
    *points, num_tasks, num_seeds = scores.shape
    size = num_seeds if size is None else size
    samples = jnp.swapaxes(scores.reshape(-1, num_tasks, num_seeds), 1, 2)
    strata = (num_seeds, num_tasks) if stratified else (num_seeds, 1)
    is_seed = jnp.arange(num_seeds)[:, None] < size

    def statistic_of(x: jax.Array) -> jax.Array:
        return statistic(x[:, 0] if num_tasks == 1 else x)

    def resampled(key: jax.Array) -> jax.Array:
        index = draw(key, strata, size)

        def at_point(x: jax.Array) -> jax.Array:
            drawn = jnp.take_along_axis(x, jnp.broadcast_to(index, x.shape), 0)
            return statistic_of(jnp.where(is_seed, drawn, jnp.nan))

        return jax.lax.map(at_point, samples)

    estimate = jax.vmap(statistic_of)(samples).reshape(points)
    draws = _map(resampled, key, resamples, samples[0].size)
    return estimate, draws.reshape(resamples, *points)


@partial(jax.jit, static_argnames="resamples")
def _improvements(
    key: jax.Array, x: jax.Array, y: jax.Array, resamples: int
) -> tuple[jax.Array, jax.Array]:
    """Probability of improvement of x [tasks, n] over y [tasks, m], and of resamples. [], [R]."""
    x, y, below, up_to = wins(x, y)

    def resampled(key: jax.Array) -> jax.Array:
        key_x, key_y = jax.random.split(key)
        count_x = draw_counts(key_x, len(x), x.shape[1])
        count_y = draw_counts(key_y, len(y), y.shape[1])
        return improvement_by_counts(x, y, below, up_to, count_x, count_y)

    ones_x, ones_y = jnp.ones(x.shape, int), jnp.ones(y.shape, int)
    estimate = improvement_by_counts(x, y, below, up_to, ones_x, ones_y)
    return estimate, _map(resampled, key, resamples, x.size + y.size)


def _map(
    function: Callable[[jax.Array], jax.Array], key: jax.Array, resamples: int, size: int
) -> jax.Array:
    """`function` of `resamples` keys, in batches. [resamples, ...].

    size: the number of values that one call holds.
    """
    values = BATCH_VALUES.get(platform(), DEFAULT_BATCH_VALUES)
    num_batches = -(-resamples // max(1, values // size))
    # batches of one size, so that one program is compiled; the excess is dropped
    batch_size = -(-resamples // num_batches)
    keys = jax.random.split(key, num_batches * batch_size)
    return jax.lax.map(function, keys, batch_size=batch_size)[:resamples]


# ---------------------------------------------------------------------------------------- arguments


def _arrange(x: jax.Array, axis: int, tasks: Axes) -> jax.Array:
    """Scores with all tasks along one axis, the seeds last. [..., tasks, seeds]."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(
            f"scores of shape {x.shape} have no axis {axis} of seeds: write the axis of seeds as "
            "axis=."
        )
    if x.shape[axis] < 2:
        raise ValueError(
            f"{x.shape[axis]} seed along axis {axis} of shape {x.shape} has no variance between "
            "seeds. Sweep at least 2, better 10: jax.random.split(jax.random.key(0), 10), or "
            "write another axis."
        )
    axes = () if tasks is None else tuple(np.atleast_1d(np.asarray(tasks, int)).tolist())
    x = jnp.moveaxis(x, (*axes, axis), range(-1 - len(axes), 0))
    return x.reshape(*x.shape[: x.ndim - 1 - len(axes)], -1, x.shape[-1])


def check_options(level: float, kind: str, resamples: int, kinds: tuple[str, ...] = SIMPLE) -> None:
    if not 0 < level < 1:
        raise ValueError(
            f"level={level} is not a coverage between 0 and 1; write level=0.95 for 95 %."
        )
    if kind not in kinds:
        written = " or ".join(f'kind="{name}"' for name in kinds)
        what = "is for the interval of one sample" if kind in get_args(Kind) else "is no interval"
        raise ValueError(f"kind={kind!r} {what}; write {written}.")
    if not is_count(resamples):
        raise ValueError(f"resamples={resamples!r} gives no interval: write 1,000 or more.")


def _key(key: jax.Array | int | None) -> jax.Array:
    return as_key(0 if key is None else key)
