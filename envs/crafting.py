"""Crafting: collect materials and make tools in a small grid, with ten achievements."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

from . import draw
from .gridworld import MOVES

ACHIEVEMENTS = (
    "collect_wood",
    "place_table",
    "make_wood_pickaxe",
    "collect_stone",
    "make_stone_pickaxe",
    "collect_coal",
    "place_furnace",
    "collect_iron",
    "make_iron_pickaxe",
    "collect_diamond",
)
GRASS, TREE, STONE, COAL, IRON, DIAMOND, TABLE, FURNACE = range(8)
NUM_KINDS = 8  # of cells
ITEMS = ("wood", "stone", "coal", "iron", "diamond")  # in the cells TREE to DIAMOND
TOOLS = ("hand", "wood pickaxe", "stone pickaxe", "iron pickaxe")
MAX_ITEMS = 9  # of each kind, as in Crafter

# for each item: the lowest tool that collects it, and the achievement
COLLECT_TOOL = np.array([0, 1, 1, 2, 3], np.int32)
COLLECT = np.array([0, 3, 5, 7, 9], np.int32)
# for each recipe: the achievement, the items that it costs, the tool and the cell that it makes (0
# for none), and the cells that have to be near
MAKE = np.array([1, 2, 4, 6, 8], np.int32)
COSTS = np.array(
    [
        (1, 0, 0, 0, 0),
        (1, 0, 0, 0, 0),
        (1, 1, 0, 0, 0),
        (0, 1, 0, 0, 0),
        (1, 0, 1, 1, 0),
    ],
    np.int32,
)
MAKES_TOOL = np.array([0, 1, 2, 0, 3], np.int32)
MAKES_CELL = np.array([TABLE, GRASS, GRASS, FURNACE, GRASS], np.int32)
NEAR_TABLE = np.array([False, True, True, True, True])
NEAR_FURNACE = np.array([False, False, False, False, True])

ACTIONS = ("up", "right", "down", "left", "collect", *(ACHIEVEMENTS[i] for i in MAKE))
FACE, COLLECTS = len(MOVES), ACTIONS.index("collect")


@pytree
class Craft:
    """State: kinds of the cells, int32 [side, side]; row and column of the agent, int32 [2]; the
    direction that it faces, an index of the moves, int32 []; its inventory, int32 [5]; its best
    tool, an index of `TOOLS`, int32 []; achievements so far, bool [10].
    """

    cells: jax.Array
    position: jax.Array
    facing: jax.Array
    items: jax.Array
    tool: jax.Array
    achievements: jax.Array


def _of_default(values: np.ndarray) -> Any:
    return dataclasses.field(default_factory=values.copy)


@pytree
class Crafting(Env):
    """A small version of Crafter (Hafner, 2022) without survival, with ten achievements that build
    on each other.

    Actions (`ACTIONS`): up, right, down, left, which turn the agent and move it over grass; collect
    the material of the cell ahead; place a table or a furnace in that cell, if it is grass; make a
    pickaxe of wood, stone or iron. Stone and coal need a wood pickaxe, iron a stone one, the
    diamond an iron one. A tree remains when it is collected from; other materials leave grass. All
    recipes except the table need a table in one of the eight cells around the agent; the iron
    pickaxe also needs a furnace there. An action that is not possible has no effect.

    Each reset draws a world: one part is grass with trees, which never enclose a cell; the other is
    stone with coal, iron and one diamond. In every world all achievements are possible. The diamond
    needs all others, and terminates the episode; if no entry of `rewards` is negative, the highest
    return is their sum. (All this with the default `costs`.)

    rewards: for unlocking each achievement, float [10]: ones count achievements; zeros except for
      the last entry are a sparse reward; other values reward stages. costs: items that each recipe
      consumes, int32 [5, 5], see `COSTS`. num_trees, num_coal, num_iron: numbers of these cells.
      side: rows and columns of the map.
    Channels: `achievements` [10], 1 in the step that unlocks each, so that the sum over an episode
    shows which were unlocked; `success`, 1 at the diamond.

    view: side of the square around the agent that it sees, an odd number; 0 is the whole map.
      Observation: the kinds of these cells, one-hot (zeros beyond the edge), with view=0 also a
      plane with the agent; then numbers of items / 9, tool and facing one-hot, achievements. float
      [view * view * 8 + 23] or [side * side * 9 + 23].
    """

    rewards: jax.Array = _of_default(np.ones(10, np.float32))
    costs: jax.Array = _of_default(COSTS)
    num_trees: jax.Array | int = 6
    num_coal: jax.Array | int = 3
    num_iron: jax.Array | int = 2
    side: int = static(default=9)
    view: int = static(default=5)
    max_steps: int = static(default=300)

    action_space = Discrete(len(ACTIONS))
    channels = ("achievements", "success")

    def __post_init__(self) -> None:
        if self.side < 5:
            raise ValueError(f"side={self.side} has no room for all materials: write 5 or more.")
        if self.view != 0 and (self.view < 3 or self.view % 2 == 0):
            raise ValueError(
                f"view={self.view} has no middle cell: write an odd number from 3 up, or view=0 "
                "for the whole map."
            )

    def reset(self, key: jax.Array) -> tuple[Craft, jax.Array]:
        key_world, key_place = jax.random.split(key)
        cells = self.world(key_world)
        place = jnp.where(cells == GRASS, jax.random.uniform(key_place, cells.shape), -1.0).argmax()
        state = Craft(
            cells=cells,
            position=jnp.stack([place // self.side, place % self.side]).astype(jnp.int32),
            facing=jnp.int32(0),
            items=jnp.zeros(len(ITEMS), jnp.int32),
            tool=jnp.int32(0),
            achievements=jnp.zeros(len(ACHIEVEMENTS), bool),
        )
        return state, self.observe(state)

    def world(self, key: jax.Array) -> jax.Array:
        """Kinds of the cells of a random world. int32 [side, side].

        Trees are in cells of an even row and column, so that no two are neighbours.
        """
        key_trees, key_ores, key_turn = jax.random.split(key, 3)
        row, column = np.indices((self.side, self.side))
        is_rock = column > self.side // 2
        can_grow = ~is_rock & (row % 2 == 0) & (column % 2 == 0)
        rank = lambda key, cells: _rank(jax.random.uniform(key, cells.shape), cells)
        ore = rank(key_ores, is_rock)
        ends = jnp.cumsum(
            jnp.stack([jnp.int32(1), *map(jnp.int32, (self.num_coal, self.num_iron))])
        )
        kinds = jnp.array([DIAMOND, COAL, IRON, STONE], jnp.int32)
        rock = kinds[(ore[..., None] >= ends[None, None]).sum(-1)]
        tree = jnp.where(can_grow & (rank(key_trees, can_grow) < self.num_trees), TREE, GRASS)
        cells = jnp.where(is_rock, rock, tree.astype(jnp.int32))
        turned = jnp.stack([jnp.rot90(cells, k) for k in range(4)])
        return turned[jax.random.randint(key_turn, (), 0, 4)]

    def step(self, key: jax.Array, state: Craft, action: jax.Array) -> tuple[Craft, Step]:
        facing = jnp.where(action < FACE, action, state.facing).astype(jnp.int32)
        ahead = state.position + jnp.array(MOVES, jnp.int32)[facing]
        row, column = jnp.clip(ahead, 0, self.side - 1)
        kind = jnp.where((ahead == jnp.stack([row, column])).all(), state.cells[row, column], -1)
        moves = (action < FACE) & (kind == GRASS)

        item = jnp.clip(kind - TREE, 0, len(ITEMS) - 1)
        is_item = (kind >= TREE) & (kind <= DIAMOND)
        collects = (action == COLLECTS) & is_item & (state.tool >= jnp.asarray(COLLECT_TOOL)[item])

        recipe = jnp.clip(action - COLLECTS - 1, 0, len(COSTS) - 1)
        cost, cell = jnp.asarray(self.costs)[recipe], jnp.asarray(MAKES_CELL)[recipe]
        near = jax.lax.dynamic_slice(jnp.pad(state.cells, 1), tuple(state.position), (3, 3))
        makes = (
            (action > COLLECTS)
            & (state.items >= cost).all()
            & ((near == TABLE).any() | ~jnp.asarray(NEAR_TABLE)[recipe])
            & ((near == FURNACE).any() | ~jnp.asarray(NEAR_FURNACE)[recipe])
            & ((cell == GRASS) | (kind == GRASS))
        )

        left = jnp.where(makes, jnp.where(cell == GRASS, kind, cell), kind)
        left = jnp.where(collects & (kind != TREE), GRASS, left)
        kept = jnp.where(kind < 0, state.cells[row, column], left)
        gained = jnp.where(collects, jnp.arange(len(ITEMS)) == item, False)
        items = state.items + gained - jnp.where(makes, cost, 0)
        number = jnp.where(collects, jnp.asarray(COLLECT)[item], jnp.asarray(MAKE)[recipe])
        is_new = (
            (jnp.arange(len(ACHIEVEMENTS)) == number) & (collects | makes) & ~state.achievements
        )
        new = Craft(
            cells=state.cells.at[row, column].set(kept),
            position=jnp.where(moves, ahead, state.position),
            facing=facing,
            items=jnp.minimum(items, MAX_ITEMS).astype(jnp.int32),
            tool=jnp.where(
                makes, jnp.maximum(state.tool, jnp.asarray(MAKES_TOOL)[recipe]), state.tool
            ),
            achievements=state.achievements | is_new,
        )
        reward = jnp.where(is_new, jnp.asarray(self.rewards, jnp.float32), 0.0).sum()
        unlocked = is_new.astype(jnp.float32)
        info = {"achievements": unlocked, "success": unlocked[-1]}
        return new, Step(self.observe(new), reward, new.achievements[-1], info)

    def observe(self, state: Craft) -> jax.Array:
        if self.view:
            half = self.view // 2
            padded = jnp.pad(state.cells, half, constant_values=-1)
            seen = jax.lax.dynamic_slice(padded, tuple(state.position), (self.view, self.view))
            parts = [jax.nn.one_hot(seen, NUM_KINDS).ravel()]
        else:
            agent = jnp.zeros(state.cells.shape).at[tuple(state.position)].set(1.0)
            parts = [jax.nn.one_hot(state.cells, NUM_KINDS).ravel(), agent.ravel()]
        parts += [
            state.items / MAX_ITEMS,
            jax.nn.one_hot(state.tool, len(TOOLS)),
            jax.nn.one_hot(state.facing, len(MOVES)),
            state.achievements.astype(jnp.float32),
        ]
        return jnp.concatenate(parts)

    def draw(self, ax: Any, state: Craft) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.crafting(self, ax, state)


def _rank(values: jax.Array, cells: np.ndarray) -> jax.Array:
    """Rank of the value of each cell among those where `cells` is True, from 0; other cells come
    last. int32 [rows, columns].
    """
    order = jnp.where(cells, values, 2.0).ravel().argsort()
    rank = jnp.zeros(cells.size, jnp.int32).at[order].set(jnp.arange(cells.size, dtype=jnp.int32))
    return rank.reshape(cells.shape)
