"""Hyperparameter importance: fractions of the variance of scores, by functional ANOVA.

Hutter, Hoos and Leyton-Brown (2014). It is exact for a grid of settings; for random settings it is
that of a random forest which predicts the score of a setting.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from jaxrl import stats
from jaxrl.lazy import pandas as pd
from jaxrl.lazy import xarray as xr

HIGHER, TIMES = "higher orders", " × "
MAX_GROUPS = 30  # of seeds, each of which the jackknife leaves out once
MIN_SETTINGS = 10  # random settings for a forest
NUM_TREES = 64
NUM_VALUES = 8  # quantiles of a hyperparameter at which the forest is evaluated
NUM_SAMPLES = 128  # settings of the other hyperparameters to average over
Effects: TypeAlias = "dict[tuple[str, ...], xr.DataArray]"


@dataclasses.dataclass(frozen=True)
class Importance:
    """Fractions of the variance of scores, and the marginal effect of each hyperparameter.

    shares: columns share, low, high; a row for each hyperparameter, each pair ("lr × gamma"),
      interactions of three or more ("higher orders"), and the replicates ("seed"), for the variance
      that no setting explains. The shares add up to 1.
    marginals: for each hyperparameter the columns mean, low, high, a row for each of its values:
      the score averaged over the values of the others and over seeds.
    fit: the out-of-bag R² of the forest; None where shares are exact.
    """

    shares: pd.DataFrame
    marginals: dict[str, pd.DataFrame]
    fit: float | None = None


def importance(
    results: stats.Results,
    name: str = "return",
    names: Sequence[str] = (),
    *,
    over: str = "seed",
    last: int = 1,
    level: float = 0.95,
    diverged: bool = False,
) -> Importance:
    """Importance of hyperparameters and of their pairs for the final `name`, relative to seeds.

    Importance is with respect to the values that were swept, all with equal weight.

    For a grid of settings, shares are exact, corrected for the noise of few seeds (epsilon
    squared), with jackknife intervals; seeds without a score at some setting are left out. For
    random settings, which are coordinates along one axis (`rl.zipped`, `rl.tune`), shares and
    intervals are those of the trees of a random forest, the fit of which is reported; settings with
    fewer than two scores are left out.

    Args:
      results: of a sweep.
      name: the variable.
      names: the coordinates that are hyperparameters, of random settings; by default all.
      over: the axis of the replicates.
      last: the number of last evaluation points that are averaged.
      level: of the intervals.
      diverged: True counts members that diverged with their own scores; by default each has the
        lowest score of all.

    Raises:
      ValueError: there is no swept axis, fewer than three seeds have a score at every setting, or
        there are fewer than ten random settings.
      ImportError: random settings need scikit-learn (extra importance).
    """
    scores = stats.final_of_sound(results, name, over, last)
    scores = scores.where(scores != -np.inf, scores.where(np.isfinite(scores)).min())
    if diverged:
        scores = stats.final(results, name, over, last)
        scores = scores.where(np.isfinite(scores)).astype(float)
    axes = [str(axis) for axis, size in scores.sizes.items() if size > 1 and axis != over]
    if not axes:
        raise ValueError(
            f"{name!r} was swept over {over!r} alone: importance needs a hyperparameter with "
            "several values."
        )
    scores = scores.squeeze(
        [axis for axis in scores.dims if axis not in (*axes, over)], drop=True
    ).transpose(*axes, over)
    coordinates = {
        str(key): str(c.dims[0])
        for key, c in scores.coords.items()
        if key not in scores.dims and c.dims
    }
    sampled = {
        key: axis
        for key, axis in coordinates.items()
        if axis in axes and (not names or key in names)
    }
    if missing := [key for key in names if key not in sampled]:
        raise ValueError(
            f"{missing[0]!r} is not a coordinate along a swept axis; these are "
            f"{', '.join(coordinates) or 'none'}."
        )
    if not sampled:
        return _of_grid(scores, axes, over, level)
    grid_axes = [axis for axis in axes if axis not in sampled.values()]
    return _of_random_settings(scores, [*sampled, *grid_axes], axes, over, level)


def _effects(cells: xr.DataArray, axes: Sequence[str]) -> Effects:
    """The overall mean, the main effects and the effects of pairs.

    Each is the mean over the other axes, less the effects of the subsets of its axes.
    """
    effects: Effects = {}
    for part in _parts(axes):
        lower = [effect for subset, effect in effects.items() if set(subset) < set(part)]
        effects[part] = cells.mean([axis for axis in axes if axis not in part]) - sum(lower)
    return effects


def _parts(axes: Sequence[str]) -> list[tuple[str, ...]]:
    """The subsets of up to two axes."""
    return [part for order in (0, 1, 2) for part in itertools.combinations(axes, order)]


# ---------------------------------------------------------------------------------- a grid, exactly


def _of_grid(scores: xr.DataArray, axes: list[str], over: str, level: float) -> Importance:
    complete = scores.dropna(over)
    if (num_seeds := complete.sizes[over]) < 3:
        known = scores.notnull().sum(over)
        index = cast(Mapping[Any, xr.DataArray], known.argmin(axes))
        setting = {str(axis): known[axis].values[int(i)].item() for axis, i in index.items()}
        raise ValueError(
            f"{num_seeds} of {scores.sizes[over]} have a score at every setting, and importance "
            f"needs 3: {setting} has {int(known.min())}. Select a part of the grid without it, or "
            "another variable, such as 'evaluation'."
        )
    from scipy.stats import t  # here, as its import is slow

    shares, marginals = _shares(complete, axes, over)
    groups = np.array_split(np.arange(num_seeds), min(num_seeds, MAX_GROUPS))
    jackknife = [_shares(complete.drop_isel({over: group}), axes, over) for group in groups]
    scale = float(t.ppf((1 + level) / 2, len(groups) - 1)) * math.sqrt(len(groups) - 1)
    half = scale * np.std([share for share, _ in jackknife], axis=0)
    titles = [*map(TIMES.join, _parts(axes)[1:]), *([HIGHER] if len(axes) > 2 else []), over]
    low, high = np.maximum(shares - half, 0), np.minimum(shares + half, 1)
    table = _table("share", shares, low, high, titles)
    curves = {}
    for i, axis in enumerate(axes):
        half = scale * np.std([marginal[i] for _, marginal in jackknife], axis=0)
        low, high = marginals[i] - half, marginals[i] + half
        curves[axis] = _table("mean", marginals[i], low, high, scores[axis].values)
    return Importance(table, curves)


def _shares(
    scores: xr.DataArray, axes: list[str], over: str
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The share of each part, of higher orders if there are any, and of seeds; and marginals."""
    cells, seed_variance = scores.mean(over), float(scores.var(over, ddof=1).mean())
    effects = _effects(cells, axes)
    freedom = [math.prod(cells.sizes[axis] - 1 for axis in part) for part in effects if part]
    raw = [float((effect**2).mean()) for part, effect in effects.items() if part]
    if len(axes) > 2:
        raw.append(max(float(cells.var()) - sum(raw), 0.0))
        freedom.append(cells.size - 1 - sum(freedom))
    # every seed has a score at every setting, so that its main effect cancels in the effects of
    # settings, and only its interaction with them is noise
    interaction = scores - cells - scores.mean(axes) + scores.mean()
    interaction_variance = float((interaction**2).sum()) / (
        (scores.sizes[over] - 1) * max(cells.size - 1, 1)
    )
    # of the means of the cells, per degree of freedom
    noise = interaction_variance / scores.sizes[over] / cells.size
    corrected = [max(v - f * noise, 0.0) for v, f in zip(raw, freedom, strict=True)]
    variances = np.array([*corrected, seed_variance])
    total = variances.sum()
    marginals = [(effects[()] + effects[axis,]).values for axis in axes]
    return (variances / total if total > 0 else np.zeros_like(variances)), marginals


