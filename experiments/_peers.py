"""rejax's and jaxnasium's PPO, DQN and SAC at the settings of `experiments._settings`.

Each is imported only by the process that runs it, so that memory is measured separately.
"""

import dataclasses
from typing import Any

from experiments._settings import (
    DQN,
    EPISODES,
    HYPER,
    ROWS,
    SAC,
    SHAPE,
    UPDATE,
    Job,
    Replayed,
    peak_mb,
    timed,
)


def rejax(job: Job) -> dict[str, Any]:
    import jax

    base = peak_mb()
    program, keys = rejax_program(job)
    seconds, evaluation = timed(jax.jit(program), keys)
    return {
        "base_mb": base,
        "curves": {"evaluation": evaluation.tolist()} if job.curve else {},
    } | seconds


def rejax_program(job: Job) -> tuple[Any, Any]:
    """Training of all seeds of a job as a function of their keys, and the keys [seeds]."""
    import gymnax
    import jax

    @dataclasses.dataclass(frozen=True)
    class FiveValues:
        """A gymnax 1.x environment with the five results per step that rejax expects (it has six).

        gymnax's LegacyStepAPIWrapper can't be deepcopied.
        """

        env: Any

        def __post_init__(self) -> None:
            for name in ("reset", "default_params", "action_space", "observation_space"):
                object.__setattr__(self, name, getattr(self.env, name))

        def step(self, *arguments: Any) -> tuple[Any, ...]:
            obs, state, reward, terminated, truncated, info = self.env.step(*arguments)
            return obs, state, reward, terminated | truncated, info

    presets = {"ppo": _rejax_ppo, "dqn": _rejax_dqn, "sac": _rejax_sac}
    algo = presets[job.algorithm](
        job,
        env=FiveValues(gymnax.make(job.task.env)[0]),
        total_timesteps=job.steps,
        eval_freq=job.steps // (ROWS if job.curve else 1),
        skip_initial_evaluation=True,
    )
    algo = algo.replace(eval_callback=_evaluate if job.curve else lambda algo, learner, key: ())
    return jax.vmap(algo.train), jax.random.split(jax.random.key(0), job.seeds)


def _evaluate(algo: Any, learner: Any, key: Any) -> Any:
    from rejax.evaluate import evaluate

    policy = lambda obs: algo.actor.apply(learner.actor_ts.params, obs[None], method="_action_dist")
    greedy = lambda obs, key: policy(obs).mode()[0]
    return evaluate(greedy, key, algo.env, algo.env_params, EPISODES, 500)[1].mean()


