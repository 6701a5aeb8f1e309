"""Optuna's samplers as tuners, in whole batches: the only module that imports optuna."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrl.errors import check_counts
from jaxrl.tuning.history import Batch, History, Tuner
from jaxrl.tuning.space import place


def tpe(seed: int) -> Any:
    """A tree-structured Parzen estimator (Bergstra et al., 2011), which assumes bad scores for the
    running settings of a batch.
    """
    return _optuna().samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def gp(seed: int) -> Any:
    """A Gaussian process with expected improvement; needs torch, which optuna does not install."""
    optuna = _optuna()
    try:
        import torch  # noqa: F401  optuna itself would miss it only after the first batch
    except ImportError as error:
        raise ImportError(
            "rl.tuning.gp needs torch: pip install torch, or write rl.tuning.tpe."
        ) from error
    return optuna.samplers.GPSampler(seed=seed)


@dataclasses.dataclass(frozen=True)
class Optuna(Tuner):
    """Bayesian optimisation by a sampler of optuna (extra `optuna`), whole batches at a time, each
    trained to its end.

    sampler: a function of a seed: `tpe`, `gp`, or your own that returns
    another one, such as `optuna.samplers.CmaEsSampler(seed=seed)`.
    """

    sampler: Callable[[int], Any] = tpe
    batch: int = 8

    def __post_init__(self) -> None:
        check_counts(self, "batch")
        if not callable(self.sampler):
            raise TypeError(
                f"sampler={self.sampler!r}: it is a function of a seed; write rl.tuning.tpe or "
                "rl.tuning.gp."
            )

    def ask(self, history: History) -> Batch | None:
        optuna = _optuna()
        n, sizes = min(self.batch, history.afford(history.rows)), history.space.sizes
        if n == 0:
            return None
        ranges = {
            str(i): optuna.distributions.CategoricalDistribution(range(size))
            if size
            else optuna.distributions.FloatDistribution(0.0, 1.0)
            for i, size in enumerate(sizes)
        }
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study = optuna.create_study(
                direction="maximize", sampler=self.sampler(int(history.rng().integers(2**31)))
            )
            known = history.scores[np.isfinite(history.scores)]
            scores = np.where(
                np.isfinite(history.scores), history.scores, known.min() if len(known) else 0.0
            )  # failed: as the worst
            for point, score in zip(history.points, scores, strict=True):
                values = {
                    str(i): place(u, size) if size else u
                    for i, (u, size) in enumerate(zip(point.tolist(), sizes, strict=True))
                }
                study.add_trial(
                    optuna.trial.create_trial(
                        params=values, distributions=ranges, value=float(score)
                    )
                )
            proposals = [study.ask(ranges).params for _ in range(n)]
        finally:
            optuna.logging.set_verbosity(verbosity)
        middle = lambda value, size: (value + 0.5) / size if size else value
        return Batch(
            np.array(
                [[middle(each[str(i)], size) for i, size in enumerate(sizes)] for each in proposals]
            ),
            history.rows,
        )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "Optuna's samplers are in an extra: pip install 'jaxrl[optuna]'."
        ) from error
    return optuna
