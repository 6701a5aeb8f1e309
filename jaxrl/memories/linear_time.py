"""Memories that are linear in time, so that steps can be joined in any order: T of them in log2 T,
where there is room.

A complex number is a pair of real arrays, so that what is stored, optimised and compared is real.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxrl.memories.layers import dense, kernel, linear, normal
from jaxrl.networks import Params

Pair = tuple[jax.Array, jax.Array]  # the real and the imaginary part


@dataclasses.dataclass(frozen=True)
class FFM:
    """Fast and forgetful memory (Morad et al., 2023): `traces` sums of the past, each seen through
    `contexts` clocks.

    A trace forgets at its own pace |alpha|, and each clock turns it at its own pace omega, so that
    the sum tells how long ago: S[t] = exp(-|alpha| + i omega) S[t-1] + x[t]. Both are learnt. At
    the start the slowest trace forgets all but 1 % in `period` steps, the slowest clock turns once
    in as many, and the fastest each step. Where the paper's output gate is shut the features pass
    as they are: they come from a linear layer already.
    """

    size: int = 64
    traces: int = 32
    contexts: int = 4
    period: float = 1024.0

    def init(self, key: jax.Array) -> Params:
        key_input, key_mix = jax.random.split(key)
        return {
            "input": dense(
                key_input, self.size, 2 * self.traces + self.size
            ),  # what to write, and both gates
            "mix": dense(key_mix, 2 * self.traces * self.contexts, self.size),
            "alpha": jnp.linspace(math.log(100.0) / self.period, 0.5, self.traces),
            "omega": 2.0 * jnp.pi / jnp.linspace(1.0, self.period, self.contexts),
        }

    def start(self) -> Pair:
        return jnp.zeros((self.traces, self.contexts)), jnp.zeros((self.traces, self.contexts))

    def apply(
        self, params: Params, memory: Pair, x: jax.Array, first: jax.Array
    ) -> tuple[Pair, jax.Array]:
        write, write_gate, show = jnp.split(
            linear(params["input"], x), [self.traces, 2 * self.traces], axis=-1
        )
        write = (write * jax.nn.sigmoid(write_gate))[
            :, :, None
        ]  # each trace takes it in at all its contexts
        decay = _turn(jnp.abs(params["alpha"])[:, None], params["omega"][None])
        memory, sums = linear_memory(decay, memory, (write, jnp.zeros_like(write)), first)
        seen, show = (
            normal(_shown(params["mix"]["kernel"], sums) + params["mix"]["bias"][None]),
            jax.nn.sigmoid(show),
        )
        return memory, show * seen + (1.0 - show) * x


@dataclasses.dataclass(frozen=True)
class LRU:
    """A block around a linear recurrent unit (Orvieto et al., 2023): norm, `states` complex
    numbers, GLU, skip.

    h[t] = lambda h[t-1] + gamma B x[t] and y[t] = Re(C h[t]) + D x[t], where lambda = exp(-exp(nu)
    + i exp(theta)) can't leave the unit circle. It starts uniform on the ring from `r_min` to
    `r_max`, at angles up to `max_angle`; gamma, learnt too, starts where white noise makes states
    of variance 1.
    """

    size: int = 64
    states: int = 64
    r_min: float = 0.0
    r_max: float = 0.99
    max_angle: float = 2.0 * math.pi

    def __post_init__(self) -> None:
        if not 0.0 <= self.r_min < self.r_max < 1.0:
            raise ValueError(
                f"r_min={self.r_min} and r_max={self.r_max} are no radii of a ring inside the "
                "unit circle, where a memory "
                "fades; write, say, LRU(r_min=0.0, r_max=0.99)."
            )

    def init(self, key: jax.Array) -> Params:
        key_radius, key_angle, key_input, key_output, key_skip, key_glu = jax.random.split(key, 6)
        places = lambda key: jax.random.uniform(
            key, (self.states,), minval=1e-3
        )  # logarithms follow
        log_radius = 0.5 * jnp.log(
            places(key_radius) * (self.r_max**2 - self.r_min**2) + self.r_min**2
        )
        return {
            "nu": jnp.log(-log_radius),
            "theta": jnp.log(self.max_angle * places(key_angle)),
            "gamma": 0.5 * jnp.log(-jnp.expm1(2.0 * log_radius)),
            "input": {"kernel": kernel(key_input, self.size, 2 * self.states) / math.sqrt(2.0)},
            "output": {"kernel": kernel(key_output, 2 * self.states, self.size) * math.sqrt(2.0)},
            "skip": {"scale": jax.random.normal(key_skip, (self.size,))},
            "glu": dense(key_glu, self.size, 2 * self.size),
        }

    def start(self) -> Pair:
        return jnp.zeros(self.states), jnp.zeros(self.states)

    def apply(
        self, params: Params, memory: Pair, x: jax.Array, first: jax.Array
    ) -> tuple[Pair, jax.Array]:
        seen = normal(x)
        gamma = jnp.tile(jnp.exp(params["gamma"]), 2)
        real, imaginary = jnp.split(seen @ (params["input"]["kernel"] * gamma[None]), 2, axis=-1)
        decay = _turn(jnp.exp(params["nu"]), jnp.exp(params["theta"]))
        memory, states = linear_memory(decay, memory, (real, imaginary), first)
        shown = _shown(params["output"]["kernel"], states) + params["skip"]["scale"][None] * seen
        value, gate = jnp.split(linear(params["glu"], jax.nn.gelu(shown)), 2, axis=-1)
        return memory, x + value * jax.nn.sigmoid(gate)


def linear_memory(decay: Pair, memory: Pair, x: Pair, first: jax.Array) -> tuple[Pair, Pair]:
    """h[t] = decay h[t-1] + x[t], and where a step is an episode's first h[t] = x[t]: the last h
    [...], and all [T, ...].

    decay [...] complex, memory [...] the h before x [T, ...], which may have sizes of 1 where all
    share it; first [T]. Nothing is divided by a decay, so that no length overflows (the cumulative
    sum of Morad et al., 2023, does).
    """
    way = scan_in_turn if jax.default_backend() == "cpu" else scan_in_parallel
    states = way(decay, memory, x, first)
    return (states[0][-1], states[1][-1]), states


def scan_in_turn(decay: Pair, memory: Pair, x: Pair, first: jax.Array) -> Pair:
    """All h of `linear_memory` in T steps of little work: faster on a CPU than the other way, and a
    tenth to compile.
    """

    def step(state: Pair, now: tuple[Pair, jax.Array]) -> tuple[Pair, Pair]:
        x, first = now
        real, imaginary = _times(decay, state)
        state = x[0] + jnp.where(first, 0.0, real), x[1] + jnp.where(first, 0.0, imaginary)
        return state, state

    return jax.lax.scan(step, memory, (x, first))[1]


def scan_in_parallel(decay: Pair, memory: Pair, x: Pair, first: jax.Array) -> Pair:
    """The same in about 2 log2 T steps (Martin and Cundy, 2018): a reset is a decay of 0 on the
    way.
    """

    def join(before: tuple[Pair, Pair], after: tuple[Pair, Pair]) -> tuple[Pair, Pair]:
        (decay_before, x_before), (decay_after, x_after) = before, after
        real, imaginary = _times(decay_after, x_before)
        return _times(decay_after, decay_before), (x_after[0] + real, x_after[1] + imaginary)

    shape = (len(first), *decay[0].shape)
    over = first.reshape(-1, *(1 for _ in shape[1:]))
    fade = jnp.where(over, 0.0, decay[0][None]), jnp.where(over, 0.0, decay[1][None])
    real, imaginary = _times((fade[0][0], fade[1][0]), memory)
    x = (
        jnp.broadcast_to(x[0], shape).at[0].add(real),
        jnp.broadcast_to(x[1], shape).at[0].add(imaginary),
    )
    return jax.lax.associative_scan(join, (fade, x))[1]


def _times(a: Pair, b: Pair) -> Pair:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _shown(kernel: jax.Array, states: Pair) -> jax.Array:
    """Re(C h) for complex h [T, ...] and C: a kernel of Re C above -Im C. [T, outputs]."""
    real, imaginary = (part.reshape(len(part), -1) for part in states)
    return real @ kernel[: real.shape[1]] + imaginary @ kernel[real.shape[1] :]


def _turn(rate: jax.Array, angle: jax.Array) -> Pair:
    """exp(-rate + i angle)."""
    return jnp.exp(-rate) * jnp.cos(angle), jnp.exp(-rate) * jnp.sin(angle)
