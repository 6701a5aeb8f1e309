"""Measurements of `experiments.speed` as a page of markdown."""

import statistics
from typing import Any

from experiments._settings import DQN, SAC, TASKS

MEASURE = """
Medians over rounds (smallest to largest); the ratio is to the fastest peer of the same round.
Compilation includes tracing; a run is one call of the compiled program, with its curves copied to
the host. The whole process includes imports. Memory is the peak of the process above its memory
after imports (on an accelerator: the peak of the device). Nothing is evaluated: rejax's evaluation,
which can't be switched off, is replaced by an empty one.

jaxrl uses one CPU core per member, up to all cores, as its command line does (`rl.use_all_cores`,
which also limits XLA to one thread per device), or one device and one thread in all
(`rl.use_all_cores(1)`); the others run as in their documentation, on one device with XLA's own
threads.
""".strip()

INITIALISER = """
jaxnasium's initialiser, a QR decomposition, can hang under vmap on a CPU, so jaxnasium is also run
with agents initialised one by one.
""".strip()

REPLAYED = """
What can't be matched: rejax samples batches without replacement, jaxrl and jaxnasium with it
(jaxnasium never samples truncated transitions; rejax treats truncation as termination). During the
warm-up jaxrl acts at random; it computes the gradient steps and discards them, the others compute
none. jaxnasium updates its target network after every gradient step, at a rate that amounts to the
same per update; it has its own environment, and stores the return of each step, in its replay
buffer too; jaxrl stores ten rows. Adam's epsilon is 1e-8 (jaxnasium 1e-4). rejax initialises
networks with lecun_normal, the others orthogonally.
""".strip()

PPO_NOTES = f"""
Settings of PureJaxRL: 4 environments x 128 steps, 4 epochs x 4 minibatches, separate networks of
2 x 64 tanh for actor and critic, learning rate 2.5e-4 annealed to 0, gamma 0.99, lambda 0.95, clip
0.2 (also of values), entropy weight 0.01, value weight 0.5, gradient norm at most 0.5.

{MEASURE}

What can't be matched: rejax clips gradients elementwise (jaxrl and jaxnasium by their global norm),
its Adam has epsilon 1e-8 (jaxrl 1e-5, jaxnasium 1e-4), it initialises networks with lecun_normal
(the others orthogonally), and it treats truncation as termination. jaxnasium has its own CartPole,
takes one more step of warm-up, and stores the returns of each update; jaxrl stores ten rows.
{INITIALISER}
""".strip()

DQN_NOTES = f"""
Settings of rejax for CartPole: {DQN.num_envs} environments, {DQN.updates} gradient steps after a
step of each, batch size {DQN.batch_size}, gamma {DQN.gamma}, epsilon from 1 to 0.05 over the first
half of the run, gradient norm at most {DQN.max_grad_norm:g}, target network updated with tau
{DQN.rate:g} after each update. In all three kits: 2 x 64 ReLU, learning rate {DQN.lr:g},
{DQN.warmup} steps of warm-up, neither double (which jaxnasium lacks) nor dueling, no normalisation.

{MEASURE}

{REPLAYED} rejax clips gradients elementwise, the others by their global norm. The loss of an error
is Huber's in jaxrl, half its square in rejax, and its square in jaxnasium. {INITIALISER}
""".strip()

SAC_NOTES = f"""
Settings of rejax for Pendulum: {SAC.num_envs} environment, {SAC.updates} gradient step of critics,
actor and temperature after each of its steps, batch size {SAC.batch_size}, gamma {SAC.gamma},
{SAC.warmup} steps of warm-up, target networks updated with tau {SAC.rate:g} each time. In all three
kits: 2 x 64 ReLU, two critics, all learning rates {SAC.lr:g}, initial temperature 1, target entropy
-1, no normalisation.

{MEASURE}

{REPLAYED} jaxnasium samples a batch each for critics, actor and temperature, and its loss has no
factor 1/2; rejax and jaxnasium act by their policies during the warm-up; rejax updates the actor
before its critics. {INITIALISER}
""".strip()

