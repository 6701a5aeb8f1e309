"""Rows of the zoo.

Each setting was chosen from its `grid` on seeds 0 to 7; its score is on seeds 1000 to 1031.
"""

from typing import Any

import jax

import jaxrl as rl
from experiments import ppo_classic
from experiments.zoo import Row

RELU: Any = rl.MLP((64, 64), activation=jax.nn.relu)
SEPARATE: Any = rl.MLP((64, 64), activation=jax.nn.relu, layer_norm=True)
NORMED: Any = rl.MLP((64, 64), activation=jax.nn.relu, shared=True, batch_norm=True)
NORM: Any = rl.MLP((64, 64), activation=jax.nn.relu, shared=True, layer_norm=True)


def classic(env: str) -> Row:
    """Row of PPO, from `experiments.ppo_classic`."""
    task = ppo_classic.TASKS[env]
    return Row(
        "ppo", env, task.steps, task.setting, task.grid, task.published, task.target, task.params
    )


def rows(env: str, steps: int, algorithms: dict[str, dict[str, Any]], **shared: Any) -> list[Row]:
    """Rows of several algorithms on one environment. The fields of `Row` in an algorithm's
    dictionary are its own, the rest is its setting.
    """
    result = []
    for name, setting in algorithms.items():
        own = {
            key: setting[key]
            for key in ("published", "grid", "target", "steps", "note")
            if key in setting
        }
        rest = {key: value for key, value in setting.items() if key not in own}
        result.append(
            Row(**{"algorithm": name, "env": env, "steps": steps, "setting": rest} | shared | own)
        )
    return result


# ------------------------------------------------------------------------------ policy optimisation

LR = dict(lr=(3e-4, 1e-3, 3e-3, 1e-2))
ROLLOUT = dict(
    gamma=0.98,
    lam=0.8,
    entropy_weight=0.0,
    num_envs=8,
    num_steps=32,
    epochs=20,
    minibatches=1,
    lr=1e-3,
)
SHORT = dict(gamma=0.98, entropy_weight=0.0, num_envs=8, num_steps=8, lr=3e-3)
WHOLE = dict(num_envs=16, num_steps=500)  # episodes

CARTPOLE_ON_POLICY: dict[str, dict[str, Any]] = {
    "a2c": SHORT | dict(lam=0.95, lr=3e-3, grid=LR, published="500 ± 0 (rl-zoo, 500k)"),
    "dpo": ROLLOUT | dict(grid=LR),
    "impala": SHORT | dict(num_steps=16, lr=1e-3, grid=LR),
    "mdpo": ROLLOUT | dict(step_size=1.0, grid=LR),
    "ppo_penalty": ROLLOUT | dict(grid=LR),
    "reinforce": SHORT | dict(num_steps=64, lr=1e-2, grid=LR),
    "spo": ROLLOUT | dict(grid=LR),
    "trpo": dict(
        gamma=0.98,
        lam=0.95,
        num_envs=8,
        num_steps=64,
        max_kl=0.01,
        epochs=10,
        minibatches=4,
        lr=1e-3,
        grid=dict(max_kl=(0.01, 0.02, 0.05)),
        published="500 ± 0 (rl-zoo, 100k)",
    ),
    "rloo": WHOLE | dict(steps=400_000, lr=1e-2, grid=dict(lr=(1e-3, 3e-3, 1e-2, 3e-2))),
    "grpo": WHOLE | dict(steps=400_000, lr=1e-3, epochs=10, minibatches=1, grid=LR),
    "remax": WHOLE | dict(steps=400_000, lr=3e-2, grid=dict(lr=(1e-3, 3e-3, 1e-2, 3e-2))),
    "pqn": dict(
        gamma=0.99,
        lam=0.95,
        num_envs=8,
        num_steps=32,
        epochs=4,
        minibatches=4,
        lr=1e-3,
        network=NORM,
        reward_scale=0.1,
        epsilon_fraction=0.3,
        grid=LR,
        published="495 (CleanRL, 500k)",
    ),
}

# -------------------------------------------------------------------------------------- value-based

DQN = dict(
    lr=1e-3,
    schedule=rl.Linear(0.0),
    gamma=0.99,
    num_envs=8,
    num_steps=8,
    updates=8,
    batch_size=64,
    n_step=3,
    tau=0.02,
    target_period=1.0,
    epsilon_fraction=0.2,
    epsilon_end=0.04,
    network=SEPARATE,
)
DQN_LR = dict(grid=dict(lr=(3e-4, 1e-3, 3e-3)))
FEW = dict(cosines=32, samples=4, fractions=8)  # a quarter of the paper's, for two cores
# explores by noisy networks
GREEDY = {name: value for name, value in DQN.items() if not name.startswith("epsilon")}

