"""Stopping settings early by their learning curves."""

import dataclasses

import numpy as np

from jaxrl.errors import check_counts
from jaxrl.ranges import check_ranges
from jaxrl.stats.curves import Predictor, last_quantile
from jaxrl.tree import leaf
from jaxrl.tuning.history import Batch, History, Tuner


@dataclasses.dataclass(frozen=True)
class CurveStopping(Tuner):
    """Random search that stops a setting once its learning curve is predicted to end too low (after
    Domhan et al., 2015).

    The `first` settings are trained to the end. Of each further `batch`, those that the predictor
    puts above the `quantile` of the final scores so far go on at each of `checks`, fractions of a
    run. What stopping saves pays for further settings. predictor: from the start of curves, the
    steps, and whole curves to final scores: `rl.stats.last_quantile`, `rl.stats.by_power_law`, ...
    A setting's curve is the mean over its seeds.
    """

    predictor: Predictor = last_quantile
    checks: tuple[float, ...] = (0.25, 0.5)
    first: int = 4
    batch: int = 8
    quantile: float = leaf(0.75, "[0, 1]")

    def __post_init__(self) -> None:
        check_counts(self, "first", "batch")
        check_ranges(self)
        if not all(0 < fraction <= 1 for fraction in self.checks):
            raise ValueError(
                f"CurveStopping(checks={self.checks}): they are fractions of a run: write "
                "(0.25, 0.5)."
            )

    def ask(self, history: History) -> Batch | None:
        rows = history.rows
        ends = sorted({*(max(round(fraction * rows), 1) for fraction in self.checks), rows})
        if not len(history.points):
            return self._new_settings(history, self.first, rows)
        row = int(history.end_row[history.last[0]])
        if row < rows:
            end_row = next(end for end in ends if end > row)
            affordable = int(history.left / (history.costs[end_row] - history.costs[row]))
            going = self._promising(history, row)[:affordable]
            if len(going):
                return Batch(history.points[going], end_row, going)
        return self._new_settings(history, self.batch, ends[0])

    def _new_settings(self, history: History, max_count: int, end_row: int) -> Batch | None:
        n = min(max_count, history.afford(end_row))
        if not n or not history.afford(history.rows):
            return None
        return Batch(history.rng().random((n, history.space.dims)), end_row)

    def _promising(self, history: History, row: int) -> np.ndarray:
        """The trials of the last batch that are predicted to end high enough, the highest first."""
        curves = history.mean_curves()
        finished = curves[history.end_row == history.rows]
        predicted = self.predictor(curves[history.last, :row], history.costs[1:], finished)
        threshold = np.quantile(finished[:, -1], self.quantile)
        order = np.argsort(-predicted, kind="stable")
        return history.last[order[predicted[order] >= threshold]]
