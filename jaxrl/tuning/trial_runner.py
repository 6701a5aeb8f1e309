"""Many lives at once, lived row by row, some of them lived on: what every tuner's batches run on,
kept chunk by chunk.
"""

import dataclasses
import functools
import pathlib
import shutil
import time
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import tree
from jaxrl.sweep import store
from jaxrl.sweep.checkpoint import put
from jaxrl.sweep.executor import ACCELERATOR_WIDTH, CPU_WIDTH, MEMORY_SHARE
from jaxrl.sweep.grid import raw
from jaxrl.sweep.memory import free_bytes, told
from jaxrl.sweep.program import Stepped, middle
from jaxrl.sweep.static import replace_fields
from jaxrl.train import Training
from jaxrl.tuning.space import Space

KEPT = ("return", "evaluation", "diverged")  # of the metrics of a row
ASKED = "asked"  # of a chunk's file: what settings and seeds it is of
State = list[np.ndarray]  # the leaves of one lane's learner
Curves = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Asked:
    """Settings to live until a row, in a lane for each of their seeds: lane (i, j) of n settings
    and m seeds is i * m + j.

    points: [n, dims]. seeds: whole numbers that keys are made of, [n, m]. born: the rows they begin
    at, [n]. states: of each lane, what it lives on from; empty where it begins. [n * m].
    """

    points: np.ndarray
    seeds: np.ndarray
    born: np.ndarray
    until: int
    states: list[State]


class Lane(NamedTuple):
    """One life of a setting."""

    group: tuple[int, ...]
    point: np.ndarray
    seed: int
    born: int
    until: int
    state: State


