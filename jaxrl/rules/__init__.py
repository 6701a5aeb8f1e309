"""Update rules: targets and a loss of the experience of a rollout."""

from jaxrl.errors import former_names
from jaxrl.rules.base import Rule
from jaxrl.rules.disco import Disco
from jaxrl.rules.group import Advantage, GreedyBaseline, Group, LeaveOneOut, Standardized
from jaxrl.rules.lpg import LPG
from jaxrl.rules.lpo import LPO
from jaxrl.rules.objectives import (
    DPO,
    SPO,
    AdaptivePenalty,
    Clip,
    FixedPenalty,
    MirrorDescent,
    Objective,
    Penalty,
    PolicyGradient,
)
from jaxrl.rules.q_lambda import QLambda
from jaxrl.rules.signals import RewardSignals, Signal
from jaxrl.rules.stream import StreamRule
from jaxrl.rules.surrogate import Surrogate
from jaxrl.rules.td import TD, DQNClipped, DQNReg, SquaredError, ValueLoss
from jaxrl.rules.vtrace import VTrace

__all__ = [
    "DPO",
    "LPG",
    "LPO",
    "SPO",
    "TD",
    "AdaptivePenalty",
    "Advantage",
    "Clip",
    "DQNClipped",
    "DQNReg",
    "Disco",
    "FixedPenalty",
    "GreedyBaseline",
    "Group",
    "LeaveOneOut",
    "MirrorDescent",
    "Objective",
    "Penalty",
    "PolicyGradient",
    "QLambda",
    "RewardSignals",
    "Rule",
    "Signal",
    "SquaredError",
    "Standardized",
    "StreamRule",
    "Surrogate",
    "VTrace",
    "ValueLoss",
]

__getattr__ = former_names(
    "rl.rules",
    {"OverGreedy": "rl.rules.GreedyBaseline", "UpdateRule": "rl.Rule"},
)
