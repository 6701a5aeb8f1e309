"""Pieces of error messages that several modules share."""

import difflib
import functools
import inspect
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


# Fields by which a text is refused, and what to write instead.
EXAMPLES = {
    "lr": "lr=1e-3",
    "actor_lr": "actor_lr=1e-3",
    "temperature_lr": "temperature_lr=1e-3",
    "gamma": "gamma=0.99",
    "optimizer": "optimizer=optax.adam",
    "schedule": "schedule=rl.Linear()",
    "network": "network=rl.MLP((64, 64))",
    "critic_network": "critic_network=rl.MLP((64, 64))",
    "memory": "memory=rl.GRU(64)",
}


def check_counts(record: Any, *names: str, min_value: int = 1) -> None:
    """Check that the named fields of a dataclass are whole numbers of at least `min_value`.

    Raises:
      ValueError: a field that is not.
    """
    for name in names:
        count = getattr(record, name)
        whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
        if not whole or count < min_value:
            kind = "a positive whole number" if min_value == 1 else "such a whole number"
            raise ValueError(
                f"{name}={count!r} of {type(record).__name__} is not {kind}: write "
                f"{name}={min_value} or more."
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
                f"stands for, say {example}."
            )


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: its new name, or the most similar known ones."""
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


def refuse_former_fields(cls: type[R]) -> type[R]:
    """The dataclass, with an error that gives the present name of a field's former one."""
    init = cls.__init__
    known = [name for name in inspect.signature(init).parameters if name != "self"]

    @functools.wraps(init)
    def checked_init(self: Any, *args: Any, **kwargs: Any) -> None:
        check_keywords(f"{cls.__name__} has no field", kwargs, known)
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
