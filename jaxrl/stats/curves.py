"""Learning curves: when they reach a score, where they will end, and what it costs to stop those
that look bad.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.stats.intervals import Interval, interval
from jaxrl.stats.power_law import nearest_law
from jaxrl.stats.scores import mean

Predictor = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def isotonic(curve: Any) -> np.ndarray:
    """The nearest curve [..., points] that never falls, by least squares: max over starts of min
    over ends of a mean.
    """
    curve = np.asarray(curve, float)
    points = curve.shape[-1]
    total = np.concatenate([np.zeros((*curve.shape[:-1], 1)), np.cumsum(curve, -1)], -1)
    start, end = np.ogrid[:points, :points]
    means = (total[..., None, 1:] - total[..., :-1, None]) / np.maximum(
        end - start + 1, 1
    )  # [..., start, end]
    least = np.minimum.accumulate(np.where(end >= start, means, np.inf)[..., ::-1], -1)[..., ::-1]
    return np.where(start <= end, least, -np.inf).max(-2)


def steps_to(curve: Any, steps: Any, score: float) -> np.ndarray:
    """Environment steps after which a learning curve, made `isotonic`, has reached a score; inf
    where it never does. [...].

    curve: [..., points]; steps: [points]; between two points it is a line (Rybkin et al., 2025,
    section 4).

    Raises: ValueError for a point without a value, which would read as never.
    """
    if np.isnan(curve).any():
        raise ValueError(
            "The curve has points without a value, such as rows in which no episode ended: "
            "fill them, "
            'results.bfill("step"), or take "evaluation".'
        )
    curve, steps = isotonic(curve), np.asarray(steps, float)
    if curve.shape[-1:] != steps.shape:
        raise ValueError(
            f"a curve of shape {curve.shape} has a step for each point of its last axis, not "
            f"{steps.shape}."
        )
    reached = curve >= score
    i = reached.argmax(-1)[..., None]
    high, low = (np.take_along_axis(curve, np.maximum(i - k, 0), -1)[..., 0] for k in (0, 1))
    share = np.divide(score - low, high - low, out=np.ones_like(low), where=high > low)
    after, before = (steps[np.maximum(i[..., 0] - k, 0)] for k in (0, 1))
    return np.where(reached.any(-1), before + np.clip(share, 0, 1) * (after - before), np.inf)


# ---------------------------------------------------------------------------------- the final score
# (begun [n, seen], steps [points], finished [m, points]) -> the last values foretold [n]


def last_value(begun: np.ndarray, steps: np.ndarray, finished: np.ndarray) -> np.ndarray:
    """It ends where it is now."""
    return begun[:, -1]


def last_quantile(begun: np.ndarray, steps: np.ndarray, finished: np.ndarray) -> np.ndarray:
    """It keeps its place: the quantile that it is of the finished curves at this step, it is of
    their last values.
    """
    now, end = np.sort(finished[:, begun.shape[1] - 1]), np.sort(finished[:, -1])
    return np.interp(begun[:, -1], now, end)


def by_power_law(begun: np.ndarray, steps: np.ndarray, finished: np.ndarray) -> np.ndarray:
    """The power law with offset that is nearest to what was seen goes on; from three points or
    fewer, `last_value`.
    """
    seen = begun.shape[1]
    if seen < 4:
        return begun[:, -1]
    weight = np.linspace(0.5, 1.0, seen)  # the end matters more
    bounds = (
        min(begun.min(), finished.min(initial=np.inf)),
        max(begun.max(), finished.max(initial=-np.inf)),
    )
    return np.clip(
        _power_laws(begun, np.asarray(steps[:seen], float), weight, float(steps[-1])), *bounds
    )


def by_regression(
    begun: np.ndarray, steps: np.ndarray, finished: np.ndarray, ridge: float = 1.0
) -> np.ndarray:
    """Ridge regression of the last value on the present one, the mean so far and the last rise,
    fitted to the finished.
    """
    seen = begun.shape[1]
    features = lambda x: np.stack(
        [x[:, -1], x.mean(1), x[:, -1] - x[:, max(seen - 4, 0) : seen].mean(1)], -1
    )
    known, target = features(finished[:, :seen]), finished[:, -1]
    center, spread = known.mean(0), known.std(0) + 1e-8
    known, new = (known - center) / spread, (features(begun) - center) / spread
    weight = np.linalg.solve(
        known.T @ known + ridge * np.eye(3), known.T @ (target - target.mean())
    )
    return target.mean() + new @ weight


@jax.jit
def _power_laws(begun: Any, steps: Any, weight: Any, last: Any) -> jax.Array:
    fit = partial(
        nearest_law, jnp.asarray(steps, float), weight=jnp.asarray(weight, float), positive=False
    )
    return jax.vmap(lambda curve: fit(curve)(last))(jnp.asarray(begun, float))


# ----------------------------------------------------------------------------------------- stopping


class Cost(NamedTuple):
    """What stopping saves and costs, means over orders with intervals.

    saved: the share of all environment steps that were not played. regret: how far the best curve
    that was finished ends below the best of all. missed: the share of orders in which the best of
    all was stopped.
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
    """What it would have saved and lost to stop curves early, against none stopped, on curves that
    are all known.

    Curves come in a random order, as a tuner tries settings. The `first` are finished; each further
    one is stopped at the first of `checks` (shares of its steps) at which the predictor sees it end
    below the `quantile` of those finished.

    curves: [n, points], finite; steps: [points]. Raises: ValueError for fewer curves than `first`
    and one more, values that are not finite, other steps than points, or
      checks that are no shares.
    """
    curves, steps = np.asarray(curves, float), np.asarray(steps, float)
    if curves.shape[1:] != steps.shape or not all(0 < share < 1 for share in checks):
        raise ValueError(
            "Curves [n, points] need steps [points], and checks that are shares of these "
            "between 0 and 1: here are curves "
            f"{curves.shape}, steps {steps.shape} and checks={checks}."
        )
    if len(curves) <= first or not np.isfinite(curves).all():
        raise ValueError(
            f"It takes more than first={first} curves, all of them finite; here are {len(curves)}."
        )
    seen = [max(1, int(np.searchsorted(steps, share * steps[-1], "right"))) for share in checks]
    rng, rows = np.random.default_rng(seed), []
    for order in (rng.permutation(len(curves)) for _ in range(orders)):
        done, played = list(order[:first]), first * steps[-1]
        for i in order[first:]:
            finished = curves[done]
            bar = np.quantile(finished[:, -1], quantile)
            stop = next(
                (n for n in seen if predictor(curves[i : i + 1, :n], steps, finished)[0] < bar),
                None,
            )
            played += steps[-1] if stop is None else steps[stop - 1]
            done += [i] if stop is None else []
        best = curves[:, -1].max()
        regret = best - curves[done, -1].max()
        rows.append((1.0 - played / (len(curves) * steps[-1]), regret, regret > 0))
    return Cost(*(interval(each, mean) for each in np.asarray(rows, np.float32).T))
