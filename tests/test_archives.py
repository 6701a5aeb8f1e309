"""Archives, cells, emitters and the searches on them, against slow definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl as rl
from jaxrl import archives
from jaxrl.archives.novelty import elite_novelty
from jaxrl.meta.cma import FullCMA, square_root

RNG = np.random.default_rng(0)


def slow_put(fitness, items, cell, new_items, new_fitness):
    """Of equal fitness the second entry of an item decides."""
    fitness, items = fitness.copy(), items.copy()
    before, num = list(zip(fitness, items[:, 1], strict=True)), len(fitness)
    new = list(zip(new_fitness, new_items[:, 1], strict=True))
    winner = {}
    for i, c in enumerate(cell):
        if (
            0 <= c < num
            and np.isfinite(new_fitness[i])
            and (c not in winner or new[i] > new[winner[c]])
        ):
            winner[c] = i
    enters = np.zeros(len(cell), bool)
    for c, i in winner.items():
        if new[i] > before[c]:
            fitness[c], items[c], enters[i] = new_fitness[i], new_items[i], True
    return fitness, items, enters


def test_put_keeps_the_best_of_each_cell():
    put = jax.jit(
        lambda archive, cell, items, fitness: archive.put(
            cell, items, fitness, items[:, 1], archive.items[:, 1]
        )
    )
    archive = archives.empty(8, jax.ShapeDtypeStruct((2,), jnp.float32))
    fitness, items = np.full(8, -np.inf), np.zeros((8, 2))
    for i in range(20):
        cell = RNG.integers(-2, 10, 24)
        new_fitness = RNG.integers(0, 6, 24).astype(np.float32)  # with ties
        new_fitness[RNG.random(24) < 0.2] = np.nan
        new_items = RNG.normal(size=(24, 2)).astype(np.float32)
        new_items[:, 1] = RNG.integers(-3, 1, 24) if i >= 10 else 0.0
        before = fitness
        fitness, items, enters = slow_put(fitness, items, cell, new_items, new_fitness)
        archive, entered = put(archive, jnp.array(cell), jnp.array(new_items), new_fitness)
        np.testing.assert_array_equal(archive.fitness, fitness)
        np.testing.assert_allclose(archive.items[np.isfinite(fitness)], items[np.isfinite(fitness)])
        np.testing.assert_array_equal(entered.enters, enters)
        inside = (cell >= 0) & (cell < 8) & np.isfinite(new_fitness)
        np.testing.assert_array_equal(entered.is_new, inside & np.isinf(before[cell % 8]))
    assert archive.coverage == np.isfinite(fitness).mean()
    np.testing.assert_allclose(archive.qd_score(-1.0), (fitness[np.isfinite(fitness)] + 1.0).sum())


def test_draw_is_in_proportion_to_the_weight_of_filled_cells():
    archive = archives.Archive(jnp.arange(4.0), jnp.array([1.0, -jnp.inf, 0.0, 2.0]))
    items, cell = archive.draw(jax.random.key(0), 4000, jnp.array([1.0, 5.0, 0.0, 3.0]))
    np.testing.assert_array_equal(items, cell)
    share = np.bincount(np.asarray(cell), minlength=4) / 4000
    np.testing.assert_allclose(share, [0.25, 0.0, 0.0, 0.75], atol=0.03)


def test_cells_of_a_grid_are_numbered_as_arrays_are():
    grid = archives.Grid(jnp.array([-1.0, 0.0, 2.0]), jnp.array([1.0, 1.0, 4.0]), (4, 3, 5))
    points = RNG.uniform([-1, 0, 2], [1, 1, 4], (200, 3)).astype(np.float32)
    box = ((points - [-1, 0, 2]) / [2, 1, 2] * [4, 3, 5]).astype(int)
    np.testing.assert_array_equal(grid(points), np.ravel_multi_index(box.T, (4, 3, 5)))
    assert grid(jnp.array([1.0, 1.0, 4.0])) == grid.num_cells - 1  # the upper corner is inside
    outside = jnp.array([[-3.0, 0.0, 2.0], [0.0, 0.5, 9.0]])
    np.testing.assert_array_equal(grid(outside)[0], 0)
    strict = archives.Grid(grid.low, grid.high, (4, 3, 5), clip=False)
    np.testing.assert_array_equal(strict(outside), [-1, -1])
    with pytest.raises(ValueError, match="has 2 dimensions"):
        archives.Grid(jnp.zeros(3), jnp.ones(3), (4, 4))


def test_cells_of_centroids_and_hashes():
    cells = archives.Nearest.uniform(jax.random.key(0), 16, [0.0, 0.0], [1.0, 2.0], samples=2000)
    points = RNG.uniform([0, 0], [1, 2], (100, 2)).astype(np.float32)
    distance = ((points[:, None] - np.asarray(cells.centroids)[None]) ** 2).sum(-1)
    np.testing.assert_array_equal(cells(points), distance.argmin(1))
    size = np.bincount(np.asarray(cells(RNG.uniform([0, 0], [1, 2], (4000, 2)))), minlength=16)
    assert size.min() > 100  # even: 250 each
    hashed = archives.Hashed.random(jax.random.key(0), 2, bits=3)
    bits = points @ np.asarray(hashed.projection) > 0
    np.testing.assert_array_equal(hashed(points), bits @ [1, 2, 4])
    with pytest.raises(ValueError, match="from 1 to 24"):
        archives.Hashed.random(jax.random.key(0), 2, bits=40)


def test_cells_of_one_hot_observations():
    cells = archives.OneHot(3)
    assert cells(jnp.append(jnp.eye(3), jnp.zeros((1, 3)), 0)).tolist() == [0, 1, 2, 3]
    assert cells.num_cells == 4


def test_cells_by_their_numbers():
    large = float(2**24 - 1)  # the largest that float32 has without a gap
    cells = archives.Numbered(2**24)
    found = cells(jnp.array([[0.0], [7.0], [large], [large + 1.0], [-1.0]]))
    np.testing.assert_array_equal(found, [0, 7, 2**24 - 1, -1, -1])


def test_a_square_root_by_products():
    factor = RNG.normal(size=(12, 12))
    matrix = (factor @ factor.T + 0.1 * np.eye(12)).astype(np.float32)
    root = np.asarray(square_root(jnp.array(matrix)))
    np.testing.assert_allclose(root @ root, matrix, atol=1e-3)
    np.testing.assert_array_equal(root, root.T)


def test_cma_finds_the_minimum_of_an_ellipsoid():
    scale = jnp.logspace(0, 2, 6)
    strategy = FullCMA(sigma=1.0, population=12)

    def generation(state, key):
        fitness = lambda key, x: -jnp.sum(scale * (x - 1.0) ** 2)
        state, metrics = strategy.update(key, state, fitness)
        return state, metrics["best_fitness"]

    keys = jax.random.split(jax.random.key(0), 150)
    run = jax.jit(lambda keys: jax.lax.scan(generation, strategy.init(jnp.zeros(6)), keys))
    state, best = run(keys)
    np.testing.assert_allclose(state.params, 1.0, atol=1e-3)
    assert best[-1] > -1e-6 > best[0]


def plane(x):
    """Fitness is highest at 0; the descriptor is the first two entries."""
    return -jnp.sum(x[2:] ** 2), x[:2]


TASK = archives.Function(function=plane, dims=3)


@pytest.mark.parametrize(
    "emitter",
    [
        archives.IsoLine(iso=0.05, line=0.2, low=0.0, high=1.0, batch=12),
        archives.Mixed(
            (
                archives.Ranked(FullCMA(sigma=0.2, population=8)),
                archives.IsoLine(batch=4, low=0.0, high=1.0),
            )
        ),
    ],
)
def test_a_search_fills_its_archive(emitter):
    algo = rl.MapElites(archives.Grid.unit(5, 5, clip=False), emitter, offset=-1.0)
    training = rl.Training(algo, TASK, steps=60, evals=3, episodes=8)
    state, metrics = jax.jit(training)(jax.random.key(0))
    assert (np.diff(metrics["qd_score"]) >= 0.0).all()
    assert state.archive.coverage > 0.9
    # every item is in its cell, with its fitness
    elites = state.archive.items
    found = jax.vmap(TASK)(jax.random.split(jax.random.key(1), 25), elites.genotype)
    filled = np.asarray(state.archive.filled)
    np.testing.assert_array_equal(algo.cells(found.descriptor)[filled], np.flatnonzero(filled))
    np.testing.assert_allclose(found.fitness[filled], state.archive.fitness[filled], rtol=1e-6)
    np.testing.assert_allclose(found.descriptor[filled], elites.descriptor[filled], rtol=1e-6)
    np.testing.assert_array_equal(metrics["evaluation_kept"], 1.0)


def elite_at(*descriptor):
    x = jnp.array(descriptor, jnp.float32)
    return archives.Elite(jnp.zeros(3), x, x)


def test_a_strategy_goes_on_where_its_members_enter_and_else_starts_again():
    emitter = archives.Ranked(FullCMA(sigma=0.2, population=4), size=2)
    state = emitter.init(jax.random.key(0), elite_at(0.0, 0.0))
    genotypes = emitter.ask(jax.random.key(1), state, ())
    archive = archives.empty(2, elite_at(0.0, 0.0))
    archive, _ = archive.put(
        jnp.array([1]), jax.tree.map(lambda x: x[None] + 7.0, elite_at(0.0, 0.0)), jnp.ones(1)
    )
    evaluated = archives.Evaluated(jnp.arange(4.0), jnp.zeros((4, 2)))
    tell = jax.jit(lambda *args: emitter.tell(jax.random.key(2), state, archive, *args))
    for enters in (True, False):
        entered = archives.Entered(jnp.arange(4) < int(enters), jnp.zeros(4, bool), jnp.arange(4.0))
        after = tell(genotypes, evaluated, entered)
        assert after.strategies.clock.n.tolist() == [int(enters), 0]
        at_elite = bool((after.strategies.params[0] == 7.0).all())
        assert at_elite is not enters
        assert (after.asked.tolist(), int(after.number)) == ([1, 0], 1)


def test_a_strategy_takes_keys_of_other_generators():
    emitter = archives.Ranked(FullCMA(population=4), size=2)
    elite, evaluated = elite_at(0.0, 0.0), archives.Evaluated(jnp.zeros(4), jnp.zeros((4, 2)))
    entered = archives.Entered(jnp.ones(4, bool), jnp.ones(4, bool), jnp.ones(4))

    def iterate(key):
        key_init, key_ask, key_tell = jax.random.split(key, 3)
        state = emitter.init(key_init, elite)
        archive = archives.empty(2, elite)
        genotypes = emitter.ask(key_ask, state, archive)
        return (
            genotypes,
            state,
            emitter.tell(key_tell, state, archive, genotypes, evaluated, entered),
        )

    genotypes, before, after = jax.eval_shape(iterate, jax.random.key(0, impl="rbg"))
    assert genotypes.shape == (4, 3)
    assert before.key.shape == after.key.shape == (4,)


def test_members_are_ranked_by_what_they_did_in_the_archive():
    descriptor = jnp.array([[0.0, 3.0], [1.0, 0.0], [0.0, 0.1], [0.5, 1.0]])
    evaluated = archives.Evaluated(jnp.array([3.0, 1.0, 4.0, 2.0]), descriptor)
    gain, is_new = jnp.array([1.0, 5.0, -1.0, 2.0]), jnp.array([True, False, False, True])
    entered = archives.Entered(jnp.array([True, False, False, False]), is_new, gain)
    elites = jax.tree.map(
        lambda *x: jnp.stack(x), elite_at(0.0, 0.0), elite_at(0.0, 3.0), elite_at(9.0, 9.0)
    )
    archive = archives.Archive(elites, jnp.array([1.0, 3.0, -jnp.inf]))
    orders = {
        archives.Improvement(): [2, 1, 0, 3],
        archives.ByFitness(): [1, 3, 0, 2],
        archives.RandomDirection(): [2, 1, 3, 0],  # towards (2, 1.5)
        # to the one neighbour: .1, 1, 1.1, and 3 of the first, which is itself an elite
        archives.ByNovelty(num_neighbors=1): [2, 1, 3, 0],
    }
    for ranking, expected in orders.items():
        state = jnp.array([2.0, 1.5])
        assert ranking.order(state, archive, evaluated, entered).tolist() == expected
    # what is not a number is last
    lost = archives.Evaluated(evaluated.fitness.at[2].set(jnp.nan), descriptor.at[2].set(jnp.nan))
    for ranking in (archives.ByFitness(), archives.RandomDirection(), archives.ByNovelty(1)):
        assert ranking.order(state, archive, lost, entered)[0] == 2


def slow_novelty(points, k):
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    return np.array([np.sort(np.delete(row, i))[:k].mean() for i, row in enumerate(distance)])


@pytest.mark.parametrize("k", [3, 50])
def test_novelty_is_the_mean_distance_to_the_nearest_elites(k):
    points = RNG.normal(size=(12, 2)).astype(np.float32)
    filled = RNG.random(12) < 0.7
    elites = archives.Elite(jnp.zeros(12), jnp.array(points), jnp.array(points))
    archive = archives.Archive(elites, jnp.where(filled, 0.0, -jnp.inf))
    expected = slow_novelty(points[filled], k)
    np.testing.assert_allclose(elite_novelty(archive, k)[filled], expected, rtol=1e-5)
    np.testing.assert_array_equal(elite_novelty(archive, k)[~filled], 0.0)
    weight = archives.Novel(truncation=0.25, num_neighbors=k).weight(archive)
    chosen = np.flatnonzero(filled)[np.argsort(-expected)[: int(np.ceil(0.25 * filled.sum()))]]
    np.testing.assert_array_equal(np.flatnonzero(weight), np.sort(chosen))


def test_novelty_of_a_large_archive_is_found_row_by_row():
    num = 2000
    elites = archives.Elite(jnp.zeros(num), jnp.zeros((num, 2)), jnp.zeros((num, 2)))
    archive = archives.Archive(elites, jnp.zeros(num))
    program = jax.jit(lambda archive: elite_novelty(archive, 3)).lower(archive).as_text()
    assert "256x2000x" in program
    assert "2000x2000x" not in program


def test_elites_above_a_fitness_are_selected():
    archive = archives.Archive(jnp.zeros(4), jnp.array([1.0, -jnp.inf, 0.0, 2.0]))
    assert archives.Above(0.5).weight(archive).tolist() == [1.0, 0.0, 0.0, 1.0]
    assert archives.Above(9.0).weight(archive).tolist() == [1.0, 0.0, 1.0, 1.0]


def embedded(x):
    """What is seen of x [2] has more dimensions than vary."""
    mixing = jnp.array([[1.0, 0.5, -1.0, 0.3], [0.2, -1.0, 0.4, 1.0]])
    return -jnp.sum(x**2), 5.0 + x @ mixing


def test_a_learned_descriptor_puts_the_elites_into_their_cells_anew():
    """Serene: emitters for novelty and reward; Taxons: codes of an autoencoder."""
    encoder = archives.Autoencoder(train_every=20, lr=3e-3, network=rl.MLP((16,)))
    emitters = (
        archives.IsoLine(iso=0.1, parents=archives.Novel(num_neighbors=3), batch=8),
        archives.Ranked(FullCMA(0.2, 8), archives.ByFitness(), archives.Above(-0.1)),
    )
    algo = rl.MapElites(archives.Grid.between(-1.0, 1.0, (6, 6)), archives.Mixed(emitters), encoder)
    task = archives.Function(low=-1.0, high=1.0, function=embedded, dims=2)
    state, metrics = jax.jit(rl.Training(algo, task, steps=61, evals=1))(jax.random.key(0))
    elites, filled = state.archive.items, np.asarray(state.archive.filled)
    codes = jax.vmap(lambda x: encoder(state.encoder, x))(elites.observed)
    np.testing.assert_allclose(codes[filled], elites.descriptor[filled], atol=1e-5)
    np.testing.assert_array_equal(algo.cells(codes)[filled], np.flatnonzero(filled))
    np.testing.assert_allclose(jax.vmap(embedded)(elites.genotype)[1], elites.observed, atol=1e-5)
    error = jax.vmap(lambda x: encoder.error(state.encoder, x))(elites.observed[filled]).mean()
    assert error < 0.2  # of scaled inputs, of which the mean alone leaves 1
    assert filled.mean() > 0.3
    assert metrics["best_fitness"][-1] > -0.02


def test_what_an_archive_cannot_take_is_refused():
    algo = rl.MapElites(archives.Grid.unit(4, 4, 4), archives.IsoLine(batch=4))
    with pytest.raises(ValueError, match=r"shape \(2,\), and this Grid .* 3 dimensions"):
        jax.eval_shape(lambda: algo.init(jax.random.key(0), TASK))
    algo = rl.MapElites(archives.Grid.unit(10**6, 10**6), archives.IsoLine(batch=4))
    with pytest.raises(
        ValueError, match=r"1000000000000 cells of 32 bytes, .* in total 3.2e\+04 GB"
    ):
        jax.eval_shape(lambda: algo.init(jax.random.key(0), TASK))
    go = rl.GoExplore(archives.Hashed.random(jax.random.key(0), 5))
    with pytest.raises(ValueError, match=r"GoExplore\.describe gives descriptors of shape"):
        jax.eval_shape(lambda: go.init(jax.random.key(0), rl.envs.make("Catch")))
    go = rl.GoExplore(archives.OneHot(50), walkers=10**6, num_steps=10**6)
    with pytest.raises(ValueError, match="and an update creates 1000000000000 items"):
        jax.eval_shape(lambda: go.init(jax.random.key(0), rl.envs.make("Catch")))
    with pytest.raises(ValueError, match=r"covariance \[2001, 2001\] .* write rl\.SepCMAES\(\)"):
        FullCMA().init({"w": jnp.zeros((2, 1000)), "b": jnp.zeros(1)})


def test_what_has_no_cell_is_rejected():
    undefined = archives.Function(function=lambda x: (x[0], x[:2] * jnp.nan), dims=3)
    outside = rl.MapElites(archives.Grid.between(5.0, 6.0, (2, 2), clip=False))
    pairs = [(outside, TASK), (rl.MapElites(archives.Grid.unit(2, 2)), undefined)]
    trainings = [rl.Training(algo, task, steps=2, evals=1) for algo, task in pairs]
    run = jax.jit(lambda key: [training(key)[1] for training in trainings])
    for metrics in run(jax.random.key(0)):
        assert (metrics["rejected"][-1], metrics["coverage"][-1]) == (1.0, 0.0)


def test_policies_are_genotypes():
    env = rl.envs.make("Catch")
    task = archives.PolicyTask(env, archives.last_observation, rl.MLP((4,)))
    genotype = task.init(jax.random.key(0))
    found = jax.jit(task)(jax.random.key(1), genotype)
    played = rl.evaluate(jax.random.key(1), env, task.policy(genotype), 16)
    assert float(found.fitness) in np.unique(played) or abs(found.fitness) == 1.0
    assert found.descriptor.shape == (np.prod(env.reset(jax.random.key(0))[1].shape),)


@rl.pytree
class Two(rl.Env):
    """Episodes of two steps, and nothing that is a number after them."""

    max_steps: int = rl.static(default=5)
    action_space = rl.Discrete(2)

    def reset(self, key):
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action):
        obs = jnp.where(state < 2, state + 1.0, jnp.nan)
        return state + 1, rl.Step(obs[None], 1.0, state == 1, {})


def test_the_episode_of_a_genotype_does_not_change_after_its_end():
    """In its place the final state is seen, from which a step is made but not taken."""

    def describe(steps, active):
        return jnp.append(steps.obs[:, 0], archives.mean_observation(steps, active))

    task = archives.PolicyTask(Two(), describe, rl.MLP((2,)))
    found = jax.jit(lambda key: task(key, task.init(key)))(jax.random.key(0))
    np.testing.assert_array_equal(found.descriptor, [0.0, 1.0, 2.0, 2.0, 2.0, 1.5])
    assert found.fitness == 2.0


@pytest.mark.parametrize("kind", ["grid", "voronoi"])
def test_a_heat_map_has_the_fitness_of_the_cell_of_each_pixel(kind):
    low, high = np.array([-1.0, 2.0], np.float32), np.array([1.0, 3.0], np.float32)
    cells = archives.Grid(jnp.array(low), jnp.array(high), (3, 2))
    if kind == "voronoi":
        cells = archives.Nearest(jnp.array([[-0.5, 2.25], [0.5, 2.25], [-0.5, 2.75], [0.5, 2.75]]))
        np.testing.assert_allclose(cells.bounds, [low, high])
    fitness = np.arange(cells.num_cells, dtype=np.float32)
    fitness[1] = -np.inf
    archive = archives.Archive(jnp.zeros(cells.num_cells), jnp.array(fitness))
    picture = rl.plot.repertoire(archive, cells, pixels=12)
    image = picture.axes[0].images[0]
    assert [float(x) for x in image.get_extent()] == [-1.0, 1.0, 2.0, 3.0]
    shown = np.ma.filled(image.get_array(), np.nan)
    for row, column in np.ndindex(12, 12):
        point = low + (high - low) * (np.array([column, row]) + 0.5) / 12
        expected = fitness[cells(jnp.array(point, jnp.float32))]
        np.testing.assert_equal(shown[row, column], expected if np.isfinite(expected) else np.nan)
    assert np.isnan(shown).sum() == 144 // cells.num_cells


def test_what_has_no_heat_map_is_refused():
    archive = archives.Archive(jnp.zeros(4), jnp.zeros(4))
    with pytest.raises(ValueError, match="are a Hashed of 2"):
        rl.plot.repertoire(archive, archives.Hashed.random(jax.random.key(0), 2, bits=2))
    with pytest.raises(ValueError, match="are a Grid of 3"):
        rl.plot.repertoire(archive, archives.Grid.unit(1, 2, 2))
    with pytest.raises(ValueError, match=r"shape \(4,\), and the cells are 9"):
        rl.plot.repertoire(archive, archives.Grid.unit(3, 3))


def test_map_elites_needs_a_task():
    algo = rl.MapElites(archives.Grid.unit(2, 2))
    with pytest.raises(TypeError, match="PolicyTask"):
        algo.init(jax.random.key(0), rl.envs.make("Catch"))


def test_go_explore_finds_the_far_corner_and_its_actions_lead_there():
    env = rl.envs.make("DeepSea-bsuite", size=6)
    algo = rl.GoExplore(archives.OneHot(36), walkers=4, num_steps=4, repeat=0.0)
    training = rl.Training(algo, env, steps=1600, evals=4, episodes=2, eval_share=1.0)
    state, metrics = jax.jit(training)(jax.random.key(0))
    assert metrics["best_return"][-1] > 0.9
    np.testing.assert_allclose(metrics["evaluation"][-1], metrics["best_return"][-1], atol=1e-5)
    assert metrics["cells_found"][-1] == 21
    assert state.best_length == 6


@rl.pytree
class Corridor(rl.Env):
    """Places 0 to 5. Action 0 stays; of 1 and 2 one moves on and the other, which is forbidden,
    leads to place 6; which one changes from place to place. The first move gives a high reward.
    """

    max_steps: int = rl.static(default=20)
    action_space = rl.Discrete(3)

    def reset(self, key):
        return jnp.int32(0), self._obs(jnp.int32(0))

    def _obs(self, place):
        mask = jnp.array([True, False, False]) | (jnp.arange(3) == 1 + place % 2)
        return rl.spaces.Masked(place.astype(jnp.float32)[None], mask)

    def step(self, key, state, action):
        moves = jnp.where(action == 1 + state % 2, state + 1, 6)
        place = jnp.where(action == 0, state, moves)
        reward = jnp.where((state == 0) & (place == 1), 1e6, 0.0)
        return place, rl.Step(self._obs(place), reward, place == 5, {})


def test_go_explore_takes_allowed_actions_and_keeps_the_shortest_way():
    env = Corridor()
    algo = rl.GoExplore(archives.Numbered(7), walkers=4, num_steps=4, repeat=0.5)

    def run(key):
        key_init, key_updates = jax.random.split(key)
        update = lambda state, key: (algo.update(key, env, state)[0], None)
        start = algo.init(key_init, env)
        return jax.lax.scan(update, start, jax.random.split(key_updates, 100))[0]

    archive = jax.jit(run)(jax.random.key(0)).archive
    np.testing.assert_array_equal(archive.filled, np.arange(7) < 5)  # 5 is a final state
    np.testing.assert_array_equal(archive.items.length[:5], np.arange(5))
