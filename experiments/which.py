"""Capabilities of all algorithms, found by trying them: the table in docs/algorithms.md.

`python -m experiments.which`.
"""

import dataclasses
import pathlib
import textwrap
from typing import Any

import tyro

import jaxrl as rl
from experiments.ppo_classic import fill
from jaxrl import capabilities

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "algorithms.md"
STUB = ROOT / "jaxrl" / "algorithms" / "named.pyi"
INDENTED: dict[str, Any] = {
    "initial_indent": "    ",
    "subsequent_indent": "    ",
    "break_long_words": False,
    "break_on_hyphens": False,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings; tests use few `algorithms` and another `page`."""

    algorithms: tuple[str, ...] = tuple(rl.PRESETS)
    page: pathlib.Path = PAGE
    stub: pathlib.Path | None = STUB


def table(algorithms: tuple[str, ...]) -> str:
    """Markdown table of the algorithms, with a title and the capabilities of each."""
    heads, *rows = capabilities.table({name: rl.PRESETS[name] for name in algorithms})
    lines = [["", "what it is", *(f"`{head}`" if "_" in head else head for head in heads[1:])]]
    lines += [["---", "---", *[":---:"] * (len(heads) - 1)]]
    lines += [[f"`rl.{name}`", rl.PRESETS[name].summary, *answers] for name, *answers in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def stub() -> str:
    """The named algorithms with their fields and defaults, as an editor shows them."""
    types = sorted({type(preset.value).__name__ for preset in rl.PRESETS.values()})
    lines = [
        "# Made by `python -m experiments.which` of the table in presets.py. fmt: off",
        "from typing import Any",
        "",
        "import jax",
        "",
        f"from jaxrl.algorithms import {', '.join(types)}",
        "",
        "Float = float | jax.Array",
        "Bool = bool | jax.Array",
        "",
    ]
    for name, preset in rl.PRESETS.items():
        parameters = [_parameter(field, value) for field, value in preset.fields().items()]
        # a parameter is not broken over two lines
        joined = ", ".join(x.replace(" ", "~") for x in ["*", *parameters, "**paths: Any"]) + ","
        lines += [
            f"def {name}(",
            *(line.replace("~", " ") for line in textwrap.wrap(joined, 96, **INDENTED)),
            f") -> {type(preset.value).__name__}:",
            *textwrap.wrap(f'"""{preset.summary}."""', 96, **INDENTED),
            "    ...",
            "",
        ]
    return "\n".join(lines)


def _parameter(name: str, value: Any) -> str:
    kind = {bool: "Bool", float: "Float", int: "int"}.get(type(value), "Any")
    plain = kind != "Any" and value not in (float("inf"), -float("inf"))
    return f"{name}: {kind} = {value if plain else '...'}"


def main(config: Config) -> None:
    text = table(config.algorithms)
    print(text)
    fill(config.page, "algorithms", text)
    if config.stub is not None:
        config.stub.write_text(stub())


if __name__ == "__main__":
    main(tyro.cli(Config))
