"""What a report says of one study: its question, its card, its scores, who diverged, its films."""

import base64
import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from jaxrl import plot, stats
from jaxrl.runs import catalogue
from jaxrl.runs.policy import policy
from jaxrl.sweep import load, store

LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Study:
    """A kept sweep: its record, its results, and the final score of each setting and seed.

    labels: a row for each setting, the best first; its columns are what was swept. scores:
    [settings, seeds]; curves: [settings, seeds, step], None where there is no step. diverged: bool
    [settings, seeds].
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
        named = [
            ", ".join(f"{key}={plot.number(value)}" for key, value in row.items()) for row in rows
        ]
        return [name or "all seeds" for name in named]

    @property
    def known(self) -> np.ndarray:
        """How many seeds of each setting have a score. int [settings]."""
        return np.isfinite(self.scores).sum(1)

    @property
    def few(self) -> str:
        """Why some intervals are not shown, and of how many settings; nothing where all are."""
        lacking = [known for known in self.known if stats.too_few(known)]
        why = stats.too_few(min(lacking)) if lacking else ""
        return (
            f"{len(lacking)} of {len(self.known)} settings have {why}"
            if 0 < len(lacking) < len(self.known)
            else why
        )

    @property
    def best(self) -> xr.Dataset:
        """The results of the best setting, over seeds and steps."""
        place = dict(
            zip(self._axes, np.unravel_index(self.labels.index[0], self._sizes), strict=True)
        )
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
        raise ValueError(
            f"{path} has no final {name!r} yet: let some members finish, or write another name."
        )
    middle = np.asarray(stats.iqm(scores))
    order = np.argsort(-np.nan_to_num(middle, nan=-np.inf), kind="stable")
    beside = {
        str(key): c
        for key, c in final.coords.items()
        if c.dims and set(c.dims) <= set(axes) and c.size > 1
    }
    zipped = {dim for key, c in beside.items() if key not in axes for dim in c.dims}
    each = {
        key: c.broadcast_like(final.isel(seed=0)).transpose(*axes)
        for key, c in beside.items()
        if key not in zipped
    }
    labels = pd.DataFrame(
        {key: c.values.ravel() for key, c in each.items()}, index=np.arange(len(scores))
    ).iloc[order]
    curves, diverged = None, np.zeros(scores.shape, bool)
    if "step" in array.dims:
        values = array.transpose(*axes, "seed", "step").values.astype(float)
        curves = np.where(np.isfinite(values), values, np.nan).reshape(*scores.shape, -1)[order]
    if "diverged" in results:
        lost = results["diverged"].astype(bool)
        lost = lost.any([dim for dim in lost.dims if dim not in (*axes, "seed")]).transpose(
            *axes, "seed"
        )
        diverged = lost.values.reshape(scores.shape)[order]
    steps = (
        results["step"].values
        if "step" in results.coords
        else np.arange(results.sizes.get("step", 0))
    )
    seeds = results["seed"].values if "seed" in results.coords else np.arange(scores.shape[1])
    env = catalogue.env_name(record["run"])
    title = catalogue.algorithm_name(record) + (f" on {env}" if env else "")
    return Study(
        path, title, name, record, results, labels, scores[order], curves, diverged, steps, seeds
    )


def question(study: Study) -> str:
    """What was asked, in a sentence."""
    steps = study.record["run"].get("steps")
    after = f" after {steps:,} environment steps" if isinstance(steps, int) else ""
    seeds = f"{study.scores.shape[1]:,} seeds" + (
        f" of each of {len(study.labels):,} settings" if len(study.labels) > 1 else ""
    )
    if not len(study.labels.columns):
        return f"What {study.name} does {study.title} reach{after}? {seeds}."
    each = [f"{axis} ({_values(study.labels[axis].tolist())})" for axis in study.labels]
    swept = " and ".join([", ".join(each[:-1]), each[-1]] if len(each) > 1 else each)
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
    times = [
        f"{attributes[key]:.3g} s to {word}"
        for key, word in (("compile_seconds", "compile"), ("run_seconds", "run"))
        if key in attributes
    ]
    small = study.path.is_file()
    again = (
        f"jaxrl rerun {study.path} --member 0"
        if catalogue.can_rerun(study.path, record)
        else "needs rl.rerun(..., training=...)"
    )
    again = (
        "a function was swept, which keeps no policies" if "function" in record["run"] else again
    )
    return [
        ("folder", str(study.path)),
        ("members", f"{members:,}, of which {done:,} have a final {study.name}"),
        ("begun", str(record.get("started", "unknown"))),
        ("commit", str(record.get("commit", "unknown"))),
        ("versions", ", ".join(f"{key} {value}" for key, value in record["versions"].items())),
        (
            "machine",
            ", ".join(f"{key} {value}" for key, value in record["machine"].items() if value != ""),
        ),
        ("took", ", ".join(times) or "unknown"),
        ("chunk", str(attributes.get("chunk", "unknown"))),
        (
            "record",
            "one small file: curves, no policies" if small else "a folder: curves and policies",
        ),
        ("train a member again", again),
    ]


def table(study: Study) -> pd.DataFrame:
    """A row for each setting: what it is, its score with an interval, how many seeds have one, how
    many diverged.

    Where the seeds are too few for an interval, `low` says so.
    """
    scores = pd.DataFrame(study.scores)
    middle, low, high = np.asarray(stats.iqm(study.scores)), *np.full((2, len(scores)), np.nan)
    if study.scores.shape[1] > 1:  # one has no spread
        middle, low, high = map(
            np.asarray, stats.interval(study.scores, level=LEVEL, resamples=500)
        )
    columns = {
        "IQM": middle,
        "low": low,
        "high": high,
        "mean": scores.mean(axis=1),
        "median": scores.median(axis=1),
    }
    counts = {"seeds": study.known, "diverged": study.diverged.sum(1)}
    made = study.labels.reset_index(drop=True)
    return stats.mark_too_few(
        made.assign(**{key: np.asarray(value, float) for key, value in columns.items()}, **counts)
    )


def diverged(study: Study, most: int = 40) -> tuple[str, list[str]]:
    """How many members diverged, and the labels of the first of them."""
    if "diverged" not in study.results:
        return "The results do not say who diverged.", []
    lost = np.argwhere(study.diverged)
    named = [f"{study.titles[i]}, seed={study.seeds[j]}" for i, j in lost[:most]]
    if not len(lost):
        return f"None of {study.scores.size:,} members diverged.", []
    rest = f" The first {most}:" if len(lost) > most else ""
    return (
        f"{len(lost):,} of {study.scores.size:,} members diverged; they count with what they "
        f"earn.{rest}",
        named,
    )


def films(study: Study) -> list[tuple[str, str, str]]:
    """Of the best setting the best and the median seed's policy: a caption, its film as a data
    address, or why none.
    """
    scores = study.scores[0]
    order = np.argsort(np.where(np.isfinite(scores), scores, -np.inf), kind="stable")
    known = int(np.isfinite(scores).sum())
    made, axes = (
        [],
        [axis for axis in study.record["labels"] if axis != "seed" and axis in study.best.coords],
    )
    where = {axis: study.best[axis].item() for axis in axes}
    for word, place in (("best", order[-1]), ("median", order[len(order) - 1 - known // 2])):
        caption = (
            f"The {word} seed of {study.titles[0]}: seed={study.seeds[place]}, "
            f"{study.name} {scores[place]:.4g}"
        )
        try:
            agent = policy(study.path, **where, seed=int(study.seeds[place]))
            film = plot.gif(agent.training.env, agent, max_frames=60)
            made.append(
                (caption, f"data:image/gif;base64,{base64.b64encode(film.data).decode()}", "")
            )
        except (
            Exception
        ) as error:  # a folder may lack its policies in any way; the page then says how
            made.append((caption, "", f"no film: {error}"))
    return made
