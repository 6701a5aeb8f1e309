"""jaxrl: reinforcement learning research in JAX, a thousand seeds in one program."""

from jaxrl import plot, stats, tree
from jaxrl.algorithms import ALGORITHMS, Constant, Linear, OnPolicy, Optimizer, a2c, ppo
from jaxrl.devices import cache_compilations, distributed, use_all_cores
from jaxrl.env import Env, Step
from jaxrl.export import export, frame
from jaxrl.networks import CNN, GRU, MLP, Network
from jaxrl.policy import best, policy
from jaxrl.rerun import rerun
from jaxrl.rollout import evaluate
from jaxrl.rules import Clip, Clock, PolicyGradient, Surrogate
from jaxrl.spaces import Box, Discrete, MultiDiscrete
from jaxrl.sweep import load, plan, sweep
from jaxrl.sweep.grid import zipped
from jaxrl.train import Training, train
from jaxrl.tree import pytree, static

__all__ = [
    "ALGORITHMS",
    "CNN",
    "GRU",
    "MLP",
    "Box",
    "Clip",
    "Clock",
    "Constant",
    "Discrete",
    "Env",
    "Linear",
    "MultiDiscrete",
    "Network",
    "OnPolicy",
    "Optimizer",
    "PolicyGradient",
    "Step",
    "Surrogate",
    "Training",
    "a2c",
    "best",
    "distributed",
    "evaluate",
    "export",
    "frame",
    "load",
    "plan",
    "plot",
    "policy",
    "ppo",
    "pytree",
    "rerun",
    "static",
    "stats",
    "sweep",
    "train",
    "tree",
    "use_all_cores",
    "zipped",
]

cache_compilations()
