"""Linear recurrences (FFM, LRU), which a parallel scan computes in O(log T) steps.

A complex number is a pair of real arrays, so that parameters and states are real.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxrl.devices import platform
from jaxrl.errors import check_counts
from jaxrl.memories.layers import dense, kernel, linear, normal
from jaxrl.networks import Params
from jaxrl.ranges import check_ranges
from jaxrl.tree import leaf

Pair = tuple[jax.Array, jax.Array]  # the real and the imaginary part


@dataclasses.dataclass(frozen=True)
class FFM:
    """Fast and forgetful memory (Morad et al., 2023): decaying sums of past features.

    There are `traces` decay rates |alpha| and `contexts` frequencies omega, both learned:
    S[t] = exp(-|alpha| + i omega) S[t-1] + x[t]. The phase encodes how long ago a feature was read.
    Initially the slowest trace decays to 1 % in `period` steps, the lowest frequency has a period
    of `period` steps, and the highest of one step. Where the output gate is closed the input
    features pass through unchanged (the paper has a linear layer there).
    """

    size: int = 64
    traces: int = 32
    contexts: int = 4
    period: float = leaf(1024.0, "(1, inf)")

    def __post_init__(self) -> None:
        check_counts(self, "size", "traces", "contexts")
        check_ranges(self)

    def init(self, key: jax.Array) -> Params:
        key_input, key_mix = jax.random.split(key)
        return {
            # the features to be written, the input gate and the output gate
            "input": dense(key_input, self.size, 2 * self.traces + self.size),
            "mix": dense(key_mix, 2 * self.traces * self.contexts, self.size),
            "alpha": jnp.linspace(
                math.log(100.0) / self.period, 0.5, self.traces, dtype=jnp.float32
            ),
            "omega": 2.0
            * jnp.pi
            / jnp.linspace(1.0, self.period, self.contexts, dtype=jnp.float32),
        }

    def start(self) -> Pair:
        return jnp.zeros((self.traces, self.contexts), jnp.float32), jnp.zeros(
            (self.traces, self.contexts), jnp.float32
        )

    def apply(
        self, params: Params, memory: Pair, x: jax.Array, first: jax.Array
    ) -> tuple[Pair, jax.Array]:
        write, write_gate, output_gate = jnp.split(
            linear(params["input"], x), [self.traces, 2 * self.traces], axis=-1
        )
        write = (write * jax.nn.sigmoid(write_gate))[:, :, None]  # the same for all contexts
        decay = _complex_decay(jnp.abs(params["alpha"])[:, None], params["omega"][None])
        memory, sums = linear_memory(decay, memory, (write, jnp.zeros_like(write)), first)
        mixed = normal(_real_output(params["mix"]["kernel"], sums) + params["mix"]["bias"][None])
        output_gate = jax.nn.sigmoid(output_gate)
        return memory, output_gate * mixed + (1.0 - output_gate) * x


@dataclasses.dataclass(frozen=True)
class LRU:
    """Linear recurrent unit (Orvieto et al., 2023) in a residual block: norm, LRU, GLU, skip.

    h[t] = lambda h[t-1] + gamma B x[t] and y[t] = Re(C h[t]) + D x[t], with `states` complex h.
    lambda = exp(-exp(nu) + i exp(theta)) stays inside the unit circle. It is initialised uniformly
    on the ring from `r_min` to `r_max`, with angles up to `max_angle`; gamma, learned too, is
    initialised so that white noise gives states of variance 1.
    """

    size: int = 64
    states: int = 64
    r_min: float = leaf(0.0, "[0, 1)")
    r_max: float = leaf(0.99, "(0, 1)")
    max_angle: float = leaf(2.0 * math.pi, "(0, inf)")

    def __post_init__(self) -> None:
        check_counts(self, "size", "states")
        if not 0.0 <= self.r_min < self.r_max < 1.0:
            raise ValueError(
                f"r_min={self.r_min} and r_max={self.r_max} do not bound a ring inside the unit "
                "circle, where the recurrence is stable (0 <= r_min < r_max < 1): write "
                "LRU(r_min=0.0, r_max=0.99)."
            )
        check_ranges(self)

    def init(self, key: jax.Array) -> Params:
        key_radius, key_angle, key_input, key_output, key_skip, key_glu = jax.random.split(key, 6)

        def uniform(key: jax.Array) -> jax.Array:
            return jax.random.uniform(key, (self.states,), jnp.float32, 1e-3)  # a logarithm follows

        log_radius = 0.5 * jnp.log(
            uniform(key_radius) * (self.r_max**2 - self.r_min**2) + self.r_min**2
        )
        return {
            "nu": jnp.log(-log_radius),
            "theta": jnp.log(self.max_angle * uniform(key_angle)),
            "gamma": 0.5 * jnp.log(-jnp.expm1(2.0 * log_radius)),
            "input": {"kernel": kernel(key_input, self.size, 2 * self.states) / math.sqrt(2.0)},
            "output": {"kernel": kernel(key_output, 2 * self.states, self.size) * math.sqrt(2.0)},
            "skip": {"scale": jax.random.normal(key_skip, (self.size,), jnp.float32)},
            "glu": dense(key_glu, self.size, 2 * self.size),
        }

    def start(self) -> Pair:
        return jnp.zeros(self.states, jnp.float32), jnp.zeros(self.states, jnp.float32)

    def apply(
        self, params: Params, memory: Pair, x: jax.Array, first: jax.Array
    ) -> tuple[Pair, jax.Array]:
        inputs = normal(x)
        gamma = jnp.tile(jnp.exp(params["gamma"]), 2)
        real, imaginary = jnp.split(inputs @ (params["input"]["kernel"] * gamma[None]), 2, axis=-1)
        decay = _complex_decay(jnp.exp(params["nu"]), jnp.exp(params["theta"]))
        memory, states = linear_memory(decay, memory, (real, imaginary), first)
        skip = params["skip"]["scale"][None] * inputs
        output = _real_output(params["output"]["kernel"], states) + skip
        value, gate = jnp.split(linear(params["glu"], jax.nn.gelu(output)), 2, axis=-1)
        return memory, x + value * jax.nn.sigmoid(gate)


def linear_memory(decay: Pair, memory: Pair, x: Pair, first: jax.Array) -> tuple[Pair, Pair]:
    """The linear recurrence h[t] = decay h[t-1] + x[t], reset to h[t] = x[t] at first steps.

    decay: complex, [...].
    memory: the h before the first step, [...].
    x: [T, ...], which may have sizes of 1 that broadcast.
    first: True at the first step of an episode, [T].

    Nothing is divided by a power of the decay, so that no length overflows (as the cumulative sum
    of Morad et al., 2023, would).

    Returns:
      The last h [...], and all of them [T, ...].
    """
    scan = sequential_scan if platform() == "cpu" else parallel_scan
    states = scan(decay, memory, x, first)
    return (states[0][-1], states[1][-1]), states


def sequential_scan(decay: Pair, memory: Pair, x: Pair, first: jax.Array) -> Pair:
    """All h of `linear_memory` in T sequential steps. [T, ...].

    Faster than `parallel_scan` on a CPU, at a tenth of its compile time.
    """

    def step(state: Pair, row: tuple[Pair, jax.Array]) -> tuple[Pair, Pair]:
        x, first = row
        real, imaginary = _times(decay, state)
        state = x[0] + jnp.where(first, 0.0, real), x[1] + jnp.where(first, 0.0, imaginary)
        return state, state

    return jax.lax.scan(step, memory, (x, first))[1]


def parallel_scan(decay: Pair, memory: Pair, x: Pair, first: jax.Array) -> Pair:
    """All h of `linear_memory` in about 2 log2 T parallel steps. [T, ...].

    Martin and Cundy (2018); a reset is a decay of 0.
    """

    def combine(before: tuple[Pair, Pair], after: tuple[Pair, Pair]) -> tuple[Pair, Pair]:
        (decay_before, x_before), (decay_after, x_after) = before, after
        real, imaginary = _times(decay_after, x_before)
        return _times(decay_after, decay_before), (x_after[0] + real, x_after[1] + imaginary)

    shape = (len(first), *decay[0].shape)
    resets = first.reshape(-1, *(1 for _ in shape[1:]))
    decays = jnp.where(resets, 0.0, decay[0][None]), jnp.where(resets, 0.0, decay[1][None])
    real, imaginary = _times((decays[0][0], decays[1][0]), memory)
    x = (
        jnp.broadcast_to(x[0], shape).at[0].add(real),
        jnp.broadcast_to(x[1], shape).at[0].add(imaginary),
    )
    return jax.lax.associative_scan(combine, (decays, x))[1]


def _times(a: Pair, b: Pair) -> Pair:
    """The complex product."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _real_output(kernel: jax.Array, states: Pair) -> jax.Array:
    """Re(C h) for complex h [T, ...], where the kernel holds Re C above -Im C. [T, outputs]."""
    real, imaginary = (part.reshape(len(part), -1) for part in states)
    return real @ kernel[: real.shape[1]] + imaginary @ kernel[real.shape[1] :]


def _complex_decay(rate: jax.Array, angle: jax.Array) -> Pair:
    """exp(-rate + i angle)."""
    return jnp.exp(-rate) * jnp.cos(angle), jnp.exp(-rate) * jnp.sin(angle)
