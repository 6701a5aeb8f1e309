"""Export of results: tables, records, TensorBoard and Weights & Biases.

Only this module uses the libraries of these tools.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib
import itertools
import json
import os
import pathlib
import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from jaxrl.errors import as_path
from jaxrl.lazy import pandas as pd
from jaxrl.lazy import xarray as xr
from jaxrl.runs.deploy import write_numpy
from jaxrl.runs.policy import MemberPolicy, best
from jaxrl.runs.policy import policy as read_policy
from jaxrl.sweep import load, store
from jaxrl.sweep.record_file import write_record_file

Kind = Literal["csv", "parquet", "tensorboard", "wandb", "record", "numpy"]
NAMES = {
    "csv": "results.csv",
    "parquet": "results.parquet",
    "tensorboard": "tensorboard",
    "wandb": ".",
    "record": "record.json",
    "numpy": "policy",
}
MAX_NAME = 200  # characters of a file's name; file systems allow 255 bytes
# optional packages, each of which the extra of this name installs
PACKAGES = {"parquet": "pyarrow", "tensorboard": "tensorboardX", "wandb": "wandb"}


def export(
    results: xr.Dataset | MemberPolicy | str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    to: Kind = "csv",
    **where: Any,
) -> pathlib.Path:
    """Write the results of a sweep, or the policy of a run, for another tool.

    Args:
      results: results of a sweep, or its folder; for "numpy", a folder or a policy
        `rl.policy(...)`.
      path: the file, or the directory of logs; by default in the folder.
      to: one of
        "csv", "parquet": the table `frame(results)`.
        "tensorboard": a log of each finished run, in the directory of its setting: its labels
          without the characters that file systems refuse, numbered if two settings would share one.
        "wandb": a W&B run for each finished run, grouped by setting, with its labels and the
          reproducibility card as configuration, in a project with the name of the folder
          (WANDB_MODE=offline needs no network).
        "record": the reproducibility card of a folder and the return, evaluation and divergence of
          each run, in one small file that `rl.load`, `rl.runs`, `rl.report` and `rl.rerun` accept
          instead of the folder.
        "numpy": the greedy policy of a run for programs without jax, as a directory of
          `policy.npz`, its arrays, and `policy.py`, which needs only NumPy. Supported are an MLP,
          optionally with a GRU or LSTM, observation normalisation, action masks, and actions
          clipped to a box. Other networks are refused.
      where: for "numpy", the labels of the run, as in `rl.policy`; by default those of
        `rl.best`.

    A policy in gymnasium, with NumPy only:

        rl.export("runs/cartpole", "cartpole", to="numpy", seed=3)

        from cartpole.policy import Policy       # the directory is self-contained
        policy, env = Policy(), gymnasium.make("CartPole-v1")
        obs, done = env.reset()[0], False
        policy.reset()                           # the recurrent state, if it has one
        while not done:
            obs, reward, terminated, truncated, _ = env.step(policy(obs))
            done = terminated or truncated

    Returns:
      The path that was written.

    Raises:
      ImportError: the package of the tool is missing; the message names the extra that installs it.
      ValueError: `to` is unknown, a dataset has no path, or a policy has a part that "numpy" does
        not write.
    """
    if to not in NAMES:
        raise ValueError(f"to={to!r} is not known; write one of {', '.join(map(repr, NAMES))}.")
    if to == "numpy":
        return _numpy(results, path, where)
    if where or isinstance(results, MemberPolicy):
        given = next(iter(where), "a policy")
        raise ValueError(f"{given} selects a run, and to={to!r} writes all: write to='numpy'.")
    folder = None if isinstance(results, xr.Dataset) else as_path(results)
    if path is None and folder is None:
        raise ValueError(
            "a dataset has no folder to write into: add a path, for example rl.export(results, "
            f"{NAMES[to]!r})."
        )
    default = (folder or pathlib.Path()) / NAMES[to]
    path = default if path is None else as_path(path, "path")
    if to in PACKAGES:
        _import(to)
    results = results if isinstance(results, xr.Dataset) else load(results, running=False)
    if to == "record":
        if folder is None:
            raise ValueError(
                "a record needs the folder of a sweep: write rl.export(FOLDER, path, 'record')."
            )
        write_record_file(folder, results, path)
    elif to == "tensorboard":
        _tensorboard(results, path)
    elif to == "wandb":
        _wandb(results, path, "jaxrl" if folder is None else folder.resolve().name)
    else:
        table = frame(results)
        path.parent.mkdir(parents=True, exist_ok=True)
        to_file = table.to_csv if to == "csv" else table.to_parquet
        store.write(path, lambda file: to_file(file, index=False))
    return path


def _numpy(results: Any, path: Any, where: dict[str, Any]) -> pathlib.Path:
    """Write a policy, given as one or as the folder that it is in."""
    if isinstance(results, MemberPolicy):
        if where:
            raise ValueError(f"{next(iter(where))} selects a run, but a policy is already of one.")
        policy, default = results, None
    elif isinstance(results, xr.Dataset):
        raise ValueError(
            "a dataset holds no policies: write rl.export(FOLDER, to='numpy') with the folder of "
            "the sweep."
        )
    else:
        default = as_path(results) / NAMES["numpy"]
        policy = read_policy(results, **(where or best(load(results, running=False))))
    path = default if path is None else path
    if path is None:
        raise ValueError(
            "a policy has no folder to write into: add a path, such as rl.export(policy, 'policy', "
            "to='numpy')."
        )
    directory = as_path(path, "path")
    write_numpy(policy, directory)
    return directory


def frame(results: xr.Dataset) -> pd.DataFrame:
    """A tidy table with a row for each run and step.

    The columns are the axes, `step`, other coordinates, and the variables. A variable without steps
    is repeated at each step. Variables with other dimensions are left out; their names are printed
    and stored in `.attrs["left_out"]`.
    """
    results, left_out = _flat(results)
    dims = [*_axes(results), *(["step"] if "step" in results.dims else [])]
    table = (
        results.to_dataframe(dim_order=dims).reset_index()
        if dims
        else pd.DataFrame([_values(results)])
    )
    coordinates = [str(name) for name in results.coords if name not in dims]
    table = table.reindex(columns=[*dims, *coordinates, *map(str, results.data_vars)])
    table.attrs = {"left_out": left_out}
    return table


def _flat(results: xr.Dataset) -> tuple[xr.Dataset, list[str]]:
    """The variables that have labelled dimensions only, and the names of the others (printed)."""
    labelled = {str(dim) for dim in results.dims if dim in results.coords}
    left_out = [
        str(name)
        for name, value in results.variables.items()
        if not set(map(str, value.dims)) <= labelled
    ]
    if left_out:
        print(f"left out, as they have other dimensions: {', '.join(left_out)}.")
    return results.drop_vars(left_out), left_out


def _axes(results: xr.Dataset) -> list[str]:
    return [str(dim) for dim in results.dims if dim != "step"]


def _values(results: xr.Dataset) -> dict[str, Any]:
    return {str(name): value.values.item() for name, value in results.variables.items()}


@dataclasses.dataclass(frozen=True)
class _Member:
    """A finished member. labels: all coordinates. setting, seed: these as text, as in
    "lr=0.001,gamma=0.9" and "seed=3". place: the indices of its setting. variables: its metrics.
    """

    labels: dict[str, Any]
    setting: str
    seed: str
    place: tuple[int, ...]
    variables: xr.Dataset


def _members(results: xr.Dataset) -> Iterator[_Member]:
    results, _ = _flat(results)
    axes = _axes(results)
    of_seed = {str(name) for name, c in results.coords.items() if c.dims == ("seed",)}
    for index in np.ndindex(*(results.sizes[axis] for axis in axes)):
        member = results.isel(dict(zip(axes, index, strict=True)))
        floats = [value for value in member.data_vars.values() if value.dtype.kind == "f"]
        if floats and not any(value.notnull().any() for value in floats):
            continue  # not run yet
        labels = {
            str(name): value.item() for name, value in member.coords.items() if name != "step"
        }
        of_setting = {name: x for name, x in labels.items() if name not in (*of_seed, "seed")}
        yield _Member(
            labels,
            text_of(of_setting),
            text_of({"seed": labels["seed"]}) if "seed" in labels else "member",
            tuple(i for axis, i in zip(axes, index, strict=True) if axis != "seed"),
            member,
        )


def _rows(member: xr.Dataset) -> Iterator[tuple[int, dict[str, float]]]:
    """The finite metrics of a member at each step; those without steps are at the last."""
    steps = member["step"].values.tolist() if "step" in member.dims else [0]
    curves = {
        str(name): value.values for name, value in member.data_vars.items() if "step" in value.dims
    }
    rows = [{name: float(values[i]) for name, values in curves.items()} for i in range(len(steps))]
    rows[-1] |= {
        str(name): float(value)
        for name, value in member.data_vars.items()
        if "step" not in value.dims
    }
    for step, row in zip(steps, rows, strict=True):
        yield int(step), {name: value for name, value in row.items() if np.isfinite(value)}


def text_of(labels: Mapping[str, Any]) -> str:
    """Labels as text: "lr=0.001,gamma=0.9"."""
    return ",".join(f"{name}={_exact(x)}" for name, x in labels.items())


def _exact(value: Any) -> str:
    """A value as short text, without rounding."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _tensorboard(results: xr.Dataset, path: pathlib.Path) -> None:
    make_writer = _import("tensorboard").SummaryWriter
    groups = Names()
    names: dict[tuple[int, ...], Names] = collections.defaultdict(Names)
    for number, member in enumerate(_members(results)):
        group = groups.of(member.setting, member.place)
        logdir = str(path / group / names[member.place].of(member.seed, number))
        with contextlib.closing(make_writer(logdir=logdir)) as writer:
            for step, row in _rows(member.variables):
                for metric, value in row.items():
                    writer.add_scalar(metric, value, step)


