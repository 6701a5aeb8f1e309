"""What a report says of one study: every number that its page shows."""

import base64
import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import binom

from jaxrl import catalogue, plot, stats
from jaxrl.importance import importance
from jaxrl.policy import policy
from jaxrl.sweep import load, store

BANDS, POINTS, THRESHOLDS, OTHERS = (
    8,
    60,
    101,
    30,
)  # settings with a band; points of a curve; of a profile; rivals of the best
LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Study:
    """A kept sweep: its record, its results, and the final score of each setting and seed.

    labels: a row for each setting, the best first; its columns are what was swept. scores: [settings, seeds]; curves:
    [settings, seeds, step], None where there is no step. diverged: bool [settings, seeds].
    """

    path: pathlib.Path
    title: str
    name: str
    record: dict[str, Any]
    results: xr.Dataset
    labels: pd.DataFrame
    scores: np.ndarray
    curves: np.ndarray | None
    diverged: np.ndarray
    steps: np.ndarray
    seeds: np.ndarray

    @property
    def titles(self) -> list[str]:
        """A name for each setting: "lr=1e-3, gamma=0.99"."""
        rows = self.labels.to_dict("records")
        named = [", ".join(f"{key}={plot.number(value)}" for key, value in row.items()) for row in rows]
        return [name or "all seeds" for name in named]

    @property
    def best(self) -> xr.Dataset:
        """The results of the best setting, over seeds and steps."""
        place = dict(zip(self._axes, np.unravel_index(self.labels.index[0], self._sizes), strict=True))
        return self.results.isel({axis: int(i) for axis, i in place.items()})

    @property
    def _axes(self) -> list[str]:
        return [str(axis) for axis in self.results[self.name].dims if axis not in ("seed", "step")]

    @property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(self.results.sizes[axis] for axis in self._axes)


def read(path: str | os.PathLike[str], name: str) -> Study:
    """A study from its folder or its record.

    Raises:
      ValueError: it has no such variable, or none of its members has a score.
    """
    path = pathlib.Path(path).expanduser()
    record, results = store.read_record(path), load(path)
    array = stats.pick(results, name, "seed")
    axes = [str(axis) for axis in array.dims if axis not in ("seed", "step")]
    final = stats.final(results, name, "seed").transpose(*axes, "seed")
    scores = final.where(np.isfinite(final)).values.astype(float).reshape(-1, final.sizes["seed"])
    if not np.isfinite(scores).any():
        raise ValueError(f"{path} has no final {name!r} yet: let some members finish, or write another name.")
    middle = np.asarray(stats.iqm(scores))
    order = np.argsort(-np.nan_to_num(middle, nan=-np.inf), kind="stable")
    beside = {str(key): c for key, c in final.coords.items() if c.dims and set(c.dims) <= set(axes) and c.size > 1}
    zipped = {dim for key, c in beside.items() if key not in axes for dim in c.dims}
    each = {key: c.broadcast_like(final.isel(seed=0)).transpose(*axes) for key, c in beside.items() if key not in zipped}
    labels = pd.DataFrame({key: c.values.ravel() for key, c in each.items()}, index=np.arange(len(scores))).iloc[order]
    curves, diverged = None, np.zeros(scores.shape, bool)
    if "step" in array.dims:
        values = array.transpose(*axes, "seed", "step").values.astype(float)
        curves = np.where(np.isfinite(values), values, np.nan).reshape(*scores.shape, -1)[order]
    if "diverged" in results:
        lost = results["diverged"].astype(bool)
        lost = lost.any([dim for dim in lost.dims if dim not in (*axes, "seed")]).transpose(*axes, "seed")
        diverged = lost.values.reshape(scores.shape)[order]
    steps = results["step"].values if "step" in results.coords else np.arange(results.sizes.get("step", 0))
    seeds = results["seed"].values if "seed" in results.coords else np.arange(scores.shape[1])
    title = f"{record.get('algorithm') or catalogue.algorithm_of(record['run'])} {catalogue.env_of(record['run'])}".strip()
    return Study(path, title, name, record, results, labels, scores[order], curves, diverged, steps, seeds)


def question(study: Study) -> str:
    """What was asked, in a sentence."""
    steps = study.record["run"].get("steps")
    after = f" after {steps:,} environment steps" if isinstance(steps, int) else ""
    seeds = f"{study.scores.shape[1]:,} seeds" + (
        f" of each of {len(study.labels):,} settings" if len(study.labels) > 1 else ""
    )
    if not len(study.labels.columns):
        return f"What {study.name} does {study.title} reach{after}? {seeds}."
    swept = " and ".join(f"{axis} ({_values(study.labels[axis].tolist())})" for axis in study.labels)
    return f"How does the {study.name} of {study.title}{after} depend on {swept}? {seeds}."


