"""What `experiments.speed` measured, as a page of markdown."""

import statistics
from typing import Any

from experiments._settings import DQN, SAC, TASKS

MEASURE = """
Medians of the rounds, smallest to largest in brackets; the ratio is to the fastest peer of the same round. Compilation
counts tracing; the run is one call of what was compiled, its curves brought to the host. The whole process counts imports
too. Memory is the process's peak above what it held after its imports (on an accelerator: the device's peak). Nothing is
evaluated: rejax's evaluation, which can't be switched off, is replaced by one that does nothing.

jaxrl uses a core of a CPU for each member, up to all of them, as its command line does (`rl.use_all_cores`, which also holds
XLA to a thread a device); the others are used as their users use them, on one device with XLA's own threads.
""".strip()

INITIALISER = """
jaxnasium's initialiser, a QR, can stand still under vmap on a CPU, so it is also run with agents that were made one by one.
""".strip()

REPLAYED = """
What can't be matched: rejax draws a batch without replacement, jaxrl and jaxnasium with it (jaxnasium never a transition
that a time-out ended; rejax takes a time-out for a death). During the warm-up jaxrl acts at random; it computes the gradient
steps and drops them, the others compute none. jaxnasium's slow copy follows after every gradient step, at a rate that makes
the same way in an update; it plays its own environment, and keeps the returns of each step, in its replay too; jaxrl keeps
ten rows. Adam's epsilon is 1e-8 (jaxnasium 1e-4). rejax's networks start from lecun_normal, the others orthogonal.
""".strip()

PPO_NOTES = f"""
Settings of PureJaxRL: 4 environments x 128 steps, 4 epochs x 4 minibatches, two towers of 2 x 64 tanh, learning rate 2.5e-4
annealed to 0, gamma 0.99, lambda 0.95, clip 0.2 (also of values), entropy 0.01, value weight 0.5, gradients held to 0.5.

{MEASURE} What can't be
matched: rejax clips gradients elementwise (jaxrl and jaxnasium by their global norm), its Adam has epsilon 1e-8 (jaxrl 1e-5,
jaxnasium 1e-4), its networks start from lecun_normal (the others orthogonal), and it takes a time-out for a death. jaxnasium
plays its own CartPole, takes one more step of warm-up, and keeps the returns of each update; jaxrl keeps ten rows.
{INITIALISER}
""".strip()

DQN_NOTES = f"""
Settings of rejax's own CartPole: {DQN.num_envs} environments, {DQN.updates} gradient steps after a step of each, batch
{DQN.batch_size}, gamma {DQN.gamma}, epsilon from 1 to 0.05 over half the life, gradients held to {DQN.max_grad_norm:g}, the
slow copy {DQN.rate:g} of the way after each update. In all three kits: 2 x 64 ReLU, learning rate {DQN.lr:g}, {DQN.warmup}
steps of warm-up, neither double (jaxnasium can't) nor dueling, nothing normalised.

{MEASURE}

{REPLAYED} rejax clips gradients elementwise, the others by
their global norm. The loss of an error is Huber's in jaxrl, half its square in rejax, its square in jaxnasium. {INITIALISER}
""".strip()

SAC_NOTES = f"""
Settings of rejax's own Pendulum: {SAC.num_envs} environment, {SAC.updates} gradient step of critics, actor and temperature
after each of its steps, batch {SAC.batch_size}, gamma {SAC.gamma}, {SAC.warmup} steps of warm-up, the slow copy {SAC.rate:g}
of the way each time. In all three kits: 2 x 64 ReLU, two critics, learning rate {SAC.lr:g} of all, the temperature from 1
for an entropy of -1, nothing normalised.

{MEASURE}

{REPLAYED} jaxnasium draws a batch each for critics, actor
and temperature, and its loss has no half; rejax and jaxnasium act by their policy during the warm-up; rejax improves the
actor before its critics. {INITIALISER}
""".strip()

NOTES = {"ppo": PPO_NOTES, "dqn": DQN_NOTES, "sac": SAC_NOTES}


def report(told: dict[str, Any]) -> str:
    """The same as markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    where = f"{told['date']}, {told['device']}, {told['host']}; {versions}."
    lines = [
        f"Learning curves, this kit less {r['kit']}: {r.get('failed') or CURVE.format(**r)}"
        for r in told["curves"]
    ]
    task = TASKS[told["algorithm"]]
    replay = (
        f" The replay holds {told['config']['capacity']:,}." if told["algorithm"] != "ppo" else ""
    )
    parts = [
        f"# {task.title}",
        where + replay,
        table(told["rounds"]),
        NOTES[told["algorithm"]],
        *lines,
    ]
    if told["warm_start"]:
        cold, warm = told["warm_start"]
        parts.append(
            f"First tenth of a training done {cold:.1f} s after a process started, {warm:.1f} "
            "s with a warm cache."
        )
    kept = [row["kept_bytes"] / row["seeds"] / 1e3 for row in told["rounds"] if "kept_bytes" in row]
    if kept:
        parts.append(
            f"Results keep {max(kept):.2f} kB per seed on the host at most, {max(kept):.2f} MB "
            "for a thousand."
        )
    if told["host_memory"] and "failed" not in told["host_memory"]:
        peak, resident = told["host_memory"]["peak_mb"] / 256, told["host_memory"]["resident_mb"]
        text = (
            f"256 seeds of 500,000 steps: {peak:.2f} MB per seed on the host at the peak, "
            "compilation with it, "
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
    """One row per number of seeds and kit."""
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
    """Steps per second of the fastest peer in the same round; 0 where there is none."""
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
    """The median, and between which ends."""
    if not values:
        return ""
    middle, low, high = (text.format(f(values)) for f in (statistics.median, min, max))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"
