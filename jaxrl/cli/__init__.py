"""The command line: `jaxrl train`, `tune`, `plot`, `report` and the other commands."""

from jaxrl.cli.main import main

__all__ = ["main"]
