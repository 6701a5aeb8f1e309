"""Number of seeds that a study needs, by simulating smaller studies from many seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.keys import as_key
from jaxrl.lazy import xarray as xr
from jaxrl.stats.intervals import ends, resample
from jaxrl.stats.of_sweeps import Results, final, pick
from jaxrl.stats.scores import TRIM, Statistic, iqm, optimality_gap

MIN_SEEDS = 30  # below which seeds are not representative of others


def power(
    results: Results,
    name: str = "return",
    by: str | None = None,
    *,
    seeds: Sequence[int] = (3, 5, 10, 20, 50),
    over: str = "seed",
    last: int = 1,
    statistic: Statistic = iqm,
    level: float = 0.95,
    needed: float = 0.8,
    studies: int = 500,
    resamples: int = 500,
    key: jax.Array | int | None = None,
) -> xr.Dataset:
    """Accuracy of studies with few seeds, simulated by drawing from many seeds with replacement.

    Args:
      results: of at least 30 seeds.
      name, over, last: as in `table`.
      by: the axis of settings to compare; it may be left out if there is no other axis.
      seeds: sizes of the simulated studies.
      statistic, level, resamples: as in `interval`.
      needed: the power that `needed_seeds` aims at.
      studies: number of simulated studies of each size.
      key: a key or an integer seed of the simulation, by default 0.

    Returns:
      Variables over the axes `seeds` (the size of a study) and `by`:
        width: mean width of a study's interval.
        coverage: fraction of these intervals that contain the value of all seeds.
      and over [seeds, better, worse], of two settings where the first has the higher value over all
      seeds (else NaN), with seeds drawn independently for each setting:
        wrong: fraction of studies that rank them the other way; a tie counts half.
        separated: fraction with an interval of the difference above 0 (the power).
        misled: fraction with an interval of the difference below 0.
      and [better, worse]:
        needed_seeds: seeds of each setting for a power of `needed`: interpolated between two sizes,
          or, beyond the largest size, by a normal approximation; infinite between equal settings.

    Raises:
      ValueError: there are fewer than 30 seeds, seeds without a value, or other axes; `seeds` are
        not integers of 2 or more; `level` or `needed` is outside (0, 1); there are no studies or
        no resamples.
    """
    _check_arguments(seeds, level, needed, studies, resamples)
    array = final(results, name, over, last)
    if by is not None:
        pick(array, name, by)
    rest = [str(dim) for dim in array.dims if dim not in (over, by) and array.sizes[dim] > 1]
    if rest:
        raise ValueError(
            f"{name!r} also has the axes {rest}: select a value of each, or write by={rest[0]!r}."
        )
    array = array.squeeze([dim for dim in array.dims if dim not in (over, by)], drop=True)
    x = jnp.asarray(array.transpose(*([by] if by else []), over).values, float).reshape(
        -1, array.sizes[over]
    )
    _check(x)
    key = as_key(0 if key is None else key)
    # other statistics may not skip NaN, and get a program for each size
    skips_nan = statistic in (*TRIM, optimality_gap)
    simulated = [
        _simulate(
            jax.random.fold_in(key, k),
            x,
            k,
            max_size=max(seeds) if skips_nan else k,
            studies=studies,
            resamples=resamples,
            statistic=statistic,
            level=level,
        )
        for k in seeds
    ]
    value, draws = resample(jax.random.fold_in(key, 0), x[:, None], statistic, 2000)
    seed_std = jnp.std(draws, axis=0) * x.shape[1] ** 0.5  # standard error of one seed
    variables = {
        name: (("seeds", "setting"), np.stack([study[name] for study in simulated]))
        for name in ("width", "coverage")
    }
    if by:
        is_better = np.asarray(value)[:, None] > np.asarray(value)[None]
        pair = ("seeds", "better", "worse")
        variables |= {
            name: (pair, np.where(is_better, np.stack([s[name] for s in simulated]), np.nan))
            for name in ("wrong", "separated", "misled")
        }
        approximate = np.maximum(_needed(value, seed_std, level, needed), max(seeds) + 1)
        interpolated = _interpolated(seeds, variables["separated"][1], needed)
        needed_seeds = np.where(np.isnan(interpolated), approximate, interpolated)
        variables["needed_seeds"] = (pair[1:], np.where(is_better, needed_seeds, np.nan))
    labels = array[by].values if by and by in array.coords else np.arange(len(x))
    coords = {"seeds": list(seeds), "setting": labels} | (
        {"better": labels, "worse": labels} if by else {}
    )
    data = xr.Dataset(
        variables,
        coords,
        {"level": level, "needed": needed, "studies": studies, "name": name, "by": by or ""},
    )
    return data.rename(setting=by) if by else data.isel(setting=0, drop=True)


@partial(jax.jit, static_argnames=("max_size", "studies", "resamples", "statistic", "level"))
def _simulate(
    key: jax.Array,
    x: jax.Array,
    size: int | jax.Array,
    max_size: int,
    studies: int,
    resamples: int,
    statistic: Statistic,
    level: float,
) -> dict[str, jax.Array]:
    """Studies of `size` seeds of each setting of x [settings, n].

    One program serves all sizes up to `max_size`. Returns width and coverage [settings], and wrong,
    separated and misled [settings, settings].
    """
    key_draw, key_resample = jax.random.split(key)
    index = jax.random.randint(key_draw, (len(x), studies, max_size), 0, x.shape[1])
    scores = jnp.take_along_axis(x[:, None], index, axis=-1)  # [settings, studies, max_size]
    scores = jnp.where(jnp.arange(max_size) < size, scores, jnp.nan)

    def bootstrap(key: jax.Array, scores: jax.Array) -> tuple[jax.Array, jax.Array]:
        return resample(key, scores[:, None], statistic, resamples, size=size)

    # [settings, studies], [settings, resamples, studies]
    estimate, draws = jax.vmap(bootstrap)(jax.random.split(key_resample, len(x)), scores)
    true_value = jax.vmap(statistic)(x)[:, None]
    low, high = jnp.moveaxis(jax.vmap(partial(ends, level=level))(estimate, draws), 1, 0)
    difference = estimate[:, None] - estimate[None]

    def differences(first: jax.Array) -> jax.Array:
        return jax.vmap(lambda second: ends(jnp.zeros(studies), first - second, level))(draws)

    lows, highs = jnp.moveaxis(jax.lax.map(differences, draws), 2, 0)
    return {
        "width": (high - low).mean(-1),
        "coverage": ((low <= true_value) & (true_value <= high)).mean(-1),
        "wrong": ((difference < 0) + 0.5 * (difference == 0)).mean(-1),
        "separated": (lows > 0).mean(-1),
        "misled": (highs < 0).mean(-1),
    }


def _needed(value: Any, seed_std: Any, level: float, power: float) -> np.ndarray:
    """Seeds for an interval of the difference above 0 with probability `power`. [better, worse].

    The normal approximation (z + z')^2 (s^2 + t^2) / d^2.
    """
    normal = NormalDist()
    z = normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)
    value, variance = np.asarray(value, float), np.asarray(seed_std, float) ** 2
    with np.errstate(divide="ignore"):
        difference = np.abs(value[:, None] - value[None])
        return np.ceil(z**2 * (variance[:, None] + variance[None]) / difference**2)


def _interpolated(seeds: Sequence[int], separated: np.ndarray, power: float) -> np.ndarray:
    """Size of a study at which `separated` [seeds, ...] reaches `power`, or NaN. [...].

    Linearly interpolated between the sizes that were simulated.
    """
    order = np.argsort(seeds)
    sizes, separated = np.asarray(seeds, float)[order], separated[order]
    after = np.argmax(separated >= power, axis=0)
    before = np.maximum(after - 1, 0)
    at_before = np.take_along_axis(separated, before[None], axis=0)[0]
    at_after = np.take_along_axis(separated, after[None], axis=0)[0]
    rise = np.where(after > before, at_after - at_before, 1.0)
    fraction = np.clip((power - at_before) / rise, 0.0, 1.0)
    size = np.ceil(sizes[before] + fraction * (sizes[after] - sizes[before]))
    return np.where((separated >= power).any(axis=0), size, np.nan)


def _check_arguments(
    seeds: Sequence[int], level: float, needed: float, studies: int, resamples: int
) -> None:
    sizes = np.asarray(seeds)
    if sizes.ndim != 1 or not len(sizes) or sizes.dtype.kind not in "iu":
        raise ValueError(
            f"seeds={seeds!r} must be sizes of studies, which are integers; write, for example, "
            "(3, 5, 10)."
        )
    if sizes.min() < 2:
        raise ValueError(
            f"seeds={tuple(seeds)}: a study of one seed has no interval; start from 2, better 3."
        )
    for name, value, example in (("level", level, 0.95), ("needed", needed, 0.8)):
        if not 0 < value < 1:
            raise ValueError(f"{name}={value} is not between 0 and 1; write {name}={example}.")
    if min(studies, resamples) < 1:
        raise ValueError(
            f"studies={studies}, resamples={resamples}: write 1 or more, better hundreds, of each."
        )


def _check(x: jax.Array) -> None:
    if x.shape[1] < MIN_SEEDS:
        raise ValueError(
            f"{x.shape[1]} seeds are too few to be representative: sweep {MIN_SEEDS} or more, "
            "better hundreds."
        )
    if (num_missing := int((~np.isfinite(x)).sum())) > 0:
        raise ValueError(
            f"{num_missing} of {x.size} runs have no value: finish them, or set their values by "
            "results.fillna(...)."
        )
