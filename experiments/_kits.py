"""PPO on CartPole at PureJaxRL's settings, by this kit and by others: what `experiments.speed` measures.

Each kit is imported only by the process that runs it, so that its memory is its own.
"""

import dataclasses
import json
import pathlib
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

UPDATE = 4 * 128  # environment steps of an update: 4 environments of 128 steps
ROWS, EPISODES = 10, 16  # points of a learning curve, and greedy episodes at each
SHAPE = {"num_envs": 4, "num_steps": 128, "num_epochs": 4, "num_minibatches": 4}
HYPER = {"gamma": 0.99, "gae_lambda": 0.95, "max_grad_norm": 0.5}


@dataclasses.dataclass(frozen=True)
class Job:
    """One measurement. curve: it returns learning curves. watch: it tells how its memory grows."""

    kit: str
    seeds: int
    steps: int
    curve: bool = False
    watch: bool = False


def jaxrl(job: Job, all_cores: bool = True) -> dict[str, Any]:
    import jax.numpy as jnp

    import jaxrl as rl

    if all_cores:
        rl.use_all_cores(members=job.seeds)
    import envs.from_gymnax  # here, as gymnax starts jax

    base, resident = _peak_mb(), []
    episodes = EPISODES if job.curve else 0
    training = rl.Training(rl.ppo(value_clip=0.2), envs.make("CartPole-v1"), job.steps, ROWS, episodes, eval_share=100.0)
    watch = (lambda report: resident.append(_resident_mb())) if job.watch else False
    results = rl.sweep(training, {"seed": jnp.arange(job.seeds)}, progress=watch)
    seconds = {name: float(results.attrs[name]) for name in ("compile_seconds", "run_seconds")}
    told = {"base_mb": base, "kept_bytes": results.nbytes, "resident_mb": resident} | seconds
    curves = {name: results[name].values.tolist() for name in ("return", "evaluation")} if job.curve else {}
    return told | {"curves": curves}


def jaxrl_on_one_device(job: Job) -> dict[str, Any]:
    return jaxrl(job, all_cores=False)


