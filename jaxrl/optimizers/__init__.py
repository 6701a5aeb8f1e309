"""Learned optimisers: what stands in Adam's place, as pytrees whose weights are leaves.

Each is called with a learning rate, as `Optimizer` is, and gives an optax transformation. So any
algorithm takes one as its `optimizer`, and evolution tunes "optimizer.weights" as it tunes any
other field.
"""

from jaxrl.optimizers.open import OPEN
from jaxrl.optimizers.small_fc import SmallFC

__all__ = ["OPEN", "SmallFC"]
