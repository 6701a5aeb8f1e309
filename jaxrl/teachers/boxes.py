"""Teachers over boxes of parameters: ALP-GMM, Covar-GMM and RIAC (Portelas et al., 2020)."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Tasks, can
from jaxrl.errors import check_counts, not_defined
from jaxrl.teachers import mixture
from jaxrl.teachers.base import Notes, Report, Teacher
from jaxrl.tree import leaf, pytree, static


@pytree
class History:
    """Ring buffer of the last H levels on which an episode ended. place: parameters [H, d]. value:
    mean return [H]. progress: absolute learning progress [H]. count: number of levels so far [].
    """

    place: jax.Array
    value: jax.Array
    progress: jax.Array
    count: jax.Array

    @property
    def age(self) -> jax.Array:
        """The number of levels after each, from 0; H or more in an empty slot. [H]."""
        size = self.value.shape[0]
        behind = (self.count - 1 - jnp.arange(size)) % size
        return jnp.where(jnp.arange(size) < self.count, behind, size)


class BoxTeacher(Teacher):
    """Base class of teachers that choose parameters in [0, 1]^d, for levels with `at(place)`.

    The fields `window`, `random_prob` and `history` are described in `ALPGMM`.
    """

    window: Any  # static
    random_prob: Any
    history: Any  # static

    def propose(self, key: jax.Array, state: History, num: int) -> jax.Array:
        """Parameters of new levels. [num, d]."""
        raise not_defined(self, BoxTeacher.propose)

    def check(self, tasks: Tasks, scouts: int) -> None:
        if not can(tasks, Tasks.at):
            raise TypeError(
                f"{type(self).__name__} chooses parameters of levels, and {type(tasks).__name__} "
                "has no at(place): use rl.envs.Family(env, length=(0.25, 2.0)), or define "
                "`dimensions` and `at`."
            )

    def init(self, key: jax.Array, tasks: Tasks) -> History:
        zeros = jnp.zeros(self.history)
        return History(jnp.zeros((self.history, tasks.dimensions)), zeros, zeros, jnp.int32(0))

    def draw(self, key: jax.Array, state: History, tasks: Tasks, num: int) -> tuple[Env, Notes]:
        key_propose, key_random, key_uniform = jax.random.split(key, 3)
        proposed = self.propose(key_propose, state, num)
        uniform = jax.random.uniform(key_uniform, proposed.shape)
        share = jnp.where(state.count < self.window, 1.0, self.random_prob)
        at_random = jax.random.bernoulli(key_random, share, (num, 1))
        place = jnp.where(at_random, uniform, jnp.clip(proposed, 0.0, 1.0))
        return jax.vmap(tasks.at)(place), place

    def tell(
        self,
        key: jax.Array,
        state: History,
        tasks: Tasks,
        levels: Env,
        notes: Notes,
        report: Report,
    ) -> tuple[History, Notes]:
        def add(
            state: History, row: tuple[jax.Array, jax.Array, jax.Array]
        ) -> tuple[History, None]:
            place, value, known = row
            distance = jnp.sum((state.place - place[None]) ** 2, -1)
            nearest = jnp.argmin(jnp.where(state.age < self.history, distance, jnp.inf))
            progress = jnp.where(state.count > 0, jnp.abs(value - state.value[nearest]), 0.0)
            to = jnp.where(known, state.count % self.history, self.history)
            put = lambda old, new: old.at[to].set(new, mode="drop")
            return History(
                put(state.place, place),
                put(state.value, value),
                put(state.progress, progress),
                state.count + known,
            ), None

        rows = notes, report.episode_return, report.known
        return jax.lax.scan(add, state, rows)[0], notes


@pytree
class ALPGMM(BoxTeacher):
    """Levels with high absolute learning progress, by a Gaussian mixture over parameters and
    progress (ALP-GMM, Portelas et al., 2020).

    The progress of a level is the absolute difference between its return and that of the earlier
    level with the nearest parameters. A mixture is fitted to the last `window` levels, with the
    number of components selected by AIC. A component is chosen in proportion to its mean progress,
    and parameters are drawn from it. Returns should have a scale of about 1, that of the
    parameters.

    random_prob: the probability of uniform parameters; the first `window` levels are all uniform.
    max_components: largest number tried. history: number of earlier levels that are stored.
    """

    random_prob: float = leaf(0.2, "[0, 1]")
    window: int = static(default=250)
    max_components: int = static(default=10)
    history: int = static(default=2000)

    def __post_init__(self) -> None:
        check_counts(self, "window", "history")
        check_counts(self, "max_components", min_value=2)

    def features(self, state: History) -> jax.Array:
        """The points that the mixture is fitted to. [H, D]."""
        return jnp.concatenate([state.place, state.progress[:, None]], -1)

    def worth(self, found: mixture.Mixture) -> jax.Array:
        """The weights in proportion to which components are chosen. [K]."""
        return found.means[:, -1]

    def propose(self, key: jax.Array, state: History, num: int) -> jax.Array:
        key_fit, key_component, key_noise = jax.random.split(key, 3)
        order = jnp.argsort(state.age)[: self.window]
        weight = (state.age[order] < self.history).astype(jnp.float32)
        found = mixture.best(key_fit, self.features(state)[order], weight, self.max_components)
        worth = jnp.where(found.log_weights > -jnp.inf, jnp.maximum(self.worth(found), 0.0), 0.0)
        logits = jnp.log(worth + 1e-8 * (found.log_weights > -jnp.inf))
        component = jax.random.categorical(key_component, logits, shape=(num,))
        dims = state.place.shape[1]
        noise = jax.random.normal(key_noise, (num, dims))
        factors = found.factors[component][:, :dims, :dims]  # of the first columns' covariance
        return found.means[component][:, :dims] + jnp.einsum("nij,nj->ni", factors, noise)


@pytree
class CovarGMM(ALPGMM):
    """As ALPGMM, with a mixture over parameters, time and returns, and components chosen in
    proportion to the covariance of time and return (Moulin-Frier et al., 2014).
    """

    def features(self, state: History) -> jax.Array:
        time = 1.0 - state.age / self.window
        return jnp.concatenate([state.place, time[:, None], state.value[:, None]], -1)

    def worth(self, found: mixture.Mixture) -> jax.Array:
        # the entry of the covariance, from its factor
        return jnp.sum(found.factors[:, -1] * found.factors[:, -2], -1)
