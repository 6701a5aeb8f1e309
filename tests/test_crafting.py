"""Crafting against a slow definition, and with a player that reaches all achievements."""

import collections
import itertools

import jax
import numpy as np
from test_own_worlds import MOVES, rows_of

import envs
from envs.crafting import ACHIEVEMENTS, ACTIONS, Craft

PREREQUISITES = {
    "collect_wood": [],
    "place_table": ["collect_wood"],
    "make_wood_pickaxe": ["place_table"],
    "collect_stone": ["make_wood_pickaxe"],
    "make_stone_pickaxe": ["collect_stone"],
    "collect_coal": ["make_wood_pickaxe"],
    "place_furnace": ["place_table", "collect_stone"],
    "collect_iron": ["make_stone_pickaxe"],
    "make_iron_pickaxe": ["collect_coal", "place_furnace", "collect_iron"],
    "collect_diamond": ["make_iron_pickaxe"],
}
SIDE, NUM_ROWS = 9, 4000  # of states and actions that are compared
GRASS, TREE, STONE, COAL, IRON, DIAMOND, TABLE, FURNACE = range(8)
WEIGHTS = np.arange(1.0, 11.0, dtype=np.float32)
CRAFTING = envs.make("Crafting", rewards=WEIGHTS)


def cell(craft, place):
    inside = 0 <= place[0] < SIDE and 0 <= place[1] < SIDE
    return int(craft.cells[tuple(place)]) if inside else None


def around(place):
    return [(place[0] + i, place[1] + j) for i, j in itertools.product((-1, 0, 1), repeat=2)]


def is_near(craft, place, kind):
    return any(cell(craft, other) == kind for other in around(place))


def slow_craft(old, action):
    """(state, name of the achievement or None) of an action."""
    craft = jax.tree.map(np.array, old)
    name = ACTIONS[action]
    if action < 4:
        craft.facing[...] = action
    ahead = tuple(craft.position + MOVES[int(craft.facing)])
    kind, (wood, stone, coal, iron, _) = cell(craft, ahead), craft.items.tolist()
    table, furnace = (is_near(craft, craft.position, x) for x in (TABLE, FURNACE))
    done = None
    if action < 4 and kind == GRASS:
        craft.position[...] = ahead
    if name == "collect":
        tools = {TREE: 0, STONE: 1, COAL: 1, IRON: 2, DIAMOND: 3}
        if kind in tools and craft.tool >= tools[kind]:
            done = "collect_" + ["wood", "stone", "coal", "iron", "diamond"][kind - 1]
            craft.items[kind - 1] = min(craft.items[kind - 1] + 1, 9)
            if kind != TREE:
                craft.cells[ahead] = GRASS
    possible = {
        "place_table": wood and kind == GRASS,
        "make_wood_pickaxe": wood and table,
        "make_stone_pickaxe": wood and stone and table,
        "place_furnace": stone and table and kind == GRASS,
        "make_iron_pickaxe": wood and coal and iron and table and furnace,
    }
    if possible.get(name):
        done = name
        uses = {"place_furnace": [1], "make_stone_pickaxe": [0, 1], "make_iron_pickaxe": [0, 2, 3]}
        for item in uses.get(name, [0]):
            craft.items[item] -= 1
        if name.startswith("place"):
            craft.cells[ahead] = TABLE if name == "place_table" else FURNACE
        else:
            craft.tool[...] = max(
                craft.tool, ["wood", "stone", "iron"].index(name.split("_")[1]) + 1
            )
    if done is not None:
        craft.achievements[ACHIEVEMENTS.index(done)] = True
    return craft, done


def random_craft(rng):
    """Any state, also one that no episode reaches."""
    return Craft(
        cells=rng.choice(8, (SIDE, SIDE), p=[0.4, 0.1, 0.1, 0.08, 0.08, 0.08, 0.08, 0.08]).astype(
            np.int32
        ),
        position=rng.integers(SIDE, size=2).astype(np.int32),
        facing=np.int32(rng.integers(4)),
        items=rng.choice([0, 1, 2, 9], 5).astype(np.int32),
        tool=np.int32(rng.integers(4)),
        achievements=rng.random(10) < 0.5,
    )


def route(craft, is_target):
    """The first move of a shortest way to a cell to stand on where `is_target`, through what the
    tool can remove; None on one.
    """
    passable = [[GRASS], [GRASS, STONE, COAL], [GRASS, STONE, COAL, IRON]][min(craft.tool, 2)]
    start = tuple(craft.position)
    edge, first = collections.deque([start]), {start: None}
    while edge:
        place = edge.popleft()
        if is_target(place):
            return first[place]
        for action, (i, j) in enumerate(MOVES):
            other = place[0] + i, place[1] + j
            if other not in first and cell(craft, other) in passable:
                first[other] = action if place == start else first[place]
                edge.append(other)
    raise AssertionError("the world can't be solved")


