"""The command line, run as a user runs it."""

import ast
import dataclasses
import inspect
import pathlib
import re
import subprocess
import sys
import typing

import pytest

import jaxrl as rl
from jaxrl.cli import arguments, main, studies, words

PPO = ["train", "ppo", "CartPole-v1"]

SMALL = [
    "--num-envs",
    "2",
    "--num-steps",
    "8",
    "--minibatches",
    "2",
    "--epochs",
    "1",
    "--hidden",
    "8",
    "--evals",
    "2",
]


def in_a_process(*words, ok=True):
    """What `python -m jaxrl.cli` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "jaxrl.cli", *words], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def jaxrl(in_process, capfd):
    """The command line in this process: `jaxrl(*words)` is what it prints."""

    def run(*words, ok=True):
        status = 0
        try:
            main(list(words))
        except SystemExit as stop:
            status = stop.code
            print(status if isinstance(status, str) else "")
        shown = "".join(capfd.readouterr())
        assert (status in (0, None)) == ok, shown
        return shown

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "h100"], "--target h100 is for a plan, and nothing is trained there"),
        (["--plan", "--target", "h10"], "unknown target 'h10'; the nearest"),
    ],
)
def test_a_target_is_for_a_plan(jaxrl, words, said):
    shown = jaxrl(*PPO, *words, ok=False)
    assert said in shown
    assert "Traceback" not in shown


def test_train_then_plot(tmp_path, jaxrl):
    folder = str(tmp_path / "x")
    words = [
        "train",
        "ppo",
        "CartPole-v1",
        "--seeds",
        "4",
        "--lr",
        "3e-4",
        "1e-3",
        "--steps",
        "640",
        "--folder",
        folder,
        "--gif",
    ]
    shown = jaxrl(*words, *SMALL)
    assert "8/8 runs" in shown
    assert "iqm" in shown
    assert "0.0003" in shown
    kept = {path.name for path in (tmp_path / "x").iterdir()}
    assert {"best.gif", "curve.png", "members", "results.nc", "sweep.json"} <= kept
    results = rl.load(folder)
    assert results["return"].sizes == {"lr": 2, "seed": 4, "step": 2}
    (tmp_path / "x" / "curve.png").unlink()
    assert "drew" in jaxrl("plot", folder, "--by", "lr")
    assert "drew" in jaxrl("plot", folder, "--where", "lr=1e-3")
    for wrong, message in {
        ("--by", "seed"): "--by seed is not an axis with a line for each value; known are lr",
        ("--by", "gamma"): "--by gamma is not an axis",
        ("--name", "retrun"): "--name retrun: there is no such curve; the nearest are return",
        ("--where", "lr=1"): "lr=1 was not swept; its values are",
    }.items():
        assert message in jaxrl("plot", folder, *wrong, ok=False)
    assert (tmp_path / "x" / "curve.png").read_bytes()[1:4] == b"PNG"
    refused = jaxrl(*[word.replace("3e-4", "1e-2") for word in words], *SMALL, ok=False)
    assert "axes.lr" in refused
    assert "Traceback" not in refused


TUNE = [
    "tune",
    "ppo",
    "Catch",
    "--steps",
    "64",
    "--seeds",
    "2",
    "--test-seeds",
    "2",
    "--budget",
    "512",
]


def test_tune(tmp_path, jaxrl):
    ranges = ["lr=log:1e-4:1e-2", "gamma=uniform:0.9:0.999", "epoch_limit=integer:1:2"]
    words = [*TUNE, *SMALL, "--episodes", "0", "--folder", str(tmp_path / "x"), "--search", *ranges]
    shown = jaxrl(*words)
    assert "best of 4 settings: lr=" in shown  # 512 steps of tuning: 2 seeds of 64 steps each
    assert "on 2 test seeds" in shown
    assert "too few seeds for an interval (2)" in shown
    assert "low" not in shown
    assert "results_000.nc" in shown
    assert "tuner" in jaxrl(*words, "--tuner", "sobol", ok=False)  # the folder is of another search


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is nothing to tune"),
        (["--search", "lr=log:1e-5"], "lr=log:1e-5:1e-2"),
        (["--search", "lr=log:a:b"], "is not a range"),
        (["--search", "lr=around:1:2"], "uniform, log or integer"),
        (["--search", "lr=log:0:1"], "no logarithm"),
        (["--search", "lr=log:1e-5:1e-2", "lr=uniform:0:1"], "names a field twice"),
        (["--search", "lr=log:1e-5:1e-2", "--gamma", "0.9", "0.99"], "write a range of it as"),
        (["--search", "memory=choice:0:8"], "memory=0 is not a recurrent cell"),
        (["--search", "num_envs=choice:2:5"], "This is at num_envs=5"),
    ],
)
def test_an_invalid_search_is_refused(words, message, monkeypatch):
    monkeypatch.setattr(rl, "use_all_cores", lambda **_: None)  # jax runs already, here
    with pytest.raises(SystemExit) as stop:
        main([*TUNE, *SMALL, *words])
    assert message in str(stop.value)


def test_every_tuner_and_range_has_a_word():
    hints = typing.get_type_hints(arguments.Search)
    assert set(typing.get_args(hints["tuner"])) == set(arguments.TUNERS)
    texts = (
        "lr=log:1e-5:1e-2",
        "lr_end=uniform:0.1:1",
        "epochs=integer:1:3",
        "num_envs=choice:4:8",
    )
    asked = arguments.options("ppo", rl.ppo, arguments.Search)(
        env="Catch", search=texts, seeds=2, steps=8192, evals=2
    )
    training, space, budget = arguments.search_of(asked, rl.ppo)
    assert space == {
        "lr": rl.tuning.log(1e-5, 1e-2),
        "schedule.end": rl.tuning.uniform(0.1, 1.0),
        "epochs": rl.tuning.integer(1, 3),
        "num_envs": rl.tuning.choice(4, 8),
    }
    assert budget == 32 * 2 * (training.clocks["step"][-1] + training.clocks["eval_step"][-1])


def test_environments_are_listed():
    assert {"CartPole-v1", "Catch", "brax:ant"} <= set(in_a_process("envs").split())


@pytest.mark.rotate  # test_abilities.py has its table
def test_algorithms_are_listed(jaxrl):
    assert "Proximal policy optimisation" in jaxrl("algorithms")


def is_number(value):
    return isinstance(value, bool | int | float)


def test_every_hyperparameter_is_reachable():
    """The algorithm's own numbers and its maker's are options; what else its parts hold, `--also`
    finds by its path.
    """
    for name, maker in rl.PRESETS.items():
        fields, made = arguments.options(name, maker).__dataclass_fields__, maker()
        defaults = {k: p.default for k, p in inspect.signature(maker).parameters.items()}
        for options in (vars(made), defaults):
            assert {k for k, v in options.items() if is_number(v)} <= set(fields), name
        part = next(part for part in ("rule", "learner") if hasattr(made, part))
        held = {k for k, v in vars(getattr(made, part)).items() if is_number(v)} - set(fields)
        assert all(rl.tree.find(made, f"{part}.{k}") == f"{part}.{k}" for k in held), name


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["train", "ppo", "CartPole-v2"], "CartPole-v1"),
        (["train", "pppo", "CartPole-v1"], "ppo"),
        (["train", "ppo", "CartPole-v1", "--minibatches", "3"], "does not divide"),
        (["train", "ppo", "CartPole-v1", "--env-params", "gravty=3"], "gravity"),
        (["train", "ppo", "CartPole-v1", "--steps", "100"], "evals"),
        (["train", "sac", "CartPole-v1", "--steps", "100"], "sac takes actions of Box"),
        (["plot", "nowhere"], "holds no sweep"),
        ([*PPO, "--hidden", "0"], "--hidden 0 of MLP is not the widths of layers"),
        ([*PPO, "--memory", "-5"], "--memory -5: write the size of the cell, or 0"),
        ([*PPO, "--eval-share", "nan"], "--eval-share nan of ppo is not a number in [0, inf)"),
        ([*PPO, "--stop-after", "nan"], "--stop-after nan: write 0 or more"),
        ([*PPO, "--save-seconds", "nan"], "--save-seconds nan: write 0"),
        ([*PPO, "--episodes", "-1"], "--episodes -1 of ppo is not a whole number >= 0"),
        ([*PPO, "--num-envs", "0"], "--num-envs 0 of ppo is not a positive whole number"),
        ([*PPO, "--chunk", "0"], "--chunk 0 is not a positive whole number"),
        ([*PPO, "--memory-limit", "4XB"], "as in --memory-limit 4e9, or --memory-limit 4GB"),
        ([*PPO, "--seeds", "99999999999"], "--seeds 99999999999 --first-seed 0: write at least"),
        ([*PPO, "--steps", "1e2"], "--steps 100 gives 0 updates"),
        ([*PPO, "--steps", "1e2.5"], "is not a whole number"),
        ([*PPO, "--also", "gamma"], "--also gamma is not name=value"),
        ([*PPO, "--also", "gamma=0.9,"], "--also gamma=0.9, is not name=value"),
        ([*PPO, "--also", "gamma=a,b"], "--also gamma=a of ppo is not a number in [0, 1]"),
        ([*PPO, "--also", "lr=1e-3,1e-3"], "--also lr has 0.001 2 times: equal values are one"),
        ([*PPO, "--also", "lr=1e-3,x"], "--also lr=x is not a number: an axis has numbers."),
        ([*PPO, "--also", "lr=1e-3,-1"], "--also lr takes the value -1, and lr is a number in"),
        ([*PPO, "--lr", "1e-3", "1e-3"], "--lr has 0.001 2 times: equal values are one run"),
        ([*PPO, "--num-envs", "8", "8"], "--num-envs has 8 twice; write it once."),
        (
            [*PPO, "--env-params", "max_steps=100,-200"],
            "--env-params max_steps=-200 of CartPole-v1 is not a positive whole number: write "
            "--env-params max_steps=1 or more.",
        ),
        (
            ["train", "ppo", "RiverSwim", "--env-params", "max_steps=9.5"],
            "--env-params max_steps=9.5 of RiverSwim is not a positive whole number",
        ),
        (
            [*PPO, "--num-envs", "4", "8", "--also", "num_envs=2,4"],
            "--also both set num_envs: write",
        ),
        ([*PPO, "--lr", "1e-2", "--also", "lr=1e-3"], "--lr and --also both set lr: write one"),
        ([*PPO, "--env-params", "gravity=5", "gravity=6"], "--env-params names gravity twice"),
        ([*PPO, "--distributed"], "--distributed finds no other processes of this job"),
        (["train", "dqn", "Pendulum-v1"], "dqn takes actions of Discrete, but Pendulum-v1 has"),
        (["train", "ppo", "DeepSea-bsuite", "--env-params", "size=4,8"], "takes one value"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(typed, message, jaxrl):
    shown = (in_a_process if "100" in typed else jaxrl)(*typed, ok=False)
    assert message in " ".join(shown.split())
    python = ("Traceback", "rl.", ".results", " params=", "FromGymnax", "axis '")
    assert not [word for word in (*python, "compiling") if word in shown]


def test_a_device_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    shown = in_a_process("train", "ppo", "CartPole-v1", ok=False)
    assert "JAX_PLATFORMS=cuda asks for a device that jax does not find here" in shown
    assert "Traceback" not in shown


FLAGS = {"allow", "folder", "chunk", "keep_best", "hidden", "seed"}


@pytest.mark.parametrize(
    ("message", "spoken"),
    [
        ("allow them: allow=('seeds',).", "allow them: --allow seeds."),
        ("one of each, for example lr=1.", "one of each, for example lr=1."),
        (
            ": select one of each, for example lr=1.",
            ": select one of each, for example --where lr=1.",
        ),
        ("allow=('seeds', 'budget')", "--allow seeds budget"),
        ("write another folder=.", "write another --folder."),
        ("keep_best=True needs evaluations", "--keep-best needs evaluations"),
        ("keep_best=False there", "--no-keep-best there"),
        ("hidden=(0, 8) of MLP", "--hidden 0 8 of a2c"),
        ("minibatches=3 of ppo.chunk=4", "minibatches=3 of ppo.chunk=4"),
        ("0 of 4 runs have finished and are kept as this exception's .results.", ""),
        (
            "2 of 4 runs have finished and are kept as this exception's .results.",
            "2 of 4 runs had finished, and are lost: --folder FOLDER saves them.",
        ),
    ],
)
def test_errors_are_in_the_words_of_the_command_line(message, spoken):
    assert words.spoken(message, FLAGS, {"MLP": "a2c"}) == spoken


def texts(path):
    """The texts in a file of code, each with 0 for every value in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(x.value if isinstance(x, ast.Constant) else "0" for x in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_rewording_is_of_an_error_that_exists():
    folder = pathlib.Path(rl.__file__).parent
    paths = [path for path in folder.glob("**/*.py") if "cli" not in path.parts]
    paths += (folder.parent / "envs").glob("*.py")
    known = "\n".join(text for path in paths for text in texts(path))
    patterns = [pattern for pattern, _ in words.REWORDED if "exception" not in pattern]
    assert not [pattern for pattern in patterns if not re.search(pattern, known)]


def test_labels_are_not_options():
    commands = {"play": studies.plot}
    assert words.flags_of(commands, ["play", "x", "--where", "by=3"]) == {
        *("folder", "name", "where", "follow", "every")
    }
    assert words.flags_of(commands, ["other"]) == set()


@pytest.mark.parametrize(
    ("text", "number"), [("1e6", 10**6), ("1_000", 1000), ("-5", -5), ("2.5e3", 2500), ("12", 12)]
)
def test_whole_numbers_are_written_with_an_exponent_too(text, number):
    assert words.whole_number(text) == number


@pytest.mark.parametrize("text", ["1.5", "nan", "inf", "1e30", "", "ten", "1e-3"])
def test_what_is_not_a_whole_number(text):
    with pytest.raises(ValueError, match="is not a whole number"):
        words.whole_number(text)


def test_the_version_is_printed_by_the_module_too():
    command = [sys.executable, "-m", "jaxrl", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout == f"jaxrl {rl.__version__}\n"


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch, jaxrl):
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = jaxrl("plot", "~/nowhere", ok=False)
    assert f"{tmp_path}/nowhere holds no sweep: it does not exist" in shown
    assert f"{tmp_path}/x exists" not in jaxrl("export", "~/x", "--out=~/y", ok=False)


def test_several_values_of_what_shapes_the_program_are_static_axes():
    """By --also and --env-params, as by an option of its own; each compiles its own program."""
    asked = arguments.options("ppo", rl.ppo)(
        env="CartPole-v1",
        env_params=("max_steps=100,200", "gravity=5,10"),
        also=("num_envs=4,8", "gamma=0.9,0.99"),
        epochs=(1, 2),
    )
    training, axes = arguments.training_of(asked, rl.ppo)
    assert set(axes) == {"gravity", "algo.rule.gamma", "seed"}
    assert arguments.static_axes_of(asked, rl.ppo, training) == {
        "epochs": (1, 2),
        "max_steps": (100, 200),
        "algo.num_envs": (4, 8),
    }


def test_environment_parameters_are_axes():
    asked = arguments.options("ppo", rl.ppo)(
        env="CartPole-v1", env_params=("gravity=5,10", "max_steps=20"), lr=(1e-3, 1e-2), seeds=3
    )
    training, axes = arguments.training_of(asked, rl.ppo)
    assert training.env.max_steps == 20
    assert {name: len(values) for name, values in axes.items()} == {
        "lr": 2,
        "gravity": 2,
        "seed": 3,
    }


def test_any_field_is_reached_by_its_name():
    asked = arguments.options("ppo", rl.ppo)(
        env="CartPole-v1", also=("optimizer.options.eps=1e-8,1e-3", "masscart=2.0"), seeds=2
    )
    training, axes = arguments.training_of(asked, rl.ppo)
    assert training.algo.optimizer.options["eps"] == 1e-8
    assert training.env.params.masscart == 2.0
    assert axes["algo.optimizer.options.eps"].tolist() == pytest.approx([1e-8, 1e-3])
    assert arguments.num_members(asked) == 4
    with pytest.raises(ValueError, match="optimizer"):
        arguments.training_of(
            arguments.options("ppo", rl.ppo)(env="CartPole-v1", also=("optimiser.eps=1",)), rl.ppo
        )


def test_network_options():
    asked = arguments.options("ppo", rl.ppo)(
        env="CartPole-v1", layer_norm=True, shared=True, eval_share=0.5
    )
    training, _ = arguments.training_of(asked, rl.ppo)
    assert (
        training.algo.network.layer_norm,
        training.algo.network.shared,
        training.eval_share,
    ) == (True, True, 0.5)


def test_defaults_are_those_of_the_preset():
    """Without options the training has the preset's value, and each of its floats is an axis by its
    name, or by more of its path where the environment has a field of that name.
    """
    for name, preset in rl.PRESETS.items():
        discrete = rl.Discrete in getattr(preset(), "learner", rl.dqn().learner).action_spaces
        env = "CartPole-v1" if discrete else "Pendulum-v1"
        training, axes = arguments.training_of(arguments.options(name, preset)(env=env), preset)
        assert training.algo == preset(), name
        assert list(axes) == ["seed"], name
        for key, default in preset.fields().items():
            if isinstance(default, float):
                axis = arguments.axis_name(training, preset, key)
                path = rl.tree.find(training, axis)
                assert path.startswith("algo."), (name, key)
                assert rl.tree.get(training, path) == default, (name, key)


def test_network_options_keep_other_fields():
    asked = arguments.options("pqn", rl.pqn)(env="CartPole-v1", hidden=(8,))
    training, _ = arguments.training_of(asked, rl.pqn)
    assert training.algo.network == dataclasses.replace(rl.pqn().network, hidden=(8,))
    training, _ = arguments.training_of(
        arguments.options("dqn", rl.dqn)(env="CartPole-v1", activation="tanh"), rl.dqn
    )
    assert training.algo.learner.network.activation is arguments.ACTIVATIONS["tanh"]


def test_a_memory_for_one_that_has_none_is_refused():
    asked = arguments.options("stream_q", rl.stream_q)(env="CartPole-v1", memory=8)
    with pytest.raises(TypeError, match="no field 'memory'"):
        arguments.training_of(asked, rl.stream_q)


@pytest.mark.parametrize(
    ("name", "given", "path", "value"),
    [
        ("ppo", dict(lr_end=(0.5,)), "schedule.end", 0.5),
        ("redq", dict(policy_delay=(2.0,)), "learner.policy_delay", 2.0),
        ("rainbow", dict(prioritized=False), "priority", rl.Uniform()),
        ("munchausen_dqn", dict(prioritized=True), "priority", rl.Prioritized()),
    ],
)
def test_an_option_changes_its_field_and_the_defaults_of_others_do_not_undo_it(
    name, given, path, value
):
    preset = rl.PRESETS[name]
    args = arguments.options(name, preset)(env="CartPole-v1", **given)
    training, _ = arguments.training_of(args, preset)
    assert rl.tree.get(training.algo, path) == value


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["train", "ppo", "CartPole-v1", "--bogus", "3"], "Unrecognized options: --bogus"),
        (["tune", "ppoo", "CartPole-v1"], "Unrecognized options: ppoo"),
        (["plot", "runs/x", "--bogus", "3"], "Unrecognized options: --bogus"),
        (["train", "ppo", "CartPole-v1", "--learning-rate", "1"], "here it is --lr."),
        (["train", "dqn", "CartPole-v1", "--buffer_size=9"], "no --buffer_size; here it is --cap"),
    ],
)
def test_an_unknown_option_is_named(words, answer, jaxrl):
    assert answer in jaxrl(*words, ok=False)
