"""Prioritised level replay, against slow lists; and that a curriculum keeps the levels of the
highest regret.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_evolution import Age, Pay, Worths

import jaxrl as rl
from jaxrl.meta import ES, Curriculum, Evolution, InnerLoop
from jaxrl.teachers import LevelReplay
from jaxrl.tree import replace

REPLAY = LevelReplay(replay=0.5, temperature=0.5, staleness=0.25, capacity=6)
NUM = 4  # levels in a batch


def slow_probabilities(rows, now, replay):
    """Of rows (worth, regret, last), by the paper's two sums."""
    ranked = sorted(rows, key=lambda row: -row[1])
    score = [(1 / (1 + ranked.index(row))) ** (1 / replay.temperature) for row in rows]
    age = [now - last for _, _, last in rows]
    mix = lambda s, a: (1 - replay.staleness) * s / sum(score) + replay.staleness * a / sum(age)
    return [mix(s, a) for s, a in zip(score, age, strict=True)]


def slow_tell(rows, now, replay, batch):
    """The rows after a batch of (worth, slot or None, regret), trained on at `now`."""
    rows = list(rows)
    for _, slot, regret in batch:
        if slot is not None:
            rows[slot] = (rows[slot][0], regret, now)
    new = sorted([(regret, worth) for worth, slot, regret in batch if slot is None], reverse=True)
    room = replay.capacity - len(rows)
    slots = list(range(len(rows), len(rows) + room))[: len(new)]
    if rows:
        probabilities = slow_probabilities(rows, now + 1, replay)
        slots += sorted(range(len(rows)), key=lambda i: probabilities[i])
    for (regret, worth), slot in zip(new, slots, strict=False):
        if slot >= len(rows):
            rows.append((worth, regret, now))
        elif regret > rows[slot][1]:
            rows[slot] = (worth, regret, now)
    return rows


@jax.jit
def step(key, buffer):
    """A batch, random regrets, the probabilities before it and the buffer after."""
    key_draw, key_regret = jax.random.split(key)
    levels, slot = REPLAY.draw(key_draw, buffer, Worths(), NUM)
    regret = jax.random.uniform(key_regret, (NUM,))
    return (
        levels,
        slot,
        regret,
        REPLAY.probabilities(buffer),
        REPLAY.tell(buffer, levels, slot, regret)[0],
    )


def test_the_buffer_is_the_slow_one():
    buffer, rows = REPLAY.init(Worths()), []
    seen = 0
    for now in range(40):
        levels, slot, regret, probabilities, buffer = step(
            jax.random.fold_in(jax.random.key(0), now), buffer
        )
        if rows:
            np.testing.assert_allclose(
                probabilities[: len(rows)], slow_probabilities(rows, now, REPLAY), rtol=1e-5
            )
            np.testing.assert_array_equal(probabilities[len(rows) :], 0.0)
        worth, old = (
            levels.worth.tolist(),
            [p if p < REPLAY.capacity else None for p in slot.tolist()],
        )
        assert all(p is None or w == rows[p][0] for w, p in zip(worth, old, strict=True))
        drawn = [p for p in old if p is not None]
        assert len(set(drawn)) == len(drawn)
        seen += len(drawn)
        rows = slow_tell(rows, now, REPLAY, list(zip(worth, old, regret.tolist(), strict=True)))
        kept = [buffer.levels.worth, buffer.regret, buffer.last]
        np.testing.assert_allclose(np.stack(kept, 1)[: len(rows)], rows, rtol=1e-6)
        assert buffer.filled.sum() == len(rows)
    assert 50 < seen < 110  # half of 160


def test_high_regret_and_great_age_are_drawn_more():
    buffer = replace(
        REPLAY.init(Worths()), regret=jnp.array([0.1, 0.9, 0.5, 0.0, 0.0, 0.0]), now=jnp.int32(9)
    )
    buffer = replace(buffer, last=jnp.array([0, 7, 8, -1, -1, -1]))
    always = replace(REPLAY, replay=1.0)
    slot = jax.vmap(lambda key: always.draw(key, buffer, Worths(), 1)[1][0])(
        jax.random.split(jax.random.key(1), 4000)
    )
    share = np.bincount(slot, minlength=7) / 4000
    score = np.array([1 / 9, 1.0, 1 / 4])  # ranks 3, 1, 2, to the power of -2
    expected = 0.75 * score / score.sum() + 0.25 * np.array([9, 2, 1]) / 12
    np.testing.assert_allclose(share[:3], expected, atol=0.03)
    np.testing.assert_array_equal(share[3:], 0.0)


