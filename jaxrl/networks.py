"""Networks as pairs of pure functions: the only door to flax.

An algorithm names its heads and their sizes, `{"logits": 2, "value": 1}`; a builder (`MLP`, `CNN`,
or anything with the same `__call__`) turns them into a `Network`. A builder is hashed by its
fields, so two equal ones share one compilation.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import batch_norm
from jaxrl.errors import check_counts, check_widths, nearest
from jaxrl.masks import mask_of, visible
from jaxrl.ranges import check_ranges
from jaxrl.tree import flat, leaf

Params = Any
Out = dict[str, jax.Array]
Activation = Callable[[jax.Array], jax.Array]
Initialiser = Callable[[float], Callable[..., jax.Array]]  # scale -> (key, shape, dtype) -> weights


class Network(NamedTuple):
    """A neural network as two functions, of any library.

    Both functions take one observation; the caller vmaps.
    """

    init: Callable[[jax.Array, Any], Params]  # (key, obs) -> params
    apply: Callable[[Params, Any], Out]  # (params, obs) -> {head: [size]}


class Recurrent(NamedTuple):
    """A network with a recurrent state.

    It reads a whole trajectory [T]; `first` [T] marks the first step of an episode.
    """

    init: Callable[[jax.Array, Any], Params]  # (key, obs) -> params
    start: Callable[[], Any]  # () -> memory: zeros, so that a reset is a `where` with zeros
    # (params, memory, obs, first) -> memory, {head: [T, size]}
    apply: Callable[[Params, Any, Any, jax.Array], tuple[Any, Out]]


class Builder(Protocol):
    def __call__(self, heads: Mapping[str, int]) -> Network: ...


@runtime_checkable
class Memory(Protocol):
    """A recurrent cell that reads a trajectory of features: `size` in, `size` out."""

    @property
    def size(self) -> int: ...

    def init(self, key: jax.Array) -> Params: ...
    def start(self) -> Any: ...
    def apply(
        self, params: Params, memory: Any, x: jax.Array, first: jax.Array
    ) -> tuple[Any, jax.Array]: ...


def build(
    network: Builder, memory: Memory | None, heads: Mapping[str, int], trains_norm: bool = False
) -> Recurrent:
    """A network, with or without a memory, as a `Recurrent`.

    Without a memory, it reads the observations of a trajectory one by one. It reads `Masked`
    observations without their masks, which are returned beside its heads as "mask" [T, n].
    trains_norm: True where the caller updates the statistics of a network with `batch_norm`.
    """
    _check_builder(network)
    _check_memory(memory)
    if _has_batch_norm(network) and (memory is not None or not trains_norm):
        raise ValueError(
            "batch_norm=True is for actor-critics without a memory, such as rl.crossq(): write "
            "layer_norm=True here."
        )
    plain = _build(network, memory, heads)

    def apply(params: Params, state: Any, obs: Any, first: jax.Array) -> tuple[Any, Out]:
        state, out = plain.apply(params, state, visible(obs), first)
        _check_heads(heads, out)
        mask = mask_of(obs)
        return state, out if mask is None else out | {"mask": mask}

    return Recurrent(lambda key, obs: plain.init(key, visible(obs)), plain.start, apply)


def _check_builder(network: Any) -> None:
    """Check that a network is a builder: neither its class, nor a finished module."""
    if isinstance(network, type):
        raise TypeError(f"network={network.__name__} is a class: write {network.__name__}(...).")
    if isinstance(network, nn.Module):
        raise TypeError(
            f"network={type(network).__name__}(...) is a module of flax: write a builder, a "
            "function from {head: size} to rl.Network(init, apply), or rl.MLP((64, 64))."
        )
    if not callable(network):
        raise TypeError(f"network={network!r} is not a builder: write rl.MLP((64, 64)).")


def _check_memory(memory: Any) -> None:
    """Check that a memory is a cell: neither its class, nor its size."""
    if isinstance(memory, type):
        raise TypeError(f"memory={memory.__name__} is a class: write {memory.__name__}(64).")
    if memory is not None and not isinstance(memory, Memory):
        raise TypeError(f"memory={memory!r} is not a recurrent cell: write rl.GRU(64).")


def _has_batch_norm(network: Builder) -> bool:
    if isinstance(network, Views):
        return any(map(_has_batch_norm, (network.network, *dict(network.networks).values())))
    return isinstance(network, MLP) and network.batch_norm


def _check_heads(heads: Mapping[str, int], out: Out) -> None:
    """Refuse a network that does not give the heads that it was called with."""
    for head, size in heads.items():
        if head not in out or out[head].shape[-1:] != (size,):
            given = ", ".join(f"{name} {list(x.shape[1:])}" for name, x in out.items()) or "none"
            raise ValueError(
                f"the rule needs a head {head!r} of size {size}, and the network gives "
                f"{given}: its builder is called with all heads and their sizes, and makes each of "
                "them, as MLP does."
            )


def _build(network: Builder, memory: Memory | None, heads: Mapping[str, int]) -> Recurrent:
    if memory is not None and isinstance(network, Views):
        raise ValueError(
            "A memory has one input for all heads, and Views gives each head a part of the "
            "observation: leave memory= out, or write network=rl.MLP()."
        )
    if memory is None:
        body = network(heads)
        return Recurrent(
            body.init,
            lambda: (),
            lambda params, _, obs, first: ((), jax.vmap(lambda o: body.apply(params, o))(obs)),
        )
    body, top = network({"features": memory.size}), MLP(hidden=())(heads)

    def init(key: jax.Array, obs: Any) -> Params:
        key_body, key_memory, key_top = jax.random.split(key, 3)
        return {
            "body": body.init(key_body, obs),
            "memory": memory.init(key_memory),
            "top": top.init(key_top, jnp.zeros(memory.size, jnp.float32)),
        }

    def apply(params: Params, state: Any, obs: Any, first: jax.Array) -> tuple[Any, Out]:
        x = jax.vmap(lambda o: body.apply(params["body"], o)["features"])(obs)
        state, y = memory.apply(params["memory"], state, x, first)
        return state, jax.vmap(lambda y: top.apply(params["top"], y))(y)

    return Recurrent(init, memory.start, apply)


# ------------------------------------------------------------------------------------- initialisers


def orthogonal(scale: float = 1.0) -> Callable[..., jax.Array]:
    """Random orthonormal columns (or rows) times `scale` (Saxe et al., 2014).

    For kernels [..., in, out]. By Gram-Schmidt, done twice, which keeps float32 orthonormal; not by
    LAPACK's QR, which hangs under vmap on a CPU.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        rows, columns = math.prod(shape[:-1]), shape[-1]
        normal = jax.random.normal(key, (max(rows, columns), min(rows, columns)), dtype)

        def add(k: jax.Array, basis: jax.Array) -> jax.Array:
            column = normal[:, k]
            for _ in range(2):
                column -= basis @ (basis.T @ column)
            return basis.at[:, k].set(column / jnp.linalg.norm(column))

        basis = jax.lax.fori_loop(0, normal.shape[1], add, jnp.zeros_like(normal))
        return scale * (basis if rows >= columns else basis.T).reshape(shape)

    return init


