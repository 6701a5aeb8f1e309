"""The environments of JaxMARL: their classes and time limits."""

from collections.abc import Callable
from typing import Any, NamedTuple

NEVER = 2**30  # a time limit that is never reached


class World(NamedTuple):
    """The properties of a class of JaxMARL that the adapter uses.

    max_steps: the default time limit, or a function of the number of agents. fixed, attributes:
    arguments and attributes of the class that switch off its own limit. mask: the method that
    returns the legal actions. timed: True if observations contain the remaining time, so that the
    class keeps its limit; its `done` means only that, and is ignored. wraps: another class with the
    same arguments.
    """

    type: str
    max_steps: int | Callable[[int], int]
    fixed: tuple[tuple[str, Any], ...] = (("max_steps", NEVER),)
    attributes: tuple[tuple[str, Any], ...] = ()
    mask: str | None = None
    timed: bool = False
    wraps: str | None = None


ONE_GAME = (("num_inner_steps", NEVER), ("num_outer_steps", 1))
MPE = {
    "MPE_simple_v3": "SimpleMPE",
    "MPE_simple_tag_v3": "SimpleTagMPE",
    "MPE_simple_world_comm_v3": "SimpleWorldCommMPE",
    "MPE_simple_spread_v3": "SimpleSpreadMPE",
    "MPE_simple_crypto_v3": "SimpleCryptoMPE",
    "MPE_simple_speaker_listener_v4": "SimpleSpeakerListenerMPE",
    "MPE_simple_push_v3": "SimplePushMPE",
    "MPE_simple_adversary_v3": "SimpleAdversaryMPE",
    "MPE_simple_reference_v3": "SimpleReferenceMPE",
    "MPE_simple_facmac_v1": "SimpleFacmacMPE",
}


def _facmac(num_good_agents: int, num_adversaries: int, num_landmarks: int) -> World:
    """The predators and prey of Peng et al. (2021)."""
    numbers = {
        "num_good_agents": num_good_agents,
        "num_adversaries": num_adversaries,
        "num_landmarks": num_landmarks,
        "view_radius": 1.5,
        "score_function": "min",
    }
    return World("SimpleFacmacMPE", 25, (("max_steps", NEVER), *numbers.items()))


WORLDS = {name: World(type, 25) for name, type in MPE.items()} | {
    "MPE_simple_facmac_3a_v1": _facmac(1, 3, 2),
    "MPE_simple_facmac_6a_v1": _facmac(2, 6, 4),
    "MPE_simple_facmac_9a_v1": _facmac(3, 9, 6),
    "switch_riddle": World(
        "SwitchRiddle", lambda num_agents: 4 * num_agents - 6, (), (("max_steps", NEVER),)
    ),
    "SMAX": World("SMAX", 100, mask="get_avail_actions"),
    "HeuristicEnemySMAX": World("HeuristicEnemySMAX", 100, mask="get_avail_actions", wraps="SMAX"),
    "storm": World("InTheGrid", 152, ONE_GAME),
    "storm_2p": World("InTheGrid_2p", 152, ONE_GAME),
    "storm_np": World("InTheMatrix", 152, ONE_GAME),
    # two-player games end earlier: 42 moves draw a card, and these moves pay for the hints
    "hanabi": World("Hanabi", 100, (), mask="get_legal_moves"),
    "overcooked": World("Overcooked", 400, (), timed=True),
    "overcooked_v2": World("OvercookedV2", 400, (), timed=True),
    "coin_game": World("CoinGame", 10, ONE_GAME),
    "jaxnav": World("JaxNav", 500),
}
