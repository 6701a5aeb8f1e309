"""Sparse control variates (Yang et al., 2022): a crash rate with surrogate drivers as controls."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs import overtaking
from experiments.claims import Arm, Check, Claim

EPISODES = 1000
EXACT_EPISODES = 2**20
BOLDNESS = 0.3
STRATA = 6  # 0 to 4, and 5 or more critical steps
TESTED = overtaking.Driver(headway=1.1, gap_gain=0.25, speed_gain=1.0, brake=6.5)
REFERENCE = overtaking.Driver()
NATURAL = {"importance": "importance sampling", "natural": "natural testing"}
SURROGATES = tuple(overtaking.Driver(brake=brake) for brake in (5.0, 6.0, 7.0, 8.0))


def test(key: jax.Array, num: int, boldness: float, sparse: bool) -> tuple[jax.Array, ...]:
    """Crashes [n], log weights [n], crashes of surrogates [n, k], and strata [n]."""

    def episode(key: jax.Array) -> tuple[jax.Array, ...]:
        scenario = overtaking.scenario(key, REFERENCE, boldness)
        known = [overtaking.drive(each, scenario, sparse) for each in SURROGATES]
        stratum = jnp.minimum(scenario.critical.sum(), STRATA - 1)
        crash = overtaking.drive(TESTED, scenario)
        return crash, scenario.log_weight, jnp.stack(known), stratum

    return jax.lax.map(episode, jax.random.split(key, num), batch_size=min(num, 2**14))


@functools.cache
def known(episodes: int, sparse: bool = True) -> dict[str, np.ndarray]:
    """From many episodes: the crash rate, the strata, and the controls' means in them, which are
    known before a driver is tested; and errors of the rate that the controls do not explain.
    """
    with jax.ensure_compile_time_eval():
        run = jax.jit(test, static_argnums=(1, 2, 3))
        crash, log_weight, controls, stratum = run(jax.random.key(0), episodes, BOLDNESS, sparse)
        weight = np.exp(np.asarray(log_weight, np.float64))
    y, among = np.asarray(crash) * weight, np.asarray(stratum) == np.arange(STRATA)[:, None]
    x = weight[:, None] * np.asarray(controls)
    features = np.c_[np.ones(episodes), x]

    def left(rows: Any) -> float:  # sum of squares
        rest = y[rows] - features[rows] @ np.linalg.lstsq(features[rows], y[rows], rcond=None)[0]
        return (rest**2).sum()

    return {
        "rate": y.mean(),
        "error_controls": left(slice(None)) ** 0.5 / episodes,
        "error_strata": sum(map(left, among)) ** 0.5 / episodes,
        "means": x.mean(0),
        "probability": among.mean(1),
        "means_within": np.stack([x[row].mean(0) for row in among]),
    }


def estimate(how: str, exact: int, seed: jax.Array) -> dict[str, jax.Array]:
    """The crash rate by one estimator, from the same number of episodes."""
    boldness, sparse = 0.0 if how == "natural" else BOLDNESS, how != "all steps"
    crash, log_weight, controls, stratum = test(jax.random.key(seed), EPISODES, boldness, sparse)
    info = {name: jnp.asarray(x, float) for name, x in known(exact, sparse).items()}
    if how in ("natural", "importance"):
        made = rl.stats.weighted(crash, log_weight)
    elif how in ("controls", "all steps"):
        made = rl.stats.weighted(crash, log_weight, controls, info["means"])
    else:
        weight = jnp.exp(log_weight)
        made = rl.stats.stratified(
            crash * weight,
            stratum,
            info["probability"],
            controls * weight[:, None],
            info["means_within"],
        )
    covers = (made.low <= info["rate"]) & (info["rate"] <= made.high)
    return {"estimate": made.estimate, "covers": covers.astype(float)}


def gain(first: str, second: str) -> Any:
    """The variance of the first estimator, divided by that of the second."""
    ratio = lambda x, y: x.var(0) / y.var(0)
    of = lambda results, name: results[name]["estimate"].values
    return lambda results: rl.stats.interval_of(ratio, of(results, first), of(results, second))


def bias(name: str, exact: int) -> Check:
    """The z-test of the estimator's mean: |z| above 2.58 rejects at 1 %. The rate is known from the
    episodes of the controls' means, so that its error is what these leave.
    """

    def z(results: Any) -> float:
        x, info = results[name]["estimate"].values.astype(np.float64), known(exact)
        error = np.hypot(x.std() / len(x) ** 0.5, info[f"error_{name}"])
        return abs(float((x.mean() - info["rate"]) / error))

    statement = f"|z| of the difference from the rate of 2^20 episodes, {name}"
    return Check(statement, z, "< 2.58", control=True)


def common(scale: float, *names: str) -> dict[str, Any]:
    """What the claims on both papers have in common, with arms for these estimators."""
    exact = exact_episodes(scale)
    arm = lambda name: Arm(functools.partial(estimate, name, exact), budget=EPISODES)
    return {
        "arms": {name: arm(name) for name in names},
        "worlds": ("overtaking on two lanes",),
        "seeds": max(int(1000 * scale), 2),
        "why_fewer": "" if scale >= 1 else "a trial",
        "unmatched": "A small simulator, its crash rate and drivers set by hand before this run.",
    }


def exact_episodes(scale: float) -> int:
    """Episodes from which the crash rate and the controls' means are known."""
    return max(int(EXACT_EPISODES * scale), 4096)


def claims(scale: float = 1.0) -> list[Claim]:
    return [
        Claim(
            row=120,
            statement="Control variates from surrogate drivers, at critical steps only, need a "
            "tenth of the test episodes for the same interval.",
            changed="After trials: the simulator, and the arm with controls of all steps.",
            accept=[
                *(
                    Check(
                        f"episodes of {name} for the same interval, divided by those with controls",
                        gain(arm, "controls"),
                        ">= 10",
                    )
                    for arm, name in NATURAL.items()
                ),
                Check(
                    "the same of importance sampling, with controls of all steps (added later)",
                    gain("importance", "all steps"),
                    ">= 10",
                ),
                bias("controls", exact_episodes(scale)),
            ],
            **common(scale, "natural", "importance", "controls", "all steps"),
        ),
    ]
