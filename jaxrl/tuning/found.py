"""What a search found: the best setting on the seeds that chose it, and on seeds that did not."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from jaxrl import stats
from jaxrl.sweep.static import replace_fields
from jaxrl.train import Training
from jaxrl.tuning.history import History


@dataclasses.dataclass(frozen=True)
class TuningResult:
    """The outcome of one search. `print` shows it.

    best: {name: value}; of a search that changed settings while they lived, those it ended with,
    and `schedule` has all. schedule: the values at each row, {name: [rows]}. tuning_score,
    test_score: the statistic of the best's scores with a bootstrap interval, over the seeds that it
    was chosen on, and over those that nobody had seen. results: the curves of everything that was
    tried, (setting, seed, step), its values as coordinates of `setting`, and its `score` with `low`
    and `high`, the step `until` which it lived, the `parent` that it lived on from (-1: none), and
    what it `spent`; as of a sweep, so that `rl.importance(found.results)` says what mattered. test:
    the best on the test seeds, (seed, step). spent, test_spent: environment steps, evaluation
    included.
    """

    training: Training
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
        """How much better the best looks on its tuning seeds than it is: what choosing among noisy
        scores adds.
        """
        return float(self.tuning_score.estimate - self.test_score.estimate)

    @property
    def tuned(self) -> Training:
        """The training with the best setting: `rl.sweep(found.tuned, {"seed": ...})`."""
        return replace_fields(self.training, self.best)

    @property
    def table(self) -> pd.DataFrame:
        """A row for each setting, the best first: its values, its score with an interval, how long
        it lived, its cost.
        """
        columns = ["score", "low", "high", "until", "parent", "spent"]
        frame = self.results[columns].drop_vars("step", errors="ignore").to_dataframe()
        order = np.lexsort((-np.nan_to_num(frame["score"], nan=-np.inf), -frame["until"]))
        return frame.iloc[order][[*self.best, *columns]]

    def __str__(self) -> str:
        told = ", ".join(f"{name}={_short(value)}" for name, value in self.best.items())
        chose, tested = self.results.sizes["seed"], self.test.sizes["seed"]
        ends = lambda score, seeds: (
            stats.too_few(seeds) or f"[{float(score.low):.5g}, {float(score.high):.5g}]"
        )
        line = lambda score, seeds: f"{float(score.estimate):.5g} {ends(score, seeds)}"
        return (
            f"best of {self.results.sizes['setting']} settings: {told}\n"
            f"on the {chose} seeds that chose it  {line(self.tuning_score, chose)}\n"
            f"on {tested} test seeds  {line(self.test_score, tested)}\n"
            f"gap {self.gap:.4g}, after {self.spent:,.0f} environment steps of tuning"
        )


def results_of(tried: History, step: np.ndarray, statistic: Any, scores: np.ndarray) -> xr.Dataset:
    """Everything that was tried: the curves, and beside each setting its values, its score with an
    interval, and its cost.

    scores: of each lane. [settings, seeds].
    """
    spread = stats.interval(scores, statistic)
    beside = {
        "score": tried.scores,
        "low": np.asarray(spread.low),
        "high": np.asarray(spread.high),
        "until": np.append(0, step)[tried.until],
        "parent": tried.parents,
        "batch": tried.batch,
        "spent": tried.spent,
    }
    curves = {name: (("setting", "seed", "step"), value) for name, value in tried.curves.items()}
    values = {name: ("setting", value) for name, value in tried.space.labels(tried.points).items()}
    return xr.Dataset(
        curves | {name: ("setting", value) for name, value in beside.items()},
        values | {"step": step},
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
