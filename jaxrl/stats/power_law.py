"""Power laws with an offset: fits, their intervals, and how well they foretell what they have not
seen.
"""

import dataclasses
import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.stats.intervals import Interval, ends, resample
from jaxrl.stats.scores import Statistic, median
from jaxrl.tree import pytree, static

EXPONENTS = (0.02, 8.0)  # those that are tried
TRIED = 128
LOST = 0.1  # the share of resamples without a law, beyond which their intervals mislead


@pytree
class PowerLaw:
    """y = offset + scale * x ** -exponent: what is left however large x is, and what x takes away.

    Each [...].
    """

    scale: Any
    exponent: Any
    offset: Any

    def __call__(self, x: Any) -> jax.Array:
        return self.offset + self.scale * jnp.asarray(x, float) ** -self.exponent


@pytree
class Fit:
    """A power law, and what is known of it.

    x: where it was measured, [points]. law: of all seeds. draws: of resampled ones, [resamples less
    lost]. error: of each x, the share of y by which the law of all the others misses it, [points];
    where y may be negative it is in units of y. lost: how many resamples had no y at some x, most
    of their seeds not having arrived, and so no law: the intervals are of the others.
    """

    x: jax.Array
    law: PowerLaw
    draws: PowerLaw = dataclasses.field(repr=False)
    error: jax.Array
    lost: int = static()

    def predict(self, x: Any, level: float = 0.95) -> Interval:
        """y at `x` [...], within what was measured or beyond.

        The interval is the fit's: another seed strays further.
        """
        x = jnp.asarray(x, float)
        each = jax.vmap(lambda law: law(x))(self.draws)
        return Interval(self.law(x), *ends(self.law(x), each, level))

    def parameters(self, level: float = 0.95) -> dict[str, Interval]:
        """Scale, exponent and offset with their intervals."""
        names = ("scale", "exponent", "offset")
        parts = {name: (getattr(self.law, name), getattr(self.draws, name)) for name in names}
        return {name: Interval(one, *ends(one, many, level)) for name, (one, many) in parts.items()}


def fit_power_law(
    x: Any,
    y: Any,
    *,
    statistic: Statistic = median,
    positive: bool = True,
    resamples: int = 1000,
    key: jax.Array | None = None,
) -> Fit:
    """The power law with offset nearest to y at x, with a bootstrap over seeds and a leave-one-out
    error.

    After "Value-Based Deep RL Scales Predictably" (Rybkin et al., 2025, equation 2), where x is
    updates to data and y the environment steps that a score takes: y = D_min + (beta / x) ** alpha.

    x: positive, [points]. y: [points, seeds], of whose seeds the `statistic` is fitted, and which
    are drawn anew, the same at each x; inf is "not within the budget", which a median bears as long
    as it is less than half. Or [points], where the residuals are drawn anew instead. positive: y is
    an amount: offset and scale are not negative, and errors are relative. Else they are free and
    absolute, as for a curve that rises to a score (its scale is negative).

    Warns where more than a tenth of the resamples are `lost`: those that are left tell of the lucky
    seeds.

    Raises: ValueError for fewer than four points (three parameters go through any three), a y of
    other shape, no resamples, x that is not positive, y that is not finite (or not positive, where
    it is an amount), or that no resample is.
    """
    x, y = np.asarray(x, float), jnp.asarray(y, float)
    if x.ndim != 1 or len(x) < 4 or len(np.unique(x)) < 4:
        raise ValueError(
            f"{np.size(x)} points for three parameters say nothing of a law: measure at 4 "
            "values of x or more."
        )
    if y.ndim not in (1, 2) or len(y) != len(x) or resamples < 1:
        raise ValueError(
            f"y is [points] or [points, seeds] of x's {len(x)} points, with resamples=1 or "
            f"more; here they are {y.shape}, "
            f"resamples={resamples}."
        )
    key = jax.random.key(0) if key is None else key
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
            "A power law needs positive x, and a y that is known at each of them (and "
            "positive, unless positive=False). "
            f"x is {x.tolist()}, y is {np.asarray(center).tolist()}: leave out what was not "
            "reached within the budget."
        )
    x = jnp.asarray(x, float)
    law, error = _fit(x, center, positive)
    if draws is None:
        draws = _redrawn(key, law(x), center, positive, resamples)
    arrived = np.isfinite(draws)
    whole = arrived.all(1)
    lost = int((~whole).sum())
    if lost > LOST * resamples:
        told = (
            f"{lost:,} of {resamples:,} resamples have no y, most often at x = "
            f"{x[arrived.mean(0).argmin()]:g}: "
        )
        remedy = "give those runs more budget, or leave that x out."
        if lost == resamples:
            raise ValueError(f"{told}nothing is left for an interval: {remedy}")
        warnings.warn(
            f"{told}the intervals are of the others, and too narrow: {remedy}", stacklevel=2
        )
    return Fit(x, law, _fits(x, draws[whole], positive), error, lost)


