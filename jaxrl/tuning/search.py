"""Searches side by side: ask, live, tell, until the budgets are spent; then a test on seeds that
nobody saw.
"""

import contextlib
import inspect
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import progress as live
from jaxrl import stats
from jaxrl.progress import Report
from jaxrl.sweep import provenance, store
from jaxrl.train import Training
from jaxrl.tuning.found import TuningResult
from jaxrl.tuning.history import Tuner
from jaxrl.tuning.study import Measure, Search, Statistic, Study, final
from jaxrl.tuning.trial_runner import Asked, Curves, InnerLoop, State, clear
from jaxrl.tuning.tuners import Random

TEST = 2**31  # test seeds are counted from here, tuning seeds from 0: no search has so many
RECORD = "tuning.json"
RANDOM = Random()


def tune(
    training: Training,
    space: Mapping[str, Any],
    *,
    budget: float,
    tuner: Tuner = RANDOM,
    seeds: int = 8,
    test_seeds: int = 32,
    metric: str = "return",
    measure: Measure = final,
    statistic: Statistic = stats.iqm,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    chunk: int | None = None,
    progress: bool | Callable[[Report], None] = True,
) -> TuningResult:
    """The best setting that a tuner finds within a budget, and how good it is on seeds that it was
    not chosen on.

    space: ranges by the names of the training's fields, `{"lr": rl.tuning.log(1e-5, 1e-2), ...}`;
    dictionaries may nest. budget: environment steps of tuning, those of killed settings and of
    greedy evaluation included; the test comes on top. tuner: `Random`, `Sobol`,
    `SuccessiveHalving`, `Hyperband`, `CurveStopping`, `PBT`, `DE`, `DEHB`, `Optuna`, or any that asks.
    seeds, test_seeds: of each setting while it is tuned, and of the best one afterwards. No key is
    in both. metric, measure, statistic: a setting's score is the `statistic` over its seeds of
    `measure(curve of metric, steps)`: the
      interquartile mean of the final return; `stats.auc` for the whole curve, `metric="evaluation"`
      for greedy play.
    seed: the luck of all of it. folder: what is finished is kept there, and the same call goes on
    where it was stopped, to
      the same result bit for bit. chunk: lives at once.

    Raises, before anything runs:
      ValueError: a space that doesn't fit the training, a budget too small for one batch, fewer
        than two seeds, an unknown
        metric, a folder that holds another search.
      TypeError: a range of floats in a static field.
    """
    asked = dict(locals())
    return repeat(**asked, repetitions=1)[0]


def repeat(
    training: Training, space: Mapping[str, Any], *, repetitions: int, **options: Any
) -> list[TuningResult]:
    """`tune`, with the same options, several times side by side, each with its own budget, luck and
    tuning seeds.

    It says how good a tuner is. The lives of one round share programs; all are tested on the same
    seeds, pair by pair.
    """
    asked = inspect.signature(tune).bind(training, space, **options)
    asked.apply_defaults()
    folder, progress = asked.arguments.pop("folder"), asked.arguments.pop("progress")
    study = Study(**asked.arguments, repetitions=repetitions)
    searches = [study.search(i) for i in range(repetitions)]
    home = None if folder is None else pathlib.Path(folder).expanduser()
    with (
        _opened(home, provenance.describe(study) | {"versions": provenance.versions()}),
        _shown(progress) as show,
    ):
        lives = InnerLoop(
            training,
            searches[0].tried.space,
            study.seed,
            metric=study.metric,
            folder=home,
            chunk=study.chunk,
        )
        lives.show = None if show is None else _Meter(show, searches, lives)
        number = 0
        while active := [search for search in searches if search.asked is not None]:
            outcome = lives.live(f"{number:04d}", [search.lanes() for search in active])
            lives.forget(f"{number - 1:04d}")  # nobody lives on from there
            for search, (curves, states) in zip(active, outcome, strict=True):
                search.tell(curves, states)
            number += 1
        lives.forget(f"{number - 1:04d}")
        tests = _test(
            lives, [search.path() for search in searches], TEST + np.arange(study.test_seeds)
        )
    found = [search.found(curves) for search, curves in zip(searches, tests, strict=True)]
    for i, each in enumerate(found if home is not None else []):
        store.write_results(home / f"results_{i:03d}.nc", each.results)  # type: ignore[operator]
    return found


