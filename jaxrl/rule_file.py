"""Rules as files without code: arrays as numbers, the rest as names of the kit's own classes.

A folder holds `rule.npz`, flat arrays, and `rule.json`: the fields that the arrays belong to, the
agent that the rule was made for, and a card of its origin.
"""

import hashlib
import io
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import rules, tree
from jaxrl.algorithms.base import Algorithm
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.env import Env, Step
from jaxrl.errors import as_path
from jaxrl.rules.base import Rule, check_rule
from jaxrl.rules.group import Group
from jaxrl.rules.surrogate import Surrogate
from jaxrl.spaces import Discrete
from jaxrl.sweep import npz, serialize, store
from jaxrl.sweep.files import read_bytes, read_text
from jaxrl.tree import pytree, static

FORMAT = 1
SHIPPED = pathlib.Path(rules.__file__).parent / "shipped"
MARK = "npz:"  # a leaf of rule.json that stands for an array of rule.npz
Path = str | os.PathLike[str]


def save_rule(
    path: Path, rule: Rule, *, agent: OnPolicy | None = None, **card: Any
) -> pathlib.Path:
    """Write a rule into the folder `path`, for `load_rule`. Return the folder.

    agent: the `OnPolicy` that it is made for; its optimiser, sizes and network matter as much as
    the weights of the rule. `load_agent` returns it, with the rule in it. card: for readers, as
    JSON: `license`, `command`, `levels` (that it was trained on), `seeds`, `cost`, `scores` with
    their intervals.

    Raises:
      TypeError: an objective alone; an agent that is not an `OnPolicy`; an array of anything but
        numbers; a card that is not JSON. ValueError: a class or function that is not the kit's (a
        file holds no code); NaN among the weights.
    """
    check_rule(rule)
    if agent is not None and not isinstance(agent, OnPolicy):
        raise TypeError(
            f"agent= is the rl.OnPolicy that the rule is made for, and got {type(agent).__name__}."
        )
    whole: dict[str, Any] = {"rule": rule}
    if agent is not None:
        whole["agent"] = tree.replace(agent, rule=Surrogate())  # its own is stored once, as "rule"
    arrays: dict[str, np.ndarray] = {}

    def put(place: Any, leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            return leaf
        name = jax.tree_util.keystr(place, simple=True, separator=".")
        arrays[name] = _number(name, leaf)
        return MARK + name

    text = {
        name: serialize.encode(part)
        for name, part in jax.tree_util.tree_map_with_path(put, whole).items()
    }
    for name, part in text.items():
        _decode(_filled(part, arrays), name, "It can't be saved")
    if agent is not None:
        text["agent"]["fields"]["rule"] = None
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    record = {
        "format": FORMAT,
        "heads": dict(rule.heads),
        "card": {name: _plain(name, value) for name, value in card.items()},
        "arrays": {name: _shape(x) for name, x in arrays.items()},
        "sha256": hashlib.sha256(file.getvalue()).hexdigest(),
    } | text
    folder = as_path(path, "path")
    folder.mkdir(parents=True, exist_ok=True)
    store.write(folder / "rule.npz", lambda out: out.write(file.getvalue()))
    store.write(folder / "rule.json", lambda out: out.write(json.dumps(record, indent=1).encode()))
    return folder


def load_rule(path: Path) -> Rule:
    """The rule of a folder that `save_rule` wrote, or a shipped one by name: `load_rule("lpo")`.

    `rl.OnPolicy(rule=load_rule(path))` trains with it; `load_agent` adds the hyperparameters that
    it was made for. The file need not be trusted: classes are the kit's own, functions are on
    a closed list, everything else is numbers.

    Raises:
      FileNotFoundError: no rule there, nor of that name; it lists the shipped ones. ValueError:
        another format, a damaged file, a class that is not the kit's, arrays that do not fit the
        rule, or an agent with a controller, which is not part of the rule.
    """
    found = _load(path)
    agent = found.get("agent")
    if isinstance(agent, OnPolicy) and agent.controller is not None:
        raise ValueError(
            f"{path} holds an agent with a controller of its hyperparameters, and its rule alone "
            f"would train without the controller: write rl.load_agent({str(path)!r})."
        )
    return found["rule"]


def load_agent(path: Path) -> Algorithm:
    """The agent that a rule was made for, with the rule in it; paths are as in `load_rule`.

    Raises:
      ValueError: it was saved without an agent.
    """
    found = _load(path)
    if "agent" not in found:
        raise ValueError(
            f"{path} holds a rule without an agent: write "
            f"rl.OnPolicy(rule=rl.load_rule({str(path)!r}))."
        )
    if not isinstance(found["agent"], OnPolicy):
        raise ValueError(
            f"{path} is damaged: its agent is a {type(found['agent']).__name__}, and an "
            "rl.OnPolicy belongs there. Copy the file again."
        )
    return found["agent"]


def rule_card(path: Path) -> dict[str, Any]:
    """The card of a rule, as its author wrote it: origin, cost, tests, licence."""
    return _record(_folder(path))["card"]


def shipped() -> list[str]:
    """The names of the rules that come with the kit."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/rule.json"))


# ------------------------------------------------------------------------------------------ reading


def _load(path: Path) -> dict[str, Any]:
    folder = _folder(path)
    record = _record(folder)
    arrays = _arrays(folder, record)

    text = {"rule": record["rule"]}
    if "agent" in record:
        text["agent"] = _with_rule(record["agent"], record["rule"])
    trouble = f"{folder} can't be read"
    try:
        filled = _filled(text, arrays)
        found = {name: _decode(part, name, trouble) for name, part in filled.items()}
    except (KeyError, RecursionError) as error:
        raise ValueError(f"{folder} is damaged ({error}): copy it again.") from None
    try:
        _try(found["rule"])
    except Exception as error:  # tracing code on numbers that do not fit may fail in any way
        raise ValueError(f"{folder} holds numbers that do not fit its rule: {error}") from error
    return found


def _filled(text: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The text with the arrays in place of their marks."""
    match text:
        case str() if text.startswith(MARK):
            x = jnp.asarray(arrays[text[len(MARK) :]])
            return {"array": x.tolist(), "dtype": str(x.dtype), "shape": list(x.shape)}
        case list():
            return [_filled(item, arrays) for item in text]
        case dict():
            return {name: _filled(item, arrays) for name, item in text.items()}
    return text


def _with_rule(agent: Any, rule: Any) -> Any:
    """The text of an agent with that of its rule in it."""
    if not isinstance(agent, dict) or not isinstance(agent.get("fields"), dict):
        return agent  # which `decode` refuses
    return agent | {"fields": agent["fields"] | {"rule": rule}}


def _folder(path: Path) -> pathlib.Path:
    folder = as_path(path, "path")
    if (folder / "rule.json").is_file():
        return folder
    if str(path) in shipped():
        return SHIPPED / str(path)
    known = ", ".join(shipped()) or "none yet"
    raise FileNotFoundError(
        f"{path} holds no rule: it has no rule.json. Name a folder that rl.save_rule wrote, or "
        f"a rule of the kit: {known}."
    )


def _record(folder: pathlib.Path) -> dict[str, Any]:
    try:
        record = json.loads(read_text(folder / "rule.json"))
        version = record["format"]
        if version == FORMAT and not {"card", "arrays", "sha256", "rule"} <= set(record):
            raise KeyError("a part is missing")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder / 'rule.json'} is damaged ({error}): copy it again.") from error
    if version != FORMAT:
        raise ValueError(
            f"{folder} is of format {version!r}, and this jaxrl reads {FORMAT}: use the jaxrl "
            "that wrote it."
        )
    return record


