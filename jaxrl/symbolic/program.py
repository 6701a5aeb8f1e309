"""Programs: formulas as arrays of integers, which can be vmapped, mutated and differentiated."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import nearest, not_defined
from jaxrl.keys import as_key
from jaxrl.symbolic.operations import (
    ACTION,
    ELEMENTWISE,
    LIST,
    MAX_VALUE,
    NUMBER,
    OPERATIONS,
    TYPES,
    Operation,
)
from jaxrl.tree import pytree, static


@dataclasses.dataclass(frozen=True)
class Language:
    """The inputs, operations and initial constants of programs.

    inputs: (name, type) of each, with a type of `operations.TYPES`.
    operations: names in `OPERATIONS`; code refers to them by position.
    constants: initial values of a program's constants.

    Raises:
      ValueError: an unknown operation, or one that takes a type that no input has.
    """

    inputs: tuple[tuple[str, str], ...]
    operations: tuple[str, ...] = ELEMENTWISE
    constants: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        for name in self.operations:
            if name not in OPERATIONS:
                raise ValueError(f"There is no operation {name!r}; {nearest(name, OPERATIONS)}.")
        available = {kind for _, kind in self.inputs} | {NUMBER}
        for name, operation in zip(self.operations, self.table, strict=True):
            if missing := set(operation.argument_types) - available:
                raise ValueError(
                    f"{name!r} takes a {missing.pop()}, and no input has that type: add one, or "
                    f"leave {name!r} out."
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs."""
        return tuple(name for name, _ in self.inputs)

    @property
    def table(self) -> tuple[Operation, ...]:
        """The operations, in order."""
        return tuple(OPERATIONS[name] for name in self.operations)

    @property
    def initial_types(self) -> np.ndarray:
        """Types of the registers before the first line: inputs, then constants. int32 [I + C]."""
        return np.array(
            [TYPES.index(kind) for _, kind in self.inputs] + [0] * len(self.constants), np.int32
        )

    @property
    def result_types(self) -> np.ndarray:
        """The type of each operation's result. int32 [K]."""
        return np.array([TYPES.index(operation.result_type) for operation in self.table], np.int32)

    @property
    def accepts(self) -> np.ndarray:
        """True where an operation accepts a type as its first or second argument. [K, 2, types].

        An ignored argument may be of any type.
        """

        def accepted(operation: Operation, i: int) -> list[bool]:
            types = operation.argument_types
            return [i >= len(types) or types[i] == kind for kind in TYPES]

        return np.array([[accepted(operation, i) for i in range(2)] for operation in self.table])

    @property
    def reads_list(self) -> np.ndarray:
        """True for an operation on a list. bool [K]."""
        return np.array([operation.argument_types[0] == LIST for operation in self.table])

    def list_results(self, inputs: list[jax.Array]) -> tuple[list[jax.Array], np.ndarray]:
        """All numbers that operations can read from lists, and where to find each.

        Returns:
          The numbers, each [..., 1], and for each (operation, list, action) its position among
          them, int32 [K, I + C, 2 (I + C)]. An action is the register of an input, or I + C plus
          the register of a list, for the action with that list's largest value.
        """
        num_initial = len(self.initial_types)
        lists = [i for i, (_, kind) in enumerate(self.inputs) if kind == LIST]
        actions = {i: inputs[i] for i, (_, kind) in enumerate(self.inputs) if kind == ACTION}
        if "argbest" in self.operations:
            argbest = OPERATIONS["argbest"].function
            actions |= {num_initial + i: argbest(inputs[i], inputs[i]) for i in lists}
        results: list[jax.Array] = []
        position = np.zeros((len(self.operations), num_initial, 2 * num_initial), np.int32)
        for number, operation in enumerate(self.table):
            if operation.argument_types[0] != LIST or operation.result_type != NUMBER:
                continue
            for i in lists:
                if len(operation.argument_types) == 1:
                    position[number, i] = len(results)
                    results.append(operation.function(inputs[i], inputs[i]))
                    continue
                for register, action in actions.items():
                    position[number, i, register] = len(results)
                    results.append(operation.function(inputs[i], action))
        return results, position


