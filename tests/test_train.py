"""`train`: rows, clocks and budgets; pure, vmapped over the environment, differentiable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choice, TimedOut

import envs
import jaxrl as rl

SMALL = dict(network=rl.MLP((8,)), num_envs=2, num_steps=8, minibatches=2, epochs=1)


def test_rows_share_the_updates_evenly_and_never_exceed_the_steps():
    for steps, evals in ((200_000, 10), (1000, 7), (160, 10), (175, 4)):
        training = rl.Training(rl.ppo(**SMALL), Choice(), steps, evals)
        updates = training.updates
        assert len(updates) == evals
        assert updates.sum() == steps // 16
        assert updates.max() - updates.min() <= 1
        assert training.clocks["step"][-1] == steps // 16 * 16 <= steps


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.5])
@pytest.mark.parametrize("steps", [1000, 10_000, 200_000])
def test_the_evaluation_keeps_to_its_share(steps, share):
    training = rl.Training(
        rl.ppo(**SMALL), envs.make("CartPole-v1"), steps, evals=10, eval_share=share
    )
    rows, episodes = training.eval_rows
    spent = rows.sum() * episodes * 500
    assert spent <= share * steps
    assert training.clocks["eval_step"][-1] == spent
    if share * steps >= 500:
        assert rows[-1]  # the last row comes first
        assert spent > 0


def test_metrics_are_one_row_per_evaluation_and_count_what_happened():
    training = rl.Training(
        rl.ppo(**SMALL), TimedOut(), 16 * 10, evals=4, episodes=2, eval_share=1.0
    )
    _, metrics = jax.jit(training)(jax.random.key(0))
    assert {x.shape for x in metrics.values()} == {(4,)}
    np.testing.assert_array_equal(metrics["step"], [32, 80, 112, 160])
    np.testing.assert_array_equal(metrics["episodes"], np.diff([0, 32, 80, 112, 160]) // 4)
    np.testing.assert_allclose(metrics["return"], 4.0)
    np.testing.assert_allclose(metrics["evaluation"], 4.0)
    expected = {
        "return",
        "length",
        "episodes",
        "evaluation",
        "loss",
        "policy_loss",
        "value_loss",
        "entropy",
        "kl",
    }
    assert set(metrics) >= expected | {
        "clip_fraction",
        "explained_variance",
        "grad_norm",
        "diverged",
        "eval_step",
    }


def test_a_row_without_an_ended_episode_is_nan_and_not_zero():
    training = rl.Training(rl.ppo(**SMALL), TimedOut(max_steps=20), 16 * 3, evals=3, episodes=0)
    _, metrics = jax.jit(training)(jax.random.key(0))
    np.testing.assert_array_equal(np.isnan(metrics["return"]), [True, True, False])
    np.testing.assert_array_equal(metrics["episodes"], [0, 0, 2])
    assert np.isnan(metrics["evaluation"]).all()


def test_the_curve_is_the_mean_over_updates_done_by_hand():
    algo, env = rl.ppo(**SMALL), envs.make("Catch")
    training = rl.Training(algo, env, 16 * 5, evals=2, episodes=0)
    _, metrics = jax.jit(training)(jax.random.key(3))
    state, losses = training.init(jax.random.key(3)), []
    update = jax.jit(lambda key, state: algo.update(key, env, state))
    for row, count in enumerate([2, 3]):
        key_row = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 1), row)
        key_learn = jax.random.split(key_row)[0]
        own = []
        for i in range(count):
            state, out = update(jax.random.fold_in(jax.random.clone(key_learn), i), state)
            own.append(float(out["loss"]))
        losses.append(np.mean(own))
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-4)


def test_too_few_steps_are_explained():
    with pytest.raises(
        ValueError,
        match=r"steps=100 gives 6 updates of 16.*evals=10.*steps=160 or more, or evals=6",
    ):
        rl.train(jax.random.key(0), rl.ppo(**SMALL), Choice(), steps=100)


def test_environment_parameters_are_vmapped():
    env = envs.make("Pendulum-v1", g=jnp.array([1.0, 10.0]), max_steps=8)
    axes = jax.tree.map(lambda x: 0 if jnp.ndim(x) else None, env)
    algo = rl.ppo(**SMALL)
    train = lambda env: rl.train(jax.random.key(0), algo, env, steps=64, evals=2, episodes=0)[1]
    both = jax.jit(jax.vmap(train, in_axes=(axes,)))(env)
    for i, g in enumerate((1.0, 10.0)):
        alone = jax.jit(train)(envs.make("Pendulum-v1", g=g, max_steps=8))
        np.testing.assert_allclose(both["return"][i], alone["return"], rtol=1e-3)
    assert not np.allclose(both["return"][0], both["return"][1])


def test_a_life_can_be_differentiated():
    """The slope of the final policy with respect to the learning rate, against a difference."""
    smooth = SMALL | dict(
        optimizer=rl.Optimizer(__import__("optax").sgd), schedule=rl.Constant(), max_grad_norm=1e9
    )

    def worth(lr):
        state, _ = rl.train(
            jax.random.key(0), rl.ppo(lr=lr, **smooth), Choice(), steps=48, evals=3, episodes=2
        )
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(state.params))

    slope = jax.jit(jax.grad(worth))(1e-3)
    around = (jax.jit(worth)(1e-3 + 2e-4) - jax.jit(worth)(1e-3 - 2e-4)) / 4e-4
    assert np.isfinite(slope)
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(slope, around, rtol=0.2)


def test_memory_of_the_metrics_does_not_grow_with_the_steps():
    size = lambda steps: (
        jax.jit(rl.Training(rl.ppo(**SMALL), Choice(), steps, evals=2))
        .lower(jax.random.key(0))
        .compile()
    )
    few, many = (size(steps).memory_analysis() for steps in (64, 64 * 100))
    assert many.temp_size_in_bytes <= few.temp_size_in_bytes + 4096
    assert many.output_size_in_bytes == few.output_size_in_bytes