CARTPOLE_VALUES: dict[str, dict[str, Any]] = {
    "dqn": DQN | DQN_LR | dict(target=500, published="500 ± 0 (rl-zoo, 50k)"),
    "c51": DQN | DQN_LR | dict(v_min=0.0, v_max=100.0, published="481 (CleanRL, 500k)"),
    "qr_dqn": DQN | DQN_LR | dict(quantiles=10, published="500 ± 0 (rl-zoo, 50k)"),
    "iqn": DQN | FEW | DQN_LR,
    "munchausen_dqn": DQN | DQN_LR,
    "rainbow": GREEDY | DQN_LR | dict(v_min=0.0, v_max=100.0, atoms=21),
    "sac_discrete": dict(
        lr=1e-3,
        num_envs=8,
        updates=2,
        batch_size=64,
        warmup=1_000,
        target_entropy=0.3,
        network=RELU,
        grid=dict(target_entropy=(0.1, 0.3, 0.6)),
        published="406 (SLM-Lab, 200k)",
    ),
    "sqirl": dict(grid=dict(lr=(1e-3, 3e-3))),
}

# ------------------------------------------------------------------------- off-policy actor-critics

ACTOR_CRITIC = dict(
    lr=1e-3, num_envs=4, updates=4, batch_size=64, warmup=1_000, capacity=20_000, network=RELU
)
CROSSED = dict(network=NORMED, critic_network=NORMED)
AC_LR = dict(grid=dict(lr=(5e-4, 1e-3, 2e-3)))

PENDULUM: dict[str, dict[str, Any]] = {
    "sac": ACTOR_CRITIC | AC_LR | dict(target=-160, published="-157 ± 89 (rl-zoo, 20k)"),
    "td3": ACTOR_CRITIC | AC_LR | dict(target=-160, published="-152 ± 90 (rl-zoo, 20k)"),
    "ddpg": ACTOR_CRITIC | AC_LR | dict(published="-152 ± 94 (rl-zoo, 20k)"),
    "redq": ACTOR_CRITIC | AC_LR | dict(num_critics=5, num_target_critics=2, policy_delay=4.0),
    "dsac_t": ACTOR_CRITIC | AC_LR,
    "mdpo_off_policy": ACTOR_CRITIC | AC_LR,
    "crossq": ACTOR_CRITIC | AC_LR | CROSSED,
}

# Squashed noise that is correlated in time finds the goal in nine of ten episodes around an idle
# policy; white noise in none of 400.
LASTING = dict(
    lr=1e-3,
    gamma=0.999,
    num_envs=4,
    updates=2,
    batch_size=64,
    warmup=256,
    network=RELU,
    noise_correlation=0.95,
)
LASTING_SOFT = LASTING | dict(temperature=0.03, temperature_lr=0.0, grid=dict(gamma=(0.99, 0.999)))
LASTING_HARD = LASTING | dict(noise=0.8, updates=4, steps=24_000, grid=dict(gamma=(0.99, 0.999)))

MOUNTAIN_CAR_CONTINUOUS: dict[str, dict[str, Any]] = {
    "sac": LASTING_SOFT | dict(target=90, published="95 ± 1 (rl-zoo, 50k)"),
    "td3": LASTING_HARD | dict(target=90, published="93 ± 0 (rl-zoo, 300k)"),
    "ddpg": LASTING_HARD | dict(published="94 ± 0 (rl-zoo, 300k)"),
    "redq": LASTING_SOFT | dict(num_critics=5, num_target_critics=2, policy_delay=4.0),
    "dsac_t": LASTING_SOFT,
    "mdpo_off_policy": LASTING_SOFT,
    "crossq": LASTING_SOFT | CROSSED,
    "ppo": dict(
        steps=100_000,
        lr=1e-3,
        gamma=0.999,
        num_envs=8,
        num_steps=64,
        normalize_obs=True,
        published="88 ± 3 (rl-zoo, 20k, noise by state)",
        note="without correlated noise",
    ),
}

# ------------------------------------------------------------------ other environments, same
# settings

