"""Action masks: a forbidden action is never taken, has no gradient, and no network reads it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl as rl
from jaxrl import masks, networks, normalize, spaces
from jaxrl.env import Env, Step
from jaxrl.tree import pytree, static

DRAWS = 4_000
SPACES = {
    "discrete": (spaces.Discrete(3), [True, False, True]),
    "multi": (spaces.MultiDiscrete((2, 3)), [True, False, False, True, True]),
}
each = pytest.mark.parametrize(("space", "mask"), SPACES.values(), ids=SPACES)


def sizes_of(space):
    return (space.n,) if isinstance(space, spaces.Discrete) else space.sizes


def probabilities(space, mask):
    """Of each entry under a uniform policy over the allowed actions: a list of [n_i]."""
    parts = np.split(np.array(mask, float), np.cumsum(sizes_of(space))[:-1])
    return [part / part.sum() for part in parts]


def shares(space, draws):
    draws = np.asarray(draws).reshape(len(draws), -1)
    return [
        np.bincount(draws[:, i], minlength=size) / len(draws)
        for i, size in enumerate(sizes_of(space))
    ]


def flat_actions(space, values):
    """Each action of each entry alone, the other entries at an allowed one."""
    return (
        jnp.int32(values[0]) if isinstance(space, spaces.Discrete) else jnp.array(values, jnp.int32)
    )


@each
def test_an_action_is_allowed_where_each_of_its_entries_is(space, mask):
    parts = np.split(np.array(mask), np.cumsum(sizes_of(space))[:-1])
    for values in np.ndindex(*sizes_of(space)):
        action = flat_actions(space, values)
        expected = all(part[i] for part, i in zip(parts, values, strict=True))
        assert spaces.is_allowed(space, action, jnp.array(mask)) == expected
        assert spaces.is_allowed(space, action, None)
        assert spaces.is_allowed(space, action, jnp.zeros(len(mask), bool))  # as of a final state


@each
def test_a_policy_is_the_softmax_over_the_allowed_actions(space, mask):
    out = {"logits": jnp.zeros(len(mask)), "mask": jnp.array(mask)}
    policy = space.policy(out)
    expected = probabilities(space, mask)
    draws = jax.vmap(policy.sample)(jax.random.split(jax.random.key(0), DRAWS))
    for share, probability in zip(shares(space, draws), expected, strict=True):
        np.testing.assert_allclose(share, probability, atol=0.04)
        assert (share[probability == 0] == 0).all()
    np.testing.assert_allclose(
        policy.entropy(), sum(np.log((part > 0).sum()) for part in expected), rtol=1e-5
    )
    allowed = [int(np.argmax(part)) for part in expected]
    probability = np.prod([part[i] for part, i in zip(expected, allowed, strict=True)])
    np.testing.assert_allclose(
        policy.log_prob(flat_actions(space, allowed)), np.log(probability), rtol=1e-5
    )


@each
def test_a_random_action_is_allowed(space, mask):
    draw = lambda key: space.sample(key, jnp.array(mask))
    for share, probability in zip(
        shares(space, jax.vmap(draw)(jax.random.split(jax.random.key(0), DRAWS))),
        probabilities(space, mask),
        strict=True,
    ):
        np.testing.assert_allclose(share, probability, atol=0.04)
        assert (share[probability == 0] == 0).all()


@each
@pytest.mark.parametrize("none", [False, True], ids=["some", "none"])
def test_gradients_are_finite_and_zero_at_forbidden_actions(space, mask, none):
    """Also where the mask allows no action, as in a final state: there all are allowed."""
    mask = jnp.zeros(len(mask), bool) if none else jnp.array(mask)
    action = flat_actions(space, [2] if isinstance(space, spaces.Discrete) else [0, 2])

    def loss(logits):
        policy = space.policy({"logits": logits, "mask": mask})
        return policy.log_prob(action) + policy.entropy()

    value, grad = jax.value_and_grad(loss)(jnp.linspace(-1.0, 1.0, len(mask)))
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    assert (np.asarray(grad)[~np.asarray(mask)] == 0).all() or none
    assert np.abs(grad).sum() > 0


def test_wrong_masks_are_errors():
    with pytest.raises(ValueError, match=r"shape \(4,\).*3 actions"):
        spaces.Discrete(3).policy({"logits": jnp.zeros(3), "mask": jnp.ones(4, bool)})
    with pytest.raises(ValueError, match=r"sum\(sizes\)"):
        spaces.MultiDiscrete((2, 3)).sample(jax.random.key(0), jnp.ones(2, bool))
    with pytest.raises(TypeError, match=r"mask\.astype\(bool\)"):
        spaces.Discrete(3).sample(jax.random.key(0), jnp.ones(3))
    box = spaces.Box()
    for refused in (
        lambda: box.sample(jax.random.key(0), jnp.ones(1, bool)),
        lambda: box.policy(
            {"loc": jnp.zeros(1), "log_std": jnp.zeros(1), "mask": jnp.ones(1, bool)}
        ),
    ):
        with pytest.raises(TypeError, match="Discrete or MultiDiscrete"):
            refused()


# ----------------------------------------------------------------- networks and statistics ignore


@pytest.mark.parametrize("memory", [None, rl.GRU(4)], ids=["plain", "memory"])
@pytest.mark.parametrize(
    ("builder", "shape"),
    [(rl.MLP((8,)), (3,)), (rl.CNN((4,), hidden=(8,)), (5, 5, 2))],
    ids=["mlp", "cnn"],
)
def test_a_network_reads_the_observation_and_passes_on_the_mask(builder, shape, memory):
    network = networks.build(builder, memory, {"logits": 2})
    visible, mask = jnp.ones((4, *shape)), jnp.array([[True, False]] * 4)
    first = jnp.zeros(4, bool)
    one = jax.tree.map(lambda x: x[0], spaces.Masked(visible, mask))
    params = network.init(jax.random.key(0), one)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        jnp.shape, network.init(jax.random.key(0), visible[0])
    )
    plain = network.apply(params, network.start(), visible, first)[1]
    out = network.apply(params, network.start(), spaces.Masked(visible, mask), first)[1]
    assert "mask" not in plain
    np.testing.assert_array_equal(out["mask"], mask)
    np.testing.assert_array_equal(out["logits"], plain["logits"])


def test_normalisation_statistics_ignore_the_mask():
    visible = np.arange(12, dtype=np.float32).reshape(4, 3)
    obs = spaces.Masked(jnp.asarray(visible), jnp.ones((4, 2), bool))
    stats = normalize.init_obs(True, jax.tree.map(lambda x: x[0], obs))
    stats = normalize.update_obs(stats, jax.tree.map(lambda x: x[:, None], obs))
    scaled = normalize.normalize_obs(stats, obs, True)
    expected = (visible - visible.mean(0)) / visible.std(0)
    np.testing.assert_allclose(scaled.obs, expected, atol=1e-4)
    assert scaled.mask.dtype == bool
    np.testing.assert_array_equal(scaled.mask, obs.mask)
    np.testing.assert_array_equal(normalize.normalize_obs(stats, obs, False).obs, visible)
    np.testing.assert_array_equal(normalize.normalize_obs(None, obs, True).obs, visible)
    assert masks.mask_of(visible) is None


# ------------------------------------------------------------------------------------- an algorithm


@pytree
class Tempting(Env):
    """Three arms of which the one with the largest reward is forbidden."""

    max_steps: int = static(default=4)
    action_space = spaces.Discrete(3)

    def _obs(self):
        return spaces.Masked(jnp.ones(1), jnp.array([True, True, False]))

    def reset(self, key):
        return (), self._obs()

    def step(self, key, state, action):
        return (), Step(self._obs(), jnp.array([-1.0, 1.0, 9.0])[action], jnp.bool_(True), {})


def test_ppo_takes_the_best_allowed_action():
    algo = rl.ppo(
        lr=1e-2, num_envs=4, num_steps=8, minibatches=2, network=rl.MLP((8,)), normalize_obs=True
    )
    train = jax.jit(
        lambda key: rl.train(key, algo, Tempting(), steps=32 * 40, evals=2, episodes=1)[1]
    )
    metrics = train(jax.random.key(0))
    assert metrics["return"][-1] > 0.9
    assert (metrics["return"] <= 1.0).all()
    assert (metrics["evaluation"] <= 1.0).all()
    assert np.isfinite(metrics["loss"]).all()
