"""Fast rates for maximum entropy exploration (Tiapkin et al., 2023): visitation entropy as a game,
trajectory entropy by regularised backups.

Visitation entropy sums the entropies of d_h(s, a) over the steps h of an episode. In EntGame a
forecaster predicts d_h by the frequencies of the past, a sampler plays the policy that is
optimistic for the reward -log of them, and the mixture of its policies is the result. Trajectory
entropy is E sum_h -log pi_h(a | s) P(s' | s, a); soft backups (log-sum-exp) maximise it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr

import jaxrl as rl
from experiments.claims.claim import Arm, Check, Claim, Results

STATES, ACTIONS, HORIZON, SOFT = 8, 3, 6, "soft backups"
BONUS = 0.3  # of a pair that was visited once, per step that is left
UNMATCHED = "All steps share their counts; the bonus is 0.3 / sqrt(n) a step."
LEFT = jnp.arange(HORIZON, 0, -1.0)[:, None, None]  # [H, 1, 1]
UNIFORM = jnp.full((HORIZON, STATES, ACTIONS), 1 / ACTIONS)


def backward(model: jax.Array, reward: jax.Array, soft: bool, limit: jax.Array) -> jax.Array:
    """The policy of optimal or soft backups, with values up to a limit [H, 1, 1]. [H, S, A]."""

    def back(value: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        q = jnp.minimum(at[0] + model @ value, at[1])
        if soft:
            return jax.nn.logsumexp(q, -1), jax.nn.softmax(q)
        return q.max(-1), jax.nn.one_hot(q.argmax(-1), ACTIONS)

    return jax.lax.scan(back, jnp.zeros(STATES), (reward, limit), reverse=True)[1]


def forward(transition: jax.Array, policy: jax.Array) -> jax.Array:
    """P(s_h = s, a_h = a) of a policy from state 0. [H, S, A]."""
    return rl.tabular.occupancies(transition, jax.nn.one_hot(0, STATES), policy)


def flattest(model: jax.Array, true: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """Visitation entropy of Frank-Wolfe's mixture, planned with a model, in the true process, and
    an upper bound on that of all policies in the model. [], []."""

    def ahead(visits: jax.Array) -> jax.Array:
        return backward(model, -jnp.log(visits + 1e-12), False, 1e9 * LEFT)

    def step(k: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        policy = ahead(now[0])
        mix = lambda d, p: d + 2 / (k + 2) * (forward(p, policy) - d)
        return mix(now[0], model), mix(now[1], true)

    start = forward(model, UNIFORM), forward(true, UNIFORM)
    planned, real = jax.lax.fori_loop(1, steps, step, start)
    gain = -jnp.log(planned + 1e-12) * (forward(model, ahead(planned)) - planned)
    return entr(real).sum(), entr(planned).sum() + gain.sum()


def run(seed: jax.Array, method: str, episodes: int, plans: int) -> dict[str, jax.Array]:
    """Gaps to the largest entropy of visits, for the mixture of all policies so far, [T], and as
    planned at the end, []; and of trajectories, for soft backups without bonus, [T]."""
    key_env, key = jax.random.split(jax.random.key(seed))
    true = jax.nn.softmax(3 * jax.random.normal(key_env, (STATES, ACTIONS, STATES)))
    limit = jnp.log(STATES * ACTIONS)
    moves = lambda p: entr(p).sum(-1) * (LEFT > 1)
    soft = lambda p, bonus: backward(p, moves(p) + bonus * LEFT, True, limit * LEFT)

    def spread(policy: jax.Array) -> jax.Array:
        return (forward(true, policy) * (moves(true) + entr(policy).sum(-1, keepdims=True))).sum()

    best_visits, best_paths = flattest(true, true, plans)[1], spread(soft(true, 0.0))

    def estimate(counts: jax.Array) -> jax.Array:
        num = counts.sum(-1, keepdims=True)
        return jnp.where(num > 0, counts / jnp.maximum(num, 1), 1 / STATES)

    def episode(now: Any, at: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
        (counts, seen, mixture), (t, key) = now, at
        model = estimate(counts)
        bonus = BONUS / jnp.sqrt(jnp.maximum(counts.sum(-1), 1))
        if method == SOFT:
            policy = soft(model, bonus)
        elif method == "EntGame":
            num = t + STATES * ACTIONS
            reward = bonus * LEFT - jnp.log((seen + 1) / num)
            policy = backward(model, reward, False, LEFT * jnp.log(num))
        elif method == "reward-free":
            policy = backward(model, bonus * LEFT, False, 1e9 * LEFT)
        else:
            policy = UNIFORM

        def act(state: jax.Array, at: Any) -> tuple[jax.Array, Any]:
            key_act, key_next = jax.random.split(at[1])
            action = jax.random.categorical(key_act, jnp.log(at[0][state]))
            new = jax.random.categorical(key_next, jnp.log(true[state, action]))
            return new, (state, action, new)

        path = jax.lax.scan(act, jnp.int32(0), (policy, jax.random.split(key, HORIZON)))[1]
        counts, seen = counts.at[path].add(1), seen.at[jnp.arange(HORIZON), *path[:2]].add(1)
        mixture = mixture + (forward(true, policy) - mixture) / (t + 1)
        last = UNIFORM if method == "uniform policy" else soft(estimate(counts), 0.0)
        gaps = best_visits - entr(mixture).sum(), best_paths - spread(last)
        return (counts, seen, mixture), gaps

    start = jnp.zeros((STATES, ACTIONS, STATES)), jnp.zeros_like(UNIFORM), jnp.zeros_like(UNIFORM)
    rounds = jnp.arange(episodes), jax.random.split(key, episodes)
    (counts, *_), (visits, paths) = jax.lax.scan(episode, start, rounds)
    if method == SOFT:
        return {"paths": paths}
    planned = best_visits - flattest(estimate(counts), true, plans)[0]
    return {"visits": visits, "paths": paths, "planned": planned}


def slope(arm: str, name: str, accept: str) -> Check:
    """Log-log slope of a gap over the last four doublings of the episodes."""

    def measure(results: Results) -> np.ndarray:
        y = np.maximum(results[arm][name].values, 1e-9)
        t = np.unique(np.geomspace(max(1, y.shape[1] // 16), y.shape[1], 17).astype(int))
        return rl.stats.slope(t, y[:, t - 1])

    return Check("log-log slope of the gap over episodes", measure, accept)


def claims(scale: float = 1.0) -> list[Claim]:
    num = max(16, int(8192 * scale))
    part = functools.partial(run, episodes=num, plans=max(20, int(3000 * scale)))
    arms = lambda *names: {n: Arm(functools.partial(part, method=n), num) for n in names}
    last = lambda data, name: data[name].values[:, -1]
    saved = lambda x: x["reward-free"]["planned"].values - last(x["EntGame"], "visits")
    gain = lambda x: last(x["uniform policy"], "paths") - last(x[SOFT], "paths")
    other = Check("gap after reward-free exploration less that of EntGame, in nats", saved, "> 0")
    uniform = Check("gap of the uniform policy less that of soft backups, in nats", gain, "> 0")
    about = functools.partial(Claim, 392, worlds=("random process",), unmatched=UNMATCHED)
    visits = "EntGame's gap in visitation entropy falls at least as fast as 1 / sqrt(episodes), "
    visits += "and is below that of planning after as many reward-free episodes."
    paths = "Soft backups approach the largest trajectory entropy as 1 / episodes."
    first, second = ("EntGame", "reward-free", "uniform policy"), (SOFT, "uniform policy")
    return [
        about(visits, [slope("EntGame", "visits", "<= -0.5"), other], arms(*first)),
        about(paths, [slope(SOFT, "paths", "<= -0.9"), uniform], arms(*second)),
    ]
