"""Results of teams: returns of each agent and role in sweeps, the policies of a folder, `play`."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from PIL import Image
from probes import Choice

import envs
import jaxrl as rl
from jaxrl.cli import main
from jaxrl.sweep.results import dataset, join

ROLES = (0, 1, 0)
SIZES = dict(num_envs=2, num_steps=4, minibatches=1, epochs=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two static groups of runs with recurrent agents that have roles."""
    team = envs.WithRoles(envs.Spread(radius=0.6, max_steps=3), roles=ROLES)
    algo = rl.ppo(network=rl.MLP((4,)), memory=rl.GRU(3), **SIZES)
    training = rl.Training(algo, team, 48, evals=2, episodes=2, eval_share=1.0)
    path = tmp_path_factory.mktemp("team") / "x"
    static = {"num_envs": (2, 3)}
    rl.sweep(training, {"seed": jnp.arange(2)}, static=static, folder=path, progress=False)
    return path


def test_static_groups_have_returns_of_each_agent_and_role(folder):
    results = rl.load(folder)
    by_agent, by_role = results["evaluation_by_agent"], results["evaluation_by_role"]
    assert by_agent.dims == ("num_envs", "seed", "step", "agent")
    assert by_role.dims == ("num_envs", "seed", "step", "role")
    assert by_agent.shape == (2, 2, 2, 3)
    assert by_role.shape == (2, 2, 2, 2)
    assert np.isfinite(by_agent).all()
    np.testing.assert_allclose(by_agent.mean("agent"), results["evaluation"], rtol=1e-5)
    for role in (0, 1):
        own = [agent for agent in range(3) if ROLES[agent] == role]
        mean = by_agent.isel(agent=own).mean("agent")
        np.testing.assert_allclose(by_role.isel(role=role), mean, rtol=1e-5)
    group = rl.load(folder / "static" / "001")
    assert group["evaluation_by_agent"].dims == ("seed", "step", "agent")
    xr.testing.assert_equal(by_agent.sel(num_envs=3, drop=True), group["evaluation_by_agent"])


def test_groups_of_different_teams_keep_the_dimension_of_agents():
    def group(num_agents):
        value = np.arange(2.0 * 3 * num_agents).reshape(2, 3, num_agents)
        outputs = {"evaluation_by_agent": value, "step": np.tile(np.arange(3), (2, 1))}
        return dataset({"seed": np.arange(2)}, {(0, 2): outputs}, {})

    parts, blank = [group(2), group(3)], dataset({"seed": np.arange(2)}, {}, {})
    found = join({"num_agents": np.array([2, 3])}, list(parts), blank, {})["evaluation_by_agent"]
    assert found.dims == ("num_agents", "seed", "step", "agent")
    np.testing.assert_array_equal(found[1], parts[1]["evaluation_by_agent"])
    np.testing.assert_array_equal(found[0, ..., :2], parts[0]["evaluation_by_agent"])
    assert np.isnan(found[0, ..., 2]).all()


def test_roles_pass_through_wrappers_and_are_none_by_default():
    team = envs.WithRoles(envs.Spread(), roles=ROLES)
    assert envs.WithState(team).roles == ROLES
    assert envs.Spread().roles == envs.WithRoles(envs.Spread()).roles == ()
    training = rl.Training(rl.ppo(network=rl.MLP((4,)), **SIZES), envs.Spread(max_steps=3), 48)
    metrics = jax.eval_shape(rl.tree.replace(training, evals=1, eval_share=1.0), jax.random.key(0))[
        1
    ]
    assert "evaluation_by_agent" in metrics
    assert "evaluation_by_role" not in metrics
    taken = envs.WithChannel(Choice(), "by_role", lambda action, step: jnp.float32(0.0))
    with pytest.raises(ValueError, match="'by_role', which is a variable of every result"):
        rl.rollout.reset(jax.random.key(0), taken)


def test_a_stored_policy_acts_for_all_agents(folder):
    policy = rl.policy(folder, num_envs=2, seed=1)
    obs = policy.env.reset(jax.random.key(3))[1]
    act = jax.jit(policy.act)
    action, memory = act(obs)
    assert action.shape == (3,)
    again, _ = act(2.0 * obs, memory)
    for agent in range(3):
        own, own_memory = act(obs[agent])  # one agent's observation
        assert own == action[agent]
        assert act(2.0 * obs[agent], own_memory)[0] == again[agent]
    with pytest.raises(
        ValueError, match=r"takes one observation of shape \[16\], and got \[2, 16\]"
    ):
        policy.act(obs[:2])


def test_play_shows_all_agents(folder, tmp_path, in_process, capfd):
    out = tmp_path / "team.gif"
    where = ["--where", "num_envs=3", "seed=0"]
    main(["play", str(folder), *where, "--episodes", "4", "--out", str(out)])
    shown = capfd.readouterr().out
    policy = rl.policy(folder, num_envs=3, seed=0)
    returns = rl.evaluate(0, policy.env, policy, 4)
    assert returns.shape == (4, 3)
    assert f"return of 4 greedy episodes: mean {returns.mean():.6g}" in shown
    for agent, role in enumerate(ROLES):
        own = returns[:, agent]
        line = f"agent {agent} (role {role}): mean {own.mean():.6g}, {own.min():.6g} to "
        assert line + f"{own.max():.6g}" in shown
    assert len(re.findall("^agent", shown, re.MULTILINE)) == 3
    assert len(set(returns.mean(0).tolist())) == 3
    with Image.open(out) as film:
        assert film.n_frames == 4
