"""Evolution: the tasks, seeds and lifetimes of members, and that useful parameters evolve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choice

import jaxrl as rl
from jaxrl.algorithms.base import Algorithm
from jaxrl.clock import Clock, start_clock
from jaxrl.env import Env, Step, Tasks
from jaxrl.meta import ES, Evolution, InnerLoop, PairSign
from jaxrl.rollout import Policy
from jaxrl.spaces import Box
from jaxrl.tree import pytree, replace, static


@pytree
class Pay(Env):
    """One step, with a reward of the action times the level's worth."""

    worth: jax.Array
    max_steps: int = static(default=1)
    action_space = Box(-1e9, 1e9, (1,))

    def reset(self, key):
        return (), jnp.zeros(1)

    def step(self, key, state, action):
        return (), Step(jnp.zeros(1), action[0] * self.worth, jnp.bool_(True), {})


@pytree
class Worths(Tasks):
    def sample(self, key):
        return Pay(jax.random.uniform(key, minval=1.0, maxval=2.0))


@pytree
class AgeState:
    params: dict
    clock: Clock


@pytree
class Age(Algorithm):
    """A learner: its action is its skill times its number of updates, or those of its clock."""

    skill: float = 1.0
    steps_per_update: int = static(default=1)
    by_clock: bool = static(default=False)

    def init(self, key, env, num_updates=float("inf")):
        return AgeState({"age": jnp.float32(0.0)}, start_clock(num_updates))

    def update(self, key, env, state):
        return AgeState({"age": state.params["age"] + 1.0}, state.clock.tick()), {}

    def agent(self, state):
        return state

    def policy(self, env, agent, greedy):
        age = agent.clock.total if self.by_clock else agent.params["age"]
        return Policy(lambda key, episode: ((), (jnp.asarray(self.skill) * age)[None], ()))


@pytree
class Fast(Age):
    """Its age is ten times the number of its updates."""

    def update(self, key, env, state):
        return AgeState({"age": state.params["age"] + 10.0}, state.clock.tick()), {}


def scores(inner, crn_group, num_tasks=3):
    """[M, K], of members of skills 1, 2, 3, ..."""
    ask = lambda member: {"skill": member + 1.0}
    run = jax.jit(lambda key: inner.run(key, Worths(), ask, np.asarray(crn_group), num_tasks))
    found, metrics = run(jax.random.key(0))
    return np.asarray(found), metrics


@pytest.mark.parametrize("chunk", [None, 5, 1])
def test_each_score_comes_back_to_its_member_and_task_whatever_the_chunk(chunk):
    inner = InnerLoop(Age(), meta_params=("skill",), lifetime=(1, 8), num_runs=2, chunk=chunk)
    found, metrics = scores(inner, [0, 0, 1, 1])
    np.testing.assert_allclose(
        found[1], 2 * found[0], rtol=1e-6
    )  # a pair shares its tasks and lifetimes
    np.testing.assert_allclose(found[3] * 3, found[2] * 4, rtol=1e-6)
    assert len(np.unique(found[[0, 2]] / np.array([[1], [3]]))) == 6  # no others do
    np.testing.assert_allclose(found, scores(replace(inner, chunk=3), [0, 0, 1, 1])[0], rtol=1e-6)
    assert metrics["training_runs"] == 4 * 3 * 2


@pytest.mark.parametrize("by_clock", [False, True])
def test_training_runs_last_as_long_as_their_clock_says(by_clock):
    inner = InnerLoop(Age(by_clock=by_clock), meta_params=("skill",), lifetime=(3, 3), chunk=4)
    found, metrics = scores(inner, [0, 0, 1, 1])
    assert ((found[0] >= 3.0) & (found[0] <= 6.0)).all()  # a lifetime of 3 times a worth of 1 to 2
    assert metrics["lifetime"] == 3.0
    assert metrics["waste"] == 1.0


def test_lifetimes_are_log_uniform_and_their_chunks_waste_little():
    inner = InnerLoop(Age(), meta_params=("skill",), lifetime=(10, 250))
    crn_group = np.arange(64) // 2
    ratio = np.log(25)
    for chunk, most in ((None, 3.5), (16, 1.5), (8, 1.25)):
        _, metrics = scores(replace(inner, chunk=chunk), crn_group, num_tasks=1)
        np.testing.assert_allclose(
            metrics["lifetime"], 240 / ratio, rtol=0.02
        )  # the mean of a log-uniform
        assert 1.0 < metrics["waste"] < most
    assert metrics["waste"] > 1.0


def test_a_training_run_is_as_many_updates_as_its_lifetime():
    """Two more are computed, and change nothing."""
    inner = InnerLoop(Age(), meta_params=("skill",), lifetime=(2, 5))
    env = Pay(jnp.float32(1.0))
    score = inner.run_one(jax.random.key(0), {}, Worths(), env, jnp.int32(3), jnp.int32(5))
    assert score == 3.0