@partial(jax.jit, static_argnames="positive")
def _fit(x: jax.Array, y: jax.Array, positive: bool) -> tuple[PowerLaw, jax.Array]:
    """The law of all points, and by how much that of all others misses each."""
    others = jax.vmap(lambda weight: nearest_law(x, y, weight, positive))(1.0 - jnp.eye(len(x)))
    missed = jnp.abs(jax.vmap(lambda law, x: law(x))(others, x) - y)
    return nearest_law(x, y, jnp.ones(len(x)), positive), missed / jnp.abs(
        y
    ) if positive else missed


@partial(jax.jit, static_argnames="positive")
def _fits(x: jax.Array, draws: jax.Array, positive: bool) -> PowerLaw:
    """The law of each of many y [resamples, points]."""
    return jax.vmap(lambda y: nearest_law(x, y, jnp.ones(len(x)), positive))(draws)


@partial(jax.jit, static_argnames=("positive", "resamples"))
def _redrawn(
    key: jax.Array, fitted: jax.Array, y: jax.Array, positive: bool, resamples: int
) -> jax.Array:
    """y made anew from the law and its residuals, widened for the three parameters that were
    fitted. [resamples, points].
    """
    residual = (y / fitted - 1.0 if positive else y - fitted) * (len(y) / (len(y) - 3)) ** 0.5
    drawn = jax.random.choice(key, residual, (resamples, len(y)))
    return fitted[None] * jnp.maximum(1.0 + drawn, 0.01) if positive else fitted[None] + drawn


def nearest_law(x: jax.Array, y: jax.Array, weight: jax.Array, positive: bool = True) -> PowerLaw:
    """The law with the least sum of squares, relative ones where `positive`; pure. x, y, weight:
    [points].

    For an exponent the best scale and offset are a line's, in closed form: only the exponent is
    searched, on a grid and on a finer one about its best.
    """
    weight = weight / y**2 if positive else weight
    middle = jnp.exp(jnp.mean(jnp.log(x)))

    def at(exponent: jax.Array) -> tuple[jax.Array, PowerLaw]:
        feature = (x / middle) ** -exponent
        mean_x, mean_y = (jnp.sum(weight * z) / jnp.sum(weight) for z in (feature, y))
        scale = jnp.sum(weight * (feature - mean_x) * (y - mean_y)) / jnp.sum(
            weight * (feature - mean_x) ** 2
        )
        offset = mean_y - scale * mean_x
        if positive:
            through = jnp.sum(weight * feature * y) / jnp.sum(
                weight * feature**2
            )  # the line without offset
            scale, offset = jnp.where(offset < 0, through, scale), jnp.maximum(offset, 0.0)
            scale, offset = jnp.maximum(scale, 0.0), jnp.where(scale < 0, mean_y, offset)
        miss = jnp.sum(weight * (offset + scale * feature - y) ** 2)
        return miss, PowerLaw(scale * middle**exponent, exponent, offset)

    tried = jnp.geomspace(*EXPONENTS, TRIED)
    for _ in range(2):  # on a finer grid about the best
        best = jnp.argmin(jax.vmap(at)(tried)[0])
        about = jnp.log(tried[jnp.clip(best + jnp.array([-1, 1]), 0, TRIED - 1)])
        tried = jnp.exp(jnp.linspace(about[0], about[1], TRIED))
    return at(tried[jnp.argmin(jax.vmap(at)(tried)[0])])[1]


def pareto(*costs: Any) -> np.ndarray:
    """Which points no other beats: none is as cheap in every one of `costs` (each [points]) and
    cheaper in one. [points].

    What is not known, NaN, is as dear as can be.
    """
    cost = np.stack([np.asarray(each, float) for each in costs])
    cost = np.where(np.isnan(cost), np.inf, cost)
    beats = np.all(cost[:, None] <= cost[:, :, None], axis=0) & np.any(
        cost[:, None] < cost[:, :, None], axis=0
    )
    return np.logical_not(np.logical_or.reduce(beats, axis=1))
