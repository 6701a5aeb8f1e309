"""Accelerators to compile for, as data: their memory, speed and what XLA's compiler reads."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import sys
import tomllib
from typing import Any

import jax

from jaxrl.errors import nearest

FOLDER = pathlib.Path(__file__).parent / "targets"
# what brings the compiler: the extra, and the modules that are looked for
COMPILERS = {
    "cuda": ("cuda13", ("jax_plugins.xla_cuda13", "jax_cuda13_plugin")),
    "tpu": ("tpu", ("libtpu",)),
}
PLUGINS = ("jax-cuda13-plugin", "jax-cuda13-pjrt")
# libtpu would ask the cloud's metadata server for these, for minutes
WITHOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # any: the topology decides what is compiled for
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",  # a lock is for the processes of a TPU that is there
}
NO_CUDNN = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"
MAX_BYTES = 2**20  # of a file
MAX_NUMBER = 1e30
MEMORY = re.compile(r"[ -]\d+GB( HBM\w+)?$")  # at the end of the name of a device
# XLA divides by these without a check, which would end the process
DIVISORS = ("threads_per_warp", "block_dim_limit_x")


class CompilerMissingError(ImportError):
    """The compiler for a target is not installed, or can't be used."""


@dataclasses.dataclass(frozen=True)
class Target:
    """An accelerator: what its programs are compiled for, and what they are estimated with.

    name: as in `target(name)`. kind: of the device, as jax names it. platform: "cuda", "tpu" or, of
    a file that describes this machine, "cpu".
    memory: bytes. bandwidth: bytes per second. flops: operations per second. launch_seconds: from
    the start of one short kernel to that of the next, launched one by one; graph_seconds: the same
    within a CUDA graph. source: of the numbers. description: for the compiler, of a GPU the text of
    XLA's `GpuTargetConfigProto`, of a TPU the name of a topology.
    """

    name: str
    kind: str
    platform: str
    memory: int
    bandwidth: float
    launch_seconds: float
    graph_seconds: float
    flops: float
    source: str
    description: str

    def __post_init__(self) -> None:
        for name in ("kind", "platform", "source", "description"):
            value = vars(self)[name]
            if not isinstance(value, str):
                raise ValueError(f"target {self.name}: {name}={value!r} is not a text.")
        if self.platform not in (*COMPILERS, "cpu"):
            raise ValueError(
                f"target {self.name}: platform={self.platform!r} is neither of "
                f"{', '.join(COMPILERS)} and cpu."
            )
        for name in ("memory", "bandwidth", "flops", "launch_seconds", "graph_seconds"):
            value = vars(self)[name]
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 < value < MAX_NUMBER:
                raise ValueError(f"target {self.name}: {name}={value!r} is not a positive number.")

    @functools.cached_property
    def local_devices(self) -> tuple[Any, ...]:
        """The devices of this kind in this process; none where it is absent."""
        devices = jax.local_devices(backend="cpu" if self.platform == "cpu" else None)
        return tuple(device for device in devices if _are_alike(self.kind, device.device_kind))

    @functools.cached_property
    def device(self) -> Any:
        """A device of this kind: of this process where there is one, else one to compile for.

        Raises:
          CompilerMissingError: the device is absent and its compiler is not installed.
          ValueError: the device is absent and its description would crash the compiler.
        """
        return self.local_devices[0] if self.local_devices else _absent(self)


def target(name: str | os.PathLike[str] | Target) -> Target:
    """An accelerator by its name (`target_names()`), or one that a TOML file describes.

    Such a file has the fields of `Target` but its name; those in `jaxrl/accelerator/targets` are
    examples.

    Raises:
      TypeError: neither a text nor a path.
      ValueError: no such name, or a file that does not describe a target.
    """
    if isinstance(name, Target):
        return name
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"target={name!r} is not a name: write a text, such as 'h100'.")
    text = os.fspath(name)
    if text in target_names():
        return _read(FOLDER / f"{text}.toml", text)
    path = pathlib.Path(text).expanduser()
    if path.suffix == ".toml" and path.is_file():
        return _read(path, path.stem)
    reason = "there is no such file" if path.suffix else nearest(text, target_names())
    raise ValueError(
        f"unknown target {text!r}; {reason}. A file NAME.toml describes one of your own, as those "
        "of jaxrl/accelerator/targets do."
    )


