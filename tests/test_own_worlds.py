"""KeyDoor, PointMaze, Arm and HyperGrid against slow definitions and brute force."""

import collections
import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import key_door_levels, point_maze
from envs.arm import evaluate, joints
from envs.key_door import NINE_ROOMS, Explorer
from envs.maze import FAR
from envs.maze_tasks import maze_tasks
from envs.point_maze import Point

MOVES = [(-1, 0), (0, 1), (1, 0), (0, -1)]  # up, right, down, left


def rows_of(tree):
    """A pytree with a leading axis as a list of pytrees."""
    tree = jax.device_get(tree)
    num = len(jax.tree.leaves(tree)[0])
    return [jax.tree.map(lambda x, i=i: x[i], tree) for i in range(num)]


# ------------------------------------------------------------------------------------------ KeyDoor

TINY = key_door_levels.drawn(
    "Sab#\n^#A#\n*B..", key_reward=0.1, door_reward=0.2, hazard_reward=-0.5, max_steps=9
)


def plain(level):
    """A level as plain lists, which are fast to read."""
    level = jax.device_get(level)
    grids = {name: vars(level)[name].tolist() for name in ("walls", "doors", "hazards")}
    places = {name: tuple(vars(level)[name].tolist()) for name in ("start", "treasure")}
    keys = [tuple(key) for key in level.keys.tolist()]
    rewards = {name: float(vars(level)[name]) for name in vars(level) if "reward" in name}
    return grids | places | rewards | {"keys": keys}


def slow_move(level, state, action):
    """(state, reward, terminated) of a move; a state is row, column, keys, opened."""
    row, column, keys, opened = state
    ahead = row + MOVES[action][0], column + MOVES[action][1]
    if 0 <= ahead[0] < len(level["walls"]) and 0 <= ahead[1] < len(level["walls"][0]):
        door = level["doors"][ahead[0]][ahead[1]]
        if not level["walls"][ahead[0]][ahead[1]] and (door == -1 or door in keys):
            row, column = ahead
    reward = 0.0
    for color, place in enumerate(level["keys"]):
        if place == (row, column) and color not in keys:
            keys, reward = keys | {color}, reward + level["key_reward"]
    door = level["doors"][row][column]
    if door >= 0 and door not in opened:
        opened, reward = opened | {door}, reward + level["door_reward"]
    state = row, column, keys, opened
    if (row, column) == level["treasure"]:
        return state, reward + level["reward"], True
    hit = level["hazards"][row][column]
    return state, reward + hit * level["hazard_reward"], hit


def first_state(level):
    return (*level["start"], frozenset(), frozenset())


def steps_to_treasure(level):
    """Length of the shortest way, or None."""
    start = first_state(level)
    seen, edge = {start}, collections.deque([(start, 0)])
    while edge:
        state, steps = edge.popleft()
        for action in range(4):
            new, _, ended = slow_move(level, state, action)
            if new[:2] == level["treasure"]:
                return steps + 1
            if not ended and new not in seen:
                seen.add(new)
                edge.append((new, steps + 1))
    return None


@jax.jit
def explored(env):
    """All states, steps of all actions from them, numbers, and optimal returns."""
    states = jax.vmap(env.state_of)(jnp.arange(env.num_states))
    step = lambda state, action: env.step(jax.random.key(0), state, action)
    new, steps = jax.vmap(jax.vmap(step, (None, 0)), (0, None))(states, jnp.arange(4))
    best = [env.optimal_return(gamma) for gamma in (1.0, 0.9)]
    return states, jax.vmap(env.cell)(states), new, steps, best, env.reset(jax.random.key(0))


def slow_optimum(moves, first, gamma):
    """The best return within the time limit, of {(state, action): (state, reward, terminated)}."""
    value = {state: 0.0 for state, _ in moves}
    for _ in range(TINY.max_steps):
        best = dict.fromkeys(value, -math.inf)
        for (state, _), (end, reward, ended) in moves.items():
            best[state] = max(best[state], reward + gamma * (0.0 if ended else value[end]))
        value = best
    return value[first]


def as_plain(state):
    colors = lambda mask: frozenset(np.flatnonzero(mask).tolist())
    return (*state.position.tolist(), colors(state.keys), colors(state.opened))


