"""Compiled programs for a chunk of members, spread over the local devices."""

import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl import progress, tree
from jaxrl.accelerator.compile import Program, compile_traced, program_bytes, shapes_on
from jaxrl.accelerator.targets import Target
from jaxrl.algorithms.base import Algorithm
from jaxrl.algorithms.loop import Row
from jaxrl.devices import local_devices, place, platform
from jaxrl.sweep import stopping
from jaxrl.sweep.arrays import is_large
from jaxrl.sweep.checkpoint import Checkpoints, Rows
from jaxrl.train import Training

MEMBERS = PartitionSpec("members")
NO_MEMBER = PartitionSpec()
# the agent's leaves among a chunk's outputs, at the end and when it was evaluated best
AGENT, BEST_AGENT = "agent", "best_agent"
# leaves of the whole state at the end, from which a run can be extended (a search has "state")
STATE = "final_state"
STATE_LIMIT = 2**28  # bytes of a sweep's final states, up to which they are kept unless asked for
CHECKPOINT_COPIES = 1  # of the state, on a CPU, while a checkpoint is written
Report = Callable[[float, Rows], None]  # the fraction of the rows done, and those so far


def over_devices(
    function: Callable[..., Any], specs: tuple[PartitionSpec, ...], devices: int
) -> Callable[..., Any]:
    """`vmap` over the arguments marked MEMBERS, each device taking an equal part of them.

    Members never communicate.
    """
    axes = tuple(0 if spec == MEMBERS else None for spec in specs)

    def members(*arguments: Any) -> Any:
        first = arguments[specs.index(MEMBERS)]
        if jax.tree.leaves(first)[0].shape[0] > 1:
            return jax.vmap(function, in_axes=axes)(*arguments)
        # one member a device: an axis of length 1 costs a tenth of its speed
        at = lambda x, axis: x if axis is None else jax.tree.map(lambda leaf: leaf[0], x)
        alone = function(*(at(x, axis) for x, axis in zip(arguments, axes, strict=True)))
        return jax.tree.map(lambda x: jnp.asarray(x)[None], alone)

    if devices == 1:
        return members
    return jax.shard_map(
        members, mesh=_mesh(devices), in_specs=specs, out_specs=MEMBERS, check_vma=False
    )


def _mesh(devices: int) -> Mesh:
    return Mesh(np.array(local_devices()[:devices]), ("members",))


Compiled = jax.stages.Compiled | Program


def compile_all(traced: list[jax.stages.Traced]) -> Sequence[Compiled]:
    """Several programs, compiled side by side: XLA works outside Python's lock."""
    progress.show_compiling()
    if isinstance(target := place(), Target):
        return [compile_traced(each, target) for each in traced]
    lowered = [each.lower() for each in traced]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(lambda each: each.compile(), lowered))


