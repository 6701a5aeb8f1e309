"""The data of a report's charts, which `page.js` draws without further computation."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np

from jaxrl import plot, stats
from jaxrl.importance import importance
from jaxrl.lazy import pandas as pd
from jaxrl.plot.importances import heights
from jaxrl.report.study import LEVEL, Study

MAX_BANDS = 8  # settings with a band
MAX_POINTS = 40  # of a curve
NUM_THRESHOLDS = 101  # of a profile
MAX_OTHERS = 30  # settings that the best one is compared with
MAX_CELLS = 8  # values of a hyperparameter on a map, above which they are binned
NUM_BINS = 4
MAX_MAPS = 3
MAX_MAPPED = 12  # hyperparameters of which maps are tried, those with the largest variance alone
Chart = dict[str, Any]
Bins = tuple[np.ndarray, list[str]]  # each setting's bin on an axis of a map, and the bins' labels


def learning_curves(study: Study) -> Chart | None:
    """Interquartile means of each setting at each step, with bands for the best settings."""
    if study.curves is None:
        return None
    known = np.flatnonzero(np.isfinite(study.curves).any((0, 1)))
    spaced = np.linspace(0, len(known) - 1, min(len(known), MAX_POINTS)).round().astype(int)
    shown = known[np.unique(spaced)]
    values = study.curves[:, :, shown]
    iqm = np.asarray(stats.iqm(values, axis=1))
    bands = []
    if values.shape[1] > 1:
        _, low, high = map(
            np.asarray, stats.interval(values[:MAX_BANDS], level=LEVEL, resamples=200, axis=1)
        )
        bands = list(zip(low, high, strict=True))
    return {
        "kind": "lines",
        "x": study.steps[shown].tolist(),
        "xlabel": "environment steps",
        "ylabel": study.name,
        "lines": _lines(study, iqm, bands),
        "note": study.interval_note,
    }


def profile(study: Study) -> Chart:
    """Performance profile: the fraction of seeds above each score, with bands.

    The bootstrap distribution of a fraction is binomial, so that bands are exact.
    """
    from scipy.stats import binom  # here, as its import is slow

    finite = study.scores[np.isfinite(study.scores)]
    thresholds = np.linspace(finite.min(), finite.max(), NUM_THRESHOLDS)
    counts = study.known[:, None]
    above = (study.ranked[:, None, :] > thresholds[:, None]).sum(-1) / np.maximum(counts, 1)
    low, high = (
        binom.ppf(q, counts[:MAX_BANDS], above[:MAX_BANDS]) / np.maximum(counts[:MAX_BANDS], 1)
        for q in (0.025, 0.975)
    )
    return {
        "kind": "lines",
        "x": thresholds,
        "xlabel": f"final {study.name}",
        "ylabel": "fraction of seeds above",
        "lines": _lines(study, above, list(zip(low, high, strict=True))),
        "note": study.interval_note,
    }


def _lines(
    study: Study, y: np.ndarray, bands: list[tuple[np.ndarray, np.ndarray]]
) -> list[dict[str, Any]]:
    """A line for each setting with a score, with a band for the best that have enough seeds."""
    lines = [{"label": title, "y": y[i]} for i, title in enumerate(study.titles)]
    for line, known, (low, high) in zip(lines, study.known, bands, strict=False):
        line |= {} if stats.too_few(known) else {"low": low, "high": high}
    return [line for line, known in zip(lines, study.known, strict=True) if known]


def improvement(study: Study) -> Chart | None:
    """Probability that a seed of the best setting has a higher score than one of another."""
    if len(study.labels) < 2 or study.scores.shape[1] < 2:
        return None
    best, *others = study.ranked[study.known > 0][: 1 + MAX_OTHERS]
    if not others:
        return None
    counts = study.known[study.known > 0][1:]
    rows = []
    for other, known in zip(others, counts, strict=False):
        value, low, high = map(float, stats.improvement(best, other, level=LEVEL))
        has_interval = not stats.too_few(min(study.known[0], known))
        rows.append((value, low, high) if has_interval else (value, np.nan, np.nan))
    titled = [title for title, known in zip(study.titles, study.known, strict=True) if known]
    titles = [f"over {title}" for title in titled[1:]]
    value, low, high = zip(*rows, strict=True)
    xlabel = f"probability that {titled[0]} is better"
    return _dots(titles, value, low, high, xlabel, middle=0.5) | {"note": study.interval_note}


def _dots(
    titles: list[str], value: Any, low: Any, high: Any, xlabel: str, middle: float | None = None
) -> Chart:
    rows = [
        {"label": title, "value": v, "low": a, "high": b}
        for title, v, a, b in zip(titles, value, low, high, strict=False)
    ]
    return {"kind": "dots", "rows": rows, "xlabel": xlabel, "domain": [0, 1], "middle": middle}


def importances(study: Study) -> tuple[str, list[Chart]]:
    """A summary of hyperparameter importance, and its charts: shares, and each marginal effect."""
    try:
        found = importance(study.results, study.name)
    except (ValueError, ImportError) as error:
        return f"Not available: {error}", []
    rows = found.shares.sort_values("share", ascending=False)
    bars = _dots(
        [str(name) for name in rows.index],
        rows["share"],
        rows["low"],
        rows["high"],
        "fraction of the variance",
    )
    method = (
        "exact for the grid"
        if found.fit is None
        else f"of a random forest with an out-of-bag R² of {found.fit:.2f}"
    )
    seeds = float(found.shares["share"].iloc[-1])
    text = (
        f"Functional ANOVA, {method}. Seeds explain {seeds:.0%} of the variance of the scores, "
        f"hyperparameters {1 - seeds:.0%}."
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
                    "label": "mean over the others",
                    "y": curve["mean"],
                    "low": curve["low"],
                    "high": curve["high"],
                }
            ],
        }
        for name, curve in found.marginals.items()
    ]
    return text, [bars, *charts]


def parallel(study: Study) -> Chart | None:
    """Parallel coordinates of the settings, the best first; None for one hyperparameter."""
    lowest = study.scores[~study.diverged & np.isfinite(study.scores)].min(initial=np.inf)
    lowest = lowest if np.isfinite(lowest) else np.nanmin(study.scores)
    scores = np.asarray(stats.iqm(np.where(study.diverged, lowest, study.scores)))
    known = np.isfinite(scores)
    if len(study.labels.columns) < 2 or known.sum() < 2:
        return None
    columns = {str(name): heights(study.labels[name].to_numpy()[known], 6) for name in study.labels}
    columns[f"{study.name} (IQM)"] = heights(scores[known], 2)
    titles = [title for title, is_known in zip(study.titles, known, strict=True) if is_known]
    at = np.stack([height for height, _ in columns.values()], 1)
    axes = [{"label": name, "ticks": ticks} for name, (_, ticks) in columns.items()]
    lines = [
        {"label": title, "score": x, "at": row}
        for title, x, row in zip(titles, scores[known], at, strict=True)
    ]
    note = "Each line is a setting, coloured by its score; diverged runs have the lowest scores."
    return {"kind": "parallel", "axes": axes, "lines": lines, "name": study.name, "note": note}


def divergence(study: Study) -> list[Chart]:
    """Maps of the fraction of diverged members, over the pairs with the largest variance."""
    if not study.diverged.any() or not len(study.labels.columns):
        return []
    bins = {str(name): _bins(study.labels[name].to_numpy()) for name in study.labels}
    bins[""] = np.zeros(len(study.labels), int), [""]  # the other axis of one hyperparameter

    def variance_alone(name: Any) -> float:
        return _map(study, "", str(name), bins)[0]

    # all pairs of thousands of hyperparameters would be millions of maps
    most_variable = set(sorted(study.labels, key=variance_alone, reverse=True)[:MAX_MAPPED])
    mapped = [name for name in study.labels if name in most_variable]
    pairs = list(itertools.combinations(mapped, 2)) or [("", mapped[0])]
    maps = [_map(study, str(y), str(x), bins) for y, x in pairs]
    maps.sort(key=lambda variance_and_chart: -variance_and_chart[0])
    return [chart for _, chart in maps[:MAX_MAPS]]


def _bins(values: np.ndarray) -> Bins:
    """The bin of each value, and labels of the bins: values, or ranges of too many values."""
    unique, index = np.unique(
        values if values.dtype.kind in "iuf" else values.astype(str), return_inverse=True
    )
    labels = [plot.number(value) for value in unique.tolist()]
    if len(unique) <= MAX_CELLS:
        return index, labels
    parts = np.array_split(np.array(labels, object), NUM_BINS)
    ends = np.cumsum([len(part) for part in parts])
    ranges = [f"{part[0]} to {part[-1]}" for part in parts]
    return np.searchsorted(ends, index, side="right"), ranges


def _map(study: Study, y: str, x: str, bins: dict[str, Bins]) -> tuple[float, Chart]:
    """The fraction of diverged members in each cell: its variance over settings, and the chart."""
    (rows, y_labels), (columns, x_labels) = bins[y], bins[x]
    num_diverged, num_members = np.zeros((2, len(y_labels), len(x_labels)), int)
    np.add.at(num_diverged, (rows, columns), study.diverged.sum(1))
    members = study.diverged.shape[1] if study.finished is None else study.finished.sum(1)
    np.add.at(num_members, (rows, columns), members)
    fraction = np.where(num_members > 0, num_diverged / np.maximum(num_members, 1), np.nan)

    def cell(i: int, j: int) -> dict[str, Any]:
        setting = ", ".join(
            f"{axis}={label}" for axis, label in ((y, y_labels[i]), (x, x_labels[j])) if axis
        )
        counts = f"{num_diverged[i, j]:,} of {num_members[i, j]:,} runs diverged"
        return {"value": fraction[i, j], "title": f"{setting}: {counts}"}

    chart = {
        "kind": "cells",
        "x": x_labels,
        "y": y_labels,
        "xlabel": x,
        "ylabel": y,
        "cells": [[cell(i, j) for j in range(len(x_labels))] for i in range(len(y_labels))],
        "note": "The fraction of runs that diverged.",
    }
    return float(fraction[rows, columns].var()), chart


def to_json(value: Any) -> Any:
    """A value for JSON: numbers with five digits, None for those that are not finite."""
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray | pd.Series):
        return [to_json(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def embedded(data: Any) -> str:
    """JSON that is safe inside a <script> element, which no text in it can close."""
    text = json.dumps(to_json(data), separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