def test_keys_open_doors_and_the_optimum_is_that_of_brute_force():
    states, cells, new, steps, best, (first, obs) = jax.device_get(explored(TINY))
    level = plain(TINY)
    np.testing.assert_array_equal(cells, np.arange(12 * 16))
    slow = [as_plain(state) for state in rows_of(states)]
    after = [rows_of(row) for row in rows_of(new)]
    moves = {}
    for i, state in enumerate(slow):
        for action in range(4):
            moves[state, action] = end, reward, ended = slow_move(level, state, action)
            assert as_plain(after[i][action]) == end
            assert steps.reward[i, action] == pytest.approx(reward)
            assert steps.terminated[i, action] == ended
            at_treasure = end[:2] == level["treasure"]
            assert steps.info["success"][i, action] == at_treasure
            # what is taken or opened is no longer to be seen
            planes = steps.obs[i, action]
            assert planes.shape == (3, 4, 4 + 2 * 2)
            assert np.argwhere(planes[..., 3]).tolist() == [list(end[:2])]
            assert planes[..., 4:6].any((0, 1)).tolist() == [k not in end[2] for k in range(2)]
            assert planes[..., 6:8].any((0, 1)).tolist() == [k not in end[3] for k in range(2)]
    assert as_plain(first) == first_state(level)
    assert obs[..., 0].tolist() == level["walls"]
    for gamma, found in zip((1.0, 0.9), best, strict=True):
        assert found == pytest.approx(slow_optimum(moves, first_state(level), gamma))
    assert best[0] == pytest.approx(1.0 + 2 * 0.1 + 2 * 0.2)


@jax.jit
def layouts(levels, key):
    return jax.vmap(levels.sample)(jax.random.split(key, 12))


def test_a_random_layout_can_be_solved_and_needs_each_key():
    levels = key_door_levels.KeyDoorLevels(hazards=0.7, rooms=(2, 3), num_colors=2)
    sampled = layouts(levels, jax.random.key(0))
    assert sampled.walls.shape == (12, 9, 13)
    assert sampled.hazards.any()
    for level in map(plain, rows_of(sampled)):
        places = [level["start"], level["treasure"], *level["keys"]]
        assert len(set(places)) == 4
        assert not any(level["walls"][i][j] or level["hazards"][i][j] for i, j in places)
        assert steps_to_treasure(level) <= levels.max_steps
        for color in range(2):
            keys = [(-1, -1) if k == color else place for k, place in enumerate(level["keys"])]
            assert steps_to_treasure(level | {"keys": keys}) is None


@jax.jit
def edited(levels, key, family):
    return jax.vmap(levels.mutate)(jax.random.split(key, len(family.walls)), family)


def test_an_edited_layout_can_be_solved_and_needs_each_key():
    levels = key_door_levels.KeyDoorLevels(
        hazards=0.5, rooms=(2, 3), room_side=4, num_colors=2, num_edits=30
    )
    before = layouts(levels, jax.random.key(0))
    family = edited(levels, jax.random.key(1), before)
    changed = jax.tree.map(lambda x, y: np.mean(x != y), before, family)
    for name in ("walls", "hazards", "doors", "keys", "start", "treasure"):
        assert vars(changed)[name] > 0.0
    np.testing.assert_array_equal(before.walls.sum((1, 2)), family.walls.sum((1, 2)))
    for level in map(plain, rows_of(family)):
        places = [level["start"], level["treasure"], *level["keys"]]
        assert len(set(places)) == 4
        assert not any(level["walls"][i][j] or level["hazards"][i][j] for i, j in places)
        assert steps_to_treasure(level) is not None
        for color in range(2):
            keys = [(-1, -1) if k == color else place for k, place in enumerate(level["keys"])]
            assert steps_to_treasure(level | {"keys": keys}) is None


def test_goals_of_a_set_of_mazes_are_from_near_to_far():
    """By breadth-first search from the start, which is in a corner."""
    tasks = jax.jit(lambda key: maze_tasks(key, 4, 9, (2, 11), 30))(jax.random.key(0))
    env, lengths = jax.device_get(tasks.levels), []
    for walls, start, goal in zip(env.env.walls, env.env.start, env.env.treasure, strict=True):
        distance, frontier = {tuple(start): 0}, [tuple(start)]
        for row, column in frontier:  # grows
            for cell in ((row + down, column + right) for down, right in MOVES):
                inside = all(0 <= x < 9 for x in cell)
                if inside and not walls[cell] and cell not in distance:
                    distance[cell] = distance[row, column] + 1
                    frontier.append(cell)
        assert len(distance) == (~walls).sum()
        lengths.append(distance[tuple(goal)])
    assert lengths == [2, 5, 8, 11]
    np.testing.assert_array_equal(env.task, range(4))


