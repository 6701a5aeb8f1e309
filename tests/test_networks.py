"""Initialisation without LAPACK, memory that resets, and the seam that any library can stand
behind.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from probes import Choice

import envs
import jaxrl as rl
from envs.lpg_levels import drawn
from jaxrl import networks, tree

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
    assert {name: x.shape for name, x in out.items()} == {
        "loc": (2,),
        "log_std": (2,),
        "value": (1,),
    }
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
        grad = jax.grad(lambda p, network=network: network.apply(p, obs)["value"].sum())(params)[
            "params"
        ]
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


def test_a_table_is_a_row_for_each_state():
    network = rl.Table(6)(HEADS)
    params = network.init(jax.random.key(0), jnp.int32(0))
    assert {name: x.shape for name, x in params.items()} == {"logits": (6, 2), "value": (6, 1)}
    assert all((x == 0).all() for x in params.values())
    params = {name: jnp.arange(x.size, dtype=float).reshape(x.shape) for name, x in params.items()}
    out = jax.vmap(lambda obs: network.apply(params, obs))(jnp.array([4, 0, 6]))
    np.testing.assert_array_equal(
        out["logits"], [[8, 9], [0, 1], [np.nan, np.nan]]
    )  # beyond the table: no other's row
    slope = jax.grad(lambda params: network.apply(params, jnp.int32(4))["logits"].sum())(params)
    np.testing.assert_array_equal(slope["logits"], np.eye(6)[:, [4, 4]])
    for obs in (jnp.ones(6), jnp.float32(1.0), jnp.zeros(2, int), {"index": jnp.int32(0)}):
        with pytest.raises(TypeError, match=r"needs an integer observation"):
            network.init(jax.random.key(0), obs)


def test_an_agent_with_a_table_learns():
    corridor = drawn("S..0", (1.0,), (1.0,), (0.0,), 8)
    env = tree.replace(corridor, one_hot=False)
    how = dict(network=rl.Table(env.num_states), lr=0.05, num_envs=8, num_steps=16, minibatches=2)
    metrics = rl.train(jax.random.key(0), rl.ppo(**how), env, steps=128 * 30, evals=5, episodes=0)[
        1
    ]
    assert metrics["return"][0] < 0.8 < metrics["return"][-1]


class NnxNet(nnx.Module):
    def __init__(self, size, heads, rngs):
        self.body = nnx.Linear(size, 16, rngs=rngs)
        self.tops = nnx.Dict({name: nnx.Linear(16, n, rngs=rngs) for name, n in heads.items()})

    def __call__(self, obs):
        return {name: top(nnx.tanh(self.body(obs))) for name, top in self.tops.items()}


class NnxBuilder:
    """An NNX module behind the kit's seam: split into a graph and its parameters, merged to be
    applied.
    """

    def __call__(self, heads):
        def init(key, obs):
            return nnx.split(NnxNet(obs.size, heads, nnx.Rngs(key)))[1]

        def apply(params, obs):
            graph = nnx.split(nnx.eval_shape(lambda: NnxNet(obs.size, heads, nnx.Rngs(0))))[0]
            return nnx.merge(graph, params)(obs.ravel())

        return networks.Network(init, apply)


def test_an_nnx_module_trains_through_the_same_seam():
    algo = rl.ppo(network=NnxBuilder(), num_steps=16)
    _, metrics = jax.jit(lambda key: rl.train(key, algo, envs.make("Catch"), steps=128, evals=2))(
        jax.random.key(0)
    )
    assert np.isfinite(metrics["loss"]).all()
    assert not metrics["diverged"].any()


def test_a_network_that_lacks_a_head_is_refused_before_anything_is_compiled():
    @dataclasses.dataclass(frozen=True)
    class Forgetful:
        """Knows of logits and values alone, whatever it is asked for."""

        def __call__(self, heads):
            return rl.MLP((8,))({"logits": heads["logits"], "value": 1})

    algo = rl.OnPolicy(rule=rl.LPG.random(jax.random.key(0), 8), network=Forgetful())
    with pytest.raises(
        ValueError, match=r"needs a head 'y' of size 8, and the network gives .*value \[1\]"
    ):
        jax.eval_shape(lambda key: rl.train(key, algo, Choice(), steps=10_000), jax.random.key(0))
