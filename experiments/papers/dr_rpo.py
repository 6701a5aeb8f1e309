"""Policy regularised robust reinforcement learning, DR-RPO (Gu et al., 2025): online optimistic
policies for the worst of the transitions in a set, close to a reference policy.

In a d-rectangular linear process P(s' | s, a) = sum_i phi_i(s, a) mu_i(s'), and each factor mu_i
may be any distribution within a distance rho_i of the nominal one: total variation or relative
entropy (KL). Backups are Q = r + bonus + sum_i phi_i min_mu E_mu V, with the factors estimated by
ridge regression, and the policy is pi_ref exp(Q / temperature), normalised.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from experiments.claims.claim import Arm, Check, Claim, Results, beats

STATES, ACTIONS, FACTORS, HORIZON = 10, 4, 5, 8  # the last state and factor are the hazard
TEMPERATURE = 0.1  # of the divergence from the reference, the uniform policy
BONUS = 0.05
SHIFT = 0.3  # P(hazard) that the test dynamics add to the fragile factors
RADIUS = {"non-robust": 0.0, "TV": 0.3, "KL": 0.8}  # of the fragile factors, which has the shift
FRAGILE = jnp.array([0.0, 0.0, 1.0, 1.0, 0.0])


def world(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Features [S, A, d], factors [d, S] and their rewards [d] of a random process, where fragile
    factors pay more, and lead to the hazard, without reward, with a probability of 0.02.
    """
    key_phi, key_mu, key_theta = jax.random.split(key, 3)
    phi = jax.nn.softmax(2 * jax.random.normal(key_phi, (STATES, ACTIONS, FACTORS - 1)))
    phi = jnp.pad(phi, [(0, 0), (0, 0), (0, 1)]).at[-1].set(jax.nn.one_hot(FACTORS - 1, FACTORS))
    mu = jax.nn.softmax(2 * jax.random.normal(key_mu, (FACTORS, STATES - 1)))
    mu = jnp.pad(mu, [(0, 0), (0, 1)]).at[-1].set(jax.nn.one_hot(STATES - 1, STATES))
    theta = jax.random.uniform(key_theta, (FACTORS,), minval=0.2, maxval=0.5) + 0.4 * FRAGILE
    return phi, shifted(mu, 0.02), theta.at[-1].set(0.0)


def shifted(mu: jax.Array, probability: float) -> jax.Array:
    """The factors, of which the fragile ones lead to the hazard with an additional probability."""
    rate = probability * FRAGILE[:, None]
    return (1 - rate) * mu + rate * jax.nn.one_hot(STATES - 1, STATES)


def worst(mu: jax.Array, value: jax.Array, method: str) -> jax.Array:
    """The smallest mean of a value [S] in the set of each factor, by its dual. [d]."""
    radius = RADIUS[method] * FRAGILE[:, None]
    if method == "non-robust":
        return mu @ value
    if method == "TV":
        dual = mu @ jnp.minimum(value[:, None], value) - radius * (value - value.min())
    else:
        scale = jnp.geomspace(0.02, 20.0, 30)
        tilted = mu @ jnp.exp(-(value[:, None] - value.min()) / scale)
        dual = value.min() - scale * (jnp.log(tilted + 1e-30) + radius)
    return jnp.where(FRAGILE > 0, dual.max(1), mu @ value)


