"""The record of a sweep as JSON: its run, axes and program. store.py writes it to sweep.json."""

import datetime
import hashlib
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrl import tree
from jaxrl.algorithms import PRESETS, Algorithm
from jaxrl.devices import Reference, compiling_for
from jaxrl.sweep import provenance, serialize
from jaxrl.sweep.arrays import is_large
from jaxrl.sweep.grid import Grid, bind, raw
from jaxrl.sweep.program import flatten
from jaxrl.train import Training

Record = dict[str, Any]
KIT = "jaxrl"  # package of its own classes


def make_record(
    run: Any, grid: Grid, keep_best: bool | None = None, *, with_program: bool = True
) -> Record:
    """The record of a sweep: what identifies it, and the reproducibility card.

    with_program: traces one member, to add the digest of its program and the names of its outputs,
    which a folder needs.

    Raises:
      ValueError, TypeError: a run that the grid does not fit, or outputs that no dataset can hold.
    """
    described = provenance.describe(run)
    described = described if isinstance(run, Training) else {"function": described}
    traced: Record = {}
    if with_program:
        with compiling_for(Reference()):  # or a folder could not be resumed on another platform
            program, outputs = _trace(run, grid)
        check_outputs(outputs, grid)
        described["program"] = _digest(program)
        traced = {"outputs": sorted(outputs)}
    return {
        "run": described,
        "algorithm": algorithm_name(run.algo) if isinstance(run, Training) else "",
        "axes": grid.record(),
        "labels": {name: label.tolist() for name, label in grid.labels.items()},
        "coordinates": {
            name: [axis, label.tolist()] for name, (axis, label) in grid.coordinates.items()
        },
        **traced,
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        **provenance.sources(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **({} if keep_best is None else {"keep_best": keep_best}),
        **(serialize.record(run, grid.first) if isinstance(run, Training) else {}),
    }


def algorithm_name(algo: Algorithm) -> str:
    """The name of an algorithm: the one that it was given, that of an own class among its parts
    (learner, rule, objective), that of its preset, or else the class of its learner or rule.
    """
    if algo.name and algo.name not in PRESETS:
        return str(algo.name)
    known = tree.paths(algo)
    found = [
        tree.get(algo, path) for path in ("learner", "rule", "rule.objective") if path in known
    ]
    own = [part for part in (algo, *found) if type(part).__module__.partition(".")[0] != KIT]
    if own:
        return type(own[-1]).__name__
    return algo.name or type(next(iter(found), algo)).__name__


def check_keep_best(run: Any, keep_best: bool) -> None:
    """Refuse keep_best of what is never evaluated."""
    if keep_best and not (isinstance(run, Training) and run.eval_rows[0].any()):
        raise ValueError(
            "keep_best=True needs evaluations to compare: sweep a rl.Training with episodes and an "
            "eval_share that affords them."
        )


def outputs_of(run: Callable[..., Any], grid: Grid) -> Callable[[Any], dict[str, Any]]:
    """The function of a config that returns a function's outputs by name."""
    call = bind(run, grid)

    def outputs(config: Any) -> dict[str, Any]:
        returned = call(config)
        if not isinstance(returned, dict):
            raise TypeError(
                f"run returned {type(returned).__name__}; a sweep needs a dictionary of arrays. "
                "Write `return {'score': x}`, or, of what rl.train returns, "
                "`return rl.train(...)[1]`."
            )
        return flatten(returned)

    return outputs


def check_outputs(shapes: dict[str, Any], grid: Grid) -> None:
    """Refuse outputs that a dataset and its file can't hold."""
    for name, shape in shapes.items():
        if name in (*grid.values, *grid.names):
            raise ValueError(
                f"the program returns {name!r}, which is also a swept name: rename one of them."
            )
        if "/" in name:
            raise ValueError(
                f"the program returns {name!r}: a name can't hold a slash. Write it another way."
            )
        dtype = getattr(shape, "dtype", None)
        if not isinstance(dtype, np.dtype) or dtype.kind not in "biufc":
            raise TypeError(
                f"the program returns {name!r} as {shape}: a result is an array of numbers. Leave "
                "it out, or cast it."
            )


def _trace(run: Any, grid: Grid) -> tuple[Any, dict[str, Any]]:
    """The traced program of one member, of a training its first row, and the shapes of its outputs.

    Large arrays are its arguments, so the digest does not depend on what they hold.
    """
    if not isinstance(run, Training):
        return jax.make_jaxpr(outputs_of(run, grid), return_shape=True)(grid.first)
    at = bind(run, grid)
    large, combine = tree.partition(run, is_large)

    def first_row(config: Any, arrays: list[jax.Array]) -> Any:
        training, key = at(config, combine(arrays))
        return training.masked_row(key, training.init(key), 0)

    program, shapes = jax.make_jaxpr(first_row, return_shape=True)(grid.first, large)
    return program, shapes[1].values | run.clocks


def _digest(program: Any) -> str:
    """The SHA-256 of a traced program and its constants, the same in every process."""
    text = "\n".join(
        line for line in str(program.jaxpr).splitlines() if "debug_callback" not in line
    )
    words = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", text).encode())
    for constant in program.consts:
        host = raw(constant) if isinstance(constant, jax.Array) else np.asarray(constant)
        words.update(host.tobytes())
    return words.hexdigest()
