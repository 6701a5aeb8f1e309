"""The base class of update rules: targets and a loss of the experience of a rollout."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax

from jaxrl.clock import Clock, Metrics
from jaxrl.distributions import Distribution
from jaxrl.env import Env
from jaxrl.errors import not_defined
from jaxrl.rollout import Episode, Policy, Transition, Values, rollout
from jaxrl.spaces import Box, Discrete, MultiDiscrete, Space

Out = dict[str, Any]  # a network's heads, and under "policy" their distribution over actions
RuleState = Any


class Rule:
    """Base class of update rules: a pytree with leaves that a sweep or meta-learning changes.

    `targets` reads a whole rollout once, out and batch [T, B]; `loss` is then differentiated
    through `out`, on minibatches of any leading shape. `out["policy"]` is the distribution over
    actions: in `targets` that of the policy that acted, in `loss` that of the learner.

    Class attributes: action_spaces, the kinds that it has a policy for; whole_trajectories, True
    for minibatches of trajectories [M, T] rather than of single steps [M]; plays_groups, True where
    `play` is its own, and rewards after the first episodes of a rollout count for nothing;
    columns_together, the number of neighbouring columns that stay together in a minibatch; mixes,
    True where it learns from a reward that the agents of a team share.
    """

    action_spaces: tuple[type, ...] = (Discrete, MultiDiscrete, Box)
    whole_trajectories: bool = False
    plays_groups: bool = False
    columns_together: Any = 1
    mixes: Any = False

    @property
    def heads(self) -> dict[str, int]:
        """The network's heads that it needs beside the policy's, and their sizes."""
        return {}

    @property
    def channels(self) -> tuple[str, ...]:
        """The names in `Transition.info` that the rule learns from."""
        return ()

    gamma: float  # the discount of a return

    def init(self, key: jax.Array, params: Any) -> RuleState:
        """Return the rule's state at the start of a training run; () without one."""
        return ()

    def policy_heads(self, space: Space) -> dict[str, int]:
        """The heads that actions are drawn from; by default the action space's."""
        return space.heads

    def policy(self, space: Space, out: Out, clock: Clock) -> Distribution:
        """The distribution that actions are drawn from; by default the action space's."""
        return space.policy(out)

    def play(
        self,
        key: jax.Array,
        env: Env,
        explore: Policy,
        greedy: Policy,
        episodes: Episode,
        num_steps: int,
    ) -> tuple[Episode, Episode, Transition]:
        """Episodes as a rollout begins and ends [B], and its transitions [T, B]."""
        return episodes, *rollout(key, env, explore, episodes, num_steps)

    def for_team(self, num_agents: int | None) -> "Rule":
        """The rule for learning in an environment of this number of agents; by default the rule
        itself, to which each agent is a column.
        """
        return self

    def target_params(self, rule_state: RuleState) -> Any:
        """The parameters of a target network in the rule's state; None without one.

        `targets` finds its heads under `out["target"]` and `next_out["target"]`.
        """
        return None

    def targets(
        self, rule_state: RuleState, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[RuleState, Any]:
        """Return the rule's state, and the targets of a rollout, leaves [T, B, ...]."""
        raise not_defined(self, Rule.targets)

    def values(self, out: Out, next_out: Out, batch: Transition) -> Values:
        """The values and advantages of a rollout, for teachers. [T, B]."""
        raise TypeError(
            f"{type(self).__name__} estimates no advantages, and the score of this teacher reads "
            "them: use rl.ppo(), or a score of returns, such as rl.teachers.Learnability()."
        )

    def loss(
        self, out: Out, batch: Transition, targets: Any, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        """The loss of a minibatch of any leading shape, and its metrics. []."""
        raise not_defined(self, Rule.loss)

    def post_update(
        self, rule_state: RuleState, params: Any, forward: Callable[[], Out], targets: Any
    ) -> RuleState:
        """Return the rule's state after an update; `forward()` gives the heads of new `params`."""
        return rule_state


def check_rule(rule: Any) -> None:
    """Check that a value is an update rule.

    Raises:
      TypeError: it is something else, such as an objective without a rule.
    """
    if not isinstance(rule, Rule):
        kind = type(rule).__name__
        raise TypeError(
            f"{kind} is not an update rule, a subclass of rl.Rule. For an objective, write "
            f"rl.Surrogate({kind}(...)); for a name or a folder, rl.load_rule(...); for a rule of "
            f"your own, class {kind}(rl.Rule)."
        )


def check_field(record: Any, name: str, kind: type, example: str) -> None:
    """Check that a field of a rule or objective is an instance of `kind`.

    None passes, and so do the placeholders with which jax's transformations rebuild dataclasses.

    Raises:
      TypeError: a function, a class, a text or another dataclass.
    """
    value = vars(record)[name]
    is_part = callable(value) or isinstance(value, str) or dataclasses.is_dataclass(value)
    if isinstance(value, kind) or not is_part:
        return
    user = f"{type(record).__name__}.{name}"
    if isinstance(value, type) and issubclass(value, kind):
        raise TypeError(f"{user} can't be the class {value.__name__}: write {value.__name__}(...).")
    base = f"{kind.__module__}.{kind.__name__}"
    raise TypeError(
        f"{user} takes an instance of {kind.__name__}, and got {value!r}: write {example}, "
        f"or a class of your own, `class Mine({base})`, under @rl.pytree."
    )


def num_actions(space: Space) -> int:
    """The number of actions of a space that an algorithm found to be `Discrete`."""
    return cast(Discrete, space).n
