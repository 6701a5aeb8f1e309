"""`extend`: a finished or stopped study goes on with more steps, more seeds or more values."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import tree
from jaxrl.errors import as_path, check_seconds, nearest
from jaxrl.lazy import xarray as xr
from jaxrl.progress import Report
from jaxrl.sweep import checkpoint, extended, lookup, store, swap
from jaxrl.sweep.api import sweep
from jaxrl.sweep.grid import Grid, Zipped, bind, raw
from jaxrl.sweep.program import BEST_AGENT, STATE
from jaxrl.sweep.record import Record, make_record
from jaxrl.sweep.results import Outputs, without_agents
from jaxrl.sweep.static_axes import combine, with_static_values
from jaxrl.sweep.static_groups import group_folder, record_of_groups
from jaxrl.train import Training

BEST = ("best_evaluation", "best_step")


def extend(
    folder: str | os.PathLike[str],
    *,
    steps: int | None = None,
    over: Mapping[str, Any] | None = None,
    schedule: extended.Schedule | None = None,
    training: Training | None = None,
    memory_limit: float | str | None = None,
    save_seconds: float = 60.0,
    progress: bool | Callable[[Report], None] = True,
) -> xr.Dataset:
    """Continue the study in a folder: more steps, more seeds, more values of its axes.

    Existing results are kept, not recomputed. A stopped study is finished first; without further
    arguments nothing else is done. A call that was stopped resumes when it is repeated.

    steps: environment steps of each run in total. The spacing of the rows does not change. Runs
      continue from their final states, which `rl.sweep` saves if they are small or with
      keep_state=True.
    over: {name: values} to add to axes of the study, including static axes; existing values are
      ignored.
    schedule: what happens to schedules that depend on the number of steps, such as a learning rate
      that decays to 0. "stretch" continues them at the fraction of the longer run; "restart" starts
      them again for the added steps.
    training: as in `rl.policy`, if the folder alone can't define it.
    memory_limit, save_seconds, progress: as in `rl.sweep`.

    Returns the results of the whole study, which the folder contains from then on. The previous
    ones are in FOLDER/before/001 and so on, as complete studies for `rl.load` and `rl.policy`.

    If nothing depends on the number of steps, the longer curves equal, bit for bit, those of a
    study that had this length from the start. (If evaluations are rarer than rows, the earlier part
    keeps the rows at which it was evaluated.)

    Raises, before anything runs:
      ValueError: fewer steps than before or not a multiple of a row, a `schedule` that must be
        chosen, states that were not saved, an axis that the study does not have, a value that a
        field does not accept, a study or an axis with `stop_after`, several processes.
    """
    folder = as_path(folder)
    check_seconds("save_seconds", save_seconds)
    if jax.process_count() > 1:
        raise ValueError(
            "rl.extend changes the folder and must run in one process, but this job has "
            f"{jax.process_count()}: call it in a job with a single process."
        )
    store.recover(folder)
    study = _read_study(folder, training)
    wider = study.with_values(over or {})
    wider.check()
    longer = wider if steps is None else wider.with_steps(steps, schedule)
    if longer.training.steps > study.training.steps:
        _check_states(folder, study)
    kept = True if steps is not None else None

    def go_on(study: Study) -> xr.Dataset:
        return sweep(
            study.training,
            study.over,
            static=study.static or None,
            folder=folder,
            keep_best=study.keep_best,
            keep_state=kept,
            memory_limit=memory_limit,
            save_seconds=save_seconds,
            progress=progress,
        )

    results = go_on(study)
    if wider.sizes != study.sizes:
        _replace(folder, study, wider)
        results = go_on(wider)
    if longer.training.steps > wider.training.steps:
        _replace(folder, wider, longer)
        results = go_on(longer)
    return results


@dataclasses.dataclass(frozen=True)
class Study:
    """What a folder holds: the arguments of `rl.sweep` that made it.

    static: of each static axis its values by their labels.
    """

    training: Training
    over: dict[str, Any]
    static: dict[str, dict[Any, Any]]
    keep_best: bool

    @property
    def sizes(self) -> dict[str, int]:
        """The number of values of each axis, static ones first."""
        return {name: len(values) for name, values in self.static.items()} | self.grid.sizes

    @property
    def grid(self) -> Grid:
        return Grid(self.over)

    @property
    def parts(self) -> dict[tuple[int, ...], tuple[str, Training]]:
        """The folder, below the study's, and the training of each combination of static values, by
        its place along the static axes; of a study without any, the one of all.
        """
        if not self.static:
            return {(): (".", self.training)}
        runs = combine(self.training, self.static, self.grid).runs
        places = np.ndindex(*(len(values) for values in self.static.values()))
        return {
            place: (group_folder(i), run)
            for i, (place, run) in enumerate(zip(places, runs, strict=True))
        }

    def check(self) -> None:
        """Check that a training takes each value.

        Raises:
          ValueError, TypeError: one that is refused.
        """
        for _, run in self.parts.values():
            bind(run, self.grid)
            run.updates  # noqa: B018  it checks the number of steps

    def with_values(self, added: Mapping[str, Any]) -> Study:
        """The study with more values of its axes, after those that it has."""
        static, over = dict(self.static), dict(self.over)
        for name, values in added.items():
            if name in static:
                static[name] = with_static_values(name, static[name], values)
            elif name in over:
                over[name] = _joined(
                    name, self.grid.values[name], Grid({name: values}).values[name]
                )
            else:
                raise ValueError(
                    f"{name!r} is not an axis of this study; {nearest(name, [*static, *over])}."
                )
        return dataclasses.replace(self, over=over, static=static)

    def with_steps(self, steps: int, schedule: extended.Schedule | None) -> Study:
        """The study with longer runs; the same where they are as long already."""
        if steps == self.training.steps:
            return self
        names = [name for name in self.grid.names if name != "seed"]
        if "stop_after" in [tree.find(self.training, name) for name in names]:
            raise ValueError(
                "stop_after is an axis of this study: it ended runs before their last step, and "
                "those can't be extended. Sweep again with larger stop_after."
            )
        runs = [run for _, run in self.parts.values()]
        longer = [extended.extended(run, steps, schedule) for run in runs]
        shared = [{"steps": run.steps, "evals": run.evals, "kind": type(run)} for run in longer]
        if any(each != shared[0] for each in shared):
            raise ValueError(
                f"steps={steps} does not end at an evaluation point for all static values: their "
                "updates have different lengths. Extend to another number of steps, such as a "
                f"multiple of {self.training.steps}."
            )
        return dataclasses.replace(self, training=extended.extended(self.training, steps, schedule))


def _read_study(folder: pathlib.Path, training: Training | None) -> Study:
    if folder.is_file():
        raise ValueError(
            f"{folder} is a record: it has curves but no states. Extend the folder of the study."
        )
    record = store.read_record(folder)
    keep_best = bool(record.get("keep_best", False))
    if "groups" not in record:
        found = lookup.training_of(folder, record, training)
        return Study(found, _axes(folder, record, found), {}, keep_best)
    homes = [(folder / name, lookup.in_group(folder, record, name)) for name in record["groups"]]
    runs = [lookup.training_of(home, own, training) for home, own in homes]
    labels = {name: record["labels"][name] for name in record["static"]}
    places = list(np.ndindex(*(len(known) for known in labels.values())))
    static = {}
    for axis, (name, known) in enumerate(labels.items()):
        first = [
            next(r for r, p in zip(runs, places, strict=True) if p[axis] == i)
            for i in range(len(known))
        ]
        path = tree.find(runs[0], name)
        static[name] = {text: tree.get(run, path) for text, run in zip(known, first, strict=True)}
    return Study(runs[0], _axes(*homes[0], runs[0]), static, keep_best)


def _axes(folder: pathlib.Path, record: Record, training: Training) -> dict[str, Any]:
    """The values of each axis, as `rl.sweep` takes them."""
    labels = record["labels"]
    sizes = [len(known) for known in labels.values()]
    axes: dict[str, Any] = {}
    for i, axis in enumerate(labels):
        places = [np.arange(n) if j == i else np.zeros(sizes[i], int) for j, n in enumerate(sizes)]
        members = np.ravel_multi_index(places, sizes)
        config = lookup.config_of(folder, record, members, training)
        words = record["axes"][axis]
        is_zipped = isinstance(words, dict) and list(words) == ["zipped"]
        names = words["zipped"] if is_zipped else [axis]
        values = {name: config[name] for name in names}
        axes[axis] = Zipped(values) if is_zipped else values[axis]
    return axes


def _joined(name: str, old: Any, new: Any) -> Any:
    """The values of an axis, and those added that are not among them."""
    if jax.tree.structure(old) != jax.tree.structure(new):
        raise ValueError(f"axis {name!r} holds another kind of value than the values to add.")

    def alike(old: jax.Array, new: jax.Array) -> jax.Array:
        is_key = jnp.issubdtype(old.dtype, jax.dtypes.prng_key)
        if is_key != jnp.issubdtype(new.dtype, jax.dtypes.prng_key):
            kind = "keys" if is_key else f"{old.dtype}"
            raise ValueError(f"axis {name!r} holds {kind}, not {new.dtype}: write {kind}.")
        if old.shape[1:] != new.shape[1:]:
            raise ValueError(
                f"axis {name!r} holds values of shape {old.shape[1:]}, not of {new.shape[1:]}."
            )
        cast = new if is_key else new.astype(old.dtype)
        if not is_key and not (cast == new).all():
            raise ValueError(f"axis {name!r} holds {old.dtype}, which {new} is not.")
        return cast

    new = jax.tree.map(alike, old, new)
    words = [
        np.concatenate([raw(x).reshape(len(x), -1) for x in pair])
        for pair in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
    ]
    known, fresh = len(words[0]) - len(raw(jax.tree.leaves(new)[0])), []
    for i in range(known, len(words[0])):
        if not any(all((x[i] == x[j]).all() for x in words) for j in [*range(known), *fresh]):
            fresh.append(i)
    places = np.array(fresh, int) - known
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b[places]]), old, new)


# ---------------------------------------------------------------------------- files of the folders


def _check_states(folder: pathlib.Path, study: Study) -> None:
    """Refuse to extend finished runs without their final states."""
    for home, _ in study.parts.values():
        for first, last in store.chunk_names(folder / home):
            names = store.names_in(folder / home, first, last)
            if not any(name.startswith(f"{STATE}.") for name in names):
                raise ValueError(
                    f"{folder} has no final states to continue from: rl.sweep saves them with "
                    "keep_state=True (by default, up to 256 MB). Nothing was changed."
                )


def _replace(folder: pathlib.Path, old: Study, new: Study) -> None:
    """Put the files of the extended study in place of the folder's, which go to before/NNN."""
    part = folder / swap.PART
    held = store.lock(folder)
    try:
        shutil.rmtree(part, ignore_errors=True)
        records = {
            place: make_record(run, new.grid, new.keep_best)
            for place, (_, run) in new.parts.items()
        }
        if new.static:  # each group has a record of its own besides
            groups = combine(new.training, new.static, new.grid)
            record = record_of_groups(new.training, groups, list(records.values()))
            store.Store(part, record, jax.tree.leaves(new.training)).close()
        for place, (there, _) in old.parts.items():
            here = part / new.parts[place][0]
            _prepare(folder / there, here, old, new, place, records[place])
        for name in (store.LOCK, store.HOLDER):
            for path in part.rglob(name):
                path.unlink()
        swap.swap(folder, kept=(store.LOCK, store.HOLDER))
    finally:
        held.release()


