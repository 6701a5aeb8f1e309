"""Pieces of error messages that several modules share."""

import difflib
import functools
import inspect
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

# Fields, parameters and metrics by their former names, which a user may still type.
RENAMED = {
    "aim": "meta_objective",
    "copies": "targets",
    "entrants": "num_candidates",
    "fewest": "min_seeds",
    "held_out": "test_seeds",
    "hurdle": "screening",
    "hurdle_tasks": "screening_tasks",
    "inertia": "noise_correlation",
    "learnt_temperature": "entropy_temperature",
    "lives": "inner",
    "long_life": "reference_lifetime",
    "newborn": "random_fraction",
    "policy_critics": "num_policy_critics",
    "policy_minimum": "policy_q",
    "policy_period": "policy_delay",
    "share": "truncation",
    "slow_rate": "tau",
    "smoothing": "target_noise",
    "smoothing_clip": "target_noise_clip",
    "subset": "num_target_critics",
    "target_rate": "tau",
    "truth": "target_learner",
    "tunes": "meta_params",
    "until": "end_row",
    "width": "critic_network",
}

# Names of other libraries, and the fields that are nearest to them.
ELSEWHERE = {
    "actor_learning_rate": ("actor_lr",),
    "alpha": ("temperature",),
    "alpha_lr": ("temperature_lr",),
    "beta_1": ("b1",),
    "buffer_capacity": ("capacity",),
    "buffer_size": ("capacity",),
    "clip_coef": ("clip",),
    "clip_eps": ("clip",),
    "clip_param": ("clip",),
    "clip_range": ("clip",),
    "clip_range_vf": ("value_clip",),
    "clip_ratio": ("clip",),
    "discount": ("gamma",),
    "discount_factor": ("gamma",),
    "discounting": ("gamma",),
    "ent_coef": ("entropy_weight", "temperature"),
    "ent_coeff": ("entropy_weight", "temperature"),
    "entropy_coef": ("entropy_weight", "temperature"),
    "entropy_coeff": ("entropy_weight", "temperature"),
    "entropy_cost": ("entropy_weight", "temperature"),
    "eps_clip": ("clip",),
    "epsilon_decay": ("epsilon_fraction",),
    "exploration_final_eps": ("epsilon_end",),
    "exploration_fraction": ("epsilon_fraction",),
    "exploration_initial_eps": ("epsilon_start",),
    "exploration_noise": ("noise",),
    "gae_lambda": ("lam",),
    "gradient_steps": ("updates",),
    "init_temperature": ("temperature",),
    "kl_coeff": ("kl_weight", "beta"),
    "lambda_": ("lam",),
    "learning_rate": ("lr",),
    "learning_starts": ("warmup",),
    "lr_schedule": ("schedule",),
    "max_gradient_norm": ("max_grad_norm",),
    "memory_size": ("capacity",),
    "multi_step": ("n_step",),
    "n_critics": ("num_critics",),
    "n_envs": ("num_envs",),
    "n_epochs": ("epochs",),
    "n_minibatches": ("minibatches",),
    "n_steps": ("num_steps",),
    "noise_clip": ("target_noise_clip",),
    "norm_adv": ("normalize_advantage",),
    "normalize_advantages": ("normalize_advantage",),
    "normalize_observations": ("normalize_obs",),
    "num_atoms": ("atoms",),
    "num_actors": ("num_envs",),
    "num_epochs": ("epochs",),
    "num_minibatches": ("minibatches",),
    "num_sgd_iter": ("epochs",),
    "num_updates_per_batch": ("epochs",),
    "num_workers": ("num_envs",),
    "pi_lr": ("actor_lr",),
    "policy_frequency": ("policy_delay",),
    "policy_lr": ("actor_lr",),
    "policy_noise": ("target_noise",),
    "polyak": ("tau",),
    "prioritized_replay": ("prioritized",),
    "q_lr": ("lr",),
    "replay_buffer_size": ("capacity",),
    "replay_size": ("capacity",),
    "rollout_length": ("num_steps",),
    "start_steps": ("warmup",),
    "target_network_frequency": ("target_period",),
    "target_update_interval": ("target_period",),
    "target_update_rate": ("tau",),
    "target_update_period": ("target_period",),
    "td_lambda": ("lam",),
    "train_freq": ("num_steps",),
    "trace_decay": ("lam",),
    "unroll_length": ("num_steps",),
    "update_epochs": ("epochs",),
    "utd_ratio": ("updates",),
    "value_coef": ("value_weight",),
    "vf_coef": ("value_weight",),
    "vf_loss_coeff": ("value_weight",),
}

