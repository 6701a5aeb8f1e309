"""Pictures of a sweep's results: learning curves, heat maps, and films of an agent. The only door to matplotlib.

No display, backend or pyplot state is needed: each function returns a `Picture`, a matplotlib Figure that shows itself in a
notebook and is saved with `picture.savefig("curve.pdf")`.
"""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from PIL import Image

from jaxrl import rollout, stats, tree
from jaxrl.env import Env
from jaxrl.stats import Results

# Okabe and Ito (2008), dark and light by turns; with dashes and markers the lines differ without colour, too
COLORS = ("#000000", "#E69F00", "#0072B2", "#CC79A7", "#009E73", "#56B4E9", "#D55E00")
DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


class Picture(Figure):
    """A matplotlib Figure that shows itself in a notebook."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


# ------------------------------------------------------------------------------------------------------ curves and maps


def curve(
    results: Results,
    name: str = "return",
    by: str | None = None,
    *,
    over: str = "seed",
    x: str = "step",
    level: float = 0.95,
    ax: Axes | None = None,
) -> Figure:
    """A line for each value of the axis `by`: the interquartile mean over seeds, with its bootstrap interval as a band.

    by: may be left out where one swept axis is left. over: the axis of the replicates. ax: draws there, not on a Picture.
    Points without a value are gaps; rows that no member measured (`evaluation` is made at some only) are passed over.

    Raises: ValueError for names that are not there, and when more than one swept axis is left.
    """
    array = stats.pick(results, name, over, x, *([by] if by else []))
    by = by or next(iter(_swept(array, over, x)), None)
    array = _only(array, (over, x, by), f"curve(results.sel(HERE), {name!r}, by={by!r})")
    made = stats.summary(array, over=over, level=level).dropna(x, how="all", subset=["iqm"])
    if not made.sizes[x]:
        raise ValueError(
            f"{array.name!r} has no finite value to draw: at no point has any {over} one. Choose another variable."
        )
    figure, ax = _canvas(ax, (6.4, 4.2))
    lost = [f", {n} diverged" if n else "" for n in _diverged(results, over, by)]
    for i, label in enumerate(_labels(made, by) if by else [""]):
        _line(ax, made[x].values, made.isel({by: i}) if by else made, i, label + lost[i])
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("environment steps" if x == "step" else x)
    known = _count(array, over) + ("" if by else lost[0])
    ax.set_ylabel(f"{array.name} (interquartile mean,\n{100 * level:g} % interval, {known})")
    if np.issubdtype(made[x].dtype, np.number) and made[x].max() >= 10_000:
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 50k, 1M
    if by:  # beside the axes, where it covers no line
        ax.legend(title=by, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False, handlelength=3.2)
    return figure


def heat(
    results: Results,
    name: str = "return",
    x: str | None = None,
    y: str | None = None,
    *,
    over: str = "seed",
    at: int = -1,
    ax: Axes | None = None,
) -> Figure:
    """A map of the interquartile mean over seeds against two swept axes, its values written in the cells.

    x, y: may be left out where two swept axes are left. at: which evaluation point, -1 is the last.

    Raises: ValueError for names that are not there, and when more or fewer than two swept axes are left.
    """
    array = stats.pick(results, name, over, *(axis for axis in (x, y) if axis))
    array = array.isel(step=at) if "step" in array.dims else array
    when = (
        f" at {EngFormatter(sep='')(float(f'{array.step.item():.3g}'))} environment steps" if "step" in array.coords else ""
    )
    free = [axis for axis in _swept(array, over) if axis not in (x, y)]
    y, x = y or (free.pop(0) if free else None), x or (free.pop(0) if free else None)
    array = _only(array, (over, x, y), f"heat(results.sel(HERE), {name!r}, x={x!r}, y={y!r})")
    if not (x and y):
        raise ValueError(f"A map needs two swept axes, and {name!r} has {y or x or 'none'}. Write curve(results, {name!r}).")
    array = array.where(np.isfinite(array)).transpose(y, x, over)
    figure, ax = _canvas(ax, (max(4.4, 2.4 + 0.8 * array.sizes[x]), 1.6 + 0.5 * array.sizes[y]))
    _cells(ax, np.asarray(stats.iqm(array.values)), f"{array.name} (interquartile mean,\n{_count(array, over)})")
    ax.set(xlabel=x, ylabel=y, title=f"{array.name}{when}")
    ax.set_xticks(range(array.sizes[x]), _labels(array, x))
    ax.set_yticks(range(array.sizes[y]), _labels(array, y))
    return figure


def number(value: Any) -> str:
    """A short name for a value, of three digits: 0.01, 1e-3, 3.16e-4; but 0.9999 is not rounded up to 1."""
    if not isinstance(value, float):
        return str(value)
    digits = 3
    while digits < 8 and abs(value) < 1 == abs(float(f"{value:.{digits}g}")):
        digits += 1
    rounded = float(f"{value:.{digits}g}")
    if rounded == 0 or 0.01 <= abs(rounded) < 1e5:
        return np.format_float_positional(rounded, trim="-")
    return np.format_float_scientific(rounded, trim="-", exp_digits=1).replace("e+", "e")


def _swept(array: xr.DataArray, *taken: str) -> list[str]:
    """The axes with more than one value, beside those taken."""
    return [str(axis) for axis, size in array.sizes.items() if size > 1 and axis not in taken]


def _only(array: xr.DataArray, keep: tuple[str | None, ...], remedy: str) -> xr.DataArray:
    """The array without its axes of one value, all but `keep`; a picture can't show any more axes."""
    rest = [axis for axis in _swept(array) if axis not in keep]
    if rest:
        here = ", ".join(f"{axis}={_labels(array, axis)[0]}" for axis in rest)
        sizes = ", ".join(f"{axis} ({array.sizes[axis]} values)" for axis in _swept(array))
        raise ValueError(
            f"{array.name!r} has the axes {sizes}, too many for one picture: choose a value of {' and '.join(rest)}. "
            f"Write plot.{remedy.replace('HERE', here)}."
        )
    return array.squeeze([axis for axis in array.dims if axis not in keep], drop=True)


