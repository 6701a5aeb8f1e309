"""Write what the search for a better PPO found as files that `rl.load_agent` reads:
`python -m experiments.ship_ppo`.

`ppo_schedule` is PPO with the robust setting and the schedule of 36 weights, the mean over the
meta-seeds; `ppo_formula` has the formula of 12 weights that `distill_ppo` chose. The card of each
has its test: the numbers are those of the record of `discovered_ppo`.
"""

import dataclasses
import json
import pathlib
from typing import Any

import tyro

import jaxrl as rl
from experiments import _ppo_worlds as worlds
from experiments import discovered_ppo as test
from jaxrl.rule_file import SHIPPED
from jaxrl.tree import replace

NAMES = {"ppo_schedule": test.SEARCHES[0], "ppo_formula": "formula"}  # arms of the record
SEARCH = "python -m experiments.discover_ppo --arms schedule"
COMMANDS = [SEARCH, f"{SEARCH} --second --generations 60 --lr 0.04"]
NOTE = (
    "The rule is PPO's own; what was found is the controller of the agent, so load it with "
    "rl.load_agent. Scores: 0 is a random policy, 1 is PPO tuned for the environment, after its "
    "longest training run; interquartile means over seeds of the area under the learning curve, "
    "of the arm, and of its difference to PPO with the robust setting and to tuned PPO, with 95 % "
    "intervals. The cost is that of the second search."
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings; tests use another `folder`."""

    folder: pathlib.Path = SHIPPED
    """a folder for each agent is written there"""
    records: pathlib.Path = worlds.RESULTS


def agents(config: Config) -> dict[str, rl.OnPolicy]:
    """The agents, by the name of their folder."""
    known = test.Config(folder=config.records)
    weights = test.schedules(known, is_large=True)  # without the ablations
    return {
        name: replace(
            worlds.robust(),
            controller=rl.LogLinear(weights[arm][test.WEIGHTS], controlled=worlds.CONTROLLED),
        )
        for name, arm in NAMES.items()
    }


def card(arm: str, config: Config) -> dict[str, Any]:
    """Origin, cost and test of an arm of the record."""
    record = json.loads((config.records / "discovered.json").read_text())
    search = json.loads((config.records / f"{test.SEARCHES[0]}.json").read_text())
    chosen = json.loads((config.records / "formula.json").read_text())
    kept = ("all", "over PPO", "over tuned PPO")
    return {
        "license": "Apache-2.0",
        "command": COMMANDS + ["python -m experiments.distill_ppo"] * (arm == "formula"),
        "test": "python -m experiments.discovered_ppo",
        "levels": list(worlds.FAMILIES),
        "updates": list(worlds.LIFETIMES),
        "config": search["config"],
        "versions": search["versions"],
        "cost": {key: search[key] for key in ("compile_seconds", "run_seconds", "machine")},
        "seeds": record["config"]["seeds"],
        "scores": {
            name: {key: world["arms"][arm][key] for key in kept}
            for name, world in record["environments"].items()
        },
        "counts": record["counts"][arm],
        "note": NOTE,
    } | ({"formula": chosen["formula"]} if arm == "formula" else {})


def main(config: Config) -> None:
    for name, agent in agents(config).items():
        fields = card(NAMES[name], config)
        print(rl.save_rule(config.folder / name, agent.rule, agent=agent, **fields))


if __name__ == "__main__":
    main(tyro.cli(Config))
