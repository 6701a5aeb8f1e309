"""Gaussian mixtures in few dimensions, fitted inside a compiled program."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.tree import cast_like, pytree

RIDGE = 1e-4  # added to the diagonal of covariances
ITERATIONS = 30


@pytree
class Mixture:
    """Components [K]: log-weights [K], -inf for absent ones, means [K, D], and lower triangular
    factors of the covariances [K, D, D].
    """

    log_weights: jax.Array
    means: jax.Array
    factors: jax.Array

    def log_joint(self, points: jax.Array) -> jax.Array:
        """The log of weight times density of each component at points [N, D]. [N, K]."""

        def density(point: jax.Array, mean: jax.Array, factor: jax.Array) -> jax.Array:
            scaled = solve_lower(factor, point - mean)
            diagonal = jnp.diagonal(factor)
            constant = 0.5 * point.shape[0] * jnp.log(2.0 * jnp.pi)
            return -0.5 * jnp.sum(scaled**2) - jnp.sum(jnp.log(diagonal)) - constant

        of_components = jax.vmap(density, in_axes=(None, 0, 0))
        each = jax.vmap(of_components, in_axes=(0, None, None))(points, self.means, self.factors)
        return each + self.log_weights[None]

    def log_likelihood(self, points: jax.Array, weight: jax.Array) -> jax.Array:
        """The sum over points [N, D] of weight [N] times log-density. []."""
        return jnp.sum(weight * jax.nn.logsumexp(self.log_joint(points), -1))


def fit(
    key: jax.Array, points: jax.Array, weight: jax.Array, num: jax.Array, most: int
) -> tuple[Mixture, jax.Array]:
    """A mixture of `num` components, at most `most`, by expectation maximisation, and the
    log-likelihood after each iteration [ITERATIONS].

    points: [N, D]. weight: of each point, 0 to ignore it. [N].
    """
    dims, total = points.shape[1], jnp.maximum(weight.sum(), 1.0)
    mean = jnp.sum(points * weight[:, None], 0) / total
    centred = (points - mean[None]) * weight[:, None] ** 0.5
    spread = centred.T @ centred / total + RIDGE * jnp.eye(dims)
    chosen = jax.random.choice(
        key, points.shape[0], (most,), replace=False, p=(weight + 1e-12) / (weight + 1e-12).sum()
    )
    active = jnp.arange(most) < num
    log_weights = jnp.where(active, -jnp.log(num.astype(points.dtype)), -jnp.inf)
    factors = jnp.broadcast_to(cholesky(spread), (most, dims, dims))
    start = Mixture(log_weights, points[chosen], factors)

    def improve(now: Mixture, _: Any) -> tuple[Mixture, jax.Array]:
        log_joint = now.log_joint(points)
        share = jax.nn.softmax(log_joint, -1) * weight[:, None]
        size = share.sum(0)
        safe = jnp.maximum(size, 1e-6)
        means = share.T @ points / safe[:, None]
        apart = points[:, None] - means[None]
        covariance = jnp.einsum("nk,nkd,nke->kde", share, apart, apart) / safe[:, None, None]
        factors = jax.vmap(cholesky)(covariance + RIDGE * jnp.eye(dims)[None])
        log_weights = jnp.where(active, jnp.log(safe / total), -jnp.inf)
        following = Mixture(log_weights, means, factors)
        return cast_like(following, now), following.log_likelihood(points, weight)

    return jax.lax.scan(improve, start, length=ITERATIONS)


def best(key: jax.Array, points: jax.Array, weight: jax.Array, most: int) -> Mixture:
    """The mixture of 2 to `most` components with the lowest AIC."""
    nums = jnp.arange(2, most + 1)
    keys = jax.random.split(key, most - 1)
    found, likelihood = jax.vmap(lambda key, num: fit(key, points, weight, num, most))(keys, nums)
    dims = points.shape[1]
    free = nums * (1 + dims + dims * (dims + 1) / 2) - 1
    choice = jnp.argmin(2.0 * free - 2.0 * likelihood[:, -1])
    return jax.tree.map(lambda x: x[choice], found)


def cholesky(matrix: jax.Array) -> jax.Array:
    """The lower triangular factor of a small positive definite matrix. [D, D].

    It is unrolled, as a LAPACK call in a program vmapped over many seeds can stall on a CPU.
    """
    size = matrix.shape[0]
    rows: list[list[jax.Array]] = []
    for i in range(size):
        row: list[jax.Array] = []
        for j in range(i + 1):
            rest = matrix[i, j] - sum(
                (row[k] * (rows[j][k] if j < i else row[k]) for k in range(j)), jnp.zeros(())
            )
            row.append(jnp.sqrt(jnp.maximum(rest, 1e-12)) if i == j else rest / rows[j][j])
        rows.append(row)
    zero = jnp.zeros(())
    return jnp.stack([jnp.stack(row + [zero] * (size - len(row))) for row in rows])


def solve_lower(factor: jax.Array, vector: jax.Array) -> jax.Array:
    """The solution x of factor @ x = vector, for a small lower triangular factor. [D]."""
    found: list[jax.Array] = []
    for i in range(vector.shape[0]):
        rest = vector[i] - sum((factor[i, k] * found[k] for k in range(i)), jnp.zeros(()))
        found.append(rest / factor[i, i])
    return jnp.stack(found)
