"""The command line: thin over the Python calls. `jaxrl --help` says what there is."""

import dataclasses
import inspect
import math
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxrl as rl
from jaxrl import commands, studies

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"tanh": nn.tanh, "relu": nn.relu, "gelu": nn.gelu, "swish": nn.swish}
MEMORIES: dict[str, Callable[[int], Any]] = {"gru": rl.GRU, "lstm": rl.LSTM, "ffm": rl.FFM, "lru": rl.LRU, "gtrxl": rl.GTrXL}

HELP = {
    "lr": "learning rate",
    "gamma": "discount",
    "lam": "lambda of the advantage estimates",
    "clip": "how far the probability ratio may move",
    "entropy_weight": "weight of the entropy bonus",
    "value_weight": "weight of the value loss",
    "value_clip": "how far a value may move in an update (inf: no limit)",
    "lr_end": "share of the learning rate that is left at the end (linear schedule; 1 keeps it constant)",
    "normalize_advantage": "scale advantages in each minibatch",
    "max_grad_norm": "what the gradient's global norm is held to",
    "num_envs": "environments side by side",
    "num_steps": "steps in each of them before an update",
    "epochs": "passes over what was played",
    "epoch_limit": "how many of the epochs count: an axis of them is one program",
    "minibatches": "parts of each pass",
    "normalize_obs": "scale observations by running statistics",
    "normalize_reward": "scale rewards by the running spread of the return",
}


@dataclasses.dataclass(frozen=True)
class Common:
    """What every training run is asked."""

    env: tyro.conf.Positional[str]
    """environment, as `jaxrl envs` lists them"""
    env_params: tuple[str, ...] = ()
    """of the environment: name=value, or name=value,value,... (an axis), or name=word (backend=mjx)"""
    seeds: int = 32
    """how many members for each setting"""
    first_seed: int = 0
    """seeds are counted from here: tune and test on different ones"""
    steps: int = 100_000
    """environment steps of each member"""
    stop_after: tuple[float, ...] = (float("inf"),)
    """environment steps after which a member stands still: shorter lives in one program"""
    evals: int = 10
    """points of the learning curve"""
    episodes: int = 16
    """greedy episodes at each point, as far as 5 % of the steps allow"""
    eval_share: float = 0.05
    """of the steps, what greedy evaluation may take"""
    also: tuple[str, ...] = ()
    """any other field by its name: name=value, or name=value,value,... (an axis), say optimizer.options.eps=1e-8,1e-5"""
    folder: pathlib.Path | None = None
    """keeps everything here, and goes on from here"""
    chunk: int | None = None
    """members per program (default: as many as fit)"""
    memory_limit: str | None = None
    """what the programs may take in all, say 4GB (default: most of what is free)"""
    save_seconds: float = 60.0
    """with a folder, what a stop inside a chunk may cost at most, and one row"""
    keep_best: bool = False
    """with a folder, also keep each member's parameters of its best evaluation"""
    distributed: bool = False
    """share the chunks with the other processes of this job (Slurm, Kubernetes, mpirun, TPU pods)"""
    plan: bool = False
    """say what it will take (memory, disk, time), and train nothing"""
    gif: bool = False
    """draw the best member's policy into FOLDER/best.gif"""
    network: Literal["mlp", "cnn"] = "mlp"
    hidden: tuple[int, ...] | None = None
    """widths of the network's layers (this and what follows: the algorithm's own by default)"""
    activation: Literal["tanh", "relu", "gelu", "swish"] | None = None
    layer_norm: bool | None = None
    """layer normalisation before each activation (mlp)"""
    shared: bool | None = None
    """one tower for all heads rather than one for each (mlp; a cnn always shares)"""
    memory: int = 0
    """size of a memory (0: none)"""
    memory_kind: Literal["gru", "lstm", "ffm", "lru", "gtrxl"] = "gru"