def test_the_nine_rooms_can_be_solved():
    level = plain(envs.make("KeyDoor"))
    steps = steps_to_treasure(level)
    assert 40 < steps <= envs.make("KeyDoor").max_steps
    assert (len(level["keys"]), NINE_ROOMS.count("^")) == (3, 4)
    state = Explorer(np.array([6, 6]), np.zeros(3, bool), np.zeros(3, bool))
    index = envs.make("KeyDoor", index=True)
    assert jax.eval_shape(index.observe, state).shape == ()


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("make them equal", lambda: key_door_levels.drawn("S*\n.")),
        (r"has 1 of S and 0 of \*", lambda: key_door_levels.drawn("S.")),
        ("0 keys 'a' and 1 doors 'A'", lambda: key_door_levels.drawn("SA*")),
        ("num_colors=4", lambda: envs.distribution("KeyDoor-4", num_colors=4)),
        ("room_side=2", lambda: envs.distribution("KeyDoor-4", room_side=2)),
        (
            "jax.vmap",
            lambda: envs.make("KeyDoor", walls=np.zeros((2, 3, 3), bool)).reset(jax.random.key(0)),
        ),
        (
            r"start has shape \(1,\)",
            lambda: envs.make("KeyDoor", start=np.zeros(1)).reset(jax.random.key(0)),
        ),
        ("make them equal", lambda: point_maze.drawn("G.\n.")),
        ("has 2 of G: write exactly one", lambda: point_maze.drawn("GG")),
        (
            r"goal has shape \(1,\)",
            lambda: envs.make("PointMaze", goal=np.zeros(1)).reset(jax.random.key(0)),
        ),
        ("speed", lambda: envs.make("PointMaze", speed=1.5)),
        ("num_joints=1", lambda: envs.make("Arm", num_joints=1)),
        ("side=4", lambda: envs.make("Crafting", side=4)),
        ("view=4", lambda: envs.make("Crafting", view=4)),
        ("side=1", lambda: envs.make("HyperGrid", side=1)),
    ],
)
def test_errors(words, call):
    with pytest.raises(ValueError, match=words):
        call()


# ---------------------------------------------------------------------------------------- PointMaze

MAZE = point_maze.drawn("######\n#    #\n# ## #\n# #G #\n# #  #\n######", dense=0.25, radius=0.3)


@jax.jit
def pushed(env, keys, actions):
    """States before and steps of each action, from random starts, not reset; the distances."""

    def episode(key, actions):
        state, obs = env.reset(key)

        def go(state, action):
            new, step = env.step(key, state, action)
            return new, (state, new, step)

        return obs, jax.lax.scan(go, state, actions)[1]

    centres = jnp.stack(jnp.indices(env.walls.shape), -1).reshape(-1, 2).astype(jnp.float32)
    return jax.vmap(episode)(keys, actions), env.distances(), jax.vmap(env.distance)(centres)


def slow_distances(walls, goal):
    found, edge = {goal: 0}, collections.deque([goal])
    while edge:
        place = edge.popleft()
        for i, j in MOVES:
            other = place[0] + i, place[1] + j
            if other not in found and not walls[other]:
                found[other] = found[place] + 1
                edge.append(other)
    return found


def slow_push(walls, position, velocity, action):
    velocity = np.clip(0.8 * velocity + 0.1 * np.clip(action, -1, 1), -0.5, 0.5)
    position = position.copy()
    for axis in range(2):
        moved = position.copy()
        moved[axis] += velocity[axis]
        if walls[tuple(np.round(moved).astype(int))]:
            position[axis] = np.round(position[axis]) + 0.499 * np.sign(velocity[axis])
            velocity[axis] = 0.0
        else:
            position = moved
    return position, velocity


