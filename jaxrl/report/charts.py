"""The charts of a report, as numbers: `page.js` draws them and computes nothing."""

import itertools
import json
from typing import Any

import numpy as np
import pandas as pd

from jaxrl import plot, stats
from jaxrl.importance import importance
from jaxrl.plot.importances import heights
from jaxrl.report.study import LEVEL, Study

BANDS, POINTS, THRESHOLDS, OTHERS = (
    8,
    40,
    101,
    30,
)  # settings with a band; points of a curve, of a profile; rivals
CELLS, RANGES, MAPS = (
    8,
    4,
    3,
)  # values of a hyperparameter on a map, beyond which they are so many ranges; maps
MAPPED = 12  # hyperparameters of which maps are tried, the most uneven by themselves
Places = tuple[
    np.ndarray, list[str]
]  # of each setting along an axis of a map, and what the places are called


def learning_curves(study: Study) -> dict[str, Any] | None:
    """The interquartile mean of each setting at each step; the best settings with a band."""
    if study.curves is None:
        return None
    known = np.flatnonzero(np.isfinite(study.curves).any((0, 1)))
    shown = known[
        np.unique(np.linspace(0, len(known) - 1, min(len(known), POINTS)).round().astype(int))
    ]
    values = study.curves[:, :, shown]
    middle = np.asarray(stats.iqm(values, axis=1))
    bands = []
    if values.shape[1] > 1:
        _, low, high = map(
            np.asarray, stats.interval(values[:BANDS], level=LEVEL, resamples=200, axis=1)
        )
        bands = list(zip(low, high, strict=True))
    return {
        "kind": "lines",
        "x": study.steps[shown].tolist(),
        "xlabel": "environment steps",
        "ylabel": study.name,
        "lines": _lines(study, middle, bands),
        "note": study.few,
    }


def profile(study: Study) -> dict[str, Any]:
    """The share of seeds above each score.

    The bootstrap distribution of a share is binomial, so its band is exact.
    """
    from scipy.stats import binom  # here, as it takes a while to import

    finite = study.scores[np.isfinite(study.scores)]
    at = np.linspace(finite.min(), finite.max(), THRESHOLDS)
    counts = np.isfinite(study.scores).sum(1)[:, None]
    share = (study.scores[:, None, :] > at[:, None]).sum(-1) / np.maximum(counts, 1)
    low, high = (
        binom.ppf(q, counts[:BANDS], share[:BANDS]) / np.maximum(counts[:BANDS], 1)
        for q in (0.025, 0.975)
    )
    lines = _lines(study, share, list(zip(low, high, strict=True)))
    return {
        "kind": "lines",
        "x": at,
        "xlabel": f"final {study.name}",
        "ylabel": "share of seeds above",
        "lines": lines,
        "note": study.few,
    }


def _lines(
    study: Study, y: np.ndarray, bands: list[tuple[np.ndarray, np.ndarray]]
) -> list[dict[str, Any]]:
    """A line for each setting, the best with a band if they have seeds enough for one."""
    lines = [{"label": title, "y": y[i]} for i, title in enumerate(study.titles)]
    for line, known, (low, high) in zip(lines, study.known, bands, strict=False):
        line |= {} if stats.too_few(known) else {"low": low, "high": high}
    return lines


def improvement(study: Study) -> dict[str, Any] | None:
    """The probability that a seed of the best setting beats one of each other."""
    if len(study.labels) < 2 or study.scores.shape[1] < 2:
        return None
    others = study.scores[1 : 1 + OTHERS]
    rows = [
        [*map(float, stats.improvement(study.scores[0], other, level=LEVEL, resamples=300))]
        for other in others
    ]
    few = [bool(stats.too_few(min(study.known[0], known))) for known in study.known[1 : 1 + OTHERS]]
    rows = [
        [value, np.nan, np.nan] if lacks else [value, *ends]
        for lacks, (value, *ends) in zip(few, rows, strict=True)
    ]
    titles = [f"over {title}" for title in study.titles[1:]]
    value, low, high = zip(*rows, strict=True)
    made = _dots(
        titles, value, low, high, f"probability that {study.titles[0]} is better", middle=0.5
    )
    return made | {"note": study.few}


def _dots(
    titles: list[str], value: Any, low: Any, high: Any, xlabel: str, middle: float | None = None
) -> dict[str, Any]:
    rows = [
        {"label": title, "value": v, "low": a, "high": b}
        for title, v, a, b in zip(titles, value, low, high, strict=False)
    ]
    return {"kind": "dots", "rows": rows, "xlabel": xlabel, "domain": [0, 1], "middle": middle}


