"""Reports: one self-contained HTML page on one or more finished sweeps."""

import itertools
import os
import pathlib

from jaxrl import stats
from jaxrl.errors import as_path
from jaxrl.report import page
from jaxrl.report.study import Study, read
from jaxrl.runs import catalogue
from jaxrl.sweep import store


def report(
    *folders: str | os.PathLike[str],
    out: str | os.PathLike[str] = "report.html",
    name: str = "return",
    films: bool = True,
) -> pathlib.Path:
    """Write a report on sweeps, or records, as one HTML page that works offline.

    There is a section for each: the question, the reproducibility card, a table of all settings
    with intervals, learning curves, performance profiles, the probability that the best setting
    improves on the others, hyperparameter importance, diverged runs, and animations of the best
    and the median policy. Several studies are compared at the best setting of each, or the reasons
    are listed why that would be misleading.

    Args:
      folders: folders of sweeps, or records.
      out: file of the page.
      name: the variable that is scored by its final value.
      films: whether to animate policies, which takes some seconds to compile.

    Returns:
      The path of the page.

    Raises:
      FileNotFoundError: a folder holds no sweep.
      ValueError: there is no folder, a folder is damaged, or there is no such variable.
    """
    if not folders:
        raise ValueError(
            "a report needs a folder of rl.sweep(folder=): write, for example, rl.report('runs/x')."
        )
    if other := [folder for folder in folders if not isinstance(folder, str | os.PathLike)]:
        raise TypeError(
            f"a report is written from folders, and got a {type(other[0]).__name__}: write, for "
            "example, rl.report('runs/x')."
        )
    out = as_path(out, "out")
    if out.is_dir():
        raise ValueError(
            f"{out} is a directory: write a file, for example out={str(out / 'report.html')!r}."
        )
    studies = [read(folder, name) for folder in dict.fromkeys(folders)]
    html = page.page(studies, comparisons(studies), films)
    out.parent.mkdir(parents=True, exist_ok=True)
    store.write(out, lambda file: file.write(html.encode(errors="replace")))
    return out


def comparisons(studies: list[Study]) -> list[tuple[str, str, stats.Comparison | list[str]]]:
    """For each pair of studies, their titles and a comparison of their best settings.

    Or the obstacles to it, as a list.
    """
    pairs = []
    for a, b in itertools.combinations(studies, 2):
        obstacles = stats.obstacles(a.best, b.best, a.name)
        found = obstacles or catalogue.compare(a.best, b.best, a.name)
        pairs.append((_title(a), _title(b), found))
    return pairs


def _title(study: Study) -> str:
    best = f", {study.titles[0]}" if len(study.labels.columns) else ""
    return f"{study.title} ({study.path.name}{best})"
