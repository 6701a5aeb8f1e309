"""A trained policy as arrays and a reader that needs NumPy alone."""

import dataclasses
import importlib.util
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import masks, noise
from jaxrl.algorithms import OffPolicy, OnPolicy, QLearning, Rewarded, Stream
from jaxrl.algorithms.actors import Deterministic, Softmax, Squashed
from jaxrl.algorithms.policy_learner import PolicyLearner
from jaxrl.algorithms.value_heads import Expected, Quantile
from jaxrl.batch_norm import Normed
from jaxrl.memories import GRU, LSTM
from jaxrl.networks import MLP
from jaxrl.runs.policy import MemberPolicy, obs_shapes
from jaxrl.spaces import Box, Discrete, MultiDiscrete

ARRAYS, READER = "policy.npz", "policy.py"
NUM_CHECKS, TOLERANCE = 8, 1e-4  # observations, and the largest difference relative to the range
Arrays = dict[str, Any]


def write_numpy(policy: MemberPolicy, directory: pathlib.Path) -> None:
    """Write `policy.npz` and `policy.py`, which has the same greedy actions, clipped to a box.

    The actions of both are compared at a few observations.

    Raises:
      ValueError: a part of the policy that the reader has no form of.
    """
    arrays = arrays_of(policy)
    directory.mkdir(parents=True, exist_ok=True)
    np.savez(directory / ARRAYS, **arrays)
    shutil.copyfile(pathlib.Path(__file__).with_name("numpy_policy.py"), directory / READER)
    try:
        _check(policy, directory)
    except BaseException:
        for name in (ARRAYS, READER):
            (directory / name).unlink()
        raise


def _refuse(what: str) -> ValueError:
    return ValueError(
        f"to='numpy' writes policies of an MLP, also with a GRU or LSTM, and this one has {what}: "
        "use rl.policy(FOLDER, ...) with jax, the `act` of which can be jitted."
    )


# ------------------------------------------------------------------------------------- its arrays


@dataclasses.dataclass(frozen=True)
class _Greedy:
    """What a greedy action is computed from: a head of a network, and its form.

    pieces: outputs of the head for each action, of which the mean counts. squashed: by tanh.
    """

    network: Any
    memory: Any
    params: Any
    head: str
    pieces: int = 1
    squashed: bool = False


def arrays_of(policy: MemberPolicy) -> Arrays:
    """The arrays of a policy, as numpy_policy.py reads them."""
    algo, agent = policy.training.algo, policy.agent
    while isinstance(algo, Rewarded):
        algo = algo.algo
    if not isinstance(algo, OnPolicy | OffPolicy | Stream):
        raise _refuse(f"the algorithm {type(algo).__name__}")
    greedy = _greedy(algo, policy.env.action_space, agent.params)
    if not isinstance(greedy.network, MLP):
        raise _refuse(f"the network {type(greedy.network).__name__}")
    obs = jax.tree.leaves(masks.visible(obs_shapes(policy.env)))
    if len(obs) != 1:
        raise _refuse(f"observations of {len(obs)} arrays")
    arrays = _network(greedy) | _action(policy.env.action_space, greedy)
    arrays["obs_shape"] = np.array(obs[0].shape, np.int64)
    stats = agent.obs_stats
    if stats is not None and bool(algo.normalize_obs):
        arrays |= {"obs_mean": _flat(stats.mean), "obs_variance": _flat(stats.variance)}
    return arrays


