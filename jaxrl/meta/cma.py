"""CMA-ES with matrix products alone, so that many can run in parallel in one program."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.errors import check_counts
from jaxrl.meta.strategies import Strategy, as_floats, clean
from jaxrl.tree import leaf, pytree, static

ROOT_STEPS = 24  # of the iteration for a square root
MOST_PARAMETERS = 2_000


@pytree
class State:
    """The mean as `params`, the step size, the covariance [n, n] and its square root, and the
    evolution paths of the step size and of the covariance [n].
    """

    params: Any
    sigma: jax.Array
    covariance: jax.Array
    root: jax.Array
    path_sigma: jax.Array
    path: jax.Array
    clock: Clock


@pytree
class FullCMA(Strategy):
    """CMA-ES (Hansen, 2016) with its default rates, for up to a few hundred parameters; more than
    2,000 are refused.

    The square root of the covariance is computed by Newton-Schulz iterations in place of an
    eigendecomposition: they are matrix products, which can be vmapped. sigma: the initial standard
    deviation.
    """

    sigma: float = leaf(0.5, "(0, inf)")
    population: int = static(default=36)

    def __post_init__(self) -> None:
        check_counts(self, "population", min_value=2)

    @property
    def members(self) -> int:
        return self.population

    @property
    def crn_group(self) -> np.ndarray:
        return np.zeros(self.population, int)

    def init(self, params: Any, num_generations: jax.Array | float = float("inf")) -> State:
        params = as_floats(params)
        n = sum(x.size for x in jax.tree.leaves(params))
        if n > MOST_PARAMETERS:
            raise ValueError(
                f"FullCMA stores a covariance [{n}, {n}] of the {n} parameters, and takes "
                f"{MOST_PARAMETERS} at most: write rl.SepCMAES(), which has a diagonal one, or a "
                "smaller network."
            )
        zero = jnp.zeros(n)
        return State(
            params=params,
            sigma=jnp.float32(self.sigma),
            covariance=jnp.eye(n),
            root=jnp.eye(n),
            path_sigma=zero,
            path=zero,
            clock=start_clock(num_generations),
        )

    def ask(self, key: jax.Array, state: State, member: Any) -> Any:
        mean, unravel = ravel_pytree(state.params)
        noise = self._noise(key, member, mean.size)
        return unravel(mean + state.sigma * (state.root @ noise))

    def _noise(self, key: jax.Array, member: Any, n: int) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, member), (n,))

    def tell(self, key: jax.Array, state: State, fitness: jax.Array) -> tuple[State, Metrics]:
        mean, unravel = ravel_pytree(state.params)
        n, num = mean.size, self.population
        fitness, metrics = clean(fitness)
        order = jnp.argsort(-fitness.reshape(num, -1).mean(-1))
        weights, rates = self._constants(n)
        noise = jax.vmap(lambda i: self._noise(key, i, n))(order[: len(weights)])
        steps = noise @ state.root  # the root is symmetric
        z, y = weights @ noise, weights @ steps
        c_sigma, d_sigma, c_c, c_1, c_mu, mu_eff = rates
        path_sigma = (1.0 - c_sigma) * state.path_sigma
        path_sigma += np.sqrt(c_sigma * (2.0 - c_sigma) * mu_eff) * z
        length = jnp.sqrt(jnp.sum(path_sigma**2))
        typical = np.sqrt(n) * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n**2))
        generation = jnp.asarray(state.clock.n, jnp.float32) + 1.0
        unbiased = length / jnp.sqrt(1.0 - (1.0 - c_sigma) ** (2.0 * generation))
        moves = (unbiased < (1.4 + 2.0 / (n + 1.0)) * typical).astype(jnp.float32)
        path = (1.0 - c_c) * state.path + moves * np.sqrt(c_c * (2.0 - c_c) * mu_eff) * y
        kept = 1.0 - c_1 - c_mu + (1.0 - moves) * c_1 * c_c * (2.0 - c_c)
        covariance = (
            kept * state.covariance
            + c_1 * jnp.outer(path, path)
            + c_mu * (steps.T * weights[None]) @ steps
        )
        growth = jnp.exp(jnp.minimum(1.0, c_sigma / d_sigma * (length / typical - 1.0)))
        metrics |= {"spread": state.sigma}
        return State(
            params=unravel(mean + state.sigma * y),
            sigma=state.sigma * growth,
            covariance=covariance,
            root=square_root(covariance),
            path_sigma=path_sigma,
            path=path,
            clock=state.clock.tick(),
        ), metrics

    def _constants(self, n: int) -> tuple[np.ndarray, tuple[float, ...]]:
        """The recombination weights of the best half, and the rates (Hansen, 2016, table 1)."""
        half = self.population // 2
        raw = np.log((self.population + 1) / 2) - np.log(np.arange(1, half + 1))
        weights = raw / raw.sum()
        mu_eff = 1.0 / (weights**2).sum()
        c_sigma = (mu_eff + 2.0) / (n + mu_eff + 5.0)
        d_sigma = 1.0 + 2.0 * max(0.0, np.sqrt((mu_eff - 1.0) / (n + 1.0)) - 1.0) + c_sigma
        c_c = (4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n)
        c_1 = 2.0 / ((n + 1.3) ** 2 + mu_eff)
        c_mu = min(1.0 - c_1, 2.0 * (mu_eff - 2.0 + 1.0 / mu_eff) / ((n + 2.0) ** 2 + mu_eff))
        return weights.astype(np.float32), (c_sigma, d_sigma, c_c, c_1, c_mu, mu_eff)


def square_root(matrix: jax.Array) -> jax.Array:
    """The symmetric square root of a positive definite matrix, by coupled Newton-Schulz iterations
    (Higham, 2008, equation 6.35). [n, n].
    """
    matrix = (matrix + matrix.T) / 2.0
    norm = jnp.sqrt(jnp.sum(matrix**2))
    eye = jnp.eye(matrix.shape[0])

    def refine(
        now: tuple[jax.Array, jax.Array], _: Any
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        y, z = now
        change = 1.5 * eye - 0.5 * (z @ y)
        return (y @ change, change @ z), None

    (root, _), _ = jax.lax.scan(refine, (matrix / norm, eye), length=ROOT_STEPS)
    root = root * jnp.sqrt(norm)
    return (root + root.T) / 2.0
