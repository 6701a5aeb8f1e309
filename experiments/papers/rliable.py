"""rliable (Agarwal et al., 2021): bootstrap intervals of interquartile means from few runs."""

import functools
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from experiments.claims import Arm, Check, Claim, share

NUMS = (5, 10, 20, 50, 100)
KINDS = ("percentile", "basic", "bca", "studentised")
RESAMPLES = 1000
CAP = 1.0
ALL, FROM_10 = slice(None), (slice(2), slice(1, None))  # of [families, sizes]
EXTREMES = {
    "lowest": ("lowest coverage over 5 sizes and 3 families", np.min, ALL),
    "usual": ("lowest from 10 runs on, normal and log-normal scores", np.min, FROM_10),
    "highest": ("highest coverage over 5 sizes and 3 families", np.max, ALL),
}
GOLDEN = pathlib.Path(__file__).parents[2] / "tests" / "data" / "rliable.json"


def families(normal: Any) -> Any:
    """Normal scores, skewed ones (log-normal), and half of them at a cap. [3, ...]."""
    return jnp.stack([normal, jnp.exp(normal), jnp.minimum(1.0 + 0.5 * normal, CAP)])


@functools.cache
def truth() -> np.ndarray:
    """Interquartile means of the families: of the middle half of their quantiles. [3]."""
    with jax.ensure_compile_time_eval():
        middle = jax.scipy.special.ndtri(jnp.linspace(0.25, 0.75, 20_001))
        return np.asarray(families(middle).mean(1))


def coverage(
    kind: Any, nums: tuple[int, ...], resamples: int, seed: jax.Array
) -> dict[str, jax.Array]:
    """Where intervals of one sample of each size have the truth. [families, sizes]."""
    exact = jnp.asarray(truth())
    covers, widths = [], []
    for num in nums:
        key_draw, key = jax.random.split(jax.random.fold_in(jax.random.key(seed), num))
        x = families(jax.random.normal(key_draw, (num,)))
        made = rl.stats.interval(x, kind=kind, resamples=resamples, key=key)
        covers.append((made.low <= exact) & (exact <= made.high))
        widths.append(made.high - made.low)
    return {"covers": jnp.stack(covers, 1).astype(float), "width": jnp.stack(widths, 1)}


def seconds(resamples: int) -> float:
    """Seconds of 50,000 resamples of 1000 runs on 50 tasks, extrapolated from fewer."""
    x = np.random.default_rng(0).normal(size=(50, 1000))
    of = lambda key: jax.block_until_ready(
        rl.stats.interval(x, tasks=0, resamples=resamples, key=key)
    )
    of(0)
    start = time.perf_counter()
    of(1)
    return (time.perf_counter() - start) * 50_000 / resamples


def difference_from_reference() -> float:
    """The largest difference of a point estimate from rliable's."""
    golden = json.loads(GOLDEN.read_text())
    x = np.array(golden["x"])
    made = {
        "iqm": rl.stats.iqm(x, axis=None),
        "mean": rl.stats.mean(x, axis=None),
        "optimality_gap": rl.stats.optimality_gap(x),
    }
    kept = golden["percentile"]
    return max(abs(float(made[name]) - np.ravel(kept[name]["estimate"])[0]) for name in made)


def draw(results: Any, axes: Any) -> None:
    """Coverage by the number of runs: a line for each kind, the mean and range of the families."""
    for kind in KINDS:
        mean = results[kind]["covers"].values.mean(0)
        nums = NUMS[: mean.shape[1]]
        axes.plot(nums, mean.mean(0), marker="o", label=kind)
        axes.fill_between(nums, mean.min(0), mean.max(0), alpha=0.15)
    axes.axhspan(0.93, 0.97, color="gray", alpha=0.2)
    axes.set(xscale="log", xlabel="runs", ylabel="coverage of 95 % intervals")
    axes.set_xticks(NUMS, [str(num) for num in NUMS])
    axes.legend()


def claims(scale: float = 1.0) -> list[Claim]:
    def extreme(kind: str, what: str, accept: str) -> Check:
        name, of, where = EXTREMES[what]

        def measure(results: Any) -> rl.stats.Interval:
            """Holds if it holds for each size and family: the extremes of the ends."""
            ends = share(results[kind]["covers"].values)
            return rl.stats.Interval(*(of(x[where]) for x in ends))

        return Check(f"{name}, {kind}", measure, accept)

    limits = {"lowest": ">= 0.93", "usual": ">= 0.93", "highest": "<= 0.97"}
    sizes, resamples = (NUMS, RESAMPLES) if scale > 0.1 else (NUMS[:2], 50)
    return [
        Claim(
            row=176,
            statement=(
                "95 % bootstrap intervals of an interquartile mean have a coverage of 93 to 97 % "
                "for 5 to 100 runs."
            ),
            changed="After a first measurement: the checks from 10 runs on, and 2,000 samples in "
            "place of 4,000. After a second one: exact intervals of the coverages.",
            arms={
                kind: Arm(functools.partial(coverage, kind, sizes, resamples), budget=sum(NUMS))
                for kind in KINDS
            },
            accept=[
                *(extreme(kind, what, limits[what]) for what in limits for kind in KINDS),
                Check(
                    "difference of estimates from rliable's",
                    lambda _: difference_from_reference(),
                    "<= 1e-6",
                ),
                Check(
                    "seconds of 50,000 resamples of 1000 x 50 scores on this machine",
                    lambda _: seconds(max(int(200 * scale), 4)),
                    "< 1",
                ),
            ],
            unmatched="Intervals are not compared with those of rliable.",
            worlds=("normal scores", "log-normal scores", "scores half of which are at a cap"),
            seeds=max(int(2000 * scale), 2),
            why_fewer="" if scale >= 1 else "a trial",
            draw=draw,
        )
    ]
