"""A training as JSON, and back, so that a sweep's folder is enough to make it again.

Nothing in a file chooses code: a type is a frozen dataclass that a module of the kit, of `envs` or
of gymnax's environments defines itself, a function is one of a closed list, all else is data.
"""

import dataclasses
import importlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl import tree
from jaxrl.errors import nearest
from jaxrl.module_names import full_name, is_named, recorded_name, short_name
from jaxrl.sweep import arrays
from jaxrl.sweep.grid import raw

OPTIMIZERS = (
    *(
        "adabelief",
        "adadelta",
        "adafactor",
        "adagrad",
        "adam",
        "adamax",
        "adamaxw",
        "adamw",
        "adan",
        "amsgrad",
        "fromage",
    ),
    *(
        "lamb",
        "lars",
        "lion",
        "nadam",
        "nadamw",
        "noisy_sgd",
        "novograd",
        "optimistic_adam",
        "optimistic_adam_v2",
    ),
    *(
        "optimistic_gradient_descent",
        "radam",
        "rmsprop",
        "rprop",
        "sgd",
        "sign_sgd",
        "signum",
        "sm3",
        "yogi",
    ),
)
ACTIVATIONS = (  # flax's are the same objects
    *(
        "celu",
        "elu",
        "gelu",
        "hard_sigmoid",
        "hard_silu",
        "hard_swish",
        "hard_tanh",
        "identity",
        "leaky_relu",
        "log_sigmoid",
    ),
    *(
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "soft_sign",
        "softplus",
        "sparse_plus",
        "squareplus",
        "swish",
    ),
    "tanh",
)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    f"{home.__name__}.{name}": vars(home)[name]
    for home, names in ((optax, OPTIMIZERS), (jax.nn, ACTIVATIONS))
    for name in names
    if name in vars(home)
}
Load = Callable[[arrays.Reference], np.ndarray]  # the array that a record names by its digest
ADVICE = ": pass training=, the rl.Training that was swept."
HOMES = ("jaxrl.", "envs.", "gymnax.environments.")
TYPE_NAME = re.compile(
    r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+\.[A-Z][A-Za-z0-9]*"
)  # nothing private, no class in a class
INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)
KINDS = {
    str(np.dtype(x)): np.dtype(x)
    for x in (bool, *INTEGERS, jnp.bfloat16, np.float16, np.float32, np.float64)
}
KEYS = {f"key:{name}": name for name in ("threefry2x32", "rbg", "unsafe_rbg")}


# ------------------------------------------------------------------------------------------ writing


def encode(value: Any) -> Any:
    """A value as JSON, from which `decode` makes its equal; large arrays are named by digest.

    A type or function outside the kit becomes `{"unknown": its name}`.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, jax.Array | np.ndarray | np.generic) and (name := kind(value)) in (
        KINDS | KEYS
    ):
        large = arrays.is_large(value)
        shape = {"shape": list(value.shape)} if value.size == 0 else {}  # an empty list has lost it
        host = {} if isinstance(value, jax.Array) else {"numpy": True}
        is_weak = value.ndim == 0 and jax.typeof(value).weak_type  # as a Python number is
        weak = {"weak": True} if is_weak else {}
        words = arrays.reference(value) if large else _words(value)
        return {"array": words, "dtype": name} | shape | host | weak
    if type(value) is list:
        return [encode(item) for item in value]
    if type(value) is tuple:
        return {"tuple": [encode(item) for item in value]}
    if type(value) is dict and all(type(key) in (str, int) for key in value):
        return {"dict": [[key, encode(item)] for key, item in value.items()]}
    if (
        function := next((name for name, known in FUNCTIONS.items() if known is value), None)
    ) is not None:
        return {"function": function}
    name = recorded_name(type(value))
    if dataclasses.is_dataclass(value) and _found(name) is type(value):
        fields = {
            field.name: encode(vars(value)[field.name])
            for field in tree.recorded_fields(value)
            if field.init
        }
        return {"type": name, "fields": fields}
    return {"unknown": recorded_name(value if is_named(value) else type(value))}


def record(training: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The training as JSON, and the dtypes of each swept name's values."""
    kinds = {name: encode(jax.tree.map(kind, value)) for name, value in config.items()}
    return {"recipe": encode(training), "kinds": kinds}


def kind(x: Any) -> str:
    """The name of an array's dtype, or "key:" and the name of a key's generator."""
    is_key = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return f"key:{jax.random.key_impl(x)}" if is_key else str(x.dtype)


def _words(x: Any) -> Any:
    return (raw(x) if isinstance(x, jax.Array) else x).tolist()


