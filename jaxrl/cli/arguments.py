"""Command-line arguments: a dataclass of options for each algorithm, and what they describe.

`training_of` and `search_of` turn parsed options into a `Training` and the axes of its sweep, or
the space of a search.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxrl as rl
from jaxrl import networks
from jaxrl.algorithms.preset import Preset
from jaxrl.cli.words import FlagError
from jaxrl.tuning.space import Range

Axes = dict[str, np.ndarray | jax.Array]
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": nn.tanh,
    "relu": nn.relu,
    "gelu": nn.gelu,
    "swish": nn.swish,
}
MEMORIES: dict[str, Callable[[int], Any]] = {
    "gru": rl.GRU,
    "lstm": rl.LSTM,
    "ffm": rl.FFM,
    "lru": rl.LRU,
    "gtrxl": rl.GTrXL,
}
MAX_SEEDS = 2**31  # seeds are int32
FIELDS = {"lr_end": "schedule.end"}  # options with another name than their field
EXAMPLES = {"--env-params": "gravity=9.8,5", "--also": "optimizer.options.eps=1e-8,1e-5"}
RANGES: dict[str, Callable[..., Range]] = {
    "uniform": rl.tuning.uniform,
    "log": rl.tuning.log,
    "integer": rl.tuning.integer,
    "choice": rl.tuning.choice,
}
TUNERS: dict[str, rl.tuning.Tuner] = {
    "random": rl.tuning.Random(),
    "sobol": rl.tuning.Sobol(),
    "halving": rl.tuning.SuccessiveHalving(),
    "hyperband": rl.tuning.Hyperband(),
    "curve_stopping": rl.tuning.CurveStopping(),
    "pbt": rl.tuning.PBT(),
    "de": rl.tuning.DE(),
    "dehb": rl.tuning.DEHB(),
    "bayes": rl.tuning.Bayes(),
    "bohb": rl.tuning.BOHB(),
    "tpe": rl.tuning.Optuna(),
    "gp": rl.tuning.Optuna(rl.tuning.gp),
}

# options of the command line that are no field, or mean more than their field; the meaning of the
# others is that of the field
HELP = {
    "lr": "learning rate; with --lr-end, it decays linearly over --steps, by default to 0",
    "lr_end": (
        "final learning rate as a fraction of the initial one (linear schedule; 1: constant)"
    ),
    "epoch_limit": "number of epochs that change parameters; an axis of it is one program",
}


@dataclasses.dataclass(frozen=True)
class Common:
    """Options of every command that trains."""

    env: tyro.conf.Positional[str]
    """name of an environment (`jaxrl envs` lists them)"""
    env_params: tuple[str, ...] = ()
    """parameters of the environment: name=value, name=value,value,... (an axis), or name=word
    (backend=mjx)
    """
    steps: int = 100_000
    """environment steps of each run"""
    stop_after: tuple[float, ...] = (float("inf"),)
    """environment steps after which a run stops training: shorter runs in the same program"""
    evals: int = 10
    """evaluation points of the learning curve"""
    episodes: int = 16
    """greedy episodes at each evaluation point, within --eval-share"""
    eval_share: float = 0.05
    """maximum steps of greedy evaluation, as a fraction of --steps"""
    also: tuple[str, ...] = ()
    """any other field, by its path: name=value, or name=value,value,... (an axis); for example
    optimizer.options.eps=1e-8,1e-5
    """
    folder: pathlib.Path | None = None
    """directory to save results in and to resume from"""
    chunk: int | None = None
    """runs per program (default: as many as fit in memory)"""
    network: Literal["mlp", "cnn"] = "mlp"
    hidden: tuple[int, ...] | None = None
    """widths of the network's layers (by default, here and below, those of the algorithm)"""
    activation: Literal["tanh", "relu", "gelu", "swish"] | None = None
    layer_norm: bool | None = None
    """layer normalisation before each activation (mlp)"""
    shared: bool | None = None
    """shared trunk for all heads instead of one per head (mlp; a cnn is always shared)"""
    memory: int = 0
    """size of the recurrent cell (0: feedforward)"""
    memory_kind: Literal["gru", "lstm", "ffm", "lru", "gtrxl"] = "gru"


