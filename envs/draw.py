"""Drawings of states on matplotlib Axes for `jaxrl.plot.gif`, in the colours of Okabe & Ito (2008).

An environment that can be drawn has a method `draw(self, ax, state)`; those of gymnax look it up in
the table `GYMNAX`. Only methods of the Axes are called, so that no environment imports matplotlib.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrl.errors import nearest

BLACK, ORANGE, SKY, GREEN, BLUE, RED, GREY = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#BBBBBB",
)


def gymnax(name: str, params: Any, ax: Any, state: Any) -> None:
    """Draw a state of the gymnax environment `name`.

    Raises:
      ValueError: there is no drawing of it.
    """
    if name not in GYMNAX:
        raise ValueError(
            f"There is no drawing of {name!r}; {nearest(name, GYMNAX)}. Write "
            "plot.gif(env, policy, draw=lambda ax, state: ...), or add a function "
            "(params, ax, state) to GYMNAX in envs/draw.py."
        )
    GYMNAX[name](params, ax, state)


def cartpole(params: Any, ax: Any, state: Any) -> None:
    """Cart and pole, at its full length 2 * `params.length` (the physics use half of it)."""
    x, pole = (
        float(state.x),
        2 * float(params.length) * np.array([np.sin(state.theta), np.cos(state.theta)]),
    )
    limit = float(params.x_threshold)
    _rod(ax, [(-limit, 0), (limit, 0)], BLACK, 1)
    for end in (-limit, limit):
        _rod(ax, [(end, -0.1), (end, 0.1)], RED, 2)
    _box(ax, (x, 0), (0.5, 0.24), BLUE)
    _rod(ax, [(x, 0.06), (x + pole[0], 0.06 + pole[1])], ORANGE, 7)
    _view(ax, (-limit - 0.2, limit + 0.2), (-0.6, max(2.2, 2 * float(params.length) + 0.5)))


def pendulum(params: Any, ax: Any, state: Any) -> None:
    """Pendulum, upright at angle 0; the arc around the pivot shows the torque."""
    length, torque = float(params.l), float(np.squeeze(state.last_u))
    tip = length * np.array([-np.sin(state.theta), np.cos(state.theta)])
    _rod(ax, [(0, 0), tip], ORANGE, 12)
    ax.plot(0, 0, "o", color=BLACK, markersize=7, zorder=4)
    swing = np.pi / 2 + np.linspace(0, torque / float(params.max_torque) * np.pi / 2, 30)
    ax.plot(0.35 * length * np.cos(swing), 0.35 * length * np.sin(swing), color=BLUE, linewidth=3)
    ax.plot(
        0.35 * length * np.cos(swing[-1]),
        0.35 * length * np.sin(swing[-1]),
        "o",
        color=BLUE,
        markersize=6,
    )
    _view(ax, (-1.3 * length, 1.3 * length), (-1.2 * length, 1.2 * length))


def mountain_car(params: Any, ax: Any, state: Any) -> None:
    """Car on the hill 0.45 sin(3 x) + 0.55, as Gymnasium draws it."""
    height = lambda x: 0.45 * np.sin(3 * x) + 0.55
    x, goal = float(state.position), float(params.goal_position)
    road = np.linspace(float(params.min_position), float(params.max_position), 100)
    ax.fill_between(road, height(road), -0.05, color=GREY, linewidth=0)
    _rod(ax, [(goal, height(goal)), (goal, height(goal) + 0.2)], BLACK, 1.5)
    ax.fill([goal, goal + 0.1, goal], height(goal) + np.array([0.2, 0.165, 0.13]), color=RED)
    along = np.array([1.0, 1.35 * np.cos(3 * x)]) / np.hypot(1.0, 1.35 * np.cos(3 * x))
    across, ground = np.array([-along[1], along[0]]), np.array([x, height(x)])
    ax.fill(
        *(
            ground
            + np.outer([-0.07, 0.07, 0.07, -0.07], along)
            + np.outer([0.025, 0.025, 0.08, 0.08], across)
        ).T,
        BLUE,
    )
    ax.plot(
        *(ground + 0.02 * across + np.outer([-0.04, 0.04], along)).T, "o", color=BLACK, markersize=7
    )
    _view(ax, (road[0], road[-1] + 0.1), (-0.05, 1.3))


def acrobot(params: Any, ax: Any, state: Any) -> None:
    """Two links, hanging down at angle 0, and a line at the height that the tip must reach."""
    first, second = float(params.link_length_1), float(params.link_length_2)
    angles = np.cumsum([state.joint_angle1, state.joint_angle2])
    elbow = first * np.array([np.sin(angles[0]), -np.cos(angles[0])])
    tip = elbow + second * np.array([np.sin(angles[1]), -np.cos(angles[1])])
    reach = 1.1 * (first + second)
    ax.plot([-reach, reach], [1, 1], "--", color=RED, linewidth=1.5)
    _rod(ax, [(0, 0), elbow], ORANGE, 8)
    _rod(ax, [elbow, tip], BLUE, 8)
    ax.plot([0, elbow[0]], [0, elbow[1]], "o", color=BLACK, markersize=6, zorder=4)
    _view(ax, (-reach, reach), (-reach, reach))


def catch(env: Any, ax: Any, board: Any) -> None:
    _grid(ax, np.zeros((env.rows, env.columns), bool))
    landed = int(board.ball_row) == env.rows - 1
    _box(ax, (int(board.paddle), env.rows - 1), (0.9, 0.9), BLUE)
    ball = (GREEN if int(board.paddle) == int(board.ball_column) else RED) if landed else ORANGE
    ax.plot(
        int(board.ball_column),
        int(board.ball_row),
        "o",
        color=ball,
        markersize=13,
        markeredgecolor="white",
        zorder=4,
    )


def gridworld(env: Any, ax: Any, position: Any) -> None:
    _grid(ax, env.walls)
    goal, (row, column) = np.asarray(env.goal_position), np.asarray(position)
    _box(ax, (goal[1], goal[0]), (0.9, 0.9), GREEN)
    ax.plot(column, row, "o", color=ORANGE, markersize=9, markeredgecolor=BLACK, zorder=4)


def lpg_grid(env: Any, ax: Any, walk: Any) -> None:
    """Objects with a positive reward are green, the others red; the digit is the type."""
    walls = np.asarray(env.walls)
    _grid(ax, walls)
    for cell, kind, exists in zip(walk.objects, np.asarray(env.types), walk.exists, strict=True):
        if exists:
            row, column = divmod(int(cell), walls.shape[1])
            _box(ax, (column, row), (0.8, 0.8), GREEN if float(env.reward[kind]) > 0 else RED)
            ax.text(column, row, str(kind), color="white", ha="center", va="center")
    row, column = divmod(int(walk.position), walls.shape[1])
    ax.plot(column, row, "o", color=ORANGE, markersize=9, markeredgecolor=BLACK, zorder=4)


def maze(env: Any, ax: Any, walker: Any) -> None:
    _grid(ax, np.asarray(env.walls))
    goal, (row, column) = np.asarray(env.goal), np.asarray(walker.position)
    _box(ax, (goal[1], goal[0]), (0.9, 0.9), GREEN)
    marker = "^>v<"[int(walker.heading)]
    ax.plot(column, row, marker, color=ORANGE, markersize=9, markeredgecolor=BLACK, zorder=4)


def key_door(env: Any, ax: Any, explorer: Any) -> None:
    """Keys and doors are marked with the letter of their colour; an open door is an outline."""
    _grid(ax, np.asarray(env.walls))
    doors, keys = np.asarray(env.doors), np.asarray(env.keys)
    for row, column in np.argwhere(np.asarray(env.hazards)):
        ax.plot(column, row, "X", color=RED, markersize=8, zorder=3)
    for row, column in np.argwhere((doors >= 0) & (doors < len(keys))):
        color = doors[row, column]
        if not explorer.opened[color]:
            _box(ax, (column, row), (0.9, 0.9), BLUE)
        ax.text(column, row, chr(ord("A") + color), ha="center", va="center", fontsize=8)
    for color, (row, column) in enumerate(keys):
        if row >= 0 and not explorer.keys[color]:
            _box(ax, (column, row), (0.6, 0.6), SKY)
            ax.text(column, row, chr(ord("a") + color), ha="center", va="center", fontsize=8)
    (row, column), treasure = np.asarray(explorer.position), np.asarray(env.treasure)
    _box(ax, (treasure[1], treasure[0]), (0.9, 0.9), GREEN)
    ax.plot(column, row, "o", color=ORANGE, markersize=9, markeredgecolor=BLACK, zorder=4)


def crafting(env: Any, ax: Any, craft: Any) -> None:
    """Kinds of cells as colours, with initials of ores, table and furnace; the inventory below."""
    cells = np.asarray(craft.cells)
    _grid(ax, np.zeros(cells.shape, bool))
    colors = ("white", GREEN, GREY, GREY, GREY, GREY, ORANGE, RED)
    for (row, column), kind in np.ndenumerate(cells):
        if kind:
            _box(ax, (column, row), (0.95, 0.95), colors[kind])
            ax.text(column, row, "  .CIDTF"[kind].strip(), ha="center", va="center", fontsize=8)
    (row, column), facing = np.asarray(craft.position), int(craft.facing)
    ax.plot(column, row, "^>v<"[facing], color=BLUE, markersize=9, markeredgecolor=BLACK, zorder=4)
    items = " ".join(map(str, np.asarray(craft.items)))
    reached = int(np.sum(craft.achievements))
    text = f"{reached} reached; tool {int(craft.tool)}; items {items}"
    ax.text(-0.5, len(cells), text, va="center", fontsize=8)
    _view(ax, (-0.5, len(cells) - 0.5), (len(cells) + 0.5, -0.5))


def point_maze(env: Any, ax: Any, point: Any) -> None:
    _grid(ax, np.asarray(env.walls))
    (goal_row, goal_column), (row, column) = np.asarray(env.goal), np.asarray(point.position)
    around = float(env.radius) * _circle()
    ax.fill(goal_column + around[0], goal_row + around[1], color=GREEN, zorder=2)
    ahead = np.asarray(point.velocity)
    _rod(ax, [(column, row), (column + 2 * ahead[1], row + 2 * ahead[0])], BLUE, 2)
    ax.plot(column, row, "o", color=ORANGE, markersize=7, markeredgecolor=BLACK, zorder=4)


def arm(env: Any, ax: Any, links: Any) -> None:
    direction = np.cumsum(links.angles)
    ends = np.cumsum([[0, *np.cos(direction)], [0, *np.sin(direction)]], 1) / len(direction)
    ax.plot(*_circle(), color=GREY, linewidth=1)
    target = np.asarray(links.target)[:, None] + float(env.radius) * _circle()
    ax.fill(*target, color=GREEN, zorder=2)
    _rod(ax, ends.T, ORANGE, 5)
    ax.plot(*ends[:, :-1], "o", color=BLACK, markersize=5, zorder=4)
    _view(ax, (-1.1, 1.1), (-1.1, 1.1))


def hypergrid(env: Any, ax: Any, position: Any) -> None:
    """The reward, maximised over all but the last two coordinates; dark is low."""
    rewards = np.asarray(env.rewards())
    rewards = rewards.max(tuple(range(rewards.ndim - 2))) if rewards.ndim > 1 else rewards[None]
    ax.imshow(rewards, cmap="viridis")
    row, column = (0, *np.asarray(position))[-2:]
    ax.plot(column, row, "o", color=ORANGE, markersize=9, markeredgecolor=BLACK, zorder=4)


def spread(env: Any, ax: Any, particles: Any) -> None:
    """Agents that overlap are red; a line shows the way in two steps at the present velocity."""
    for x, y in np.asarray(particles.landmarks):
        ax.plot(x, y, "P", color=GREEN, markersize=8, zorder=2)
    overlaps = np.any(np.asarray(env.overlaps(particles.position)), 1)
    disc, places = float(env.radius) * _circle(), np.asarray(particles.position)
    for place, velocity, hit in zip(places, np.asarray(particles.velocity), overlaps, strict=True):
        ax.fill(*(place[:, None] + disc), color=RED if hit else ORANGE, alpha=0.8, zorder=3)
        _rod(ax, [place, place + 2 * float(env.dt) * velocity], BLUE, 2)
    reach = max(1.3, float(np.abs(places).max()) + float(env.radius))
    _view(ax, (-reach, reach), (-reach, reach))


def navigation(env: Any, ax: Any, robots: Any) -> None:
    """Robots that overlap something are red; crosses are their goals."""
    gap, half, radius = float(env.gap), float(env.half_wall), float(env.radius)
    places, goals = np.asarray(robots.position), np.asarray(robots.goal)
    reach = max(1.3, float(np.abs(np.concatenate([places, goals])).max()) + radius)
    for side in (-1, 1):
        if gap < reach:
            _box(ax, (0, side * (gap + reach) / 2), (2 * half, reach - gap), GREY)
    overlaps = np.any(np.asarray(env.overlaps(robots.position)), 1)
    colors = [SKY, ORANGE, GREEN, BLUE]
    for i, (place, goal, hit) in enumerate(zip(places, goals, overlaps, strict=True)):
        color = colors[i % len(colors)]
        ax.plot(*goal, "x", color=color, markersize=8, zorder=2)
        ax.fill(*(place[:, None] + radius * _circle()), color=RED if hit else color, zorder=3)
    _view(ax, (-reach, reach), (-reach, reach))


def foraging(env: Any, ax: Any, forage: Any) -> None:
    """Digits are levels of agents (discs) and food (squares)."""
    _grid(ax, np.zeros((env.size, env.size), bool))
    text = dict(color="white", ha="center", va="center", fontsize=8, zorder=5)
    for (row, column), level, gone in zip(
        *map(np.asarray, (forage.food, forage.food_level, forage.collected)), strict=True
    ):
        if not gone:
            _box(ax, (column, row), (0.8, 0.8), GREEN)
            ax.text(column, row, str(level), **text)
    for (row, column), level in zip(
        np.asarray(forage.position), np.asarray(forage.level), strict=True
    ):
        ax.plot(column, row, "o", color=BLUE, markersize=12, zorder=4)
        ax.text(column, row, str(level), **text)


def two_step(env: Any, ax: Any, state: Any) -> None:
    """States with their payoffs; the present one is orange, the last column is the end."""
    names = [
        "1",
        *(
            "\n".join([name, *map(_numbers, payoff)])
            for name, payoff in zip(("2A", "2B"), np.asarray(env.payoff), strict=True)
        ),
        "end",
    ]
    places = [(0, 0), (1, 0.6), (1, -0.6), (2, 0)]
    for start, end in ((0, 1), (0, 2), (1, 3), (2, 3)):
        ax.plot(*np.transpose([places[start], places[end]]), color=GREY, zorder=1)
    for i, (place, name) in enumerate(zip(places, names, strict=True)):
        _box(ax, place, (0.5, 0.5), ORANGE if i == int(state) else SKY)
        ax.text(*place, name, ha="center", va="center", fontsize=8, zorder=5)
    _view(ax, (-0.4, 2.4), (-1, 1))


def matrix_game(env: Any, ax: Any, actions: Any) -> None:
    """Payoffs of two agents with the last joint action in orange; of more, the action as text."""
    payoff, chosen = np.asarray(env.payoff), tuple(map(int, actions))
    if len(chosen) != 2:
        paid = _numbers(payoff[(slice(None), *chosen)]) if min(chosen) >= 0 else ""
        ax.text(0, 0, f"actions {_numbers(chosen)}\npayoffs {paid}", ha="center", va="center")
        _view(ax, (-1, 1), (-1, 1))
        return
    for row, column in np.ndindex(*payoff.shape[1:]):
        _box(ax, (column, row), (0.95, 0.95), ORANGE if (row, column) == chosen else SKY)
        pays = _numbers(payoff[:, row, column], ", ")
        ax.text(column, row, pays, ha="center", va="center", fontsize=9, zorder=5)
    _view(ax, (-0.6, payoff.shape[2] - 0.4), (payoff.shape[1] - 0.4, -0.6))


def markov_game(env: Any, ax: Any, state: Any) -> None:
    """States on a circle, the present one orange and final ones red; lines are moves, wide if they
    are frequent under uniformly random actions.
    """
    terminal, transition = np.asarray(env.terminal), np.asarray(env.transition)
    moves = transition.mean(tuple(range(1, transition.ndim - 1)))
    angle = 2 * np.pi * np.arange(len(terminal)) / len(terminal)
    places = np.stack([np.sin(angle), np.cos(angle)], -1)
    for i, j in np.argwhere(moves > 0):
        _rod(ax, [places[i], places[j]], GREY, 4 * moves[i, j])
    for i, (place, ends) in enumerate(zip(places, terminal, strict=True)):
        color = ORANGE if i == int(state) else RED if ends else SKY
        ax.plot(*place, "o", color=color, markersize=18, zorder=4)
        ax.text(*place, str(i), ha="center", va="center", fontsize=9, zorder=5)
    _view(ax, (-1.3, 1.3), (-1.3, 1.3))


def _numbers(values: Any, between: str = "  ") -> str:
    return between.join(f"{x:g}" for x in values)


def _rod(ax: Any, ends: Any, color: str, width: float) -> None:
    ax.plot(*np.transpose(ends), color=color, linewidth=width, solid_capstyle="round", zorder=3)


def _circle() -> np.ndarray:
    """Points of the unit circle. [2, 40]."""
    angle = np.linspace(0, 2 * np.pi, 40)
    return np.array([np.cos(angle), np.sin(angle)])


def _box(ax: Any, center: tuple[float, float], size: tuple[float, float], color: str) -> None:
    (x, y), (width, height) = center, size
    ax.fill(
        x + width * np.array([-0.5, 0.5, 0.5, -0.5]),
        y + height * np.array([-0.5, -0.5, 0.5, 0.5]),
        color,
        zorder=2,
    )


def _grid(ax: Any, walls: np.ndarray) -> None:
    """Draw a grid of cells, row 0 at the top, walls dark."""
    rows, columns = walls.shape
    ax.imshow(np.where(walls, 0.25, 1.0), cmap="gray", vmin=0, vmax=1)
    ax.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, color=GREY, linewidth=0.6)
    ax.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, color=GREY, linewidth=0.6)


def _view(ax: Any, x: tuple[float, float], y: tuple[float, float]) -> None:
    ax.set(xlim=x, ylim=y)


GYMNAX: dict[str, Callable[[Any, Any, Any], None]] = {
    "CartPole-v1": cartpole,
    "Pendulum-v1": pendulum,
    "MountainCar-v0": mountain_car,
    "MountainCarContinuous-v0": mountain_car,
    "Acrobot-v1": acrobot,
}
