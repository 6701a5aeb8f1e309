"""Optimism for the average reward (LOOP, in its tabular form): an optimistic gain and bias, planned
anew only where a count has doubled; beside differential Q-learning."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs import processes
from envs.tabular import river_swim
from experiments.claims import Arm, Check, Claim
from jaxrl import tabular

S, A = 6, 2
BLOCK = 32  # steps between two tests of the counts
POINTS = 128


def world_of(key, world):
    """Transition, mean reward and the loss of each action: its sum is the regret, up to a span."""
    pair = river_swim(S), processes.bounded(key, S, A)
    pick = lambda x, y: jnp.where(world == 0, x, y)
    transition = pick(pair[0].transition, pair[1].transition)
    reward = pick(*(tabular.expected_reward(each) for each in pair))
    gain, bias = tabular.gain_and_bias(transition, reward, num_iterations=5000)
    q = reward + transition @ bias - gain
    return transition, reward, jnp.maximum(q.max(-1, keepdims=True) - q, 0.0)


def optimistic(counts: tabular.Counts, scale, bias):
    """A greedy policy [S] and the bias: as much of the probability of an action as may be wrong
    leads to the best state.
    """
    visits = jnp.maximum(counts.visits, 1.0)
    width = scale * jnp.sqrt(jnp.log(40 * S * A * visits * (visits + 1)) / visits)
    width = jnp.where(counts.visits < 1, 1.0, jnp.minimum(width, 1.0))
    model = (1 - width)[..., None] * counts.transition
    reward = jnp.minimum(counts.reward + width, 1.0)
    bonus = lambda value: width * value.max()
    _, bias = tabular.gain_and_bias(model, reward, bonus=bonus, bias=bias, num_iterations=50)
    return (reward + model @ bias + bonus(bias)).argmax(-1), bias


def loop(reward, scale):
    """State, what is done before a block, action, and state after a step, of LOOP."""

    def plan(state):
        visits = state["counts"].visits
        policy, bias = optimistic(state["counts"], scale, state["bias"])
        due = (visits >= 2 * jnp.maximum(state["planned"], 1.0)).any()
        new = {"policy": policy, "planned": visits, "switches": state["switches"] + 1}
        kept = {name: jnp.where(due, x, state[name]) for name, x in new.items()}
        return state | kept | {"bias": bias}

    def learn(state, at, action, new):
        seen = tabular.Episode(jnp.stack([at, new]), action[None], reward[at, action][None])
        return state | {"counts": state["counts"].add(seen)}

    state = {"counts": tabular.Counts.zeros(S, A), "planned": jnp.zeros((S, A))}
    state |= {"policy": jnp.zeros(S, jnp.int32), "bias": jnp.zeros(S), "switches": jnp.int32(0)}
    return state, plan, lambda key, state, at: state["policy"][at], learn


def differential_q(reward, lr, epsilon):
    """The same of differential Q-learning with epsilon-greedy actions (Wan et al., 2021)."""

    def act(key, state, at):
        key_explore, key_random = jax.random.split(key)
        explore = jax.random.uniform(key_explore) < epsilon
        return jnp.where(explore, jax.random.randint(key_random, (), 0, A), state["q"][at].argmax())

    def learn(state, at, action, new):
        q, gain = state["q"], state["gain"]
        error = lr * (reward[at, action] - gain + q[new].max() - q[at, action])
        return state | {"q": q.at[at, action].add(error), "gain": gain + 0.1 * error}

    state = {"q": jnp.zeros((S, A)), "gain": jnp.zeros(()), "switches": jnp.int32(0)}
    return state, lambda state: state, act, learn


def arm(learner, num_blocks: int, grid: dict) -> Arm:
    def run(seed, world, **setting):
        key_world, key_play = jax.random.split(jax.random.key(seed))
        transition, reward, loss = world_of(key_world, world)
        state, plan, act, learn = learner(reward, **setting)

        def step(carry, key):
            at, state, regret = carry
            key_act, key_next = jax.random.split(key)
            action = act(key_act, state, at)
            new = jax.random.choice(key_next, S, p=transition[at, action])
            return (new, learn(state, at, action, new), regret + loss[at, action]), None

        def block(carry, key):
            at, state, regret = carry
            carry, _ = jax.lax.scan(step, (at, plan(state), regret), jax.random.split(key, BLOCK))
            return carry, (carry[2], carry[1]["switches"])

        start = jnp.int32(0), state, jnp.zeros(())
        found = jax.lax.scan(block, start, jax.random.split(key_play, num_blocks))[1]
        regret, switches = (x.reshape(POINTS, -1)[:, -1] for x in found)
        return {"regret": regret, "switches": switches, "total": regret[-1]}

    return Arm(run, budget=num_blocks * BLOCK, tune=grid)


def curve(results, metric: str, world: int) -> np.ndarray:
    """Of LOOP. [seeds, POINTS]."""
    return results["LOOP"][metric].sel(world=world).transpose("seed", ...).values


def slope(world: int):
    t = np.arange(1, POINTS + 1)
    return lambda results: rl.stats.slope(t, curve(results, "regret", world), (8, POINTS))


def switches(results) -> np.ndarray:
    y = curve(results, "switches", 0).astype(float)
    return (y[:, -1] - y[:, 31]) / np.maximum(y[:, 31] - y[:, 7], 1)


def saved(results) -> np.ndarray:
    return (results["differential Q"]["total"] - results["LOOP"]["total"]).mean("world").values


def claims(scale: float = 1.0) -> list[Claim]:
    num_blocks = POINTS * max(1, round(32 * scale))
    scales = {"scale": tuple(np.geomspace(0.01, 1.0, 20).tolist())}
    rates = {"lr": (0.03, 0.1, 0.3, 1.0), "epsilon": (1e-4, 3e-4, 0.001, 0.003, 0.01)}
    arms = arm(loop, num_blocks, scales), arm(differential_q, num_blocks, rates)
    return [
        Claim(
            row=16,
            statement="Optimistic planning with O(log T) policy switches has a regret that grows "
            "at most about as sqrt(T), below that of differential Q-learning.",
            arms={"LOOP": arms[0], "differential Q": arms[1]},
            accept=[
                Check("log-log slope of regret, RiverSwim", slope(0), "<= 0.55"),
                Check("log-log slope of regret, random processes", slope(1), "<= 0.55"),
                Check("switches in T/4 to T over those in T/16 to T/4", switches, "<= 1.5"),
                Check("regret of differential Q-learning less that of LOOP", saved, "> 0"),
            ],
            worlds=["RiverSwim", f"random processes, S={S}, A={A}"],
            axes={"world": (0, 1)},
            metric="total",
            minimize=True,
            changed="After measurements with a setting at the edge of its grid: wider grids.",
            unmatched="Counts stand in for function classes; the baseline's epsilon is constant.",
        )
    ]
