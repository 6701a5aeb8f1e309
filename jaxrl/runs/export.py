"""Results as other tools read them: a table, TensorBoard, Weights & Biases.

The only door to their libraries.
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

from jaxrl.sweep import load, store
from jaxrl.sweep.record_file import write_record_file

Kind = Literal["csv", "parquet", "tensorboard", "wandb", "record"]
NAMES = {
    "csv": "results.csv",
    "parquet": "results.parquet",
    "tensorboard": "tensorboard",
    "wandb": ".",
    "record": "record.json",
}
PACKAGES = {
    "parquet": "pyarrow",
    "tensorboard": "tensorboardX",
    "wandb": "wandb",
}  # the extra of the name installs it


def export(
    results: xr.Dataset | str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    to: Kind = "csv",
) -> Any:
    """Writes the results of a sweep, or of its folder, for another tool. Returns where: the file,
    or the directory of runs.

    csv, parquet: `frame(results)`. tensorboard: a run for each finished member, in the directory of
    its setting. wandb: a run for each finished member, grouped by setting, its configuration the
    labels and the reproducibility card;
      the project is named as the folder; WANDB_MODE=offline needs no network.
    record: of a folder, its reproducibility card and each member's return, evaluation and
    divergence in one small file,
      which `rl.load`, `rl.runs`, `rl.report` and `rl.rerun` take in place of the folder.
    path: by default in the folder.

    Raises:
      ImportError: the package of that tool is missing; it says which extra installs it.
      ValueError: another word for `to`, or a dataset without a path.
    """
    if to not in NAMES:
        raise ValueError(f"to={to!r} is not known; write one of {', '.join(map(repr, NAMES))}.")
    folder = None if isinstance(results, xr.Dataset) else pathlib.Path(results).expanduser()
    if path is None and folder is None:
        raise ValueError(
            "a dataset has no folder to write into: name a path, say rl.export(results, "
            f"{NAMES[to]!r})."
        )
    path = (
        (folder or pathlib.Path()) / NAMES[to] if path is None else pathlib.Path(path).expanduser()
    )
    if to in PACKAGES:
        _import(to)
    results = results if isinstance(results, xr.Dataset) else load(results)
    if to == "record":
        if folder is None:
            raise ValueError(
                "a record needs what a folder keeps of a sweep: rl.export(FOLDER, path, 'record')."
            )
        write_record_file(folder, results, path)
    elif to == "tensorboard":
        _tensorboard(results, path)
    elif to == "wandb":
        _wandb(results, path, "jaxrl" if folder is None else folder.resolve().name)
    else:
        table = frame(results)
        path.parent.mkdir(parents=True, exist_ok=True)
        put = (
            (lambda file: table.to_csv(file, index=False))
            if to == "csv"
            else (lambda file: table.to_parquet(file, index=False))
        )
        store.write(path, put)
    return path


def frame(results: xr.Dataset) -> pd.DataFrame:
    """A tidy table: a row for each member and step; the columns are the axes, `step`, other
    coordinates, and the metrics.

    What has no step is repeated at each. A variable with dimensions of its own fits no row: it is
    left out and named, in a printed line and in `.attrs["left_out"]`.
    """
    results, left_out = _flat(results)
    if left_out:
        print(f"left out, as they have dimensions of their own: {', '.join(left_out)}.")
    dims = [*_axes(results), *(["step"] if "step" in results.dims else [])]
    table = (
        results.to_dataframe(dim_order=dims).reset_index()
        if dims
        else pd.DataFrame([_values(results)])
    )
    beside = [str(name) for name in results.coords if name not in dims]
    table = table.reindex(columns=[*dims, *beside, *map(str, results.data_vars)])
    table.attrs = {"left_out": left_out}
    return table


def _flat(results: xr.Dataset) -> tuple[xr.Dataset, list[str]]:
    """The variables whose dimensions are labelled, and the names of the others."""
    labelled = {str(dim) for dim in results.dims if dim in results.coords}
    left_out = [
        str(name)
        for name, value in results.variables.items()
        if not set(map(str, value.dims)) <= labelled
    ]
    return results.drop_vars(left_out), left_out


def _axes(results: xr.Dataset) -> list[str]:
    return [str(dim) for dim in results.dims if dim != "step"]


def _values(results: xr.Dataset) -> dict[str, Any]:
    return {str(name): value.values.item() for name, value in results.variables.items()}


def _members(results: xr.Dataset) -> Iterator[tuple[dict[str, Any], xr.Dataset]]:
    """Each finished member: its labels, those of coordinates beside its axes too, and its
    variables, over `step` at most.
    """
    results, left_out = _flat(results)
    if left_out:
        print(f"left out, as they have dimensions of their own: {', '.join(left_out)}.")
    axes = _axes(results)
    for place in np.ndindex(*(results.sizes[axis] for axis in axes)):
        member = results.isel(dict(zip(axes, place, strict=True)))
        floats = [value for value in member.data_vars.values() if value.dtype.kind == "f"]
        if floats and not any(value.notnull().any() for value in floats):
            continue  # it has not been run yet
        yield (
            {str(name): value.item() for name, value in member.coords.items() if name != "step"},
            member,
        )


def _rows(member: xr.Dataset) -> Iterator[tuple[int, dict[str, float]]]:
    """A member's finite metrics at each step; what has no step comes with the last."""
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


def _setting(labels: dict[str, Any]) -> tuple[str, str]:
    """What members that differ by luck alone share, and what tells them apart:
    "lr=0.001,gamma=0.9", "seed=3".
    """
    write = lambda seed: ",".join(
        f"{name}={_short(x)}" for name, x in labels.items() if (name == "seed") == seed
    )
    return write(False), write(True) or "member"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _tensorboard(results: xr.Dataset, path: pathlib.Path) -> None:
    made = _import("tensorboard").SummaryWriter
    for labels, member in _members(results):
        group, name = _setting(labels)
        with contextlib.closing(made(logdir=str(path / _safe(group) / _safe(name)))) as writer:
            for step, row in _rows(member):
                for metric, value in row.items():
                    writer.add_scalar(metric, value, step)


def _safe(name: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^\w=.,+-]", "_", name)


def _wandb(results: xr.Dataset, path: pathlib.Path, project: str) -> None:
    wandb = _import("wandb")
    path.mkdir(parents=True, exist_ok=True)
    card = {str(name): _read(value) for name, value in results.attrs.items()}
    for labels, member in _members(results):
        group, name = _setting(labels)
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
    """An attribute of the card: JSON where it holds that."""
    try:
        return (
            json.loads(value) if isinstance(value, str) else getattr(value, "item", lambda: value)()
        )
    except ValueError:
        return value


def _import(to: str) -> Any:
    try:
        return importlib.import_module(PACKAGES[to])
    except ImportError:
        raise ImportError(f'to={to!r} needs {PACKAGES[to]}: pip install "jaxrl[{to}]"') from None
