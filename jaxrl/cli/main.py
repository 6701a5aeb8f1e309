"""Entry point of the command line, a thin layer over the Python functions (see `jaxrl --help`)."""

import inspect
import os
import pathlib
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any, Union

import jax
import tyro

import jaxrl as rl
from jaxrl.algorithms.preset import Preset
from jaxrl.cli import commands, studies
from jaxrl.cli.arguments import (
    TUNERS,
    Search,
    Sweep,
    num_members,
    options,
    search_of,
    static_axes_of,
    training_of,
)
from jaxrl.cli.words import REGISTRY, FlagError, assigned, flags_of, spoken
from jaxrl.errors import ELSEWHERE, RENAMED

ADAPTERS = ("FromBrax", "FromGymnax", "Observe")  # classes of the environments of other packages
# what a command line may cause; others are mistakes in the code, of which the traceback says more
ERRORS = (ValueError, TypeError, OSError, ImportError, RuntimeError, MemoryError)


def train(args: Any, preset: Preset) -> None:
    """Train a sweep, print its results, and with a folder draw them."""
    if args.gif and args.folder is None:
        raise FlagError("--gif needs the folder that policies are saved in: add --folder runs/x.")
    if args.target is not None and not args.plan:
        raise FlagError(
            f"--target {args.target} is for a plan, and nothing is trained there: add --plan, or "
            "leave --target out."
        )
    if args.distributed:
        _join_job()
    rl.use_all_cores(members=num_members(args), threads=_threads(args))
    training, axes = training_of(args, preset)
    shared: dict[str, Any] = {
        "static": static_axes_of(args, preset, training),
        "chunk": args.chunk,
        "folder": args.folder,
        "memory_limit": args.memory_limit,
        "keep_best": args.keep_best,
    }
    if args.plan:
        print(rl.plan(training, axes, **shared, target=args.target))
        return
    results = rl.sweep(training, axes, **shared, save_seconds=args.save_seconds)
    studies.show(results)
    if args.folder is None or jax.process_index() > 0:
        return
    studies.draw(results, args.folder)
    if args.gif:
        policy = rl.policy(args.folder, training, **rl.best(results))
        rl.plot.gif(policy.env, policy, args.folder / "best.gif")
    _print_files(args.folder)


def _join_job() -> None:
    try:
        rl.distributed()
    except RuntimeError as error:
        reason = str(error.__cause__ or error).rstrip(".")
        raise FlagError(
            f"--distributed finds no other processes of this job ({reason}): start the command "
            "with srun or mpirun, or leave --distributed out."
        ) from error


def tune(args: Any, preset: Preset) -> None:
    """Tune an algorithm; print the best setting, its score on test seeds, and the runners-up."""
    rl.use_all_cores(threads=_threads(args))
    training, space, budget = search_of(args, preset)
    result = rl.tune(
        training,
        space,
        tuner=TUNERS[args.tuner],
        budget=budget,
        seeds=args.seeds,
        test_seeds=args.test_seeds,
        metric=args.metric,
        seed=args.seed,
        folder=args.folder,
        chunk=args.chunk,
    )
    hidden = ["low", "high"] if rl.stats.too_few(args.seeds) else []
    best = result.table.head(10).drop(columns=hidden)
    print(result, best.to_string(float_format="{:.4g}".format), sep="\n\n")
    if args.folder is not None:
        print()
        _print_files(args.folder)


def _threads(args: Any) -> int | None:
    return os.cpu_count() if args.network == "cnn" else None


def _print_files(folder: pathlib.Path) -> None:
    names = sorted(path.name for path in folder.glob("[!.]*"))
    print(f"saved in {folder}: {', '.join(names)}")


def list_envs() -> None:
    """List the environments, one per line."""
    from jaxrl import envs

    print("\n".join(envs.names()))


