"""Compiling a function for an accelerator that may be absent."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.extend as jex
from jax.sharding import SingleDeviceSharding

from jaxrl.accelerator import hlo
from jaxrl.accelerator.buffers import Buffers
from jaxrl.accelerator.launches import Launches, launches_of
from jaxrl.accelerator.tables import format_bytes
from jaxrl.accelerator.targets import Target, target
from jaxrl.devices import compiling_for, place

BUFFERS = "*buffer-assignment.txt"
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
LIBRARY_CALLS = ("custom call", "custom_call", "cusolver", "cublas")
CALLS_OF_HOST = {"debug_print", "infeed", "outfeed"}  # beside pure_callback and the like
SECONDS_TO_CACHE = "jax_persistent_cache_min_compile_time_secs"


class TargetError(RuntimeError):
    """A program can't be compiled for a target."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A function compiled for a target.

    compiled: of JAX; it can be called only where the device is present. compile_seconds: of
    tracing, lowering and compiling. buffers: the arrays that its memory is for.
    """

    target: Target
    compiled: jax.stages.Compiled
    compile_seconds: float
    buffers: Buffers

    def as_text(self) -> str:
        """The optimized HLO."""
        return self.compiled.as_text() or ""

    def memory_analysis(self) -> Any:
        """Bytes by XLA's account."""
        return self.compiled.memory_analysis()

    def __call__(self, *arguments: Any) -> Any:
        if not self.target.local_devices:
            raise TargetError(
                f"This program is compiled for {self.target.name}, which is absent here: it can be "
                "read, not run."
            )
        return self.compiled(*arguments)

    @property
    def launches(self) -> Launches:
        """What one call launches."""
        return launches_of(hlo.parse(self.as_text()))

    @property
    def bytes(self) -> int:
        """Bytes of device memory at its peak, by XLA's account: arguments, results, work space."""
        return program_bytes(self.compiled)


def compile_for(
    function: Callable[..., Any],
    shapes: Any,
    target_name: str | os.PathLike[str] | Target,
    **jit_options: Any,
) -> Program:
    """Compile `function(*shapes)` for an accelerator, which need not be present.

    shapes: its arguments, a tuple of arrays or of `jax.ShapeDtypeStruct`s; pytrees are fine. Only
    shapes and types are read. target_name: as in `target`. jit_options: for `jax.jit`, such as
    `static_argnums`, `donate_argnums`.

        program = accelerator.compile_for(training, (jax.random.key(0),), "h100")
        print(program.launches, program.buffers)

    Raises:
      ValueError: an unknown target. TypeError: `shapes` is not a tuple.
      CompilerMissingError: the compiler of the target is not installed.
      TargetError: the function calls back to the host, uses an operation that the target lacks, or
        does not fit the memory of the target.
    """
    goal = target(target_name)
    if not isinstance(shapes, tuple | list):
        raise TypeError(
            "The shapes of compile_for are a tuple of all arguments: for a single one, write (x,)."
        )
    static = jit_options.get("static_argnums", ())
    static = {i % len(shapes) for i in ([static] if isinstance(static, int) else static or ())}
    started = time.monotonic()
    with compiling_for(goal):
        arguments = (x if i in static else shapes_on(x) for i, x in enumerate(shapes))
        traced = jax.jit(function, **jit_options).trace(*arguments)
        program = compile_traced(traced, goal)
    if program.bytes > goal.memory:
        raise TargetError(too_large(program, goal))
    return dataclasses.replace(program, compile_seconds=time.monotonic() - started)


def shapes_on(arrays: Any) -> Any:
    """The shapes of arrays as arguments of a program for the device that is compiled for; the
    arrays themselves outside `compiling_for`.
    """
    goal = place()
    if goal is None:
        return arrays
    sharding = SingleDeviceSharding(goal.device)
    return jax.tree.map(lambda x: _on(x, sharding), arrays)


