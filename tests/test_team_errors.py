"""What is for single agents refuses teams, before anything compiles, and says what to write."""

import jax
import jax.numpy as jnp
import pytest
from probes import Choice

import envs
import jaxrl as rl
from jaxrl.capabilities import ProbeTeam

KEY = jax.random.key(0)
TEAM = ProbeTeam(rl.Discrete(3))


def initial(algo, env=TEAM):
    return jax.eval_shape(lambda key: algo.init(key, env), KEY)


@pytest.mark.parametrize("name", ["stream_q", "stream_sarsa", "stream_ac"])
def test_streams_are_of_single_agents(name):
    words = r"one agent, and ProbeTeam is a team of 2: take rl\.dqn\(\) or rl\.ppo\(\)"
    with pytest.raises(TypeError, match=words):
        initial(rl.PRESETS[name]())


@pytest.mark.parametrize("name", ["grpo", "remax", "rloo"])
def test_groups_are_of_single_agents(name):
    words = r"single agents, and ProbeTeam is a team of 2.*such as rl\.ppo\(\)"
    with pytest.raises(TypeError, match=words):
        initial(rl.PRESETS[name]())


def test_archives_are_of_single_agents():
    cells = rl.archives.Grid(jnp.zeros(4), jnp.ones(4), (2,) * 4)
    words = r"ProbeTeam is a team of 2:.*rl\.Versus\(env\), one seat of it"
    with pytest.raises(TypeError, match="GoExplore explores with one agent, and " + words):
        initial(rl.GoExplore(cells))
    for task in (rl.archives.PolicyTask(TEAM), rl.archives.ActorTask(TEAM)):
        name = type(task).__name__
        with pytest.raises(TypeError, match=f"{name} plays one agent, and {words}"):
            jax.eval_shape(task.init, KEY)


def test_a_training_refuses_before_it_compiles(monkeypatch):
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *args: pytest.fail("compiled"))
    training = rl.Training(rl.stream_q(), TEAM, 1000)
    with pytest.raises(TypeError, match="is a team of 2"):
        rl.sweep(training, {"seed": jnp.arange(2)}, progress=False)
    mixing = rl.Training(rl.dqn(mixer=rl.Additive()), envs.Spread(), 10_000)
    with pytest.raises(ValueError, match="A mixer needs the same reward for all agents"):
        rl.sweep(mixing, {"seed": jnp.arange(2)}, progress=False)


@pytest.mark.parametrize("size", [None, 1])
def test_a_game_has_several_agents(size):
    env = Choice() if size is None else envs.AsTeam(Choice(), size=1)
    words = "at least two agents, and .* has a (single agent|team of one): write for example"
    agents = {"w": jnp.zeros((2, 1))}
    for call in (
        lambda: rl.Versus(env),
        lambda: rl.Opponents(env, rl.ppo()),
        lambda: rl.round_robin(0, env, rl.ppo(), agents, 4),
    ):
        with pytest.raises(TypeError, match=words):
            call()
