"""Programs as arrays of integers: a formula that can be vmapped over, mutated on the device, and
differentiated.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.symbolic.operations import (
    ACTION,
    ARITHMETIC,
    LIST,
    MOST,
    NUMBER,
    OPERATIONS,
    TYPES,
    Operation,
)
from jaxrl.tree import nearest, pytree, static


@dataclasses.dataclass(frozen=True)
class Language:
    """What programs are made of. inputs: (name, type) of each. operations: names of `OPERATIONS`;
    the order is their number.

    constants: what a program's constants begin as.
    """

    inputs: tuple[tuple[str, str], ...]
    operations: tuple[str, ...] = ARITHMETIC
    constants: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        for name in self.operations:
            if name not in OPERATIONS:
                raise ValueError(f"There is no operation {name!r}; {nearest(name, OPERATIONS)}.")
        have = {kind for _, kind in self.inputs} | {NUMBER}
        for name, operation in zip(self.operations, self.table, strict=True):
            if missing := set(operation.takes) - have:
                raise ValueError(
                    f"{name!r} takes a {missing.pop()}, which no input is: add one, or leave "
                    f"{name!r} out."
                )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.inputs)

    @property
    def table(self) -> tuple[Operation, ...]:
        return tuple(OPERATIONS[name] for name in self.operations)

    @property
    def given(self) -> np.ndarray:
        """The type of each register that is there before the first line: inputs, then constants.

        [I + C].
        """
        return np.array(
            [TYPES.index(kind) for _, kind in self.inputs] + [0] * len(self.constants), np.int32
        )

    @property
    def gives(self) -> np.ndarray:
        """The type of each operation's result. [K]."""
        return np.array([TYPES.index(operation.gives) for operation in self.table], np.int32)

    @property
    def takes(self) -> np.ndarray:
        """Whether an operation takes a type as its first and second argument; an ignored one may be
        any. [K, 2, types].
        """
        accepts = lambda op, i: [i >= len(op.takes) or op.takes[i] == kind for kind in TYPES]
        return np.array([[accepts(operation, i) for i in range(2)] for operation in self.table])

    @property
    def asks(self) -> np.ndarray:
        """Whether an operation asks a list. [K]."""
        return np.array([operation.takes[0] == LIST for operation in self.table])

    def answers(self, given: list[jax.Array]) -> tuple[list[jax.Array], np.ndarray]:
        """All the numbers that lists can be asked for, and which of them each (operation, list,
        action) asks for.

        An action is the register of an input, or comes after all that is given: the best of the
        list in that register.
        """
        lists, actions = (
            [i for i, (_, kind) in enumerate(self.inputs) if kind == which]
            for which in (LIST, ACTION)
        )
        who = {i: given[i] for i in actions}
        if "argbest" in self.operations:
            who |= {
                len(self.given) + i: OPERATIONS["argbest"].function(given[i], given[i])
                for i in lists
            }
        found, place = (
            [],
            np.zeros((len(self.operations), len(self.given), 2 * len(self.given)), np.int32),
        )
        for number, operation in enumerate(self.table):
            for i in lists if operation.takes[0] == LIST and operation.gives == NUMBER else ():
                for chooser, action in (
                    who.items() if len(operation.takes) == 2 else ((slice(None), given[i]),)
                ):
                    place[number, i, chooser] = len(found)
                    found.append(operation.function(given[i], action))
        return found, place


