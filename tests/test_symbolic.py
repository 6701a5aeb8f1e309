"""Programs: execution against a slow interpreter, types, hashes and formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import interpret

import jaxrl as rl
from jaxrl import rules
from jaxrl.clock import Clock
from jaxrl.rules.td import Prediction
from jaxrl.symbolic import (
    DRIFT_LANGUAGE,
    VALUE_LANGUAGE,
    DriftProgram,
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
from jaxrl.tree import replace

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
    # terms without the values change nothing
    same += [f"{DQN} + 0", f"{DQN} + reward", f"max({DQN}, {DQN})"]
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
