"""A sweep's folder: the record (sweep.json), finished chunks (members/), the results (results.nc),
the program's width (width.json) and a lock.

Nothing in it can execute when it is read: JSON, npz without pickle, and netCDF.
"""

from __future__ import annotations

import datetime
import errno
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import zipfile
from typing import Any

import numpy as np

from jaxrl.lazy import xarray as xr
from jaxrl.sweep import arrays, checkpoint, multihost, npz, provenance, swap
from jaxrl.sweep.files import RECORD, check_plain, read_text, write
from jaxrl.sweep.results import Chunks, Outputs, without_agents

RESULTS = "results.nc"
LOCK, HOLDER, WIDTH = ".lock", ".holder", "width.json"
WIDTH_OF = "width"  # of the program that made a chunk, in the chunk's file
LIMIT = 2**32  # bytes of a record
NOTE_LIMIT = 2**12  # bytes of the width and of the holder
NO_LOCKS = "JAXRL_NO_LOCKS"  # environment variable: folders are used without a lock
GROUP_NAME = re.compile(r"static/\d{3,}")
CHUNK_NAME = re.compile(r"(\d{8})-(\d{8})\.npz")
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
DAMAGE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)


class Store:
    """The folder of one sweep, held by this process (of several, by the primary one).

    large: pytree of what was swept, of which large arrays are written to arrays/.
    """

    def __init__(self, folder: pathlib.Path, record: dict[str, Any], large: Any = ()) -> None:
        self.folder = folder
        self.members = self.folder / "members"
        self._lock = None
        plain = _plain(record)
        primary = multihost.is_primary()
        multihost.all_or_raise(
            "opening the folder", lambda: self._open(plain, large) if primary else None
        )
        multihost.all_or_raise(
            "opening the folder", lambda: None if primary else check(folder, plain)
        )

    def _open(self, record: dict[str, Any], large: Any) -> None:
        recover(self.folder)
        _refuse_other_folders(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock(self.folder)
        try:
            record = check(self.folder, record)
            remove_parts(self.folder)
            if not (self.folder / RECORD).exists():
                checkpoint.clear(self.folder, lambda *_: True)  # of which sweep is not known
            arrays.save(self.folder, large)
            text = json.dumps(record, indent=1).encode()
            write(self.folder / RECORD, lambda file: file.write(text))
            if "groups" not in record:  # each group has its own
                self.members.mkdir(exist_ok=True)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process work in this folder."""
        if self._lock is not None:
            self._lock.release()

    @property
    def results(self) -> pathlib.Path:
        return self.folder / RESULTS

    def done(self) -> Chunks:
        """The finished chunks."""
        return read_chunks(self.folder)

    def note_width(self, width: int) -> None:
        """Keep the width of the program: a resumed sweep uses the same."""
        if multihost.is_primary():
            write_width(self.folder, width)

    def save(self, first: int, last: int, width: int, outputs: Outputs) -> None:
        """Keep members first to last - 1, which a program of `width` members made.

        Raises:
          FileNotFoundError: the folder was deleted since this sweep opened it.
        """
        parts = encode(outputs) | {WIDTH_OF: np.int64(width)}
        path = chunk_path(self.folder, first, last)
        try:
            write(path, lambda file: np.savez(file, **parts))  # type: ignore[arg-type]
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.folder} was deleted or moved while its sweep ran: the results in it are "
                "lost. Run the same sweep again."
            ) from None

    def checkpoints(
        self, first: int, last: int, width: int, seconds: float
    ) -> checkpoint.Checkpoints:
        """The checkpoints of a running chunk."""
        record = self.folder / RECORD
        return checkpoint.Checkpoints(self.folder, first, last, width, seconds, record)

    def clear_open(self, width: int) -> None:
        """Remove the checkpoints of programs of this width."""
        checkpoint.clear(self.folder, lambda first, last, other: other == width)


def remove_parts(folder: pathlib.Path) -> None:
    """Remove the files that a killed process was writing."""
    parts = [*folder.rglob("*.part"), *folder.rglob("open/*/*.orbax-checkpoint-tmp*")]
    for part in parts:
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink()


def recover(folder: pathlib.Path) -> None:
    """Finish an extension of a study that was stopped while it put its files in place."""
    if swap.is_open(folder):
        held = lock(folder)
        try:
            swap.finish(folder)
        finally:
            held.release()


def check(folder: pathlib.Path, record: dict[str, Any]) -> dict[str, Any]:
    """The record to keep: this one, or the folder's own with a line about this call, where that is
    of the same sweep.

    Raises:
      ValueError: the folder holds another sweep.
    """
    _refuse_other_folders(folder)
    if not (folder / RECORD).exists():
        return record
    found = read_record(folder)
    computed = ("**/members/*.npz", "**/open/*/*", RESULTS)
    if not any(any(folder.glob(pattern)) for pattern in computed):
        return record  # nothing has been computed there yet
    if changed := _changed(folder, found, record):
        listed = "\n  ".join(changed[:12] + (["..."] if len(changed) > 12 else []))
        raise ValueError(
            f"{folder} holds another sweep; these fields differ:\n"
            f"  {listed}\n"
            "Nothing was changed. Write another folder=, or make them equal to resume where that "
            "one stopped."
        )

    there, here = (
        {part: each[part] for part in ("machine", "versions")} for each in (found, record)
    )
    if lines := provenance.differences(there, here):
        print(
            f"{folder} was started elsewhere ({'; '.join(lines)}): what is missing there will be "
            "equal but for rounding."
        )
    parts = ("machine", "versions", *provenance.SOURCES, "started")
    resumed = {part: record[part] for part in parts if part in record}
    return found | {"resumed": [*found.get("resumed", []), resumed]}


def _changed(folder: pathlib.Path, found: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """The differences that make two records those of different sweeps, a line each."""
    # a plan asks for no keep_best, and of a function, or a sweep without one, nothing is recorded
    defaults = {"static": "absent", "keep_best": False}
    if "keep_best" not in record:
        defaults["keep_best"] = found.get("keep_best")
    there, here = defaults | found, defaults | record
    parts = ["run", "static", "axes", "keep_best", "versions"]
    upgraded = provenance.differences(found["versions"], record["versions"], "versions")
    is_training = "function" not in found["run"]  # a function is known by its program alone
    if is_training and (folder / RESULTS).exists() and upgraded:
        # finished results stay valid after an upgrade, under which the same program has another
        # digest
        parts.remove("versions")
        there, here = ({**each, "run": {**each["run"], "program": None}} for each in (there, here))
    return [
        line for part in parts for line in provenance.differences(there[part], here[part], part)
    ]


def _refuse_other_folders(folder: pathlib.Path) -> None:
    """Refuse a folder of other things. Checkpoints without a record are what is left of a folder
    that was deleted while its sweep ran.
    """
    if (folder / RECORD).exists() or not folder.exists():
        return
    if not folder.is_dir() or any(
        path.name not in (LOCK, HOLDER, checkpoint.OPEN) and path.suffix != ".part"
        for path in folder.iterdir()
    ):
        raise FileExistsError(
            f"{folder} exists and holds no sweep. Nothing was changed; write another folder=."
        )


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """A record as a file gives it back."""
    return json.loads(json.dumps(record))


def write_width(folder: pathlib.Path, width: int) -> None:
    text = json.dumps({"width": width}).encode()
    write(folder / WIDTH, lambda file: file.write(text))


def read_width(folder: pathlib.Path) -> int | None:
    """The width of the folder's program; None where it is not known."""
    try:
        width = json.loads(read_text(folder / WIDTH, NOTE_LIMIT))["width"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return width if type(width) is int and width > 0 else None


class NoLock:
    """In place of a lock, where the environment asks for none."""

    def release(self) -> None:
        """There is nothing to release."""


def _holder(folder: pathlib.Path) -> str:
    """The process that holds a folder, as it wrote it there."""
    try:
        return read_text(folder / HOLDER, NOTE_LIMIT) or "another process"
    except (OSError, ValueError):
        return "another process"


def lock(folder: pathlib.Path) -> Any:
    """Keep other processes out of a folder; the system releases it when this process ends, however
    it ends.

    Raises:
      BlockingIOError: another process holds it.
      OSError: its file system has no locks, and the environment variable JAXRL_NO_LOCKS is not 1.
    """
    import filelock

    if os.environ.get(NO_LOCKS, "0") not in ("", "0"):
        return NoLock()
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        check_plain(folder / LOCK)
        lock.acquire()
    except filelock.Timeout:
        raise BlockingIOError(
            f"{folder} is in use by {_holder(folder)}. Nothing was changed, and the finished "
            "chunks are safe. Wait for it, or stop it and call again to resume from there, or "
            "write another folder=."
        ) from None
    except (OSError, ValueError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            raise OSError(
                f"{folder} can't be written to ({error}): write another folder=, or change its "
                "permissions."
            ) from error
        raise OSError(
            f"{folder / LOCK} can't be locked ({error}), as on file systems without locks. The "
            "lock keeps a second process out of the folder. Write another folder=, such as one on "
            f"a local disk; or, if no other process uses this one, set {NO_LOCKS}=1 in the "
            "environment."
        ) from error
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write(
        folder / HOLDER,
        lambda file: file.write(
            f"process {os.getpid()} on {platform.node()} since {since}".encode()
        ),
    )
    return lock


def read_chunks(folder: pathlib.Path) -> Chunks:
    """The finished chunks by their first and past-last member, without the agents.

    A damaged one is reported and left out.
    """
    found: Chunks = {}
    for first, last in chunk_names(folder):
        path = chunk_path(folder, first, last)
        try:
            found[first, last] = without_agents(read(path))
        except DAMAGE as error:
            print(f"{path} is damaged ({_line(error)}): its runs count as unfinished.")
    return found


def _line(error: BaseException) -> str:
    return str(error) or type(error).__name__


def chunk_path(folder: pathlib.Path, first: int, last: int) -> pathlib.Path:
    """The file of members first to last - 1."""
    return folder / "members" / f"{first:08d}-{last:08d}.npz"


def encode(outputs: Outputs) -> Outputs:
    """Outputs under names of a file, with their digest."""
    return {
        "digest": np.frombuffer(_digest(outputs), np.uint8),
        **{f"output/{k}": v for k, v in outputs.items()},
    }


def _digest(outputs: Outputs) -> bytes:
    return hashlib.sha256(
        b"".join(k.encode() + np.ascontiguousarray(v).tobytes() for k, v in sorted(outputs.items()))
    ).digest()


def read_agent(folder: pathlib.Path, member: int, name: str) -> list[np.ndarray]:
    """The leaves of one member's agent, at its end (`agent`) or at its best evaluation
    (`best_agent`).
    """
    (first, _), outputs = read_chunk_of(folder, member)
    leaves = [value for key, value in sorted(outputs.items()) if key.startswith(f"{name}.")]
    if not leaves:
        raise ValueError(
            f"{folder} holds no {name}: the best are kept by rl.sweep(..., keep_best=True), the "
            "last by default."
        )
    return [leaf[member - first] for leaf in leaves]


def read_chunk_of(folder: pathlib.Path, member: int) -> tuple[tuple[int, int], Outputs]:
    """The first and past-last member of the chunk that holds a member, and its outputs.

    A damaged file is reported, and another that holds the member is read.
    """
    damaged = []
    for first, last in reversed(chunk_names(folder)):  # as in the results, where the last counts
        if first <= member < last:
            path = chunk_path(folder, first, last)
            try:
                return (first, last), read(path)
            except DAMAGE as error:
                damaged.append(f"{path} is damaged ({_line(error)})")
                print(f"{damaged[-1]}: looking for run {member} in another.")
    if damaged:
        raise ValueError(
            f"{'; '.join(damaged)}: run the same sweep again, which computes run {member} again."
        )
    raise FileNotFoundError(
        f"run {member} is not in {folder}: its chunk has not finished. Run the sweep to its end."
    )


def read_chunk_width(folder: pathlib.Path, first: int, last: int) -> int:
    """The width of the program that made a chunk, which may be more than the chunk's members."""
    return int(npz.read(chunk_path(folder, first, last))[WIDTH_OF])


def chunk_names(folder: pathlib.Path) -> list[tuple[int, int]]:
    """The first and past-last member of each chunk file, damaged or not, in order.

    A file with a range that no chunk has is not one.
    """
    matches = [CHUNK_NAME.fullmatch(path.name) for path in (folder / "members").glob("*.npz")]
    ranges = sorted((int(match[1]), int(match[2])) for match in matches if match)
    return [(first, last) for first, last in ranges if first < last]


def names_in(folder: pathlib.Path, first: int, last: int) -> list[str]:
    """The names of the outputs of a chunk, without reading them."""
    path = chunk_path(folder, first, last)
    try:
        check_plain(path)
        with zipfile.ZipFile(path) as file:
            names = [name.removesuffix(".npy") for name in file.namelist()]
    except DAMAGE as error:
        raise ValueError(
            f"{path} is damaged ({_line(error)}): run the same sweep again, which computes its "
            "runs again."
        ) from None
    return [name.removeprefix("output/") for name in names]


def read(path: pathlib.Path) -> Outputs:
    """The outputs that `encode` wrote, checked by their digest and the range in the file's name."""
    found = npz.read(path)
    outputs = {
        name.removeprefix("output/"): value
        for name, value in found.items()
        if name.startswith("output/")
    }
    if found["digest"].tobytes() != _digest(outputs):
        raise ValueError("its digest does not match")
    if (match := CHUNK_NAME.fullmatch(path.name)) is not None:
        size = int(match[2]) - int(match[1])
        if any(value.shape[:1] != (size,) for value in outputs.values()):
            raise ValueError(f"it does not hold {size} runs")
    return outputs


def write_results(path: pathlib.Path, results: xr.Dataset) -> None:
    encoding = {
        name: {"zlib": True, "complevel": 1}
        for name in results.data_vars
        if results[name].size > 1000
    }
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        results.to_netcdf(part, engine="h5netcdf", encoding=encoding)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # of HDF5 on a full disk, either
        raise OSError(
            f"{path} could not be written ({_line(error)}). Every run is saved next to it: free "
            "some space, and call the same sweep again."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def read_record(folder: pathlib.Path) -> dict[str, Any]:
    """The record of a folder, or of a record in one file (record_file.py)."""
    path = folder if folder.is_file() else folder / RECORD
    if swap.is_open(folder):
        raise ValueError(
            f"{folder} is being extended, or that was stopped while its files were put in place: "
            "call rl.extend on it again, which finishes that."
        )
    try:
        record = json.loads(read_text(path, LIMIT))
        if not isinstance(record, dict):
            raise ValueError("it is not a dictionary")
        groups = record.get("groups", [])
        if not isinstance(groups, list):
            raise ValueError("its groups are not a list")
        if any(not GROUP_NAME.fullmatch(str(group)) for group in groups):
            raise ValueError("its groups are not below it")
        parts = {part: record[part] for part in ("run", "axes", "labels", "versions", "machine")}
        optional = {name: record.get(name, {}) for name in ("coordinates", "kinds")}
        every = parts | optional | {name: record[name] for name in ("static",) if name in record}
        if odd := [name for name, part in every.items() if not isinstance(part, dict)]:
            raise ValueError(f"its {odd[0]} is not a dictionary")
        if odd := [name for name, label in record["labels"].items() if not isinstance(label, list)]:
            raise ValueError(f"its labels of {odd[0]!r} are not a list")
        return optional | record
    except FileNotFoundError:
        lacks = "has no sweep.json" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"{folder} holds no sweep: it {lacks}. Name a folder that rl.sweep(folder=) made, or a "
            "record in one file; `jaxrl runs` lists those below a directory."
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        if path == folder:
            raise ValueError(f"{path} is not a record of a sweep, or is damaged ({why}).") from None
        raise ValueError(
            f"{path} is damaged ({why}). The chunks next to it in members/ are unchanged."
        ) from None