def _arrays(folder: pathlib.Path, record: dict[str, Any]) -> dict[str, np.ndarray]:
    try:
        raw = read_bytes(folder / "rule.npz")
    except FileNotFoundError:
        raise ValueError(f"{folder} has a rule.json without its rule.npz: copy both.") from None
    except ValueError as error:
        raise ValueError(f"{folder / 'rule.npz'} can't be read: {error}.") from None
    if hashlib.sha256(raw).hexdigest() != record["sha256"]:
        raise ValueError(
            f"{folder / 'rule.npz'} is damaged, or another rule's than its rule.json: copy "
            "both again."
        )
    try:
        arrays = npz.read_open(io.BytesIO(raw))
    except Exception as error:  # a malicious zip may fail in any way
        raise ValueError(f"{folder / 'rule.npz'} holds no plain arrays: {error}") from error
    if {name: _shape(x) for name, x in arrays.items()} != record["arrays"]:
        raise ValueError(
            f"{folder} has other arrays in its rule.npz than its rule.json says: copy both again."
        )
    if broken := [name for name, x in arrays.items() if np.isnan(x).any()]:
        raise ValueError(
            f"{folder} holds NaN in {broken[0]}: the training that it was saved from had diverged."
        )
    return arrays


def _decode(text: Any, name: str, trouble: str) -> Any:
    try:
        return serialize.decode(text, name)
    except ValueError as error:
        reason = str(error).removesuffix(serialize.ADVICE).rstrip(".")
        raise ValueError(f"{trouble}: {reason}. A rule's file holds no code.") from error


@pytree
class _Nowhere(Env):
    """An environment without content, in which the shapes of a rule are tried."""

    channels: tuple[str, ...] = static(default=())
    max_steps: int = static(default=2)
    action_space = Discrete(3)

    def reset(self, key: jax.Array) -> tuple[Any, jax.Array]:
        return (), jnp.zeros(2)

    def step(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        info = {name: jnp.float32(0.0) for name in self.channels}
        return state, Step(jnp.zeros(2), jnp.float32(0.0), jnp.bool_(False), info)


def _try(rule: Rule) -> None:
    """Trace an update, which fails where arrays do not fit. Nothing is compiled or computed."""
    num_envs = rule.group_size if isinstance(rule, Group) else 4
    algo = OnPolicy(rule=rule, num_envs=num_envs, num_steps=4, minibatches=1)
    env = _Nowhere(channels=rule.channels)

    def update(key_init: jax.Array, key: jax.Array) -> Any:
        return algo.update(key, env, algo.init(key_init, env, 10))

    jax.eval_shape(update, *jax.random.split(jax.random.key(0)))


# ------------------------------------------------------------------------------------------ writing


def _number(name: str, x: Any) -> np.ndarray:
    if x.dtype.kind not in "biuf":  # keys and bfloat16 are of other kinds
        raise TypeError(
            f"{name} is an array of {x.dtype}, which a rule's file can't hold: for "
            "example make it float32."
        )
    if np.isnan(x).any():
        raise ValueError(
            f"{name} holds NaN, so its training diverged: keep the best instead, keep_best=True."
        )
    return np.asarray(x)


def _shape(x: np.ndarray) -> dict[str, Any]:
    return {"shape": list(x.shape), "dtype": str(x.dtype)}


def _plain(name: str, value: Any) -> Any:
    value = value.tolist() if isinstance(value, jax.Array | np.ndarray | np.generic) else value
    try:
        json.dumps(value)
    except TypeError as error:
        raise TypeError(
            f"{name}= of a rule's card is not JSON: {error}. Write numbers, text, lists and "
            "dictionaries."
        ) from None
    return value
