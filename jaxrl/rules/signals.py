"""Several reward signals, each with a value head and a discount of its own, such as intrinsic
rewards and costs in addition to the environment's rewards.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import losses, tree
from jaxrl.clock import Clock, Metrics
from jaxrl.errors import check_switch
from jaxrl.rollout import Transition, Values
from jaxrl.rules.base import Out, RuleState
from jaxrl.rules.surrogate import Surrogate, SurrogateTargets
from jaxrl.tree import leaf, pytree, static


@pytree
class Signal:
    """Settings for learning from a channel of transitions, such as a bonus or a cost.

    gamma, lam: of its advantage estimates. weight: of its advantage in the sum, in which that of
    the reward has weight 1. episodic: False continues its return across the end of an episode, as
    recommended for novelty bonuses, which a new episode does not restore (Burda et al., 2019,
    section 2.3).
    """

    gamma: float = leaf(0.99, "[0, 1]")
    lam: float = leaf(0.95, "[0, 1]")
    weight: float = leaf(0.5, "(-inf, inf)")
    episodic: bool = static(default=True)

    def __post_init__(self) -> None:
        check_switch("episodic", self.episodic)


@pytree
class RewardSignals(Surrogate):
    """`Surrogate` with a weighted sum of advantages, of the reward and of each of `signals`, before
    any normalisation (Burda et al., 2019, section 2.3).

    signals: {channel: Signal}. A channel is one of `Env.channels`, or is added by a reward model,
    such as `rl.exploration.RND(channel="bonus")`. The value head of a signal is "value_NAME".

    The setting of the RND paper is
    `rl.RewardSignals(gamma=0.999, signals={"bonus": rl.Signal(episodic=False)})`: its weights of 2
    and 1 are proportional to 1 and 0.5, and advantage normalisation removes the factor.
    """

    signals: dict[str, Signal] = dataclasses.field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.signals, dict) or not all(
            isinstance(signal, Signal) for signal in self.signals.values()
        ):
            raise TypeError(
                f"RewardSignals.signals is {{channel: rl.Signal()}}, and got {self.signals!r}: "
                'write signals={"bonus": rl.Signal(episodic=False)}.'
            )

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(sorted(self.signals))

    @property
    def heads(self) -> dict[str, int]:
        return super().heads | {f"value_{name}": 1 for name in self.channels}

    def targets(
        self, rule_state: RuleState, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[RuleState, SurrogateTargets]:
        rule_state, targets = super().targets(rule_state, out, next_out, batch, clock)
        advantage, signals = targets.advantage, {}
        for name in self.channels:
            signal = self.signals[name]
            found = self.signal_values(name, out, next_out, batch)
            base = jnp.where(self.baseline, found.value, 0.0)
            signals[name] = {"value": found.value, "value_target": found.advantage + base}
            advantage += signal.weight * found.advantage
        return rule_state, tree.replace(targets, advantage=advantage, signals=signals)

    def signal_values(self, name: str, out: Out, next_out: Out, batch: Transition) -> Values:
        """The values and advantages of a signal. [T, B].

        Raises:
          ValueError: the transitions have no such channel.
        """
        if name not in batch.info:
            known = ", ".join(batch.info) or "none"
            raise ValueError(
                f"RewardSignals learns from the channel {name!r}, and transitions have {known}: "
                f"name it in the environment's `channels`, or write channel={name!r} in the reward "
                "model around the algorithm, as in rl.exploration.RND."
            )
        signal, head = self.signals[name], f"value_{name}"
        value, next_value = out[head], next_out[head]
        batch = tree.replace(batch, reward=batch.info[name])
        if not signal.episodic:
            # what follows the end of an episode is the first observation of the next one
            after = jnp.concatenate([value[1:], next_value[-1:]])
            next_value = jnp.where(batch.done[..., None], after, next_value)
            never = jnp.zeros_like(batch.terminated)
            batch = tree.replace(batch, terminated=never, truncated=never)
        one = tree.replace(self, gamma=signal.gamma, lam=signal.lam)
        return Surrogate.values(one, {"value": value}, {"value": next_value}, batch)

    def loss(
        self, out: Out, batch: Transition, targets: SurrogateTargets, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        loss, metrics = super().loss(out, batch, targets, clock)
        for name in self.channels:
            found: Any = targets.signals[name]
            value_loss = losses.clipped_value(
                out[f"value_{name}"][..., 0], found["value"], found["value_target"], self.value_clip
            ).mean()
            loss += self.value_weight * value_loss
            metrics |= {f"value_loss_{name}": value_loss}
        return loss, metrics | {"loss": loss}
