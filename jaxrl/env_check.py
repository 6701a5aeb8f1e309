"""`check_env`: the contract of an environment, checked part by part, one sentence for each failure.

`check_contract` looks at shapes and types alone: it compiles nothing, and algorithms call it before
a training starts. `check_env` is the public one, which plays a few steps as well.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import rollout, spaces
from jaxrl.env import Env, Step, Tasks, check_is_env, check_roles
from jaxrl.errors import check_count, check_counts
from jaxrl.masks import mask_of
from jaxrl.spaces import Box, Space
from jaxrl.team_checks import (
    SPACES,
    check_equal_rewards,
    check_one_space,
    check_stacked,
)

WRITE_SPACE = "write rl.Discrete(n), rl.MultiDiscrete(sizes) or rl.Box(low, high, shape)"
WRITE_STEP = "write `return state, rl.Step(obs, reward, terminated, info)`"
NUMBERS = (jax.Array, np.ndarray, np.generic, bool, int, float)
MAX_PASSED = 1024
_PASSED: set[Any] = set()  # structures and types of environments that have passed


def check_env(env: Env | Tasks, *, num_steps: int = 8) -> None:
    """Check that an environment, or a distribution of them, follows the contract of `rl.Env`.

    First, shapes and types are checked, as before each training run: `max_steps`, `action_space`,
    `num_agents` and `channels`; `reset` returns `(state, obs)` and `step` returns `(state,
    rl.Step)`; state and observation keep their structure, shapes and types; the reward is a number
    [], for a team [A]; `terminated` is bool [], for a team [A] or []; masks fit the actions;
    channels are in `info`.

    Then `num_steps` random steps are played in 3 compiled programs: equal keys give equal episodes,
    numbers are finite, each mask allows an action, and `jax.vmap` over keys changes nothing. For a
    distribution, one sample is checked. An environment on the host is not played.

    Raises:
      TypeError, ValueError: the name of the first part that fails, and what to write.
    """
    check_count("num_steps", num_steps, of=" of rl.check_env")
    check_contract(env)
    one: Any = jax.jit(env.sample)(jax.random.key(0)) if isinstance(env, Tasks) else env
    if not one.on_host:
        _check_values(one, num_steps)


def check_contract(env: Any, user: Any = None) -> None:
    """Check shapes and types of an environment or a distribution; `user` is what takes it.

    Nothing is computed or compiled, and an environment that has passed is not checked again.

    Raises:
      TypeError, ValueError: as `check_env`.
    """
    if isinstance(env, Tasks):
        _check_tasks(env)
        return
    check_is_env(env, user)
    check_fields(env)
    leaves, structure = jax.tree.flatten(env)
    known = (structure, tuple((jnp.shape(x), jnp.result_type(x)) for x in leaves), _x64())
    if known in _PASSED:
        return
    # the key is made inside, so that the check adds nothing to a program that is being traced
    jax.eval_shape(lambda: _check_programs(env, jax.random.key(0)))
    if len(_PASSED) >= MAX_PASSED:
        _PASSED.clear()
    _PASSED.add(known)


def _x64() -> bool:
    return jnp.result_type(float) == jnp.float64


def _check_tasks(tasks: Tasks) -> None:
    name = type(tasks).__name__

    def sample(key: jax.Array) -> tuple[()]:
        env = tasks.sample(key)
        if not isinstance(env, Env):
            raise TypeError(
                f"{name}.sample returned {type(env).__name__}, which is not an Env: write "
                "sample(key) -> Env."
            )
        both = {
            "num_agents": (tasks.num_agents, env.num_agents),
            "channels": (tasks.channels, env.channels),
        }
        for field, (own, sampled) in both.items():
            if own != sampled:
                raise ValueError(
                    f"{name}.{field} is {own!r}, and that of its samples {sampled!r}: write "
                    f"{field} = {sampled!r} in {name}."
                )
        check_contract(env)
        return ()

    jax.eval_shape(lambda: sample(jax.random.key(0)))


# ------------------------------------------------------------------------------------------- fields


def check_fields(env: Env) -> None:
    """Check what is static in an environment: `max_steps`, `action_space` and the like.

    Raises:
      TypeError, ValueError: as `check_env`.
    """
    name = type(env).__name__
    _check_pytree(env)
    check_max_steps(env)
    if env.num_agents is not None:
        check_counts(env, "num_agents")
        check_roles(env)
    channels = env.channels
    if not isinstance(channels, tuple) or not all(isinstance(part, str) for part in channels):
        example = (channels,) if isinstance(channels, str) else ("cost",)
        raise TypeError(
            f"{name}.channels={channels!r} is not a tuple of names: write channels = {example!r}."
        )
    if not hasattr(env, "action_space"):
        raise TypeError(f"{name} has no action_space: {WRITE_SPACE}.")
    space: Any = env.action_space
    if env.num_agents is not None:
        check_one_space(env, space)
    if not isinstance(space, SPACES):
        kind = space.__name__ if isinstance(space, type) else type(space).__name__
        raise TypeError(
            f"{name}.action_space is {kind}, which is not an action space of jaxrl: {WRITE_SPACE}."
        )
    if isinstance(space, Box):
        spaces.check_bounds(space, f"{name}.action_space")
    if env.on_host and type(env).restart is Env.restart:
        raise TypeError(
            f"{name} resets {env} at each step of a rollout, which opens environments on the host: "
            "write the package's own wrappers, rl.envs.make('gymnasium:ID', wrappers=(...,))."
        )


def check_max_steps(env: Env) -> None:
    """Check that the time limit of an environment is a positive whole number.

    Raises:
      TypeError, ValueError: it is absent, or another value.
    """
    name, example = type(env).__name__, "max_steps: int = rl.static(default=500)"
    if not hasattr(env, "max_steps"):
        raise TypeError(f"{name} has no max_steps, the number of steps of an episode: {example}.")
    if isinstance(env.max_steps, jax.Array | np.ndarray):
        raise TypeError(
            f"{name}.max_steps={env.max_steps!r} is not a whole number: it is static, so write "
            f"{example}."
        )
    check_counts(env, "max_steps")


def _check_pytree(env: Env) -> None:
    name = type(env).__name__
    if any(leaf is env for leaf in jax.tree.leaves(env)):
        raise TypeError(f"{name} is not a pytree: write @rl.pytree above `class {name}(rl.Env)`.")


# ----------------------------------------------------------------------------------- reset and step


def _check_programs(env: Env, key: jax.Array) -> tuple[()]:
    """Trace a reset and a step, and compare their shapes and types."""
    name = type(env).__name__
    key_reset, key_action, key_step, key_swapped, key_rollout = jax.random.split(key, 5)
    reset = env.reset(key_reset)
    if not isinstance(reset, tuple) or len(reset) != 2:
        raise TypeError(
            f"{name}.reset returned {_kind(reset)}: write `return state, obs`, two values."
        )
    state, obs = reset
    _check_numbers(state, f"the state that {name}.reset returns")
    _check_numbers(obs, f"the observation that {name}.reset returns")
    state, obs = jax.tree.map(jnp.asarray, (state, obs))
    _check_obs(env, obs)
    action = env.action_space.sample(key_action)
    if env.num_agents is not None:
        action = jnp.broadcast_to(action, (env.num_agents, *action.shape))
    try:
        stepped = env.step(key_step, state, action)
    except Exception:
        if _takes(env, key_swapped, obs, action):
            raise TypeError(
                f"{name}.reset returns (obs, state), in which {name}.step takes the first for the "
                "state: write `return state, obs`."
            ) from None
        raise
    if isinstance(stepped, tuple) and len(stepped) == 2 and isinstance(stepped[0], Step):
        raise TypeError(f"{name}.step returned (Step, state): {WRITE_STEP}.")
    is_pair = isinstance(stepped, tuple) and len(stepped) == 2 and isinstance(stepped[1], Step)
    if not is_pair:
        raise TypeError(f"{name}.step returned {_kind(stepped)}: {WRITE_STEP}.")
    after, step = stepped
    _check_numbers(after, f"the state that {name}.step returns")
    _check_equal(f"{name}'s state", state, after)
    _check_step(env, obs, step)
    if env.channels:
        rollout.reset(key_rollout, env)  # its errors are about the channels
        _check_channels(env, step)
    return ()


def _takes(env: Env, key: jax.Array, obs: Any, action: Any) -> bool:
    """True where `step` accepts what `reset` returned second as its state."""
    try:
        return isinstance(env.step(key, obs, action), tuple)
    except Exception:
        return False


def _kind(x: Any) -> str:
    if isinstance(x, tuple):
        return f"a tuple of {len(x)}: ({', '.join(type(part).__name__ for part in x)})"
    return f"a {type(x).__name__}"


def _check_numbers(x: Any, what: str) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        if not isinstance(leaf, NUMBERS):
            raise TypeError(
                f"{what[0].upper()}{what[1:]} holds {jax.tree_util.keystr(path) or 'a value'} of "
                f"type {type(leaf).__name__}, which is not an array: write a number, an array, or "
                "a pytree of them (a class under @rl.pytree)."
            )


def _check_equal(what: str, first: Any, second: Any) -> None:
    """Check that what a reset returns and what a step returns are of one structure and type."""
    if jax.tree.structure(first) != jax.tree.structure(second):
        raise TypeError(
            f"{what} is {jax.tree.structure(first)} after a reset and "
            f"{jax.tree.structure(second)} after a step: return the same structure in both."
        )
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(first), jax.tree.leaves(second), strict=True
    ):
        part = f"{what}{jax.tree_util.keystr(path)}"
        if jnp.shape(a) != jnp.shape(b):
            raise TypeError(
                f"{part} has the shape {list(jnp.shape(a))} after a reset and {list(jnp.shape(b))} "
                "after a step: return the same shape in both."
            )
        one, other = jnp.result_type(a), jnp.result_type(b)
        # a plain number takes the type of what it meets
        if jnp.result_type(a, b) != one or (one != other and not _weak(b)):
            raise TypeError(
                f"{part} is {one} after a reset and {other} after a step: write the same type in "
                f"both, such as jnp.asarray(x, jnp.{other})."
            )


def _weak(x: Any) -> bool:
    return isinstance(x, int | float) or bool(jax.typeof(x).weak_type)


def _check_obs(env: Env, obs: Any) -> None:
    name, agents = type(env).__name__, () if env.num_agents is None else (env.num_agents,)
    if not jax.tree.leaves(obs):
        raise TypeError(f"{name}.reset returns an observation without arrays: write jnp.zeros(1).")
    for path, leaf in jax.tree_util.tree_leaves_with_path(obs):
        if agents and jnp.shape(leaf)[:1] != agents:
            check_stacked(env, obs)
            raise TypeError(
                f"{name} is a team of {agents[0]}, and its observation"
                f"{jax.tree_util.keystr(path)} has the shape {list(jnp.shape(leaf))}: write one "
                f"observation for each agent, [{agents[0]}, ...]."
            )
    mask = mask_of(obs)
    if mask is None:
        return
    if isinstance(env.action_space, Box):
        raise TypeError(
            f"{name}'s observation is Masked, and its actions are a Box: a mask is for Discrete or "
            "MultiDiscrete actions, so return the observation alone."
        )
    shape = (*agents, env.action_space.heads["logits"])
    if jnp.shape(mask) != shape or jnp.result_type(mask).kind != "b":
        raise TypeError(
            f"{name}'s mask is {jnp.result_type(mask)} {list(jnp.shape(mask))}, and its actions "
            f"need bool {list(shape)}: write Masked(obs, mask), True where an action is allowed."
        )


def _check_step(env: Env, obs: Any, step: Step) -> None:
    name, agents = type(env).__name__, env.num_agents
    for field in ("obs", "reward", "terminated", "info"):
        _check_numbers(vars(step)[field], f"the {field} of {name}'s step")
    _check_equal(f"{name}'s observation", obs, step.obs)
    for field, value in (("reward", step.reward), ("terminated", step.terminated)):
        if not jax.tree_util.all_leaves([value]):
            instead = "a number" if agents is None else f"one array [{agents}] for all agents"
            raise TypeError(
                f"The {field} of {name}'s step is a {type(value).__name__}, not an array: write "
                f"{instead}."
            )
    shape = () if agents is None else (agents,)
    rewarded = f"a number []: write {_scalar('reward', step.reward)}"
    if agents is not None:
        rewarded = (
            f"one number for each agent, [{agents}]: write jnp.full({agents}, reward) for one that "
            "they share"
        )
    if jnp.shape(step.reward) != shape:
        raise ValueError(
            f"The reward of {name}'s step has the shape {list(jnp.shape(step.reward))}, and is "
            f"{rewarded}."
        )
    if jnp.issubdtype(jnp.result_type(step.reward), jnp.complexfloating):
        raise TypeError(f"The reward of {name}'s step is complex: write jnp.real(reward).")
    if jnp.shape(step.terminated) not in ((), shape):
        named = "[]" if agents is None else f"[{agents}] or []"
        raise ValueError(
            f"`terminated` of {name}'s step has the shape {list(jnp.shape(step.terminated))}, and "
            f"is a bool {named}: write {_scalar('terminated', step.terminated)}."
        )
    if jnp.result_type(step.terminated).kind != "b":
        raise TypeError(
            f"`terminated` of {name}'s step is {jnp.result_type(step.terminated)} in place of "
            "bool: write True only in a final state (not 1 - discount), such as jnp.bool_(False)."
        )
    if not isinstance(step.info, dict):
        raise TypeError(
            f"The info of {name}'s step is a {type(step.info).__name__} in place of a dictionary: "
            "write {}."
        )


def _scalar(name: str, value: Any) -> str:
    return f"{name}.squeeze()" if np.prod(jnp.shape(value)) == 1 else f"jnp.sum({name})"


def _check_channels(env: Env, step: Step) -> None:
    agents = () if env.num_agents is None else (env.num_agents,)
    for channel in env.channels:
        shape = jnp.shape(step.info[channel])
        if len(shape) > len(agents) + 1:
            allowed = "[] or [K]" if not agents else f"[{agents[0]}] or [{agents[0]}, K]"
            raise ValueError(
                f"The channel {channel!r} of {type(env).__name__} has the shape {list(shape)}: "
                f"write a number or a vector, {allowed}."
            )


# ------------------------------------------------------------------------------------------- values


def _check_values(env: Env, num_steps: int) -> None:
    """Play some random steps: once more with equal keys, and as one of several under vmap."""
    name = type(env).__name__

    def play(key: jax.Array) -> Any:
        key_reset, key_act, key_step = jax.random.split(key, 3)
        state, obs = env.reset(key_reset)
        state, obs = jax.tree.map(jnp.asarray, (state, obs))

        def go(now: tuple[Any, Any], i: jax.Array) -> tuple[tuple[Any, Any], Any]:
            state, obs = now
            action = _random_action(env, jax.random.fold_in(key_act, i), mask_of(obs))
            after, step = env.step(jax.random.fold_in(key_step, i), state, action)
            after, next_obs = _as_before((after, step.obs), now)
            return (after, next_obs), (next_obs, jnp.asarray(step.reward), step.terminated)

        _, (later, reward, terminated) = jax.lax.scan(go, (state, obs), jnp.arange(num_steps))
        return {"observation": obs, "observations": later, "reward": reward}, terminated

    keys = jax.random.split(jax.random.key(0), 2)
    # traced anew each time, so that numbers from outside (np.random, a counter) differ
    first, terminated = jax.jit(lambda key: play(key))(keys[0])
    again, _ = jax.jit(lambda key: play(key))(keys[0])
    if not _close(first, again, 0.0):
        raise ValueError(
            f"{name} played two different episodes with the same key: derive all random numbers "
            "from the keys of reset and step with jax.random, and store nothing outside the state."
        )
    both, _ = jax.jit(jax.vmap(lambda key: play(key)))(keys)
    if not _close(first, jax.tree.map(lambda x: x[0], both), 1e-3):
        raise ValueError(
            f"{name} plays a different episode under jax.vmap: compute each environment only from "
            "its own state and key, independently of the batch size."
        )
    _check_finite(name, jax.device_get(first), np.asarray(terminated))
    if env.shared_reward and env.num_agents is not None:
        check_equal_rewards(name, np.asarray(first["reward"]), np.asarray(terminated))


def _random_action(env: Env, key: jax.Array, mask: Any) -> jax.Array:
    space: Space = env.action_space
    if env.num_agents is None:
        return space.clip(space.sample(key, mask))
    keys = jax.random.split(key, env.num_agents)
    if mask is None:
        return jax.vmap(lambda key: space.clip(space.sample(key)))(keys)
    return jax.vmap(lambda key, mask: space.clip(space.sample(key, mask)))(keys, mask)


def _as_before(new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.asarray(a, jnp.result_type(b)), new, old)


def _close(a: Any, b: Any, tolerance: float) -> bool:
    def close(x: Any, y: Any) -> bool:
        x, y = np.asarray(x, float), np.asarray(y, float)
        return bool(np.allclose(x, y, tolerance, tolerance, equal_nan=True))

    return all(jax.tree.leaves(jax.tree.map(close, a, b)))


def _check_finite(name: str, played: Any, terminated: np.ndarray) -> None:
    """Check the numbers of a first episode, up to its end."""
    over: Any = terminated.reshape(len(terminated), -1).all(1)
    last = int(np.argmax(over)) if over.any() else len(over)
    valid = last + 1  # a final observation too
    parts = {
        "observation after a reset": played["observation"],
        "observation": jax.tree.map(lambda x: x[:valid], played["observations"]),
        "reward": played["reward"][:valid],
    }
    for part, value in parts.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            if not np.isfinite(np.asarray(leaf, float)).all():
                raise ValueError(
                    f"The {part}{jax.tree_util.keystr(path)} of {name} holds NaN or infinity "
                    "within the first random steps: return finite numbers."
                )
    first, later = mask_of(played["observation"]), mask_of(played["observations"])
    if first is None or later is None:
        return
    for mask in (first, later[:last]):  # that of a final state may be empty
        if not np.asarray(mask).any(-1).all():
            raise ValueError(
                f"The mask of {name}'s observation allows no action in a state that is not final: "
                "allow at least one; for an agent that can't act, one without effect."
            )
