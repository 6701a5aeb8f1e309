"""Games against other players: one seat of a team as a single agent's environment.

`Versus` fixes the policies of the other seats, which are leaves: `jax.vmap` over them trains
against many opponents at once, and a teacher (`rl.teachers.SelfPlay`) draws them from earlier
versions of the learner.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrl import rollout
from jaxrl.algorithms.base import Agent, Algorithm
from jaxrl.env import Env, Obs, Step, Tasks, check_is_env
from jaxrl.errors import check_count
from jaxrl.keys import as_key
from jaxrl.opponents import as_pytree
from jaxrl.rollout import Action, Episode, Policy, RnnState
from jaxrl.rules.base import check_field
from jaxrl.spaces import Masked, Space
from jaxrl.tree import pytree, replace, static


@pytree
class Player:
    """An opponent: the policy of an algorithm with trained parameters.

    agent: `algo.agent(state)`, or `rl.agent(folder, ...)` of a stored sweep. greedy: without the
    exploration of training.
    """

    algo: Algorithm
    agent: Agent
    greedy: bool = static(default=False)

    def __post_init__(self) -> None:
        check_field(self, "algo", Algorithm, "rl.ppo()")

    def policy(self, env: Env) -> Policy:
        """The policy in an environment."""
        return self.algo.policy(env, self.agent, self.greedy)


@pytree
class InGame:
    """An episode of the whole game, with the recurrent states of the opponents, and the learner's
    seat. [].
    """

    game: Episode
    seat: jax.Array


@pytree
class Versus(Env):
    """A game as the environment of one seat; an opponent plays all others.

    `rl.Versus(game, rl.Player(algo, agent))`. A best response is a training run in it:
    `rl.Training(rl.ppo(), rl.Versus(game, opponent), steps)`.

    game: a team's environment, with at least two agents. opponent: a `Player`, a callable pytree or
      function `(key, obs) -> action`, or None for random actions (legal ones, where observations
      are `Masked`). Each opponent acts on its own observations, with its own memory, which starts
      anew with each episode. seat: from 0; None draws one in each episode.

    Observations, rewards and channels are those of the seat. The episode ends where its agent
    terminates, or with the game.

    Raises:
      TypeError: the game is not a team of two or more; the opponent can't play. ValueError: there
        is no such seat.
    """

    game: Env
    opponent: Any = None
    seat: int | jax.Array | None = 0

    def __post_init__(self) -> None:
        check_game(self.game)
        name, num = type(self.game).__name__, self.game.num_agents
        if not _is_seat(self.seat, num):
            raise ValueError(
                f"seat={self.seat} is not a seat of {name}: write a number from 0 to {num - 1}, or "
                "None for a random one in each episode."
            )
        if isinstance(self.opponent, Policy | Algorithm):
            raise TypeError(
                f"The opponent in {name} is of the class {type(self.opponent).__name__}: write "
                "rl.Player(algo, agent), with agent = rl.agent(folder, ...) or algo.agent(state), "
                "or a function (key, obs) -> action."
            )
        if self.opponent is not None and not isinstance(self.opponent, Player):
            object.__setattr__(self, "opponent", as_pytree(name, self.opponent))

    @property
    def max_steps(self) -> int:
        return self.game.max_steps

    @property
    def action_space(self) -> Space:
        return self.game.action_space

    @property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.game.channels

    @property
    def draw(self) -> Any:  # type: ignore[override]
        draw = self.game.draw
        return None if draw is None else lambda ax, state: draw(ax, state.game.state)

    def __str__(self) -> str:
        return f"{self.game} against an opponent"

    def reset(self, key: jax.Array) -> tuple[InGame, Obs]:
        key_game, key_seat = jax.random.split(key)
        num = self.game.num_agents
        seat = jax.random.randint(key_seat, (), 0, num) if self.seat is None else self.seat
        episode = rollout.reset(key_game, self.game, self._policy().rnn_state)
        return InGame(episode, jnp.asarray(seat, jnp.int32)), _of(episode.obs, seat)

    def step(self, key: jax.Array, state: InGame, action: Action) -> tuple[InGame, Step]:
        key_act, key_step = jax.random.split(key)
        num, seat = self.game.num_agents, state.seat
        others = (seat + 1 + jnp.arange(num - 1)) % num
        rnn_state, moves = self._moves(jax.random.split(key_act, num - 1), state.game, others)
        _check_moves(self, action, moves)
        put = lambda own, theirs: (
            jnp.zeros((num, *jnp.shape(own)), jnp.result_type(own))
            .at[others]
            .set(theirs.astype(jnp.result_type(own)))
            .at[seat]
            .set(own)
        )
        memory = jax.tree.map(lambda x, y: x.at[others].set(y), state.game.rnn_state, rnn_state)
        episode, transition = rollout.step(
            key_step,
            self.game,
            replace(state.game, rnn_state=memory),
            jax.tree.map(put, action, moves),
        )
        step = Step(
            obs=_of(transition.next_obs, seat),
            reward=transition.reward[seat],
            terminated=transition.terminated[seat],
            info={name: _of(x, seat) for name, x in transition.info.items()},
        )
        return InGame(episode, seat), step

    def _moves(
        self, keys: jax.Array, episode: Episode, others: jax.Array
    ) -> tuple[RnnState, Action]:
        """The recurrent states and the actions of the seats `others`. [A - 1]."""
        policy = self._policy()

        def act(key: jax.Array, seat: jax.Array) -> tuple[RnnState, Action]:
            own = Episode(
                state=episode.state,
                obs=_of(episode.obs, seat),
                rnn_state=_of(episode.rnn_state, seat),
                length=episode.length,
                episode_return=episode.episode_return[seat],
                info=_of(episode.info, seat),
                terminated=_of(episode.terminated, seat),
            )
            return policy(key, own)[:2]

        return jax.vmap(act)(keys, others)

    def _policy(self) -> Policy:
        if isinstance(self.opponent, Player):
            return self.opponent.policy(self.game)
        act = self._random if self.opponent is None else self.opponent
        return Policy(lambda key, episode: ((), act(key, episode.obs), ()))

    def _random(self, key: jax.Array, obs: Any) -> Action:
        mask = obs.mask if isinstance(obs, Masked) else None
        return self.game.action_space.sample(key, mask)


@pytree
class Opponents(Tasks):
    """A distribution of opponents: a sample is a game against a player of `algo` with new random
    parameters.

    `rl.Taught(algo, rl.teachers.SelfPlay())`, with the same `algo`, trains against them; the
    teacher replaces the parameters by those of the learner.

    game, seat: as in `Versus`; by default the seat is drawn in each episode.
    """

    game: Env
    algo: Algorithm
    seat: int | jax.Array | None = None

    def __post_init__(self) -> None:
        check_game(self.game)
        check_field(self, "algo", Algorithm, "rl.ppo()")

    @property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.game.channels

    def sample(self, key: jax.Array) -> Versus:
        plain = Versus(self.game, None, self.seat)
        return self.against(self.algo.agent(self.algo.init(key, plain)))

    def against(self, agent: Agent) -> Versus:
        """The game against a player with these parameters."""
        return Versus(self.game, Player(self.algo, agent), self.seat)


def round_robin(
    key: jax.Array | int,
    game: Env,
    algo: Algorithm,
    agents: Agent,
    num_episodes: int,
    greedy: bool = False,
) -> jax.Array:
    """The returns of each player against each: seat 0 is the row's, all others the column's.
    [P, P, num_episodes].

    Of a game with payoffs that sum to 0, `scores = (jnp.sign(returns) + 1) / 2` are what
    `rl.stats.win_rates` reads. [i, j] and [j, i] are different games, so that ratings are
    `rl.stats.elo(scores.sum(-1) + (1 - scores).sum(-1).T)`.

    key: a key, or an integer seed. agents: of `algo`, such as the versions of `SelfPlay`; a pytree
      with a leading axis [P]. greedy: without the exploration of training.

    Raises:
      TypeError: the game is not a team of two or more. ValueError: agents without a common leading
        axis.
    """
    check_game(game)
    check_count("num_episodes", num_episodes)
    sizes = {jnp.shape(x)[:1] for x in jax.tree.leaves(agents)}
    if len(sizes) != 1 or sizes == {()}:
        raise ValueError(
            "agents need a leading axis [P], the same in all arrays: write "
            "jax.tree.map(lambda *x: jnp.stack(x), *agents)."
        )
    ((num,),) = sizes

    def match(key: jax.Array, own: Agent, other: Agent) -> jax.Array:
        env = Versus(game, Player(algo, other, greedy))
        policy = algo.policy(env, own, greedy)
        return rollout.play_episodes(key, env, policy, num_episodes).episode_return

    keys = jax.random.split(as_key(key), (num, num))
    row = jax.vmap(match, in_axes=(0, None, 0))
    return jax.jit(jax.vmap(row, in_axes=(0, 0, None)))(keys, agents, agents)


def check_game(game: Env) -> None:
    """Raise a TypeError if an environment is not a team of two or more."""
    check_is_env(game)
    num = game.num_agents
    if num is None or num < 2:
        has = "a single agent" if num is None else "a team of one"
        raise TypeError(
            f"A game has at least two agents, and {type(game).__name__} has {has}: write for "
            'example rl.envs.make("Matrix-SkewedRPS"), or rl.envs.make("pgx:tic_tac_toe", '
            "num_agents=2)."
        )


def _is_seat(seat: Any, num: int) -> bool:
    """True for the numbers of seats, None, and what is traced."""
    if seat is None or isinstance(seat, Tracer | jax.ShapeDtypeStruct):
        return True
    numbers = np.asarray(seat)
    return numbers.dtype.kind in "iu" and bool(((numbers >= 0) & (numbers < num)).all())


def _check_moves(env: Versus, action: Action, moves: Action) -> None:
    """Raise a TypeError if the actions of opponents [A - 1] are not like the learner's."""
    kinds = lambda x, lead: [
        (jnp.shape(leaf)[lead:], jnp.issubdtype(jnp.result_type(leaf), jnp.integer))
        for leaf in jax.tree.leaves(x)
    ]
    if kinds(action, 0) != kinds(moves, 1):
        raise TypeError(
            f"The opponent in {type(env.game).__name__} returns actions of shape "
            f"{[shape for shape, _ in kinds(moves, 1)]} and type "
            f"{[str(jnp.result_type(x)) for x in jax.tree.leaves(moves)]}: return one of "
            f"{env.action_space}."
        )


def _of(tree: Any, seat: Any) -> Any:
    """One agent's part of arrays [A, ...]."""
    return jax.tree.map(lambda x: jnp.asarray(x)[seat], tree)
