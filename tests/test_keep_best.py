"""The parameters that were judged best, not those before or after."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_resume import TRAINING

import jaxrl as rl
from jaxrl.env import Env


@rl.pytree
class Noisy(Env):
    """Rewards of pure luck, so that the best evaluation may be that of any row."""

    max_steps: int = rl.static(default=1)
    action_space = rl.Discrete(2)

    def reset(self, key):
        return (), jnp.ones(1)

    def step(self, key, state, action):
        return (), rl.Step(jnp.ones(1), jax.random.normal(key), jnp.bool_(True), {})


JUDGED = rl.tree.replace(
    TRAINING,
    algo=rl.tree.replace(TRAINING.algo, lr=3e-3, schedule=rl.Constant()),
    env=Noisy(),
    episodes=2,
    eval_share=1.0,
)
SEEDS = {"seed": np.arange(3)}


def replayed(training, seeds):
    """Each row's evaluations and parameters, one row after another. Slowly."""
    keys = jax.vmap(jax.random.key)(seeds)
    state, told = jax.vmap(training.begin)(keys), []
    advance = jax.jit(jax.vmap(training.advance, in_axes=(0, 0, None)))
    for row in range(training.evals):
        state, metrics = advance(keys, state, row)
        told.append((np.asarray(metrics["evaluation"]), state.params))
    return told


def far(a, b):
    return max(
        float(jnp.abs(x - y).max())
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_the_best_are_those_that_were_evaluated(tmp_path):
    results = rl.sweep(
        JUDGED, SEEDS, folder=tmp_path / "x", keep_best=True, save_seconds=0.0, progress=False
    )
    told = replayed(JUDGED, jnp.arange(3))
    rows = np.argmax([scores for scores, _ in told], axis=0)
    for seed, row in enumerate(rows):
        assert results["best_evaluation"].sel(seed=seed) == pytest.approx(
            told[row][0][seed], rel=1e-4
        )
        assert results["best_step"].sel(seed=seed) == results["step"][row]
        after = [jax.tree.map(lambda x: x[seed], params) for _, params in told]  # noqa: B023
        kept = rl.policy(tmp_path / "x", JUDGED, kept="best", seed=seed).state.params
        assert int(np.argmin([far(kept, params) for params in after])) == row
        assert far(kept, after[row]) < 1e-3
        assert far(rl.policy(tmp_path / "x", JUDGED, seed=seed).state.params, after[-1]) < 1e-3
    assert len(set(rows)) > 1  # or else a wrong row would not be seen


def test_they_are_asked_for_where_they_can_be_had(tmp_path):
    with pytest.raises(ValueError, match="needs evaluations"):
        rl.sweep(TRAINING, SEEDS, keep_best=True)
    rl.sweep(TRAINING, {"seed": jnp.arange(1)}, folder=tmp_path / "x", progress=False)
    with pytest.raises(ValueError, match="keep_best=True"):
        rl.policy(tmp_path / "x", TRAINING, kept="best")
    with pytest.raises(ValueError, match="neither of final, best"):
        rl.policy(tmp_path / "x", TRAINING, kept="newest")
