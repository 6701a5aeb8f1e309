"""The arguments of a search, and the state of one: its history and its next batch."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import stats
from jaxrl.errors import check_count, check_switch, is_count, nearest
from jaxrl.keys import check_keys
from jaxrl.lazy import xarray as xr
from jaxrl.train import Training
from jaxrl.tuning.history import Batch, History, Tuner
from jaxrl.tuning.result import TuningResult, results_of
from jaxrl.tuning.space import Space, space_of
from jaxrl.tuning.trial_runner import Curves, State, TrialRequest

Measure = Callable[[Any, Any], Any]  # (curve [..., rows], steps [rows]) -> [...]
Statistic = Callable[..., Any]


def final(curve: Any, steps: Any) -> np.ndarray:
    """The last known value of a learning curve. [...]."""
    known = ~np.isnan(curve)
    place = known.shape[-1] - 1 - np.argmax(known[..., ::-1], axis=-1)
    return np.take_along_axis(np.asarray(curve), place[..., None], axis=-1)[..., 0]


@dataclasses.dataclass(frozen=True)
class Study:
    """The arguments of `tune`, and how many times."""

    training: Training
    space: Mapping[str, Any]
    budget: float
    tuner: Tuner
    seeds: int
    test_seeds: int
    metric: str
    measure: Measure
    statistic: Statistic
    seed: int
    chunk: int | None
    repetitions: int
    diverged: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.training, Training):
            raise TypeError(
                f"{type(self.training).__name__} is not an rl.Training: write "
                "rl.Training(algo, env, steps)."
            )
        if not isinstance(self.tuner, Tuner):
            raise TypeError(
                f"tuner={self.tuner!r} is not a tuner: write one, such as "
                "tuner=rl.tuning.Random(), or a subclass of rl.tuning.Tuner."
            )
        for name, example in {"measure": "rl.stats.auc", "statistic": "rl.stats.iqm"}.items():
            if not callable(how := vars(self)[name]):
                raise TypeError(f"{name}={how!r} is not a function: write {name}={example}.")
        for name in ("seeds", "test_seeds", "repetitions"):
            if not is_count(vars(self)[name], min_value=-(2**63)):
                raise TypeError(f"{name}={vars(self)[name]!r} is a count: write a whole number.")
        if not is_count(self.seed, min_value=0):
            raise ValueError(f"seed={self.seed!r} is not a whole number: write seed=0 or more.")
        check_switch("diverged", self.diverged)
        if np.asarray(self.budget).dtype.kind not in "iuf" or not np.isfinite(self.budget):
            raise ValueError(
                f"budget={self.budget!r} is not a number of environment steps: write budget=1e6."
            )
        if self.chunk is not None:
            check_count("chunk", self.chunk)
        for name in ("seeds", "test_seeds"):
            if vars(self)[name] < 2:
                raise ValueError(
                    f"{name}={vars(self)[name]}: one seed does not show how much a score varies "
                    f"by chance. Write {name}=2 or, better, 8 or more."
                )
        if self.repetitions < 1:
            raise ValueError(f"repetitions={self.repetitions}: write 1 or more.")
        check_keys()
        first_row = lambda key: self.training.masked_row(key, self.training.init(key), 0)[1]
        known = jax.eval_shape(first_row, jax.random.key(0)).values
        for metric in (self.metric, *self.tuner.metrics()):
            if metric not in known:
                raise ValueError(
                    f"the training has no metric {metric!r}; {nearest(metric, known)}."
                )
        if self.metric == "evaluation" and not self.training.eval_rows[0].any():
            raise ValueError(
                f"metric='evaluation': episodes={self.training.episodes} and "
                f"eval_share={self.training.eval_share} allow no greedy evaluation. Write a "
                "larger eval_share in the rl.Training, or metric='return'."
            )

    @functools.cached_property
    def ranges(self) -> Space:
        """The space, checked against the training."""
        return space_of(self.training, self.space)

    @property
    def steps(self) -> np.ndarray:
        """Environment steps of learning up to each row. [rows]."""
        return np.asarray(self.training.clocks["step"], np.int64)

    @property
    def costs(self) -> np.ndarray:
        """Environment steps of one run up to each row, greedy evaluation included. [rows + 1]."""
        return np.append(0, self.steps + np.asarray(self.training.clocks["eval_step"], np.int64))

    def search(self, number: int) -> Search:
        """One of the searches, with its first batch."""
        history = History(
            self.ranges,
            self.costs * self.seeds,
            self.budget,
            (self.seed, number),
            self.metric,
            self.diverged,
        )
        search = Search(self, history, number * self.seeds + np.arange(self.seeds))
        if search.batch is None:
            one = self.costs[-1] * self.seeds
            raise ValueError(
                f"budget={self.budget:,.0f} environment steps pay for no batch of "
                f"{type(self.tuner).__name__}: one setting with seeds={self.seeds} takes {one:,} "
                f"of them for a whole run. Write more, such as budget={16 * one:_}."
            )
        return search

    def scores(self, curves: Curves, rows: int) -> np.ndarray:
        """The measure of each run [...] of the first `rows` of its curves [..., rows].

        -inf where it diverged: the returns of a policy of NaN may be high. With `diverged` only
        where it has no value since, as its earlier value does not count.
        """
        curve, diverged = curves[self.metric][..., :rows], curves["diverged"][..., :rows]
        lost = (diverged == 1).any(-1)
        if self.diverged:
            lost &= np.isnan(curve[..., -1])
        return np.where(lost, -np.inf, np.asarray(self.measure(curve, self.steps[:rows])))


class Search:
    """One search. history: its trials. batch: the next one, None when it is over. states: of the
    runs of the last batch.
    """

    def __init__(self, study: Study, history: History, seeds: np.ndarray) -> None:
        self.study, self.history, self.seeds = study, history, seeds
        self.states: dict[int, list[State]] = {}
        self.batch = self._ask()

    def _ask(self) -> Batch | None:
        batch = self.study.tuner.ask(self.history)
        if batch is not None:
            self.history.check(batch)
        return batch

    def _next(self) -> Batch:
        assert self.batch is not None
        return self.batch

    def request(self) -> TrialRequest:
        """The runs of the next batch."""
        batch = self._next()
        n, m = len(batch.points), len(self.seeds)
        states: list[State] = [[]] * (n * m)
        start_rows = np.zeros(n, int)
        if batch.parents is not None:
            states = [state for parent in batch.parents for state in self.states[int(parent)]]
            start_rows = self.history.end_row[batch.parents]
        seeds = np.tile(self.seeds, (n, 1))
        return TrialRequest(batch.points, seeds, start_rows, batch.end_row, states)

    def tell(self, curves: Curves, states: list[State]) -> None:
        """Add the outcome of the batch, and ask for the next."""
        batch = self._next()
        first, m = len(self.history.points), len(self.seeds)
        self.history.tell(batch, curves, np.zeros(len(batch.points)))
        whole = {name: x[first:] for name, x in self.history.curves.items()}
        scores = self.study.scores(whole, batch.end_row)
        self.history.scores[first:] = np.asarray(self.study.statistic(jnp.asarray(scores)))
        self.states = {first + k: states[k * m : (k + 1) * m] for k in range(len(scores))}
        self.batch = self._ask()

    def stages(self) -> list[tuple[np.ndarray, int]]:
        """The settings of the best from its first row on, each with its last row."""
        trials = self.history.lineage(self.study.tuner.best(self.history))
        stages = [
            (self.history.points[trial], int(self.history.end_row[trial])) for trial in trials
        ]
        return [
            stage
            for stage, after in zip(stages, [*stages[1:], None], strict=True)
            if after is None or (stage[0] != after[0]).any()
        ]

    def result(self, test: Curves) -> TuningResult:
        """The outcome, given the curves of the best on the test seeds."""
        study, history = self.study, self.history
        stages = self.stages()
        scores = np.concatenate(
            [
                study.scores({name: x[[i]] for name, x in history.curves.items()}, n)
                for i, n in enumerate(history.end_row)
            ]
        )
        results = results_of(history, study.steps, study.statistic, scores)
        rows = np.diff([0, *(end_row for _, end_row in stages)])
        schedule = history.space.labels(
            [stages[i][0] for i in np.repeat(np.arange(len(stages)), rows)]
        )
        interval = lambda scores: stats.interval(scores, study.statistic)
        last_row = history.end_row.max()
        return TuningResult(
            training=study.training,
            space=history.space,
            best=history.space.setting(stages[-1][0]),
            schedule=schedule,
            tuning_score=interval(scores[study.tuner.best(history)]),
            test_score=interval(study.scores(test, last_row)),
            results=results,
            test=xr.Dataset(
                {name: (("seed", "step"), x) for name, x in test.items()}, {"step": study.steps}
            ),
            spent=float(history.spent.sum()),
            test_spent=float(study.costs[last_row] * study.test_seeds),
        )