# Names of other libraries for what is set in another way here.
INSTEAD = {
    "activation": "write network=rl.MLP((64, 64), activation=jax.nn.relu)",
    "batch_size": "write minibatches=num_envs * num_steps // batch_size, their number",
    "anneal_lr": "write schedule=rl.Linear() or rl.Constant()",
    "env": "write rl.Training(algo, env, steps)",
    "env_id": "write rl.Training(algo, rl.envs.make(env_id), steps)",
    "hidden_dims": "write network=rl.MLP((64, 64))",
    "hidden_layer_sizes": "write network=rl.MLP((64, 64))",
    "hidden_size": "write network=rl.MLP((64, 64))",
    "hidden_sizes": "write network=rl.MLP((64, 64))",
    "lr_decay": "write schedule=rl.Linear()",
    "lstm_size": "write memory=rl.LSTM(64)",
    "net_arch": "write network=rl.MLP((64, 64))",
    "num_timesteps": "write rl.Training(algo, env, steps=100_000)",
    "policy_kwargs": "write network=rl.MLP((64, 64))",
    "seed": "write training(seed), or sweep it: rl.sweep(training, {'seed': range(10)})",
    "total_steps": "write rl.Training(algo, env, steps=100_000)",
    "total_timesteps": "write rl.Training(algo, env, steps=100_000)",
}


# Fields by which a text is refused, and what to write instead.
EXAMPLES = {
    "optimizer": "optimizer=optax.adam",
    "network": "network=rl.MLP((64, 64))",
    "critic_network": "critic_network=rl.MLP((64, 64))",
    "memory": "memory=rl.GRU(64)",
}


def name_of(thing: Any, default: str) -> str:
    """The name of a function or class; `default` for what has none, such as a partial function."""
    return getattr(thing, "__name__", default)


def check_counts(record: Any, *names: str, min_value: int = 1) -> None:
    """Check that the named fields of a dataclass are whole numbers of at least `min_value`.

    Raises:
      ValueError: a field that is not.
    """
    for name in names:
        check_count(name, getattr(record, name), min_value, f" of {type(record).__name__}")


def check_count(name: str, count: Any, min_value: int = 1, of: str = "") -> None:
    """Check that an argument is a whole number of at least `min_value`.

    of: what has the argument, for the message.

    Raises:
      ValueError: it is not.
    """
    if is_count(count, min_value):
        return
    kind = "a positive whole number" if min_value == 1 else f"a whole number >= {min_value}"
    is_float = isinstance(count, float) and count.is_integer() and count >= min_value
    instead = f"{int(count)}" if is_float else f"{min_value} or more"
    kind += ", but a float" if is_float else ""
    raise ValueError(f"{name}={count!r}{of} is not {kind}: write {name}={instead}.")


