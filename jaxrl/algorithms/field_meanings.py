"""The meaning of each field of an algorithm: from its class's docstring, or from one table."""

import dataclasses
import functools
import inspect
import re

# Fields that many classes share, or that a docstring describes together with others, by the
# field's name or CLASS.FIELD; others have the text of their class's docstring.
MEANINGS = {
    "AdaptivePenalty.beta": "initial weight of the penalty on the KL divergence, which is adapted",
    "DPO.alpha": "scale of the drift where the advantage is positive",
    "DPO.beta": "scale of the drift where the advantage is negative",
    "Gaussian.epsilon": "constant added to divisors and to the weight of the loss",
    "LogLinear.limit": "limit of the absolute logarithm of a factor",
    "Munchausen.alpha": "weight of the log-probability of the action that is added to the reward",
    "Munchausen.temperature": "temperature of the softmax policy of the target",
    "Prioritized.alpha": "exponent of the priorities in sampling; 0 samples uniformly",
    "Prioritized.beta": "exponent of the importance weights at the start; it rises to 1",
    "SQIRL.fraction": "fraction of the training run in which the time step goes to the last",
    "SPO.clip": "distance of the probability ratio from 1 at which the objective is largest",
    "Stream.lr": "largest step size, which the overshooting bound lowers",
    "Stream.num_steps": "steps per update; it only affects speed",
    "actor": "form of the policy: `Squashed()`, `Deterministic()` or `Softmax()`",
    "actor_lr": "learning rate of the policy; None: `lr`",
    "actor_target_period": "gradient steps between two copies of the policy, which the new policy "
    "stays close to",
    "advantage": "advantage of each episode from the returns of its group",
    "atoms": "number of atoms of the histogram of returns",
    "backup": "policy of the targets",
    "bound": "samples of targets are clipped to this number of mean standard deviations",
    "burn_in": "with a memory: steps of a sequence that only restore the recurrent state",
    "clip": "largest distance of the probability ratio from 1",
    "controlled": "hyperparameters that the controller multiplies",
    "cosines": "number of cosines that embed a fraction",
    "critic_network": "builder of the critics' networks; None: `network`",
    "damping": "constant added to the diagonal of the Fisher matrix",
    "depth": "steps that action values look ahead",
    "double": "True for targets with the action that the online network selects (double DQN)",
    "dueling": "True for separate heads of values and advantages (Wang et al., 2016)",
    "entropy_weight": "weight of the policy's entropy in the objective",
    "epochs": "passes over a rollout",
    "eps": "slope of the linear part of the transformation",
    "epsilon_end": "final probability of a random action",
    "epsilon_fraction": "fraction of the training run over which epsilon decays from start to end",
    "epsilon_start": "initial probability of a random action",
    "gamma": "discount factor per step, from 0 to 1",
    "group_size": "number of episodes per group, from the same initial state",
    "iterations": "conjugate gradient iterations",
    "kappa": "threshold of the quantile Huber loss",
    "kl_weight": "weight of the penalty on the KL divergence",
    "lam": "decay of the traces or returns (lambda), from 0 (one step) to 1 (whole returns)",
    "learner": "learning from batches of the replay",
    "lr": "learning rate; `schedule` multiplies it",
    "max_c": "largest importance ratio of the traces",
    "max_grad_norm": "maximum global norm of the gradient, which is clipped",
    "max_log_std": "largest logarithm of the standard deviation of actions",
    "max_rho": "largest importance ratio of the targets",
    "memory": "recurrent cell, such as `rl.GRU(64)`; None: feedforward",
    "min_log_prob": "lower limit of log-probabilities in targets",
    "min_log_std": "smallest logarithm of the standard deviation of actions",
    "minibatches": "minibatches (gradient steps) per epoch; it must divide the rollout",
    "n_step": "rewards that a target sums before it bootstraps",
    "network": "builder of the networks, such as `rl.MLP((64, 64))`",
    "noise": "standard deviation of the exploration noise, on the scale of -1 to 1",
    "noise_correlation": "AR(1) coefficient of the exploration noise; None: white noise",
    "noisy": "True for noise on the parameters in exploration (Fortunato et al., 2018)",
    "normalize_advantage": "True for advantages of mean 0 and standard deviation 1 in each "
    "minibatch",
    "normalize_obs": "True for observations normalised by running statistics, which evaluation "
    "does not change",
    "normalize_reward": "True for rewards divided by the running standard deviation of the "
    "discounted return",
    "num_critics": "number of critics",
    "num_envs": "number of parallel environments",
    "num_policy_critics": "number of critics that the policy maximises, the first ones; None: all",
    "num_steps": "steps of each environment per update",
    "num_target_critics": "sampled critics over which targets take the minimum; None: all",
    "objective": "function of probability ratio and advantage that the policy maximises",
    "optimizer": "an `Optimizer`, or a function from a learning rate to an optax transformation",
    "penalty": "penalty on the distance between the old and the new policy; None: no penalty",
    "policy_delay": "gradient steps of the critics per gradient step of the policy",
    "policy_kappa": "safety factor of the policy's step size",
    "policy_q": 'the policy maximises the "min" or the "mean" of the critics\' values',
    "priority": "sampling from the replay: `rl.Uniform()` or `rl.Prioritized()`",
    "prioritized": "True for a replay that samples by priority",
    "quantiles": "number of quantiles of the return",
    "schedule": "factor on the learning rate as a function of the clock; `Linear()` decays to 0 at "
    "the end of the training run, `Cooldown(0.8)` only over its last fifth, `Constant()` is 1",
    "sequence": "with a memory: steps of a sequence that is learned from, after the burn-in",
    "size": "number of features",
    "spread_rate": "rate of the moving averages of the critics' standard deviations",
    "step_size": "step size of mirror descent",
    "target_entropy": "target of the learned temperature: entropy per dimension of a continuous "
    "action, or a fraction of log n",
    "target_kl": "target KL divergence of an update, for which the weight is adapted",
    "target_noise": "standard deviation of the noise on the targets' actions",
    "target_noise_clip": "largest absolute value of the noise on the targets' actions",
    "target_period": "gradient steps between two updates of the target networks",
    "targets": "how the target networks are updated",
    "tau": "Polyak step size of the target networks, from 0 to 1",
    "temperature": "weight of the policy's entropy; the initial weight if it is learned",
    "temperature_lr": "learning rate of the temperature; None: `lr`; 0: constant temperature",
    "transform": "transformation between returns and the values that are learned",
    "updates": "gradient steps per update",
    "v_max": "largest return of the histogram",
    "v_min": "smallest return of the histogram",
    "value_kappa": "safety factor of the step size of the values",
    "value_weight": "weight of the value loss",
}