def _rejax_ppo(job: Job, **fields: Any) -> Any:
    import optax
    from rejax import PPO

    return PPO.create(
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
        # a leaf, but `train` closes over it
        learning_rate=optax.linear_schedule(2.5e-4, 0.0, job.steps // UPDATE * 16),
        **SHAPE | HYPER,
        **{"clip_eps": 0.2, "vf_coef": 0.5, "ent_coef": 0.01},
        **fields,
    )


def _rejax_dqn(job: Job, **fields: Any) -> Any:
    import rejax

    epsilon = {"eps_start": 1.0, "eps_end": 0.05, "exploration_fraction": 0.5}
    network = {"activation": "relu"}  # always two layers of 64
    return rejax.DQN.create(
        agent_kwargs=network, ddqn=False, **_rejax_replay(job, DQN), **epsilon, **fields
    )


def _rejax_sac(job: Job, **fields: Any) -> Any:
    import rejax

    network = {"agent_kwargs": {"activation": "relu"}, "hidden_layer_sizes": (64, 64)}
    return rejax.SAC.create(**network, **_rejax_replay(job, SAC), **fields)


def _rejax_replay(job: Job, task: Replayed) -> dict[str, Any]:
    return {
        **{"num_envs": task.num_envs, "num_epochs": task.updates, "batch_size": task.batch_size},
        **{"buffer_size": job.capacity, "fill_buffer": task.warmup, "polyak": 1.0 - task.rate},
        **{"learning_rate": task.lr, "max_grad_norm": task.max_grad_norm, "gamma": task.gamma},
    }


# ---------------------------------------------------------------------------------------- jaxnasium


def jaxnasium(job: Job, apart: bool = False) -> dict[str, Any]:
    import equinox
    import numpy as np

    base = peak_mb()
    train, keys, arrays = jaxnasium_program(job, apart)
    seconds, metrics = timed(equinox.filter_jit(train), keys, arrays)
    if not job.curve:
        return {"base_mb": base, "curves": {}} | seconds
    total, episodes = (
        np.reshape(metrics[name], (job.seeds, ROWS, -1)).sum(-1) for name in ("total", "episodes")
    )
    return {"base_mb": base, "curves": {"return": (total / episodes).tolist()}} | seconds


def jaxnasium_program(job: Job, apart: bool = False) -> tuple[Any, Any, Any]:
    """Training of all seeds of a job as a function of keys [seeds] and agents, and these; the
    agents are None unless they are initialised `apart`.
    """
    import equinox
    import jax
    import jax.numpy as jnp
    import jaxnasium as jym

    def returns(metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
        done = metrics["returned_episode"]
        return {
            "total": jnp.sum(metrics["returned_episode_returns"] * done),
            "episodes": jnp.sum(done),
        }

    presets = {"ppo": _jaxnasium_ppo, "dqn": _jaxnasium_dqn, "sac": _jaxnasium_sac}
    algo = presets[job.algorithm](
        job, normalize_observations=False, log_function=None, reduce_metrics_fn=returns
    )
    env = jym.make(job.task.env)
    keys = jax.random.split(jax.random.key(0), job.seeds)
    if apart:
        agents = [equinox.partition(algo.init_agent(key, env), equinox.is_array) for key in keys]
        arrays, rest = (
            jax.tree.map(lambda *x: jnp.stack(x), *(agent[0] for agent in agents)),
            agents[0][1],
        )
    else:
        arrays, rest = None, None
    train = equinox.filter_vmap(
        lambda key, agent: algo.train(key, env, equinox.combine(agent, rest) if apart else None)
    )
    return train, keys, arrays


def jaxnasium_apart(job: Job) -> dict[str, Any]:
    """jaxnasium with agents initialised one by one: its initialiser, a QR decomposition, can hang
    under vmap on a CPU.
    """
    return jaxnasium(job, apart=True)


def _network(activation: Any) -> dict[str, Any]:
    from jaxnasium.algorithms.architectures import MLP

    return {"body": MLP.with_params(hidden_sizes=(64, 64), activation=activation)}


def _jaxnasium_ppo(job: Job, **fields: Any) -> Any:
    import jax.numpy as jnp
    from jaxnasium.algorithms import PPO

    return PPO(
        **{
            "learning_rate_start": 2.5e-4,
            "learning_rate_end": 0.0,
            "total_timesteps": job.steps,
            "warmup_steps": 0,
        },
        **SHAPE | HYPER,
        **{"ent_coef_start": 0.01, "ent_coef_end": None, "clip_coef": 0.2, "clip_coef_vf": 0.2},
        **{"vf_coef": 0.25, "normalize_rewards": False},  # its value loss has no 1/2
        **{"actor_kwargs": _network(jnp.tanh), "critic_kwargs": _network(jnp.tanh)},
        **fields,
    )


def _jaxnasium_dqn(job: Job, **fields: Any) -> Any:
    import jax
    from jaxnasium import algorithms

    epsilon = {"epsilon_start": 1.0, "epsilon_end": 0.05, "exploration_fraction": 0.5}
    optimisation = {
        "learning_rate_start": DQN.lr,
        "num_updates": DQN.updates,
        "max_grad_norm": DQN.max_grad_norm,
    }
    return algorithms.DQN(
        critic_kwargs=_network(jax.nn.relu),
        **epsilon,
        **optimisation,
        **_jaxnasium_replay(job, DQN),
        **fields,
    )


def _jaxnasium_sac(job: Job, **fields: Any) -> Any:
    import jax
    from jaxnasium import algorithms

    parts = ("actor", "critics", "alpha")
    return algorithms.SAC(
        **{f"learning_rate_{part}_start": SAC.lr for part in parts},
        **{f"{part}_num_updates": SAC.updates for part in parts},
        **{"actor_kwargs": _network(jax.nn.relu), "critic_kwargs": _network(jax.nn.relu)},
        **{"init_alpha": 1.0, "target_entropy_scale_end": None, "max_grad_norm": None},
        **_jaxnasium_replay(job, SAC),
        **fields,
    )


def _jaxnasium_replay(job: Job, task: Replayed) -> dict[str, Any]:
    """Settings of the replay buffer. jaxnasium's warm-up comes on top of its steps; its target
    network is updated at every gradient step rather than once after all of them.
    """
    return {
        **{"num_envs": task.num_envs, "update_every": task.num_envs, "batch_size": task.batch_size},
        **{
            "replay_buffer_size": job.capacity,
            "warmup_steps": task.warmup,
            "total_timesteps": job.steps - task.warmup,
        },
        **{"tau": 1.0 - (1.0 - task.rate) ** (1.0 / task.updates), "gamma": task.gamma},
    }
