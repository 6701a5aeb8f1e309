"""One study of a report: its question, card, scores, diverged members and animations."""

from __future__ import annotations

import base64
import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from jaxrl import plot, stats
from jaxrl.errors import as_path
from jaxrl.lazy import pandas as pd
from jaxrl.lazy import xarray as xr
from jaxrl.runs import catalogue
from jaxrl.runs.policy import policy
from jaxrl.sweep import load, store

LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Study:
    """A finished sweep: its record, its results, and the final score of each setting and seed.

    path: of the folder or record. title: the algorithm and environment. name: the variable.
    labels: a row for each setting, the best first, with a column for each hyperparameter.
    scores: [settings, seeds].
    curves: [settings, seeds, step], or None without steps.
    diverged: bool [settings, seeds].
    steps, seeds: labels of these axes.
    unfinished: the number of settings that are left out, as none of their members has finished.
    finished: bool [settings, seeds], or None where all are.
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
    unfinished: int = 0
    finished: np.ndarray | None = None

    @property
    def ranked(self) -> np.ndarray:
        """The scores that settings are ranked by: -inf for diverged members. [settings, seeds]."""
        return np.where(self.diverged, -np.inf, self.scores)

    @property
    def titles(self) -> list[str]:
        """A name for each setting: "lr=1e-3, gamma=0.99"."""
        titles = [
            ", ".join(f"{key}={plot.number(value)}" for key, value in row.items())
            for row in self.labels.to_dict("records")
        ]
        return [title or "all seeds" for title in titles]

    @property
    def known(self) -> np.ndarray:
        """The number of seeds of each setting with a score. int [settings]."""
        return np.isfinite(self.scores).sum(1)

    @property
    def interval_note(self) -> str:
        """A note on settings with too few seeds for an interval; empty if there are none."""
        counts = [known for known in self.known if stats.too_few(known)]
        note = stats.too_few(min(counts)) if counts else ""
        if 0 < len(counts) < len(self.known):
            return f"{len(counts)} of {len(self.known)} settings have {note}"
        return note

    @property
    def best(self) -> xr.Dataset:
        """The results of the best setting, over seeds and steps."""
        index = np.unravel_index(self.labels.index[0], self._sizes)
        return self.results.isel({axis: int(i) for axis, i in zip(self._axes, index, strict=True)})

    @property
    def _axes(self) -> list[str]:
        return [str(axis) for axis in self.results[self.name].dims if axis not in ("seed", "step")]

    @property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(self.results.sizes[axis] for axis in self._axes)


def read(path: str | os.PathLike[str], name: str) -> Study:
    """The study in a folder or a record.

    Raises:
      FileNotFoundError: there is no sweep.
      ValueError: it has no such variable, or none of its members has a score.
    """
    path = as_path(path)
    record, results = store.read_record(path), load(path, running=False)
    array = stats.pick(results, name, "seed")
    axes = [str(axis) for axis in array.dims if axis not in ("seed", "step")]
    final = stats.final(results, name, "seed").transpose(*axes, "seed")
    scores = final.where(np.isfinite(final)).values.astype(float).reshape(-1, final.sizes["seed"])
    if not np.isfinite(scores).any():
        raise ValueError(
            f"{path} has no final {name!r} yet: wait until runs finish, or write another name."
        )
    diverged, finished = np.zeros(scores.shape, bool), _finished(results, axes)
    if "diverged" in results:
        lost = stats.has_diverged(results, (*axes, "seed"))
        diverged = lost.broadcast_like(final).transpose(*axes, "seed").values.reshape(scores.shape)
    order = stats.ranking(scores, diverged)
    order = order[finished[order].any(1)]
    coordinates = {
        str(key): c
        for key, c in final.coords.items()
        if c.dims and set(c.dims) <= set(axes) and c.size > 1
    }
    # axes of random settings, which have their hyperparameters as coordinates
    zipped = {dim for key, c in coordinates.items() if key not in axes for dim in c.dims}
    columns = {
        key: c.broadcast_like(final.isel(seed=0)).transpose(*axes).values.ravel()
        for key, c in coordinates.items()
        if key not in zipped
    }
    labels = pd.DataFrame(columns, index=np.arange(len(scores))).iloc[order]
    curves = None
    if "step" in array.dims:
        values = array.transpose(*axes, "seed", "step").values.astype(float)
        curves = np.where(np.isfinite(values), values, np.nan).reshape(*scores.shape, -1)[order]
    steps, seeds = np.arange(results.sizes.get("step", 0)), np.arange(scores.shape[1])
    steps = results["step"].values if "step" in results.coords else steps
    seeds = results["seed"].values if "seed" in results.coords else seeds
    env = catalogue.env_name(record["run"])
    title = catalogue.algorithm_name(record) + (f" on {env}" if env else "")
    return Study(
        path=path,
        title=title,
        name=name,
        record=record,
        results=results,
        labels=labels,
        scores=scores[order],
        curves=curves,
        diverged=diverged[order],
        steps=steps,
        seeds=seeds,
        unfinished=len(scores) - len(order),
        finished=finished[order],
    )


def _finished(results: xr.Dataset, axes: list[str]) -> np.ndarray:
    """True for members that have a value of any variable. bool [settings, seeds]."""
    sizes = [results.sizes[axis] for axis in (*axes, "seed")]
    found = np.zeros(sizes, bool)
    for value in results.data_vars.values():
        if value.dtype.kind == "f" and {*axes, "seed"} <= set(value.dims):
            found |= (
                value.transpose(*axes, "seed", ...).notnull().values.reshape(*sizes, -1).any(-1)
            )
    return found.reshape(-1, sizes[-1])


def question(study: Study) -> str:
    """The question that the study answers, as a sentence."""
    steps = study.record["run"].get("steps")
    after = f" after {steps:,} environment steps" if isinstance(steps, int) else ""
    seeds = f"{study.scores.shape[1]:,} seeds" + (
        f" of each of {len(study.labels):,} settings" if len(study.labels) > 1 else ""
    )
    if not len(study.labels.columns):
        return f"What {study.name} does {study.title} reach{after}? {seeds}."
    *most, last = [f"{axis} ({_values(study.labels[axis].tolist())})" for axis in study.labels]
    swept = f"{', '.join(most)} and {last}" if most else last
    return f"How does the {study.name} of {study.title}{after} depend on {swept}? {seeds}."


def left_out(study: Study) -> str:
    """A sentence on the settings that are not drawn, as none of their seeds has finished."""
    total = len(study.labels) + study.unfinished
    return (
        f"The study has not finished: {study.unfinished:,} of {total:,} settings have no finished "
        "seed and are left out here."
    )


def _values(column: list[Any]) -> str:
    """The values of a hyperparameter, or their number and range, as text."""
    known = sorted(set(column), key=lambda x: (isinstance(x, str), x))
    if len(known) <= 6:
        return ", ".join(map(plot.number, known))
    return f"{len(known)} values from {plot.number(known[0])} to {plot.number(known[-1])}"


def card(study: Study) -> list[tuple[str, str]]:
    """The rows of the reproducibility card: (key, value)."""
    record, attributes = study.record, study.results.attrs
    members = study.scores.size + study.unfinished * study.scores.shape[1]
    done = int(np.isfinite(study.scores).sum())
    times = [
        f"{attributes[key]:.3g} s to {word}"
        for key, word in (("compile_seconds", "compile"), ("run_seconds", "run"))
        if key in attributes
    ]
    if "function" in record["run"]:
        rerun = "a function was swept, which saves no policies"
    elif catalogue.can_rerun(study.path, record):
        rerun = f"jaxrl rerun {study.path} --member 0"
    else:
        rerun = "needs rl.rerun(..., training=...)"
    machine = {key: value for key, value in record["machine"].items() if value != ""}
    is_record = study.path.is_file()
    return [
        ("folder", str(study.path)),
        ("runs", f"{members:,}, of which {done:,} have a final {study.name}"),
        ("started", str(record.get("started", "unknown"))),
        ("commit of jaxrl", str(record.get("commit", "unknown"))),
        ("commit of the project", str(record.get("project_commit", "unknown"))),
        ("versions", ", ".join(f"{key} {value}" for key, value in record["versions"].items())),
        ("machine", ", ".join(f"{key} {value}" for key, value in machine.items())),
        ("took", ", ".join(times) or "unknown"),
        ("chunk", str(attributes.get("chunk", "unknown"))),
        (
            "record",
            "one small file: curves, no policies" if is_record else "a folder: curves and policies",
        ),
        ("train a run again", rerun),
    ]


def table(study: Study) -> pd.DataFrame:
    """A table with a row for each setting: labels, scores with intervals, seeds and divergence.

    `low` is a note where there are too few seeds for an interval.
    """
    scores = pd.DataFrame(study.scores)
    iqm, low, high = np.asarray(stats.iqm(study.scores)), *np.full((2, len(scores)), np.nan)
    if study.scores.shape[1] > 1:  # a single seed has no interval
        iqm, low, high = map(np.asarray, stats.interval(study.scores, level=LEVEL))
    columns = {
        "IQM": iqm,
        "low": low,
        "high": high,
        "mean": scores.mean(axis=1),
        "median": scores.median(axis=1),
    }
    counts = {"seeds": study.known, "diverged": study.diverged.sum(1)}
    floats = {key: np.asarray(value, float) for key, value in columns.items()}
    return stats.mark_too_few(study.labels.reset_index(drop=True).assign(**floats, **counts))


def diverged(study: Study, max_listed: int = 40) -> tuple[str, list[str]]:
    """A sentence on the number of diverged members, and the labels of the first of them."""
    if "diverged" not in study.results:
        return "The results have no record of divergence.", []
    members = np.argwhere(study.diverged)
    listed = [f"{study.titles[i]}, seed={study.seeds[j]}" for i, j in members[:max_listed]]
    if not len(members):
        return f"None of {study.scores.size:,} runs diverged.", []
    first = f" The first {max_listed}:" if len(members) > max_listed else ""
    return (
        f"{len(members):,} of {study.scores.size:,} runs diverged. Settings are ranked "
        f"with them as the lowest; their scores are in the statistics of the table.{first}",
        listed,
    )


def films(study: Study) -> list[tuple[str, str, str]]:
    """Animations of the best and the median seed of the best setting.

    Each is a caption, a data URL (or ""), and the reason why there is no animation (or "").
    """
    scores = study.ranked[0]
    order = np.argsort(np.where(np.isfinite(scores), scores, -np.inf), kind="stable")
    num_known = int(np.isfinite(scores).sum())
    median = order[len(order) - 1 - num_known // 2]
    axes = [axis for axis in study.record["labels"] if axis != "seed" and axis in study.best.coords]
    where = {axis: study.best[axis].item() for axis in axes}
    found = []
    for word, i in (("best", order[-1]), ("median", median)):
        caption = (
            f"The {word} seed of {study.titles[0]}: seed={study.seeds[i]}, "
            f"{study.name} {study.scores[0, i]:.4g}"
        )
        try:
            agent = policy(study.path, **where, seed=int(study.seeds[i]))
            film = plot.gif(agent.env, agent, max_frames=60)
            url = f"data:image/gif;base64,{base64.b64encode(film.data).decode()}"
            found.append((caption, url, ""))
        except Exception as error:  # policies may be missing or broken in any way
            found.append((caption, "", f"no animation: {error}"))
    return found
