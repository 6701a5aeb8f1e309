"""jaxrl: reinforcement learning research in JAX, a thousand seeds in one program."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxrl import (
    accelerator,
    archives,
    bandits,
    exploration,
    games,
    plot,
    stats,
    symbolic,
    tabular,
    teachers,
    tree,
    tuning,
)
from jaxrl.algorithms import (
    MDPO,
    PRESETS,
    SQIRL,
    ActorCritic,
    AdaptiveRate,
    Additive,
    Algorithm,
    Controller,
    CrossQ,
    LogLinear,
    MaxInfo,
    Mixer,
    Monotonic,
    OffPolicy,
    OnPolicy,
    Preset,
    QLearning,
    Rewarded,
    RewardModel,
    Stale,
    Stream,
    a2c,
    c51,
    crossq,
    ddpg,
    disco103,
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
from jaxrl.archives import (
    GoExplore,
    MapElites,
)
from jaxrl.clock import (
    Clock,
)
from jaxrl.devices import (
    cache_compilations,
    distributed,
    use_all_cores,
)
from jaxrl.env import (
    Editor,
    Env,
    Step,
    Tasks,
)
from jaxrl.env_check import check_env
from jaxrl.errors import former_names
from jaxrl.importance import (
    importance,
)
from jaxrl.memories import (
    FFM,
    GRU,
    LRU,
    LSTM,
    GTrXL,
)
from jaxrl.meta import (
    CMAES,
    ES,
    PES,
    SNES,
    Bootstrap,
    Curriculum,
    Evolution,
    Families,
    InnerLoop,
    MetaGradient,
    OuterCritic,
    PersistentEvolution,
    PolicyGradientObjective,
    RegularizedEvolution,
    SelfTuning,
    SepCMAES,
    meta_gradient,
)
from jaxrl.networks import (
    CNN,
    MLP,
    Network,
    Views,
)
from jaxrl.optimizer import (
    Optimizer,
)
from jaxrl.optimizers import (
    OPEN,
    SmallFC,
)
from jaxrl.per_role import PerRole
from jaxrl.progress import (
    Report,
)
from jaxrl.replay import (
    Prioritized,
    Uniform,
)
from jaxrl.report import (
    report,
)
from jaxrl.rollout import (
    Episode,
    Policy,
    Transition,
    evaluate,
    play_levels,
)
from jaxrl.rule_file import (
    load_agent,
    load_rule,
    rule_card,
    save_rule,
)
from jaxrl.rules import (
    DPO,
    LPG,
    LPO,
    SPO,
    TD,
    Clip,
    Objective,
    PolicyGradient,
    QLambda,
    RewardSignals,
    Rule,
    Signal,
    Surrogate,
)
from jaxrl.runs import (
    live,
)
from jaxrl.runs.catalogue import (
    compare,
    runs,
)
from jaxrl.runs.export import (
    export,
    frame,
)
from jaxrl.runs.policy import (
    agent,
    best,
    policy,
)
from jaxrl.runs.rerun import (
    rerun,
)
from jaxrl.schedules import (
    Constant,
    Cooldown,
    Cosine,
    EpsilonGreedy,
    Linear,
    OptaxSchedule,
)
from jaxrl.self_play import Opponents, Player, Versus, round_robin
from jaxrl.spaces import (
    Box,
    Discrete,
    Masked,
    MultiDiscrete,
)
from jaxrl.sweep import (
    extend,
    load,
    plan,
    sweep,
    zipped,
)
from jaxrl.table import (
    Table,
)
from jaxrl.teachers import (
    LevelReplay,
    Taught,
)
from jaxrl.train import (
    Training,
    train,
)
from jaxrl.tree import (
    leaf,
    pytree,
    ranges,
    static,
)
from jaxrl.tuning import (
    tune,
)
from jaxrl.version import __version__ as __version__

if TYPE_CHECKING:
    from jaxrl import envs

# Names of former versions of this package, which a user may still type.
RENAMED = {
    "ALGORITHMS": "rl.PRESETS",
    "Gain": "rl.PolicyGradientObjective",
    "Lives": "rl.InnerLoop",
    "Online": "rl.SelfTuning",
}

__all__ = [
    "CMAES",
    "CNN",
    "DPO",
    "ES",
    "FFM",
    "GRU",
    "LPG",
    "LPO",
    "LRU",
    "LSTM",
    "MDPO",
    "MLP",
    "OPEN",
    "PES",
    "PRESETS",
    "SNES",
    "SPO",
    "SQIRL",
    "TD",
    "ActorCritic",
    "AdaptiveRate",
    "Additive",
    "Algorithm",
    "Bootstrap",
    "Box",
    "Clip",
    "Clock",
    "Constant",
    "Controller",
    "Cooldown",
    "Cosine",
    "CrossQ",
    "Curriculum",
    "Discrete",
    "Editor",
    "Env",
    "Episode",
    "EpsilonGreedy",
    "Evolution",
    "Families",
    "GTrXL",
    "GoExplore",
    "InnerLoop",
    "LevelReplay",
    "Linear",
    "LogLinear",
    "MapElites",
    "Masked",
    "MaxInfo",
    "MetaGradient",
    "Mixer",
    "Monotonic",
    "MultiDiscrete",
    "Network",
    "Objective",
    "OffPolicy",
    "OnPolicy",
    "Opponents",
    "OptaxSchedule",
    "Optimizer",
    "OuterCritic",
    "PerRole",
    "PersistentEvolution",
    "Player",
    "Policy",
    "PolicyGradient",
    "PolicyGradientObjective",
    "Preset",
    "Prioritized",
    "QLambda",
    "QLearning",
    "RegularizedEvolution",
    "Report",
    "RewardModel",
    "RewardSignals",
    "Rewarded",
    "Rule",
    "SelfTuning",
    "SepCMAES",
    "Signal",
    "SmallFC",
    "Stale",
    "Step",
    "Stream",
    "Surrogate",
    "Table",
    "Tasks",
    "Taught",
    "Training",
    "Transition",
    "Uniform",
    "Versus",
    "Views",
    "a2c",
    "accelerator",
    "agent",
    "archives",
    "bandits",
    "best",
    "c51",
    "cache_compilations",
    "check_env",
    "compare",
    "crossq",
    "ddpg",
    "disco103",
    "distributed",
    "dpo",
    "dqn",
    "dsac_t",
    "envs",
    "evaluate",
    "exploration",
    "export",
    "extend",
    "frame",
    "games",
    "grpo",
    "impala",
    "importance",
    "iqn",
    "leaf",
    "live",
    "load",
    "load_agent",
    "load_rule",
    "mdpo",
    "mdpo_off_policy",
    "meta_gradient",
    "munchausen_dqn",
    "plan",
    "play_levels",
    "plot",
    "policy",
    "ppo",
    "ppo_penalty",
    "ppo_scheduled",
    "pqn",
    "pytree",
    "qr_dqn",
    "r2d2",
    "rainbow",
    "ranges",
    "redq",
    "reinforce",
    "remax",
    "report",
    "rerun",
    "rloo",
    "round_robin",
    "rule_card",
    "runs",
    "sac",
    "sac_discrete",
    "save_rule",
    "spo",
    "sqirl",
    "static",
    "stats",
    "stream_ac",
    "stream_q",
    "stream_sarsa",
    "sweep",
    "symbolic",
    "tabular",
    "td3",
    "teachers",
    "train",
    "tree",
    "trpo",
    "tune",
    "tuning",
    "use_all_cores",
    "zipped",
]

_former_name = former_names("rl", RENAMED)


def __getattr__(name: str) -> Any:
    if name == "envs":  # at its first use, so that `import jaxrl` does not load it
        return importlib.import_module("jaxrl.envs")
    return _former_name(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
