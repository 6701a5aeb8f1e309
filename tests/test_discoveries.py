"""The parts that the discovery experiments are made of, without training anything."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from members import quick

import jaxrl as rl
from experiments import _discovery as lab
from experiments import (
    _larger_budgets,
    bootstrapped_entropy,
    discover_clock,
    learned_optimizer,
    transfer,
)
from experiments.papers import earlier_discoveries

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


def test_an_interval_over_meta_seeds_and_levels_has_the_variance_of_both():
    rng = np.random.default_rng(1)
    x = 1.0 + rng.normal(size=(40, 1)) + 2.0 * rng.normal(size=(1, 50))
    same_levels = x - x.mean(0, keepdims=True) + 3.0 * rng.normal(size=(1, 50))
    zero = np.zeros((1, 50))
    for one, variance in (
        (x, x.mean(1).var() / 40 + x.mean(0).var() / 50),
        (np.tile(x[:1], (40, 1)), x[0].var() / 50),
    ):
        middle, low, high = discover_clock.interval([(one, zero)])
        assert middle == pytest.approx(one.mean(), abs=1e-4)
        assert high - low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.1)
    # levels cancel where both have the same ones
    _, low, high = discover_clock.interval([(same_levels, same_levels)])
    assert high - low == pytest.approx(2 * 1.96 * (2 * x.mean(1).var() / 40) ** 0.5, rel=0.1)
    # the mean over worlds
    found = discover_clock.interval([(zero + 1.0, zero), (zero + 4.0, zero)])
    assert found == [2.5, 2.5, 2.5]


def test_the_colours_swap_in_the_middle_of_a_training_run(monkeypatch):
    place = discover_clock.World(discover_clock.Colours(0.5), rl.MLP((4,)), continues=True)
    loop = place.inner_loop(place.agent(rl.Clip()), ("lr",), (6, 60))
    monkeypatch.setattr(rl.InnerLoop, "run_one", lambda self, *args: args[3].period)
    env = place.tasks.sample(jax.random.key(0))
    for lifetime in (6, 31):
        period = loop.run_one(jax.random.key(0), {}, place.tasks, env, lifetime, lifetime)
        assert period == lifetime * loop.learner.num_steps // 2


def test_where_no_episode_ends_the_return_is_the_reward_of_a_rollout():
    place = discover_clock.World(discover_clock.Colours(0.5), rl.MLP((4,)), continues=True)
    agent = rl.tree.replace(
        place.agent(rl.Clip()), num_envs=2, num_steps=4, epochs=1, minibatches=1
    )
    env = place.tasks.sample(jax.random.key(0))

    @quick
    def both(key):
        key_init, key_update = jax.random.split(key)
        state = agent.init(key_init, env, 10)
        _, played = agent.collect(jax.random.split(key_update)[0], env, state)
        return played.transitions.reward, agent.update(key_update, env, state)[1]

    rewards, metrics = both(jax.random.key(1))
    assert metrics["episodes"] == 1
    assert float(metrics["return"]) == pytest.approx(float(np.mean(rewards)), abs=1e-6)


def test_a_claim_reads_the_larger_budgets_where_their_records_are(monkeypatch, tmp_path):
    rows = lambda claims: {claim.row: claim for claim in claims}
    monkeypatch.setattr(_larger_budgets, "RECORDS", tmp_path)
    first = rows(earlier_discoveries.claims())
    assert first[326].records == ("learned_optimizer.json",)
    for name in (_larger_budgets.CLOCK, _larger_budgets.NETWORKS):
        (tmp_path / name).write_text('{"num_with_room": 2}')
    larger = rows(earlier_discoveries.claims())
    assert list(larger) == list(first)
    assert larger[199].records == first[199].records
    assert larger[326].records == ("learned_optimizer.json", _larger_budgets.NETWORKS)
    assert [check.statement for check in larger[326].accept[1:]] == [
        check.statement for check in first[326].accept
    ]
    family = lambda low, is_new: {
        "is_new": is_new,
        "less_than_tuned_Adam": [low + 0.1, low, low + 0.2],
    }
    families = {"a": family(0.5, False), "b": family(-0.2, True), "c": family(0.01, True)}
    best = larger[326].accept[0].effect({_larger_budgets.NETWORKS: {"families": families}})
    assert best.low == pytest.approx(0.01)
    main = larger[70].accept[0]
    record = {"all": {"40": {"gain_by_clock": [0, 0, 0]}, "160": {"gain_by_clock": [2, 1, 3]}}}
    assert main.effect({_larger_budgets.CLOCK: record}).low == 1.0
    (tmp_path / _larger_budgets.CLOCK).write_text('{"num_with_room": 0}')
    nowhere = rows(earlier_discoveries.claims())[70]
    assert nowhere.statement == first[70].statement != larger[70].statement
    found = nowhere.accept[-1].effect({_larger_budgets.CLOCK: {"num_with_room": 0}})
    assert not nowhere.accept[-1].holds(found)


def test_adams_grid_has_no_setting_twice_and_its_default_is_adams():
    grid = learned_optimizer.GRID
    assert len({tuple(one.values()) for one in grid}) == len(grid) == 120
    assert all(set(one) == set(learned_optimizer.DEFAULT) for one in grid)


def test_an_optimizer_is_searched_on_networks_of_several_kinds_at_once():
    config = learned_optimizer.Config(
        worlds="networks", families=("Catch", "chains"), new=("tables",), updates=2, population=4
    )
    places = learned_optimizer.worlds(config)
    assert [world.is_new for world in places.values()] == [False, False, True]
    loops = learned_optimizer.learned_loops(config, places)
    search, tasks = learned_optimizer.evolution(config, places, loops)
    training = rl.Training(search, tasks, 2, 1, 4)
    found = jax.eval_shape(training, jax.random.key(0))[1]
    assert found["evaluation"].shape == (1,)
    assert learned_optimizer.Config().name == "learned_optimizer"
    assert config.name == "learned_optimizer_networks"


def test_an_optimizer_of_networks_is_compared_on_each_family(monkeypatch):
    """With the search and all training runs replaced by numbers."""
    config = learned_optimizer.Config(worlds="networks", seeds=2, settings=6, test_levels=16)

    def discover(search, config, name, tasks):
        assert len(tasks.families) == len(tasks.learners) == 4
        curve = xr.DataArray(np.zeros((2, 1)), dims=("seed", "step"), coords={"step": [1]})
        attrs = {"versions": "{}", "machine": "{}"}
        attrs |= dict.fromkeys(("compile_seconds", "run_seconds", "commit", "started"), 0)
        curves = xr.Dataset(dict.fromkeys(("return", "evaluation", "ties"), curve), attrs=attrs)
        return curves, [search.inner.tuned] * 2

    def sweep_scores(inner, tasks, params, levels, lifetimes, seed=lab.TEST, folder=None):
        assert inner.by_area
        assert lifetimes == (20,)
        scores = np.tile(np.arange(levels) / 100, (len(params), 1)) + 0.1
        if inner.meta_params == ("optimizer.weights",):
            scores[:-1] += 0.2
            scores[0, 0] = np.nan  # as if it had not learned
        elif folder is not None:
            scores[3] += 1.0
            scores[4] = np.nan
        return scores[:, None]

    monkeypatch.setattr(lab, "discover", discover)
    monkeypatch.setattr(lab, "sweep_scores", sweep_scores)
    cost = {"time": 1.0, "memory": 1.0, "count": 9}
    kinds = ("adam", "small_fc", "open", "parameters")
    monkeypatch.setattr(learned_optimizer, "costs", lambda width: dict.fromkeys(kinds, cost))
    record, curves = learned_optimizer.run(config)
    families = record["families"]
    new = [name for name, each in families.items() if each["is_new"]]
    assert new == ["chains", "sparse_processes", "tables"]
    assert families["chains"]["level"] == pytest.approx(1 - 0.05 / 3, abs=1e-4)
    assert families["Catch"]["level"] == 0.95
    third = learned_optimizer.GRID[3]
    assert record["tuned_on_all"] == third
    for name, each in families.items():
        assert {key: record["tuned"][name][key] for key in third} == third
        assert each["diverged"] == {"learned": 1, "Adam, tuned": 0}
        # one of two meta-seeds has lost its 0.2 on one of 16 levels
        assert each["less_than_tuned_Adam"][0] == pytest.approx(0.2 - 0.1 / 16, abs=1e-4)
    learned_optimizer.figure(json.loads(json.dumps(record)), curves)
