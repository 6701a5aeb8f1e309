"""Power laws with an offset: fits, their intervals, and leave-one-out prediction errors."""

import dataclasses
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import is_count
from jaxrl.keys import as_key
from jaxrl.stats.intervals import Interval, ends, resample
from jaxrl.stats.scores import Statistic, median
from jaxrl.tree import pytree, static

T = TypeVar("T")

EXPONENTS = (0.02, 8.0)  # range of the search
GRID_SIZE = 128
MAX_LOST = 0.1  # fraction of resamples without a fit, above which intervals are misleading


@pytree
class PowerLaw:
    """The power law y = offset + scale * x ** -exponent; offset is the limit for large x. [...]."""

    scale: Any
    exponent: Any
    offset: Any

    def __call__(self, x: Any) -> jax.Array:
        return self.offset + self.scale * jnp.asarray(x, float) ** -self.exponent


@pytree
class Fit:
    """A fitted power law with its uncertainty.

    x: the points of measurement, [points].
    law: the fit to all seeds.
    draws: the fits to bootstrap resamples, [resamples - lost].
    error: the leave-one-out prediction error at each x, relative to y, or absolute for a y that may
      be negative, [points].
    lost: the number of resamples without a fit, as they have no finite y at some x. Intervals are
      of the others.
    """

    x: jax.Array
    law: PowerLaw
    draws: PowerLaw = dataclasses.field(repr=False)
    error: jax.Array
    lost: int = static()

    def predict(self, x: Any, level: float = 0.95) -> Interval:
        """Prediction of y at `x` [...], by interpolation or extrapolation. [...].

        The interval is that of the fit; single seeds vary more.
        """
        x = jnp.asarray(x, float)
        draws = jax.vmap(lambda law: law(x))(self.draws)
        return Interval(self.law(x), *ends(self.law(x), draws, level))

    def parameters(self, level: float = 0.95) -> dict[str, Interval]:
        """Scale, exponent and offset with their intervals."""
        law, draws = self.law, self.draws
        return {
            "scale": Interval(law.scale, *ends(law.scale, draws.scale, level)),
            "exponent": Interval(law.exponent, *ends(law.exponent, draws.exponent, level)),
            "offset": Interval(law.offset, *ends(law.offset, draws.offset, level)),
        }


def fit_power_law(
    x: Any,
    y: Any,
    *,
    statistic: Statistic = median,
    positive: bool = True,
    resamples: int = 1000,
    key: jax.Array | int | None = None,
) -> Fit:
    """Least-squares fit of a power law with offset, with a bootstrap and leave-one-out errors.

    After "Value-Based Deep RL Scales Predictably" (Rybkin et al., 2025, equation 2): y = D_min +
    (beta / x) ** alpha, where x is the ratio of updates to data and y the environment steps that a
    score takes.

    Args:
      x: positive, [points].
      y: [points, seeds]: the fit is to the `statistic` over seeds, and the bootstrap draws the same
        seeds at each x. inf is "not within the budget"; a median is finite if fewer than half are
        inf. Or [points]: the bootstrap draws residuals.
      statistic: of the seeds.
      positive: offset and scale are not negative, and errors are relative. Otherwise they are free,
        and errors absolute, as for a curve that rises to a score (with a negative scale).
      resamples: of the bootstrap.
      key: a key or an integer seed of the bootstrap, by default 0.

    Warns:
      More than a tenth of the resamples are `lost`: the others are of the better seeds.

    Raises:
      ValueError: there are fewer than four points (three parameters fit any three), y has another
        shape, there are no resamples, x is not positive, y is not finite (or not positive, with
        `positive`), or all resamples are lost.
    """
    x, y = np.asarray(x, float), jnp.asarray(y, float)
    if x.ndim != 1 or len(x) < 4 or len(np.unique(x)) < 4:
        raise ValueError(
            f"{np.size(x)} points cannot test a law with three parameters: measure at 4 values of "
            "x or more."
        )
    if y.ndim not in (1, 2) or len(y) != len(x) or not is_count(resamples):
        raise ValueError(
            f"y needs shape [points] or [points, seeds] with the {len(x)} points of x, and "
            f"resamples 1 or more; got y of shape {y.shape}, resamples={resamples!r}."
        )
    key = as_key(0 if key is None else key)
    if y.ndim == 2:
        center, draws = resample(key, y[:, None], statistic, resamples)
    else:
        center, draws = y, None
    if (
        not (x > 0).all()
        or not np.isfinite(center).all()
        or (positive and not (np.asarray(center) > 0).all())
    ):
        raise ValueError(
            "A power law needs positive x and finite y (and positive y, unless positive=False). "
            f"x is {x.tolist()}, y is {np.asarray(center).tolist()}: leave out points that were "
            "not reached within the budget."
        )
    x = jnp.asarray(x, float)
    law, error = _fit(x, center, positive)
    if draws is None:
        draws = _residual_bootstrap(key, law(x), center, positive, resamples)
    is_finite = np.isfinite(draws)
    is_complete = is_finite.all(1)
    lost = int((~is_complete).sum())
    if lost > MAX_LOST * resamples:
        problem = (
            f"{lost:,} of {resamples:,} resamples have no y, most often at x = "
            f"{x[is_finite.mean(0).argmin()]:g}: "
        )
        remedy = "give those runs more budget, or leave that x out."
        if lost == resamples:
            raise ValueError(f"{problem}there is no interval: {remedy}")
        warnings.warn(
            f"{problem}the intervals are of the others, and too narrow: {remedy}", stacklevel=2
        )
    return Fit(x, law, _fits(x, draws[is_complete], positive), error, lost)


