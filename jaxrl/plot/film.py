"""Films of an agent."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from jaxrl import rollout, tree
from jaxrl.env import Env


class Film:
    """An animated GIF that plays in a notebook.

    `data`: the file's bytes. `path`: where it is saved, if it is.
    """

    def __init__(self, data: bytes, path: Path | None = None):
        self.data, self.path = data, path

    def save(self, path: str | Path) -> "Film":
        Path(path).write_bytes(self.data)
        return Film(self.data, Path(path))

    def _repr_html_(self) -> str:
        return (
            f'<img src="data:image/gif;base64,{base64.b64encode(self.data).decode()}" '
            'alt="an episode">'
        )


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

    policy: (key, memory, obs) -> (memory, action), with its memory at rest as `policy.memory`, ()
    if it has no such thing. key: the luck of the episode, `jax.random.key(0)` unless given. draw:
    (axes, state) draws one state on matplotlib Axes, `env.draw` unless given. max_frames: of a
    longer episode that many states are shown, evenly spaced, both ends included. fps: frames a
    second (GIF rounds a frame's time to 10 ms), 30 unless given, fewer where the film would last
    under 3 s.

    Raises: ValueError when nobody knows how to draw the environment.
    """
    draw = draw or getattr(env, "draw", None)
    if draw is None:
        raise ValueError(
            f"{type(env).__name__} has no drawing. Give its class a method draw(self, ax, "
            "state) that draws one state on "
            "matplotlib Axes, or write plot.gif(env, policy, draw=lambda ax, state: ...)."
        )
    states, returns = _episode(env, policy, jax.random.key(0) if key is None else key)
    shown = np.linspace(0, len(returns) - 1, min(len(returns), max_frames)).round().astype(int)
    frames = _frames(draw, states, returns, shown.tolist())
    pause = 1000 / (fps or min(30, len(frames) / 3))
    durations = [pause] * (len(frames) - 1) + [pause + 700]  # the end is held, then it starts anew
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "gif", save_all=True, append_images=frames[1:], duration=durations, loop=0
    )
    film = Film(buffer.getvalue())
    return film if path is None else film.save(path)


def _episode(env: Env, policy: rollout.Policy, key: jax.Array) -> tuple[Any, np.ndarray]:
    """The states of one episode, first and last included, and the return so far at each.

    [T + 1, ...], [T + 1].
    """
    key_reset, key_play = jax.random.split(key)

    def move(episode: rollout.Episode, key: jax.Array) -> tuple[rollout.Episode, Any]:
        key_act, key_env = jax.random.split(key)
        rnn_state, action, _ = policy(key_act, episode)
        episode = tree.replace(episode, rnn_state=rnn_state)
        following, transition = rollout.step(key_env, env, episode, action)
        return following, (following.state, following.episode_return, transition.done)

    @jax.jit
    def play() -> Any:
        first = rollout.reset(key_reset, env, policy.rnn_state)
        return first.state, jax.lax.scan(move, first, jax.random.split(key_play, env.max_steps))[1]

    first, (states, returns, done) = jax.device_get(play())
    length = 1 + int(np.argmax(done))
    states = jax.tree.map(lambda a, b: np.concatenate([a[None], b[:length]]), first, states)
    return states, np.concatenate([[0.0], returns[:length]])


def _frames(
    draw: Callable[[Axes, Any], None], states: Any, returns: np.ndarray, shown: list[int]
) -> list[Image.Image]:
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