def compile_traced(traced: jax.stages.Traced, goal: Target) -> Program:
    """Compile what was traced under `compiling_for(goal)`.

    Raises:
      TargetError: as `compile_for`.
    """
    started = time.monotonic()
    if not goal.local_devices:
        _check_no_callbacks(traced, goal)
    with tempfile.TemporaryDirectory() as folder, _cache_of(goal):
        options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        try:
            lowered = traced.lower()
            compiled = lowered.compile(options if goal.platform == "cuda" else None)
        except NotImplementedError as error:
            raise TargetError(
                f"{goal.name} lacks an operation of this program: {error}. Replace it, or compute "
                "it on the host before training."
            ) from error
        except RuntimeError as error:  # jax's own is one, and jaxlib's plug-ins raise others
            raise TargetError(_reason(str(error), goal)) from error
        texts = [
            path.read_text(encoding="utf-8", errors="replace")
            for path in sorted(pathlib.Path(folder).glob(BUFFERS))
        ]
    buffers = Buffers.parse("\n".join(texts), hlo.parse(compiled.as_text() or ""))
    return Program(goal, compiled, time.monotonic() - started, buffers)


def program_bytes(compiled: jax.stages.Compiled | Program) -> int:
    """Bytes that a program needs at its peak on one device by XLA's account: arguments, results
    and scratch.
    """
    size: Any = compiled.memory_analysis()
    total = size.argument_size_in_bytes + size.output_size_in_bytes + size.temp_size_in_bytes
    return int(total - size.alias_size_in_bytes)


def too_large(program: Program, goal: Target, what: str = "This program") -> str:
    """What to do about a program that does not fit the memory of a target."""
    largest = f" Its largest arrays: {program.buffers.largest}." if program.buffers.largest else ""
    return (
        f"{what} takes {format_bytes(program.bytes)}, and {goal.name} has "
        f"{format_bytes(goal.memory)}: use smaller arrays (replay buffer, environments, steps of a "
        f"rollout, members at once), or a target with more memory.{largest}"
    )


@contextlib.contextmanager
def _cache_of(goal: Target) -> Iterator[None]:
    """Write nothing to the compilation cache where the device is absent: jax could not read the
    entry, as only a device loads one.
    """
    config: Any = jax.config
    before = config.values[SECONDS_TO_CACHE]
    if not goal.local_devices:
        config.update(SECONDS_TO_CACHE, float("inf"))
    try:
        yield
    finally:
        config.update(SECONDS_TO_CACHE, before)


def callbacks(traced: jax.stages.Traced) -> list[str]:
    """The calls of Python functions in a traced program, each as "primitive at file:line"."""
    found = _callbacks(traced.jaxpr.jaxpr)
    # vmap writes one for each of its elements
    return list(dict.fromkeys(f"{name} at {place}" for name, place in found))


def _check_no_callbacks(traced: jax.stages.Traced, goal: Target) -> None:
    if found := callbacks(traced):
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise TargetError(
            f"This program calls back to the host ({found[0]}{more}), which a program for an "
            f"absent device can't: leave it out to compile for {goal.name}, for example "
            "jax.debug.print."
        )


def _callbacks(jaxpr: Any) -> Iterator[tuple[str, str]]:
    for equation in jaxpr.eqns:
        if "callback" in equation.primitive.name or equation.primitive.name in CALLS_OF_HOST:
            yield equation.primitive.name, _line_of(equation)
        for inner in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from _callbacks(inner.jaxpr if isinstance(inner, _CLOSED) else inner)


_CLOSED = jex.core.ClosedJaxpr


def _is_jaxpr(x: Any) -> bool:
    return isinstance(x, _CLOSED | jex.core.Jaxpr)


def _line_of(equation: Any) -> str:
    """The innermost line of the kit or of the user, as "file.py:12"."""
    traceback = equation.source_info.traceback
    frames = [] if traceback is None else traceback.frames
    lines = ((frame.file_name, frame.line_num) for frame in frames)
    return hlo.own_line(lines) or "an unknown line"


def _on(x: Any, sharding: SingleDeviceSharding) -> jax.ShapeDtypeStruct:
    x = x if isinstance(x, jax.ShapeDtypeStruct) else jax.typeof(jax.numpy.asarray(x))
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _reason(message: str, goal: Target) -> str:
    first = message.strip().splitlines()[0][:300] if message.strip() else "no reason given"
    if OUT_OF_MEMORY in message:
        return (
            f"The program does not fit the {format_bytes(goal.memory)} of {goal.name} ({first}). "
            "Compile it for fewer members at once."
        )
    if any(word in message.lower() for word in LIBRARY_CALLS):
        return (
            f"This program calls a library that {goal.name}, or the compiler for it here, lacks "
            f"({first}). Linear algebra such as eig is often the reason: replace it, or compute it "
            "on the host before training."
        )
    return f"XLA could not compile this program for {goal.name}: {first}"
