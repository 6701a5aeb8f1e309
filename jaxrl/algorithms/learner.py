"""Off-policy learners: their contract, their batches, and how a network reads a batch."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, returns, tree
from jaxrl.batch_norm import AXIS
from jaxrl.clock import Clock, Metrics
from jaxrl.env import Env, Obs
from jaxrl.errors import check_counts, not_defined
from jaxrl.optimizer import (
    Optimizer,
    OptimizerBuilder,
    apply_gradients,
    at_rate,
    check_gradient_fields,
)
from jaxrl.rollout import Action, Episode, Extras, RnnState, Transition
from jaxrl.schedules import Constant, Schedule, check_schedule
from jaxrl.spaces import Space
from jaxrl.tree import pytree

# with eps_root, the square root of a second moment of 0 has a gradient, for meta-gradients
ADAM = Optimizer(optax.adam, {"eps_root": 1e-16})


@pytree
class LearnerState:
    """The state of a learner.

    Parameters, those of target networks (with whatever else targets need), optimiser states, and
    the number of gradient steps so far.
    """

    params: Any
    target_params: Any
    opt_state: Any
    step: jax.Array


class Learner:
    """Base class of off-policy learners: a pytree; its floats may be traced.

    A learner chooses actions from its parameters, and improves them by a gradient step on each
    batch that `OffPolicy` samples from the replay: pieces of `sequence_length` consecutive
    transitions, as they were collected. A subclass defines `learn_batch`, which reads n-step
    targets of them, or `learn`, which reads the pieces.
    """

    action_spaces: tuple[type, ...] = ()  # the kinds of action space that it has a policy for
    stores_returns: bool = False  # True where `annotate` reads rewards
    gamma: float  # the discount factor, by which the loop normalises rewards
    memory: networks.Memory | None = None  # of a recurrent learner: the builder of its cell
    # True where it learns from the agents of a team together: `init` takes the observations of all
    # of them, [A, ...], and pieces have them as an axis, [N, L, A]
    mixes: Any = False
    n_step: int = 1  # the number of rewards in a target
    burn_in: int = 0  # with a memory, rows that only update the recurrent state,
    sequence: int = 1  # and rows that are learned from after them
    # of `gradient_step`
    schedule: Schedule = Constant()  # multiplies its learning rates
    max_grad_norm: float = float("inf")
    optimizer: Optimizer | OptimizerBuilder = ADAM

    def __post_init__(self) -> None:
        check_counts(self, "n_step", "sequence")
        check_counts(self, "burn_in", min_value=0)
        check_gradient_fields(self)
        check_schedule(self)

    @property
    def sequence_length(self) -> int:
        """The number of consecutive transitions in a piece, L.

        The default is that of `learn`. The piece of a recurrent learner has one row more, for its
        stored recurrent state.
        """
        return self.n_step if self.memory is None else 1 + self.burn_in + self.sequence

    def init(self, key: jax.Array, space: Space, obs: Any) -> LearnerState:
        """Return the state before the first gradient step; `obs` is an example of one agent's."""
        raise not_defined(self, Learner.init)

    def initial_rnn_state(self, space: Space) -> RnnState:
        """The policy's recurrent state at the start of an episode; the default is none, ()."""
        return ()

    def explore(
        self, key: jax.Array, env: Env, params: Any, episode: Episode, clock: Clock
    ) -> tuple[RnnState, Action, Extras]:
        """Recurrent state, action and extras of the exploring policy at one observation."""
        raise not_defined(self, Learner.explore)

    def act(
        self, key: jax.Array, env: Env, params: Any, episode: Episode
    ) -> tuple[RnnState, Action]:
        """Recurrent state and action of the greedy policy at one observation."""
        raise not_defined(self, Learner.act)

    def annotate(self, env: Env, params: Any, batch: Transition, clock: Clock) -> Extras:
        """The extras of a rollout [T, B] that the replay stores with it.

        The default is what `explore` returned. The rollout's observations and rewards are
        normalised as in `learn`.
        """
        return batch.extras

    def learn(
        self,
        key: jax.Array,
        env: Env,
        state: LearnerState,
        items: Transition,
        weight: jax.Array,
        clock: Clock,
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        """Return the state after one gradient step, each piece's priority [N], and losses.

        The default is `learn_batch` on the pieces as n-step targets.

        Args:
          items: pieces [N, L] of the replay, with the fields that `stored` keeps; observations and
            rewards are normalised, where the loop does that.
          weight: the importance-sampling weight of each piece [N].

        The priority is the magnitude of the piece's error.
        """
        recurrent = self.memory is not None
        batch = bootstrap(items, weight, self.gamma, self.n_step, self.burn_in, recurrent)
        return self.learn_batch(key, env, state, batch, clock)

    def learn_batch(
        self, key: jax.Array, env: Env, state: LearnerState, batch: "Batch", clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        """As `learn`, from a batch of targets."""
        raise not_defined(self, Learner.learn_batch)

    def gradient_step(
        self, lr: Any, grads: Any, opt_state: Any, params: Any, clock: Clock
    ) -> tuple[Any, Any, jax.Array]:
        """Return the parameters and the optimiser state after one step, and the gradient's norm.

        lr: the learning rate, which `schedule` multiplies.
        """
        optimizer = at_rate(self.optimizer, lr, params, self.schedule(clock))
        return apply_gradients(optimizer, grads, opt_state, params, self.max_grad_norm, clock=clock)


def stored(batch: Transition, extras: Extras, recurrent: bool) -> Transition:
    """The part of transitions that a replay stores, with `extras`.

    Without what only metrics read; with the environment's channels, and with the recurrent state
    where the learner is `recurrent`.
    """
    return tree.replace(
        batch,
        episode_return=(),
        length=(),
        rnn_state=batch.rnn_state if recurrent else (),
        extras=extras,
        episode_info={},
    )


# ------------------------------------------------------------------------------------------ batches


@pytree
class Batch:
    """N sequences of T rows, ready for a bootstrapped target; T is 1 without a recurrent network.

    Leaves are [N, T, ...]. A row's target is `reward` (the discounted sum of n rewards) plus
    `discount` times the value of what followed, where `discount` is 0 where the episode terminated.
    What followed is `next_obs` at the row `bootstrap_index` of the same sequence.

    weight: each row's weight in the loss: its importance, 0 where what followed is not known, and
      where the agent of a team had terminated before.
    is_first, done: at the first and the last step of an episode.
    burn_in: (observations, is_first) [N, burn_in, ...] that bring the recurrent state `rnn_state`
      [N, ...] to the first row; () without a recurrent network.
    extras: what the learner stored with each row, () if nothing.
    """

    obs: Obs
    action: Action
    reward: jax.Array
    discount: jax.Array
    next_obs: Obs
    bootstrap_index: jax.Array
    weight: jax.Array
    is_first: jax.Array
    done: jax.Array
    burn_in: Any
    rnn_state: RnnState
    extras: Extras


def bootstrap(
    items: Transition, weight: jax.Array, gamma: float, n_step: int, burn_in: int, recurrent: bool
) -> Batch:
    """Pieces [N, L] as a batch of n-step targets.

    Without a recurrent network, a piece is the `n_step` transitions of one row (L = n_step, T = 1).
    A recurrent one reads `burn_in` rows from the stored recurrent state of the first row, which
    themselves are not learned from (Kapturowski et al., 2019, section 3), then L - 1 - burn_in
    rows; their sums of up to `n_step` rewards end at the last of them.
    """

    def piece(items: Transition, weight: jax.Array) -> Batch:
        rnn_state, past, is_first = (), (), jnp.zeros(len(items.reward), bool)
        if recurrent:
            rnn_state = jax.tree.map(lambda x: x[0], items.rnn_state)
            is_first = items.done[:-1]
            items = jax.tree.map(lambda x: x[1:], tree.replace(items, rnn_state=()))
            past = jax.tree.map(lambda x: x[:burn_in], (items.obs, is_first))
            is_first, items = jax.tree.map(lambda x: x[burn_in:], (is_first, items))
        discount = gamma * (1.0 - items.terminated)
        reward, discount, index = returns.n_step_sums(items.reward, discount, items.done, n_step)
        # a recurrent network can't read past the end of an episode: what followed a truncation is
        # not known, but at the last row
        known = ~items.truncated[index] | (index == len(index) - 1)
        next_obs = items.next_obs
        if not recurrent:  # only the sums from the first row are used
            next_obs = jax.tree.map(lambda x: x[index[:1]], next_obs)
            known, index = jnp.ones(1, bool), jnp.zeros(1, jnp.int32)
            items, reward, discount, is_first = jax.tree.map(
                lambda x: x[:1], (items, reward, discount, is_first)
            )
        if not isinstance(items.active, tuple):
            known &= items.active
        return Batch(
            obs=items.obs,
            action=items.action,
            reward=reward,
            discount=discount,
            next_obs=next_obs,
            bootstrap_index=index,
            weight=weight * known,
            is_first=is_first,
            done=items.done,
            burn_in=past,
            rnn_state=rnn_state,
            extras=items.extras,
        )

    return jax.vmap(piece)(items, weight)


def piece_priority(error: jax.Array) -> jax.Array:
    """Each piece's priority, of the magnitudes of its rows' errors [N, T]. [N].

    0.9 times the largest plus 0.1 times the mean (Kapturowski et al., 2019, section 2.3).
    """
    return 0.9 * error.max(-1) + 0.1 * error.mean(-1)


# ---------------------------------------------------------------------- how a network reads a batch


def apply_network(network: networks.Recurrent, params: Any, batch: Batch) -> dict[str, jax.Array]:
    """The network's heads at each row's observation. {head: [N, T, ...]}."""

    def along(rnn_state: RnnState, obs: Any, is_first: jax.Array) -> dict[str, jax.Array]:
        return network.apply(params, rnn_state, obs, is_first)[1]

    rnn_state = _burn_in(network, params, batch)
    return jax.vmap(along, axis_name=AXIS)(rnn_state, batch.obs, batch.is_first)


def apply_network_next(
    network: networks.Recurrent, params: Any, batch: Batch
) -> dict[str, jax.Array]:
    """The network's heads at the observation that each row bootstraps from. {head: [N, T, ...]}."""
    if not jax.tree.leaves(batch.rnn_state):

        def one(obs: Any, is_first: jax.Array) -> dict[str, jax.Array]:
            return network.apply(params, (), obs, is_first)[1]

        return jax.vmap(one)(batch.next_obs, batch.is_first)

    def along(rnn_state: RnnState, batch: Batch) -> dict[str, jax.Array]:
        obs = jax.tree.map(
            lambda x, last: jnp.concatenate([x, last[-1:]]), batch.obs, batch.next_obs
        )
        out = network.apply(params, rnn_state, obs, jnp.append(batch.is_first, False))[1]
        return jax.tree.map(lambda x: x[1:][batch.bootstrap_index], out)

    return jax.vmap(along)(_burn_in(network, params, batch), batch)


def apply_to_obs(
    network: networks.Recurrent, params: Any, rnn_state: RnnState, obs: Any
) -> tuple[RnnState, dict[str, jax.Array]]:
    """The recurrent state after one observation, and the network's heads there. {head: [...]}."""
    obs = jax.tree.map(lambda x: jnp.asarray(x)[None], obs)
    rnn_state, out = network.apply(params, rnn_state, obs, jnp.zeros(1, bool))
    return rnn_state, jax.tree.map(lambda x: x[0], out)


def _burn_in(network: networks.Recurrent, params: Any, batch: Batch) -> RnnState:
    """The recurrent state at the first row, after the burn-in. No gradient flows through it."""
    if not jax.tree.leaves(batch.rnn_state):
        return ()

    def along(rnn_state: RnnState, obs: Any, is_first: jax.Array) -> RnnState:
        return network.apply(params, rnn_state, obs, is_first)[0]

    return jax.lax.stop_gradient(jax.vmap(along)(batch.rnn_state, *batch.burn_in))
