"""Means with less variance: control variates, strata and importance weights, in pure JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrl.stats.intervals import Interval, of_normal

COLLINEAR = 1e-5  # fraction of a control's variance that others leave, below which it is left out


def controlled(
    y: Any,
    controls: Any = None,
    means: Any = 0.0,
    *,
    coefficients: Any = None,
    level: float = 0.95,
) -> Interval:
    """The mean of y [n], by regression on control variates with known means. [].

    y - (controls - means) @ coefficients has the mean of y and less variance. Coefficients of the
    same sample leave a bias of the order 1 / n; those of another sample (`regress`) leave none. The
    interval is that of a normal distribution.

    Args:
      y: a sample, [n].
      controls: [n, k], such as the outcomes of a surrogate model in the same episodes. None is the
        plain mean.
      means: their expectations, [k] or one for all.
      coefficients: [k], by default those of least squares.
      level: the coverage of the interval.
    """
    y = jnp.asarray(y, float)
    if y.ndim != 1:
        raise ValueError(f"y of shape {y.shape} is not a sample [n]: use jax.vmap for several.")
    weight = jnp.ones(len(y))
    estimate, square = _mean(y, weight, *_controls(y, controls, means), coefficients)
    return of_normal(estimate, jnp.sqrt(square), level)


def stratified(
    y: Any,
    stratum: Any,
    probability: Any,
    controls: Any = None,
    means: Any = 0.0,
    *,
    level: float = 0.95,
) -> Interval:
    """The mean of y [n] over strata of known probability, with one regression for each. [].

    Args:
      y: a sample, [n].
      stratum: of each value. int [n].
      probability: of each stratum, [strata]. A stratum of probability 0 may be empty.
      controls: [n, k], as in `controlled`.
      means: their expectations within each stratum, [strata, k], or one for all.
      level: the coverage of the interval.

    Returns:
      The interval; NaN if a stratum has fewer than two values.
    """
    y, probability = jnp.asarray(y, float), jnp.asarray(probability, float)
    _check_strata(y, stratum, probability)
    controls, means = _controls(y, controls, means, (len(probability),))

    def of(index: jax.Array, means: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _mean(y, (jnp.asarray(stratum) == index).astype(y.dtype), controls, means, None)

    estimate, square = jax.vmap(of)(jnp.arange(len(probability)), means)
    estimate, square = (
        jnp.sum(jnp.where(probability > 0, factor * x, 0.0))
        for factor, x in ((probability, estimate), (probability**2, square))
    )
    return of_normal(estimate, jnp.sqrt(square), level)


def weighted(
    y: Any,
    log_weight: Any,
    controls: Any = None,
    means: Any = 0.0,
    *,
    coefficients: Any = None,
    level: float = 0.95,
) -> Interval:
    """The mean of y [n] under another distribution, by importance weights. [].

    Args:
      y: a sample of the proposal, [n].
      log_weight: log of the density divided by that of the proposal, [n].
      controls: [n, k]. They are weighted too, so that `means` are those under the target: a column
        of ones, with mean 1, regresses on the weight itself.
      means, coefficients, level: as in `controlled`.
    """
    if jnp.shape(log_weight) != jnp.shape(y):
        raise ValueError(
            f"log_weight of shape {jnp.shape(log_weight)} does not fit y of shape {jnp.shape(y)}: "
            "write one for each value."
        )
    weight = jnp.exp(jnp.asarray(log_weight, float))
    y = jnp.asarray(y, float) * weight
    if controls is not None:
        controls = jnp.asarray(controls, float) * weight[:, None]
    return controlled(y, controls, means, coefficients=coefficients, level=level)


def _check_strata(y: jax.Array, stratum: Any, probability: jax.Array) -> None:
    """Raise a ValueError for strata that can't be those of y; numbers are checked if not traced."""
    if y.ndim != 1 or jnp.shape(stratum) != y.shape:
        raise ValueError(
            f"stratum of shape {jnp.shape(stratum)} does not fit y of shape {y.shape}: write one "
            "for each value of a sample [n]."
        )
    if isinstance(stratum, Tracer) or isinstance(probability, Tracer):
        return
    outside = (np.asarray(stratum) < 0) | (np.asarray(stratum) >= len(probability))
    if outside.any():
        raise ValueError(
            f"{int(outside.sum())} of the values are in strata outside 0 to "
            f"{len(probability) - 1}: write a probability for each stratum, and count from 0."
        )
    if abs(float(probability.sum()) - 1.0) > 1e-4:
        raise ValueError(
            f"The probabilities of the strata sum to {float(probability.sum()):g}: write "
            "probability / probability.sum()."
        )


@jax.jit
def regress(y: Any, controls: Any, weight: Any = None) -> jax.Array:
    """Coefficients of the least-squares regression of y [n] on controls [n, k] and 1. [k].

    By Gauss-Jordan elimination, as LAPACK can hang in vmapped programs. A control that is a linear
    combination of earlier ones gets 0. weight: of the values, [n].
    """
    y, controls = jnp.asarray(y, float), jnp.asarray(controls, float)
    weight = jnp.ones(len(y)) if weight is None else jnp.asarray(weight, float)
    total = jnp.maximum(weight.sum(), 1.0)
    centred = jnp.concatenate([controls, y[:, None]], 1)
    centred = (centred - (weight @ centred / total)[None]) * jnp.sqrt(weight)[:, None]
    scale = jnp.sqrt(jnp.sum(centred**2, 0))
    centred = centred / jnp.where(scale > 0, scale, 1.0)[None]
    matrix = jnp.matmul(centred.T, centred, precision="highest")

    def eliminate(j: jax.Array, matrix: jax.Array) -> jax.Array:
        pivot = matrix[j, j]
        row = jnp.where(pivot > COLLINEAR, matrix[j] / jnp.where(pivot > COLLINEAR, pivot, 1.0), 0)
        return (matrix - jnp.outer(matrix[:, j], row)).at[j].set(row)

    num = controls.shape[1]
    solved = jax.lax.fori_loop(0, num, eliminate, matrix)[:num, -1]
    return solved * scale[-1] / jnp.where(scale[:num] > 0, scale[:num], 1.0)


@jax.jit
def _mean(
    y: jax.Array, weight: jax.Array, controls: jax.Array, means: jax.Array, coefficients: Any
) -> tuple[jax.Array, jax.Array]:
    """The controlled mean of the values with weight 1, and its squared standard error. [], []."""
    fitted = 1 + (controls.shape[1] if coefficients is None else 0)
    if coefficients is None:
        coefficients = regress(y, controls, weight)
    centred = controls - means[None]
    adjusted = y - jnp.matmul(centred, jnp.asarray(coefficients, float), precision="highest")
    size = weight.sum()
    mean = jnp.sum(weight * adjusted) / size
    variance = jnp.sum(weight * (adjusted - mean) ** 2) / (size - fitted)
    return mean, jnp.where(size > fitted, variance, jnp.nan) / size


def _controls(
    y: jax.Array, controls: Any, means: Any, leading: tuple[int, ...] = ()
) -> tuple[jax.Array, jax.Array]:
    """Controls and their means as arrays, without columns for None. [n, k], [*leading, k]."""
    controls = jnp.zeros((len(y), 0)) if controls is None else jnp.asarray(controls, float)
    if controls.ndim != 2 or len(controls) != len(y):
        raise ValueError(
            f"controls of shape {controls.shape} are not [n, k] for the {len(y)} values of y: "
            "write one column for each control."
        )
    return controls, jnp.broadcast_to(jnp.asarray(means, float), (*leading, controls.shape[1]))
