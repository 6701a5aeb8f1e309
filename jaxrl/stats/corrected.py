"""Ends of second-order accurate bootstrap intervals: BCa, and studentised (bootstrap-t).

Both use the influence of each score on the statistic. That of a trimmed mean is the winsorised
score (Tukey and McLaughlin, 1963); that of any other statistic is estimated by a jackknife.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri


def winsorised(
    scores: jax.Array, counts: jax.Array, order: jax.Array, trim: float
) -> tuple[jax.Array, jax.Array]:
    """Influences on a trimmed mean, up to a constant, and the number of values kept. [...], [].

    scores: [tasks, seeds]. counts: how often each occurs, 0 for NaN. order: sorts the flat scores.
    """
    total = counts.sum()
    cut = (trim * total).astype(int)
    end = jnp.cumsum(counts.ravel()[order])
    low, high = (
        scores.ravel()[order[jnp.searchsorted(end, place, side="right")]]
        for place in (cut, total - cut - 1)
    )
    return jnp.clip(scores, low, high), total - 2 * cut


def squared_error(
    influence: jax.Array, counts: jax.Array, num_kept: jax.Array, stratified: bool
) -> jax.Array:
    """Squared standard error of a trimmed mean. [].

    influence, counts: [tasks, seeds]. stratified: tasks are independent; else a seed's are one.
    """
    known = counts > 0
    size = counts.sum(1, keepdims=True)
    mean = jnp.where(known, influence * counts, 0.0).sum(1, keepdims=True) / size
    deviation = jnp.where(known, influence - mean, 0.0)
    if stratified:
        square = (size / (size - 1))[:, 0] * (counts * deviation**2).sum(1)
    else:  # each seed occurs equally often for all tasks
        seeds = size.max()
        square = seeds / (seeds - 1) * (counts.max(0) * deviation.sum(0) ** 2)
    return square.sum() / num_kept**2


def acceleration(influence: jax.Array) -> jax.Array:
    """Acceleration of BCa: a sixth of the skewness of the statistic. [...].

    influence: [..., n], centred.
    """
    square = (influence**2).sum(-1)
    return (influence**3).sum(-1) / jnp.where(square > 0, 6 * square**1.5, 1.0)


def jackknife(statistic: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Influence of each seed of x [seeds, ...] on a statistic, by leaving it out. [seeds]."""
    n = len(x)
    others = (jnp.arange(n)[:, None] + jnp.arange(1, n)[None]) % n
    left_out = jax.lax.map(lambda index: statistic(x[index]), others)
    return left_out.mean() - left_out


@partial(jax.jit, static_argnames="level")
def bca(estimate: jax.Array, draws: jax.Array, acceleration: jax.Array, level: float) -> jax.Array:
    """Ends of the bias-corrected and accelerated interval (Efron, 1987). [2, ...].

    draws: [resamples, ...]. estimate, acceleration: [...].
    """
    resamples = len(draws)
    center = estimate[None]
    below = jnp.mean((draws < center) + 0.5 * (draws == center), 0)
    bias = ndtri(jnp.clip(below, 1 / (resamples + 1), resamples / (resamples + 1)))
    z = ndtri(jnp.array([(1 - level) / 2, (1 + level) / 2]))
    z = bias[None] + z.reshape(2, *([1] * bias.ndim))
    quantile = ndtr(bias[None] + z / (1 - acceleration[None] * z))
    at_point = jax.vmap(lambda x, q: jnp.nanquantile(x, q), (1, 1), 1)
    return at_point(draws.reshape(resamples, -1), quantile.reshape(2, -1)).reshape(quantile.shape)


@partial(jax.jit, static_argnames="level")
def studentised(
    estimate: jax.Array, error: jax.Array, draws: jax.Array, errors: jax.Array, level: float
) -> jax.Array:
    """Ends of the bootstrap-t interval (Efron and Tibshirani, 1993, chapter 12). [2, ...].

    error [...], errors [resamples, ...]: standard errors of the estimate and of the draws.
    Resamples without variance are left out.
    """
    estimate, error = estimate[None], error[None]
    t = jnp.where(errors > 0, (draws - estimate) / errors, jnp.nan)
    quantiles = jnp.nanquantile(t, jnp.array([(1 + level) / 2, (1 - level) / 2]), axis=0)
    return jnp.where(error > 0, estimate - quantiles * error, estimate)