# PPO's setting for Acrobot (its row), and those of CartPole for algorithms that learn from values
# or whole episodes.
HILLS = dict(
    gamma=0.99,
    lam=0.94,
    entropy_weight=0.0,
    num_envs=16,
    num_steps=128,
    epochs=4,
    minibatches=8,
    lr=2e-3,
    normalize_obs=True,
)
BRIEF = dict(gamma=0.99, entropy_weight=0.0, num_envs=16, num_steps=16, lr=3e-3, normalize_obs=True)

ACROBOT_ON_POLICY: dict[str, dict[str, Any]] = {
    "a2c": BRIEF | dict(lam=0.94, published="-87 ± 26 (rl-zoo, 500k)"),
    "dpo": HILLS,
    "impala": BRIEF,
    "mdpo": HILLS | dict(step_size=1.0),
    "ppo_penalty": HILLS,
    "reinforce": BRIEF | dict(num_steps=64, lr=1e-2),
    "spo": HILLS,
    "trpo": dict(
        gamma=0.99,
        lam=0.94,
        num_envs=16,
        num_steps=128,
        max_kl=0.01,
        epochs=10,
        minibatches=4,
        lr=1e-3,
        normalize_obs=True,
        steps=100_000,
        published="-85 ± 10 (rl-zoo, 100k)",
    ),
    "rloo": WHOLE | dict(lr=1e-2),
    "grpo": WHOLE | dict(lr=1e-3, epochs=10, minibatches=1),
    "remax": WHOLE | dict(lr=3e-2),
    "pqn": dict(
        gamma=0.99,
        lam=0.95,
        num_envs=8,
        num_steps=32,
        epochs=4,
        minibatches=4,
        lr=1e-3,
        network=NORM,
        reward_scale=0.1,
        epsilon_fraction=0.3,
    ),
}

ACROBOT_VALUES: dict[str, dict[str, Any]] = {
    "dqn": DQN | dict(target=-85, published="-72 ± 8 (rl-zoo, 100k)"),
    "qr_dqn": DQN | dict(quantiles=25, published="-69 ± 2 (rl-zoo, 100k)"),
    "munchausen_dqn": DQN,
    "iqn": DQN | FEW,
    "c51": DQN | dict(v_min=-100.0, v_max=0.0),
    "rainbow": GREEDY | dict(v_min=-100.0, v_max=0.0, atoms=21),
    "sac_discrete": {
        name: x
        for name, x in CARTPOLE_VALUES["sac_discrete"].items()
        if name not in ("grid", "published")
    },
    "sqirl": {},
}

# PPO's settings for Pendulum (its row), with learning rates from the grid, and for
# MountainCarContinuous.
SWING = dict(
    gamma=0.95, lam=0.95, entropy_weight=0.0, num_envs=16, normalize_obs=True, normalize_reward=True
)
SWINGS = SWING | dict(num_steps=64, epochs=10, minibatches=8, lr=1e-3, grid=LR)
SWING_BRIEF = SWING | dict(num_steps=16, lr=3e-3, grid=LR)
SWING_WHOLE = dict(num_envs=16, num_steps=200, normalize_obs=True, lr=1e-2, steps=300_000, grid=LR)

PENDULUM_ON_POLICY: dict[str, dict[str, Any]] = {
    "a2c": SWING_BRIEF | dict(lr=1e-3, published="-163 ± 103 (rl-zoo, 1M)"),
    "dpo": SWINGS,
    "impala": {name: x for name, x in SWING_BRIEF.items() if name != "lam"},
    "mdpo": SWINGS | dict(step_size=1.0, lr=3e-4),
    "ppo_penalty": SWINGS,
    "reinforce": {name: x for name, x in SWING_BRIEF.items() if name != "lam"} | dict(num_steps=64),
    "spo": SWINGS,
    "trpo": SWINGS
    | dict(
        max_kl=0.01, grid=dict(max_kl=(0.01, 0.02, 0.05)), published="-175 ± 128 (rl-zoo, 100k)"
    ),
    "rloo": SWING_WHOLE,
    "grpo": SWING_WHOLE | dict(epochs=10, minibatches=1),
    "remax": SWING_WHOLE,
}

CLIMB = dict(lr=1e-3, gamma=0.999, num_envs=8, num_steps=64, normalize_obs=True)
CLIMB_BRIEF = CLIMB | dict(num_steps=16, lr=3e-3)
CLIMB_WHOLE = CLIMB | dict(num_steps=999, lr=1e-2)