class InnerLoop:
    """InnerLoop lanes of a training, those of one program together. `luck` seeds all keys.

    folder: each finished chunk is kept there, and read back by whoever asks for the same. chunk:
    lanes of a program at most; by default as many as speed gains from and memory holds. Fewer lanes
    get a narrower program, so that those who survive do not carry the dead along.
    """

    def __init__(
        self,
        training: Training,
        space: Space,
        luck: int,
        metric: str,
        folder: pathlib.Path | None = None,
        chunk: int | None = None,
        show: Callable[[int, int, float], None] | None = None,
    ) -> None:
        self.training, self.space, self.luck, self.metric, self.folder = (
            training,
            space,
            luck,
            metric,
            folder,
        )
        self.show = show
        self.devices = jax.local_device_count()
        each = CPU_WIDTH if jax.default_backend() == "cpu" else ACCELERATOR_WIDTH
        width = chunk or (store.read_width(folder) if folder else None) or each * self.devices
        self.width = -(-width // self.devices) * self.devices
        self.compile_seconds = self.run_seconds = 0.0
        self._programs: dict[Any, Stepped] = {}

    def live(self, name: str, asked: Sequence[Asked]) -> list[tuple[Curves, list[State]]]:
        """For each that asks, its curves {metric: [n, m, rows]}, NaN but for the rows it lives, and
        its lanes' states.

        name: what the chunks are kept under.
        """
        sizes = np.cumsum([len(each.states) for each in asked])[:-1]
        lanes = [lane for each in asked for lane in self._lanes(each)]
        curves: Curves = {}
        states: list[State] = [[]] * len(lanes)
        kinds = [(lane.group, lane.born, lane.until) for lane in lanes]
        for number, kind in enumerate(dict.fromkeys(kinds)):
            chosen = [i for i, other in enumerate(kinds) if other == kind]
            width = self._width(len(chosen))
            if not all(
                self._is_kept(f"{name}/{number:03d}-{i:08d}-{width:05d}.npz")
                for i in range(0, len(chosen), width)
            ):
                width = self._program(lanes[chosen[0]], len(chosen))[
                    1
                ]  # narrower, where memory asks for it
            for first in range(0, len(chosen), width):
                some, file = (
                    chosen[first : first + width],
                    f"{name}/{number:03d}-{first:08d}-{width:05d}.npz",
                )
                which = np.array([[*lanes[i].point, lanes[i].seed] for i in some])
                outputs = self._cached(
                    file, which, functools.partial(self._run, [lanes[i] for i in some], len(chosen))
                )
                left = [value for key, value in sorted(outputs.items()) if key.startswith("state.")]
                for i, lane in enumerate(some):
                    states[lane] = [leaf[i] for leaf in left]
                for key, value in outputs.items():
                    if key.startswith("rows."):
                        blank = np.full((len(lanes), self.training.evals), np.nan, np.float32)
                        curves.setdefault(key.removeprefix("rows."), blank)[
                            some, kind[1] : kind[2]
                        ] = value
        parts = {key: np.split(value, sizes) for key, value in curves.items()}
        bounds = [0, *sizes, len(lanes)]
        return [
            (
                {key: part[k].reshape(*each.seeds.shape, -1) for key, part in parts.items()},
                states[bounds[k] : bounds[k + 1]],
            )
            for k, each in enumerate(asked)
        ]

    def _lanes(self, asked: Asked) -> list["Lane"]:
        n, m = asked.seeds.shape
        groups = [self.space.group(point) for point in asked.points]
        return [
            Lane(
                groups[i],
                asked.points[i],
                int(asked.seeds[i, j]),
                int(asked.born[i]),
                asked.until,
                asked.states[i * m + j],
            )
            for i in range(n)
            for j in range(m)
        ]

    def forget(self, name: str) -> None:
        """Removes the states that were kept under a name: nobody lives on from there."""
        for path in (self.folder / name).glob("*.state.npz") if self.folder else ():
            path.unlink()

    def _is_kept(self, name: str) -> bool:
        return self.folder is not None and (self.folder / name).exists()

    def _cached(
        self, name: str, asked: np.ndarray, make: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """What is on disk under this name, else made and written there. States are in a file beside
        it, written first.

        asked: the points and seeds of its lanes. Another tuner, or another measure, may ask for
        others under the same name.
        """
        if self.folder is None:
            return make()
        path, kept = self.folder / name, None
        beside = path.with_suffix(".state.npz")
        try:
            kept = store.read(path) | (store.read(beside) if beside.exists() else {})
        except FileNotFoundError:
            pass
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            print(f"{path} is damaged ({error}): its lives are lived again.")
        if kept is not None:
            if not np.array_equal(kept[ASKED], asked):
                raise ValueError(
                    f"{path} holds lives of other settings: the tuner, its sampler or the "
                    "measure has changed since. "
                    "Nothing was touched; write another folder=."
                )
            return kept
        path.parent.mkdir(parents=True, exist_ok=True)
        outputs = make() | {ASKED: asked}
        states = {key: value for key, value in outputs.items() if key.startswith("state.")}
        rest = {key: value for key, value in outputs.items() if key not in states}
        for file, part in ((beside, states), (path, rest)):
            if part:
                store.write(file, lambda opened, part=part: np.savez(opened, **store.encode(part)))  # type: ignore[arg-type]
        return outputs

    def _run(self, lanes: list["Lane"], of: int) -> dict[str, np.ndarray]:
        """The rows of one chunk, `of` so many lanes, and the leaves of their states where they are
        not at their ends.
        """
        if lanes[0].born and not all(lane.state for lane in lanes):
            raise ValueError(
                f"the states that these lives go on from are no longer in {self.folder}: "
                "remove it, and search anew."
            )
        program, width = self._program(lanes[0], of)
        started = time.monotonic()
        padded = lanes + [lanes[-1]] * (width - len(lanes))
        points = self._points(
            np.array([lane.point for lane in padded]), np.array([lane.seed for lane in padded])
        )
        state, rows = program.begin(points), []
        if lanes[0].born:
            leaves, structure = jax.tree.flatten(state)
            before = [np.stack(leaf) for leaf in zip(*(lane.state for lane in padded), strict=True)]
            state = structure.unflatten(
                [put(x, leaf) for x, leaf in zip(before, leaves, strict=True)]
            )
        for row in range(lanes[0].born, lanes[0].until):
            state, metrics = program.advance(points, state, jnp.int32(row))
            rows.append(
                jax.device_get(
                    {name: metrics[name] for name in dict.fromkeys((*KEPT, self.metric))}
                )
            )
            if self.show is not None:
                self.show(row, len(lanes), middle(rows[-1]["return"]))
        self.run_seconds += time.monotonic() - started
        curves = {
            f"rows.{name}": np.stack([np.float32(row[name]) for row in rows], 1) for name in rows[0]
        }
        goes_on = (
            lanes[0].until < self.training.evals
        )  # of a life that is over nobody needs the state
        leaves = {
            f"state.{i:04d}": np.array(raw(leaf))
            for i, leaf in enumerate(jax.tree.leaves(state) if goes_on else [])
        }
        return {name: value[: len(lanes)] for name, value in (curves | leaves).items()}

    def _points(self, points: np.ndarray, seeds: np.ndarray) -> dict[str, Any]:
        leaves = {name: jnp.asarray(value) for name, value in self.space.leaves(points).items()}
        return {"leaves": leaves, "seed": jnp.asarray(seeds, jnp.uint32)}

    def _width(self, lanes: int) -> int:
        """How wide the program for so many lanes is: a power of four that holds them, so that there
        are few programs.
        """
        doublings = (-(-lanes // self.devices) - 1).bit_length()
        return min(self.width, self.devices << (doublings + doublings % 2))

    def _program(self, lane: "Lane", lanes: int) -> tuple[Stepped, int]:
        """The program for so many lanes, and its width: halved as often as memory asks for it."""
        setting = self.space.setting(lane.point)
        training = replace_fields(
            self.training, {name: setting[name] for name in self.space.grouped}
        )

        def at(point: dict[str, Any]) -> tuple[Training, jax.Array]:
            return tree.put(training, point["leaves"]), jax.random.fold_in(
                jax.random.key(self.luck), point["seed"]
            )

        while True:
            width = self._width(lanes)
            if (lane.group, width) in self._programs:
                return self._programs[lane.group, width], width
            program = Stepped(
                at,
                training,
                self._points(np.tile(lane.point, (width, 1)), np.zeros(width, int)),
                self.devices,
                False,
            )
            self.compile_seconds += program.compile_seconds
            limit = MEMORY_SHARE * free_bytes()
            if program.bytes_per_device <= limit or width == self.devices:
                self._programs[lane.group, width] = program
                if self.folder is not None:
                    store.write(
                        self.folder / store.WIDTH,
                        lambda file: file.write(b'{"width": %d}' % self.width),
                    )
            else:
                self.width = max(width // 2 // self.devices, 1) * self.devices
                print(
                    f"{width} lives at once need {told(program.bytes_per_device)} of "
                    f"{told(limit)}: {self.width} then."
                )


def clear(folder: pathlib.Path) -> None:
    """Removes what a process that was killed left half written."""
    for path in folder.rglob("*.part"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