@dataclasses.dataclass(frozen=True)
class Sweep(Common):
    """Options of `jaxrl train`."""

    usage: ClassVar[str] = (
        "A number with several values becomes an axis of the sweep; each value of an integer "
        "compiles its own program."
    )
    seeds: int = 32
    """number of seeds of each setting"""
    first_seed: int = 0
    """the first seed: tune and test on different ones"""
    memory_limit: str | None = None
    """memory limit of all programs, for example 4GB (default: most of the free memory)"""
    save_seconds: float = 60.0
    """with a folder, seconds of work that an interruption may lose; more if saving would take over
    5 % of the time
    """
    keep_best: bool = False
    """with a folder, also save each run's parameters at its best evaluation"""
    distributed: bool = False
    """share the chunks with the other processes of this job (Slurm, Kubernetes, mpirun, TPU
    pods)
    """
    plan: bool = False
    """print the estimated memory, disk space and time, without training"""
    target: str | None = None
    """with --plan: an accelerator that need not be here, such as h100, a100, tpu-v5e, or a file
    NAME.toml that describes one
    """
    gif: bool = False
    """animate an episode of the policy of the best run (by evaluation if there is one) in
    FOLDER/best.gif
    """


@dataclasses.dataclass(frozen=True)
class Search(Common):
    """Options of `jaxrl tune`."""

    usage: ClassVar[str] = "--search gives the ranges to tune; all other options are fixed."
    search: tuple[str, ...] = ()
    """a range for each field to tune: lr=log:1e-5:1e-2 gamma=uniform:0.9:0.999
    epochs=integer:1:8 num_envs=choice:16:64
    """
    budget: float | None = None
    """environment steps of tuning in total, including greedy evaluation and stopped settings
    (default: 32 settings of --seeds complete runs)
    """
    tuner: Literal[
        "random",
        "sobol",
        "halving",
        "hyperband",
        "curve_stopping",
        "pbt",
        "de",
        "dehb",
        "bayes",
        "bohb",
        "tpe",
        "gp",
    ] = "random"
    """tuning algorithm; tpe and gp are optuna's (extra optuna; gp needs torch too)"""
    seeds: int = 8
    """seeds of each setting while tuning"""
    test_seeds: int = 32
    """fresh seeds on which the best setting is tested afterwards"""
    metric: str = "return"
    """objective, by the interquartile mean of its final value: return, or evaluation (greedy
    episodes)
    """
    seed: int = 0
    """seed of the search"""


def numbers_of(preset: Preset) -> dict[str, bool | int | float]:
    """Value of every number that an algorithm takes: the options of its command."""
    fields = preset.fields()
    numbers = {
        name: value for name, value in fields.items() if isinstance(value, bool | int | float)
    }
    schedule = fields.get("schedule")
    return numbers | ({"lr_end": schedule.end} if isinstance(schedule, rl.Linear) else {})


def options(name: str, preset: Preset, base: type[Sweep] | type[Search] = Sweep) -> type:
    """Dataclass of the command line of an algorithm: the options of `base` and its numbers."""
    fields: list[Any] = []
    for key, default in numbers_of(preset).items():
        is_switch = isinstance(default, bool)
        annotation: Any = bool if is_switch else tuple[type(default), ...]
        value = default if is_switch else (default,)
        argument = Annotated[
            annotation, tyro.conf.arg(help=HELP.get(key) or preset.meaning(key).rstrip("."))
        ]
        fields.append((key, argument, dataclasses.field(default=value)))
    made = dataclasses.make_dataclass(name, fields, bases=(base,), frozen=True)
    made.__doc__ = f"{preset.summary}. {base.usage}"
    return made


def training_of(args: Any, preset: Preset) -> tuple[rl.Training, Axes]:
    """The training that `jaxrl train` describes, and the axes of its sweep with that of the seeds.

    args: an instance of `options(name, preset, Sweep)`.

    Raises:
      ValueError: no seed or a negative one, or an option without a value.
    """
    if args.first_seed < 0 or args.seeds < 1 or args.first_seed + args.seeds > MAX_SEEDS:
        raise FlagError(
            f"--seeds {args.seeds} --first-seed {args.first_seed}: write at least one seed, "
            f"none below 0, and none of {MAX_SEEDS:,} or more."
        )
    if not args.save_seconds >= 0.0:
        raise FlagError(f"--save-seconds {args.save_seconds}: write 0 (every row) or more.")
    training, axes = _training_and_axes(args, preset)
    return training, axes | {"seed": np.arange(args.first_seed, args.first_seed + args.seeds)}


