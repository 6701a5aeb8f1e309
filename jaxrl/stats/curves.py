"""Learning curves: steps to a score, prediction of the final score, and early stopping."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.stats.intervals import Interval, interval
from jaxrl.stats.power_law import nearest_law
from jaxrl.stats.scores import mean

Predictor = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def isotonic(curve: Any) -> np.ndarray:
    """Isotonic regression: the non-decreasing curve with the least squared error. [..., points].

    By the max-min formula: the maximum over starts of the minimum over ends of a mean.
    """
    curve = np.asarray(curve, float)
    points = curve.shape[-1]
    total = np.concatenate([np.zeros((*curve.shape[:-1], 1)), np.cumsum(curve, -1)], -1)
    start, end = np.ogrid[:points, :points]
    sums = total[..., None, 1:] - total[..., :-1, None]  # [..., start, end]
    means = np.where(end >= start, sums / np.maximum(end - start + 1, 1), np.inf)
    minimum = np.minimum.accumulate(means[..., ::-1], -1)[..., ::-1]
    return np.where(start <= end, minimum, -np.inf).max(-2)


def steps_to(curve: Any, steps: Any, score: float) -> np.ndarray:
    """Environment steps after which an `isotonic` learning curve reaches a score. [...].

    Infinite if it never does. Between two points the curve is linear (Rybkin et al., 2025,
    section 4).

    curve: [..., points]. steps: [points].

    Raises:
      ValueError: a point has no value, or the numbers of points and steps differ.
    """
    if np.isnan(curve).any():
        raise ValueError(
            "The curve has points without a value, such as rows in which no episode ended: fill "
            'them by results.bfill("step"), or use "evaluation".'
        )
    curve, steps = isotonic(curve), np.asarray(steps, float)
    if curve.shape[-1:] != steps.shape:
        raise ValueError(
            f"a curve of shape {curve.shape} needs a step for each point of its last axis, not "
            f"steps of shape {steps.shape}."
        )
    reached = curve >= score
    i = reached.argmax(-1)[..., None]
    high, low = (np.take_along_axis(curve, np.maximum(i - k, 0), -1)[..., 0] for k in (0, 1))
    fraction = np.divide(score - low, high - low, out=np.ones_like(low), where=high > low)
    after, before = (steps[np.maximum(i[..., 0] - k, 0)] for k in (0, 1))
    return np.where(reached.any(-1), before + np.clip(fraction, 0, 1) * (after - before), np.inf)


# ------------------------------------------------------------------- predictors of the final score
# (partial [n, seen], steps [points], finished [m, points]) -> predicted final values [n]


def last_value(partial: np.ndarray, steps: np.ndarray, finished: np.ndarray) -> np.ndarray:
    """The last known value of each curve. [n]."""
    return partial[:, -1]


def last_quantile(partial: np.ndarray, steps: np.ndarray, finished: np.ndarray) -> np.ndarray:
    """The final value at a curve's present quantile among the finished curves. [n]."""
    present, final = np.sort(finished[:, partial.shape[1] - 1]), np.sort(finished[:, -1])
    return np.interp(partial[:, -1], present, final)


def by_power_law(partial: np.ndarray, steps: np.ndarray, finished: np.ndarray) -> np.ndarray:
    """Extrapolation of the power law with offset that fits a curve best. [n].

    With three points or fewer, `last_value`.
    """
    num_seen = partial.shape[1]
    if num_seen < 4:
        return partial[:, -1]
    weight = np.linspace(0.5, 1.0, num_seen)  # later points count more
    low = min(partial.min(), finished.min(initial=np.inf))
    high = max(partial.max(), finished.max(initial=-np.inf))
    predicted = _power_laws(partial, np.asarray(steps[:num_seen], float), weight, float(steps[-1]))
    return np.clip(predicted, low, high)


