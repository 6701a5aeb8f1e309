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
from jaxrl.sweep import store
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
    folder = pathlib.Path(folder)
    record = store.read_record(folder)
    labels = {name: np.asarray(label) for name, label in record["labels"].items()}
    if set(where) != set(labels):
        raise ValueError(f"name one member by all of {', '.join(labels)}; {', '.join(where) or 'none'} was given.")
    place = [_place(name, labels[name], where[name]) for name in labels]
    member = int(np.ravel_multi_index(place, tuple(len(label) for label in labels.values())))
    learner = store.read_learner(folder, member)
    hyper = {name: float(labels[name][i]) for name, i in zip(labels, place, strict=True) if name != "seed"}
    training = tree.put(training, hyper)
    shapes = jax.eval_shape(training.begin, jax.random.key(0))
    return MemberPolicy(training, with_kept(shapes, [jnp.asarray(x) for x in learner]))


def _place(name: str, label: np.ndarray, value: Any) -> int:
    found = np.flatnonzero(np.isclose(label, value, rtol=1e-6, atol=0))
    if not len(found):
        raise ValueError(
            f"{name}={value} was not swept; its values are {label[:12].tolist()}{'...' if len(label) > 12 else ''}."
        )
    return int(found[0])


def best(results: xr.Dataset, name: str = "return") -> dict[str, Any]:
    """The labels of the member with the highest final `name`: what `policy` takes."""
    last = results[name].isel(step=-1) if "step" in results[name].dims else results[name]
    place = last.fillna(-np.inf).argmax(list(last.dims))
    return {axis: last[axis].values[int(i)].item() for axis, i in place.items()}  # type: ignore[union-attr]