@pytree
class Program:
    """A straight-line program over registers.

    code: lines of (operation, register, register), int32 [L, 3]. Each line writes the next
      register, and the last one is the result. Registers are the inputs, the constants, and the
      results of the lines before.
    constants: [C].

    `program(**inputs)` broadcasts its inputs to one shape, which the result has. Lines never write
    lists, so that all that can be read from lists is computed once and lines act on numbers only.
    Every register is clipped to +-1e4.

    Raises:
      TypeError: an input is missing.
    """

    code: jax.Array
    constants: jax.Array
    language: Language = static()

    def __call__(self, **inputs: Any) -> jax.Array:
        missing = [name for name in self.language.names if name not in inputs]
        if missing:
            raise TypeError(
                f"The program's input {missing[0]!r} was not given; it got "
                f"{', '.join(inputs) or 'none'}."
            )
        values = [
            jnp.asarray(inputs[name], jnp.float32).clip(-MAX_VALUE, MAX_VALUE)
            for name in self.language.names
        ]
        result_shape = jnp.broadcast_shapes(*(x.shape for x in values))
        values = [jnp.expand_dims(x, range(len(result_shape) - x.ndim)) for x in values]
        list_results, position = self.language.list_results(values)
        numbers = [
            jnp.float32(0) if kind == LIST else x
            for x, (_, kind) in zip(values, self.language.inputs, strict=True)
        ]
        rows = [*numbers, *self.constants, *(jnp.float32(0) for _ in self.code), *list_results]
        shape = jnp.broadcast_shapes(*(x.shape for x in rows))
        registers = jnp.stack(
            [jnp.broadcast_to(x, shape).clip(-MAX_VALUE, MAX_VALUE) for x in rows]
        )
        reads_list = self.language.reads_list
        functions = [
            operation.function
            for operation, reads in zip(self.language.table, reads_list, strict=True)
            if not reads
        ]
        # 0 copies the first register, which for an operation on a list holds its result
        function_index = jnp.asarray(np.where(reads_list, 0, np.cumsum(~reads_list)))[
            self.code[:, 0]
        ]

        def step(registers: jax.Array, line: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
            # under vmap a switch would compute every branch too, and takes three times as long to
            # compile
            target, index, first, second = line
            u, v = registers[first], registers[second]
            results = jnp.stack([u, *(function(u, v) for function in functions)])
            return registers.at[target].set(results[index].clip(-MAX_VALUE, MAX_VALUE)), None

        targets = len(self.language.initial_types) + jnp.arange(len(self.code))
        lines = (targets, function_index, self._first_registers(position), self.code[:, 2])
        registers, _ = jax.lax.scan(step, registers, lines)
        return jnp.broadcast_to(registers[targets[-1]], result_shape)

    def _first_registers(self, position: np.ndarray) -> jax.Array:
        """The first register that each line reads. [L].

        For an operation on a list it is that of its result, which comes after those of the lines.
        """
        start, (operation, first, second) = len(self.language.initial_types), self.code.T
        # where an `argbest` chose the action: the list that it read
        argbest_list = self.code[jnp.maximum(second - start, 0), 1]
        action = jnp.where(second < start, second, start + argbest_list)
        result = jnp.asarray(position)[operation, first, action]
        reads_list = jnp.asarray(self.language.reads_list)[operation]
        return jnp.where(reads_list, start + len(self.code) + result, first)

    @property
    def types(self) -> jax.Array:
        """The type of each register, as an index into `TYPES`. [I + C + L]."""
        results = jnp.asarray(self.language.result_types)[self.code[:, 0]]
        return jnp.concatenate([self.language.initial_types, results])


class SymbolicFunction:
    """Base class of functions that a program computes, so that a search can evolve the program.

    program: the `Program`, a field.
    """

    program: Program

    def signature(self) -> jax.Array:
        """Values at sixteen fixed points that identify the function, for `fingerprint`. [16]."""
        raise not_defined(self, SymbolicFunction.signature)


# ------------------------------------------------------------------------ random programs, mutation


def random_program(key: jax.Array | int, language: Language, lines: int) -> Program:
    """A random well-typed program of `lines` lines, the result of which is a number."""
    result_types, accepts = jnp.asarray(language.result_types), jnp.asarray(language.accepts)
    start = len(language.initial_types)
    types = jnp.concatenate([language.initial_types, jnp.zeros(lines, jnp.int32)])

    def write(types: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        line, uniform = row
        operation = _choose(uniform[0], (line < lines - 1) | (result_types == 0))
        written = jnp.arange(len(types)) < start + line
        first, second = (
            _choose(uniform[1 + i], written & accepts[operation, i][types]) for i in range(2)
        )
        types = types.at[start + line].set(result_types[operation])
        return types, jnp.stack([operation, first, second])

    uniform = jax.random.uniform(as_key(key), (lines, 3))
    _, code = jax.lax.scan(write, types, (jnp.arange(lines), uniform))
    return Program(code.astype(jnp.int32), jnp.asarray(language.constants, jnp.float32), language)


def mutate(key: jax.Array | int, program: Program) -> Program:
    """The program with one line mutated: its operation, one of its arguments, or all of it.

    It stays well-typed: the last line, and a line that others read, keep their types.
    """
    language, code = program.language, program.code
    result_types, accepts = jnp.asarray(language.result_types), jnp.asarray(language.accepts)
    start = len(language.initial_types)
    uniform = jax.random.uniform(as_key(key), (5,))  # one call for all: each takes long to compile
    # part: 0 the operation, 1 or 2 an argument, 3 the whole line
    line, part = (uniform[:2] * jnp.array([len(code), 4])).astype(jnp.int32)
    operation, first, second = code[line]
    types = program.types
    written = jnp.arange(len(types)) < start + line
    unread = ~jnp.any(code[:, 1:] == start + line) & (line < len(code) - 1)
    fits = accepts[:, 0][:, types[first]] & accepts[:, 1][:, types[second]]
    same_type = result_types == result_types[operation]
    other = _choose(uniform[2], (unread | same_type) & (fits | (part == 3)))
    operation = jnp.where((part == 0) | (part == 3), other, operation)

    def argument(i: int, old: jax.Array) -> jax.Array:
        new = _choose(uniform[3 + i], written & accepts[operation, i][types])
        return jnp.where((part == 1 + i) | (part == 3), new, old)

    changed = jnp.stack([operation, argument(0, first), argument(1, second)])
    return Program(code.at[line].set(changed.astype(jnp.int32)), program.constants, language)


def insert(key: jax.Array | int, program: Program) -> Program:
    """The program with an operation inserted: one on a number that a line reads, in its place.

    The new line replaces an unused line, and the lines between move up or down. The program is
    unchanged where there is no unused line, or where the argument is not a number.
    """
    language, code, types = program.language, program.code, program.types
    result_types, accepts = jnp.asarray(language.result_types), jnp.asarray(language.accepts)
    start = len(language.initial_types)
    uniform = jax.random.uniform(as_key(key), (6,))
    lines, registers = jnp.arange(len(code)), jnp.arange(len(types))
    reader, side = (uniform[:2] * jnp.array([len(code), 2])).astype(jnp.int32)
    unused = ~jnp.isin(start + lines, code[:, 1:]) & (lines != reader) & (lines < len(code) - 1)
    fits = unused.any() & (types[code[reader, 1 + side]] == 0)

    order = jnp.argsort(jnp.where(lines == _choose(uniform[2], unused), reader - 0.5, lines))
    rank = jnp.argsort(order)
    moved = jnp.concatenate([registers[:start], start + rank])
    code = jnp.concatenate([code[:, :1], moved[code[:, 1:]]], axis=1)[order]
    reader, inserted = rank[reader], rank[reader] - 1
    number, types = code[reader, 1 + side], types.at[moved].set(types)
    operation = _choose(uniform[3], (result_types == 0) & accepts[:, :, 0].all(1))
    other = _choose(uniform[4], (registers < start + inserted) & (types == 0))
    first, second = jnp.where(
        uniform[5] < 0.5, jnp.stack([number, other]), jnp.stack([other, number])
    )
    code = code.at[inserted].set(jnp.stack([operation, first, second]))
    code = code.at[reader, 1 + side].set(start + inserted)
    code = jnp.where(fits, code, program.code).astype(jnp.int32)
    return Program(code, program.constants, language)


def _choose(uniform: jax.Array, allowed: jax.Array) -> jax.Array:
    """An index where `allowed` is True, with equal probabilities for `uniform` in [0, 1). []."""
    return jnp.argmax(jnp.cumsum(allowed) > uniform * allowed.sum())


# ------------------------------------------------------------------------------------------- hashes

PROBES = 16
_ODD = np.random.default_rng(1).integers(0, 2**31, PROBES, np.uint32) * np.uint32(2) + np.uint32(1)


def fingerprint(outputs: jax.Array) -> jax.Array:
    """Hash of a function's outputs at the sixteen probes [16]; 0 if all are 0. uint32 [].

    Equal functions have equal hashes: outputs are rounded to 0.001 near 0, and to a relative
    precision of 0.001 far from it.
    """
    rounded = jnp.round(jnp.arcsinh(outputs) * 1e3).astype(jnp.int32)
    total = jnp.sum(rounded.astype(jnp.uint32) * _ODD, dtype=jnp.uint32)
    return jnp.where((rounded == 0).all(), 0, jnp.maximum(total, 1)).astype(jnp.uint32)


@functools.cache
def probes(name: str, low: float = -2.0, high: float = 2.0, width: int = 1) -> np.ndarray:
    """Sixteen values of the input `name`, uniform between `low` and `high`. [16, width]."""
    seed = [ord(letter) for letter in name]
    return np.random.default_rng(seed).uniform(low, high, (PROBES, width)).astype(np.float32)


VALUE_LANGUAGE = Language(
    inputs=(
        ("values", LIST),
        ("next_values", LIST),
        ("action", ACTION),
        ("reward", NUMBER),
        ("discount", NUMBER),
        ("fraction", NUMBER),
    ),
    operations=(
        "add",
        "sub",
        "mul",
        "max",
        "min",
        "square",
        "abs",
        "at",
        "best",
        "mean",
        "softbest",
        "argbest",
    ),
)
DRIFT_LANGUAGE = Language(
    tuple((name, NUMBER) for name in ("ratio", "log_ratio", "advantage", "kl", "fraction")),
    constants=(0.1, 0.5, 1.0, 2.0),
)
