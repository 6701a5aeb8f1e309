"""The backward algorithm: starts that move from the end of a demonstration to its beginning."""

import jax
import jax.numpy as jnp

from jaxrl.clock import Metrics
from jaxrl.env import Env, Tasks, can
from jaxrl.errors import check_counts
from jaxrl.teachers.base import SUCCESS, Notes, Report, Teacher, TeacherState
from jaxrl.tree import leaf, pytree, static


@pytree
class Front:
    """The place that the front has reached, and the episodes and successes counted there. []."""

    place: jax.Array
    episodes: jax.Array
    successes: jax.Array


@pytree
class Backward(Teacher):
    """Levels along one dimension, from place 1 back to 0 (Salimans and Chen, 2018, algorithm 1).

    Places are uniform in [front - window, front]. After the update in which the number of episodes
    reaches `min_episodes`, the front moves back by `move` if their success rate is at least
    `success`, and the counts are reset.

    The levels need `at(place)` and a channel "success". With those of a demonstration,
    `rl.teachers.Starts`, this is the robustification phase of Go-Explore (Ecoffet et al., 2021).
    """

    success: float = leaf(0.2, "(0, 1]")
    move: float = leaf(0.05, "(0, 1]")
    window: float = leaf(0.1, "[0, 1]")
    min_episodes: int = static(default=32)

    def __post_init__(self) -> None:
        check_counts(self, "min_episodes")

    def check(self, tasks: Tasks, scouts: int) -> None:
        if not can(tasks, Tasks.at) or tasks.dimensions != 1:
            raise TypeError(
                f"Backward needs levels along one dimension, and {type(tasks).__name__} has "
                f"{tasks.dimensions if can(tasks, Tasks.at) else 'no at(place)'}: write "
                "rl.teachers.Starts(env, demonstration), or rl.envs.Family(env, length=(0.5, "
                "2.0)) with one parameter, of which the highest value is the easiest."
            )
        if SUCCESS not in tasks.channels:
            raise TypeError(
                f'Backward counts successes, and {type(tasks).__name__} has no channel "success": '
                "write rl.teachers.Starts(env, demonstration), or an environment that reports it."
            )

    def init(self, key: jax.Array, tasks: Tasks) -> Front:
        return Front(jnp.float32(1.0), jnp.float32(0.0), jnp.float32(0.0))

    def draw(self, key: jax.Array, state: Front, tasks: Tasks, num: int) -> tuple[Env, Notes]:
        before = self.window * jax.random.uniform(key, (num, 1))
        place = jnp.maximum(state.place - before, 0.0)
        return jax.vmap(tasks.at)(place), place[:, 0]

    def tell(
        self,
        key: jax.Array,
        state: TeacherState,
        tasks: Tasks,
        levels: Env,
        notes: Notes,
        report: Report,
    ) -> tuple[Front, Notes]:
        # levels after the front have been in play since before its last move
        counts = report.episodes * (notes <= state.place)
        episodes = state.episodes + counts.sum()
        successes = state.successes + jnp.sum(jnp.where(counts > 0, counts * report.success, 0.0))
        known = episodes >= self.min_episodes
        moves = known & (successes >= self.success * episodes)
        place = jnp.where(moves, jnp.maximum(state.place - self.move, 0.0), state.place)
        count = lambda x: jnp.where(known, 0.0, x)
        return Front(place, count(episodes), count(successes)), notes

    def metrics(self, state: Front) -> Metrics:
        return {"front": state.place}
