"""A training run that was extended past its end, and what schedules do there."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import tree
from jaxrl.algorithms.base import State
from jaxrl.algorithms.loop import Row
from jaxrl.clock import Clock
from jaxrl.dependence import depends
from jaxrl.keys import as_key
from jaxrl.train import Training
from jaxrl.tree import pytree, static

Schedule = Literal["stretch", "restart"]
SCHEDULES = ("stretch", "restart")
SCHEDULED = ("schedule", "exploration", "priority")  # fields that may read the clock
UNSCHEDULED = ("Constant", "Uniform")  # their values that do not


@pytree
class Extended(Training):
    """A training run that was extended past its end, once or more often.

    earlier: of each earlier end the environment steps, and what schedules did there: with "stretch"
    they went on at the fraction of the longer run, with "restart" they began again.

    It is what `rl.extend` makes where schedules depend on the length of the run.
    """

    earlier: tuple[tuple[int, Schedule], ...] = static(default=())

    __hash__ = Training.__hash__  # a dataclass has its own otherwise

    @property
    def _ends(self) -> np.ndarray:
        """The updates at the end of each part. [parts]."""
        each = self.algo.steps_per_update
        return np.array([*(steps // each for steps, _ in self.earlier), self.steps // each])

    @property
    def _rows(self) -> np.ndarray:
        """The rows at the end of each part. [parts]."""
        return np.searchsorted(np.cumsum(self.updates), self._ends) + 1

    @property
    def _schedule_updates(self) -> Any:
        return self._ends[0]

    @property
    def _restarts(self) -> bool:
        return any(schedule == "restart" for _, schedule in self.earlier)

    @property
    def eval_rows(self) -> tuple[np.ndarray, int]:
        """As in `Training`, for each part on its own."""
        steps, rows = (*(steps for steps, _ in self.earlier), self.steps), self._rows
        found = [
            Training(
                self.algo, self.env, int(length), int(evals), self.episodes, self.eval_share
            ).eval_rows
            for length, evals in zip(
                np.diff(steps, prepend=0), np.diff(rows, prepend=0), strict=True
            )
        ]
        evaluated = np.concatenate([mask for mask, _ in found])
        return evaluated, min((n for mask, n in found if mask.any()), default=0)

    def init(self, key: jax.Array | int) -> State:
        state = Training.init(self, key)
        if not self._restarts:
            return state
        return map_run_clocks(self, lambda clock: tree.replace(clock, start=jnp.int32(0)), state)

    def masked_row(
        self, key: jax.Array | int, state: State, row: jax.Array | int
    ) -> tuple[State, Row]:
        key = as_key(key)
        part = (jnp.asarray(row) >= self._rows[:-1]).sum()
        starts = np.zeros(len(self._ends), np.int32)
        for i, (_, schedule) in enumerate(self.earlier):
            starts[i + 1] = self._ends[i] if schedule == "restart" else starts[i]

        def at(num_updates: np.ndarray) -> State:
            return self._algo.init(key, self.env, jnp.asarray(num_updates, jnp.int32)[part])  # type: ignore[arg-type]

        def set_clock(clock: Clock, longer: Clock, begun: Clock) -> Clock:
            start = jnp.asarray(begun.total, jnp.int32) if self._restarts else None
            return Clock(clock.n, longer.total, start)

        state = map_run_clocks(self, set_clock, state, at(self._ends), at(starts))
        return Training.masked_row(self, key, state, row)


def extended(training: Training, steps: int, schedule: Schedule | None) -> Training:
    """The training with more steps, with rows as long as before.

    schedule: as in `Extended`. None where nothing depends on the length of the run: then it is an
    ordinary training of so many steps.

    Raises:
      ValueError: fewer steps, steps that end between two evaluation points, or a schedule that
        must be chosen.
    """
    _check_steps(training, steps)
    evals = training.evals * _updates(training, steps) // _updates(training, training.steps)
    if schedule is not None and schedule not in SCHEDULES:
        raise ValueError(f"schedule={schedule!r} is neither 'stretch' nor 'restart'.")
    if schedule is None and (reason := what_depends(training)):
        raise ValueError(
            f"This training depends on its number of steps ({reason}), so an extended run "
            "does not equal a run of that length. Write schedule='stretch', which continues at "
            f"the fraction {training.steps / steps:.3g} of the longer run, or schedule='restart', "
            "which starts the schedules again for the added steps."
        )
    earlier = training.earlier if isinstance(training, Extended) else ()
    fields: dict[str, Any] = dict(
        algo=training.algo,
        env=training.env,
        steps=steps,
        evals=evals,
        episodes=training.episodes,
        eval_share=training.eval_share,
        stop_after=training.stop_after,
    )
    plain = Training(**fields)
    if schedule is None and not earlier and _evaluates_alike(training, plain):
        return plain
    return Extended(**fields, earlier=(*earlier, (training.steps, schedule or "stretch")))


def _updates(training: Training, steps: int) -> int:
    return steps // training.algo.steps_per_update


def _evaluates_alike(training: Training, longer: Training) -> bool:
    """True where the rows of a training are evaluated as the first ones of a longer one."""
    (rows, episodes), (longer_rows, longer_episodes) = training.eval_rows, longer.eval_rows
    return episodes == longer_episodes and bool((rows == longer_rows[: len(rows)]).all())


def _check_steps(training: Training, steps: Any) -> None:
    each, old = training.algo.steps_per_update, _updates(training, training.steps)
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer):
        raise ValueError(f"steps={steps!r} is not a whole number of environment steps.")
    if steps <= training.steps:
        raise ValueError(
            f"steps={steps} is the total length of the extended run, and the current length is "
            f"{training.steps}: write more."
        )
    if not (isinstance(training.stop_after, float) and training.stop_after == float("inf")):
        raise ValueError(
            f"stop_after={training.stop_after} ended runs before their last step, and such runs "
            "can't be extended: sweep again with a larger stop_after."
        )
    new = _updates(training, int(steps))
    if new * training.evals % old:
        row = old // np.gcd(old, training.evals)  # the fewest updates that are whole rows
        near = sorted({max(new // row, old // row + 1) * row, (new // row + 1) * row})
        options = " or ".join(f"steps={n * each}" for n in near)
        raise ValueError(
            f"steps={steps} ends between two evaluation points: the run has {training.evals} in "
            f"{old} updates of {each} steps, and their spacing can't change. Write {options}."
        )


# ----------------------------------------------------------------------------- the clocks of a run


def map_run_clocks(
    training: Training, function: Callable[..., Clock], state: Any, *others: Any
) -> Any:
    """A state with its clocks of the whole run changed, those with a total that is, or grows with,
    the number of updates.

    function: of the state's clock and those of the other states.
    """
    leaves, structure = jax.tree.flatten(state, is_leaf=_is_clock)
    rest = [jax.tree.leaves(other, is_leaf=_is_clock) for other in others]
    marks = run_clocks(training)
    changed = [
        function(*each) if mark else each[0]
        for mark, *each in zip(marks, leaves, *rest, strict=True)
    ]
    return structure.unflatten(changed)


def run_clocks(training: Training) -> list[bool]:
    """Of the leaves of a state, each clock being one, which are clocks of the whole run.

    Raises:
      ValueError: something else in the state depends on the number of updates.
    """
    state, marks = _state_of(training)
    leaves = jax.tree.leaves(
        jax.tree.unflatten(jax.tree.structure(state), marks), is_leaf=_is_clock
    )
    for leaf in leaves:
        if leaf is True or (_is_clock(leaf) and leaf.n is True):
            raise ValueError(
                f"The initial state of {type(training.algo).__name__}, apart from the totals of "
                "clocks, depends on the number of updates, so its runs can't be extended."
            )
    return [_is_clock(leaf) and leaf.total for leaf in leaves]


def _state_of(training: Training) -> tuple[Any, list[bool]]:
    """The shapes of a first state, and which of its leaves depend on the number of updates."""

    def init(num_updates: Any) -> State:
        return training._algo.init(jax.random.key(0), training.env, num_updates)  # type: ignore[arg-type]

    marks, state = depends(init, (jnp.float32(1.0),), [True])
    return state, marks


def run_totals(training: Training, part: Callable[[Training, Any], Any]) -> dict[str, float]:
    """The totals of the clocks of the whole run in a part of a state, by their paths."""
    key = jax.random.key(0)

    def totals(num_updates: Any) -> Any:
        return part(training, training._algo.init(key, training.env, num_updates))  # type: ignore[arg-type]

    marks, shapes = depends(totals, (jnp.float32(1.0),), [True])
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    values = jax.jit(
        lambda n: [x for x, mark in zip(jax.tree.leaves(totals(n)), marks, strict=True) if mark]
    )(training.updates.sum())
    marked = [name for name, mark in zip(names, marks, strict=True) if mark]
    return {name: float(value) for name, value in zip(marked, values, strict=True)}


def _is_clock(x: Any) -> bool:
    return isinstance(x, Clock)


def what_depends(training: Training) -> str:
    """What of an algorithm depends on the number of updates, as text; empty where nothing does."""
    run_clocks(training)
    state, marks = _state_of(training)
    key = jax.random.key(0)
    found, (after, _) = depends(
        lambda state: training._algo.update(key, training.env, state),  # type: ignore[arg-type]
        (state,),
        marks,
    )
    own = len(jax.tree.leaves(after))
    changed = any(now and not mark for now, mark in zip(found[:own], marks, strict=True))
    if not changed and not any(found[own:]):
        return ""
    kinds = {
        path: type(tree.get(training.algo, path)).__name__
        for path in tree.paths(training.algo)
        if path.rpartition(".")[2] in SCHEDULED
    }
    fields = [f"{path}={kind}" for path, kind in kinds.items() if kind not in UNSCHEDULED]
    return ", ".join(fields) or type(training.algo).__name__
