# Made by `python -m experiments.which` of the table in presets.py. fmt: off
from typing import Any

import jax

from jaxrl.algorithms import OffPolicy, OnPolicy, Stream

Float = float | jax.Array
Bool = bool | jax.Array

def a2c(
    *, rule: Any = ..., objective: Any = ..., gamma: Float = 0.99, lam: Float = 1.0,
    entropy_weight: Float = 0.01, value_weight: Float = 0.5, value_clip: Float = ...,
    normalize_advantage: Bool = False, baseline: Bool = True, penalty: Any = ...,
    lr: Float = 0.0007, schedule: Any = ..., max_grad_norm: Float = 0.5,
    epoch_limit: Float = ..., normalize_obs: Bool = False, normalize_reward: Bool = False,
    optimizer: Any = ..., policy_step: Any = ..., controller: Any = ..., num_envs: int = 16,
    num_steps: int = 8, epochs: int = 1, minibatches: int = 1, network: Any = ...,
    memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """Advantage actor-critic (Mnih et al., 2016, synchronous): one policy-gradient step per
    rollout."""
    ...

def c51(
    *, learner: Any = ..., head: Any = ..., v_min: Float = -10.0, v_max: Float = 10.0,
    atoms: int = 51, backup: Any = ..., double: Bool = True, transform: Any = ...,
    mixer: Any = ..., exploration: Any = ..., epsilon_start: Float = 1.0,
    epsilon_end: Float = 0.05, epsilon_fraction: Float = 0.5, lr: Float = 0.001,
    schedule: Any = ..., gamma: Float = 0.99, tau: Float = 1.0, target_period: Float = 500.0,
    max_grad_norm: Float = 10.0, noise_scale: Float = 0.5, optimizer: Any = ...,
    network: Any = ..., memory: Any = ..., dueling: Bool = False, noisy: Bool = False,
    n_step: int = 1, burn_in: int = 8, sequence: int = 16, update_limit: Float = ...,
    priority: Any = ..., normalize_obs: Bool = False, normalize_reward: Bool = False,
    num_envs: int = 1, num_steps: int = 1, updates: int = 1, batch_size: int = 128,
    capacity: int = 50000, warmup: int = 1000, prioritized: Bool = False, **paths: Any,
) -> OffPolicy:
    """Categorical DQN (Bellemare et al., 2017): histograms of returns between v_min and
    v_max."""
    ...

def crossq(
    *, learner: Any = ..., actor: Any = ..., min_log_std: Float = -10.0,
    max_log_std: Float = 2.0, lr: Float = 0.001, actor_lr: Any = ..., temperature_lr: Any = ...,
    schedule: Any = ..., gamma: Float = 0.99, temperature: Float = 1.0,
    target_entropy: Float = -1.0, noise_correlation: Any = ..., policy_delay: Float = 3.0,
    max_grad_norm: Float = ..., optimizer: Any = ..., num_critics: int = 2, network: Any = ...,
    critic_network: Any = ..., n_step: int = 1, update_limit: Float = ..., priority: Any = ...,
    normalize_obs: Bool = False, normalize_reward: Bool = False, num_envs: int = 1,
    num_steps: int = 1, updates: int = 1, batch_size: int = 128, capacity: int = 50000,
    warmup: int = 1000, **paths: Any,
) -> OffPolicy:
    """CrossQ (Bhatt et al., 2024): no target networks, but wide critics with batch
    normalisation."""
    ...

def ddpg(
    *, learner: Any = ..., actor: Any = ..., noise: Float = 0.1, target_noise: Float = 0.0,
    target_noise_clip: Float = 0.5, lr: Float = 0.001, actor_lr: Any = ...,
    temperature_lr: Float = 0.0, schedule: Any = ..., gamma: Float = 0.99,
    temperature: Float = 1.0, target_entropy: Float = -1.0, noise_correlation: Any = ...,
    policy_delay: Float = 1.0, max_grad_norm: Float = ..., optimizer: Any = ...,
    num_critics: int = 1, network: Any = ..., critic_network: Any = ..., n_step: int = 1,
    critic: Any = ..., targets: Any = ..., tau: Float = 0.005, target_period: Any = ...,
    target_actor: Bool = True, num_target_critics: Any = ..., num_policy_critics: int = 1,
    policy_q: Any = ..., memory: Any = ..., burn_in: int = 8, sequence: int = 16,
    update_limit: Float = ..., priority: Any = ..., normalize_obs: Bool = False,
    normalize_reward: Bool = False, num_envs: int = 1, num_steps: int = 1, updates: int = 1,
    batch_size: int = 128, capacity: int = 50000, warmup: int = 1000, **paths: Any,
) -> OffPolicy:
    """Deep deterministic policy gradients (Lillicrap et al., 2015); with a memory, RDPG."""
    ...

def dpo(
    *, rule: Any = ..., objective: Any = ..., alpha: Float = 2.0, beta: Float = 0.6,
    gamma: Float = 0.99, lam: Float = 0.95, entropy_weight: Float = 0.01,
    value_weight: Float = 0.5, value_clip: Float = ..., normalize_advantage: Bool = True,
    baseline: Bool = True, penalty: Any = ..., lr: Float = 0.00025, schedule: Any = ...,
    max_grad_norm: Float = 0.5, epoch_limit: Float = ..., normalize_obs: Bool = False,
    normalize_reward: Bool = False, optimizer: Any = ..., policy_step: Any = ...,
    controller: Any = ..., num_envs: int = 4, num_steps: int = 128, epochs: int = 4,
    minibatches: int = 4, network: Any = ..., memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """Discovered policy optimisation (Lu et al., 2022): PPO with a meta-learned drift, in
    closed form, instead of clipping."""
    ...

def dqn(
    *, learner: Any = ..., head: Any = ..., backup: Any = ..., double: Bool = True,
    transform: Any = ..., mixer: Any = ..., exploration: Any = ..., epsilon_start: Float = 1.0,
    epsilon_end: Float = 0.05, epsilon_fraction: Float = 0.5, lr: Float = 0.001,
    schedule: Any = ..., gamma: Float = 0.99, tau: Float = 1.0, target_period: Float = 500.0,
    max_grad_norm: Float = 10.0, noise_scale: Float = 0.5, optimizer: Any = ...,
    network: Any = ..., memory: Any = ..., dueling: Bool = False, noisy: Bool = False,
    n_step: int = 1, burn_in: int = 8, sequence: int = 16, update_limit: Float = ...,
    priority: Any = ..., normalize_obs: Bool = False, normalize_reward: Bool = False,
    num_envs: int = 1, num_steps: int = 1, updates: int = 1, batch_size: int = 128,
    capacity: int = 50000, warmup: int = 1000, prioritized: Bool = False, **paths: Any,
) -> OffPolicy:
    """Deep Q-learning (Mnih et al., 2015): double, and dueling, n-step, noisy, prioritised or
    distributional by its fields."""
    ...

def dsac_t(
    *, learner: Any = ..., actor: Any = ..., min_log_std: Float = -10.0,
    max_log_std: Float = 0.5, lr: Float = 0.0001, actor_lr: Any = ...,
    temperature_lr: Float = 0.0003, schedule: Any = ..., gamma: Float = 0.99,
    temperature: Float = 1.0, target_entropy: Float = -1.0, noise_correlation: Any = ...,
    policy_delay: Float = 2.0, max_grad_norm: Float = ..., optimizer: Any = ...,
    num_critics: int = 2, network: Any = ..., critic_network: Any = ..., n_step: int = 1,
    critic: Any = ..., bound: Float = 3.0, epsilon: Float = 0.1, spread_rate: Float = 0.005,
    targets: Any = ..., tau: Float = 0.005, target_period: Float = 2.0,
    target_actor: Bool = True, num_target_critics: Any = ..., num_policy_critics: Any = ...,
    policy_q: Any = ..., memory: Any = ..., burn_in: int = 8, sequence: int = 16,
    update_limit: Float = ..., priority: Any = ..., normalize_obs: Bool = False,
    normalize_reward: Bool = False, num_envs: int = 1, num_steps: int = 1, updates: int = 1,
    batch_size: int = 128, capacity: int = 50000, warmup: int = 1000, **paths: Any,
) -> OffPolicy:
    """Distributional soft actor-critic with three refinements (Duan et al., 2023)."""
    ...

def grpo(
    *, rule: Any = ..., objective: Any = ..., clip: Float = 0.2, advantage: Any = ...,
    gamma: Float = 1.0, entropy_weight: Float = 0.0, per_episode: Bool = True,
    penalty: Any = ..., kl_weight: Float = 0.0, group_size: int = 8, lr: Float = 0.00025,
    schedule: Any = ..., max_grad_norm: Float = 0.5, epoch_limit: Float = ...,
    normalize_obs: Bool = False, normalize_reward: Bool = False, optimizer: Any = ...,
    policy_step: Any = ..., controller: Any = ..., num_envs: int = 16, num_steps: int = 128,
    epochs: int = 4, minibatches: int = 4, network: Any = ..., memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """Group relative policy optimisation (Shao et al., 2024): PPO's clipping, returns
    standardized within a group."""
    ...

def impala(
    *, rule: Any = ..., gamma: Float = 0.99, lam: Float = 1.0, max_rho: Float = 1.0,
    max_c: Float = 1.0, entropy_weight: Float = 0.01, value_weight: Float = 0.5,
    lr: Float = 0.0006, schedule: Any = ..., max_grad_norm: Float = 0.5,
    epoch_limit: Float = ..., normalize_obs: Bool = False, normalize_reward: Bool = False,
    optimizer: Any = ..., policy_step: Any = ..., controller: Any = ..., num_envs: int = 16,
    num_steps: int = 20, epochs: int = 1, minibatches: int = 4, network: Any = ...,
    memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """IMPALA's learner (Espeholt et al., 2018): an actor-critic with V-trace targets, which
    correct for old experience."""
    ...

def iqn(
    *, learner: Any = ..., head: Any = ..., kappa: Float = 1.0, size: int = 64,
    cosines: int = 64, samples: int = 8, fractions: int = 32, backup: Any = ...,
    double: Bool = True, transform: Any = ..., mixer: Any = ..., exploration: Any = ...,
    epsilon_start: Float = 1.0, epsilon_end: Float = 0.05, epsilon_fraction: Float = 0.5,
    lr: Float = 0.001, schedule: Any = ..., gamma: Float = 0.99, tau: Float = 1.0,
    target_period: Float = 500.0, max_grad_norm: Float = 10.0, noise_scale: Float = 0.5,
    optimizer: Any = ..., network: Any = ..., memory: Any = ..., dueling: Bool = False,
    noisy: Bool = False, n_step: int = 1, burn_in: int = 8, sequence: int = 16,
    update_limit: Float = ..., priority: Any = ..., normalize_obs: Bool = False,
    normalize_reward: Bool = False, num_envs: int = 1, num_steps: int = 1, updates: int = 1,
    batch_size: int = 128, capacity: int = 50000, warmup: int = 1000, prioritized: Bool = False,
    **paths: Any,
) -> OffPolicy:
    """Implicit quantile networks (Dabney et al., 2018b): quantile functions of returns."""
    ...

def mdpo(
    *, rule: Any = ..., objective: Any = ..., gamma: Float = 0.99, lam: Float = 0.95,
    entropy_weight: Float = 0.0, value_weight: Float = 0.5, value_clip: Float = ...,
    normalize_advantage: Bool = True, baseline: Bool = True, penalty: Any = ...,
    step_size: Float = 1.0, lr: Float = 0.0003, schedule: Any = ..., max_grad_norm: Float = 0.5,
    epoch_limit: Float = ..., normalize_obs: Bool = False, normalize_reward: Bool = False,
    optimizer: Any = ..., policy_step: Any = ..., controller: Any = ..., num_envs: int = 4,
    num_steps: int = 128, epochs: int = 10, minibatches: int = 1, network: Any = ...,
    memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """Mirror descent policy optimisation, on policy (Tomar et al., 2020)."""
    ...

def mdpo_off_policy(
    *, learner: Any = ..., actor: Any = ..., min_log_std: Float = -10.0,
    max_log_std: Float = 2.0, lr: Float = 0.0003, actor_lr: Any = ...,
    temperature_lr: Float = 0.0, schedule: Any = ..., gamma: Float = 0.99,
    temperature: Float = 0.2, target_entropy: Float = -1.0, noise_correlation: Any = ...,
    policy_delay: Float = 1.0, max_grad_norm: Float = ..., optimizer: Any = ...,
    num_critics: int = 2, network: Any = ..., critic_network: Any = ..., n_step: int = 1,
    step_size: Float = 1.0, actor_target_period: Float = 1000.0, tau: Float = 0.005,
    target_period: Float = 1.0, memory: Any = ..., burn_in: int = 8, sequence: int = 16,
    update_limit: Float = ..., priority: Any = ..., normalize_obs: Bool = False,
    normalize_reward: Bool = False, num_envs: int = 1, num_steps: int = 1, updates: int = 1,
    batch_size: int = 128, capacity: int = 50000, warmup: int = 1000, **paths: Any,
) -> OffPolicy:
    """Mirror descent policy optimisation, off-policy (Tomar et al., 2020, section 4.2)."""
    ...

def munchausen_dqn(
    *, learner: Any = ..., head: Any = ..., backup: Any = ..., alpha: Float = 0.9,
    temperature: Float = 0.03, min_log_prob: Float = -1.0, transform: Any = ...,
    mixer: Any = ..., exploration: Any = ..., epsilon_start: Float = 1.0,
    epsilon_end: Float = 0.05, epsilon_fraction: Float = 0.5, lr: Float = 0.001,
    schedule: Any = ..., gamma: Float = 0.99, tau: Float = 1.0, target_period: Float = 500.0,
    max_grad_norm: Float = 10.0, noise_scale: Float = 0.5, optimizer: Any = ...,
    network: Any = ..., memory: Any = ..., dueling: Bool = False, noisy: Bool = False,
    n_step: int = 1, burn_in: int = 8, sequence: int = 16, update_limit: Float = ...,
    priority: Any = ..., normalize_obs: Bool = False, normalize_reward: Bool = False,
    num_envs: int = 1, num_steps: int = 1, updates: int = 1, batch_size: int = 128,
    capacity: int = 50000, warmup: int = 1000, prioritized: Bool = False, **paths: Any,
) -> OffPolicy:
    """Munchausen DQN (Vieillard et al., 2020): a soft policy, with its log-probability as a
    reward."""
    ...

def ppo(
    *, rule: Any = ..., objective: Any = ..., clip: Float = 0.2, gamma: Float = 0.99,
    lam: Float = 0.95, entropy_weight: Float = 0.01, value_weight: Float = 0.5,
    value_clip: Float = ..., normalize_advantage: Bool = True, baseline: Bool = True,
    penalty: Any = ..., lr: Float = 0.00025, schedule: Any = ..., max_grad_norm: Float = 0.5,
    epoch_limit: Float = ..., normalize_obs: Bool = False, normalize_reward: Bool = False,
    optimizer: Any = ..., policy_step: Any = ..., controller: Any = ..., num_envs: int = 4,
    num_steps: int = 128, epochs: int = 4, minibatches: int = 4, network: Any = ...,
    memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """Proximal policy optimisation (Schulman et al., 2017)."""
    ...

def ppo_penalty(
    *, rule: Any = ..., objective: Any = ..., gamma: Float = 0.99, lam: Float = 0.95,
    entropy_weight: Float = 0.01, value_weight: Float = 0.5, value_clip: Float = ...,
    normalize_advantage: Bool = True, baseline: Bool = True, penalty: Any = ...,
    beta: Float = 1.0, target_kl: Float = 0.01, lr: Float = 0.00025, schedule: Any = ...,
    max_grad_norm: Float = 0.5, epoch_limit: Float = ..., normalize_obs: Bool = False,
    normalize_reward: Bool = False, optimizer: Any = ..., policy_step: Any = ...,
    controller: Any = ..., num_envs: int = 4, num_steps: int = 128, epochs: int = 4,
    minibatches: int = 4, network: Any = ..., memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """PPO with an adaptive KL penalty instead of clipping (Schulman et al., 2017, equation
    8)."""
    ...

def ppo_scheduled(
    *, rule: Any = ..., objective: Any = ..., clip: Float = 0.54413, gamma: Float = 0.97972,
    lam: Float = 0.92015, entropy_weight: Float = 0.02775, value_weight: Float = 0.5,
    value_clip: Float = ..., normalize_advantage: Bool = True, baseline: Bool = True,
    penalty: Any = ..., lr: Float = 0.00861, schedule: Any = ..., max_grad_norm: Float = 0.5,
    epoch_limit: Float = 4.0, normalize_obs: Bool = True, normalize_reward: Bool = True,
    optimizer: Any = ..., policy_step: Any = ..., controller: Any = ..., weights: Any = ...,
    limit: Float = 3.0, controlled: Any = ..., num_envs: int = 16, num_steps: int = 32,
    epochs: int = 8, minibatches: int = 4, network: Any = ..., memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """PPO with six hyperparameters scheduled by a formula of 12 numbers, found by evolution."""
    ...

def pqn(
    *, rule: Any = ..., gamma: Float = 0.99, lam: Float = 0.65, exploration: Any = ...,
    epsilon_start: Float = 1.0, epsilon_end: Float = 0.05, epsilon_fraction: Float = 0.1,
    reward_scale: Float = 1.0, mixer: Any = ..., lr: Float = 0.0005, schedule: Any = ...,
    max_grad_norm: Float = 10.0, epoch_limit: Float = ..., normalize_obs: Bool = False,
    normalize_reward: Bool = False, optimizer: Any = ..., policy_step: Any = ...,
    controller: Any = ..., num_envs: int = 32, num_steps: int = 32, epochs: int = 2,
    minibatches: int = 16, network: Any = ..., memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """Parallelised Q-learning (Gallici et al., 2024): no replay, no target network."""
    ...

def qr_dqn(
    *, learner: Any = ..., head: Any = ..., kappa: Float = 1.0, quantiles: int = 25,
    backup: Any = ..., double: Bool = True, transform: Any = ..., mixer: Any = ...,
    exploration: Any = ..., epsilon_start: Float = 1.0, epsilon_end: Float = 0.05,
    epsilon_fraction: Float = 0.5, lr: Float = 0.001, schedule: Any = ..., gamma: Float = 0.99,
    tau: Float = 1.0, target_period: Float = 500.0, max_grad_norm: Float = 10.0,
    noise_scale: Float = 0.5, optimizer: Any = ..., network: Any = ..., memory: Any = ...,
    dueling: Bool = False, noisy: Bool = False, n_step: int = 1, burn_in: int = 8,
    sequence: int = 16, update_limit: Float = ..., priority: Any = ...,
    normalize_obs: Bool = False, normalize_reward: Bool = False, num_envs: int = 1,
    num_steps: int = 1, updates: int = 1, batch_size: int = 128, capacity: int = 50000,
    warmup: int = 1000, prioritized: Bool = False, **paths: Any,
) -> OffPolicy:
    """Quantile regression DQN (Dabney et al., 2018a): equally likely returns."""
    ...

def r2d2(
    *, learner: Any = ..., head: Any = ..., backup: Any = ..., double: Bool = True,
    transform: Any = ..., eps: Float = 0.001, mixer: Any = ..., exploration: Any = ...,
    epsilon_start: Float = 1.0, epsilon_end: Float = 0.05, epsilon_fraction: Float = 0.5,
    lr: Float = 0.001, schedule: Any = ..., gamma: Float = 0.99, tau: Float = 1.0,
    target_period: Float = 500.0, max_grad_norm: Float = 10.0, noise_scale: Float = 0.5,
    optimizer: Any = ..., network: Any = ..., memory: Any = ..., dueling: Bool = True,
    noisy: Bool = False, n_step: int = 5, burn_in: int = 8, sequence: int = 16,
    update_limit: Float = ..., priority: Any = ..., alpha: Float = 0.6, beta: Float = 0.4,
    normalize_obs: Bool = False, normalize_reward: Bool = False, num_envs: int = 8,
    num_steps: int = 1, updates: int = 1, batch_size: int = 32, capacity: int = 50000,
    warmup: int = 1000, prioritized: Bool = True, **paths: Any,
) -> OffPolicy:
    """R2D2 (Kapturowski et al., 2019): recurrent Q-learning from prioritised sequences, values
    on the scale of a signed root."""
    ...

def rainbow(
    *, learner: Any = ..., head: Any = ..., v_min: Float = -10.0, v_max: Float = 10.0,
    atoms: int = 51, backup: Any = ..., double: Bool = True, transform: Any = ...,
    mixer: Any = ..., exploration: Any = ..., epsilon_start: Float = 0.0,
    epsilon_end: Float = 0.0, epsilon_fraction: Float = 0.5, lr: Float = 0.001,
    schedule: Any = ..., gamma: Float = 0.99, tau: Float = 1.0, target_period: Float = 500.0,
    max_grad_norm: Float = 10.0, noise_scale: Float = 0.5, optimizer: Any = ...,
    network: Any = ..., memory: Any = ..., dueling: Bool = True, noisy: Bool = True,
    n_step: int = 3, burn_in: int = 8, sequence: int = 16, update_limit: Float = ...,
    priority: Any = ..., alpha: Float = 0.6, beta: Float = 0.4, normalize_obs: Bool = False,
    normalize_reward: Bool = False, num_envs: int = 1, num_steps: int = 1, updates: int = 1,
    batch_size: int = 128, capacity: int = 50000, warmup: int = 1000, prioritized: Bool = True,
    **paths: Any,
) -> OffPolicy:
    """Rainbow (Hessel et al., 2018): C51 that is double, dueling, noisy, prioritised and
    3-step."""
    ...

def redq(
    *, learner: Any = ..., actor: Any = ..., min_log_std: Float = -10.0,
    max_log_std: Float = 2.0, lr: Float = 0.0003, actor_lr: Any = ...,
    temperature_lr: Any = ..., schedule: Any = ..., gamma: Float = 0.99,
    temperature: Float = 1.0, target_entropy: Float = -1.0, noise_correlation: Any = ...,
    policy_delay: Float = 20.0, max_grad_norm: Float = ..., optimizer: Any = ...,
    num_critics: int = 10, network: Any = ..., critic_network: Any = ..., n_step: int = 1,
    critic: Any = ..., targets: Any = ..., tau: Float = 0.005, target_period: Float = 1.0,
    target_actor: Bool = False, num_target_critics: int = 2, num_policy_critics: Any = ...,
    policy_q: Any = ..., memory: Any = ..., burn_in: int = 8, sequence: int = 16,
    update_limit: Float = ..., priority: Any = ..., normalize_obs: Bool = False,
    normalize_reward: Bool = False, num_envs: int = 1, num_steps: int = 1, updates: int = 20,
    batch_size: int = 128, capacity: int = 50000, warmup: int = 1000, **paths: Any,
) -> OffPolicy:
    """Randomised ensembled double Q-learning (Chen et al., 2021): many critics, many gradient
    steps."""
    ...

def reinforce(
    *, rule: Any = ..., objective: Any = ..., gamma: Float = 0.99, entropy_weight: Float = 0.0,
    value_weight: Float = 0.5, normalize_advantage: Bool = False, baseline: Bool = True,
    penalty: Any = ..., lr: Float = 0.001, schedule: Any = ..., max_grad_norm: Float = 0.5,
    epoch_limit: Float = ..., normalize_obs: Bool = False, normalize_reward: Bool = False,
    optimizer: Any = ..., policy_step: Any = ..., controller: Any = ..., num_envs: int = 16,
    num_steps: int = 128, epochs: int = 1, minibatches: int = 1, network: Any = ...,
    memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """REINFORCE (Williams, 1992): one policy-gradient step per rollout, with Monte Carlo
    returns."""
    ...

def remax(
    *, rule: Any = ..., objective: Any = ..., advantage: Any = ..., gamma: Float = 1.0,
    entropy_weight: Float = 0.0, per_episode: Bool = False, penalty: Any = ...,
    group_size: int = 2, lr: Float = 0.001, schedule: Any = ..., max_grad_norm: Float = 0.5,
    epoch_limit: Float = ..., normalize_obs: Bool = False, normalize_reward: Bool = False,
    optimizer: Any = ..., policy_step: Any = ..., controller: Any = ..., num_envs: int = 16,
    num_steps: int = 128, epochs: int = 1, minibatches: int = 1, network: Any = ...,
    memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """ReMax (Li et al., 2024): the policy gradient over the return of the greedy policy from
    the same reset state."""
    ...

def rloo(
    *, rule: Any = ..., objective: Any = ..., advantage: Any = ..., gamma: Float = 1.0,
    entropy_weight: Float = 0.0, per_episode: Bool = False, penalty: Any = ...,
    group_size: int = 4, lr: Float = 0.001, schedule: Any = ..., max_grad_norm: Float = 0.5,
    epoch_limit: Float = ..., normalize_obs: Bool = False, normalize_reward: Bool = False,
    optimizer: Any = ..., policy_step: Any = ..., controller: Any = ..., num_envs: int = 16,
    num_steps: int = 128, epochs: int = 1, minibatches: int = 1, network: Any = ...,
    memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """REINFORCE leave-one-out (Ahmadian et al., 2024): the policy gradient over the mean return
    of the other episodes of a group."""
    ...

def sac(
    *, learner: Any = ..., actor: Any = ..., min_log_std: Float = -10.0,
    max_log_std: Float = 2.0, lr: Float = 0.0003, actor_lr: Any = ...,
    temperature_lr: Any = ..., schedule: Any = ..., gamma: Float = 0.99,
    temperature: Float = 1.0, target_entropy: Float = -1.0, noise_correlation: Any = ...,
    policy_delay: Float = 1.0, max_grad_norm: Float = ..., optimizer: Any = ...,
    num_critics: int = 2, network: Any = ..., critic_network: Any = ..., n_step: int = 1,
    critic: Any = ..., targets: Any = ..., tau: Float = 0.005, target_period: Float = 1.0,
    target_actor: Bool = False, num_target_critics: Any = ..., num_policy_critics: Any = ...,
    policy_q: Any = ..., memory: Any = ..., burn_in: int = 8, sequence: int = 16,
    update_limit: Float = ..., priority: Any = ..., normalize_obs: Bool = False,
    normalize_reward: Bool = False, num_envs: int = 1, num_steps: int = 1, updates: int = 1,
    batch_size: int = 128, capacity: int = 50000, warmup: int = 1000, **paths: Any,
) -> OffPolicy:
    """Soft actor-critic (Haarnoja et al., 2018a, 2018b) for real actions; with a memory,
    RSAC."""
    ...

def sac_discrete(
    *, learner: Any = ..., actor: Any = ..., lr: Float = 0.0003, actor_lr: Any = ...,
    temperature_lr: Any = ..., schedule: Any = ..., gamma: Float = 0.99,
    temperature: Float = 1.0, target_entropy: Float = 0.98, noise_correlation: Any = ...,
    policy_delay: Float = 1.0, max_grad_norm: Float = ..., optimizer: Any = ...,
    num_critics: int = 2, network: Any = ..., critic_network: Any = ..., n_step: int = 1,
    critic: Any = ..., targets: Any = ..., tau: Float = 0.005, target_period: Float = 1.0,
    target_actor: Bool = False, num_target_critics: Any = ..., num_policy_critics: Any = ...,
    policy_q: Any = ..., memory: Any = ..., burn_in: int = 8, sequence: int = 16,
    update_limit: Float = ..., priority: Any = ..., normalize_obs: Bool = False,
    normalize_reward: Bool = False, num_envs: int = 1, num_steps: int = 1, updates: int = 1,
    batch_size: int = 128, capacity: int = 50000, warmup: int = 1000, **paths: Any,
) -> OffPolicy:
    """Soft actor-critic for discrete actions (Christodoulou, 2019)."""
    ...

def spo(
    *, rule: Any = ..., objective: Any = ..., clip: Float = 0.2, gamma: Float = 0.99,
    lam: Float = 0.95, entropy_weight: Float = 0.01, value_weight: Float = 0.5,
    value_clip: Float = ..., normalize_advantage: Bool = True, baseline: Bool = True,
    penalty: Any = ..., lr: Float = 0.00025, schedule: Any = ..., max_grad_norm: Float = 0.5,
    epoch_limit: Float = ..., normalize_obs: Bool = False, normalize_reward: Bool = False,
    optimizer: Any = ..., policy_step: Any = ..., controller: Any = ..., num_envs: int = 4,
    num_steps: int = 128, epochs: int = 4, minibatches: int = 4, network: Any = ...,
    memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """Simple policy optimisation (Xie et al., 2024): PPO with a parabola instead of
    clipping."""
    ...

def sqirl(
    *, learner: Any = ..., lr: Float = 0.001, schedule: Any = ..., gamma: Float = 0.99,
    fraction: Float = 0.9, max_grad_norm: Float = 10.0, optimizer: Any = ...,
    network: Any = ..., depth: int = 2, n_step: int = 1, update_limit: Float = ...,
    priority: Any = ..., normalize_obs: Bool = False, normalize_reward: Bool = False,
    num_envs: int = 8, num_steps: int = 64, updates: int = 64, batch_size: int = 128,
    capacity: int = 50000, warmup: int = 1000, **paths: Any,
) -> OffPolicy:
    """SQIRL (Laidlaw et al., 2024): random exploration, then `depth` steps of fitted
    Q-iteration, one time step after the other."""
    ...

def stream_ac(
    *, rule: Any = ..., gamma: Float = 0.99, lam: Float = 0.8, entropy_weight: Float = 0.01,
    policy_kappa: Float = 3.0, value_kappa: Float = 2.0, lr: Float = 1.0,
    normalize_obs: Bool = True, normalize_reward: Bool = True, num_steps: int = 16,
    network: Any = ..., **paths: Any,
) -> Stream:
    """Stream AC(lambda) (Elsayed et al., 2024): actor and critic, a step at a time."""
    ...

def stream_q(
    *, rule: Any = ..., backup: Any = ..., gamma: Float = 0.99, lam: Float = 0.8,
    exploration: Any = ..., epsilon_start: Float = 1.0, epsilon_end: Float = 0.01,
    epsilon_fraction: Float = 0.05, value_kappa: Float = 2.0, lr: Float = 1.0,
    normalize_obs: Bool = True, normalize_reward: Bool = True, num_steps: int = 16,
    network: Any = ..., **paths: Any,
) -> Stream:
    """Stream Q(lambda) (Elsayed et al., 2024): Watkins' Q(lambda), a step at a time."""
    ...

def stream_sarsa(
    *, rule: Any = ..., backup: Any = ..., gamma: Float = 0.99, lam: Float = 0.8,
    exploration: Any = ..., epsilon_start: Float = 1.0, epsilon_end: Float = 0.01,
    epsilon_fraction: Float = 0.05, value_kappa: Float = 2.0, lr: Float = 1.0,
    normalize_obs: Bool = True, normalize_reward: Bool = True, num_steps: int = 16,
    network: Any = ..., **paths: Any,
) -> Stream:
    """Stream SARSA(lambda) (Elsayed et al., 2024): a step at a time."""
    ...

def td3(
    *, learner: Any = ..., actor: Any = ..., noise: Float = 0.1, target_noise: Float = 0.2,
    target_noise_clip: Float = 0.5, lr: Float = 0.001, actor_lr: Any = ...,
    temperature_lr: Float = 0.0, schedule: Any = ..., gamma: Float = 0.99,
    temperature: Float = 1.0, target_entropy: Float = -1.0, noise_correlation: Any = ...,
    policy_delay: Float = 2.0, max_grad_norm: Float = ..., optimizer: Any = ...,
    num_critics: int = 2, network: Any = ..., critic_network: Any = ..., n_step: int = 1,
    critic: Any = ..., targets: Any = ..., tau: Float = 0.005, target_period: Any = ...,
    target_actor: Bool = True, num_target_critics: Any = ..., num_policy_critics: int = 1,
    policy_q: Any = ..., memory: Any = ..., burn_in: int = 8, sequence: int = 16,
    update_limit: Float = ..., priority: Any = ..., normalize_obs: Bool = False,
    normalize_reward: Bool = False, num_envs: int = 1, num_steps: int = 1, updates: int = 1,
    batch_size: int = 128, capacity: int = 50000, warmup: int = 1000, **paths: Any,
) -> OffPolicy:
    """Twin delayed deterministic policy gradients (Fujimoto et al., 2018); with a memory,
    RTD3."""
    ...

def trpo(
    *, rule: Any = ..., objective: Any = ..., gamma: Float = 0.99, lam: Float = 0.95,
    entropy_weight: Float = 0.0, value_weight: Float = 0.5, value_clip: Float = ...,
    normalize_advantage: Bool = True, baseline: Bool = True, penalty: Any = ...,
    lr: Float = 0.001, schedule: Any = ..., max_grad_norm: Float = 0.5,
    epoch_limit: Float = ..., normalize_obs: Bool = False, normalize_reward: Bool = False,
    optimizer: Any = ..., policy_step: Any = ..., max_kl: Float = 0.01, damping: Float = 0.1,
    iterations: int = 10, halvings: int = 10, controller: Any = ..., num_envs: int = 8,
    num_steps: int = 128, epochs: int = 10, minibatches: int = 4, network: Any = ...,
    memory: Any = ..., **paths: Any,
) -> OnPolicy:
    """Trust region policy optimisation (Schulman et al., 2015), with generalized advantage
    estimates (2016)."""
    ...
