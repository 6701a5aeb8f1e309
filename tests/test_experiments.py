"""Every experiment is found and runs with its smoke settings: in this process, but for `demo`."""

import importlib
import json
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import tyro
from members import quick

import jaxrl as rl

ROOT = pathlib.Path(__file__).parent.parent
SMOKE = {
    # its own small runs are in test_accelerator_runs.py
    "accelerator": "--help",
    "bootstrapped_entropy": "--period 7 --periods 2 --rows 1 --seeds 2 --meta-lrs "
    "0.01 --fixed 0.3 --runs "
    "{out}/runs --folder {out}",
    # which is skipped without the weights; its rule is in test_disco.py
    "disco103_on_catch": "--weights none --folder {out}",
    "discover_clock": "--worlds two_colours --every-world --generations 1 --evals 1 --seeds 2 "
    "--population 4 --lifetime 2 3 --test-lifetimes 2 4 --rates 1 --width 4 --selection-levels 2 "
    "--test-levels 4 --headroom-levels 4 --runs {out}/runs --folder {out}",
    # with one environment in place of three: several are in test_symbolic_search.py
    "discover_dqn": "--generations 1 --evals 1 --seeds 2 --population 4 --children 2 --candidates "
    "2 --levels 1 --updates 12 --screening-updates 5 --selection-levels 1 --tuning-seeds 2 "
    "--test-seeds 2 --searched Catch --unseen --runs {out}/runs --folder {out}",
    "discover_lpo": "--generations 2 --evals 1 --seeds 2 --population 4 --updates 2 "
    "--selection-levels 2 "
    "--test-levels 4 --settings 1 --width 4 --runs {out}/runs --folder {out}",
    "discover_ppo": "--arms schedule --families Catch --generations 1 --evals 1 --seeds 1 "
    "--population 4 --lifetime 2 3 --selection-levels 2 --runs {out}/runs --folder {out}",
    # of a search that found nothing, see `searched`
    "discovered_ppo": "--names MDP-FrozenLake --searches schedule_2 --seeds 2 --few-seeds 2 "
    "--settings 1 --tuning-seeds 2 --long-tuning --lifetimes 2 3 --families Catch "
    "--search-lifetimes 2 3 --selection 2 --runs {out}/runs --folder {out}",
    "distill_ppo": "--sizes 2 36 --levels 2 --lifetimes 2 3 --families Catch --folder {out}",
    "headroom": "--families Catch --settings 2 --tasks 2 --finalists 1 --final-tasks 2 "
    "--test-tasks 4 --lifetimes 2 3 "
    "--runs {out}/runs --folder {out}",
    "discover_symbolic": "--generations 2 --evals 1 --seeds 2 --population 4 "
    "--children 2 --levels 1 --updates "
    "2 --selection-levels 2 --test-levels 4 --runs {out}/runs --folder {out}",
    "discover_ta_lpg": "--generations 1 --evals 1 --seeds 2 --population 4 "
    "--lifetime 2 3 --test-lifetimes 3 "
    "--size 4 --selection-levels 2 --test-levels 4 --runs {out}/runs --folder {out}",
    "discover_ta_lpo": "--generations 1 --evals 1 --seeds 2 --population 4 "
    "--lifetime 2 3 --test-lifetimes 3 "
    "--rates 1 --clips 1 --width 4 --selection-levels 2 --test-levels 4 --runs {out}/runs "
    "--folder {out}",
    "early_stopping": "--settings 10 --seeds 1 --steps 10240 --orders 2 --quantiles "
    "0.5 --folder {out}",
    "quality_diversity": "--seeds 2 --arm-iterations 2 --sphere-iterations 2 --sizes 4 "
    "--demonstrated-size 4 --ppo-steps 1024 --folder {out}",
    "learned_optimizer": "--generations 2 --evals 1 --seeds 2 --population 4 "
    "--updates 2 --selection-levels 2 "
    "--test-levels 4 --settings 1 --width 4 --runs {out}/runs --folder {out}",
    # its programs are compiled in test_accelerator_compiled.py, and its page is in test_speed.py
    "launches": "--help",
    "memory_speed": "--lengths 4 --batches 1 --sizes 4 --rounds 1 --calls 1 --folder {out}",
    "ppo_classic": "--tasks CartPole-v1 --seeds 2 --scale 0.05 --folder {out}",
    "replay_speed": "--capacities 64 --seeds 2 --batch-size 8 --steps 4 --repeats 1 --folder {out}",
    "scaling": "--updates 1 2 3 4 5 --steps 1200 1200 1200 1200 1200 --scores -2000 -9 --seeds 5 "
    "--width 4 --runs {out}/runs --folder {out}",
    "roofline": "--only products tabular --scale 0.01 --calls 1 --folder {out}",
    "report_speed": "--seeds 6 --rates 2 --rounds 1 --folder {out}",
    # of three agents and levels: with two or four, LLVM can't select an instruction at XLA's
    # optimisation levels 0 and 1
    "schedules": "--generations 1 --evals 1 --seeds 1 --population 4 --meta-lrs 0.01 "
    "--num-agents 3 "
    "--num-updates 2 --lifetime 2 3 --test-lifetimes 3 --selection-levels 3 --test-levels "
    "3 --settings 1 --runs {out}/runs --folder {out}",
    # its own small run is in test_speed.py
    "speed": "--help",
    # its own small run is in test_capabilities.py
    "which": "--help",
    "stats_speed": "--seeds 8 --tasks 2 --resamples 20 --rounds 1 --folder {out}",
    # skipped suites give an empty table
    "suites_speed": "--only pgx:tic_tac_toe --num-envs 2 --steps 4 --repeats 1 --folder {out}",
    "self_play": "--seeds 2 --tuning-seeds 2 --rates 0.01 --entropy-weights 0 0.1 --updates 4 "
    "--num-levels 2 --path {out}/self_play.json",
    # of an extra; its parts are in test_jaxmarl.py and test_teams_speed.py
    "smax": "--help",
    "ship_ppo": "--folder {out}",
    "streams": "--streams 1 2 --steps 640 --algorithms stream_q --folder {out}",
    "sweep_speed": "--steps 5120 --rates 1 --seeds 2 --repeats 1 --ways sweep --folder {out}",
    "teachers": "--teachers DR ACCEL --seeds 2 --steps 4000 --evals 1 --num-envs 4 --num-steps 32 "
    "--scouts 4 --capacity 16 --test-levels 10 --test-episodes 1 --runs {out}/runs --folder {out}",
    "teams": "--worlds TwoStep --arms PQN --seeds 2 --tuning-seeds 1 --rates 0.001 --steps 4096 "
    "--width 4 --evals 1 --episodes 2 --runs {out}/runs --folder {out}",
    "teams_speed": "--kits jaxrl --algorithms IPPO --worlds Spread --seeds 2 --steps.IPPO 2048 "
    "--rounds 1 --loop-steps 0 --curve-seeds 0 --folder {out}",
    "teachers_speed": "--levels Maze-7 --only Uniform --seeds 2 --num-envs 4 --num-steps 8 "
    "--width 4 --updates 1 --rounds 1 --folder {out}",
    "transfer": "--rules symbolic_td --kinds grid --levels 2 --updates 2 --folder {out}",
    "tuners": "--tasks Catch --tuners random halving --repetitions 2 --num-runs 3 --seeds 2 "
    "--test-seeds 2 --updates 9 --runs {out}/runs --folder {out}",
}
ALWAYS = {
    "accelerator",
    "disco103_on_catch",
    "launches",
    "replay_speed",
    "smax",
    "speed",
    "stats_speed",
    "which",
}  # those that take seconds; the others rotate


