"""What the command line does with a folder that is kept: plays a policy, trains a member again."""

import inspect
import pathlib
import sys
from collections.abc import Callable
from typing import Any, Literal

import jax
import tyro

import jaxrl as rl
from jaxrl import capabilities
from jaxrl.runs.catalogue import BEGINNINGS
from jaxrl.sweep.store import read_record


def play(
    folder: tyro.conf.Positional[pathlib.Path],
    where: tuple[str, ...] = (),
    best: bool = False,
    episodes: int = 64,
    seed: int = 0,
    out: pathlib.Path | None = None,
) -> None:
    """Plays a member's policy: prints its returns, and draws a film where the environment can be
    drawn.

    Args:
        folder: what `jaxrl train --folder` made
        where: the member, by its labels: lr=1e-3 seed=7 (an axis of one value may be left out)
        best: the member with the highest final return (what is played without --where)
        episodes: greedy episodes to play
        seed: their luck
        out: the film's file (default: FOLDER/play.gif)
    """
    if best and where:
        raise ValueError(
            f"--best and --where {' '.join(where)} name a member each: write one of them."
        )
    if episodes < 1:
        raise ValueError(f"--episodes {episodes}: write 1 or more.")
    labels = labels_of(where, rl.policy) if where else rl.best(rl.load(folder))
    policy = rl.policy(folder, **labels)
    returns = rl.evaluate(jax.random.key(seed), policy.training.env, policy, episodes)
    named = " ".join(f"{name}={label}" for name, label in labels.items())
    spread = f"{returns.min():.6g} to {returns.max():.6g}"
    print(f"{named}: return of {episodes} greedy episodes: mean {returns.mean():.6g}, {spread}")
    path = folder / "play.gif" if out is None else out
    try:
        rl.plot.gif(policy.training.env, policy, path, jax.random.key(seed))
        print(f"drew {path}")
    except ValueError as error:
        if out is not None:
            raise
        print(f"not drawn: {error}")


def rerun(folder: tyro.conf.Positional[pathlib.Path], member: int) -> None:
    """Trains one member of a sweep again, from its record alone, and says whether its curves are
    equal bit for bit.

    Ends with status 1 where they are not.

    Args:
        folder: what `jaxrl train --folder` made
        member: its number, counted through the swept axes with the last one fastest
    """
    machine = read_record(folder)["machine"]
    if machine["platform"] == "cpu":
        rl.use_all_cores(machine["devices"])  # as many as it was trained on
    again = rl.rerun(folder, member)
    print(again)
    if not again.equal:
        sys.exit(1)


def export(
    folder: tyro.conf.Positional[pathlib.Path],
    to: Literal["csv", "parquet", "tensorboard", "wandb", "record"] = "csv",
    out: pathlib.Path | None = None,
) -> None:
    """Writes a sweep's results for another tool.

    Args:
        folder: what `jaxrl train --folder` made to: a table, a run for each member, or a record:
        one small file that can be trained again from out: the file, or the directory of runs
        (default: in FOLDER)
    """
    print(f"wrote {rl.export(folder, out, to)}")


def algorithms() -> None:
    """Lists the algorithms, what each is, and which takes what (each is tried, which takes some
    seconds).
    """
    width = max(map(len, rl.PRESETS))
    for name, maker in rl.PRESETS.items():
        print(f"{name:{width}}  {capabilities.title(maker)}", flush=True)
    rows = capabilities.table(rl.PRESETS)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print(
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def labels_of(where: tuple[str, ...], call: Callable[..., Any]) -> dict[str, Any]:
    """What --where says, by name, as `call(..., **labels)` takes it beside its own arguments."""
    labels = dict(_label(text) for text in where)
    own = [
        name
        for name, parameter in inspect.signature(call).parameters.items()
        if parameter.kind != parameter.VAR_KEYWORD
    ]
    if taken := [name for name in labels if name in own]:
        # which finds studies, not settings of one
        by_path = f"Write more of the field's path, say env.{taken[0]}=..."
        by_axis = f"Choose along such an axis in Python: rl.load(FOLDER).sel({taken[0]}=...)"
        raise ValueError(
            f"--where {taken[0]}=...: {taken[0]!r} is an argument of rl.{call.__name__} itself. "
            f"{by_path if call is rl.runs else by_axis}."
        )
    return labels


def _label(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise ValueError(f"--where {text!r} is not name=value; write, say, lr=1e-3 seed=7.")
    if name in BEGINNINGS:  # the commit 12e4567 is no number
        return name, value
    try:
        return name, float(value)
    except ValueError:
        return name, {"true": True, "false": False}.get(value.lower(), value)
