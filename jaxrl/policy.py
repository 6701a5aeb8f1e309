"""A trained member's policy, from the folder of the sweep that trained it."""

import dataclasses
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxrl import tree
from jaxrl.sweep import card, store
from jaxrl.sweep.program import with_kept
from jaxrl.train import Training


@dataclasses.dataclass(frozen=True)
class MemberPolicy:
    """`(key, memory, obs) -> (memory, action)`: the greedy policy of one member. `memory` is what an episode starts with."""

    training: Training
    state: Any

    @property
    def memory(self) -> Any:
        return self.training.algo.start(self.training.env)

    def __call__(self, key: jax.Array, memory: Any, obs: Any) -> tuple[Any, Any]:
        return self.training.algo.act(key, self.training.env, self.state, memory, obs)


def policy(folder: str | os.PathLike[str], training: Training, **where: Any) -> MemberPolicy:
    """The final policy of the member at `where`, one label for each swept axis: `policy(folder, training, lr=3e-4, seed=7)`.

    training: what was swept. Raises ValueError: an axis without a label, or a label that the axis does not have.
    """
    folder = pathlib.Path(folder).expanduser()
    record = store.read_record(folder)
    labels = {name: np.asarray(label) for name, label in record["labels"].items()}
    if set(where) != set(labels):
        raise ValueError(f"name one member by all of {', '.join(labels)}; {', '.join(where) or 'none'} was given.")
    if changed := card.differences(_fields(record["run"]), _fields(card.describe(training)), "training"):
        listed = "\n  ".join(changed[:12])
        raise ValueError(f"{folder} holds the policies of another training; these fields differ:\n  {listed}")
    place = [_place(name, labels[name], where[name]) for name in labels]
    member = int(np.ravel_multi_index(place, tuple(len(label) for label in labels.values())))
    learner = store.read_learner(folder, member)
    values = {name: np.asarray(record["axes"][name]) for name in labels if name != "seed"}
    hyper = {name: jnp.asarray(value[i]) for (name, value), i in zip(values.items(), _but_seed(labels, place), strict=True)}
    training = tree.put(training, hyper)
    shapes = jax.eval_shape(training.begin, jax.random.key(0))
    return MemberPolicy(training, with_kept(shapes, [jnp.asarray(x) for x in learner]))


def _fields(run: Any) -> Any:
    """What a record says of a training, without its program's fingerprint."""
    if "function" in run:
        raise ValueError("the sweep was of a function, which keeps no policies: sweep a rl.Training to have them.")
    return {name: value for name, value in run.items() if name != "program"}


def _but_seed(labels: dict[str, np.ndarray], place: list[int]) -> list[int]:
    return [i for name, i in zip(labels, place, strict=True) if name != "seed"]


def _place(name: str, label: np.ndarray, value: Any) -> int:
    found = np.flatnonzero(np.isclose(label, value, rtol=1e-6, atol=0) if label.dtype.kind == "f" else label == value)
    if not len(found):
        raise ValueError(
            f"{name}={value} was not swept; its values are {label[:12].tolist()}{'...' if len(label) > 12 else ''}."
        )
    return int(found[0])


def best(results: xr.Dataset, name: str = "return") -> dict[str, Any]:
    """The labels of the member with the highest final `name` of those that did not diverge: what `policy` takes."""
    last = results[name].isel(step=-1) if "step" in results[name].dims else results[name]
    if "diverged" in results:
        last = last.where(~results["diverged"].any("step"))
    if not last.notnull().any():
        raise ValueError(f"no member has a final {name!r}: all diverged, or none finished an episode since the last row.")
    place = last.fillna(-np.inf).argmax(list(last.dims))
    return {axis: last[axis].values[int(i)].item() for axis, i in place.items()}  # type: ignore[union-attr]
