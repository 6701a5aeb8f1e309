"""Go-Explore (Ecoffet et al., 2021): save states, return to them and explore from there; then train
a policy that is robust to noise, by the backward algorithm along the best episode.

PPO with random network distillation plays the same map, with as many steps and the same network.
"""

import functools

import jax
import jax.numpy as jnp

import jaxrl as rl
from envs.key_door import KeyDoor
from envs.key_door_levels import drawn
from envs.wrappers import StickyActions, Wrapper
from experiments.claims import Arm, Check, Claim, share
from jaxrl import teachers
from jaxrl.archives import GoExplore, Numbered
from jaxrl.exploration import RND
from jaxrl.rollout import play_episodes
from jaxrl.tree import replace

ROOMS = """
#############
#   #  ^#  b#
# S A       #
#   #^  #^  #
# #########B#
#   #   #   #
# ^   ^ # ^ #
#a  #  ^#  *#
#############
"""
STICKY = 0.25
PPO = functools.partial(rl.ppo, num_envs=16, num_steps=32, gamma=0.98, network=rl.MLP((32,)))


@rl.pytree
class Short(Wrapper):
    """The cell of the agent one-hot, and its keys and opened doors. [cells + 2 colours]."""

    env: KeyDoor

    def reset(self, key):
        state, _ = self.env.reset(key)
        return state, self.observe(state)

    def step(self, key, state, action):
        state, step = self.env.step(key, state, action)
        return state, replace(step, obs=self.observe(state))

    def observe(self, state) -> jax.Array:
        place = state.position[0] * self.env.walls.shape[-1] + state.position[1]
        place = jax.nn.one_hot(place, self.env.num_cells)
        return jnp.concatenate([place, state.keys, state.opened])


MAP = drawn(ROOMS, max_steps=120)
ENV = Short(MAP)
CELLS = Numbered(MAP.num_states)


def number(state, obs) -> jax.Array:
    """The number of a state. [1]."""
    return MAP.cell(state)[None]


def successes(key: jax.Array, algo: rl.Algorithm, agent) -> jax.Array:
    """The share of 32 greedy episodes with sticky actions that find the treasure. []."""
    env = StickyActions(ENV, STICKY)
    policy = algo.policy(env, agent, greedy=True)
    return play_episodes(key, env, policy, 32).info["success"].mean()


def go_explore(seed, lr, repeat, first: int, second: int) -> dict[str, jax.Array]:
    """Both phases, with `first` and `second` steps."""
    keys = jax.random.split(jax.random.key(seed), 4)
    search = GoExplore(CELLS, number, repeat, num_steps=50)
    found, _ = rl.Training(search, ENV, first, evals=1, episodes=0)(keys[0])
    best = search.policy(ENV, search.agent(found), greedy=True)
    demonstration = teachers.demonstrate(keys[1], StickyActions(ENV, 0.0), best)
    starts = teachers.Starts(StickyActions(ENV, STICKY), demonstration)
    algo = rl.Taught(PPO(lr=lr), teachers.Backward(move=0.05), num_levels=16)
    learned, _ = rl.Training(algo, starts, second, evals=1, episodes=0)(keys[2])
    success = successes(keys[3], algo.algo, algo.agent(learned))
    return {"found": (found.best_return > 0.0).astype(jnp.float32), "success": success}


def with_rnd(seed, lr, weight, steps: int) -> dict[str, jax.Array]:
    """PPO with random network distillation from the start of the map."""
    key_train, key_test = jax.random.split(jax.random.key(seed))
    algo = rl.Rewarded(PPO(lr=lr), RND(weight=weight, size=16, network=rl.MLP((32,))))
    training = rl.Training(algo, StickyActions(ENV, STICKY), steps, evals=1, episodes=0)
    success = successes(key_test, algo, algo.agent(training(key_train)[0]))
    return {"found": (success > 0.0).astype(jnp.float32), "success": success}


def claims(scale: float = 1.0) -> list[Claim]:
    first, second = (max(int(x * scale), 1) * 3200 for x in (10, 60))
    both = functools.partial(go_explore, first=first, second=second)
    rnd, rates = functools.partial(with_rnd, steps=first + second), (1e-3, 3e-3)
    values = lambda results, arm: results[arm]["success"].values

    def found(arm: str, accept: str) -> Check:
        measure = lambda results: share(results[arm]["found"].values)
        return Check(f"share of runs of {arm} that find the treasure", measure, accept)

    return [
        Claim(
            row=88,
            statement="In rooms with keys and hazards, Go-Explore finds the treasure with fewer "
            "steps than PPO with RND plays without any success, and its policy succeeds in at "
            "least 90 % of episodes with sticky actions.",
            arms={
                "Go-Explore": Arm(both, first + second, {"lr": rates, "repeat": (0.3, 0.6)}),
                "PPO with RND": Arm(rnd, first + second, {"lr": rates, "weight": (0.1, 1.0)}),
            },
            metric="success",
            accept=[
                found("Go-Explore", ">= 0.9"),
                found("PPO with RND", "<= 0.06"),
                Check(
                    "success of Go-Explore less 4 times that of PPO with RND",
                    lambda x: values(x, "Go-Explore") - 4.0 * values(x, "PPO with RND"),
                    "> 0",
                ),
                Check(
                    "mean success of Go-Explore with sticky actions",
                    lambda results: values(results, "Go-Explore"),
                    ">= 0.9",
                    rl.stats.mean,
                ),
            ],
            worlds=["KeyDoor of six rooms"],
            changed="After a trial: twice the steps of the second phase.",
            unmatched="One demonstration is learned from, and the map is deterministic but for "
            "sticky actions, with cells that are its exact states.",
        )
    ]