def options(name: str, maker: Callable[..., Any]) -> type:
    """The command line of an algorithm: what all are asked, and its numbers, each an axis where it has several values."""
    fields: list[Any] = []
    for key, default in _defaults(maker).items():
        kind: Any = type(default) if isinstance(default, bool) else tuple[type(default), ...]
        value = default if isinstance(default, bool) else (default,)
        fields.append((key, Annotated[kind, tyro.conf.arg(help=HELP.get(key, ""))], dataclasses.field(default=value)))
    made = dataclasses.make_dataclass(name, fields, bases=(Common,), frozen=True)
    made.__doc__ = (inspect.getdoc(maker) or name).splitlines()[
        0
    ] + " A number given several values is an axis of the sweep; a whole one compiles a program for each."
    return made


def _defaults(maker: Callable[..., Any]) -> dict[str, Any]:
    """Every number that a maker takes, its own and those of the algorithm that it makes, with its default."""
    own = {k: p.default for k, p in inspect.signature(maker).parameters.items() if p.kind is p.KEYWORD_ONLY}
    made = maker()
    rest = {field.name: getattr(made, field.name) for field in dataclasses.fields(made) if field.name not in own}
    numbers = {key: value for key, value in (own | rest).items() if isinstance(value, bool | int | float)}
    return numbers | ({"lr_end": made.schedule.end} if isinstance(getattr(made, "schedule", None), rl.Linear) else {})


def training_of(asked: Any, maker: Callable[..., Any]) -> tuple[rl.Training, dict[str, Any]]:
    """The training that a command line asks for, and the axes that its lists of values make."""
    import envs

    given = {key: getattr(asked, key) for key in _defaults(maker)}
    numbers = {key: value for key, value in given.items() if isinstance(value, tuple)}
    for key, values in numbers.items():
        if not values:
            raise ValueError(f"--{key.replace('_', '-')} was given no value.")
    fixed = {key: value for key, value in given.items() if key not in numbers} | {key: v[0] for key, v in numbers.items()}
    floats = {key: values for key, values in numbers.items() if isinstance(values[0], float)}
    floats |= {"stop_after": asked.stop_after or (float("inf"),)}
    if "lr_end" in fixed:
        fixed["schedule"] = rl.Linear(fixed.pop("lr_end"))
    memory = {"memory": MEMORIES[asked.memory_kind](asked.memory)} if asked.memory else {}
    world = dict(_parameter(text) for text in asked.env_params)
    env = envs.make(asked.env, **{name: values[0] for name, values in world.items()})
    if asked.first_seed < 0 or asked.seeds < 1:
        raise ValueError(
            f"--seeds {asked.seeds} --first-seed {asked.first_seed}: write at least one seed, and none below 0."
        )
    algo, life = maker(**fixed, **_network(asked, maker), **memory), (asked.steps, asked.evals, asked.episodes)
    training = rl.Training(algo, env, *life, asked.eval_share, stop_after=floats["stop_after"][0])
    also = {rl.tree.find(training, name): values for name, values in map(_parameter, asked.also)}
    training = rl.tree.put(training, {name: values[0] for name, values in also.items()})
    names = {"lr_end": "schedule.end"}
    axes = {
        names.get(key, key): jnp.array(values, float) for key, values in (floats | world | also).items() if len(values) > 1
    }
    return training, axes | {"seed": np.arange(asked.first_seed, asked.first_seed + asked.seeds)}


def _network(asked: Any, maker: Callable[..., Any]) -> dict[str, Any]:
    """The algorithm's own network with what was asked of it, or a CNN with that; nothing where nothing was asked."""
    kinds = {"mlp": ("hidden", "activation", "layer_norm", "shared"), "cnn": ("hidden", "activation")}[asked.network]
    given = {name: getattr(asked, name) for name in kinds if getattr(asked, name) is not None}
    given |= {"activation": ACTIVATIONS[given["activation"]]} if "activation" in given else {}
    if asked.network == "cnn":
        return {"network": rl.CNN(**given)}
    made = maker()
    own = made.network if hasattr(made, "network") else made.learner.network
    return {"network": dataclasses.replace(own, **given)} if given else {}


