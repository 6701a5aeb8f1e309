"""What is asked of a search, and one search: what was tried, and what is asked for next."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxrl import stats, tree
from jaxrl.train import Training
from jaxrl.tuning.found import TuningResult, results_of
from jaxrl.tuning.history import Batch, History, Tuner
from jaxrl.tuning.space import Space, space_of
from jaxrl.tuning.trial_runner import Asked, Curves, State

Measure = Callable[[Any, Any], Any]  # (curve [..., rows], steps [rows]) -> [...]
Statistic = Callable[..., Any]


def final(curve: Any, steps: Any) -> np.ndarray:
    """The last value of a learning curve that is known. [...]."""
    known = ~np.isnan(curve)
    place = known.shape[-1] - 1 - np.argmax(known[..., ::-1], axis=-1)
    return np.take_along_axis(np.asarray(curve), place[..., None], axis=-1)[..., 0]


@dataclasses.dataclass(frozen=True)
class Study:
    """What is asked: the arguments of `tune`, and how many times."""

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

    def __post_init__(self) -> None:
        if not isinstance(self.training, Training):
            raise TypeError(
                f"{type(self.training).__name__} is no rl.Training: write rl.Training(algo, "
                "env, steps)."
            )
        if isinstance(self.tuner, type) or not hasattr(self.tuner, "ask"):
            raise TypeError(
                f"tuner={self.tuner!r} is no tuner: write one, say tuner=rl.tuning.Random()."
            )
        for name, example in {"measure": "rl.stats.auc", "statistic": "rl.stats.iqm"}.items():
            if not callable(how := getattr(self, name)):
                raise TypeError(f"{name}={how!r} is no function: write, say, {name}={example}.")
        for name in ("seeds", "test_seeds", "repetitions"):
            if not isinstance(getattr(self, name), int | np.integer):
                raise TypeError(f"{name}={getattr(self, name)!r} is a count: write a whole number.")
        if np.asarray(self.budget).dtype.kind not in "iuf" or not np.isfinite(self.budget):
            raise ValueError(
                f"budget={self.budget!r} is no number of environment steps: write, say, budget=1e6."
            )
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(
                f"chunk={self.chunk}: so many lives at once are none. Write 1 or more, or "
                "leave it out."
            )
        for name in ("seeds", "test_seeds"):
            if getattr(self, name) < 2:
                raise ValueError(
                    f"{name}={getattr(self, name)}: one seed says nothing of the luck that a "
                    "score holds. Write "
                    f"{name}=2 or, better, 8 or more."
                )
        if self.repetitions < 1:
            raise ValueError(f"repetitions={self.repetitions}: write 1 or more.")
        first_row = lambda key: self.training.advance(key, self.training.begin(key), 0)[1]
        if self.metric not in (known := jax.eval_shape(first_row, jax.random.key(0))):
            raise ValueError(
                f"the training has no metric {self.metric!r}; {tree.nearest(self.metric, known)}."
            )
        if self.metric == "evaluation" and not self.training.eval_rows[0].any():
            raise ValueError(
                f"metric='evaluation': episodes={self.training.episodes} and "
                f"eval_share={self.training.eval_share} afford "
                "no greedy evaluation. Write a larger eval_share in the rl.Training, or "
                "metric='return'."
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
        """Environment steps of one life up to each row, greedy evaluation included. [rows + 1]."""
        return np.append(0, self.steps + np.asarray(self.training.clocks["eval_step"], np.int64))

    def search(self, number: int) -> "Search":
        """One of the searches, its first batch asked for."""
        tried = History(
            self.ranges, self.costs * self.seeds, self.budget, (self.seed, number), self.metric
        )
        search = Search(self, tried, number * self.seeds + np.arange(self.seeds))
        if search.asked is None:
            one, least = self.costs[-1] * self.seeds, 16 * self.costs[-1] * self.seeds
            raise ValueError(
                f"budget={self.budget:,.0f} environment steps pay for no batch of "
                f"{type(self.tuner).__name__}: one setting "
                f"with seeds={self.seeds} takes {one:,} of them in a whole life. Write more, "
                f"say budget={least:_}."
            )
        return search

    def scores(self, curves: Curves, rows: int) -> np.ndarray:
        """The measure of each life [...] of the first `rows` of its curves [..., rows]; -inf where
        it diverged and has no value since: what it was worth before is not what it came to.
        """
        curve, diverged = curves[self.metric][..., :rows], curves["diverged"][..., :rows]
        lost = (diverged == 1).any(-1) & np.isnan(curve[..., -1])
        return np.where(lost, -np.inf, np.asarray(self.measure(curve, self.steps[:rows])))


class Search:
    """One search: what was tried, the states of those that were tried last, and the batch that is
    asked for.
    """

    def __init__(self, study: Study, tried: History, seeds: np.ndarray) -> None:
        self.study, self.tried, self.seeds = study, tried, seeds
        self.states: dict[int, list[State]] = {}
        self.asked = self._ask()

    def _ask(self) -> Batch | None:
        batch = self.study.tuner.ask(self.tried)
        if batch is not None:
            self.tried.check(batch)
        return batch

    @property
    def batch(self) -> Batch:
        """What is asked for, of a search that is not over."""
        assert self.asked is not None
        return self.asked

    def lanes(self) -> Asked:
        """The batch that is asked for, as lanes."""
        batch = self.batch
        n, m = len(batch.points), len(self.seeds)
        parents = batch.parents
        states = (
            [[]] * (n * m)
            if parents is None
            else [one for parent in parents for one in self.states[int(parent)]]
        )
        born = np.zeros(n, int) if parents is None else self.tried.until[parents]
        return Asked(batch.points, np.tile(self.seeds, (n, 1)), born, batch.until, states)

    def tell(self, curves: Curves, states: list[State]) -> None:
        """Takes in what the batch came to, and asks for the next."""
        first, m = len(self.tried.points), len(self.seeds)
        self.tried.tell(self.batch, curves, np.zeros(len(self.batch.points)))
        lived = {name: x[first:] for name, x in self.tried.curves.items()}
        scores = self.study.scores(lived, self.batch.until)
        self.tried.scores[first:] = np.asarray(self.study.statistic(jnp.asarray(scores)))
        self.states = {first + k: states[k * m : (k + 1) * m] for k in range(len(scores))}
        self.asked = self._ask()

    def path(self) -> list[tuple[np.ndarray, int]]:
        """The settings of the best from its birth on, each with the row that it lasts until."""
        trials = self.tried.lineage(self.tried.best)
        steps = [(self.tried.points[trial], int(self.tried.until[trial])) for trial in trials]
        return [
            step
            for step, after in zip(steps, [*steps[1:], None], strict=True)
            if after is None or (step[0] != after[0]).any()
        ]

    def found(self, test: Curves) -> TuningResult:
        study, tried = self.study, self.tried
        path = self.path()
        scores = np.concatenate(
            [
                study.scores({name: x[[i]] for name, x in tried.curves.items()}, n)
                for i, n in enumerate(tried.until)
            ]
        )
        results = results_of(tried, study.steps, study.statistic, scores)
        lived = np.repeat(np.arange(len(path)), np.diff([0, *(until for _, until in path)]))
        schedule = tried.space.labels([path[i][0] for i in lived])
        interval = lambda scores: stats.interval(scores, study.statistic)
        return TuningResult(
            training=study.training,
            best=tried.space.setting(path[-1][0]),
            schedule=schedule,
            tuning_score=interval(scores[tried.best]),
            test_score=interval(study.scores(test, tried.until.max())),
            results=results,
            test=xr.Dataset(
                {name: (("seed", "step"), x) for name, x in test.items()}, {"step": study.steps}
            ),
            spent=float(tried.spent.sum()),
            test_spent=float(study.costs[tried.until.max()] * study.test_seeds),
        )
