"""Exploration bonuses around any algorithm: `rl.Rewarded(rl.ppo(), rl.exploration.RND())`."""

from jaxrl.exploration.bonus import Bonus
from jaxrl.exploration.counts import Counts
from jaxrl.exploration.e3b import E3B
from jaxrl.exploration.prediction import ICM, RND, Disagreement, Prediction

__all__ = ["E3B", "ICM", "RND", "Bonus", "Counts", "Disagreement", "Prediction"]
