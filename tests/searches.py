"""Tuners, known scores, and a learner of a few numbers to search the settings of."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from jaxrl import tuning
from jaxrl.algorithms.base import Algorithm
from jaxrl.clock import Clock
from jaxrl.env import Env
from jaxrl.rollout import Policy
from jaxrl.tuning.history import History
from jaxrl.tuning.space import Space

TUNERS: dict[str, Any] = {
    "Random": tuning.Random(4),
    "Sobol": tuning.Sobol(4),
    "SuccessiveHalving": tuning.SuccessiveHalving(),
    "Hyperband": tuning.Hyperband(),
    "CurveStopping": tuning.CurveStopping(),
    "PBT": tuning.PBT(),
    "DE": tuning.DE(6),
    "DEHB": tuning.DEHB(),
    "Bayes": tuning.Bayes(4, candidates=64),
    "BOHB": tuning.BOHB(),
    "Optuna": tuning.Optuna(batch=4),
}
CUBE = Space(
    {"x": tuning.uniform(0, 1), "y": tuning.uniform(0, 1), "kind": tuning.choice(0.1, 0.7, 0.9)}
)


def bowl(setting):
    return -((setting["x"] - 0.3) ** 2) - (setting["y"] - 0.6) ** 2 - (setting["kind"] - 0.7) ** 2


def play(tuner, score=bowl, budget=20 * 9, seed=0, rows=9, space=CUBE, each=None):
    """The history of a whole search with known scores."""
    history = History(space, np.arange(rows + 1), budget, (seed,))
    while (batch := tuner.ask(history)) is not None:
        if each is not None:
            each(history, batch)
        history.check(batch)
        assert len(batch.points) > 0
        scores = np.array([score(space.setting(point)) for point in batch.points])
        history.tell(
            batch,
            {"return": np.broadcast_to(scores[:, None, None], (len(scores), 1, rows))},
            scores,
        )
    return history


@rl.pytree
class NoEnv(Env):
    action_space: Any = rl.static(default=rl.Discrete(2))
    max_steps: int = rl.static(default=1)


@rl.pytree
class State:
    params: jax.Array
    clock: Clock


@rl.pytree
class Walk(Algorithm):
    """A learner of `size` numbers: each step goes `lr` of the way to 1, with noise; its return is
    minus the squared distance.
    """

    lr: float = 0.1
    noise: float = 0.1
    unused: Any = ()
    size: int = rl.static(default=2)
    steps_per_update = 10

    def init(self, key, env, num_updates=float("inf")):
        return State(
            jax.random.normal(key, (self.size,)), Clock(jnp.int32(0), jnp.float32(num_updates))
        )

    def update(self, key, env, state):
        params = (
            state.params
            + self.lr * (1.0 - state.params)
            + self.noise * jax.random.normal(key, (self.size,))
        )
        metrics = {
            "return": -jnp.mean((params - 1.0) ** 2),
            "length": jnp.float32(1.0),
            "episodes": jnp.int32(1),
        }
        return State(params, state.clock.tick()), metrics

    def agent(self, state):
        return state.params

    def policy(self, env, agent, greedy):
        return Policy(lambda key, episode: ((), agent, ()))


TRAINING = rl.Training(Walk(), NoEnv(), steps=180, evals=9, episodes=0)
SPACE = {"lr": tuning.log(1e-3, 1.0), "noise": tuning.uniform(0.0, 0.3)}
SMALL = {"seeds": 2, "test_seeds": 3, "progress": False}


def search(tuner=TUNERS["Random"], space=SPACE, training=TRAINING, runs=8, **options):
    options = SMALL | options
    return rl.tune(training, space, tuner=tuner, budget=runs * 180 * options["seeds"], **options)
