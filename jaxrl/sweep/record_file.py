"""A sweep as one small file that a repository can hold: its record, and the curves of each member,
as JSON.
"""

import json
import pathlib
from typing import Any

import numpy as np
import xarray as xr

from jaxrl.sweep import netcdf, store
from jaxrl.sweep.results import coordinates_of

CURVES = ("return", "evaluation", "diverged")
TIMES = ("chunk", "compile_seconds", "run_seconds")  # attributes that the record does not hold
OF_ALL = ("each", "step", "curves", *TIMES)  # of the groups together
Record = dict[str, Any]


def write_record_file(folder: pathlib.Path, results: xr.Dataset, path: pathlib.Path) -> None:
    """Write what `read_record_file` reads; numbers have the digits that make them equal bit for
    bit.
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
            f"{folder} has none of the curves {', '.join(CURVES)}, so there is nothing to keep in "
            "a record."
        )
    values = {
        name: {"dtype": str(curve.dtype), "values": _digits(curve.values)}
        for name, curve in curves.items()
    }
    times = {
        name: np.asarray(results.attrs[name]).item() for name in TIMES if name in results.attrs
    }
    parts = record | times | {"step": results["step"].values.tolist(), "curves": values}
    if "groups" in record:  # each has its own program
        parts |= {"each": {group: _own(folder, record, group) for group in record["groups"]}}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(part)}" for name, part in parts.items())
    store.write(path, lambda file: file.write(f"{{\n{lines}\n}}\n".encode()))


def _own(folder: pathlib.Path, record: Record, group: str) -> Record:
    """The parts of a group's record that differ from its sweep's."""
    common, own = _common(record), store.read_record(folder / group)
    results = netcdf.read(folder / group / store.RESULTS)
    differing = {part: value for part, value in own.items() if common.get(part) != value}
    rows = results["step"].values.tolist()
    return differing | {"chunk": int(results.attrs["chunk"]), "step": rows}


def _common(record: Record) -> Record:
    """The parts of a record that the groups of a sweep with static axes have in common."""
    labels = {
        name: label for name, label in record["labels"].items() if name not in record["static"]
    }
    return {
        part: value for part, value in record.items() if part not in ("static", "groups", *OF_ALL)
    } | {"labels": labels}


def read_group(record: Record, group: str) -> Record:
    """The record of a group, from that of its sweep in one file."""
    return _common(record) | record["each"][group]


def read_record_file(path: pathlib.Path) -> xr.Dataset:
    """The curves of a record, with the reproducibility card as attributes."""
    record = store.read_record(path)
    labels = {name: np.asarray(label) for name, label in record["labels"].items()}
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
        # as jax counts them
        steps = steps.astype(np.int32) if steps.max(initial=0) < 2**31 else steps
        attributes |= {
            name: record[name] for name in ("commit", "started", *TIMES) if name in record
        }
        coordinates = labels | coordinates_of(record) | {"step": steps}
        return xr.Dataset(variables, coordinates, attributes)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is damaged ({error}).") from None


def _digits(values: np.ndarray) -> Any:
    """Numbers as nested lists; single precision with the nine digits that identify them."""
    if values.dtype.kind == "b":
        return values.astype(int).tolist()
    return (
        np.char.mod("%.9g", values).astype(float) if values.dtype == np.float32 else values
    ).tolist()
