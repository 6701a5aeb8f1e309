"""A claim of a paper as data: what is compared, with which seeds and budgets, and when it holds."""

import csv
import dataclasses
import functools
import math
import operator
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.special import betaincinv

import jaxrl as rl
from jaxrl.errors import nearest
from jaxrl.stats import Interval

FIRST_TEST_SEED = 50_000  # no trial has used these and those after them
FIRST_TRIAL_SEED = 1000
MIN_SEEDS = 64
Results = Mapping[str, Any]  # {arm: dataset}, or {name of a record: its JSON}
OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclasses.dataclass(frozen=True)
class Arm:
    """One of the methods that a claim compares.

    run: a `Training`, or a function `run(seed, **axes)` that returns a dictionary of arrays and is
      traced under vmap.
    budget: what one run may use, in environment steps or samples; by default the steps of the
      `Training`.
    tune: {name: values}, the grid from which the best setting is chosen on the tuning seeds.
    on_host: `run` is a function of plain numbers that isn't traced, and is called for each run.
    """

    run: Any
    budget: float | None = None
    tune: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    on_host: bool = False

    @property
    def samples(self) -> float:
        """The budget."""
        if self.budget is None and not isinstance(self.run, rl.Training):
            raise ValueError("An arm that is a function needs its budget: Arm(run, budget=5000).")
        return self.run.steps if self.budget is None else self.budget

    @property
    def num_settings(self) -> int:
        """The number of settings that are tuned over."""
        return math.prod(len(values) for values in self.tune.values())


class Effect(NamedTuple):
    """A measured value and the ends of its interval, in the units of the value."""

    estimate: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Check:
    """An inequality that a claim requires. It holds if the whole interval satisfies it.

    statement: what is measured, as a phrase.
    measure: a function of the results {arm: dataset} that returns a value for each seed, [seeds],
      an `Interval`, or one exact number.
    accept: "> 0", ">= 0.8", "<= 0.55", or two of them: ">= 0.93, <= 0.97".
    statistic: of the values over seeds.
    control: it is no part of the claim's statement, but of a baseline, an ablation or the validity
      of the comparison. It is required for "reproduced", and is not enough for "partly".
    """

    statement: str
    measure: Callable[[Results], Any]
    accept: str
    statistic: Callable[..., Any] = rl.stats.iqm
    control: bool = False

    def __post_init__(self) -> None:
        self.limits  # noqa: B018  raises for what can't be read

    @property
    def limits(self) -> list[tuple[str, float]]:
        """The comparisons of `accept`, as [(operator, number)]."""
        limits = []
        for part in self.accept.split(","):
            match = re.fullmatch(r"\s*(>=|<=|>|<)\s*(-?[\d.]+(?:e-?\d+)?)\s*", part)
            if match is None:
                raise ValueError(
                    f"accept={self.accept!r} is not a comparison with a number: write, for "
                    'example, "> 0" or ">= 0.93, <= 0.97".'
                )
            limits.append((match[1], float(match[2])))
        return limits

    def effect(self, results: Results) -> Effect:
        """What was measured, with its interval."""
        value = self.measure(results)
        if isinstance(value, Interval):
            return Effect(*(float(x) for x in value))
        value = np.asarray(value, float)
        if value.ndim == 0:
            return Effect(*(float(value),) * 3)
        return Effect(*(float(x) for x in rl.stats.interval(value, self.statistic)))

    def holds(self, effect: Effect) -> bool:
        """True if both ends of the interval satisfy each comparison; False for NaN."""
        return all(
            OPERATORS[sign](float(end), limit)
            for sign, limit in self.limits
            for end in (effect.low, effect.high)
        )


def beats(first: str, second: str, metric: str = "evaluation", by: float = 0.0) -> Check:
    """A check that the first arm scores higher than the second, by more than `by`: the interval of
    the difference of the interquartile means is above it.
    """

    def measure(results: Results) -> Interval:
        x, y = (scores(results[arm], metric) for arm in (first, second))
        return rl.stats.difference(x, y)

    return Check(f"{metric} of {first} less that of {second}", measure, f"> {by:g}")


def ratio(
    x: Any,
    y: Any,
    first: Callable[..., Any] = rl.stats.iqm,
    second: Callable[..., Any] = rl.stats.iqm,
) -> Interval:
    """first(x) / second(y) with its interval, where a resample has the same seeds of both. [].

    x, y: [seeds], of the same seeds.
    """
    quotient = lambda both: first(both[:, 0]) / second(both[:, 1])
    return rl.stats.interval(np.stack([x, y], 1), quotient, axis=0, tasks=1, stratified=False)


