"""The base classes of environments and of their distributions: defaults, and errors that teach."""

import jax
import jax.numpy as jnp
import pytest

import envs
import jaxrl as rl
from jaxrl.env import check_env, check_tasks
from jaxrl.tree import pytree, static


@pytree
class Field(rl.Env):
    max_steps: int = static(default=5)
    action_space = rl.Discrete(2)


@pytree
class Property(rl.Env):
    length: int = static(default=5)

    @property
    def max_steps(self):
        return self.length


@pytree
class Team(rl.Env):
    num_agents: int = static(default=3)
    channels = ("cost",)
    max_steps = 5


def test_defaults_are_no_fields():
    for env, leaves in ((Field(), []), (Property(), []), (Team(), [])):
        assert env.max_steps == 5
        assert jax.tree.leaves(env) == leaves
        assert env.draw is None
    assert (Field().num_agents, Field().channels) == (None, ())
    assert (Team().num_agents, Team().channels) == (3, ("cost",))
    assert set(Field.__dataclass_fields__) == {"max_steps"}
    assert set(rl.Tasks.__dict__) >= {"sample", "score"}


def test_what_a_subclass_does_not_write_is_named():
    with pytest.raises(
        NotImplementedError, match=r"Field does not define reset: write .*self, key\)"
    ):
        Field().reset(jax.random.key(0))
    with pytest.raises(NotImplementedError, match=r"not define step: .*key, state, action\)"):
        Field().step(jax.random.key(0), (), 0)
    with pytest.raises(NotImplementedError, match=r"Tasks does not define sample"):
        rl.Tasks().sample(jax.random.key(0))


def test_a_score_is_the_return_by_default():
    assert rl.Tasks().score(Field(), jnp.float32(2.5)) == 2.5


@pytest.mark.parametrize(
    "env", [envs.make("Catch"), envs.make("CartPole-P"), envs.make("MDP-Chain"), Field()]
)
def test_an_environment_is_one(env):
    check_env(env)
    with pytest.raises(
        TypeError, match=f"in place of one environment, and got {type(env).__name__}"
    ):
        check_tasks(env, rl.Evolution())


def test_every_distribution_is_one():
    for name in envs.distributions():
        check_tasks(envs.distribution(name))
    with pytest.raises(TypeError, match=r"environment of OnPolicy can't be LPGLevels.*sample"):
        check_env(envs.distribution("LPGGrid-tiny"), rl.ppo())


class Duck:
    def reset(self, key): ...
    def step(self, key, state, action): ...


@pytest.mark.parametrize(
    ("other", "of_env", "of_tasks"),
    [
        (Duck(), r"`class Duck\(rl.Env\)`", r"`class Duck\(rl.Tasks\)`"),
        (Field, r"the class Field: write Field\(\)", r"and got Field"),
        ("Catch", r"envs.make\('Catch'\)", r"envs.distribution\('Catch'\)"),
    ],
    ids=["duck", "class", "text"],
)
def test_what_is_neither_is_refused(other, of_env, of_tasks):
    with pytest.raises(TypeError, match=of_env):
        check_env(other)
    with pytest.raises(TypeError, match=of_tasks):
        check_tasks(other)
