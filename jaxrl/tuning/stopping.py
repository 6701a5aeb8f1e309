"""Stopping early those whose learning curves promise too little."""

import dataclasses

import numpy as np

from jaxrl.stats.curves import Predictor, last_quantile
from jaxrl.tree import check_counts
from jaxrl.tuning.history import Batch, History


@dataclasses.dataclass(frozen=True)
class CurveStopping:
    """Random search that stops a setting once its learning curve is foretold to end too low (after
    Domhan et al., 2015).

    The `first` settings live to the end. Of each further `batch`, those whom the predictor sees
    above the `quantile` of the final scores so far go on at each of `checks`, shares of a life.
    What stopping saves pays for further settings. predictor: from the start of curves, the steps,
    and whole curves to final scores: `rl.stats.last_quantile`, `rl.stats.by_power_law`, ... A
    setting's curve is the mean over its seeds.
    """

    predictor: Predictor = last_quantile
    checks: tuple[float, ...] = (0.25, 0.5)
    first: int = 4
    batch: int = 8
    quantile: float = 0.75

    def __post_init__(self) -> None:
        check_counts(self, "first", "batch")
        if not all(0 < share <= 1 for share in self.checks):
            raise ValueError(
                f"CurveStopping(checks={self.checks}): they are shares of a life; write, say, "
                "(0.25, 0.5)."
            )

    def ask(self, tried: History) -> Batch | None:
        ends = sorted({*(max(round(share * tried.rows), 1) for share in self.checks), tried.rows})
        if not len(tried.points):
            return self._born(tried, self.first, tried.rows)
        lived = int(tried.until[tried.last[0]])
        if lived < tried.rows:
            until = next(end for end in ends if end > lived)
            going = self._promising(tried, lived)[
                : int(tried.left / (tried.costs[until] - tried.costs[lived]))
            ]
            if len(going):
                return Batch(tried.points[going], until, going)
        return self._born(tried, self.batch, ends[0])

    def _born(self, tried: History, most: int, until: int) -> Batch | None:
        n = min(most, tried.afford(until))
        return (
            Batch(tried.luck().random((n, tried.space.dims)), until)
            if n and tried.afford(tried.rows)
            else None
        )

    def _promising(self, tried: History, lived: int) -> np.ndarray:
        """Who of the last batch is foretold to end high enough, the most promising first."""
        curves = tried.mean_curves()
        finished = curves[tried.until == tried.rows]
        foretold = self.predictor(curves[tried.last, :lived], tried.costs[1:], finished)
        bar = np.quantile(finished[:, -1], self.quantile)
        order = np.argsort(-foretold, kind="stable")
        return tried.last[order[foretold[order] >= bar]]
