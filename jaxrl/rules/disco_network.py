"""DiscoRL's meta-network as plain functions of its published weights, which keep the names that
their authors gave.

Oh et al. (2025), as published: an LSTM reads backward what is seen of each step, and a state of the
lifetime makes a gate that multiplies it; a second network sums a rollout up into that state.
"""

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.tree import pytree

Weights = dict[str, jax.Array]
State = tuple[jax.Array, jax.Array]  # of an LSTM: what it shows, and what it keeps
LIFE = "lstm/~/meta_lstm/~unroll"  # where the second network's weights are


@pytree
class Seen:
    """What the network sees of a rollout: [T, B], chances and values of actions [T, B, A], y [T, B,
    600], z [T, B, A, 600].

    `slow_` is the slow copy's; `next_` is at the next observation; y and z are chances too.
    """

    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    done: jax.Array
    chance: jax.Array
    next_chance: jax.Array
    slow_chance: jax.Array
    value: jax.Array
    next_value: jax.Array
    advantage: jax.Array
    scaled_advantage: jax.Array
    slow_q: jax.Array
    advantages: jax.Array
    scaled_advantages: jax.Array
    y: jax.Array
    next_y: jax.Array
    slow_y: jax.Array
    next_slow_y: jax.Array
    z: jax.Array
    next_z: jax.Array
    slow_z: jax.Array
    next_slow_z: jax.Array


def advise(
    w: Weights, state: State, seen: Seen
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], State]:
    """Logits of what policy [T, B, A], y and z (at the action) [T, B, 600] should become; and the
    lifetime's next state.
    """
    x, by_action = _features(w, "lstm", seen)
    backward = jax.vmap(_lstm_backward, in_axes=(None, 1, 1), out_axes=1)
    x = backward(w, x, seen.done)
    gate = _linear(w, "lstm/linear", state[0])
    x = x * jnp.broadcast_to(gate, x.shape)
    y, z = _linear(w, "lstm/linear_2", x), _linear(w, "lstm/linear_3", x)
    spread = jnp.broadcast_to(x[..., None, :], (*by_action.shape[:-1], x.shape[-1]))
    mixed = _mix(w, "lstm/sequential_1/conv1_d", jnp.concatenate([spread, by_action], -1))
    logits = _linear(w, "lstm/linear_4", mixed)[..., 0]
    summary, _ = _features(w, LIFE, seen)
    parts = [summary, _linear(w, "lstm/linear_1", x), _mlp(w, f"{LIFE}/mlp", jax.nn.softmax(y))]
    mean = _linear(w, f"{LIFE}/mlp_2/~/linear_0", jnp.concatenate(parts, -1)).mean((0, 1))
    return (logits, y, z), _lstm(w, f"{LIFE}/lstm/linear", state, mean)


def rest() -> State:
    """The state at the start of a life."""
    return jnp.zeros(128), jnp.zeros(128)


def shapes() -> dict[str, tuple[int, ...]]:
    """The names and shapes of all weights."""
    sizes: dict[str, tuple[int, ...]] = {
        "lstm/linear": (128, 256),
        "lstm/linear_1": (256, 1),
        "lstm/linear_2": (256, 600),
        "lstm/linear_3": (256, 600),
        "lstm/linear_4": (16, 1),
        "lstm/lstm/linear": (27 + 256, 4 * 256),
        "lstm/sequential_1/conv1_d": (1, 2 * (256 + 2), 16),
        f"{LIFE}/lstm/linear": (16 + 128, 4 * 128),
        f"{LIFE}/mlp_2/~/linear_0": (29, 16),
    }
    for home in ("lstm", LIFE):
        for net in ("mlp", "mlp_1"):
            sizes |= {f"{home}/{net}/~/linear_0": (600, 16), f"{home}/{net}/~/linear_1": (16, 1)}
        sizes |= {
            f"{home}/sequential/conv1_d": (1, 2 * 9, 16),
            f"{home}/sequential/conv1_d_1": (1, 2 * 16, 2),
        }
    return {f"{name}/w": shape for name, shape in sizes.items()} | {
        f"{name}/b": shape[-1:] for name, shape in sizes.items()
    }


# ------------------------------------------------------------------------------------ what it reads


