"""Maximum entropy: SAC and what extends it. With a memory, SAC is RSAC (Yang and Nguyen, 2021)."""

from typing import Any

import jax
import optax

from jaxrl.algorithms.actor_critic import make
from jaxrl.algorithms.actors import Softmax, Squashed
from jaxrl.algorithms.base import Optimizer, extends
from jaxrl.algorithms.critics import Gaussian
from jaxrl.algorithms.off_policy import OffPolicy
from jaxrl.algorithms.target_networks import CrossBatch
from jaxrl.networks import MLP


def sac(
    *,
    lr: float = 3e-4,
    gamma: float = 0.99,
    temperature: float = 1.0,
    target_entropy: float = -1.0,
    min_log_std: float = -10.0,
    max_log_std: float = 2.0,
    tau: float = 0.005,
    target_period: float = 1.0,
    policy_delay: float = 1.0,
    max_grad_norm: float = float("inf"),
    num_critics: int = 2,
    **fields: Any,
) -> OffPolicy:
    """Soft actor-critic (Haarnoja et al., 2018a, 2018b); with `memory=rl.GRU(64)`, RSAC. Real
    actions; see `sac_discrete`.

    The temperature is learnt for a `target_entropy` for each dimension of an action;
    `temperature_lr=0.0` keeps it. `fields` are those of `ActorCritic` and `OffPolicy`; floats may
    be traced.
    """
    own: dict[str, Any] = {
        "actor": Squashed(min_log_std, max_log_std),
        "lr": lr,
        "gamma": gamma,
        "temperature": temperature,
        "target_entropy": target_entropy,
        "tau": tau,
        "target_period": target_period,
        "policy_delay": policy_delay,
        "max_grad_norm": max_grad_norm,
        "num_critics": num_critics,
        "num_target_critics": num_critics,
        "num_policy_critics": num_critics,
    }
    return make(**own | fields)


@extends(sac, without=("min_log_std", "max_log_std"), target_entropy=0.98)
def sac_discrete(**fields: Any) -> OffPolicy:
    """Soft actor-critic for one of n actions (Christodoulou, 2019).

    `fields` are `sac`'s; `target_entropy` is in log n.
    """
    return sac(actor=Softmax(), **fields)


@extends(sac, num_critics=10, updates=20)
def redq(
    *, num_target_critics: int = 2, policy_delay: float | None = None, **fields: Any
) -> OffPolicy:
    """Randomised ensembled double Q-learning: many critics, many updates (Chen et al., 2021).
    `fields` are `sac`'s.

    Targets are by the least of `num_target_critics` critics at random, the policy follows the mean of all, once
    in `policy_delay` gradient steps (`updates` unless given). Where `num_target_critics` is all of them it
    follows their least: SAC.
    """
    own: dict[str, Any] = {
        "num_target_critics": num_target_critics,
        "policy_minimum": num_target_critics == fields["num_critics"],
    }
    own["policy_delay"] = float(fields["updates"]) if policy_delay is None else policy_delay
    return sac(**own | fields)


@extends(sac, lr=1e-4, max_log_std=0.5, target_period=2.0, policy_delay=2.0)
def dsac_t(
    *, bound: float = 3.0, epsilon: float = 0.1, spread_rate: float = 0.005, **fields: Any
) -> OffPolicy:
    """Distributional soft actor-critic with three refinements (Duan et al., 2023). `fields` are
    `sac`'s.

    The numbers are the authors'; their networks are three layers of 256 with GELU.
    """
    own: dict[str, Any] = {
        "critic": Gaussian(bound, epsilon, spread_rate),
        "temperature_lr": 3e-4,
        "target_actor": True,
    }
    return sac(**own | fields)


@extends(sac, temperature=0.2)
def mdpo_off_policy(
    *, step_size: float = 1.0, actor_target_period: float = 1000.0, **fields: Any
) -> OffPolicy:
    """Mirror descent policy optimisation, off-policy (Tomar et al., 2020, section 4.2). `fields`
    are `sac`'s.

    The policy is held by KL / `step_size` to the one of up to `actor_target_period` gradient steps
    ago; at `step_size` 1 / temperature nothing holds it, and it is SAC. The temperature is kept.
    """
    own: dict[str, Any] = {"step_size": step_size, "temperature_lr": 0.0}
    own |= {"actor_tau": 1.0, "actor_target_period": actor_target_period}
    return sac(**own | fields)


@extends(sac, without=("tau", "target_period"), lr=1e-3, policy_delay=3.0)
def crossq(*, width: int = 2048, **fields: Any) -> OffPolicy:
    """CrossQ: no slow copies, but wide critics that normalise over batches (Bhatt et al., 2024).
    `fields` are `sac`'s.

    width: of the critics' two layers. Normalisation is plain; the authors' renormalisation begins
    after 100,000 gradient steps. Adam's first decay is 0.5, here that of the temperature as well. A
    network of one's own needs `batch_norm=True`.
    """
    body = lambda size: MLP((size, size), activation=jax.nn.relu, shared=True, batch_norm=True)
    own: dict[str, Any] = {
        "copies": CrossBatch(),
        "network": body(256),
        "critic_network": body(width),
    }
    own["optimizer"] = Optimizer(optax.adam, {"b1": 0.5, "eps_root": 1e-16})
    return sac(**own | fields)