def _labels(array: xr.DataArray | xr.Dataset, axis: str) -> list[str]:
    return [number(value) for value in array[axis].values.tolist()]


def _count(array: xr.DataArray, over: str) -> str:
    return f"n = {array.sizes[over]} {over}" + "s" * (array.sizes[over] > 1)


def _diverged(results: Results, over: str, by: str | None) -> list[int]:
    """How many members of each line diverged; zeros where the results don't say."""
    if isinstance(results, xr.Dataset) and "diverged" in results:
        return np.atleast_1d(stats.num_diverged(results, over, (by,))).tolist()
    return [0] * (results.sizes[by] if by else 1)


def _canvas(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Axes to draw on, and the figure that they are part of. size: width and height in inches."""
    if ax is None:
        figure = Picture(figsize=size, layout="constrained")
        return figure, figure.add_subplot()
    return ax.figure.figure, ax  # of a subfigure, the figure


def _line(ax: Axes, x: np.ndarray, line: xr.Dataset, i: int, label: str) -> None:
    """The i-th line with its band; about a dozen markers, shifted so that those of two lines don't meet."""
    color, dash, marker = COLORS[i % len(COLORS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]
    every = max(1, len(x) // 12)
    shown = None if every == 1 else (i % every, every)
    ax.plot(x, line.iqm, color=color, linestyle=dash, marker=marker, markevery=shown, markersize=5, label=label)
    ax.fill_between(x, line.low, line.high, color=color, alpha=0.18, linewidth=0)


def _cells(ax: Axes, values: np.ndarray, label: str) -> None:
    """Coloured cells [y, x], each with its value in whichever of black and white can be read on it."""
    image = ax.imshow(values, cmap="cividis", origin="lower", aspect="auto")
    ax.set_facecolor("lightgrey")  # seen through a cell without a value
    for (row, column), value in np.ndenumerate(values):
        dark = np.dot(image.to_rgba(value)[:3], (0.299, 0.587, 0.114)) < 0.5 and np.isfinite(value)
        text = number(float(value)) if np.isfinite(value) else "none"
        ax.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    ax.figure.colorbar(image, ax=ax, label=label)


# ---------------------------------------------------------------------------------------------------------------- films


class Film:
    """An animated GIF that plays in a notebook. `data`: the file's bytes. `path`: where it is saved, if it is."""

    def __init__(self, data: bytes, path: Path | None = None):
        self.data, self.path = data, path

    def save(self, path: str | Path) -> "Film":
        Path(path).write_bytes(self.data)
        return Film(self.data, Path(path))

    def _repr_html_(self) -> str:
        return f'<img src="data:image/gif;base64,{base64.b64encode(self.data).decode()}" alt="an episode">'


def gif(
    env: Env,
    policy: rollout.Policy,
    path: str | Path | None = None,
    key: jax.Array | None = None,
    *,
    draw: Callable[[Axes, Any], None] | None = None,
    max_frames: int = 200,
    fps: float | None = None,
) -> Film:
    """A film of one episode, saved at `path` if given.

    policy: (key, memory, obs) -> (memory, action), with its memory at rest as `policy.memory`, () if it has no such thing.
    key: the luck of the episode, `jax.random.key(0)` unless given. draw: (axes, state) draws one state on matplotlib Axes,
    `env.draw` unless given. max_frames: of a longer episode that many states are shown, evenly spaced, both ends included.
    fps: frames a second (GIF rounds a frame's time to 10 ms), 30 unless given, fewer where the film would last under 3 s.

    Raises: ValueError when nobody knows how to draw the environment.
    """
    draw = draw or getattr(env, "draw", None)
    if draw is None:
        raise ValueError(
            f"{type(env).__name__} has no drawing. Give its class a method draw(self, ax, state) that draws one state on "
            "matplotlib Axes, or write plot.gif(env, policy, draw=lambda ax, state: ...)."
        )
    states, returns = _episode(env, policy, jax.random.key(0) if key is None else key)
    shown = np.linspace(0, len(returns) - 1, min(len(returns), max_frames)).round().astype(int)
    frames = _frames(draw, states, returns, shown.tolist())
    pause = 1000 / (fps or min(30, len(frames) / 3))
    durations = [pause] * (len(frames) - 1) + [pause + 700]  # the end is held, then it starts anew
    buffer = io.BytesIO()
    frames[0].save(buffer, "gif", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    film = Film(buffer.getvalue())
    return film if path is None else film.save(path)


def _episode(env: Env, policy: rollout.Policy, key: jax.Array) -> tuple[Any, np.ndarray]:
    """The states of one episode, first and last included, and the return so far at each. [T + 1, ...], [T + 1]."""
    key_reset, key_play = jax.random.split(key)

    def move(episode: rollout.Episode, key: jax.Array) -> tuple[rollout.Episode, Any]:
        key_act, key_env = jax.random.split(key)
        memory, action = policy(key_act, episode.memory, episode.obs)
        following, transition = rollout.step(key_env, env, tree.replace(episode, memory=memory), action)
        return following, (following.state, following.ret, transition.done)

    @jax.jit
    def play() -> Any:
        first = rollout.begin(key_reset, env, getattr(policy, "memory", ()))
        return first.state, jax.lax.scan(move, first, jax.random.split(key_play, env.max_steps))[1]

    first, (states, returns, done) = jax.device_get(play())
    length = 1 + int(np.argmax(done))
    states = jax.tree.map(lambda a, b: np.concatenate([a[None], b[:length]]), first, states)
    return states, np.concatenate([[0.0], returns[:length]])


def _frames(draw: Callable[[Axes, Any], None], states: Any, returns: np.ndarray, shown: list[int]) -> list[Image.Image]:
    figure = Figure(figsize=(4.8, 3.4), dpi=80)
    canvas, ax = FigureCanvasAgg(figure), figure.add_axes((0.02, 0.02, 0.96, 0.86))
    frames = []
    for i in shown:
        ax.clear()
        ax.set_axis_off()
        ax.set_aspect("equal")
        draw(ax, jax.tree.map(lambda x, i=i: x[i], states))
        ax.set_title(f"step {i}, return {returns[i]:.5g}", family="monospace", fontsize=10)
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(64))
    return frames
