"""The training scripts of JaxMARL's repository as functions, for `experiments.teams_speed`.

The scripts are not in JaxMARL's package: they are read from a checkout of its repository. Imported
only by a process that measures them.
"""

import importlib.util
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any

SCRIPTS = {
    "IPPO": "IPPO/ippo_ff_mpe.py",
    "MAPPO": "MAPPO/mappo_rnn_mpe.py",
    "QMIX": "QLearning/qmix_rnn.py",
}
ENV = {"ENV_NAME": "MPE_simple_spread_v3", "ENV_KWARGS": {}}
QUIET = {"WANDB_MODE": "disabled", "TEST_DURING_TRAINING": False}
# greedy episodes, as many as a point of a curve of this kit has
LOUD = {"WANDB_MODE": "offline", "TEST_DURING_TRAINING": True, "TEST_INTERVAL": 0.1}
TEST = {"TEST_NUM_STEPS": 26, "TEST_NUM_ENVS": 64}


def scripts_of(checkout: pathlib.Path | None) -> pathlib.Path:
    """The folder of the scripts in a checkout of JaxMARL's repository.

    Raises:
      SystemExit: they are not there.
    """
    folder = pathlib.Path(checkout or ".") / "baselines"
    if checkout is None or not all((folder / path).exists() for path in SCRIPTS.values()):
        raise SystemExit(
            "JaxMARL's training scripts are not in its package, and --checkout "
            f"{checkout} does not have them: git clone --depth 1 "
            'https://github.com/FLAIROx/JaxMARL, pip install "jaxmarl[algs]", and write --checkout '
            "JaxMARL (or set JAXMARL). --kits jaxrl measures this kit alone."
        )
    return folder


def train(
    checkout: str, algorithm: str, settings: dict[str, Any], loud: bool
) -> tuple[Callable[[Any], Any], list[dict[str, Any]]]:
    """A training run as a function of a raw key, and the list that its log is appended to."""
    log: list[dict[str, Any]] = []
    script = _script(scripts_of(pathlib.Path(checkout)) / SCRIPTS[algorithm], log)
    config = settings | ENV | (LOUD if loud else QUIET) | TEST
    if algorithm == "QMIX":
        return script.make_train(config, script.env_from_config(config)[0]), log
    if algorithm == "MAPPO":
        script.ScannedRNN = _feed_forward()
    return script.make_train(config), log


def _script(path: pathlib.Path, log: list[dict[str, Any]]) -> Any:
    """A script as a module. What only its command line needs is replaced: wandb by a list, hydra
    and omegaconf by nothing.
    """
    import numpy as np

    def append(row: dict[str, Any], **kwargs: Any) -> None:
        log.append({name: np.asarray(x) for name, x in row.items()})

    stubs = {
        "wandb": {"log": append},
        "hydra": {"main": lambda **_: lambda function: function},
        "omegaconf": {"OmegaConf": None},
    }
    for name, contents in stubs.items():
        stub: Any = types.ModuleType(name)
        vars(stub).update(contents)
        sys.modules[name] = stub
    spec: Any = importlib.util.spec_from_file_location(path.stem, path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def _feed_forward() -> Any:
    """A cell that passes its input on, in place of JaxMARL's GRU."""
    import flax.linen as nn
    import jax.numpy as jnp

    class FeedForward(nn.Module):
        @nn.compact
        def __call__(self, carry: Any, x: Any) -> Any:
            return carry, x[0]

        @staticmethod
        def initialize_carry(batch_size: int, hidden_size: int) -> Any:
            return jnp.zeros((batch_size, 2))  # the scripts squeeze axes of size 1

    return FeedForward