def search_of(args: Any, preset: Preset) -> tuple[rl.Training, dict[str, Any], float]:
    """The training that `jaxrl tune` describes, the ranges to search, and the step budget.

    args: an instance of `options(name, preset, Search)`.

    Raises:
      ValueError: no range, a range that is malformed or repeated, or an option with several values.
    """
    ranges = [_range(text) for text in args.search]
    if not ranges:
        raise FlagError(
            "there is nothing to tune: write, for example, --search lr=log:1e-5:1e-2 "
            "gamma=uniform:0.9:0.999."
        )
    training, axes = _training_and_axes(args, preset)
    if swept := [*axes, *static_axes_of(args, preset, training)]:
        raise FlagError(
            f"{swept[0]!r} was given several values; write a range of it as --search {swept[0]}=..."
        )
    space = {FIELDS.get(name, name): values for name, values in ranges}
    if len(space) < len(ranges):
        raise FlagError(f"--search {' '.join(args.search)} names a field twice: name each once.")
    run_steps = sum(int(count[-1]) for count in training.clocks.values())
    budget = 32 * args.seeds * run_steps if args.budget is None else args.budget
    return training, space, float(budget)


def _training_and_axes(args: Any, preset: Preset) -> tuple[rl.Training, Axes]:
    """The training with the first value of each option, and the axes of those with several."""
    from jaxrl import envs

    given = {name: vars(args)[name] for name in numbers_of(preset)}
    numbers = {name: values for name, values in given.items() if isinstance(values, tuple)}
    for name, values in numbers.items():
        if not values:
            raise FlagError(f"--{name.replace('_', '-')} was given no value.")
    first = given | {name: values[0] for name, values in numbers.items()}
    defaults = numbers_of(preset)
    fields = {name: value for name, value in first.items() if value != defaults[name]}
    if "lr_end" in fields:
        fields["schedule"] = rl.Linear(fields.pop("lr_end"))
    if args.memory < 0:
        raise FlagError(f"--memory {args.memory}: write the size of the cell, or 0 for none.")
    if any(not x >= 0.0 for x in args.stop_after):
        raise FlagError(f"--stop-after {' '.join(map(str, args.stop_after))}: write 0 or more.")
    if args.memory:
        fields["memory"] = MEMORIES[args.memory_kind](args.memory)
    fields |= _network(args, preset)

    env_params = _parameters("--env-params", args.env_params)
    stop_after = args.stop_after or (float("inf"),)
    first_env = {name: values[0] for name, values in env_params.items()}
    training = rl.Training(
        preset(**fields),
        envs.make(args.env, **first_env),
        args.steps,
        args.evals,
        args.episodes,
        args.eval_share,
        stop_after=stop_after[0],
    )
    also = {
        rl.tree.find(training, name): values
        for name, values in _parameters("--also", args.also).items()
    }
    for name in [name for name in numbers if given[name] != (defaults[name],)]:
        if rl.tree.find(training, axis_name(training, preset, name)) in also:
            flag = f"--{name.replace('_', '-')}"
            raise FlagError(f"{flag} and --also both set {name}: write one of them.")
    training = rl.tree.put(training, {name: values[0] for name, values in also.items()})

    floats = {
        axis_name(training, preset, name): values
        for name, values in numbers.items()
        if isinstance(values[0], float) and len(values) > 1
    }
    swept = floats | {"stop_after": stop_after} | env_params | also
    static = static_axes_of(args, preset, training)
    for name in static.keys() & env_params.keys():
        for value in static[name][1:]:  # a value that is refused is so before anything runs
            envs.make(args.env, **first_env | {name: value})
    axes: Axes = {
        name: _axis(name, values)
        for name, values in swept.items()
        if len(values) > 1 and name not in static
    }
    return training, axes


def _axis(name: str, values: tuple[Any, ...]) -> jax.Array:
    if words := [value for value in values if isinstance(value, str)]:
        raise ValueError(f"{name}={words[0]} is not a number: an axis has numbers.")
    return jnp.array(values, float)