def test_walls_stop_a_point_and_progress_adds_up():
    rng = np.random.default_rng(0)
    # the same push for 8 steps, so that points get far
    actions = np.repeat(rng.uniform(-1.5, 1.5, (64, 12, 2)), 8, 1).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 64)
    ((obs, (before, new, step)), distances, at_centres) = jax.device_get(
        pushed(MAZE, keys, actions)
    )
    slow = slow_distances(MAZE.walls, (3, 3))
    expected = np.full((6, 6), FAR)
    for place, length in slow.items():
        expected[place] = length
    np.testing.assert_array_equal(distances, expected)
    free = distances < FAR
    np.testing.assert_allclose(at_centres.reshape(6, 6)[free], distances[free], rtol=1e-6)

    cells = np.round(new.position).astype(int)
    assert not MAZE.walls[cells[..., 0], cells[..., 1]].any()
    assert len({tuple(place) for place in cells.reshape(-1, 2)}) == free.sum()
    off = new.position - np.round(new.position)
    assert (np.abs(off) > 0.498).any(-1).mean() > 0.1  # many are at a wall
    for b, t in itertools.product(range(0, 64, 4), range(96)):
        position, velocity = slow_push(
            MAZE.walls, before.position[b, t], before.velocity[b, t], actions[b, t]
        )
        np.testing.assert_allclose(new.position[b, t], position, atol=1e-5)
        np.testing.assert_allclose(new.velocity[b, t], velocity, atol=1e-5)
    arrived = ((new.position - [3, 3]) ** 2).sum(-1) <= 0.3**2
    assert 0 < arrived.sum() < arrived.size / 2
    np.testing.assert_array_equal(step.terminated, arrived)
    np.testing.assert_array_equal(step.info["success"], arrived)

    def length(position):
        """Bilinear between the centres of free cells."""
        low = np.floor(position).astype(int)
        weights = {
            place: np.prod(1 - np.abs(position - place))
            for place in itertools.product((low[0], low[0] + 1), (low[1], low[1] + 1))
            if place in slow
        }
        return sum(w * slow[place] for place, w in weights.items()) / sum(weights.values())

    for b in range(16):
        progress = (length(before.position[b, 0]) - length(new.position[b, -1])) / max(
            slow.values()
        )
        total = 0.75 * arrived[b].sum() + 0.25 * progress
        assert step.reward[b].sum() == pytest.approx(total, abs=1e-4)
    first = np.round(before.position[:, 0]).astype(int)
    assert (first != [3, 3]).any(-1).all()
    np.testing.assert_allclose(obs[:, :2], 2 * before.position[:, 0] / 5 - 1, atol=1e-6)
    np.testing.assert_allclose(step.obs[..., 2:4], ([3, 3] - new.position) / 5, atol=1e-6)
    np.testing.assert_allclose(step.obs[..., 4:], new.velocity / 0.5, atol=1e-6)


def test_a_given_start_is_a_leaf_and_a_state_is_where_the_point_is():
    env = envs.make("PointMaze", start=np.array([1, 2]), spread=0.0)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))
    assert isinstance(state, Point)
    assert len(jax.tree.leaves(env)) == len(jax.tree.leaves(envs.make("PointMaze"))) + 1


# ---------------------------------------------------------------------------------------------- Arm


@jax.jit
def swung(env, keys, actions, angles):
    def episode(key, actions):
        state, _ = env.reset(key)

        def go(state, action):
            new, step = env.step(key, state, action)
            return new, (state, new, step)

        return jax.lax.scan(go, state, actions)[1]

    return jax.vmap(episode)(keys, actions), jax.vmap(evaluate)(angles), jax.vmap(joints)(angles)


def slow_end(angles):
    """The end of an arm of length 1, link by link, as a complex number."""
    end, direction = 0j, 0.0
    for angle in angles:
        direction += angle
        end += complex(math.cos(direction), math.sin(direction)) / len(angles)
    return end


