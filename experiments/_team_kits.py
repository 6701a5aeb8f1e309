"""IPPO, MAPPO and QMIX at matched settings in this kit and in JaxMARL, and steps of simple_spread
with random actions, for `experiments.teams_speed`.

Each measurement is one process, and each kit is imported only by the processes that measure it.
"""

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

from experiments._settings import ROWS, peak_mb

# JaxMARL plays one step more than its `max_steps`
LENGTH = 26
PPO: dict[str, Any] = {
    **{"NUM_ENVS": 16, "NUM_STEPS": 128, "UPDATE_EPOCHS": 4, "NUM_MINIBATCHES": 4},
    **{"GAMMA": 0.99, "GAE_LAMBDA": 0.95, "CLIP_EPS": 0.2, "ENT_COEF": 0.01, "VF_COEF": 0.5},
    **{"MAX_GRAD_NORM": 0.5, "ANNEAL_LR": True},
}
# in JaxMARL's words, as its scripts read them
SETTINGS: dict[str, dict[str, Any]] = {
    "IPPO": PPO | {"LR": 2.5e-4, "ACTIVATION": "tanh"},
    "MAPPO": PPO | {"LR": 2e-3, "FC_DIM_SIZE": 128, "GRU_HIDDEN_DIM": 128, "SCALE_CLIP_EPS": False},
    "QMIX": {
        **{"NUM_ENVS": 8, "NUM_STEPS": LENGTH, "NUM_EPOCHS": 1, "BUFFER_BATCH_SIZE": 32},
        **{"BUFFER_SIZE": 1000, "LEARNING_STARTS": 10_000, "HIDDEN_SIZE": 64},
        **{"MIXER_EMBEDDING_DIM": 32, "MIXER_HYPERNET_HIDDEN_DIM": 128, "MIXER_INIT_SCALE": 1e-3},
        **{"EPS_START": 1.0, "EPS_FINISH": 0.05, "EPS_DECAY": 0.1, "MAX_GRAD_NORM": 25.0},
        **{"TARGET_UPDATE_INTERVAL": 200, "TAU": 1.0, "LR": 5e-3, "LR_LINEAR_DECAY": True},
        "GAMMA": 0.9,
    },
}


@dataclasses.dataclass(frozen=True)
class Job:
    """One measurement: of `seeds` runs, or environments with random actions, of `steps` each.

    checkout: of JaxMARL's repository. curve: also return learning curves.
    """

    kit: str
    algorithm: str
    seeds: int
    steps: int
    world: str = "Spread"
    checkout: str = ""
    curve: bool = False


def update_steps(algorithm: str) -> int:
    """Environment steps of an update."""
    return SETTINGS[algorithm]["NUM_ENVS"] * SETTINGS[algorithm]["NUM_STEPS"]


# ----------------------------------------------------------------------------------------- this kit


