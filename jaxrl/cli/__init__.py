"""The command line: `jaxrl train`, `sweep`, `tune`, `plot`, `report` and the rest."""

from jaxrl.cli.main import main

__all__ = ["main"]
