"""Measurements of `experiments.teams_speed` as a page of markdown."""

import statistics
from typing import Any

NOTES = """
Environment steps per second (a step of all agents counts once): median over rounds, smallest to
largest. Ratios are means over rounds of the ratio in the same round, with 95 % intervals.
Compilation is apart. Nothing is evaluated. All seeds are in one program. jaxrl uses one CPU core
per seed, up to all cores, as its command line does (`rl.use_all_cores`); "on one device" has one
core and one thread; JaxMARL runs as in its scripts, on one device with XLA's own threads.

Settings are those of JaxMARL's scripts `ippo_ff_mpe`, `mappo_rnn_mpe` and `qmix_rnn` for
simple_spread (16 environments x 128 steps, 4 epochs x 4 minibatches; QMIX 8 environments x 26
steps, one gradient step on 32 sequences of 26), with fewer environment steps, over which learning
rates and exploration are annealed, and a replay of 1,000 episodes in place of 5,000. The scripts
run with this jax as they are; the measuring process changes this:

- `wandb`, `hydra` and `omegaconf` are stubs, and the settings are given as a dictionary. The
  callbacks to the host after each update of IPPO and MAPPO remain.
- MAPPO's GRU is replaced by a layer that passes its input on, in actor and critic, as this kit has
  no memory in networks that read several views: both kits have two layers of 128 units.
- Seeds are vmapped, also for MAPPO, of which the script trains one. For the learning curves they
  are trained one by one.

What differs: JaxMARL treats the time limit as termination, jaxrl bootstraps. It observes four zeros
more (messages). An episode has 26 steps in both, as JaxMARL's has one more than its limit. MAPPO's
actor and critic are clipped and optimised apart in JaxMARL, together in jaxrl, and its minibatches
are whole trajectories in JaxMARL, single steps in jaxrl. QMIX: JaxMARL resets all environments in
each update and replays whole episodes, jaxrl continues and replays sequences from their stored
recurrent state; the reward is the sum over agents in JaxMARL, the mean in jaxrl; the loss is
squared in JaxMARL, Huber's in jaxrl; jaxrl computes the next values of the online network in a
pass of their own, acts at random in the warm-up, and gives all four parts of the hypernetwork a
hidden layer of 128 units, JaxMARL three of them (128, 128 and 32); JaxMARL initialises the mixer
with a scale of 0.001.

Random actions: drawn beforehand in both. mpe2's environments are played one step after another by
its parallel interface in one Python process; jaxrl's are one program, on all cores or on one
device, with resets; observations and rewards are summed.
""".strip()


def page(record: dict[str, Any]) -> str:
    """Return the record as markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    where = f"{record['date']}, {record['host']}, load average {record['load'][0]}; {versions}."
    parts = ["# Speed of teams", where, table(record), NOTES, *learning(record)]
    return "\n\n".join(parts) + "\n"


def table(record: dict[str, Any]) -> str:
    """Markdown table with a row for each environment, algorithm and kit."""
    head = ["environment", "algorithm", "kit", "steps/s", "ratio", "compile s", "seeds x steps"]
    lines = [head, ["---"] * 3 + ["---:"] * 4]
    rows = record["rounds"]
    for key in dict.fromkeys((row["world"], row["algorithm"], row["kit"]) for row in rows):
        same = [row for row in rows if (row["world"], row["algorithm"], row["kit"]) == key]
        size = f"{same[0]['seeds']:,} x {same[0]['steps']:,}"
        failed = [row["failed"] for row in same if "failed" in row]
        if failed:
            lines.append([*key, failed[0], "", "", size])
            continue
        speeds = _spread([row["steps_per_second"] for row in same], "{:,.0f}")
        compiled = _spread([row["compile_seconds"] for row in same], "{:.1f}")
        lines.append([*key, speeds, _ratio(record, *key), compiled, size])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ratio(record: dict[str, Any], world: str, algorithm: str, kit: str) -> str:
    """The ratio to the peer of a row as text."""
    if world != "Spread":
        return ""
    name = "ratio_on_one_device" if kit.endswith("on one device") else "ratio"
    if algorithm == "random":
        found = (record["python_loop"] or {}) if kit.startswith("vectorised") else {}
    else:
        found = (record["jaxmarl"] or {"algorithms": {}})["algorithms"].get(algorithm, {})
        found = found if kit.startswith("jaxrl") else {}
    if not found.get(name):
        return ""
    return "{:,.2f} [{:,.2f}, {:,.2f}]".format(*found[name])


def learning(record: dict[str, Any]) -> list[str]:
    """Paragraphs about the learning curves."""
    if not record["curves"]:
        return []
    lines = ["| algorithm | steps | kit | return in each tenth |", "|---|---:|---|---|"]
    text = []
    for algorithm, found in record["curves"].items():
        if "failed" in found:
            text.append(f"{algorithm}: {found['failed']}.")
            continue
        for kit in ("ours", "theirs"):
            values = " ".join(f"{x:.1f}" for x in found[kit])
            name = {"ours": "jaxrl", "theirs": "JaxMARL"}[kit]
            lines.append(f"| {algorithm} | {found['steps']:,} | {name} | {values} |")
        text.append("{}: {:+.2f} [{:+.2f}, {:+.2f}].".format(algorithm, *found["difference"]))
    seeds = record["config"]["curve_seeds"]
    return [
        f"Learning curves of {seeds} seeds: the mean return of an agent in the training episodes "
        "of each tenth, for QMIX of 64 greedy episodes at its end. Difference of the means of all "
        "tenths but the first, this kit less JaxMARL, with 95 % intervals: " + " ".join(text),
        "\n".join(lines),
    ]


def _spread(values: list[float], text: str) -> str:
    """Median and range as text."""
    middle, low, high = (text.format(f(values)) for f in (statistics.median, min, max))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"
