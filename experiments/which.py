"""Capabilities of all algorithms, found by trying them: the table in README.md.

`python -m experiments.which`.
"""

import dataclasses
import pathlib

import tyro

import jaxrl as rl
from experiments.ppo_classic import fill
from jaxrl import capabilities

README = pathlib.Path(__file__).parent.parent / "README.md"


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings; tests use few `algorithms` and another `page`."""

    algorithms: tuple[str, ...] = tuple(rl.PRESETS)
    page: pathlib.Path = README


def table(algorithms: tuple[str, ...]) -> str:
    """Markdown table of the algorithms, with a title and the capabilities of each."""
    heads, *rows = capabilities.table({name: rl.PRESETS[name] for name in algorithms})
    lines = [["", "what it is", *(f"`{head}`" if "_" in head else head for head in heads[1:])]]
    lines += [["---", "---", *[":---:"] * (len(heads) - 1)]]
    lines += [
        [f"`rl.{name}`", capabilities.title(rl.PRESETS[name]), *answers] for name, *answers in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(config: Config) -> None:
    text = table(config.algorithms)
    print(text)
    fill(config.page, "algorithms", text)


if __name__ == "__main__":
    main(tyro.cli(Config))