def _features(w: Weights, home: str, seen: Seen) -> tuple[jax.Array, jax.Array]:
    """The numbers that describe each step [T, B, 27], and each action there [T, B, A, 2]."""
    y_net = lambda y: _mlp(w, f"{home}/mlp", y)[..., 0]
    z_net = lambda z: _mlp(w, f"{home}/mlp_1", z)[..., 0]
    at_action = lambda x: jnp.take_along_axis(x, seen.action[..., None], -1)[..., 0]
    z, next_z, slow_z, next_slow_z = map(
        z_net, (seen.z, seen.next_z, seen.slow_z, seen.next_slow_z)
    )

    def views(z: jax.Array, next_z: jax.Array) -> list[jax.Array]:
        mean = [
            jnp.sum(chance * x, -1) for chance, x in ((seen.chance, z), (seen.next_chance, next_z))
        ]
        return [at_action(z), *mean, z.max(-1), next_z.max(-1)]

    played = at_action(seen.chance)
    steps = [
        *(played, played),  # the learner's chance of the action and the actor's, which are one here
        *(_log(seen.reward), 1.0 - seen.terminated),
        *(_log(seen.value), _log(seen.next_value), _log(seen.advantage), seen.scaled_advantage),
        at_action(seen.slow_chance),
        *map(y_net, (seen.y, seen.next_y, seen.slow_y, seen.next_slow_y)),
        *views(z, next_z),
        *views(slow_z, next_slow_z),
    ]
    taken = jax.nn.one_hot(seen.action, z.shape[-1])
    of_actions = [
        seen.chance,
        seen.chance,
        seen.slow_chance,
        z,
        slow_z,
        _log(seen.slow_q),
        _log(seen.advantages),
    ]
    actions = jnp.stack([*of_actions, seen.scaled_advantages, taken], -1)
    for name in ("conv1_d", "conv1_d_1"):
        actions = _mix(w, f"{home}/sequential/{name}", actions)
    one = jnp.take_along_axis(actions, seen.action[..., None, None], -2)[..., 0, :]
    return jnp.concatenate([jnp.stack(steps, -1), actions.mean(-2), one], -1), actions


def _log(x: jax.Array) -> jax.Array:
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


# ------------------------------------------------------------------------------------------- layers


def _linear(w: Weights, name: str, x: jax.Array) -> jax.Array:
    y = jnp.einsum("...i,ij->...j", x, w[f"{name}/w"].reshape(x.shape[-1], -1))
    return y + jnp.broadcast_to(w[f"{name}/b"], y.shape)


def _mlp(w: Weights, name: str, x: jax.Array) -> jax.Array:
    return _linear(w, f"{name}/~/linear_1", jax.nn.relu(_linear(w, f"{name}/~/linear_0", x)))


def _mix(w: Weights, name: str, x: jax.Array) -> jax.Array:
    """A layer over each action and the mean of all, so that their order says nothing. [..., A,
    n].
    """
    mean = jnp.broadcast_to(x.mean(-2, keepdims=True), x.shape)
    return jax.nn.relu(_linear(w, name, jnp.concatenate([x, mean], -1)))


def _lstm(w: Weights, name: str, state: State, x: jax.Array) -> State:
    """One step of Haiku's LSTM: gates in the order input, new, forget, output, the forget gate's
    bias 1 higher.
    """
    hidden, cell = state
    write, new, forget, show = jnp.split(_linear(w, name, jnp.concatenate([x, hidden])), 4)
    cell = jax.nn.sigmoid(forget + 1.0) * cell + jax.nn.sigmoid(write) * jnp.tanh(new)
    return jax.nn.sigmoid(show) * jnp.tanh(cell), cell


def _lstm_backward(w: Weights, x: jax.Array, done: jax.Array) -> jax.Array:
    """The LSTM from the last step of a trajectory [T, n] to the first, empty at each episode's end.

    [T, 256].
    """
    empty = jnp.zeros(256), jnp.zeros(256)

    def step(state: State, now: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
        x, done = now
        state = _lstm(w, "lstm/lstm/linear", tree.where(done, empty, state), x)
        return state, state[0]

    return jax.lax.scan(step, empty, (x, done), reverse=True)[1]
