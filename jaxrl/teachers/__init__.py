"""Teachers, which choose the level of each episode, and algorithms that train on these levels."""

from jaxrl.teachers.backward import Backward
from jaxrl.teachers.base import Report, Teacher
from jaxrl.teachers.boxes import ALPGMM, BoxTeacher, CovarGMM
from jaxrl.teachers.demonstrations import Demonstration, FromState, Starts, demonstrate
from jaxrl.teachers.paired import PAIRED
from jaxrl.teachers.plr import ACCEL, PLR, SFL
from jaxrl.teachers.pool import LevelPool
from jaxrl.teachers.regions import RIAC
from jaxrl.teachers.replay import LevelBuffer, LevelReplay
from jaxrl.teachers.samplr import SAMPLR
from jaxrl.teachers.scores import (
    Deficit,
    Learnability,
    MaxMC,
    PositiveValueLoss,
    Regret,
    Score,
    ValueLoss,
)
from jaxrl.teachers.self_play import SelfPlay
from jaxrl.teachers.tasks import TaskMultipliers, TaskProportion, TaskSoftmax, TaskTeacher
from jaxrl.teachers.taught import Taught
from jaxrl.teachers.uniform import Uniform

__all__ = [
    "ACCEL",
    "ALPGMM",
    "PAIRED",
    "PLR",
    "RIAC",
    "SAMPLR",
    "SFL",
    "Backward",
    "BoxTeacher",
    "CovarGMM",
    "Deficit",
    "Demonstration",
    "FromState",
    "Learnability",
    "LevelBuffer",
    "LevelPool",
    "LevelReplay",
    "MaxMC",
    "PositiveValueLoss",
    "Regret",
    "Report",
    "Score",
    "SelfPlay",
    "Starts",
    "TaskMultipliers",
    "TaskProportion",
    "TaskSoftmax",
    "TaskTeacher",
    "Taught",
    "Teacher",
    "Uniform",
    "ValueLoss",
    "demonstrate",
]
