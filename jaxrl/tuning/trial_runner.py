"""Training runs of many settings, many at once, from row to row: every tuner's batches run on it.

A run may continue from the state of an earlier one. The executor of sweeps runs them chunk by
chunk; finished chunks are in FOLDER/NAME/KIND, in FIRST-LAST.npz and, where runs may continue,
FIRST-LAST.state.npz.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import tree
from jaxrl.sweep import checkpoint, store
from jaxrl.sweep.checkpoint import Checkpoints, Rows, put
from jaxrl.sweep.executor import Config, Executor, Work
from jaxrl.sweep.grid import raw
from jaxrl.sweep.program import Stepped, score_of
from jaxrl.sweep.results import Chunks, Outputs
from jaxrl.train import Training
from jaxrl.tuning.space import Space

METRICS = ("return", "evaluation", "diverged")  # that are kept of a row
SETTINGS = "settings"  # in a chunk's file: the points and seeds of its runs
State = list[np.ndarray]  # the leaves of one run's state
Curves = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrialRequest:
    """Settings to train until a row, one run for each of their seeds: of n settings and m seeds,
    run i * m + j has setting i and seed j.

    points: [n, dims]. seeds: whole numbers that keys are made of, [n, m]. start_rows: the first row
    of each setting, [n]. end_row: one past the last. states: of each run, where it continues from;
    empty where it starts. [n * m].
    """

    points: np.ndarray
    seeds: np.ndarray
    start_rows: np.ndarray
    end_row: int
    states: list[State]


class Run(NamedTuple):
    """One training run of a setting."""

    static_group: tuple[int, ...]
    point: np.ndarray
    seed: int
    start_row: int
    end_row: int
    state: State


class TrialRunner:
    """Trains the runs of requests, those of one program together. `seed` seeds all keys.

    metrics: kept beside those of METRICS. folder: finished chunks are kept there, and read back for
    the same request. chunk: runs of a program at most; by default as many as speed gains from and
    memory holds. Fewer runs get a narrower program. show: is called at each row with it, the number
    of runs, and their mean return.
    """

    def __init__(
        self,
        training: Training,
        space: Space,
        seed: int,
        metrics: tuple[str, ...],
        folder: pathlib.Path | None = None,
        chunk: int | None = None,
        show: Callable[[int, int, float], None] | None = None,
    ) -> None:
        self.training, self.space, self.seed, self.metrics = training, space, seed, metrics
        self.folder, self.show = folder, show
        width = chunk or (store.read_width(folder) if folder else None)
        self.executor = Executor(Config(chunk=width, narrow=True))

    def run(self, name: str, requests: Sequence[TrialRequest]) -> list[tuple[Curves, list[State]]]:
        """For each request its curves {metric: [n, m, rows]}, NaN outside its rows, and the states
        of its runs.

        name: of the folder that keeps the chunks.
        """
        runs = [run for request in requests for run in self._runs(request)]
        curves: Curves = {}
        states: list[State] = [[]] * len(runs)
        kinds = [(run.static_group, run.start_row, run.end_row) for run in runs]
        for number, kind in enumerate(dict.fromkeys(kinds)):
            places = [i for i, other in enumerate(kinds) if other == kind]
            chunks = self._run_kind(f"{name}/{number:03d}", [runs[i] for i in places])
            for (first, last), outputs in chunks.items():
                some = places[first:last]
                leaves = [x for key, x in sorted(outputs.items()) if key.startswith("state.")]
                for i, place in enumerate(some):
                    states[place] = [leaf[i] for leaf in leaves]
                for key, value in outputs.items():
                    if key.startswith("rows."):
                        blank = np.full((len(runs), self.training.evals), np.nan, np.float32)
                        whole = curves.setdefault(key.removeprefix("rows."), blank)
                        whole[some, kind[1] : kind[2]] = value
        bounds = np.cumsum([0, *(len(request.states) for request in requests)])
        return [
            (
                {
                    key: value[first:last].reshape(*request.seeds.shape, -1)
                    for key, value in curves.items()
                },
                states[first:last],
            )
            for request, first, last in zip(requests, bounds[:-1], bounds[1:], strict=True)
        ]

    def remove_states(self, name: str) -> None:
        """Remove the states kept under a name: no run continues from them."""
        for path in (self.folder / name).glob("*/*.state.npz") if self.folder else ():
            path.unlink()

    def _runs(self, request: TrialRequest) -> list[Run]:
        n, m = request.seeds.shape
        groups = [self.space.static_group(point) for point in request.points]
        return [
            Run(
                static_group=groups[i],
                point=request.points[i],
                seed=int(request.seeds[i, j]),
                start_row=int(request.start_rows[i]),
                end_row=request.end_row,
                state=request.states[i * m + j],
            )
            for i in range(n)
            for j in range(m)
        ]

    def _run_kind(self, name: str, runs: list[Run]) -> Chunks:
        """The chunks of runs that share a program, a first row and a last."""
        first = runs[0]
        setting = self.space.setting(first.point)
        static = {name: setting[name] for name in self.space.grouped if name in setting}
        training = self.space.apply(self.training, static)
        work = Work(
            len(runs),
            compile=lambda width, devices: Stepped(
                self._at, training, self._configs([first] * width), devices, keep=False
            ),
            run=functools.partial(self._train, runs),
            program_key=first.static_group,
            rows=first.end_row - first.start_row,
        )
        if self.folder is None:
            return self.executor.run(work)
        kept = TrialStore(self.folder, name, np.array([[*run.point, run.seed] for run in runs]))
        return self.executor.run(work, kept, kept.done())

    def _train(
        self,
        runs: list[Run],
        program: Stepped,
        members: np.ndarray,
        report: Callable[[float, Rows], None],
        checkpoints: Checkpoints | None,
    ) -> Outputs:
        """The rows of one chunk, and the leaves of its states where runs may continue."""
        padded = [runs[i] for i in members]
        count = int(members[-1] - members[0]) + 1
        start, end = padded[0].start_row, padded[0].end_row
        if start and not all(run.state for run in padded):
            raise ValueError(
                f"the states that these runs continue from are no longer in {self.folder}: remove "
                "it, and start the search again."
            )

        def continued(state: Any) -> Any:
            leaves, structure = jax.tree.flatten(state)
            kept = [np.stack(leaf) for leaf in zip(*(run.state for run in padded), strict=True)]
            return structure.unflatten([put(x, leaf) for x, leaf in zip(kept, leaves, strict=True)])

        def report_row(fraction: float, rows: Rows) -> None:
            report(fraction, rows)
            if self.show is not None:
                row = start + round(fraction * (end - start)) - 1
                self.show(row, count, score_of(rows))

        state, _, rows = program.run_rows(
            self._configs(padded),
            report_row,
            checkpoints,
            rows=(start, end),
            start=continued if start else None,
        )
        names = [name for name in dict.fromkeys((*METRICS, *self.metrics)) if name in rows[0]]
        outputs = {
            f"rows.{name}": np.stack([np.float32(row[name]) for row in rows], 1) for name in names
        }
        if end < self.training.evals:
            leaves = enumerate(jax.tree.leaves(state))
            outputs |= {f"state.{i:04d}": np.array(raw(leaf)) for i, leaf in leaves}
        return outputs

    def _at(self, config: dict[str, Any], training: Training) -> tuple[Training, jax.Array]:
        key = jax.random.fold_in(jax.random.key(self.seed), config["seed"])
        return tree.put(training, config["leaves"]), key

    def _configs(self, runs: list[Run]) -> dict[str, Any]:
        leaves = self.space.leaves(np.array([run.point for run in runs]))
        seeds = np.array([run.seed for run in runs])
        return {
            "leaves": {name: jnp.asarray(value) for name, value in leaves.items()},
            "seed": jnp.asarray(seeds, jnp.uint32),
        }


class TrialStore:
    """The finished chunks of one kind of run, in FOLDER/NAME; the width is kept in FOLDER.

    settings: the points and seeds of the runs [n, dims + 1]: another tuner, or another measure, may
    ask for others under the same name.
    """

    def __init__(self, folder: pathlib.Path, name: str, settings: np.ndarray) -> None:
        self.root, self.folder, self.settings = folder, folder / name, settings

    def done(self) -> Chunks:
        """The finished chunks, with their states where those are kept."""
        found: Chunks = {}
        for path in sorted(self.folder.glob("*.npz")):
            if (match := store.CHUNK_NAME.fullmatch(path.name)) is None:
                continue
            states = path.with_suffix(".state.npz")
            try:
                outputs = store.read(path) | (store.read(states) if states.exists() else {})
            except store.DAMAGE as error:
                print(f"{path} is damaged ({error}): its runs are trained again.")
                continue
            first, last = int(match[1]), int(match[2])
            if not np.array_equal(outputs.pop(SETTINGS), self.settings[first:last]):
                raise ValueError(
                    f"{path} holds runs of other settings: the tuner, its sampler or the measure "
                    "has changed since. Nothing was changed; write another folder=."
                )
            found[first, last] = outputs
        return found

    def save(self, first: int, last: int, width: int, outputs: Outputs) -> None:
        """Keep a finished chunk; its states are written first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        states = {name: x for name, x in outputs.items() if name.startswith("state.")}
        rows = {name: x for name, x in outputs.items() if name not in states}
        rows[SETTINGS] = self.settings[first:last]
        path = self.folder / f"{first:08d}-{last:08d}.npz"
        for file, parts in ((path.with_suffix(".state.npz"), states), (path, rows)):
            if parts:
                encoded = store.encode(parts)
                store.write(file, lambda opened, encoded=encoded: np.savez(opened, **encoded))  # type: ignore[arg-type]

    def checkpoints(self, first: int, last: int, width: int, seconds: float) -> Checkpoints:
        """The checkpoints of a running chunk."""
        return Checkpoints(self.folder, first, last, width, seconds)

    def note_width(self, width: int) -> None:
        """Keep the greatest width for a resumed call."""
        store.write_width(self.root, width)

    def clear_open(self, width: int) -> None:
        """Remove the checkpoints of programs of this width."""
        checkpoint.clear(self.folder, lambda first, last, other: other == width)
