"""Promises of algorithms around algorithms: one trace, vmap equals a loop, a state is a checkpoint,
and a run that resumes is the run that did not stop, bit for bit.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choice, Choices, Prizes

import jaxrl as rl
from envs.wrappers import AsTeam
from jaxrl import meta, teachers, tuning
from jaxrl.algorithms.rewarded import Rewarded, RewardModel
from jaxrl.symbolic import ValueProgram
from jaxrl.tree import put, pytree

LEARNER = rl.ppo(
    network=rl.MLP((4,)), num_envs=2, num_steps=4, epochs=1, minibatches=1, schedule=rl.Constant()
)
INNER = rl.InnerLoop(LEARNER, meta_params=("entropy_weight",), lifetime=(2, 3), episodes=2)
GREEDY_Q = rl.OnPolicy(
    rule=rl.TD(ValueProgram.of("(at(values, action) - reward) ** 2")),
    network=rl.MLP((4,)),
    num_envs=2,
    num_steps=4,
    epochs=1,
    minibatches=1,
)


@pytree
class Scaled(RewardModel):
    """The environment's reward times `scale`."""

    scale: float = 2.0

    def __call__(self, key, carry, batch):
        return carry, self.scale * batch.reward, {}


AROUND = {  # name: (algorithm, environment or tasks, a float of it that is swept)
    "rewarded": (Rewarded(LEARNER, Scaled()), Choice(), "scale"),
    "rewarded_dqn": (
        Rewarded(
            rl.dqn(
                network=rl.MLP((4,)), num_envs=2, num_steps=4, capacity=32, batch_size=4, warmup=8
            ),
            Scaled(),
        ),
        Choice(),
        "scale",
    ),
    "population": (
        tuning.population(LEARNER, {"lr": tuning.log(1e-4, 1e-2)}, size=4, interval=1),
        Choice(),
        "move",
    ),
    "rewarded_population": (
        tuning.population(
            Rewarded(LEARNER, Scaled()), {"lr": tuning.log(1e-4, 1e-2)}, size=4, interval=1
        ),
        Choice(),
        "scale",
    ),
    "stale": (rl.Stale(LEARNER, lag=2), Choice(), "max_weight"),
    "team": (Rewarded(LEARNER, Scaled()), AsTeam(Choice(), size=2), "scale"),
    "self_tuning": (
        rl.SelfTuning(
            LEARNER,
            rl.PolicyGradientObjective(),
            meta_params=("entropy_weight",),
            num_updates=2,
        ),
        Choice(),
        "max_grad_norm",
    ),
    "bootstrap": (
        rl.SelfTuning(
            LEARNER,
            rl.Bootstrap(target_learner=LEARNER, num_updates=2),
            meta_params=("entropy_weight",),
            num_updates=2,
        ),
        Choice(),
        "max_grad_norm",
    ),
    "evolution": (rl.Evolution(INNER, rl.ES(population=4)), Choices(), "sigma"),
    "persistent": (
        rl.PersistentEvolution(INNER, rl.PES(population=4), unroll=1),
        Choices(),
        "sigma",
    ),
    "meta_gradient": (
        rl.MetaGradient(INNER, num_agents=2, num_updates=2),
        Choices(),
        "max_grad_norm",
    ),
    "curriculum": (
        rl.Curriculum(rl.Evolution(INNER, rl.ES(population=4)), rl.LevelReplay(capacity=4)),
        Choices(),
        "temperature",
    ),
    "taught": (
        rl.Taught(
            LEARNER,
            teachers.ACCEL(replay=teachers.LevelReplay(capacity=8)),
            num_levels=2,
            scouts=2,
        ),
        Prizes(),
        "temperature",
    ),
    "samplr": (
        rl.Taught(teachers.SAMPLR(LEARNER), teachers.SFL(), num_levels=2),
        Prizes(),
        "staleness",
    ),
    "paired": (
        teachers.PAIRED(LEARNER, put(LEARNER, {"num_steps": 2})),
        Prizes(),
        "max_grad_norm",
    ),
    "program_search": (
        rl.RegularizedEvolution(
            rl.InnerLoop(GREEDY_Q, meta_params=("criterion",), lifetime=(2, 2), episodes=2),
            population=4,
            children=2,
            num_candidates=1,
            tournament=2,
            hall=2,
            remembered=16,
        ),
        Choices(),
        "random_fraction",
    ),
}
every = pytest.mark.parametrize("name", AROUND)
ROWS = 2