def _prepare(
    there: pathlib.Path,
    here: pathlib.Path,
    old: Study,
    new: Study,
    place: tuple[int, ...],
    record: Record,
) -> None:
    """Write a folder that the extended study goes on from: chunks where the runs are as long as
    before, else checkpoints at their end.
    """
    (_, before), (_, after) = old.parts[place], new.parts[place]
    target = store.Store(here, record, [*jax.tree.leaves(after), *new.grid.large_arrays])
    width = store.read_width(there) or old.grid.members
    target.note_width(width)
    if after.steps == before.steps:
        _renumber(there, target, old.grid, new.grid)
    else:
        for first in range(0, old.grid.members, width):
            last = min(first + width, old.grid.members)
            path = (
                here
                / checkpoint.OPEN
                / f"{first:08d}-{last:08d}-{width:08d}"
                / f"{before.evals:08d}"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            outputs = _outputs(there, np.minimum(np.arange(first, first + width), last - 1))
            checkpoint.save(path.absolute(), _checkpoint(outputs, before, after, old))
    target.close()


def _renumber(there: pathlib.Path, target: store.Store, old: Grid, new: Grid) -> None:
    """Write the finished chunks under their members' numbers in a larger grid."""
    for first, last in store.chunk_names(there):
        try:
            outputs = store.read(store.chunk_path(there, first, last))
        except store.DAMAGE:  # its members were computed again, in other chunks
            continue
        width = store.read_chunk_width(there, first, last)
        places = np.unravel_index(np.arange(first, last), tuple(old.sizes.values()))
        numbers = np.ravel_multi_index(places, tuple(new.sizes.values()))
        ends = [*(np.flatnonzero(np.diff(numbers) != 1) + 1), len(numbers)]
        for start, end in zip([0, *ends], ends, strict=False):
            part = {name: value[start:end] for name, value in outputs.items()}
            target.save(int(numbers[start]), int(numbers[start]) + end - start, width, part)


def _outputs(folder: pathlib.Path, members: np.ndarray) -> Outputs:
    """All outputs of these members, in this order. [len(members), ...]."""
    found: dict[str, list[np.ndarray]] = {}
    at = 0
    while at < len(members):
        (first, last), outputs = store.read_chunk_of(folder, int(members[at]))
        end = at + int(np.argmin(np.append(members[at:] < last, False)))
        for name, value in outputs.items():
            found.setdefault(name, []).append(value[members[at:end] - first])
        at = end
    return {name: np.concatenate(values) for name, values in found.items()}


def _checkpoint(
    outputs: Outputs, before: Training, after: Training, study: Study
) -> dict[str, np.ndarray]:
    """The outputs of finished runs as the checkpoint of longer ones."""
    clocks = before.clocks
    rows = {
        name: np.moveaxis(value, 1, 0)
        for name, value in without_agents(outputs).items()
        if name not in (*clocks, *BEST)
    }
    leaves = _converted(_numbered(outputs, STATE), before, after, lambda run, state: state)
    if study.keep_best:
        agents = _numbered(outputs, BEST_AGENT)
        score = outputs["best_evaluation"]
        leaves += _converted(agents, before, after, lambda run, state: run.algo.agent(state))
        leaves += [
            np.searchsorted(np.asarray(clocks["step"]), outputs["best_step"]).astype(np.int32),
            np.where(np.isnan(score), -np.inf, score).astype(np.float32),
        ]
    state = {f"state.{i:04d}": leaf for i, leaf in enumerate(leaves)}
    return {
        name: value
        for name, value in (state | {f"rows.{name}": row for name, row in rows.items()}).items()
        if value.size
    }


def _numbered(outputs: Outputs, name: str) -> list[np.ndarray]:
    return [value for key, value in sorted(outputs.items()) if key.startswith(f"{name}.")]


def _converted(
    leaves: list[np.ndarray],
    before: Training,
    after: Training,
    part: Callable[[Training, Any], Any],
) -> list[np.ndarray]:
    """The leaves of a part of finished states [width, ...] as those of a longer training's, which
    may have the start of a clock besides, and other totals.

    Raises:
      ValueError: there are more or fewer leaves than the state of a run has here.
    """
    key = jax.random.key(0)

    def shapes(run: Training) -> dict[str, Any]:
        made = jax.eval_shape(lambda key: part(run, run.init(key)), key)
        named = jax.tree_util.tree_leaves_with_path(made)
        return {jax.tree_util.keystr(path): leaf for path, leaf in named}

    names = shapes(before)
    if len(names) != len(leaves):  # an accelerator packs a replay, and a CPU does not
        raise ValueError(
            f"the study's final states have {len(leaves)} arrays, and the program here has "
            f"{len(names)}: they were kept on another kind of device. Extend the study there, or "
            "sweep the longer runs into another folder."
        )
    found = dict(zip(names, leaves, strict=True))
    width = len(leaves[0])
    if type(after) is Training:  # an extended one sets its clocks at each row
        found |= {
            name: np.full(width, total, found[name].dtype)
            for name, total in extended.run_totals(after, part).items()
        }
    return [
        found[name] if name in found else np.zeros((width, *leaf.shape), leaf.dtype)
        for name, leaf in shapes(after).items()
    ]
