"""Learned optimisers, as pytrees with their weights as leaves.

Each is called with a learning rate, as `Optimizer` is, and returns an optax transformation. Any
algorithm takes one as its `optimizer`, and evolution tunes "optimizer.weights" like another field.
"""

from jaxrl.optimizers.open import OPEN
from jaxrl.optimizers.small_fc import SmallFC

__all__ = ["OPEN", "SmallFC"]