@partial(jax.jit, static_argnames="positive")
def _fit(x: jax.Array, y: jax.Array, positive: bool) -> tuple[PowerLaw, jax.Array]:
    """The fit to all points, and the leave-one-out error at each. [], [points]."""
    others = jax.vmap(lambda weight: nearest_law(x, y, weight, positive))(1.0 - jnp.eye(len(x)))
    error = jnp.abs(jax.vmap(lambda law, x: law(x))(others, x) - y)
    law = nearest_law(x, y, jnp.ones(len(x)), positive)
    return law, error / jnp.abs(y) if positive else error


@partial(jax.jit, static_argnames="positive")
def _fits(x: jax.Array, draws: jax.Array, positive: bool) -> PowerLaw:
    """The fits to many y [resamples, points]. [resamples]."""
    return jax.vmap(lambda y: nearest_law(x, y, jnp.ones(len(x)), positive))(draws)


@partial(jax.jit, static_argnames=("positive", "resamples"))
def _residual_bootstrap(
    key: jax.Array, fitted: jax.Array, y: jax.Array, positive: bool, resamples: int
) -> jax.Array:
    """Fitted values with resampled residuals. [resamples, points].

    Residuals are scaled up for the three fitted parameters.
    """
    residual = (y / fitted - 1.0 if positive else y - fitted) * (len(y) / (len(y) - 3)) ** 0.5
    drawn = jax.random.choice(key, residual, (resamples, len(y)))
    return fitted[None] * jnp.maximum(1.0 + drawn, 0.01) if positive else fitted[None] + drawn


def nearest_law(x: jax.Array, y: jax.Array, weight: jax.Array, positive: bool = True) -> PowerLaw:
    """Least-squares fit of a power law to x, y with weights, each [points]; in pure JAX.

    Errors are relative with `positive`. For a given exponent, scale and offset are a linear
    regression, in closed form: only the exponent is searched, on a grid and on a finer one.
    """
    weight = weight / y**2 if positive else weight
    middle = jnp.exp(jnp.mean(jnp.log(x)))

    def at(exponent: jax.Array) -> tuple[jax.Array, PowerLaw]:
        """The squared error of the best law with this exponent, and the law."""
        feature = (x / middle) ** -exponent
        mean_x, mean_y = (jnp.sum(weight * z) / jnp.sum(weight) for z in (feature, y))
        scale = jnp.sum(weight * (feature - mean_x) * (y - mean_y)) / jnp.sum(
            weight * (feature - mean_x) ** 2
        )
        offset = mean_y - scale * mean_x
        if positive:
            without_offset = jnp.sum(weight * feature * y) / jnp.sum(weight * feature**2)
            scale = jnp.where(offset < 0, without_offset, scale)
            offset = jnp.maximum(offset, 0.0)
            scale, offset = jnp.maximum(scale, 0.0), jnp.where(scale < 0, mean_y, offset)
        error = jnp.sum(weight * (offset + scale * feature - y) ** 2)
        return error, PowerLaw(scale * middle**exponent, exponent, offset)

    return search(at)


def search(at: Callable[[jax.Array], tuple[jax.Array, T]]) -> T:
    """The law with the least error, where `at(exponent)` returns the error and the law."""
    grid = jnp.geomspace(*EXPONENTS, GRID_SIZE)
    for _ in range(2):  # refine around the best exponent
        best = jnp.argmin(jax.vmap(at)(grid)[0])
        bounds = jnp.log(grid[jnp.clip(best + jnp.array([-1, 1]), 0, GRID_SIZE - 1)])
        grid = jnp.exp(jnp.linspace(bounds[0], bounds[1], GRID_SIZE))
    return at(grid[jnp.argmin(jax.vmap(at)(grid)[0])])[1]


def pareto(*costs: Any) -> np.ndarray:
    """Pareto front: True for points that no other point dominates. bool [points].

    A point dominates another if none of its `costs` (each [points]) is higher and one is lower. NaN
    counts as infinite.
    """
    cost = np.stack([np.asarray(each, float) for each in costs])
    cost = np.where(np.isnan(cost), np.inf, cost)
    dominates = np.all(cost[:, None] <= cost[:, :, None], axis=0) & np.any(
        cost[:, None] < cost[:, :, None], axis=0
    )
    return np.logical_not(np.logical_or.reduce(dominates, axis=1))
