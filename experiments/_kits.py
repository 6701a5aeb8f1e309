"""PPO, DQN and SAC at matched settings in this kit and in others, for `experiments.speed`.

Each kit is imported only by the process that runs it, so that memory is measured separately.
"""

import json
from collections.abc import Callable
from typing import Any

from experiments._peers import jaxnasium, jaxnasium_apart, rejax
from experiments._settings import DQN, EPISODES, ROWS, SAC, Job, Replayed, peak_mb, resident_mb


def jaxrl(job: Job, cores: int | None = None) -> dict[str, Any]:
    import jax.numpy as jnp

    import jaxrl as rl

    rl.use_all_cores(cores, members=job.seeds)
    import envs.from_gymnax  # here, as gymnax initialises jax

    base, resident = peak_mb(), []
    episodes = EPISODES if job.curve else 0
    training = rl.Training(
        algorithm(job), envs.make(job.task.env), job.steps, ROWS, episodes, eval_share=100.0
    )
    watch = (lambda report: resident.append(resident_mb())) if job.watch else False
    results = rl.sweep(training, {"seed": jnp.arange(job.seeds)}, progress=watch)
    seconds = {name: float(results.attrs[name]) for name in ("compile_seconds", "run_seconds")}
    measured = {"base_mb": base, "kept_bytes": results.nbytes, "resident_mb": resident} | seconds
    curves = (
        {name: results[name].values.tolist() for name in ("return", "evaluation")}
        if job.curve
        else {}
    )
    return measured | {"curves": curves}


def algorithm(job: Job) -> Any:
    """Return this kit's algorithm with the settings of a job."""
    import jax

    import jaxrl as rl

    network = rl.MLP((64, 64), activation=jax.nn.relu, shared=True)
    if job.algorithm == "ppo":
        return rl.ppo(value_clip=0.2)
    if job.algorithm == "dqn":
        return rl.dqn(double=False, network=network, **_replay(job, DQN))
    return rl.sac(network=network, **_replay(job, SAC))


def _replay(job: Job, task: Replayed) -> dict[str, Any]:
    return {
        **{"num_envs": task.num_envs, "updates": task.updates, "batch_size": task.batch_size},
        **{"capacity": job.capacity, "warmup": task.warmup, "lr": task.lr, "gamma": task.gamma},
        **{
            "max_grad_norm": task.max_grad_norm,
            "tau": task.rate,
            "target_period": float(task.updates),
        },
    }


def jaxrl_on_one_device(job: Job) -> dict[str, Any]:
    return jaxrl(job, cores=1)


KITS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "jaxrl": jaxrl,
    "jaxrl on one device": jaxrl_on_one_device,
    "rejax": rejax,
    "jaxnasium": jaxnasium,
    "jaxnasium, agents one by one": jaxnasium_apart,
}


def child(text: str) -> None:
    """Run one job in this process, and print its measurements as one line of JSON."""
    job = Job(**json.loads(text))
    try:
        measured = KITS[job.kit](job)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{error}: pip install "jaxrl[bench]" installs the kits to compare with'
        ) from None
    import jax

    device = jax.local_devices()[0]
    stats = (device.memory_stats() or {}) if device.platform != "cpu" else {}
    peak = stats.get("peak_bytes_in_use", 0) / 1e6 or peak_mb() - measured["base_mb"]
    measured |= {
        "peak_mb": peak,
        "device": device.device_kind,
        "devices": jax.local_device_count(),
        "jax": jax.__version__,
    }
    print(json.dumps(measured))