MOUNTAIN_CAR_CONTINUOUS_ON_POLICY: dict[str, dict[str, Any]] = {
    "a2c": CLIMB_BRIEF | dict(published="91 ± 0 (rl-zoo, 100k)"),
    "dpo": CLIMB,
    "impala": CLIMB_BRIEF,
    "mdpo": CLIMB | dict(step_size=1.0),
    "ppo_penalty": CLIMB,
    "reinforce": CLIMB_BRIEF | dict(num_steps=64),
    "spo": CLIMB,
    "trpo": CLIMB | dict(max_kl=0.01, published="92 ± 0 (rl-zoo, 50k)"),
    "rloo": CLIMB_WHOLE,
    "grpo": CLIMB_WHOLE | dict(epochs=10, minibatches=1),
    "remax": CLIMB_WHOLE,
}

MOUNTAIN_CAR: dict[str, dict[str, Any]] = {
    "ppo": HILLS
    | dict(lam=0.98, num_steps=64, steps=1_000_000, published="-110 ± 19 (rl-zoo, 1M)"),
    "dqn": DQN | dict(epsilon_end=0.07, published="-103 ± 8 (rl-zoo, 120k)"),
    "rainbow": GREEDY | dict(v_min=-100.0, v_max=0.0, atoms=21),
}

RECALL: dict[str, Any] = dict(memory=rl.GRU(32), network=rl.MLP((32,)))
MEMORY_CHAIN: dict[str, dict[str, Any]] = {
    "ppo": RECALL
    | dict(
        num_envs=16, num_steps=32, minibatches=4, epochs=4, lr=3e-3, gamma=0.99, entropy_weight=0.01
    ),
    "pqn": RECALL
    | dict(
        num_envs=16,
        num_steps=32,
        minibatches=4,
        epochs=4,
        lr=3e-3,
        gamma=0.99,
        lam=0.95,
        epsilon_fraction=0.5,
    ),
    "r2d2": RECALL
    | dict(
        num_envs=8,
        num_steps=8,
        updates=2,
        batch_size=16,
        burn_in=0,
        sequence=12,
        capacity=20_000,
        warmup=1_000,
        lr=1e-3,
        target_period=50.0,
    ),
}

# RSAC, RTD3 and RDPG; sixteen pieces of 16 steps are four times a batch of 64
RECALLED = ACTOR_CRITIC | dict(memory=rl.GRU(32), updates=2, batch_size=16, burn_in=4, sequence=16)

PENDULUM_POSITIONS: dict[str, dict[str, Any]] = {
    "ppo": ppo_classic.TASKS["Pendulum-v1"].setting | dict(memory=rl.GRU(32), steps=300_000),
    "sac": RECALLED,
    "td3": RECALLED,
    "ddpg": RECALLED,
}

BREAKOUT: dict[str, dict[str, Any]] = {
    "pqn": dict(
        gamma=0.99,
        lam=0.65,
        num_envs=64,
        num_steps=32,
        epochs=2,
        minibatches=8,
        lr=2e-3,
        network=NORM,
        epsilon_fraction=0.2,
        published="none at 1e6",
    ),
    "dqn": DQN
    | dict(
        num_envs=16,
        num_steps=4,
        updates=4,
        lr=5e-4,
        network=NORM,
        epsilon_fraction=0.1,
        epsilon_end=0.01,
        published="none at 1e6",
    ),
}

ROWS: list[Row] = [
    *map(classic, ("CartPole-v1", "Acrobot-v1", "Pendulum-v1", "Breakout-MinAtar")),
    *rows("CartPole-v1", 100_000, CARTPOLE_ON_POLICY),
    *rows("CartPole-v1", 100_000, CARTPOLE_VALUES),
    *rows("Acrobot-v1", 500_000, ACROBOT_ON_POLICY),
    *rows("Acrobot-v1", 100_000, ACROBOT_VALUES),
    *rows("MountainCar-v0", 120_000, MOUNTAIN_CAR),
    *rows("MemoryChain", 100_000, MEMORY_CHAIN),
    *rows("Breakout-MinAtar", 1_000_000, BREAKOUT),
    *rows("Pendulum-v1", 20_000, PENDULUM),
    *rows("Pendulum-v1", 150_000, PENDULUM_ON_POLICY),
    *rows("Pendulum-P", 20_000, PENDULUM_POSITIONS),
    *rows("MountainCarContinuous-v0", 30_000, MOUNTAIN_CAR_CONTINUOUS),
    *rows("MountainCarContinuous-v0", 100_000, MOUNTAIN_CAR_CONTINUOUS_ON_POLICY),
]