def target_of(kind: str) -> Target | None:
    """The target that describes devices of a kind, `jax.devices()[0].device_kind`; None if none
    does.
    """
    alike = (each for each in map(target, target_names()) if _are_alike(each.kind, kind))
    return next(alike, None)


def _are_alike(ours: str, theirs: str) -> bool:
    """True for names of one kind of device: drivers write it with its memory or without, "NVIDIA
    H200" or "NVIDIA H200 141GB HBM3e". What else follows a name is another device.
    """
    return ours == theirs or MEMORY.sub("", ours) == theirs or ours == MEMORY.sub("", theirs)


def target_names() -> list[str]:
    """The names that `target` takes."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def missing_compiler(target: Target) -> str:
    """Why nothing can be compiled for this target here, and what to do; "" where it can."""
    if target.local_devices:
        return ""
    if target.platform not in COMPILERS:
        kind = jax.local_devices(backend=target.platform)[0].device_kind
        return (
            f"target {target.name}: kind={target.kind!r} is not this machine's, and nothing can be "
            f"compiled for the {target.platform} of another one: write kind={kind!r}."
        )
    extra, modules = COMPILERS[target.platform]
    if not all(map(_is_installed, modules)):
        if sys.platform != "linux":
            return f"The compiler for {target.name} runs on Linux only: plan on such a machine."
        return (
            f"The compiler for {target.name} is not installed: install jaxrl with the extra "
            f'{extra}, pip install -e ".[{extra}]".{_without_cuda_libraries(target)}'
        )
    if target.platform != "cuda":
        return ""
    ours = importlib.metadata.version("jaxlib")
    for name in PLUGINS:
        if (theirs := importlib.metadata.version(name)) != ours:
            alike = " ".join(f'"{each}=={ours}"' for each in PLUGINS)
            return (
                f"{name} {theirs} is of another version than jaxlib {ours}: install them alike, "
                f"pip install {alike}."
            )
    if not _is_installed("nvidia.cudnn") and os.environ.get(NO_CUDNN, "") in ("", "0"):
        return (
            f"jax's plug-in for CUDA looks for cuDNN when it starts, and cuDNN is not installed: "
            f"set the environment variable {NO_CUDNN}=1 before Python starts."
        )
    return ""


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _without_cuda_libraries(target: Target) -> str:
    if target.platform != "cuda":
        return ""
    return (
        ' To compile without running, the extra compile is enough, pip install -e ".[compile]", '
        f"with the environment variable {NO_CUDNN}=1."
    )


def _absent(target: Target) -> Any:
    """A device that exists for the compiler alone."""
    if reason := missing_compiler(target):
        raise CompilerMissingError(reason)
    from jax.experimental import topologies

    options: dict[str, Any] = {"topology_name": target.description}
    if target.platform == "cuda":
        _check_description(target)
        importlib.import_module(COMPILERS["cuda"][1][0])  # which registers the plug-in
        options = {
            "topology_name": target.name,
            "topology": "1x1x1",
            "target_config": target.description,
        }
    else:
        for name, value in WITHOUT_TPU.items():
            os.environ.setdefault(name, value)
    try:
        found = topologies.get_topology_desc(platform=target.platform, **options)
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        raise CompilerMissingError(
            f"The compiler for {target.name} does not start: {error}. Check the description of the "
            "target, and that the versions of jax, jaxlib and the plug-in are equal."
        ) from error
    return found.devices[0]


def _check_description(target: Target) -> None:
    for name in DIVISORS:
        if not re.search(rf"\b{name}: *[1-9]", target.description):
            raise ValueError(
                f"target {target.name}: its description has no positive {name}: copy one of the "
                f"files in {FOLDER}."
            )


def _read(path: pathlib.Path, name: str) -> Target:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # a bad text is a ValueError
        raise ValueError(f"{path} is not a TOML file that can be read: {error}.") from error
    known = {field.name for field in dataclasses.fields(Target)} - {"name"}
    if missing := known - set(fields):
        raise ValueError(
            f"{path} does not say {', '.join(sorted(missing))}: copy one of the files in {FOLDER}."
        )
    if unknown := set(fields) - known:
        one = sorted(unknown)[0]
        raise ValueError(f"{path}: a target has no {one!r}; {nearest(one, known)}.")
    return Target(name=name, **fields)
