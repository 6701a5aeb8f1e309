"""Pictures say what the numbers say: their lines, bands, cells and labels are read back."""

import io
import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from PIL import Image

import envs
from jaxrl import plot, rollout, stats
from jaxrl.plot.importances import heights


@pytest.fixture
def results():
    """Learning curves of 3 learning rates, 2 discounts and 8 seeds, some diverged, with a gap."""
    rng = np.random.default_rng(0)
    returns = rng.normal(size=(3, 2, 8, 6)) + np.array([0.0, 10.0, 5.0])[:, None, None, None]
    returns[0, :, :, 2], diverged = np.nan, np.zeros(returns.shape, bool)
    returns[2, 1, :3, 4:], diverged[2, 1, :3, 4:] = np.nan, True
    dims = ("lr", "gamma", "seed", "step")
    evaluation = np.where(np.arange(6) % 3 == 2, returns, np.nan)
    data = {
        "return": (dims, returns),
        "diverged": (dims, diverged),
        "evaluation": (dims, evaluation),
    }
    coords = {
        "lr": [1e-4, 3.162e-4, 1e-3],
        "gamma": [0.9, 0.9999],
        "seed": np.arange(8),
        "step": np.arange(1, 7) * 50_000,
    }
    return xr.Dataset(data, coords)


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


# ------------------------------------------------------------------------------------------- curves


def test_curve_draws_a_line_and_a_band_for_each_value(results):
    chosen = results.sel(gamma=0.9999)
    figure = plot.curve(chosen, by="lr")
    (ax,), expected = figure.axes, stats.summary(chosen)
    assert len(ax.lines) == 3
    assert len([band for band in ax.collections if isinstance(band, PolyCollection)]) == 3
    for i, line in enumerate(ax.lines):
        np.testing.assert_allclose(line.get_ydata(), expected.iqm.isel(lr=i))
        np.testing.assert_array_equal(line.get_xdata(), results.step)
        top = max(path.vertices[:, 1].max() for path in ax.collections[i].get_paths())
        np.testing.assert_allclose(top, expected.high.isel(lr=i).max())
    assert np.isnan(ax.lines[0].get_ydata()[2])
    assert legend(figure) == ["1e-4", "3.16e-4", "1e-3, 3 diverged"]
    assert ax.get_legend().get_title().get_text() == "lr"


def test_curve_names_its_axes(results):
    figure = plot.curve(results.isel(lr=2, gamma=1), level=0.9)
    figure.canvas.draw()
    (ax,) = figure.axes
    assert ax.get_xlabel() == "environment steps"
    assert ax.get_ylabel() == "return (interquartile mean,\n90 % interval, n = 8 seeds, 3 diverged)"
    assert "100k" in [tick.get_text() for tick in ax.get_xticklabels()]
    assert ax.get_legend() is None


def test_curve_finds_the_axis_that_is_left(results):
    assert legend(plot.curve(results.isel(lr=[0]))) == ["0.9", "0.9999"]
    assert len(plot.curve(results["return"].isel(gamma=0)).axes[0].lines) == 3
    assert len(plot.curve(results.isel(lr=1, gamma=0, seed=[0])).axes[0].lines) == 1


def test_lines_differ_without_colour(results):
    lines = (
        plot.curve(xr.concat([results.isel(gamma=0)] * 2, "lr").assign_coords(lr=np.arange(6)))
        .axes[0]
        .lines
    )
    assert len({line.get_marker() for line in lines}) == 6


def test_rows_without_a_measurement_are_skipped(results):
    (ax,) = plot.curve(results.sel(gamma=0.9), "evaluation").axes
    assert ax.lines[1].get_xdata().tolist() == [150_000, 300_000]
    with pytest.raises(ValueError, match="no finite value"):
        plot.curve(results.where(False).isel(lr=0), "evaluation")


def test_curves_share_a_figure(results):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot.curve(results.isel(gamma=0), ax=left) is plot.heat(results, ax=right) is figure
    assert len(left.lines) == 3


