"""Commands on the folder of a sweep (play, rerun, export) and the list of algorithms."""

import inspect
import pathlib
import sys
from collections.abc import Callable
from typing import Any, Literal

import jax
import tyro

import jaxrl as rl
from jaxrl import capabilities
from jaxrl.runs.catalogue import PREFIX_COLUMNS
from jaxrl.sweep.store import read_record


def play(
    folder: tyro.conf.Positional[pathlib.Path],
    where: tuple[str, ...] = (),
    best: bool = False,
    episodes: int = 64,
    seed: int = 0,
    out: pathlib.Path | None = None,
) -> None:
    """Play a run's policy: print its episode returns, and draw an episode as an animation.

    Args:
        folder: of `jaxrl train --folder`
        where: the run, by its labels: lr=1e-3 seed=7 (an axis of one value may be left out)
        best: the run with the highest final return (the default without --where)
        episodes: number of greedy episodes
        seed: seed of the episodes
        out: file of the animation (default: FOLDER/play.gif)
    """
    if best and where:
        raise ValueError(
            f"--best and --where {' '.join(where)} each select a run: write one of them."
        )
    if episodes < 1:
        raise ValueError(f"--episodes {episodes}: write 1 or more.")
    if where:
        labels = labels_of(where, rl.policy)
    else:
        finished = rl.load(folder, running=False)
        if not finished.data_vars:
            raise ValueError(
                f"no member of {folder} has finished yet, and a policy is kept when its chunk "
                f"finishes: wait, and watch its curve by `jaxrl plot {folder} --follow`."
            )
        labels = rl.best(finished)
    policy = rl.policy(folder, **labels)
    env = policy.training.env
    if not isinstance(env, rl.Env):
        raise ValueError(
            f"{folder} was trained on a distribution of environments, and play needs one: evaluate "
            "rl.policy(FOLDER) in Python on a sample of it."
        )
    returns = rl.evaluate(jax.random.key(seed), env, policy, episodes)
    title = " ".join(f"{name}={label}" for name, label in labels.items())
    limits = f"{returns.min():.6g} to {returns.max():.6g}"
    print(f"{title}: return of {episodes} greedy episodes: mean {returns.mean():.6g}, {limits}")
    path = folder / "play.gif" if out is None else out
    try:
        rl.plot.gif(env, policy, path, jax.random.key(seed))
        print(f"drew {path}")
    except ValueError as error:
        if out is not None:
            raise
        print(f"not drawn: {error}")


def rerun(folder: tyro.conf.Positional[pathlib.Path], member: int) -> None:
    """Train a run of a sweep again, from its record alone, and compare its curves bit for bit.

    Exits with status 1 if they differ.

    Args:
        folder: of `jaxrl train --folder`
        member: number of the run, in row-major order of the swept axes
    """
    machine = read_record(folder)["machine"]
    if machine["platform"] == "cpu":
        rl.use_all_cores(machine["devices"])  # as many as in the original training
    result = rl.rerun(folder, member)
    print(result)
    if not result.equal:
        sys.exit(1)


def export(
    folder: tyro.conf.Positional[pathlib.Path],
    to: Literal["csv", "parquet", "tensorboard", "wandb", "record", "numpy"] = "csv",
    out: pathlib.Path | None = None,
    where: tuple[str, ...] = (),
) -> None:
    """Write the results of a sweep, or a run's policy, for another tool.

    Args:
        folder: of `jaxrl train --folder`
        to: a table (csv, parquet), logs of each run (tensorboard, wandb), a record (one small file
            from which runs can be trained again), or the policy of a run for NumPy without jax
        out: the file, or the directory of the logs or the policy (default: in FOLDER)
        where: with --to numpy, the run: lr=1e-3 seed=7 (default: the highest final return)
    """
    print(f"wrote {rl.export(folder, out, to, **labels_of(where, rl.export))}")


def algorithms() -> None:
    """List the algorithms, and the action spaces and options that each supports.

    This takes some seconds, as each is tried.
    """
    width = max(map(len, rl.PRESETS))
    for name, preset in rl.PRESETS.items():
        print(f"{name:{width}}  {preset.summary}", flush=True)
    rows = capabilities.table(rl.PRESETS)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print(
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def labels_of(where: tuple[str, ...], call: Callable[..., Any]) -> dict[str, Any]:
    """The labels of --where, as keyword arguments of `call(..., **labels)`.

    Raises:
      ValueError: a label is malformed, or has the name of another argument of `call`.
    """
    labels = dict(_label(text) for text in where)
    reserved = [
        name
        for name, parameter in inspect.signature(call).parameters.items()
        if parameter.kind != parameter.VAR_KEYWORD
    ]
    for name in labels:
        if name in reserved:
            by_path = f"Write more of the field's path, for example env.{name}=..."
            by_axis = f"Select along that axis in Python: rl.load(FOLDER).sel({name}=...)"
            raise ValueError(
                f"--where {name}=...: {name!r} is an argument of rl.{call.__name__} itself. "
                f"{by_path if call is rl.runs else by_axis}."
            )
    return labels


def _label(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise ValueError(f"--where {text!r} is not name=value; write, for example, lr=1e-3 seed=7.")
    if name in PREFIX_COLUMNS:  # the commit 12e4567 is not a number
        return name, value
    try:
        return name, float(value)
    except ValueError:
        return name, {"true": True, "false": False}.get(value.lower(), value)