@dataclasses.dataclass(frozen=True)
class Orthogonal:
    """`orthogonal`, as a value."""

    def __call__(self, scale: float) -> Callable[..., jax.Array]:
        return orthogonal(scale)


@dataclasses.dataclass(frozen=True)
class Sparse:
    """LeCun-uniform, with a share `zeros` of each unit's inputs cut (Elsayed et al., 2024).

    The scale is ignored. Each unit keeps at least one input, where the paper's rounding would cut
    all of fewer than ten.
    """

    zeros: float = leaf(0.9, "[0, 1]")

    def __post_init__(self) -> None:
        check_ranges(self)

    def __call__(self, scale: float) -> Callable[..., jax.Array]:
        def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
            key_value, key_place = jax.random.split(key)
            inputs = math.prod(shape[:-1])
            num_zeros = min(math.ceil(self.zeros * inputs), inputs - 1)
            limit = 1.0 / math.sqrt(inputs)
            weights = jax.random.uniform(key_value, (inputs, shape[-1]), dtype, -limit, limit)
            # a random order for each unit
            place = jnp.argsort(jax.random.uniform(key_place, weights.shape), axis=0)
            return jnp.where(place >= num_zeros, weights, 0.0).reshape(shape)

        return init


# A policy head starts near zero, so that every action is about as likely; other heads at their
# natural scale.
HEAD_SCALE = {"logits": 0.01, "loc": 0.01, "log_std": 0.01, "spread": 0.01}


def _dense(
    size: int, scale: float, name: str | None = None, kernel: Initialiser = orthogonal
) -> nn.Dense:
    return nn.Dense(size, kernel_init=kernel(scale), name=name)


# ----------------------------------------------------------------------------------------- builders


