"""The robots of brax: their names, backends, and the system as a leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import allowances, assert_equal, at, fresh, kinds, run, zeros

import envs
import jaxrl as rl
from envs import from_brax
from jaxrl.tree import replace


def test_several_backends_are_a_static_axis():
    from jaxrl.cli import arguments

    asked = arguments.options("ppo", rl.ppo)(env="brax:ant", env_params=("backend=mjx,spring",))
    training, axes = arguments.training_of(asked, rl.ppo)
    assert list(axes) == ["seed"]
    assert arguments.static_axes_of(asked, rl.ppo, training) == {"backend": ("mjx", "spring")}
    wrong = arguments.options("ppo", rl.ppo)(env="brax:ant", env_params=("backend=mjx,sprong",))
    with pytest.raises(ValueError, match="no backend 'sprong'"):
        arguments.training_of(wrong, rl.ppo)


def test_names_of_brax():
    from brax import envs as robots

    assert set(from_brax.NAMES) == {f"brax:{name}" for name in robots._envs} - set(
        from_brax.LEFT_OUT
    )
    assert len(set(envs.names())) == len(envs.names())


def test_brax_swimmer_is_still_broken():
    """When this fails, brax and jax agree again: add it to NAMES."""
    from brax import envs as robots

    env = robots.get_environment("swimmer")
    state = jax.eval_shape(env.reset, jax.random.key(0))
    with jax.numpy_rank_promotion("allow"), pytest.raises(TypeError, match="a_min"):
        jax.eval_shape(env.step, state, jnp.zeros(env.action_size))


def brax_matrix():
    """All pairs; of these, each environment on one backend and each backend on one environment
    rotate.
    """
    for name in from_brax.NAMES:
        for backend in from_brax.BACKENDS:
            usual = backend == "spring" or name == "brax:inverted_pendulum"
            yield pytest.param(
                name, backend, marks=pytest.mark.rotate if usual else pytest.mark.nightly
            )


@pytest.mark.parametrize(("name", "backend"), list(brax_matrix()))
def test_brax_matrix(name, backend):
    with allowances(name):
        env = envs.make(name, backend=backend)
        (state, _), states, step = fresh(env, jax.random.key(1))
        assert kinds(state) == kinds(at(states, -1))
        assert jnp.isfinite(step.reward).all()
        assert jnp.isfinite(step.obs).all()


@pytest.mark.rotate
def test_brax_system_is_a_leaf():
    """Weaker gravity is another world; a vmap over it is a family."""
    with allowances("brax:inverted_pendulum"):
        env = envs.make("brax:inverted_pendulum")
        system = env.shipped_system
        family = jax.vmap(lambda g: system.replace(gravity=jnp.array([0.0, 0.0, g])))(
            jnp.array([-9.81, -1.0])
        )
        axes = jax.tree.map(
            lambda many, one: 0 if jnp.ndim(many) > jnp.ndim(one) else None, family, system
        )
        key, blank = jax.random.key(0), zeros(env)
        observed = lambda env: run(env, key, key, blank, np.bool_(False))[2].obs
        many = jax.jit(jax.vmap(lambda sys: observed(replace(env, system=sys)), (axes,)))(family)
        assert_equal(many[0], observed(env), rtol=1e-3, atol=1e-4)
        assert not np.allclose(many[0], many[1], atol=1e-4)
