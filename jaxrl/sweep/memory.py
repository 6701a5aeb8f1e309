"""Memory: free bytes, the caller's limit, and amounts as text."""

import os
import pathlib
import re
from typing import Any

import jax

from jaxrl.devices import place

UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
ROOT = pathlib.Path("/")


def free_bytes() -> int:
    """Free memory of each local device; on a CPU a device's part of the host's. Of a device that is
    absent, all of its memory.
    """
    target = place()
    if target is not None and not target.local_devices:
        return target.memory
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats["bytes_in_use"])
    return host_free() // jax.local_device_count()


def host_free(root: pathlib.Path = ROOT) -> int:
    """The minimum of what the machine, its containers and the process's limits leave free."""
    return max(min([_machine_free(root), *_containers_free(root), *_process_free(root)]), 0)


def as_bytes(memory_limit: Any) -> float | None:
    """Bytes of a number, or of text such as "4GB" (10^9) or "4GiB" (2^30).

    Raises:
      ValueError: neither.
    """
    if memory_limit is None:
        return None
    match = (
        re.fullmatch(r"\s*(\d*\.?\d+)\s*([kmgt]?i?)b?\s*", memory_limit.lower())
        if isinstance(memory_limit, str)
        else None
    )
    number = float(match[1]) * UNITS.get(match[2], 0) if match else memory_limit
    if not isinstance(number, int | float) or isinstance(number, bool) or not number > 0:
        raise ValueError(
            f"memory_limit={memory_limit!r} is not an amount of memory; write bytes, as in "
            'memory_limit=4e9, or memory_limit="4GB".'
        )
    return float(number)


def _machine_free(root: pathlib.Path) -> int:
    try:
        fields = dict(line.split(":") for line in (root / "proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _containers_free(root: pathlib.Path) -> list[int]:
    """The rest of the limit of each control group that holds this process; those without a limit
    are left out.
    """
    try:
        lines = [
            line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()
        ]
    except OSError:
        return []
    free = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers == "":  # version 2
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # a container often sees its own group as the top, under the path that it has outside
        inner = pathlib.PurePosixPath(path.lstrip("/"))
        free += [
            left
            for group in (inner, *inner.parents)
            if (left := _group_free(top / group, *names)) is not None
        ]
    return free


def _group_free(group: pathlib.Path, limit: str, usage: str, cache: str) -> int | None:
    """A group's limit less what it uses; files in its cache make room."""
    try:
        most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
        if most == "max":
            return None
        stats = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(most) - used + int(stats.get(cache, 0))
    except (OSError, ValueError):
        return None


def _process_free(root: pathlib.Path) -> list[int]:
    """The rest of `ulimit -v` and `ulimit -d`."""
    try:
        import resource

        pages = [int(x) for x in (root / "proc/self/statm").read_text().split()]
    except (ImportError, OSError, ValueError):
        return []
    limits = ((resource.RLIMIT_AS, pages[0]), (resource.RLIMIT_DATA, pages[5]))
    soft = [(resource.getrlimit(kind)[0], used * resource.getpagesize()) for kind, used in limits]
    return [limit - used for limit, used in soft if limit != resource.RLIM_INFINITY]
