"""The contracts of environments and of distributions of environments.

Both are frozen pytrees of their own parameters with pure functions: `Env` is one environment,
`Tasks` a distribution that environments are sampled from. Subclass them under `@pytree`:

    @pytree
    class Corridor(Env):
        goal: float = 1.0
        max_steps: int = static(default=20)
        action_space = Discrete(2)
"""

from typing import Any

import jax

from jaxrl import tree
from jaxrl.errors import is_count, not_defined
from jaxrl.tree import pytree

State = Any  # a pytree: a copy of it is a fork of the environment, a stored one a saved game
Obs = Any  # an array, or a pytree of arrays; in a `spaces.Masked` where some actions are forbidden


@pytree
class Step:
    """Result of one action.

    obs: the true successor, also at the end of an episode. reward: float [] (a team: [A]).
    terminated: bool [] (a team: [A] or []), True in a final state, after which no reward can
    follow; the time limit is not part of it (see `Env.max_steps`). info: a dictionary of arrays of
    the same structure at each step.
    """

    obs: Obs
    reward: jax.Array
    terminated: jax.Array
    info: dict[str, jax.Array]


class Env:
    """Base class of environments: a pytree of parameters with `reset` and `step`.

    There is no auto-reset, step counter or `params` argument: `jaxrl.rollout` resets environments
    and counts steps. A subclass defines `max_steps` and `action_space` as fields, class attributes
    or properties. None of the attributes below is a field of the dataclass unless the subclass
    annotates it.

    max_steps: int, static. Number of steps after which an episode is truncated (not terminated).
    action_space: `spaces.Space` of one agent.
    num_agents: int, static, or None. A team of A agents sets A: observations, actions and rewards
      then have a leading axis [A], and `terminated` is [A], or [] if all agents end at once.
      None is a single agent without that axis, which is not the same as a team of 1. The episode
      of a team ends where all its agents have terminated. Until then an agent that has terminated
      keeps its column. The environment ignores its actions, continues to report `terminated` for
      it, and gives it rewards of 0 and any finite observation (if `Masked`, with one legal action).
      These steps are not learned from: their gradient is zero and their value target is 0.
    shared_reward: bool, static. True declares that all agents of a team that have not terminated
      have the same reward at each step, which mixers need (`rl.dqn(mixer=...)`); `check_env` checks
      it in the steps that it plays. `rl.envs.SharedReward(team)` gives all agents the mean.
    roles: tuple of ints, static: the role of each agent of a team, from 0 up, for the mean return
      of each role (`evaluation_by_role`); () if each agent has a role of its own.
    channels: tuple of names, static. Entries of `Step.info` (float [] or [K]) that the rollout
      keeps in transitions and sums over each episode, e.g. ("cost",).
    num_states: int, static: the number of states, where observations are states, as numbers or
      one-hot; None elsewhere.
    on_host: True if a state is a handle of one on the host (`rl.envs.host`), which can't be copied
      or stored; the environment can't be vmapped over parameters. It defines `restart`.
    draw: method `draw(self, ax, state)` that draws a state on matplotlib Axes for `plot.gif`, or
      None.
    """

    # Any, because a type checker lets either variables or properties override an annotation
    max_steps: Any  # int
    action_space: Any  # Space
    num_agents: Any = None  # int | None
    shared_reward: Any = False  # bool
    roles: Any = ()  # tuple[int, ...]
    channels: Any = ()  # tuple[str, ...]
    num_states: Any = None  # int | None
    on_host: Any = False  # bool
    draw: Any = None  # Callable[[Axes, State], None] | None

    def reset(self, key: jax.Array) -> tuple[State, Obs]:
        """Initial state and first observation of an episode."""
        raise not_defined(self, Env.reset)

    def restart(self, key: jax.Array, state: State) -> tuple[State, Obs]:
        """The reset after an episode that ended in `state`; by default `reset`, without `state`."""
        return self.reset(key)

    def step(self, key: jax.Array, state: State, action: jax.Array) -> tuple[State, Step]:
        """State after an action, and the result of the action."""
        raise not_defined(self, Env.step)


class Editor(Env):
    """Base class of environments in which an episode builds a level, for a policy that designs
    levels.

    Each episode terminates after `max_steps` steps, with rewards of 0: the designer's reward is
    computed later, from episodes on the level.
    """

    def level(self, state: State) -> Env:
        """The level that an episode has built, from its last state."""
        raise not_defined(self, Editor.level)


