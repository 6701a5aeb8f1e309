"""Commands on the folder of a sweep (play, rerun, export), and lists of algorithms and papers."""

import importlib
import pathlib
import sys
from typing import Any, Literal

import jax
import tyro

import jaxrl as rl
from jaxrl import capabilities
from jaxrl.cli import studies
from jaxrl.cli.labels import label_of, labels_of
from jaxrl.cli.words import FlagError
from jaxrl.runs.policy import best_by
from jaxrl.sweep.store import read_record


def play(
    folder: tyro.conf.Positional[pathlib.Path],
    where: tuple[str, ...] = (),
    best: bool = False,
    episodes: int = 64,
    seed: int = 0,
    out: pathlib.Path | None = None,
) -> None:
    """Play the policy of a run: print its episode returns, and draw one episode as an animation.

    Of a team, all agents play and are drawn, and the returns of each are printed.

    Args:
        folder: folder of `jaxrl train --folder`
        where: the run, by its labels: lr=1e-3 seed=7 (axes with one value may be left out)
        best: the run with the highest final evaluation, or training return if there is no
            evaluation, among those that did not diverge (the default without --where)
        episodes: number of greedy episodes
        seed: seed of the episodes
        out: file of the animation (default: FOLDER/play.gif)
    """
    if best and where:
        raise FlagError(
            f"--best and --where {' '.join(where)} each select a run: write one of them."
        )
    if episodes < 1:
        raise FlagError(f"--episodes {episodes}: write 1 or more.")
    labels, chosen = labels_of(where, rl.policy), ""
    if not where:
        finished = rl.load(folder, running=False)
        if not finished.data_vars:
            raise FlagError(
                f"no run of {folder} has finished yet, and policies are saved when a chunk "
                f"finishes: wait, and watch the curves with `jaxrl plot {folder} --follow`."
            )
        labels, chosen = rl.best(finished), f" (the best by {best_by(finished)})"
    policy = rl.policy(folder, **labels)
    env = policy.training.env
    if not isinstance(env, rl.Env):
        raise ValueError(
            f"{folder} was trained on a distribution of environments, and play needs one: evaluate "
            "rl.policy(FOLDER) in Python on a sample of it."
        )
    returns = rl.evaluate(jax.random.key(seed), env, policy, episodes)
    title = " ".join(f"{name}={label}" for name, label in labels.items())
    print(f"{title}{chosen}: return of {episodes} greedy episodes: {_summary(returns)}")
    if returns.ndim == 2:
        for agent, own in enumerate(returns.T):
            role = f" (role {env.roles[agent]})" if env.roles else ""
            print(f"agent {agent}{role}: {_summary(own)}")
    path = folder / "play.gif" if out is None else out
    try:
        rl.plot.gif(env, policy, path, jax.random.key(seed))
        print(f"drew {path}")
    except ValueError as error:
        if out is not None:
            raise
        print(f"not drawn: {error}")


def _summary(returns: jax.Array) -> str:
    """The mean and the range of returns."""
    return f"mean {returns.mean():.6g}, {returns.min():.6g} to {returns.max():.6g}"


def rerun(folder: tyro.conf.Positional[pathlib.Path], member: int) -> None:
    """Train a run of a sweep again, from its record alone, and compare its curves bit for bit.

    Exits with status 1 if they differ.

    Args:
        folder: folder of `jaxrl train --folder`
        member: number of the run, in row-major order of the swept axes
    """
    machine = read_record(folder)["machine"]
    if machine["platform"] == "cpu":
        rl.use_all_cores(machine["devices"])  # as many as in the original training
    result = rl.rerun(folder, member)
    print(result)
    if not result.equal:
        sys.exit(1)