def _values(column: list[Any]) -> str:
    known = sorted(set(column), key=lambda x: (isinstance(x, str), x))
    if len(known) <= 6:
        return ", ".join(map(plot.number, known))
    return f"{len(known)} values from {plot.number(known[0])} to {plot.number(known[-1])}"


def card(study: Study) -> list[tuple[str, str]]:
    """The reproducibility card."""
    record, attributes = study.record, study.results.attrs
    members = study.scores.size
    done = int(np.isfinite(study.scores).sum())
    times = [f"{attributes[key]:.3g} s to {word}" for key, word in (("compile_seconds", "compile"), ("run_seconds", "run"))
             if key in attributes]  # fmt: skip
    small = study.path.is_file()
    return [
        ("folder", str(study.path)),
        ("members", f"{members:,}, of which {done:,} have a final {study.name}"),
        ("begun", str(record.get("started", "unknown"))),
        ("commit", str(record.get("commit", "unknown"))),
        ("versions", ", ".join(f"{key} {value}" for key, value in record["versions"].items())),
        ("machine", ", ".join(f"{key} {value}" for key, value in record["machine"].items() if value != "")),
        ("took", ", ".join(times) or "unknown"),
        ("chunk", str(attributes.get("chunk", "unknown"))),
        ("record", "one small file: curves, no policies" if small else "a folder: curves and policies"),
        ("train a member again", f"jaxrl rerun {study.path} 0" if "recipe" in record else "needs rl.rerun(..., training=)"),
    ]


def table(study: Study) -> pd.DataFrame:
    """A row for each setting: what it is, its score with an interval, how many seeds have one, how many diverged."""
    scores = pd.DataFrame(study.scores)
    middle = low = high = scores.mean(axis=1)
    if study.scores.shape[1] > 1:
        middle, low, high = map(np.asarray, stats.interval(study.scores, level=LEVEL, resamples=500))
    columns = {"IQM": middle, "low": low, "high": high, "mean": scores.mean(axis=1), "median": scores.median(axis=1)}
    counts = {"seeds": scores.notna().sum(axis=1), "diverged": study.diverged.sum(1)}
    made = study.labels.reset_index(drop=True)
    return made.assign(**{key: np.asarray(value, float) for key, value in columns.items()}, **counts)


# ----------------------------------------------------------------------------------------------------------------- charts


def learning_curves(study: Study) -> dict[str, Any] | None:
    """The interquartile mean of each setting at each step; the best settings with a band."""
    if study.curves is None:
        return None
    known = np.flatnonzero(np.isfinite(study.curves).any((0, 1)))
    shown = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), POINTS)).round().astype(int))]
    values = study.curves[:, :, shown]
    middle = np.asarray(stats.iqm(values, axis=1))
    low, high = (None, None)
    if values.shape[1] > 1:
        _, low, high = map(np.asarray, stats.interval(values[:BANDS], level=LEVEL, resamples=200, axis=1))
    lines = [_line(title, middle[i], low, high, i) for i, title in enumerate(study.titles)]
    return {
        "kind": "lines",
        "x": study.steps[shown].tolist(),
        "xlabel": "environment steps",
        "ylabel": study.name,
        "lines": lines,
    }


def profile(study: Study) -> dict[str, Any]:
    """The share of seeds above each score. The bootstrap distribution of a share is binomial, so its band is exact."""
    finite = study.scores[np.isfinite(study.scores)]
    at = np.linspace(finite.min(), finite.max(), THRESHOLDS)
    counts = np.isfinite(study.scores).sum(1)[:, None]
    share = (study.scores[:, None, :] > at[:, None]).sum(-1) / np.maximum(counts, 1)
    low, high = (binom.ppf(q, counts[:BANDS], share[:BANDS]) / np.maximum(counts[:BANDS], 1) for q in (0.025, 0.975))
    lines = [_line(title, share[i], low, high, i) for i, title in enumerate(study.titles)]
    return {"kind": "lines", "x": at, "xlabel": f"final {study.name}", "ylabel": "share of seeds above", "lines": lines}


def _line(label: str, y: np.ndarray, low: np.ndarray | None, high: np.ndarray | None, i: int) -> dict[str, Any]:
    band = {} if low is None or high is None or i >= BANDS else {"low": low[i], "high": high[i]}
    return {"label": label, "y": y} | band


def improvement(study: Study) -> dict[str, Any] | None:
    """The probability that a seed of the best setting beats one of each other."""
    if len(study.labels) < 2 or study.scores.shape[1] < 2:
        return None
    rows = [better(study.scores[0], other) for other in study.scores[1 : 1 + OTHERS]]
    titles = [f"over {title}" for title in study.titles[1:]]
    value, low, high = zip(*rows, strict=True)
    return _dots(titles, value, low, high, f"probability that {study.titles[0]} is better", middle=0.5)


