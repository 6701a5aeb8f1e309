"""A tuned configuration for each pair of algorithm and environment, as data, and the score that it
has on 32 test seeds.

`python -m experiments.zoo --rows "dqn CartPole-v1"` trains a row on the test seeds; `--tune` sweeps
its grid on the tuning seeds; without --rows it runs every row that has no result yet. Results are
one file a row in results/zoo/, and the table in README.md is made of them.
"""

import dataclasses
from typing import Any

import envs
import jaxrl as rl


@dataclasses.dataclass(frozen=True)
class Row:
    """One algorithm on one environment: how long, the setting that was chosen and the grid that it
    was chosen from.

    published: a score to stand beside, with its source. target: ours. steps: environment steps,
    evaluation not counted.
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
        """Ten points of ten greedy episodes each, whatever they cost."""
        env = envs.make(self.env, **self.params)
        algo = rl.ALGORITHMS[self.algorithm](**self.setting)
        steps = max(int(self.steps * scale), 10 * algo.steps_per_update)
        return rl.Training(algo, env, steps, 10, 10, eval_share=(100 * env.max_steps + 1) / steps)
