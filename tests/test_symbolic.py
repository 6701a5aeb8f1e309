"""Programs: execution against a slow interpreter, types, hashes, formulas, and a search."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from members import quick
from probes import Choice

import jaxrl as rl
from jaxrl import rules
from jaxrl.clock import Clock
from jaxrl.env import Tasks
from jaxrl.meta import Drift, Evolution, Examples, Fit, RegularizedEvolution, drift_examples
from jaxrl.rules.td import Prediction
from jaxrl.symbolic import (
    DRIFT_LANGUAGE,
    VALUE_LANGUAGE,
    DriftProgram,
    FunctionProgram,
    Language,
    ValueProgram,
    fingerprint,
    formula,
    insert,
    mutate,
    parse,
    random_program,
)
from jaxrl.symbolic.operations import NUMBER, OPERATIONS
from jaxrl.symbolic.rules import CLIP, DQN, DQN_CLIPPED, DQN_REG, SPO
from jaxrl.tree import pytree, replace

ALL = Language(VALUE_LANGUAGE.inputs, tuple(OPERATIONS))
LANGUAGES = {"value": VALUE_LANGUAGE, "drift": DRIFT_LANGUAGE, "all": ALL}
LINES = 8
random_programs = {
    name: jax.jit(lambda key, one=one: random_program(key, one, LINES))
    for name, one in LANGUAGES.items()
}
mutated, grown = jax.jit(mutate), jax.jit(insert)


@jax.jit
def both(program, inputs):
    """The result, and its slopes in the inputs."""
    return program(**inputs), jax.grad(lambda x: program(**x).sum())(inputs)


# ----------------------------------------------------------------------------------- the definition


def slowly(name, u, v):
    """An operation on two lists of Python numbers, one for each action."""
    n = len(u)
    rows = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: 0.0 if abs(b) < 1e-3 else a / b,
        "max": max,
        "min": min,
        "neg": lambda a, b: -a,
        "square": lambda a, b: a * a,
        "abs": lambda a, b: abs(a),
        "log": lambda a, b: math.log(max(a, 1e-3)),
        "exp": lambda a, b: math.exp(min(a, 9.0)),
        "tanh": lambda a, b: math.tanh(a),
    }
    if name in rows:
        return [rows[name](a, b) for a, b in zip(u, v, strict=True)]
    whole = {
        "at": lambda: u[min(max(round(v[0]), 0), n - 1)],
        "best": lambda: max(u),
        "mean": lambda: sum(u) / n,
        "softbest": lambda: max(u) + math.log(sum(math.exp(a - max(u)) for a in u)),
        "argbest": lambda: float(u.index(max(u))),
    }
    return [whole[name]()] * n


def interpret(program, inputs):
    held = lambda row: [min(max(float(x), -1e4), 1e4) for x in row]
    n = len(inputs["values"])
    registers = [held(np.broadcast_to(inputs[name], n)) for name in program.language.names]
    registers += [held([c] * n) for c in np.asarray(program.constants)]
    for number, first, second in np.asarray(program.code):
        registers.append(
            held(slowly(program.language.operations[number], registers[first], registers[second]))
        )
    return registers[-1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 100.0))
def test_programs_equal_a_slow_interpreter_and_have_finite_gradients(seed, scale):
    rng = np.random.default_rng(seed)
    inputs = {"values": rng.normal(size=3) * scale, "next_values": rng.normal(size=3) * scale}
    inputs |= {
        "action": float(rng.integers(3)),
        "reward": rng.normal(),
        "discount": rng.random(),
        "fraction": rng.random(),
    }
    program = random_programs["all"](jax.random.key(seed))
    result, slopes = both(
        program, {name: jnp.asarray(x, jnp.float32) for name, x in inputs.items()}
    )
    np.testing.assert_allclose(result, interpret(program, inputs), rtol=2e-3, atol=2e-3)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(slopes))


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_and_their_gradients_are_finite(name):
    hard = np.array([-1e4, -1.0, -1e-30, 0.0, 1e-30, 1e-3, 1.0, 9.0, 1e4])
    u, v = (
        jnp.asarray(x.ravel()[:, None].repeat(2, 1), jnp.float32) for x in np.meshgrid(hard, hard)
    )
    function = OPERATIONS[name].function
    slopes = jax.grad(lambda u, v: function(u, v).sum(), argnums=(0, 1))(u, v)
    assert all(np.isfinite(x).all() for x in (function(u, v), *slopes))


def test_every_read_of_a_list_has_its_result():
    rng = np.random.default_rng(0)
    lists = {name: rng.normal(size=3).astype(np.float32) for name in ("values", "next_values")}
    numbers = {"action": 1.0, "reward": 0.0, "discount": 0.0, "fraction": 0.0}
    ask = lambda text: float(both(parse(text, VALUE_LANGUAGE, 4), lists | numbers)[0][0])
    for name, held in lists.items():
        whole = {"best": held.max(), "mean": held.mean(), "softbest": np.log(np.exp(held).sum())}
        for question, answer in whole.items():
            np.testing.assert_allclose(ask(f"{question}({name})"), answer, rtol=1e-5)
        choices = {"action": 1} | {
            f"argbest({other})": row.argmax() for other, row in lists.items()
        }
        for name_of, action in choices.items():
            np.testing.assert_allclose(ask(f"at({name}, {name_of})"), held[action], rtol=1e-6)


def test_masked_values_are_finite_in_a_program():
    program = parse("best(next_values) - mean(values)", VALUE_LANGUAGE)
    inputs = {"values": jnp.array([1.0, 3.0]), "next_values": jnp.array([-jnp.inf, 2.0])}
    result, _ = both(
        program, inputs | {name: jnp.float32(0.0) for name in VALUE_LANGUAGE.names[2:]}
    )
    np.testing.assert_allclose(result, 0.0)


# -------------------------------------------------------------------------------------------- types


def well_typed(program):
    language, lines = program.language, np.asarray(program.code)
    kinds = ["list" if kind == "list" else kind for _, kind in language.inputs] + [NUMBER] * len(
        language.constants
    )
    for number, *read in lines:
        operation = OPERATIONS[language.operations[number]]
        assert all(0 <= at < len(kinds) for at in read)
        assert all(
            kinds[at] == kind for at, kind in zip(read, operation.argument_types, strict=False)
        )
        kinds.append(operation.result_type)
    return kinds[-1] == NUMBER


@pytest.mark.parametrize("name", LANGUAGES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_every_random_program_and_every_mutant_is_well_typed(name, seed):
    program = random_programs[name](jax.random.key(seed))
    assert well_typed(program)
    for n in range(8):
        changed = mutated(jax.random.fold_in(jax.random.key(seed), n + 1), program)
        assert well_typed(changed)
        assert (np.asarray(changed.code) != np.asarray(program.code)).any(1).sum() <= 1
        program = grown(jax.random.fold_in(jax.random.key(seed), n + 101), changed)
        assert well_typed(program)


def test_a_line_is_inserted_wherever_a_number_is_read():
    program = parse("(ratio - kl) ** 2", DRIFT_LANGUAGE, lines=3)
    codes = jax.vmap(lambda key: insert(key, program).code)(
        jax.random.split(jax.random.key(0), 5000)
    )
    texts = {formula(replace(program, code=code)) for code in np.unique(codes, axis=0)}
    whole = [
        "(ratio + advantage - kl) ** 2",
        "(ratio - (kl + advantage)) ** 2",
        "tanh(ratio - kl) ** 2",
    ]
    assert {formula(parse(text, DRIFT_LANGUAGE)) for text in whole} < texts
    full = parse("(ratio - kl) ** 2", DRIFT_LANGUAGE)  # no line to give way
    np.testing.assert_array_equal(grown(jax.random.key(1), full).code, full.code)


# ------------------------------------------------------------------------- formulas and their rules


def test_a_formula_is_read_and_written():
    assert formula(ValueProgram.of(DQN, lines=9).program) == DQN
    short = {
        "ratio + 0": "max(ratio, ratio)",
        "(ratio - ratio) * advantage": "0 * ratio",
        "square(ratio * ratio)": "abs((ratio ** 2) ** 2)",
        "2 * (ratio * 3)": "6 * ratio",
        "log(1) + kl - -ratio": "kl + ratio",
        "ratio * (ratio - (kl + ratio))": "ratio * -kl",
        "advantage - (kl - ratio) + kl": "advantage + ratio",
    }
    for text, same in short.items():
        assert formula(parse(text, DRIFT_LANGUAGE)) == formula(parse(same, DRIFT_LANGUAGE)), text


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_formula_means_what_its_program_does(name):
    inputs = {
        name: jnp.linspace(0.1, 1.3, 3) * (i + 1) for i, name in enumerate(LANGUAGES[name].names)
    }
    for seed in range(15):
        program = random_programs[name](jax.random.key(seed))
        text = formula(program, digits=9)
        expected, _ = both(program, inputs)
        if (
            text in program.language.names
            or not np.isfinite(expected).all()
            or np.abs(expected).max() > 1e3
        ):
            continue  # no line is left to write, or it is clipped
        try:
            value = float(text)
        except ValueError:
            wide = Language(program.language.inputs, program.language.operations, (0.0,) * LINES)
            value, _ = both(parse(text, wide, LINES), inputs)
        np.testing.assert_allclose(
            value * jnp.ones(3), expected, rtol=1e-3, atol=1e-3, err_msg=text
        )


def test_invalid_formulas_are_refused():
    for text, why in {
        "ratio +": "is not a formula",
        "rato * 2": "nearest are ratio",
        "print(ratio)": "is not part of the language",
        "ratio": "at least one operation",
        "max(ratio)": "with 1 arguments",
        "ratio * 1.5 + ratio * 2.5 + ratio * 3.5 + ratio * 4.5 + ratio * 5.5": "5 numbers",
    }.items():
        with pytest.raises(ValueError, match=why):
            parse(text, DRIFT_LANGUAGE)
    for text in ("best(reward)", "argbest(values)"):
        with pytest.raises(ValueError, match=r"an argument of another type|is not a number"):
            parse(text, VALUE_LANGUAGE)
    with pytest.raises(TypeError, match="input 'ratio' was not given"):
        parse("ratio + 1", DRIFT_LANGUAGE)(advantage=1.0)
    with pytest.raises(ValueError, match="takes a list"):
        Language((("x", NUMBER),), ("add", "best"))


@pytest.mark.parametrize(
    ("text", "closed"),
    [(DQN, rules.SquaredError()), (DQN_REG, rules.DQNReg()), (DQN_CLIPPED, rules.DQNClipped())],
)
def test_a_value_loss_as_a_program_is_its_closed_form(text, closed):
    rng = np.random.default_rng(0)
    real = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    action, discount = (
        jnp.asarray(rng.integers(0, 3, 20)),
        jnp.asarray(rng.random(20) * (rng.random(20) < 0.7), jnp.float32),
    )
    reward, slow = real(20), real(20, 3)
    cost = lambda loss: (
        lambda values: loss(
            Prediction(values, action, reward, discount, slow, jnp.float32(0.0))
        ).sum()
    )
    values = real(20, 3)
    for a, b in zip(
        *(jax.value_and_grad(cost(loss))(values) for loss in (ValueProgram.of(text), closed)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("text", "closed"), [(CLIP, rl.Clip()), (SPO, rl.SPO())])
def test_a_drift_as_a_program_is_its_closed_form(text, closed):
    ratio, advantage = (
        jnp.asarray(x.ravel(), jnp.float32)
        for x in np.meshgrid([0.3, 0.9, 1.0, 1.1, 2.0], [-2.0, 0.5, 1.0])
    )
    program = DriftProgram.of(text).at(Clock(1, 2.0))
    for a, b in zip(
        *(jax.vmap(jax.value_and_grad(one))(ratio, advantage) for one in (program, closed)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_any_program_with_a_margin_keeps_the_drift_conditions():
    ratio, advantage = (
        jnp.concatenate([jnp.ones(8), jnp.linspace(0.3, 3.0, 24)]),
        jnp.tile(jnp.array([-2.0, 1.0]), 16),
    )
    look = jax.jit(
        jax.vmap(jax.value_and_grad(lambda r, a, drift: drift.drift(r, a, 0.5)), (0, 0, None))
    )
    for seed in range(10):
        drift, slope = look(
            ratio, advantage, DriftProgram(random_programs["drift"](jax.random.key(seed)), 1e-4)
        )
        assert (drift >= 0.0).all()
        assert not drift[:8].any()
        assert not slope[:8].any()


# ------------------------------------------------------------------------------------------- hashes


hashed = jax.jit(lambda x: fingerprint(x.signature()))


def number(text, kind=ValueProgram):
    return int(hashed(kind.of(text, lines=16)))


def test_equal_functions_have_equal_hashes_and_others_do_not():
    q, y = "at(values, action)", "(reward + discount * best(next_values))"
    same = [
        DQN,
        f"({y} - {q}) ** 2",
        f"({q} - {y}) * ({q} - {y})",
        f"({q} - (best(next_values) * discount + reward)) ** 2",
    ]
    same += [
        f"{DQN} + 0",
        f"{DQN} + reward",
        f"max({DQN}, {DQN})",
    ]  # what the values are not in changes nothing
    assert len({number(text) for text in same}) == 1
    others = [
        DQN,
        DQN_REG,
        DQN_CLIPPED,
        q,
        f"abs({q} - {y})",
        f"({q} + {y}) ** 2",
        f"0.5 * {DQN}",
        "mean(values) ** 2",
    ]
    assert len({number(text) for text in others}) == len(others)
    assert number("(ratio - 1) * advantage", DriftProgram) == number(
        "advantage * ratio", DriftProgram
    )
    assert number(CLIP, DriftProgram) != number(SPO, DriftProgram)


def test_a_loss_without_gradient_has_hash_zero():
    for text in (
        "(reward - best(next_values)) ** 2",
        "at(values, action) * 0",
        "at(next_values, argbest(values))",
    ):
        assert number(text) == 0, text
    assert number("advantage + 1", DriftProgram) == 0


# ------------------------------------------------------------------------------------------- search

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
    assert np.isfinite(
        metrics["evaluation"]
    ).all()  # how well it searches is `discover_symbolic`'s to say
    assert (
        np.diff(metrics["leader"]) >= 0.0
    ).all()  # the tasks stay, so that the best is never lost
    again = inner.scores(jax.random.key(state.seed), Choices(), state.params, 2).mean()
    np.testing.assert_allclose(again, state.hall.fitness[0], rtol=1e-6)
    assert len(np.unique(state.hall.number)) == SIZES["hall"]
    criterion = state.params["criterion"]
    rl.save_rule(tmp_path / "rule", replace(LEARNER.rule, criterion=criterion), command="none")
    again = rl.load_rule(tmp_path / "rule").criterion.program
    assert formula(again) == formula(criterion.program)
    np.testing.assert_array_equal(again.code, criterion.program.code)


def test_errors_of_a_search_come_before_compiling():
    with pytest.raises(ValueError, match="write population=64"):
        replace(SEARCH, children=16, population=8)
    with pytest.raises(TypeError, match=r"meta_params names constants \(.*\): write"):
        replace(SEARCH, inner=Fit(SEARCH.inner.model, meta_params=("constants",))).init(
            jax.random.key(0), SQUARE
        )
    with pytest.raises(TypeError, match="in place of one environment"):
        SEARCH.init(jax.random.key(0), Choice())
