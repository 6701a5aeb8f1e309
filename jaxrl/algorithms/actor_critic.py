"""Off-policy actor-critics with target networks: DDPG, TD3, SAC, REDQ and DSAC-T."""

from typing import Any, Literal

import jax

from jaxrl import networks
from jaxrl.algorithms.critics import Expected, ReturnHead
from jaxrl.algorithms.learner import LearnerState
from jaxrl.algorithms.policy_learner import PolicyLearner
from jaxrl.algorithms.target_networks import TargetNetworks
from jaxrl.errors import check_counts
from jaxrl.tree import pytree, static


@pytree
class ActorCritic(PolicyLearner):
    """A policy that maximises an ensemble of critics (Haarnoja et al., 2018b, algorithm 1).

    critic: the prediction of returns, `Expected()` or `Gaussian()`.
    targets: the target networks.
    num_critics, num_target_critics: a target is the smallest value of `num_target_critics` of the
      `num_critics` critics, sampled (Chen et al., 2021); None is all.
    num_policy_critics, policy_q: the policy maximises the "min" or the "mean" of the values of the
      first `num_policy_critics`; None is all.
    memory: with one, actor and critics have one each (Yang and Nguyen, 2021).
    burn_in, sequence: as in `QLearning`. The other fields are those of `PolicyLearner`.
    """

    critic: ReturnHead = Expected()
    targets: TargetNetworks = TargetNetworks()
    num_target_critics: int | None = static(default=None)
    num_policy_critics: int | None = static(default=None)
    policy_q: Literal["min", "mean"] = static(default="min")
    memory: networks.Memory | None = static(default=None)
    burn_in: int = static(default=8)
    sequence: int = static(default=16)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.policy_q not in ("min", "mean"):
            raise ValueError(f"policy_q={self.policy_q!r}: write policy_q='min' or 'mean'.")
        check_counts(self, "num_critics")
        for name in ("num_target_critics", "num_policy_critics"):
            value = vars(self)[name]
            if value is not None and not 1 <= value <= self.num_critics:
                raise ValueError(
                    f"{name}={value} of num_critics={self.num_critics} critics: write at least "
                    f"1 and no more than there are, such as {name}={self.num_critics}, or "
                    "more critics."
                )

    def init_targets(self, params: Any) -> dict[str, Any]:
        return self.targets.init(params)

    def update_targets(self, state: LearnerState, step: jax.Array) -> dict[str, Any]:
        return self.targets.update(state.target_params, state.params, step, self.policy_delay)

    def next_actor(self, state: LearnerState) -> Any:
        return self.targets.actor(state.params, state.target_params)