def extend(
    folder: tyro.conf.Positional[pathlib.Path],
    steps: int | None = None,
    seeds: int | None = None,
    schedule: Literal["stretch", "restart"] | None = None,
    add: tuple[str, ...] = (),
    memory_limit: str | None = None,
    save_seconds: float = 60.0,
) -> None:
    """Continue a finished or stopped study: more steps, more seeds, more values of an axis.

    Existing results are not recomputed. Values to add are written as for `jaxrl train`: --lr 1e-2.

    Args:
        folder: folder of `jaxrl train --folder`
        steps: environment steps of each run, in total
        seeds: number of seeds of each setting, in total
        schedule: what schedules that depend on --steps do: continue at the fraction of the longer
            run (stretch), or start again for the added steps (restart)
        add: values of axes: lr=1e-2,3e-2 (--lr 1e-2 3e-2 is the same)
        memory_limit: as in `jaxrl train`
        save_seconds: as in `jaxrl train`
    """
    record = read_record(folder)
    if record["machine"]["platform"] == "cpu":
        rl.use_all_cores(record["machine"]["devices"])  # as many as in the original training
    over: dict[str, Any] = {}
    for text in add:
        name, _, values = text.partition("=")
        if not values:
            raise FlagError(f"--add {text!r} is not name=value,value: write lr=1e-2,3e-2.")
        over[name] = [_whole(label_of(f"{name}={value}")[1]) for value in values.split(",")]
    if seeds is not None:
        over["seed"] = _more_seeds(record, seeds)
    results = rl.extend(
        folder,
        steps=steps,
        over=over,
        schedule=schedule,
        memory_limit=memory_limit,
        save_seconds=save_seconds,
    )
    studies.show(results)
    studies.draw(results, folder)


def _whole(value: Any) -> Any:
    """A value, as an integer where it is a whole number, which a static axis may need."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _more_seeds(record: dict[str, Any], seeds: int) -> range:
    """So many seeds, from the first of a study."""
    labels = record["labels"].get("seed", [])
    first = labels[0] if labels else 0
    if str(record.get("kinds", {}).get("seed", "")).startswith("key:"):
        raise FlagError(
            "--seeds: the seeds of this study are keys; add keys in Python, rl.extend(FOLDER, "
            "over={'seed': keys})."
        )
    if labels != list(range(first, first + len(labels))) or seeds < len(labels):
        raise FlagError(
            f"--seeds {seeds}: the study has the seeds {labels[:8]}{'...' * (len(labels) > 8)}; "
            "write at least as many, of a study with consecutive seeds (others: --add seed=7,9)."
        )
    return range(first, first + seeds)


def export(
    folder: tyro.conf.Positional[pathlib.Path],
    to: Literal["csv", "parquet", "tensorboard", "wandb", "record", "numpy"] = "csv",
    out: pathlib.Path | None = None,
    where: tuple[str, ...] = (),
) -> None:
    """Write the results of a sweep, or the policy of a run, for another tool.

    Args:
        folder: folder of `jaxrl train --folder`
        to: a table (csv, parquet), logs of each run (tensorboard, wandb), a record (one small file
            from which runs can be trained again), or the policy of a run for NumPy without jax
        out: the file, or the directory of the logs or the policy (default: in FOLDER)
        where: with --to numpy, the run: lr=1e-3 seed=7 (default: the highest final return)
    """
    print(f"wrote {rl.export(folder, out, to, **labels_of(where, rl.export))}")


def algorithms() -> None:
    """List the algorithms, and the action spaces and options that each supports.

    This takes several seconds, because each is tried.
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


def papers(topic: str = "") -> None:
    """Print published ideas, one claim of each, and whether a measurement reproduced it.

    Args:
        topic: a part of a topic's name: bandits, evidence (default: all)
    """
    try:
        page = importlib.import_module("experiments.claims.page")
    except ImportError as error:
        raise FlagError(
            "the papers are in the folder experiments/ of a checkout, which this installation "
            "lacks: clone the repository and install it with pip install -e ."
        ) from error
    print(page.text(topic))