def test_every_level_enters_and_new_ones_keep_coming():
    replay = LevelReplay(replay=0.75, capacity=32)
    buffer, seen_worths = replay.init(Worths()), []

    @jax.jit
    def batch(key, buffer):
        levels, slot = replay.draw(key, buffer, Worths(), NUM)
        return levels.worth, slot, replay.tell(buffer, levels, slot, 2.0 - levels.worth)[0]

    new = []
    for i in range(60):
        worth, slot, buffer = batch(jax.random.fold_in(jax.random.key(2), i), buffer)
        new.append(np.mean(slot == replay.capacity))
        seen_worths += worth[slot == replay.capacity].tolist()
        if len(seen_worths) <= 32:
            assert set(seen_worths) == set(buffer.levels.worth[buffer.filled].tolist())
    assert len(seen_worths) > 40
    assert 0.1 < np.mean(new[20:]) < 0.4
    best = sorted(seen_worths)[:4]  # the highest regrets of all that was seen
    assert set(best) <= set(buffer.levels.worth.tolist())


# ----------------------------------------------------------------------------------- with evolution

INNER = InnerLoop(Age(), meta_params=("skill",), lifetime=(1, 1), episodes=1)
CURRICULUM = Curriculum(
    Evolution(INNER, ES(lr=0.0, sigma=1e-6, population=8), num_tasks=2), LevelReplay(capacity=16)
)


def test_the_regret_of_a_level_is_one_less_its_mean_score():
    """A skill of 1 after one update: the score is the level's worth."""
    update = jax.jit(lambda key, state: CURRICULUM.update(key, Worths(), state))
    state = CURRICULUM.init(jax.random.key(0), Worths())
    replayed = []
    for i in range(12):
        state, metrics = update(jax.random.fold_in(jax.random.key(3), i), state)
        replayed.append(metrics["replayed"])
    assert CURRICULUM.evolution.num_levels == 8
    assert replayed[0] == 0.0 < np.mean(replayed[1:])
    buffer = state.buffer
    assert buffer.filled.all()
    np.testing.assert_allclose(buffer.regret, 1.0 - buffer.levels.worth, rtol=1e-3, atol=1e-4)
    assert metrics["regret"] > -0.35  # of levels as they come, -0.5
    assert state.params == {"skill": 1.0}
    assert state.clock.n == 12


def test_given_levels_are_trained_on_in_their_order():
    worth = jnp.arange(1.0, 9.0)
    evolution = CURRICULUM.evolution
    state = evolution.init(jax.random.key(0), Worths())
    _, _, scores = evolution.generation(jax.random.key(1), Worths(), state, Pay(worth))
    np.testing.assert_allclose(scores, jnp.stack([worth, worth]), rtol=1e-4)


def test_a_level_without_a_finite_score_has_the_lowest_probability():
    class Endless(Worths):
        def score(self, env, episode_return):
            return jnp.where(env.worth > 1.5, jnp.nan, episode_return)

    state = CURRICULUM.init(jax.random.key(0), Worths())
    state, _ = CURRICULUM.update(jax.random.key(4), Endless(), state)
    buffer = state.buffer
    gone = buffer.filled & (buffer.levels.worth > 1.5)
    assert 0 < gone.sum() < 8
    assert (buffer.regret[gone] == -jnp.inf).all()
    probabilities = CURRICULUM.levels.probabilities(buffer)
    assert probabilities[gone].max() < probabilities[buffer.filled & ~gone].min()


def test_a_stopped_curriculum_goes_on_bit_for_bit(tmp_path):
    training = rl.Training(CURRICULUM, Worths(), steps=8, evals=4, episodes=2)
    over = {"seed": jax.random.split(jax.random.key(5), 2)}
    whole = rl.sweep(training, over, folder=tmp_path / "whole", progress=False, save_seconds=0)

    class Stop(Exception):
        pass

    def stop(report):
        if report.fraction > 0.5:
            raise Stop

    again = {"folder": tmp_path / "again", "save_seconds": 0}
    with pytest.raises(Stop):
        rl.sweep(training, over, progress=stop, **again)
    resumed = rl.sweep(training, over, progress=False, **again)
    for name in ("return", "evaluation", "regret", "replayed"):
        np.testing.assert_array_equal(whole[name], resumed[name])


def test_errors_come_before_compiling():
    with pytest.raises(ValueError, match="write capacity=32"):
        REPLAY.draw(jax.random.key(0), LevelReplay(capacity=2).init(Worths()), Worths(), 8)
    with pytest.raises(TypeError, match="in place of one environment"):
        CURRICULUM.init(jax.random.key(0), Pay(jnp.ones(())))
    pieces = rl.meta.PersistentEvolution(CURRICULUM.evolution.inner, unroll=1)
    with pytest.raises(TypeError, match="PersistentEvolution samples levels"):
        replace(CURRICULUM, evolution=pieces).init(jax.random.key(0), Worths())
