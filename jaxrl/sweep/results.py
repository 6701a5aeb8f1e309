"""Finished chunks as one labelled dataset."""

from typing import Any

import numpy as np
import xarray as xr

Outputs = dict[str, np.ndarray]
Chunks = dict[tuple[int, int], Outputs]


def dataset(labels: dict[str, np.ndarray], chunks: Chunks, attributes: dict[str, Any]) -> xr.Dataset:
    """An axis for each swept name, then the program's own. Members that are not done are NaN, or 0 where whole numbers."""
    sizes = {name: len(label) for name, label in labels.items()}
    outputs = _join(chunks, int(np.prod(list(sizes.values()))))
    coordinates: dict[str, Any] = dict(labels)
    step = outputs.get("step")
    if step is not None and step.ndim == 2 and len(step) and chunks:
        first = next(iter(chunks))[0]
        if all((part["step"] == step[first]).all() for part in chunks.values()):
            coordinates["step"] = outputs.pop("step")[first]
    rows = len(coordinates["step"]) if "step" in coordinates else None
    variables = {}
    for name, value in outputs.items():
        if name in coordinates:
            raise ValueError(f"the program returns {name!r}, which is also a swept name: rename one of them.")
        variables[name] = (_dims(name, value, sizes, rows), value.reshape(*sizes.values(), *value.shape[1:]))
    return xr.Dataset(variables, coordinates, attributes)


def _join(chunks: Chunks, members: int) -> Outputs:
    joined: Outputs = {}
    for (first, last), outputs in chunks.items():
        for name, value in outputs.items():
            if name not in joined:
                blank = np.nan if np.issubdtype(value.dtype, np.inexact) else 0
                joined[name] = np.full((members, *value.shape[1:]), blank, value.dtype)
            joined[name][first:last] = value
    return joined


def _dims(name: str, value: np.ndarray, sizes: dict[str, int], rows: int | None) -> tuple[str, ...]:
    own = [f"{name}_{i}" for i in range(value.ndim - 1)]
    if own and value.shape[1] == rows:
        own[0] = "step"
    return (*sizes, *own)