class _Heads(nn.Module):
    """Towers from features to heads: one for each head, or one for all.

    `free` heads are parameters that do not depend on the input.
    """

    heads: tuple[tuple[str, int], ...]
    hidden: tuple[int, ...]
    activation: Activation
    shared: bool
    layer_norm: bool
    free: tuple[str, ...]
    kernel: Initialiser = orthogonal
    norm_weights: bool = True
    batch_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> Out:
        out = {}
        shared = self._tower(x, "shared") if self.shared else None
        for head, size in self.heads:
            if head in self.free:
                out[head] = self.param(head, nn.initializers.zeros, (size,), jnp.float32)
            else:
                y = self._tower(x, head) if shared is None else shared
                out[head] = _dense(size, HEAD_SCALE.get(head, 1.0), f"{head}_out", self.kernel)(y)
        return out

    def _tower(self, x: jax.Array, name: str) -> jax.Array:
        x = self._batch_norm(x, f"{name}_batch_norm")
        for i, size in enumerate(self.hidden):
            x = _dense(size, math.sqrt(2.0), f"{name}_{i}", self.kernel)(x)
            norm = nn.LayerNorm(
                use_bias=self.norm_weights, use_scale=self.norm_weights, name=f"{name}_norm_{i}"
            )
            x = self.activation(norm(x) if self.layer_norm else x)
            x = self._batch_norm(x, f"{name}_batch_norm_{i}")
        return x

    def _batch_norm(self, x: jax.Array, name: str) -> jax.Array:
        if not self.batch_norm:
            return x
        running = not self.is_mutable_collection("batch_stats")
        return nn.BatchNorm(
            running, momentum=0.99, epsilon=1e-3, axis_name=batch_norm.AXIS, name=name
        )(x)


class _Convolutions(nn.Module):
    """Convolutions over [height, width, channels], flattened, then heads."""

    features: tuple[int, ...]
    kernel: int
    stride: int
    activation: Activation
    top: _Heads

    @nn.compact
    def __call__(self, x: jax.Array) -> Out:
        for size in self.features:
            window, stride = (self.kernel, self.kernel), (self.stride, self.stride)
            x = nn.Conv(size, window, stride, "VALID", kernel_init=orthogonal(math.sqrt(2.0)))(x)
            x = self.activation(x)
        return self.top(x.ravel())


def _network(module: nn.Module, read: Callable[[Any], jax.Array]) -> Network:
    def apply(params: Params, obs: Any) -> Out:
        return module.apply(params, read(obs))  # type: ignore[return-value]

    return Network(lambda key, obs: module.init(key, read(obs)), apply)


