"""Differential evolution: new settings are made of differences between old ones."""

import dataclasses

import numpy as np

from jaxrl.tree import check_counts
from jaxrl.tuning.history import Batch, History
from jaxrl.tuning.tuners import bracket, brackets, follow


@dataclasses.dataclass(frozen=True)
class DE:
    """Differential evolution (Storn and Price, 1997): rand/1/bin, every setting lived to its end.

    Each member of the population is set beside a mutant a + factor * (b - c) of three others,
    crossed with it, and gives way where the mutant scores no worse.
    """

    population: int = 8
    factor: float = 0.5
    crossover: float = 0.5

    def __post_init__(self) -> None:
        check_counts(self, "population")

    def ask(self, tried: History) -> Batch | None:
        n, luck = min(self.population, tried.afford(tried.rows)), tried.luck()
        if n == 0:
            return None
        if not len(tried.points):
            return Batch(luck.random((n, tried.space.dims)), tried.rows)
        members = _standing(
            tried, np.arange(len(tried.points)), len(tried.points[tried.batch == 0])
        )[:n]
        pool = tried.points[members]
        return Batch(mutants(luck, pool, pool, self.factor, self.crossover, apart=True), tried.rows)


@dataclasses.dataclass(frozen=True)
class DEHB:
    """Differential evolution on Hyperband's rungs (Awad et al., 2021).

    The first bracket is successive halving. At each rung of those after it, new settings begin:
    mutants of the best that lived a rung shorter, crossed with the best that lived as long. The
    populations are kept by rank; the paper keeps them place by place.
    """

    eta: float = 3.0
    factor: float = 0.5
    crossover: float = 0.5

    def ask(self, tried: History) -> Batch | None:
        made = brackets(tried, self.eta)
        if not made:
            return None
        first, *others = made
        if tried.num_batches < len(first):
            return follow(tried, [first])
        share = tried.budget / (1 + len(others))
        anew = [
            bracket(tried, self.eta, cuts, share, anew=True)
            for cuts in range(len(others) - 1, -1, -1)
        ]
        steps = [rung for one in anew for rung in one]
        number = tried.num_batches - len(first)
        if number >= len(steps):
            return None
        count, until = steps[number]
        as_long, shorter = np.flatnonzero(tried.until == until), tried.until[tried.until < until]
        source = np.flatnonzero(tried.until == shorter.max()) if len(shorter) else as_long
        pool = tried.points[tried.ranked(source)[: max(count, 4)]]
        targets = tried.points[tried.ranked(as_long if len(as_long) else source)]
        targets = targets[np.arange(count) % len(targets)]
        return Batch(mutants(tried.luck(), pool, targets, self.factor, self.crossover), until)


def _standing(tried: History, trials: np.ndarray, size: int) -> np.ndarray:
    """The population that is left when each trial was set beside the member in its place, and
    stayed if no worse. [size].
    """
    members = trials[:size].copy()
    for number, trial in enumerate(trials[size:]):
        slot = number % size
        if not tried.scores[trial] < tried.scores[members[slot]] and not np.isnan(
            tried.scores[trial]
        ):
            members[slot] = trial
    return members


def mutants(
    luck: np.random.Generator,
    pool: np.ndarray,
    targets: np.ndarray,
    factor: float,
    crossover: float,
    apart: bool = False,
) -> np.ndarray:
    """A mutant of three of the pool [p, dims] crossed with each target [n, dims], folded back into
    the cube. [n, dims].

    apart: the targets are the first of the pool, and each one's three are others. A pool that is
    too small is filled up with random points.
    """
    (n, dims), least = targets.shape, 4 if apart else 3
    pool = np.concatenate([pool, luck.random((max(least - len(pool), 0), dims))])
    others = [
        np.delete(np.arange(len(pool)), i) if apart else np.arange(len(pool)) for i in range(n)
    ]
    a, b, c = pool[[luck.permutation(each)[:3] for each in others]].swapaxes(0, 1)
    mutant = np.abs((a + factor * (b - c) + 1) % 2 - 1)  # however far it went
    crossed = (luck.random((n, dims)) < crossover) | (
        np.arange(dims) == luck.integers(dims, size=(n, 1))
    )
    return np.where(crossed, mutant, targets)
