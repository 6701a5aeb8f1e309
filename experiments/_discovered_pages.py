"""The figure and the tables of `discovered_ppo`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from experiments import _ppo_worlds as worlds

LABELS = {"lr": "lr", "clip": "clip", "entropy_weight": "entropy weight", "lam": "1 - lam"}
LABELS |= {"gamma": "1 - gamma", "epoch_limit": "epochs"}


MARGIN = 0.05  # of a score, by which an arm may be behind tuned PPO
NEARLY = f"at most {MARGIN} behind tuned PPO"
COUNTED = ("ahead of PPO", "behind PPO", "ahead of tuned PPO", "behind tuned PPO", NEARLY)
# not drawn: each meta-seed by itself, and ablations
ARMS = {
    "formula": "formula",
    "schedule_2": "schedule",
    "schedule_1": "schedule, first search",
    "constants_1": "constants",
    "drift_1": "drift",
    "both_1": "schedule and drift",
    "random_fitness_1": "random fitness",
    "rate by KL": "rate by KL",
    "tuned PPO": "tuned PPO",
    "PPO tuned for long": "PPO tuned for long",
}


def shown(record: dict[str, Any]) -> dict[str, str]:
    """The labels of the arms in the figure and the table, of those that were measured."""
    measured = {arm for world in record["environments"].values() for arm in world["arms"]}
    return {arm: label for arm, label in ARMS.items() if arm in measured}


def figure(record: dict[str, Any], weights: dict[str, Any], lifetimes: tuple[int, ...]) -> Any:
    """Differences to PPO on each environment, and what schedules do to each hyperparameter.

    weights: of `rl.LogLinear` by name, [fields, 6]; the first is drawn for each lifetime, the
      others in grey for the middle one.
    """
    panels = rl.plot.Picture(figsize=(13.5, 7.2), layout="constrained")
    grid = panels.add_gridspec(2, 5, width_ratios=[1.2, 1.2, 1, 1, 1])
    differences(panels.add_subplot(grid[:, :2]), record)
    for i, field in enumerate(worlds.CONTROLLED):
        axes = panels.add_subplot(grid[i // 3, 2 + i % 3])
        if weights:
            factors(axes, i, weights, lifetimes)
        axes.set_title(LABELS[field], fontsize=9)
        if weights and i == 0:
            axes.legend(frameon=False, fontsize=7)
    return panels


def differences(axes: Any, record: dict[str, Any]) -> None:
    """Draw the difference to PPO of each arm on each environment, with its interval."""
    arms = shown(record)
    names = [name for name, world in record["environments"].items() if world["arms"]]
    for k, (arm, label) in enumerate(arms.items()):
        for row, name in enumerate(names):
            found = record["environments"][name]["arms"]
            if arm not in found:
                continue
            mean, low, high = found[arm]["over PPO"]
            place = row + (k - len(arms) / 2) * 0.09
            axes.plot([low, high], [place, place], color=f"C{k}", lw=1.2)
            axes.plot(mean, place, "o", ms=3, color=f"C{k}", label=label if row == 0 else None)
    axes.axvline(0.0, color="0.6", lw=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="score minus that of PPO with the robust setting, 95 % interval")
    if names:
        axes.legend(frameon=False, fontsize=7)


def factors(axes: Any, field: int, weights: dict[str, Any], lifetimes: tuple[int, ...]) -> None:
    """Draw the factor on a hyperparameter along training, with what is measured at its middle."""
    first, *others = weights
    n = np.linspace(0.0, 1.0, 50)

    def along(name: str, total: int) -> np.ndarray:
        controller = rl.LogLinear(jnp.asarray(weights[name]), controlled=worlds.CONTROLLED)
        state = {"kl": jnp.float32(0.01), "explained_variance": jnp.float32(0.0)}
        state |= {"clip_fraction": jnp.float32(0.1)}

        def exponent(fraction: jax.Array) -> jax.Array:
            clock = rl.Clock(fraction * total, jnp.float32(total))
            return (controller.weights @ controller.features(clock, state))[field]

        found = jax.vmap(exponent)(jnp.asarray(n))
        return np.exp(controller.limit * np.tanh(np.asarray(found) / controller.limit))

    for name in others:
        axes.plot(n, along(name, lifetimes[len(lifetimes) // 2]), color="0.8", lw=0.8)
    for total in lifetimes:
        axes.plot(n, along(first, total), label=f"{total} updates")
    axes.set(yscale="log", xlabel="n / N")
    axes.axhline(1.0, color="0.6", lw=0.6)


def table(record: dict[str, Any]) -> str:
    """A row for each environment: scores, and their differences to PPO and tuned PPO."""
    arms = shown(record)
    lines = ["| environment | PPO | " + " | ".join(arms.values()) + " |"]
    lines.append("| --- |" + " ---: |" * (len(arms) + 1))
    for name, world in record["environments"].items():
        found = world["arms"]
        if not found:
            lines.append(f"| {name} | no scale: tuned PPO learns nothing |" + " |" * len(arms))
            continue
        cells = [f"{found['PPO']['all'][0]:.3f}"]
        for arm in arms:
            if arm in found:
                mean, low, high = found[arm]["over PPO"]
                cells.append(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
            else:
                cells.append("")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for key in COUNTED:
        cells = [
            f"{count[key]} of {count['of']}" if (count := record["counts"].get(arm)) else ""
            for arm in arms
        ]
        lines.append(f"| {key} | | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