def rejax(job: Job) -> dict[str, Any]:
    import gymnax
    import jax
    import optax
    from rejax import PPO
    from rejax.evaluate import evaluate

    base = _peak_mb()

    @dataclasses.dataclass(frozen=True)
    class FiveValues:
        """gymnax 1.x gives six values a step and rejax takes five. (gymnax's LegacyStepAPIWrapper can't be deepcopied.)"""

        env: Any

        def __post_init__(self) -> None:
            for name in ("reset", "default_params", "action_space", "observation_space"):
                object.__setattr__(self, name, getattr(self.env, name))

        def step(self, *arguments: Any) -> tuple[Any, ...]:
            obs, state, reward, terminated, truncated, info = self.env.step(*arguments)
            return obs, state, reward, terminated | truncated, info

    def judge(algo: Any, learner: Any, key: jax.Array) -> jax.Array:
        policy = lambda obs: algo.actor.apply(learner.actor_ts.params, obs[None], method="_action_dist")
        greedy = lambda obs, key: policy(obs).mode()[0]
        return evaluate(greedy, key, algo.env, algo.env_params, EPISODES, 500)[1].mean()

    algo = PPO.create(
        env=FiveValues(gymnax.make("CartPole-v1")[0]),
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
        learning_rate=optax.linear_schedule(2.5e-4, 0.0, job.steps // UPDATE * 16),  # a leaf, but `train` closes over it
        **SHAPE | HYPER,
        **{"clip_eps": 0.2, "vf_coef": 0.5, "ent_coef": 0.01},
        **{"total_timesteps": job.steps, "eval_freq": job.steps // (ROWS if job.curve else 1)},
        skip_initial_evaluation=True,
    )
    algo = algo.replace(eval_callback=judge if job.curve else lambda algo, learner, key: ())
    keys = jax.random.split(jax.random.key(0), job.seeds)
    seconds, evaluation = _timed(jax.jit(jax.vmap(algo.train)), keys)
    return {"base_mb": base, "curves": {"evaluation": evaluation.tolist()} if job.curve else {}} | seconds


def jaxnasium(job: Job, apart: bool = False) -> dict[str, Any]:
    import equinox
    import jax
    import jax.numpy as jnp
    import jaxnasium as jym
    import numpy as np
    from jaxnasium.algorithms import PPO
    from jaxnasium.algorithms.architectures import MLP

    base = _peak_mb()

    def returns(metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
        done = metrics["returned_episode"]
        return {"total": jnp.sum(metrics["returned_episode_returns"] * done), "episodes": jnp.sum(done)}

    towers = {"body": MLP.with_params(hidden_sizes=(64, 64), activation=jnp.tanh)}
    algo = PPO(
        **{"learning_rate_start": 2.5e-4, "learning_rate_end": 0.0, "total_timesteps": job.steps, "warmup_steps": 0},
        **SHAPE | HYPER,
        **{"ent_coef_start": 0.01, "ent_coef_end": None, "clip_coef": 0.2, "clip_coef_vf": 0.2},
        **{"vf_coef": 0.25, "normalize_observations": False, "normalize_rewards": False},  # its value loss has no 1/2
        **{"actor_kwargs": towers, "critic_kwargs": towers, "log_function": None},
        reduce_metrics_fn=returns,
    )
    env = jym.make("CartPole-v1")
    keys = jax.random.split(jax.random.key(0), job.seeds)
    if apart:
        agents = [equinox.partition(algo.init_agent(key, env), equinox.is_array) for key in keys]
        arrays, rest = jax.tree.map(lambda *x: jnp.stack(x), *(agent[0] for agent in agents)), agents[0][1]
    else:
        arrays, rest = None, None
    train = equinox.filter_vmap(lambda key, agent: algo.train(key, env, equinox.combine(agent, rest) if apart else None))
    seconds, metrics = _timed(equinox.filter_jit(train), keys, arrays)
    total, episodes = (np.reshape(metrics[name], (job.seeds, ROWS, -1)).sum(-1) for name in ("total", "episodes"))
    return {"base_mb": base, "curves": {"return": (total / episodes).tolist()} if job.curve else {}} | seconds


def jaxnasium_apart(job: Job) -> dict[str, Any]:
    """A way round its initialiser, a QR that can stand still under vmap on a CPU: agents are made one by one."""
    return jaxnasium(job, apart=True)


KITS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "jaxrl": jaxrl,
    "jaxrl on one device": jaxrl_on_one_device,
    "rejax": rejax,
    "jaxnasium": jaxnasium,
    "jaxnasium, agents one by one": jaxnasium_apart,
}


def _timed(program: Any, *inputs: Any) -> tuple[dict[str, float], Any]:
    """Seconds of compilation and of one run of what was compiled, and its curves on the host."""
    import jax

    started = time.monotonic()
    compiled = program.lower(*inputs).compile()
    ready = time.monotonic()
    _, curve = jax.block_until_ready(compiled(*inputs))
    curve = jax.device_get(curve)
    return {"compile_seconds": ready - started, "run_seconds": time.monotonic() - ready}, curve


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _resident_mb() -> float:
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def child(text: str) -> None:
    """What a measurement's process does: one job, told as one line of JSON."""
    job = Job(**json.loads(text))
    try:
        told = KITS[job.kit](job)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'{error}: pip install "jaxrl[bench]" brings the kits that are compared') from None
    import jax

    device = jax.local_devices()[0]
    stats = (device.memory_stats() or {}) if device.platform != "cpu" else {}
    peak = stats.get("peak_bytes_in_use", 0) / 1e6 or _peak_mb() - told["base_mb"]
    told |= {"peak_mb": peak, "device": device.device_kind, "devices": jax.local_device_count(), "jax": jax.__version__}
    print(json.dumps(told))
