"""What a command line asks for: a dataclass for each algorithm, and the training and the axes that
it makes.
"""

import dataclasses
import inspect
import math
import pathlib
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import tyro

import jaxrl as rl

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
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
NAMES = {"lr_end": "schedule.end"}  # options that are called otherwise than their field
RANGES: dict[str, Callable[..., Any]] = {
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
    "foresight": rl.tuning.CurveStopping(),
    "pbt": rl.tuning.PBT(),
    "de": rl.tuning.DE(),
    "dehb": rl.tuning.DEHB(),
    "tpe": rl.tuning.Optuna(),
    "gp": rl.tuning.Optuna(rl.tuning.gp),
}

HELP = {
    "lr": "learning rate",
    "gamma": "discount",
    "lam": "lambda of the advantage estimates",
    "clip": "how far the probability ratio may move",
    "entropy_weight": "weight of the entropy bonus",
    "value_weight": "weight of the value loss",
    "value_clip": "how far a value may move in an update (inf: no limit)",
    "lr_end": (
        "share of the learning rate that is left at the end (linear schedule; 1 keeps it constant)"
    ),
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
    """What every command that trains is asked."""

    env: tyro.conf.Positional[str]
    """environment, as `jaxrl envs` lists them"""
    env_params: tuple[str, ...] = ()
    """of the environment: name=value, or name=value,value,... (an axis), or name=word
    (backend=mjx)
    """
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
    """any other field by its name: name=value, or name=value,value,... (an axis), say
    optimizer.options.eps=1e-8,1e-5
    """
    folder: pathlib.Path | None = None
    """keeps everything here, and goes on from here"""
    chunk: int | None = None
    """members per program (default: as many as fit)"""
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


@dataclasses.dataclass(frozen=True)
class Sweep(Common):
    """What `jaxrl train` is asked beside it."""

    several: ClassVar[str] = (
        "A number given several values is an axis of the sweep; a whole one compiles a program "
        "each."
    )
    seeds: int = 32
    """how many members for each setting"""
    first_seed: int = 0
    """seeds are counted from here: tune and test on different ones"""
    memory_limit: str | None = None
    """what the programs may take in all, say 4GB (default: most of what is free)"""
    save_seconds: float = 60.0
    """with a folder, what a stop inside a chunk may cost, and one row; more where saving takes
    over a twentieth of it
    """
    keep_best: bool = False
    """with a folder, also keep each member's parameters of its best evaluation"""
    distributed: bool = False
    """share the chunks with the other processes of this job (Slurm, Kubernetes, mpirun, TPU
    pods)
    """
    plan: bool = False
    """say what it will take (memory, disk, time), and train nothing"""
    gif: bool = False
    """draw the best member's policy into FOLDER/best.gif"""


@dataclasses.dataclass(frozen=True)
class Search(Common):
    """What `jaxrl tune` is asked beside it."""

    several: ClassVar[str] = (
        "--search says what is tuned; any other number keeps the one value that it has."
    )
    search: tuple[str, ...] = ()
    """ranges by the names of fields: lr=log:1e-5:1e-2 gamma=uniform:0.9:0.999
    epochs=integer:1:8 num_envs=choice:16:64
    """
    budget: float | None = None
    """environment steps of tuning, with killed settings and greedy evaluation (default: 32
    whole lives of --seeds)
    """
    tuner: Literal[
        "random", "sobol", "halving", "hyperband", "foresight", "pbt", "de", "dehb", "tpe", "gp"
    ] = "random"
    """tpe and gp are optuna's (extra optuna; gp needs torch too)"""
    seeds: int = 8
    """of each setting while it is tuned"""
    test_seeds: int = 32
    """of the best setting afterwards: none of them was tuned on"""
    metric: str = "return"
    """what is judged by the interquartile mean of its last value: return, or evaluation (greedy
    play)
    """
    seed: int = 0
    """the luck of all of it"""


def options(
    name: str, maker: Callable[..., Any], asked: type[Sweep] | type[Search] = Sweep
) -> type:
    """The command line of an algorithm: what all are `asked`, and its numbers, each an axis where
    it has several values.
    """
    fields: list[Any] = []
    for key, default in _defaults(maker).items():
        kind: Any = type(default) if isinstance(default, bool) else tuple[type(default), ...]
        value = default if isinstance(default, bool) else (default,)
        fields.append(
            (
                key,
                Annotated[kind, tyro.conf.arg(help=HELP.get(key, ""))],
                dataclasses.field(default=value),
            )
        )
    made = dataclasses.make_dataclass(name, fields, bases=(asked,), frozen=True)
    made.__doc__ = f"{(inspect.getdoc(maker) or name).splitlines()[0]} {asked.several}"
    return made


def _defaults(maker: Callable[..., Any]) -> dict[str, Any]:
    """Every number that a maker takes, its own and those of the algorithm that it makes, with its
    default.
    """
    own = {
        k: p.default
        for k, p in inspect.signature(maker).parameters.items()
        if p.kind is p.KEYWORD_ONLY
    }
    made = maker()
    rest = {
        field.name: getattr(made, field.name)
        for field in dataclasses.fields(made)
        if field.name not in own
    }
    numbers = {
        key: value for key, value in (own | rest).items() if isinstance(value, bool | int | float)
    }
    return numbers | (
        {"lr_end": made.schedule.end}
        if isinstance(getattr(made, "schedule", None), rl.Linear)
        else {}
    )


def training_of(asked: Any, maker: Callable[..., Any]) -> tuple[rl.Training, dict[str, Any]]:
    """The training that a command line asks for, and the axes that its lists of values and its
    seeds make.
    """
    if asked.first_seed < 0 or asked.seeds < 1:
        raise ValueError(
            f"--seeds {asked.seeds} --first-seed {asked.first_seed}: write at least one seed, "
            "and none below 0."
        )
    training, axes = _without_seeds(asked, maker)
    return training, axes | {"seed": np.arange(asked.first_seed, asked.first_seed + asked.seeds)}


def search_of(asked: Any, maker: Callable[..., Any]) -> tuple[rl.Training, dict[str, Any], float]:
    """The training that a command line asks to tune, its ranges, and the budget in environment
    steps.
    """
    ranges = [_range(text) for text in asked.search]
    if not ranges:
        raise ValueError(
            "nothing says what to tune: write, say, --search lr=log:1e-5:1e-2 "
            "gamma=uniform:0.9:0.999."
        )
    training, axes = _without_seeds(asked, maker)
    if several := [*axes, *counts_of(asked, maker)]:
        raise ValueError(
            f"{several[0]!r} was given several values; a range of it is written --search "
            f"{several[0]}=..."
        )
    space = {NAMES.get(name, name): one for name, one in ranges}
    if len(space) < len(ranges):
        raise ValueError(f"--search {' '.join(asked.search)} names a field twice: name each once.")
    life = training.clocks["step"][-1] + training.clocks["eval_step"][-1]
    return training, space, float(32 * asked.seeds * life) if asked.budget is None else asked.budget


def _without_seeds(asked: Any, maker: Callable[..., Any]) -> tuple[rl.Training, dict[str, Any]]:
    import envs

    given = {key: getattr(asked, key) for key in _defaults(maker)}
    numbers = {key: value for key, value in given.items() if isinstance(value, tuple)}
    for key, values in numbers.items():
        if not values:
            raise ValueError(f"--{key.replace('_', '-')} was given no value.")
    fixed = {key: value for key, value in given.items() if key not in numbers} | {
        key: v[0] for key, v in numbers.items()
    }
    floats = {key: values for key, values in numbers.items() if isinstance(values[0], float)}
    floats |= {"stop_after": asked.stop_after or (float("inf"),)}
    if "lr_end" in fixed:
        fixed["schedule"] = rl.Linear(fixed.pop("lr_end"))
    memory = {"memory": MEMORIES[asked.memory_kind](asked.memory)} if asked.memory else {}
    world = dict(_parameter(text) for text in asked.env_params)
    env = envs.make(asked.env, **{name: values[0] for name, values in world.items()})
    algo, life = (
        maker(**fixed, **_network(asked, maker), **memory),
        (asked.steps, asked.evals, asked.episodes),
    )
    training = rl.Training(algo, env, *life, asked.eval_share, stop_after=floats["stop_after"][0])
    also = {rl.tree.find(training, name): values for name, values in map(_parameter, asked.also)}
    training = rl.tree.put(training, {name: values[0] for name, values in also.items()})
    several = {key: values for key, values in (floats | world | also).items() if len(values) > 1}
    return training, {
        NAMES.get(key, key): jnp.array(values, float) for key, values in several.items()
    }


def _network(asked: Any, maker: Callable[..., Any]) -> dict[str, Any]:
    """The algorithm's own network with what was asked of it, or a CNN with that; nothing where
    nothing was asked.
    """
    kinds = {
        "mlp": ("hidden", "activation", "layer_norm", "shared"),
        "cnn": ("hidden", "activation"),
    }[asked.network]
    given = {name: getattr(asked, name) for name in kinds if getattr(asked, name) is not None}
    given |= {"activation": ACTIVATIONS[given["activation"]]} if "activation" in given else {}
    if asked.network == "cnn":
        return {"network": rl.CNN(**given)}
    made = maker()
    own = made.network if hasattr(made, "network") else made.learner.network
    return {"network": dataclasses.replace(own, **given)} if given else {}


def counts_of(asked: Any, maker: Callable[..., Any]) -> dict[str, tuple[int, ...]]:
    """The whole numbers that a command line gives several values of: static axes."""
    several = {
        key: value
        for key in _defaults(maker)
        if isinstance(value := getattr(asked, key), tuple) and len(value) > 1
    }
    return {key: values for key, values in several.items() if isinstance(values[0], int)}


def num_members(asked: Any) -> int:
    """How many members a command line asks for, known before jax starts."""
    given = [getattr(asked, field.name) for field in dataclasses.fields(asked)]
    axes = [
        len(value)
        for value in given
        if isinstance(value, tuple) and value and isinstance(value[0], float)
    ]
    return (
        max(asked.seeds, 1)
        * math.prod(axes)
        * math.prod(1 + text.count(",") for text in asked.env_params + asked.also)
    )


def _parameter(text: str) -> tuple[str, tuple[Any, ...]]:
    name, mark, values = text.partition("=")
    if not mark or not values:
        raise ValueError(
            f"--env-params {text!r} is not name=value or name=value,value; write, say, g=9.8,5."
        )
    return name, tuple(_value(value) for value in values.split(","))


def _range(text: str) -> tuple[str, Any]:
    name, _, rest = text.partition("=")
    kind, *ends = rest.split(":")
    values = [_value(end) for end in ends]
    ordered = len(values) == 2 and not any(isinstance(value, str) for value in values)
    if not name or kind not in RANGES or not (ordered or kind == "choice"):
        raise ValueError(
            f"--search {text!r} is no range: write name=kind:low:high with a kind of uniform, "
            "log or integer, or "
            "name=choice:value:value; say, lr=log:1e-5:1e-2."
        )
    return name, RANGES[kind](*values)


def _value(text: str) -> Any:
    """A whole number, a number, true or false, or else the word itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