def share(hits: Any) -> Interval:
    """Share of runs with a 1, and its exact 95 % interval (Clopper and Pearson, 1934). [...].

    hits: 0 or 1, [runs, ...].
    """
    hits = np.asarray(hits, float)
    num, ones = len(hits), hits.sum(0)
    low = np.where(ones > 0, betaincinv(np.maximum(ones, 1), num - ones + 1, 0.025), 0.0)
    high = np.where(ones < num, betaincinv(ones + 1, np.maximum(num - ones, 1), 0.975), 1.0)
    return Interval(*map(jnp.asarray, (ones / num, low, high)))


def scores(dataset: Any, metric: str) -> np.ndarray:
    """The final values of a metric over all seeds. [seeds]."""
    values = dataset[metric]
    values = values.isel(step=-1) if "step" in values.dims else values
    return np.asarray(values.transpose("seed", ...).values, float)


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a paper says, so that it can turn out to be false.

    row: number of the paper in `rows.csv`. statement: one sentence. arms: {name: Arm}.
    accept: all must hold for "reproduced", at least one that is no control for "partly reproduced".
    worlds: names of the environments or families of problems.
    axes: {name: values} beside the seeds, for all arms.
    metric, minimize: what the setting of an arm is chosen by.
    seeds: their number, or the test seeds themselves. why_fewer: the reason for fewer than 64.
    tuning_seeds: on which settings are chosen.
    unmatched: differences between the arms, or from the paper, that remain, as a sentence.
    changed: what was changed after a trial or a first measurement, on other seeds.
    records: files of experiments/results that earlier studies wrote, in place of arms.
    draw: a function of the results and matplotlib Axes, for the figure.
    """

    row: int
    statement: str
    accept: Sequence[Check]
    arms: Mapping[str, Arm] = dataclasses.field(default_factory=dict)
    worlds: Sequence[str] = ()
    axes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metric: str = "evaluation"
    minimize: bool = False
    seeds: int | Sequence[int] = MIN_SEEDS
    why_fewer: str = ""
    tuning_seeds: Sequence[int] = range(8)
    unmatched: str = ""
    changed: str = ""
    records: Sequence[str] = ()
    draw: Callable[[Results, Any], None] | None = None

    @property
    def test_seeds(self) -> np.ndarray:
        """The seeds of the verdict. int [seeds]."""
        if isinstance(self.seeds, int):
            return FIRST_TEST_SEED + np.arange(self.seeds)
        return np.asarray(self.seeds)


@functools.cache
def ledger() -> dict[int, dict[str, str]]:
    """Number of each paper, with its name, title and topic."""
    with (pathlib.Path(__file__).parent / "rows.csv").open(newline="") as file:
        return {int(row["row"]): row for row in csv.DictReader(file)}


def check(claim: Claim) -> None:
    """Refuse a claim that could not be measured fairly, before anything runs.

    Raises:
      ValueError: an unknown row, no check, neither arms nor records, arms with different budgets or
        numbers of settings, test seeds that are tuning seeds or occur twice, or fewer than 64
        without a reason.
    """
    where = f"The claim on row {claim.row}"
    if claim.row not in ledger():
        near = nearest(str(claim.row), [str(row) for row in ledger()])
        raise ValueError(f"{where}: experiments/claims/rows.csv has no such row; {near}.")
    if not claim.accept:
        raise ValueError(f"{where} has nothing to check, so it can't be false: add a Check.")
    if bool(claim.arms) == bool(claim.records):
        raise ValueError(f"{where} needs either arms to run or records of an earlier study.")
    if claim.records:
        return
    budgets = {name: arm.samples for name, arm in claim.arms.items()}
    if len(set(budgets.values())) > 1:
        raise ValueError(
            f"{where} compares arms with different budgets, {budgets}: give each the same number "
            "of environment steps or samples."
        )
    settings = {name: arm.num_settings for name, arm in claim.arms.items()}
    if len(set(settings.values())) > 1:
        raise ValueError(
            f"{where} tunes its arms over different numbers of settings, {settings}: give each a "
            "grid of the same size."
        )
    seeds = claim.test_seeds.tolist()
    is_tuned = any(arm.tune for arm in claim.arms.values())
    if both := sorted(set(seeds) & set(claim.tuning_seeds)) if is_tuned else []:
        raise ValueError(
            f"{where} is tested on seeds that its arms are tuned on, {both[:5]}: a score on those "
            "is too high. Choose other seeds."
        )
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{where} has a test seed twice.")
    if len(seeds) < MIN_SEEDS and not claim.why_fewer:
        raise ValueError(
            f"{where} has {len(seeds)} test seeds: use at least {MIN_SEEDS}, or write the reason, "
            "why_fewer=..."
        )
