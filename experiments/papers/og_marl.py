"""OG-MARL (Formanek et al., 2023): data sets of teams at several qualities, and baselines that
learn from them alone.

A team is trained by independent PPO. Policies of its training play the data sets: the last one
(Good), those with returns next to 60 % (Medium) and 30 % (Poor) of its return, and all of them in
equal shares (Replay). Behavioural cloning (BC) is compared with conservative Q-learning of each
agent (IQL+CQL) and of the team (QMIX+CQL).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs.foraging import Foraging
from experiments.claims import Arm, Check, Claim, ratio
from experiments.claims.claim import Results
from jaxrl import rollout
from jaxrl.algorithms.conservative import Conservative
from jaxrl.clock import Clock
from jaxrl.tree import replace

WORLD: Any = rl.envs.SharedReward(Foraging(size=6, max_steps=25))
SNAPSHOTS, SHARES = 8, {"Good": 1.0, "Medium": 0.6, "Poor": 0.3}
SETS = (*SHARES, "Replay")
ENVS, ROWS, EPISODES = 32, 128, 64  # a data set has ENVS * ROWS steps of the team
RELU = functools.partial(rl.MLP, activation=jax.nn.relu, shared=True, layer_norm=True)
LEARNER: dict[str, Any] = {"gamma": 0.95, "target_period": 100.0, "network": RELU((32, 32))}
QMIX = rl.Monotonic(embed=16, hypernetwork=RELU((32,)))
ALPHAS = (0.003, 0.01, 0.03, 0.1)
ARMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # fields, and those that are tuned
    "BC": ({"td_weight": 0.0, "mixer": None}, {"lr": (3e-4, 1e-3, 3e-3, 1e-2)}),
    "IQL+CQL": ({"lr": 1e-3, "mixer": None}, {"penalty": ALPHAS}),
    "QMIX+CQL": ({"lr": 1e-3, "mixer": QMIX}, {"penalty": ALPHAS}),
}


def played(key: jax.Array, steps: int) -> tuple[rl.Transition, jax.Array]:
    """The data sets, [SETS, ROWS, ENVS, A], and their profiles, [SETS, 4]."""
    key_train, key_play = jax.random.split(key)
    algo = rl.ppo(lr=3e-3, gamma=0.95, num_envs=32, num_steps=25, network=rl.MLP((32, 32)))
    training = rl.Training(algo, WORLD, steps, SNAPSHOTS, episodes=0)

    def row(state: Any, i: jax.Array) -> tuple[Any, tuple[Any, jax.Array]]:
        state, metrics = training.run_row(key_train, state, i)
        return state, (algo.agent(state), metrics["return"])

    start = training.init(key_train)
    _, (agents, returns) = jax.lax.scan(row, start, jnp.arange(SNAPSHOTS))
    near = [jnp.abs(returns - share * returns[-1]).argmin() for share in SHARES.values()]
    which = jnp.stack([*(jnp.full(ENVS, i) for i in near), jnp.arange(ENVS) % SNAPSHOTS])

    def play(key: jax.Array, i: jax.Array) -> rl.Transition:
        policy = algo.policy(WORLD, jax.tree.map(lambda x: x[i], agents), greedy=False)
        key_reset, key_play = jax.random.split(key)
        start = jax.tree.map(lambda x: x[None], rollout.reset(key_reset, WORLD, policy.rnn_state))
        return rollout.rollout(key_play, WORLD, policy, start, ROWS)[1]

    data = jax.vmap(jax.vmap(play, out_axes=1))(jax.random.split(key_play, which.shape), which)
    return data, jax.vmap(profile)(data)


def profile(data: rl.Transition) -> jax.Array:
    """Mean return of a team and its deviation, share of episodes in which it collects all food, and
    share of the steps that differ from all others in the observation or an action. [4].
    """
    ended = data.done.all(-1)
    mean = lambda x: (x * ended).sum() / jnp.maximum(ended.sum(), 1)
    score = data.episode_return.sum(-1)
    spread = jnp.sqrt(mean((score - mean(score)) ** 2))
    seen = jnp.concatenate([data.obs[..., 0, :], data.action.astype(jnp.float32)], -1)
    code = jnp.sort((seen @ jnp.sqrt(2.0 + jnp.arange(seen.shape[-1]))).ravel())
    success = mean(data.episode_info["success"][..., 0])
    return jnp.stack([mean(score), spread, success, (jnp.diff(code) > 0.0).mean()])


def run(seed, name: str, steps: int, updates: int, **tuned: Any) -> dict[str, jax.Array]:
    """Greedy returns of a team after learning from each data set [SETS], and their profiles."""
    key_data, key = jax.random.split(jax.random.key(seed))
    data, profiles = played(key_data, steps)
    learner = Conservative(**LEARNER, **ARMS[name][0], **tuned)
    sizes: Any = {"num_envs": ENVS, "capacity": ENVS * ROWS * WORLD.num_agents, "warmup": 32}
    algo = rl.OffPolicy(learner=learner, updates=updates, batch_size=32, **sizes)

    def learned(key: jax.Array, data: rl.Transition) -> jax.Array:
        key_init, key_learn, key_test = jax.random.split(key, 3)
        if not learner.mixes:  # each agent is a stream of its own
            data = jax.tree.map(lambda x: x.reshape(ROWS, -1, *x.shape[3:]), data)
        replay, clock = algo.load(data, data.reward.shape[1]), Clock(10**6, float("inf"))
        state = replace(algo.init(key_init, WORLD), replay=replay, clock=clock)
        state, _ = algo.learn(key_learn, WORLD, state, None)
        return algo.evaluate(key_test, WORLD, state, EPISODES).episode_return.sum(-1).mean()

    returns = jax.vmap(learned)(jax.random.split(key, len(SETS)), data)
    return {"evaluation": returns, "profile": profiles}


def claims(scale: float = 1.0) -> list[Claim]:
    updates, steps = max(int(1500 * scale), 2), max(int(250 * scale), SNAPSHOTS) * 800

    def values(results: Results, arm: str, data: str) -> np.ndarray:
        return results[arm]["evaluation"].transpose("seed", ...).values[:, SETS.index(data)]

    def profiles(results: Results, arm: str = "BC") -> np.ndarray:
        return results[arm]["profile"].transpose("seed", ...).values

    def above_cloning(arm: str, data: str) -> Check:
        of = lambda results, name: values(results, name, data)
        measure = lambda results: rl.stats.difference(of(results, arm), of(results, "BC"))
        return Check(f"return after learning from {data}, {arm} less BC", measure, "> 0")

    def better(first: str, second: str) -> Check:
        one, two = SETS.index(first), SETS.index(second)
        measure = lambda results: profiles(results)[:, one, 0] - profiles(results)[:, two, 0]
        return Check(f"return of the data, {first} less {second}", measure, "> 0", control=True)

    def cloned(results: Results) -> rl.stats.Interval:
        return ratio(values(results, "BC", "Good"), profiles(results)[:, 0, 0])

    def largest(results: Results) -> float:
        return max(np.abs(profiles(results, arm) - profiles(results)).max() for arm in ARMS)

    def arm(name: str) -> Arm:
        one = functools.partial(run, name=name, steps=steps, updates=updates)
        return Arm(one, steps + len(SETS) * ENVS * ROWS, ARMS[name][1])

    return [
        Claim(
            row=163,
            statement="On foraging, conservative Q-learning of agents and of the team has higher "
            "returns than cloning after learning from Poor and Replay data; cloning keeps 90 % of "
            "the return of Good data; and data made again from a seed have the same profile.",
            arms={name: arm(name) for name in ARMS},
            accept=[
                *(above_cloning(x, data) for data in ("Poor", "Replay") for x in list(ARMS)[1:]),
                Check("return of BC from Good data / of that data", cloned, ">= 0.9"),
                Check("largest difference of a profile between three programs", largest, "<= 1e-6"),
                better("Good", "Medium"),
                better("Medium", "Poor"),
            ],
            worlds=["Foraging, 6 by 6 cells, two agents of two levels, two items of food"],
            unmatched="One small world in place of SMAC and others; PPO in place of QMIX makes the "
            "data; MAICQ is left out, and data are not written to files.",
        )
    ]
