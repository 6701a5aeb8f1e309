"""Algorithms: what acts and learns. `ALGORITHMS` names their makers."""

from collections.abc import Callable
from typing import Any

from jaxrl.algorithms.base import Algorithm, Constant, Linear, Optimizer
from jaxrl.algorithms.on_policy import OnPolicy, a2c, ppo

ALGORITHMS: dict[str, Callable[..., Any]] = {"a2c": a2c, "ppo": ppo}

__all__ = ["ALGORITHMS", "Algorithm", "Constant", "Linear", "OnPolicy", "Optimizer", "a2c", "ppo"]
