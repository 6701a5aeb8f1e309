"""Gaussian process regression in NumPy, on the host: a batch of Cholesky factors in a program can
hang on a CPU.
"""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

Kernel = Callable[[np.ndarray], np.ndarray]  # squared distances in lengthscales -> correlations
LENGTHS = 0.05 * 2.0 ** np.arange(7)  # in the unit cube
NOISES = (1e-6, 1e-3, 1e-1)  # variance, as a fraction of the signal's


def rbf(squared: np.ndarray) -> np.ndarray:
    """The squared exponential kernel."""
    return np.exp(-0.5 * squared)


def matern(squared: np.ndarray) -> np.ndarray:
    """The Matern kernel with nu = 5/2."""
    scaled = np.sqrt(5.0 * squared)
    return (1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled)


@dataclasses.dataclass(frozen=True)
class GaussianProcess:
    """A posterior over functions, given values at points (Rasmussen and Williams, 2006, ch. 2).

    points: [n, dims]. values: [n]. lengths: of the kernel, [dims]. noise: its variance, as a
    fraction of the signal's. level: the constant mean. variance: of the signal.
    """

    points: np.ndarray
    values: np.ndarray
    kernel: Kernel
    lengths: np.ndarray
    noise: float
    level: float
    variance: float
    inverse: np.ndarray = dataclasses.field(init=False)  # of the Cholesky factor [n, n]
    weights: np.ndarray = dataclasses.field(init=False)  # [n]

    def __post_init__(self) -> None:
        covariance = self._correlation(self.points) + self.noise * np.eye(len(self.points))
        inverse = np.linalg.inv(np.linalg.cholesky(covariance))
        object.__setattr__(self, "inverse", inverse)
        object.__setattr__(self, "weights", inverse.T @ (inverse @ (self.values - self.level)))

    def _correlation(self, points: np.ndarray) -> np.ndarray:
        a, b = points / self.lengths, self.points / self.lengths
        squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2.0 * a @ b.T
        return self.kernel(np.maximum(squared, 0.0))

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean and the standard deviation of the function at points [m, dims]. [m], [m]."""
        correlation = self._correlation(points)
        explained = ((correlation @ self.inverse.T) ** 2).sum(1)
        sd = np.sqrt(self.variance * np.maximum(1.0 - explained, 1e-12))
        return self.level + correlation @ self.weights, sd

    def given(self, point: np.ndarray, value: float) -> "GaussianProcess":
        """The same process with one more value [] at a point [dims]."""
        return dataclasses.replace(
            self,
            points=np.append(self.points, point[None], 0),
            values=np.append(self.values, value),
        )


def fit_gaussian_process(
    points: np.ndarray, values: np.ndarray, kernel: Kernel = matern
) -> GaussianProcess:
    """A Gaussian process with the lengths and the noise of the highest marginal likelihood.

    Over a grid of equal lengths and noises, then one coordinate after another by factors of 2. A
    log-normal prior keeps the lengths within reason where values are few; the mean is that of the
    values, and the variance follows in closed form. points: of the unit cube [n, dims].
    """
    n, dims = points.shape
    level, spread = float(values.mean()), float(values.std()) or 1.0
    y = (values - level) / spread
    squares = (points.T[:, :, None] - points.T[:, None, :]) ** 2

    def likelihood(lengths: np.ndarray, noise: float) -> tuple[float, float]:
        """Its logarithm, and the variance."""
        covariance = kernel(np.tensordot(lengths**-2.0, squares, 1)) + noise * np.eye(n)
        factor = np.linalg.cholesky(covariance)
        variance = (1.0 + (np.linalg.solve(factor, y) ** 2).sum()) / (1.0 + n)
        prior = 0.5 * (np.log(lengths / 0.5) ** 2).mean()
        return -0.5 * n * np.log(variance) - np.log(np.diag(factor)).sum() - prior, variance

    best = max(
        (*likelihood(np.full(dims, length), noise), length, noise)
        for length, noise in itertools.product(LENGTHS, NOISES)
    )
    found, variance, length, noise = best
    lengths = np.full(dims, length)
    for dim, factor in itertools.product(range(dims), (0.5, 2.0, 4.0)):
        other = lengths.copy()
        other[dim] = np.clip(other[dim] * factor, LENGTHS[0], 4.0 * LENGTHS[-1])
        value, its_variance = likelihood(other, noise)
        if value > found:
            found, variance, lengths = value, its_variance, other
    return GaussianProcess(points, values, kernel, lengths, noise, level, variance * spread**2)
