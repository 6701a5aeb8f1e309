"""Hand-made mazes for tests of generalisation, drawn as text: `drawn` and `DRAWINGS`.

They are of the kinds used as test levels in the literature (rooms, labyrinths, corridors, mazes;
Dennis et al., 2020; Jiang et al., 2021b), with layouts of our own: results on them are not
comparable with published ones.
"""

import numpy as np

from .maze import Maze

SIXTEEN_ROOMS = """
...#..#..#...
.>.#..#......
.........#...
##.##.#.####.
......#......
...#.....#...
##.#.###.#.##
......#......
...#.....#...
#.##.##.###.#
...#..#..#...
...#.......G.
......#..#...
"""
SIXTEEN_ROOMS_TREE = """
...#..#..#...
.>.#..#..#...
......#..#...
####.###.###.
...#.....#...
...#..#..#...
.####.######.
...#..#..#...
......#......
.####.#######
...#..#..#...
...#.......G.
...#..#..#...
"""
FOUR_ROOMS = """
......#......
......#......
.>....#......
.............
......#......
......#......
##.#######.##
......#......
......#......
......#......
.............
......#...G..
......#......
"""
LABYRINTH = """
>............
############.
...........#.
.#########.#.
.#.......#.#.
.#.#####.#.#.
.#.#..G#.#.#.
.#.#.###.#.#.
.#.#.....#.#.
.#.#######.#.
.#.........#.
.###########.
.............
"""
RINGS = """
......v......
.###########.
.#.........#.
.#.###.###.#.
.#.#.....#.#.
.#.#.###.#.#.
.#.#.#G#.#.#.
.#.#.#.#.#.#.
.#.#.....#.#.
.#.#######.#.
.#.........#.
.#####.#####.
.............
"""
SMALL_CORRIDOR = """
#############
#############
#############
#############
#############
.#.#.#.#.#.#.
>............
.#.#.#.#.#G#.
#############
#############
#############
#############
#############
"""
LARGE_CORRIDOR = """
#############
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.#.#.#.#.#.#.
>............
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.#.#.#.#.#G#.
#############
"""
MAZE_1 = """
v....#.......
####.###.####
...#...#.....
##.###.#####.
.....#.#.....
.###.#.#.###.
.#...#.#...#.
.#####.###.#.
.#.....#...#.
.#.#####.###.
.#...#...#...
.###.#.###.##
.......#....G
"""
MAZE_2 = """
.#...#......G
.#.###.#.####
.#.....#.....
.###########.
...#.......#.
##.#.#####.#.
.#...#...#.#.
.#####.#.#.#.
.....#.#.#...
.###.###.###.
...#.......#.
.#.#########.
^#...........
"""
MAZE_3 = """
.#.........#.
.###.#####.#.
.#...#...#.#.
.#.###.#.#.#.
.#...#.#...#.
.###.#.#####.
.....#>......
############.
.#.........#.
.#.###.#####.
...#.#.......
.###.########
G............
"""


def _flipped(text: str) -> str:
    """A map mirrored left to right."""
    exchanged = str.maketrans("<>", "><")
    return "\n".join(line[::-1] for line in text.split("\n")).translate(exchanged)


# each of 13 rows and 13 columns
DRAWINGS = {
    "sixteen_rooms": SIXTEEN_ROOMS,
    "sixteen_rooms_tree": SIXTEEN_ROOMS_TREE,
    "four_rooms": FOUR_ROOMS,
    "labyrinth": LABYRINTH,
    "labyrinth_flipped": _flipped(LABYRINTH),
    "rings": RINGS,
    "small_corridor": SMALL_CORRIDOR,
    "large_corridor": LARGE_CORRIDOR,
    "maze_1": MAZE_1,
    "maze_2": MAZE_2,
    "maze_3": MAZE_3,
}


def drawn(text: str, view: int = 5, max_steps: int = 250) -> Maze:
    """A level drawn as text: '#' is a wall, '^', '>', 'v' or '<' the start with its heading, 'G'
    the goal, all else is free. Its leaves are NumPy arrays.

    Raises:
      ValueError: the map is not a rectangle, or does not have exactly one start and one goal.
    """
    lines = text.strip("\n").split("\n")
    if len({len(line) for line in lines}) != 1:
        raise ValueError(
            f"The lines of the map have lengths {[len(line) for line in lines]}: make them equal."
        )
    cells = np.array([list(line) for line in lines])
    starts, goals = np.argwhere(np.isin(cells, list("^>v<"))), np.argwhere(cells == "G")
    if len(starts) != 1 or len(goals) != 1:
        raise ValueError(
            f"The map has {len(starts)} of ^ > v < and {len(goals)} of G: write exactly one of "
            "each."
        )
    return Maze(
        walls=cells == "#",  # type: ignore[arg-type]
        start=starts[0].astype(np.int32),
        goal=goals[0].astype(np.int32),
        heading=np.int32("^>v<".index(str(cells[tuple(starts[0])]))),  # type: ignore[arg-type]
        view=view,
        max_steps=max_steps,
    )
