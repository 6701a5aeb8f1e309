"""A member trained again from the record alone, and compared with what is kept of it."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np

from jaxrl import progress as live
from jaxrl.devices import cache_compilations
from jaxrl.errors import as_path
from jaxrl.lazy import xarray as xr
from jaxrl.progress import Report
from jaxrl.sweep import load, lookup, provenance, store
from jaxrl.sweep.grid import Grid, bind
from jaxrl.sweep.program import AGENT, BEST_AGENT, Stepped
from jaxrl.sweep.record import Record, make_record
from jaxrl.sweep.results import Outputs, dataset, without_agents
from jaxrl.train import Training

POLICY = "policy"  # the name of the agent's leaves in `drift`


@dataclasses.dataclass(frozen=True)
class Rerun:
    """A second training of a member, compared with the first.

    where: its labels. curves: of the second. drift: the largest difference of each curve, and of
    the kept `policy`, that is not equal bit for bit; infinite where one is a number and the other
    is not. changed: what differs between the record and here, a line each. policy: there was one to
    compare. rounded: the record rounds some of its curves, and they are compared rounded.
    """

    member: int
    where: dict[str, Any]
    curves: xr.Dataset
    drift: dict[str, float]
    changed: tuple[str, ...]
    width: int
    policy: bool = True
    rounded: bool = False

    @property
    def equal(self) -> bool:
        """True where every curve and the policy are those of the first training, bit for bit, or as
        far as a record rounds them.
        """
        return not self.drift

    def __str__(self) -> str:
        labels = ", ".join(f"{name}={label}" for name, label in self.where.items())
        title = f"run {self.member} ({labels}), in a program of {self.width} runs"
        differs = [f"  {line}" for line in self.changed]
        if self.equal:
            names = f"all {len(self.curves.data_vars)} curves" + " and the policy" * self.policy
            how = "as far as the record rounds them" if self.rounded else "bit for bit"
            lines = [f"{title}: {names} are equal {how}."]
            return "\n".join(lines + ["although these differ:", *differs] * bool(differs))
        drift = [f"  {name}: {size:.3g}" for name, size in self.drift.items()]
        reasons = (
            ["What differs from the record:", *differs]
            if differs
            else ["Versions, program and device are the record's."]
        )
        return "\n".join([f"{title}: not equal. The largest differences:", *drift, *reasons])


def rerun(
    folder: str | os.PathLike[str],
    member: int,
    training: Training | None = None,
    *,
    progress: bool = True,
) -> Rerun:
    """Train one run of a saved sweep again, and compare its curves and policy with the saved ones.

    folder: folder of a sweep; or a record in one file, which contains some curves and no policy.
    member: number of the run, in row-major order of the swept axes. training: as in `policy`.

    It is trained in a program of the same width on the same number of devices, filled with copies
    of this run: runs never communicate, so with the same machine and versions the results are equal
    bit for bit.

    Raises:
      ValueError: there is no such run, or the folder can't define the training.
      FileNotFoundError: the run has not been trained in this folder.
    """
    folder, record, number, where = _member_of(folder, member)
    training = lookup.training_of(folder, record, training)
    config = lookup.config_of(folder, record, number, training)
    grid = Grid({name: jax.tree.map(lambda x: x[None], value) for name, value in config.items()})
    if folder.is_file():
        return _compare_with_file(
            folder, record, number, int(member), where, training, grid, progress
        )
    (first, last), outputs = store.read_chunk_of(folder, number)
    results = load(folder)
    width, devices = _program_of(record, store.read_chunk_width(folder, first, last))
    best = "best_step" in outputs
    again = _train_again(training, grid, width, devices, best, progress)

    at, labels = lookup.indices_of(record, number)
    second = {name: value[(number - first) % width] for name, value in again.items()}
    kept = {name: value[number - first] for name, value in outputs.items()}
    curves = _one_member(labels, second)
    changed = _changed(record, make_record(training, grid))
    agent_drift = _agent_drift(second, kept)
    drift = _drift(curves, results.isel(at)) | agent_drift
    if drift and not agent_drift and not _drift(curves, _one_member(labels, kept)):
        changed.append(
            f"{store.RESULTS} and members/, which holds what was trained again: "
            f"{store.RESULTS} was changed"
        )
    return Rerun(int(member), where, curves, drift, tuple(changed), width)


def _compare_with_file(
    path: pathlib.Path,
    record: Record,
    number: int,
    member: int,
    where: dict[str, Any],
    training: Training,
    grid: Grid,
    progress: bool,
) -> Rerun:
    """The same with a record in one file. number: of the member in its group's record."""
    width, devices = _program_of(record, int(record["chunk"]))
    best = record.get("keep_best", False)
    again = _train_again(training, grid, width, devices, best, progress)
    _, labels = lookup.indices_of(record, number)
    curves = _one_member(labels, {name: value[0] for name, value in again.items()})
    whole = store.read_record(path)
    found = load(path).isel(lookup.indices_of(whole, member)[0])
    kept = _own_rows(found, np.asarray(record["step"]))
    curves = curves[[name for name in kept.data_vars if name in curves]]
    decimals = {name: n for name, n in _decimals(whole).items() if name in curves}
    rounded = curves.assign({name: curves[name].round(n) for name, n in decimals.items()})
    changed = tuple(_changed(record, make_record(training, grid)))
    drift = _drift(rounded, kept)
    return Rerun(member, where, curves, drift, changed, width, policy=False, rounded=bool(decimals))


