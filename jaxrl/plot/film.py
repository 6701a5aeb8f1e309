"""Animations of a policy's episode."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from PIL import Image

from jaxrl import rollout, tree
from jaxrl.env import Env, Tasks
from jaxrl.errors import as_path, check_count
from jaxrl.keys import as_key
from jaxrl.ranges import is_plain_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Film:
    """An animated GIF that is displayed in a notebook.

    data: the bytes of the file. path: where it is saved, or None.
    """

    def __init__(self, data: bytes, path: Path | None = None):
        self.data, self.path = data, path

    def save(self, path: str | Path) -> Film:
        """Write the file, and return the film with its path."""
        path = as_path(path, "path")
        path.write_bytes(self.data)
        return Film(self.data, path)

    def _repr_html_(self) -> str:
        return (
            f'<img src="data:image/gif;base64,{base64.b64encode(self.data).decode()}" '
            'alt="an episode">'
        )


def gif(
    env: Env | Tasks,
    policy: rollout.Policy | rollout.PolicyFunction,
    path: str | Path | None = None,
    key: jax.Array | int | None = None,
    *,
    draw: Callable[[Axes, Any], None] | None = None,
    max_frames: int = 200,
    fps: float | None = None,
) -> Film:
    """An animation of one episode, saved at `path` if given.

    Args:
      env: the environment.
      policy: a `rollout.Policy`, or a function (key, episode) -> (rnn_state, action, extras)
        without a recurrent state.
      path: of the file.
      key: a key or an integer seed of the episode, by default 0.
      draw: (axes, state) draws one state on matplotlib Axes, by default `env.draw`.
      max_frames: the number of evenly spaced states that are shown of a longer episode.
      fps: frames per second (GIF rounds the time of a frame to 10 ms), by default 30, or fewer so
        that the animation lasts 3 s.

    Raises:
      TypeError: `env` is a distribution of environments.
      ValueError: the environment has no method `draw`.
    """
    if not isinstance(env, Env):
        raise TypeError(
            f"{type(env).__name__} has many environments: write one, tasks.sample(key)."
        )
    path = None if path is None else as_path(path, "path")
    check_count("max_frames", max_frames)
    if fps is not None and not (is_plain_number(fps) and fps > 0):
        raise ValueError(f"fps={fps!r} is not a positive number: write fps=30.")
    draw = draw or env.draw
    if draw is None:
        raise ValueError(
            f"{type(env).__name__} cannot be drawn. Give its class a method draw(self, ax, state) "
            "that draws one state on matplotlib Axes, or write plot.gif(env, policy, draw=lambda "
            "ax, state: ...)."
        )
    states, returns = _episode(env, policy, as_key(0 if key is None else key))
    shown = np.linspace(0, len(returns) - 1, min(len(returns), max_frames)).round().astype(int)
    frames = _frames(draw, states, returns, shown.tolist())
    duration = 1000 / (fps or min(30, len(frames) / 3))
    durations = [duration] * (len(frames) - 1) + [duration + 700]  # a pause before it repeats
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "gif", save_all=True, append_images=frames[1:], duration=durations, loop=0
    )
    film = Film(buffer.getvalue())
    return film if path is None else film.save(path)


def _episode(env: Env, policy: rollout.PolicyFunction, key: jax.Array) -> tuple[Any, np.ndarray]:
    """States of one episode, first and last included, and the return so far (of a team, the mean).

    [T + 1, ...], [T + 1].
    """
    key_reset, key_play = jax.random.split(key)

    def step(episode: rollout.Episode, key: jax.Array) -> tuple[rollout.Episode, Any]:
        key_act, key_env = jax.random.split(key)
        rnn_state, action, extras = rollout.act(key_act, env, policy, episode)
        episode = tree.replace(episode, rnn_state=rnn_state)
        episode, transition = rollout.step(key_env, env, episode, action, extras)
        return episode, (episode.state, episode.episode_return.mean(), transition.done.all())

    @jax.jit
    def play() -> Any:
        rnn_state = policy.rnn_state if isinstance(policy, rollout.Policy) else ()
        first = rollout.reset(key_reset, env, rnn_state)
        return first.state, jax.lax.scan(step, first, jax.random.split(key_play, env.max_steps))[1]

    first, (states, returns, done) = jax.device_get(play())
    length = 1 + int(np.argmax(done))
    states = jax.tree.map(lambda a, b: np.concatenate([a[None], b[:length]]), first, states)
    return states, np.concatenate([[0.0], returns[:length]])


def _frames(
    draw: Callable[[Axes, Any], None], states: Any, returns: np.ndarray, shown: list[int]
) -> list[Image.Image]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

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
