"""What rliable says of some scores, kept in rliable.json: `pip install rliable 'pandas<3'`, then
run this file.

rliable does not import beside pandas 3, so that its numbers are kept rather than made anew by the
tests.
"""

import importlib.metadata
import json
import pathlib

import numpy as np
from rliable import library, metrics

REPS = 20_000
THRESHOLDS = [-1.0, 0.0, 0.5, 1.0, 2.0]
AGGREGATES = {
    "iqm": metrics.aggregate_iqm,
    "mean": metrics.aggregate_mean,
    "median": metrics.aggregate_median,
    "optimality_gap": metrics.aggregate_optimality_gap,
}


def estimate(scores, statistic, method="percentile", **options):
    """A point estimate and the two ends of its interval, as lists."""
    np.random.seed(0)  # noqa: NPY002, rliable draws from the global generator
    point, ends = library.get_interval_estimates(
        {"x": scores}, statistic, method=method, reps=REPS, **options
    )
    return {
        "estimate": np.ravel(point["x"]).tolist(),
        "low": ends["x"][0].tolist(),
        "high": ends["x"][1].tolist(),
    }


def main():
    rng = np.random.default_rng(0)
    luck = rng.normal(size=(12, 6)).round(4)
    x = (luck + np.linspace(0, 1, 6)).round(4)
    y = rng.normal(size=(9, 6)).round(1)
    y[0, 0] = x[0, 0]  # a tie
    curves = (rng.normal(size=(12, 6, 4)) + np.arange(4)).round(4)
    each = lambda scores: np.array(
        [metrics.aggregate_iqm(scores[..., i]) for i in range(scores.shape[-1])]
    )
    golden = {
        "versions": {
            name: importlib.metadata.version(name) for name in ("rliable", "arch", "numpy", "scipy")
        },
        "reps": REPS,
        "thresholds": THRESHOLDS,
        "x": x.tolist(),
        "y": y.tolist(),
        "curves": curves.tolist(),
        "percentile": {
            name: estimate(x, lambda s, f=f: np.array([f(s)])) for name, f in AGGREGATES.items()
        },
        "basic": {
            name: estimate(x, lambda s, f=f: np.array([f(s)]), "basic")
            for name, f in AGGREGATES.items()
        },
        "improvement": estimate(
            (x, y), lambda a, b: np.array([metrics.probability_of_improvement(a, b)])
        ),
        "profile": estimate(x, lambda s: library.score_distributions(s, THRESHOLDS)),
        "sample_efficiency": estimate(curves, each),
    }
    pathlib.Path(__file__).with_name("rliable.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