def is_count(value: Any, min_value: int = 1) -> bool:
    """True for a whole number of at least `min_value`, which a bool is not."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_whole and bool(value >= min_value)


def check_seconds(name: str, seconds: Any) -> None:
    """Check that an argument is a time in seconds, 0 or more.

    Raises:
      ValueError: it is not.
    """
    is_number = isinstance(seconds, int | float | np.integer | np.floating)
    if not is_number or isinstance(seconds, bool) or not seconds >= 0.0:
        raise ValueError(
            f"{name}={seconds!r} is not a number of seconds: write {name}=60.0, or 0 or more."
        )


def check_switch(name: str, value: Any, *, or_none: bool = False) -> None:
    """Check that an argument is True or False (or None, where that is a choice).

    Raises:
      TypeError: it is not.
    """
    if not isinstance(value, bool | np.bool_) and not (or_none and value is None):
        kinds = "True, False or None" if or_none else "True or False"
        raise TypeError(f"{name}={value!r} is not {kinds}: write {name}=True or {name}=False.")


def as_path(path: Any, name: str = "folder") -> pathlib.Path:
    """The path that an argument names, with `~` for the home folder.

    Raises:
      TypeError: neither a text nor a path.
    """
    if not isinstance(path, str | os.PathLike):
        is_plain = path is None or isinstance(path, bool | int | float | bytes)
        given = f"{name}={path!r} is" if is_plain else f"{name} is a {type(path).__name__},"
        raise TypeError(f"{given} not a path: write a text, such as 'runs/x'.")
    return pathlib.Path(path).expanduser()


def check_widths(record: Any, name: str) -> None:
    """Check that a field is the widths of layers: positive whole numbers.

    Raises:
      ValueError: another value.
    """
    widths = vars(record)[name]
    listed = isinstance(widths, tuple | list)
    if not listed or any(
        not isinstance(width, int | np.integer) or isinstance(width, bool) or width < 1
        for width in widths
    ):
        raise ValueError(
            f"{name}={widths!r} of {type(record).__name__} is not the widths of layers, each a "
            f"positive whole number: write {name}=(64, 64)."
        )


def check_no_text(record: Any) -> None:
    """Check that the fields of a dataclass that `EXAMPLES` lists are values, not their names.

    Raises:
      TypeError: one that is a text.
    """
    for name, example in EXAMPLES.items():
        value = vars(record).get(name)
        if isinstance(value, str):
            raise TypeError(
                f"{name}={value!r} of {type(record).__name__} is a text: write the value that it "
                f"stands for, such as {example}."
            )


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: its present name, or the most similar ones."""
    options = sorted(set(known))
    new_name = RENAMED.get(name.rpartition(".")[2])
    if new_name in options:
        return f"it is called {new_name} now"
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if close:
        return f"the nearest are {', '.join(close)}"
    if not options:
        return "there are none"
    return f"known are {', '.join(options)}"


def nearest_field(name: str, known: Iterable[str]) -> str:
    """As `nearest`, of a field of an algorithm: first what other libraries call so."""
    options, last = set(known), name.rpartition(".")[2]
    if here := [field for field in ELSEWHERE.get(last, ()) if field in options]:
        return f"here it is {here[0]}"
    if last in INSTEAD and RENAMED.get(last) not in options:
        return INSTEAD[last]
    return nearest(name, options)


def check_keywords(call: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Check that no keyword is the former name of a known one.

    call: the start of the message, such as "tune takes no".

    Raises:
      TypeError: one that is, with the present name.
    """
    known = set(known)
    for name in given:
        if name not in known and RENAMED.get(name) in known:
            raise TypeError(f"{call} {name!r}; it is called {RENAMED[name]} now.")


def refuse_former_names(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with an error that gives the present name of a former keyword."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check_keywords(f"{function.__name__} takes no", kwargs, known)
        return function(*args, **kwargs)

    return checked


def refuse_unknown_fields(cls: type[R]) -> type[R]:
    """The dataclass, with an error about an unknown field that gives the nearest ones."""
    init = cls.__init__
    known = [name for name in inspect.signature(init).parameters if name != "self"]

    @functools.wraps(init)
    def checked_init(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in known:
                raise TypeError(
                    f"{cls.__name__} has no field {name!r}; {nearest_field(name, known)}."
                )
        init(self, *args, **kwargs)

    setattr(cls, "__init__", checked_init)
    return cls


def not_defined(record: Any, method: Callable[..., Any] | property) -> NotImplementedError:
    """The error about a method of a base class that the class of `record` has to define."""
    is_property = isinstance(method, property)
    function: Any = method.fget if is_property else method
    base, _, name = function.__qualname__.rpartition(".")
    header = f"def {name}({', '.join(inspect.signature(function).parameters)})"
    return NotImplementedError(
        f"{type(record).__name__} does not define {name}: write `{'@property ' * is_property}"
        f"{header}` in it; the docstring of {base}.{name} describes the result."
    )


def former_names(module: str, renamed: dict[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__`: the error about a former name gives the present one."""

    def get(name: str) -> Any:
        if name in renamed:
            raise AttributeError(f"{module}.{name} is called {renamed[name]} now.")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return get
