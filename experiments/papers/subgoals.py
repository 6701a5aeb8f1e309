"""GMAH (Xu et al., 2024): a hierarchy. QMIX proposes subgoals to a team, a lower level acts.

Subgoals are visited cells, by no rule for the task: those at which the rest of the environment
mostly changes when an agent enters, then those entered least often. A decision ends when that
changes, all agents arrive, or after HORIZON steps. The lower level is a table for all goals.
"""

import functools

import jax
import jax.numpy as jnp

import jaxrl as rl
from envs.doors import STAY, Doors
from experiments.claims import Arm, Check, Claim
from jaxrl.masks import Masked

HORIZON, DECISIONS, SUBGOALS, ENVS, EVALS, WINS = 8, 8, 10, 8, 40, 0.8
WORLD = Doors(max_steps=HORIZON * DECISIONS)
CELLS, ACTIONS = WORLD.num_cells, STAY + 1
NETWORK = rl.MLP((32,), activation=jax.nn.relu, shared=True, layer_norm=True)
QMIX = rl.Monotonic(embed=16, hypernetwork=NETWORK)
SIZES: dict = {"num_envs": ENVS, "batch_size": 32, "gamma": 0.95, "network": NETWORK}
SIZES |= {"target_period": 100.0, "capacity": 20_000}
MIXERS = {"GMAH": QMIX, "QMIX": QMIX, "IQL": None}


@rl.pytree
class Decisions(rl.Env):
    """`Doors` as the upper level sees it: an action is a subgoal, a step is a decision.

    table: [goals, CELLS, ACTIONS]. subgoals: bool [CELLS]. noise: the share of random actions.
    path: cell, action (-1: none) and next cell of each step, [A, HORIZON * 3].
    """

    table: jax.Array
    subgoals: jax.Array
    noise: jax.Array | float = 0.1

    num_agents, shared_reward, max_steps = 2, True, DECISIONS
    action_space, channels = rl.Discrete(CELLS), ("path",)

    def seen(self, cells):
        return Masked(WORLD.observe(cells), jnp.broadcast_to(self.subgoals, (2, CELLS)))

    def reset(self, key):
        cells, _ = WORLD.reset(key)
        return cells, self.seen(cells)

    def step(self, key, state, action):
        def move(now, key):
            cells, over, wins = now
            key_tie, key_noise, key_step = jax.random.split(key, 3)
            size = jnp.where(jax.random.uniform(key_noise, (2, 1)) < self.noise, 10.0, 1e-3)
            value = self.table[action, cells] + size * jax.random.uniform(key_tie, (2, ACTIONS))
            best = jnp.where(cells == action, STAY, value.argmax(-1))
            new, step = WORLD.step(key_step, cells, best)
            path = jnp.stack([cells, jnp.where(over, -1, best), new], -1)
            changed = WORLD.is_open(new) != WORLD.is_open(cells)
            wins |= ~over & step.terminated
            new = jnp.where(over, cells, new)
            return (new, over | wins | changed | (new == action).all(), wins), path

        start, keys = (state, jnp.bool_(False), jnp.bool_(False)), jax.random.split(key, HORIZON)
        (new, _, wins), path = jax.lax.scan(move, start, keys)
        info = {"path": jnp.moveaxis(path, 0, 1).reshape(2, -1).astype(jnp.float32)}
        return new, rl.Step(self.seen(new), jnp.full(2, wins, jnp.float32), wins, info)


def chosen(entered: jax.Array) -> jax.Array:
    """Subgoals by how often cells were entered, and the door changed then [2, CELLS]. [CELLS]."""
    value = 100.0 * (entered[1] > 0.5 * (entered[0] + 2.0)) - jnp.log1p(entered[0])
    value = jnp.where(entered[0] > 0.0, value, -jnp.inf)
    return (value >= jax.lax.top_k(value, SUBGOALS)[0][-1]) & (entered[0] > 0.0)


def taught(table: jax.Array, step: jax.Array) -> tuple[jax.Array, None]:
    """The table after a step of Q-learning for all goals. step: cell, action, next cell. [3]."""
    cell, action, new = step
    target = jnp.where(jnp.arange(CELLS) == new, 1.0, 0.9 * table[:, new].max(-1))
    error = jnp.where(action >= 0, target - table[:, cell, action], 0.0)
    return table.at[:, cell, action].add(0.3 * error), None


