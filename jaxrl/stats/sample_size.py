"""How many seeds are enough: what studies of few seeds would have said, drawn from the many that
are there.
"""

from collections.abc import Sequence
from functools import partial
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxrl.stats.intervals import ends, resample
from jaxrl.stats.of_sweeps import Results, final, pick
from jaxrl.stats.scores import TRIM, Statistic, iqm, optimality_gap

MANY = 30  # seeds below which what is there says little of other seeds


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
    key: jax.Array | None = None,
) -> xr.Dataset:
    """What studies of k seeds find, by drawing them from all that are here, with replacement. Axes
    `seeds` (k), `by`.

    width: of a study's interval, on average. coverage: the share of these intervals that hold the
    value of all seeds. And of two settings of the axis `by`, where the first is the better one by
    all seeds, [seeds, better, worse], else NaN: wrong: the share of studies that rank them the
    other way, a tie counts half. separated: the share whose interval of the difference is above 0
    (its power). misled: whose interval is below. needed_seeds [better, worse]: of each setting for
    a power of `needed`, between the two k where `separated` passes it; where no k reaches it, more
    than the largest, by the normal approximation from all seeds' spread; infinite between equals.

    name, over, last: as in `table`. by: may be left out where no other axis is left. Seeds are of
    one setting each: drawn anew for each, not paired.

    Raises: ValueError for fewer than 30 seeds, seeds without a value, or other axes left; for
    `seeds` that are not whole numbers of 2 or more, a level or a needed power outside (0, 1), no
    studies or no resamples.
    """
    _check_arguments(seeds, level, needed, studies, resamples)
    array = final(results, name, over, last)
    if by is not None:
        pick(array, name, by)
    rest = [str(dim) for dim in array.dims if dim not in (over, by) and array.sizes[dim] > 1]
    if rest:
        raise ValueError(
            f"{name!r} has the axes {rest} too: choose a value of each, or write by={rest[0]!r}."
        )
    array = array.squeeze([dim for dim in array.dims if dim not in (over, by)], drop=True)
    x = jnp.asarray(array.transpose(*([by] if by else []), over).values, float).reshape(
        -1, array.sizes[over]
    )
    _check(x)
    key = jax.random.key(0) if key is None else key
    study = partial(
        _studies, studies=studies, resamples=resamples, statistic=statistic, level=level
    )
    padded = statistic in (
        *TRIM,
        optimality_gap,
    )  # others may not leave NaN out, and get a program for each size
    grid = [
        study(jax.random.fold_in(key, k), x, k, most=max(seeds) if padded else k) for k in seeds
    ]
    whole, many = resample(jax.random.fold_in(key, 0), x[:, None], statistic, 2000)
    spread = jnp.std(many, axis=0) * x.shape[1] ** 0.5  # of one seed's worth of evidence
    made = {
        name: (("seeds", "setting"), np.stack([each[name] for each in grid]))
        for name in ("width", "coverage")
    }
    better = np.asarray(whole)[:, None] > np.asarray(whole)[None]
    pair = ("seeds", "better", "worse")
    if by:
        made |= {
            name: (pair, np.where(better, np.stack([each[name] for each in grid]), np.nan))
            for name in ("wrong", "separated", "misled")
        }
        foretold = np.maximum(_needed(whole, spread, level, needed), max(seeds) + 1)
        passed = _passed(seeds, made["separated"][1], needed)
        made["needed_seeds"] = (
            pair[1:],
            np.where(better, np.where(np.isnan(passed), foretold, passed), np.nan),
        )
    labels = array[by].values if by and by in array.coords else np.arange(len(x))
    coords = {"seeds": list(seeds), "setting": labels} | (
        {"better": labels, "worse": labels} if by else {}
    )
    data = xr.Dataset(
        made,
        coords,
        {"level": level, "needed": needed, "studies": studies, "name": name, "by": by or ""},
    )
    return data.rename(setting=by) if by else data.isel(setting=0, drop=True)


