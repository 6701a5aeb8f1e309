"""Searches side by side: ask, train, tell, until the budgets are spent; then a test on fresh
seeds.
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
from jaxrl.devices import cache_compilations
from jaxrl.errors import as_path, check_keywords, refuse_former_names
from jaxrl.progress import Report
from jaxrl.sweep import provenance, stopping, store
from jaxrl.sweep.arrays import on_device
from jaxrl.train import Training
from jaxrl.tuning.history import Tuner
from jaxrl.tuning.result import TuningResult
from jaxrl.tuning.study import Measure, Search, Statistic, Study, final
from jaxrl.tuning.trial_runner import Curves, State, TrialRequest, TrialRunner
from jaxrl.tuning.tuners import Random

TEST = 2**31  # test seeds are counted from here, tuning seeds from 0: no search has so many
RECORD = "tuning.json"
RANDOM = Random()


@refuse_former_names
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
    diverged: bool = False,
    progress: bool | Callable[[Report], None] = True,
) -> TuningResult:
    """The best setting that a tuner finds within a budget, and its score on seeds that were not
    used to select it.

    space: ranges by the names of the training's fields, `{"lr": rl.tuning.log(1e-5, 1e-2), ...}`;
    dictionaries may be nested. budget: environment steps of tuning, including those of stopped
    settings and of greedy evaluation, but not those of the test. tuner: `Random`, `Sobol`,
    `SuccessiveHalving`, `Hyperband`, `CurveStopping`, `PBT`, `DE`, `DEHB`, `Bayes`, `BOHB`,
    `Optuna`, or another `rl.tuning.Tuner`. seeds, test_seeds: number of seeds of a setting during
    tuning, and of the best one in the test; the two sets are disjoint. metric, measure, statistic:
    the score of a setting is the `statistic` over seeds of `measure(curve of metric, steps)`, by
    default the interquartile mean of the final return; `stats.auc` scores the whole curve,
    `metric="evaluation"` the greedy policy. seed: seed of the tuner and of all keys. folder: a
    stopped search resumes from there, with the same result bit for bit. chunk: maximum number of
    runs per program. diverged: True scores a run that diverged by its curve, like any other; by
    default its score is -inf, so that it never wins.

    Raises, before anything runs:
      ValueError: a space that doesn't fit the training, a budget too small for one batch, fewer
        than two seeds, an unknown metric, a folder that holds another search, several processes.
      TypeError: a range of floats in a static field.
    """
    arguments = dict(locals())
    return repeat(**arguments, repetitions=1)[0]


def repeat(
    training: Training, space: Mapping[str, Any], *, repetitions: int, **options: Any
) -> list[TuningResult]:
    """`tune`, with the same options, several times side by side, each with its own budget, random
    numbers and tuning seeds.

    It measures how good a tuner is. The runs of one round share programs; all are tested on the
    same seeds, pair by pair.
    """
    check_keywords("repeat takes no", options, inspect.signature(tune).parameters)
    bound = inspect.signature(tune).bind(training, space, **options)
    bound.apply_defaults()
    folder, progress = bound.arguments.pop("folder"), bound.arguments.pop("progress")
    training = bound.arguments["training"] = on_device(training)
    study = Study(**bound.arguments, repetitions=repetitions)
    if jax.process_count() > 1:
        raise ValueError(
            f"a search runs in one process, but this job has {jax.process_count()}: call rl.tune "
            "without rl.distributed, or use rl.sweep, which distributes its chunks."
        )
    searches = [study.search(i) for i in range(repetitions)]
    home = None if folder is None else as_path(folder)
    record = provenance.describe(study) | {"versions": provenance.versions()}
    if not study.diverged:
        del record["diverged"]  # so that a search of an earlier version goes on
    cache_compilations()
    with stopping.handled(), _opened(home, record), live.shown(progress) as show:
        runner = TrialRunner(
            training,
            searches[0].history.space,
            study.seed,
            metrics=(study.metric, *study.tuner.metrics()),
            folder=home,
            chunk=study.chunk,
        )
        meter = None if show is None else _Meter(show, searches, runner)
        runner.show = meter
        number = 0
        while active := [search for search in searches if search.batch is not None]:
            outcome = runner.run(f"{number:04d}", [search.request() for search in active])
            runner.remove_states(f"{number - 1:04d}")
            for search, (curves, states) in zip(active, outcome, strict=True):
                search.tell(curves, states)
            number += 1
        runner.remove_states(f"{number - 1:04d}")
        seeds = TEST + np.arange(study.test_seeds)
        tests = _test(runner, [search.stages() for search in searches], seeds)
        if meter is not None:
            meter.close()
    found = [search.result(curves) for search, curves in zip(searches, tests, strict=True)]
    if home is not None:
        for i, each in enumerate(found):
            store.write_results(home / f"results_{i:03d}.nc", each.results)
    return found


@refuse_former_names
def fresh_seeds(seed: int = 0, test_seeds: int = 32) -> jax.Array:
    """The keys that `tune` tests on, to run anything else on them: `rl.sweep(training, {"seed":
    rl.tuning.fresh_seeds()})`.
    """
    ids = jnp.asarray(TEST + np.arange(test_seeds), jnp.uint32)
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(ids)


def _test(
    runner: TrialRunner, stages: list[list[tuple[np.ndarray, int]]], seeds: np.ndarray
) -> list[Curves]:
    """The curves of each search's best on these seeds: its settings one after another, as they were
    trained. {metric: [seeds, rows]}.
    """
    tested: list[Curves] = [{} for _ in stages]
    states: list[list[State]] = [[[]] * len(seeds) for _ in stages]
    rounds = max(map(len, stages))
    for number in range(rounds):
        active = [i for i, each in enumerate(stages) if number < len(each)]
        starts = [stages[i][number - 1][1] if number else 0 for i in active]
        requests = [
            TrialRequest(
                points=stages[i][number][0][None],
                seeds=seeds[None],
                start_rows=np.array([start]),
                end_row=stages[i][number][1],
                states=states[i],
            )
            for i, start in zip(active, starts, strict=True)
        ]
        outcome = runner.run(f"test-{number:04d}", requests)
        for i, start, (curves, left) in zip(active, starts, outcome, strict=True):
            states[i] = left
            for name, new in curves.items():
                before = tested[i][name][:, :start] if start else new[0, :, :0]
                tested[i][name] = np.concatenate([before, new[0, :, start:]], 1)
        runner.remove_states(f"test-{number - 1:04d}")
    runner.remove_states(f"test-{rounds - 1:04d}")
    return tested


# ------------------------------------------------------------------------------ folder and progress


@contextlib.contextmanager
def _opened(folder: pathlib.Path | None, record: dict[str, Any]) -> Iterator[None]:
    """A context that holds a folder, which is new or of this search."""
    if folder is None:
        yield
        return
    path, record = folder / RECORD, json.loads(json.dumps(record))
    if path.exists():
        if changed := provenance.differences(_read(path), record):
            listed = "\n  ".join(changed[:12])
            raise ValueError(
                f"{folder} holds another search; these fields differ:\n"
                f"  {listed}\n"
                "Nothing was changed. Write another folder=, or make them equal to resume where "
                "that one stopped."
            )
    elif folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} exists and holds no search. Nothing was changed; write another folder=."
        )
    folder.mkdir(parents=True, exist_ok=True)
    lock = store.lock(folder)
    try:
        store.remove_parts(folder)
        store.write(path, lambda file: file.write(json.dumps(record, indent=1).encode()))
        yield
    except BaseException as error:
        error.add_note(
            f"Finished work is saved in {folder}; the same search, run again, resumes from there."
        )
        raise
    finally:
        lock.release()


def _read(path: pathlib.Path) -> Any:
    """The record of a search; a ValueError where it is damaged."""
    try:
        return json.loads(store.read_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): copy it again, or write another folder=."
        ) from None


class _Meter:
    """Rows of running chunks as reports of all searches: a member is one training run, its fraction
    that of the steps.
    """

    def __init__(
        self, show: Callable[[Report], None], searches: list[Search], runner: TrialRunner
    ) -> None:
        self.show, self.searches, self.runner, self.steps = show, searches, runner, 0.0
        self.score = float("nan")
        study = searches[0].study
        self.costs = study.costs
        test = float(study.costs[-1] * study.test_seeds * len(searches))
        self.total = study.budget * len(searches) + test

    def __call__(self, row: int, runs: int, score: float) -> None:
        self.steps += float(self.costs[row + 1] - self.costs[row]) * runs
        before = sum(float(search.history.spent.sum()) for search in self.searches)
        self._report(min(max(before, self.steps), self.total), score)

    def close(self) -> None:
        """Report the end: a tuner may leave a rest of its budget that pays for no setting."""
        spent = sum(float(search.history.spent.sum()) for search in self.searches)
        tested = [search.history.end_row.max() for search in self.searches]
        count = self.searches[0].study.test_seeds
        self.total = spent + float(sum(self.costs[row] * count for row in tested))
        self._report(self.total, self.score)

    def _report(self, done: float, score: float) -> None:
        each, self.score = self.costs[-1], score
        self.show(
            Report(
                done=int(done / each + 1e-9),
                members=int(self.total / each + 1e-9),
                fraction=done / self.total,
                steps=self.steps,
                seconds=self.runner.executor.progress.seconds + 1e-9,
                done_now=min(self.steps / self.total, 1.0),
                score=score,
            )
        )