@dataclasses.dataclass(frozen=True)
class MLP:
    """Fully connected layers over the flattened observation.

    hidden: the layers' widths. shared: one tower for all heads rather than one for each.
    layer_norm: before each activation. free: heads that are parameters and do not depend on the
    observation (as is usual for the spread of a Gaussian). init: of the kernels, `Orthogonal()` or
    `Sparse()`. norm_weights: True for a layer_norm that learns a scale and a bias. batch_norm: of
    the input and of each layer; for actor-critics only, such as `crossq`.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: Activation = nn.tanh
    shared: bool = False
    layer_norm: bool = False
    free: tuple[str, ...] = ("log_std",)
    init: Initialiser = Orthogonal()
    norm_weights: bool = True
    # not in the repr, by which stored results name a network
    batch_norm: bool = dataclasses.field(default=False, repr=False)

    def __post_init__(self) -> None:
        check_widths(self, "hidden")

    def __call__(self, heads: Mapping[str, int]) -> Network:
        top = _Heads(
            tuple(heads.items()),
            self.hidden,
            self.activation,
            self.shared,
            self.layer_norm,
            self.free,
            self.init,
            self.norm_weights,
            self.batch_norm,
        )
        if self.batch_norm:
            return Network(*batch_norm.functions(top, flat))
        return _network(top, flat)


@dataclasses.dataclass(frozen=True)
class CNN:
    """Convolutions shared by all heads, then the layers of an MLP.

    It reads one image [height, width, channels]; bytes are scaled to the range 0 to 1. The defaults
    suit MinAtar's 10 x 10 boards (Young and Tian, 2019).
    """

    features: tuple[int, ...] = (16,)
    kernel: int = 3
    stride: int = 1
    hidden: tuple[int, ...] = (128,)
    activation: Activation = nn.relu
    free: tuple[str, ...] = ("log_std",)

    def __post_init__(self) -> None:
        check_widths(self, "hidden")
        check_widths(self, "features")
        check_counts(self, "kernel", "stride")

    def __call__(self, heads: Mapping[str, int]) -> Network:
        top = _Heads(tuple(heads.items()), self.hidden, self.activation, True, False, self.free)
        module = _Convolutions(self.features, self.kernel, self.stride, self.activation, top)
        return _network(module, self._image)

    @staticmethod
    def _image(obs: jax.Array) -> jax.Array:
        if not jax.tree_util.all_leaves([obs]) or jnp.ndim(obs) not in (2, 3):
            shapes = jax.tree.map(jnp.shape, obs)
            raise ValueError(
                "CNN reads one image [height, width, channels], but the observation has shape "
                f"{shapes}. Use MLP() for observations that are not images."
            )
        image = obs if jnp.ndim(obs) == 3 else obs[..., None]
        return image.astype(jnp.float32) / (255.0 if image.dtype == jnp.uint8 else 1.0)


@dataclasses.dataclass(frozen=True)
class Views:
    """A network with heads that read parts of the observation, which is a dictionary.

    So a critic may read more than its actor.

    `Views(MLP(), reads={"value": "state"}, default="obs")`: the head "value" reads obs["state"],
    all others read obs["obs"]; heads that read the same part share a network as `network` has it.
    networks: builders for some of the parts in place of `network`, {part: builder}.
    """

    network: Builder = MLP()
    reads: Any = ()  # {head: part}
    default: str = "obs"
    networks: Any = ()  # {part: builder}

    def __post_init__(self) -> None:
        for name in ("reads", "networks"):  # hashable, so that equal ones share a compilation
            items = dict(vars(self)[name]).items()
            object.__setattr__(self, name, tuple(sorted(items, key=lambda item: item[0])))

    def of(self, heads: Mapping[str, int]) -> "Views":
        """The views of these heads alone, for a network that has no others."""
        return dataclasses.replace(
            self, reads={head: part for head, part in self.reads if head in heads}
        )

    def single(self, heads: Mapping[str, int]) -> "Views":
        """The one view that all of these heads read, for a network of other heads.

        Raises:
          ValueError: they read several parts.
        """
        parts = sorted({dict(self.reads).get(head, self.default) for head in heads})
        if len(parts) > 1:
            raise ValueError(
                f"The heads {', '.join(heads)} are made of the same features, and Views has them "
                f"read {', '.join(parts)}: let them read one part."
            )
        return dataclasses.replace(self, reads=(), default=parts[0])

    def __call__(self, heads: Mapping[str, int]) -> Network:
        part_of = dict(self.reads)
        check_views(self, heads)
        groups: dict[str, dict[str, int]] = {}
        for head, size in heads.items():
            groups.setdefault(part_of.get(head, self.default), {})[head] = size
        builders = dict(self.networks)
        parts = {part: builders.get(part, self.network)(group) for part, group in groups.items()}

        def init(key: jax.Array, obs: Any) -> Params:
            keys = jax.random.split(key, len(parts))
            return {
                part: network.init(key, _part(obs, part))
                for key, (part, network) in zip(keys, parts.items(), strict=True)
            }

        def apply(params: Params, obs: Any) -> Out:
            out: Out = {}
            for part, network in parts.items():
                out |= network.apply(params[part], _part(obs, part))
            return out

        return Network(init, apply)


def check_views(network: Builder, heads: Iterable[str]) -> None:
    """Check that the heads that `Views` names are heads of the network.

    Raises:
      ValueError: one that is not.
    """
    unknown = (
        [head for head, _ in network.reads if head not in heads]
        if isinstance(network, Views)
        else []
    )
    if unknown:
        raise ValueError(
            f"Views(reads=) names {unknown[0]!r}, which is not a head of this network: "
            f"{nearest(unknown[0], heads)}."
        )


def _part(obs: Any, part: str) -> Any:
    if not isinstance(obs, Mapping) or part not in obs:
        parts = ", ".join(map(repr, obs)) if isinstance(obs, Mapping) else "it is not a dictionary"
        instead = "name its parts in reads= and default="
        if part in ("obs", "state"):
            instead += (
                ", or for a team write rl.envs.WithState(env), in which an agent has its own 'obs' "
                "and the 'state' of the whole team"
            )
        raise ValueError(
            f"Views reads the part {part!r} of the observation, which has none of that name "
            f"({parts}): {instead}."
        )
    return obs[part]
