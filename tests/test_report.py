"""A report shows what the numbers say, in a real browser, whatever the folders hold."""

import json
import math
import pathlib
import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

import envs
import jaxrl as rl
from jaxrl import plot
from jaxrl.report import charts, study
from jaxrl.runs import catalogue

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on PATH: apt-get install chromium"
)


def rising(lr, gamma, seed):
    """A stand-in for a training: curves that rise to 100 gamma, noise of each seed, and every fifth
    lost in a corner.
    """
    step = jnp.arange(1, 13) * 5000
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(1), seed), step.shape)
    curve = 100 * gamma * (1 - jnp.exp(-step * lr / 50)) + 10 * noise
    return {
        "step": step,
        "return": curve,
        "diverged": (lr > 9e-3) & (gamma > 0.98) & (seed % 5 == 0),
    }


def rising_slowly(lr, seed):
    """The same without a second hyperparameter."""
    return rising(lr, 0.9, seed)


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """20 settings of 1,000 seeds."""
    folder = tmp_path_factory.mktemp("big") / "sweep"
    axes = {
        "lr": jnp.geomspace(1e-4, 1e-2, 5),
        "gamma": jnp.array([0.9, 0.95, 0.99, 0.999]),
        "seed": np.arange(1000),
    }
    rl.sweep(rising, axes, folder=folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def page(big, tmp_path_factory):
    """Its report."""
    return rl.report(big, out=tmp_path_factory.mktemp("page") / "report.html")


def browse(page, out, *flags):
    """The page as a browser has it, and what its console said."""
    words = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--enable-logging=stderr",
    ]
    words += [
        f"--user-data-dir={out / 'profile'}",
        "--window-size=1100,4000",
        *(flags or ["--dump-dom"]),
        page.as_uri(),
    ]
    done = subprocess.run([CHROMIUM, *words], capture_output=True, text=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def numbers(html):
    return json.loads(
        re.search(r'<script type="application/json" id="charts">(.*?)</script>', html, re.S)[1]
    )


# ------------------------------------------------------------------------------------- what it says


def test_a_thousand_seeds_of_twenty_settings_are_light(page):
    assert page.stat().st_size < 5_000_000


def test_its_numbers_are_the_statistics(big, page):
    html, results = page.read_text(), rl.load(big)
    curves, profile, better, shares, *_ = numbers(html)
    sound = results["return"].isel(step=-1).where(~results["diverged"], -np.inf)
    means = np.asarray(rl.stats.iqm(sound.transpose("lr", "gamma", "seed").values))
    i, j = np.unravel_index(means.argmax(), means.shape)
    best = (float(results["lr"][i]), float(results["gamma"][j]))
    assert curves["lines"][0]["label"] == f"lr={plot.number(best[0])}, gamma={best[1]:g}"
    chosen = results["return"].sel(lr=best[0], gamma=best[1])
    np.testing.assert_allclose(
        curves["lines"][0]["y"], rl.stats.iqm(chosen.transpose("step", "seed").values), rtol=1e-4
    )
    last = chosen.isel(step=-1).values
    np.testing.assert_allclose(
        profile["lines"][0]["y"],
        rl.stats.performance_profile(last, np.array(profile["x"])),
        atol=2e-3,
    )
    assert len(curves["lines"]) == 20
    assert sum("low" in line for line in curves["lines"]) == charts.MAX_BANDS
    assert len(better["rows"]) == 19
    worst = results["return"].isel(step=-1).sel(lr=1e-4, gamma=0.9, method="nearest").values
    assert better["rows"][-1]["value"] == pytest.approx(
        float(rl.stats.probability_of_improvement(last, worst)), abs=1e-4
    )
    assert {row["label"] for row in shares["rows"]} == {"lr", "gamma", "lr × gamma", "seed"}
    for text in (
        "How does the return",
        "1,000 seeds of each of 20 settings",
        "0.9, 0.95, 0.99, 0.999",
        "commit",
        "jax 0.",
    ):
        assert text in html
    assert html.count("<tr>") > 20


def test_settings_and_divergence_are_drawn_from_the_results(big, page):
    results, drawn = rl.load(big), {chart["kind"]: chart for chart in numbers(page.read_text())}
    settings, lost = drawn["parallel"], drawn["cells"]
    sound = results["return"].isel(step=-1).where(~results["diverged"], -np.inf)
    score = np.asarray(rl.stats.iqm(sound.transpose("lr", "gamma", "seed").values)).ravel()
    assert [axis["label"] for axis in settings["axes"]] == ["lr", "gamma", "return (IQM)"]
    np.testing.assert_allclose(
        [line["score"] for line in settings["lines"]], np.sort(score)[::-1], rtol=1e-4
    )
    heights = np.array([line["at"] for line in settings["lines"]])
    assert (heights.min(0).tolist(), heights.max(0).tolist()) == ([0, 0, 0], [1, 1, 1])
    assert heights[0, 2] == 1
    np.testing.assert_allclose(
        np.unique(heights[:, 0]), np.linspace(0, 1, 5), atol=1e-4
    )  # lr is logarithmic
    assert settings["axes"][1]["ticks"][0] == [0, "0.9"]
    share = [[cell["value"] for cell in row] for row in lost["cells"]]
    np.testing.assert_allclose(share, results["diverged"].mean("seed"))
    assert (lost["xlabel"], lost["ylabel"]) == ("gamma", "lr")
    assert lost["cells"][4][2]["title"] == "lr=0.01, gamma=0.99: 200 of 1,000 runs diverged"


def lost(settings, seeds=10, diverged=0.5, **labels):
    """A study that lost so many of its members."""
    names = pd.DataFrame(labels | {"x": np.geomspace(1e-4, 1, settings)})
    away = np.arange(settings * seeds).reshape(settings, seeds) % 10 < 10 * diverged
    scores = np.random.default_rng(0).normal(size=away.shape)
    return study.Study(
        pathlib.Path(),
        "",
        "return",
        {},
        xr.Dataset(),
        names,
        scores,
        None,
        away,
        np.zeros(0),
        np.arange(seeds),
    )


def test_random_settings_are_mapped_by_ranges_and_nothing_to_say_is_not_drawn():
    (made,) = charts.divergence(lost(40))
    assert len(made["x"]) == charts.NUM_BINS
    assert made["x"][0].startswith("1e-4 to ")
    assert made["y"] == [""]
    assert [cell["value"] for cell in made["cells"][0]] == [0.5] * charts.NUM_BINS
    assert (
        len(charts.divergence(lost(6, y=range(6), z=list("abcdef"), w=range(6)))) == charts.MAX_MAPS
    )
    assert charts.divergence(lost(4, diverged=0)) == []
    assert charts.parallel(lost(4)) is None
    assert len(charts.parallel(lost(4, net=["a", "b", "a", "b"]))["lines"]) == 4


def test_few_maps_of_many_hyperparameters_are_tried(monkeypatch):
    """The pairs of 300 are 44,850; the one that determines divergence is drawn."""
    tried, made = [], charts._map
    monkeypatch.setattr(charts, "_map", lambda *given: tried.append(given) or made(*given))
    settings = lost(400, **{f"x{i}": np.random.default_rng(i).permutation(400) for i in range(299)})
    settings.diverged[:] = (settings.labels["x200"] > 199).to_numpy()[:, None]
    drawn = charts.divergence(settings)
    assert len(drawn) == charts.MAX_MAPS
    assert all("x200" in (chart["xlabel"], chart["ylabel"]) for chart in drawn)
    assert len(tried) <= 300 + math.comb(charts.MAX_MAPPED, 2)


def test_diverged_members_rank_lowest_whatever_they_scored(tmp_path):
    def run(lr, seed):
        return {"return": seed + 9.0 * (lr > 1), "diverged": lr > 1}

    rl.sweep(run, {"lr": [1e30, 1e-4], "seed": np.arange(6)}, folder=tmp_path, progress=False)
    found = study.read(tmp_path, "return")
    assert found.labels["lr"].tolist() == [1e-4, 1e30]
    assert study.table(found)["IQM"].tolist() == [2.5, 11.5]
    assert charts.profile(found)["lines"][1]["y"].max() == 0.0
    assert charts.improvement(found)["rows"][0]["value"] == 1.0
    assert "seed=5, return 5" in study.films(found)[0][0]
    assert catalogue.best_setting(rl.load(tmp_path))[1] == {"lr": 1e-4}
    assert rl.runs(tmp_path)["score"][0] == 2.5


def test_settings_without_a_finished_seed_are_left_out(tmp_path):
    axes = {"lr": [1e-4, 1e-3, 1e-2], "seed": np.arange(6)}
    rl.sweep(rising_slowly, axes, folder=tmp_path / "x", chunk=6, progress=False)
    (tmp_path / "x" / "results.nc").unlink()
    (tmp_path / "x" / "members" / "00000006-00000012.npz").unlink()
    found = study.read(tmp_path / "x", "return")
    assert sorted(found.labels["lr"]) == [1e-4, 1e-2]
    html = rl.report(tmp_path / "x", out=tmp_path / "x.html", films=False).read_text()
    assert "1 of 3 settings have no finished seed and are left out here" in html
    assert "18, of which 12 have a final return" in html
    lines = [line["label"] for chart in numbers(html) for line in chart.get("lines", [])]
    assert not any("1e-3" in label for label in lines)


def test_its_intervals_are_those_of_the_command_line(tmp_path):
    axes = {"lr": [1e-4, 1e-2], "seed": np.arange(6)}
    results = rl.sweep(rising_slowly, axes, folder=tmp_path, progress=False)
    mine = study.table(study.read(tmp_path, "return")).set_index("lr")
    theirs = rl.stats.table(results)
    listed = rl.runs(tmp_path).iloc[0]
    for lr in results["lr"].values:
        assert tuple(mine.loc[lr, ["low", "high"]]) == tuple(theirs.loc[lr, ["low", "high"]])
    assert (listed["low"], listed["high"]) == tuple(mine.iloc[0][["low", "high"]])


def test_too_few_seeds_have_no_interval():
    four = lost(4, seeds=4)
    assert {four.interval_note, *study.table(four)["low"]} == {"too few seeds for an interval (4)"}
    assert {
        (row["low"], row["high"]) for row in charts.to_json(charts.improvement(four))["rows"]
    } == {(None, None)}
    five = lost(4, seeds=5)
    assert five.interval_note == ""
    five.scores[1, 0] = np.nan
    assert five.interval_note == "1 of 4 settings have too few seeds for an interval (4)"
    lows = study.table(five)["low"].tolist()
    assert [isinstance(low, str) for low in lows] == [False, True, False, False]
    assert ["low" in line for line in charts.profile(five)["lines"]] == [True, False, True, True]
    assert [row["low"] is None for row in charts.to_json(charts.improvement(five))["rows"]] == [
        True,
        False,
        False,
    ]


def test_several_studies_are_compared_or_it_says_why_not(tmp_path):
    zoo = "experiments/results/zoo/"
    files = [
        zoo + name
        for name in ("dqn-CartPole-v1.json", "a2c-CartPole-v1.json", "dqn-Acrobot-v1.json")
    ]
    html = rl.report(*files, out=tmp_path / "zoo.html", name="evaluation", films=False).read_text()
    assert html.count("Not compared, as that would be misleading") == 2
    assert "probability that a seed of the first has the higher score" in html
    assert "environment: source" in html
    assert html.count("<section>") == 4


def test_films_of_the_best_and_the_median(tmp_path):
    training = rl.Training(
        rl.reinforce(num_envs=2, num_steps=9, network=rl.MLP((8,))),
        envs.make("Catch", rows=4),
        36,
        evals=1,
        episodes=0,
    )
    rl.sweep(training, {"seed": np.arange(3)}, folder=tmp_path / "x", progress=False)
    html = rl.report(tmp_path / "x", out=tmp_path / "x.html").read_text()
    assert html.count("data:image/gif;base64,R0lGOD") == 2
    ranked = np.sort(rl.load(tmp_path / "x")["return"].isel(step=-1).values)
    assert f"return {ranked[-1]:.4g}" in html
    assert f"return {ranked[1]:.4g}" in html
    assert "What return does" in html
    assert (
        html.count("too few seeds for an interval (3)") == 1 + 2 * 2
    )  # the table, two charts and their numbers
    assert not any("low" in line for chart in numbers(html) for line in chart["lines"])
    shutil.rmtree(tmp_path / "x" / "members")
    shown = study.films(study.read(tmp_path / "x", "return"))
    assert ["has not finished" in reason for _, _, reason in shown] == [True, True]


def test_mistakes_say_what_to_write(big, tmp_path):
    with pytest.raises(ValueError, match="needs a folder"):
        rl.report()
    with pytest.raises(FileNotFoundError, match="holds no sweep"):
        rl.report(tmp_path)
    with pytest.raises(ValueError, match="no variable 'score'"):
        rl.report(big, name="score")


# ---------------------------------------------------------------------------------------- a browser


def test_the_page_is_self_contained(page):
    html = page.read_text()
    assert set(re.findall(r"https?://[^\"' <)]*", html)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|iframe|object|embed)|src=\"(?!data:)|@import|url\(", html)
    assert "default-src 'none'" in html


