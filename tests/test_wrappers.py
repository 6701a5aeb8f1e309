"""What holds an environment changes one thing about it: each beside the same thing written as a
loop.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import transitions

import envs
import jaxrl as rl
from jaxrl import archives, networks
from jaxrl.env import Env, Step
from jaxrl.spaces import Box, Discrete, Masked
from jaxrl.tree import pytree, static


@pytree
class Counter(Env):
    """Shows how many steps were made, scaled by a leaf; pays the action; over after `last` of
    them.
    """

    unit: float = 1.0
    last: int = static(default=100)
    shape: tuple[int, ...] = static(default=(2,))
    kind: str = static(default="float32")
    masked: bool = static(default=False)
    max_steps: int = static(default=10)
    action_space = Discrete(5)

    def _obs(self, count):
        seen = jnp.full(self.shape, self.unit * count, self.kind)
        return Masked(seen, jnp.arange(5) <= count) if self.masked else seen

    def reset(self, key):
        return jnp.int32(0), self._obs(0)

    def step(self, key, count, action):
        noise = jax.random.uniform(key)
        reward = jnp.asarray(action, jnp.float32)
        return count + 1, Step(
            self._obs(count + 1), reward, count + 1 >= self.last, {"noise": noise, "done": action}
        )


def play(env, actions, seed=0):
    """The first observation, and every step after it, the actions given. Steps [T]."""

    @jax.jit
    def run(actions):
        key_reset, key_play = jax.random.split(jax.random.key(seed))
        state, obs = env.reset(key_reset)
        move = lambda state, x: env.step(jax.random.fold_in(key_play, x[0]), state, x[1])
        return obs, jax.lax.scan(move, state, (jnp.arange(len(actions)), actions))[1]

    return run(jnp.asarray(actions))


# ------------------------------------------------------------------------------------- what is seen


@pytest.mark.parametrize(
    ("shape", "stacked", "kind"),
    [
        ((), (3,), "int32"),
        ((2,), (6,), "float32"),
        ((4, 5), (4, 5, 3), "bool"),
        ((4, 5, 2), (4, 5, 6), "uint8"),
    ],
    ids=str,
)
def test_a_stack_is_the_last_frames_side_by_side(shape, stacked, kind):
    env = envs.FrameStack(Counter(shape=shape, kind=kind), 3)
    plain_first, plain = play(env.env, [0] * 5)
    first, step = play(env, [0] * 5)
    seen = [np.asarray(plain_first)] * 3 + list(np.asarray(plain.obs))
    wide = [x[..., None] if x.ndim in (0, 2) else x for x in seen]
    for i, shown in enumerate([first, *step.obs]):
        assert shown.shape == stacked
        assert shown.dtype == kind
        np.testing.assert_array_equal(shown, np.concatenate(wide[i : i + 3], -1))
    np.testing.assert_array_equal(step.reward, plain.reward)


def test_a_stack_keeps_the_newest_mask():
    env = envs.FrameStack(Counter(masked=True), 2)
    first, step = play(env, [0, 0])
    assert first.obs.shape == (4,)
    np.testing.assert_array_equal(first.mask, [True, False, False, False, False])
    np.testing.assert_array_equal(step.obs.mask[1], [True] * 3 + [False] * 2)
    np.testing.assert_array_equal(step.obs.obs[1], [1, 1, 2, 2])


def test_entries_are_kept_in_their_order():
    whole, hidden = envs.make("Pendulum-v1", g=5.0), envs.make("Pendulum-P", g=5.0)
    actions = jnp.full((4, 1), 0.5)
    (first, step), (seen, shown) = play(whole, actions), play(hidden, actions)
    np.testing.assert_array_equal(seen, first[:2])
    np.testing.assert_array_equal(shown.obs, step.obs[:, :2])
    np.testing.assert_array_equal(shown.reward, step.reward)
    cart = envs.make("CartPole-P", masscart=2.0)
    assert (cart.keep, cart.env.params.masscart) == ((0, 2), 2.0)
    swapped = envs.Observe(Counter(masked=True), (1,))
    assert play(swapped, [0])[1].obs.obs.shape == (1, 1)
    with pytest.raises(ValueError, match=r"keep=\(0, 7\).*shape \(2,\)"):
        envs.Observe(Counter(), (0, 7)).reset(jax.random.key(0))
    with pytest.raises(ValueError, match=r"vector.*shape \(4, 5\)"):
        envs.Observe(Counter(shape=(4, 5)), (0,)).reset(jax.random.key(0))


def test_the_number_of_a_task_is_in_its_observation():
    env = envs.TaskId(Counter(), task=2, num_tasks=3)
    first, step = play(env, [0])
    np.testing.assert_array_equal(first, [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(step.obs, [[1, 1, 0, 0, 1]])
    index = Counter(shape=(), kind="int32")
    numbered = envs.TaskId(index, task=2, num_tasks=3, size=11)
    np.testing.assert_array_equal(play(numbered, [0, 0])[1].obs, [23, 24])
    for wrong in (envs.TaskId(index, 2, 3), envs.TaskId(Counter(), 2, 3, size=11)):
        with pytest.raises(TypeError, match="of vectors \\[d\\], leave size out"):
            wrong.reset(jax.random.key(0))


# ------------------------------------------------------------------------------------- what is done


@pytest.mark.parametrize("num", [1, 3])
def test_a_repeat_is_the_loop_it_says(num):
    inner = Counter(last=5)
    first, step = play(envs.ActionRepeat(inner, num), [1, 2, 3, 4][: 5 // num + 1])
    np.testing.assert_array_equal(first, inner.reset(jax.random.key(0))[1])
    count, shown = 0, []
    for action in [1, 2, 3, 4][: 5 // num + 1]:
        reward, over = 0.0, False
        for _ in range(num):
            if over:
                break
            count, reward, over = count + 1, reward + action, count + 1 >= 5
        shown.append((count, reward, over))
        if over:
            break
    counts, rewards, ends = zip(*shown, strict=True)
    np.testing.assert_array_equal(step.obs[: len(shown), 0], counts)
    np.testing.assert_array_equal(step.reward[: len(shown)], rewards)
    np.testing.assert_array_equal(step.terminated[: len(shown)], ends)
    assert ends[-1] == (num == 3)


def test_a_repeat_has_another_key_at_each_step_and_a_shorter_clock():
    inner = Counter()
    key = jax.random.key(3)
    _, step = envs.ActionRepeat(inner, 3).step(key, jnp.int32(0), jnp.int32(1))
    last = inner.step(jax.random.fold_in(jax.random.key(3), 2), jnp.int32(2), jnp.int32(1))[1]
    np.testing.assert_allclose(step.info["noise"], last.info["noise"])
    assert [envs.ActionRepeat(Counter(max_steps=n), 4).max_steps for n in (8, 9, 10, 12, 13)] == [
        2,
        3,
        3,
        3,
        4,
    ]


def test_an_episode_that_ends_by_itself_is_not_cut_off_by_a_repeat():
    env = envs.ActionRepeat(
        envs.make("Catch"), 4
    )  # 9 rows to fall: the third action ends it after one
    _, step = play(env, [1] * env.max_steps)
    assert step.terminated.tolist() == [False, False, True]
    assert set(np.abs(step.reward).tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_actions_stick_as_often_as_they_should(probability):
    """Machado et al.

    (2018), section 5.2: with this probability the last action is repeated, else the selected one is
    executed.
    """
    num = 4000
    selected = np.random.default_rng(0).integers(0, 5, num)
    _, step = play(envs.StickyActions(Counter(last=10_000), probability), selected)
    done = np.asarray(step.info["done"])
    assert done[0] == selected[0]
    before, now = done[:-1], selected[1:]
    assert ((done[1:] == before) | (done[1:] == now)).all()
    apart = before != now  # where one can tell
    assert (done[1:] == before)[apart].mean() == pytest.approx(probability, abs=0.03)


def test_real_actions_stick_as_a_whole():
    @pytree
    class Echo(Env):
        max_steps: int = static(default=9)
        action_space = Box(-1.0, 1.0, (2,))

        def reset(self, key):
            return (), jnp.zeros(2)

        def step(self, key, state, action):
            return (), Step(action, jnp.float32(0), jnp.bool_(False), {})

    selected = jnp.arange(400.0).reshape(200, 2)
    _, step = play(envs.StickyActions(Echo(), 0.5), selected)
    np.testing.assert_array_equal(step.obs[:, 1] - step.obs[:, 0], 1.0)
    assert 0.3 < (np.diff(step.obs[:, 0]) == 0).mean() < 0.7


@pytest.mark.parametrize("wrap", [envs.ActionRepeat, envs.StickyActions])
def test_what_does_an_action_again_takes_no_masks(wrap):
    with pytest.raises(TypeError, match=f"{wrap.__name__}.*mask may forbid"):
        wrap(Counter(masked=True)).reset(jax.random.key(0))


@pytest.mark.parametrize("wrap", [envs.ActionRepeat, envs.FrameStack])
@pytest.mark.parametrize("num", [0, 2.0])
def test_a_number_of_frames_is_a_count(wrap, num):
    with pytest.raises(ValueError, match=rf"{wrap.__name__} takes num={num}"):
        wrap(Counter(), num)


# --------------------------------------------------------------------------------- teams, channels


def test_a_team_of_one_plays_the_same_episode():
    actions = np.array([1, 2, 3, 0])
    first, step = play(Counter(), actions)
    team_first, team = play(envs.AsTeam(Counter()), actions[:, None])
    assert envs.AsTeam(Counter()).num_agents == 1
    np.testing.assert_array_equal(team_first, first[None])
    for one, other in zip(jax.tree.leaves(team), jax.tree.leaves(step), strict=True):
        np.testing.assert_array_equal(one, other[:, None])


def test_a_terminated_copy_is_paid_nothing_more():
    """The copies of Uneven end after 1 and 2 steps on average 1.5; each once."""

    @pytree
    class Uneven(Env):
        max_steps: int = static(default=6)
        channels = ("cost",)
        action_space = Discrete(2)

        def reset(self, key):
            length = jax.random.randint(key, (), 1, 5)
            return (jnp.int32(0), length), length

        def step(self, key, state, action):
            age, length = state[0] + 1, state[1]
            return (age, length), Step(length, jnp.float32(1), age >= length, {"cost": 2.0 * age})

    env = envs.AsTeam(Uneven(), 3)
    length, step = jax.device_get(play(env, np.zeros((6, 3), int)))
    assert len(set(length.tolist())) > 1
    time = np.arange(1, 7)[:, None]
    np.testing.assert_array_equal(step.terminated, time >= length)
    np.testing.assert_array_equal(step.reward, time <= length)
    np.testing.assert_array_equal(step.info["cost"], 2.0 * time * (time <= length))


def test_a_team_is_wrapped_agent_by_agent():
    actions = np.array([[1, 2], [3, 4], [0, 1]])
    wrap = lambda env: envs.FrameStack(envs.RewardScale(envs.ActionRepeat(env, 2), 0.5), 3)
    wrapped, team = wrap(envs.AsTeam(Counter(), 2)), envs.AsTeam(wrap(Counter()), 2)
    assert wrapped.num_agents == team.num_agents == 2
    assert wrapped.action_space == team.action_space == Discrete(5)
    (first, step), (other_first, other) = play(wrapped, actions), play(team, actions)
    np.testing.assert_array_equal(first, other_first)
    for name in ("obs", "reward", "terminated"):
        np.testing.assert_array_equal(getattr(step, name), getattr(other, name))


def test_each_agent_of_a_team_sticks_independently():
    actions = np.random.default_rng(0).integers(0, 5, (500, 2))
    env = envs.AsTeam(Counter(last=10_000), 2)
    done = np.asarray(play(envs.StickyActions(env, 0.5), actions)[1].info["done"])
    stuck = done[1:] != actions[1:]
    assert (stuck[:, 0] != stuck[:, 1]).mean() > 0.1
    np.testing.assert_array_equal(np.where(stuck, done[:-1], actions[1:]), done[1:])


def test_a_team_has_single_agents():
    with pytest.raises(TypeError, match=r"AsTeam makes a team.*a team of 2\. Write the team alone"):
        envs.AsTeam(envs.AsTeam(Counter(), 2), 3).reset(jax.random.key(0))
    with pytest.raises(ValueError, match="AsTeam takes size=0"):
        envs.AsTeam(Counter(), 0)


def test_a_channel_is_in_the_info_and_is_summed_like_the_reward():
    cost = lambda action, step: action / 2 + step.reward
    env = envs.WithChannel(Counter(), "cost", cost)
    assert env.channels == envs.StickyActions(env).channels == ("cost",)
    info = play(env, [1, 2, 4])[1].info
    np.testing.assert_array_equal(info["cost"], [1.5, 3.0, 6.0])
    assert set(info) == {"noise", "done", "cost"}
    repeated = play(envs.ActionRepeat(env, 3), [1, 2])[1]
    np.testing.assert_array_equal(repeated.info["cost"], [4.5, 9.0])
    np.testing.assert_array_equal(repeated.reward, [3.0, 6.0])


def test_a_channel_has_a_name_of_its_own():
    env = envs.WithChannel(Counter(), "noise", lambda action, step: step.reward)
    with pytest.raises(
        ValueError, match="adds 'noise' to the info of a step, which already has it"
    ):
        play(env, [1])


# ------------------------------------------------------------------------------ together, as leaves


def test_leaves_of_all_of_them_are_axes():
    """Scale and stickiness are found by their names, and vmapped in one program."""
    training = rl.Training(
        rl.ppo(), envs.RewardScale(envs.FrameStack(envs.StickyActions(Counter()), 2))
    )

    def paid(scale, probability):
        env = rl.tree.put(training, {"scale": scale, "probability": probability}).env
        return play(env, [1, 2, 3, 4])[1].reward

    rewards = jax.vmap(paid)(jnp.array([1.0, 0.5, 1.0]), jnp.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(rewards, [[1, 2, 3, 4], [0.5, 1, 1.5, 2], [1, 1, 1, 1]])


def test_a_wrapped_world_is_drawn_as_the_one_inside(tmp_path):
    env = envs.FrameStack(envs.RewardScale(envs.make("Catch", rows=3), 2.0), 2)
    rl.plot.gif(env, lambda key, episode: ((), jnp.int32(1), ()), tmp_path / "film.gif")
    assert (tmp_path / "film.gif").read_bytes()[:3] == b"GIF"
    assert envs.FrameStack(Counter()).draw is None


def test_a_wrapped_world_is_written_and_read():
    from jaxrl.sweep.serialize import decode, encode

    env = envs.FrameStack(envs.StickyActions(envs.make("Pendulum-P", g=5.0), 0.1), 3)
    assert decode(encode(env)) == env


# ------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("kind", ["uint8", "bool", "float32"])
def test_a_network_reads_stacked_images_of_any_kind(kind):
    """Bytes are scaled to 0 to 1, so that 255 is what True and 1.0 are."""
    env = envs.FrameStack(
        Counter(shape=(6, 6), kind=kind, unit=255.0 if kind == "uint8" else 1.0), 2
    )
    state, first = env.reset(jax.random.key(0))
    obs = env.step(jax.random.key(1), state, jnp.int32(0))[1].obs
    network = networks.build(rl.CNN((4,), hidden=(8,)), None, {"value": 1})
    params = network.init(jax.random.key(2), first)
    assert params["params"]["Conv_0"]["kernel"].shape == (3, 3, 2, 4)
    read = lambda obs: network.apply(params, (), obs[None], jnp.zeros(1, bool))[1]["value"]
    as_floats = jnp.stack(
        [jnp.zeros((6, 6)), jnp.ones((6, 6))], -1
    )  # the second frame is the brighter
    np.testing.assert_allclose(read(obs), read(as_floats), rtol=1e-6)
    assert not np.allclose(read(obs), read(first))


def test_a_learner_sees_minatar_in_stacks():
    env = envs.StickyActions(envs.FrameStack(envs.make("Breakout-MinAtar"), 2), 0.1)
    algo = rl.ppo(
        num_envs=2,
        num_steps=8,
        minibatches=2,
        network=rl.CNN((4,), hidden=(8,)),
        normalize_obs=True,
    )
    state = jax.eval_shape(lambda key: algo.init(key, env), jax.random.key(0))
    assert state.params["params"]["Conv_0"]["kernel"].shape == (3, 3, 8, 4)
    assert state.episodes.obs.shape == (2, 10, 10, 8)
    after, metrics = jax.eval_shape(
        lambda key, state: algo.update(key, env, state), jax.random.key(0), state
    )
    assert after.params["params"]["Conv_0"]["kernel"].shape == (3, 3, 8, 4)
    assert metrics["loss"].shape == ()


def test_a_cnn_refuses_what_is_not_one_image():
    with pytest.raises(ValueError, match=r"shape \{'left': \(4, 4\), 'right': \(4, 4\)\}"):
        rl.CNN()({"value": 1}).init(
            jax.random.key(0), {"left": jnp.ones((4, 4)), "right": jnp.ones((4, 4))}
        )


# --------------------------------------------------------------------------------------- statistics


def test_visits_are_shown_as_the_next_bonus():
    env = envs.WithStatistics(
        Counter(shape=(3,), masked=True), envs.VisitCounts(archives.OneHot(3))
    )
    first, step = play(env, [0, 0, 0])
    assert env.channels == ("novelty",)
    np.testing.assert_allclose(first.obs, [0, 0, 0, 1, 1, 1, 2**-0.5], rtol=1e-6)  # zeros: the last
    np.testing.assert_allclose(step.info["novelty"], [1, 2**-0.5, 3**-0.5], rtol=1e-6)
    np.testing.assert_allclose(step.obs.obs[:, 3], [2**-0.5, 3**-0.5, 4**-0.5], rtol=1e-6)
    np.testing.assert_allclose(step.obs.obs[:, 4:6], 1.0)
    np.testing.assert_allclose(step.obs.obs[-1, :3], 3.0)
    assert step.obs.mask.shape == (3, 5)


def test_an_observation_without_a_cell_has_no_bonus():
    counts = envs.VisitCounts(archives.Grid.unit(2, clip=False))
    found = jax.jit(jax.vmap(counts.bonus))(np.zeros((2, 2)), np.array([[0.5], [1.5]]))
    np.testing.assert_array_equal(found, [1.0, 0.0])


def test_moments_are_of_the_episode_and_the_bonus_is_the_surprise():
    """A team of one, so that each agent has its own."""
    env = envs.AsTeam(Counter(shape=(2,)), size=1)
    first, step = play(envs.WithStatistics(env, envs.Moments(prior=2.0)), np.zeros((4, 1), int))
    seen = [0.0, 0.0, 0.0]  # the prior: two numbers with mean 0 and variance 1, and the first one
    total = 2.0
    for i in range(1, 5):
        mean, variance = np.mean(seen), (total + np.sum(np.square(seen))) / len(seen)
        variance -= mean**2
        surprise = 0.5 * ((i - mean) ** 2 / variance + np.log(2 * np.pi * variance))
        np.testing.assert_allclose(step.info["novelty"][i - 1], [surprise], rtol=1e-4)
        seen.append(float(i))
        mean = np.mean(seen)
        variance = (total + np.sum(np.square(seen))) / len(seen) - mean**2
        shown = [i, i, mean, mean, variance, variance, 1 / len(seen)]
        np.testing.assert_allclose(step.obs[i - 1, 0], shown, rtol=1e-4)
    assert first.shape == (1, 7)


def test_a_bonus_of_the_environment_is_a_channel():
    bonus = rl.exploration.ChannelBonus(name="novelty", normalize=False, weight=3.0)
    env = envs.WithStatistics(Counter(), envs.Moments())
    with pytest.raises(ValueError, match=r"reads the channel 'novelty', and Counter has none"):
        bonus.init(jax.random.key(0), Counter(), 2)
    batch = transitions(jnp.zeros(2), jnp.ones((2, 1)), jnp.zeros((2, 1)))
    batch = rl.tree.replace(batch, info={"novelty": jnp.array([[1.0], [2.0]])})
    carry = bonus.init(jax.random.key(0), env, 1)
    np.testing.assert_allclose(bonus(jax.random.key(0), carry, batch)[1], [[4.0], [7.0]])
    algo = rl.Rewarded(rl.ppo(num_envs=2, num_steps=4, minibatches=1), bonus)
    _, metrics = jax.eval_shape(rl.Training(algo, env, 16, evals=1), jax.random.key(0))
    assert {"novelty", "bonus"} <= set(metrics)
    with pytest.raises(ValueError, match=r"adds 'novelty' to the info of a step"):
        play(envs.WithStatistics(env, envs.Moments()), [0])
