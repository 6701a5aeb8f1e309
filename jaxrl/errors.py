"""Pieces of error messages that several modules share."""

import difflib
from collections.abc import Iterable
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


def check_counts(record: Any, *names: str, min_value: int = 1) -> None:
    """Check that the named fields of a dataclass are whole numbers of at least `min_value`.

    Raises:
      ValueError: a field that is not.
    """
    for name in names:
        count = getattr(record, name)
        if not isinstance(count, int | np.integer) or count < min_value:
            kind = "a positive whole number" if min_value == 1 else "such a whole number"
            raise ValueError(
                f"{name}={count!r} of {type(record).__name__} is not {kind}: write "
                f"{name}={min_value} or more."
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
    return f"known are {', '.join(options)}"
