"""Statistics over seeds: interquartile means, bootstrap intervals, performance profiles.

They follow Agarwal et al. (2021) and rliable. `scores` and `intervals` work on arrays, in pure JAX,
for a whole grid of settings at once; `of_sweeps` works on the labelled results of sweeps.
"""

from jaxrl.stats.comparable import check_comparable, mark_too_few, obstacles, too_few
from jaxrl.stats.comparisons import Comparison, compare
from jaxrl.stats.curves import (
    Cost,
    by_power_law,
    by_regression,
    isotonic,
    last_quantile,
    last_value,
    steps_to,
    stopping_cost,
)
from jaxrl.stats.draws import draw_counts
from jaxrl.stats.intervals import (
    Interval,
    bootstrap,
    difference,
    ends,
    improvement,
    interval,
    interval_of,
    paired_difference,
    percentile,
)
from jaxrl.stats.of_sweeps import (
    Results,
    estimate,
    final,
    num_diverged,
    pick,
    profile,
    summary,
    table,
)
from jaxrl.stats.power_law import Fit, PowerLaw, fit_power_law, pareto
from jaxrl.stats.sample_size import power
from jaxrl.stats.scores import (
    auc,
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    trimmed_mean,
)

__all__ = [
    "Comparison",
    "Cost",
    "Fit",
    "Interval",
    "PowerLaw",
    "Results",
    "auc",
    "bootstrap",
    "by_power_law",
    "by_regression",
    "check_comparable",
    "compare",
    "difference",
    "draw_counts",
    "ends",
    "estimate",
    "final",
    "fit_power_law",
    "improvement",
    "interval",
    "interval_of",
    "iqm",
    "isotonic",
    "last_quantile",
    "last_value",
    "mark_too_few",
    "mean",
    "median",
    "num_diverged",
    "obstacles",
    "optimality_gap",
    "paired_difference",
    "pareto",
    "percentile",
    "performance_profile",
    "pick",
    "power",
    "probability_of_improvement",
    "profile",
    "steps_to",
    "stopping_cost",
    "summary",
    "table",
    "too_few",
    "trimmed_mean",
]