def counts_of(asked: Any, maker: Callable[..., Any]) -> dict[str, tuple[int, ...]]:
    """The whole numbers that a command line gives several values of: static axes."""
    several = {key: value for key in _defaults(maker) if isinstance(value := getattr(asked, key), tuple) and len(value) > 1}
    return {key: values for key, values in several.items() if isinstance(values[0], int)}


def num_members(asked: Any) -> int:
    """How many members a command line asks for, known before jax starts."""
    given = [getattr(asked, field.name) for field in dataclasses.fields(asked)]
    axes = [len(value) for value in given if isinstance(value, tuple) and value and isinstance(value[0], float)]
    return max(asked.seeds, 1) * math.prod(axes) * math.prod(1 + text.count(",") for text in asked.env_params + asked.also)


def _parameter(text: str) -> tuple[str, tuple[Any, ...]]:
    name, mark, values = text.partition("=")
    if not mark or not values:
        raise ValueError(f"--env-params {text!r} is not name=value or name=value,value; write, say, g=9.8,5.")
    return name, tuple(_value(value) for value in values.split(","))


def _value(text: str) -> Any:
    """A whole number, a number, true or false, or else the word itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def train(asked: Any, maker: Callable[..., Any]) -> None:
    """Trains, shows the result, and draws it where there is a folder."""
    if asked.gif and asked.folder is None:
        raise ValueError("--gif draws into the folder that keeps the policies: add --folder runs/x.")
    threads = os.cpu_count() if asked.network == "cnn" else None
    if asked.distributed:
        rl.distributed()
    rl.use_all_cores(members=num_members(asked), threads=threads)
    training, axes = training_of(asked, maker)
    counts = counts_of(asked, maker)
    limits = {"static": counts, "chunk": asked.chunk, "folder": asked.folder, "memory": asked.memory_limit}
    if asked.plan:
        return print(rl.plan(training, axes, **limits, keep_best=asked.keep_best))
    results = rl.sweep(training, axes, **limits, save_seconds=asked.save_seconds, keep_best=asked.keep_best)
    studies.show(results)
    if asked.folder is None or jax.process_index() > 0:
        return
    studies.draw(results, asked.folder)
    if asked.gif:
        policy = rl.policy(asked.folder, training, **rl.best(results))
        rl.plot.gif(policy.training.env, policy, asked.folder / "best.gif")
    print(f"kept in {asked.folder}: " + ", ".join(sorted(path.name for path in asked.folder.glob("[!.]*"))))


def list_envs() -> None:
    """Lists the environments, one a line."""
    import envs

    print("\n".join(envs.names()))


def main(words: list[str] | None = None) -> None:
    """Entry point of `jaxrl`. `words` are those of the command line, by default the process's own."""
    kinds = {name: options(name, maker) for name, maker in rl.ALGORITHMS.items()}

    def train_command(algorithm: Any) -> None:
        """Trains an algorithm on an environment: many seeds, many settings, one program."""
        name = type(algorithm).__name__
        train(algorithm, rl.ALGORITHMS[name])

    members = tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in kinds.items())
    train_command.__annotations__["algorithm"] = Union[members]  # noqa: UP007  made from a table
    kept = {"plot": studies.plot, "play": commands.play, "rerun": commands.rerun, "export": commands.export}
    listed = {"envs": list_envs, "algorithms": commands.algorithms}
    listed |= {"runs": studies.runs, "compare": studies.compare, "report": studies.report}
    try:
        tyro.extras.subcommand_cli_from_dict(
            {"train": train_command} | kept | listed,
            prog="jaxrl",
            args=words,
            description=rl.__doc__,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
        )
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(f"jaxrl: {error}{_notes(error)}")
    except KeyboardInterrupt as stop:
        sys.exit(f"jaxrl: stopped.{_notes(stop)}")


def _notes(error: BaseException) -> str:
    """What a sweep says of the work that is kept."""
    return "".join(f"\n{note}" for note in getattr(error, "__notes__", []) if "members" in note)


if __name__ == "__main__":
    main()