def what_mattered(study: Study) -> tuple[str, list[dict[str, Any]]]:
    """What to say of importance, and its charts: the shares, then each hyperparameter alone."""
    try:
        found = importance(study.results, study.name)
    except (ValueError, ImportError) as error:
        return f"Not known: {error}", []
    rows = found.shares.sort_values("share", ascending=False)
    bars = _dots(
        [str(name) for name in rows.index],
        rows["share"],
        rows["low"],
        rows["high"],
        "share of the variance",
    )
    how = (
        "exact for the grid"
        if found.fit is None
        else f"of a random forest, R² {found.fit:.2f} on settings it had not seen"
    )
    luck = float(found.shares["share"].iloc[-1])
    text = (
        f"Functional ANOVA, {how}. Seeds explain {luck:.0%} of the variance of the scores, "
        f"hyperparameters {1 - luck:.0%}."
    )
    charts = [
        {
            "kind": "lines",
            "x": list(range(len(curve))),
            "xticks": [plot.number(x) for x in curve.index.tolist()],
            "xlabel": str(name),
            "ylabel": study.name,
            "small": True,
            "lines": [
                {
                    "label": "mean over all else",
                    "y": curve["mean"],
                    "low": curve["low"],
                    "high": curve["high"],
                }
            ],
        }
        for name, curve in found.marginals.items()
    ]
    return text, [bars, *charts]


def parallel(study: Study) -> dict[str, Any] | None:
    """Parallel coordinates: each setting, the best first, through its values to its score; None for
    one hyperparameter.
    """
    scores = np.asarray(stats.iqm(study.scores))
    known = np.isfinite(scores)
    if len(study.labels.columns) < 2 or known.sum() < 2:
        return None
    columns = {str(name): heights(study.labels[name].to_numpy()[known], 6) for name in study.labels}
    columns[f"{study.name} (IQM)"] = heights(scores[known], 2)
    titles = [title for title, there in zip(study.titles, known, strict=True) if there]
    at = np.stack([height for height, _ in columns.values()], 1)
    axes = [{"label": name, "ticks": ticks} for name, (_, ticks) in columns.items()]
    lines = [
        {"label": title, "score": x, "at": row}
        for title, x, row in zip(titles, scores[known], at, strict=True)
    ]
    note = "Each line is a setting: through its values to its score, which colours it."
    return {"kind": "parallel", "axes": axes, "lines": lines, "name": study.name, "note": note}


def divergence(study: Study) -> list[dict[str, Any]]:
    """Maps of the share of members that diverged, over pairs of hyperparameters, the most uneven
    first.
    """
    if not study.diverged.any() or not len(study.labels.columns):
        return []
    places = {str(name): _ranges(study.labels[name].to_numpy()) for name in study.labels} | {
        "": (
            np.zeros(len(study.labels), int),
            [""],
        )  # what a map of one hyperparameter has for another
    }
    by_itself = lambda name: _map(study, "", str(name), places[""], places[str(name)])[0]
    uneven = set(sorted(study.labels, key=by_itself, reverse=True)[:MAPPED])
    mapped = [
        name for name in study.labels if name in uneven
    ]  # all pairs of thousands would be millions of maps
    pairs = list(itertools.combinations(mapped, 2)) or [("", mapped[0])]
    maps = [_map(study, str(y), str(x), places[str(y)], places[str(x)]) for y, x in pairs]
    return [made for _, made in sorted(maps, key=lambda one: -one[0])[:MAPS]]


def _ranges(values: np.ndarray) -> Places:
    """Which place of a map each value is at, and what the places are called: values, or of too many
    ranges of them.
    """
    known, place = np.unique(
        values if values.dtype.kind in "iuf" else values.astype(str), return_inverse=True
    )
    names = [*map(plot.number, known.tolist())]
    if len(known) <= CELLS:
        return place, names
    parts = np.array_split(np.array(names, object), RANGES)
    sizes = np.cumsum([len(part) for part in parts])
    return np.searchsorted(sizes, place, side="right"), [
        f"{part[0]} to {part[-1]}" for part in parts
    ]


def _map(
    study: Study, y: str, x: str, down: Places, across: Places
) -> tuple[float, dict[str, Any]]:
    """How uneven a map is, and the map: the share of the members at each place that diverged,
    whatever else they had.
    """
    (rows, y_names), (columns, x_names) = down, across
    lost, of = np.zeros((2, len(y_names), len(x_names)), int)
    np.add.at(lost, (rows, columns), study.diverged.sum(1))
    np.add.at(of, (rows, columns), study.diverged.shape[1])
    share = np.where(of > 0, lost / np.maximum(of, 1), np.nan)
    where = lambda i, j: ", ".join(
        f"{axis}={name}" for axis, name in ((y, y_names[i]), (x, x_names[j])) if axis
    )
    cell = lambda i, j: {
        "value": share[i, j],
        "told": f"{where(i, j)}: {lost[i, j]:,} of {of[i, j]:,} members diverged",
    }
    cells = [[cell(i, j) for j in range(len(x_names))] for i in range(len(y_names))]
    note = "The share of members that diverged."
    chart = {
        "kind": "cells",
        "x": x_names,
        "y": y_names,
        "xlabel": x,
        "ylabel": y,
        "cells": cells,
        "note": note,
    }
    return float(share[rows, columns].var()), chart


def plain(value: Any) -> Any:
    """Numbers as JSON has them: five digits, none for what is not finite."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray | pd.Series):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def embedded(data: Any) -> str:
    """JSON that may stand in a <script>: no text in it can end that, or begin another."""
    text = json.dumps(plain(data), separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
