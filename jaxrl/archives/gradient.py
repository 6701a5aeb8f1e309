"""PGA-MAP-Elites: variation of elites by policy-gradient steps."""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from jaxrl import replay, tree
from jaxrl.algorithms.actor_critic import ActorCritic
from jaxrl.algorithms.learner import LearnerState, bootstrap, stored
from jaxrl.algorithms.off_policy import OffPolicy
from jaxrl.algorithms.presets import PRESETS
from jaxrl.archives.archive import Archive, Entered
from jaxrl.archives.emitters import Emitter, EmitterState, IsoLine
from jaxrl.archives.selections import Selection
from jaxrl.archives.tasks import Elite, EpisodeTask, Evaluated, Genotype, mean_observation
from jaxrl.clock import Clock, start_clock
from jaxrl.env import Env, check_is_env
from jaxrl.errors import check_counts
from jaxrl.rollout import Episode, Policy, Transition
from jaxrl.rules.base import check_field
from jaxrl.team_checks import check_single_agent
from jaxrl.tree import leaf, pytree, static

TD3 = cast(ActorCritic, cast(OffPolicy, PRESETS["td3"].value).learner)


@pytree
class ActorTask(EpisodeTask):
    """The parameters of a learner's actor as genotypes, evaluated without exploration noise. An
    evaluation also returns its transitions.

    learner: a non-recurrent actor-critic.
    """

    env: Env
    learner: ActorCritic = TD3
    descriptor: Callable[[Transition, jax.Array], jax.Array] = static(default=mean_observation)

    def __post_init__(self) -> None:
        check_field(self, "learner", ActorCritic, "rl.td3().learner")
        if isinstance(self.learner, ActorCritic) and self.learner.memory is not None:
            raise ValueError("ActorTask needs an actor without a memory: write memory=None.")

    def init_learner(self, key: jax.Array) -> LearnerState:
        """The state of the learner before its first step."""
        check_is_env(self.env, self)
        check_single_agent(
            self.env,
            f"{type(self).__name__} plays one agent",
            "write rl.Versus(env), one seat of it",
        )
        key_env, key_net = jax.random.split(key)
        return self.learner.init(key_net, self.env.action_space, self.env.reset(key_env)[1])

    def init(self, key: jax.Array) -> Genotype:
        return self.init_learner(key).params["actor"]

    def policy(self, genotype: Genotype) -> Policy:
        def act(key: jax.Array, episode: Episode) -> tuple[Any, Any, tuple[()]]:
            return *self.learner.act(key, self.env, {"actor": genotype}, episode), ()

        return Policy(act)

    def extra(self, steps: Transition, active: jax.Array) -> Transition:
        """The transitions [T]; those that are not active are excluded from learning."""
        return tree.replace(stored(steps, (), recurrent=False), active=active)


@pytree
class State:
    """The states of the variation and of the learner, and the transitions of all evaluations."""

    variation: EmitterState
    learner: LearnerState
    replay: replay.Replay
    clock: Clock


