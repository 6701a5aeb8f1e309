"""Bayesian optimisation with a Gaussian process, and BOHB, with kernel densities in its place."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from jaxrl.errors import check_counts
from jaxrl.ranges import check_ranges
from jaxrl.tree import leaf
from jaxrl.tuning.gaussian_process import GaussianProcess, Kernel, fit_gaussian_process, matern
from jaxrl.tuning.history import Batch, History, Tuner
from jaxrl.tuning.tuners import brackets, follow

Acquisition = Callable[[np.ndarray], np.ndarray]  # points [m, dims] -> [m], to be maximised


@dataclasses.dataclass(frozen=True)
class Bayes(Tuner):
    """Bayesian optimisation by expected improvement (Jones et al., 1998), each setting trained to
    its end.

    The `first` settings are random. Of each further `batch`, every setting has the highest expected
    improvement given that those before it score as predicted (Ginsbourger et al., 2010). limits:
    the highest final value of other metrics, such as {"cost": 25.0}: the improvement counts times
    the probability that all hold (Gardner et al., 2014). candidates: random points at which the
    acquisition is computed, before the best are refined.
    """

    batch: int = 4
    first: int = 8
    limits: Mapping[str, float] = dataclasses.field(default_factory=dict)
    kernel: Kernel = matern
    candidates: int = 512

    def __post_init__(self) -> None:
        check_counts(self, "batch", "first", "candidates")

    def metrics(self) -> tuple[str, ...]:
        return tuple(self.limits)

    def best(self, history: History) -> int:
        """The trial with the highest score among those within the limits, if any is."""
        within = np.flatnonzero((self.excess(history) <= 0).all(1))
        return int(history.ranked(within)[0]) if len(within) else history.best

    def excess(self, history: History) -> np.ndarray:
        """By how much each trial is above each limit. [trials, limits]."""
        found = [history.mean_curves(name)[:, -1] - x for name, x in self.limits.items()]
        return np.stack(found, 1) if found else np.zeros((len(history.points), 0))

    def model(self, history: History, values: np.ndarray) -> GaussianProcess:
        """The model of one value for each trial [trials]."""
        return fit_gaussian_process(history.space.encode(history.points), values, self.kernel)

    def acquisition(
        self, score: GaussianProcess, excess: list[GaussianProcess], best: float
    ) -> Acquisition:
        """What a setting is worth, from the models of the score and of the excess over each limit.

        best: the highest predicted score within the limits; -inf without one.
        """

        from scipy.special import ndtr  # here, as it takes a while to import

        def improvement(points: np.ndarray) -> np.ndarray:
            found = np.ones(len(points))
            if np.isfinite(best):
                mean, sd = score(points)
                z = (mean - best) / sd
                found = sd * (z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi))
            for each in excess:
                mean, sd = each(points)
                found = found * ndtr(-mean / sd)
            return found

        return improvement

    def ask(self, history: History) -> Batch | None:
        rng, space = history.rng(), history.space
        n = min(self.batch if len(history.points) else self.first, history.afford(history.rows))
        if n == 0:
            return None
        known = np.isfinite(history.scores)
        if not known.any():
            return Batch(rng.random((n, space.dims)), history.rows)
        scores = np.where(known, history.scores, history.scores[known].min())  # failed: the worst
        score = self.model(history, scores)
        excess = [self.model(history, _finite(each)) for each in self.excess(history).T]
        chosen: list[np.ndarray] = []
        for _ in range(n):
            within = np.ones(len(score.points), bool)
            for each in excess:
                within &= each(score.points)[0] <= 0
            best = float(score(score.points)[0][within].max(initial=-np.inf))
            acquisition = self.acquisition(score, excess, best)
            start = history.points[history.ranked(np.arange(len(history.points)))[:4]]
            point = self._maximum(rng, lambda u: acquisition(space.encode(u)), start)  # noqa: B023
            chosen.append(point)
            new = space.encode(point[None])
            score = score.given(new[0], float(score(new)[0][0]))
            excess = [each.given(new[0], float(each(new)[0][0])) for each in excess]
        return Batch(np.stack(chosen), history.rows)

    def _maximum(
        self, rng: np.random.Generator, acquisition: Acquisition, start: np.ndarray
    ) -> np.ndarray:
        """The best of random points and of points around `start`, refined by ever smaller steps."""
        points = np.concatenate([rng.random((self.candidates, start.shape[1])), start])
        for sd in (0.1, 0.03, 0.01, 0.003):
            top = points[np.argsort(-acquisition(points), kind="stable")[:4]]
            near = np.repeat(np.concatenate([top, start]), 16, 0)
            near = np.clip(near + sd * rng.standard_normal(near.shape), 0.0, 1.0)
            points = np.concatenate([top, near])
        return points[np.argmax(acquisition(points))]


def _finite(values: np.ndarray) -> np.ndarray:
    """The values, with a violation in place of those that are not finite: the largest known one, or
    a standard deviation of them where none is above 0.
    """
    known = values[np.isfinite(values)]
    spread = float(known.std()) if known.size > 1 else 1.0
    return np.where(np.isfinite(values), values, max(known.max(initial=0.0), spread, 1e-6))


@dataclasses.dataclass(frozen=True)
class BOHB(Tuner):
    """Hyperband with new settings drawn where the good are denser than the others (Falkner et al.,
    2018).

    A fraction `random` of the settings is drawn evenly. The others are the best of `candidates`
    from a kernel density of the best fraction `top` of the trials at one row, the last with enough
    of them, by the ratio to the density of the rest. rounds: times that Hyperband's brackets are
    repeated, by default as often as the budget pays for: more settings are drawn after others.
    """

    eta: float = leaf(3.0, "(1, inf)")
    rounds: int | None = None
    random: float = leaf(1 / 3, "[0, 1]")
    top: float = leaf(0.15, "(0, 1)")
    candidates: int = 64

    def __post_init__(self) -> None:
        check_counts(self, "candidates", *(["rounds"] if self.rounds is not None else []))
        check_ranges(self)

    def ask(self, history: History) -> Batch | None:
        draw = functools.partial(self._draw, history)
        return follow(history, brackets(history, self.eta, self.rounds), draw)

    def _draw(self, history: History, count: int) -> np.ndarray:
        """New settings. [count, dims]."""
        rng, sizes, least = history.rng(), history.space.sizes, history.space.dims + 1
        points = rng.random((count, history.space.dims))
        for row in np.unique(history.end_row)[::-1]:
            trials = history.ranked(np.flatnonzero(history.end_row == row))
            if len(trials) < least + 2:
                continue
            cut = max(round(self.top * len(trials)), least)
            good = history.points[trials[:cut]]
            rest = history.points[trials[min(cut, len(trials) - least) :]]
            for i in np.flatnonzero(rng.random(count) >= self.random):
                drawn = Density(good, sizes).sample(rng, self.candidates)
                ratio = Density(good, sizes)(drawn) / Density(rest, sizes)(drawn)
                points[i] = drawn[np.argmax(ratio)]
            break
        return points


@dataclasses.dataclass(frozen=True)
class Density:
    """A kernel density of points [n, dims]: normal kernels, and for a dimension without an order
    the same option with probability 0.8. sizes: the numbers of options, 0 with an order. [dims].
    """

    points: np.ndarray
    sizes: list[int]

    @property
    def widths(self) -> np.ndarray:
        """By Scott's rule. [dims]."""
        n, dims = self.points.shape
        return np.maximum(self.points.std(0) * n ** (-1.0 / (dims + 4)), 1e-2)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        found = np.ones((len(points), len(self.points)))
        for dim, (size, width) in enumerate(zip(self.sizes, self.widths, strict=True)):
            a, b = points[:, None, dim], self.points[None, :, dim]
            if size:
                same = np.minimum(a * size, size - 1).astype(int) == (b * size).astype(int)
                found *= np.where(same, 0.8, 0.2 / max(size - 1, 1))
            else:
                found *= np.exp(-0.5 * ((a - b) / width) ** 2) / width
        return found.mean(1) + 1e-300

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Points of the density, three times as wide. [count, dims]."""
        centres = self.points[rng.integers(len(self.points), size=count)]
        moved = np.clip(centres + 3.0 * self.widths * rng.standard_normal(centres.shape), 0.0, 1.0)
        anew = np.where(rng.random(centres.shape) < 0.2, rng.random(centres.shape), centres)
        return np.where(np.array(self.sizes) > 0, anew, moved)