def jaxrl(job: Job, cores: int | None = None) -> dict[str, Any]:
    import jax.numpy as jnp

    import jaxrl as rl

    rl.use_all_cores(cores, members=job.seeds)
    greedy = job.curve and job.algorithm == "QMIX"
    rows = min(ROWS, job.steps // update_steps(job.algorithm))
    training = rl.Training(
        *algorithm(job), job.steps, rows, episodes=64 if greedy else 0, eval_share=100.0
    )
    results = rl.sweep(training, {"seed": jnp.arange(job.seeds)}, progress=False)
    seconds = {name: float(results.attrs[name]) for name in ("compile_seconds", "run_seconds")}
    curve = results["evaluation" if greedy else "return"].values.tolist()
    return seconds | ({"curve": curve} if job.curve else {})


def jaxrl_on_one_device(job: Job) -> dict[str, Any]:
    return jaxrl(job, cores=1)


@dataclasses.dataclass(frozen=True)
class Embedding:
    """One layer of rectified units as features, which a recurrent cell reads."""

    def __call__(self, heads: Any) -> Any:
        import jax

        import jaxrl as rl

        plain = rl.MLP(())(heads)
        apply = lambda params, obs: jax.tree.map(jax.nn.relu, plain.apply(params, obs))
        return plain._replace(apply=apply)


def algorithm(job: Job) -> tuple[Any, Any]:
    """Return this kit's algorithm with the settings of a job, and its environment."""
    import jax

    import jaxrl as rl
    from jaxrl import envs
    from jaxrl.optimizer import RAdam

    is_spread = job.world == "Spread"
    team = envs.make(job.world, **({"max_steps": LENGTH} if is_spread else {}))
    own = SETTINGS[job.algorithm]
    shape = {"num_envs": own["NUM_ENVS"], "num_steps": own["NUM_STEPS"], "lr": own["LR"]}
    common: Any = shape | {"gamma": own["GAMMA"], "max_grad_norm": own["MAX_GRAD_NORM"]}
    if job.algorithm == "QMIX":
        algo = rl.dqn(
            mixer=rl.Monotonic(
                own["MIXER_EMBEDDING_DIM"],
                rl.MLP((own["MIXER_HYPERNET_HIDDEN_DIM"],), jax.nn.relu),
            ),
            memory=rl.GRU(own["HIDDEN_SIZE"]),
            network=Embedding(),
            burn_in=0,
            sequence=LENGTH,
            updates=own["NUM_EPOCHS"],
            batch_size=own["BUFFER_BATCH_SIZE"],
            capacity=own["BUFFER_SIZE"] * LENGTH,
            warmup=own["LEARNING_STARTS"],
            target_period=float(own["TARGET_UPDATE_INTERVAL"]),
            exploration=rl.EpsilonGreedy(own["EPS_START"], own["EPS_FINISH"], own["EPS_DECAY"]),
            optimizer=RAdam(),
            schedule=rl.Linear(),
            **common,
        )
        return algo, envs.WithRoles(team)
    common |= {"value_clip": own["CLIP_EPS"], "clip": own["CLIP_EPS"], "lam": own["GAE_LAMBDA"]}
    common |= {"entropy_weight": own["ENT_COEF"], "value_weight": own["VF_COEF"]}
    common |= {"epochs": own["UPDATE_EPOCHS"], "minibatches": own["NUM_MINIBATCHES"]}
    if job.algorithm == "IPPO":
        return rl.ppo(network=rl.MLP((64, 64)), **common), team
    network = rl.MLP((own["FC_DIM_SIZE"], own["GRU_HIDDEN_DIM"]), jax.nn.relu)
    return (
        rl.ppo(network=rl.Views(network, reads={"value": "state"}), **common),
        envs.WithState(team, own=False),
    )


# ------------------------------------------------------------------------------------------ JaxMARL


def jaxmarl(job: Job) -> dict[str, Any]:
    import jax

    from experiments import _jaxmarl_scripts

    settings = SETTINGS[job.algorithm] | {"TOTAL_TIMESTEPS": job.steps}
    train, log = _jaxmarl_scripts.train(job.checkout, job.algorithm, settings, job.curve)
    keys = jax.random.split(jax.random.PRNGKey(0), job.seeds)
    one_by_one = job.curve  # as the log does not name the seed of a row
    started = time.monotonic()
    program = jax.jit(train if one_by_one else jax.vmap(train))
    compiled = program.lower(keys[0] if one_by_one else keys).compile()
    ready, curves = time.monotonic(), []
    for part in keys if one_by_one else [keys]:
        log.clear()
        out = jax.block_until_ready(compiled(part))
        jax.effects_barrier()
        curves += [_tenths(job.algorithm, out, log)] if job.curve else []
    seconds = {"compile_seconds": ready - started, "run_seconds": time.monotonic() - ready}
    return seconds | ({"curve": curves} if job.curve else {})


def _tenths(algorithm: str, out: Any, log: list[dict[str, Any]]) -> list[float]:
    """The learning curve of a run: a mean for each tenth, for QMIX its last greedy evaluation.
    JaxMARL logs three times the return, once for each agent.
    """
    import numpy as np

    name, order = {
        "IPPO": ("returned_episode_returns", None),
        "MAPPO": ("returns", "env_step"),
        "QMIX": ("test_returned_episode_returns", "update_steps"),
    }[algorithm]
    if order is None:
        values = np.asarray(out["metrics"][name])
    else:
        values = np.array([row[name] for row in sorted(log, key=lambda row: row[order])])
    parts = np.array_split(values / 3.0, ROWS)
    return [float(part[-1] if algorithm == "QMIX" else part.mean()) for part in parts]


# ----------------------------------------------------------------------------------- random actions


def vectorised(job: Job, cores: int | None = None) -> dict[str, Any]:
    """Steps of this kit's environments in one compiled program, on as many devices as cores.

    The environments are the last axis of all arrays, along which a CPU computes several at once.
    Their episodes are of one length: each iteration plays one. Observations and rewards are summed,
    so that none is left out of the program.
    """
    import jaxrl as rl

    num_devices = rl.use_all_cores(cores)
    import jax
    import jax.numpy as jnp

    from jaxrl import envs

    env = envs.make(job.world)
    each, length = job.seeds // num_devices, env.max_steps
    episodes = job.steps // length
    key_reset, key_actions = jax.random.split(jax.random.key(0))

    def episode(total: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        key, actions = now
        states, obs = jax.vmap(env.reset, out_axes=-1)(jax.random.split(key, each))

        def step(carry: Any, action: jax.Array) -> tuple[Any, None]:
            states, total = carry
            one = lambda state, action: env.step(key, state, action)
            states, out = jax.vmap(one, in_axes=-1, out_axes=-1)(states, action)
            return (states, total + out.reward.sum() + out.obs.sum()), None

        return jax.lax.scan(step, (states, total + obs.sum()), actions)[0][1], None

    def play(keys: jax.Array, actions: jax.Array) -> jax.Array:
        return jax.lax.scan(episode, jnp.float32(0.0), (keys, actions))[0]

    shape = (num_devices, episodes, length, env.num_agents or 1, each)
    actions = jax.random.randint(key_actions, shape, 0, 5, jnp.int32)
    keys = jax.random.split(key_reset, (num_devices, episodes))
    started = time.monotonic()
    compiled = jax.pmap(play).lower(keys, actions).compile()
    ready = time.monotonic()
    compiled(keys, actions).block_until_ready()  # and moves its inputs to the devices
    begun = time.monotonic()
    compiled(keys, actions).block_until_ready()
    return {"compile_seconds": ready - started, "run_seconds": time.monotonic() - begun}


def vectorised_on_one_device(job: Job) -> dict[str, Any]:
    return vectorised(job, cores=1)


def python_loop(job: Job) -> dict[str, Any]:
    """Steps of mpe2's simple_spread in a Python loop; its actions are drawn beforehand."""
    import numpy as np
    from mpe2 import simple_spread_v3

    env: Any = simple_spread_v3.parallel_env(N=3, max_cycles=25)
    env.reset(seed=0)
    names = env.agents
    actions = np.random.default_rng(0).integers(5, size=(job.steps, len(names))).tolist()
    started = time.monotonic()
    for row in actions:
        env.step(dict(zip(names, row, strict=True)))
        if not env.agents:
            env.reset()
    return {"compile_seconds": 0.0, "run_seconds": time.monotonic() - started}


KITS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "jaxrl": jaxrl,
    "jaxrl on one device": jaxrl_on_one_device,
    "JaxMARL": jaxmarl,
    "vectorised": vectorised,
    "vectorised on one device": vectorised_on_one_device,
    "Python loop": python_loop,
}


def child(text: str) -> None:
    """Run one job in this process, and print its measurements as one line of JSON."""
    job = Job(**json.loads(text))
    measured = KITS[job.kit](job)
    import jax

    where = {"device": jax.local_devices()[0].device_kind, "devices": jax.local_device_count()}
    print(json.dumps(measured | where | {"jax": jax.__version__, "peak_mb": peak_mb()}))
