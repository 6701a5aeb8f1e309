"""Differential evolution: new settings are made of differences between old ones."""

import dataclasses

import numpy as np

from jaxrl.errors import check_counts
from jaxrl.ranges import check_ranges
from jaxrl.tree import leaf
from jaxrl.tuning.history import Batch, History, Tuner
from jaxrl.tuning.tuners import bracket, brackets, follow


@dataclasses.dataclass(frozen=True)
class DE(Tuner):
    """Differential evolution (Storn and Price, 1997): rand/1/bin, every setting trained to its end.

    Each member of the population is compared with a mutant a + factor * (b - c) of three others,
    crossed with it, and replaced where the mutant scores no worse.
    """

    population: int = 8
    factor: float = leaf(0.5, "(0, inf)")
    crossover: float = leaf(0.5, "[0, 1]")

    def __post_init__(self) -> None:
        check_counts(self, "population")
        check_ranges(self)

    def ask(self, history: History) -> Batch | None:
        n, rng = min(self.population, history.afford(history.rows)), history.rng()
        if n == 0:
            return None
        if not len(history.points):
            return Batch(rng.random((n, history.space.dims)), history.rows)
        members = _population(
            history, np.arange(len(history.points)), len(history.points[history.batch == 0])
        )[:n]
        pool = history.points[members]
        return Batch(
            mutants(rng, pool, pool, self.factor, self.crossover, apart=True), history.rows
        )


@dataclasses.dataclass(frozen=True)
class DEHB(Tuner):
    """Differential evolution on Hyperband's rungs (Awad et al., 2021).

    The first bracket is successive halving. At each rung of those after it, new settings start:
    mutants of the best of a shorter rung, crossed with the best of a rung as long. The populations
    are kept by rank; the paper keeps them place by place.
    """

    eta: float = leaf(3.0, "(1, inf)")
    factor: float = leaf(0.5, "(0, inf)")
    crossover: float = leaf(0.5, "[0, 1]")

    def __post_init__(self) -> None:
        check_ranges(self)

    def ask(self, history: History) -> Batch | None:
        made = brackets(history, self.eta)
        if not made:
            return None
        first, *others = made
        if history.num_batches < len(first):
            return follow(history, [first])
        share = history.budget / (1 + len(others))
        anew = [
            bracket(history, self.eta, cuts, share, anew=True)
            for cuts in range(len(others) - 1, -1, -1)
        ]
        steps = [rung for one in anew for rung in one]
        number = history.num_batches - len(first)
        if number >= len(steps):
            return None
        count, end_row = steps[number]
        as_long = np.flatnonzero(history.end_row == end_row)
        shorter = history.end_row[history.end_row < end_row]
        source = np.flatnonzero(history.end_row == shorter.max()) if len(shorter) else as_long
        pool = history.points[history.ranked(source)[: max(count, 4)]]
        targets = history.points[history.ranked(as_long if len(as_long) else source)]
        targets = targets[np.arange(count) % len(targets)]
        return Batch(mutants(history.rng(), pool, targets, self.factor, self.crossover), end_row)


def _population(history: History, trials: np.ndarray, size: int) -> np.ndarray:
    """The population after each trial replaced the member in its slot where it was no worse.
    [size].
    """
    members = trials[:size].copy()
    for number, trial in enumerate(trials[size:]):
        slot = number % size
        if not history.scores[trial] < history.scores[members[slot]] and not np.isnan(
            history.scores[trial]
        ):
            members[slot] = trial
    return members


def mutants(
    rng: np.random.Generator,
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
    (n, dims), min_size = targets.shape, 4 if apart else 3
    pool = np.concatenate([pool, rng.random((max(min_size - len(pool), 0), dims))])
    others = [
        np.delete(np.arange(len(pool)), i) if apart else np.arange(len(pool)) for i in range(n)
    ]
    a, b, c = pool[[rng.permutation(each)[:3] for each in others]].swapaxes(0, 1)
    mutant = np.abs((a + factor * (b - c) + 1) % 2 - 1)  # however far it went
    crossed = (rng.random((n, dims)) < crossover) | (
        np.arange(dims) == rng.integers(dims, size=(n, 1))
    )
    return np.where(crossed, mutant, targets)
