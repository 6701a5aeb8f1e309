"""diffGrad (Dubey et al., 2020): Adam's step, times a friction between 1/2 and 1 where the gradient
hardly changes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrl as rl
from experiments.claims import Arm, Check, Claim, beats

RATES = (3e-4, 1e-3, 3e-3, 1e-2)
STARTS = 100  # first points on a line
FUNCTION_STEPS = 300


class State(NamedTuple):
    """Adam's state and the last gradient."""

    adam: Any
    last: Any


def diffgrad(learning_rate: Any) -> optax.GradientTransformation:
    """Adam with friction (the paper's algorithm 1)."""
    adam = optax.scale_by_adam()

    def init(params: Any) -> State:
        return State(adam.init(params), jax.tree.map(jnp.zeros_like, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, State]:
        def change(step: jax.Array, grad: jax.Array, last: jax.Array) -> jax.Array:
            return -learning_rate * step * jax.nn.sigmoid(jnp.abs(grad - last))

        steps, adam_state = adam.update(updates, state.adam, params)
        return jax.tree.map(change, steps, updates, state.last), State(adam_state, updates)

    return optax.GradientTransformation(init, update)


# ------------------------------------------------------------ functions of one variable, on [-5, 5]


def wells(x: jax.Array) -> jax.Array:
    """A shallow well at 2 and the deepest at -1.5."""
    return 0.1 * x**2 - jnp.exp(-((x - 2.0) ** 2)) - 1.5 * jnp.exp(-((x + 1.5) ** 2))


def waves(x: jax.Array) -> jax.Array:
    """A parabola with waves; the deepest point is near -0.5."""
    return 0.1 * x**2 + jnp.sin(3.0 * x)


def steps_down(x: jax.Array) -> jax.Array:
    """A slope with waves, which ends in a wall; the deepest point is near 3.6."""
    return -0.3 * x + 0.4 * jnp.sin(4.0 * x) + jnp.exp(3.0 * (x - 4.5))


FUNCTIONS = (wells, waves, steps_down)


def descend(build: Any, rate: float) -> jax.Array:
    """Share of starts that an optimiser leads to the deepest point, over the functions. []."""
    grid = jnp.linspace(-5.0, 5.0, 2001)
    optimizer = build(rate)

    def from_start(function: Any, x: jax.Array) -> jax.Array:
        def step(now: Any, _: None) -> tuple[Any, None]:
            x, state = now
            change, state = optimizer.update(jax.grad(function)(x), state)
            return (x + change, state), None

        return jax.lax.scan(step, (x, optimizer.init(x)), length=FUNCTION_STEPS)[0][0]

    def share(function: Any) -> jax.Array:
        ends = jax.vmap(lambda x: from_start(function, x))(jnp.linspace(-5.0, 5.0, STARTS))
        return (jnp.abs(ends - grid[function(grid).argmin()]) < 0.2).mean()

    return jnp.stack([share(function) for function in FUNCTIONS]).mean()


def basin(build: Any) -> float:
    """The best share of `descend` over learning rates."""
    return float(np.max([descend(build, rate) for rate in (0.01, 0.03, 0.1, 0.3, 1.0)]))


# ---------------------------------------------------------------------------------------- the claim


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(40_960 * scale), 10_240)

    def arm(build: Any) -> Arm:
        algo = rl.ppo(num_envs=8, num_steps=64, optimizer=build)
        training = rl.Training(algo, rl.envs.make("CartPole-v1"), steps, 2, 8)
        return Arm(training, tune={"lr": RATES})

    return [
        Claim(
            row=15,
            statement="PPO on CartPole learns more in 40,960 steps with diffGrad than with Adam.",
            arms={"diffGrad": arm(diffgrad), "Adam": arm(optax.adam)},
            accept=[
                beats("diffGrad", "Adam"),
                Check(
                    "share of starts that reach the deepest point of a line, less Adam's",
                    lambda _: basin(diffgrad) - basin(optax.adam),
                    "> 0",
                ),
            ],
            worlds=("CartPole-v1", "three functions of one variable"),
            unmatched="The paper's functions and image data are replaced. Many runs reach the "
            "largest return, 500, so that eight tuning seeds choose the learning rate with much "
            "noise.",
        )
    ]
