"""Evolution strategies: one table of promises, and each formula beside its slow definition."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.meta.from_evosax import CMAES, SNES, SepCMAES
from jaxrl.meta.shaping import CentredRank, PairSign, Raw, ZScore
from jaxrl.meta.strategies import ES

TARGET = {"w": jnp.array([[1.0, -2.0]]), "b": jnp.array(0.5)}
START = jax.tree.map(jnp.zeros_like, TARGET)
STRATEGIES = [
    *(
        ES(lr=0.1, shaping=shaping, population=32)
        for shaping in (PairSign(), CentredRank(), ZScore(), Raw())
    ),
    *(kind(sigma=0.3, population=16) for kind in (SNES, SepCMAES, CMAES)),
]
name = lambda strategy: type(strategy.shaping if isinstance(strategy, ES) else strategy).__name__


def bowl(key, params):
    """0 at the target, less elsewhere."""
    return -sum(
        jnp.sum((x - y) ** 2) for x, y in zip(*map(jax.tree.leaves, (params, TARGET)), strict=True)
    )


def climb(strategy, key, fitness, generations):
    def one(state, n):
        return strategy.update(jax.random.fold_in(key, n), state, fitness)

    return jax.lax.scan(one, strategy.init(START, generations), jnp.arange(generations))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=name)
def test_climbs_a_bowl_counts_generations_and_reports_them(strategy):
    state, metrics = jax.jit(lambda key: climb(strategy, key, bowl, 100))(jax.random.key(0))
    assert bowl(None, state.params) > 0.02 * bowl(None, START)
    assert int(state.clock.n) == 100
    assert jax.tree.structure(state.params) == jax.tree.structure(START)
    assert metrics["fitness"][-1] > metrics["fitness"][0]
    assert not metrics["non_finite"].any()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=name)
def test_a_member_without_a_fitness_is_the_worst_and_is_counted(strategy):
    def cliff(key, params):
        return jnp.where(params["b"] < 0.0, jnp.nan, bowl(key, params))

    state, metrics = jax.jit(lambda key: climb(strategy, key, cliff, 20))(jax.random.key(1))
    assert metrics["non_finite"].sum() > 0
    assert np.isfinite(metrics["fitness"]).all()
    assert state.params["b"] > 0.0
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(state.params))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=name)
def test_members_of_one_group_get_the_same_key_and_others_do_not(strategy):
    noise = lambda key, params: jax.random.uniform(key)
    metrics = jax.jit(lambda key: strategy.update(key, strategy.init(START), noise)[1])(
        jax.random.key(0)
    )
    if isinstance(strategy, ES):
        assert metrics["ties"] == 1.0
        assert metrics["fitness_std"] > 0.1
    else:
        np.testing.assert_allclose(metrics["fitness_std"], 0.0, atol=1e-6)


def test_sigma_and_learning_rate_are_leaves():
    def final(lr, sigma):
        strategy = ES(lr=lr, sigma=sigma, shaping=Raw(), optimizer=optax.sgd, population=16)
        return climb(strategy, jax.random.key(3), lambda key, params: params["b"] ** 3, 2)[
            0
        ].params["b"]

    sigmas = jnp.array([0.05, 0.1, 0.5])
    many = jax.jit(jax.vmap(final, (None, 0)))(0.1, sigmas)
    np.testing.assert_allclose(many[1], jax.jit(final)(0.1, sigmas[1]), rtol=1e-5)
    assert len(np.unique(many)) == 3
    first = lambda sigma: jax.jit(
        lambda key: climb(SNES(sigma=sigma, population=8), key, bowl, 2)[1]
    )(jax.random.key(3))
    assert first(0.1)["spread"][0] < 0.3 < first(1.0)["spread"][0]


def test_decay_is_by_generation():
    strategy = ES(sigma=0.2, sigma_decay=0.5, lr=0.1, lr_decay=0.0, population=2)
    state, metrics = climb(strategy, jax.random.key(0), bowl, 3)
    np.testing.assert_allclose(metrics["spread"], [0.2, 0.1, 0.05], rtol=1e-6)
    first, _ = climb(strategy, jax.random.key(0), bowl, 1)
    np.testing.assert_allclose(
        state.params["w"], first.params["w"]
    )  # without a learning rate nothing moves
    assert jnp.any(first.params["w"] != 0.0)


def test_the_step_is_an_unbiased_estimate_of_the_smoothed_gradient():
    """Of the cubic x^3, smoothed by sigma: the gradient is 3 x^2 + 3 sigma^2."""
    x, sigma, lr = 0.7, 0.5, 1.0
    strategy = ES(lr=lr, sigma=sigma, shaping=Raw(), optimizer=optax.sgd, population=2)

    def gradient(key):
        state = strategy.init(jnp.array(x))
        return strategy.update(key, state, lambda key, params: params**3)[0].params - x

    found = jax.jit(jax.vmap(gradient))(jax.random.split(jax.random.key(0), 20_000))
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - (3 * x**2 + 3 * sigma**2)) < 4 * error
    assert (
        4 * error < 3 * sigma**2 / 2
    )  # the test could tell the smoothed gradient from the plain one


def test_a_pair_is_antithetic():
    strategy = ES(sigma=0.5, population=4)
    state = strategy.init(TARGET)
    members = [strategy.ask(jax.random.key(0), state, i) for i in range(4)]
    for first, second in ((0, 1), (2, 3)):
        middle = jax.tree.map(lambda a, b: (a + b) / 2, members[first], members[second])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), middle, TARGET)
    assert members[0]["b"] != members[2]["b"]


# ------------------------------------------------------------------------------------------ shaping


def test_pair_sign_by_hand():
    fitness = jnp.array(
        [
            [[1.0, 5.0], [2.0, 5.0]],
            [[-jnp.inf, 9.0], [-jnp.inf, 1.0]],
            [[3.0, 3.0], [1.0, -jnp.inf]],
        ]
    )
    np.testing.assert_allclose(PairSign()(fitness), [[-0.25, 0.25], [0.25, -0.25], [0.5, -0.5]])


def test_centred_rank_by_hand():
    fitness = jnp.array([[3.0, 1.0], [-jnp.inf, 1.0], [7.0, 1.0]])[..., None]
    np.testing.assert_allclose(
        CentredRank()(fitness) * 5 + 2.5, [[4, 2], [0, 2], [5, 2]], atol=1e-6
    )


@pytest.mark.parametrize(
    "shaping", [PairSign(), CentredRank(), ZScore(), Raw()], ids=lambda s: type(s).__name__
)
def test_equal_members_have_equal_utilities(shaping):
    for fitness in (jnp.ones((4, 2, 3)), jnp.full((4, 2, 3), -jnp.inf)):
        utility = shaping(fitness)
        np.testing.assert_allclose(utility[:, 0] - utility[:, 1], 0.0)


@pytest.mark.parametrize(
    "shaping", [PairSign(), CentredRank(), ZScore()], ids=lambda s: type(s).__name__
)
def test_units_do_not_matter(shaping):
    fitness = jax.random.normal(jax.random.key(0), (8, 2, 1))
    np.testing.assert_allclose(shaping(fitness), shaping(100.0 * fitness + 3.0), atol=1e-4)


# ------------------------------------------------------------------------------------------- errors


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match="write population=6"):
        ES(population=5)
    with pytest.raises(TypeError, match=r"\['n'\] = 3 is int"):
        ES().init({"n": 3, "x": 1.0})


def test_without_evosax_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "evosax", None)
    with pytest.raises(ImportError, match=r"jaxrl\[evosax\]"):
        SNES().init(TARGET)