def _greedy(algo: OnPolicy | OffPolicy | Stream, space: Any, params: Any) -> _Greedy:
    if isinstance(algo, OnPolicy):
        heads = algo.rule.policy_heads(space)
        return _Greedy(algo.network, algo.memory, params, _head(heads))
    if isinstance(algo, Stream):
        groups = algo.rule.heads(space)
        name = "policy" if "policy" in groups else next(iter(groups))
        return _Greedy(algo.network, None, params[name], _head(groups[name]))
    learner = algo.learner
    if isinstance(learner, QLearning) and isinstance(learner.head, Expected | Quantile):
        pieces = learner.head.quantiles if isinstance(learner.head, Quantile) else 1
        weights = noise.mean(params)["network"]
        return _Greedy(learner.network, learner.memory, weights, "q", pieces)
    if isinstance(learner, PolicyLearner):
        actor, weights = learner.actor, params["actor"]
        if isinstance(actor, Squashed | Deterministic | Softmax):
            squashed = not isinstance(actor, Softmax)
            head = "loc" if squashed else "logits"
            return _Greedy(learner.network, learner.memory, weights, head, squashed=squashed)
        raise _refuse(f"the actor {type(actor).__name__}")
    if isinstance(learner, QLearning):
        raise _refuse(f"the head {type(learner.head).__name__}")
    raise _refuse(f"the learner {type(learner).__name__}")


def _head(heads: Mapping[str, int]) -> str:
    known = [name for name in ("logits", "loc", "q") if name in heads]
    if not known:
        raise _refuse(f"the heads {', '.join(heads)}")
    return known[0]


def _network(greedy: _Greedy) -> Arrays:
    """Layers, a memory and the head's layer."""
    network, memory, params = greedy.network, greedy.memory, greedy.params
    if memory is None:
        return _tower(network, params, greedy.head, "out", greedy.pieces)
    if not isinstance(memory, GRU | LSTM):
        raise _refuse(f"the memory {type(memory).__name__}")
    arrays = _tower(network, params["body"], "features", "features")
    cell, top = params["memory"], _weights(params["top"])[0]
    gates = np.asarray(cell["input"]["kernel"])
    arrays |= {  # the linear layer of the features, and that of the gates, as one
        "memory_input": arrays["features_kernel"] @ gates,
        "memory_bias": arrays.pop("features_bias") @ gates + np.asarray(cell["input"]["bias"]),
        "memory_hidden": np.asarray(cell["hidden"]["kernel"]),
    }
    del arrays["features_kernel"]
    if isinstance(memory, GRU):
        arrays["memory_new_bias"] = np.asarray(cell["new"]["bias"])
    layer = top[f"{greedy.head}_out"]
    return arrays | _out(np.asarray(layer["kernel"]), np.asarray(layer["bias"]), greedy.pieces)


def _tower(network: MLP, params: Any, head: str, out: str, pieces: int = 1) -> Arrays:
    """The layers up to a head of an MLP, batch normalisation as a part of the next layer."""
    weights, stats = _weights(params)
    name = "shared" if network.shared else head
    arrays: Arrays = {
        "num_layers": np.int64(len(network.hidden)),
        "activation": np.array(_activation(network.activation)),
    }
    scale, shift = _batch_norm(weights, stats, f"{name}_batch_norm")
    for i in range(len(network.hidden)):
        layer = weights[f"{name}_{i}"]
        arrays[f"kernel_{i}"], arrays[f"bias_{i}"] = _after(layer, scale, shift)
        if network.layer_norm:
            norm = weights.get(f"{name}_norm_{i}", {})
            arrays["layer_norm"] = np.bool_(True)
            width = network.hidden[i]
            arrays[f"scale_{i}"] = np.asarray(norm.get("scale", np.ones(width, np.float32)))
            arrays[f"shift_{i}"] = np.asarray(norm.get("bias", np.zeros(width, np.float32)))
        scale, shift = _batch_norm(weights, stats, f"{name}_batch_norm_{i}")
    kernel, bias = _after(weights[f"{head}_out"], scale, shift)
    if out == "features":
        return arrays | {"features_kernel": kernel, "features_bias": bias}
    return arrays | _out(kernel, bias, pieces)


def _out(kernel: np.ndarray, bias: np.ndarray, pieces: int) -> Arrays:
    """The last layer, averaged over the pieces of each action."""
    kernel = kernel.reshape(len(kernel), -1, pieces).mean(-1)
    return {"out_kernel": kernel, "out_bias": bias.reshape(-1, pieces).mean(-1)}


def _weights(params: Any) -> tuple[Any, Any]:
    """The layers of a flax module by name, and the statistics of its batch normalisation."""
    if isinstance(params, Normed):
        return params.weights, params.stats
    return params["params"], {}


