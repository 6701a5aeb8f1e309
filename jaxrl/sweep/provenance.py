"""The reproducibility card: what ran, on what, with which versions."""

import contextlib
import dataclasses
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
    """Of Python and of those of `PACKAGES` that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def machine() -> dict[str, Any]:
    device = jax.devices()[0]
    # pyright: ignore[reportAttributeAccessIssue]
    precision = jax.config.jax_default_matmul_precision
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.local_device_count(),
        "matmul_precision": str(precision or "default"),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def commit() -> str:
    """The git commit of this code, with a mark where files have changed since; "unknown" outside a
    checkout.
    """
    here = pathlib.Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            " with changes" if git("status", "--porcelain", "--", "..") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def describe(value: Any) -> Any:
    """A value as JSON that reads well and is the same in every process: no addresses."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
        return {"type": type(value).__name__} | fields
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
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Which fields of two records differ, a line each.

    Of their versions, those that both name: cards had fewer once.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for key in sorted(set(old) & set(new) if path == "versions" else set(old) | set(new)):
            lines += differences(
                old.get(key, "absent"), new.get(key, "absent"), f"{path}.{key}" if path else key
            )
        return lines
    return [] if old == new else [f"{path}: {_brief(old)} there, {_brief(new)} here"]


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
