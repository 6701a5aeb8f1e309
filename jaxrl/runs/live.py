"""Live logging of a sweep: functions for `rl.sweep(..., progress=function)`.

    rl.sweep(training, over, progress=(True, rl.live.TensorBoard("logs")))

Both log statistics over the runs of each setting (all labels but the seed), so that a thousand
seeds become a few curves. `rl.export(folder, to="tensorboard")` or `to="wandb"` writes one log for
each run after the sweep.
"""

import importlib
import os
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxrl.errors import as_path, check_count
from jaxrl.progress import Line, Report
from jaxrl.runs.export import PACKAGES, Names, text_of
from jaxrl.sweep.program import middle

__all__ = ["Line", "TensorBoard", "Wandb"]

Statistic = Callable[[np.ndarray], Any]
STATISTICS: dict[str, Statistic] = {  # of the values that are finite, never none
    "iqm": middle,
    "mean": np.mean,
    "q10": lambda values: np.quantile(values, 0.1),
    "q90": lambda values: np.quantile(values, 0.9),
}


class Summaries:
    """Statistics of each setting at each evaluation point, over the runs that have reached it.

    metrics: names of the metrics to log, by default all that are one number per run. max_settings:
    maximum number of settings; of more, only the first are logged, and a note is printed once.
    """

    def __init__(self, metrics: Sequence[str] | None = None, max_settings: int = 50) -> None:
        if isinstance(metrics, str):
            raise TypeError(f"metrics={metrics!r} is a text: write metrics=[{metrics!r}].")
        check_count("max_settings", max_settings)
        self.metrics = None if metrics is None else set(metrics)
        self.max_settings = max_settings
        self._known: dict[str, dict[int, dict[str, np.ndarray]]] = {}  # setting, step, metric
        self._left_out = False

    def add(self, report: Report) -> Iterator[tuple[str, int, bool, dict[str, float]]]:
        """Setting, step, True where the step was reached by other members before, and statistics
        by name, "return/iqm", of each setting that the report has members of.

        `members` is how many they are of.
        """
        if not report.metrics:
            return
        size = len(next(iter(report.metrics.values())))
        axes = [name for name in report.labels if name != "seed"]
        groups: dict[str, list[int]] = {}
        for i in range(size):
            labels = {name: report.labels[name][i].item() for name in axes}
            groups.setdefault(text_of(labels) or "all", []).append(i)
        for setting, members in groups.items():
            if setting in self._known or self._has_room():
                again, values = self._append(setting, report, members)
                yield setting, report.step, again, _statistics(values)

    def _has_room(self) -> bool:
        room = len(self._known) < self.max_settings
        if not room and not self._left_out:
            self._left_out = True
            print(
                f"live logs have the first {self.max_settings} settings only: write "
                "max_settings= for more."
            )
        return room

    def _append(
        self, setting: str, report: Report, members: list[int]
    ) -> tuple[bool, dict[str, np.ndarray]]:
        steps = self._known.setdefault(setting, {})
        again = report.step in steps
        row = steps.setdefault(report.step, {})
        for name, values in report.metrics.items():
            if values.ndim == 1 and (self.metrics is None or name in self.metrics):
                row[name] = np.append(row.get(name, values[:0]), values[members])
        return again, row


def _statistics(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    found: dict[str, float] = {"members": max((len(x) for x in metrics.values()), default=0)}
    for name, values in metrics.items():
        finite = values[np.isfinite(values)]
        if values.dtype == bool:
            found[f"{name}/mean"] = float(values.mean())
        elif len(finite):
            numbers = finite.astype(float)
            found |= {f"{name}/{key}": float(of(numbers)) for key, of in STATISTICS.items()}
    return found


class TensorBoard:
    """Logs live statistics to TensorBoard, one log per setting: DIRECTORY/lr=0.001.

    At each evaluation point, over the runs of this call that have reached it, it logs the
    interquartile mean, mean, and 10 % and 90 % quantiles of each metric ("return/iqm",
    "return/mean", "return/q10", "return/q90"), and the number of runs, `members`. A setting with
    seeds in several chunks is logged again, with all of them, as each chunk runs.

    metrics: names of the metrics to log, such as ("return", "loss"); by default all. max_settings:
    maximum number of settings; of more, only the first are logged.

    Raises:
      ImportError: tensorboardX is not installed.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        metrics: Sequence[str] | None = None,
        *,
        max_settings: int = 50,
    ) -> None:
        self._library = _library("tensorboard", "TensorBoard")
        self.directory = as_path(directory, "directory")
        self._summaries = Summaries(metrics, max_settings)
        self._writers: dict[str, Any] = {}
        self._names = Names()  # of the directories
        self._last: dict[str, int] = {}  # step of each setting
        self._num_files = 0

    def __call__(self, report: Report) -> None:
        for setting, step, _, values in self._summaries.add(report):
            writer = self._writer(setting, step)
            for name, value in values.items():
                writer.add_scalar(name, value, step)
            writer.flush()
            self._last[setting] = step
        if report.done == report.members:
            self.close()

    def _writer(self, setting: str, step: int) -> Any:
        """The writer of a setting; a new one, which replaces what was written from this step on,
        where the steps begin again.
        """
        if setting not in self._writers or step <= self._last[setting]:
            if setting in self._writers:
                self._writers.pop(setting).close()
            self._num_files += 1  # files of one second would have one name
            self._writers[setting] = self._library.SummaryWriter(
                logdir=str(self.directory / self._names.of(setting, setting)),
                purge_step=step,
                filename_suffix=f".{self._num_files:06d}",
            )
        return self._writers[setting]

    def close(self) -> None:
        """Close the files. A finished sweep does so."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


class Wandb:
    """Logs live statistics to Weights & Biases, one run for each sweep.

    The names are those of `TensorBoard` after the setting, "lr=0.001/return/iqm", against
    `environment_steps`. The curve of a setting shows its runs in the first chunk that has any; as
    later chunks run, the W&B summary has the statistics of all runs so far.

    project: name of the W&B project. metrics, max_settings: as in `TensorBoard`. options: arguments
    of `wandb.init`, such as group="tuning", mode="offline".

    Raises:
      ImportError: wandb is not installed.
    """

    def __init__(
        self,
        project: str = "jaxrl",
        metrics: Sequence[str] | None = None,
        *,
        max_settings: int = 50,
        **options: Any,
    ) -> None:
        self._wandb: Any = _library("wandb", "Wandb")
        self._options = {"project": project, **options}
        self._summaries = Summaries(metrics, max_settings)
        self._run: Any = self._start()

    def _start(self) -> Any:
        run = self._wandb.init(**self._options)
        run.define_metric("*", step_metric="environment_steps")
        return run

    def __call__(self, report: Report) -> None:
        if self._run is None:  # of another sweep after a finished one, as rl.extend has
            self._run = self._start()
        curve: dict[str, float] = {}
        for setting, _, again, values in self._summaries.add(report):
            named = {f"{setting}/{name}": value for name, value in values.items()}
            if again:
                self._run.summary.update(named)
            else:
                curve |= named
        if curve:
            self._run.log(curve | {"environment_steps": report.step})
        if report.done == report.members:
            self.close()

    def close(self) -> None:
        """Finish the run. A finished sweep does so."""
        if self._run is not None:
            self._run.finish()
        self._run = None


def _library(extra: str, user: str) -> types.ModuleType:
    package = PACKAGES[extra]
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ImportError(f'rl.live.{user} needs {package}: pip install "jaxrl[{extra}]"') from None
