"""The trials of a search so far, and what a tuner asks for next.

A tuner is a pure function from the one to the other.
"""

import dataclasses

import numpy as np

from jaxrl.errors import not_defined, refuse_unknown_fields
from jaxrl.tuning.space import Space


@refuse_unknown_fields
@dataclasses.dataclass(frozen=True)
class Batch:
    """Settings to train until row `end_row`: points of the unit cube [n, dims].

    parents: the trial of the last batch that each of them continues, [n]; None: all start anew.
    """

    points: np.ndarray
    end_row: int
    parents: np.ndarray | None = None


@dataclasses.dataclass
class History:
    """All trials of one search, in the order in which they were asked for.

    A trial is a setting that was trained up to a row. One that continues another is a trial too,
    with that `parent`. costs: environment steps of a setting, of all its seeds, evaluation
    included, up to each row. [rows + 1]. budget: in such steps. metric: the curve that scores are
    made of. diverged: the curves of diverged runs count as they are.
    """

    space: Space
    costs: np.ndarray
    budget: float
    seed: tuple[int, ...] = (0,)
    metric: str = "return"
    diverged: bool = False
    points: np.ndarray = dataclasses.field(init=False)  # [trials, dims]
    parents: np.ndarray = dataclasses.field(init=False)  # [trials], -1 where it started anew
    end_row: np.ndarray = dataclasses.field(init=False)  # [trials]
    batch: np.ndarray = dataclasses.field(init=False)  # [trials], the number of its batch
    scores: np.ndarray = dataclasses.field(init=False)  # [trials], NaN where unknown
    curves: dict[str, np.ndarray] = dataclasses.field(
        default_factory=dict
    )  # [trials, seeds, rows], NaN from `end_row` on

    def __post_init__(self) -> None:
        self.points = np.zeros((0, self.space.dims))
        self.parents, self.end_row, self.batch = (np.zeros(0, int) for _ in range(3))
        self.scores = np.zeros(0)

    @property
    def rows(self) -> int:
        """The rows of a whole training run."""
        return len(self.costs) - 1

    @property
    def num_batches(self) -> int:
        return int(self.batch[-1]) + 1 if len(self.batch) else 0

    @property
    def last(self) -> np.ndarray:
        """The trials of the last batch."""
        return np.flatnonzero(self.batch == self.num_batches - 1)

    @property
    def spent(self) -> np.ndarray:
        """Environment steps that each trial took itself, without its parent's. [trials]."""
        return self.costs[self.end_row] - self.costs[self.start_row]

    @property
    def start_row(self) -> np.ndarray:
        """The row from which each trial was trained itself. [trials]."""
        if not len(self.end_row):
            return self.end_row
        return np.where(self.parents < 0, 0, self.end_row[self.parents])

    @property
    def left(self) -> float:
        """The rest of the budget."""
        return self.budget - float(self.spent.sum())

    def rng(self) -> np.random.Generator:
        """The random generator of the next ask: the same at each call."""
        return np.random.default_rng([*self.seed, self.num_batches])

    def cost(self, batch: Batch) -> float:
        """Environment steps that a batch takes."""
        start = 0 if batch.parents is None else self.end_row[batch.parents]
        each = self.costs[batch.end_row] - self.costs[start] + np.zeros(len(batch.points))
        return float(np.sum(each))

    def afford(self, end_row: int) -> int:
        """The number of settings that the rest of the budget can train from the start to a row."""
        return int(self.left / self.costs[end_row])

    def ranked(self, trials: np.ndarray) -> np.ndarray:
        """Trials from the best to the worst; those without a score last."""
        return trials[np.argsort(-np.nan_to_num(self.scores[trials], nan=-np.inf), kind="stable")]

    @property
    def best(self) -> int:
        """The trial with the highest score among those that were trained longest."""
        return int(self.ranked(np.flatnonzero(self.end_row == self.end_row.max()))[0])

    def mean_curves(self, metric: str = "") -> np.ndarray:
        """The metric of each trial, mean over the seeds that have it. [trials, rows].

        metric: another one that the search keeps (`Tuner.metrics`). Where no seed has it, as no
        episode ended, it is the value before, or at the start the minimum of all. That is also the
        value of a run that has diverged.
        """
        curves = self.curves[metric or self.metric]
        known = ~np.isnan(curves)
        if "diverged" in self.curves and not self.diverged:
            lost = np.maximum.accumulate(np.nan_to_num(self.curves["diverged"]), axis=-1) > 0
            sound = np.where(known & ~lost, curves, np.inf).min(initial=np.inf)
            curves = np.where(lost, sound if np.isfinite(sound) else 0.0, curves)
            known |= lost
        sums, counts = np.where(known, curves, 0.0).sum(1), known.sum(1)
        last = np.maximum.accumulate(np.where(counts > 0, np.arange(self.rows), -1), axis=1)
        means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
        lowest = np.where(known, curves, np.inf).min(initial=0.0 if not known.any() else np.inf)
        return np.where(last >= 0, np.take_along_axis(means, np.maximum(last, 0), axis=1), lowest)

    def lineage(self, trial: int) -> list[int]:
        """A trial's ancestors from the first on, and itself."""
        found = [trial]
        while self.parents[found[0]] >= 0:
            found.insert(0, int(self.parents[found[0]]))
        return found

    def check(self, batch: Batch) -> None:
        """Refuse a batch that is not possible.

        Raises:
          ValueError: points outside the unit cube, no such row, parents that are not of the last
            batch, more than is left of the budget.
        """
        inside = batch.points.ndim == 2 and batch.points.shape[1] == self.space.dims
        if not inside or not ((batch.points >= 0) & (batch.points <= 1)).all():
            raise ValueError(
                f"a tuner asked for points outside the unit cube of {self.space.dims} dimensions."
            )
        if not 1 <= batch.end_row <= self.rows:
            raise ValueError(f"a tuner asked for runs until row {batch.end_row}, of {self.rows}.")
        if batch.parents is not None:
            is_last = np.isin(batch.parents, self.last).all()
            if not is_last or not (self.end_row[batch.parents] < batch.end_row).all():
                raise ValueError(
                    "a tuner asked to continue trials that are not in the last batch, or have "
                    "ended: their states are not saved."
                )
        if self.cost(batch) > self.left * (1 + 1e-9):
            raise ValueError(
                f"a tuner asked for {self.cost(batch):,.0f} steps, and {self.left:,.0f} are left."
            )

    def tell(self, batch: Batch, curves: dict[str, np.ndarray], scores: np.ndarray) -> None:
        """Add a batch: its curves [n, seeds, rows], of which its own rows count, and its scores
        [n].
        """
        n = len(batch.points)
        parents = np.full(n, -1) if batch.parents is None else batch.parents
        for name, new in curves.items():
            before = self.curves.get(name, np.zeros((0, *new.shape[1:])))
            whole = np.where(np.arange(self.rows) < batch.end_row, new, np.nan)
            for i in np.flatnonzero(parents >= 0):
                start = self.end_row[parents[i]]
                whole[i, :, :start] = before[parents[i], :, :start]
            self.curves[name] = np.concatenate([before, whole])
        number = self.num_batches
        self.points = np.concatenate([self.points, batch.points])
        self.parents = np.concatenate([self.parents, parents])
        self.end_row = np.concatenate([self.end_row, np.full(n, batch.end_row)])
        self.batch = np.concatenate([self.batch, np.full(n, number)])
        self.scores = np.concatenate([self.scores, scores])


class Tuner:
    """A search strategy: a subclass is a frozen dataclass without state, so that a killed search
    goes on as it was.
    """

    def ask(self, history: History) -> Batch | None:
        """The next batch, a function of the history (and of `history.rng()`) alone; None when the
        search is over.

        It may cost no more than `history.left`.
        """
        raise not_defined(self, Tuner.ask)

    def metrics(self) -> tuple[str, ...]:
        """The metrics that it reads from the history beside the one that is tuned for."""
        return ()

    def best(self, history: History) -> int:
        """The trial that the search returns; by default that with the highest score."""
        return history.best
