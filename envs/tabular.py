"""TabularMDP: any finite Markov decision process as arrays, and standard examples."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.keys import as_key
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static


@pytree
class TabularMDP(Env):
    """A Markov decision process of S states and A actions. Its arrays are leaves, so one program
    runs a family of processes.

    transition: P(s' | s, a), [S, A, S].
    reward: r(s, a, s'), [S, A, S], or [S, A, 1] if it does not depend on s'.
    terminal: True at final states, bool [S].
    start: P(first state), [S].

    Observation: the state one-hot [S], or with `one_hot=False` its index, int32 [], for a table.
    `rl.envs.solve` has the exact values.
    """

    transition: jax.Array
    reward: jax.Array
    terminal: jax.Array
    start: jax.Array
    one_hot: bool = static(default=True)
    max_steps: int = static(default=100)

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.transition.shape[-2])

    @property
    def num_states(self) -> int:
        return self.transition.shape[-1]

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        check(self)
        state = _draw(key, self.start)
        return state, self.observe(state)

    def step(self, key: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        new = _draw(key, jnp.asarray(self.transition)[state, action])
        reward = jnp.broadcast_to(self.reward, self.transition.shape)[state, action, new]
        return new, Step(self.observe(new), reward, jnp.asarray(self.terminal)[new], {})

    def observe(self, state: jax.Array) -> jax.Array:
        return jax.nn.one_hot(state, self.num_states) if self.one_hot else state


def _draw(key: jax.Array, probs: jax.Array) -> jax.Array:
    return jax.random.choice(key, jnp.arange(len(probs), dtype=jnp.int32), p=jnp.asarray(probs))


def check(mdp: TabularMDP) -> None:
    """Raise a ValueError if the shapes of a process are inconsistent, or it is a family of them."""
    shapes = {
        name: jnp.shape(getattr(mdp, name))
        for name in ("transition", "reward", "terminal", "start")
    }
    states, actions = (*shapes["transition"], 0, 0)[:2]
    of_reward = [(states, actions, states), (states, actions, 1)]
    fits = shapes["transition"] == (states, actions, states) and shapes["reward"] in of_reward
    if not fits or shapes["terminal"] != (states,) or shapes["start"] != (states,):
        raise ValueError(
            f"The shapes {shapes} do not form a process: write transition [S, A, S], reward "
            "[S, A, S] or [S, A, 1], terminal [S] and start [S]; for a family of processes, use "
            "jax.vmap."
        )


# ------------------------------------------------------------------------------------------- makers


def garnet(
    key: jax.Array | int,
    num_states: int = 10,
    num_actions: int = 4,
    branching: int = 3,
    max_steps: int = 100,
    one_hot: bool = True,
    density: float = 1.0,
) -> TabularMDP:
    """Return a random process (Archibald et al., 1995): each action leads to `branching` random
    states, with random probabilities.

    The probabilities are the gaps between sorted uniform numbers. With probability `density` a pair
    of state and action has a reward, a standard normal number. The first state is uniform; nothing
    terminates. key: a key, or an integer seed; `jax.vmap` over keys makes a family.
    """
    if not 1 <= branching <= num_states:
        raise ValueError(f"branching={branching} is not between 1 and num_states={num_states}.")
    key_next, key_probs, key_reward, key_some = jax.random.split(as_key(key), 4)
    cuts = jnp.sort(jax.random.uniform(key_probs, (num_states, num_actions, branching - 1)))
    probs = jnp.pad(
        jnp.diff(cuts, prepend=0.0, append=1.0), [(0, 0), (0, 0), (0, num_states - branching)]
    )
    order = jax.random.uniform(key_next, (num_states, num_actions, num_states)).argsort(-1)
    rewarding = jax.random.uniform(key_some, (num_states, num_actions, 1)) < density
    return TabularMDP(
        transition=jnp.take_along_axis(probs, order, -1),
        reward=jnp.where(
            rewarding, jax.random.normal(key_reward, (num_states, num_actions, 1)), 0.0
        ),
        terminal=jnp.zeros(num_states, bool),
        start=jnp.full(num_states, 1 / num_states),
        max_steps=max_steps,
        one_hot=one_hot,
    )


def chain(
    num_states: int = 5, slip: float = 0.2, small: float = 2.0, large: float = 10.0
) -> TabularMDP:
    """Return the chain of Dearden et al. (1998): one action moves forward, with the reward `large`
    at the end; the other moves back to the start, with `small`.

    With probability `slip` an action has the effect of the other one.
    """
    last, states = num_states - 1, np.arange(num_states)
    onward, back = np.eye(num_states)[np.minimum(states + 1, last)], np.eye(num_states)[0 * states]
    done = np.stack([onward, back], 1)
    reward = np.zeros((num_states, 2, num_states))
    reward[:, :, 0], reward[last, :, last] = small, large
    return _process((1 - slip) * done + slip * done[:, ::-1], reward, states == 0)


def river_swim(
    num_states: int = 6,
    forward: float = 0.3,
    back: float = 0.1,
    small: float = 0.0005,
    large: float = 1.0,
) -> TabularMDP:
    """Return `rl.envs.RiverSwim` as arrays."""
    last, states = num_states - 1, np.arange(num_states)
    place = np.eye(num_states)
    left, right = place[np.maximum(states - 1, 0)], place[np.minimum(states + 1, last)]
    carried = np.where(states == 0, 0.0, np.where(states == last, 1 - forward, back))[:, None]
    swim = forward * right + carried * left + (1 - forward - carried) * place
    reward = np.zeros((num_states, 2, num_states))
    reward[0, 0, 0], reward[last, 1, last] = small, large
    return _process(np.stack([left, swim], 1), reward, (states == 1) | (states == 2))


FROZEN_4 = "SFFF FHFH FFFH HFFG"
FROZEN_8 = "SFFFFFFF FFFFFFFF FFFHFFFF FFFFFHFF FFFHFFFF FHHFFFHF FHFFHFHF FFFHFFFG"


def frozen_lake(map: str = FROZEN_4, slip: float = 2 / 3, max_steps: int = 100) -> TabularMDP:
    """Return Gymnasium's FrozenLake: walk from 'S' over 'F', not into a hole 'H', to the goal 'G',
    which gives 1.

    Actions: left, down, right, up. With probability `slip` the move is to the left or right of the
    selected direction, each with the same probability.

    map: rows separated by spaces.
    """
    rows = map.split()
    if len({len(row) for row in rows}) != 1 or map.count("S") != 1 or set(map) - set("SFHG "):
        raise ValueError(
            "A lake is a rectangle of 'S' (one), 'F', 'H' and 'G', its rows separated by spaces, "
            f"not {map!r}."
        )
    tiles = np.array([list(row) for row in rows])
    states = np.arange(tiles.size)
    row, column = np.divmod(states, tiles.shape[1])
    moves = [(0, -1), (1, 0), (0, 1), (-1, 0)]
    ahead = [
        (np.clip(row + i, 0, len(rows) - 1), np.clip(column + j, 0, tiles.shape[1] - 1))
        for i, j in moves
    ]
    goes = np.stack([np.eye(tiles.size)[i * tiles.shape[1] + j] for i, j in ahead], 1)
    slides = (1 - slip) * goes + slip / 2 * (np.roll(goes, 1, 1) + np.roll(goes, -1, 1))
    terminal, goal = np.isin(tiles.ravel(), ["H", "G"]), tiles.ravel() == "G"
    reward = np.broadcast_to(goal & ~terminal[:, None, None], slides.shape)
    return _process(
        np.where(terminal[:, None, None], np.eye(tiles.size)[:, None], slides),
        reward,
        tiles.ravel() == "S",
        terminal,
        max_steps,
    )


def _process(
    transition: Any, reward: Any, start: Any, terminal: Any = None, max_steps: int = 100
) -> TabularMDP:
    """A process with a first state that is uniform over the states where `start` is True."""
    return TabularMDP(
        transition=jnp.array(transition, jnp.float32),
        reward=jnp.array(reward, jnp.float32),
        terminal=jnp.zeros(len(start), bool) if terminal is None else jnp.array(terminal),
        start=jnp.array(start / start.sum(), jnp.float32),
        max_steps=max_steps,
    )


MDPS: dict[str, tuple[Callable[..., TabularMDP], tuple[Any, ...]]] = {
    "MDP-Chain": (chain, ()),
    "MDP-FrozenLake": (frozen_lake, ()),
    "MDP-FrozenLake8x8": (frozen_lake, (FROZEN_8, 2 / 3, 200)),
    "MDP-RiverSwim": (river_swim, ()),
}