def path_of(name):
    algo, _, field = AROUND[name]
    paths = [path for path in rl.tree.paths(algo) if path.rpartition(".")[2] == field]
    return min(paths, key=len)


def training_of(name, value):
    algo, env, _ = AROUND[name]
    return rl.Training(
        put(algo, {path_of(name): value}), env, 2 * algo.steps_per_update, evals=ROWS, episodes=0
    )


@functools.cache
def trained(name):
    """Two members with their float doubled in the second: initial states, states after each row
    and metrics [ROWS, 2]; the number of traces; and the compiled row.
    """
    traces = []

    def run_row(value, key, state, row):
        traces.append(name)
        return training_of(name, value).run_row(key, state, row)

    base = float(rl.tree.get(AROUND[name][0], path_of(name)))
    values, keys = (
        jnp.array([base, 2.0 * base], jnp.float32),
        jax.random.split(jax.random.key(0), 2),
    )
    init = jax.jit(jax.vmap(lambda value, key: training_of(name, value).init(key)))
    row = jax.jit(jax.vmap(run_row, in_axes=(0, 0, 0, None)))
    states, metrics = [init(values, keys)], []
    for i in range(ROWS):
        state, reported = row(values, keys, states[-1], i)
        states.append(state)
        metrics.append(reported)
    return values, keys, states, metrics, len(traces), row


@every
def test_a_float_is_swept_in_one_trace(name):
    _, _, states, metrics, traces, _ = trained(name)
    assert traces == 1
    assert not any(np.asarray(reported["diverged"]).any() for reported in metrics)
    assert int(np.asarray(states[-1].clock.n)[0]) == ROWS


@every
def test_a_state_is_a_checkpoint_and_a_resumed_run_is_the_same(name):
    """The second row from a copy of the first one's state, through NumPy arrays and back."""
    values, keys, states, metrics, _, row = trained(name)
    leaves, structure = jax.tree.flatten(states[1])
    assert all(np.size(x) > 0 for x in leaves)  # an empty array has no place in a checkpoint
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    kept = structure.unflatten([x if is_key(x) else jnp.asarray(np.array(x)) for x in leaves])
    state, reported = row(values, keys, kept, 1)
    chex.assert_trees_all_equal(state, states[2])
    chex.assert_trees_all_equal(reported, metrics[1])


@pytest.mark.rotate
@every
def test_vmap_is_a_loop(name):
    """The second member alone, compiled without vmap, does what it did beside the first."""
    values, keys, states, metrics, _, _ = trained(name)
    at = lambda x: jax.tree.map(lambda leaf: leaf[1], x)
    alone = jax.jit(lambda value, key, state: training_of(name, value).run_row(key, state, 0))
    _, reported = alone(values[1], keys[1], at(states[0]))
    for measure, value in at(metrics[0]).items():
        np.testing.assert_allclose(value, reported[measure], rtol=2e-2, atol=2e-3, err_msg=measure)


@every
def test_what_acts_acts_from_its_agent_alone(name):
    """The policy of an agent that went through NumPy arrays; meta-learners have none."""
    algo, env, _ = AROUND[name]
    last = trained(name)[2][-1]
    agent = algo.agent(jax.tree.map(lambda x: x[0], last))
    # a sweep asks for the agents of all members at once
    chex.assert_trees_all_equal(agent, jax.tree.map(lambda x: x[0], algo.agent(last)))
    if isinstance(algo, meta.MetaLearner):
        with pytest.raises(TypeError, match="policy"):
            algo.policy(env, agent, greedy=True)
        return
    stored = jax.tree.map(lambda x: jnp.asarray(np.array(x)), agent)
    policy = algo.policy(env, stored, greedy=True)
    env = env.sample(jax.random.key(0)) if isinstance(env, rl.Tasks) else env
    shape = (2,) if env.num_agents is None else (2, env.num_agents)
    assert rl.evaluate(jax.random.key(0), env, policy, 2).shape == shape
