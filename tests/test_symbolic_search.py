"""Searches for programs: by examples, by training runs, after a screening; and their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreter import interpret
from members import quick
from probes import Choice

import envs
import jaxrl as rl
from experiments._discovery import Always
from jaxrl.env import Tasks
from jaxrl.meta import Drift, Evolution, Examples, Fit, RegularizedEvolution, drift_examples
from jaxrl.symbolic import (
    DriftProgram,
    FunctionProgram,
    Language,
    ValueProgram,
    formula,
    parse,
)
from jaxrl.symbolic.operations import NUMBER
from jaxrl.tree import pytree, replace

X = Language((("x", NUMBER),), ("add", "sub", "mul", "max", "abs"))
POINTS = jnp.linspace(-2.0, 2.0, 21)
SQUARE = Examples({"x": POINTS}, POINTS**2 + 0.05 * jax.random.normal(jax.random.key(7), (21,)))
SIZES = {"population": 32, "children": 16, "tournament": 4, "hall": 4}
SEARCH = RegularizedEvolution(
    Fit(FunctionProgram(parse("x + 0", X, 4))), begin_random=True, **SIZES
)
SEEDS = jax.random.split(jax.random.key(0), 3)
TRAINING = rl.Training(SEARCH, SQUARE, steps=24, evals=3, episodes=1)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    return rl.sweep(
        TRAINING, {"seed": SEEDS}, folder=folder, progress=False, save_seconds=0
    ), folder


def test_a_search_finds_the_square_among_noise(found):
    kept, folder = found
    assert (kept["evaluation"][:, -1] > 0.99).all()
    assert (np.diff(kept["evaluation"]) >= -1e-6).all()  # the hall of fame loses nothing
    assert ((kept["programs"] > 0) & (kept["new_share"] < 1)).all()
    best = rl.agent(folder, TRAINING, seed=0)["model"]
    assert "x ** 2" in formula(best.program).replace("abs(x)", "x")


def test_a_stopped_search_goes_on_bit_for_bit(found, tmp_path):
    class Stop(Exception):
        pass

    def stop(report):
        if report.fraction > 0.5:
            raise Stop

    again = {"over": {"seed": SEEDS}, "folder": tmp_path, "save_seconds": 0}
    with pytest.raises(Stop):
        rl.sweep(TRAINING, **again, progress=stop)
    resumed = rl.sweep(TRAINING, **again, progress=False)
    for name in ("return", "evaluation", "programs", "best_fitness"):
        np.testing.assert_array_equal(found[0][name], resumed[name])


def test_the_best_candidates_of_the_screening_are_scored():
    search = replace(
        SEARCH,
        screening=SEARCH.inner,
        children=4,
        num_candidates=8,
        population=8,
        proposals=2,
    )
    key, state = jax.random.key(3), search.init(jax.random.key(4), SQUARE)
    candidates, number, _ = jax.jit(search._propose)(jax.random.split(key)[0], state)
    assert len(number) == 32
    after, _ = jax.jit(search.update)(jax.random.key(3), SQUARE, state)
    target, scores = np.asarray(SQUARE.target), []
    for code, constants, new in zip(
        candidates.program.code, candidates.program.constants, number, strict=True
    ):
        lists = {"values": [0.0]}  # of which there are none, but the interpreter counts them
        said = [
            interpret(
                replace(SEARCH.inner.model.program, code=code, constants=constants),
                lists | {"x": x},
            )[0]
            for x in POINTS
        ]
        scores += [1.0 - np.mean((np.array(said) - target) ** 2) / target.var()] if new else []
    np.testing.assert_allclose(
        np.sort(after.fitness[:4]), np.sort(scores)[-4:], rtol=1e-3, atol=1e-3
    )
    assert np.isposinf(after.fitness[4:]).all()  # not scored yet, so parents
    assert after.hall.fitness[0] == after.fitness[:4].max()


@pytest.mark.parametrize("screening", [None, SEARCH.inner])
def test_the_initial_program_is_scored_and_never_lost(screening):
    """The square itself, which nothing can be better than by more than the noise."""
    square = FunctionProgram(parse("x * x", X, 4))
    search = replace(SEARCH, inner=Fit(square), screening=screening, begin_random=False)
    update = jax.jit(search.update)
    state, metrics = update(jax.random.key(6), SQUARE, search.init(jax.random.key(5), SQUARE))
    score = float(Fit(square).score(SQUARE, {}))
    assert score > 0.99
    assert metrics["leader"] >= score - 1e-6
    _, metrics = update(jax.random.key(8), SQUARE, state)
    assert metrics["leader"] >= score - 1e-6


def test_constants_are_refined_by_any_strategy():
    """The same examples, but what is tuned is the constants of a formula."""
    drift = drift_examples(DriftProgram.of("3 * abs(advantage) * (ratio - 1) ** 2"))
    fit = Fit(
        Drift(DriftProgram.of("1 * abs(advantage) * (ratio - 0.5) ** 2")),
        meta_params=("constants",),
    )
    evolution = Evolution(fit, rl.ES(lr=0.05, sigma=0.05, population=16))
    training = rl.Training(evolution, drift, steps=150, evals=1, episodes=1)
    state, metrics = jax.jit(training)(jax.random.key(0))
    assert metrics["evaluation"][-1] > 0.99
    refined = fit.with_params(state.params).objective.program
    np.testing.assert_allclose(refined.constants[:2], [3.0, 1.0], atol=0.2)


def test_a_learned_drift_is_distilled_by_the_same_search():
    """LPO's network, here at random, to the best of a few hundred formulas; more take longer."""
    examples = drift_examples(rl.LPO.random(jax.random.key(1), 8))
    begin = DriftProgram.of("kl * abs(advantage)", margin=1e-4, lines=6)
    search = RegularizedEvolution(Fit(Drift(begin), meta_params=("objective",)), **SIZES)
    training = rl.Training(search, examples, steps=40, evals=2, episodes=1)
    state, metrics = jax.jit(training)(jax.random.key(0))
    first = Fit(Drift(begin)).score(examples, {})
    assert metrics["evaluation"][-1] > max(first, 0.3)
    assert formula(state.params["objective"].program)