NEEDS = {  # cells of which the expert needs what they give, and kinds that have to be near
    "place_table": ({TREE: 3}, []),
    "make_wood_pickaxe": ({TREE: 1}, [TABLE]),
    "make_stone_pickaxe": ({TREE: 1, STONE: 1}, [TABLE]),
    "place_furnace": ({STONE: 1}, [TABLE]),
    "make_iron_pickaxe": ({TREE: 1, COAL: 1, IRON: 1}, [TABLE, FURNACE]),
}
COLLECT = {"wood": TREE, "stone": STONE, "coal": COAL, "iron": IRON, "diamond": DIAMOND}


def walk(craft, move):
    """The move, or the removal of what is in its way."""
    into = cell(craft, craft.position + MOVES[move])
    faces = int(craft.facing) == move
    return ACTIONS.index("collect") if faces and into != GRASS else move


def expert(craft, rng):
    """The next action of a player that reaches all achievements."""
    wants = next(
        n for n, is_done in zip(ACHIEVEMENTS, craft.achievements, strict=True) if not is_done
    )
    ahead = cell(craft, craft.position + MOVES[int(craft.facing)])
    if wants.startswith("collect"):
        lacks, near = [COLLECT[wants.removeprefix("collect_")]], []
    else:
        items, near = NEEDS[wants]
        lacks = [kind for kind, number in items.items() if craft.items[kind - 1] < number]
    if lacks:
        if ahead == lacks[0]:
            return ACTIONS.index("collect")
        next_to = lambda place: [cell(craft, (place[0] + i, place[1] + j)) for i, j in MOVES]
        move = route(craft, lambda place: lacks[0] in next_to(place))
        return next_to(craft.position).index(lacks[0]) if move is None else walk(craft, move)
    move = route(craft, lambda place: all(is_near(craft, place, kind) for kind in near))
    if move is not None:
        return walk(craft, move)
    if wants.startswith("place") and ahead != GRASS:
        return int(rng.integers(4))
    return ACTIONS.index(wants)


@jax.jit
def worlds(env, keys):
    return jax.vmap(env.reset)(keys)


@jax.jit
def crafted(env, states, actions):
    return jax.vmap(env.step, (None, 0, 0))(jax.random.key(0), states, actions)


def test_each_world_has_all_achievements_in_the_order_of_their_prerequisites():
    rng = np.random.default_rng(0)
    states, obs = worlds(CRAFTING, jax.random.split(jax.random.key(0), 6))
    assert obs.shape == (6, 5 * 5 * 8 + 23)
    before, actions, after, dones = [], [], [], []
    for craft in rows_of(states):
        kinds = np.bincount(craft.cells.ravel(), minlength=8)
        assert kinds[[TREE, COAL, IRON, DIAMOND, TABLE, FURNACE]].tolist() == [6, 3, 2, 1, 0, 0]
        assert cell(craft, craft.position) == GRASS
        trees = np.argwhere(craft.cells == TREE)
        assert (np.abs(trees[:, None] - trees[None]).max(-1) != 1).all()
        reached = set()
        for _ in range(CRAFTING.max_steps):
            action = int(rng.integers(10)) if rng.random() < 0.1 else expert(craft, rng)
            before.append(craft)
            actions.append(action)
            craft, done = slow_craft(craft, action)
            after.append(craft)
            dones.append(done)
            if done is not None:
                assert reached >= set(PREREQUISITES[done])
                reached.add(done)
            if done == "collect_diamond":
                break
        assert reached == set(ACHIEVEMENTS)
    num_played = len(before)
    while len(before) < NUM_ROWS:
        before.append(random_craft(rng))
        actions.append(int(rng.integers(10)))
        craft, done = slow_craft(before[-1], actions[-1])
        after.append(craft)
        dones.append(done)
    assert NUM_ROWS - num_played > 1000
    assert set(dones[num_played:]) == {None, *ACHIEVEMENTS}

    stack = lambda rows: jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    new, step = jax.device_get(crafted(CRAFTING, stack(before), np.array(actions, np.int32)))
    jax.tree.map(np.testing.assert_array_equal, new, stack(after))
    unlocked = stack(after).achievements & ~stack(before).achievements
    np.testing.assert_array_equal(step.info["achievements"], unlocked)
    np.testing.assert_array_equal(step.reward, (unlocked * WEIGHTS).sum(-1))
    np.testing.assert_array_equal(step.info["success"], unlocked[:, -1])
    np.testing.assert_array_equal(step.terminated, new.achievements[:, -1])
    num = num_played + 5  # a view from the middle, the numbers and bits of the state
    seen = step.obs[num, : 25 * 8].reshape(5, 5, 8)
    for i, j in np.ndindex(5, 5):
        kind = cell(after[num], after[num].position + np.array([i - 2, j - 2]))
        assert seen[i, j].tolist() == [float(k == kind) for k in range(8)]
    np.testing.assert_allclose(step.obs[:, 200:205], new.items / 9, rtol=1e-6)
    np.testing.assert_array_equal(step.obs[:, 205:209], np.eye(4)[new.tool])
    np.testing.assert_array_equal(step.obs[:, 209:213], np.eye(4)[new.facing])
    np.testing.assert_array_equal(step.obs[:, 213:], new.achievements)
    whole = envs.make("Crafting", view=0)
    assert jax.eval_shape(whole.reset, jax.random.key(0))[1].shape == (9 * 9 * 9 + 23,)
