"""The named off-policy and streaming algorithms, each as the value that it is."""

import optax

from jaxrl.algorithms.actor_critic import ActorCritic
from jaxrl.algorithms.actors import Deterministic, Softmax, Squashed
from jaxrl.algorithms.backups import Max, Munchausen, SignedRoot
from jaxrl.algorithms.critics import Gaussian
from jaxrl.algorithms.crossq import CrossQ
from jaxrl.algorithms.mdpo import MDPO
from jaxrl.algorithms.off_policy import OffPolicy
from jaxrl.algorithms.preset import Preset
from jaxrl.algorithms.q_learning import QLearning
from jaxrl.algorithms.sqirl import SQIRL
from jaxrl.algorithms.stream import Stream
from jaxrl.algorithms.target_networks import TargetNetworks
from jaxrl.algorithms.value_heads import Categorical, Implicit, Quantile
from jaxrl.memories import GRU
from jaxrl.optimizer import Optimizer
from jaxrl.replay import Prioritized, Uniform
from jaxrl.rules.stream import ActionValues, Sarsa, Watkins
from jaxrl.rules.stream import ActorCritic as StreamActorCritic
from jaxrl.schedules import EpsilonGreedy

PRIORITIZED = {"prioritized": {False: {"priority": Uniform()}, True: {"priority": Prioritized()}}}
STREAM_TRACE = (
    "The trace of the steps before is cut at an exploratory action, as in the paper's pseudocode "
    "and by Watkins; the authors' code cuts it after that action's own step."
)

Q_LEARNING = [
    Preset(
        name="dqn",
        value=OffPolicy(learner=QLearning(backup=Max(double=True))),
        summary="Deep Q-learning (Mnih et al., 2015): double, and dueling, n-step, noisy, "
        "prioritised or distributional by its fields",
        options=PRIORITIZED,
    ),
    Preset(
        name="c51",
        value=OffPolicy(learner=QLearning(head=Categorical(-10.0, 10.0, atoms=51))),
        summary="Categorical DQN (Bellemare et al., 2017): histograms of returns between v_min and "
        "v_max",
        options=PRIORITIZED,
    ),
    Preset(
        name="qr_dqn",
        value=OffPolicy(learner=QLearning(head=Quantile(kappa=1.0, quantiles=25))),
        summary="Quantile regression DQN (Dabney et al., 2018a): equally likely returns",
        options=PRIORITIZED,
    ),
    Preset(
        name="iqn",
        value=OffPolicy(learner=QLearning(head=Implicit(kappa=1.0))),
        summary="Implicit quantile networks (Dabney et al., 2018b): quantile functions of returns",
        options=PRIORITIZED,
    ),
    Preset(
        name="munchausen_dqn",
        value=OffPolicy(learner=QLearning(backup=Munchausen(alpha=0.9, temperature=0.03))),
        summary="Munchausen DQN (Vieillard et al., 2020): a soft policy, with its log-probability "
        "as a reward",
        details="With head=Implicit() it is M-IQN.",
        options=PRIORITIZED,
    ),
    Preset(
        name="rainbow",
        value=OffPolicy(
            learner=QLearning(
                head=Categorical(-10.0, 10.0, atoms=51),
                exploration=EpsilonGreedy(0.0, 0.0, 0.5),
                dueling=True,
                noisy=True,
                n_step=3,
            ),
            priority=Prioritized(),
        ),
        summary="Rainbow (Hessel et al., 2018): C51 that is double, dueling, noisy, prioritised "
        "and 3-step",
        options=PRIORITIZED,
    ),
    Preset(
        name="r2d2",
        value=OffPolicy(
            learner=QLearning(
                transform=SignedRoot(1e-3),
                memory=GRU(),
                dueling=True,
                n_step=5,
                burn_in=8,
                sequence=16,
            ),
            priority=Prioritized(),
            num_envs=8,
            batch_size=32,
        ),
        summary="R2D2 (Kapturowski et al., 2019): recurrent Q-learning from prioritised sequences, "
        "values on the scale of a signed root",
        options=PRIORITIZED,
    ),
    Preset(
        name="sqirl",
        value=OffPolicy(learner=SQIRL(depth=2), num_envs=8, num_steps=64, updates=64),
        summary="SQIRL (Laidlaw et al., 2024): random exploration, then `depth` steps of fitted "
        "Q-iteration, one time step after the other",
    ),
]