# ------------------------------------------------------------------------------------------ reading


def decode(found: Any, path: str = "", load: Load | None = None) -> Any:
    """The value that `encode` wrote. It imports modules of the kit and of gymnax at most, and calls
    nothing that is named in the file but their dataclasses.

    load: the array of a reference; without it a large array is an error.

    Raises:
      ValueError: what `encode` could not write, or would not have written.
    """
    at = path or "the training"
    part = lambda item, path: decode(item, path, load)
    match found:
        case None | bool() | int() | float() | str():
            return found
        case list():
            return [part(item, f"{path}[{i}]") for i, item in enumerate(found)]
        case {"tuple": list(items), **rest} if not rest:
            return tuple(part(item, f"{path}[{i}]") for i, item in enumerate(items))
        case {"dict": list(pairs), **rest} if not rest and all(_is_pair(pair) for pair in pairs):
            return {key: part(item, f"{path}[{key!r}]") for key, item in pairs}
        case {"array": words, "dtype": str(name), **rest} if set(rest) <= {
            "shape",
            "numpy",
            "weak",
        }:
            words = _loaded(words, at, load) if arrays.is_reference(words) else words
            return array(words, name, at, **rest)
        case {"function": str(name), **rest} if not rest and name in FUNCTIONS:
            return FUNCTIONS[name]
        case {"type": str(name), "fields": dict(fields), **rest} if (
            not rest and (made := _found(name)) is not None
        ):
            return _made(made, fields, path, load)
        case (
            {"function": str(name), **_rest}
            | {"type": str(name), **_rest}
            | {"unknown": str(name), **_rest}
        ):
            raise ValueError(f"{at} is {name}, which is not part of the kit{ADVICE}")
    text = str(found)[:60]
    raise ValueError(f"{at} reads {text}, which no sweep writes{ADVICE}")


def array(
    words: Any, name: str, at: str, shape: Any = None, numpy: Any = False, weak: Any = False
) -> Any:
    """The array of these nested numbers, exactly.

    Raises:
      ValueError: they are not numbers, or of a dtype that jax has switched off.
    """
    if name not in KINDS | KEYS:
        raise ValueError(f"{at} is an array of {name!r}; known are {', '.join(KINDS | KEYS)}.")
    try:
        host = np.asarray(words, KINDS.get(name, np.dtype(np.uint32)))
        host = host if shape is None else host.reshape(shape)
        if numpy:
            return host[()]
        host = host.item() if weak else host
        made = (
            jax.random.wrap_key_data(jnp.asarray(host), impl=KEYS[name])
            if name in KEYS
            else jnp.asarray(host)
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{at} is not an array of {name}: {error}") from None
    if name in KINDS and made.dtype != KINDS[name]:
        raise ValueError(
            f'{at} is {name}: call jax.config.update("jax_enable_x64", True) first, as the '
            "sweep had it."
        )
    return made


def _loaded(found: arrays.Reference, at: str, load: Load | None) -> np.ndarray:
    """A large array from its file."""
    if load is None:
        raise ValueError(
            f"{at} is an array {found['shape']} that is known by its digest alone{ADVICE}"
        )
    try:
        return load(found)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{at} is an array that can't be loaded ({error}){ADVICE}") from error


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str | int)


def _found(name: str) -> type | None:
    """The frozen dataclass that one of the homes defines under this name, among the module's own
    names alone. `envs.` and `jaxrl.envs.` are the kit's environments, whatever else is called envs.
    """
    home, _, own = full_name(name).rpartition(".")
    if not TYPE_NAME.fullmatch(name) or not name.startswith(HOMES):
        return None
    try:
        found = vars(importlib.import_module(home)).get(own)
    except ImportError:
        return None
    if not isinstance(found, type) or not dataclasses.is_dataclass(found):
        return None
    if recorded_name(found) != short_name(name):  # imported there, and defined elsewhere
        return None
    return found if vars(found)["__dataclass_params__"].frozen else None


def _made(made: type, fields: dict[str, Any], path: str, load: Load | None) -> Any:
    known = [field.name for field in dataclasses.fields(made) if field.init]
    if unknown := sorted(set(fields) - set(known)):
        raise ValueError(
            f"{path or 'the training'} is a {made.__name__}, which has no {unknown[0]!r}; "
            f"{nearest(unknown[0], known)}."
        )
    values = {
        name: decode(value, f"{path}.{name}".lstrip("."), load) for name, value in fields.items()
    }
    try:
        return made(**values)
    except Exception as error:  # a class may check its fields in any way
        raise ValueError(
            f"{path or 'the training'} can't be a {made.__name__} of these fields: {error}"
        ) from error
