"""Statistics over seeds: interquartile means, bootstrap intervals, performance profiles.

They follow Agarwal et al. (2021) and rliable. `scores` and `intervals` work on arrays, in pure JAX,
for a whole grid of settings at once; `of_sweeps` works on the labelled results of sweeps.
`rankings` and `tournaments` rank agents over tasks, `elo` and `win_rates` players by their games,
`controlled` estimates means with less variance, and `laws` fits laws of several forms.
"""

from jaxrl.stats.comparable import check_comparable, mark_too_few, obstacles, too_few
from jaxrl.stats.comparisons import Comparison, compare
from jaxrl.stats.controlled import controlled, regress, stratified, weighted
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
from jaxrl.stats.elo import elo, elo_update, expected_score
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
from jaxrl.stats.laws import FORMS, Form, Law, checklist, fit_law
from jaxrl.stats.of_sweeps import (
    Results,
    binned,
    estimate,
    final,
    final_of_sound,
    has_diverged,
    num_diverged,
    pick,
    profile,
    ranking,
    summary,
    table,
)
from jaxrl.stats.power_law import Fit, PowerLaw, fit_power_law, pareto
from jaxrl.stats.rankings import Ranking, kendall, rank
from jaxrl.stats.replicates import check_replicates, key_ids, key_name, replicate_ids
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
from jaxrl.stats.slopes import slope
from jaxrl.stats.tournaments import (
    ActiveRanking,
    active_rank,
    knockout,
    knockout_bound,
    swiss,
)
from jaxrl.stats.win_rates import wilson, win_rates

__all__ = [
    "FORMS",
    "ActiveRanking",
    "Comparison",
    "Cost",
    "Fit",
    "Form",
    "Interval",
    "Law",
    "PowerLaw",
    "Ranking",
    "Results",
    "active_rank",
    "auc",
    "binned",
    "bootstrap",
    "by_power_law",
    "by_regression",
    "check_comparable",
    "check_replicates",
    "checklist",
    "compare",
    "controlled",
    "difference",
    "draw_counts",
    "elo",
    "elo_update",
    "ends",
    "estimate",
    "expected_score",
    "final",
    "final_of_sound",
    "fit_law",
    "fit_power_law",
    "has_diverged",
    "improvement",
    "interval",
    "interval_of",
    "iqm",
    "isotonic",
    "kendall",
    "key_ids",
    "key_name",
    "knockout",
    "knockout_bound",
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
    "rank",
    "ranking",
    "regress",
    "replicate_ids",
    "slope",
    "steps_to",
    "stopping_cost",
    "stratified",
    "summary",
    "swiss",
    "table",
    "too_few",
    "trimmed_mean",
    "weighted",
    "wilson",
    "win_rates",
]
