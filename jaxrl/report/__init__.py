"""A report: one HTML page of one or several kept sweeps that needs nothing else, now or in ten
years.
"""

import itertools
import os
import pathlib

from jaxrl import stats
from jaxrl.report import page, study
from jaxrl.report.study import Study
from jaxrl.runs import catalogue
from jaxrl.sweep import store


def report(
    *folders: str | os.PathLike[str],
    out: str | os.PathLike[str] = "report.html",
    name: str = "return",
    films: bool = True,
) -> pathlib.Path:
    """Writes a report of kept sweeps, or of records, as one page that opens from disk without a
    network. Returns where.

    A section for each: the question, the reproducibility card, a table of all settings with
    intervals, learning curves, performance profiles, the probability that the best setting improves
    on the others, what mattered, who diverged, and films of the best and the median policy. Of
    several, a comparison of the best setting of each, or why there is none.

    name: which curve is the score. films: they take seconds, as the policies are compiled; False
    leaves them out.

    Raises:
      FileNotFoundError, ValueError: no folder, one that holds no sweep or is damaged, one without
      that curve.
    """
    if not folders:
        raise ValueError(
            "a report needs a folder that rl.sweep(folder=) made: rl.report('runs/x')."
        )
    out = pathlib.Path(out).expanduser()
    if out.is_dir():
        raise ValueError(
            f"{out} is a directory: name the page, say out={str(out / 'report.html')!r}."
        )
    studies = [study.read(folder, name) for folder in dict.fromkeys(folders)]
    html = page.page(studies, comparisons(studies), films)
    out.parent.mkdir(parents=True, exist_ok=True)
    store.write(out, lambda file: file.write(html.encode(errors="replace")))
    return out


def comparisons(studies: list[Study]) -> list[tuple[str, str, stats.Comparison | list[str]]]:
    """Of each pair the titles, and the best settings side by side, or what would make that
    misleading.
    """
    made = []
    for a, b in itertools.combinations(studies, 2):
        obstacles = stats.obstacles(a.best, b.best, a.name)
        found = obstacles or catalogue.compare(a.best, b.best, a.name)
        made.append((_title(a), _title(b), found))
    return made


def _title(one: Study) -> str:
    best = f", {one.titles[0]}" if len(one.labels.columns) else ""
    return f"{one.title} ({one.path.name}{best})"