def backward(
    phi: jax.Array, mu: jax.Array, reward: jax.Array, method: str, given: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The value from state 0, with the divergence as a cost, of the robust optimal policy or of a
    given one, [], and the policy, [H, S, A].
    """

    def back(value: jax.Array, at: Any) -> tuple[jax.Array, jax.Array]:
        q = jnp.minimum(reward + phi @ worst(mu, value, method), at[0])
        probs = jax.nn.softmax(q / TEMPERATURE) if given is None else at[1]
        divergence = (probs * jnp.log(ACTIONS * probs + 1e-30)).sum(-1)
        return (probs * q).sum(-1) - TEMPERATURE * divergence, probs

    steps = jnp.arange(1.0, HORIZON + 1)[::-1], given
    value, policy = jax.lax.scan(back, jnp.zeros(STATES), steps, reverse=True)
    return value[0], policy


def mean_return(phi: jax.Array, mu: jax.Array, reward: jax.Array, policy: jax.Array) -> jax.Array:
    """Expected return of a policy from state 0. []."""
    q = rl.tabular.backward(phi @ mu, reward, HORIZON, policy=policy)
    return (policy[0, 0] * q[0, 0]).sum()


def run(seed: jax.Array, method: str, episodes: int) -> dict[str, jax.Array]:
    """Returns of the last policy in the shifted and in the nominal dynamics, [], and the cumulative
    regret of the robust regularised value in the nominal set, [T].
    """
    key_world, key = jax.random.split(jax.random.key(seed))
    phi, mu, theta = world(key_world)
    reward = phi @ theta
    best = backward(phi, mu, reward, method)[0]

    def episode(now: Any, key: jax.Array) -> tuple[tuple, jax.Array]:
        inverse, arrived, _ = now
        estimate = jnp.maximum(inverse @ arrived, 0.0)
        estimate = estimate / jnp.maximum(estimate.sum(1, keepdims=True), 1e-6)
        bonus = BONUS * HORIZON * phi @ jnp.sqrt(jnp.diagonal(inverse))
        _, policy = backward(phi, estimate, reward + bonus, method)

        def act(now: Any, at: Any) -> tuple[tuple, None]:
            state, inverse, arrived = now
            key_act, key_next = jax.random.split(at[1])
            action = jax.random.categorical(key_act, jnp.log(at[0][state]))
            x = phi[state, action]
            new = jax.random.categorical(key_next, jnp.log(x @ mu))
            toward = inverse @ x
            inverse = inverse - jnp.outer(toward, toward) / (1 + x @ toward)
            return (new, inverse, arrived + jnp.outer(x, jax.nn.one_hot(new, STATES))), None

        keys = jax.random.split(key, HORIZON)
        (_, inverse, arrived), _ = jax.lax.scan(act, (0, inverse, arrived), (policy, keys))
        regret = best - backward(phi, mu, reward, method, policy)[0]
        return (inverse, arrived, policy), regret

    start = jnp.eye(FACTORS), jnp.zeros((FACTORS, STATES)), jnp.zeros((HORIZON, STATES, ACTIONS))
    (*_, policy), regret = jax.lax.scan(episode, start, jax.random.split(key, episodes))
    returns = [mean_return(phi, factors, reward, policy) for factors in (shifted(mu, SHIFT), mu)]
    return {"shifted": returns[0], "nominal": returns[1], "regret": regret.cumsum()}


def slope(arm: str) -> Check:
    """Log-log slope of the cumulative regret over the last four doublings of the episodes."""

    def measure(results: Results) -> np.ndarray:
        y = np.maximum(results[arm]["regret"].values, 1e-9)
        t = np.unique(np.geomspace(max(1, y.shape[1] // 16), y.shape[1], 17).astype(int))
        return rl.stats.slope(t, y[:, t - 1])

    return Check(f"log-log slope of the regret over episodes, {arm}", measure, "< 1")


def claims(scale: float = 1.0) -> list[Claim]:
    episodes = max(16, int(4096 * scale))
    part = functools.partial(run, episodes=episodes)
    arm = lambda name: Arm(functools.partial(part, method=name), episodes * HORIZON)
    robust = ("TV", "KL")
    return [
        Claim(
            row=241,
            statement="Policies that are optimal for the worst dynamics of a set have a higher "
            "return than non-robust ones if the dynamics shift, and their regret is sublinear.",
            arms={name: arm(name) for name in RADIUS},
            worlds=("linear process with a hazard",),
            unmatched="Rewards and radii are known; the sets have the shift; chi2 is left out.",
            accept=[beats(x, "non-robust", "shifted") for x in robust] + list(map(slope, robust)),
        )
    ]