class Whole:
    """A function of a config, compiled for `width` members: one program.

    listener: gets its rows through a callback. check: gets the shapes of the outputs before
    anything compiles.
    """

    def __init__(
        self,
        member: Callable[[Any], Any],
        configs: Any,
        devices: int,
        listener: Callable[[Any, Any], None] | None = None,
        check: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        started = time.monotonic()
        with contextlib.nullcontext() if listener is None else progress.listening(listener):
            traced = jax.jit(over_devices(member, (MEMBERS,), devices)).trace(shapes_on(configs))
            if check is not None:
                check(flatten(traced.out_info))
            (self._program,) = compile_all([traced])
        self.compile_seconds = time.monotonic() - started

    @property
    def bytes_per_device(self) -> int:
        return program_bytes(self._program)

    @property
    def compiled(self) -> dict[str, Compiled]:
        """The program, by what it does."""
        return {"run": self._program}

    def __call__(self, configs: Any) -> dict[str, np.ndarray]:
        """The outputs of each member [width, ...]."""
        outputs = flatten(jax.device_get(self._program(configs)))
        jax.effects_barrier()  # its last callbacks belong to this chunk
        return outputs


class Stepped:
    """A `Training`, stepped by the host row by row: two programs without callbacks, which the
    compilation cache keeps.

    at: the training and key of a config, given the training that is swept. Its large arrays are
    arguments of the programs, shared by all members. keep: outputs hold the agent's leaves. best:
    also those of the best evaluation. check: gets the shapes of a row's metrics before anything
    compiles. checkpoints: counts the copies that saving makes into `bytes_per_device`. states:
    outputs hold the leaves of the final states, too; a number of members: if those of so many are
    at most `STATE_LIMIT` bytes.
    """

    def __init__(
        self,
        at: Callable[[Any, Training], tuple[Training, jax.Array]],
        training: Training,
        configs: Any,
        devices: int,
        keep: bool,
        best: bool = False,
        check: Callable[[dict[str, Any]], None] | None = None,
        checkpoints: bool = False,
        states: bool | int = False,
    ) -> None:
        started = time.monotonic()
        self.training, self._devices = training, devices
        self._keep, self._best, self._checkpoints = keep, best, checkpoints
        large, combine = tree.partition(training, is_large)
        self._arrays = [_on_all_devices(x, devices) for x in large]

        def init(config: Any, arrays: list[jax.Array]) -> Any:
            training, key = at(config, combine(arrays))
            return training.init(key)

        def run_row(config: Any, state: Any, row: Any, arrays: list[jax.Array]) -> Any:
            training, key = at(config, combine(arrays))
            return training.masked_row(key, state, row)

        init = over_devices(init, (MEMBERS, NO_MEMBER), devices)
        run_row = over_devices(run_row, (MEMBERS, MEMBERS, NO_MEMBER, NO_MEMBER), devices)
        row = jax.ShapeDtypeStruct((), jnp.int32)
        configs, arrays = shapes_on((configs, self._arrays))
        traced_init = jax.jit(init).trace(configs, arrays)
        state = shapes_on(traced_init.out_info)
        if devices > 1:
            sharding = NamedSharding(_mesh(devices), MEMBERS)
            state = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state
            )
        traced_row = jax.jit(run_row, donate_argnums=1).trace(configs, state, row, arrays)
        if check is not None:
            check(traced_row.out_info[1].values)
        self.traced = traced_init, traced_row
        self.state_bytes = _size(jax.tree.leaves(state))  # of all devices
        self.agent_bytes = _size(agent_of(training, state)) if best or keep else 0
        width = jax.tree.leaves(configs)[0].shape[0]
        self.keeps_states = states is True or 0 < self.state_bytes / width * states <= STATE_LIMIT
        self._init, self._run_row = compile_all([traced_init, traced_row])
        self.compile_seconds = time.monotonic() - started

    @property
    def bytes_per_device(self) -> int:
        """The peak of a program and of the copies beside it on one device: of the best agent, old
        and new, and, where its memory is the host's as a CPU's is, of a checkpoint.
        """
        best = self.agent_bytes if self._best else 0
        saves = self._checkpoints and platform() == "cpu" and self.training.evals > 1
        saved = CHECKPOINT_COPIES * (self.state_bytes + best) if saves else 0
        programs = max(map(program_bytes, self.compiled.values()))
        return programs + (2 * best + saved) // self._devices

    @property
    def compiled(self) -> dict[str, Compiled]:
        """Both programs, by what they do: the states at the start, and one row."""
        return {"init": self._init, "row": self._run_row}

    def run_rows(
        self,
        configs: Any,
        report: Report,
        checkpoints: Checkpoints | None = None,
        rows: tuple[int, int] | None = None,
        start: Callable[[Any], Any] | None = None,
    ) -> tuple[Any, Any, Rows]:
        """The state after the last row, the best agents (None unless kept), and each row's metrics.

        It goes on from the last checkpoint. rows: the first row and one past the last, by default
        all. start: makes the state before the first row from that of `init`.
        """
        first, end = rows or (0, self.training.evals)
        state = self._init(configs, self._arrays)
        state = state if start is None else start(state)
        best, done = (_no_best(self.training, state) if self._best else None), []
        if checkpoints is not None:
            (state, best), done = checkpoints.newest((state, best))
        for row in range(first + len(done), end):
            state, metrics = self._call_row(configs, state, row)
            if best is not None:
                agent = agent_of(self.training, state)
                known = metrics.known["evaluation"] & ~metrics.values["diverged"]
                score = metrics.values["evaluation"]
                best = _better(best, agent, score, known, jnp.int32(row))
            done.append(metrics.on_host())
            if checkpoints is not None and row + 1 < end:
                if stopping.requested():
                    checkpoints.save_now((state, best), done)
                    stopping.stop()
                checkpoints.offer((state, best), done)
            report((row + 1 - first) / (end - first), done)
        return state, best, done

    def _call_row(self, configs: Any, state: Any, row: int) -> tuple[Any, Row]:
        try:
            return self._run_row(configs, state, jnp.int32(row), self._arrays)
        except Exception as error:
            # jax's own error, which has no public name, of a program compiled ahead of time
            if type(error).__name__ != "InternalFloatingPointError":
                raise
            raise FloatingPointError(
                f"jax_debug_nans: a parameter or a metric of a run is NaN after evaluation point "
                f"{row + 1}. To find the operation, train that run alone, training(key)."
            ) from error

    def __call__(
        self, configs: Any, report: Report, checkpoints: Checkpoints | None = None
    ) -> dict[str, np.ndarray]:
        """All rows. Outputs [width, ...]."""
        state, best, rows = self.run_rows(configs, report, checkpoints)
        curves = {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}
        width = len(next(iter(curves.values())))
        clocks = {
            name: np.broadcast_to(x, (width, len(x))) for name, x in self.training.clocks.items()
        }
        agents = _numbered(AGENT, agent_of(self.training, state)) if self._keep else {}
        if self.keeps_states:
            agents |= _numbered(STATE, [_words(leaf) for leaf in jax.tree.leaves(state)])
        if best is not None:
            agents |= _numbered(BEST_AGENT, best["agent"]) if self._keep else {}
            known = np.asarray(best["score"]) > -np.inf
            agents |= {
                "best_evaluation": np.where(known, best["score"], np.float32(np.nan)),
                "best_step": self.training.clocks["step"][np.asarray(best["row"])],
            }
        return clocks | curves | jax.device_get(agents)