@pytree
class Program:
    """Lines of (operation, register, register), each of which writes the next register; the last
    one is the result.

    Registers are the inputs, the constants, and what the lines before wrote. code: int32 [L, 3].
    constants: [C]. Lists are never written, so that all they can be asked for is computed once, and
    lines act on numbers alone. `program(**inputs)` broadcasts its inputs to one shape and gives a
    result of it. Every register is clipped to +-1e4.
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
        given = [
            jnp.asarray(inputs[name], jnp.float32).clip(-MOST, MOST) for name in self.language.names
        ]
        whole = jnp.broadcast_shapes(*(x.shape for x in given))
        given = [jnp.expand_dims(x, range(len(whole) - x.ndim)) for x in given]
        answers, place_of = self.language.answers(given)
        numbers = [
            jnp.float32(0) if kind == LIST else x
            for x, (_, kind) in zip(given, self.language.inputs, strict=True)
        ]
        rows = [*numbers, *self.constants, *(jnp.float32(0) for _ in self.code), *answers]
        shape = jnp.broadcast_shapes(*(x.shape for x in rows))
        registers = jnp.stack([jnp.broadcast_to(x, shape).clip(-MOST, MOST) for x in rows])
        asks = self.language.asks
        act = [one.function for one, ask in zip(self.language.table, asks, strict=True) if not ask]
        which = jnp.asarray(np.where(asks, 0, np.cumsum(~asks)))[self.code[:, 0]]

        def step(registers: jax.Array, now: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
            # under vmap a switch would compute every branch too, and takes thrice as long to
            # compile
            place, which, first, second = now
            u, v = registers[first], registers[second]
            every = jnp.stack([u, *(function(u, v) for function in act)])
            return registers.at[place].set(every[which].clip(-MOST, MOST)), None

        places = len(self.language.given) + jnp.arange(len(self.code))
        last = jax.lax.scan(
            step, registers, (places, which, self._first(place_of), self.code[:, 2])
        )[0][places[-1]]
        return jnp.broadcast_to(last, whole)

    def _first(self, place_of: np.ndarray) -> jax.Array:
        """The register that each line reads first; where it asks a list, that of the answer, after
        the lines. [L].
        """
        start, (operation, first, second) = len(self.language.given), self.code.T
        chosen = self.code[
            jnp.maximum(second - start, 0), 1
        ]  # where an `argbest` says which action: of this list
        answer = jnp.asarray(place_of)[
            operation, first, jnp.where(second < start, second, start + chosen)
        ]
        return jnp.where(
            jnp.asarray(self.language.asks)[operation], start + len(self.code) + answer, first
        )

    @property
    def types(self) -> jax.Array:
        """The type of each register, its place in `TYPES`. [I + C + L]."""
        return jnp.concatenate(
            [self.language.given, jnp.asarray(self.language.gives)[self.code[:, 0]]]
        )


class SymbolicFunction:
    """Base class of functions that a program computes, so that a search can evolve the program.

    program: the `Program`, a field.
    """

    program: Any

    def signature(self) -> jax.Array:
        """Values at sixteen fixed points that identify the function, for `fingerprint`. [16]."""
        raise TypeError(f"{type(self).__name__} does not define signature.")


# ------------------------------------------------------------------------ random programs, mutation


def random_program(key: jax.Array, language: Language, lines: int) -> Program:
    """A well typed program of so many lines, whose result is a number."""
    gives, takes, start = (
        jnp.asarray(language.gives),
        jnp.asarray(language.takes),
        len(language.given),
    )
    kinds = jnp.concatenate([language.given, jnp.zeros(lines, jnp.int32)])

    def write(kinds: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        line, share = now
        operation = _choose(share[0], (line < lines - 1) | (gives == 0))
        there = jnp.arange(len(kinds)) < start + line
        first, second = (
            _choose(share[1 + i], there & takes[operation, i][kinds]) for i in range(2)
        )
        return kinds.at[start + line].set(gives[operation]), jnp.stack([operation, first, second])

    _, code = jax.lax.scan(write, kinds, (jnp.arange(lines), jax.random.uniform(key, (lines, 3))))
    return Program(code.astype(jnp.int32), jnp.asarray(language.constants, jnp.float32), language)


def mutate(key: jax.Array, program: Program) -> Program:
    """The program with one line changed: its operation, one of its arguments, or all of it. It
    stays well typed.

    A line that others read keeps its type, and so does the last.
    """
    language, code = program.language, program.code
    gives, takes, start = (
        jnp.asarray(language.gives),
        jnp.asarray(language.takes),
        len(language.given),
    )
    share = jax.random.uniform(key, (5,))  # drawn at once: each draw takes long to compile
    line, what = (share[:2] * jnp.array([len(code), 4])).astype(jnp.int32)
    operation, first, second = code[line]
    kinds = program.types
    there = jnp.arange(len(kinds)) < start + line
    unread = ~jnp.any(code[:, 1:] == start + line) & (line < len(code) - 1)
    fits = takes[:, 0][:, kinds[first]] & takes[:, 1][:, kinds[second]]
    other = _choose(share[2], (unread | (gives == gives[operation])) & (fits | (what == 3)))
    operation = jnp.where((what == 0) | (what == 3), other, operation)

    def argument(i: int, old: jax.Array) -> jax.Array:
        return jnp.where(
            (what == 1 + i) | (what == 3),
            _choose(share[3 + i], there & takes[operation, i][kinds]),
            old,
        )

    changed = jnp.stack([operation, argument(0, first), argument(1, second)])
    return Program(code.at[line].set(changed.astype(jnp.int32)), program.constants, language)


def insert(key: jax.Array, program: Program) -> Program:
    """The program with a line put in: where a line reads a number, an operation on that number is
    read in its place.

    A line that nothing reads gives way to the new one, and those between move up or down. Where all
    are read, or what is read is no number, nothing changes.
    """
    language, code, kinds = program.language, program.code, program.types
    gives, takes, start = (
        jnp.asarray(language.gives),
        jnp.asarray(language.takes),
        len(language.given),
    )
    share, lines, registers = (
        jax.random.uniform(key, (6,)),
        jnp.arange(len(code)),
        jnp.arange(len(kinds)),
    )
    reader, side = (share[:2] * jnp.array([len(code), 2])).astype(jnp.int32)
    room = ~jnp.isin(start + lines, code[:, 1:]) & (lines != reader) & (lines < len(code) - 1)
    fits = room.any() & (kinds[code[reader, 1 + side]] == 0)

    order = jnp.argsort(jnp.where(lines == _choose(share[2], room), reader - 0.5, lines))
    rank = jnp.argsort(order)
    moved = jnp.concatenate([registers[:start], start + rank])
    code = jnp.concatenate([code[:, :1], moved[code[:, 1:]]], axis=1)[order]
    reader, place = rank[reader], rank[reader] - 1
    number, kinds = code[reader, 1 + side], kinds.at[moved].set(kinds)
    operation = _choose(share[3], (gives == 0) & takes[:, :, 0].all(1))
    other = _choose(share[4], (registers < start + place) & (kinds == 0))
    first, second = jnp.where(
        share[5] < 0.5, jnp.stack([number, other]), jnp.stack([other, number])
    )
    grown = (
        code.at[place]
        .set(jnp.stack([operation, first, second]))
        .at[reader, 1 + side]
        .set(start + place)
    )
    return Program(
        jnp.where(fits, grown, program.code).astype(jnp.int32), program.constants, language
    )


def _choose(share: jax.Array, allowed: jax.Array) -> jax.Array:
    """The number of one that is allowed, each as likely where `share` is uniform in [0, 1). []."""
    return jnp.argmax(jnp.cumsum(allowed) > share * allowed.sum())


# ------------------------------------------------------------------------------------------- hashes

PROBES = 16
_ODD = np.random.default_rng(1).integers(0, 2**31, PROBES, np.uint32) * np.uint32(2) + np.uint32(1)


def fingerprint(signature: jax.Array) -> jax.Array:
    """A hash of the values of a function at sixteen points [16]; 0 where all are 0. uint32 [].

    They are rounded to 0.001 near 0, and to as large a share of larger ones.
    """
    rounded = jnp.round(jnp.arcsinh(signature) * 1e3).astype(jnp.int32)
    number = jnp.sum(rounded.astype(jnp.uint32) * _ODD, dtype=jnp.uint32)
    return jnp.where((rounded == 0).all(), 0, jnp.maximum(number, 1)).astype(jnp.uint32)


@functools.cache
def probes(name: str, low: float = -2.0, high: float = 2.0, width: int = 1) -> np.ndarray:
    """The sixteen values at which an input of this name is probed, uniform between these.

    [16, width].
    """
    seed = [ord(letter) for letter in name]
    return np.random.default_rng(seed).uniform(low, high, (PROBES, width)).astype(np.float32)


VALUE_LANGUAGE = Language(
    inputs=(
        *(("values", LIST), ("next_values", LIST), ("action", ACTION)),
        *(("reward", NUMBER), ("discount", NUMBER), ("fraction", NUMBER)),
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
