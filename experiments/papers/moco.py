"""Maximum entropy model correction (Rakhsha et al., 2024): planning with a wrong model, of which
the next-state distributions are tilted until they predict the means of a few functions.

From the model p(. | s, a) and the true means of basis functions phi_i under the environment, the
corrected distribution is the closest one to p, in relative entropy, that has these means. Its
density is p exp(sum_i lambda_i phi_i), and lambda minimises the dual
log E_p exp(lambda . (phi - mean)). MoCoVI plans with the corrected model and takes its last values
as the basis; an iteration asks for the true mean of one function at all pairs of state and action,
as one of value iteration does.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.claims.claim import Arm, Check, Claim, Results

GAMMA = 0.9
BASIS = 2
ERRORS = (0.02, 0.2, 0.6)  # weight of the noise in the model
Means = Callable[[jax.Array], jax.Array]  # functions [K, S] -> true means [K, S, A]


def correct(model: jax.Array, basis: jax.Array, means: jax.Array, steps: int = 40) -> jax.Array:
    """The model with the means [2, S, A] of two functions [2, S], by Newton's method on the dual.
    [S, A, S].

    model: probabilities [S, A, S], positive where the environment's are.
    """

    def tilted(multiplier: jax.Array) -> jax.Array:
        return jax.nn.softmax(jnp.log(model) + jnp.einsum("ksa,kt->sat", multiplier, basis))

    def newton(_: int, multiplier: jax.Array) -> jax.Array:
        probs = tilted(multiplier)
        mean = jnp.einsum("sat,kt->ksa", probs, basis)
        centred = basis[:, None, None] - mean[..., None]
        var = jnp.einsum("sat,ksat,ksat->ksa", probs, centred, centred) + 1e-6
        both = jnp.einsum("sat,sat,sat->sa", probs, *centred)
        missing = means - mean
        step = (var[::-1] * missing - both * missing[::-1]) / (var[0] * var[1] - both**2)
        length = jnp.sqrt((step**2).sum(0))
        return multiplier + step * jnp.minimum(1.0, 1.0 / (length + 1e-9))

    return tilted(jax.lax.fori_loop(0, steps, newton, jnp.zeros_like(means)))


def orthonormal(value: jax.Array, other: jax.Array) -> jax.Array:
    """Two functions with the span of two values and the constants, of deviation 1. [2, S]."""
    unit = lambda x: (x - x.mean()) / (x.std() + 1e-30)
    first = unit(value)
    return jnp.stack([first, unit(other - (other * first).mean() * first)])


def plan(reward: jax.Array, transition: jax.Array) -> jax.Array:
    """Optimal values, up to 1e-9 of their size. [S]."""
    back = lambda _, value: (reward + GAMMA * transition @ value).max(-1)
    return jax.lax.fori_loop(0, 200, back, jnp.zeros(20))


def run(seed: jax.Array, error: jax.Array, method: str, iterations: int) -> dict[str, jax.Array]:
    """Largest error of the values after each iteration, relative to the largest value. [K].

    The model is the environment's transition, mixed with a random one: error is its weight.
    """
    keys = jax.random.split(jax.random.key(seed), 3)
    transition, noise = jax.nn.softmax(3 * jax.random.normal(keys[0], (2, 20, 4, 20)))
    reward = jax.random.normal(keys[1], (20, 4))
    model = (1 - error) * transition + error * (0.9 * noise + 0.1 / 20)
    means: Means = lambda x: jnp.einsum("sat,kt->ksa", transition, x, precision="highest")
    optimum = plan(reward, transition)
    fixed = orthonormal(*jax.random.normal(keys[2], (BASIS, 20)))

    def iterate(now: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple, jax.Array]:
        value, last = now
        if method == "value iteration":
            new = (reward + GAMMA * means(value[None])[0]).max(-1)
        elif method == "wrong model":
            new = value
        else:
            basis = fixed if method == "random basis" else orthonormal(value, value - last)
            new = plan(reward, correct(model, basis, means(basis)))
        return (new, value), jnp.abs(new - optimum).max() / jnp.abs(optimum).max()

    start = plan(reward, model), jnp.zeros(20)
    return {"error_of_value": jax.lax.scan(iterate, start, None, iterations)[1]}


def final(results: Results, arm: str, error: int) -> np.ndarray:
    """The largest error of the values at the end. [seeds]."""
    return results[arm]["error_of_value"].isel(error=error).isel(error_of_value_0=-1).values


def saved(results: Results, goal: float = 1e-3) -> np.ndarray:
    """Iterations of value iteration less those of MoCoVI to an error, from the accurate model."""

    def needed(arm: str) -> np.ndarray:
        short = results[arm]["error_of_value"].isel(error=0).values > goal
        return short.sum(-1) + 1

    return needed("value iteration") - needed("MoCoVI")


def claims(scale: float = 1.0) -> list[Claim]:
    iterations = max(5, int(100 * scale))
    methods = ("MoCoVI", "value iteration", "wrong model", "random basis")
    part = lambda name: functools.partial(run, method=name, iterations=iterations)
    wrong = -1  # of ERRORS
    return [
        Claim(
            row=178,
            statement="Value iteration on a corrected model converges to the optimum, unlike "
            "planning with the same model uncorrected, and in fewer iterations than value "
            "iteration if the model is accurate.",
            arms={name: Arm(part(name), budget=iterations) for name in methods},
            worlds=("random process",),
            axes={"error": ERRORS},
            unmatched="True means are exact; MoCoDyna, which estimates them, is left out. All "
            "arms start at the optimum of the model.",
            accept=[
                Check(
                    "largest relative error of MoCoVI with a model that is 60 % noise",
                    lambda results: final(results, "MoCoVI", wrong),
                    "<= 1e-4",
                ),
                Check(
                    "the same for planning with that model",
                    lambda results: final(results, "wrong model", wrong),
                    ">= 0.01",
                ),
                Check(
                    "the same with a basis of random functions, which must fail",
                    lambda results: final(results, "random basis", wrong),
                    ">= 0.01",
                    control=True,
                ),
                Check("iterations saved with a model that is 2 % noise", saved, "> 0"),
            ],
        )
    ]