def test_every_experiment_is_here():
    found = {
        path.stem for path in (ROOT / "experiments").glob("*.py") if not path.stem.startswith("_")
    }
    assert found == {"demo", *SMOKE}


@pytest.mark.parametrize(
    "name", [n if n in ALWAYS else pytest.param(n, marks=pytest.mark.rotate) for n in SMOKE]
)
def test_an_experiment_runs(name, in_process):
    words = SMOKE[name].format(out=in_process).split()
    experiment = importlib.import_module(f"experiments.{name}")
    if "--help" in words:
        with pytest.raises(SystemExit):
            tyro.cli(experiment.Config, args=words)
        return
    if name in ("discovered_ppo", "distill_ppo"):
        searched(in_process)
    experiment.main(tyro.cli(experiment.Config, args=words))
    if name == "ppo_classic":
        record = json.loads((in_process / "ppo_classic.json").read_text())["CartPole-v1"]
        assert record["seed"] == [1000, 1001]
        score = record["evaluation_score"]
        assert score["low"] <= score["iqm"] <= score["high"]
        assert (in_process / "ppo_classic.png").exists()


def searched(folder):
    """Write the record of a search of two meta-seeds that found nothing."""
    weights = {"controller.weights": np.zeros((6, 6)).tolist()}
    (folder / "schedule_2.json").write_text(json.dumps({"found": [weights] * 2}))


