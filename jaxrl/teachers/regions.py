"""RIAC: regions of parameters that are split where learning progress differs."""

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Tasks
from jaxrl.errors import check_counts
from jaxrl.teachers.base import Notes, Report
from jaxrl.teachers.boxes import BoxTeacher, History
from jaxrl.tree import leaf, pytree, replace, static


@pytree
class Regions:
    """The history of levels, and boxes from `low` to `high` [R, d]; the first `num` [] are used."""

    history: History
    low: jax.Array
    high: jax.Array
    num: jax.Array

    @property
    def count(self) -> jax.Array:
        return self.history.count

    @property
    def used(self) -> jax.Array:
        """True for regions in use. bool [R]."""
        return jnp.arange(self.low.shape[0]) < self.num

    def members(self) -> jax.Array:
        """True if a level of the history is in a region. bool [R, H]."""
        place = self.history.place[None]
        inside = ((place >= self.low[:, None]) & (place <= self.high[:, None])).all(-1)
        known = self.history.age < self.history.value.shape[0]
        return inside & known[None] & self.used[:, None]


@pytree
class RIAC(BoxTeacher):
    """Levels from regions in proportion to their absolute learning progress (RIAC, Baranes and
    Oudeyer, 2009; as in Portelas et al., 2020).

    The progress of a region is the absolute difference between the mean returns of the newer and of
    the older half of its levels. A region with more than `largest` levels is split at the best of
    `tries` random cuts: that with the highest product of the two numbers of levels and the
    difference in progress.

    random_prob: the probability of uniform parameters; the first `window` levels are all uniform.
    edited: the probability of an edit: the region's level with the lowest return, plus Gaussian
    noise with a standard deviation of 0.1. regions: their maximum number. history: number of levels
    that are stored.
    """

    random_prob: float = leaf(0.2, "[0, 1]")
    edited: float = leaf(0.1, "[0, 1]")
    window: int = static(default=50)
    largest: int = static(default=200)
    tries: int = static(default=50)
    regions: int = static(default=32)
    history: int = static(default=2000)

    def __post_init__(self) -> None:
        check_counts(self, "window", "largest", "tries", "regions", "history")

    def init(self, key: jax.Array, tasks: Tasks) -> Regions:  # type: ignore[override]
        history = super().init(key, tasks)
        shape = (self.regions, tasks.dimensions)
        return Regions(history, jnp.zeros(shape), jnp.ones(shape), jnp.int32(1))

    def propose(self, key: jax.Array, state: Regions, num: int) -> jax.Array:  # type: ignore[override]
        key_region, key_place, key_edit, key_noise = jax.random.split(key, 4)
        members = state.members()
        worth = jax.vmap(lambda mask: progress(state.history, mask))(members)
        logits = jnp.where(state.used, jnp.log(worth + 1e-6), -jnp.inf)
        region = jax.random.categorical(key_region, logits, shape=(num,))
        low, high = state.low[region], state.high[region]
        place = low + jax.random.uniform(key_place, low.shape) * (high - low)
        value = jnp.where(members, state.history.value[None], jnp.inf)
        worst = state.history.place[jnp.argmin(value, 1)[region]]
        near = worst + 0.1 * jax.random.normal(key_noise, worst.shape)
        edits = jax.random.bernoulli(key_edit, self.edited, (num,)) & members.any(1)[region]
        return jnp.where(edits[:, None], near, place)

    def tell(  # type: ignore[override]
        self,
        key: jax.Array,
        state: Regions,
        tasks: Tasks,
        levels: Env,
        notes: Notes,
        report: Report,
    ) -> tuple[Regions, Notes]:
        history, notes = super().tell(key, state.history, tasks, levels, notes, report)
        return self.divided(key, replace(state, history=history)), notes

    def divided(self, key: jax.Array, state: Regions) -> Regions:
        """The regions after splitting the largest, if it has more than `largest` levels."""
        members = state.members()
        region = jnp.argmax(members.sum(1))
        inside, history = members[region], state.history
        key_axis, key_cut = jax.random.split(key)
        axes = jax.random.randint(key_axis, (self.tries,), 0, state.low.shape[1])
        low, high = state.low[region][axes], state.high[region][axes]
        cuts = low + jax.random.uniform(key_cut, (self.tries,)) * (high - low)

        def gain(axis: jax.Array, cut: jax.Array) -> jax.Array:
            left = inside & (history.place[:, axis] <= cut)
            right = inside & ~left
            apart = jnp.abs(progress(history, left) - progress(history, right))
            return left.sum() * right.sum() * apart

        best = jnp.argmax(jax.vmap(gain)(axes, cuts))
        axis, cut = axes[best], cuts[best]
        divides = (inside.sum() > self.largest) & (state.num < self.regions)
        to = jnp.where(divides, state.num, self.regions)
        new_low = state.low[region].at[axis].set(cut)
        high = state.high.at[to].set(state.high[region], mode="drop")
        return Regions(
            history=history,
            low=state.low.at[to].set(new_low, mode="drop"),
            high=jnp.where(divides, high.at[region, axis].set(cut), high),
            num=state.num + divides,
        )


def progress(history: History, mask: jax.Array) -> jax.Array:
    """The absolute difference between the mean returns of the newer and of the older half of the
    levels in a mask [H]; 0 for fewer than two. [].
    """
    order = jnp.argsort(history.age)
    mask, value = mask[order], history.value[order]
    newer = mask & (jnp.cumsum(mask) <= mask.sum() // 2)
    older = mask & ~newer
    mean = lambda part: jnp.sum(value * part) / jnp.maximum(part.sum(), 1)
    return jnp.where(mask.sum() > 1, jnp.abs(mean(newer) - mean(older)), 0.0)
