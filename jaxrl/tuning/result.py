"""The outcome of a search: the best setting on its tuning seeds, and on fresh ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxrl import stats
from jaxrl.lazy import pandas as pd
from jaxrl.lazy import xarray as xr
from jaxrl.train import Training
from jaxrl.tuning.history import History
from jaxrl.tuning.space import Space


@dataclasses.dataclass(frozen=True)
class TuningResult:
    """The outcome of one search. `print` shows it.

    best: {name: value}; of a search that changes settings during training, the last ones, and
    `schedule` has all. schedule: the values at each row, {name: [rows]}. tuning_score, test_score:
    the statistic of the best's scores with a bootstrap interval, over the seeds that it was chosen
    on, and over fresh ones. results: the curves of all trials, (setting, seed, step), their values
    as coordinates of `setting`, and of each its `score` with `low` and `high`, the step `until`
    which it was trained, the `parent` that it continues (-1: none), and what it `spent`; as of a
    sweep, so that `rl.importance(result.results)` ranks the hyperparameters. test: the best on the
    test seeds, (seed, step). spent, test_spent: environment steps, evaluation included.
    """

    training: Training
    space: Space
    best: dict[str, Any]
    schedule: dict[str, np.ndarray]
    tuning_score: stats.Interval
    test_score: stats.Interval
    results: xr.Dataset
    test: xr.Dataset
    spent: float
    test_spent: float

    @property
    def gap(self) -> float:
        """The tuning score minus the test score: the bias of choosing among noisy scores."""
        return float(self.tuning_score.estimate - self.test_score.estimate)

    @property
    def tuned(self) -> Training:
        """The training with the best setting: `rl.sweep(result.tuned, {"seed": ...})`."""
        return self.space.apply(self.training, self.best)

    @property
    def table(self) -> pd.DataFrame:
        """A row for each setting, the best first: its values, its score with an interval, the step
        until which it was trained, its cost.
        """
        columns = ["score", "low", "high", "until", "parent", "spent"]
        frame = self.results[columns].drop_vars("step", errors="ignore").to_dataframe()
        order = np.lexsort((-np.nan_to_num(frame["score"], nan=-np.inf), -frame["until"]))
        return frame.iloc[order][[*self.best, *columns]]

    def __str__(self) -> str:
        values = ", ".join(f"{name}={_short(value)}" for name, value in self.best.items())
        chose, tested = self.results.sizes["seed"], self.test.sizes["seed"]
        ends = lambda score, seeds: (
            stats.too_few(seeds) or f"[{float(score.low):.5g}, {float(score.high):.5g}]"
        )
        line = lambda score, seeds: f"{float(score.estimate):.5g} {ends(score, seeds)}"
        lost = "" if np.isfinite(self.tuning_score.estimate) else " (all diverged)"
        return (
            f"best of {self.results.sizes['setting']} settings{lost}: {values}\n"
            f"on the {chose} seeds that chose it  {line(self.tuning_score, chose)}\n"
            f"on {tested} test seeds  {line(self.test_score, tested)}\n"
            f"gap {self.gap:.4g}, after {self.spent:,.0f} environment steps of tuning"
        )


def results_of(
    history: History, step: np.ndarray, statistic: Any, scores: np.ndarray
) -> xr.Dataset:
    """The curves of all trials, and of each its values, its score with an interval, and its cost.

    scores: of each run. [trials, seeds].
    """
    interval = stats.interval(scores, statistic)
    of_setting = {
        "score": history.scores,
        "low": np.asarray(interval.low),
        "high": np.asarray(interval.high),
        "until": np.append(0, step)[history.end_row],
        "parent": history.parents,
        "batch": history.batch,
        "spent": history.spent,
    }
    curves = {name: (("setting", "seed", "step"), value) for name, value in history.curves.items()}
    labels = history.space.labels(history.points).items()
    values = {name: ("setting", value) for name, value in labels}
    return xr.Dataset(
        curves | {name: ("setting", value) for name, value in of_setting.items()},
        values | {"step": step},
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
