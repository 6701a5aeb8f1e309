"""Pieces of error messages that several modules share."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

# Fields by their former names, which a user may still type.
RENAMED = {
    "aim": "meta_objective",
    "held_out": "test_seeds",
    "inertia": "noise_correlation",
    "lives": "inner",
    "policy_critics": "num_policy_critics",
    "policy_minimum": "policy_q",
    "policy_period": "policy_delay",
    "slow_rate": "tau",
    "smoothing": "target_noise",
    "smoothing_clip": "target_noise_clip",
    "subset": "num_target_critics",
    "target_rate": "tau",
    "truth": "target_learner",
    "tunes": "meta_params",
}


EXAMPLES = {
    "lr": "lr=1e-3",
    "gamma": "gamma=0.99",
    "schedule": "schedule=rl.Linear()",
    "network": "network=rl.MLP((64, 64))",
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


def check_no_text(record: Any, *names: str) -> None:
    """Check that the named fields of a dataclass are values, not their names.

    Raises:
      TypeError: one that is a text, or None where that is no value of it.
    """
    for name in names:
        value = getattr(record, name)
        if isinstance(value, str):
            raise TypeError(
                f"{name}={value!r} of {type(record).__name__} is a text: write the value that it "
                f"stands for, say {EXAMPLES[name]}."
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


def former_names(module: str, renamed: dict[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__`: the error about a former name gives the present one."""

    def get(name: str) -> Any:
        if name in renamed:
            raise AttributeError(f"{module}.{name} is called {renamed[name]} now.")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return get