def test_an_arm_ends_where_its_links_lead():
    rng = np.random.default_rng(0)
    env = envs.make("Arm", num_joints=3, dense=0.5, radius=0.2)
    actions = np.repeat(rng.uniform(-1.5, 1.5, (32, 5, 3)), 10, 1).astype(np.float32)
    angles = rng.uniform(-0.2, 1.2, (32, 3)).astype(np.float32)  # in part to be clipped
    keys = jax.random.split(jax.random.key(0), 32)
    (before, new, step), (fitness, descriptor), links = jax.device_get(
        swung(env, keys, actions, angles)
    )
    for i, x in enumerate(np.clip(angles, 0, 1)):
        assert fitness[i] == pytest.approx(-np.std(x), abs=1e-6)
        end = 0.5 + 0.5j + 0.5 * slow_end(2 * np.pi * x - np.pi)
        assert complex(*descriptor[i]) == pytest.approx(end, abs=1e-5)
        for k in range(3):
            part = slow_end(angles[i, : k + 1]) * (k + 1) / 3
            assert complex(*links[i, k]) == pytest.approx(part, abs=1e-5)
    np.testing.assert_allclose(new.angles - before.angles, 0.1 * np.clip(actions, -1, 1), atol=1e-5)
    assert (np.abs(before.angles[:, 0]) <= np.pi).all()
    assert (np.hypot(*before.target[:, 0].T) <= 1).all()
    np.testing.assert_array_equal(before.target, new.target)

    ends = np.array([[slow_end(row) for row in rows] for rows in new.angles])
    off = np.abs(ends - new.target @ [1, 1j])
    np.testing.assert_array_equal(step.terminated, off <= 0.2)
    assert 0 < step.terminated.sum() < step.terminated.size
    start = [slow_end(row) for row in before.angles[:, 0]]
    progress = (np.abs(start - before.target[:, 0] @ [1, 1j]) - off[:, -1]) / 2
    total = 0.5 * step.info["success"].sum(1) + 0.5 * progress
    np.testing.assert_allclose(step.reward.sum(1), total, atol=1e-4)
    np.testing.assert_allclose(step.obs[..., 6:8] @ [1, 1j], ends, atol=1e-5)
    np.testing.assert_allclose(step.obs[..., 8:] @ [1, 1j], new.target @ [1, 1j] - ends, atol=1e-5)


# ---------------------------------------------------------------------------------------- HyperGrid


@jax.jit
def gridded(env, policy):
    points = env.points().reshape(-1, env.dims)
    step = lambda state, action: env.step(jax.random.key(0), state, action)
    new, steps = jax.vmap(jax.vmap(step, (None, 0)), (0, None))(points, jnp.arange(env.dims + 1))
    return env.rewards(), env.target(), env.stops(policy), new, steps


def slow_reward(point, side):
    """The paper's, in fractions: no rounding at the limits."""
    u = [abs(Fraction(x, side - 1) - Fraction(1, 2)) for x in point]
    outside = all(x > Fraction(1, 4) for x in u)
    mode = all(Fraction(3, 10) < x < Fraction(4, 10) for x in u)
    return 0.01 + 0.5 * outside + 2.0 * mode, mode


@pytest.mark.parametrize(("dims", "side"), [(2, 8), (3, 11)])
def test_a_hypergrid_has_the_rewards_of_the_paper(dims, side):
    """Side 11 has points at the limits 0.3 and 0.4, which are outside of the open interval."""
    env = envs.make("HyperGrid", dims=dims, side=side)
    policy = np.random.default_rng(0).random((side,) * dims + (dims + 1,)).astype(np.float32)
    rewards, target, stops, new, steps = jax.device_get(gridded(env, policy))
    points = list(np.ndindex(*rewards.shape))
    slow = np.array([slow_reward(point, side)[0] for point in points]).reshape(rewards.shape)
    np.testing.assert_allclose(rewards, slow, rtol=1e-6)
    np.testing.assert_allclose(target, slow / slow.sum(), rtol=1e-5)
    for i, point in enumerate(points):
        allowed = [x < side - 1 for x in point] + [True]
        assert steps.obs.mask[i, dims].tolist() == allowed
        assert steps.obs.obs[i, dims].tolist() == np.eye(side)[list(point)].ravel().tolist()
        for action in range(dims):
            end = [min(x + (k == action), side - 1) for k, x in enumerate(point)]
            assert new[i, action].tolist() == end
        reward, mode = slow_reward(point, side)
        assert steps.reward[i].tolist() == pytest.approx([0.0] * dims + [reward])
        assert steps.info["success"][i].tolist() == [0.0] * dims + [float(mode)]
        assert steps.terminated[i].tolist() == [False] * dims + [True]

    slow_stops = np.zeros(rewards.shape)
    reached = collections.defaultdict(float, {(0,) * dims: 1.0})
    for point in sorted(points, key=sum):  # all ways to a point come before it
        probs = policy[point] * np.array([x < side - 1 for x in point] + [True])
        probs = probs / probs.sum() * reached[point]
        slow_stops[point] = probs[-1]
        for k in range(dims):
            reached[tuple(x + (i == k) for i, x in enumerate(point))] += probs[k]
    np.testing.assert_allclose(stops, slow_stops, rtol=1e-4, atol=1e-7)
    assert stops.sum() == pytest.approx(1.0, abs=1e-5)