def test_the_demo_runs_in_a_process_of_its_own(tmp_path):
    words = f"--seeds 3 --steps 2560 --folder {tmp_path}/demo".split()
    subprocess.run(
        [sys.executable, "-m", "experiments.demo", *words], check=True, timeout=300, cwd=ROOT
    )
    kept = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"curve.png", "best.gif", "results.nc", "sweep.json"} <= kept
    assert rl.load(tmp_path / "demo")["return"].sizes == {"lr": 2, "seed": 3, "step": 5}


def test_each_change_of_transfer_reaches_the_learner():
    from experiments import transfer

    agent = transfer.BY_HAND["ta_lpg"][1](None)
    run = quick(transfer.scorer(agent, transfer.lab.mini(), 4, 8))
    scores = {name: np.asarray(run(0, change)) for name, change in transfer.CHANGES.items()}
    assert all((scores[name] != scores["as found"]).any() for name in scores if name != "as found")


def test_a_fitted_head_has_the_targets_of_dqn_and_of_double_dqn():
    from experiments import discover_dqn

    policy = jnp.array([0.0, 0.0, 1.0])  # of the learner's own values
    for double, next_value in ((0.0, 4.0), (1.0, 2.0)):
        head = discover_dqn.Fitted(discover_dqn.program(discover_dqn.DQN, 10), double)
        values, next_values = jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 1.0, 2.0])
        loss, error = head.loss(values, jnp.int32(1), lambda x: 0.5 + 0.9 * x, next_values, policy)
        np.testing.assert_allclose(error, abs(2.0 - (0.5 + 0.9 * next_value)), rtol=1e-5)
        np.testing.assert_allclose(loss, error**2, rtol=1e-5)


def test_tuning_and_test_seeds_are_apart():
    from experiments import ppo_classic

    assert not set(ppo_classic.TUNING_SEEDS) & set(ppo_classic.TEST_SEEDS)
    assert len(ppo_classic.TEST_SEEDS) >= 32


def test_tuners_are_compared_with_settings_by_hand_and_not_with_unequal_searches():
    from experiments import tuners

    records = tuners.kept(tuners.Config())
    assert tuners.table(records) in tuners.README.read_text()
    for name, record in records.items():
        assert record["summary"] == tuners.summary(record)
        assert record["fixed"]["hand-tuned"]["setting"] == tuners.TASKS[name].by_hand
        assert all(value in tuners.GRID[axis] for axis, value in tuners.TASKS[name].by_hand.items())
    with pytest.raises(SystemExit, match=r"lives=16 \(now 8\).*--folder and --runs"):
        tuners.kept(tuners.Config(num_runs=8))


def test_the_committed_results_are_those_in_the_page():
    from experiments import ppo_classic

    records = json.loads((ppo_classic.RESULTS / "ppo_classic.json").read_text())
    assert set(records) == set(ppo_classic.TASKS)
    assert all(len(record["seed"]) == 32 for record in records.values())
    assert (
        ppo_classic.table({name: records[name] for name in ppo_classic.TASKS})
        in ppo_classic.README.read_text()
    )
