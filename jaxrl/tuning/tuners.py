"""Tuners: what to try next, as pure functions of what was tried."""

import dataclasses
import math

import numpy as np

from jaxrl.tree import check_counts
from jaxrl.tuning.history import Batch, History

Bracket = list[tuple[int, int]]  # (how many settings, until which row) of each rung


@dataclasses.dataclass(frozen=True)
class Random:
    """Random search: settings drawn evenly from the space, each lived to its end (Bergstra and
    Bengio, 2012).
    """

    batch: int = 16

    def __post_init__(self) -> None:
        check_counts(self, "batch")

    def ask(self, tried: History) -> Batch | None:
        n = min(self.batch, tried.afford(tried.rows))
        return Batch(tried.luck().random((n, tried.space.dims)), tried.rows) if n else None


@dataclasses.dataclass(frozen=True)
class Sobol:
    """A scrambled Sobol sequence: as random search, but each draw fills the gaps that those before
    it left.
    """

    batch: int = 16

    def __post_init__(self) -> None:
        check_counts(self, "batch")

    def ask(self, tried: History) -> Batch | None:
        from scipy.stats import qmc  # here, as it takes a while to import

        n, first = min(self.batch, tried.afford(tried.rows)), len(tried.points)
        sequence = qmc.Sobol(tried.space.dims, rng=np.random.default_rng(tried.seed))
        drawn = sequence.random_base2(max(first + n - 1, 1).bit_length())
        return Batch(drawn[first : first + n], tried.rows) if n else None


@dataclasses.dataclass(frozen=True)
class SuccessiveHalving:
    """Many settings live shortly, the best of them longer, the fewest to the end (Jamieson and
    Talwalkar, 2016).

    At each rung one in `eta` survives and lives on from where it stands. The rungs are rows of the
    training, each eta times as far as the one before, the last at the end. As many settings begin
    as the budget pays for. rungs: how many, by default as many as the rows allow.
    """

    eta: float = 3.0
    rungs: int | None = None

    def ask(self, tried: History) -> Batch | None:
        most = _most_cuts(tried.rows, self.eta)
        if self.rungs is not None:
            if not 1 <= self.rungs <= most + 1:
                raise ValueError(
                    f"rungs={self.rungs}: {tried.rows} rows allow 1 to {most + 1} with "
                    f"eta={self.eta:g}."
                )
            most = self.rungs - 1
        return follow(tried, [bracket(tried, self.eta, most, tried.budget)])


@dataclasses.dataclass(frozen=True)
class Hyperband:
    """Successive halving with a first rung that is early, later, ..., none, the budget shared
    evenly (Li et al., 2018).
    """

    eta: float = 3.0

    def ask(self, tried: History) -> Batch | None:
        return follow(tried, brackets(tried, self.eta))


def brackets(tried: History, eta: float) -> list[Bracket]:
    """Hyperband's brackets, from the most cuts to none, an equal share of the budget each."""
    most = _most_cuts(tried.rows, eta)
    made = [bracket(tried, eta, cuts, tried.budget / (most + 1)) for cuts in range(most, -1, -1)]
    return [each for each in made if each]


def _most_cuts(rows: int, eta: float) -> int:
    if not eta > 1:
        raise ValueError(
            f"eta={eta}: one in eta survives a rung, so write 2, 3 or another number above 1."
        )
    return int(math.log(rows) / math.log(eta) + 1e-9)


def bracket(tried: History, eta: float, cuts: int, budget: float, anew: bool = False) -> Bracket:
    """The rungs of one bracket with so many cuts, as wide as a budget in steps pays for; none where
    that is no setting.

    anew: each rung's settings begin anew, rather than live on.
    """
    ends = sorted({max(round(tried.rows * eta**-k), 1) for k in range(cuts + 1)})
    prices = tried.costs[ends] if anew else np.diff(tried.costs[[0, *ends]])
    counts = lambda n: [max(int(n * eta**-k + 1e-9), 1) for k in range(len(ends))]
    n = int(budget / prices[0])  # an upper bound
    while n and np.dot(counts(n), prices) > budget:
        n -= 1
    return list(zip(counts(n), ends, strict=True)) if n else []


def follow(tried: History, brackets: list[Bracket]) -> Batch | None:
    """The next rung of these brackets: new settings at the first of each, survivors of the last
    batch at the others.
    """
    steps = [(rung, *each) for one in brackets for rung, each in enumerate(one)]
    if tried.num_batches == len(steps):
        return None
    rung, count, until = steps[tried.num_batches]
    if rung == 0:
        return Batch(tried.luck().random((count, tried.space.dims)), until)
    best = np.sort(tried.ranked(tried.last)[:count])
    return Batch(tried.points[best], until, best)


@dataclasses.dataclass(frozen=True)
class PBT:
    """Population based training (Jaderberg et al., 2017): settings change while they are lived.

    So many begin as the budget pays for to the end. After every `rows` rows the worst `share` copy
    the learners of members drawn from the best `share`, with their settings, of which each number
    moves by up to `move` of its range, or with probability `renew` is drawn anew. Copies keep what
    shapes the program. The whole population stays in one program.
    """

    rows: int = 1
    share: float = 0.25
    move: float = 0.2
    renew: float = 0.25

    def __post_init__(self) -> None:
        check_counts(self, "rows")
        if not 0 <= self.share <= 0.5:
            raise ValueError(
                f"PBT(share={self.share}): the worst can't be more than half, write a share "
                "from 0 to 0.5."
            )

    def ask(self, tried: History) -> Batch | None:
        luck = tried.luck()
        if not len(tried.points):
            n = tried.afford(tried.rows)
            return (
                Batch(luck.random((n, tried.space.dims)), min(self.rows, tried.rows)) if n else None
            )
        lived = int(tried.until[tried.last[0]])
        if lived == tried.rows:
            return None
        ranked, parents = tried.ranked(tried.last), tried.last.copy()
        some = int(self.share * len(parents))
        losers = np.isin(parents, ranked[len(ranked) - some :])
        parents[losers] = luck.choice(ranked[:some], losers.sum()) if some else parents[losers]
        points = tried.points[parents]
        moved = np.clip(points + self.move * luck.uniform(-1, 1, points.shape), 0, 1)
        moved = np.where(luck.random(points.shape) < self.renew, luck.random(points.shape), moved)
        points = np.where(losers[:, None] & tried.space.free, moved, points)
        return Batch(points, min(lived + self.rows, tried.rows), parents)