def score_of(rows: Rows) -> float:
    """The interquartile mean of the members' returns in the last row; NaN without one."""
    return middle(rows[-1]["return"]) if rows and "return" in rows[-1] else float("nan")


def middle(returns: np.ndarray) -> float:
    """The interquartile mean of the finite ones: members that finished no episode have NaN."""
    known = np.sort(returns[np.isfinite(returns)])
    quarter = len(known) // 4
    return float(known[quarter : len(known) - quarter].mean()) if len(known) else float("nan")


# ------------------------------------------------------------------------------------------- agents


def agent_of(training: Training, state: Any) -> list[Any]:
    """The leaves of the agent of a state, or of states [width, ...]; none where the algorithm
    defines no agent.
    """
    if type(training.algo).agent is Algorithm.agent:
        return []
    return jax.tree.leaves(training.algo.agent(state))


def _no_best(training: Training, state: Any) -> dict[str, Any]:
    """The best so far before anything was evaluated, where the state is."""
    first = jax.tree.leaves(state)[0]
    place = lambda x: jax.device_put(x, first.sharding)
    width = len(first)
    return {
        "score": place(jnp.full(width, -jnp.inf)),
        "row": place(jnp.zeros(width, jnp.int32)),
        # copies: the state's own buffers are donated to the next row
        "agent": [jnp.copy(leaf) for leaf in agent_of(training, state)],
    }


@jax.jit
def _better(
    best: dict[str, Any], agent: list[Any], score: jax.Array, known: jax.Array, row: jax.Array
) -> dict[str, Any]:
    """Each member's agent as it was evaluated best, before it diverged."""
    mask = known & (score > best["score"])
    now = {"score": score, "row": jnp.broadcast_to(row, score.shape), "agent": agent}
    return tree.where(mask, now, best)


def _words(leaf: jax.Array) -> jax.Array:
    """A leaf as an array that a file can hold: of keys their raw words."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _numbered(name: str, leaves: list[Any]) -> dict[str, Any]:
    return {f"{name}.{i:03d}": leaf for i, leaf in enumerate(leaves)}


# --------------------------------------------------------------------------------- arrays and sizes


def flatten(outputs: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, names joined by dots."""
    if not isinstance(outputs, dict):
        return {prefix or "value": outputs}
    flat = {}
    for name, value in outputs.items():
        flat |= flatten(value, f"{prefix}.{name}" if prefix else str(name))
    return flat


def _on_all_devices(array: Any, devices: int) -> jax.Array:
    if devices == 1 or place() is not None:
        return jnp.asarray(array)
    return jax.device_put(array, NamedSharding(_mesh(devices), NO_MEMBER))


def _size(leaves: list[Any]) -> int:
    return sum(x.size * x.dtype.itemsize for x in leaves)