@pytree
class PolicyGradient(Emitter):
    """The emitter of PGA-MAP-Elites (Nilsson and Cully, 2021). A batch has three parts: the
    offspring of `variation`; `num_elites` policies, each an elite after `policy_steps`
    policy-gradient steps at the learning rate `lr`; and the greedy actor, which is trained with the
    critic at the learner's learning rate.

    After each batch the learner takes `critic_steps` gradient steps on transitions of all
    evaluations, of which the last `capacity` are stored. The capacity includes the padding between
    an episode's end and its time limit.

    `task = ActorTask(env, learner=rl.td3(lr=3e-4).learner)`,
    `rl.Training(rl.MapElites(cells, PolicyGradient(task)), task, steps)`.
    """

    task: ActorTask
    lr: float = leaf(1e-3, "[0, inf)")
    variation: Emitter = IsoLine(batch=50)
    parents: Selection = Selection()
    capacity: int = static(default=1_000_000)
    num_elites: int = static(default=49)
    critic_steps: int = static(default=300)
    policy_steps: int = static(default=100)
    batch_size: int = static(default=256)

    def __post_init__(self) -> None:
        check_field(self, "task", ActorTask, "rl.archives.ActorTask(env)")
        check_field(self, "variation", Emitter, "rl.archives.IsoLine(batch=50)")
        check_field(self, "parents", Selection, "rl.archives.Novel()")
        check_counts(self, "capacity", "num_elites", "critic_steps", "policy_steps", "batch_size")

    @property
    def batch(self) -> int:  # type: ignore[override]
        return self.variation.batch + self.num_elites + 1

    @property
    def _buffer(self) -> replay.Buffer:
        return replay.Buffer(self.capacity, self.task.learner.sequence_length)

    def init(self, key: jax.Array, elite: Elite) -> State:
        key_variation, key_learner = jax.random.split(key)
        steps = jax.eval_shape(self.task, key, elite.genotype).extra
        row = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), steps)
        return State(
            self.variation.init(key_variation, elite),
            self.task.init_learner(key_learner),
            self._buffer.init(row, self.batch),
            start_clock(float("inf")),
        )

    def ask(self, key: jax.Array, state: State, archive: Archive) -> Genotype:
        key_vary, key_draw, key_climb = jax.random.split(key, 3)
        varied = self.variation.ask(key_vary, state.variation, archive)
        chosen, _ = archive.draw(key_draw, self.num_elites, self.parents.weight(archive))
        climb = lambda key, genotype: self._climb(key, state, genotype)
        climbed = jax.vmap(climb)(jax.random.split(key_climb, self.num_elites), chosen.genotype)
        actor = jax.tree.map(lambda x: x[None], state.learner.params["actor"])
        return jax.tree.map(lambda *x: jnp.concatenate(x), varied, climbed, actor)

    def _climb(self, key: jax.Array, state: State, genotype: Genotype) -> Genotype:
        """The genotype after its policy-gradient steps."""
        key_init, key_steps = jax.random.split(key)
        learner = tree.replace(self.task.learner, actor_lr=self.lr)
        space = self.task.env.action_space
        # for the state of the actor's optimiser
        fresh = tree.replace(self.task, learner=learner).init_learner(key_init)
        start = tree.replace(
            state.learner,
            params=state.learner.params | {"actor": genotype},
            opt_state=state.learner.opt_state | {"actor": fresh.opt_state["actor"]},
        )

        def step(now: LearnerState, key: jax.Array) -> tuple[LearnerState, None]:
            key_sample, key_step = jax.random.split(key)
            sample = self._buffer.sample(key_sample, state.replay, self.batch_size)
            batch = bootstrap(sample.items, sample.weight, learner.gamma, learner.n_step, 0, False)
            return learner.policy_step(key_step, space, now, batch, state.clock), None

        last, _ = jax.lax.scan(step, start, jax.random.split(key_steps, self.policy_steps))
        return last.params["actor"]

    def tell(
        self,
        key: jax.Array,
        state: State,
        archive: Archive,
        genotypes: Genotype,
        evaluated: Evaluated,
        entered: Entered,
    ) -> State:
        key_vary, key_learn = jax.random.split(key)
        varied = jax.tree.map(lambda x: x[: self.variation.batch], (genotypes, evaluated, entered))
        variation = self.variation.tell(key_vary, state.variation, archive, *varied)
        time_major = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), evaluated.extra)
        stored_rows = self._buffer.add(state.replay, time_major)

        def step(now: LearnerState, key: jax.Array) -> tuple[LearnerState, None]:
            key_sample, key_step = jax.random.split(key)
            sample = self._buffer.sample(key_sample, stored_rows, self.batch_size)
            learn = self.task.learner.learn
            return learn(key_step, self.task.env, now, sample.items, sample.weight, state.clock)[
                0
            ], None

        learner, _ = jax.lax.scan(
            step, state.learner, jax.random.split(key_learn, self.critic_steps)
        )
        return State(variation, learner, stored_rows, state.clock.tick())
