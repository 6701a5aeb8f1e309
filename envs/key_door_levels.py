"""Levels of KeyDoor: layouts drawn as text, and random solvable ones."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Tasks
from jaxrl.tree import pytree, replace, static, where

from .key_door import KeyDoor, layout
from .maze import FAR, Maze


def drawn(text: str, **params: Any) -> KeyDoor:
    """The level drawn as `text` (see `key_door.layout`). params: other parameters of `KeyDoor`.

    Raises:
      ValueError: as in `layout`.
    """
    return KeyDoor(**layout(text), **params)


@pytree
class KeyDoorLevels(Tasks):
    """Random solvable layouts of square rooms.

    The rooms are joined one after the other into a random spanning tree, which starts from the room
    with the start. `num_colors` of its edges are doors, the others are openings. The first key is
    in a room that was joined before the first door, each further key in the room behind the
    previous door, and the treasure in the room behind the last door, so that every key is needed.
    The start, the keys and the treasure are in random cells of their rooms.

    hazards: probability that a room has a hazard, in a random cell that is not next to a wall.
    key_reward, door_reward, hazard_reward, index: of `KeyDoor`.
    rooms: number of rows and columns of rooms. room_side: rows and columns of cells in each, 3 or
      more.
    num_edits: of `mutate`.

    Raises:
      ValueError: more doors than edges of the tree, or more objects than cells of a room.
    """

    hazards: jax.Array | float = 0.0
    key_reward: jax.Array | float = 0.0
    door_reward: jax.Array | float = 0.0
    hazard_reward: jax.Array | float = 0.0
    rooms: tuple[int, int] = static(default=(3, 3))
    room_side: int = static(default=3)
    num_colors: int = static(default=3)
    index: bool = static(default=False)
    num_edits: int = static(default=5)
    max_steps: int = static(default=300)

    channels = KeyDoor.channels

    def __post_init__(self) -> None:
        num_joints = self.rooms[0] * self.rooms[1] - 1
        if not 1 <= self.num_colors <= num_joints:
            raise ValueError(
                f"num_colors={self.num_colors} is not from 1 to {num_joints}, the edges of a tree "
                f"of rooms={self.rooms}: write num_colors={num_joints}."
            )
        if self.room_side < 3 or self.num_colors + 2 > self.room_side**2:
            raise ValueError(
                f"room_side={self.room_side} is too small for a hazard that blocks no door, a "
                f"start, a treasure and {self.num_colors} keys: write a larger one."
            )

    def sample(self, key: jax.Array) -> KeyDoor:
        rng = iter(jax.random.split(key, 8))  # "rng", because "keys" are those of doors here
        num, side = self.num_colors, self.room_side
        order, joints = self._tree(next(rng))
        colors = jax.random.permutation(next(rng), num)  # of the doors, in order from the start
        locks = jnp.sort(jax.random.permutation(next(rng), len(joints))[:num])
        first_key = jax.random.randint(next(rng), (), 0, locks[0] + 1)
        behind = order[locks + 1]
        rooms = jnp.concatenate([order[:1], behind[-1:], order[first_key][None], behind[:-1]])
        inner = jax.random.permutation(next(rng), side**2)[: num + 2]
        start, treasure, *places = self._place(rooms, inner // side, inner % side)

        corner, along = (jnp.asarray(x)[joints] for x in self._joints()[1:])
        offset = jax.random.randint(next(rng), (len(joints), 1), 0, side)
        row, column = (corner + offset * along).T
        walls = jnp.asarray(self._lines).at[row, column].set(False)
        doors = jnp.full(walls.shape, -1, jnp.int32)
        doors = doors.at[row[locks], column[locks]].set(colors.astype(jnp.int32))

        places = jnp.stack(places)
        found = jnp.concatenate([start[None], treasure[None], places])
        return KeyDoor(
            walls=walls,
            hazards=self._hazards(next(rng), found),
            doors=doors,
            keys=jnp.zeros((num, 2), jnp.int32).at[colors].set(places),
            start=start,
            treasure=treasure,
            key_reward=self.key_reward,
            door_reward=self.door_reward,
            hazard_reward=self.hazard_reward,
            index=self.index,
            max_steps=self.max_steps,
        )

    def optimum(self, env: KeyDoor) -> jax.Array:
        return env.optimal_return()

    def describe(self, env: KeyDoor) -> dict[str, jax.Array]:
        """Number of hazards."""
        return {"hazards": env.hazards.sum().astype(jnp.float32)}

    def mutate(self, key: jax.Array, env: KeyDoor) -> KeyDoor:
        """The level after `num_edits` edits, which keep it solvable, with the same keys.

        An edit moves the start, the treasure or a key to a cell that can be reached from its
        present one without a door; or moves a door or opening along its wall; or removes the hazard
        of a room, or adds one.
        """

        def edit(level: KeyDoor, key: jax.Array) -> tuple[KeyDoor, None]:
            key_kind, key_edit = jax.random.split(key)
            kind = jax.random.randint(key_kind, (), 0, 3)
            edits = [self._move_object, self._move_joint, self._change_hazard]
            for i, change in enumerate(edits):
                level = where(kind == i, change(key_edit, level), level)
            return level, None

        level = jax.tree.map(jnp.asarray, env)
        return jax.lax.scan(edit, level, jax.random.split(key, self.num_edits))[0]

    def _move_object(self, key: jax.Array, level: KeyDoor) -> KeyDoor:
        key_object, key_cell = jax.random.split(key)
        objects = jnp.concatenate([level.start[None], level.treasure[None], level.keys])
        moved = jax.random.randint(key_object, (), 0, len(objects))
        blocked = level.walls | level.hazards | (level.doors >= 0)
        reached = Maze(blocked, level.start, objects[moved]).distances() < FAR
        allowed = reached & ~self._lines & ~level.hazards
        allowed = allowed.at[objects[:, 0], objects[:, 1]].set(False)
        order = jnp.where(allowed, jax.random.uniform(key_cell, allowed.shape), -1.0)
        cell = jnp.stack(jnp.unravel_index(jnp.argmax(order), order.shape)).astype(jnp.int32)
        objects = objects.at[moved].set(jnp.where(allowed.any(), cell, objects[moved]))
        return replace(level, start=objects[0], treasure=objects[1], keys=objects[2:])

    def _move_joint(self, key: jax.Array, level: KeyDoor) -> KeyDoor:
        key_joint, key_shift = jax.random.split(key)
        corners, directions = self._joints()[1:]
        joint = jax.random.randint(key_joint, (), 0, len(corners))
        along = jnp.arange(self.room_side)[:, None] * jnp.asarray(directions)[joint][None]
        row, column = (jnp.asarray(corners)[joint][None] + along).T
        shift = jax.random.randint(key_shift, (), 1, self.room_side)
        rolled = lambda x: x.at[row, column].set(jnp.roll(x[row, column], shift))
        return replace(level, walls=rolled(level.walls), doors=rolled(level.doors))

    def _change_hazard(self, key: jax.Array, level: KeyDoor) -> KeyDoor:
        key_room, key_cell = jax.random.split(key)
        room = jax.random.randint(key_room, (), 0, self.rooms[0] * self.rooms[1])
        row, column = self._place(room, *jax.random.randint(key_cell, (2,), 1, self.room_side - 1))
        first, across = self._place(room, jnp.int32(0), jnp.int32(0))
        rows, columns = jnp.indices(level.walls.shape)
        inside = lambda x, start: (x >= start) & (x < start + self.room_side)
        is_room = inside(rows, first) & inside(columns, across)
        has_one = (level.hazards & is_room).any()
        objects = jnp.concatenate([level.start[None], level.treasure[None], level.keys])
        taken = (objects == jnp.stack([row, column])[None]).all(-1).any()
        hazards = level.hazards & ~is_room
        return replace(level, hazards=hazards.at[row, column].set(~has_one & ~taken))

    @property
    def _lines(self) -> np.ndarray:
        """True at the walls between and around the rooms, including doors and openings. bool [rows,
        columns].
        """
        row, column = np.indices((self._size(0), self._size(1)))
        step = self.room_side + 1
        return (row % step == 0) | (column % step == 0)

    def _tree(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Rooms in the order in which they are joined to a random tree, [num_rooms], and the joint
        of each room after the first, [num_rooms - 1].
        """
        pairs = jnp.asarray(self._joints()[0])
        num_rooms = self.rooms[0] * self.rooms[1]
        key_first, key_grow = jax.random.split(key)
        first = jax.random.randint(key_first, (), 0, num_rooms)

        def grow(joined: jax.Array, key: jax.Array) -> tuple[jax.Array, Any]:
            leads_out = joined[pairs[:, 0]] ^ joined[pairs[:, 1]]
            joint = jnp.where(leads_out, jax.random.uniform(key, leads_out.shape), -1.0).argmax()
            one, other = pairs[joint]
            room = jnp.where(joined[one], other, one)
            return joined.at[room].set(True), (room, joint)

        keys = jax.random.split(key_grow, num_rooms - 1)
        _, (rooms, joints) = jax.lax.scan(grow, jnp.arange(num_rooms) == first, keys)
        return jnp.concatenate([first[None], rooms]), joints

    def _joints(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The two rooms of each pair of neighbours; the first cell of the wall between them, and
        the direction along it: row and column. [num_joints, 2] each.
        """
        down, across = self.rooms
        step = self.room_side + 1
        joints = []
        for i, j in np.ndindex(down, across):
            room = i * across + j
            if j + 1 < across:
                joints.append([(room, room + 1), (i * step + 1, (j + 1) * step), (1, 0)])
            if i + 1 < down:
                joints.append([(room, room + across), ((i + 1) * step, j * step + 1), (0, 1)])
        pairs, corner, along = np.moveaxis(np.array(joints, np.int32), 1, 0)
        return pairs, corner, along

    def _place(self, rooms: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
        """Row and column in the map, from those in the rooms. int32 [num, 2]."""
        step = self.room_side + 1
        corner = jnp.stack([rooms // self.rooms[1], rooms % self.rooms[1]], -1) * step + 1
        return (corner + jnp.stack([row, column], -1)).astype(jnp.int32)

    def _hazards(self, key: jax.Array, taken: jax.Array) -> jax.Array:
        """True at hazards, none of them in a cell of `taken` [num, 2]. bool [rows, columns]."""
        key_rooms, key_cells = jax.random.split(key)
        num_rooms = self.rooms[0] * self.rooms[1]
        has_one = jax.random.uniform(key_rooms, (num_rooms,)) < self.hazards
        cells = jax.random.randint(key_cells, (2, num_rooms), 1, self.room_side - 1)
        row, column = self._place(jnp.arange(num_rooms), *cells).T
        none = jnp.zeros((self._size(0), self._size(1)), bool)
        return none.at[row, column].set(has_one).at[taken[:, 0], taken[:, 1]].set(False)

    def _size(self, axis: int) -> int:
        """Number of rows (axis 0) or columns (axis 1) of the map."""
        return self.rooms[axis] * (self.room_side + 1) + 1


DISTRIBUTIONS = {
    "KeyDoor-4": KeyDoorLevels(rooms=(2, 2), num_colors=1, max_steps=100),
    "KeyDoor-9": KeyDoorLevels(),
    "KeyDoor-9-hazards": KeyDoorLevels(hazards=0.5),
}
