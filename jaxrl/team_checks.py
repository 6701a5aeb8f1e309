"""Checks of teams: what an environment declares of its agents, and what an algorithm needs of them.

Each raises an error that says what to write instead.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env
from jaxrl.masks import visible
from jaxrl.spaces import Box, Discrete, MultiDiscrete

SPACES = (Discrete, MultiDiscrete, Box)


def check_single_agent(env: Env, user: str, instead: str) -> None:
    """Raise a TypeError where an environment is a team; `user` takes a single agent.

    user: the start of the message, such as "A stream learns from one agent". instead: its end.
    """
    if env.num_agents is not None:
        raise TypeError(
            f"{user}, and {type(env).__name__} is a team of {env.num_agents}: {instead}."
        )


def check_shared_reward(env: Env, user: str) -> None:
    """Raise a ValueError where the agents of a team may have different rewards.

    user: the start of the message, such as "A mixer".
    """
    if not env.shared_reward:
        raise ValueError(
            f"{user} needs the same reward for all agents, and {type(env).__name__} does not "
            "declare it: write rl.envs.SharedReward(env), which gives each agent the mean of their "
            "rewards; in a class of your own with equal rewards, shared_reward = True; or "
            "mixer=None, with which each agent learns from its own."
        )


def check_one_space(env: Env, space: Any) -> None:
    """Raise a TypeError where a team has an action space for each agent in a list or dictionary."""
    each = _each_agent(space)
    if not each or not all(isinstance(one, SPACES) for one in each.values()):
        return
    instead = "write action_space = that of one agent"
    if len(set(map(str, each.values()))) > 1:
        instead = (
            "write the largest as action_space, and return Masked(obs, "
            "rl.envs.teams.pad_masks(masks)), in which masks[i] is True for the actions of agent i"
            if all(isinstance(one, Discrete) for one in each.values())
            else "write one space that has room for the actions of each agent as action_space, and "
            "ignore the rest in step"
        )
    raise TypeError(
        f"{type(env).__name__}.action_space has one space for each agent, {_listed(each)}, and one "
        f"network acts for all agents: {instead}."
    )


def check_stacked(env: Env, obs: Any) -> None:
    """Raise a TypeError where a team has one observation for each agent in a list or dictionary."""
    each, num = _each_agent(visible(obs)), env.num_agents
    if len(each) != num:
        return
    shapes = {name: jax.tree.map(lambda x: list(jnp.shape(x)), x) for name, x in each.items()}
    alike = all(shape == next(iter(shapes.values())) for shape in shapes.values())
    start = (
        f"{type(env).__name__} is a team of {num}, and its observation has one part for each "
        f"agent, of the shapes {_listed(shapes)}"
    )
    if alike:
        raise TypeError(f"{start}: write one array [{num}, ...], such as jnp.stack(observations).")
    raise TypeError(
        f"{start}, which one network can't read: pad them to one array, "
        "rl.envs.teams.pad(observations, roles), with the role of each agent, such as "
        f"roles={tuple(range(num))}."
    )


def check_equal_rewards(name: str, reward: np.ndarray, terminated: np.ndarray) -> None:
    """Raise a ValueError where agents that had not terminated have different rewards.

    reward: [T, A]. terminated: [T, A] or [T].
    """
    over = np.broadcast_to(terminated.reshape(len(terminated), -1), reward.shape)
    active = ~np.logical_or.accumulate(np.pad(over, ((1, 0), (0, 0)))[:-1])
    for step, (rewards, counts) in enumerate(zip(reward, active, strict=True)):
        if counts.any() and not np.allclose(rewards[counts], rewards[counts][0], 1e-5, 1e-6):
            raise ValueError(
                f"{name} declares shared_reward = True, and its agents received {rewards.tolist()} "
                f"in step {step}: leave the declaration out, and write rl.envs.SharedReward(env) "
                "where an algorithm needs it."
            )


def _each_agent(x: Any) -> dict[str, Any]:
    """The parts of a list, tuple or dictionary by the name of the agent; empty for anything else,
    such as a named tuple.
    """
    if type(x) in (list, tuple):
        return {f"agent {i}": part for i, part in enumerate(x)}
    return {str(name): part for name, part in x.items()} if type(x) is dict else {}


def _listed(each: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {part}" for name, part in each.items())
