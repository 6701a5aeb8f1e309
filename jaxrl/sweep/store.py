"""A sweep's folder: what was asked (sweep.json), each finished chunk (members/), the results
(results.nc).

Nothing in it can execute when it is read: JSON, npz without pickle, and netCDF.
"""

import datetime
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from jaxrl.sweep import multihost, npz, provenance
from jaxrl.sweep.results import Chunks, Outputs, without_learners

RESULTS = "results.nc"
LOCK, HOLDER, WIDTH = ".lock", ".holder", "width.json"
WIDTH_OF = "width"  # of the program that made a chunk, in the chunk's file
LIMIT = 2**32  # bytes of a record
GROUP_NAME = re.compile(r"static/\d{3,}")
CHUNK_NAME = re.compile(r"(\d{8})-(\d{8})\.npz")


class Store:
    """The chunks of one sweep on disk. A file is written whole under another name and then
    renamed.
    """

    def __init__(self, folder: pathlib.Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.members = self.folder / "members"
        self._lock = None
        multihost.together(
            "opening the folder", lambda: self._open(record) if multihost.first() else None
        )
        multihost.together(
            "opening the folder",
            lambda: None if multihost.first() else check(folder, _plain(record)),
        )

    def _open(self, record: dict[str, Any]) -> None:
        _refuse_other_folders(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock(self.folder)
        try:
            record = check(self.folder, _plain(record))
            for left in [
                *self.folder.rglob("*.part"),
                *self.folder.glob("open/*/*.orbax-checkpoint-tmp*"),
            ]:
                shutil.rmtree(
                    left, ignore_errors=True
                ) if left.is_dir() else left.unlink()  # of a process that was killed
            write(
                self.folder / "sweep.json",
                lambda file: file.write(json.dumps(record, indent=1).encode()),
            )
            if "groups" not in record:  # which have each their own
                self.members.mkdir(exist_ok=True)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets another process work in this folder."""
        if self._lock is not None:
            self._lock.release()

    @property
    def results(self) -> pathlib.Path:
        return self.folder / RESULTS

    def done(self) -> Chunks:
        return read_chunks(self.folder)

    def note_width(self, width: int) -> None:
        """Keeps how many members the program holds: those after a stop go on in one as wide."""
        write(self.folder / WIDTH, lambda file: file.write(json.dumps({"width": width}).encode()))

    def save(self, first: int, last: int, width: int, outputs: Outputs) -> None:
        """Keeps members first to last - 1, which a program of `width` members made."""
        arrays = encode(outputs) | {WIDTH_OF: np.int64(width)}
        write(self.members / f"{first:08d}-{last:08d}.npz", lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def check(folder: pathlib.Path, record: dict[str, Any]) -> dict[str, Any]:
    """The record to keep: this one, or the folder's own, with a line about this call, where that is
    the same sweep.
    """
    _refuse_other_folders(folder)
    if not (folder / "sweep.json").exists():
        return record
    found = read_record(folder)
    computed = ("**/members/*.npz", "**/open/*/*", RESULTS)
    if not any(any(folder.glob(pattern)) for pattern in computed):
        return record  # nothing has been computed there yet
    absent = {"static": "absent", "keep_best": False}
    parts = [
        part
        for part in ("run", "static", "axes", "keep_best", "versions")
        if part in absent | record
    ]
    absent |= (
        {} if "keep_best" in record else {"keep_best": found.get("keep_best")}
    )  # a plan asks for neither
    there, here = absent | found, absent | record
    known_fields = (
        "function" not in found["run"]
    )  # of a function, its program is all that tells it from another
    finished = (folder / RESULTS).exists()
    upgraded = provenance.differences(found["versions"], record["versions"], "versions")
    if known_fields and finished and upgraded:  # results are no less so after an upgrade,
        parts.remove("versions")  # under which the same program reads otherwise
        there, here = ({**each, "run": {**each["run"], "program": None}} for each in (there, here))
    changed = [
        line for part in parts for line in provenance.differences(there[part], here[part], part)
    ]
    if changed:
        listed = "\n  ".join(changed[:12] + (["..."] if len(changed) > 12 else []))
        raise ValueError(
            f"{folder} holds another sweep; these fields differ:\n  {listed}\n"
            "Nothing was touched. Write another folder=, or make them equal to go on where "
            "that one stopped."
        )

    there, here = (
        {part: each[part] for part in ("machine", "versions")} for each in (found, record)
    )
    if lines := provenance.differences(there, here):
        print(
            f"{folder} was begun elsewhere ({'; '.join(lines)}): what is missing there will be "
            "equal but for rounding."
        )
    resumed = {part: record[part] for part in ("machine", "versions", "commit", "started")}
    return found | {"resumed": [*found.get("resumed", []), resumed]}


def _refuse_other_folders(folder: pathlib.Path) -> None:
    if (folder / "sweep.json").exists() or not folder.exists():
        return
    if not folder.is_dir() or any(
        path.name not in (LOCK, HOLDER) and path.suffix != ".part" for path in folder.iterdir()
    ):
        raise FileExistsError(
            f"{folder} exists and holds no sweep. Nothing was touched; write another folder=."
        )


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """A record as a file gives it back."""
    return json.loads(json.dumps(record))


def read_width(folder: pathlib.Path) -> int | None:
    """How many members the folder's program holds, as far as it is known."""
    try:
        return int(json.loads((folder / WIDTH).read_text())["width"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def lock(folder: pathlib.Path) -> Any:
    """Keeps other processes out of a folder; the system lets go of it when this one ends, however
    it ends.
    """
    import filelock

    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        holder = (folder / HOLDER).read_text() if (folder / HOLDER).exists() else "another process"
        raise BlockingIOError(
            f"{folder} is in use by {holder}. Nothing was touched, and what that process has "
            "finished is safe there. Wait "
            "for it, stop it and call again to go on from there, or write another folder=."
        ) from None
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write(
        folder / HOLDER,
        lambda file: file.write(
            f"process {os.getpid()} on {platform.node()} since {since}".encode()
        ),
    )
    return lock


def read_chunks(folder: pathlib.Path) -> Chunks:
    """The chunks that are whole on disk, by their first and past-last member, learners left out.

    A damaged one is told.
    """
    found: Chunks = {}
    for path in sorted((folder / "members").glob("*.npz")):
        if (match := CHUNK_NAME.fullmatch(path.name)) is None:
            continue
        try:
            found[int(match[1]), int(match[2])] = _read_chunk(path)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            print(f"{path} is damaged ({error}): its members count as not done.")
    return found


def encode(outputs: Outputs) -> Outputs:
    return {
        "digest": np.frombuffer(_digest(outputs), np.uint8),
        **{f"output/{k}": v for k, v in outputs.items()},
    }


def _digest(outputs: Outputs) -> bytes:
    return hashlib.sha256(
        b"".join(k.encode() + np.ascontiguousarray(v).tobytes() for k, v in sorted(outputs.items()))
    ).digest()


def read_learner(folder: pathlib.Path, member: int, kept: str = "learner") -> list[np.ndarray]:
    """The kept leaves of one member's learner, at its end (`learner`) or when it was judged best
    (`best_learner`).
    """
    (first, _), outputs = read_chunk_of(folder, member)
    if not any(name.startswith(f"{kept}.") for name in outputs):
        raise ValueError(
            f"{folder} holds no {kept}: the best are kept by rl.sweep(..., keep_best=True), "
            "the last by default."
        )
    return [
        outputs[name][member - first] for name in sorted(outputs) if name.startswith(f"{kept}.")
    ]


def read_chunk_of(folder: pathlib.Path, member: int) -> tuple[tuple[int, int], Outputs]:
    """The place of the chunk that a member is in, and all of it.

    A damaged file is told, and another that has it is read.
    """
    damaged = []
    for first, last in reversed(chunk_names(folder)):  # as in the results, where the last counts
        if first <= member < last:
            path = folder / "members" / f"{first:08d}-{last:08d}.npz"
            try:
                return (first, last), read(path)
            except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
                damaged.append(f"{path} is damaged ({error})")
                print(f"{damaged[-1]}: looking for member {member} in another.")
    if damaged:
        raise ValueError(
            f"{'; '.join(damaged)}: run the same sweep again, which computes member {member} anew."
        )
    raise FileNotFoundError(
        f"member {member} is not in {folder}: its chunk has not finished. Run the sweep to its end."
    )


def read_chunk_width(folder: pathlib.Path, first: int, last: int) -> int:
    """How many members the program held that made this chunk: more than are in it where it was the
    last or filled a gap.
    """
    with np.load(folder / "members" / f"{first:08d}-{last:08d}.npz", allow_pickle=False) as file:
        if WIDTH_OF in file.files:
            return int(file[WIDTH_OF])
    own, sizes = (
        last - first,
        [b - a for a, b in chunk_names(folder)],
    )  # chunks did not always say it
    return own if sizes.count(own) > 1 else max(own, read_width(folder) or max(sizes))


def chunk_names(folder: pathlib.Path) -> list[tuple[int, int]]:
    """The first and past-last member of each chunk file, damaged or not, in order."""
    matches = [CHUNK_NAME.fullmatch(path.name) for path in (folder / "members").glob("*.npz")]
    return sorted((int(match[1]), int(match[2])) for match in matches if match)


def _read_chunk(path: pathlib.Path) -> Outputs:
    return without_learners(read(path))


def read(path: pathlib.Path) -> Outputs:
    arrays = npz.read(path)
    outputs = {
        name.removeprefix("output/"): value
        for name, value in arrays.items()
        if name.startswith("output/")
    }
    if arrays["digest"].tobytes() != _digest(outputs):
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
    encoding = {
        name: {"zlib": True, "complevel": 1}
        for name in results.data_vars
        if results[name].size > 1000
    }
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        results.to_netcdf(part, engine="h5netcdf", encoding=encoding)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_record(folder: pathlib.Path) -> dict[str, Any]:
    """What a folder's sweep was asked; or a study's, from its one file (`small`)."""
    path = folder if folder.is_file() else folder / "sweep.json"
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no plain file")
        if path.stat().st_size > LIMIT:
            raise ValueError(f"it is longer than {LIMIT:,} bytes")
        record = json.loads(path.read_text())
        if any(not GROUP_NAME.fullmatch(str(group)) for group in record.get("groups", [])):
            raise ValueError("its groups are not below it")
        if (
            "seed" in record and "labels" not in record
        ):  # a record from before it had this form: of the seeds alone
            curves = {
                name: {"dtype": "float32", "values": record[name]}
                for name in ("return", "evaluation")
            }
            record |= {
                "labels": {"seed": record["seed"]},
                "axes": {"seed": record["seed"]},
                "curves": curves,
            }
        parts = {part: record[part] for part in ("run", "axes", "labels", "versions", "machine")}
        if odd := [name for name, part in parts.items() if not isinstance(part, dict)]:
            raise ValueError(f"its {odd[0]} is no dictionary")
        if odd := [name for name, label in record["labels"].items() if not isinstance(label, list)]:
            raise ValueError(f"its labels of {odd[0]!r} are no list")
        return parts | record
    except FileNotFoundError:
        lacks = "has no sweep.json" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"{folder} holds no sweep: it {lacks}. Name a folder that rl.sweep(folder=) made, "
            "or a record in one file; "
            "`jaxrl runs` lists those below a directory."
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        if path == folder:
            raise ValueError(f"{path} is no record of a sweep, or a damaged one ({why}).") from None
        raise ValueError(
            f"{path} is damaged ({why}). The chunks beside it in members/ are untouched."
        ) from None