def test_success_by_the_distance_of_levels():
    rng = np.random.default_rng(0)
    distance = np.array([9.0, 1.0, 2.0, 5.0, 1.0, 7.0])
    success = rng.random((2, 8, 6))
    success[0, 0, 3] = np.nan
    results = xr.Dataset(
        {"success": (("teacher", "seed", "level"), success)},
        {"teacher": ["DR", "PLR"], "distance": ("level", distance)},
    )
    for bins in ([1.0, 2.0, 6.0, 8.0, 8.5, 9.0], 2):
        found = stats.binned(results, "success", along="level", by="distance", bins=bins)
        # the entries between 1 and 2, 2 and 6, 6 and 8, none, and 9; or below 3.5 and above
        rows = [[1, 4], [2, 3], [5], [0]] if bins != 2 else [[1, 2, 4], [0, 3, 5]]
        np.testing.assert_allclose(found["distance"], [distance[i].mean() for i in rows])
        expected = np.stack([np.nanmean(success[:, :, i], -1) for i in rows])
        np.testing.assert_allclose(found.transpose("distance", ...), expected)
    figure = plot.curve(found, "success", by="teacher", x="distance")
    (ax,) = figure.axes
    assert ax.get_xlabel() == "distance"
    np.testing.assert_allclose(ax.lines[1].get_xdata(), found["distance"])
    np.testing.assert_allclose(
        ax.lines[1].get_ydata(), stats.iqm(found.sel(teacher="PLR").transpose("distance", "seed"))
    )
    with pytest.raises(ValueError, match=r"no coordinate 'walls', only distance: write results"):
        stats.binned(results, "success", along="level", by="walls")
    with pytest.raises(ValueError, match="No value of 'distance' is between 20 and 30"):
        stats.binned(results, "success", "level", "distance", [20.0, 30.0])


def test_curve_errors_say_what_to_write(results):
    with pytest.raises(
        ValueError, match=r"Write plot\.curve\(results\.sel\(gamma=0\.9\), 'return', by='lr'\)"
    ):
        plot.curve(results)
    with pytest.raises(ValueError, match=r"results\.sel\(lr=1e-4\), 'return', by='gamma'"):
        plot.curve(results, by="gamma")
    with pytest.raises(ValueError, match="the nearest are evaluation"):
        plot.curve(results, "evaluations")
    with pytest.raises(ValueError, match="no axis 'gama'"):
        plot.curve(results, by="gama")


def test_a_picture_shows_itself(results):
    png = plot.curve(results.isel(gamma=0))._repr_png_()
    assert Image.open(io.BytesIO(png)).size > (500, 300)
    assert "matplotlib.pyplot" not in plot.__dict__


# --------------------------------------------------------------------------------------------- maps


def test_cells_are_the_interquartile_means(results):
    ax, bar = plot.heat(results, at=-2).axes
    expected = stats.iqm(results["return"].isel(step=-2).transpose("lr", "gamma", "seed").values)
    assert [text.get_text() for text in ax.texts] == [
        plot.number(float(value)) for value in expected.ravel()
    ]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == (
        "gamma",
        "lr",
        "return at 250k environment steps",
    )
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1e-4", "3.16e-4", "1e-3"]
    assert bar.get_ylabel() == "return (interquartile mean,\nn = 8 seeds)"
    turned = plot.heat(results, x="lr", y="gamma", at=-2).axes[0].images[0].get_array()
    np.testing.assert_allclose(turned, expected.T)


def test_text_can_be_read_on_its_cell(results):
    ax = plot.heat(results).axes[0]
    gray = np.dot(
        ax.images[0].to_rgba(ax.images[0].get_array())[..., :3], (0.299, 0.587, 0.114)
    ).ravel()
    white = np.array([text.get_color() == "white" for text in ax.texts])
    assert (np.abs(gray - white) > 0.45).all()


def test_a_cell_without_a_value_says_so(results):
    assert [text.get_text() for text in plot.heat(results, at=2).axes[0].texts[:2]] == [
        "none",
        "none",
    ]


def test_heat_errors_say_what_to_write(results):
    with pytest.raises(ValueError, match="Write curve"):
        plot.heat(results.isel(lr=0))
    with pytest.raises(ValueError, match=r"results\.sel\(gamma=0\.9\), 'return', x='lr', y='net'"):
        plot.heat(xr.concat([results, results], "net").assign_coords(net=["small", "large"]))


@pytest.mark.parametrize(
    ("value", "text"),
    {
        1e-3: "1e-3",
        3.16227e-4: "3.16e-4",
        0.01: "0.01",
        0.9999: "0.9999",
        float(np.float32(0.1)): "0.1",
        0.0: "0",
    }.items(),
)
def test_numbers_are_short(value, text):
    assert plot.number(value) == text
    assert plot.number(-value).lstrip("-") == text
    assert [plot.number(x) for x in (500.0, 1e6, 64, 123_456, "relu", np.nan)] == [
        "500",
        "1e6",
        "64",
        "123456",
        "relu",
        "nan",
    ]


# -------------------------------------------------------------------------------------------- films


