"""Maximize to explore (Liu et al., 2023): one objective for estimation and planning.

A hypothesis maximises V(first state) - eta * loss(data), by gradient steps after each episode, and
its greedy policy is played. The baselines minimise the loss alone, and explore by random actions.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrl as rl
from envs import processes
from experiments.claims import Arm, Check, Claim, beats
from jaxrl.tabular import Counts, Episode, Plan, backward, play_episodes

DEPTH, ACTIONS = 6, 3
ADAM = optax.adam(0.05)
TIE = 0.01


class Values:
    """Action values between 0 and 1; the loss is the Bellman error under the empirical model."""

    @staticmethod
    def init(num_states: int, num_actions: int, horizon: int) -> dict:
        return {"q": jnp.zeros((horizon, num_states, num_actions))}

    @staticmethod
    def q(params: dict, horizon: int) -> jax.Array:
        return params["q"]

    @staticmethod
    def loss(params: dict, counts: Counts, horizon: int) -> jax.Array:
        q = Values.q(params, horizon)
        after = jnp.concatenate([q[1:].max(-1), jnp.zeros((1, q.shape[1]))])
        target = counts.reward + jnp.einsum("sat,ht->hsa", counts.transition, after)
        return jnp.sum(counts.visits * (q - target) ** 2)


class Model:
    """Probabilities, and rewards between 0 and 1, with the negative log-likelihood as the loss."""

    @staticmethod
    def init(num_states: int, num_actions: int, horizon: int) -> dict:
        pairs = num_states, num_actions
        return {"logits": jnp.zeros((*pairs, num_states)), "reward": jnp.zeros(pairs)}

    @staticmethod
    def q(params: dict, horizon: int) -> jax.Array:
        return backward(jax.nn.softmax(params["logits"]), params["reward"], horizon)

    @staticmethod
    def loss(params: dict, counts: Counts, horizon: int) -> jax.Array:
        error = params["reward"] - counts.reward
        likelihood = jnp.sum(counts.arrived * jax.nn.log_softmax(params["logits"]))
        return jnp.sum(counts.visits * error**2) - likelihood


@rl.pytree
class Fit:
    """The greedy policy of a fitted hypothesis. eta: weight of the loss. epsilon: probability of a
    random action. optimistic: True for MEX, which adds the value of state 0 to the objective.
    """

    eta: float
    epsilon: float
    optimistic: bool = rl.static()
    kind: type = rl.static()

    def init(self, num_states: int, num_actions: int, horizon: int) -> tuple:
        params = self.kind.init(num_states, num_actions, horizon)
        return params, ADAM.init(params), Counts.zeros(num_states, num_actions)

    def plan(self, state: tuple, horizon: int) -> Plan:
        q = self.kind.q(state[0], horizon)
        best = q >= q.max(-1, keepdims=True) - TIE
        greedy = best / best.sum(-1, keepdims=True)
        return Plan(((1 - self.epsilon) * greedy + self.epsilon / ACTIONS)[None], jnp.ones(1))

    def update(self, state: tuple, episode: Episode) -> tuple:
        counts, horizon = state[2].add(episode), len(episode.action)

        def objective(params):
            loss = self.eta * self.kind.loss(params, counts, horizon)
            return loss - self.kind.q(params, horizon)[0, 0].max() if self.optimistic else loss

        def step(now, _):
            params, opt_state = now
            changes, opt_state = ADAM.update(jax.grad(objective)(params), opt_state)
            moved: Any = optax.apply_updates(params, changes)
            of_unit = {name: jnp.clip(x, 0, 1) for name, x in moved.items() if name != "logits"}
            return (moved | of_unit, opt_state), None

        return *jax.lax.scan(step, state[:2], length=30)[0], counts


def arm(kind: type, optimistic: bool, episodes: int) -> Arm:
    def run(seed, eta, epsilon):
        key_lock, key_play = jax.random.split(jax.random.key(seed))
        process = processes.lock(key_lock, DEPTH, ACTIONS, slip=0.05)
        learner = Fit(eta, epsilon, optimistic, kind)
        regret = play_episodes(key_play, process, learner, DEPTH, episodes, points=10)["regret"]
        return {"return": 0.95**DEPTH - regret[-1] / episodes}

    etas, epsilons = ((1.0, 3.0, 10.0), (0.0,)) if optimistic else ((1.0,), (0.03, 0.1, 0.3))
    return Arm(run, budget=episodes * DEPTH, tune={"eta": etas, "epsilon": epsilons})


def slower(kind: type, episodes: int) -> float:
    """Seconds of MEX / of its baseline, compiled, for 64 runs; the median of three each."""
    took = {}
    for is_mex in (True, False):
        run, times = jax.jit(jax.vmap(arm(kind, is_mex, episodes).run, (0, None, None))), []
        for i in range(4):
            start = time.perf_counter()
            jax.block_until_ready(run(jnp.arange(64) + i, 1.0, 0.1))
            times.append(time.perf_counter() - start)
        took[is_mex] = np.median(times[1:])
    return float(took[True] / took[False])


def claims(scale: float = 1.0) -> list[Claim]:
    episodes = max(int(30 * scale), 1) * 10
    kinds, names = {"values": Values, "model": Model}, {"MEX": True, "base": False}
    pairs = [(x, kind) for kind in kinds for x in names]
    in_time = lambda kind: Check(
        f"seconds of MEX / of its base on this machine, {kind}",
        lambda _: slower(kinds[kind], episodes),
        "<= 1.2",
    )
    return [
        Claim(
            row=93,
            statement="On combination locks, MEX has a higher return than fits of the same tables "
            "with random actions; by values it takes at most 1.2 times their time.",
            arms={f"{x}, {kind}": arm(kinds[kind], names[x], episodes) for x, kind in pairs},
            metric="return",
            accept=[
                *(beats(f"MEX, {kind}", f"base, {kind}", "return") for kind in kinds),
                *map(in_time, kinds),
            ],
            worlds=[f"locks of depth {DEPTH} with {ACTIONS} actions"],
            unmatched="Hypotheses are tables, in place of the networks of TD3 and MBPO, and the "
            "tasks locks, in place of locomotion.",
        )
    ]
