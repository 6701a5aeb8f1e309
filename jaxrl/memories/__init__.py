"""Recurrent cells and other memories, between a network's features and its heads.

Each is a `networks.Memory`: it maps features [T, size] of one trajectory to features [T, size];
`first` [T] marks the first step of each episode. The recurrent state is a tree of real arrays, 0
at the start of an episode. The result is the same for a trajectory at once, in parts, or step by
step.
"""

from jaxrl.memories.linear_time import FFM, LRU
from jaxrl.memories.step_by_step import GRU, LSTM
from jaxrl.memories.window import GTrXL

__all__ = ["FFM", "GRU", "LRU", "LSTM", "GTrXL"]
