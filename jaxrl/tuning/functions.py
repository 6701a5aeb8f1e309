"""Tuners on plain functions in place of trainings."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxrl.tuning.history import History, Tuner
from jaxrl.tuning.space import Range, Space

# the setting's score, its learning curve [rows], or {metric: curve}
Function = Callable[[dict[str, Any]], float | np.ndarray | Mapping[str, np.ndarray | float]]


def maximize(
    function: Function,
    space: Mapping[str, Range],
    tuner: Tuner,
    budget: float,
    *,
    rows: int = 1,
    metric: str = "score",
    seed: int = 0,
) -> History:
    """The trials of a search for the setting {name: value} at which a function is highest.

    It is called on the host, in turn, for each setting anew; a tuner that stops settings early sees
    the first rows of their curves alone. budget: in rows, of which a whole setting takes `rows`.
    metric: the curve that is tuned for, where the function returns several.
    """
    history = History(Space(dict(space)), np.arange(rows + 1), budget, (seed,), metric)
    while (batch := tuner.ask(history)) is not None:
        history.check(batch)
        found = [function(history.space.setting(point)) for point in batch.points]
        named = [each if isinstance(each, Mapping) else {metric: each} for each in found]
        curves = {
            name: np.stack([np.broadcast_to(each[name], rows) for each in named])[:, None]
            for name in named[0]
        }
        scores = curves[metric][:, 0, batch.end_row - 1]
        history.tell(batch, curves, np.asarray(scores, float))
    return history