def by_regression(
    partial: np.ndarray, steps: np.ndarray, finished: np.ndarray, ridge: float = 1.0
) -> np.ndarray:
    """Ridge regression of the final value, fitted to the finished curves. [n].

    Its features are the present value, the mean so far and the most recent increase.
    """
    num_seen = partial.shape[1]

    def features(x: np.ndarray) -> np.ndarray:
        rise = x[:, -1] - x[:, max(num_seen - 4, 0) : num_seen].mean(1)
        return np.stack([x[:, -1], x.mean(1), rise], -1)

    known, target = features(finished[:, :num_seen]), finished[:, -1]
    center, scale = known.mean(0), known.std(0) + 1e-8
    known, new = (known - center) / scale, (features(partial) - center) / scale
    weight = np.linalg.solve(
        known.T @ known + ridge * np.eye(3), known.T @ (target - target.mean())
    )
    return target.mean() + new @ weight


@jax.jit
def _power_laws(partial: Any, steps: Any, weight: Any, last: Any) -> jax.Array:
    steps, weight = jnp.asarray(steps, float), jnp.asarray(weight, float)

    def predict(curve: jax.Array) -> jax.Array:
        return nearest_law(steps, curve, weight=weight, positive=False)(last)

    return jax.vmap(predict)(jnp.asarray(partial, float))


# ----------------------------------------------------------------------------------- early stopping


class Cost(NamedTuple):
    """Savings and cost of early stopping: means over orders, with intervals.

    saved: the fraction of all environment steps that were not run.
    regret: the final value of the best curve, less that of the best finished curve.
    missed: the fraction of orders in which the best curve was stopped.
    """

    saved: Interval
    regret: Interval
    missed: Interval


def stopping_cost(
    curves: Any,
    steps: Any,
    predictor: Predictor = last_quantile,
    *,
    checks: Any = (0.25, 0.5),
    first: int = 8,
    quantile: float = 0.75,
    orders: int = 200,
    seed: int = 0,
) -> Cost:
    """Savings and cost of early stopping, simulated on complete learning curves.

    Curves come in random orders, as a tuner tries settings. The `first` are finished; each further
    one is stopped at the first of `checks` where its predicted final value is below the `quantile`
    of the finished curves.

    Args:
      curves: [n, points], finite.
      steps: [points].
      predictor: of final values.
      checks: fractions of the steps after which a curve may be stopped.
      first: the number of curves that are always finished.
      quantile: of final values of finished curves.
      orders: the number of random orders.
      seed: of the orders.

    Raises:
      ValueError: there are not more curves than `first`, a value is not finite, the numbers of
        points and steps differ, or a check is not between 0 and 1.
    """
    curves, steps = np.asarray(curves, float), np.asarray(steps, float)
    if curves.shape[1:] != steps.shape or not all(0 < share < 1 for share in checks):
        raise ValueError(
            "Curves [n, points] need steps [points], and checks between 0 and 1, which are "
            f"fractions of the steps; got curves {curves.shape}, steps {steps.shape} and "
            f"checks={checks}."
        )
    if len(curves) <= first or not np.isfinite(curves).all():
        raise ValueError(
            f"Early stopping needs more than first={first} curves, all of them finite; got "
            f"{len(curves)}."
        )
    check_points = [
        max(1, int(np.searchsorted(steps, share * steps[-1], "right"))) for share in checks
    ]
    rng, rows = np.random.default_rng(seed), []
    for order in (rng.permutation(len(curves)) for _ in range(orders)):
        done, total_steps = list(order[:first]), first * steps[-1]
        for i in order[first:]:
            finished = curves[done]
            threshold = np.quantile(finished[:, -1], quantile)
            stop = next(
                (
                    n
                    for n in check_points
                    if predictor(curves[i : i + 1, :n], steps, finished)[0] < threshold
                ),
                None,
            )
            total_steps += steps[-1] if stop is None else steps[stop - 1]
            done += [i] if stop is None else []
        best = curves[:, -1].max()
        regret = best - curves[done, -1].max()
        rows.append((1.0 - total_steps / (len(curves) * steps[-1]), regret, regret > 0))
    return Cost(*(interval(each, mean) for each in np.asarray(rows, np.float32).T))
