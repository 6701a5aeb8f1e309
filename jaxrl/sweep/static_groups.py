"""A sweep with static axes: one sweep for each combination of them, in FOLDER/static/NNN, and one
dataset of all.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxrl import progress as live
from jaxrl.lazy import xarray as xr
from jaxrl.progress import Report
from jaxrl.sweep import multihost, provenance, store
from jaxrl.sweep.grid import Grid
from jaxrl.sweep.partial import attach_partial, note_partial
from jaxrl.sweep.results import coordinates_of, dataset, join
from jaxrl.sweep.static_axes import Combinations, combine, with_note
from jaxrl.train import Training

Parts: TypeAlias = "list[xr.Dataset | None]"
Record = dict[str, Any]
Show = Callable[[Report], None]


def sweep_groups(
    run: Any,
    grid: Grid,
    static: Mapping[str, Any],
    folder: pathlib.Path | None,
    progress: bool | Show | Sequence[bool | Show],
    record_of: Callable[[Any], Record],
    run_group: Callable[[Any, Record, pathlib.Path | None, Show | None], xr.Dataset],
) -> xr.Dataset:
    """The dataset of all combinations of static values, each run as one sweep once all are checked.

    record_of: the record of a run; it raises for one that can't be swept. run_group: the results of
    a run with its record, in a folder, with reports to a function.
    """
    groups = combine(run, static, grid)
    named = list(zip(groups.names, groups.runs, strict=True))
    records = [with_note(name, record_of, each) for name, each in named]
    record = record_of_groups(run, groups, records)
    kept = None if folder is None else store.Store(folder, record, jax.tree.leaves(run))
    parts: Parts = []
    done = 0
    members = grid.members * len(groups.runs)
    try:
        with live.shown(progress) as show:
            tally = Tally(grid.members, len(groups.runs), show)
            for (name, each), own, path in zip(named, records, record["groups"], strict=True):
                home = None if folder is None else folder / path
                tally.labels = _static_labels(record, len(parts))
                part = with_note(
                    name, run_group, each, own, home, tally.report if tally.show else None
                )
                parts.append(part)
                done += grid.members
                tally.close_group()
        results = _joined(record, parts)
        if kept is not None and multihost.is_primary():
            store.write_results(kept.results, results)
        multihost.barrier("the results of all groups are written")
        return results
    except BaseException as error:
        own = vars(error)
        results = _joined(record, [*parts, own.get("results")])
        attach_partial(error, results, done + own.get("members_done", 0))
        note_partial(error, members, folder)
        raise
    finally:
        if kept is not None:
            kept.close()


def load_groups(
    folder: pathlib.Path, record: Record, load: Callable[[pathlib.Path], xr.Dataset]
) -> xr.Dataset:
    """The results so far of an unfinished sweep with static axes."""
    homes = [folder / own for own in record["groups"]]
    return _joined(
        record, [load(home) if (home / store.RECORD).exists() else None for home in homes]
    )


def group_folder(number: int) -> str:
    """The folder of a group, below the sweep's."""
    return f"static/{number:03d}"


