"""The policy of a trained member, from the folder of the sweep that trained it."""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxrl import tree
from jaxrl.sweep import lookup, store
from jaxrl.sweep.program import AGENT, BEST_AGENT, with_agent
from jaxrl.train import Training

KEPT = {"final": AGENT, "best": BEST_AGENT}


@dataclasses.dataclass(frozen=True)
class MemberPolicy:
    """`(key, memory, obs) -> (memory, action)`: the greedy policy of one member.

    `memory` is the recurrent state at the start of an episode.
    """

    training: Training
    state: Any

    @property
    def memory(self) -> Any:
        return self.training.algo.start(self.training.env)

    def __call__(self, key: jax.Array, memory: Any, obs: Any) -> tuple[Any, Any]:
        return self.training.algo.act(key, self.training.env, self.state, memory, obs)


def policy(
    folder: str | os.PathLike[str],
    training: Training | None = None,
    *,
    kept: str = "final",
    **where: Any,
) -> MemberPolicy:
    """The final policy of the member at `where`, a label for each axis of several values:
    `policy(folder, lr=3e-4, seed=7)`.

    training: what was swept; needed where a part of it is neither the kit's nor gymnax's, or where
    the file of a large array is not in the folder. With the member's config put in its place it is
    the policy's `training`. kept: "best" is the policy of the best evaluation, of a sweep with
    keep_best=True.

    Raises:
      ValueError: an axis without a label, a label that the axis does not have, a training that the
        folder can't make.
    """
    if kept not in KEPT:
        raise ValueError(f"kept={kept!r} is neither of {', '.join(KEPT)}.")
    folder, record, where = lookup.find(folder, where)
    if folder.is_file():
        raise ValueError(
            f"{folder} is a record: curves, and no policies. Train one again where it is kept, "
            "rl.sweep(..., folder=)."
        )
    training = lookup.training_of(folder, record, training)
    number = lookup.number_at(record, where)
    config = lookup.config_of(folder, record, number, training)
    fields = {name: value for name, value in config.items() if name != "seed"}
    training = tree.put(training, fields)
    shapes = jax.eval_shape(training.begin, jax.random.key(0))
    leaves = store.read_agent(folder, number, KEPT[kept])
    return MemberPolicy(training, with_agent(training, shapes, [jnp.asarray(x) for x in leaves]))


def best(results: xr.Dataset, name: str = "return") -> dict[str, Any]:
    """The labels of the member with the highest final `name` of those that did not diverge, as
    `policy` takes them.

    Final is the last known value: of a member that stopped early where it stopped.
    """
    values = results[name]
    if "step" in values.dims:
        last_known = values.notnull().cumsum("step").argmax("step")
        last = values.isel(step=last_known)
    else:
        last = values
    if "diverged" in results:
        last = last.where(~results["diverged"].any("step"))
    if not last.notnull().any():
        raise ValueError(
            f"no member has a final {name!r}: all diverged, or none finished an episode since "
            "the last row."
        )
    place = last.fillna(-np.inf).argmax(list(last.dims))
    return {axis: last[axis].values.tolist()[int(i)] for axis, i in place.items()}  # type: ignore[union-attr]
