"""AReaL (Fu et al., 2025): PPO on actions of a policy that is several updates old.

The decoupled objective clips the ratio to the policy before the update, and weights by that one's
probability over that of the policy that acted; the naive one clips the ratio to the latter.
"""

import numpy as np

import jaxrl as rl
from experiments.claims import Arm, Check, Claim, ratio
from jaxrl.envs import make

LAGS = (0, 1, 4, 16)
STEPS, EVALS = 40_960, 8
PPO = rl.ppo(num_envs=8, num_steps=32, network=rl.MLP((64, 64)), lr=1e-3)


def arm(lag: int, scale: float) -> Arm:
    updates = max(int(STEPS / PPO.steps_per_update * scale), EVALS)
    steps = updates * PPO.steps_per_update
    algo = rl.Stale(PPO, lag=lag)
    return Arm(rl.Training(algo, make("CartPole-v1"), steps, evals=EVALS, episodes=0))


def curve(results, lag: int, decoupled: bool) -> np.ndarray:
    """The mean return of training over the second half of the run. [seeds]."""
    found = results[f"lag {lag}"]["return"].sel(decoupled=decoupled)
    found = found.transpose("seed", "step").values
    return found[:, found.shape[1] // 2 :].mean(1)


def kept(lag: int, decoupled: bool, accept: str) -> Check:
    """The return as a share of that without a lag."""

    def measure(results):
        return ratio(curve(results, lag, decoupled), curve(results, 0, decoupled))

    kind = "decoupled" if decoupled else "naive"
    return Check(f"return at lag {lag} / at lag 0, {kind}", measure, accept)


def claims(scale: float = 1.0) -> list[Claim]:
    def better(lag):
        return Check(
            f"return at lag {lag}, decoupled less naive",
            lambda r: rl.stats.difference(curve(r, lag, True), curve(r, lag, False)),
            "> 0",
        )

    return [
        Claim(
            row=160,
            statement="On CartPole, PPO that acts with parameters of up to four updates ago keeps "
            "95 % of its return with the decoupled objective, and not with the naive one, which "
            "at 16 updates ago has a lower return too.",
            changed="After a trial: fewer steps.",
            arms={f"lag {lag}": arm(lag, scale) for lag in LAGS},
            accept=[
                kept(4, True, ">= 0.95"),
                kept(1, True, ">= 0.95"),
                kept(4, False, "< 0.95"),
                better(4),
                better(16),
            ],
            worlds=("CartPole-v1",),
            axes={"decoupled": [True, False]},
            metric="return",
            unmatched="The lag is the same throughout, and the time that asynchrony saves is not "
            "measured; the task is CartPole in place of Breakout-MinAtar.",
        )
    ]