def group_at(record: Record, where: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The folder, below the sweep's, of the group that these labels name, and the labels that are
    of its members.

    Raises:
      ValueError: a static axis of several values without a label, or a label that it does not have.
    """
    labels = {name: record["labels"][name] for name in record["static"]}
    for name, known in labels.items():
        if name not in where and len(known) > 1:
            raise ValueError(f"name one run: {name} is one of {known}.")
        if where.get(name, known[0]) not in known:
            raise ValueError(f"{name}={where[name]!r} was not swept; its values are {known}.")
    places = [known.index(where.get(name, known[0])) for name, known in labels.items()]
    number = int(np.ravel_multi_index(places, [len(known) for known in labels.values()]))
    rest = {name: value for name, value in where.items() if name not in labels}
    return record["groups"][number], rest


def _static_labels(record: Record, group: int) -> dict[str, Any]:
    """The label of a group along each static axis."""
    known = {name: record["labels"][name] for name in record["static"]}
    places = np.unravel_index(group, [len(labels) for labels in known.values()])
    return {name: known[name][int(i)] for name, i in zip(known, places, strict=True)}


def record_of_groups(run: Any, groups: Combinations, records: list[Record]) -> Record:
    """The record of all groups: what they have in common, and the static values."""
    outputs = sorted({name for each in records for name in each["outputs"]})
    if taken := [name for name in groups.values if name in outputs]:
        raise ValueError(
            f"the program returns {taken[0]!r}, which is also a static axis: rename one of them."
        )
    labels = {name: found.tolist() for name, found in groups.labels.items()}
    # each group keeps its own training
    common = {name: part for name, part in records[0].items() if name != "recipe"}
    described = provenance.describe(run)
    return common | {
        "run": described if isinstance(run, Training) else {"function": described},
        "static": {name: provenance.describe(values) for name, values in groups.values.items()},
        "labels": labels | common["labels"],
        "groups": [group_folder(i) for i in range(len(records))],
        "outputs": outputs,
    }


def _joined(record: Record, parts: Parts) -> xr.Dataset:
    labels = {name: _array(found) for name, found in record["labels"].items()}
    outer = {name: labels.pop(name) for name in record["static"]}
    parts = [*parts, *[None] * len(record["groups"])][: len(record["groups"])]
    blank = dataset(labels, {}, {}, coordinates_of(record))
    return join(outer, parts, blank, _attributes(record, parts))


def _array(label: list[Any]) -> np.ndarray:
    # text as a file gives it back
    return np.array(label, object) if isinstance(label[0], str) else np.asarray(label)


def _attributes(record: Record, parts: Parts) -> dict[str, Any]:
    """The card of all groups: what they have in common, and their times together."""
    cards = [part.attrs for part in parts if part is not None and "run_seconds" in part.attrs]
    if len(cards) < len(parts):
        return {"card": json.dumps(record)}
    attributes = {part: json.dumps(record[part]) for part in ("run", "static", "versions")}
    attributes |= {"machine": json.dumps(record["machine"])}
    if halved := [str(each["halved"]) for each in cards if "halved" in each]:
        attributes["halved"] = "; ".join(halved)
    times = {
        name: round(float(sum(each[name] for each in cards)), 3)
        for name in ("compile_seconds", "run_seconds")
    }
    chunk = max(int(each["chunk"]) for each in cards)
    card = {name: record[name] for name in provenance.SOURCES if name in record}
    card |= {"started": record["started"], "chunk": chunk}
    return attributes | card | times


class Tally:
    """The reports of groups, one after another, as reports of all.

    members: of all groups. closed: those of finished groups. labels: of the running group, along
    the static axes.
    """

    def __init__(self, each: int, groups: int, show: Show | None) -> None:
        self.each, self.members, self.show = each, each * groups, show
        self.closed = 0
        self.labels: dict[str, Any] = {}
        self._before = self._now = Report(0, self.members, 0.0, 0.0, 0.0, 0.0)

    def report(self, group: Report) -> None:
        """Report the running group."""
        before = self._before
        self._now = Report(
            done=self.closed + group.done,
            members=self.members,
            fraction=(self.closed + group.fraction * self.each) / self.members,
            steps=before.steps + group.steps,
            seconds=before.seconds + group.seconds,
            done_now=before.done_now + group.done_now * self.each / self.members,
            score=group.score,
            step=group.step,
            labels=self._with_static(group.labels),
            metrics=group.metrics,
        )
        if self.show is not None:
            self.show(self._now)

    def _with_static(self, labels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The labels of the running members, with those along the static axes before them."""
        size = len(next(iter(labels.values()), ()))
        static = {name: np.full(size, label) for name, label in self.labels.items()}
        return static | dict(labels) if size else {}

    def close_group(self) -> None:
        """The running group is finished."""
        if self._now.done < self.closed + self.each:  # it was done already
            self.report(Report(self.each, self.each, 1.0, 0.0, 0.0, 0.0))
        self.closed, self._before = self.closed + self.each, self._now