LOSS = ValueProgram.of(
    "(at(values, action) + (reward + discount * best(next_values))) ** 2", lines=7
)
LEARNER = rl.OnPolicy(
    rl.TD(LOSS),
    lr=0.1,
    num_envs=2,
    num_steps=4,
    epochs=1,
    minibatches=1,
    network=rl.MLP((4,)),
    schedule=rl.Constant(),
)


@pytree
class Choices(Tasks):
    """`Choice`, in which action 1 pays."""

    def sample(self, key):
        return Choice()

    def score(self, env, episode_return):
        return 0.5 + episode_return / 2.0


def test_training_runs_score_programs_after_a_screening_and_the_rule_is_a_file(tmp_path):
    inner = rl.InnerLoop(
        LEARNER, meta_params=("criterion",), lifetime=(8, 8), episodes=2, greedy=True
    )
    screening = replace(inner, lifetime=(2, 2))
    search = RegularizedEvolution(
        inner, screening, remembered=256, num_tasks=2, num_candidates=2, **SIZES
    )
    state, metrics = quick(rl.Training(search, Choices(), steps=4, evals=2, episodes=2))(
        jax.random.key(0)
    )
    # `experiments.discover_symbolic` measures how well it searches
    assert np.isfinite(metrics["evaluation"]).all()
    # the tasks stay the same, so that the best is never lost
    assert (np.diff(metrics["leader"]) >= 0.0).all()
    again = inner.scores(jax.random.key(state.seed), Choices(), state.params, 2).mean()
    np.testing.assert_allclose(again, state.hall.fitness[0], rtol=1e-6)
    assert len(np.unique(state.hall.number)) == SIZES["hall"]
    criterion = state.params["criterion"]
    rl.save_rule(tmp_path / "rule", replace(LEARNER.rule, criterion=criterion), command="none")
    again = rl.load_rule(tmp_path / "rule").criterion.program
    assert formula(again) == formula(criterion.program)
    np.testing.assert_array_equal(again.code, criterion.program.code)


def test_families_of_other_spaces_weigh_alike_in_the_score_of_a_program():
    """The program of a search is one for all, and its fitness the mean of each family's own."""
    threes = envs.tabular.garnet(jax.random.key(1), num_states=4, num_actions=3, max_steps=3)
    families = rl.Families((Choices(), Always(threes)))
    inner = rl.InnerLoop(LEARNER, meta_params=("criterion",), lifetime=(2, 2), episodes=2)
    search = RegularizedEvolution(inner, num_tasks=4, **SIZES | {"children": 2, "population": 4})

    def run(key):
        state, _ = search.update(key, families, search.init(key, families))
        keys = [jax.random.fold_in(jax.random.key(state.seed), i) for i in range(2)]
        return state, [
            inner.scores(key, family, state.params, 2)
            for key, family in zip(keys, families.families, strict=True)
        ]

    state, scores = quick(run)(jax.random.key(2))
    np.testing.assert_allclose(state.hall.fitness[0], np.mean(scores), rtol=1e-5)
    assert not np.allclose(*scores)


def test_errors_of_a_search_come_before_compiling():
    with pytest.raises(ValueError, match="write population=64"):
        replace(SEARCH, children=16, population=8)
    with pytest.raises(TypeError, match=r"meta_params names constants \(.*\): write"):
        replace(SEARCH, inner=Fit(SEARCH.inner.model, meta_params=("constants",))).init(
            jax.random.key(0), SQUARE
        )
    with pytest.raises(TypeError, match="in place of one environment"):
        SEARCH.init(jax.random.key(0), Choice())
