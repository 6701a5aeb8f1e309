"""The parts that the discovery experiments are made of, without training anything."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import quick

import jaxrl as rl
from experiments import _discovery as lab
from experiments import bootstrapped_entropy, transfer

KINDS = list(zip(transfer.Config().kinds, itertools.cycle(("symbolic_td", "ta_lpo")), strict=False))


def traced_only(first):
    """In place of a compiled scorer: traces it, and gives 0.5 for each training run, but two runs
    of this change diverge.
    """

    def compiled(run):
        def scores(seed, change):
            made = np.full(jax.eval_shape(run, seed, change).shape, 0.5, np.float32)
            if change == first:
                made[0], made[-1] = np.nan, np.inf
            return made

        return scores

    return compiled


@pytest.mark.parametrize(("kind", "rule"), KINDS)
def test_every_kind_of_change_is_traced_and_a_life_gone_non_finite_counts_nothing(
    kind, rule, monkeypatch
):
    _, network, changes = transfer.tasks(kind)
    monkeypatch.setattr(lab, "once", traced_only(next(iter(changes.values()))))
    agent = rl.load_agent(rule)
    found = transfer.scores(agent, kind, 3, 4)
    if network is None:
        assert list(found) == list(changes)
        np.testing.assert_array_equal(found["as found"], [0.0, 0.5, 0.5, 0.0])
    else:  # the first rate has lost two of its runs, and is not chosen
        assert list(found) == ["lr x 0.1"]
        np.testing.assert_array_equal(found["lr x 0.1"], 0.5)


def test_transfer_goes_on_from_equal_numbers_alone(tmp_path):
    assert transfer.kept(transfer.Config())[
        "scores"
    ]  # the committed file is of the default numbers
    config = transfer.Config(levels=2, updates=3, folder=tmp_path)
    (tmp_path / "transfer.json").write_text(json.dumps(transfer.kept(config)))
    assert transfer.kept(config)["levels"] == 2
    for other, value in {"levels": 2, "updates": 3}.items():
        with pytest.raises(SystemExit, match=rf"{other}={value} \(now 5\).*another --folder"):
            transfer.kept(transfer.replace(config, **{other: 5}))


def test_a_random_process_scores_by_its_random_and_its_best_policy():
    family = lab.Processes()
    env, scored = quick(family.sample)(jax.random.key(3)), quick(family.score)
    chance, reward = np.asarray(env.transition, float), np.asarray(env.reward, float)
    random, best = np.zeros(20), np.zeros(20)
    for _ in range(50):
        worth = lambda value: [
            [
                sum(chance[s, a, n] * (reward[s, a, 0] + value[n]) for n in range(20))
                for a in range(4)
            ]
            for s in range(20)
        ]
        random, best = np.mean(worth(random), 1), np.max(worth(best), 1)
    for ret, score in ((random.mean(), 0.0), (best.mean(), 1.0), ((random + best).mean() / 2, 0.5)):
        np.testing.assert_allclose(scored(env, jnp.float32(ret)), score, atol=1e-4)


def test_the_clock_of_a_rule_is_its_own_age_none_or_another():
    clock_of = quick(
        jax.vmap(
            lambda age, total, n: lab.TimeConditioned(None, age).clock(rl.Clock(n, total)).n,
            (None, None, 0),
        )
    )
    ages = lambda age, total: clock_of(age, total, jnp.arange(20)).tolist()
    assert ages(1.0, 20) == list(range(20))
    assert ages(0.0, 20) == [0] * 20
    other = ages(-1.0, 20)
    assert other != list(range(20))
    assert min(other) >= 0
    assert 5 < len(set(other)) <= max(other) + 1 <= 20
    assert ages(-1.0, 40) != other  # shares of the lifetime
    assert [n // 2 for n in ages(-1.0, 40)] == other


def test_the_best_meta_learning_rate_has_the_highest_mean_reward():
    # the best single run is not of the best rate
    rewards = np.array([[0.1, 0.9], [0.6, 0.6], [0.8, 0.0], [np.nan, 9.0]])
    earned, best = bootstrapped_entropy.choose(rewards.reshape(-1), (1e-3, 3e-3, 1e-2, 3e-2))
    assert best == 3e-3
    np.testing.assert_allclose(earned, [0.5, 0.6, 0.4, np.nan])
