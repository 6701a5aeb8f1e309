"""DiscoRL's meta-network as plain functions of its published weights, under their authors' names.

Oh et al. (2025), as published: an LSTM reads a rollout backward, and its outputs are multiplied by
a gate that the meta-RNN computes; the meta-RNN is an LSTM that reads a summary of each rollout,
once an update.
"""

import jax
import jax.numpy as jnp

from jaxrl import returns, tree
from jaxrl.q_values import action_values
from jaxrl.tree import pytree

Weights = dict[str, jax.Array]
State = tuple[jax.Array, jax.Array]  # of an LSTM: hidden and cell
META_RNN = "lstm/~/meta_lstm/~unroll"  # the prefix of its weights' names


@pytree
class Inputs:
    """The meta-network's inputs for a rollout.

    Numbers [T, B]; probabilities `pi` and values of actions [T, B, A]; the agent's predictions as
    probabilities, y [T, B, 600] and z [T, B, A, 600]. `target_`: of the target network; `next_`: at
    the next observation.
    """

    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    done: jax.Array
    pi: jax.Array
    next_pi: jax.Array
    target_pi: jax.Array
    value: jax.Array
    next_value: jax.Array
    advantage: jax.Array
    scaled_advantage: jax.Array
    target_q: jax.Array
    advantages: jax.Array
    scaled_advantages: jax.Array
    y: jax.Array
    next_y: jax.Array
    target_y: jax.Array
    next_target_y: jax.Array
    z: jax.Array
    next_z: jax.Array
    target_z: jax.Array
    next_target_z: jax.Array


def meta_network(
    w: Weights, state: State, inputs: Inputs
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], State]:
    """Logits of the targets of policy, y and z (at the action taken); the meta-RNN's next state.

    [T, B, A], [T, B, 600], [T, B, 600].
    """
    x, action_features = _features(w, "lstm", inputs)
    x = returns.batched(lambda x, done: _lstm_backward(w, x, done))(x, inputs.done)
    gate = _linear(w, "lstm/linear", state[0])
    x = x * jnp.broadcast_to(gate, x.shape)
    y, z = _linear(w, "lstm/linear_2", x), _linear(w, "lstm/linear_3", x)
    each_action = jnp.broadcast_to(x[..., None, :], (*action_features.shape[:-1], x.shape[-1]))
    mixed = _mix(
        w, "lstm/sequential_1/conv1_d", jnp.concatenate([each_action, action_features], -1)
    )
    logits = _linear(w, "lstm/linear_4", mixed)[..., 0]
    summary, _ = _features(w, META_RNN, inputs)
    y_summary = _mlp(w, f"{META_RNN}/mlp", jax.nn.softmax(y))
    parts = jnp.concatenate([summary, _linear(w, "lstm/linear_1", x), y_summary], -1)
    mean = _linear(w, f"{META_RNN}/mlp_2/~/linear_0", parts).mean((0, 1))
    return (logits, y, z), _lstm(w, f"{META_RNN}/lstm/linear", state, mean)


def initial_state() -> State:
    """The meta-RNN's state at the start of a training run."""
    return jnp.zeros(128), jnp.zeros(128)


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """The names and shapes of all weights."""
    sizes: dict[str, tuple[int, ...]] = {
        "lstm/linear": (128, 256),
        "lstm/linear_1": (256, 1),
        "lstm/linear_2": (256, 600),
        "lstm/linear_3": (256, 600),
        "lstm/linear_4": (16, 1),
        "lstm/lstm/linear": (27 + 256, 4 * 256),
        "lstm/sequential_1/conv1_d": (1, 2 * (256 + 2), 16),
        f"{META_RNN}/lstm/linear": (16 + 128, 4 * 128),
        f"{META_RNN}/mlp_2/~/linear_0": (29, 16),
    }
    for prefix in ("lstm", META_RNN):
        for net in ("mlp", "mlp_1"):
            sizes[f"{prefix}/{net}/~/linear_0"] = (600, 16)
            sizes[f"{prefix}/{net}/~/linear_1"] = (16, 1)
        sizes[f"{prefix}/sequential/conv1_d"] = (1, 2 * 9, 16)
        sizes[f"{prefix}/sequential/conv1_d_1"] = (1, 2 * 16, 2)
    kernels = {f"{name}/w": shape for name, shape in sizes.items()}
    return kernels | {f"{name}/b": shape[-1:] for name, shape in sizes.items()}