def main(args: list[str] | None = None) -> None:
    """Run the command line with `args`, by default those of the process."""
    words = sys.argv[1:] if args is None else args
    train_command = _command_of_each_algorithm(
        words[:1] == ["train"],
        train,
        Sweep,
        "Train an algorithm: many seeds and settings in one program.",
    )
    tune_command = _command_of_each_algorithm(
        words[:1] == ["tune"],
        tune,
        Search,
        "Tune an algorithm, and test the best setting on fresh seeds.",
    )
    commands_by_name = {
        "train": train_command,
        "tune": tune_command,
        "plot": studies.plot,
        "play": commands.play,
        "rerun": commands.rerun,
        "extend": commands.extend,
        "export": commands.export,
        "envs": list_envs,
        "algorithms": commands.algorithms,
        "papers": commands.papers,
        "runs": studies.runs,
        "compare": studies.compare,
        "report": studies.report,
    }
    if words == ["--version"]:
        print(f"jaxrl {rl.__version__}")
        return
    try:
        args = _with_added_values(words)
        _check_names(args, flags_of(commands_by_name, args))
        tyro.extras.subcommand_cli_from_dict(
            commands_by_name,
            prog="jaxrl",
            args=args,
            description=rl.__doc__,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
            registry=REGISTRY,
        )
    except BrokenPipeError:  # the reader of a pipe has what it wants, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except FlagError as error:
        sys.exit(f"jaxrl: {error}")
    except ERRORS as error:
        flags, names = flags_of(commands_by_name, words), _class_names(words)
        lines = [str(error) or type(error).__name__, *_notes(error)]
        typed = assigned(_with_added_values(words))
        spoken_lines = [spoken(line, flags, names, typed) for line in lines]
        sys.exit("\n".join([f"jaxrl: {spoken_lines[0]}", *filter(None, spoken_lines[1:])]))
    except KeyboardInterrupt as stop:
        notes = [spoken(note, (), {}) for note in _notes(stop)]
        print("\n".join(["jaxrl: stopped.", *filter(None, notes)]), file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _class_names(words: list[str]) -> dict[str, str]:
    """The classes of the algorithm and the environment that were typed, which errors name, and
    their names.
    """
    typed = next((word for word in words[1:2] if word in rl.PRESETS), None)
    if typed is None:
        return {}
    algo = rl.PRESETS[typed].value
    parts = [algo, *(vars(algo)[name] for name in ("rule", "learner") if name in vars(algo))]
    found = {type(part).__name__: typed for part in parts} | {"Training": typed}
    return found | dict.fromkeys(ADAPTERS, " ".join(words[2:3]) or typed)


def _with_added_values(args: list[str]) -> list[str]:
    """The words of `jaxrl extend` with --NAME VALUE VALUE, for an axis, as --add NAME=VALUE,VALUE.

    The options of the command itself stay.
    """
    if args[:1] != ["extend"]:
        return args
    own = [f"--{name.replace('_', '-')}" for name in inspect.signature(commands.extend).parameters]
    words: list[str] = []
    added: dict[str, list[str]] = {}
    axis = None
    for word in args:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            is_axis = name.replace("_", "-") not in (*own, "--help")
            axis = name.removeprefix("--").replace("-", "_") if is_axis else None
            if axis is None:
                words.append(word)
            else:
                added.setdefault(axis, []).extend([value] if value else [])
        elif axis is None:
            words.append(word)
        else:
            added[axis].append(word)
    add = [f"{name}={','.join(values)}" for name, values in added.items()]
    return [*words, "--add", *add] if add else words


def _check_names(args: list[str], flags: set[str]) -> None:
    """Refuse an option or a tuner by its former name, or that of other libraries, with ours."""
    for before, word in zip(["", *args], args, strict=False):
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name in RENAMED:
            new_name = RENAMED[name].replace("_", "-")
            raise FlagError(f"{word.partition('=')[0]} is called --{new_name} now.")
        here = [field for field in ELSEWHERE.get(name, ()) if field in flags]
        if word.startswith("--") and here and name not in flags:
            option = here[0].replace("_", "-")
            raise FlagError(f"There is no {word.partition('=')[0]}; here it is --{option}.")
        if word.rpartition("=")[2] == "foresight" and "--tuner" in (before, word.partition("=")[0]):
            raise FlagError("The tuner foresight is called curve_stopping now.")


def _command_of_each_algorithm(
    typed: bool,
    run: Callable[[Any, Preset], None],
    base: type[Sweep] | type[Search],
    summary: str,
) -> Callable[[Any], None]:
    """A command with a subcommand for each algorithm, which has the algorithm's options.

    typed: False for another command, which does not wait for these to be made.
    """

    def command(algorithm: Any) -> None:
        run(algorithm, rl.PRESETS[type(algorithm).__name__])

    command.__doc__ = summary
    if not typed:  # a type that parses: at an unknown option, tyro reads those of all commands
        command.__annotations__["algorithm"] = str
        return command
    subcommands = tuple(
        Annotated[options(name, preset, base), tyro.conf.subcommand(name)]
        for name, preset in rl.PRESETS.items()
    )
    command.__annotations__["algorithm"] = Union[subcommands]  # noqa: UP007  made from a table
    return command


def _notes(error: BaseException) -> list[str]:
    """The notes that jaxrl added to an error: where it happened, and what is saved.

    jax's notes, which begin with ---, are about stack frames.
    """
    notes = vars(error).get("__notes__", [])
    return [note for note in notes if not note.startswith("---")]
