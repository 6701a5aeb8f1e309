"""What mattered: the share of the scores' variance that each hyperparameter, each pair and the luck
of a seed explain.

Functional ANOVA (Hutter, Hoos and Leyton-Brown, 2014): exact where every combination was swept;
where settings were drawn at random, of a random forest that predicts the score of a setting.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from jaxrl import stats

HIGHER, TIMES = "higher orders", " × "
GROUPS = 30  # of seeds, each left out once by the jackknife
FEWEST = 10  # random settings that a forest may learn from
TREES, VALUES, OTHERS = (
    64,
    8,
    128,
)  # of a forest; of a hyperparameter; of the others, that each of its values is met with
Effects = dict[tuple[str, ...], xr.DataArray]


@dataclasses.dataclass(frozen=True)
class Importance:
    """Shares of the variance of all members' scores, and how the score depends on each
    hyperparameter alone.

    shares: columns share, low, high; a row for each hyperparameter, each pair ("lr × gamma"), what
    takes three or more ("higher orders"), and the replicates ("seed"), whose share is what no
    setting explains. They add up to 1. marginals: {hyperparameter: mean, low, high for each of its
    values}, averaged over the others' values and over seeds. fit: of a forest, the R² on settings
    that it had not seen (out of bag); None where the shares are exact.
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
) -> Importance:
    """Which hyperparameters, and which pairs, explain the spread of the final `name`, beside the
    luck of the seed.

    Each matters over the values that it was given, which count alike, and no further.

    Every combination swept: the shares are exact, less what the noise of few seeds adds to each
    (epsilon squared); the intervals are the jackknife's. A seed that has no score at some setting
    is left out. Random settings, which stand as coordinates beside one axis (`rl.zipped`,
    `rl.tune`): shares and intervals are those of the trees of a forest; see how well it fits. A
    setting without two scores is left out.

    names: of such coordinates those that are hyperparameters. last: the last evaluation points,
    which are averaged.

    Raises:
      ValueError: no swept axis, fewer than three seeds with a score at every setting, fewer than
        ten random settings. ImportError: random settings without scikit-learn; it says which extra
        installs it.
    """
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
    beside = {
        str(key): str(c.dims[0])
        for key, c in scores.coords.items()
        if key not in scores.dims and c.dims
    }
    chosen = {
        key: axis for key, axis in beside.items() if axis in axes and (not names or key in names)
    }
    if missing := [key for key in names if key not in chosen]:
        raise ValueError(
            f"{missing[0]!r} stands beside no swept axis; there are {', '.join(beside) or 'none'}."
        )
    if not chosen:
        return _exact(scores, axes, over, level)
    return _sampled(
        scores,
        [*chosen, *(axis for axis in axes if axis not in chosen.values())],
        axes,
        over,
        level,
    )


def _effects(cells: xr.DataArray, axes: Sequence[str]) -> Effects:
    """The overall mean, the main effects and the pairs': each adds to the mean over the other axes
    what none below does.
    """
    effects: Effects = {}
    for part in _parts(axes):
        below = [effects[few] for few in effects if set(few) < set(part)]
        effects[part] = cells.mean([axis for axis in axes if axis not in part]) - sum(below)
    return effects


def _parts(axes: Sequence[str]) -> list[tuple[str, ...]]:
    return [part for order in (0, 1, 2) for part in itertools.combinations(axes, order)]


# ---------------------------------------------------------------------------------- a grid, exactly


def _exact(scores: xr.DataArray, axes: list[str], over: str, level: float) -> Importance:
    whole = scores.dropna(over)
    if (seeds := whole.sizes[over]) < 3:
        known = scores.notnull().sum(over)
        place = {
            str(axis): known[axis].values[int(i)].item() for axis, i in known.argmin(axes).items()
        }  # type: ignore[union-attr]
        raise ValueError(
            f"{seeds} of {scores.sizes[over]} have a score at every setting, and importance "
            f"needs 3: {place} has "
            f"{int(known.min())}. Choose a part of the grid without it, or another variable, "
            "say 'evaluation'."
        )
    from scipy.stats import t  # here, as it takes a moment to import

    shares, marginals = _shares(whole, axes, over)
    groups = np.array_split(np.arange(seeds), min(seeds, GROUPS))
    without = [_shares(whole.drop_isel({over: group}), axes, over) for group in groups]
    reach = float(t.ppf((1 + level) / 2, len(groups) - 1)) * math.sqrt(len(groups) - 1)
    half = reach * np.std([share for share, _ in without], axis=0)
    titles = [*map(TIMES.join, _parts(axes)[1:]), *([HIGHER] if len(axes) > 2 else []), over]
    table = _rows(shares, np.maximum(shares - half, 0), np.minimum(shares + half, 1), titles)
    curves = {}
    for i, axis in enumerate(axes):
        half = reach * np.std([moved[i] for _, moved in without], axis=0)
        curves[axis] = _rows(
            marginals[i], marginals[i] - half, marginals[i] + half, scores[axis].values
        )
    return Importance(table, curves)


