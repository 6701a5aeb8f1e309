"""A step of a loop in two parts: what it computes from scalars alone, and the rest.

The counts, schedules and bias corrections of a gradient step depend on no array. On a GPU each of
them costs a launch, as several kernels read it; computed before the rest, they are one kernel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend as jex
import jax.numpy as jnp

Step = Callable[[Any, Any], tuple[Any, Any]]
SMALL = 64  # elements of an array that may be computed on the way from scalars to scalars


@dataclasses.dataclass(frozen=True)
class Split:
    """`step(carry, x)` in two parts.

    carry, x: of each leaf, True for a scalar of the first part. A scalar of the carry is one where
    its next value depends on no array either.
    first: from the scalars of the carry and of x to those of the carry after the step, and to those
      that the rest reads.
    rest: from the other leaves of the carry and of x, and what it reads of `first`, to the other
      leaves of the carry after the step, and all leaves of the row.
    structures: of the carry and of the row that the step returns.
    """

    carry: tuple[bool, ...]
    x: tuple[bool, ...]
    first: Callable[..., tuple[list[Any], list[Any]]]
    rest: Callable[..., list[Any]]
    structures: tuple[Any, Any]

    def divide(self, carry: Any) -> tuple[list[jax.Array], list[jax.Array]]:
        """The scalars of a carry, and its other leaves."""
        return parted(self.carry, jax.tree.leaves(carry))

    def join(self, scalars: Sequence[jax.Array], others: Sequence[jax.Array]) -> Any:
        """The carry of its scalars and its other leaves."""
        parts = iter(scalars), iter(others)
        return self.structures[0].unflatten(next(parts[not here]) for here in self.carry)

    def row(self, leaves: Sequence[jax.Array]) -> Any:
        """The row of the leaves that `rest` returns behind those of the carry."""
        return self.structures[1].unflatten(leaves)


def split(step: Step, carry: Any, x: Any) -> Split:
    """The two parts of a step. carry, x: arrays or their shapes.

    Raises:
      TypeError: the step returns another kind of carry, in the words of `jax.lax.scan`.
    """
    program, (after, row) = jax.make_jaxpr(step, return_shape=True)(carry, x)
    if _kinds(after) != _kinds(jax.eval_shape(lambda x: x, carry)):
        jax.eval_shape(lambda now: jax.lax.scan(lambda now, _: step(now, x), now, length=1), carry)
    jaxpr, size = program.jaxpr, len(jax.tree.leaves(carry))
    old, rows = jaxpr.invars[:size], jaxpr.invars[size:]
    new, results = jaxpr.outvars[:size], jaxpr.outvars[size:]
    constants = set(jaxpr.constvars)
    in_x = tuple(map(_is_scalar, rows))
    carried = tuple(_is_scalar(v) and v.aval == w.aval for v, w in zip(old, new, strict=True))
    while True:  # a scalar that turns out to depend on arrays makes others do so
        start = [v for v in constants if _is_scalar(v)] + parted(in_x, rows)[0]
        known, equations = _known(jaxpr.eqns, start + parted(carried, old)[0])
        still = tuple(here and _is_in(v, known) for v, here in zip(new, carried, strict=True))
        if still == carried:
            break
        carried = still
    done = set(map(id, equations))
    others = [each for each in jaxpr.eqns if id(each) not in done]
    scalars_after, arrays_after = parted(carried, new)
    outputs = [*arrays_after, *results]
    read = {v for v in (*(v for each in others for v in each.invars), *outputs) if _is_in(v, known)}
    shared = [v for v in known if v in read and v not in constants]
    (scalars, arrays), (scalars_x, arrays_x) = parted(carried, old), parted(in_x, rows)
    run = _function(program, [*scalars, *scalars_x], [*scalars_after, *shared], equations)

    def first(*arguments: Any) -> tuple[list[Any], list[Any]]:
        found = run(*arguments)
        return found[: len(scalars)], found[len(scalars) :]

    rest = _function(program, [*arrays, *arrays_x, *shared], outputs, others)
    structures = jax.tree.structure(carry), jax.tree.structure(row)
    return Split(carried, in_x, first, rest, structures)


def _kinds(carry: Any) -> Any:
    return jax.tree.structure(carry), [(x.shape, x.dtype) for x in jax.tree.leaves(carry)]


def parted(mask: Sequence[bool], items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The items where the mask is True, and the others."""
    pairs = list(zip(mask, items, strict=True))
    return [x for here, x in pairs if here], [x for here, x in pairs if not here]


def _known(equations: list[Any], start: list[Any]) -> tuple[dict[Any, None], list[Any]]:
    """What depends on the scalars `start` alone and is small, and the equations that compute it."""
    known, found = dict.fromkeys(start), []
    for each in equations:
        inputs = [v for v in each.invars if not isinstance(v, jex.core.Literal)]
        is_known = all(v in known for v in inputs) and all(map(_is_small, each.outvars))
        if is_known and not each.effects:
            known |= dict.fromkeys(each.outvars)
            found.append(each)
    return known, found


def _is_in(v: Any, known: dict[Any, None]) -> bool:
    return not isinstance(v, jex.core.Literal) and v in known


def _is_scalar(v: Any) -> bool:
    return v.aval.shape == () and _is_small(v)


def _is_small(v: Any) -> bool:
    """True for few numbers; keys are none."""
    return v.aval.size <= SMALL and not jnp.issubdtype(v.aval.dtype, jax.dtypes.extended)


def _function(
    program: Any, inputs: list[Any], outputs: list[Any], equations: list[Any]
) -> Callable[..., list[Any]]:
    """A part of a traced program as a function of some of its variables."""
    jaxpr, consts = program.jaxpr, program.consts
    names = jaxpr.debug_info.with_unknown_names()
    inputs = [*jaxpr.constvars, *inputs]
    part = jex.core.Jaxpr((), inputs, outputs, equations, jaxpr.effects, names)
    run = jex.core.jaxpr_as_fun(jex.core.ClosedJaxpr(part, ()))
    return lambda *arguments: run(*consts, *arguments)
