"""Initialisation without LAPACK, memory that resets, and the seam that any library can stand behind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import envs
import jaxrl as rl
from jaxrl import networks

HEADS = {"logits": 2, "value": 1}


@pytest.mark.parametrize("shape", [(4, 64), (64, 64), (64, 3), (3, 3, 4, 16)])
def test_orthogonal_kernels_are_orthogonal(shape):
    kernel = networks.orthogonal(2.0)(jax.random.key(0), shape).reshape(-1, shape[-1])
    small = kernel if kernel.shape[0] >= kernel.shape[1] else kernel.T
    np.testing.assert_allclose(small.T @ small, 4.0 * np.eye(small.shape[1]), atol=1e-4)


def test_orthogonal_kernels_call_no_lapack():
    text = (
        jax.jit(jax.vmap(lambda key: networks.orthogonal()(key, (64, 64))))
        .lower(jax.random.split(jax.random.key(0), 2))
        .as_text()
    )
    assert "lapack" not in text
    assert "custom_call" not in text


@pytest.mark.parametrize("builder", [rl.MLP(), rl.MLP(shared=True, layer_norm=True), rl.CNN()])
def test_builders_give_every_head(builder):
    obs = jnp.ones((10, 10, 4), bool)
    network = builder({"loc": 2, "log_std": 2, "value": 1})
    params = network.init(jax.random.key(0), obs)
    out = network.apply(params, obs)
    assert {name: x.shape for name, x in out.items()} == {"loc": (2,), "log_std": (2,), "value": (1,)}
    moved = network.apply(params, ~obs)
    np.testing.assert_array_equal(out["log_std"], moved["log_std"])  # free: it sees no observation
    assert not np.allclose(out["value"], moved["value"])


def test_equal_builders_are_one_to_the_compiler():
    assert rl.MLP((8,)) == rl.MLP((8,))
    assert hash(rl.GRU(4)) == hash(rl.GRU(4))


def test_towers_are_apart_unless_shared():
    obs = jnp.ones(3)
    for shared in (False, True):
        network = rl.MLP((8,), shared=shared)(HEADS)
        params = network.init(jax.random.key(0), obs)
        grad = jax.grad(lambda p, network=network: network.apply(p, obs)["value"].sum())(params)["params"]
        touched = {name.split("_")[0] for name, g in grad.items() if np.abs(g["kernel"]).sum() > 0}
        assert touched == ({"value", "shared"} if shared else {"value"})


def test_a_cnn_refuses_vectors():
    with pytest.raises(ValueError, match=r"shape \(4,\).*MLP"):
        rl.CNN()(HEADS).init(jax.random.key(0), jnp.ones(4))


def test_memory_over_a_trajectory_is_memory_step_by_step_with_resets():
    network = networks.build(rl.MLP((8,)), rl.GRU(5), HEADS)
    obs = jax.random.normal(jax.random.key(0), (7, 3))
    first = jnp.array([False, False, True, False, True, True, False])
    params = network.init(jax.random.key(0), obs[0])
    _, whole = network.apply(params, network.start(), obs, first)
    memory = network.start()
    for t in range(7):
        memory = network.start() if first[t] else memory
        memory, out = network.apply(params, memory, obs[t : t + 1], jnp.array([False]))
        np.testing.assert_allclose(out["value"][0], whole["value"][t], atol=1e-5)


class NnxNet(nnx.Module):
    def __init__(self, size, heads, rngs):
        self.body = nnx.Linear(size, 16, rngs=rngs)
        self.tops = nnx.Dict({name: nnx.Linear(16, n, rngs=rngs) for name, n in heads.items()})

    def __call__(self, obs):
        return {name: top(nnx.tanh(self.body(obs))) for name, top in self.tops.items()}


class NnxBuilder:
    """An NNX module behind the kit's seam: split into a graph and its parameters, merged to be applied."""

    def __call__(self, heads):
        def init(key, obs):
            return nnx.split(NnxNet(obs.size, heads, nnx.Rngs(key)))[1]

        def apply(params, obs):
            graph = nnx.split(nnx.eval_shape(lambda: NnxNet(obs.size, heads, nnx.Rngs(0))))[0]
            return nnx.merge(graph, params)(obs.ravel())

        return networks.Network(init, apply)


def test_an_nnx_module_trains_through_the_same_seam():
    algo = rl.ppo(network=NnxBuilder(), num_steps=16)
    _, metrics = jax.jit(lambda key: rl.train(key, algo, envs.make("Catch"), steps=128, evals=2))(jax.random.key(0))
    assert np.isfinite(metrics["loss"]).all()
    assert not metrics["diverged"].any()