NOTES = {"ppo": PPO_NOTES, "dqn": DQN_NOTES, "sac": SAC_NOTES}


def report(record: dict[str, Any]) -> str:
    """Return the record of an algorithm as markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    where = f"{record['date']}, {record['device']}, {record['host']}; {versions}."
    lines = [
        f"Learning curves, this kit less {r['kit']}: {r.get('failed') or CURVE.format(**r)}"
        for r in record["curves"]
    ]
    task = TASKS[record["algorithm"]]
    replay = (
        f" The replay holds {record['config']['capacity']:,}."
        if record["algorithm"] != "ppo"
        else ""
    )
    parts = [
        f"# {task.title}",
        where + replay,
        table(record["rounds"]),
        NOTES[record["algorithm"]],
        *lines,
    ]
    if record["warm_start"]:
        cold, warm = record["warm_start"]
        parts.append(
            f"The first tenth of a training run is done {cold:.1f} s after the start of a process, "
            f"{warm:.1f} s with a warm cache."
        )
    kept = [
        row["kept_bytes"] / row["seeds"] / 1e3 for row in record["rounds"] if "kept_bytes" in row
    ]
    if kept:
        parts.append(
            f"Results take at most {max(kept):.2f} kB per seed on the host, {max(kept):.2f} MB for "
            "a thousand seeds."
        )
    if record["host_memory"] and "failed" not in record["host_memory"]:
        peak, resident = (
            record["host_memory"]["peak_mb"] / 256,
            record["host_memory"]["resident_mb"],
        )
        text = (
            f"256 seeds of 500,000 steps: {peak:.2f} MB per seed on the host at the peak, with "
            "compilation, "
        )
        parts.append(
            text + f"of which {(resident[-1] - resident[0]) / 256:.3f} MB came after the first row."
        )
    return "\n\n".join(parts) + "\n"


CURVE = (
    "difference of the areas under `{curve}` {low:+.1f} to {high:+.1f} (95 % bootstrap "
    "interval of the difference of the "
    "means over seeds; {ours:.1f} and {theirs:.1f})"
)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown table with a row per number of seeds and kit."""
    head = [
        "seeds",
        "kit",
        "steps/s",
        "of the fastest peer",
        "compile s",
        "whole process s",
        "peak MB",
        "steps each",
    ]
    lines = [head, ["---:", "---", *["---:"] * 6]]
    for seeds, kit in dict.fromkeys((row["seeds"], row["kit"]) for row in rows):
        same = [row for row in rows if (row["seeds"], row["kit"]) == (seeds, kit)]
        if any("failed" in row for row in same):
            lines.append(
                [str(seeds), kit, next(row["failed"] for row in same if "failed" in row), *[""] * 5]
            )
            continue
        of = [row["steps_per_second"] / fastest for row in same if (fastest := _fastest(rows, row))]
        values = [spread([row[name] for row in same], text) for name, text in COLUMNS.items()]
        lines.append(
            [
                str(seeds),
                kit,
                values[0],
                spread(of, "{:.2f}x"),
                *values[1:],
                f"{same[0]['steps']:,}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


COLUMNS = {
    "steps_per_second": "{:,.0f}",
    "compile_seconds": "{:.1f}",
    "wall_seconds": "{:.1f}",
    "peak_mb": "{:,.0f}",
}


def _fastest(rows: list[dict[str, Any]], row: dict[str, Any]) -> float:
    """Steps per second of the fastest peer in the same round; 0 without peers."""
    same = [other for other in rows if all(other[name] == row[name] for name in ("round", "seeds"))]
    return max(
        (
            r["steps_per_second"]
            for r in same
            if not r["kit"].startswith("jaxrl") and "failed" not in r
        ),
        default=0.0,
    )


def spread(values: list[float], text: str) -> str:
    """Median and range as text."""
    if not values:
        return ""
    middle, low, high = (text.format(f(values)) for f in (statistics.median, min, max))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"