@browser
def test_a_browser_shows_it_without_a_complaint(page, tmp_path):
    dom, console = browse(page, tmp_path)
    assert console == []
    assert dom.count('class="line"') == 20 * 3 + 2
    assert dom.count('class="cell"') == 20
    assert dom.count("<svg") > 5
    browse(page, tmp_path, f"--screenshot={tmp_path / 'page.png'}")
    with Image.open(tmp_path / "page.png") as shot:
        assert 0.02 < (np.asarray(shot.convert("L")) < 200).mean() < 0.5
    browse(page, tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}")
    assert (tmp_path / "page.pdf").read_bytes()[:4] == b"%PDF"


TRIED = """
const click = (n) => document.querySelectorAll(".sorts button")[n].click();
const body = document.querySelector(".sorts").tBodies[0];
const first = () => [...body.rows].map((row) => row.cells[2].dataset.value);
const shown = {};
click(2); shown.down = first(); click(2); shown.up = first();
const figure = document.querySelector("[data-chart]");
const box = figure.querySelector("svg").getBoundingClientRect();
const move = { clientX: box.left + box.width * 0.9, clientY: box.top + 40, bubbles: true };
figure.querySelector("svg").dispatchEvent(new MouseEvent("mousemove", move));
shown.tip = figure.querySelector(".tip.shown").textContent;
shown.dim = figure.querySelectorAll(".dim").length;
figure.querySelector("svg").dispatchEvent(new MouseEvent("mouseleave"));
shown.left = figure.querySelectorAll(".dim, .tip.shown").length;
const lines = document.querySelector(".axis").closest("figure");
const place = lines.querySelector("svg").getBoundingClientRect();
const end = { clientX: place.right - place.width * 0.13, clientY: place.top + 14, bubbles: true };
lines.querySelector("svg").dispatchEvent(new MouseEvent("mousemove", end));
shown.setting = lines.querySelector(".tip.shown").textContent;
shown.dims = lines.querySelectorAll(".dim").length;
document.title = JSON.stringify(shown);
"""


