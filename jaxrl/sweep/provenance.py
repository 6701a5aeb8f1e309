"""The reproducibility card: what ran, on which machine, with which versions."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrl.module_names import is_named, recorded_name
from jaxrl.sweep import arrays
from jaxrl.tree import recorded_fields
from jaxrl.version import __version__

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "gymnax",
    "brax",
    "mujoco",
    "numpy",
    "scipy",
    "optuna",
)


def versions() -> dict[str, str]:
    """The versions of Python, of the kit, and of those of `PACKAGES` that are installed."""
    found = {"python": platform.python_version(), "jaxrl": __version__}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def machine() -> dict[str, Any]:
    """The devices of this process, and the settings that change their numbers."""
    device = jax.devices()[0]
    config: Any = jax.config
    precision = config.jax_default_matmul_precision
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.local_device_count(),
        "matmul_precision": str(precision or "default"),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


SOURCES = ("commit", "project_commit")  # of a record: of the kit, and of the project that uses it


def sources() -> dict[str, str]:
    """The commits of `SOURCES`."""
    return {"commit": commit(), "project_commit": project_commit()}


def commit() -> str:
    """The git commit of the kit, with a mark where its files have changed since.

    Of an installed package it is the commit that pip installed it from. "unknown" where neither is
    recorded: a repository that merely surrounds the package, such as the project of a virtual
    environment, is not its source.
    """
    return _kit_commit(pathlib.Path(__file__).parents[1])


def project_commit() -> str:
    """The git commit of the researcher's project, the repository of the working directory.

    It has a mark where tracked files have changed since; "unknown" outside a repository.
    """
    try:
        return _commit(pathlib.Path.cwd(), "--untracked-files=no")
    except OSError:  # the working directory was deleted
        return "unknown"


@functools.cache
def _kit_commit(package: pathlib.Path) -> str:
    """The commit of a package, from the checkout that tracks its files or from pip."""
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None:
        return _commit(package, "--", ".")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, ValueError, TypeError):
        text = importlib.metadata.distribution(package.name).read_text("direct_url.json")
        source = json.loads(text or "{}").get("vcs_info", {})
        return str(source.get("commit_id", "unknown"))
    return "unknown"


def _commit(folder: pathlib.Path, *changes: str) -> str:
    """The commit of the repository around a folder; `changes` limits what counts as a change."""
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return "unknown"
    return head + (" with changes" if _git(folder, "status", "--porcelain", *changes) else "")


def _git(folder: pathlib.Path, *words: str) -> str | None:
    """What git prints in a folder; None where it fails.

    Variables such as GIT_DIR, which git sets in its hooks, would name another repository.
    """
    environment = {name: x for name, x in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env=environment,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def describe(value: Any) -> Any:
    """A value as readable JSON that is the same in every process: no addresses, and large arrays by
    digest.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: describe(vars(value)[field.name]) for field in recorded_fields(value)}
        return {"type": type(value).__name__} | fields
    if arrays.is_large(value):
        return arrays.reference(value)
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return np.asarray(value).tolist()
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Callable) and is_named(value):
        return recorded_name(value)
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """The fields of two records that differ, a line each.

    Of their versions only packages that both name count: one may be installed in between.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        keys = set(old) & set(new) if path == "versions" else set(old) | set(new)
        lines = []
        for key in sorted(keys):
            at = f"{path}.{key}" if path else key
            lines += differences(old.get(key, "absent"), new.get(key, "absent"), at)
        return lines
    return [] if old == new else [f"{path}: {_brief(old)} there, {_brief(new)} here"]


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