ACTOR_CRITIC = [
    Preset(
        name="ddpg",
        value=OffPolicy(
            learner=ActorCritic(
                actor=Deterministic(target_noise=0.0),
                targets=TargetNetworks(target_period=None, target_actor=True),
                lr=1e-3,
                temperature_lr=0.0,
                num_critics=1,
                num_policy_critics=1,
            )
        ),
        summary="Deep deterministic policy gradients (Lillicrap et al., 2015); with a memory, RDPG",
        details="Noise is white, where the paper's is correlated, as with noise_correlation=0.85.",
    ),
    Preset(
        name="td3",
        value=OffPolicy(
            learner=ActorCritic(
                actor=Deterministic(noise=0.1, target_noise=0.2, target_noise_clip=0.5),
                targets=TargetNetworks(target_period=None, target_actor=True),
                lr=1e-3,
                temperature_lr=0.0,
                policy_delay=2.0,
                num_policy_critics=1,
            )
        ),
        summary="Twin delayed deterministic policy gradients (Fujimoto et al., 2018); with a "
        "memory, RTD3",
        details="Target networks move with the policy, every policy_delay gradient steps.",
    ),
    Preset(
        name="sac",
        value=OffPolicy(learner=ActorCritic(actor=Squashed(-10.0, 2.0))),
        summary="Soft actor-critic (Haarnoja et al., 2018a, 2018b) for real actions; with a "
        "memory, RSAC",
        details="The temperature is learned for a `target_entropy` per dimension of an action; "
        "temperature_lr=0.0 keeps it constant.",
    ),
    Preset(
        name="sac_discrete",
        value=OffPolicy(learner=ActorCritic(actor=Softmax(), target_entropy=0.98)),
        summary="Soft actor-critic for discrete actions (Christodoulou, 2019)",
        details="target_entropy is a fraction of log n.",
    ),
    Preset(
        name="redq",
        value=OffPolicy(
            learner=ActorCritic(
                policy_delay=20.0, num_critics=10, num_target_critics=2, policy_q="mean"
            ),
            updates=20,
        ),
        summary="Randomised ensembled double Q-learning (Chen et al., 2021): many critics, many "
        "gradient steps",
        details="Targets are the smallest value of num_target_critics critics, sampled; the policy "
        "follows the mean of all, once in policy_delay gradient steps: set it to `updates` for one "
        "step of the policy in an update.",
    ),
    Preset(
        name="dsac_t",
        value=OffPolicy(
            learner=ActorCritic(
                actor=Squashed(-10.0, 0.5),
                critic=Gaussian(bound=3.0, epsilon=0.1, spread_rate=0.005),
                targets=TargetNetworks(target_period=2.0, target_actor=True),
                lr=1e-4,
                temperature_lr=3e-4,
                policy_delay=2.0,
            )
        ),
        summary="Distributional soft actor-critic with three refinements (Duan et al., 2023)",
        details="The numbers are the authors'; their networks are three layers of 256 with GELU.",
    ),
    Preset(
        name="mdpo_off_policy",
        value=OffPolicy(learner=MDPO(step_size=1.0, actor_target_period=1000.0, temperature=0.2)),
        summary="Mirror descent policy optimisation, off-policy (Tomar et al., 2020, section 4.2)",
        details="KL(new || old) / step_size is the penalty, where old is the policy of up to "
        "actor_target_period gradient steps ago; at step_size 1 / temperature there is none, and "
        "it is SAC. The temperature is constant.",
    ),
    Preset(
        name="crossq",
        value=OffPolicy(
            learner=CrossQ(optimizer=Optimizer(optax.adam, {"b1": 0.5, "eps_root": 1e-16}))
        ),
        summary="CrossQ (Bhatt et al., 2024): no target networks, but wide critics with batch "
        "normalisation",
        details="Normalisation is plain; the authors' renormalisation begins after 100,000 "
        "gradient steps. Adam's b1 is 0.5, here that of the temperature too. Both `network` and "
        "`critic_network` need batch_norm=True.",
    ),
]

STREAM = [
    Preset(
        name="stream_q",
        value=Stream(rule=ActionValues(Watkins(), exploration=EpsilonGreedy(1.0, 0.01, 0.05))),
        summary="Stream Q(lambda) (Elsayed et al., 2024): Watkins' Q(lambda), a step at a time",
        details=STREAM_TRACE,
    ),
    Preset(
        name="stream_sarsa",
        value=Stream(rule=ActionValues(Sarsa(), exploration=EpsilonGreedy(1.0, 0.01, 0.05))),
        summary="Stream SARSA(lambda) (Elsayed et al., 2024): a step at a time",
    ),
    Preset(
        name="stream_ac",
        value=Stream(rule=StreamActorCritic()),
        summary="Stream AC(lambda) (Elsayed et al., 2024): actor and critic, a step at a time",
        details="The authors' networks for continuous control are four times as wide: "
        "network=MLP((128, 128), ...).",
    ),
]

OFF_POLICY = [*Q_LEARNING, *ACTOR_CRITIC, *STREAM]
