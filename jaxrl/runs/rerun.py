"""A member trained again from the record alone, and whether it is the same life."""

import dataclasses
import math
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np
import xarray as xr

from jaxrl import progress as live
from jaxrl.progress import Report
from jaxrl.sweep import _record, load, provenance, store
from jaxrl.sweep import member as members
from jaxrl.sweep.grid import Grid, bind
from jaxrl.sweep.program import Stepped
from jaxrl.sweep.results import Outputs, dataset, without_learners
from jaxrl.train import Training

POLICY = "policy"  # what the kept leaves of a learner are called where they drift


@dataclasses.dataclass(frozen=True)
class Rerun:
    """A member's second life beside its first.

    where: its labels. curves: of the second life. drift: the largest difference of each curve, and
    of the kept `policy`, that is not equal bit for bit; infinite where one is a number and the
    other is not. changed: what differs between the record and here, a line each.
    """

    member: int
    where: dict[str, Any]
    curves: xr.Dataset
    drift: dict[str, float]
    changed: tuple[str, ...]
    width: int
    policy: bool = True  # whether there was one to compare
    rounded: bool = False  # whether the record rounds some of its curves, which are compared so

    @property
    def equal(self) -> bool:
        """Whether every curve and the policy are those of the first life, bit for bit, or as far as
        a record rounds them.
        """
        return not self.drift

    def __str__(self) -> str:
        labels = ", ".join(f"{name}={label}" for name, label in self.where.items())
        title = f"member {self.member} ({labels}), in a program of {self.width} members"
        differs = [f"  {line}" for line in self.changed]
        if self.equal:
            names = f"all {len(self.curves.data_vars)} curves" + " and the policy" * self.policy
            how = "as far as the record rounds them" if self.rounded else "bit for bit"
            return "\n".join(
                [
                    f"{title}: {names} are equal {how}.",
                    *(["although these differ:", *differs] * bool(differs)),
                ]
            )
        drift = [f"  {name}: {size:.3g}" for name, size in self.drift.items()]
        why = (
            ["What differs from the record:", *differs]
            if differs
            else ["Versions, program and device are the record's."]
        )
        return "\n".join([f"{title}: not equal. The largest differences:", *drift, *why])


def rerun(
    folder: str | os.PathLike[str],
    member: int,
    training: Training | None = None,
    *,
    progress: bool = True,
) -> Rerun:
    """Trains one member of a kept sweep again, and compares its curves and policy with those that
    the folder holds.

    folder: of a sweep; or a record in one file, which holds some curves and no policy.

    It runs in a program of the same width on as many devices, filled with copies of this member:
    members never communicate, so that on the same machine and versions the life is the same bit for
    bit.

    member: its number, counted through the swept axes with the last one fastest. training: as in
    `policy`.

    Raises:
      ValueError: no such member, or a training that the folder can't name.
      FileNotFoundError: the member has not been trained there.
    """
    folder, record, number, where = _member_of(folder, member)
    training = members.training_of(folder, record, training)
    small = folder.is_file()
    (first, last), outputs = ((0, 0), {}) if small else store.read_chunk_of(folder, number)
    results = load(folder)
    point = members.point_of(record, number, training)
    grid = Grid({name: jax.tree.map(lambda x: x[None], value) for name, value in point.items()})
    asked = int(record.get("chunk", 1)) if small else store.read_chunk_width(folder, first, last)
    width, devices = _program_of(record, asked)
    best = record.get("keep_best", False) if small else "best_step" in outputs
    again = _live(training, grid, width, devices, best, progress)

    places, labels = members.places_of(record, number)
    second = {name: value[(number - first) % width] for name, value in again.items()}
    kept = {name: value[number - first] for name, value in outputs.items()}
    curves = _alone(labels, second)
    changed = _changed(record, _record(training, bind(training, grid), grid))
    if small:  # which holds some of the curves, and no policy
        found = results.isel(members.places_of(store.read_record(folder), int(member))[0])
        there = _there(
            found, np.asarray(record.get("step", curves["step"].values))
        )  # older files lack a group's own
        curves = curves[[name for name in there.data_vars if name in curves]]
        rounded = {name: digits for name, digits in _decimals(record).items() if name in curves}
        told = curves.assign({name: curves[name].round(digits) for name, digits in rounded.items()})
        drift = _drift(told, there)
        return Rerun(
            int(member),
            where,
            curves,
            drift,
            tuple(changed),
            width,
            policy=False,
            rounded=bool(rounded),
        )
    drift = _drift(curves, results.isel(places)) | _policy_drift(second, kept)
    if drift and not _drift(curves, _alone(labels, kept)) and not _policy_drift(second, kept):
        changed.append(
            f"{store.RESULTS} and members/, which holds what was trained again: "
            f"{store.RESULTS} was changed"
        )
    return Rerun(int(member), where, curves, drift, tuple(changed), width)


