"""Export of results: tables, records, TensorBoard and Weights & Biases.

Only this module uses the libraries of these tools.
"""

import contextlib
import importlib
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

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
# optional packages, each of which the extra of this name installs
PACKAGES = {"parquet": "pyarrow", "tensorboard": "tensorboardX", "wandb": "wandb"}


def export(
    results: xr.Dataset | MemberPolicy | str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    to: Kind = "csv",
    **where: Any,
) -> pathlib.Path:
    """Write the results of a sweep, or the policy of a member, for another tool.

    Args:
      results: of a sweep, or its folder; for "numpy" a folder, or the policy `rl.policy(...)`.
      path: the file, or the directory of logs; by default in the folder.
      to: one of
        "csv", "parquet": the table `frame(results)`.
        "tensorboard": a log of each finished member, in the directory of its setting.
        "wandb": a run of each finished member, grouped by setting, with its labels and the
          reproducibility card as configuration, in a project with the name of the folder
          (WANDB_MODE=offline needs no network).
        "record": the reproducibility card of a folder and each member's return, evaluation and
          divergence, in one small file that `rl.load`, `rl.runs`, `rl.report` and `rl.rerun` take
          in place of the folder.
        "numpy": the greedy policy of a member for programs without jax, as a directory of
          `policy.npz`, its arrays, and `policy.py`, which reads them with NumPy alone. An MLP, also
          with a GRU or LSTM; with the statistics of normalised observations, action masks, and
          actions clipped to a box. Other networks are refused.
      where: for "numpy", the labels of the member, as in `rl.policy`; by default those of
        `rl.best`.

    A policy in gymnasium, by NumPy alone:

        rl.export("runs/cartpole", "cartpole", to="numpy", seed=3)

        from cartpole.policy import Policy       # a copy of the directory is enough
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
        raise ValueError(f"{given} selects a member, and to={to!r} writes all: write to='numpy'.")
    folder = None if isinstance(results, xr.Dataset) else pathlib.Path(results).expanduser()
    if path is None and folder is None:
        raise ValueError(
            "a dataset has no folder to write into: add a path, for example rl.export(results, "
            f"{NAMES[to]!r})."
        )
    default = (folder or pathlib.Path()) / NAMES[to]
    path = default if path is None else pathlib.Path(path).expanduser()
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
            raise ValueError(f"{next(iter(where))} selects a member, and a policy is of one.")
        policy, default = results, None
    elif isinstance(results, xr.Dataset):
        raise ValueError(
            "a dataset holds no policies: write rl.export(FOLDER, to='numpy') with the folder of "
            "the sweep."
        )
    else:
        default = pathlib.Path(results).expanduser() / NAMES["numpy"]
        policy = read_policy(results, **(where or best(load(results, running=False))))
    path = default if path is None else path
    if path is None:
        raise ValueError(
            "a policy has no folder to write into: add a path, say rl.export(policy, 'policy', "
            "to='numpy')."
        )
    directory = pathlib.Path(path).expanduser()
    write_numpy(policy, directory)
    return directory


def frame(results: xr.Dataset) -> pd.DataFrame:
    """A tidy table with a row for each member and step.

    The columns are the axes, `step`, other coordinates, and the variables. A variable without steps
    is repeated at each. Variables with other dimensions are left out; their names are printed and
    in `.attrs["left_out"]`.
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


def _members(results: xr.Dataset) -> Iterator[tuple[dict[str, Any], xr.Dataset]]:
    """The labels (all coordinates) and variables of each finished member."""
    results, _ = _flat(results)
    axes = _axes(results)
    for index in np.ndindex(*(results.sizes[axis] for axis in axes)):
        member = results.isel(dict(zip(axes, index, strict=True)))
        floats = [value for value in member.data_vars.values() if value.dtype.kind == "f"]
        if floats and not any(value.notnull().any() for value in floats):
            continue  # not run yet
        labels = {
            str(name): value.item() for name, value in member.coords.items() if name != "step"
        }
        yield labels, member


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


def setting_name(labels: dict[str, Any]) -> tuple[str, str]:
    """The setting and the seed of a member, as text: "lr=0.001,gamma=0.9", "seed=3"."""
    setting = [f"{name}={_exact(x)}" for name, x in labels.items() if name != "seed"]
    seed = [f"seed={_exact(labels['seed'])}"] if "seed" in labels else ["member"]
    return ",".join(setting), ",".join(seed)


def _exact(value: Any) -> str:
    """A value as short text, without rounding."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _tensorboard(results: xr.Dataset, path: pathlib.Path) -> None:
    make_writer = _import("tensorboard").SummaryWriter
    for labels, member in _members(results):
        group, name = setting_name(labels)
        logdir = str(path / safe_name(group) / safe_name(name))
        with contextlib.closing(make_writer(logdir=logdir)) as writer:
            for step, row in _rows(member):
                for metric, value in row.items():
                    writer.add_scalar(metric, value, step)


def safe_name(name: str) -> str:
    """A name that is valid in any file system."""
    return re.sub(r"[^\w=.,+-]", "_", name)


def _wandb(results: xr.Dataset, path: pathlib.Path, project: str) -> None:
    wandb = _import("wandb")
    path.mkdir(parents=True, exist_ok=True)
    card = {str(name): _read(value) for name, value in results.attrs.items()}
    for labels, member in _members(results):
        group, name = setting_name(labels)
        run = wandb.init(
            project=project,
            group=group or None,
            name=name,
            config=labels | {"card": card},
            dir=str(path),
        )
        try:
            for step, row in _rows(member):
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