class Tasks:
    """Base class of distributions of environments, which meta-learners train on: a pytree.

    All samples have the same type, static parameters and shapes of leaves, so that
    `jax.vmap(tasks.sample)(keys)` is a family of environments and one program trains on it.
    """

    num_agents: Any = None  # as in `Env`
    roles: Any = ()  # as in `Env`
    channels: Any = ()  # as in `Env`
    dimensions: Any = 0  # the number of parameters that `at` takes
    num_levels: Any = None  # of a finite set, static; None for other distributions

    def sample(self, key: jax.Array) -> Any:
        """An environment of the distribution."""
        raise not_defined(self, Tasks.sample)

    def score(self, env: Any, episode_return: jax.Array) -> jax.Array:
        """A mean episode return on `env`, made comparable between environments. Any shape.

        The default is the return itself; a share of the optimal return is another choice.
        """
        return episode_return

    def describe(self, env: Any) -> dict[str, jax.Array]:
        """Named numbers that describe an environment, such as its number of walls. []."""
        return {}

    # Optional, for teachers: `can(tasks, Tasks.optimum)` is True if a subclass defines it.

    def optimum(self, env: Any) -> jax.Array:
        """The highest possible expected return on `env`. []."""
        raise not_defined(self, Tasks.optimum)

    def mutate(self, key: jax.Array, env: Any) -> Any:
        """An environment that differs from `env` by a small random edit."""
        raise not_defined(self, Tasks.mutate)

    def at(self, place: jax.Array) -> Any:
        """The environment with these parameters, each in [0, 1]. [dimensions]."""
        raise not_defined(self, Tasks.at)

    def numbered(self, number: jax.Array) -> Any:
        """The environment with this number, from 0 to `num_levels` - 1, of a finite set."""
        raise not_defined(self, Tasks.numbered)

    def redraw(self, key: jax.Array, env: Any, state: State) -> Any:
        """The environment with its hidden random part resampled from the posterior given the
        observations of an episode; `state` must contain what the posterior depends on.
        """
        raise not_defined(self, Tasks.redraw)

    def editor(self) -> Editor:
        """An environment in which an episode builds a level of the distribution."""
        raise not_defined(self, Tasks.editor)


def can(tasks: Tasks, method: Any) -> bool:
    """True if a distribution overrides an optional method: `can(tasks, Tasks.optimum)`."""
    return getattr(type(tasks), method.__name__) is not method


def check_is_env(env: Any, user: Any = None) -> None:
    """Raise a TypeError where `env` is not one environment; `user` is the object that takes it."""
    if isinstance(env, Env):
        return
    taker = "An environment" if user is None else f"The environment of {_name(user)}"
    if isinstance(env, Tasks):
        raise TypeError(
            f"{taker} can't be {_name(env)}, a distribution of environments (a Tasks): write one "
            "of its samples, tasks.sample(jax.random.key(0)), or use a meta-learner, which trains "
            "on the whole distribution."
        )
    if isinstance(env, str):
        raise TypeError(f"{taker} can't be the text {env!r}: write rl.envs.make({env!r}).")
    if isinstance(env, type) and issubclass(env, Env):
        raise TypeError(f"{taker} can't be the class {env.__name__}: write {env.__name__}().")
    raise TypeError(
        f"{taker} can't be {_name(env)}, which is not an Env: write `class {_name(env)}(rl.Env)` "
        "with max_steps, action_space, reset and step, under @rl.pytree; or take one by name, "
        "rl.envs.make('CartPole-v1')."
    )


def check_copies(env: Any, user: str, instead: str) -> None:
    """Raise a TypeError if the states of `env` are on the host; `user` is what copies them."""
    if isinstance(env, Env) and env.on_host:
        raise TypeError(
            f"{user}, and the states of {env} are on the host, where they can't be copied: "
            f"{instead}."
        )


def check_roles(env: Env) -> None:
    """Raise a ValueError where the roles of a team are neither one for each agent nor ()."""
    roles, num = env.roles, env.num_agents
    if roles == ():
        return
    if not isinstance(roles, tuple) or len(roles) != num or not all(is_count(x, 0) for x in roles):
        raise ValueError(
            f"roles={roles!r} of {type(env).__name__} are not the roles of {num} agents: write one "
            f"number from 0 up for each, such as roles={tuple(range(num))}."
        )


def check_tasks(tasks: Any, user: Any = None) -> None:
    """Raise a TypeError where `tasks` is not a distribution of environments; `user` takes it."""
    if isinstance(tasks, Tasks):
        return
    taker = "A meta-learner" if user is None else _name(user)
    if isinstance(tasks, Env):
        raise TypeError(
            f"{taker} trains on a distribution of environments (a Tasks) in place of one "
            f"environment, and got {_name(tasks)}: write {_family_of(tasks)}, "
            "rl.envs.distribution('LPGGrid-tiny'), or a class of your own with sample(key) -> Env "
            "that subclasses rl.Tasks."
        )
    if isinstance(tasks, str):
        raise TypeError(
            f"{taker} trains on a distribution of environments (a Tasks), and got the text "
            f"{tasks!r}: write rl.envs.distribution({tasks!r})."
        )
    raise TypeError(
        f"{taker} trains on a distribution of environments (a Tasks), and got {_name(tasks)}: "
        f"write `class {_name(tasks)}(rl.Tasks)` with sample(key) -> Env, under @rl.pytree."
    )


def _family_of(env: Any) -> str:
    """A call that makes a distribution of an environment, with one of its floats."""
    names = [
        path.rpartition(".")[2]
        for path, field in tree.paths(env).items()
        if not tree.is_static(field) and isinstance(tree.get(env, path), float)
    ]
    return f"rl.envs.Family(env, {names[0] if names else 'length'}=(low, high))"


def _name(x: Any) -> str:
    return x.__name__ if isinstance(x, type) else type(x).__name__
