"""Memories: what reads a trajectory of features, between a network's features and its heads.

Each is a `networks.Memory`: `size` features in, `size` out, one trajectory [T], whose `first` [T]
marks the first steps of episodes. What it keeps is a tree of real arrays, zeros at the start of an
episode. Reading a trajectory at once, in parts or step by step is the same.
"""

from jaxrl.memories.linear_time import FFM, LRU
from jaxrl.memories.step_by_step import GRU, LSTM
from jaxrl.memories.window import GTrXL

__all__ = ["FFM", "GRU", "LRU", "LSTM", "GTrXL"]