class Names:
    """Names of files and directories: one for each key, however alike their texts."""

    def __init__(self) -> None:
        self._names: dict[Hashable, str] = {}

    def of(self, text: str, key: Hashable) -> str:
        """The name of `key`: its text, numbered where another key has the same one."""
        if key not in self._names:
            name = _safe(text)
            # file systems may ignore case
            taken = {other.casefold() for other in self._names.values()}
            numbered = (f"{name}-{number}" for number in itertools.count(2))
            self._names[key] = next(
                each for each in itertools.chain([name], numbered) if each.casefold() not in taken
            )
        return self._names[key]


def _safe(name: str) -> str:
    """A name that is valid in any file system."""
    return re.sub(r"[^\w=.,+-]", "_", name)[:MAX_NAME]


def _wandb(results: xr.Dataset, path: pathlib.Path, project: str) -> None:
    wandb = _import("wandb")
    path.mkdir(parents=True, exist_ok=True)
    card = {str(name): _read(value) for name, value in results.attrs.items()}
    for member in _members(results):
        run = wandb.init(
            project=project,
            group=member.setting or None,
            name=member.seed,
            config=member.labels | {"card": card},
            dir=str(path),
        )
        try:
            for step, row in _rows(member.variables):
                run.log(row, step=step)
        finally:
            run.finish()


def _read(value: Any) -> Any:
    """An attribute of the card, parsed if it is JSON."""
    if isinstance(value, np.generic | np.ndarray):
        return value.item() if value.size == 1 else value
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _import(to: str) -> Any:
    try:
        return importlib.import_module(PACKAGES[to])
    except ImportError:
        raise ImportError(f'to={to!r} needs {PACKAGES[to]}: pip install "jaxrl[{to}]"') from None
