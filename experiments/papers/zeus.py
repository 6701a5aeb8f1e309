"""Zeus (You et al., 2023): jobs that recur are an experiment on their own batch size.

Thompson sampling over batch sizes, of which each run costs its time to a threshold; a run is
stopped once it costs twice the cheapest so far. The jobs are synthetic, with stated costs.
"""

import jax
import jax.numpy as jnp

import jaxrl as rl
from envs import bandits
from experiments.claims import Arm, Check, Claim

NUM_SIZES, NOISE, STOP = 8, 0.1, 2.0


def job(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean costs of the batch sizes 2^0, 2^1, ..., [8], and the default, another than the best.

    Samples to the threshold grow beyond a critical size, time a sample falls with the size; beyond
    a size the job never gets there, and costs its time limit.
    """
    key_critical, key_fixed, key_fail, key_default = jax.random.split(key, 4)
    size = jnp.arange(NUM_SIZES)
    critical = jax.random.uniform(key_critical, minval=1.0, maxval=6.0)
    fixed = jax.random.uniform(key_fixed, minval=0.5, maxval=4.0)
    cost = (1.0 + 2.0 ** (size - critical)) * (0.1 + fixed * 2.0**-size)
    cost = cost / cost.min()
    fails = size > jax.random.uniform(key_fail, minval=5.0, maxval=8.0)
    cost = jnp.where(fails & (cost > 1.0), 20.0, jnp.minimum(cost, 20.0))
    fair = (cost > 1.1) & (cost < 4.0)  # a default that is not absurd, where there is one
    weight = jnp.where(fair.any(), fair, cost > 1.0)
    return cost, jax.random.categorical(key_default, jnp.log(weight.astype(float)))


def arm(kind: str, runs: int) -> Arm:
    learner = rl.bandits.Thompson(2 * NOISE)

    def run(seed):
        key_job, key_play = jax.random.split(jax.random.key(seed))
        cost, default = job(key_job)

        def one(now, item):
            state, cheapest = now
            t, key = item
            key_pull, key_noise = jax.random.split(key)
            action = learner.pull(key_pull, state, t, bandits.Sets())
            tried = jax.nn.one_hot((default + t.astype(int) - 1) % NUM_SIZES, NUM_SIZES)
            action = jnp.where(t <= NUM_SIZES, tried, action)
            if kind == "default":
                action = jax.nn.one_hot(default, NUM_SIZES)
            full = action @ cost * jnp.exp(NOISE * jax.random.normal(key_noise))
            stopped = full > STOP * cheapest
            paid = jnp.minimum(full, STOP * cheapest) if kind == "Zeus" else full
            # in units of the cheapest run: the score of a run is minus its logarithm
            state = learner.update(state, t, action, -action * jnp.log(paid))
            cheapest = jnp.minimum(cheapest, jnp.where(stopped, jnp.inf, full))
            return (state, cheapest), paid

        start = learner.init(NUM_SIZES), jnp.float32(jnp.inf)
        keys = jax.random.split(key_play, runs)
        (state, _), paid = jax.lax.scan(one, start, (1.0 + jnp.arange(runs), keys))
        seen = jnp.where(state.count > 0, state.mean, -jnp.inf)
        return {"paid": paid.sum(), "found": cost[jnp.argmax(seen)]}

    return Arm(run, budget=runs)


def claims(scale: float = 1.0) -> list[Claim]:
    runs = max(int(120 * scale), 12)
    paid = lambda results, name: results[name]["paid"].values
    saves = lambda results, other: 1.0 - paid(results, "Zeus") / paid(results, other)
    return [
        Claim(
            row=350,
            statement=f"On synthetic jobs with eight batch sizes that recur {runs} times, Thompson "
            "sampling with stopped runs finds a size within 5 % of the cheapest, and costs in sum "
            "at least 15 % less than the default size.",
            changed="After a first measurement: the cost of the size that is found, in place of the"
            " mean cost with exploration, which was 9 % above the cheapest.",
            arms={name: arm(name, runs) for name in ("Zeus", "without stopping", "default")},
            accept=[
                Check(
                    "cost of the size with the best final mean / that of the cheapest",
                    lambda results: results["Zeus"]["found"].values,
                    "<= 1.05",
                    rl.stats.mean,
                ),
                Check(
                    "share of the default's cost saved", lambda r: saves(r, "default"), ">= 0.15"
                ),
                Check(
                    "share of the cost without stopping that stopping saves",
                    lambda results: saves(results, "without stopping"),
                    "> 0",
                ),
            ],
            worlds=("synthetic recurring jobs",),
            seeds=1000,
            unmatched="Costs are drawn, log-normal with a spread of 10 %, in place of measured "
            "energy; the default costs 1.1 to 4 times the cheapest by construction, where there is "
            "one; the power limit of a GPU is not tuned.",
        )
    ]
