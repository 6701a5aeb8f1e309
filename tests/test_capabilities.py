"""The table of what each algorithm supports: what is refused says so, what is supported runs, and
docs/algorithms.md has the table.
"""

import pathlib
from functools import lru_cache

import jax
import pytest

import jaxrl as rl
from experiments import which
from jaxrl import capabilities
from jaxrl.capabilities import SPACES, Probe, ProbeTeam
from jaxrl.tree import pytree

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "algorithms.md"
supports = lru_cache(lambda name: capabilities.supports(rl.PRESETS[name]))
every = pytest.mark.parametrize("name", rl.PRESETS)


def page():
    """The page's answers for each algorithm, in the order of its columns."""
    text = PAGE.read_text().split("<!-- algorithms -->")[1].split("<!-- end of algorithms -->")[0]
    lines = [line.split("|") for line in text.splitlines() if line.startswith("| `rl.")]
    return {
        cells[1].strip(" `").removeprefix("rl."): [x.strip() for x in cells[3:-1]]
        for cells in lines
    }


def initial(algo, env):
    return jax.eval_shape(lambda key: algo.init(key, env), jax.random.key(0))


def kinds(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


@every
def test_what_initialises_also_updates(name):
    """Traced with all that is supported at once: in the first space with normalisation and masks,
    in the last one with a memory, in a team with a mixer.
    """
    can = supports(name)
    scaled = {field: True for field in ("normalize_obs", "normalize_reward") if can[field]}
    spaces = [space for kind, space in SPACES.items() if can[kind]]
    assert spaces
    memory = {"memory": rl.GRU(4)} if can["memory"] else {}
    mixer = {"mixer": rl.Additive()} if can["mixer"] else {}
    for env, fields in [
        (Probe(spaces[0], masked=can["masks"]), scaled),
        (Probe(spaces[-1]), memory),
        *([(ProbeTeam(spaces[0]), mixer)] if can["teams"] else []),
    ]:
        algo = rl.PRESETS[name](**fields)
        state = initial(algo, env)
        after, metrics = jax.eval_shape(
            lambda key, state, algo=algo, env=env: algo.update(key, env, state),
            jax.random.key(0),
            state,
        )
        assert kinds(after) == kinds(state)
        assert {"return", "episodes"} <= set(metrics)


@every
def test_an_action_space_without_support_is_refused_with_advice(name):
    for kind, space in SPACES.items():
        if not supports(name)[kind]:
            with pytest.raises(TypeError, match=r"`jaxrl algorithms` lists"):
                initial(rl.PRESETS[name](), Probe(space))


def test_answers_are_found_by_trying():
    """An algorithm that refuses, one that ignores its fields, and one with a bug."""

    @pytree
    class Picky(rl.Algorithm):
        base: rl.OnPolicy = rl.ppo(num_envs=2, num_steps=4, minibatches=1)

        def init(self, key, env, num_updates=float("inf")):
            if env.action_space == SPACES["continuous"]:
                raise TypeError("no")
            return self.base.init(key, env)

        def agent(self, state):
            return self.base.agent(state)

        def policy(self, env, agent, greedy):
            return self.base.policy(env, agent, greedy)

    found = capabilities.supports(lambda memory=None, normalize_obs=False: Picky())
    assert found == {
        **{"discrete": True, "multi-discrete": True, "continuous": False, "masks": True},
        **{"memory": False, "teams": True, "mixer": False},
        **{"images": False, "normalize_obs": False, "normalize_reward": False},
    }

    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        capabilities.supports(broken)
    found = capabilities.supports(rl.ppo)
    assert [name for name, answer in found.items() if not answer] == ["mixer"]


def test_the_page_is_filled(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- algorithms -->\nold\n<!-- end of algorithms -->\nafter\n")
    which.main(which.Config(("ppo",), file, stub=None))
    assert file.read_text().startswith("before\n<!-- algorithms -->\n| ")
    assert "| `rl.ppo` | Proximal policy optimisation" in file.read_text()
    assert "old" not in file.read_text()


def test_the_page_has_the_table_that_trying_gives():
    """If not: `python -m experiments.which`."""
    answers = {name: supports(name) for name in rl.PRESETS}
    assert page() == {
        name: ["yes" if x else "-" for x in found.values()] for name, found in answers.items()
    }
