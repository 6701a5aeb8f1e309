"""Domain randomisation: each level is a new sample."""

import jax

from jaxrl.env import Env, Tasks
from jaxrl.teachers.base import Notes, Teacher, TeacherState
from jaxrl.tree import pytree


@pytree
class Uniform(Teacher):
    """New samples of the tasks: domain randomisation (DR, Tobin et al., 2017)."""

    def draw(
        self, key: jax.Array, state: TeacherState, tasks: Tasks, num: int
    ) -> tuple[Env, Notes]:
        return jax.vmap(tasks.sample)(jax.random.split(key, num)), ()