# ----------------------------------------------------------------------------------- a real learner


@pytree
class Choices(Tasks):
    """`Choice`, in which action 1 pays."""

    def sample(self, key):
        return Choice()

    def score(self, env, episode_return):
        return 0.5 + episode_return / 2.0  # the share of good choices


LEARNER = rl.OnPolicy(
    lr=0.0,
    schedule=rl.Constant(),
    num_envs=2,
    num_steps=8,
    epochs=1,
    minibatches=1,
    network=rl.MLP((4,)),
)
INNER = InnerLoop(LEARNER, meta_params=("lr",), lifetime=(4, 12), episodes=8, chunk=4)
EVOLUTION = Evolution(INNER, ES(lr=0.03, sigma=0.02, population=8))
TRAINING = rl.Training(EVOLUTION, Choices(), steps=12, evals=3, episodes=4)
SEEDS = jax.random.split(jax.random.key(0), 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep, uninterrupted, and its folder."""
    folder = tmp_path_factory.mktemp("evolution")
    return rl.sweep(
        TRAINING, {"seed": SEEDS}, folder=folder, keep_best=True, progress=False, save_seconds=0
    ), folder


def test_a_learner_that_can_not_learn_evolves_a_learning_rate(whole):
    kept, folder = whole
    assert kept.sizes == {"seed": 2, "step": 3}
    np.testing.assert_array_equal(kept["step"], [4, 8, 12])  # generations
    assert (kept["evaluation"][:, -1] > 0.6).all()
    assert (kept["return"][:, -1] > kept["return"][:, 0]).all()
    assert {
        "lifetime",
        "training_runs",
        "waste",
        "non_finite",
        "ties",
        "grad_norm",
        "spread",
        "best_fitness",
    } <= set(kept)
    assert not {"length", "episodes"} & set(kept)  # a generation is no episode
    np.testing.assert_array_equal(kept["eval_step"][0], [4, 8, 12])  # selection tasks
    found = rl.agent(folder, TRAINING, kept="best", seed=0)
    score = jax.jit(lambda params: INNER.evaluate(Choices(), params, 4).mean())(found)
    np.testing.assert_allclose(score, kept["best_evaluation"].values[0], rtol=1e-5)


def test_a_stopped_sweep_goes_on_bit_for_bit(whole, tmp_path):
    class Stop(Exception):
        pass

    def stop(report):
        if report.fraction > 0.5:
            raise Stop

    again = {"over": {"seed": SEEDS}, "folder": tmp_path, "keep_best": True, "save_seconds": 0}
    with pytest.raises(Stop):
        rl.sweep(TRAINING, **again, progress=stop)
    resumed = rl.sweep(TRAINING, **again, progress=False)
    for name in ("return", "evaluation", "grad_norm", "best_evaluation"):
        np.testing.assert_array_equal(whole[0][name], resumed[name])


def test_the_strategys_settings_are_swept_by_name():
    assert rl.tree.find(TRAINING, "sigma") == "algo.strategy.sigma"
    assert rl.tree.find(TRAINING, "strategy.lr") == "algo.strategy.lr"


# ------------------------------------------------------------------------------------------- errors


def tuning(name):
    return replace(EVOLUTION, inner=replace(INNER, meta_params=(name,)))


def test_errors_come_before_compiling():
    with pytest.raises(ValueError, match="no field 'wieghts'"):
        rl.sweep(replace(TRAINING, algo=tuning("wieghts")), {"seed": SEEDS}, progress=False)
    with pytest.raises(TypeError, match="in place of one environment"):
        rl.sweep(replace(TRAINING, env=Choice()), {"seed": SEEDS}, progress=False)
    with pytest.raises(TypeError, match=r"normalize_advantage.* is bool"):
        rl.sweep(replace(TRAINING, algo=tuning("rule")), {"seed": SEEDS}, progress=False)
    with pytest.raises(ValueError, match=r"write lifetime=\(10, 60\)"):
        InnerLoop(lifetime=(20, 10))
    with pytest.raises(ValueError, match=r"write lifetime=\(10, 60\)"):
        InnerLoop(lifetime=20)
    with pytest.raises(ValueError, match="Nothing is tuned"):
        rl.sweep(
            replace(TRAINING, algo=replace(EVOLUTION, inner=replace(INNER, meta_params=()))),
            {"seed": SEEDS},
            progress=False,
        )
    with pytest.raises(TypeError, match=r"network.* is object"):
        rl.sweep(replace(TRAINING, algo=tuning("network")), {"seed": SEEDS}, progress=False)
    assert isinstance(EVOLUTION.strategy.shaping, PairSign)


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        *((InnerLoop, {name: 0}) for name in ("episodes", "num_runs", "chunk")),
        (rl.Evolution, {"num_tasks": 0}),
        (rl.PES, {"population": 3}),
        (rl.PES, {"population": 0}),
        (rl.CMAES, {"population": 1}),
        (rl.meta.PersistentEvolution, {"unroll": 0}),
        (rl.MetaGradient, {"num_updates": 0}),
        (rl.MetaGradient, {"num_agents": 0}),
        (rl.RegularizedEvolution, {"hall": 0}),
        (rl.Bootstrap, {"num_updates": 0}),
        (rl.SelfTuning, {"num_updates": 0}),
    ],
)
def test_counts_that_can_do_nothing_are_refused(kind, counts):
    (name,) = counts
    with pytest.raises(ValueError, match=rf"{name}=.* write"):
        kind(**counts)


# ----------------------------------------------------------------------------------- several kinds


def assigned(crn_group, num_tasks, kinds=3):
    """Which family each score is of, its member and its group there."""
    calls = []

    def run(key, number, members, groups, count):
        calls.append((number, members.tolist(), groups.tolist(), count))
        return jnp.full((len(members), count), float(number)), {
            "lifetime": jnp.float32(number),
            "training_runs": jnp.int32(len(members) * count),
        }

    families = rl.Families((Worths(),) * kinds)
    found, metrics = families.run(jax.random.key(0), np.asarray(crn_group), num_tasks, run)
    assert metrics == {"lifetime": 1.0, "training_runs": len(crn_group) * num_tasks}
    return found, [call[1:] for call in calls]


def test_groups_or_tasks_take_turns_among_families():
    found, calls = assigned([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], 1)
    assert found[:, 0].tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert calls[1] == ([2, 3, 8, 9], [0, 0, 1, 1], 1)
    found, calls = assigned([0], 6)
    assert found.tolist() == [[0, 1, 2, 0, 1, 2]]
    assert calls[2] == ([0], [0], 2)
    with pytest.raises(ValueError, match="write num_tasks=6"):
        assigned([0, 0, 1, 1], 4)
    with pytest.raises(TypeError, match=r"families\[0\]"):
        rl.Families((Worths(),)).sample(jax.random.key(0))
    with pytest.raises(ValueError, match="needs a distribution"):
        rl.Families(())
    with pytest.raises(ValueError, match="1 learners for 2 families"):
        rl.Families((Worths(), Worths()), (Age(),))


def test_families_score_their_members_as_by_themselves():
    """Two copies of one distribution: a member's scores are proportional to its skill."""
    inner = InnerLoop(Age(), meta_params=("skill",), lifetime=(3, 3))
    ask = lambda member: {"skill": member + 1.0}
    both = rl.Families((Worths(), Worths()))
    run = jax.jit(lambda key: inner.run(key, both, ask, np.array([0, 0, 1, 1]), 1)[0][:, 0])
    found = run(jax.random.key(0))
    np.testing.assert_allclose(found[1] / found[0], 2.0, rtol=1e-6)
    np.testing.assert_allclose(found[3] / found[2], 4.0 / 3.0, rtol=1e-6)


def test_families_have_learners_of_their_own():
    """The second family's learner has another rate, and the same meta-parameters are put in it."""
    inner = InnerLoop(Age(), meta_params=("skill",), lifetime=(3, 3))
    same = rl.Families((Worths(), Worths()))
    other = replace(same, learners=(Age(), Fast()))
    ask = lambda member: {"skill": member + 1.0}
    run = lambda tasks: inner.run(jax.random.key(0), tasks, ask, np.array([0, 0, 1, 1]), 1)[0][:, 0]
    np.testing.assert_allclose(run(other) / run(same), [1.0, 1.0, 10.0, 10.0], rtol=1e-6)


@pytree
class Returns(Age):
    """A learner with a training return of its number of updates at every second one, from the
    second on.
    """

    def update(self, key, env, state):
        new, _ = super().update(key, env, state)
        age = new.params["age"]
        ended = (age % 2 == 0).astype(jnp.int32)
        return new, {"return": jnp.where(ended > 0, age, jnp.nan), "episodes": ended}


def test_the_area_is_the_mean_of_the_latest_return():
    inner = InnerLoop(Returns(), lifetime=(2, 9), by_area=True)
    env = Pay(jnp.float32(1.0))
    score = lambda lifetime: inner.run_one(
        jax.random.key(0), {}, Worths(), env, jnp.int32(lifetime), jnp.int32(9)
    )
    assert score(7) == np.mean([2, 2, 4, 4, 6, 6])
    assert jnp.isnan(score(1))  # no episode has ended