def _table(column: str, value: Any, low: Any, high: Any, index: Any) -> pd.DataFrame:
    return pd.DataFrame({column: value, "low": low, "high": high}, index=index)


# --------------------------------------------------------------------- random settings, by a forest


def _of_random_settings(
    scores: xr.DataArray, names: list[str], axes: list[str], over: str, level: float
) -> Importance:
    rows = scores.stack(setting_=axes).transpose("setting_", over)
    rows = rows[(rows.notnull().sum(over) >= 2).values]
    if len(rows) < MIN_SETTINGS:
        raise ValueError(
            f"{len(rows)} settings have two scores or more, and a random forest needs "
            f"{MIN_SETTINGS}: sweep more settings or seeds."
        )
    # trees depend on the order of values only
    columns = [np.unique(rows[name].values, return_inverse=True) for name in names]
    codes = np.stack([code for _, code in columns], 1).astype(np.float32)
    target = rows.mean(over).values
    forest = _forest(codes, target)
    others = np.stack(
        [np.random.default_rng(i).choice(column, NUM_SAMPLES) for i, column in enumerate(codes.T)],
        1,
    )
    quantiles = (np.arange(NUM_VALUES) + 0.5) / NUM_VALUES
    grid = [np.quantile(column, quantiles, method="nearest") for column in codes.T]

    def cells(part: tuple[int, ...]) -> xr.DataArray:
        """Predictions of each tree at values of some hyperparameters, averaged over the others."""
        points = np.stack(np.meshgrid(*(grid[i] for i in part), indexing="ij"), -1).reshape(
            -1, 1, len(part)
        )
        settings = np.repeat(others[None], len(points), 0)
        settings[:, :, part] = points
        predictions = np.stack(
            [tree.predict(settings.reshape(-1, len(names))) for tree in forest.estimators_]
        )
        return xr.DataArray(
            predictions.reshape(NUM_TREES, *[NUM_VALUES] * len(part), NUM_SAMPLES).mean(-1),
            dims=("tree", *map(str, part)),
        )

    permuted = np.concatenate(
        [np.random.default_rng(i).permuted(codes, axis=0) for i in range(-(-1024 // len(codes)))]
    )
    total = np.maximum([tree.predict(permuted).var() for tree in forest.estimators_], 1e-30)
    parts = _parts([str(i) for i in range(len(names))])[1:]
    cells_of = {part: cells(tuple(map(int, part))) for part in parts}
    fractions = [
        (_effects(cell, part)[part] ** 2).mean(part).values / total
        for part, cell in cells_of.items()
    ]
    if len(names) > 2:
        fractions.append(np.maximum(1 - sum(fractions), 0))
    fraction = np.stack(fractions)
    seed_variance = float(rows.var(over, ddof=1).mean())
    noise = float((rows.var(over, ddof=1) / rows.notnull().sum(over)).mean())
    setting_variance = max(float(target.var()) - noise, 0.0)
    total_variance = max(setting_variance + seed_variance, 1e-30)
    shares = fraction / np.maximum(fraction.sum(0), 1e-30) * setting_variance / total_variance
    titles = [TIMES.join(names[int(i)] for i in part) for part in parts]
    titles += [HIGHER] if len(names) > 2 else []
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(shares, ends, axis=1)
    table = _table("share", shares.mean(1), low, high, titles)
    table.loc[over] = [1 - table["share"].sum(), np.nan, np.nan]
    curves = {}
    for i, name in enumerate(names):
        unique, first = np.unique(grid[i], return_index=True)
        curve = cells_of[str(i),].values[:, first]
        low, high = np.quantile(curve, ends, axis=0)
        values = columns[i][0][unique.astype(int)]
        curves[name] = _table("mean", curve.mean(0), low, high, values)
    return Importance(table, curves, float(forest.oob_score_))


def _forest(x: np.ndarray, y: np.ndarray) -> Any:
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ImportError:
        raise ImportError(
            'importance of random settings needs scikit-learn: pip install "jaxrl[importance]"'
        ) from None
    return RandomForestRegressor(NUM_TREES, oob_score=True, random_state=0).fit(x, y)