def hierarchy(key: jax.Array, algo: rl.OffPolicy, updates: int) -> tuple[jax.Array, jax.Array]:
    """Steps up to each evaluation, and the share of its episodes that is won. [EVALS]."""
    table, entered = jnp.zeros((CELLS, CELLS, ACTIONS)), jnp.zeros((2, CELLS))
    keys = jax.random.split(key, EVALS + 1)
    state = algo.init(keys[0], Decisions(table, chosen(entered)), updates * EVALS)

    def update(carry, key):
        state, table, entered, steps = carry
        env, (key_play, key_learn) = Decisions(table, chosen(entered)), jax.random.split(key)
        state, played = algo.collect(key_play, env, state)
        path = played.transitions.info["path"].reshape(ENVS, 2, HORIZON, 3).astype(jnp.int32)
        cell, action, new = jnp.moveaxis(path, -1, 0)
        door = WORLD.is_open(new.swapaxes(1, 2)) != WORLD.is_open(cell.swapaxes(1, 2))
        moved = (new != cell) & (action >= 0)
        entered = entered.at[0, new].add(moved).at[1, new].add(moved & door[:, None])
        table, _ = jax.lax.scan(taught, table, path.reshape(-1, 3), reverse=True)
        state, _ = algo.learn(key_learn, env, state, played)
        return (state, table, entered, steps + (action[:, 0] >= 0).sum()), None

    def row(carry, key):
        keys = jax.random.split(key, updates + 1)
        carry, _ = jax.lax.scan(update, carry, keys[1:])
        env = Decisions(carry[1], chosen(carry[2]), 0.0)
        return carry, (carry[3], algo.evaluate(keys[0], env, carry[0], 32).episode_return.mean())

    return jax.lax.scan(row, (state, table, entered, 0), keys[1:])[1]


def run(seed, lr, epsilon_fraction, name: str, total: int) -> dict[str, jax.Array]:
    """The share of the steps until WINS of the greedy episodes are won (1: never)."""
    num = 1 if name == "GMAH" else HORIZON
    sizes = SIZES | {"num_steps": num, "warmup": 128 * num, "mixer": MIXERS[name]}
    algo = rl.dqn(lr=lr, exploration=rl.EpsilonGreedy(1.0, 0.05, epsilon_fraction), **sizes)
    if name == "GMAH":
        step, wins = hierarchy(jax.random.key(seed), algo, total // (EVALS * ENVS * HORIZON))
    else:
        training = rl.Training(algo, WORLD, total, EVALS, episodes=32, eval_share=100.0)
        step, wins = map(training(jax.random.key(seed))[1].__getitem__, ("step", "evaluation"))
    first = jnp.where((wins >= WINS).any(), step[(wins >= WINS).argmax()] / total, 1.0)
    return {"first": first, "wins": wins.mean(), "last": wins[-1], "played": step[-1] / total}


def claims(scale: float = 1.0) -> list[Claim]:
    total = max(int(40 * scale), 1) * EVALS * ENVS * HORIZON

    def arm(name: str) -> Arm:
        one = functools.partial(run, name=name, total=total)
        return Arm(one, total, {"lr": (1e-3, 3e-3), "epsilon_fraction": (0.2, 0.5)})

    def saved(other: str) -> Check:
        first = lambda results: (results[name]["first"].values for name in (other, "GMAH"))
        measure = lambda results: rl.stats.difference(*first(results))
        return Check(f"share of all steps to {WINS:.0%} wins, {other} less GMAH", measure, "> 0")

    return [
        Claim(
            row=35,
            statement="In two rooms with a door that a teammate has to hold open, a hierarchy of "
            "QMIX over subgoals reaches 80 % wins in fewer steps than QMIX and IQL over actions.",
            arms={name: arm(name) for name in MIXERS},
            metric="wins",
            accept=[saved("QMIX"), saved("IQL")],
            worlds=["Doors, two rooms of 5 by 4 cells"],
            unmatched="Subgoals are cells, the lower level is a table; GMAH's updates are shorter.",
        )
    ]
