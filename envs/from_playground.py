"""MuJoCo Playground (Zakka et al., 2025) without its step counter, auto-reset and wrappers.

`NAMES` are its versions of the DeepMind Control Suite, tested with playground 0.2.0. The robots in
`UNTESTED` are accepted too: playground downloads their models when one is first created.
"""

import copy
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.errors import nearest
from jaxrl.spaces import Box
from jaxrl.tree import pytree, replace, static

from .arguments import check_names, frozen, of_extra
from .states import strong

NAMES = tuple(
    f"playground:{name}"
    for name in (
        "AcrobotSwingup",
        "AcrobotSwingupSparse",
        "BallInCup",
        "CartpoleBalance",
        "CartpoleBalanceSparse",
        "CartpoleSwingup",
        "CartpoleSwingupSparse",
        "CheetahRun",
        "FingerSpin",
        "FingerTurnEasy",
        "FingerTurnHard",
        "FishSwim",
        "HopperHop",
        "HopperStand",
        "HumanoidRun",
        "HumanoidStand",
        "HumanoidWalk",
        "PendulumSwingup",
        "PointMass",
        "ReacherEasy",
        "ReacherHard",
        "SwimmerSwimmer6",
        "WalkerRun",
        "WalkerStand",
        "WalkerWalk",
    )
)
LEFT_OUT: dict[str, str] = {}
UNTESTED = tuple(
    f"playground:{name}"
    for name in (
        "ApolloJoystickFlatTerrain",
        "BarkourJoystick",
        "BerkeleyHumanoidJoystickFlatTerrain",
        "BerkeleyHumanoidJoystickRoughTerrain",
        "G1JoystickFlatTerrain",
        "G1JoystickRoughTerrain",
        "Go1JoystickFlatTerrain",
        "Go1JoystickRoughTerrain",
        "Go1Getup",
        "Go1Handstand",
        "Go1Footstand",
        "H1InplaceGaitTracking",
        "H1JoystickGaitTracking",
        "Op3Joystick",
        "SpotFlatTerrainJoystick",
        "SpotGetup",
        "SpotJoystickGaitTracking",
        "T1JoystickFlatTerrain",
        "T1JoystickRoughTerrain",
        "AeroCubeRotateZAxis",
        "AlohaHandOver",
        "AlohaSinglePegInsertion",
        "LeapCubeReorient",
        "LeapCubeRotateZAxis",
        "PandaOpenCabinet",
        "PandaPickCube",
        "PandaPickCubeCartesian",
        "PandaPickCubeOrientation",
        "PandaRobotiqPushCube",
    )
)
Source = tuple[str, tuple[tuple[str, Any], ...]]
NOT_SETTINGS = {
    "episode_length": "write max_steps=, the time limit of the kit",
    "action_repeat": "write rl.envs.ActionRepeat(env, 2)",
    "vision": "pixel observations are not supported",
}


@pytree
class FromPlayground(Env):
    """A Playground environment. Actions [n] from -1 to 1. State: playground's.

    The observation is a vector, or a dictionary of vectors ("state", "privileged_state"), of which
    `Views` selects parts. Episodes terminate as in playground: in the Control Suite only if the
    simulation diverges; numbers that are not finite are then replaced by 0. `info` has playground's
    metrics.

    model: mujoco.mjx's Model (masses, friction, ...), a tree of leaves for domain randomisation;
      start from `shipped_model`. None is the shipped model, compiled in as constants.
    source: (name, entries of playground's config).
    """

    model: Any = None
    source: Source = static(default=("playground:CartpoleBalance", ()))
    max_steps: int = static(default=1000)

    @property
    def action_space(self) -> Box:
        return Box(-1.0, 1.0, shape=(self._robot().action_size,))

    @property
    def shipped_model(self) -> Any:
        return _build(self.source).mjx_model

    def reset(self, key: jax.Array) -> tuple[Any, Any]:
        state = strong(self._robot().reset(key))
        return state, state.obs

    def step(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        # new dictionaries, as playground writes into those of its argument
        own = replace(state, metrics=dict(state.metrics), info=dict(state.info))
        after = strong(self._robot().step(own, action))
        finite = lambda x: jnp.nan_to_num(jnp.asarray(x, jnp.float32), posinf=0.0, neginf=0.0)
        info = {name: finite(value) for name, value in after.metrics.items()}
        obs = jax.tree.map(finite, after.obs)
        return after, Step(obs, finite(after.reward), after.done.astype(bool), info)

    def __str__(self) -> str:
        return self.source[0]

    def _robot(self) -> Any:
        robot = _build(self.source)
        if self.model is None:
            return robot
        robot = copy.copy(robot)
        robot._mjx_model = self.model
        return robot


def make(
    name: str, *, max_steps: int | None = None, model: Any = None, **settings: Any
) -> FromPlayground:
    """Return the Playground environment called `name` ("playground:CartpoleBalance").

    settings: entries of its config, static; nested ones as `**{"reward_config.scales.x": 1.0}`.
    `impl` is "jax" by default.

    Raises:
      ValueError: there is no such environment or entry.
    """
    if name not in (*NAMES, *UNTESTED):
        raise ValueError(f"There is no environment {name!r}; {nearest(name, NAMES)}.")
    package = of_extra("mujoco_playground", "playground", name)
    config = package.registry.get_default_config(name.removeprefix("playground:"))
    for setting in NOT_SETTINGS.keys() & settings:
        raise ValueError(f"{name} does not take {setting}= here: {NOT_SETTINGS[setting]}.")
    known = {*_flat(config.to_dict()), "max_steps", "model"} - {*NOT_SETTINGS}
    check_names(name, settings, known)
    limit = config.episode_length if max_steps is None else max_steps
    return FromPlayground(model, (name, frozen(name, settings)), limit)


def _flat(config: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the entries of a config."""
    names = []
    for name, value in config.items():
        names += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return names


def _build(source: Source) -> Any:
    """The Playground object, built once for each default float dtype, that of its arrays."""
    return _built(source, jnp.result_type(float))


@lru_cache
def _built(source: Source, float_type: Any) -> Any:
    """As `_build`. The object hashes by identity, and its arrays must not be tracers if it is built
    inside a traced function.
    """
    name, settings = source
    package = of_extra("mujoco_playground", "playground", name)
    config = {"impl": "jax"} | dict(settings)
    with jax.ensure_compile_time_eval():
        return package.registry.load(name.removeprefix("playground:"), config_overrides=config)