def _member_of(
    folder: str | os.PathLike[str], member: int
) -> tuple[pathlib.Path, members.Record, int, dict[str, Any]]:
    """The folder and record that a member is in, its number there, and its labels."""
    folder = pathlib.Path(folder).expanduser()
    record = store.read_record(folder)
    total = math.prod(len(label) for label in record["labels"].values())
    if (
        isinstance(member, bool)
        or not isinstance(member, int | np.integer)
        or not 0 <= member < total
    ):
        raise ValueError(f"{folder} has no member {member!r}: they are 0 to {total - 1}.")
    where = {
        name: label.item() for name, label in members.places_of(record, int(member))[1].items()
    }
    if "groups" not in record:
        return folder, record, int(member), where
    group, number = divmod(int(member), total // len(record["groups"]))
    name = record["groups"][group]
    return (
        folder if folder.is_file() else folder / name,
        members.in_group(folder, record, name),
        number,
        where,
    )


def _program_of(record: members.Record, width: int) -> tuple[int, int]:
    """The width of the program that made a chunk, and its devices, as far as there are as many
    here.
    """
    total = math.prod(len(label) for label in record["labels"].values())
    devices = min(jax.local_device_count(), record["machine"].get("devices", 1), total, width)
    return -(-width // devices) * devices, devices


def _live(
    training: Training, grid: Grid, width: int, devices: int, best: bool, progress: bool
) -> Outputs:
    """The outputs of a chunk that is filled with the one member of `grid`."""
    points, started = grid.points(np.zeros(width, int)), time.monotonic()
    line = live.Line() if progress else None
    try:
        program = Stepped(bind(training, grid), training, points, devices, keep=True, best=best)

        def report(share: float, *_: Any) -> None:
            if line is not None:
                seconds = time.monotonic() - started - program.compile_seconds
                line(Report(int(share), 1, share, training.steps * width * share, seconds, share))

        return program(points, report)
    finally:
        if line is not None:
            line.close()


def _alone(labels: dict[str, np.ndarray], outputs: Outputs) -> xr.Dataset:
    """One member's curves, as they stand in the results."""
    curves = {name: value[None] for name, value in without_learners(outputs).items()}
    return dataset(labels, {(0, 1): curves}, {}).isel(dict.fromkeys(labels, 0))


def _decimals(record: members.Record) -> dict[str, int]:
    """The curves that a record rounds, and to how many: those of the zoo that are from before
    records held every digit.
    """
    return {
        name: told["decimals"]
        for name, told in record.get("curves", {}).items()
        if "decimals" in told
    }


def _there(found: xr.Dataset, step: np.ndarray) -> xr.Dataset:
    """A member's rows in a record of one file, at its own `step`: those of all groups may be more,
    or the largest.
    """
    if found.sizes["step"] != len(step):
        found = found.isel(step=np.isin(found["step"], step))
    return (
        found.assign_coords(step=step.astype(found["step"].dtype))
        if found.sizes["step"] == len(step)
        else found
    )


def _drift(here: xr.Dataset, there: xr.Dataset) -> dict[str, float]:
    """The largest difference of each variable that is not equal bit for bit."""
    names = dict.fromkeys(["step", *here.data_vars, *there.data_vars])
    values = {
        str(name): [data[name].values if name in data.variables else None for data in (here, there)]
        for name in names
    }
    return {name: distance(*pair) for name, pair in values.items() if not same(*pair)}


def _policy_drift(here: Outputs, there: Outputs) -> dict[str, float]:
    names = sorted({*here, *there} - {*without_learners(here), *without_learners(there)})
    far = [
        distance(here.get(name), there.get(name))
        for name in names
        if not same(here.get(name), there.get(name))
    ]
    return {POLICY: max(far)} if far else {}


def same(a: Any, b: Any) -> bool:
    """Whether two arrays are equal bit for bit, any NaN being equal to any other."""
    if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
        return False
    plain = lambda x: np.where(np.isnan(x), np.nan, x).astype(x.dtype) if x.dtype.kind == "f" else x
    return plain(a).tobytes() == plain(b).tobytes()


def distance(a: Any, b: Any) -> float:
    """The largest difference of two arrays; infinite where a number stands beside none."""
    if a is None or b is None or a.shape != b.shape:
        return math.inf
    a, b = np.asarray(a, float), np.asarray(b, float)
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return float(np.where(np.isnan(apart), np.inf, apart).max(initial=0.0))


def _changed(record: members.Record, here: dict[str, Any]) -> list[str]:
    """What differs between a record and this call, a line each."""
    machine = dict(here["machine"])
    if machine["devices"] > record["machine"].get("devices", 1):
        machine["devices"] = record["machine"].get("devices", 1)  # no more are used
    lines = [
        line
        for part in ("run", "versions")
        for line in provenance.differences(record[part], here[part], part)
    ]
    lines += provenance.differences(record["machine"], machine, "machine")
    if machine["platform"] == "cpu" and machine["devices"] < (
        wanted := record["machine"].get("devices", 1)
    ):
        lines.append(f"rl.use_all_cores({wanted}) right after the imports makes as many devices")
    return lines + provenance.differences(
        {"commit": record.get("commit")}, {"commit": here["commit"]}
    )
