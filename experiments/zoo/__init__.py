"""Tuned configurations of pairs of algorithm and environment, as data, with scores on 32 test
seeds.

`python -m experiments.zoo --rows "dqn CartPole-v1"` trains a row on the test seeds; `--tune` sweeps
its grid on the tuning seeds; without --rows it runs all rows that have no result yet. Each row has
a file in results/zoo/, from which the table in README.md is made.
"""

import dataclasses
from typing import Any

import envs
import jaxrl as rl


@dataclasses.dataclass(frozen=True)
class Row:
    """One algorithm on one environment, with the chosen setting and the grid of candidates.

    steps: environment steps, without evaluation. published: a score to compare with, and its
    source. target: the score that the kit should reach.
    """

    algorithm: str
    env: str
    steps: int
    setting: dict[str, Any]
    grid: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    published: str = ""
    target: float | None = None
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""

    @property
    def name(self) -> str:
        return f"{self.algorithm} {self.env}"

    @property
    def file(self) -> str:
        return self.name.replace(" ", "-").replace(":", "-") + ".json"

    def training(self, scale: float = 1.0) -> rl.Training:
        """Return the training run, with ten evaluations of ten greedy episodes at any cost."""
        env = envs.make(self.env, **self.params)
        algo = rl.PRESETS[self.algorithm](**self.setting)
        steps = max(int(self.steps * scale), 10 * algo.steps_per_update)
        return rl.Training(algo, env, steps, 10, 10, eval_share=(100 * env.max_steps + 1) / steps)
