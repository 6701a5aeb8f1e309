"""The command line: thin over the Python calls. `jaxrl --help` says what there is."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, Union

import jax
import tyro

import jaxrl as rl
from jaxrl.cli import commands, studies
from jaxrl.cli.arguments import (
    TUNERS,
    Search,
    Sweep,
    counts_of,
    num_members,
    options,
    search_of,
    training_of,
)


def train(asked: Any, maker: Callable[..., Any]) -> None:
    """Trains, shows the result, and draws it where there is a folder."""
    if asked.gif and asked.folder is None:
        raise ValueError(
            "--gif draws into the folder that keeps the policies: add --folder runs/x."
        )
    if asked.distributed:
        rl.distributed()
    rl.use_all_cores(members=num_members(asked), threads=_threads(asked))
    training, axes = training_of(asked, maker)
    counts = counts_of(asked, maker)
    limits = {
        "static": counts,
        "chunk": asked.chunk,
        "folder": asked.folder,
        "memory_limit": asked.memory_limit,
    }
    if asked.plan:
        return print(rl.plan(training, axes, **limits, keep_best=asked.keep_best))
    results = rl.sweep(
        training, axes, **limits, save_seconds=asked.save_seconds, keep_best=asked.keep_best
    )
    studies.show(results)
    if asked.folder is None or jax.process_index() > 0:
        return
    studies.draw(results, asked.folder)
    if asked.gif:
        policy = rl.policy(asked.folder, training, **rl.best(results))
        rl.plot.gif(policy.training.env, policy, asked.folder / "best.gif")
    print(
        f"kept in {asked.folder}: "
        + ", ".join(sorted(path.name for path in asked.folder.glob("[!.]*")))
    )


def tune(asked: Any, maker: Callable[..., Any]) -> None:
    """Tunes, and shows what was found, what it is worth on seeds that it was not chosen on, and
    what else was tried.
    """
    rl.use_all_cores(threads=_threads(asked))
    training, space, budget = search_of(asked, maker)
    keep = {
        "metric": asked.metric,
        "seed": asked.seed,
        "folder": asked.folder,
        "chunk": asked.chunk,
    }
    counts = {"budget": budget, "seeds": asked.seeds, "test_seeds": asked.test_seeds}
    found = rl.tune(training, space, tuner=TUNERS[asked.tuner], **counts, **keep)
    best = found.table.head(10).drop(
        columns=["low", "high"] if rl.stats.too_few(asked.seeds) else []
    )
    print(found, best.to_string(float_format="{:.4g}".format), sep="\n\n")
    if asked.folder is not None:
        print(
            f"\nkept in {asked.folder}: "
            + ", ".join(sorted(path.name for path in asked.folder.glob("[!.]*")))
        )


def _threads(asked: Any) -> int | None:
    return os.cpu_count() if asked.network == "cnn" else None


def list_envs() -> None:
    """Lists the environments, one a line."""
    import envs

    print("\n".join(envs.names()))


def main(words: list[str] | None = None) -> None:
    """Entry point of `jaxrl`. `words` are those of the command line, by default the process's
    own.
    """
    train_command = _of_each_algorithm(
        train, Sweep, "Trains an algorithm: many seeds, many settings, one program."
    )
    tune_command = _of_each_algorithm(
        tune,
        Search,
        "Tunes an algorithm, and tests the best setting on seeds that did not choose it.",
    )
    kept = {
        "plot": studies.plot,
        "play": commands.play,
        "rerun": commands.rerun,
        "export": commands.export,
    }
    listed = {"envs": list_envs, "algorithms": commands.algorithms}
    listed |= {"runs": studies.runs, "compare": studies.compare, "report": studies.report}
    try:
        tyro.extras.subcommand_cli_from_dict(
            {"train": train_command, "tune": tune_command} | kept | listed,
            prog="jaxrl",
            args=words,
            description=rl.__doc__,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
        )
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(f"jaxrl: {error}{_notes(error)}")
    except KeyboardInterrupt as stop:
        sys.exit(f"jaxrl: stopped.{_notes(stop)}")


def _of_each_algorithm(
    does: Callable[[Any, Callable[..., Any]], None], asked: type[Sweep] | type[Search], title: str
) -> Callable[[Any], None]:
    """A command that takes one of the algorithms, with its own numbers."""

    def command(algorithm: Any) -> None:
        name = type(algorithm).__name__
        does(algorithm, rl.PRESETS[name])

    kinds = {name: options(name, maker, asked) for name, maker in rl.PRESETS.items()}
    members = tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in kinds.items())
    command.__annotations__["algorithm"] = Union[members]  # noqa: UP007  made from a table
    command.__doc__ = title
    return command


def _notes(error: BaseException) -> str:
    """What the kit says beside an error: where it happened, what is kept.

    jax's own notes are about its frames.
    """
    return "".join(
        f"\n{note}" for note in getattr(error, "__notes__", []) if not note.startswith("---")
    )
