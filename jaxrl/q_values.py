"""Action values: the network's heads, the epsilon-greedy policy, and the value of an action taken.

Shared by every learner and update rule that learns action values of a `Discrete` space.
"""

import jax

from jaxrl import gathers, masks
from jaxrl.distributions import EpsilonGreedyCategorical


def q_heads(num_actions: int, width: int = 1, dueling: bool = False) -> dict[str, int]:
    """The network's heads for action values, by name, and their sizes.

    width: outputs for each action (atoms, quantiles). dueling: with a "value" head of that width,
    beside which "q" holds advantages (Wang et al., 2016).
    """
    heads = {"q": num_actions * width}
    return heads | {"value": width} if dueling else heads


def q_policy(
    q: jax.Array, mask: jax.Array | None, epsilon: jax.Array | float = 0.0
) -> EpsilonGreedyCategorical:
    """The epsilon-greedy policy of action values `q` [..., n], among the allowed actions.

    mask: bool [..., n], True where an action is allowed, or None where all are. epsilon: the
    probability of a uniformly random allowed action, [...] or []. The distribution's mode is the
    greedy action; its `values` are `q` with -inf at forbidden actions.
    """
    return EpsilonGreedyCategorical(masks.allow(q, mask), epsilon)


def action_values(q: jax.Array, action: jax.Array) -> jax.Array:
    """Q(s, a): the entry of `q` [..., n] at each `action` [...]. [...]."""
    return gathers.last(q, action)
