"""What the README shows runs as it is printed, with its sizes shrunk."""

import pathlib
import re

import matplotlib.figure

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 6
    names: dict = {}
    for i, block in enumerate(blocks):
        text = block.replace("steps=200_000", "steps=5_120").replace("steps=20_000", "steps=5_120")
        text = text.replace("jnp.arange(32)", "jnp.arange(2)").replace(
            "jax.random.key(0), 100", "jax.random.key(0), 2"
        )
        text = text.replace("steps=60, evals=6", "steps=1, evals=1").replace(
            "sigma=0.1)", "sigma=0.1, population=2)"
        )
        text = text.replace("jnp.arange(5)", "jnp.arange(2)").replace(
            "jnp.arange(200)", "jnp.arange(30)"
        )
        text = text.replace("budget=2_560_000", "budget=24_000").replace(
            "seeds=8", "seeds=2, test_seeds=2"
        )
        assert text != block
        if i == 0:
            text = text.replace("rl.plot.curve", "figure = rl.plot.curve")
        exec(text, names)
    assert isinstance(names["figure"], matplotlib.figure.Figure)
    assert (tmp_path / "runs" / "lr_gamma" / "results.nc").exists()
    assert names["tuned"].spent <= 24_000
    assert names["found"]["best_evaluation"].sizes == {"seed": 2}
    assert names["results"]["return"].dims == ("price", "seed", "step")


def test_both_commands_are_on_the_first_screen():
    first = README.splitlines()[:25]
    assert any(line.startswith("make demo") for line in first)
    assert any(line.startswith("make test") for line in first)
