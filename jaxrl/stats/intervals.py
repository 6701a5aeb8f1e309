"""Bootstrap intervals of any statistic of the seeds, stratified by task: sorted once, then
resampled by counts.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.stats.draws import draw, draw_counts
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

Kind = Literal["percentile", "basic"]
CHUNK = {
    "cpu": 2**15
}  # values that a batch of resamples holds at once: on a CPU what its cache holds, else WIDE
WIDE = 2**22


class Interval(NamedTuple):
    """A statistic and the ends of its bootstrap interval, in the units of the scores. Each
    [...].
    """

    estimate: jax.Array
    low: jax.Array
    high: jax.Array


# ------------------------------------------------------------------------------------ of one sample


def interval(
    x: Any,
    statistic: Statistic = iqm,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    key: jax.Array | None = None,
    axis: int = -1,
    tasks: Axes = None,
    stratified: bool = True,
    kind: Kind = "percentile",
) -> Interval:
    """A statistic of the seeds and its bootstrap interval, for every other axis of `x` at once.
    [...].

    x: scores with seeds along `axis`. Scores along the axes `tasks` are pooled, and seeds drawn
    anew within each task (rliable's stratified bootstrap); unless `stratified`, whole seeds are
    drawn, the same in each task. The same seeds are drawn at each point of the grid, so that points
    compare, as those of a learning curve do. statistic: `iqm`, `mean`, `median` and
    `optimality_gap` cost O(n) a resample, for the scores are sorted once and then recounted; any
    other is called with each resample [seeds], or [seeds, tasks]. level: the share of such
    intervals that hold the truth. key: the luck of the resamples, `jax.random.key(0)` unless given.
    kind: "percentile", the middle of the resamples' statistics; "basic", that mirrored at the
    estimate.

    Returns: NaN ends where fewer than two scores are known. Raises: ValueError for a single seed,
    no such axis, no resamples, a level outside (0, 1) or an unknown kind.
    """
    _check(level, kind, resamples)
    scores = _arrange(jnp.asarray(x, float), axis, tasks)
    estimate, draws = resample(_key(key), scores, statistic, resamples, stratified)
    return Interval(estimate, *_known_ends(estimate, draws, (scores,), level, kind))


@partial(jax.jit, static_argnames=("level", "kind"))
def ends(
    estimate: jax.Array, draws: jax.Array, level: float = 0.95, kind: Kind = "percentile"
) -> jax.Array:
    """The two ends of the interval of an `estimate` [...] from `draws` [resamples, ...] of it.

    [2, ...].
    """
    low, high = percentile(draws, level)
    return jnp.stack(
        [low, high] if kind == "percentile" else [2 * estimate - high, 2 * estimate - low]
    )


@partial(jax.jit, static_argnames=("level", "kind"))
def _known_ends(
    estimate: jax.Array, draws: jax.Array, samples: Any, level: float, kind: Kind
) -> jax.Array:
    """`ends`, NaN where fewer than two scores of any of `samples` (each [..., tasks, seeds]) are
    known. [2, ...].
    """
    known = [jnp.sum(~jnp.isnan(x), axis=(-2, -1)) > 1 for x in samples]
    return jnp.where(jnp.stack(known).all(0), ends(estimate, draws, level, kind), jnp.nan)


@partial(jax.jit, static_argnames="level")
def percentile(draws: jax.Array, level: float = 0.95) -> jax.Array:
    """The two ends of the percentile interval from `draws` [resamples, ...] of a statistic.

    [2, ...].
    """
    return jnp.nanquantile(draws, jnp.array([(1 - level) / 2, (1 + level) / 2]), axis=0)


# ---------------------------------------------------------------------------------- of two and more


def paired_difference(x: Any, y: Any, statistic: Statistic = mean, **options: Any) -> Interval:
    """`interval` of x - y where both ran the same seeds, so that the luck of a seed cancels. x, y:
    the same shape.

    Raises: ValueError when the shapes differ. With two results, `a["return"] - b["return"]` keeps
    their common seeds.
    """
    if np.shape(x) != np.shape(y):
        raise ValueError(
            f"Pairs need one y for each x, and the shapes are {np.shape(x)} and {np.shape(y)}. "
            "Keep the common seeds, "
            'difference = a["return"] - b["return"], or compare unpaired: '
            "probability_of_improvement(x, y)."
        )
    return interval(jnp.asarray(x, float) - jnp.asarray(y, float), statistic, **options)


def difference(
    x: Any,
    y: Any,
    statistic: Statistic = iqm,
    *,
    paired: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    key: jax.Array | None = None,
    axis: int = -1,
    tasks: Axes = None,
    kind: Kind = "percentile",
) -> Interval:
    """statistic(x) - statistic(y) and its interval; where `paired`, each resample draws the same
    seeds of both. [...].

    x, y: as in `interval`; the numbers of seeds may differ unless paired.
    """
    _check(level, kind, resamples)
    key = _key(key)
    keys = (key, jax.random.clone(key)) if paired else jax.random.split(key)
    sides = [_arrange(jnp.asarray(z, float), axis, tasks) for z in (x, y)]
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
    key: jax.Array | None = None,
    kind: Kind = "percentile",
) -> Interval:
    """`probability_of_improvement` with its interval, seeds of x and of y drawn anew within each
    task. [].

    x, y: [seeds, ...tasks], the numbers of seeds may differ.
    """
    _check(level, kind, resamples)
    check_tasks(np.shape(x)[1:], np.shape(y)[1:])
    x, y = (_arrange(jnp.asarray(z, float), 0, tuple(range(1, np.ndim(z)))) for z in (x, y))
    estimate, draws = _improvements(_key(key), x, y, resamples)
    return Interval(estimate, *ends(estimate, draws, level, kind))


def interval_of(
    statistic: Callable[..., jax.Array],
    *samples: Any,
    level: float = 0.95,
    resamples: int = 2000,
    key: jax.Array | None = None,
    kind: Kind = "percentile",
) -> Interval:
    """`statistic(*samples)`, an array of any shape, and its interval by `bootstrap`.

    samples: each [seeds, ...tasks].
    """
    _check(level, kind, resamples)
    for x in samples:
        _arrange(jnp.asarray(x, float), 0, None)
    estimate = statistic(*(jnp.asarray(x, float) for x in samples))
    return Interval(
        estimate,
        *ends(
            estimate, bootstrap(_key(key), statistic, *samples, resamples=resamples), level, kind
        ),
    )


def bootstrap(
    key: jax.Array, statistic: Callable, *samples: Any, resamples: int = 2000
) -> jax.Array:
    """`statistic(*samples)` of samples drawn anew, each on its own, with replacement within each
    task. [resamples, ...].

    samples: each [seeds, ...tasks].
    """
    arrays = [jnp.asarray(x, float) for x in samples]

    def one(key: jax.Array) -> jax.Array:
        drawn = [
            draw(key, x.shape, len(x))
            for key, x in zip(jax.random.split(key, len(arrays)), arrays, strict=True)
        ]
        return statistic(
            *(jnp.take_along_axis(x, seeds, axis=0) for x, seeds in zip(arrays, drawn, strict=True))
        )

    return _map(one, key, resamples, sum(x.size for x in arrays))


# ---------------------------------------------------------------------------------------- resamples


def resample(
    key: jax.Array,
    scores: jax.Array,
    statistic: Statistic,
    resamples: int,
    stratified: bool = True,
    size: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """The statistic of scores [..., tasks, seeds], and of resamples of them. [...], [resamples,
    ...].

    size: how many of the seeds there are, all unless given; those beyond are NaN. It may be traced.
    """
    if getattr(statistic, "func", statistic) is optimality_gap:  # with its gamma, perhaps
        gamma = getattr(statistic, "keywords", {}).get("gamma", 1.0)
        scores, statistic = jnp.maximum(gamma - scores, 0.0), mean
    if statistic in TRIM:
        return _recount(key, scores, size, TRIM[statistic], resamples, stratified)
    return _redraw(key, scores, size, statistic, resamples, stratified)


@partial(jax.jit, static_argnames=("trim", "resamples", "stratified"))
def _recount(
    key: jax.Array, scores: jax.Array, size: Any, trim: float, resamples: int, stratified: bool
) -> tuple[jax.Array, jax.Array]:
    """The trimmed mean of scores [..., tasks, seeds], and of resamples told only by how often each
    score came. [R, ...].
    """
    *points, num_tasks, num_seeds = scores.shape
    scores = scores.reshape(*points, num_tasks * num_seeds)
    order = jnp.argsort(scores, axis=-1)
    scores = jnp.take_along_axis(scores, order, axis=-1)
    known = ~jnp.isnan(scores)

    def one(key: jax.Array) -> jax.Array:
        counts = draw_counts(key, num_tasks, num_seeds, stratified, size).ravel()
        return trimmed_mean(scores, jnp.where(known, counts[order], 0), trim)

    return trimmed_mean(scores, known.astype(int), trim), _map(one, key, resamples, scores.size)


@partial(jax.jit, static_argnames=("statistic", "resamples", "stratified"))
def _redraw(
    key: jax.Array,
    scores: jax.Array,
    size: Any,
    statistic: Statistic,
    resamples: int,
    stratified: bool,
) -> tuple[jax.Array, jax.Array]:
    """As `_recount` for any statistic, by calling it."""
    *points, num_tasks, num_seeds = scores.shape
    size = num_seeds if size is None else size
    samples = jnp.swapaxes(scores.reshape(-1, num_tasks, num_seeds), 1, 2)
    strata = (num_seeds, num_tasks) if stratified else (num_seeds, 1)
    there = jnp.arange(num_seeds)[:, None] < size

    def of(drawn: jax.Array) -> jax.Array:
        return statistic(drawn[:, 0] if num_tasks == 1 else drawn)

    def one(key: jax.Array) -> jax.Array:
        drawn = draw(key, strata, size)
        again = lambda x: jnp.where(
            there, jnp.take_along_axis(x, jnp.broadcast_to(drawn, x.shape), 0), jnp.nan
        )
        return jax.lax.map(lambda x: of(again(x)), samples)

    return jax.vmap(of)(samples).reshape(points), _map(
        one, key, resamples, samples[0].size
    ).reshape(resamples, *points)


@partial(jax.jit, static_argnames="resamples")
def _improvements(
    key: jax.Array, x: jax.Array, y: jax.Array, resamples: int
) -> tuple[jax.Array, jax.Array]:
    """The probability of improvement of x [tasks, n] over y [tasks, m], and of resamples of both.

    [], [resamples].
    """
    x, y, below, up_to = wins(x, y)

    def one(key: jax.Array) -> jax.Array:
        key_x, key_y = jax.random.split(key)
        counts = draw_counts(key_x, len(x), x.shape[1]), draw_counts(key_y, len(y), y.shape[1])
        return improvement_by_counts(x, y, below, up_to, *counts)

    ones = (jnp.ones(z.shape, int) for z in (x, y))
    return improvement_by_counts(x, y, below, up_to, *ones), _map(
        one, key, resamples, x.size + y.size
    )


def _map(
    one: Callable[[jax.Array], jax.Array], key: jax.Array, resamples: int, size: int
) -> jax.Array:
    """`one` of as many keys, some at a time, each of which holds arrays of `size`.

    [resamples, ...].
    """
    rounds = -(-resamples // max(1, CHUNK.get(jax.default_backend(), WIDE) // size))
    batch = -(
        -resamples // rounds
    )  # rounds of one size, so that one is compiled; what is over is left out
    return jax.lax.map(one, jax.random.split(key, rounds * batch), batch_size=batch)[:resamples]


# ---------------------------------------------------------------------------------------- arguments


def _arrange(x: jax.Array, axis: int, tasks: Axes) -> jax.Array:
    """Scores with all tasks along one axis, the seeds last. [..., tasks, seeds]."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(
            f"scores of shape {x.shape} have no axis {axis} of seeds: write axis= of theirs."
        )
    if x.shape[axis] < 2:
        raise ValueError(
            f"{x.shape[axis]} seed along axis {axis} of shape {x.shape} says nothing of the "
            "spread between seeds. "
            "Sweep at least 2, better 10: jax.random.split(jax.random.key(0), 10), or name "
            "another axis."
        )
    axes = () if tasks is None else tuple(np.atleast_1d(np.asarray(tasks, int)).tolist())
    x = jnp.moveaxis(x, (*axes, axis), range(-1 - len(axes), 0))
    return x.reshape(*x.shape[: x.ndim - 1 - len(axes)], -1, x.shape[-1])


def _check(level: float, kind: str, resamples: int) -> None:
    if not 0 < level < 1:
        raise ValueError(
            f"level={level} is not the share of intervals that hold the truth; write "
            "level=0.95 for 95 %."
        )
    if kind not in ("percentile", "basic"):
        raise ValueError(
            f'kind={kind!r} is no interval that is known here; write kind="percentile" or '
            'kind="basic".'
        )
    if resamples < 1:
        raise ValueError(f"resamples={resamples} leaves no interval: write 1,000 or more.")


def _key(key: jax.Array | None) -> jax.Array:
    return jax.random.key(0) if key is None else key
