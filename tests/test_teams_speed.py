"""The speed of teams: its arithmetic, its settings, and its errors."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import smax, teams_speed
from experiments._jaxmarl_scripts import scripts_of
from experiments._team_kits import SETTINGS, Job, algorithm, update_steps
from experiments._team_pages import page
from jaxrl.env import Step

SAME = {"world": "Spread", "algorithm": "IPPO", "seeds": 2, "steps": 10, "compile_seconds": 1.0}


def rows(kit, speeds, **changes):
    same = SAME | {"kit": kit} | changes
    return [same | {"round": n, "steps_per_second": x} for n, x in enumerate(speeds)]


MEASURED = [
    *rows("jaxrl", (300.0, 100.0, 220.0)),
    *rows("JaxMARL", (100.0, 100.0, 200.0)),
    *rows("jaxrl", (200.0, 200.0), algorithm="QMIX"),
    *rows("JaxMARL", (100.0, 100.0), algorithm="QMIX"),
    *rows("vectorised", (5000.0,), algorithm="random"),
    *rows("Python loop", (2.0,), algorithm="random"),
    {**SAME, "kit": "jaxrl", "algorithm": "MAPPO", "round": 0, "failed": "not done in 5 s"},
]


def test_ratios_are_means_of_ratios_of_the_same_round_and_the_smallest_counts():
    found = teams_speed.summary(teams_speed.Config(), MEASURED)
    mean, low, high = found["jaxmarl"]["ratio"]
    assert mean == pytest.approx((3.0 + 1.0 + 1.1) / 3, abs=1e-3)
    assert 1.0 <= low < mean < high <= 3.0
    assert found["jaxmarl"]["algorithms"]["QMIX"]["ratio"] == [2.0, 2.0, 2.0]
    assert "MAPPO" not in found["jaxmarl"]["algorithms"]
    assert found["python_loop"]["ratio"] == [2500.0, 2500.0, 2500.0]
    assert teams_speed.summary(teams_speed.Config(), MEASURED[:3])["jaxmarl"] is None


def test_the_page_has_the_ratios_and_the_failures():
    record = teams_speed.summary(teams_speed.Config(), MEASURED)
    record |= {"date": "", "host": "", "load": [0.0], "versions": {}, "rounds": MEASURED}
    learned = teams_speed.compare(
        {"curve": [[0.0] + [3.0] * 9] * 2, "steps": 10}, {"curve": [[9.0] + [1.0] * 9] * 2}
    )
    assert learned["difference"] == [2.0, 2.0, 2.0]
    text = page(record | {"curves": {"IPPO": learned}, "config": {"curve_seeds": 2}})
    assert "| Spread | QMIX | jaxrl | 200 (200 to 200) | 2.00 [2.00, 2.00] |" in text
    assert "| Spread | MAPPO | jaxrl | not done in 5 s |" in text
    assert "IPPO: +2.00 [+2.00, +2.00]." in text


@pytest.mark.parametrize("name", SETTINGS)
def test_an_update_takes_the_steps_that_its_settings_say(name):
    algo, env = algorithm(Job("jaxrl", name, 1, 1000))
    assert algo.steps_per_update == update_steps(name)
    assert (env.num_agents, env.max_steps) == (3, 26)
    config = teams_speed.Config()
    assert config.curve_steps[name] % (10 * update_steps(name)) == 0  # tenths are as long


def test_an_error_says_how_to_get_the_scripts(tmp_path):
    config = dataclasses.replace(teams_speed.Config(), checkout=tmp_path)
    with pytest.raises(SystemExit, match=r"git clone.*JaxMARL.*--kits jaxrl"):
        teams_speed.main(config)
    with pytest.raises(SystemExit, match="does not have them"):
        scripts_of(None)


def test_a_battle_is_won_where_its_end_pays_one():
    step = lambda reward, terminated: Step((), jnp.full(3, reward), jnp.bool_(terminated), {})
    for reward, terminated, expected in ((1.3, True, 1.0), (0.9, True, 0.0), (1.3, False, 0.0)):
        np.testing.assert_array_equal(smax.won((), step(reward, terminated)), np.full(3, expected))
