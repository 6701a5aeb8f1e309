"""Which outputs of a traced function depend on some of its inputs, without running it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core


def depends(
    function: Callable[..., Any], arguments: Sequence[Any], marked: Sequence[bool]
) -> tuple[list[bool], Any]:
    """Return, for each output leaf, whether it depends on a marked input; and the outputs' shapes.

    arguments: arrays or their shapes, as for `jax.eval_shape`. marked: of each leaf of `arguments`.

    A dependence that cancels, as in `x - x`, counts as one.
    """
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    return _outputs(traced.jaxpr, list(marked)), shapes


def _outputs(jaxpr: Any, marked: list[bool]) -> list[bool]:
    reached = {id(var) for var, mark in zip(jaxpr.invars, marked, strict=True) if mark}
    for eqn in jaxpr.eqns:
        inputs = [id(var) in reached for var in eqn.invars]
        if any(inputs):
            marks = zip(eqn.outvars, _equation(eqn, inputs), strict=True)
            reached |= {id(var) for var, mark in marks if mark}
    return [id(var) in reached for var in jaxpr.outvars]


def _equation(eqn: Any, inputs: list[bool]) -> list[bool]:
    """The outputs of an equation that depend on its marked inputs."""
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":
        first, carried = _scan_sizes(params)
        return _loop(params["jaxpr"].jaxpr, inputs, first, first + carried)
    if name == "while":
        condition, body = params["cond_nconsts"], params["body_nconsts"]
        carry = inputs[condition + body :]
        outputs = _loop(params["body_jaxpr"].jaxpr, inputs[condition:], body, body + len(carry))
        stops = _outputs(params["cond_jaxpr"].jaxpr, inputs[:condition] + outputs)[0]
        return [stops or output for output in outputs]
    if name == "cond":
        index, *rest = inputs
        branches = [_outputs(branch.jaxpr, rest) for branch in params["branches"]]
        return [index or any(marks) for marks in zip(*branches, strict=True)]
    inner = [x for x in map(_jaxpr_of, params.values()) if x is not None]
    if len(inner) == 1 and len(inner[0].invars) == len(inputs):  # a call: jit, checkpoint, ...
        return _outputs(inner[0], inputs)
    return [True] * len(eqn.outvars)


def _scan_sizes(params: Any) -> tuple[int, int]:
    """The number of inputs of a scan that are constants, and of those that it carries."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    constants, carry, _ = params["ft_in"].unpack()  # of jax 0.11
    return len(list(constants)), len(list(carry))


def _loop(body: Any, inputs: list[bool], first: int, last: int) -> list[bool]:
    """The outputs of a loop: marks of its carry, inputs first to last, until none is new."""
    while True:
        outputs = _outputs(body, inputs)
        carry = [a or b for a, b in zip(inputs[first:last], outputs, strict=False)]
        if carry == inputs[first:last]:
            return [*carry, *outputs[last - first :]]
        inputs = [*inputs[:first], *carry, *inputs[last:]]


def _jaxpr_of(param: Any) -> Any:
    """The jaxpr of a parameter of an equation, closed or not; None of any other."""
    if isinstance(param, jax.extend.core.ClosedJaxpr):
        return param.jaxpr
    return param if isinstance(param, jax.extend.core.Jaxpr) else None
