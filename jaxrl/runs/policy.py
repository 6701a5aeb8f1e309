"""The policy and the agent of a trained member, from the folder of the sweep that trained it."""

from __future__ import annotations

import dataclasses
import os
import warnings
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import rollout, stats, tree
from jaxrl.algorithms.base import Agent
from jaxrl.env import Env, Tasks
from jaxrl.errors import nearest
from jaxrl.lazy import xarray as xr
from jaxrl.masks import visible
from jaxrl.sweep import lookup, store
from jaxrl.sweep.program import AGENT, BEST_AGENT
from jaxrl.train import Training

KEPT = {"final": AGENT, "best": BEST_AGENT}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MemberPolicy(rollout.Policy):
    """The greedy policy of one member: a function that can be jitted and vmapped, and a pytree.

    Its leaves are those of the training and of the agent, so it can be an argument of jitted
    functions, and policies of members with equal static fields can be stacked and vmapped over:

        policies = jax.tree.map(lambda *x: jnp.stack(x), policy_1, policy_2)
        jax.vmap(lambda policy: rl.evaluate(key, env, policy, 8))(policies)

    training: with the member's config. agent: what the folder keeps of it.
    """

    training: Training
    agent: Agent

    def __call__(
        self, key: jax.Array, episode: rollout.Episode
    ) -> tuple[rollout.RnnState, rollout.Action, rollout.Extras]:
        try:
            return super().__call__(key, episode)
        except Exception as error:  # of a network, in the words of its library
            if reason := _wrong_shape(self.training.env, episode.obs):
                raise ValueError(reason) from error
            raise

    def act(self, obs: Any, rnn_state: Any = None) -> tuple[Any, Any]:
        """The greedy action at one observation, clipped to a box, and the recurrent state after it.

        rnn_state: what the call before returned; None at the start of an episode. For environments
        outside the kit, such as gymnasium's; a policy that plans has no such action. Of a team, the
        observations of all agents [A, ...] give the actions of all [A], and one agent's its own.

            act = jax.jit(policy.act)
            action, rnn_state = act(obs, rnn_state)

        Raises:
          ValueError: an observation of another shape, such as a batch: `jax.vmap(policy.act)(obs)`.
        """
        obs = jax.tree.map(jnp.asarray, obs)
        if self._is_of_team(obs):
            if rnn_state is None:
                return jax.vmap(self.act)(obs)
            return jax.vmap(self.act)(obs, rnn_state)
        rnn_state = self.rnn_state if rnn_state is None else rnn_state
        zero = jnp.float32(0.0)
        episode = rollout.Episode(None, obs, rnn_state, jnp.int32(0), zero, {})
        rnn_state, action, _ = self(jax.random.key(0), episode)
        return self.env.action_space.clip(action), rnn_state

    def _is_of_team(self, obs: Any) -> bool:
        """True for the observations of all agents of a team. [A, ...]."""
        num_agents = self.training.env.num_agents
        if num_agents is None:
            return False
        one, given = (jax.tree.leaves(visible(x)) for x in (obs_shapes(self.training.env), obs))
        return [jnp.shape(x) for x in given] == [(num_agents, *x.shape) for x in one]

    @property
    def env(self) -> Env:
        """The environment that the member was trained in."""
        return cast(Env, self.training.env)


def policy(
    folder: str | os.PathLike[str],
    training: Training | None = None,
    *,
    kept: str = "final",
    **where: Any,
) -> MemberPolicy:
    """The final policy of the run at `where`, one label for each axis with several values:
    `policy(folder, lr=3e-4, seed=7)`.

    training: the training that was swept; needed if it has classes of your own (neither jaxrl's nor
    gymnax's), or if the file of a large array is not in the folder. The policy's `training` is this
    one with the values of the run. kept: "best" selects the policy at the best evaluation, for a
    sweep with keep_best=True.

    Raises:
      ValueError: an axis without a label, a label that the axis does not have, a training that the
        folder can't define.
      TypeError: the algorithm has no policy; `agent` reads its saved agent.
    """
    training, found = _read(folder, training, kept, where)
    if any(
        np.isnan(np.asarray(x, np.float32)).any() for x in jax.tree.leaves(found) if _is_float(x)
    ):
        warnings.warn(
            f"This run of {folder} diverged: its parameters contain NaN, so its actions and "
            "returns are meaningless. rl.best(results) finds a run that did not diverge.",
            stacklevel=2,
        )
    return _make(training, found)


def _make(training: Training, agent: Agent) -> MemberPolicy:
    made = training.algo.policy(training.env, agent, greedy=True)  # type: ignore[arg-type]
    return MemberPolicy(made.function, made.rnn_state, training=training, agent=agent)


def obs_shapes(env: Env | Tasks) -> Any:
    """The shapes and types of one agent's observation."""

    def reset(key: jax.Array) -> Any:
        one = env.sample(key) if isinstance(env, Tasks) else env
        obs = one.reset(key)[1]
        return obs if one.num_agents is None else jax.tree.map(lambda x: x[0], obs)

    return jax.eval_shape(reset, jax.random.key(0))


