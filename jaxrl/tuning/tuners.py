"""Tuners: the next batch, as pure functions of a search's history."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from jaxrl.errors import check_counts, refuse_unknown_fields
from jaxrl.ranges import check_ranges
from jaxrl.tree import leaf
from jaxrl.tuning.history import Batch, History, Tuner

Bracket = list[tuple[int, int]]  # (number of settings, end row) of each rung


@dataclasses.dataclass(frozen=True)
class Random(Tuner):
    """Random search: settings drawn evenly from the space, each trained to its end (Bergstra and
    Bengio, 2012).
    """

    batch: int = 16

    def __post_init__(self) -> None:
        check_counts(self, "batch")

    def ask(self, history: History) -> Batch | None:
        n = min(self.batch, history.afford(history.rows))
        return Batch(history.rng().random((n, history.space.dims)), history.rows) if n else None


@dataclasses.dataclass(frozen=True)
class Sobol(Tuner):
    """A scrambled Sobol sequence: as random search, but each draw fills the gaps between earlier
    ones.
    """

    batch: int = 16

    def __post_init__(self) -> None:
        check_counts(self, "batch")

    def ask(self, history: History) -> Batch | None:
        from scipy.stats import qmc  # here, as it takes a while to import

        n, first = min(self.batch, history.afford(history.rows)), len(history.points)
        sequence = qmc.Sobol(history.space.dims, rng=np.random.default_rng(history.seed))
        drawn = sequence.random_base2(max(first + n - 1, 1).bit_length())
        return Batch(drawn[first : first + n], history.rows) if n else None


@dataclasses.dataclass(frozen=True)
class SuccessiveHalving(Tuner):
    """Many settings are trained briefly, the best of them longer, the fewest to the end (Jamieson
    and Talwalkar, 2016).

    At each rung one in `eta` is kept and trained on. The rungs are rows of the training, each eta
    times as far as the one before, the last at the end. As many settings start as the budget pays
    for. rungs: how many, by default as many as the rows allow.
    """

    eta: float = leaf(3.0, "(1, inf)")
    rungs: int | None = None

    def __post_init__(self) -> None:
        check_ranges(self)

    def ask(self, history: History) -> Batch | None:
        most = _most_cuts(history.rows, self.eta)
        if self.rungs is not None:
            if not 1 <= self.rungs <= most + 1:
                raise ValueError(
                    f"rungs={self.rungs}: {history.rows} rows allow 1 to {most + 1} with "
                    f"eta={self.eta:g}."
                )
            most = self.rungs - 1
        return follow(history, [bracket(history, self.eta, most, history.budget)])


@dataclasses.dataclass(frozen=True)
class Hyperband(Tuner):
    """Successive halving with a first rung that is early, later, ..., none, the budget shared
    evenly (Li et al., 2018).
    """

    eta: float = leaf(3.0, "(1, inf)")

    def __post_init__(self) -> None:
        check_ranges(self)

    def ask(self, history: History) -> Batch | None:
        return follow(history, brackets(history, self.eta))


def brackets(history: History, eta: float, rounds: int | None = 1) -> list[Bracket]:
    """Hyperband's brackets, from the most cuts to none, an equal share of the budget each.

    rounds: times that all are repeated, each narrower; None: as often as the budget pays for the
    narrowest, of which each takes as many whole runs as there are brackets.
    """
    num = _most_cuts(history.rows, eta) + 1
    if rounds is None:
        rounds = max(int(history.budget / (num**2 * history.costs[-1])), 1)
    share = history.budget / num / rounds
    made = [bracket(history, eta, cuts, share) for cuts in range(num - 1, -1, -1)]
    return [each for each in made if each] * rounds


def _most_cuts(rows: int, eta: float) -> int:
    if not eta > 1:
        raise ValueError(
            f"eta={eta}: one in eta is kept at a rung, so write 2, 3 or another number above 1."
        )
    return int(math.log(rows) / math.log(eta) + 1e-9)


def bracket(history: History, eta: float, cuts: int, budget: float, anew: bool = False) -> Bracket:
    """The rungs of one bracket with so many cuts, as wide as a budget in steps pays for; none where
    it pays for no setting.

    anew: each rung's settings start anew, rather than continue.
    """
    ends = sorted({max(round(history.rows * eta**-k), 1) for k in range(cuts + 1)})
    prices = history.costs[ends] if anew else np.diff(history.costs[[0, *ends]])
    counts = lambda n: [max(int(n * eta**-k + 1e-9), 1) for k in range(len(ends))]
    n = int(budget / prices[0])  # an upper bound
    while n and np.dot(counts(n), prices) > budget:
        n -= 1
    return list(zip(counts(n), ends, strict=True)) if n else []


def follow(
    history: History,
    brackets: list[Bracket],
    draw: Callable[[int], np.ndarray] | None = None,
) -> Batch | None:
    """The next rung of these brackets: new settings at the first of each, the best of the last
    batch at the others.

    draw: makes a number of new settings [n, dims]; by default evenly from the space.
    """
    steps = [(rung, *each) for one in brackets for rung, each in enumerate(one)]
    if history.num_batches == len(steps):
        return None
    rung, count, end_row = steps[history.num_batches]
    if rung == 0:
        drawn = draw(count) if draw else history.rng().random((count, history.space.dims))
        return Batch(drawn, end_row)
    best = np.sort(history.ranked(history.last)[:count])
    return Batch(history.points[best], end_row, best)


@refuse_unknown_fields
@dataclasses.dataclass(frozen=True)
class PBT(Tuner):
    """Population based training (Jaderberg et al., 2017): settings change during training.

    As many members start as the budget pays for to the end. After every `rows` rows the worst
    members, a fraction `truncation` of all, copy the states of members drawn from the best as many,
    with their settings, of which each number moves by up to `move` of its range, or with
    probability `renew` is drawn anew. Copies keep what shapes the program. The whole population
    stays in one program.
    """

    rows: int = 1
    truncation: float = leaf(0.25, "[0, 0.5]")
    move: float = leaf(0.2, "[0, inf)")
    renew: float = leaf(0.25, "[0, 1]")

    def __post_init__(self) -> None:
        check_counts(self, "rows")
        check_ranges(self)

    def ask(self, history: History) -> Batch | None:
        rng = history.rng()
        if not len(history.points):
            n = history.afford(history.rows)
            if n == 0:
                return None
            return Batch(rng.random((n, history.space.dims)), min(self.rows, history.rows))
        row = int(history.end_row[history.last[0]])
        if row == history.rows:
            return None
        ranked, parents = history.ranked(history.last), history.last.copy()
        count = int(self.truncation * len(parents))
        replaced = np.isin(parents, ranked[len(ranked) - count :])
        if count:
            parents[replaced] = rng.choice(ranked[:count], replaced.sum())
        points = history.points[parents]
        moved = np.clip(points + self.move * rng.uniform(-1, 1, points.shape), 0, 1)
        moved = np.where(rng.random(points.shape) < self.renew, rng.random(points.shape), moved)
        points = np.where(replaced[:, None] & history.space.free, moved, points)
        return Batch(points, min(row + self.rows, history.rows), parents)
