"""Settings of jax: each core of a CPU as a device, several processes, a compilation cache."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import platformdirs
from jax.experimental.compilation_cache import compilation_cache

from jaxrl.errors import check_count

# a loop over little data (a step of an environment, a key) becomes one function rather than a call
# for each operation
SMALL_LOOPS = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000"


def use_all_cores(
    cores: int | None = None, *, members: int | None = None, threads: int | None = None
) -> int:
    """Make each core of a CPU a device, so that a sweep uses all of them. Call it before any other
    use of jax.

    cores: number of devices; by default the cores that this process may use, and at most the
    `members` (runs) of the sweep. threads: number of threads that the devices share, by default one
    each: an XLA program of small networks keeps about one core busy, however many runs it has, and
    a second thread only moves it between cores (a quarter slower). A few runs with large
    convolutions benefit from more. It has no effect after jax has started, or if PJRT_NPROC is set.

    Returns the number of local devices.

    Raises:
      ValueError: a count that is not a positive whole number.
      RuntimeError: jax has already started with another number of devices, or JAX_PLATFORMS names a
        platform that is not available.
    """
    for name, count in {"cores": cores, "members": members, "threads": threads}.items():
        if count is not None:
            check_count(name, count)
    cores = cores or min(_cores(), members or _cores())
    os.environ.setdefault("PJRT_NPROC", str(threads or cores))
    if "xla_backend_extra_options" not in (flags := os.environ.get("XLA_FLAGS", "")):
        os.environ["XLA_FLAGS"] = f"{flags} {SMALL_LOOPS}".strip()
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:
        if _backend() == "cpu" and jax.local_device_count() != cores:
            raise RuntimeError(
                f"jax has already started, with {jax.local_device_count()} device(s): it can't be "
                f"given {cores} now. Call rl.use_all_cores() right after the imports, before any "
                "array is made; in a notebook, restart the kernel."
            ) from None
    _backend()
    return jax.local_device_count()


def _backend() -> str:
    """The platform of this process, which jax starts.

    Raises:
      RuntimeError: JAX_PLATFORMS names one that is not there.
    """
    try:
        return jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # the second of a platform that is unknown
        platforms = os.environ.get("JAX_PLATFORMS", "")
        if not platforms:
            raise
        reason = f" ({error})" if str(error) else ""
        raise RuntimeError(
            f"JAX_PLATFORMS={platforms} asks for a device that jax does not find here{reason}: "
            "unset it to use the CPU, or install jax for that device, with the extra cuda13, "
            "cuda12 or tpu."
        ) from error


def _cores() -> int:
    """The cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def distributed(
    coordinator: str | None = None, num_processes: int | None = None, process: int | None = None
) -> None:
    """Join the processes of one job, so that `rl.sweep(..., folder=)` shares its chunks among them.
    Call it in each process before any other use of jax (also before `use_all_cores`).

    Under Slurm, Kubernetes and mpirun, and on TPU pods, jax finds the other processes; elsewhere,
    `coordinator` is the address of the first process, "host:port", and `process` is the number of
    this one among `num_processes`.

    Raises:
      RuntimeError: jax has already started, or detects no cluster.
    """
    try:
        jax.distributed.initialize(coordinator, num_processes, process)
    except ValueError as error:
        raise RuntimeError(
            f"jax finds no cluster around this process ({error}). Start it with srun or mpirun, or "
            "name the processes: "
            'rl.distributed("host:1234", num_processes=2, process=0).'
        ) from error


def cache_compilations() -> None:
    """Keep compiled programs in the user's cache folder, so that a later process need not compile
    them. `rl.sweep`, `rl.tune`, `rl.plan` and `rl.rerun` call it.

    It changes nothing where jax has a folder already, as by JAX_COMPILATION_CACHE_DIR, or where
    JAX_ENABLE_COMPILATION_CACHE=false switches the cache off.
    """
    config: Any = jax.config
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    folder = pathlib.Path(platformdirs.user_cache_dir("jaxrl")) / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    compilation_cache.reset_cache()  # jax looks for a folder once, when it first compiles


class Place(Protocol):
    """What programs are compiled for: a `jaxrl.accelerator.Target`."""

    @property
    def platform(self) -> str: ...

    @property
    def memory(self) -> int: ...

    @property
    def device(self) -> Any: ...

    @property
    def local_devices(self) -> Sequence[Any]: ...


# part of the keys of JAX's caches: what is traced for one platform is not taken for another
compiling_for = jax.make_user_context(None)


@dataclasses.dataclass(frozen=True)
class Reference:
    """A CPU for which programs are traced but not compiled: the same program on each platform. Its
    memory has no limit, as nothing runs there.
    """

    platform: str = "cpu"
    memory: int = sys.maxsize
    device: None = None
    local_devices: tuple[()] = ()


def place() -> Place | None:
    """What programs are compiled for inside `with compiling_for(...)`; None outside."""
    return compiling_for.value


def platform() -> str:
    """The platform that programs are traced for: "cpu", "gpu" or "tpu"."""
    target = place()
    if target is None:
        return jax.default_backend()
    return "gpu" if target.platform == "cuda" else target.platform


def local_devices() -> list[Any]:
    """The devices that programs are compiled for."""
    target = place()
    return jax.local_devices() if target is None else [target.device]
