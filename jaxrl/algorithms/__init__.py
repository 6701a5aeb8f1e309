"""Algorithms: what acts and learns. `ALGORITHMS` names their makers."""

from collections.abc import Callable
from typing import Any

from jaxrl.algorithms.actor_critic import ActorCritic
from jaxrl.algorithms.base import Algorithm, Constant, Linear, Optimizer
from jaxrl.algorithms.disco import disco103
from jaxrl.algorithms.off_policy import OffPolicy
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.algorithms.policy_optimization import (
    a2c,
    dpo,
    grpo,
    impala,
    mdpo,
    ppo,
    ppo_penalty,
    reinforce,
    remax,
    rloo,
    spo,
    trpo,
)
from jaxrl.algorithms.pqn import pqn
from jaxrl.algorithms.q_learning import (
    QLearning,
    c51,
    dqn,
    iqn,
    munchausen_dqn,
    qr_dqn,
    r2d2,
    rainbow,
)
from jaxrl.algorithms.sac import crossq, dsac_t, mdpo_off_policy, redq, sac, sac_discrete
from jaxrl.algorithms.sqirl import SQIRL, sqirl
from jaxrl.algorithms.stream import Stream, stream_ac, stream_q, stream_sarsa
from jaxrl.algorithms.td3 import ddpg, td3

ALGORITHMS: dict[str, Callable[..., Any]] = {
    "a2c": a2c,
    "c51": c51,
    "crossq": crossq,
    "ddpg": ddpg,
    "dpo": dpo,
    "dqn": dqn,
    "dsac_t": dsac_t,
    "grpo": grpo,
    "impala": impala,
    "iqn": iqn,
    "mdpo": mdpo,
    "mdpo_off_policy": mdpo_off_policy,
    "munchausen_dqn": munchausen_dqn,
    "ppo": ppo,
    "ppo_penalty": ppo_penalty,
    "pqn": pqn,
    "qr_dqn": qr_dqn,
    "r2d2": r2d2,
    "rainbow": rainbow,
    "redq": redq,
    "reinforce": reinforce,
    "remax": remax,
    "rloo": rloo,
    "sac": sac,
    "sac_discrete": sac_discrete,
    "spo": spo,
    "sqirl": sqirl,
    "stream_ac": stream_ac,
    "stream_q": stream_q,
    "stream_sarsa": stream_sarsa,
    "td3": td3,
    "trpo": trpo,
}

__all__ = [
    "ALGORITHMS",
    "SQIRL",
    "ActorCritic",
    "Algorithm",
    "Constant",
    "Linear",
    "OffPolicy",
    "OnPolicy",
    "Optimizer",
    "QLearning",
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
