"""What was tried, and what a tuner asks for next.

A tuner is a pure function from the one to the other.
"""

import dataclasses
from typing import Protocol

import numpy as np

from jaxrl.tuning.space import Space


@dataclasses.dataclass(frozen=True)
class Batch:
    """Settings to live until row `until`: points of the unit cube [n, dims].

    parents: the trial of the last batch whose lives each of them lives on, [n]; None: all are born
    anew.
    """

    points: np.ndarray
    until: int
    parents: np.ndarray | None = None


@dataclasses.dataclass
class History:
    """All trials of one search, in the order in which they were asked for.

    A trial is a setting that lived up to a row. One that lives on from another is a trial of its
    own, with that `parent`. costs: environment steps of a setting, of all its seeds, evaluation
    included, up to each row. [rows + 1]. budget: in such steps. metric: the curve that scores are
    made of.
    """

    space: Space
    costs: np.ndarray
    budget: float
    seed: tuple[int, ...] = (0,)
    metric: str = "return"
    points: np.ndarray = dataclasses.field(init=False)  # [trials, dims]
    parents: np.ndarray = dataclasses.field(init=False)  # [trials], -1 where born
    until: np.ndarray = dataclasses.field(init=False)  # [trials], rows lived in all
    batch: np.ndarray = dataclasses.field(init=False)  # [trials], which ask it came from
    scores: np.ndarray = dataclasses.field(init=False)  # [trials], NaN where nothing is known
    curves: dict[str, np.ndarray] = dataclasses.field(
        default_factory=dict
    )  # [trials, seeds, rows], NaN beyond `until`

    def __post_init__(self) -> None:
        self.points = np.zeros((0, self.space.dims))
        self.parents, self.until, self.batch = (np.zeros(0, int) for _ in range(3))
        self.scores = np.zeros(0)

    @property
    def rows(self) -> int:
        """How long a whole life is."""
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
        """Environment steps that each trial took itself, its parent's left out. [trials]."""
        return self.costs[self.until] - self.costs[self.born]

    @property
    def born(self) -> np.ndarray:
        """The row from which each trial lived itself. [trials]."""
        return (
            np.where(self.parents < 0, 0, self.until[self.parents])
            if len(self.until)
            else self.until
        )

    @property
    def left(self) -> float:
        return self.budget - float(self.spent.sum())

    def luck(self) -> np.random.Generator:
        """The random numbers of the next ask: the same ones each time that it is asked."""
        return np.random.default_rng([*self.seed, self.num_batches])

    def cost(self, batch: Batch) -> float:
        """Environment steps that a batch takes."""
        born = 0 if batch.parents is None else self.until[batch.parents]
        return float(
            np.sum(self.costs[batch.until] - self.costs[born] + np.zeros(len(batch.points)))
        )

    def afford(self, until: int) -> int:
        """How many settings can be born and live until a row, with what is left."""
        return int(self.left / self.costs[until])

    def ranked(self, trials: np.ndarray) -> np.ndarray:
        """Trials from the best to the worst; those without a score last."""
        return trials[np.argsort(-np.nan_to_num(self.scores[trials], nan=-np.inf), kind="stable")]

    @property
    def best(self) -> int:
        """The trial with the highest score among those that lived longest."""
        return int(self.ranked(np.flatnonzero(self.until == self.until.max()))[0])

    def mean_curves(self) -> np.ndarray:
        """The metric of each trial, mean over the seeds that know it. [trials, rows].

        Where nobody knows it, as no episode ended, it is what it was before, or at the start the
        least of all.
        """
        curves = self.curves[self.metric]
        known = ~np.isnan(curves)
        sums, counts = np.where(known, curves, 0.0).sum(1), known.sum(1)
        last = np.maximum.accumulate(np.where(counts > 0, np.arange(self.rows), -1), axis=1)
        means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
        least = np.where(known, curves, np.inf).min(initial=0.0 if not known.any() else np.inf)
        return np.where(last >= 0, np.take_along_axis(means, np.maximum(last, 0), axis=1), least)

    def lineage(self, trial: int) -> list[int]:
        """A trial's ancestors from the first on, and itself."""
        found = [trial]
        while self.parents[found[0]] >= 0:
            found.insert(0, int(self.parents[found[0]]))
        return found

    def check(self, batch: Batch) -> None:
        """Refuses what no tuner may ask for.

        Raises:
          ValueError: points outside the unit cube, no such row, parents that are not of the last
            batch, more than is left.
        """
        inside = batch.points.ndim == 2 and batch.points.shape[1] == self.space.dims
        if not inside or not ((batch.points >= 0) & (batch.points <= 1)).all():
            raise ValueError(
                f"a tuner asked for points outside the unit cube of {self.space.dims} dimensions."
            )
        if not 1 <= batch.until <= self.rows:
            raise ValueError(f"a tuner asked for lives until row {batch.until}, of {self.rows}.")
        if batch.parents is not None and not (
            np.isin(batch.parents, self.last).all()
            and (self.until[batch.parents] < batch.until).all()
        ):
            raise ValueError(
                "a tuner asked to live on what is not of the last batch, or is over: that is "
                "not kept."
            )
        if self.cost(batch) > self.left * (1 + 1e-9):
            raise ValueError(
                f"a tuner asked for {self.cost(batch):,.0f} steps, and {self.left:,.0f} are left."
            )

    def tell(self, batch: Batch, curves: dict[str, np.ndarray], scores: np.ndarray) -> None:
        """Adds a batch: its curves [n, seeds, rows], of which its own rows count, and its scores
        [n].
        """
        n = len(batch.points)
        parents = np.full(n, -1) if batch.parents is None else batch.parents
        for name, new in curves.items():
            before = self.curves.get(name, np.zeros((0, *new.shape[1:])))
            whole = np.where(np.arange(self.rows) < batch.until, new, np.nan)
            for i in np.flatnonzero(parents >= 0):
                whole[i, :, : self.until[parents[i]]] = before[
                    parents[i], :, : self.until[parents[i]]
                ]
            self.curves[name] = np.concatenate([before, whole])
        number = self.num_batches
        self.points = np.concatenate([self.points, batch.points])
        self.parents = np.concatenate([self.parents, parents])
        self.until = np.concatenate([self.until, np.full(n, batch.until)])
        self.batch = np.concatenate([self.batch, np.full(n, number)])
        self.scores = np.concatenate([self.scores, scores])


class Tuner(Protocol):
    """What searches: a frozen dataclass without a state of its own, so that a search that was
    killed goes on as it was.
    """

    def ask(self, tried: History) -> Batch | None:
        """The next batch, a function of what was tried (and of `tried.luck()`) alone; None when the
        search is over.

        It may cost no more than `tried.left`.
        """
        ...