def _wrong_shape(env: Env | Tasks, obs: Any) -> str:
    """The reason why a policy of this environment does not take an observation; empty if it may."""
    expected, given = visible(obs_shapes(env)), visible(obs)
    shapes = [[list(jnp.shape(x)) for x in jax.tree.leaves(part)] for part in (expected, given)]
    alike = jax.tree.structure(expected) == jax.tree.structure(given)
    if alike and shapes[0] == shapes[1]:
        return ""
    shown = [jax.tree.map(lambda x: list(jnp.shape(x)), part) for part in (expected, given)]
    is_batch = alike and all(a == b[1:] for a, b in zip(*shapes, strict=True))
    instead = (
        "for a batch, write jax.vmap(policy.act)(obs)"
        if is_batch
        else f"write policy.act(obs) with an observation of {type(env).__name__}"
    )
    return f"This policy takes one observation of shape {shown[0]}, and got {shown[1]}: {instead}."


def _unflatten(_: None, children: Any) -> MemberPolicy:
    """The policy of leaves that may be traced, or no arrays at all: nothing is computed of them
    before it is called.
    """
    training, agent, rnn_state = children

    def function(key: jax.Array, episode: rollout.Episode) -> tuple[Any, Any, Any]:
        return training.algo.policy(training.env, agent, greedy=True)(key, episode)

    return MemberPolicy(function, rnn_state, training=training, agent=agent)


jax.tree_util.register_pytree_node(
    MemberPolicy,
    lambda policy: ((policy.training, policy.agent, policy.rnn_state), None),
    _unflatten,
)


def agent(
    folder: str | os.PathLike[str],
    training: Training | None = None,
    *,
    kept: str = "final",
    **where: Any,
) -> Agent:
    """The agent of a member, `algo.agent(state)` of its state: parameters and all else that acting
    needs; of a meta-learner its meta-parameters. Arguments and errors as in `policy`.
    """
    return _read(folder, training, kept, where)[1]


def _read(
    folder: str | os.PathLike[str], training: Training | None, kept: str, where: dict[str, Any]
) -> tuple[Training, Agent]:
    """The training of a member, with its config, and its agent."""
    if kept not in KEPT:
        raise ValueError(f"kept={kept!r} is neither of {', '.join(KEPT)}.")
    home, record, where = lookup.find(folder, where)
    if home.is_file():
        raise ValueError(
            f"{home} is a record: curves, and no policies. Train one again where it is kept, "
            "rl.sweep(..., folder=)."
        )
    training = lookup.training_of(home, record, training)
    number = lookup.number_at(record, where)
    config = lookup.config_of(home, record, number, training)
    fields = {name: value for name, value in config.items() if name != "seed"}
    training = tree.put(training, fields)
    algo = training.algo
    shapes = jax.eval_shape(lambda key: algo.agent(training.init(key)), jax.random.key(0))
    expected, structure = jax.tree.flatten(shapes)
    leaves = store.read_agent(home, number, KEPT[kept]) if expected else []
    if len(leaves) != len(expected) or any(
        x.shape != shape.shape for x, shape in zip(leaves, expected, strict=True)
    ):
        raise ValueError(
            f"{home} holds agents of {len(leaves)} arrays, and this algorithm's have other shapes: "
            "it was trained by another version of jaxrl. Train it again."
        )
    made = [_as(x, shape.dtype) for x, shape in zip(leaves, expected, strict=True)]
    return training, structure.unflatten(made)


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


def _as(x: np.ndarray, dtype: Any) -> jax.Array:
    # a .npz does not know bfloat16 and its like
    return jnp.asarray(x.view(dtype) if x.dtype.kind == "V" else x)


def best_by(results: xr.Dataset, *, diverged: bool = False) -> str:
    """The variable that `best` compares: "evaluation" where a member has one, else "return"."""
    if "evaluation" not in results:
        return "return"
    return (
        "evaluation" if _last_known(results, "evaluation", diverged).notnull().any() else "return"
    )


def best(results: xr.Dataset, name: str | None = None, *, diverged: bool = False) -> dict[str, Any]:
    """The labels of the run with the highest final `name`, as `policy` accepts them.

    name: by default "evaluation", the return of the greedy policy, if there is one; otherwise
    "return", that of training, which also breaks ties between equal evaluations. The final value is
    the last known one: for a run that stopped early, the value where it stopped. diverged: True
    includes runs that diverged; by default they are never the best.

    Raises:
      ValueError: no run has a final value.
    """
    by_default, name = name is None, name or best_by(results, diverged=diverged)
    last = _last_known(results, name, diverged)
    if not last.notnull().any():
        raise ValueError(
            f"no run has a final {name!r}: all diverged, or none finished an episode since "
            "the last row."
        )
    if by_default and name == "evaluation" and "return" in results:
        score = _last_known(results, "return", diverged).transpose(*last.dims)
        last = score.fillna(np.finfo(np.float32).min).where(last == last.max())
    place = last.fillna(-np.inf).argmax(list(last.dims))
    return {axis: last[axis].values.tolist()[int(i)] for axis, i in place.items()}  # type: ignore[union-attr]


def _last_known(results: xr.Dataset, name: str, diverged: bool) -> xr.DataArray:
    """The last known value of each member; NaN where it diverged, unless these count too."""
    if name not in results:
        known = (
            nearest(name, map(str, results.data_vars))
            if results.data_vars
            else "no chunk of the sweep has finished yet: wait for the first"
        )
        raise ValueError(f"the results have no {name!r}; {known}.")
    last = results[name]
    if "step" in last.dims:
        last = last.isel(step=last.notnull().cumsum("step").argmax("step"))
    if "diverged" in results and not diverged:
        last = last.where(~stats.has_diverged(results, last.dims))
    return last
