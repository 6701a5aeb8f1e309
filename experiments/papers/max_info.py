"""MaxInfoRL (Sukhija et al., 2025): Boltzmann exploration of the sum of value and information gain,
with a weight of the gain that rises where the policy gains less than its own slow average.

Tables in place of SAC: values are planned with the empirical model, and the information gain of a
state and action after n visits is log(1 + 1 / (n + 1)) / 2, as for the mean of a normal variable.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs import processes
from envs.tabular import TabularMDP
from experiments.claims import Arm, Check, Claim, beats
from jaxrl.tabular import Counts, Episode, Plan, backward, optimal_value, play_episodes

DEPTH, ACTIONS = 6, 3
PULLS, POINTS = 2000, 20
FIRST = 4  # point from which on the slope is fitted
SLOW = 0.02  # rate of the slow average of policies


def gain(counts: Counts) -> jax.Array:
    """The information gain of each state and action, in nats. [S, A]."""
    return 0.5 * jnp.log1p(1.0 / (counts.visits + 1.0))


@rl.pytree
class Boltzmann:
    """The policy softmax(Q / temperature), for the reward plus weight * gain.

    rate: of learning the logarithm of the weight, by the gain in the rest of an episode; 0 keeps
    it. epsilon: probability of a random action.
    """

    temperature: float = 0.03
    weight: float = 0.0
    rate: float = 0.0
    epsilon: float = 0.0

    def init(self, num_states: int, num_actions: int, horizon: int) -> tuple:
        slow = jnp.full((horizon, num_states, num_actions), 1.0 / num_actions)
        weight = jnp.asarray(self.weight, jnp.float32)
        return Counts.zeros(num_states, num_actions), weight, slow

    def policy(self, state: tuple, horizon: int) -> jax.Array:
        """[H, S, A]."""
        counts, weight, _ = state
        q = backward(counts.transition, counts.reward + weight * gain(counts), horizon)
        return jax.nn.softmax(q / self.temperature)

    def plan(self, state: tuple, horizon: int) -> Plan:
        policy = self.policy(state, horizon)
        mixed = (1.0 - self.epsilon) * policy + self.epsilon / policy.shape[-1]
        return Plan(mixed[None], jnp.ones(1))

    def update(self, state: tuple, episode: Episode) -> tuple:
        counts, weight, slow = state
        horizon = len(episode.action)
        policy, at = self.policy(state, horizon), (jnp.arange(horizon), episode.state[:-1])
        gains = backward(counts.transition, gain(counts), horizon)[at]  # of the rest of an episode
        missing = jnp.mean(jnp.sum((slow[at] - policy[at]) * gains, -1))
        weight *= jnp.exp(self.rate * missing)
        return counts.add(episode), weight, slow + SLOW * (policy - slow)


METHODS = {
    "MaxInfo": (functools.partial(Boltzmann, weight=1.0), "rate", (0.03, 0.1, 0.3)),
    "sum": (Boltzmann, "weight", (0.3, 1.0, 3.0)),
    "Boltzmann": (Boltzmann, "temperature", (0.01, 0.03, 0.1)),
    "random actions": (functools.partial(Boltzmann, 0.003), "epsilon", (0.03, 0.1, 0.3)),
}


def bandit(means: jax.Array) -> TabularMDP:
    """Arms of 0 or 1 with these means [A], as a process of one step from state 0."""
    pays = jnp.stack([0.0 * means, 1.0 - means, means], -1)
    transition = jnp.stack([pays, pays, pays])
    states = jnp.arange(3)
    return TabularMDP(transition, 1.0 * (states == 2)[None, None], states < 0, 1.0 * (states == 0))


def run(seed, setting, method: str, episodes: int, pulls: int) -> dict[str, jax.Array]:
    """The mean return on a lock, and the regret on a bandit at equally spaced pulls."""
    make, name, _ = METHODS[method]
    learner = make(**{name: setting})
    key_lock, key_play, key_means, key_pull = jax.random.split(jax.random.key(seed), 4)
    lock = processes.lock(key_lock, DEPTH, ACTIONS, slip=0.05)
    lost = play_episodes(key_play, lock, learner, DEPTH, episodes, points=10)["regret"][-1]
    arms = bandit(jax.random.uniform(key_means, (ACTIONS,)))
    regret = play_episodes(key_pull, arms, learner, 1, pulls, points=POINTS)["regret"]
    return {"return": optimal_value(lock, DEPTH) - lost / episodes, "regret": regret}


def slope(results) -> np.ndarray:
    """The slope of log regret over log pulls, from a fifth of the pulls on. [seeds]."""
    regret = results["MaxInfo"]["regret"].transpose("seed", ...).values[:, FIRST - 1 :]
    time = np.log(np.arange(FIRST, POINTS + 1))
    return np.polyfit(time, np.log(np.maximum(regret.T, 1e-6)), 1)[0]


def claims(scale: float = 1.0) -> list[Claim]:
    episodes, pulls = max(int(30 * scale), 1) * 10, max(int(PULLS * scale) // POINTS, 1) * POINTS
    return [
        Claim(
            row=206,
            statement="On combination locks, Boltzmann exploration of value and information gain "
            "with a learned weight earns more than without the gain and than random actions; on "
            "bandits its regret grows more slowly than the pulls.",
            arms={
                method: Arm(
                    functools.partial(run, method=method, episodes=episodes, pulls=pulls),
                    budget=episodes * DEPTH + pulls,
                    tune={"setting": settings},
                )
                for method, (_, _, settings) in METHODS.items()
            },
            metric="return",
            accept=[
                *(
                    beats("MaxInfo", other, "return")
                    for other in ("Boltzmann", "random actions", "sum")
                ),
                Check("log-log slope of the regret of MaxInfo on bandits", slope, "< 1"),
            ],
            changed="After trials: the weight is learned from gains in the rest of an episode, and "
            "against a slow average of policies in place of random actions; other grids.",
            worlds=[f"locks of depth {DEPTH} with {ACTIONS} actions", "bandits of three arms"],
            unmatched="Tables are planned with, in place of SAC, REDQ and DrQ with an ensemble.",
        )
    ]
