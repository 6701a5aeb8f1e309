"""Teachers, which choose the level of each episode, and the algorithm that learns from them."""

from jaxrl.teachers.base import Report, Teacher
from jaxrl.teachers.boxes import ALPGMM, BoxTeacher, CovarGMM
from jaxrl.teachers.paired import PAIRED
from jaxrl.teachers.plr import ACCEL, PLR, SFL
from jaxrl.teachers.pool import LevelPool
from jaxrl.teachers.regions import RIAC
from jaxrl.teachers.replay import LevelBuffer, LevelReplay
from jaxrl.teachers.scores import (
    Deficit,
    Learnability,
    MaxMC,
    PositiveValueLoss,
    Regret,
    Score,
    ValueLoss,
)
from jaxrl.teachers.tasks import TaskMultipliers, TaskProportion, TaskSoftmax, TaskTeacher
from jaxrl.teachers.taught import Taught
from jaxrl.teachers.uniform import Uniform

__all__ = [
    "ACCEL",
    "ALPGMM",
    "PAIRED",
    "PLR",
    "RIAC",
    "SFL",
    "BoxTeacher",
    "CovarGMM",
    "Deficit",
    "Learnability",
    "LevelBuffer",
    "LevelPool",
    "LevelReplay",
    "MaxMC",
    "PositiveValueLoss",
    "Regret",
    "Report",
    "Score",
    "TaskMultipliers",
    "TaskProportion",
    "TaskSoftmax",
    "TaskTeacher",
    "Taught",
    "Teacher",
    "Uniform",
    "ValueLoss",
]
