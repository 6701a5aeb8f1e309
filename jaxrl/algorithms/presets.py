"""The named algorithms, each as the value that it is."""

import jax
import numpy as np

from jaxrl.algorithms.controllers import LogLinear
from jaxrl.algorithms.off_policy_presets import OFF_POLICY
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.algorithms.preset import Preset
from jaxrl.algorithms.trust_region import TrustRegion
from jaxrl.networks import MLP
from jaxrl.optimizer import RAdam
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
from jaxrl.rules.q_lambda import QLambda
from jaxrl.rules.surrogate import Surrogate
from jaxrl.rules.vtrace import VTrace
from jaxrl.schedules import Constant, EpsilonGreedy, Linear

EPISODES = (
    "See `Group` for what an episode is: set num_steps to the environment's max_steps for whole "
    "ones."
)

# python -m experiments.distill_ppo; columns: LogLinear.FEATURES
SCHEDULED = {
    "lr": (-0.5, 0.0, 0.0, -0.2, 0.0, -0.1),
    "clip": (-0.1, 0.0, -0.3, -0.4, 0.0, 0.0),
    "entropy_weight": (-0.3, 0.0, 0.0, 0.0, 0.0, 0.0),
    "lam": (0.5, 0.0, 0.0, 0.2, 0.0, 0.0),
    "gamma": (0.0, 0.0, -0.4, 0.0, 0.0, 0.0),
    "epoch_limit": (0.5, 0.0, -0.5, 0.0, 0.0, 0.0),
}