def _member_of(
    folder: str | os.PathLike[str], member: int
) -> tuple[pathlib.Path, Record, int, dict[str, Any]]:
    """The folder and record that a member is in, its number there, and its labels."""
    folder = as_path(folder)
    record = store.read_record(folder)
    total = math.prod(len(label) for label in record["labels"].values())
    is_number = isinstance(member, int | np.integer) and not isinstance(member, bool)
    if not is_number or not 0 <= member < total:
        raise ValueError(f"{folder} has no run {member!r}: they are 0 to {total - 1}.")
    _, labels = lookup.indices_of(record, int(member))
    where = {name: label.item() for name, label in labels.items()}
    if "groups" not in record:
        return folder, record, int(member), where
    group, number = divmod(int(member), total // len(record["groups"]))
    name = record["groups"][group]
    home = folder if folder.is_file() else folder / name
    return home, lookup.in_group(folder, record, name), number, where


def _program_of(record: Record, width: int) -> tuple[int, int]:
    """The width of the program that made a chunk, and its devices, as far as there are as many
    here.
    """
    total = math.prod(len(label) for label in record["labels"].values())
    devices = min(jax.local_device_count(), record["machine"]["devices"], total, width)
    return -(-width // devices) * devices, devices


def _train_again(
    training: Training, grid: Grid, width: int, devices: int, best: bool, progress: bool
) -> Outputs:
    """The outputs of a chunk that is filled with the one member of `grid`."""
    cache_compilations()
    configs, started = grid.configs(np.zeros(width, int)), time.monotonic()
    with live.shown(progress) as show:
        at = bind(training, grid)
        program = Stepped(at, training, configs, devices, keep=True, best=best)

        def report(fraction: float, *_: Any) -> None:
            if show is not None:
                seconds = time.monotonic() - started - program.compile_seconds
                steps = training.steps * width * fraction
                show(Report(int(fraction), 1, fraction, steps, seconds, fraction))

        return program(configs, report)


def _one_member(labels: dict[str, np.ndarray], outputs: Outputs) -> xr.Dataset:
    """One member's curves, as they are in the results."""
    curves = {name: value[None] for name, value in without_agents(outputs).items()}
    return dataset(labels, {(0, 1): curves}, {}).isel(dict.fromkeys(labels, 0))


def _decimals(record: Record) -> dict[str, int]:
    """The decimals of the curves that a record rounds."""
    curves = record["curves"].items()
    return {name: curve["decimals"] for name, curve in curves if "decimals" in curve}


def _own_rows(found: xr.Dataset, step: np.ndarray) -> xr.Dataset:
    """A member's rows in a record of one file, at its own `step`: those of all groups may be more,
    or the largest.
    """
    if found.sizes["step"] != len(step):
        found = found.isel(step=np.isin(found["step"], step))
    if found.sizes["step"] != len(step):
        return found
    return found.assign_coords(step=step.astype(found["step"].dtype))


def _drift(here: xr.Dataset, there: xr.Dataset) -> dict[str, float]:
    """The largest difference of each variable that is not equal bit for bit."""
    names = dict.fromkeys(["step", *here.data_vars, *there.data_vars])
    values = {
        str(name): [data[name].values if name in data.variables else None for data in (here, there)]
        for name in names
    }
    return {name: distance(*pair) for name, pair in values.items() if not same(*pair)}


def _agent_drift(here: Outputs, there: Outputs) -> dict[str, float]:
    """The largest difference of the agents' leaves, if they are not equal bit for bit."""
    agents = (f"{AGENT}.", f"{BEST_AGENT}.")
    names = sorted(name for name in {*here, *there} if name.startswith(agents))
    far = [
        distance(here.get(name), there.get(name))
        for name in names
        if not same(here.get(name), there.get(name))
    ]
    return {POLICY: max(far)} if far else {}


def same(a: Any, b: Any) -> bool:
    """True for two arrays that are equal bit for bit, any NaN being equal to any other."""
    if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
        return False
    plain = lambda x: np.where(np.isnan(x), np.nan, x).astype(x.dtype) if x.dtype.kind == "f" else x
    return plain(a).tobytes() == plain(b).tobytes()


def distance(a: Any, b: Any) -> float:
    """The largest difference of two arrays; infinite where only one is a number."""
    if a is None or b is None or a.shape != b.shape:
        return math.inf
    a, b = np.asarray(a, float), np.asarray(b, float)
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return float(np.where(np.isnan(apart), np.inf, apart).max(initial=0.0))


def _changed(record: Record, here: Record) -> list[str]:
    """The differences between a record and this call, a line each."""
    machine, wanted = dict(here["machine"]), record["machine"]["devices"]
    machine["devices"] = min(machine["devices"], wanted)  # no more are used
    lines = []
    for part in ("run", "versions"):
        lines += provenance.differences(record[part], here[part], part)
    lines += provenance.differences(record["machine"], machine, "machine")
    if machine["platform"] == "cpu" and machine["devices"] < wanted:
        lines.append(f"rl.use_all_cores({wanted}) right after the imports makes as many devices")
    there, now = (
        {name: each[name] for name in provenance.SOURCES if name in record}
        for each in (record, here)
    )
    return lines + provenance.differences(there, now)
