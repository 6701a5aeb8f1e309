"""Claims are run: settings are chosen on tuning seeds, arms run on test seeds, checks measured."""

import dataclasses
import datetime
import itertools
import json
import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import jaxrl as rl
from experiments.claims.claim import Arm, Check, Claim, check, ledger, scores
from jaxrl.sweep.provenance import commit

RECORDS = pathlib.Path(__file__).parent.parent / "results"
VERDICTS = ("reproduced", "partly reproduced", "not reproduced")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run keeps what it computes, and whether it prints its progress."""

    folder: pathlib.Path
    progress: bool = True


def run(claims: list[Claim], name: str, place: Place, results_folder: pathlib.Path) -> dict:
    """The record of a paper, from its claims. What an earlier call finished is not run again."""
    for claim in claims:
        check(claim)
    measured = []
    for i, claim in enumerate(claims):
        home = dataclasses.replace(place, folder=place.folder / name / str(i))
        measured.append(run_claim(claim, home, results_folder / f"{name}{i or ''}.png"))
    return {
        "claims": measured,
        "command": f"python -m experiments.papers {name}",
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "device": f"{jax.devices()[0].device_kind}, {jax.local_device_count()} devices",
        "jax": jax.__version__,
    }


def run_claim(claim: Claim, place: Place, figure: pathlib.Path) -> dict:
    """Verdict, effects, seeds, budgets, settings and seconds of one claim."""
    results: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    seconds = 0.0
    for file in claim.records:
        results[file] = json.loads((RECORDS / file).read_text())
    for name, arm in claim.arms.items():
        home = dataclasses.replace(place, folder=place.folder / name.replace(" ", "_"))
        settings[name], tuned = choose(claim, arm, home)
        results[name] = sweep(arm, settings[name], claim.axes, claim.test_seeds, home, "test")
        seconds += tuned + took(results[name])
    effects = [each.effect(results) for each in claim.accept]
    holds = [each.holds(effect) for each, effect in zip(claim.accept, effects, strict=True)]
    if claim.draw is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        canvas, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
        claim.draw(results, axes)
        canvas.savefig(figure, dpi=110)
        plt.close(canvas)
    return describe(claim) | {
        "verdict": verdict(claim.accept, holds),
        "checks": [
            {
                "statement": each.statement,
                "accept": each.accept,
                "control": each.control,
                "holds": ok,
            }
            | {field: rounded(x) for field, x in effect._asdict().items()}
            for each, effect, ok in zip(claim.accept, effects, holds, strict=True)
        ],
        "settings": {name: values for name, values in settings.items() if values},
        "at_edge_of_grid": [
            name for name, arm in claim.arms.items() if at_edge(arm, settings[name])
        ],
        "seconds": round(seconds, 1),
        "figure": figure.name if claim.draw is not None else "",
    }


def verdict(checks: Sequence[Check], holds: Sequence[bool]) -> str:
    """Of a claim, by which of its checks hold."""
    if all(holds):
        return VERDICTS[0]
    of_statement = (ok for each, ok in zip(checks, holds, strict=True) if not each.control)
    return VERDICTS[1 if any(of_statement) else 2]


def describe(claim: Claim) -> dict:
    """What a record holds of the claim itself: tests compare it with the code."""
    return {
        "row": claim.row,
        "paper": ledger()[claim.row]["paper"],
        "statement": claim.statement,
        "worlds": list(claim.worlds),
        "seeds": 0 if claim.records else len(claim.test_seeds),
        "budgets": {name: arm.samples for name, arm in claim.arms.items()},
        "num_settings": max((arm.num_settings for arm in claim.arms.values()), default=0),
        "records": list(claim.records),
        "unmatched": claim.unmatched,
        "changed": claim.changed,
    }


def rounded(x: float) -> float | None:
    """A number with five digits; None if it is not finite, which JSON can't hold."""
    return float(f"{x:.5g}") if math.isfinite(x) else None


# ---------------------------------------------------------------------------------------- one arm


def choose(claim: Claim, arm: Arm, place: Place) -> tuple[dict[str, Any], float]:
    """The setting of an arm with the best mean metric on the tuning seeds, and the seconds."""
    if not arm.tune:
        return {}, 0.0
    sign = -1.0 if claim.minimize else 1.0
    best, seconds = (-math.inf, {}), 0.0
    for values in itertools.product(*arm.tune.values()):
        setting = dict(zip(arm.tune, values, strict=True))
        name = "tuning_" + "_".join(f"{key}={value}" for key, value in setting.items())
        seeds = np.asarray(claim.tuning_seeds)
        found = sweep(arm, setting, claim.axes, seeds, place, name)
        seconds += took(found)
        value = sign * float(np.mean(scores(found, claim.metric)))
        if value > best[0]:
            best = value, setting
    if not best[1]:
        raise ValueError(
            f"No setting of an arm of row {claim.row} has a finite {claim.metric!r} on the tuning "
            "seeds: give it a larger budget, or tune by another metric."
        )
    return best[1], seconds


def at_edge(arm: Arm, setting: Mapping[str, Any]) -> bool:
    """True if a chosen value is the first or last of two or more."""
    return any(
        len(values) > 1 and setting[name] in (values[0], values[-1])
        for name, values in arm.tune.items()
    )


def sweep(
    arm: Arm,
    setting: Mapping[str, Any],
    axes: Mapping[str, Any],
    seeds: np.ndarray,
    place: Place,
    name: str,
) -> xr.Dataset:
    """The results of an arm, kept in a folder and read from there the next time."""
    over = {key: np.asarray([value]) for key, value in setting.items()}
    over |= {key: np.asarray(values) for key, values in axes.items()} | {"seed": seeds}
    folder = place.folder / name
    if arm.on_host:
        found = sweep_on_host(arm, over, folder)
    else:
        found = rl.sweep(arm.run, over, folder=folder, progress=place.progress)
    return found.squeeze(list(setting), drop=True)


def sweep_on_host(arm: Arm, over: Mapping[str, Any], folder: pathlib.Path) -> xr.Dataset:
    """As `rl.sweep`, for a function that isn't traced: a file for each run."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, seconds = [], 0.0
    for index in itertools.product(*(range(len(values)) for values in over.values())):
        values = {key: x[i].item() for i, (key, x) in zip(index, over.items(), strict=True)}
        path = folder / ("-".join(map(str, values.values())) + ".npz")
        if not path.exists():
            start = time.perf_counter()
            row = {key: np.asarray(value) for key, value in arm.run(**values).items()}
            row["seconds"] = np.asarray(time.perf_counter() - start)
            part = path.with_suffix(".part.npz")
            np.savez(part, allow_pickle=False, **row)
            part.replace(path)
        with np.load(path, allow_pickle=False) as file:
            rows.append({key: file[key] for key in file.files})
            seconds += float(rows[-1].pop("seconds"))
    shape = tuple(len(values) for values in over.values())
    variables = {}
    for key in rows[0]:
        x = np.stack([row[key] for row in rows])
        inner = [f"{key}_{i}" for i in range(x.ndim - 1)]
        variables[key] = ([*over, *inner], x.reshape(*shape, *x.shape[1:]))
    return xr.Dataset(variables, dict(over), {"run_seconds": seconds})


def took(results: xr.Dataset) -> float:
    """Seconds that results took, with compilation."""
    return sum(float(results.attrs.get(f"{part}_seconds", 0.0)) for part in ("compile", "run"))
