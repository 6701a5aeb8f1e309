"""Adaptability in multi-agent reinforcement learning, a review: the return that trained teams lose
when the number of agents, the landmarks or the dynamics change, and the steps to recovery.

Teams of three learn to cover landmarks, and are tested on episodes of twice the length.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs.spread import Particles, Spread
from experiments.claims import Arm, Check, Claim, ratio
from experiments.claims.claim import Results
from jaxrl import rollout
from jaxrl.tree import replace

HALF, EPISODES = 25, 128
BACK = 0.8  # share of what is saved without a shift, from which on a team has recovered
SHIFTS = ("2 agents", "4 agents", "goals move", "no friction")  # the last two come halfway
RELU = functools.partial(rl.MLP, activation=jax.nn.relu, layer_norm=True)
SIZES = {"num_envs": 32, "gamma": 0.95}
ON = SIZES | {"num_steps": 25, "lr": 3e-3, "normalize_reward": True}
OFF: Any = SIZES | {"num_steps": 2, "updates": 2, "batch_size": 64, "capacity": 20_000}
OFF |= {"warmup": 2000, "network": RELU((64, 64)), "target_period": 100.0}
TEAMS = {
    "IPPO": rl.ppo(network=rl.MLP((64, 64)), **ON),
    "MAPPO": rl.ppo(network=rl.Views(rl.MLP((64, 64)), reads={"value": "state"}), **ON),
    "VDN": rl.dqn(mixer=rl.Additive(), **OFF),
    "QMIX": rl.dqn(mixer=rl.Monotonic(hypernetwork=RELU((64,))), **OFF),
}


def nearest(off: jax.Array, num: int) -> jax.Array:
    """Of points at these offsets [A, M, 2] the nearest ones; the last is repeated. [A, 2 num]."""
    order = (off**2).sum(-1).argsort(-1)[:, np.minimum(np.arange(num), off.shape[1] - 1)]
    return jnp.take_along_axis(off, order[..., None], 1).reshape(len(off), -1)


@rl.pytree
class World(Spread):
    """Spread in which an agent observes three landmarks and two agents, the nearest ones."""

    def observe(self, state: Particles) -> jax.Array:
        to = lambda points: points[None] - state.position[:, None]
        others = nearest(to(state.position), 3)[:, 2:]  # the nearest is the agent itself
        near = nearest(to(state.landmarks), 3)
        return jnp.concatenate([state.velocity, state.position, near, others], -1)


def rewards(key: jax.Array, policy: rl.Policy, num: int, moves: Any, damping: Any) -> jax.Array:
    """Mean reward of an agent at each step of the second half, per landmark. [HALF].

    moves: True if the landmarks are drawn anew halfway. damping: in the second half.
    """
    key_reset, key_first, key_goals, key_second = jax.random.split(key, 4)
    env = World(num_agents=num, max_steps=2 * HALF)
    start = jax.vmap(lambda key: rollout.reset(key, env))(jax.random.split(key_reset, EPISODES))
    half, _ = rollout.rollout(key_first, env, policy, start, HALF)
    drawn = jax.random.uniform(key_goals, half.state.landmarks.shape, minval=-1.0)
    state = replace(half.state, landmarks=jnp.where(moves, drawn, half.state.landmarks))
    half = replace(half, state=state, obs=jax.vmap(env.observe)(state))
    _, steps = rollout.rollout(key_second, replace(env, damping=damping), policy, half, HALF)
    return steps.reward.mean(1) / num


def run(seed: jax.Array, name: str, steps: int) -> dict[str, jax.Array]:
    """The share of the cost of random actions that a trained team saves in the second half of an
    episode, without a shift, [], and with each, [SHIFTS]; and the steps to recovery, [2].
    """
    key, key_test = jax.random.split(jax.random.key(seed))
    algo, central = TEAMS[name], name == "MAPPO"
    wrap = {"IPPO": lambda env: env, "MAPPO": rl.envs.WithState}.get(name, rl.envs.SharedReward)
    env = wrap(World())
    state, _ = rl.Training(algo, env, steps, evals=1, episodes=0)(key)
    trained = algo.policy(env, algo.agent(state), greedy=True)
    # the critic reads zeros, as no action depends on it
    whole = jnp.zeros_like(state.episodes.obs["state"][0, 0]) if central else ()
    full = lambda obs: {"obs": obs, "state": whole} if central else obs
    policy = lambda key, episode: trained(key, replace(episode, obs=full(episode.obs)))
    random = lambda key, episode: ((), World.action_space.sample(key), ())

    def saved(num: int, *changes: tuple[bool, float]) -> jax.Array:
        """The share of the cost that is saved, with each change halfway. [changes, HALF]."""
        cost = rewards(key_test, rl.Policy(random), num, False, 0.25).mean()
        play = functools.partial(rewards, key_test, rl.Policy(policy), num)
        return 1.0 - jax.vmap(play)(*map(jnp.array, zip(*changes, strict=True))) / cost

    usual, *late = saved(3, (False, 0.25), (True, 0.25), (False, 0.0))
    early = (saved(num, (False, 0.25))[0] for num in (2, 4))
    low = jnp.stack(late) < BACK * usual
    recovery = (low * jnp.arange(1.0, HALF + 1)).max(-1)
    shifted = jnp.stack([*early, *late]).mean(-1)
    return {"usual": usual.mean(), "shifted": shifted, "recovery": recovery}


def matrix(results: Results) -> rl.stats.Interval:
    """The share of what a team saves that it loses by each shift. [teams, shifts]."""
    found = []
    for name in TEAMS:
        usual = results[name]["usual"].values
        lost = usual - results[name]["shifted"].transpose(..., "seed").values
        found.append([ratio(x, usual) for x in lost])
    return rl.stats.Interval(*np.moveaxis(np.array(found, float), -1, 0))


def apart(results: Results) -> Any:
    _, low, high = matrix(results)
    return (low.max(1) - high.min(1)).min()


def of(name: str, what: str, about: str, accept: str, i: Any = ..., **options: Any) -> Check:
    value = lambda results: results[name][what].transpose(..., "seed").values[i]
    return Check(f"{about}, {name}", value, accept, **options)


def draw(results: Results, axes: Any) -> None:
    axes.figure.set_size_inches(7, 3.2)
    rl.plot.matrix(matrix(results), list(TEAMS), SHIFTS, label="share lost", ax=axes)


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(120 * scale), 3) * 800
    wide = lambda results: np.ptp(matrix(results)[1:], 0).max()
    saves = "share of the cost of random actions that is saved without a shift"
    takes = f"steps, up to {HALF}, until {BACK:.0%} of it is saved again"
    return [
        Claim(
            row=164,
            statement="One command yields the share of their gain over random actions that IPPO, "
            "MAPPO, VDN and QMIX lose by each of four shifts, in intervals of at most 0.2 that "
            "separate two shifts at least for each; the interquartile mean seed recovers in time.",
            arms={n: Arm(functools.partial(run, name=n, steps=steps), steps) for n in TEAMS},
            accept=[
                Check("widest interval of a share lost, 4 teams and 4 shifts", wide, "<= 0.2"),
                Check("separation of two shifts by their ends, least of all teams", apart, "> 0"),
                *(of(name, "recovery", f"{takes}, goals move", f"< {HALF}", 0) for name in TEAMS),
                *(of(name, "recovery", f"{takes}, no friction", f"< {HALF}", 1) for name in TEAMS),
                *(of(name, "usual", saves, "> 0", control=True) for name in TEAMS),
            ],
            worlds=["Spread with three agents, tested with two to four"],
            metric="usual",
            changed="After trials: learning rates, discounts, steps, the damping.",
            unmatched="Spread alone; no team learns after a shift; few fall without friction.",
            draw=draw,
        )
    ]
