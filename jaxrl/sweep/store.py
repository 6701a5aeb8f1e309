"""A sweep's folder: what was asked (sweep.json), each finished chunk (members/), the results (results.nc).

Nothing in it can execute when it is read: JSON, npz without pickle, and netCDF.
"""

import hashlib
import json
import os
import pathlib
import re
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from jaxrl.sweep import card
from jaxrl.sweep.results import Chunks, Outputs

RESULTS = "results.nc"
CHUNK_NAME = re.compile(r"(\d{8})-(\d{8})\.npz")


class Store:
    """The chunks of one sweep on disk. A file is written whole under another name and then renamed."""

    def __init__(self, folder: pathlib.Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.members = self.folder / "members"
        record = self._check(json.loads(json.dumps(record)))
        self.folder.mkdir(parents=True, exist_ok=True)
        write(self.folder / "sweep.json", lambda file: file.write(json.dumps(record, indent=1).encode()))
        self.members.mkdir(exist_ok=True)

    def _check(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record to keep: this one, or the folder's own, with a line about this call, where that is the same sweep."""
        path = self.folder / "sweep.json"
        if not path.exists():
            if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
                raise FileExistsError(
                    f"{self.folder} exists and holds no sweep. Nothing was touched; write another folder=."
                )
            return record
        found = read_record(self.folder)
        if not any(self.members.glob("*.npz")):
            return record  # nothing has been computed there yet
        changed = [
            line for part in ("run", "axes", "versions") for line in card.differences(found[part], record[part], part)
        ]
        if changed:
            listed = "\n  ".join(changed[:12] + (["..."] if len(changed) > 12 else []))
            raise ValueError(
                f"{self.folder} holds another sweep; these fields differ:\n  {listed}\n"
                "Nothing was touched. Write another folder=, or make them equal to go on where that one stopped."
            )

        if found["machine"] != record["machine"]:
            print(
                f"{self.folder} was begun on {found['machine']}; going on with {record['machine']}: equal but for rounding."
            )
        resumed = {part: record[part] for part in ("machine", "commit", "started")}
        return found | {"resumed": [*found.get("resumed", []), resumed]}

    @property
    def results(self) -> pathlib.Path:
        return self.folder / RESULTS

    def done(self) -> Chunks:
        return read_chunks(self.folder)

    def save(self, first: int, last: int, outputs: Outputs) -> None:
        """Keeps members first to last - 1."""
        write(self.members / f"{first:08d}-{last:08d}.npz", lambda file: np.savez(file, **_encode(outputs)))  # type: ignore[arg-type]


def read_chunks(folder: pathlib.Path) -> Chunks:
    """The chunks that are whole on disk, by their first and past-last member, learners left out. A damaged one is told."""
    found: Chunks = {}
    for path in sorted((folder / "members").glob("*.npz")):
        if (match := CHUNK_NAME.fullmatch(path.name)) is None:
            continue
        try:
            found[int(match[1]), int(match[2])] = _read_chunk(path)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            print(f"{path} is damaged ({error}): its members count as not done.")
    return found


def _encode(outputs: Outputs) -> Outputs:
    return {"digest": np.frombuffer(_digest(outputs), np.uint8), **{f"output/{k}": v for k, v in outputs.items()}}


def _digest(outputs: Outputs) -> bytes:
    return hashlib.sha256(
        b"".join(k.encode() + np.ascontiguousarray(v).tobytes() for k, v in sorted(outputs.items()))
    ).digest()


def read_learner(folder: pathlib.Path, member: int) -> list[np.ndarray]:
    """The kept leaves of one member's learner."""
    for path in sorted((folder / "members").glob("*.npz")):
        match = CHUNK_NAME.fullmatch(path.name)
        if match and int(match[1]) <= member < int(match[2]):
            outputs = _load(path)
            return [outputs[name][member - int(match[1])] for name in sorted(outputs) if name.startswith("learner.")]
    raise FileNotFoundError(f"member {member} is not in {folder}: its chunk has not finished. Run the sweep to its end.")


def _read_chunk(path: pathlib.Path) -> Outputs:
    return {name: value for name, value in _load(path).items() if not name.startswith("learner.")}


def _load(path: pathlib.Path) -> Outputs:
    with np.load(path, allow_pickle=False) as file:
        outputs = {name.removeprefix("output/"): file[name] for name in file.files if name != "digest"}
        if file["digest"].tobytes() != _digest(outputs):
            raise ValueError("its digest does not match")
    return outputs


def write(path: pathlib.Path, put: Callable[[Any], Any]) -> None:
    """Writes a file whole or not at all, also when the process is killed."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            put(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_results(path: pathlib.Path, results: xr.Dataset) -> None:
    encoding = {name: {"zlib": True, "complevel": 1} for name in results.data_vars if results[name].size > 1000}
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        results.to_netcdf(part, engine="h5netcdf", encoding=encoding)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_record(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / "sweep.json"
    try:
        record = json.loads(path.read_text())
        return {part: record[part] for part in ("run", "axes", "labels", "versions", "machine")} | record
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder} holds no sweep: it has no sweep.json. Name a folder that rl.sweep(folder=) made."
        ) from None
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}). The chunks beside it in members/ are untouched.") from None
