"""Meta-learning: evolution, meta-gradients, and long ones through a tree of checkpoints."""

from jaxrl.meta.base import InnerProblem, MetaLearner
from jaxrl.meta.curriculum import Curriculum
from jaxrl.meta.evolution import Evolution
from jaxrl.meta.families import Families
from jaxrl.meta.fit import Drift, Examples, Fit, drift_examples
from jaxrl.meta.from_evosax import CMAES, SNES, SepCMAES
from jaxrl.meta.gradient import meta_gradient
from jaxrl.meta.inner_loop import InnerLoop
from jaxrl.meta.persistent import PES, PersistentEvolution
from jaxrl.meta.program_search import RegularizedEvolution
from jaxrl.meta.replay_tree import tree_scan
from jaxrl.meta.self_tuning import (
    Bootstrap,
    MetaObjective,
    PolicyGradientObjective,
    SelfTuning,
)
from jaxrl.meta.shaping import CentredRank, PairSign, Raw, ZScore
from jaxrl.meta.sliding import MetaGradient, OuterCritic
from jaxrl.meta.strategies import ES, Strategy

__all__ = [
    "CMAES",
    "ES",
    "PES",
    "SNES",
    "Bootstrap",
    "CentredRank",
    "Curriculum",
    "Drift",
    "Evolution",
    "Examples",
    "Families",
    "Fit",
    "InnerLoop",
    "InnerProblem",
    "MetaGradient",
    "MetaLearner",
    "MetaObjective",
    "OuterCritic",
    "PairSign",
    "PersistentEvolution",
    "PolicyGradientObjective",
    "Raw",
    "RegularizedEvolution",
    "SelfTuning",
    "SepCMAES",
    "Strategy",
    "ZScore",
    "drift_examples",
    "meta_gradient",
    "tree_scan",
]