def fresh_seeds(seed: int = 0, test_seeds: int = 32) -> jax.Array:
    """The keys that `tune` tests on, to run anything else on them: `rl.sweep(training, {"seed":
    rl.tuning.fresh_seeds()})`.
    """
    ids = jnp.asarray(TEST + np.arange(test_seeds), jnp.uint32)
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(ids)


def _test(
    lives: InnerLoop, paths: list[list[tuple[np.ndarray, int]]], seeds: np.ndarray
) -> list[Curves]:
    """The curves of each path on these seeds: its settings one after another, as they came.

    {metric: [seeds, rows]}.
    """
    made: list[Curves] = [{} for _ in paths]
    states: list[list[State]] = [[[]] * len(seeds) for _ in paths]
    rounds = max(map(len, paths))
    for number in range(rounds):
        active = [i for i, path in enumerate(paths) if number < len(path)]
        born = [paths[i][number - 1][1] if number else 0 for i in active]
        asked = [
            Asked(
                paths[i][number][0][None],
                seeds[None],
                np.array([row]),
                paths[i][number][1],
                states[i],
            )
            for i, row in zip(active, born, strict=True)
        ]
        for i, row, (curves, left) in zip(
            active, born, lives.live(f"test-{number:04d}", asked), strict=True
        ):
            states[i] = left
            before = made[i]
            joined = (
                {
                    name: np.concatenate([before[name][:, :row], new[0, :, row:]], 1)
                    for name, new in curves.items()
                }
                if row
                else {}
            )
            made[i] = joined or {name: new[0] for name, new in curves.items()}
        lives.forget(f"test-{number - 1:04d}")
    lives.forget(f"test-{rounds - 1:04d}")
    return made


# ------------------------------------------------------------------------------ folder and progress


@contextlib.contextmanager
def _opened(folder: pathlib.Path | None, record: dict[str, Any]) -> Iterator[None]:
    """Holds a folder that is new, or of this very search, while it is worked in."""
    if folder is None:
        yield
        return
    path, record = folder / RECORD, json.loads(json.dumps(record))
    if path.exists():
        if changed := provenance.differences(json.loads(path.read_text()), record):
            listed = "\n  ".join(changed[:12])
            raise ValueError(
                f"{folder} holds another search; these fields differ:\n  {listed}\nNothing was "
                "touched. Write another "
                "folder=, or make them equal to go on where that one stopped."
            )
    elif folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} exists and holds no search. Nothing was touched; write another folder=."
        )
    folder.mkdir(parents=True, exist_ok=True)
    lock = store.lock(folder)
    try:
        clear(folder)
        store.write(path, lambda file: file.write(json.dumps(record, indent=1).encode()))
        yield
    except BaseException as error:
        error.add_note(
            f"What is finished is kept in {folder}, and the same call goes on from there."
        )
        raise
    finally:
        lock.release()


@contextlib.contextmanager
def _shown(progress: bool | Callable[[Report], None]) -> Iterator[Callable[[Report], None] | None]:
    line = live.Line() if progress is True else None
    try:
        yield line or (progress if callable(progress) else None)
    finally:
        if line is not None:
            line.close()


class _Meter:
    """What the running rows say, as reports of all searches: a member is one life, its share the
    steps spent.
    """

    def __init__(
        self, show: Callable[[Report], None], searches: list[Search], lives: InnerLoop
    ) -> None:
        self.show, self.searches, self.lives, self.fresh = show, searches, lives, 0.0
        study = searches[0].study
        self.costs, self.test = (
            study.costs,
            float(study.costs[-1] * study.test_seeds * len(searches)),
        )
        self.total = study.budget * len(searches) + self.test

    def __call__(self, row: int, lanes: int, score: float) -> None:
        self.fresh += float(self.costs[row + 1] - self.costs[row]) * lanes
        before = sum(float(search.tried.spent.sum()) for search in self.searches)
        done = min(max(before, self.fresh), self.total)
        each = self.costs[-1]
        report = (int(done / each), int(self.total / each), done / self.total, self.fresh)
        self.show(
            Report(*report, self.lives.run_seconds + 1e-9, min(self.fresh / self.total, 1.0), score)
        )