# ------------------------------------------------------------------------------------------- inputs


def _features(w: Weights, prefix: str, inputs: Inputs) -> tuple[jax.Array, jax.Array]:
    """The features of each step [T, B, 27], and of each action there [T, B, A, 2]."""
    y_net = lambda y: _mlp(w, f"{prefix}/mlp", y)[..., 0]
    z_net = lambda z: _mlp(w, f"{prefix}/mlp_1", z)[..., 0]
    z, next_z = z_net(inputs.z), z_net(inputs.next_z)
    target_z, next_target_z = z_net(inputs.target_z), z_net(inputs.next_target_z)

    def at_action(x: jax.Array) -> jax.Array:
        return action_values(x, inputs.action)

    def summaries(z: jax.Array, next_z: jax.Array) -> list[jax.Array]:
        mean, next_mean = jnp.sum(inputs.pi * z, -1), jnp.sum(inputs.next_pi * next_z, -1)
        return [at_action(z), mean, next_mean, z.max(-1), next_z.max(-1)]

    pi_action = at_action(inputs.pi)
    steps = [
        pi_action,  # under the learner's policy
        pi_action,  # under the policy that acted, which is the same here
        _log(inputs.reward),
        1.0 - inputs.terminated,
        _log(inputs.value),
        _log(inputs.next_value),
        _log(inputs.advantage),
        inputs.scaled_advantage,
        at_action(inputs.target_pi),
        y_net(inputs.y),
        y_net(inputs.next_y),
        y_net(inputs.target_y),
        y_net(inputs.next_target_y),
        *summaries(z, next_z),
        *summaries(target_z, next_target_z),
    ]
    actions = [
        inputs.pi,
        inputs.pi,
        inputs.target_pi,
        z,
        target_z,
        _log(inputs.target_q),
        _log(inputs.advantages),
        inputs.scaled_advantages,
        jax.nn.one_hot(inputs.action, z.shape[-1]),
    ]
    mixed = jnp.stack(actions, -1)
    for name in ("conv1_d", "conv1_d_1"):
        mixed = _mix(w, f"{prefix}/sequential/{name}", mixed)
    taken = jnp.take_along_axis(mixed, inputs.action[..., None, None], -2)[..., 0, :]
    return jnp.concatenate([jnp.stack(steps, -1), mixed.mean(-2), taken], -1), mixed


def _log(x: jax.Array) -> jax.Array:
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


# ------------------------------------------------------------------------------------------- layers


def _linear(w: Weights, name: str, x: jax.Array) -> jax.Array:
    y = jnp.einsum("...i,ij->...j", x, w[f"{name}/w"].reshape(x.shape[-1], -1))
    return y + jnp.broadcast_to(w[f"{name}/b"], y.shape)


def _mlp(w: Weights, name: str, x: jax.Array) -> jax.Array:
    return _linear(w, f"{name}/~/linear_1", jax.nn.relu(_linear(w, f"{name}/~/linear_0", x)))


def _mix(w: Weights, name: str, x: jax.Array) -> jax.Array:
    """A layer over each action and the mean of all, equivariant to their order. [..., A, n]."""
    mean = jnp.broadcast_to(x.mean(-2, keepdims=True), x.shape)
    return jax.nn.relu(_linear(w, name, jnp.concatenate([x, mean], -1)))


def _lstm(w: Weights, name: str, state: State, x: jax.Array) -> State:
    """One step of Haiku's LSTM.

    Gates are in the order input, new, forget, output, with 1 added to the forget gate.
    """
    hidden, cell = state
    write, new, forget, output = jnp.split(_linear(w, name, jnp.concatenate([x, hidden])), 4)
    cell = jax.nn.sigmoid(forget + 1.0) * cell + jax.nn.sigmoid(write) * jnp.tanh(new)
    return jax.nn.sigmoid(output) * jnp.tanh(cell), cell


def _lstm_backward(w: Weights, x: jax.Array, done: jax.Array) -> jax.Array:
    """The hidden states of the LSTM along a trajectory [T, n], from its last step to its first.

    They are reset at each episode's end. [T, 256].
    """
    zeros = jnp.zeros(256), jnp.zeros(256)

    def step(state: State, row: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
        x, done = row
        state = _lstm(w, "lstm/lstm/linear", tree.where(done, zeros, state), x)
        return state, state[0]

    return jax.lax.scan(step, zeros, (x, done), reverse=True)[1]
