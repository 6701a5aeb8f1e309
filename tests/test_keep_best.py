"""keep_best keeps the agent that was evaluated best, not one before or after."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_resume import TRAINING

import jaxrl as rl
from jaxrl.algorithms.base import Algorithm
from jaxrl.env import Env
from jaxrl.rollout import Policy


@rl.pytree
class Noisy(Env):
    """Random rewards, so that the best evaluation may be that of any row."""

    max_steps: int = rl.static(default=1)
    action_space = rl.Discrete(2)

    def reset(self, key):
        return (), jnp.ones(1)

    def step(self, key, state, action):
        return (), rl.Step(jnp.ones(1), jax.random.normal(key), jnp.bool_(True), {})


EVALUATED = rl.tree.replace(
    TRAINING,
    algo=rl.tree.replace(TRAINING.algo, lr=3e-3, schedule=rl.Constant()),
    env=Noisy(),
    episodes=2,
    eval_share=1.0,
)
SEEDS = {"seed": np.arange(3)}


def replayed(training, seeds):
    """Each row's evaluations and parameters. Slowly."""
    keys = jax.vmap(jax.random.key)(seeds)
    state, rows = jax.vmap(training.init)(keys), []
    run_row = jax.jit(jax.vmap(training.run_row, in_axes=(0, 0, None)))
    for row in range(training.evals):
        state, metrics = run_row(keys, state, row)
        rows.append((np.asarray(metrics["evaluation"]), state.params))
    return rows


def far(a, b):
    return max(
        float(jnp.abs(x - y).max())
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_the_best_are_those_that_were_evaluated(tmp_path):
    results = rl.sweep(
        EVALUATED, SEEDS, folder=tmp_path / "x", keep_best=True, save_seconds=0.0, progress=False
    )
    evaluated = replayed(EVALUATED, jnp.arange(3))
    rows = np.argmax([scores for scores, _ in evaluated], axis=0)
    for seed, row in enumerate(rows):
        assert results["best_evaluation"].sel(seed=seed) == pytest.approx(
            evaluated[row][0][seed], rel=1e-4
        )
        assert results["best_step"].sel(seed=seed) == results["step"][row]
        after = [jax.tree.map(lambda x: x[seed], params) for _, params in evaluated]  # noqa: B023
        kept = rl.policy(tmp_path / "x", EVALUATED, kept="best", seed=seed).agent.params
        assert int(np.argmin([far(kept, params) for params in after])) == row
        assert far(kept, after[row]) < 1e-3
        assert far(rl.policy(tmp_path / "x", EVALUATED, seed=seed).agent.params, after[-1]) < 1e-3
    assert len(set(rows)) > 1  # else a wrong row would pass


def test_errors_of_keep_best(tmp_path):
    with pytest.raises(ValueError, match="needs evaluations"):
        rl.sweep(TRAINING, SEEDS, keep_best=True)
    rl.sweep(TRAINING, {"seed": jnp.arange(1)}, folder=tmp_path / "x", progress=False)
    with pytest.raises(ValueError, match="keep_best=True"):
        rl.policy(tmp_path / "x", TRAINING, kept="best")
    with pytest.raises(ValueError, match="neither of final, best"):
        rl.policy(tmp_path / "x", TRAINING, kept="newest")


@rl.pytree
class Empty:
    params: dict
    clock: rl.Clock


@rl.pytree
class Still(Algorithm):
    """A policy without parameters; an update reports nothing."""

    steps_per_update = 4

    def init(self, key, env, num_updates=float("inf")):
        return Empty({}, rl.Clock(jnp.int32(0), jnp.float32(num_updates)))

    def update(self, key, env, state):
        return Empty({}, state.clock.tick()), {}

    def agent(self, state):
        return {}

    def policy(self, env, agent, greedy):
        return Policy(lambda key, episode: ((), jnp.int32(0), ()))


def test_an_empty_agent_and_metrics_without_a_return(tmp_path):
    training = rl.Training(Still(), Noisy(), steps=16, evals=2, episodes=2, eval_share=1.0)
    reports = []
    results = rl.sweep(
        training, SEEDS, folder=tmp_path / "x", keep_best=True, progress=reports.append
    )
    assert {"return", "length"}.isdisjoint(results)
    np.testing.assert_array_equal(results["best_evaluation"], results["evaluation"].max("step"))
    assert all(np.isnan(report.score) for report in reports)
    for kept in ("final", "best"):
        policy = rl.policy(tmp_path / "x", training, kept=kept, seed=1)
        assert policy.agent == {}
        assert rl.evaluate(jax.random.key(0), Noisy(), policy, 3).shape == (3,)
    assert rl.rerun(tmp_path / "x", 2, training, progress=False).equal
