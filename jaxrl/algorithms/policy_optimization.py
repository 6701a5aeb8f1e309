"""The policy-optimisation family: each is a rule, or an objective of one, on the loop of
`OnPolicy`.

Floats may be traced; `fields` are those of `OnPolicy`.
"""

import functools
from typing import Any

from jaxrl.algorithms.base import Constant, extends
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.algorithms.trust_region import TrustRegion
from jaxrl.rules.group import GreedyBaseline, Group, LeaveOneOut, Standardized
from jaxrl.rules.objectives import (
    DPO,
    SPO,
    AdaptivePenalty,
    Clip,
    FixedPenalty,
    MirrorDescent,
    PolicyGradient,
)
from jaxrl.rules.surrogate import Surrogate
from jaxrl.rules.vtrace import VTrace


def _surrogate(
    objective: Any,
    penalty: Any = None,
    *,
    lr: float = 2.5e-4,
    gamma: float = 0.99,
    lam: float = 0.95,
    entropy_weight: float = 0.01,
    value_weight: float = 0.5,
    value_clip: float = float("inf"),
    normalize_advantage: bool = True,
    baseline: bool = True,
    **fields: Any,
) -> OnPolicy:
    """What the makers of `Surrogate` rules have in common."""
    weights = entropy_weight, value_weight, value_clip, normalize_advantage, baseline
    return OnPolicy(
        **{"rule": Surrogate(objective, gamma, lam, *weights, penalty), "lr": lr} | fields
    )


extends_surrogate = functools.partial(extends, _surrogate, ("objective", "penalty", "baseline"))
ONE_STEP: dict[str, Any] = {"num_envs": 16, "epochs": 1, "minibatches": 1}  # on the whole rollout


@extends_surrogate()
def ppo(*, clip: float = 0.2, **fields: Any) -> OnPolicy:
    """Proximal policy optimisation (Schulman et al., 2017).

    `fields` are those of `OnPolicy`; floats may be traced.
    """
    return _surrogate(Clip(clip), **fields)


@extends_surrogate()
def ppo_penalty(*, beta: float = 1.0, target_kl: float = 0.01, **fields: Any) -> OnPolicy:
    """PPO with an adaptive KL penalty rather than clipping (Schulman et al., 2017, equation 8);
    `beta` is its start.
    """
    return _surrogate(PolicyGradient(), AdaptivePenalty(beta, target_kl), **fields)


@extends_surrogate(lr=3e-4, entropy_weight=0.0, epochs=10, minibatches=1, schedule=Constant())
def mdpo(*, step_size: float = 1.0, **fields: Any) -> OnPolicy:
    """Mirror descent policy optimisation, on policy (Tomar et al., 2020): gradient steps on a
    rollout, its KL annealed.

    The published schedule: ten steps on the whole rollout, a constant learning rate, and a step
    size that falls to zero.
    """
    return _surrogate(PolicyGradient(), MirrorDescent(step_size), **fields)


@extends_surrogate()
def spo(*, clip: float = 0.2, **fields: Any) -> OnPolicy:
    """Simple policy optimisation (Xie et al., 2024): PPO with a parabola for its clipping."""
    return _surrogate(SPO(clip), **fields)


@extends_surrogate()
def dpo(*, alpha: float = 2.0, beta: float = 0.6, **fields: Any) -> OnPolicy:
    """Discovered policy optimisation (Lu et al., 2022): PPO with a meta-learned drift, in closed
    form, for its clipping.
    """
    return _surrogate(DPO(alpha, beta), **fields)


@extends_surrogate(lr=7e-4, lam=1.0, normalize_advantage=False, **ONE_STEP, num_steps=8)
def a2c(**fields: Any) -> OnPolicy:
    """Advantage actor-critic (Mnih et al., 2016, synchronous): one step of the policy gradient a
    rollout.
    """
    return _surrogate(PolicyGradient(), **fields)


@extends(
    _surrogate,
    ("objective", "penalty", "lam", "value_clip"),
    lr=1e-3,
    entropy_weight=0.0,
    normalize_advantage=False,
    **ONE_STEP,
)
def reinforce(**fields: Any) -> OnPolicy:
    """REINFORCE (Williams, 1992): one step of the policy gradient a rollout, by Monte Carlo
    returns.

    baseline: whether a learned value is subtracted; a leaf, so that both are one program. An
    episode that the end of a rollout cuts is completed by its value with a baseline, and counts up
    to there without: play longer than episodes then.
    """
    return _surrogate(PolicyGradient(), lam=1.0, **fields)


