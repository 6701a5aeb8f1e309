"""Slopes of curves on logarithmic axes, for rates such as regret ~ T^0.5."""

import math
from typing import Any

import numpy as np


def slope(t: Any, y: Any, between: tuple[float, float] = (0.0, math.inf)) -> np.ndarray:
    """Least-squares slope of log y in log t, for each curve. [...].

    `interval` of it is over seeds.

    t: positive, [points]. y: positive, [..., points].
    between: the range of t that is fitted. A rate needs decades, so write it beside the result.

    Raises:
      ValueError: the shapes differ, fewer than three points are in the range, or a t or y in it is
        not positive.
    """
    t, y = np.asarray(t, float), np.asarray(y, float)
    if t.ndim != 1 or y.shape[-1:] != t.shape:
        raise ValueError(
            f"t needs shape [points] and y [..., points], and they have {t.shape} and {y.shape}: "
            "move the axis of points to the end."
        )
    used = (t >= between[0]) & (t <= between[1])
    if used.sum() < 3:
        raise ValueError(
            f"{used.sum()} of the {len(t)} points are in between={between}, and a slope needs 3: t "
            f"is from {t.min():g} to {t.max():g}."
        )
    t, y = t[used], y[..., used]
    if not (t > 0).all() or not (y > 0).all():
        raise ValueError(
            f"{(~(t > 0)).sum()} values of t and {(~(y > 0)).sum()} of y in between={between} are "
            "not positive, and have no logarithm: choose a later range, or add a floor to y."
        )
    x = np.log(t) - np.log(t).mean()
    return (x * np.log(y)).sum(-1) / (x**2).sum()
