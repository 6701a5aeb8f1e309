"""The reproducibility card: what ran, on which machine, with which versions."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrl.module_names import recorded_name
from jaxrl.sweep import arrays

PACKAGES = (
    "jaxrl",
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
    """The versions of Python and of those of `PACKAGES` that are installed."""
    found = {"python": platform.python_version()}
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


@functools.cache
def commit() -> str:
    """The git commit of this code, with a mark where files have changed since; "unknown" outside a
    checkout. Asked once in a process.
    """
    here = pathlib.Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "..")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def describe(value: Any) -> Any:
    """A value as readable JSON that is the same in every process: no addresses, and large arrays by
    digest.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
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
    if isinstance(value, Callable) and hasattr(value, "__qualname__"):
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
