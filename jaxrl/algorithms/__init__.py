"""Algorithms: what acts and learns. `PRESETS` holds the named ones."""

from jaxrl.algorithms.actor_critic import ActorCritic
from jaxrl.algorithms.base import Algorithm
from jaxrl.algorithms.controllers import AdaptiveRate, Controller, LogLinear
from jaxrl.algorithms.crossq import CrossQ
from jaxrl.algorithms.disco import disco103
from jaxrl.algorithms.max_info import MaxInfo
from jaxrl.algorithms.mdpo import MDPO
from jaxrl.algorithms.named import (
    a2c,
    c51,
    crossq,
    ddpg,
    dpo,
    dqn,
    dsac_t,
    grpo,
    impala,
    iqn,
    mdpo,
    mdpo_off_policy,
    munchausen_dqn,
    ppo,
    ppo_penalty,
    ppo_scheduled,
    pqn,
    qr_dqn,
    r2d2,
    rainbow,
    redq,
    reinforce,
    remax,
    rloo,
    sac,
    sac_discrete,
    spo,
    sqirl,
    stream_ac,
    stream_q,
    stream_sarsa,
    td3,
    trpo,
)
from jaxrl.algorithms.off_policy import OffPolicy
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.algorithms.preset import Preset
from jaxrl.algorithms.presets import PRESETS
from jaxrl.algorithms.q_learning import QLearning
from jaxrl.algorithms.rewarded import Rewarded, RewardModel
from jaxrl.algorithms.sqirl import SQIRL
from jaxrl.algorithms.stale import Stale
from jaxrl.algorithms.stream import Stream
from jaxrl.mixers import Additive, Mixer, Monotonic

__all__ = [
    "MDPO",
    "PRESETS",
    "SQIRL",
    "ActorCritic",
    "AdaptiveRate",
    "Additive",
    "Algorithm",
    "Controller",
    "CrossQ",
    "LogLinear",
    "MaxInfo",
    "Mixer",
    "Monotonic",
    "OffPolicy",
    "OnPolicy",
    "Preset",
    "QLearning",
    "RewardModel",
    "Rewarded",
    "Stale",
    "Stream",
    "a2c",
    "c51",
    "crossq",
    "ddpg",
    "disco103",
    "dpo",
    "dqn",
    "dsac_t",
    "grpo",
    "impala",
    "iqn",
    "mdpo",
    "mdpo_off_policy",
    "munchausen_dqn",
    "ppo",
    "ppo_penalty",
    "ppo_scheduled",
    "pqn",
    "qr_dqn",
    "r2d2",
    "rainbow",
    "redq",
    "reinforce",
    "remax",
    "rloo",
    "sac",
    "sac_discrete",
    "spo",
    "sqirl",
    "stream_ac",
    "stream_q",
    "stream_sarsa",
    "td3",
    "trpo",
]