@browser
def test_tables_sort_and_curves_are_hovered(page, tmp_path):
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    tried = tmp_path / "tried.html"
    tried.write_text(html.replace("</body>", f"<script>{TRIED}</script></body>"))
    dom, console = browse(tried, tmp_path)
    assert console == []
    shown = json.loads(re.search(r"<title>(.*?)</title>", dom)[1].replace("&amp;", "&"))
    values = [float(x) for x in shown["down"]]
    assert len(values) == 20
    assert values == sorted(values, reverse=True)
    assert shown["up"] == shown["down"][::-1]
    assert re.match(r"environment steps \d+k?lr=.*gamma=.*: \d+.*\[.*\]", shown["tip"])
    assert "more" in shown["tip"]
    assert (shown["dim"], shown["left"]) == (19, 0)
    assert re.match(r"return [\d.]+lr=3.16e-3, gamma=0.999", shown["setting"])
    assert shown["dims"] == 19


EVIL = (
    "</script><script>document.title='owned'</script><img src=x "
    "onerror=\"document.title='owned'\">&lt;"
)


@browser
def test_hostile_names_are_shown_and_never_run(page, tmp_path):
    record = json.loads(pathlib.Path("experiments/results/zoo/dqn-CartPole-v1.json").read_text())
    seeds = len(record["seed"])
    curves = np.array(record["curves"]["return"]["values"]) + np.arange(4).reshape(2, 2, 1, 1)
    lost = np.broadcast_to(
        np.arange(seeds)[:, None] < np.arange(4).reshape(2, 2, 1, 1), curves.shape
    )
    record |= {
        "algorithm": EVIL,
        "commit": EVIL,
        "labels": {
            f"axis {EVIL}": [EVIL, "tame"],
            f"other {EVIL}": ["1", EVIL],
            "seed": list(range(seeds)),
        },
        "axes": {},
        "curves": {
            "return": {"dtype": "float32", "values": curves.tolist()},
            "diverged": {"dtype": "bool", "values": lost.tolist()},
        },
    }
    record["run"]["env"]["source"] = [EVIL]
    record["versions"][EVIL] = EVIL
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(record))
    made = rl.report(folder / "record.json", out=tmp_path / "evil.html")
    dom, console = browse(made, tmp_path)
    assert console == []
    assert "<title>owned" not in dom
    assert len(re.findall("<script", dom)) == 2
    assert not re.search("<img[^>]*onerror", dom)
    assert "document.title='owned'" in dom  # as text
    drawn = {chart["kind"]: chart for chart in numbers(made.read_text())}
    assert EVIL in drawn["parallel"]["axes"][1]["label"]
    assert drawn["cells"]["cells"][0][0]["title"].count(EVIL) >= 2
    assert [dom.count(f'class="{kind}"') for kind in ("line", "axis", "cell")] == [
        4 + 4 + 2 + 4,
        3,
        4,
    ]
    added = tmp_path / "added.html"  # a script that got in all the same would not run
    added.write_text(
        page.read_text().replace("</body>", "<script>document.title='owned'</script></body>")
    )
    dom, console = browse(added, tmp_path)
    assert "<title>owned" not in dom
    assert any("Content Security Policy" in line for line in console)