@extends_surrogate(lr=1e-3, entropy_weight=0.0, num_envs=8, epochs=10)
def trpo(*, max_kl: float = 0.01, damping: float = 0.1, **fields: Any) -> OnPolicy:
    """Trust region policy optimisation (Schulman et al., 2015), with GAE and a value function of
    its own (2016).

    One natural-gradient step of the policy a rollout; then the epochs fit the value function by the
    optimiser, with `lr`. They leave alone what the policy reads, so that a shared tower follows the
    policy and the constraint holds for any network. Metrics: `kl` and `improvement` of the step,
    and `step_scale`, the length that the line search chose (0: none).
    """
    step: dict[str, Any] = {"policy_step": TrustRegion(max_kl, damping)}
    return _surrogate(PolicyGradient(), **step | fields)


def impala(
    *,
    lr: float = 6e-4,
    gamma: float = 0.99,
    lam: float = 1.0,
    max_rho: float = 1.0,
    max_c: float = 1.0,
    entropy_weight: float = 0.01,
    value_weight: float = 0.5,
    **fields: Any,
) -> OnPolicy:
    """IMPALA's learner (Espeholt et al., 2018): an actor-critic whose V-trace targets correct for
    old experience.

    The published actors play on while the learner learns, with parameters some updates old. Here
    all is one program: actors play with the newest parameters, and experience ages while its
    trajectories wait their turn. The first minibatch of the first epoch is on policy; the last one
    is epochs * minibatches - 1 gradient steps old, and that is what V-trace corrects.
    """
    rule = VTrace(gamma, lam, max_rho, max_c, entropy_weight, value_weight)
    return OnPolicy(
        **{"rule": rule, "lr": lr, "num_envs": 16, "num_steps": 20, "epochs": 1} | fields
    )


def _group(
    objective: Any,
    advantage: Any,
    *,
    lr: float = 1e-3,
    gamma: float = 1.0,
    entropy_weight: float = 0.0,
    group_size: int = 4,
    rule: dict[str, Any] | None = None,
    **fields: Any,
) -> OnPolicy:
    """What the makers of `Group` rules have in common; `rule` is what else a rule has."""
    made = Group(objective, advantage, gamma, entropy_weight, group_size=group_size, **rule or {})
    return OnPolicy(**{"rule": made, "lr": lr} | fields)


extends_group = functools.partial(extends, _group, ("objective", "advantage", "rule"))


@extends_group(**ONE_STEP)
def rloo(**fields: Any) -> OnPolicy:
    """REINFORCE leave-one-out (Ahmadian et al., 2024): the policy gradient over the mean of sibling
    episodes' returns.

    See `Group` for what an episode is: set `num_steps` to the environment's `max_steps` for whole
    ones.
    """
    return _group(PolicyGradient(), LeaveOneOut(), **fields)


@extends_group(group_size=2, **ONE_STEP)
def remax(**fields: Any) -> OnPolicy:
    """ReMax (Li et al., 2024): the policy gradient over the return of the greedy policy from the
    same reset state.

    One of each group is the greedy episode: it teaches nothing itself, is no part of the `return`,
    and its steps count. See `Group` for what an episode is: set `num_steps` to the environment's
    `max_steps` for whole ones.
    """
    return _group(PolicyGradient(), GreedyBaseline(), **fields)


@extends_group(lr=2.5e-4, group_size=8, num_envs=16)
def grpo(*, clip: float = 0.2, kl_weight: float = 0.0, **fields: Any) -> OnPolicy:
    """Group relative policy optimisation (Shao et al., 2024): PPO's clipping, returns standardised
    among siblings.

    kl_weight: of KL(new || old), where old is the policy that played: there is no other to stay
    close to. See `Group` for what an episode is: set `num_steps` to the environment's `max_steps`
    for whole ones.
    """
    rule = {"per_episode": True, "penalty": FixedPenalty(kl_weight)}
    return _group(Clip(clip), Standardized(), rule=rule, **fields)
