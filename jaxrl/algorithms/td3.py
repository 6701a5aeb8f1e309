"""One action for each observation: DDPG and TD3.

With a memory they are RDPG and RTD3 (Yang and Nguyen, 2021).
"""

from typing import Any

from jaxrl.algorithms.actor_critic import make
from jaxrl.algorithms.actors import Deterministic
from jaxrl.algorithms.base import extends
from jaxrl.algorithms.off_policy import OffPolicy


def td3(
    *,
    lr: float = 1e-3,
    gamma: float = 0.99,
    noise: float = 0.1,
    target_noise: float = 0.2,
    target_noise_clip: float = 0.5,
    tau: float = 0.005,
    policy_delay: float = 2.0,
    max_grad_norm: float = float("inf"),
    num_critics: int = 2,
    **fields: Any,
) -> OffPolicy:
    """Twin delayed deterministic policy gradients (Fujimoto et al., 2018); with
    `memory=rl.GRU(64)`, RTD3.

    Slow copies follow when the policy does, every `policy_delay` gradient steps. `fields` are
    those of `ActorCritic` and `OffPolicy`; floats may be traced.
    """
    own: dict[str, Any] = {
        "actor": Deterministic(noise, target_noise, target_noise_clip),
        "temperature_lr": 0.0,
        "target_period": policy_delay,
        "target_actor": True,
        "num_target_critics": num_critics,
        "num_policy_critics": 1,
    }
    given = {"lr": lr, "gamma": gamma, "tau": tau, "policy_delay": policy_delay}
    return make(
        **own | given | {"max_grad_norm": max_grad_norm, "num_critics": num_critics} | fields
    )


@extends(td3, target_noise=0.0, policy_delay=1.0, num_critics=1)
def ddpg(**fields: Any) -> OffPolicy:
    """Deep deterministic policy gradients (Lillicrap et al., 2015); with `memory=rl.GRU(64)`, RDPG.
    `fields` are `td3`'s.

    Noise is Gaussian, without the paper's noise_correlation unless you give it some, say `noise_correlation=0.85`.
    """
    return td3(**fields)
