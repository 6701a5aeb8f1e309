"""A study as one small file that a repository can hold: its record, and the curves of each member,
as JSON.
"""

import json
import pathlib
from typing import Any

import numpy as np
import xarray as xr

from jaxrl.sweep import netcdf, store

CURVES = ("return", "evaluation", "diverged")
TIMES = (
    "chunk",
    "compile_seconds",
    "run_seconds",
)  # of the attributes, those that the record does not hold
OF_ALL = ("each", "step", "curves", *TIMES)  # of the groups together
Record = dict[str, Any]


def write_small(folder: pathlib.Path, results: xr.Dataset, path: pathlib.Path) -> None:
    """Writes what `read_small` reads.

    A number has as many digits as make it equal bit for bit when it is read.
    """
    if not (folder / store.RESULTS).is_file():
        raise ValueError(
            f"{folder} has not finished: run the same sweep again, then export its record."
        )
    record = store.read_record(folder)
    axes = [*record["labels"], "step"]
    curves = {
        name: results[name].transpose(*axes)
        for name in CURVES
        if name in results and set(results[name].dims) == {*axes}
    }
    if not curves:
        raise ValueError(
            f"{folder} has none of the curves {', '.join(CURVES)}, so there is nothing to keep "
            "in a record."
        )
    told = {
        name: {"dtype": str(curve.dtype), "values": _digits(curve.values)}
        for name, curve in curves.items()
    }
    times = {
        name: np.asarray(results.attrs[name]).item() for name in TIMES if name in results.attrs
    }
    parts = record | times | {"step": results["step"].values.tolist(), "curves": told}
    if "groups" in record:  # each of which has a program of its own
        parts |= {"each": {group: _own(folder, record, group) for group in record["groups"]}}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(part)}" for name, part in parts.items())
    store.write(path, lambda file: file.write(f"{{\n{lines}\n}}\n".encode()))


def _own(folder: pathlib.Path, record: Record, group: str) -> Record:
    """What the record of a group says that its sweep's does not."""
    common, own = _common(record), store.read_record(folder / group)
    results = netcdf.read(folder / group / store.RESULTS)
    told = {"chunk": int(results.attrs["chunk"]), "step": results["step"].values.tolist()}
    return {part: value for part, value in own.items() if common.get(part) != value} | told


def _common(record: Record) -> Record:
    """What the groups of a sweep with static axes have in common, as each would say it."""
    labels = {
        name: label for name, label in record["labels"].items() if name not in record["static"]
    }
    return {
        part: value for part, value in record.items() if part not in ("static", "groups", *OF_ALL)
    } | {"labels": labels}


def read_group(path: pathlib.Path, record: Record, group: str) -> Record:
    """The record of a group, from that of its sweep in one file.

    Raises: ValueError for a file that was written before it held them.
    """
    if "each" not in record:
        raise ValueError(
            f"{path} is of a sweep with static axes and holds no record of each group: it was "
            "exported by an older jaxrl. "
            f"Export it again, rl.export(FOLDER, {str(path)!r}, 'record'), or name that folder "
            "in its place."
        )
    return _common(record) | record["each"][group]


def read_small(path: pathlib.Path) -> xr.Dataset:
    """The curves of a record, with the reproducibility card as attributes: the part of a sweep's
    results that it holds.
    """
    record = store.read_record(path)
    labels = {name: np.asarray(label) for name, label in record["labels"].items()}
    beside = {
        name: (axis, np.asarray(label))
        for name, (axis, label) in record.get("coordinates", {}).items()
    }
    try:
        if any(np.dtype(curve["dtype"]).kind not in "biuf" for curve in record["curves"].values()):
            raise ValueError("a curve is not of numbers")
        curves = {
            name: np.asarray(curve["values"], np.dtype(curve["dtype"]))
            for name, curve in record["curves"].items()
        }
        variables = {name: ((*labels, "step"), curve) for name, curve in curves.items()}
        attributes = {
            part: json.dumps(record[part])
            for part in ("run", "versions", "machine", "static")
            if part in record
        }
        steps = np.asarray(record["step"])
        steps = (
            steps.astype(np.int32) if steps.max(initial=0) < 2**31 else steps
        )  # as jax counts them
        attributes |= {
            name: record[name] for name in ("commit", "started", *TIMES) if name in record
        }
        return xr.Dataset(variables, labels | beside | {"step": steps}, attributes)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is damaged ({error}).") from None


def _digits(values: np.ndarray) -> Any:
    """Numbers as nested lists; those of single precision with the nine digits that tell them
    apart.
    """
    if values.dtype.kind == "b":
        return values.astype(int).tolist()
    return (
        np.char.mod("%.9g", values).astype(float) if values.dtype == np.float32 else values
    ).tolist()
