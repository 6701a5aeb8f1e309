"""Meta-gradients: reverse mode through a learner's updates, to what it learns with."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import rollout, tree
from jaxrl.algorithms.base import Algorithm, State
from jaxrl.algorithms.loop import run_updates, to_means
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.clock import Metrics
from jaxrl.env import Env
from jaxrl.keys import as_key
from jaxrl.meta.replay_tree import tree_scan
from jaxrl.meta.strategies import as_floats
from jaxrl.rollout import Transition
from jaxrl.rules.base import Out

# (learner, its state, its metrics) -> value [], auxiliary output
Objective = Callable[[Any, State, Metrics], tuple[jax.Array, Any]]


def meta_gradient(
    key: jax.Array | int,
    learner: Algorithm,
    params: dict[str, Any],
    env: Env,
    state: State,
    objective: Objective,
    num_updates: int,
    *,
    branch: int | None = 64,
) -> tuple[tuple[jax.Array, tuple[State, Metrics, Any]], dict[str, Any]]:
    """The value of `objective` after `num_updates` updates, and its gradient with respect to fields
    of the learner.

    key: a key or an integer seed. params: {field: value}, fields of the learner by name, trees of
    floats. objective: called with the learner, its state after the updates, and their metrics; it
    returns a value and auxiliary output. The experience of each update is data: no gradient flows
    through the choice of actions (the score-function term is left out, as is usual). branch: the
    intermediate values of an update are computed again in the backward pass rather than stored, so
    that memory grows by one state for each of up to `branch` updates, and beyond that with their
    logarithm (`tree_scan`). None stores everything.

    Returns (value, (state, metrics, auxiliary output)), gradient.

    Raises, while tracing:
      TypeError: one of the params is not a float.
      ValueError: no gradient can reach one of them: which, and why that may be.
    """
    key, params = as_key(key), as_floats(params)
    scan = None if branch is None else functools.partial(tree_scan, branch=branch)

    def value_after(params: dict[str, Any]) -> tuple[jax.Array, Any]:
        tuned = tree.put(learner, params)
        new_state, sums = run_updates(key, tuned, env, state, num_updates, scan=scan)
        metrics = to_means(env, sums, jnp.float32(num_updates))
        value, auxiliary = objective(tuned, new_state, metrics)
        return value, (new_state, metrics, auxiliary)

    gradient = jax.value_and_grad(value_after, has_aux=True)
    try:
        _check_reached(lambda params: gradient(params)[1], params)
        return gradient(params)
    except ValueError as error:
        if "Reverse-mode differentiation" not in str(error):
            raise
        raise ValueError(
            f"{type(learner).__name__} takes steps that can't be differentiated backward: "
            "somewhere in its update or its rule is a while_loop, or a fori_loop with a length "
            "known only when it runs. Use a scan, or evolve it by rl.Evolution."
        ) from error


def play(key: jax.Array, learner: OnPolicy, env: Env, state: Any) -> Transition:
    """A rollout of the exploring policy, as data. [T, B]."""
    policy = learner.policy(env, learner.agent(state), greedy=False)
    _, transitions = rollout.rollout(key, env, policy, state.episodes, learner.num_steps)
    return jax.lax.stop_gradient(transitions)


def forward(learner: OnPolicy, env: Env, state: Any, obs: Any) -> Out:
    """The network's heads and the policy at each observation. [T, B]."""
    return jax.vmap(jax.vmap(lambda obs: learner.forward(env, state, (), obs)[1]))(obs)


def check_learner(learner: Any, user: Any) -> OnPolicy:
    """The learner of `user`, which reads single observations of its rollouts.

    Raises:
      TypeError: it is not an `OnPolicy`. ValueError: it has a memory.
    """
    kind = type(user).__name__
    if not isinstance(learner, OnPolicy):
        raise TypeError(
            f"{kind} takes the gradient of an rl.OnPolicy, and got {type(learner).__name__}: write "
            "learner=rl.OnPolicy(...), or evolve it by rl.Evolution."
        )
    if learner.memory is not None:
        raise ValueError(
            f"The meta-objective of {kind} reads single observations: give it a learner without a "
            "memory."
        )
    return learner


def _check_reached(gradient: Callable[[Any], Any], params: Any) -> None:
    """Check that the gradient of each parameter depends on anything."""
    traced = jax.make_jaxpr(gradient)(params).jaxpr
    reached = {id(x) for x in (*traced.invars, *traced.constvars)}
    for equation in traced.eqns:
        if any(id(x) in reached for x in equation.invars):
            reached |= {id(x) for x in equation.outvars}
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    lost = [path for path, x in zip(paths, traced.outvars, strict=True) if id(x) not in reached]
    if lost:
        raise ValueError(
            f"No gradient reaches {', '.join(lost)} from the objective: every way there "
            "crosses a step without one, such as stop_gradient, rounding, comparing or drawing an "
            "action. Evolve it, which needs none: rl.Evolution."
        )