def random(env):
    return lambda key, episode: ((), env.action_space.sample(key), ())


def frames(film):
    image = Image.open(io.BytesIO(film.data))
    assert image.format == "GIF"
    return [np.asarray(image.convert("L")) for i in range(image.n_frames) if image.seek(i) is None]


DRAWN = [
    "CartPole-v1",
    "Pendulum-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Acrobot-v1",
    "Arm",
    "Catch",
    "Crafting",
    "Foraging",
    "GridWorld",
    "HyperGrid",
    "KeyDoor",
    "LPGGrid-longer",
    "Matrix-PrisonersDilemma",
    "Navigation",
    "PointMaze",
    "Spread",
    "TwoStep",
]


@pytest.mark.parametrize("name", DRAWN)
def test_a_film_moves(name):
    env = envs.make(name)
    shots = frames(plot.gif(env, random(env), max_frames=5))
    assert len(shots) > 1
    assert all((a != b).any() for a, b in itertools.pairwise(shots))


def test_a_film_ends_with_the_episode():
    """Catch takes rows - 1 steps: one frame each and one for the start. The end is held."""
    film = plot.gif(envs.make("Catch", rows=6), lambda key, episode: ((), jnp.int32(1), ()), fps=10)
    image = Image.open(io.BytesIO(film.data))
    assert image.n_frames == 6
    image.seek(5)
    assert image.info["duration"] == 800


def test_a_policy_may_have_a_memory():
    def alternate(key, episode):
        return 1 - episode.rnn_state, episode.rnn_state, ()

    drawn = []
    plot.gif(
        envs.make("CartPole-v1"),
        rollout.Policy(alternate, rnn_state=jnp.int32(0)),
        draw=lambda ax, state: drawn.append(float(state.x_dot)),
        max_frames=4,
    )
    assert len(drawn) == 4


def test_in_a_film_of_a_team_each_agent_acts_on_its_own_observation():
    """The first agent selects action 1, the second action 0; the state is 1, then 2B, the end."""
    drawn = []
    plot.gif(
        envs.make("TwoStep"),
        lambda key, episode: ((), episode.obs[3].astype(jnp.int32), ()),
        draw=lambda ax, state: drawn.append(int(state)),
    )
    assert drawn == [0, 2, 3]


def test_a_film_is_saved_and_shows_itself(tmp_path):
    env = envs.make("Catch")
    film = plot.gif(env, random(env), tmp_path / "catch.gif", jax.random.key(1))
    assert film.path.read_bytes() == film.data
    assert film._repr_html_().startswith('<img src="data:image/gif;base64,R0lGOD')
    assert film.save(tmp_path / "again.gif").path.exists()


def test_an_environment_without_a_drawing_is_refused():
    for name, remedy in (
        ("RiverSwim", r"method draw\(self, ax, state\)"),
        ("SimpleBandit-bsuite", "known are|nearest are"),
    ):
        env = envs.make(name)
        with pytest.raises(ValueError, match=remedy):
            plot.gif(env, random(env))


def test_pictures_need_no_display(tmp_path):
    """In a fresh process without DISPLAY; pyplot is never imported."""
    code = (
        "import sys, jax.numpy as jnp, envs; from jaxrl import plot\n"
        "plot.gif(envs.make('Catch'), lambda key, episode: ((), jnp.int32(0), ()), "
        f"{str(tmp_path / 'film.gif')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    }
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=120,
        env=environment | {"JAX_PLATFORMS": "cpu"},
    )
    with Image.open(tmp_path / "film.gif") as film:
        assert film.is_animated


@pytest.mark.parametrize(
    ("values", "height", "shown"),
    [
        ([0.2, np.inf], [0, 1], ["0.2", "inf"]),
        (
            [np.inf, 0.1, -np.inf, 0.2, 0.1],
            [1, 1 / 3, 0, 2 / 3, 1 / 3],
            ["-inf", "0.1", "0.2", "inf"],
        ),
        ([0.1, np.nan], [0, 1], ["0.1", "nan"]),
        ([10.0, 9.0, 11.0, 12.0, np.inf], [0.25, 0, 0.5, 0.75, 1], ["9", "inf"]),
        ([1.0, 4.0, 2.0], [0, 1, 1 / 3], ["1", "2", "4"]),
    ],
)
def test_infinite_values_have_a_position_on_an_axis(values, height, shown):
    """A clip or a stop may be infinite: it stands beyond the largest number, one step of as many as
    there are values.
    """
    found, ticks = heights(np.array(values), 4)
    np.testing.assert_allclose(found, height)
    assert [text for _, text in ticks] == shown
