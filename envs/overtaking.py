"""Overtaking on two lanes: random scenarios with rare crashes, to compare estimates of their rate.

A vehicle drives on the left lane past a slower one on the right, which may cut in ahead of it and
brake. Pure functions; `jax.vmap` over keys gives many episodes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.tree import leaf, pytree

DT = 0.5  # s
NUM_STEPS = 20
LOW, HIGH = (10.0, 28.0, 20.0), (50.0, 34.0, 26.0)  # of gap and speeds at the start, m and m/s
KEEP, BRAKE, BRAKE_HARD, SPEED_UP, CUT_IN = range(5)
ACCELERATION = np.array([0.0, -3.0, -7.0, 2.0, 0.0])  # m/s^2, of the other vehicle
NATURAL = np.array([0.935, 0.03, 0.002, 0.03, 0.003])  # probabilities of its actions in a step
CHALLENGE = np.array([0.30, 0.10, 0.20, 0.05, 0.35])  # the same in critical steps, to test
CRITICAL_BRAKING = 2.0  # m/s^2 that avoid a collision, above which a step is critical


@pytree
class Driver:
    """A model of the vehicle on the left lane: it follows at a time headway, in limits.

    headway: s. gap_gain: 1/s^2. speed_gain: 1/s. brake: the hardest braking, m/s^2.
    """

    headway: float = leaf(1.0, "(0, inf)")
    gap_gain: float = leaf(0.3, "(0, inf)")
    speed_gain: float = leaf(0.9, "(0, inf)")
    brake: float = leaf(7.0, "(0, inf)")

    def __call__(self, gap: jax.Array, speed: jax.Array, other_speed: jax.Array) -> jax.Array:
        """Acceleration behind a vehicle at distance `gap`, m/s^2. []."""
        wanted = self.gap_gain * (gap - self.headway * speed)
        return jnp.clip(wanted + self.speed_gain * (other_speed - speed), -self.brake, 2.0)


class Traffic(NamedTuple):
    """gap: to the other vehicle, m. speed, other_speed: m/s. is_ahead: it has cut in. is_over:
    overtaken, or crashed. crash: a collision. Each [].
    """

    gap: jax.Array
    speed: jax.Array
    other_speed: jax.Array
    is_ahead: jax.Array
    is_over: jax.Array
    crash: jax.Array


class Scenario(NamedTuple):
    """What the other vehicle does, whatever the vehicle under test does.

    start: gap and speeds, m and m/s, [3]. actions: int [NUM_STEPS]. critical: steps in which the
    reference driver would be in danger, bool [NUM_STEPS]. log_weight: log of the natural
    probability divided by that of the proposal, [].
    """

    start: jax.Array
    actions: jax.Array
    critical: jax.Array
    log_weight: jax.Array


def scenario(key: jax.Array, reference: Driver, boldness: jax.Array | float = 0.0) -> Scenario:
    """A random scenario. In critical steps of the reference driver, actions are those of
    `CHALLENGE` with probability `boldness` (0 is natural, and 1 is not covered by weights).
    """
    key_start, key_actions = jax.random.split(key)
    start = jax.random.uniform(key_start, (3,), minval=jnp.array(LOW), maxval=jnp.array(HIGH))
    natural, challenge = jnp.array(NATURAL), jnp.array(CHALLENGE)

    def act(traffic: Traffic, key: jax.Array) -> tuple[Traffic, tuple]:
        critical = is_critical(traffic)
        bold = (1 - boldness) * natural + boldness * challenge
        probability = jnp.where(critical, bold, natural)
        action = jax.random.categorical(key, jnp.log(probability))
        log_weight = jnp.log(natural[action] / probability[action])
        return step(traffic, action, reference), (action, critical, log_weight)

    keys = jax.random.split(key_actions, NUM_STEPS)
    _, (actions, critical, log_weight) = jax.lax.scan(act, first(start), keys)
    return Scenario(start, actions, critical, log_weight.sum())


def drive(driver: Driver, scenario: Scenario, sparse: bool = False) -> jax.Array:
    """1.0 if a driver crashes in a scenario, else 0.0. [].

    sparse: with the actions of critical steps alone; in the others the other vehicle keeps its
    speed and lane.
    """
    actions = jnp.where(scenario.critical, scenario.actions, KEEP) if sparse else scenario.actions
    move = lambda traffic, action: (step(traffic, action, driver), None)
    return jax.lax.scan(move, first(scenario.start), actions)[0].crash.astype(float)


def first(start: jax.Array) -> Traffic:
    """The traffic at the start of a scenario."""
    no = jnp.zeros((), bool)
    return Traffic(start[0], start[1], start[2], no, no, no)


def step(traffic: Traffic, action: jax.Array, driver: Driver) -> Traffic:
    """The traffic after `DT` seconds."""
    is_ahead = traffic.is_ahead | ((action == CUT_IN) & ~traffic.is_over)
    wanted = jnp.where(is_ahead, driver(*traffic[:3]), 0.0)
    speed = jnp.maximum(traffic.speed + DT * wanted, 0.0)
    other_speed = jnp.maximum(traffic.other_speed + DT * jnp.array(ACCELERATION)[action], 5.0)
    closing = (traffic.speed + speed - traffic.other_speed - other_speed) / 2
    gap = traffic.gap - DT * closing
    is_passed = (gap <= 0) & ~traffic.is_over
    crash = traffic.crash | (is_passed & is_ahead)
    return Traffic(gap, speed, other_speed, is_ahead, traffic.is_over | is_passed, crash)


def is_critical(traffic: Traffic) -> jax.Array:
    """True if only hard braking would avoid a collision with a vehicle that cuts in. bool []."""
    closing = jnp.maximum(traffic.speed - traffic.other_speed, 0.0)
    braking = closing**2 / (2 * jnp.maximum(traffic.gap, 0.1))
    return (braking > CRITICAL_BRAKING) & ~traffic.is_over
