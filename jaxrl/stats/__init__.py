"""Statistics of many seeds: interquartile means, bootstrap intervals, profiles (Agarwal et al., 2021, and rliable).

`scores` and `intervals` work on arrays and are pure JAX, a whole grid at once; `of_sweeps` gives a sweep's results names.
"""

from jaxrl.stats.comparable import check_comparable, obstacles
from jaxrl.stats.intervals import Interval, bootstrap, draw_counts, interval, paired_difference, percentile
from jaxrl.stats.of_sweeps import Results, final, num_diverged, pick, summary, table
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
    "Interval",
    "Results",
    "auc",
    "bootstrap",
    "check_comparable",
    "draw_counts",
    "final",
    "interval",
    "iqm",
    "mean",
    "median",
    "num_diverged",
    "obstacles",
    "optimality_gap",
    "paired_difference",
    "percentile",
    "performance_profile",
    "pick",
    "probability_of_improvement",
    "summary",
    "table",
    "trimmed_mean",
]
