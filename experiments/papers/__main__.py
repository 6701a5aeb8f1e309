"""Command line: `python -m experiments.papers NAME...` measures claims and writes their records."""

import dataclasses
import importlib
import json
import pathlib
import shutil

import numpy as np
import tyro

import jaxrl as rl
from experiments.claims import page
from experiments.claims.claim import FIRST_TRIAL_SEED, Claim, check
from experiments.claims.running import RECORDS, Place, run
from jaxrl.errors import nearest

FOLDER = pathlib.Path(__file__).parent
FRAME = {"__init__", "__main__"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure the claims of papers. What a stopped run finished is kept."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """files of experiments/papers, without .py"""
    all: bool = False
    """all papers"""
    table: bool = False
    """only write the table of the existing records"""
    fresh: bool = False
    """first delete what earlier runs of these papers kept"""
    scale: float = 1.0
    """factor on the budgets, for a trial"""
    seeds: int = 0
    """number of other seeds, for a trial (0: the test seeds of each claim)"""
    runs: pathlib.Path = pathlib.Path("runs/papers")
    folder: pathlib.Path = RECORDS / "papers"
    progress: bool = True


def names() -> list[str]:
    """All papers."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in FRAME)


def claims_of(name: str, scale: float = 1.0, seeds: int = 0) -> list[Claim]:
    """The claims of a paper. seeds: the number of seeds of a trial, none of which are test seeds.

    Raises:
      ValueError: there is no such paper.
    """
    if name not in names():
        raise ValueError(f"experiments/papers has no file {name}.py; {nearest(name, names())}.")
    claims = importlib.import_module(f"experiments.papers.{name}").claims(scale)
    trial = {"seeds": FIRST_TRIAL_SEED + np.arange(seeds), "why_fewer": "a trial"} if seeds else {}
    return [dataclasses.replace(claim, **trial) for claim in claims]


def main(config: Config) -> None:
    chosen = names() if config.all else list(config.names)
    if not (chosen or config.table):
        raise ValueError(f"Name papers to measure, or write --all or --table: {', '.join(names())}")
    is_trial = config.scale != 1.0 or config.seeds
    if is_trial and config.folder == RECORDS / "papers":
        raise ValueError(
            "A trial with --scale or --seeds must not replace a record: add --folder /tmp/trial."
        )
    papers = {name: claims_of(name, config.scale, config.seeds) for name in chosen}
    for claims in papers.values():
        for claim in claims:
            check(claim)
    for name, claims in papers.items():
        # results of other budgets are not those of a claim
        runs = config.runs / f"trial_{config.scale:g}" if is_trial else config.runs
        if config.fresh:
            shutil.rmtree(runs / name, ignore_errors=True)
        record = run(claims, name, Place(runs, config.progress), config.folder)
        config.folder.mkdir(parents=True, exist_ok=True)
        (config.folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        for claim in record["claims"]:
            print(f"{name}, row {claim['row']}: {claim['verdict']}. {claim['statement']}")
            for each in claim["checks"]:
                print(f"  {'holds' if each['holds'] else 'fails'}: {page.effect(each)}")
    if config.folder == RECORDS / "papers":
        page.write(page.records())


if __name__ == "__main__":
    rl.use_all_cores()
    main(tyro.cli(Config))