@partial(jax.jit, static_argnames=("most", "studies", "resamples", "statistic", "level"))
def _studies(
    key: jax.Array,
    x: jax.Array,
    size: Any,
    most: int,
    studies: int,
    resamples: int,
    statistic: Statistic,
    level: float,
) -> dict[str, jax.Array]:
    """What studies of `size` seeds of each setting of x [settings, n] find; one program for all
    sizes up to `most`.
    """
    key_draw, key_resample = jax.random.split(key)
    drawn = jax.random.randint(key_draw, (len(x), studies, most), 0, x.shape[1])
    scores = jnp.take_along_axis(x[:, None], drawn, axis=-1)  # [settings, studies, most]
    scores = jnp.where(jnp.arange(most) < size, scores, jnp.nan)
    one = lambda key, x: resample(key, x[:, None], statistic, resamples, size=size)
    estimate, draws = jax.vmap(one)(
        jax.random.split(key_resample, len(x)), scores
    )  # [settings, (resamples,) studies]
    truth = jax.vmap(statistic)(x)[:, None]
    low, high = jnp.moveaxis(jax.vmap(partial(ends, level=level))(estimate, draws), 1, 0)
    apart = estimate[:, None] - estimate[None]
    between = lambda a: jax.vmap(lambda b: ends(jnp.zeros(studies), a - b, level))(draws)
    lows, highs = jnp.moveaxis(jax.lax.map(between, draws), 2, 0)
    return {
        "width": (high - low).mean(-1),
        "coverage": ((low <= truth) & (truth <= high)).mean(-1),
        "wrong": ((apart < 0) + 0.5 * (apart == 0)).mean(-1),
        "separated": (lows > 0).mean(-1),
        "misled": (highs < 0).mean(-1),
    }


def _needed(whole: Any, spread: Any, level: float, power: float) -> np.ndarray:
    """Seeds of each for an interval of the difference above 0 with probability `power`: (z + z')^2
    (s^2 + t^2) / d^2.
    """
    normal = NormalDist()
    reach = normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)
    whole, variance = np.asarray(whole, float), np.asarray(spread, float) ** 2
    with np.errstate(divide="ignore"):
        apart = np.abs(whole[:, None] - whole[None])
        return np.ceil(reach**2 * (variance[:, None] + variance[None]) / apart**2)


def _passed(seeds: Sequence[int], separated: np.ndarray, power: float) -> np.ndarray:
    """The first size of a study, also between those of the grid, at which `separated` [seeds, ...]
    is `power`, or NaN.
    """
    order = np.argsort(seeds)
    sizes, reached = np.asarray(seeds, float)[order], separated[order]
    after = np.argmax(reached >= power, axis=0)
    before = np.maximum(after - 1, 0)
    at = lambda place: np.take_along_axis(reached, place[None], axis=0)[0]
    rise = np.where(after > before, at(after) - at(before), 1.0)
    share = np.clip((power - at(before)) / rise, 0.0, 1.0)
    between = np.ceil(sizes[before] + share * (sizes[after] - sizes[before]))
    return np.where((reached >= power).any(axis=0), between, np.nan)


def _check_arguments(
    seeds: Sequence[int], level: float, needed: float, studies: int, resamples: int
) -> None:
    sizes = np.asarray(seeds)
    if sizes.ndim != 1 or not len(sizes) or sizes.dtype.kind not in "iu":
        raise ValueError(
            f"seeds={seeds!r}: they are the sizes of studies, whole numbers; write, say, (3, "
            "5, 10)."
        )
    if sizes.min() < 2:
        raise ValueError(
            f"seeds={tuple(seeds)}: a study of one seed has no interval; begin with 2, better 3."
        )
    for name, share in {"level": level, "needed": needed}.items():
        if not 0 < share < 1:
            raise ValueError(
                f"{name}={share} is no share; write {name}={0.95 if name == 'level' else 0.8}."
            )
    if min(studies, resamples) < 1:
        raise ValueError(
            f"studies={studies}, resamples={resamples}: write 1 or more of each, better hundreds."
        )


def _check(x: jax.Array) -> None:
    if x.shape[1] < MANY:
        raise ValueError(
            f"{x.shape[1]} seeds say little of what other seeds would find: sweep {MANY} or "
            "more, better hundreds."
        )
    if (lost := int((~np.isfinite(x)).sum())) > 0:
        raise ValueError(
            f"{lost} of {x.size} members have no value: finish them, or say what they count by "
            "results.fillna(...)."
        )