def meaning(owner: type, field: str) -> str:
    """The meaning of a field in one sentence or more; "" where it is not described.

    A docstring describes fields as `name: text` or `name, other: text`, at the start of a line or
    sentence.
    """
    own = MEANINGS.get(f"{owner.__name__}.{field}") or MEANINGS.get(field)
    return own or _described(owner).get(field, "")


@functools.cache
def _described(owner: type) -> dict[str, str]:
    """The texts of a class's docstring, and of its bases', by the names of the class's fields."""
    names = sorted((field.name for field in dataclasses.fields(owner)), key=len, reverse=True)  # type: ignore[arg-type]
    word = "|".join(map(re.escape, names))
    entry = re.compile(rf"(?:(?<=\. )|^\s*)((?:{word})(?:, (?:{word}))*): ", re.MULTILINE)
    found: dict[str, str] = {}
    bases = [base for base in reversed(owner.__mro__) if base is not object and base.__doc__]
    for paragraph in "\n\n".join(inspect.getdoc(base) or "" for base in bases).split("\n\n"):
        entries = list(entry.finditer(paragraph))
        for i, match in enumerate(entries):
            end = entries[i + 1].start() if i + 1 < len(entries) else len(paragraph)
            text = " ".join(paragraph[match.end() : end].split()).rstrip(".;")
            found |= dict.fromkeys(match[1].split(", "), text)
    return found