def _batch_norm(weights: Any, stats: Any, name: str) -> tuple[Any, Any]:
    """The factor and summand of a batch normalisation; 1 and 0 without one."""
    if name not in stats:
        return 1.0, 0.0
    scale = np.asarray(weights[name]["scale"]) / np.sqrt(np.asarray(stats[name]["var"]) + 1e-3)
    return scale, np.asarray(weights[name]["bias"]) - np.asarray(stats[name]["mean"]) * scale


def _after(layer: Any, scale: Any, shift: Any) -> tuple[np.ndarray, np.ndarray]:
    """The kernel and bias of a layer with an input that is scaled and shifted."""
    kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
    shift = np.broadcast_to(np.asarray(shift, kernel.dtype), kernel.shape[:1])
    scaled = np.broadcast_to(np.asarray(scale, kernel.dtype), kernel.shape[:1])[:, None] * kernel
    return scaled, bias + shift @ kernel


def _activation(function: Any) -> str:
    known = {
        "tanh": jnp.tanh,
        "relu": jax.nn.relu,
        "elu": jax.nn.elu,
        "silu": jax.nn.silu,
    }
    for name, other in known.items():
        if function is other:
            return name
    raise _refuse(f"the activation {function!r}, none of {', '.join(known)}")


def _action(space: Any, greedy: _Greedy) -> Arrays:
    """How outputs become an action."""
    if isinstance(space, Discrete):
        return {"sizes": np.array([space.n]), "shape": np.zeros(0, np.int64)}
    if isinstance(space, MultiDiscrete):
        return {"sizes": np.array(space.sizes), "shape": np.array([len(space.sizes)])}
    if not isinstance(space, Box):
        raise _refuse(f"actions of {type(space).__name__}")
    low, high = (
        np.broadcast_to(np.asarray(x, np.float32), space.shape).ravel()
        for x in (space.low, space.high)
    )
    bounded = np.isfinite(low) & np.isfinite(high)
    with np.errstate(invalid="ignore", over="ignore"):
        half = np.where(bounded, (high - low) / 2, 1.0).astype(np.float32)
        middle = np.where(bounded, (high + low) / 2, 0.0).astype(np.float32)
    arrays: Arrays = {"low": low, "high": high, "half": half, "middle": middle}
    arrays["shape"] = np.array(space.shape, np.int64)
    return arrays | ({"tanh": np.bool_(True)} if greedy.squashed else {})


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(x)) for x in jax.tree.leaves(tree)])


# ----------------------------------------------------------------------------------------- a check


def _check(policy: MemberPolicy, directory: pathlib.Path) -> None:
    """Compare both policies along a few observations.

    Raises:
      ValueError: they differ.
    """
    reader, rnn_state, act = read(directory), policy.rnn_state, jax.jit(policy.act)
    random = np.random.default_rng(0)
    shapes = obs_shapes(policy.env)
    leaves = jax.tree.leaves(masks.visible(shapes))
    for _ in range(NUM_CHECKS):
        obs = random.normal(size=leaves[0].shape).astype(leaves[0].dtype)
        mask = masks.mask_of(shapes)
        whole: Any = jax.tree.unflatten(jax.tree.structure(masks.visible(shapes)), [obs])
        allowed = None
        if mask is not None:
            allowed = random.random(mask.shape) < 0.5
            whole = masks.Masked(whole, jnp.asarray(allowed))
        action, rnn_state = act(whole, rnn_state)
        written = reader(obs, allowed)
        wrong = np.abs(np.asarray(action, float) - written) > TOLERANCE * (1.0 + np.abs(written))
        if np.any(wrong):
            raise ValueError(
                "the actions in NumPy differ from the policy's: it has a part that to='numpy' does "
                "not know. Use rl.policy(FOLDER, ...) with jax."
            )


def read(directory: pathlib.Path) -> Any:
    """The policy that was written there."""
    spec = importlib.util.spec_from_file_location("policy", directory / READER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Policy(directory / ARRAYS)
