"""Everything that needs an accelerator, in order of worth: `python -m experiments.accelerator
--minutes 12`.

It may be stopped anywhere. Each part that is done is added to `results/accelerator_runs.json` at
once, the page and the picture after each stage; the same command goes on with the parts that its
device lacks. A part starts if it is expected to end in time, from the time of the part before. On a
CPU the sizes are those of a test ("toy"), unless --full is given. `--list` shows the stages and
their time.
"""

import dataclasses
import datetime
import json
import pathlib
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import tyro

import jaxrl as rl
from experiments._accelerator_pages import as_json, page, part_name, picture, summary
from experiments._accelerator_stages import (
    STAGES,
    Context,
    Measured,
    NotHereError,
    OutOfTimeError,
    Part,
    Stage,
    missing,
)
from jaxrl import accelerator
from jaxrl.errors import nearest
from jaxrl.sweep import files, provenance

Row = dict[str, Any]
NAME = "accelerator_runs"
TOY_SECONDS = 10.0  # a guess of one part's time at toy size
LOT_SECONDS = 45.0  # the least that is worth compiling a training run for that goes on
MAX_REASON = 300  # letters of an error
PEAK = "peak_bytes_in_use"


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: what is measured, and for how long."""

    minutes: float = 12.0
    stages: tuple[str, ...] = tuple(STAGES)
    """stages to run, in this order"""
    toy: bool = False
    """sizes of a test, the default on a CPU"""
    full: bool = False
    """full sizes on a CPU, too, where they take hours"""
    list: bool = False
    """only show the stages, their parts, and the minutes that they are expected to take"""
    again: bool = False
    """also repeat parts that are in the record, including those that failed"""
    target: str = ""
    """description of the device for the lower bounds: a name of `accelerator.target_names()` or a
    TOML file (default: that of its kind)
    """
    runs: pathlib.Path = pathlib.Path("runs/accelerator")
    """folder of the training runs that another call goes on with"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"

    def __post_init__(self) -> None:
        if self.toy and self.full:
            raise ValueError("--toy and --full exclude each other: leave one of them out.")
        for name in self.stages:
            if name not in STAGES:
                raise ValueError(f"There is no stage {name!r}; {nearest(name, list(STAGES))}.")

    @property
    def size(self) -> str:
        """ "full" or "toy"."""
        small = self.toy or (jax.default_backend() == "cpu" and not self.full)
        return "toy" if small else "full"

    @property
    def record(self) -> pathlib.Path:
        return self.folder / f"{NAME}.json"


def device() -> str:
    """The kind of the devices, with their number if there are several."""
    kind, count = jax.local_devices()[0].device_kind, jax.local_device_count()
    return kind if count == 1 else f"{count} x {kind}"


# ------------------------------------------------------------------------------------- the record


def read(path: pathlib.Path) -> list[Row]:
    return json.loads(files.read_text(path)) if path.exists() else []


def identity(row: Row) -> tuple[Any, ...]:
    """What a record has one row of: a part of a stage on a device."""
    part = json.dumps(row["part"], sort_keys=True)
    return row["device"], row["size"], row["stage"], part


def put(path: pathlib.Path, row: Row) -> None:
    """Add a row to a record, in place of an earlier one of the same part."""
    rows = [each for each in read(path) if identity(each) != identity(row)]
    text = as_json([*rows, row])
    files.write(path, lambda file: file.write(text.encode()))


def write_page(config: Config) -> None:
    rows = read(config.record)
    (config.folder / f"{NAME}.md").write_text(page(rows))
    picture(rows).savefig(config.folder / f"{NAME}.png", dpi=110)


# --------------------------------------------------------------------------------------- the parts


@dataclasses.dataclass(frozen=True)
class Place:
    """The parts of one stage on this device, and what its record has of them."""

    config: Config
    name: str
    stage: Stage

    def row(self, part: Part) -> Row:
        """The fields of a part's row that are known before it runs."""
        return {
            "device": device(),
            "size": self.config.size,
            "stage": self.name,
            "part": part,
            "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "jax": jax.__version__,
            "commit": provenance.commit(),
        }

    @property
    def rows(self) -> list[Row]:
        """Rows of this stage with measurements, in the order in which they were measured."""
        here = (device(), self.config.size, self.name)
        rows = [row for row in read(self.config.record) if identity(row)[:3] == here]
        return [row for row in rows if "skipped" not in row]

    @property
    def todo(self) -> list[Part]:
        """Parts that the record lacks; all with --again."""
        parts = self.stage.parts(self.config.size)
        done = [] if self.config.again else [row["part"] for row in self.rows]
        return [part for part in parts if part not in done]

    def expected(self, part: Part) -> float:
        """Seconds that a part is expected to take, from the last one measured."""
        before = [row for row in self.rows if "run_seconds" in row]
        if not before:
            return self.stage.seconds if self.config.size == "full" else TOY_SECONDS
        last = before[-1]
        more = self.stage.amount(part) / self.stage.amount(last["part"])
        return last["seconds"] + last["run_seconds"] * (more - 1.0)