POLICY_OPTIMIZATION = [
    Preset(
        name="ppo",
        value=OnPolicy(rule=Surrogate(Clip(0.2))),
        summary="Proximal policy optimisation (Schulman et al., 2017)",
    ),
    Preset(
        name="ppo_scheduled",
        value=OnPolicy(
            rule=Surrogate(Clip(0.54413), gamma=0.97972, lam=0.92015, entropy_weight=0.02775),
            lr=0.00861,
            controller=LogLinear(
                np.array(list(SCHEDULED.values()), np.float32), controlled=tuple(SCHEDULED)
            ),
            num_envs=16,
            num_steps=32,
            epochs=8,
            epoch_limit=4.0,
            normalize_obs=True,
            normalize_reward=True,
        ),
        summary="PPO with six hyperparameters scheduled by a formula of 12 numbers, found by "
        "evolution",
        details="The formula multiplies hyperparameters by functions of the number of updates and "
        "of the KL divergence and clip fraction of the last update: see docs/ppo_scheduled.md. "
        "lr, clip, entropy_weight, lam, gamma and epoch_limit are the values before the factors: "
        "with lr=1e-3 the rate is about 0.6e-3 at a KL of 0.01. `epochs` is the largest number of "
        "epochs.",
    ),
    Preset(
        name="ppo_penalty",
        value=OnPolicy(rule=Surrogate(PolicyGradient(), penalty=AdaptivePenalty(1.0, 0.01))),
        summary="PPO with an adaptive KL penalty instead of clipping (Schulman et al., 2017, "
        "equation 8)",
        details="beta is the first weight of the penalty.",
    ),
    Preset(
        name="mdpo",
        value=OnPolicy(
            rule=Surrogate(PolicyGradient(), entropy_weight=0.0, penalty=MirrorDescent(1.0)),
            lr=3e-4,
            schedule=Constant(),
            epochs=10,
            minibatches=1,
        ),
        summary="Mirror descent policy optimisation, on policy (Tomar et al., 2020)",
        details="Gradient steps on a rollout, with the weight of its KL annealed. The published "
        "schedule: ten steps on the whole rollout, a constant learning rate, and a step size that "
        "falls to zero.",
    ),
    Preset(
        name="spo",
        value=OnPolicy(rule=Surrogate(SPO(0.2))),
        summary="Simple policy optimisation (Xie et al., 2024): PPO with a parabola instead of "
        "clipping",
    ),
    Preset(
        name="dpo",
        value=OnPolicy(rule=Surrogate(DPO(2.0, 0.6))),
        summary="Discovered policy optimisation (Lu et al., 2022): PPO with a meta-learned drift, "
        "in closed form, instead of clipping",
    ),
    Preset(
        name="a2c",
        value=OnPolicy(
            rule=Surrogate(PolicyGradient(), lam=1.0, normalize_advantage=False),
            lr=7e-4,
            num_envs=16,
            num_steps=8,
            epochs=1,
            minibatches=1,
        ),
        summary="Advantage actor-critic (Mnih et al., 2016, synchronous): one policy-gradient step "
        "per rollout",
    ),
    Preset(
        name="reinforce",
        value=OnPolicy(
            rule=Surrogate(
                PolicyGradient(), lam=1.0, entropy_weight=0.0, normalize_advantage=False
            ),
            lr=1e-3,
            num_envs=16,
            epochs=1,
            minibatches=1,
        ),
        summary="REINFORCE (Williams, 1992): one policy-gradient step per rollout, with Monte "
        "Carlo returns",
        details="baseline: subtract a learned value; a leaf, so that both are one program. An "
        "episode that is cut off by the end of a rollout is completed by the value of its last "
        "state if there is a baseline; otherwise only the rewards so far count, so rollouts should "
        "be longer than episodes.",
        fixed=("lam", "value_clip"),
    ),
    Preset(
        name="trpo",
        value=OnPolicy(
            rule=Surrogate(PolicyGradient(), entropy_weight=0.0),
            lr=1e-3,
            policy_step=TrustRegion(0.01, 0.1),
            num_envs=8,
            epochs=10,
        ),
        summary="Trust region policy optimisation (Schulman et al., 2015), with generalized "
        "advantage estimates (2016)",
        details="One natural-gradient step of the policy per rollout; then the epochs fit the "
        "value function by the optimiser, with `lr`. They do not change the inputs of the policy "
        "head, so the constraint also holds for a shared network. Metrics: `kl` and `improvement` "
        "of the step, and `step_scale`, the length that the line search selected (0: none).",
    ),
    Preset(
        name="impala",
        value=OnPolicy(rule=VTrace(), lr=6e-4, num_envs=16, num_steps=20, epochs=1),
        summary="IMPALA's learner (Espeholt et al., 2018): an actor-critic with V-trace targets, "
        "which correct for old experience",
        details="The published actors act while the learner learns, with parameters some updates "
        "old. Here all is one program: actors have the newest parameters, and experience ages "
        "while trajectories wait for their minibatch. The first minibatch of the first epoch is on "
        "policy; the last one is epochs * minibatches - 1 gradient steps old.",
    ),
    Preset(
        name="rloo",
        value=OnPolicy(
            rule=Group(PolicyGradient(), LeaveOneOut()),
            lr=1e-3,
            num_envs=16,
            epochs=1,
            minibatches=1,
        ),
        summary="REINFORCE leave-one-out (Ahmadian et al., 2024): the policy gradient over the "
        "mean return of the other episodes of a group",
        details=EPISODES,
    ),
    Preset(
        name="remax",
        value=OnPolicy(
            rule=Group(PolicyGradient(), GreedyBaseline(), group_size=2),
            lr=1e-3,
            num_envs=16,
            epochs=1,
            minibatches=1,
        ),
        summary="ReMax (Li et al., 2024): the policy gradient over the return of the greedy policy "
        "from the same reset state",
        details="One episode of each group is greedy: it is not learned from and not part of the "
        "`return`, but its steps count. " + EPISODES,
    ),
    Preset(
        name="grpo",
        value=OnPolicy(
            rule=Group(
                Clip(0.2),
                Standardized(),
                per_episode=True,
                penalty=FixedPenalty(0.0),
                group_size=8,
            ),
            num_envs=16,
        ),
        summary="Group relative policy optimisation (Shao et al., 2024): PPO's clipping, returns "
        "standardized within a group",
        details="kl_weight: of KL(new || old), where old is the policy that acted. " + EPISODES,
    ),
    Preset(
        name="pqn",
        value=OnPolicy(
            rule=QLambda(0.99, 0.65, EpsilonGreedy(1.0, 0.05, 0.1), 1.0),
            lr=5e-4,
            schedule=Linear(0.0),
            max_grad_norm=10.0,
            optimizer=RAdam(),
            num_envs=32,
            num_steps=32,
            epochs=2,
            minibatches=16,
            network=MLP((128, 128), jax.nn.relu, shared=True, layer_norm=True),
        ),
        summary="Parallelised Q-learning (Gallici et al., 2024): no replay, no target network",
        details="The defaults are the authors' for MinAtar, with a quarter of their environments.",
    ),
]

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in sorted([*POLICY_OPTIMIZATION, *OFF_POLICY], key=lambda preset: preset.name)
}
