"""Meta-gradients: back through a learner's updates, to what it learns with."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import rollout, tree
from jaxrl.env import Env
from jaxrl.meta.replay_tree import tree_scan
from jaxrl.meta.strategies import as_floats
from jaxrl.rollout import Transition
from jaxrl.rules.base import Metrics
from jaxrl.train import to_means, weigh

Objective = Callable[
    [Any, Any, Metrics], tuple[jax.Array, Any]
]  # (learner, its state, what it told) -> value [], more


def meta_gradient(
    key: jax.Array,
    learner: Any,
    params: dict[str, Any],
    env: Env,
    state: Any,
    objective: Objective,
    num_updates: int,
    *,
    branch: int | None = 64,
) -> tuple[tuple[jax.Array, tuple[Any, Metrics, Any]], dict[str, Any]]:
    """The value of `objective` after so many updates, and its gradient with respect to what the
    learner learns with.

    params: {field: value}, fields of the learner by name, trees of floats. objective: called with
    the learner, its state after the updates, and their metrics; what it returns beside the value is
    handed on. The experience of each update is data: no gradient flows through which actions were
    drawn (the score-function term is left out, as is usual). branch: the insides of an update are
    computed again on the way back rather than kept, so that memory grows by one state for each of
    up to `branch` updates, and beyond that with their logarithm (`tree_scan`). None keeps
    everything.

    Returns (value, (state, metrics, what else the objective said)), gradient.

    Raises, while tracing:
      TypeError: one of the params is no float.
      ValueError: no gradient can reach one of them: which, and why that may be.
    """
    params = as_floats(params)

    def after(params: dict[str, Any]) -> tuple[jax.Array, Any]:
        made = tree.put(learner, params)

        def update(now: tuple[Any, Metrics], n: jax.Array) -> tuple[Any, Metrics]:
            lived, told = made.update(jax.random.fold_in(key, n), env, now[0])
            return lived, jax.tree.map(jnp.add, now[1], weigh(told))

        shapes = jax.eval_shape(lambda: weigh(made.update(key, env, state)[1]))
        start = state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        if branch is None:
            lived, told = jax.lax.scan(
                lambda now, n: (update(now, n), None), start, jnp.arange(num_updates)
            )[0]
        else:
            lived, told = tree_scan(update, start, num_updates, branch)
        told = to_means(told, jnp.float32(num_updates))
        value, more = objective(made, lived, told)
        return value, (lived, told, more)

    gradient = jax.value_and_grad(after, has_aux=True)
    try:
        _check_reached(lambda params: gradient(params)[1], params)
        return gradient(params)
    except ValueError as error:
        if "Reverse-mode differentiation" not in str(error):
            raise
        raise ValueError(
            f"{type(learner).__name__} takes steps that can't be differentiated backward: "
            "somewhere in its update or its "
            "rule is a while_loop, or a fori_loop with a length known only when it runs. Use a "
            "scan, or evolve it by "
            "rl.Evolution."
        ) from error


def play(key: jax.Array, learner: Any, env: Env, state: Any) -> Transition:
    """A rollout of the learner as it is, as data. [T, B]."""
    policy = lambda key, memory, obs: learner.explore(key, env, state, memory, obs)
    return jax.lax.stop_gradient(
        rollout.rollout(key, env, policy, state.episodes, learner.num_steps)[1]
    )


def heads(learner: Any, env: Env, state: Any, obs: Any) -> dict[str, Any]:
    """The network's heads and the policy at each observation. [T, B]."""
    return jax.vmap(jax.vmap(lambda obs: learner.look(env, state, (), obs)[1]))(obs)


def _check_reached(gradient: Callable[[Any], Any], params: Any) -> None:
    """Names the parameters that nothing can be learnt about: their gradient does not depend on
    anything.
    """
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
            "crosses a step without one, such as "
            "stop_gradient, rounding, comparing or drawing an action. Evolve it, which needs "
            "none: rl.Evolution."
        )