def attempt(place: Place, context: Context, part: Part) -> Measured:
    """Measurements of a part; or why there are none, in one sentence: `not_yet` if the time is too
    short, `skipped` if this machine lacks what it needs, `error` if it failed.
    """
    stage, started = place.stage, time.monotonic()
    need = min(place.expected(part), LOT_SECONDS if stage.goes_on else float("inf"))
    if reason := missing(part):
        return {"skipped": reason}
    if need > context.left():
        return {"not_yet": f"left out, as it takes about {need / 60.0:.1f} minutes"}
    try:
        found = stage.measure(context, **part)
    except OutOfTimeError:
        where = "its checkpoint" if stage.goes_on else "its start"
        return {"not_yet": f"out of time; another call goes on from {where}"}
    except (NotHereError, ImportError) as error:
        return {"skipped": str(error)}
    except Exception as error:  # of any kind: the other parts don't need this one
        return {"error": sentence(error)}
    found = {name: _rounded(value) for name, value in found.items()}
    found["seconds"] = round(time.monotonic() - started, 3)
    peak = peak_bytes()
    return found | ({"peak_gb": round(peak / 1e9, 3)} if peak else {})


def peak_bytes() -> int:
    """Peak memory of the device in this process so far; 0 of a CPU, which does not count it."""
    first = jax.local_devices()[0]
    return 0 if first.platform == "cpu" else (first.memory_stats() or {}).get(PEAK, 0)


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def sentence(error: Exception) -> str:
    """Kind of an error and its first line."""
    lines = str(error).strip().splitlines() or ["without a reason"]
    return f"{type(error).__name__}: {lines[0][:MAX_REASON]}"


# -------------------------------------------------------------------------------------- all stages


def run(config: Config, now: Callable[[], float] = time.monotonic) -> None:
    """Run the stages of a configuration until its minutes are over, and write what they find."""
    end = now() + 60.0 * config.minutes
    left = lambda: end - now()
    target = (
        accelerator.target(config.target) if config.target else accelerator.target_of(kind_here())
    )
    context = Context(left, config.runs / re.sub(r"\W+", "-", device()) / config.size, target)
    for name in config.stages:
        place, changed = Place(config, name, STAGES[name]), False
        for part in place.todo:
            title = f"[{left() / 60.0:.1f} minutes left] {name}: {part_name(part)}"
            found = attempt(place, context, part)
            if "not_yet" not in found:
                put(config.record, place.row(part) | found)
                changed = True
            reasons = (found.get(kind) for kind in ("not_yet", "skipped", "error"))
            say(f"{title}: {next(filter(None, reasons), None) or summary(place.stage, found)}")
            if place.stage.ascending and {"not_yet", "error"} & set(found):
                break
        if changed:
            write_page(config)
    first = dataclasses.replace(config, again=False)
    rest = sum(len(Place(first, name, STAGES[name]).todo) for name in config.stages)
    say(f"{rest} parts are left; the same command goes on with them." if rest else "All is done.")


def kind_here() -> str:
    return jax.local_devices()[0].device_kind


def listed(config: Config) -> str:
    """Table of the stages, their missing parts, and the minutes that these are expected to take."""
    lines = [f"{device()}, {config.size} sizes"]
    total = 0.0
    for name in config.stages:
        place = Place(config, name, STAGES[name])
        minutes = sum(map(place.expected, place.todo)) / 60.0
        total += minutes
        parts = f"{len(place.todo)} of {len(place.stage.parts(config.size))} parts"
        lines.append(f"{name:10} {parts:>14} {minutes:6.1f} minutes  {place.stage.title}")
    return "\n".join([*lines, f"{'all':25} {total:6.1f} minutes"])


def say(text: str) -> None:
    print(text, flush=True)


def main(config: Config) -> None:
    """Measure on the device at hand what an accelerator is needed for."""
    rl.use_all_cores()
    if config.list:
        print(listed(config))
        return
    config.folder.mkdir(parents=True, exist_ok=True)
    if config.size == "toy":
        say("Toy sizes: this shows that the script works, and measures nothing.")
    run(config)


if __name__ == "__main__":
    main(tyro.cli(Config))