def better(x: np.ndarray, y: np.ndarray, resamples: int = 300) -> tuple[float, float, float]:
    """`stats.probability_of_improvement` and the ends of its bootstrap interval; NaN where a side has no two scores.

    A resample is told by how often each score came, so that nothing is sorted again: O(seeds) a resample.
    """
    x, y = x[np.isfinite(x)], np.sort(y[np.isfinite(y)])
    if min(len(x), len(y)) < 2:
        return np.nan, np.nan, np.nan
    luck = np.random.default_rng(0)
    often_x, often_y = (luck.multinomial(n, np.full(n, 1 / n), resamples) / n for n in (len(x), len(y)))
    up_to = np.concatenate([np.zeros((resamples, 1)), often_y.cumsum(1)], 1)
    left, right = (np.searchsorted(y, x, side=side) for side in ("left", "right"))
    draws = (often_x * (up_to[:, left] + up_to[:, right]) / 2).sum(1)
    return float((left + right).mean() / (2 * len(y))), *np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()


def _dots(titles: list[str], value: Any, low: Any, high: Any, xlabel: str, middle: float | None = None) -> dict[str, Any]:
    rows = [
        {"label": title, "value": v, "low": a, "high": b} for title, v, a, b in zip(titles, value, low, high, strict=False)
    ]
    return {"kind": "dots", "rows": rows, "xlabel": xlabel, "domain": [0, 1], "middle": middle}


def what_mattered(study: Study) -> tuple[str, list[dict[str, Any]]]:
    """What to say of importance, and its charts: the shares, then each hyperparameter alone."""
    try:
        found = importance(study.results, study.name)
    except (ValueError, ImportError) as error:
        return f"Not known: {error}", []
    rows = found.shares.sort_values("share", ascending=False)
    bars = _dots([str(name) for name in rows.index], rows["share"], rows["low"], rows["high"], "share of the variance")
    how = (
        "exact for the grid" if found.fit is None else f"of a random forest, R² {found.fit:.2f} on settings it had not seen"
    )
    luck = float(found.shares["share"].iloc[-1])
    text = (
        f"Functional ANOVA, {how}. Seeds explain {luck:.0%} of the variance of the scores, hyperparameters {1 - luck:.0%}."
    )
    charts = [
        {
            "kind": "lines", "x": list(range(len(curve))), "xticks": [plot.number(x) for x in curve.index.tolist()],
            "xlabel": str(name), "ylabel": study.name, "small": True,
            "lines": [{"label": "mean over all else", "y": curve["mean"], "low": curve["low"], "high": curve["high"]}],
        }
        for name, curve in found.marginals.items()
    ]  # fmt: skip
    return text, [bars, *charts]


def diverged(study: Study, most: int = 40) -> tuple[str, list[str]]:
    """How many members diverged, and the labels of the first of them."""
    lost = np.argwhere(study.diverged)
    named = [f"{study.titles[i]}, seed={study.seeds[j]}" for i, j in lost[:most]]
    if not len(lost):
        return f"None of {study.scores.size:,} members diverged.", []
    rest = f" The first {most}:" if len(lost) > most else ""
    return f"{len(lost):,} of {study.scores.size:,} members diverged; they count with what they earn.{rest}", named


def films(study: Study) -> list[tuple[str, str, str]]:
    """Of the best setting the best and the median seed's policy: a caption, its film as a data address, or why none."""
    scores = study.scores[0]
    order = np.argsort(np.where(np.isfinite(scores), scores, -np.inf), kind="stable")
    known = int(np.isfinite(scores).sum())
    made, axes = [], [axis for axis in study.record["labels"] if axis != "seed" and axis in study.best.coords]
    where = {axis: study.best[axis].item() for axis in axes}
    for word, place in (("best", order[-1]), ("median", order[len(order) - 1 - known // 2])):
        where = {
            axis: study.best[axis].item() for axis in study.record["labels"] if axis != "seed" and axis in study.best.coords
        }
        caption = f"The {word} seed of {study.titles[0]}: seed={study.seeds[place]}, {study.name} {scores[place]:.4g}"
        try:
            agent = policy(study.path, **where, seed=int(study.seeds[place]))
            film = plot.gif(agent.training.env, agent, max_frames=60)
            made.append((caption, f"data:image/gif;base64,{base64.b64encode(film.data).decode()}", ""))
        except Exception as error:  # a folder may lack its policies in any way; the page then says how
            made.append((caption, "", f"no film: {error}"))
    return made


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
