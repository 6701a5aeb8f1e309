"""A sweep with static axes: a sweep of its own for each combination of them, and one dataset of
them all.
"""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from jaxrl import progress as live
from jaxrl.progress import Report
from jaxrl.sweep import multihost, provenance, store
from jaxrl.sweep.grid import Grid
from jaxrl.sweep.results import dataset, join
from jaxrl.sweep.static import Combinations, combine, noted
from jaxrl.train import Training

Parts = list[xr.Dataset | None]


def sweep_groups(
    run: Any,
    over: Mapping[str, Any],
    static: Mapping[str, Any],
    folder: Any,
    progress: bool | Callable[[Report], None],
    trace: Callable[[Any, Grid], dict[str, Any]],
    one: Callable[..., xr.Dataset],
) -> xr.Dataset:
    """Runs each combination of static values as a sweep of its own, once all of them are sure to
    run.

    trace: the record of a run, which it refuses if it can't be swept. one: `sweep` of a run, but
    for folder and progress.
    """
    grid = Grid(over)
    groups = combine(run, static, grid)
    traced = [
        noted(name, trace, each, grid) for name, each in zip(groups.names, groups.runs, strict=True)
    ]
    record = _record(run, groups, traced)
    folder = None if folder is None else pathlib.Path(folder).expanduser()
    kept = None if folder is None else store.Store(folder, record)
    line = live.Line() if progress is True else None
    tally = Tally(
        grid.members, len(groups.runs), line or (progress if callable(progress) else None)
    )
    parts: Parts = []
    try:
        for name, each, own in zip(groups.names, groups.runs, record["groups"], strict=True):
            home = None if folder is None else folder / own
            parts.append(
                noted(name, one, each, folder=home, progress=tally.report if tally.show else False)
            )
            tally.close_group()
        results = _joined(record, parts)
        if kept is not None and multihost.first():
            store.write_results(kept.results, results)
        multihost.meet("the results of all groups are written")
        return results
    except BaseException as error:
        setattr(error, "results", _joined(record, [*parts, getattr(error, "results", None)]))
        _tell(error, folder, tally)
        raise
    finally:
        if kept is not None:
            kept.close()
        if line is not None:
            line.close()


def load_groups(
    folder: pathlib.Path, record: dict[str, Any], load: Callable[[pathlib.Path], xr.Dataset]
) -> xr.Dataset:
    """What the groups of an unfinished sweep hold."""
    return _joined(
        record,
        [
            load(folder / own) if (folder / own / "sweep.json").exists() else None
            for own in record["groups"]
        ],
    )


def group_folder(number: int) -> str:
    """Where a group is kept below the sweep's own folder."""
    return f"static/{number:03d}"


def group_at(record: dict[str, Any], where: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The folder, below the sweep's own, of the group that these labels name, and the labels that
    are of its members.

    Raises:
      ValueError: a static axis of several values without a label, or a label that it does not have.
    """
    labels = {name: record["labels"][name] for name in record["static"]}
    for name, known in labels.items():
        if name not in where and len(known) > 1:
            raise ValueError(f"name one member: {name} is one of {known}.")
        if where.get(name, known[0]) not in known:
            raise ValueError(f"{name}={where[name]!r} was not swept; its values are {known}.")
    places = [known.index(where.get(name, known[0])) for name, known in labels.items()]
    number = int(np.ravel_multi_index(places, [len(known) for known in labels.values()]))
    return record["groups"][number], {
        name: value for name, value in where.items() if name not in labels
    }


def _record(run: Any, groups: Combinations, traced: list[dict[str, Any]]) -> dict[str, Any]:
    """What makes these groups one sweep: what was asked of each, but for the static values, and
    these.
    """
    outputs = sorted({name for each in traced for name in each["outputs"]})
    if taken := [name for name in groups.values if name in outputs]:
        raise ValueError(
            f"the program returns {taken[0]!r}, which is also a static axis: rename one of them."
        )
    labels = {name: found.tolist() for name, found in groups.labels.items()}
    common = {
        name: part for name, part in traced[0].items() if name != "recipe"
    }  # each group keeps its own
    return common | {
        "run": provenance.describe(run)
        if isinstance(run, Training)
        else {"function": provenance.describe(run)},
        "static": {name: provenance.describe(values) for name, values in groups.values.items()},
        "labels": labels | common["labels"],
        "groups": [group_folder(i) for i in range(len(traced))],
        "outputs": outputs,
    }


def _joined(record: dict[str, Any], parts: Parts) -> xr.Dataset:
    labels = {name: _array(found) for name, found in record["labels"].items()}
    beside = {
        name: (axis, np.asarray(found)) for name, (axis, found) in record["coordinates"].items()
    }
    outer = {name: labels.pop(name) for name in record["static"]}
    parts = [*parts, *[None] * len(record["groups"])][: len(record["groups"])]
    return join(outer, parts, dataset(labels, {}, {}, beside), _attributes(record, parts))


def _array(label: list[Any]) -> np.ndarray:
    return (
        np.array(label, object) if isinstance(label[0], str) else np.asarray(label)
    )  # text as a file gives it back


def _attributes(record: dict[str, Any], parts: Parts) -> dict[str, Any]:
    """The card of them all: what they have in common, and their times together."""
    cards = [part.attrs for part in parts if part is not None and "run_seconds" in part.attrs]
    if len(cards) < len(parts):
        return {"card": json.dumps(record)}
    texts = {name: json.dumps(record[name]) for name in ("run", "static", "versions", "machine")}
    times = {
        name: round(float(sum(each[name] for each in cards)), 3)
        for name in ("compile_seconds", "run_seconds")
    }
    chunk = max(int(each["chunk"]) for each in cards)
    halved = [str(each["halved"]) for each in cards if "halved" in each]
    texts |= {"halved": "; ".join(halved)} if halved else {}
    return (
        texts | {"commit": record["commit"], "started": record["started"], "chunk": chunk} | times
    )


def _tell(error: BaseException, folder: pathlib.Path | None, tally: "Tally") -> None:
    """One note about what is kept of all groups, in place of the last group's own."""
    notes = getattr(error, "__notes__", [])
    own = [note for note in notes if "members are done and kept" in note]
    done = tally.closed + sum(int(note.split()[0].replace(",", "")) for note in own)
    notes[:] = [note for note in notes if note not in own]
    where = (
        f"in {folder}, and the same call goes on from there"
        if folder
        else "as this exception's .results"
    )
    error.add_note(f"{done:,} of {tally.members:,} members are done and kept {where}.")


class Tally:
    """The reports of groups, one after another, as reports of all."""

    def __init__(self, each: int, groups: int, show: Callable[[Report], None] | None) -> None:
        self.each, self.members, self.show = each, each * groups, show
        self.closed = 0  # members of finished groups
        self._before = self._now = Report(0, self.members, 0.0, 0.0, 0.0, 0.0)

    def report(self, group: Report) -> None:
        before = self._before
        self._now = Report(
            done=self.closed + group.done,
            members=self.members,
            fraction=(self.closed + group.fraction * self.each) / self.members,
            steps=before.steps + group.steps,
            seconds=before.seconds + group.seconds,
            fresh=before.fresh + group.fresh * self.each / self.members,
            score=group.score,
        )
        if self.show is not None:
            self.show(self._now)

    def close_group(self) -> None:
        if self._now.done < self.closed + self.each:  # it was done already
            self.report(Report(self.each, self.each, 1.0, 0.0, 0.0, 0.0))
        self.closed, self._before = self.closed + self.each, self._now
