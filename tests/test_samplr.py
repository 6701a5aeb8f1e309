"""SAMPLR on two doors, behind one of which a hidden coin decides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choice

import jaxrl as rl
from jaxrl.teachers import SAMPLR
from jaxrl.teachers.base import Teacher
from jaxrl.teachers.samplr import _as_redrawn, _unflat

SAFE, COIN = 0, 1


@rl.pytree
class Doors(rl.Env):
    """First look or do not, action 0 or 1; then the safe door pays 0.6, the other the coin, 0 or 1.
    The coin is seen by those that looked.
    """

    coin: float = 0.0
    max_steps: int = rl.static(default=4)
    action_space = rl.Discrete(2)

    def reset(self, key):
        return jnp.zeros(2), jnp.zeros(3)

    def step(self, key, state, action):
        age, looked = state
        looked = jnp.where(age == 0.0, action == 0, looked)
        reward = jnp.where(age == 0.0, 0.0, jnp.where(action == SAFE, 0.6, self.coin))
        obs = jnp.stack([age + 1.0, looked * 1.0, looked * self.coin])
        return jnp.stack([age + 1.0, looked * 1.0]), rl.Step(obs, reward, age == 1.0, {})


@rl.pytree
class FairCoins(rl.Tasks):
    """Doors with a fair coin."""

    def sample(self, key):
        return Doors(jax.random.bernoulli(key).astype(jnp.float32))

    def redraw(self, key, env, state):
        """The posterior: the coin itself where it was seen, a fair one where it was not."""
        return Doors(jnp.where(state[1] == 1.0, env.coin, self.sample(key).coin))


@rl.pytree
class Optimist(Teacher):
    """A teacher that prefers levels on which the coin pays, 9 of 10."""

    def draw(self, key, state, tasks, num):
        return Doors(jax.random.bernoulli(key, 0.9, (num,)).astype(jnp.float32)), ()


PPO = rl.ppo(
    network=rl.MLP((16,)),
    num_envs=64,
    num_steps=8,
    epochs=4,
    minibatches=1,
    lr=1e-2,
    schedule=rl.Constant(),
    entropy_weight=0.01,
)


@jax.jit
def redrawn(key):
    """A rollout's transitions with redrawn steps, and as they were played."""
    pool = rl.teachers.LevelPool(Doors(jnp.array([0.0, 1.0])), tasks=FairCoins())
    algo = SAMPLR(PPO)
    state = algo.init(jax.random.key(0), pool)
    _, experience = PPO.collect(key, algo._redrawn(pool), state)
    return _as_redrawn(experience.transitions), experience.transitions


def test_what_was_not_seen_is_redrawn():
    new, played = jax.device_get(redrawn(jax.random.key(0)))
    age, looked, coin = np.moveaxis(played.obs, -1, 0)
    took_coin = (age == 1.0) & (played.action == COIN)
    safe = (age == 1.0) & (played.action == SAFE)
    np.testing.assert_allclose(new.reward[age == 0.0], 0.0)
    np.testing.assert_allclose(new.reward[safe], 0.6)
    level = played.info["level"]
    seen, unseen = took_coin & (looked == 1.0), took_coin & (looked == 0.0)
    np.testing.assert_allclose(new.reward[seen], level[seen])  # the level's number is its coin
    np.testing.assert_allclose(new.reward[seen], coin[seen])
    for on in (0.0, 1.0):
        here = new.reward[unseen & (level == on)]
        assert abs(here.mean() - 0.5) < 3.0 * 0.5 / np.sqrt(len(here))
        assert len(here) > 20
    # one that looks sees a fair coin, on both levels
    looks = (age == 0.0) & (played.action == 0)
    assert abs(new.next_obs[..., 2][looks & (level == 1.0)].mean() - 0.5) < 0.2
    np.testing.assert_array_equal(new.terminated, played.terminated)
    np.testing.assert_array_equal(new.episode_return, played.episode_return)
    assert set(new.info) == {"level"}


def test_vectors_keep_shapes_and_types():
    tree = (jnp.arange(6).reshape(2, 3) > 2, jnp.float32(4.0), {"x": jnp.arange(2)})
    vectors = jnp.broadcast_to(rl.tree.flat(tree), (5, 7, 9))
    like = jax.tree.map(lambda x: jnp.broadcast_to(x, (5, 7, *x.shape)), tree)
    found = _unflat(vectors, like)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(like), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@jax.jit
def chances(key):
    """The probability of the door with the coin, of one that did not look, after learning with the
    preferred levels as they are and redrawn. [2].
    """
    found = []
    for algo in (PPO, SAMPLR(PPO)):
        taught = rl.Taught(algo, Optimist(), num_levels=16)
        training = rl.Training(taught, FairCoins(), steps=512 * 60, evals=1, episodes=0)
        state = training(key)[0]
        obs = jnp.array([1.0, 0.0, 0.0])
        policy = PPO.forward(Doors(), state.algo, (), obs)[1]["policy"]
        found.append(jnp.exp(policy.log_prob(jnp.int32(COIN))))
    return jnp.stack(found)


def test_a_policy_is_optimal_for_a_fair_coin():
    """The coin pays 0.5 on average, less than the safe door; 0.9 on the levels that are taught."""
    biased, grounded = np.asarray(jax.vmap(chances)(jax.random.split(jax.random.key(0), 8))).T
    assert (biased > 0.8).sum() >= 7
    assert (grounded < 0.2).sum() >= 7


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (
            r"MazeLevels has no redraw\(key, env, state\)",
            lambda: rl.Taught(SAMPLR(PPO)).init(jax.random.key(0), rl.envs.distribution("Maze-7")),
        ),
        ("learns from a replay buffer: use rl.ppo", lambda: SAMPLR(rl.dqn())),
        (
            "got Choice: write rl.Taught",
            lambda: SAMPLR(PPO).init(jax.random.key(0), Choice()),
        ),
    ],
)
def test_what_samplr_needs_is_checked(words, call):
    with pytest.raises(TypeError, match=words):
        call()