def _shares(
    scores: xr.DataArray, axes: list[str], over: str
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The share of each part, of higher orders where there are any, and of the seeds; then each
    axis's own curve.
    """
    cells, luck = scores.mean(over), float(scores.var(over, ddof=1).mean())
    effects = _effects(cells, axes)
    freedom = [math.prod(cells.sizes[axis] - 1 for axis in part) for part in effects if part]
    spread = [float((effect**2).mean()) for part, effect in effects.items() if part]
    if len(axes) > 2:
        spread.append(max(float(cells.var()) - sum(spread), 0.0))
        freedom.append(cells.size - 1 - sum(freedom))
    # each seed lives at every setting: what it adds to all of them alike blurs no effect, only the
    # rest does
    rest = scores - cells - scores.mean(axes) + scores.mean()
    mixed = float((rest**2).sum()) / ((scores.sizes[over] - 1) * max(cells.size - 1, 1))
    noise = (
        mixed / scores.sizes[over] / cells.size
    )  # of the cells' means, for each degree of freedom
    variances = np.array(
        [*(max(v - f * noise, 0.0) for v, f in zip(spread, freedom, strict=True)), luck]
    )
    total = variances.sum()
    marginals = [(effects[()] + effects[axis,]).values for axis in axes]
    return (variances / total if total > 0 else np.zeros_like(variances)), marginals


def _rows(mean: Any, low: Any, high: Any, index: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {"share" if isinstance(index, list) else "mean": mean, "low": low, "high": high},
        index=index,
    )


# --------------------------------------------------------------------- random settings, by a forest


def _sampled(
    scores: xr.DataArray, names: list[str], axes: list[str], over: str, level: float
) -> Importance:
    rows = scores.stack(setting_=axes).transpose("setting_", over)
    rows = rows[(rows.notnull().sum(over) >= 2).values]
    if len(rows) < FEWEST:
        raise ValueError(
            f"{len(rows)} settings have two scores or more; a forest needs {FEWEST} to say "
            "what mattered."
        )
    columns = [
        np.unique(rows[name].values, return_inverse=True) for name in names
    ]  # trees see the order alone
    codes, target = (
        np.stack([code for _, code in columns], 1).astype(np.float32),
        rows.mean(over).values,
    )
    forest = _forest(codes, target)
    others = np.stack(
        [np.random.default_rng(i).choice(column, OTHERS) for i, column in enumerate(codes.T)], 1
    )
    at = (np.arange(VALUES) + 0.5) / VALUES
    asked = [np.quantile(column, at, method="nearest") for column in codes.T]

    def cells(part: tuple[int, ...]) -> xr.DataArray:
        """What each tree predicts at the values of one or two hyperparameters, averaged over the
        others'.
        """
        grid = np.stack(np.meshgrid(*(asked[i] for i in part), indexing="ij"), -1).reshape(
            -1, 1, len(part)
        )
        given = np.repeat(others[None], len(grid), 0)
        given[:, :, part] = grid
        told = np.stack(
            [tree.predict(given.reshape(-1, len(names))) for tree in forest.estimators_]
        )
        return xr.DataArray(
            told.reshape(TREES, *[VALUES] * len(part), OTHERS).mean(-1),
            dims=("tree", *map(str, part)),
        )

    drawn = np.concatenate(
        [np.random.default_rng(i).permuted(codes, axis=0) for i in range(-(-1024 // len(codes)))]
    )
    total = np.maximum([tree.predict(drawn).var() for tree in forest.estimators_], 1e-30)
    numbers = _parts([str(i) for i in range(len(names))])[1:]
    found = {part: cells(tuple(map(int, part))) for part in numbers}
    spread = [
        (_effects(cell, part)[part] ** 2).mean(part).values / total for part, cell in found.items()
    ]
    spread = np.stack([*spread, np.maximum(1 - sum(spread), 0)] if len(names) > 2 else spread)
    luck = float(rows.var(over, ddof=1).mean())
    noise = float((rows.var(over, ddof=1) / rows.notnull().sum(over)).mean())
    known = max(float(target.var()) - noise, 0.0)
    ends = [(1 - level) / 2, (1 + level) / 2]
    shares = spread / np.maximum(spread.sum(0), 1e-30) * known / max(known + luck, 1e-30)
    titles = [TIMES.join(names[int(i)] for i in part) for part in numbers] + [HIGHER] * (
        len(names) > 2
    )
    low, high = np.quantile(shares, ends, axis=1)
    table = _rows(shares.mean(1), low, high, titles)
    table.loc[over] = [1 - table["share"].sum(), np.nan, np.nan]
    curves = {}
    for i, name in enumerate(names):
        places, first = np.unique(asked[i], return_index=True)
        curve = found[str(i),].values[:, first]
        low, high = np.quantile(curve, ends, axis=0)
        curves[name] = _rows(curve.mean(0), low, high, columns[i][0][places.astype(int)])
    return Importance(table, curves, float(forest.oob_score_))


def _forest(x: np.ndarray, y: np.ndarray) -> Any:
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ImportError:
        raise ImportError(
            'importance of random settings needs scikit-learn: pip install "jaxrl[importance]"'
        ) from None
    return RandomForestRegressor(TREES, oob_score=True, random_state=0).fit(x, y)
