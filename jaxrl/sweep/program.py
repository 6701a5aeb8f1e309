"""One compiled program for a chunk of members, spread over the local devices."""

import concurrent.futures
import contextlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl import progress, tree
from jaxrl.sweep.checkpoint import Checkpoints
from jaxrl.train import Training

MEMBERS = PartitionSpec("members")
NO_MEMBER = PartitionSpec()


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
    return Mesh(np.array(jax.local_devices()[:devices]), ("members",))


def compile_all(
    jobs: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]],
) -> list[Any]:
    """Compiles several programs side by side: XLA works outside Python's lock."""
    lowered = [jax.jit(function, **options).lower(*shapes) for function, shapes, options in jobs]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(lambda low: low.compile(), lowered))


class Whole:
    """Any function of a point, compiled for `width` members: one program, which may tell its rows
    through a callback.
    """

    def __init__(
        self, member: Callable[[Any], Any], points: Any, devices: int, listener: Any
    ) -> None:
        started = time.monotonic()
        with contextlib.nullcontext() if listener is None else progress.listening(listener):
            (self._program,) = compile_all(
                [(over_devices(member, (MEMBERS,), devices), (points,), {})]
            )
        self.compile_seconds = time.monotonic() - started

    @property
    def bytes_per_device(self) -> int:
        return _bytes(self._program)

    def __call__(
        self, points: Any, report: Callable[..., None], checkpoints: Checkpoints | None = None
    ) -> dict[str, np.ndarray]:
        """The whole life of each member at once: there is nothing in between to keep.

        Outputs [width, ...].
        """
        outputs = flatten(jax.device_get(self._program(points)))
        jax.effects_barrier()  # its last callbacks belong to this chunk
        return outputs


class Stepped:
    """A `Training`, stepped by the host row by row: two programs without callbacks, which the
    compilation cache keeps.
    """

    def __init__(
        self,
        at: Callable[[Any], Any],
        training: Training,
        points: Any,
        devices: int,
        keep: bool,
        best: bool = False,
    ) -> None:
        started = time.monotonic()
        self._training, self._keep, self._best = training, keep, best

        def begin(point: Any) -> Any:
            training, key = at(point)
            return training.begin(key)

        def advance(point: Any, state: Any, row: Any) -> Any:
            training, key = at(point)
            return training.advance(key, state, row)

        begin = over_devices(begin, (MEMBERS,), devices)
        advance = over_devices(advance, (MEMBERS, MEMBERS, NO_MEMBER), devices)
        state, row = jax.eval_shape(begin, points), jax.ShapeDtypeStruct((), jnp.int32)
        if devices > 1:
            sharding = NamedSharding(_mesh(devices), MEMBERS)
            state = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state
            )
        size = lambda leaves: sum(x.size * x.dtype.itemsize for x in leaves)  # of all devices
        self.state_bytes, self.kept_bytes = size(jax.tree.leaves(state)), size(kept_of(state))
        jobs = [(begin, (points,), {}), (advance, (points, state, row), {"donate_argnums": 1})]
        self.begin, self.advance = compile_all(jobs)
        self.compile_seconds = time.monotonic() - started

    @property
    def bytes_per_device(self) -> int:
        return max(_bytes(self.begin), _bytes(self.advance))

    def __call__(
        self, points: Any, report: Callable[..., None], checkpoints: Checkpoints | None = None
    ) -> dict[str, np.ndarray]:
        """All rows, from the last checkpoint on. Outputs [width, ...]."""
        state, rows = self.begin(points), []
        best = _no_best(state) if self._best else None
        if checkpoints is not None:
            (state, best), rows = checkpoints.newest((state, best))
        for row in range(len(rows), self._training.evals):
            state, metrics = self.advance(points, state, jnp.int32(row))
            if best is not None:
                best = _better(best, kept_of(state), metrics["evaluation"], jnp.int32(row))
            rows.append(jax.device_get(metrics))
            if checkpoints is not None and row + 1 < self._training.evals:
                checkpoints.offer((state, best), rows)
            report((row + 1) / self._training.evals, middle(rows[-1]["return"]))
        curves = {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}
        width = len(next(iter(curves.values())))
        clocks = {
            name: np.broadcast_to(np.asarray(x), (width, len(x)))
            for name, x in self._training.clocks.items()
        }
        learner = _numbered("learner", kept_of(state)) if self._keep else {}
        if best is not None:
            learner |= _numbered("best_learner", best["kept"]) if self._keep else {}
            learner |= {
                "best_evaluation": jnp.where(best["score"] > -jnp.inf, best["score"], jnp.nan)
            }
            learner |= {"best_step": self._training.clocks["step"][best["row"]]}
        return clocks | curves | jax.device_get(learner)


def middle(returns: np.ndarray) -> float:
    """The interquartile mean of those that are numbers: members without a finished episode have
    none yet.
    """
    known = np.sort(returns[np.isfinite(returns)])
    quarter = len(known) // 4
    return float(known[quarter : len(known) - quarter].mean()) if len(known) else float("nan")


def _no_best(state: Any) -> dict[str, Any]:
    kept = jax.tree.map(jnp.copy, kept_of(state))  # the state's own are given away to the next row
    place = lambda x: jax.device_put(x, kept[0].sharding)
    width = len(kept[0])
    return {
        "score": place(jnp.full(width, -jnp.inf)),
        "row": place(jnp.zeros(width, jnp.int32)),
        "kept": kept,
    }


@jax.jit
def _better(
    best: dict[str, Any], kept: list[Any], score: jax.Array, row: jax.Array
) -> dict[str, Any]:
    """Each member's parameters where they were judged better than ever, as they were judged."""
    mask = score > best["score"]  # a row without an evaluation says NaN, which is not
    now = {"score": score, "row": jnp.broadcast_to(row, score.shape), "kept": kept}
    return tree.where(mask, now, best)


def _numbered(name: str, leaves: list[Any]) -> dict[str, Any]:
    return {f"{name}.{i:03d}": leaf for i, leaf in enumerate(leaves)}


KEPT = ("params", "obs_stats")  # what a policy needs of a learner's state


def kept_of(state: Any) -> list[Any]:
    return jax.tree.leaves([getattr(state, name, ()) for name in KEPT])


def with_kept(state: Any, leaves: list[Any]) -> Any:
    """The state with those leaves put back."""
    structure = jax.tree.structure([getattr(state, name, ()) for name in KEPT])
    values = zip(KEPT, jax.tree.unflatten(structure, leaves), strict=True)
    return tree.replace(state, **{name: value for name, value in values if hasattr(state, name)})


def flatten(outputs: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, its names joined by dots."""
    if not isinstance(outputs, dict):
        return {prefix or "value": outputs}
    flat = {}
    for name, value in outputs.items():
        flat |= flatten(value, f"{prefix}.{name}" if prefix else str(name))
    return flat


def _bytes(program: Any) -> int:
    """What a program needs at its peak on one device: arguments, results and scratch, by XLA's own
    account.
    """
    size = program.memory_analysis()
    total = size.argument_size_in_bytes + size.output_size_in_bytes + size.temp_size_in_bytes
    return int(total - size.alias_size_in_bytes)
