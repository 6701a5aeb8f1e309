"""Exploration bonuses around any algorithm: `rl.Rewarded(rl.ppo(), rl.exploration.RND())`."""

from jaxrl.exploration.bonus import Bonus
from jaxrl.exploration.channel import ChannelBonus
from jaxrl.exploration.coin_flips import CoinFlips
from jaxrl.exploration.counts import Counts, EpisodicCounts
from jaxrl.exploration.e3b import E3B
from jaxrl.exploration.prediction import ICM, RND, Disagreement, Prediction
from jaxrl.exploration.product import Product
from jaxrl.exploration.state_entropy import StateEntropy

__all__ = [
    "E3B",
    "ICM",
    "RND",
    "Bonus",
    "ChannelBonus",
    "CoinFlips",
    "Counts",
    "Disagreement",
    "EpisodicCounts",
    "Prediction",
    "Product",
    "StateEntropy",
]