def static_axes_of(args: Any, preset: Preset, training: rl.Training) -> dict[str, tuple[Any, ...]]:
    """The options with several values that shape the program: each value compiles its own.

    They are the integers of the algorithm, and the static fields of --also and --env-params.

    Raises:
      FlagError: several values of an argument of the environment that is not a field of it.
    """
    also = {
        rl.tree.find(training, name): values
        for name, values in _parameters("--also", args.also).items()
    }
    known = rl.tree.paths(training)
    found: dict[str, tuple[Any, ...]] = dict(counts_of(args, preset))
    for name, values in (_parameters("--env-params", args.env_params) | also).items():
        if len(values) < 2:
            continue
        if not any(path == name or path.endswith(f".{name}") for path in known):
            raise FlagError(
                f"--env-params {name}={','.join(map(str, values))}: {name} is an argument that "
                "the environment is made with, which takes one value. Run the command once for "
                "each, or sweep static={'env': ...} in Python."
            )
        if rl.tree.is_static(known[rl.tree.find(training, name)]):
            found[name] = values
    return found


def axis_name(training: rl.Training, preset: Preset, name: str) -> str:
    """Name of the axis of an algorithm's field: `name`, or more of its path if that is ambiguous.

    For example, CartPole has a field tau too, so that the axis of DQN's tau is learner.tau.
    """
    name = FIELDS.get(name, preset.aliases.get(name, (name,))[0])
    path = f"algo.{rl.tree.find(training.algo, name)}".split(".")
    paths = rl.tree.paths(training)
    for length in range(name.count(".") + 1, len(path)):
        name = ".".join(path[-length:])
        if sum(f".{other}".endswith(f".{name}") for other in paths) == 1:
            return name
    return ".".join(path)


def _network(args: Any, preset: Preset) -> dict[str, networks.Builder]:
    """The field `network`, if any network option was given: the algorithm's with these changes."""
    names = {
        "mlp": ("hidden", "activation", "layer_norm", "shared"),
        "cnn": ("hidden", "activation"),
    }[args.network]
    given = {name: vars(args)[name] for name in names if vars(args)[name] is not None}
    if "activation" in given:
        given["activation"] = ACTIVATIONS[given["activation"]]
    if args.network == "cnn":
        return {"network": rl.CNN(**given)}
    if not given:
        return {}
    return {"network": dataclasses.replace(preset.fields()["network"], **given)}


def counts_of(args: Any, preset: Preset) -> dict[str, tuple[int, ...]]:
    """The integers with several values: static axes, for each value of which a program compiles."""
    given = {name: vars(args)[name] for name in numbers_of(preset)}
    return {
        name: values
        for name, values in given.items()
        if isinstance(values, tuple) and len(values) > 1 and isinstance(values[0], int)
    }


def num_members(args: Any) -> int:
    """Number of runs that a command line describes, without starting jax."""
    given = [vars(args)[field.name] for field in dataclasses.fields(args)]
    axis_sizes = [
        len(values)
        for values in given
        if isinstance(values, tuple) and values and isinstance(values[0], float)
    ]
    axis_sizes += [1 + text.count(",") for text in args.env_params + args.also]
    return max(args.seeds, 1) * math.prod(axis_sizes)


def _parameters(flag: str, texts: tuple[str, ...]) -> dict[str, tuple[Any, ...]]:
    """Name and values of each name=value or name=value,value of an option."""
    found: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if not name or not all(values.split(",")):
            raise FlagError(
                f"{flag} {text} is not name=value or name=value,value; write, for example, "
                f"{flag} {EXAMPLES[flag]}."
            )
        if name in found:
            raise FlagError(f"{flag} names {name} twice: name it once, {name}=value,value.")
        found[name] = tuple(_value(value) for value in values.split(","))
    return found


def _range(text: str) -> tuple[str, Range]:
    """Name and range of name=kind:low:high or name=choice:value:value."""
    name, _, rest = text.partition("=")
    kind, *bounds = rest.split(":")
    values = [_value(bound) for bound in bounds]
    is_interval = len(values) == 2 and not any(isinstance(value, str) for value in values)
    if not name or kind not in RANGES or not (is_interval or kind == "choice"):
        raise FlagError(
            f"--search {text!r} is not a range: write name=kind:low:high, where kind is uniform, "
            "log or integer, or name=choice:value:value; for example, lr=log:1e-5:1e-2."
        )
    return name, RANGES[kind](*values)


def _value(text: str) -> int | float | bool | str:
    """The integer, number, true or false that a text is, or else the text. 1e6 is an integer only
    where it is written without a point or an exponent, as floats are leaves.
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
